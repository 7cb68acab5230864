"""CSV files that spreadsheets open without harm, and what spreadsheets save, read back."""

import codecs
import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from course_utils.errors import require

BOM = "\ufeff"  # without it Excel takes UTF-8 for the machine's old code page
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # what a spreadsheet may run, at the head of a cell
CELL_LIMIT = 30_000  # characters; Excel's own limit is 32,767


def well_formed(text: str) -> str:
    """Return text that UTF-8 can hold: half a surrogate pair, which JSON can spell, becomes "?"."""
    return text.encode("utf-8", "replace").decode("utf-8")


def numeric(name: str) -> list[int]:
    """Return the numbers in a name for sorting, so that exercise 1.10 comes after 1.9."""
    return [int(part) for part in re.findall(r"\d+", name)]


def escape(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula: an apostrophe goes before a head that could be one."""
    cut = text if len(text) <= CELL_LIMIT else text[:CELL_LIMIT] + " … (cut; whole on the feedback page)"
    return f"'{cut}" if cut.lstrip("'").startswith(FORMULA) and cut.strip() != "-" else cut


def unescape(text: str) -> str:
    """Return a cell as it was before ``escape``."""
    return text[1:] if text.startswith("'") and text.lstrip("'").startswith(FORMULA) else text


def to_csv(rows: Iterable[Sequence[str]], bom: bool = True) -> str:
    """Return rows of cells as CSV text, escaped; `bom` for files that a spreadsheet opens, not for imports."""
    file = io.StringIO(newline="")
    csv.writer(file).writerows([escape(well_formed(cell)) for cell in row] for row in rows)
    return (BOM if bom else "") + file.getvalue()


def parse(text: str, delimiter: str) -> list[list[str]]:
    """Return the rows of CSV text, cells without the blanks around them."""
    return [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)]


def decoded(content: bytes, errors: str = "strict") -> str:
    """Return the text of a file that others saved: UTF-8, UTF-16 with its mark, else Windows' code page.

    `errors`: what to do with broken UTF-16, as in ``bytes.decode``.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def tables_in(text: str) -> list[list[list[str]]]:
    """Return what CSV text may be: its rows for each delimiter; Excel's own first line, ``sep=;``, is left out."""
    text = re.sub(r"\A\"?sep=(.)\"?[,;\t]*\r?\n", "", text)
    return [parse(text, delimiter) for delimiter in ",;\t|"]


def read_csv(path: Path, required: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Return (row number, {column: cell}) of a CSV file, blank rows left out; the header is row 1.

    Accepts what spreadsheets save: a BOM, UTF-16, Windows' code page, and commas, semicolons, tabs or bars between the
    cells. Raises ``FileNotFoundError`` if there is no file, ``ValueError`` for one that is not CSV or lacks one of the
    `required` columns.
    """
    require(not path.is_dir(), f"{path} is a folder: name a CSV file")
    try:
        tables = tables_in(decoded(path.read_bytes()))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is not there: name a CSV file") from None
    except (UnicodeDecodeError, csv.Error):
        raise ValueError(f"{path} is no CSV file: save it as CSV in UTF-8 (Excel: CSV UTF-8)") from None
    rows = max(tables, key=lambda rows: (len(set(required).intersection(*rows[:1])), *map(len, rows[:1])))
    header = rows[0] if rows else []
    missing = [name for name in required if name not in header]
    require(not missing, f"{path}, row 1: the column {', '.join(missing)} is missing; needed: {', '.join(required)}")
    twice = [name for name in required if header.count(name) > 1]
    require(not twice, f"{path}, row 1: the column {', '.join(twice)} stands there twice: delete one")
    named = [(at, dict(zip(header, map(unescape, row), strict=False))) for at, row in enumerate(rows, 1)]
    return [(at, {name: row.get(name, "") for name in header}) for at, row in named[1:] if any(row.values())]

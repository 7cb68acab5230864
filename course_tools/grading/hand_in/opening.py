"""From a stranger's file to the cells of a notebook: its outputs never read, its faults named by line.

Whatever the file is called. Nothing of it is run. Outputs and widget states, which can be a hundred times larger than
what was written, are cut out of the bytes before JSON is made of them.
"""

import codecs
import hashlib
import json
import logging
import mmap
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from course_tools.grading.hand_in.download import LARGEST, UNREADABLE, Member, unpacked
from course_tools.grading.spreadsheets import decoded

ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
PAPERS = (".pdf", ".html", ".htm", ".md", ".txt", ".tex", ".rtf", ".doc", ".docx", ".odt", ".pages")
PICTURES = (".png", ".jpg", ".jpeg", ".heic", ".tif", ".tiff")
READABLE = (*ARCHIVES, *PAPERS, *PICTURES)  # what may hold answers beside a notebook
WITHOUT_OUTPUTS = 64 * 2**20  # bytes of what is left of it
NESTED = 2_000_000  # lists and objects in what is left: each takes some hundred bytes of memory
TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]', re.S)
NEWLINE = re.compile(rb"\n")
UNWANTED = {b'"outputs"': b"[", b'"widgets"': b"{"}  # key → what its value begins with
CONFLICT = re.compile(r"^(?:<{7}|={7}|>{7})(?=[ \r\n]|$)", re.M)
KINDS = {
    b"PK\x03\x04": "a zip archive",
    b"%PDF": "a PDF",
    b"\x1f\x8b": "a packed file",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a rar archive",
    b"<": "a web page",
}  # how a file begins → what it is


def without_outputs(content: bytes | mmap.mmap) -> bytes:
    """Return a notebook's text with its outputs cut out, each line still on its own number. Raises ``ValueError``."""
    kept, start, cut, depth, nested = [], 0, None, 0, 0
    for token in TOKEN.finditer(content):
        first = content[token.start()]
        if first == ord('"'):
            opening = UNWANTED.get(token[0]) if cut is None and token.end() - token.start() == 9 else None
            if opening and (value := re.compile(rb"\s*:\s*" + re.escape(opening)).match(content, token.end())):
                cut, depth = value.end(), 0
            continue
        nested += 1
        if nested > (NESTED if cut is None else 20 * NESTED):
            raise ValueError(f"more than {NESTED} lists and objects")
        if cut is not None:
            depth += 1 if first in b"[{" else -1
            if depth == 0:
                lines = sum(1 for _ in NEWLINE.finditer(content, cut, token.start()))
                kept += [content[start:cut], b"\n" * lines]
                start, cut = token.start(), None
    if len(content) - start + sum(map(len, kept)) > WITHOUT_OUTPUTS:
        raise ValueError(f"the file is larger than {WITHOUT_OUTPUTS // 2**20} MiB without its outputs")
    return b"".join([*kept, content[start:]])


def kind_of(content: bytes) -> str:
    """Return what a file is that is no notebook, such as "a PDF", by how it begins; nothing if that tells nothing."""
    return next((kind for head, kind in KINDS.items() if content.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(head)), "")


def where_broken(text: str, error: json.JSONDecodeError) -> str:
    """Return in a line where and perhaps why text is no JSON."""
    if marks := [text.count("\n", 0, match.start()) + 1 for match in CONFLICT.finditer(text)]:
        lines = ", ".join(map(str, marks[:9])) + (" …" if len(marks) > 9 else "")
        return f"the file is no notebook: a merge conflict of git is in it, lines {lines}"
    if error.msg.startswith("Unterminated string") or error.pos >= len(text.rstrip()):
        cells = len(re.findall(r'"cell_type"\s*:', text))
        return f"the file is no notebook: it breaks off at line {text.rstrip().count(chr(10)) + 1}, in cell {cells}"
    return f"the file is no notebook (line {error.lineno}: {error.msg})"


def parsed(content: bytes) -> dict:
    """Return a notebook's JSON. Raises ``ValueError`` in one line if it is none."""
    text = decoded(content, "replace")
    if not text.strip("\0 \t\r\n"):
        raise ValueError("the file is empty" if not content.startswith(codecs.BOM_UTF8) else "the file is no notebook")
    try:
        found = json.loads(text, strict=False)
    except RecursionError:
        raise ValueError("the file is nested too deeply for a notebook") from None
    except json.JSONDecodeError as error:
        if not text.lstrip().startswith(("{", "<<<<<<<")):
            kind = kind_of(content)
            raise ValueError(f"the file is no notebook{f', but {kind}' if kind else ''}") from None
        raise ValueError(where_broken(text, error)) from None
    if not isinstance(found, dict) or not isinstance(found.get("cells", found.get("worksheets")), list):
        raise ValueError("the file is no notebook: it has no list of cells")
    return found


@contextmanager
def silent() -> Iterator[None]:
    """Keep nbformat from logging what it thinks of a stranger's file."""
    logger = logging.getLogger("traitlets")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def as_cell(value: object, number: int) -> NotebookNode:
    """Return a cell with all that is looked at, in the form that it should have. Raises ``ValueError``."""
    fields = value if isinstance(value, dict) else {"source": None}
    source, metadata = fields.get("source", ""), fields.get("metadata") or {}
    parts = source if isinstance(source, list) else [source]
    if not isinstance(metadata, dict) or not all(isinstance(part, str) for part in parts):
        raise ValueError(f"the file is no notebook: cell {number} is no cell")
    source, course = "".join(parts), metadata.get("course")
    return nbformat.from_dict(
        {
            "cell_type": str(fields.get("cell_type", "raw")),
            "id": str(fields.get("id", "")),
            "source": source.replace("\r\n", "\n").encode("utf-8", "replace").decode(),  # no lone surrogate
            "metadata": {"course": course} if isinstance(course, dict) else {},
            "attachments": fields["attachments"] if isinstance(fields.get("attachments"), dict) else {},
        }
    )


def cells_of(content: bytes) -> list[NotebookNode]:
    """Return the cells of a notebook of any format, without outputs. Raises ``ValueError`` in one line."""
    found = parsed(content)
    version = found.get("nbformat", 4)
    if version not in (1, 2, 3, 4):
        raise ValueError(f"the file is no notebook of a known format: nbformat {str(version)[:20]}, known are 1 to 4")
    try:
        if version < 4:
            with silent():
                found = nbformat.convert(nbformat.from_dict(found), 4)
        return [as_cell(cell, number) for number, cell in enumerate(found["cells"], 1)]
    except RecursionError:
        raise ValueError("the file is nested too deeply for a notebook") from None
    except ValueError:
        raise
    except Exception as error:  # whatever a malformed old notebook makes nbformat raise
        raise ValueError(f"the file is no notebook ({type(error).__name__}: {str(error)[:80]!r})") from None


def digest_of(path: Path) -> str:
    """Return a file's sha256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cells_in_zip(path: Path) -> list[NotebookNode]:
    """Return the cells of the one notebook in a zip. Raises ``ValueError`` in one line if there is none, or several."""
    outer = Member((path.name,), (), "", path.read_bytes)
    books = [inner for inner in unpacked(outer) if inner.parts[-1].lower().endswith(".ipynb") and not inner.fault]
    if len(books) != 1:
        raise ValueError(f"the file is no notebook, but a zip archive with {len(books)} of them: unpack it")
    try:
        return cells_of(without_outputs(books[0].read()))
    except UNREADABLE as error:
        raise ValueError(f"the file is a damaged zip archive ({type(error).__name__})") from None


def read_cells(path: Path) -> list[NotebookNode]:
    """Return the cells of a file that should be a notebook. Raises ``ValueError`` in one line if it is none."""
    size = path.stat().st_size
    if size > LARGEST:
        raise ValueError(f"the file is larger than {LARGEST // 2**20} MiB: clear its outputs")
    if size == 0:
        raise ValueError("the file is empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content[:4] != b"PK\x03\x04":
            return cells_of(without_outputs(content))
    return cells_in_zip(path)


def is_untouched(cells: list[NotebookNode], given: frozenset[str]) -> bool:
    """Tell whether a notebook is as it was handed out; `given` are the sources of the handout's cells."""
    return all(not cell.source.strip() or cell.source.strip() in given for cell in cells)

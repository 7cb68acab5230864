"""A folder of submissions: whose each file in it is, also where it is no notebook, so that nobody is passed over."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from course_tools.grading.hand_in.download import is_clutter
from course_tools.grading.hand_in.opening import is_untouched, read_cells
from course_tools.notebooks import ROOT, find_lecture
from course_utils.errors import require

HANDED_IN = (".json", ".txt", ".pdf", ".html", ".htm", ".zip", ".7z", ".rar", ".gz", ".doc", ".docx", ".odt")
OURS = ("run.json", "students.csv", "roster.csv")  # not a student's


def handout(which: str | None, root: Path = ROOT) -> frozenset[str]:
    """Return the sources of a lecture's cells as they are handed out; none if they are not there."""
    path = find_lecture(which, root).student if which else None
    if path is None or not path.exists():
        return frozenset()
    return frozenset(cell.source.strip() for cell in read_cells(path))


def is_theirs(path: Path) -> bool:
    """Tell whether a file may be a student's: no link, nothing hidden, nothing that a system left behind."""
    plain = path.is_file() and not path.is_symlink() and not path.parent.is_symlink()
    return plain and not path.name.startswith(".") and not is_clutter([path.name]) and path.name not in OURS


def looks_like_book(path: Path) -> bool:
    """Tell whether a file is a notebook by its name, ``hw.ipynb.txt`` too, or by what is in it."""
    if ".ipynb" in path.name.lower():
        return path.suffix.lower() not in (".pdf", ".html", ".htm", ".zip")
    try:
        return path.suffix.lower() in ("", ".json", ".txt") and read_cells(path) is not None
    except ValueError:
        return False


def bare(path: Path) -> str:
    """Return a file's name without what it ends in, so that ``ada.ipynb.txt`` is Ada's."""
    name = path.name
    while Path(name).suffix.lower() in (".ipynb", *HANDED_IN):
        name = Path(name).stem
    return name


def is_original(path: Path, given: frozenset[str]) -> bool:
    """Tell whether a notebook is as it was handed out."""
    try:
        return bool(given) and is_untouched(read_cells(path), given)
    except ValueError:
        return False


def counted(paths: list[Path], student: str, given: frozenset[str]) -> Path:
    """Return the one of a student's files that counts: the notebook; a file of another kind only where there is none.

    Raises ``ValueError`` for two notebooks, unless all but one are as they were handed out.
    """
    books = [path for path in paths if path.suffix.lower() == ".ipynb"] or list(filter(looks_like_book, paths))
    if len(books) > 1:
        books = [path for path in books if not is_original(path, given)] or books[:1]
    require(
        len(books) < 2,
        f"student {student!r} has two notebooks, {books[0] if books else ''} and {books[-1] if books else ''}: "
        "keep the one to be graded",
    )
    others = [path for path in paths if path.suffix.lower() in HANDED_IN] or paths
    return books[0] if books else others[0]


def folders_in(folder: Path) -> Iterator[tuple[str, list[Path]]]:
    """Yield the students who have a folder of their own, and its files; those further down where it has none."""
    for own in sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()):
        if own.name.startswith(".") or is_clutter([own.name]) or (own / "run.json").exists():
            continue
        files = [path for path in sorted(own.iterdir()) if is_theirs(path)]
        deeper = (path for path in sorted(own.rglob("*.ipynb")) if is_theirs(path))
        if not any(path.suffix.lower() == ".ipynb" for path in files):
            files += [p for p in deeper if not any(part.startswith(".") for part in p.relative_to(own).parts)]
        if files:
            yield own.name, files


def submissions_in(folder: Path, lectures: Iterable[str], given: frozenset[str] = frozenset()) -> dict[str, Path]:
    """Return student → file: a folder for each with one notebook, or one notebook for each.

    `given` are the handout's cells: a notebook of these alone does not count beside another. Who handed in something
    else has that, so that the reason is told. Raises ``FileNotFoundError`` for no such folder, ``ValueError`` for an
    empty one or a student with two notebooks.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is no folder of submissions: make one with course collect DOWNLOAD --out DIR"
        )
    beside = [path for path in sorted(folder.iterdir()) if is_theirs(path)]
    flat = [path for path in beside if path.suffix.lower() == ".ipynb"]
    for path in flat:
        require(
            path.stem not in set(lectures),
            f"{folder} is one student's folder, or {path.name} is not named for its student: give the folder above",
        )
    files: dict[str, list[Path]] = {}
    for path in flat + [p for p in beside if p not in flat and (".ipynb" in p.name.lower() or (flat and is_sent(p)))]:
        files.setdefault(bare(path), []).append(path)
    for student, own in folders_in(folder):
        files.setdefault(student, []).extend(own)
    found = {student: counted(paths, student, given) for student, paths in sorted(files.items())}
    require(bool(found), f"no notebook in {folder}: expected are STUDENT/NAME.ipynb or STUDENT.ipynb")
    return found


def is_sent(path: Path) -> bool:
    """Tell whether a file beside notebooks may be another student's submission, by its ending, or is a notebook."""
    return path.suffix.lower() in HANDED_IN or (not path.suffix and looks_like_book(path))

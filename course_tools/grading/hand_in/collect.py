"""From what Canvas or Moodle export to one folder a student: the last version of each, and a report on the rest.

A download is a zip or a folder. Canvas puts all files side by side, ``NAME_LATE_USER_FILE_hw.ipynb`` (numbers for USER
and FILE, ``LATE_`` only where it is; ``anon_ID`` for name and user if marking is anonymous). Moodle writes
``NAME_ID_assignsubmission_file_/hw.ipynb``, or the same in one name. Else each student has a folder. Names and
contents come from strangers: no path of theirs is ever written to, links are not followed, sizes are limited.
"""

import hashlib
import lzma
import os
import re
import stat
import unicodedata
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from course_tools.files import atomically
from course_tools.grading.hand_in.roster import COLUMNS, TABLE, Student, read_students, write_students
from course_tools.grading.spreadsheets import numeric
from course_tools.notebooks import ROOT, all_lectures, find_lecture
from course_utils.errors import require

LARGEST = 64 * 2**20  # bytes of a file
LONGEST = 120  # bytes of a student's key
CLUTTER = ("__MACOSX", ".DS_Store", ".ipynb_checkpoints", ".git", "Thumbs.db", "desktop.ini")
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")
UNREADABLE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, OSError)  # while reading a file
CANVAS = re.compile(
    r"(?:(?P<late_anonymous>LATE_)?(?P<anonymous>anon_[^\W_]+)"
    r"|(?P<name>[^\W\d_][\w-]*?)_(?P<late>LATE_)?(?P<user>[1-9]\d*))"
    r"_(?:(?P<version>[1-9]\d*)_(?P<file>.+)|(?P<typed>text|link)\.html)",
    re.S,
)
MOODLE = re.compile(r"(?P<name>.+?)(?:_(?P<user>\d+))?_assignsubmission_(?P<kind>[a-z]+)(?:_(?P<file>.*))?", re.S)


@dataclass(frozen=True)
class Member:
    """A file of the download: its path in parts, when it was changed, why it can't be read, else how."""

    parts: tuple[str, ...]
    time: tuple[float, ...]
    fault: str
    read: Callable[[], bytes]

    @property
    def path(self) -> str:
        return "/".join(self.parts)


@dataclass(frozen=True)
class Handed:
    """A file and who handed it in. `person` is the system and the id there, or the name where there is no id."""

    member: Member
    person: tuple[str, str]
    name: str
    file: str  # as the student named it
    late: str = ""  # "yes", "no", or "" where unknown
    order: tuple = ()  # the later version is the greater
    folder: tuple[str, ...] = ()  # within the student's own, if we took it for one


@dataclass
class Report:
    """What became of a download: the students by what changed, (student, file) not taken, (file, reason) not placed."""

    out: Path
    lecture: str | None = None
    new: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    superseded: list[tuple[str, str]] = field(default_factory=list)
    unplaced: list[tuple[str, str]] = field(default_factory=list)


def shown(text: str, most: int = 160) -> str:
    """Return text that is safe to print and to write: one line, no control characters, not endless."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


# Reading a download ------------------------------------------------------------------------------------------------


def parts_of(path: str) -> tuple[str, ...]:
    """Return the parts of a path from a zip or folder, composed as Unicode's NFC so that equal names are equal."""
    path = unicodedata.normalize("NFC", path).replace("\\", "/")
    return tuple(part for part in path.split("/") if part not in ("", "."))


def is_clutter(parts: Iterable[str]) -> bool:
    """Tell whether a path is what systems leave behind, such as __MACOSX; other hidden files may be a student's."""
    return any(part.startswith("._") or part in CLUTTER for part in parts)


def fault_of(path: str, size: int, kind: int) -> str:
    """Return why a file must not be read, or nothing; `kind` is the type in its mode, 0 if unknown."""
    if stat.S_ISLNK(kind):
        return "a link; links are not followed"
    if kind and not stat.S_ISREG(kind):
        return "not a plain file"
    if ".." in parts_of(path) or path.startswith(("/", "\\")):
        return "its path leads outside the download"
    return f"larger than {LARGEST // 2**20} MiB" if size > LARGEST else ""


def zip_members(archive: zipfile.ZipFile) -> Iterator[Member]:
    """Yield the files in a zip. Raises ``ValueError`` if it is encrypted."""

    def read(info: zipfile.ZipInfo) -> bytes:
        with archive.open(info) as file:
            return file.read(LARGEST + 1)

    for info in archive.infolist():
        if info.filename.endswith(("/", "\\")) or is_clutter(parts_of(info.filename)):
            continue
        require(not info.flag_bits & 1, f"{archive.filename} is encrypted: unpack it, and give the folder")
        fault = fault_of(info.filename, info.file_size, stat.S_IFMT(info.external_attr >> 16))
        yield Member(parts_of(info.filename), info.date_time, fault, lambda info=info: read(info))


def folder_members(folder: Path, out: Path) -> Iterator[Member]:
    """Yield the files in a folder, those in `out` left aside."""

    def read(path: Path) -> bytes:
        with path.open("rb") as file:
            return file.read(LARGEST + 1)

    def fail(error: OSError):  # a folder that can't be read must not pass for an empty one
        raise error

    for top, folders, files in os.walk(folder, onerror=fail):
        links = [name for name in folders if (Path(top) / name).is_symlink()]
        folders[:] = sorted(name for name in folders if (Path(top) / name).resolve() != out.resolve())
        for name in sorted(files + links):
            path = Path(top) / name
            inside, status = path.relative_to(folder), path.lstat()
            if is_clutter(inside.parts):
                continue
            fault = fault_of(str(inside), status.st_size, stat.S_IFMT(status.st_mode))
            parts = tuple(unicodedata.normalize("NFC", part) for part in inside.parts)
            yield Member(parts, (status.st_mtime,), fault, lambda path=path: read(path))


@contextmanager
def opened(download: Path, out: Path) -> Iterator[list[Member]]:
    """Open a download for reading. Raises ``ValueError`` or ``FileNotFoundError`` in one line if it can't be."""
    if not download.exists():
        raise FileNotFoundError(f"{download} is not there: give the zip from Canvas or Moodle, or its folder")
    require(out.resolve() != download.resolve(), f"{out} is the download itself: give another folder as --out")
    if download.is_dir():
        yield list(folder_members(download, out))
        return
    try:
        archive = zipfile.ZipFile(download)
    except (*UNREADABLE, UnicodeDecodeError):
        raise ValueError(
            f"{download} is neither a folder nor a zip that can be read: download it again, or unpack it yourself"
        ) from None
    with archive:
        yield list(zip_members(archive))


# Placing files -----------------------------------------------------------------------------------------------------


def is_notebook(parts: tuple[str, ...]) -> bool:
    """Tell whether a path is that of a notebook."""
    return parts[-1].lower().endswith(".ipynb")


def wrappers(paths: list[tuple[str, ...]]) -> int:
    """Return how many outer folders hold the whole download rather than one student's files."""
    common = os.path.commonprefix([path[:-1] for path in paths])  # of tuples as of strings
    depth = next((i for i, part in enumerate(common) if MOODLE.fullmatch(part)), len(common))
    direct = [path[depth] for path in paths if len(path) == depth + 1]
    folders = {path[depth] for path in paths if len(path) > depth + 1}
    whole = all(map(CANVAS.fullmatch, direct)) if direct else len(folders) > 1
    return depth if whole or depth < len(common) else 0


def canvas_folders(paths: list[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """Return the folders whose notebooks all have names from Canvas, of two users or more: sections, as it were."""
    matches = defaultdict(list)
    for path in paths:
        matches[path[:-1]].append(CANVAS.fullmatch(path[-1]))
    users = {folder: {m["user"] or m["anonymous"] for m in found} for folder, found in matches.items() if all(found)}
    return {folder for folder in users if len(users[folder]) > 1}


def by_time(member: Member, file: str) -> tuple:
    """Return the order of versions that have no number: by time, then by name, with 10 after 9."""
    return member.time, numeric(file), file


def from_moodle(member: Member, depth: int) -> Handed | str | None:
    """Return who handed in a file by a name from Moodle, None without one, or why it can't be placed.

    A name without an id counts only outermost, where no student has named it.
    """
    for i, part in enumerate(member.parts):
        match = MOODLE.fullmatch(part)
        if match and (match["user"] or i <= depth):
            if match["kind"] != "file":
                return f"no file, but what Moodle calls {match['kind']}"
            person = ("moodle", match["user"]) if match["user"] else ("name", match["name"])
            file = (match["file"] or part) if member.parts[i + 1 :] == () else member.parts[-1]
            return Handed(member, person, match["name"], file, order=by_time(member, file))
    return None


def from_canvas(member: Member) -> Handed | str | None:
    """Return who handed in a file by a name from Canvas, None without one, or why it can't be placed."""
    match = CANVAS.fullmatch(member.parts[-1])
    if match is None:
        return None
    if match["typed"]:
        return f"no file, but a {match['typed']} typed into Canvas"
    person = ("name", match["anonymous"]) if match["anonymous"] else ("canvas", match["user"])
    again = re.search(r"-(\d+)\.[^.]*$", match["file"])
    order = (int(match["version"]), int(again[1]) if again else 0)
    name, late = match["name"] or match["anonymous"], "yes" if match["late"] or match["late_anonymous"] else "no"
    return Handed(member, person, name, match["file"], late, order)


def from_folder(member: Member, depth: int) -> Handed | str:
    """Return who handed in a file by the student's folder, or why it can't be placed."""
    name, file = member.parts[depth], member.parts[-1]
    if member.parts[depth:] == (file,):
        return "its name does not tell whose it is"
    return Handed(member, ("name", name), name, file, order=by_time(member, file), folder=member.parts[depth + 1 : -1])


def place(members: list[Member], report: Report) -> dict[tuple[str, str], list[Handed]]:
    """Return each person's files, and put those that can't be placed into the report."""
    notebooks = [member.parts for member in members if is_notebook(member.parts)]
    depth, sections = wrappers(notebooks), canvas_folders(notebooks)
    placed = defaultdict(list)
    for member in members:
        flat = len(member.parts) <= depth + 1 or member.parts[:-1] in sections
        handed = from_moodle(member, depth) or (from_canvas(member) if flat else None)
        handed = handed or from_folder(member, min(depth, len(member.parts) - 1))
        reason = handed if isinstance(handed, str) else ""
        if member.fault and (reason or is_notebook(member.parts)):
            reason = member.fault
        if reason:
            report.unplaced.append((member.path, reason))
        if not isinstance(handed, str):
            placed[handed.person].append(handed)
    return placed


# Choosing versions -------------------------------------------------------------------------------------------------


def lecture_in(file: str, lectures: list[str]) -> str | None:
    """Return the lecture whose name a file's name begins with, or None."""
    found = [name for name in lectures if re.match(rf"{re.escape(name)}(?![^\W_])", file, re.I)]
    return max(found, key=len, default=None)


def told_lecture(files: Iterable[str], lectures: list[str]) -> str | None:
    """Return the one lecture that file names tell, None if they tell none; ``ValueError`` if several."""
    told = sorted({name for file in files if (name := lecture_in(file, lectures))})
    require(len(told) < 2, f"the files are of several lectures ({', '.join(told)}): choose one, such as --lecture 01")
    return told[0] if told else None


def choose_version(handed: list[Handed], lecture: str | None, lectures: list[str]) -> tuple[Handed | None, str]:
    """Return the version that counts of one person's files, or None and why there is none.

    It is the last of the notebooks named for the lecture, else the last of those named for none.
    """
    books = [h for h in handed if is_notebook(h.member.parts)]
    if not books:
        packed = any(h.file.lower().endswith(ARCHIVES) for h in handed)
        return None, "an archive: unpack it into a folder for this student" if packed else "no notebook (.ipynb)"
    right = [h for h in books if lecture_in(h.file, lectures) == lecture]
    right = right or [h for h in books if lecture_in(h.file, lectures) is None]
    if not right:
        return None, f"a notebook of another lecture than {lecture}"
    folders = {h.folder for h in right}
    if len(folders) > 1 and () not in folders:
        return None, "its folder holds several folders with notebooks: one student's, or several students'?"
    return max(right, key=lambda h: h.order), ""


def key_of(handed: Handed) -> str:
    """Return a student's key, such as "Ada_Lovelace_123456": letters of any script, digits, ``_ - .``; maybe empty."""
    kept = "".join(c if c.isalnum() or unicodedata.category(c)[0] == "M" or c in "-." else "_" for c in handed.name)
    key = re.sub(r"_+", "_", kept).strip("_-.")
    system, id = handed.person
    tail = f"_{id}" if system != "name" else ""
    if len(key.encode()) + len(tail) > LONGEST:
        tail = f"_{hashlib.sha256(''.join(handed.person).encode('utf-8', 'replace')).hexdigest()[:12]}"
        key = key.encode()[: LONGEST - len(tail)].decode("utf-8", "ignore").strip("_-.")
    return (key + tail).strip("_")


# The folder of submissions -----------------------------------------------------------------------------------------


def known_students(out: Path) -> dict[str, Student]:
    """Return the rows of students.csv by student, if there is a table. Raises ``ValueError`` for another one."""
    path = out / TABLE
    try:
        return read_students(path, COLUMNS) if path.exists() else {}
    except ValueError as error:
        raise ValueError(
            f"{path} is not a table that `course collect` wrote ({error}): move it away, or give another --out"
        ) from None


def person_in(student: Student) -> tuple[str, str]:
    """Return whose row of students.csv it is, as in ``Handed.person``, but as it is shown."""
    if student.canvas_id:
        return "canvas", student.canvas_id
    return ("moodle", student.moodle_id) if student.moodle_id else ("name", student.name)


def row_of(handed: Handed, before: Student | None) -> Student:
    """Return a student's row of students.csv; of the row before, the columns that someone added stay."""
    system, id = handed.person
    ids = {f"{system}_id": id} if system != "name" else {}
    name, file = (shown(text).strip() for text in (id if system == "name" else handed.name, handed.member.parts[-1]))
    return Student(name, late=handed.late, file=file, more=before.more if before else {}, **ids)


def give_keys(chosen: list[Handed], rows: dict[str, Student], report: Report) -> dict[str, Handed]:
    """Return the files by the students' keys: those in students.csv, else new ones; two people never share one."""
    known = {person_in(row): key for key, row in rows.items()}
    wanted = defaultdict(list)
    for handed in chosen:
        person = (handed.person[0], shown(handed.person[1]).strip())
        key = known.get(person) or key_of(handed)
        holder = next((person_in(row) for k, row in rows.items() if k.casefold() == key.casefold()), person)
        if not key:
            report.unplaced.append((handed.member.path, "no letter or digit in the student's name"))
        elif holder != person:
            report.unplaced.append((handed.member.path, f"another student has the key {key} in {TABLE}"))
        else:
            wanted[key.casefold()].append((key, handed))
    for same in wanted.values():
        if len(same) > 1:
            reason = f"{len(same)} students would share the key {same[0][0]}: rename their folders"
            report.unplaced += [(handed.member.path, reason) for _, handed in same]
    return {key: handed for same in wanted.values() if len(same) == 1 for key, handed in same}


def held(out: Path, student: str) -> list[Path]:
    """Return the notebooks in a student's folder."""
    return sorted(path for path in (out / student).glob("*.ipynb") if not path.name.startswith("."))


def lecture_held(out: Path, lectures: list[str]) -> str | None:
    """Return the lecture whose submissions a folder holds, or None if it is new or the names don't tell."""
    names = [path.name for path in out.glob("*/*.ipynb")]
    return next((name for file in names if (name := lecture_in(file, lectures))), None)


def is_older(handed: Handed, row: Student | None) -> bool:
    """Tell whether the student's file in `row` is a later version; only Canvas numbers them."""
    before = CANVAS.fullmatch(row.file) if row and handed.person[0] == "canvas" else None
    return bool(before and before["version"] and int(before["version"]) > handed.order[0])


def file_name(handed: Handed, lecture: str | None) -> str:
    """Return the name under which a notebook is kept: the lecture's, else its own made safe."""
    if lecture:
        return f"{lecture}.ipynb"
    stem = re.sub(r"[^\w. -]+", "_", Path(handed.file).stem).strip("._- ")
    return f"{stem.encode()[:LONGEST].decode('utf-8', 'ignore') or 'notebook'}.ipynb"


def store(student: str, handed: Handed, content: bytes, row: Student | None, report: Report) -> bool:
    """Put a student's notebook into its folder, in the place of an earlier one; tell whether it is now the one there.

    Raises ``ValueError`` if several notebooks are in the folder already.
    """
    before = held(report.out, student)
    require(len(before) < 2, f"{report.out / student} holds {len(before)} notebooks: leave the one that counts")
    if before and is_older(handed, row):
        report.kept.append(student)
        return False
    path = before[0] if before else report.out / student / file_name(handed, report.lecture)
    same = bool(before) and path.read_bytes() == content
    if not same:
        atomically(path, content)
    if report.lecture and path.name != f"{report.lecture}.ipynb":
        os.replace(path, path.with_name(f"{report.lecture}.ipynb"))
    (report.unchanged if same else report.replaced if before else report.new).append(student)
    return True


def read_version(handed: Handed, report: Report) -> bytes | None:
    """Return a file's bytes; None, with the reason in the report, if it is damaged or larger than it says."""
    try:
        content = handed.member.read()
    except UNREADABLE as error:
        report.unplaced.append((handed.member.path, f"damaged or unreadable ({type(error).__name__})"))
        return None
    if len(content) > LARGEST:
        report.unplaced.append((handed.member.path, f"larger than {LARGEST // 2**20} MiB"))
        return None
    return content


def choose_all(placed: dict, report: Report, lectures: list[str]) -> list[tuple[Handed, list[Handed]]]:
    """Return for each person the version that counts and the notebooks that don't; put the others into the report."""
    chosen, told = [], {path for path, _ in report.unplaced}
    for handed in placed.values():
        best, reason = choose_version(handed, report.lecture, lectures)
        if best is None:
            report.unplaced += [(h.member.path, reason) for h in handed if h.member.path not in told]
        elif not best.member.fault:
            rest = [h for h in handed if h is not best and is_notebook(h.member.parts) and not h.member.fault]
            chosen.append((best, rest))
    return chosen


def collect_members(members: list[Member], report: Report, lectures: list[str]) -> None:
    """Choose and store the submissions, and bring students.csv up to date. Raises ``ValueError``, ``OSError``."""
    placed = place(members, report)
    if report.lecture is None:
        books = (h.file for handed in placed.values() for h in handed if is_notebook(h.member.parts))
        report.lecture = told_lecture(books, lectures)
    before = lecture_held(report.out, lectures)
    require(
        before in (None, report.lecture),
        f"{report.out} holds submissions of {before}, these are of {report.lecture or 'a lecture that no name tells'}: "
        "give another --out, or the --lecture",
    )
    rows, chosen = known_students(report.out), choose_all(placed, report, lectures)
    others = {id(best): rest for best, rest in chosen}
    for key, handed in sorted(give_keys([best for best, _ in chosen], rows, report).items()):
        content = read_version(handed, report)
        if content is None:
            continue
        if store(key, handed, content, rows.get(key), report):
            rows[key] = row_of(handed, rows.get(key))
        report.superseded += [(key, other.member.path) for other in others[id(handed)]]
    if report.new or report.replaced or report.unchanged:
        write_students(report.out / TABLE, rows)


def collect(download: Path, out: Path, which: str | None = None, root: Path = ROOT) -> Report:
    """Put the last version of each student's notebook into ``out/STUDENT/NN_name.ipynb``, and all in students.csv.

    `which` is the lecture's number or name; without it the files' names tell. A second download into the same folder
    replaces earlier versions and leaves the other students; nothing is ever deleted. Raises ``FileNotFoundError`` and
    ``ValueError`` for a download that can't be read, tells of several lectures or holds no submission, and for a
    folder that can't be written.
    """
    download, out = Path(download), Path(out)
    lectures = [lecture.name for lecture in all_lectures(root)]
    report = Report(out, find_lecture(which, root).name if which else None)
    require(not out.exists() or out.is_dir(), f"{out} is a file: give a folder as --out")
    try:
        with opened(download, out) as members:
            require(bool(members), f"{download} holds no files: export the submissions again")
            collect_members(members, report, lectures)
    except FileNotFoundError:
        raise
    except OSError as error:
        where = error.filename2 or error.filename or out
        raise ValueError(f"{shown(str(where))}: {error.strerror or error}; mend that, and collect again") from None
    if not (report.new or report.replaced or report.unchanged or report.kept):
        file, reason = map(shown, report.unplaced[0])
        more = f"; {len(report.unplaced)} files in all" if len(report.unplaced) > 1 else ""
        raise ValueError(
            f"nothing in {download} could be placed ({file}: {reason}{more}); give Canvas's or Moodle's export, or a "
            "folder for each student"
        )
    return report


def describe(report: Report) -> str:
    """Return the report as text for the console: counts, what changed, and each file that was left with the reason."""
    counts = {name: getattr(report, name) for name in ("new", "replaced", "unchanged", "kept")}
    total = sum(map(len, counts.values()))
    said = ", ".join(f"{len(students)} {name}" for name, students in counts.items() if students)
    noun = "submission" if total == 1 else "submissions"
    lines = [f"{total} {noun}{f' of {report.lecture}' if report.lecture else ''} in {report.out}: {said}"]
    if report.replaced:
        lines.append(f"Replaced: {', '.join(report.replaced)}")
    if report.kept:
        lines.append(f"Kept, since the version there is later: {', '.join(report.kept)}")
    if report.superseded:
        lines.append(f"Not taken, since another version counts ({len(report.superseded)}):")
        lines += [f"  {student}: {shown(file)}" for student, file in report.superseded]
    if report.unplaced:
        lines.append(f"COULD NOT BE PLACED ({len(report.unplaced)}):")
        lines += [f"  {shown(file)}: {shown(reason)}" for file, reason in report.unplaced]
    return "\n".join(lines)

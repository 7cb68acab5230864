"""From what a learning platform exports to one folder a student: the last version of each, and a report on the rest.

A download is a zip or a folder, in one of the forms of `layouts`. Who handed in nothing that can be graded stands in
students.csv all the same, with the reason in the column ``problem``.
"""

import hashlib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from course_tools.grading.hand_in.download import LARGEST, UNREADABLE, Member, opened, shown, unpacked
from course_tools.grading.hand_in.folder import handout
from course_tools.grading.hand_in.layouts import CANVAS, Handed, is_notebook, place
from course_tools.grading.hand_in.opening import ARCHIVES, READABLE, cells_of, is_untouched, without_outputs
from course_tools.grading.hand_in.roster import (
    BESIDE,
    TABLE,
    Student,
    enrol,
    read_roster,
    read_students,
    words_in,
    write_students,
)
from course_tools.notebooks import ROOT, all_lectures, find_lecture
from course_utils.errors import listed, require
from course_utils.files import atomically

LONGEST = 120  # bytes of a student's key
FOREIGN = (*ARCHIVES, ".pdf", ".html", ".htm", ".py", ".md", ".doc", ".docx", ".odt", ".png", ".jpg", ".jpeg", ".csv")
MODULES = 50  # files of a student's own that are kept beside the notebook
NAMED = 5  # files that the table names of one student
PROBLEM = "problem"  # the column of students.csv that says why a student has no submission, or which was not taken


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
    beside: list[tuple[str, str]] = field(default_factory=list)  # of other kinds, beside a notebook
    unplaced: list[tuple[str, str]] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)  # of the roster: who handed in nothing


# Choosing versions -------------------------------------------------------------------------------------------------


def lecture_in(file: str, lectures: list[str]) -> str | None:
    """Return the lecture whose name is in a file's name, such as "Copy of 02_vae.ipynb", or None."""
    found = [name for name in lectures if re.search(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", file, re.I)]
    return max(found, key=len, default=None)


def told_lecture(files: Iterable[str], lectures: list[str]) -> str | None:
    """Return the one lecture that file names tell, None if they tell none; ``ValueError`` if several."""
    told = sorted({name for file in files if (name := lecture_in(file, lectures))})
    require(len(told) < 2, f"the files are of several lectures ({', '.join(told)}): choose one, such as --lecture 01")
    return told[0] if told else None


def unzipped(handed: list[Handed]) -> list[Handed]:
    """Return a person's files, and the notebooks and modules in zips among them."""
    found = list(handed)
    for outer in handed:
        if outer.file.lower().endswith(".zip") and not outer.refused and not outer.member.fault:
            for inner in unpacked(outer.member):
                if not inner.parts[-1].lower().endswith((".ipynb", ".py")):
                    continue
                order = (*outer.order, inner.time)
                found.append(replace(outer, member=inner, file=inner.parts[-1], order=order))
    return found


def content_of(handed: Handed) -> bytes:
    """Return a file's bytes; none if it can't be read."""
    try:
        return b"" if handed.member.fault else handed.member.read()
    except UNREADABLE:
        return b""


def is_book(handed: Handed) -> bool:
    """Tell whether a file is a notebook, by its name, such as "hw.ipynb.txt", or by what is in it."""
    name = handed.file.lower()
    if handed.refused or (name.endswith(FOREIGN) and not is_notebook(handed.member.parts)):
        return False
    if ".ipynb" in name or Path(name).suffix not in ("", ".json", ".txt"):
        return ".ipynb" in name
    try:
        return cells_of(without_outputs(content_of(handed))) is not None
    except ValueError:
        return False


def is_original(handed: Handed, given: frozenset[str]) -> bool:
    """Tell whether a notebook is as it was handed out; `given` are the handout's cells."""
    try:
        return bool(given) and is_untouched(cells_of(without_outputs(content_of(handed))), given)
    except ValueError:
        return False


def choose_version(
    handed: list[Handed], lecture: str | None, lectures: list[str], given: frozenset[str] = frozenset()
) -> tuple[Handed | None, str]:
    """Return the version that counts of one person's files, or None and why there is none.

    It is the last of the notebooks named for the lecture, else the last of those named for none; one that is as it was
    handed out, only if all are.
    """
    books = [h for h in handed if is_book(h)]
    if not books:
        packed = any(h.file.lower().endswith(ARCHIVES) for h in handed)
        why = next((h.refused for h in handed if h.refused), "no notebook (.ipynb)")
        return None, "an archive: unpack it into a folder for this student" if packed else why
    right = [h for h in books if lecture_in(h.file, lectures) == lecture]
    other = [h for h in books if lecture_in(h.file, lectures) is None]
    if len(books) > 1 and given:
        done = [[h for h in some if not is_original(h, given)] for some in (right, other)]
        right = done[0] or done[1] or right
    right = right or other
    if not right:
        return None, f"a notebook of another lecture than {lecture}"
    folders = {h.folder for h in right}
    if len(folders) > 1 and () not in folders:
        return None, "its folder holds several folders with notebooks: one student's, or several students'?"
    return max(right, key=lambda h: h.order), ""


def safe(text: str) -> str:
    """Return text as a part of a file's name: letters of any script, digits, ``_ - .``."""
    kept = "".join(c if c.isalnum() or unicodedata.category(c)[0] == "M" or c in "-." else "_" for c in text)
    return re.sub(r"_+", "_", kept).strip("_-.")


def key_of(handed: Handed) -> str:
    """Return a student's key, such as "Ada_Lovelace_123456"; maybe empty."""
    (system, id), key = handed.person, safe(handed.name)
    tail = f"_{safe(id)}" if system != "name" and id != handed.name else ""
    if len(key.encode()) + len(tail.encode()) > LONGEST:
        tail = f"_{hashlib.sha256(''.join(handed.person).encode('utf-8', 'replace')).hexdigest()[:12]}"
        key = key.encode()[: LONGEST - len(tail)].decode("utf-8", "ignore").strip("_-.")
    return (key + tail).strip("_")


# The folder of submissions -----------------------------------------------------------------------------------------


def known_students(out: Path) -> dict[str, Student]:
    """Return the rows of students.csv by student, if there is a table. Raises ``ValueError`` for another one."""
    path = out / TABLE
    try:
        return read_students(path, ("student", "name", "file")) if path.exists() else {}
    except ValueError as error:
        raise ValueError(
            f"{path} is not a table that `course collect` wrote ({error}): move it away, or give another --out"
        ) from None


def people_in(student: Student) -> list[tuple[str, str]]:
    """Return whose row of students.csv it is, as in ``Handed.person``, but as it is shown: ids, else the name."""
    ids = {"canvas": student.canvas_id, "moodle": student.moodle_id, "login": student.login}
    return [(system, id) for system, id in ids.items() if id] or [("name", student.name)]


def downloaded(handed: Handed) -> str:
    """Return the name that the platform gave to a file; on Canvas, where it has ids, that of the zip around it."""
    names = ((part, CANVAS.fullmatch(part)) for part in handed.member.parts)
    found = (part for part, match in names if match and handed.person[1] in (match["user"], match["anonymous"]))
    return next(found, handed.member.parts[-1])


def row_of(handed: Handed, before: Student | None, problem: str = "", beside: str = "") -> Student:
    """Return a student's row of students.csv; of the row before, ids and the columns that someone added stay."""
    before = before or Student()
    system, id = handed.person
    ids = {"login" if system == "login" else f"{system}_id": shown(id).strip()} if system != "name" else {}
    name = shown(id if system == "name" else handed.name).strip()
    said = {PROBLEM: problem, BESIDE: beside}
    more = {**before.more, **{column: text for column, text in said.items() if text or column in before.more}}
    known = replace(before, **ids, late=handed.late, handed_in=handed.handed_in, more=more)
    return replace(known, name=name, file=shown(downloaded(handed)).strip())


def key_in(handed: Handed, rows: Mapping[str, Student]) -> str | None:
    """Return the key under which students.csv has a person: by an id, else by a name that one row has."""
    person = (handed.person[0], shown(handed.person[1]).strip())
    for key, row in rows.items():
        if person in people_in(row):
            return key
    if person[0] != "name":
        return None
    same = [key for key, row in rows.items() if row.name == person[1]]
    listed = [key for key, row in rows.items() if not row.file or people_in(row)[0][0] != "name"]
    same = same or [key for key in listed if words_in(rows[key].name) == words_in(person[1])]
    return same[0] if len(same) == 1 else None


def give_keys(chosen: list[Handed], rows: dict[str, Student], report: Report) -> dict[str, Handed]:
    """Return the files by the students' keys: those in students.csv, else new ones; two people never share one."""
    wanted = defaultdict(list)
    for handed in chosen:
        known = key_in(handed, rows)
        key = known or key_of(handed)
        taken = known is None and any(k.casefold() == key.casefold() for k in rows)
        if not key:
            report.unplaced.append((handed.member.path, "no letter or digit in the student's name"))
        elif taken:
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


@dataclass(frozen=True)
class Choice:
    """What counts of one person's files: one of them and why it can't be graded, if so; the others that might count."""

    handed: Handed
    problem: str = ""
    others: tuple[Handed, ...] = ()
    modules: tuple[Handed, ...] = ()  # the student's own .py files
    beside: tuple[Handed, ...] = ()  # what a person may read: a PDF, a picture


def read_version(handed: Handed) -> tuple[bytes, str]:
    """Return a file's bytes, or none and the reason: it is damaged, or larger than it says."""
    if handed.member.fault:
        return b"", handed.member.fault
    try:
        content = handed.member.read()
    except UNREADABLE as error:
        return b"", f"damaged or unreadable ({type(error).__name__})"
    return (b"", f"larger than {LARGEST // 2**20} MiB") if len(content) > LARGEST else (content, "")


def is_beside(handed: Handed, best: Handed) -> bool:
    """Tell whether a file of another kind beside the notebook that counts may hold answers, such as a scan.

    The zip that the notebook was in does not, nor Blackboard's note.
    """
    note = handed.refused and handed.person[0] == "login"
    packed = best.member.parts[: len(handed.member.parts)] == handed.member.parts
    return handed.file.lower().endswith(READABLE) and not (is_book(handed) or packed or note)


def choose(handed: list[Handed], report: Report, lectures: list[str], given: frozenset[str]) -> Choice:
    """Return what counts of one person's files; put those that do not into the report."""
    told = {path for path, _ in report.unplaced}
    handed = unzipped(handed)
    best, reason = choose_version(handed, report.lecture, lectures, given)
    if best is None:
        report.unplaced += [(h.member.path, reason) for h in handed if h.member.path not in told]
        last = max(handed, key=lambda h: (not h.refused, len(h.order), h.order))
        return Choice(last, f"{shown(last.file)}: {reason}")
    others = tuple(h for h in handed if h is not best and is_book(h) and not h.member.fault)
    modules = tuple(h for h in handed if h.file.lower().endswith(".py") and not h.member.fault)
    return Choice(best, "", others, modules, tuple(h for h in handed if is_beside(h, best)))


def unlike(choice: Choice, given: frozenset[str]) -> str:
    """Return that another notebook was not taken, unless it is an earlier version by its name, or the original."""

    def bare(h: Handed) -> str:
        return re.sub(r"(?: ?\(\d+\)|-\d+)?\.ipynb.*$", "", h.file.lower())

    best = choice.handed
    left = [h for h in choice.others if bare(h) != bare(best) and not is_original(h, given)]
    names = ", ".join(dict.fromkeys(shown(h.file) for h in left))
    return f"more notebooks were handed in, not graded: {names}" if left else ""


def put(key: str, choice: Choice, rows: dict[str, Student], report: Report, given: frozenset[str]) -> None:
    """Store what a student handed in, and bring their row up to date."""
    handed, row = choice.handed, rows.get(key)
    content, fault = (b"", choice.problem) if choice.problem else read_version(handed)
    if fault:
        problem = choice.problem or f"{shown(handed.file)}: {fault}"
        if not choice.problem and (handed.member.path, fault) not in report.unplaced:
            report.unplaced.append((handed.member.path, fault))
        if row and held(report.out, key):  # the version before stays, and a person has to look
            rows[key] = replace(row, more={**row.more, PROBLEM: f"a later version can't be graded: {problem}"})
        else:
            rows[key] = row_of(handed, row, problem)
        return
    if store(key, handed, content, row, report):
        beside = listed([shown(other.file) for other in choice.beside], NAMED)
        rows[key] = row_of(handed, row, unlike(choice, given), beside)
        for module in choice.modules[:MODULES]:
            atomically(report.out / key / f"{safe(Path(module.file).stem) or 'module'}.py", read_version(module)[0])
    report.superseded += [(key, other.member.path) for other in choice.others]
    report.beside += [(key, other.member.path) for other in choice.beside]


def collect_members(
    members: list[Member], report: Report, lectures: list[str], root: Path, roster: list[Student] | None
) -> None:
    """Choose and store the submissions, and bring students.csv up to date. Raises ``ValueError``, ``OSError``."""
    placed, unplaced = place(members)
    report.unplaced += unplaced
    if report.lecture is None:
        books = (h.file for handed in placed.values() for h in unzipped(handed) if is_book(h))
        report.lecture = told_lecture(books, lectures)
    before = lecture_held(report.out, lectures)
    require(
        before in (None, report.lecture),
        f"{report.out} holds submissions of {before}, these are of {report.lecture or 'a lecture that no name tells'}: "
        "give another --out, or the --lecture",
    )
    rows, given = known_students(report.out), handout(report.lecture, root)
    anonymous = roster is not None and any(person[1].startswith("anon_") for person in placed)
    require(
        not anonymous, "the download is anonymous, so a roster can't tell who handed in nothing: leave --roster out"
    )
    choices = [choose(handed, report, lectures, given) for handed in placed.values()]
    by_handed = {id(choice.handed): choice for choice in choices}
    for key, handed in sorted(give_keys([choice.handed for choice in choices], rows, report).items()):
        put(key, by_handed[id(handed)], rows, report, given)
    if roster is not None:
        report.absent = enrol(roster, rows, lambda person: new_key(person, rows))
    if report.new or report.replaced or report.unchanged:
        write_students(report.out / TABLE, rows)


def new_key(person: Student, rows: Mapping[str, Student]) -> str:
    """Return a key for a student of the roster who handed in nothing, that no row has."""
    ((system, id), *_) = people_in(person)
    key = key_of(Handed(Member((), (), "", bytes), (system, id), person.name, "")) or "student"
    taken = {k.casefold() for k in rows}
    return next(k for n in range(1, len(rows) + 2) if (k := key if n == 1 else f"{key}_{n}").casefold() not in taken)


def collect(
    download: Path, out: Path, which: str | None = None, root: Path = ROOT, roster: Path | None = None
) -> Report:
    """Put the last version of each student's notebook into ``out/STUDENT/NN_name.ipynb``, and all in students.csv.

    `which` is the lecture's number or name; without it the files' names tell. A second download into the same folder
    replaces earlier versions and leaves the other students; nothing is ever deleted. `roster`, a table of the class,
    names who handed in nothing. Raises ``FileNotFoundError`` and
    ``ValueError`` for a download that can't be read, tells of several lectures or holds no submission, and for a
    folder that can't be written.
    """
    download, out = Path(download), Path(out)
    lectures = [lecture.name for lecture in all_lectures(root)]
    report = Report(out, find_lecture(which, root).name if which else None)
    enrolled = read_roster(Path(roster)) if roster else None
    require(not out.exists() or out.is_dir(), f"{out} is a file: give a folder as --out")
    try:
        with opened(download, out) as members:
            require(bool(members), f"{download} holds no files: export the submissions again")
            collect_members(members, report, lectures, root, enrolled)
    except FileNotFoundError:
        raise
    except OSError as error:
        where = error.filename2 or error.filename or out
        raise ValueError(f"{shown(str(where))}: {error.strerror or error}; mend that, and collect again") from None
    if not (report.new or report.replaced or report.unchanged or report.kept):
        file, reason = map(shown, [*report.unplaced, ("its files", "no submissions")][0])
        more = f"; {len(report.unplaced)} files in all" if len(report.unplaced) > 1 else ""
        raise ValueError(
            f"nothing in {download} could be placed ({file}: {reason}{more}); give the export of a learning "
            "platform, or a folder for each student"
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
    if report.beside:
        lines.append(f"Beside a notebook, left where they are ({len(report.beside)}):")
        lines += [f"  {student}: {shown(file)}" for student, file in report.beside]
    if report.unplaced:
        lines.append(f"COULD NOT BE PLACED ({len(report.unplaced)}):")
        lines += [f"  {shown(file)}: {shown(reason)}" for file, reason in report.unplaced]
    if report.absent:
        lines.append(f"Handed in nothing ({len(report.absent)}): {', '.join(report.absent)}")
    return "\n".join(lines)

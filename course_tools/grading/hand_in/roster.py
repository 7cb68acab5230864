"""The class: students.csv, one row a student, and which student a cell of another table means."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path

from course_tools.grading.spreadsheets import read_csv, to_csv
from course_utils.errors import require
from course_utils.files import atomically

TABLE = "students.csv"
BESIDE = "beside"  # the column of the files of other kinds that came beside a notebook
COLUMNS = ("student", "name", "canvas_id", "moodle_id", "late", "file", "handed_in", "login")


@dataclass(frozen=True)
class Student:
    """One row of students.csv: who a submission is of, and what the platforms call them."""

    name: str = ""
    canvas_id: str = ""
    moodle_id: str = ""
    late: str = ""
    file: str = ""
    more: Mapping[str, str] = field(default_factory=dict)  # columns that someone added, "problem" and "beside"
    handed_in: str = ""  # ISO 8601, empty where unknown
    login: str = ""  # where a platform knows people by a short name


def read_students(path: Path, required: Iterable[str] = COLUMNS[:1]) -> dict[str, Student]:
    """Return the rows of students.csv by student. Raises ``ValueError`` naming row and column of what is wrong."""
    students: dict[str, Student] = {}
    taken: dict[tuple[str, str], int] = {}
    for at, row in read_csv(path, list(required)):
        key, where = row["student"], f"{path}, row {at}"
        require(bool(key), f"{where}, column student: it is empty")
        require(key not in students, f"{where}, column student: {key!r} is there twice: delete one row")
        for column in ("canvas_id", "moodle_id"):
            id = row.get(column, "")
            require(not id or id.isdecimal(), f"{where}, column {column}: {id!r} is no number, such as 123456")
            before = taken.setdefault((column, id), at) if id else at
            require(before == at, f"{where}, column {column}: {id} is in row {before} too: two students share it")
        known = {column: row.get(column, "") for column in COLUMNS[1:]}
        more = {column: row[column] for column in row if column and column not in COLUMNS}
        students[key] = Student(**known, more=more)
    return students


def write_students(path: Path, students: Mapping[str, Student]) -> None:
    """Write students.csv, in the order of the keys; columns that someone added stay."""
    more = list(dict.fromkeys(column for student in students.values() for column in student.more))
    rows = [
        [key, *(getattr(student, column) for column in COLUMNS[1:]), *(student.more.get(column, "") for column in more)]
        for key, student in sorted(students.items())
    ]
    atomically(path, to_csv([[*COLUMNS, *more], *rows], bom=False))


def find_student(cell: str, students: Iterable[str]) -> str | None:
    """Return the student whose key a cell holds, also where a spreadsheet cut the zeros off its head; else None."""
    known = list(students)
    if cell in known:
        return cell
    same = [key for key in known if cell.isdigit() and key.isdigit() and int(key) == int(cell)]
    return same[0] if len(same) == 1 else None


def locate_student(cell: str, known: Iterable[str], where: str) -> str:
    """Return the student whom a cell names. Raises ``ValueError`` naming `where` if there is no such result."""
    students = list(known)
    student = find_student(cell, students)
    if student is None:
        near = get_close_matches(cell, students, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "delete the row, or grade that submission"
        raise ValueError(f"{where}, column student: {cell!r} has no result; {hint}")
    return student


# The class as a platform exports it ---------------------------------------------------------------------------------

MOODLE_TIMES = ("%A, %d %B %Y, %I:%M %p", "%A, %d %B %Y, %H:%M", "%d %B %Y, %I:%M %p", "%d %B %Y, %H:%M")


def moodle_time(text: str) -> str:
    """Return a time as Moodle writes it in English, as ISO 8601; nothing for another form."""
    for form in MOODLE_TIMES:
        try:
            return datetime.strptime(text, form).isoformat(timespec="minutes")
        except ValueError:
            continue
    return ""


def from_canvas(row: Mapping[str, str]) -> Student | None:
    """Return the student in a row of Canvas's gradebook export; None for its other rows."""
    if not row["ID"].isdecimal() or row["Student"].replace(" ", "") in ("Student,Test", "TestStudent"):
        return None
    return Student(row["Student"], canvas_id=row["ID"], login=row.get("SIS Login ID", ""))


def from_moodle(row: Mapping[str, str]) -> Student | None:
    """Return the student in a row of Moodle's grading worksheet, whatever its language; None for another row."""
    cells = list(row.values())
    number = re.fullmatch(r"\D*?(\d+)", cells[0])
    if number is None or len(cells) < 2:
        return None
    came = moodle_time(row.get("Last modified (submission)", ""))
    return Student(cells[1], moodle_id=number[1], handed_in=came)


def from_names(row: Mapping[str, str]) -> Student | None:
    """Return the student in a row of any list of participants: by first name and last name, or by name."""
    cells = {re.sub(r"\W", "", column.casefold()): cell for column, cell in row.items()}
    last = cells.get("lastname") or cells.get("surname") or ""
    name = " ".join(filter(None, (cells.get("firstname", ""), last))) or cells.get("fullname") or cells.get("name", "")
    login = cells.get("username") or cells.get("login") or ""
    return Student(name, login=login.lstrip("#")) if name else None


def read_roster(path: Path) -> list[Student]:
    """Return the class from a file that Canvas (gradebook), Moodle (grading worksheet) or another platform exported.

    Raises ``FileNotFoundError``, and ``ValueError`` for a table without students.
    """
    rows = [row for _, row in read_csv(path, ())]
    columns = list(rows[0]) if rows else []
    if {"Student", "ID"} <= set(columns):
        found = map(from_canvas, rows)
    elif columns and all(re.fullmatch(r"\D+ ?\d+", next(iter(row.values()))) for row in rows):
        found = map(from_moodle, rows)
    else:
        found = map(from_names, rows)
    students = [student for student in found if student is not None]
    require(
        bool(students),
        f"{path} names no students: give Canvas's gradebook export, Moodle's grading worksheet, or a table with the "
        "columns First name and Last name, or Name",
    )
    return students


def words_in(name: str) -> frozenset[str]:
    """Return the words of a name, so that "Lovelace, Ada" is Ada Lovelace."""
    return frozenset(re.findall(r"\w+", unicodedata.normalize("NFC", name).casefold()))


def key_among(person: Student, rows: Mapping[str, Student], alone: bool) -> str | None:
    """Return the row that is of a student of the roster: by an id, else by the name, if they are `alone` to have it."""
    for column in ("canvas_id", "moodle_id", "login"):
        for key, row in rows.items():
            if getattr(person, column) and getattr(person, column) == getattr(row, column):
                return key
    named = [key for key, row in rows.items() if words_in(row.name) == words_in(person.name)]
    other = [k for k in named if person.canvas_id and rows[k].canvas_id or person.moodle_id and rows[k].moodle_id]
    return named[0] if alone and len(named) == 1 and not other else None


def enrol(roster: Iterable[Student], rows: dict[str, Student], new_key: Callable[[Student], str]) -> list[str]:
    """Bring rows of students.csv up to date with a roster: ids, names, times; return the keys of who handed in nothing.

    Those get a row, too, without a file.
    """
    absent, roster = [], list(roster)
    names = Counter(words_in(person.name) for person in roster)
    for person in roster:
        key = key_among(person, rows, names[words_in(person.name)] == 1)
        if key is None:
            key = new_key(person)
            rows[key] = person
        else:
            row, own = rows[key], {c: getattr(person, c) for c in ("canvas_id", "moodle_id", "login", "handed_in")}
            known = {column: getattr(row, column) or cell for column, cell in own.items()}
            by_id = row.canvas_id or row.moodle_id or row.login
            rows[key] = replace(row, **known, name=person.name if by_id else row.name)
        if not rows[key].file:
            absent.append(key)
    return absent

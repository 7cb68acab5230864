"""The class: students.csv, one row a student, and which student a cell of another table means."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from course_tools.files import atomically
from course_tools.grading.spreadsheets import read_csv, to_csv
from course_utils.errors import require

TABLE = "students.csv"
COLUMNS = ("student", "name", "canvas_id", "moodle_id", "late", "file", "handed_in", "login")


@dataclass(frozen=True)
class Student:
    """One row of students.csv: who a submission is of, and what the platforms call them."""

    name: str = ""
    canvas_id: str = ""
    moodle_id: str = ""
    late: str = ""
    file: str = ""
    more: Mapping[str, str] = field(default_factory=dict)  # columns that someone added, and "problem"
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

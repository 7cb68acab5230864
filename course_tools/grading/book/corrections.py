"""Grades of programmed exercises that an instructor corrected by hand: ``OUT/corrections.csv``, which we only read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from course_tools.grading.book.records import Record, worth_of
from course_tools.grading.book.tables import number
from course_tools.grading.book.written import bare, parse_points
from course_tools.grading.hand_in.roster import locate_student
from course_tools.grading.spreadsheets import read_csv
from course_utils.errors import require

COLUMNS = ("student", "exercise", "points", "reason")


@dataclass(frozen=True)
class Correction:
    """The points that count in place of a result's, and why."""

    points: float
    reason: str = ""


Corrections = Mapping[tuple[str, str], Correction]  # by student and exercise


def read_corrections(path: Path, records: Sequence[Record]) -> Corrections:
    """Return the corrections in a CSV file with the columns student, exercise, points, reason.

    Raises ``FileNotFoundError``, and ``ValueError`` naming row and column of an unknown student or exercise, of points
    that are no number from 0 to what is possible, and of an exercise that is corrected twice.
    """
    known, worth = {record.student: record for record in records}, worth_of(record.exercises for record in records)
    found: dict[tuple[str, str], Correction] = {}
    rows: dict[tuple[str, str], int] = {}
    for at, row in read_csv(path, COLUMNS):
        where, exercise = f"{path}, row {at}", bare(row["exercise"])
        student = locate_student(row["student"], known, where)
        given, allowed = f"{where}, column exercise: {row['exercise']!r}", ", ".join(worth) or "none in this lecture"
        require(exercise not in known[student].written, f"{given} is a written one: its points go into written.csv")
        require(exercise in worth, f"{given} is no programmed one; allowed: {allowed}")
        key = student, exercise
        require(key not in rows, f"{where}: {student}, {exercise} is in row {rows.get(key)} too: delete one")
        rows[key], points = at, parse_points(row["points"], worth[exercise], where)
        require(points is not None, f"{where}, column points: it is empty; 0 to {number(worth[exercise])} are allowed")
        found[key] = Correction(float(points or 0.0), row["reason"])
    return found


def gather_corrections(out: Path, records: Sequence[Record]) -> Corrections:
    """Return the corrections in OUT/corrections.csv; none if there is no such file."""
    path = out / "corrections.csv"
    return read_corrections(path, records) if path.exists() else {}

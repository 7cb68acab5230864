"""Written answers, collected for marking by hand in a spreadsheet, and the points and comments that come back."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from course_tools.grading.book.records import Record, Written
from course_tools.grading.book.tables import number
from course_tools.grading.hand_in.roster import locate_student
from course_tools.grading.spreadsheets import numeric, read_csv, to_csv
from course_utils.errors import require

COLUMNS = ("student", "exercise", "possible", "points", "comment", "changed", "marker", "answer", "version")
TWO = "two marks"
PLACEHOLDER = "Write here."  # of a lecture that is not in this course
CHANGED = "answer changed after it was marked: look at the points again, then empty this cell"


@dataclass(frozen=True)
class Mark:
    """What an instructor gave to a written answer. `version` tells which text; `changed` that it is another by now.

    `conflict` tells of two marks for one answer; its points are open while it stands. `base` is the ``state_of`` the
    mark that its marker saw, None where nobody knows.
    """

    points: float | None
    comment: str = ""
    version: str = ""
    changed: bool = False
    marker: str = ""
    conflict: str = ""
    base: str | None = None


Marks = dict[tuple[str, str], Mark]  # by student and exercise


def version(text: str | None) -> str:
    """Return a short hash of an answer that no spreadsheet takes for a number."""
    return "v" + hashlib.sha256((text or "").encode("utf-8", "replace")).hexdigest()[:8]


def is_empty(text: str | None) -> bool:
    """Tell whether nothing was written: no points, and nothing to mark. Of a cell not found (None) nobody knows."""
    return text is not None and not text.strip()


class Open(NamedTuple):
    """Why an exercise has no points yet, for its student, and what an instructor can do about it."""

    why: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.why}: {self.remedy}" if self.remedy else self.why


def not_found(exercise: str) -> Open:
    """Return that a written answer's cell was not found."""
    return Open(f"no cell for {exercise} found", "look into the file")


def without_placeholders(record: Record, placeholders: Mapping[str, str]) -> Record:
    """Return a record whose written answers are empty where they are still the handout's placeholder."""

    def own(id: str, answer: Written) -> Written:
        given = placeholders.get(id, PLACEHOLDER).split()
        return replace(answer, text="") if (answer.text or "").split() == given else answer

    return replace(record, written={id: own(id, answer) for id, answer in record.written.items()})


def parse_points(cell: str, possible: float, where: str) -> float | None:
    """Return the points in a cell, None for a blank one. Raises ``ValueError`` naming `where` for anything else."""
    if not cell:
        return None
    valid = re.fullmatch(r"\d+([.,]\d+)?", cell) and float(cell.replace(",", ".")) <= possible
    require(bool(valid), f"{where}, column points: {cell!r} is not a number from 0 to {number(possible)}")
    return float(cell.replace(",", "."))


def bare(cell: str) -> str:
    """Return an exercise's number from a cell such as "exercise 1.10", which stays text in a spreadsheet."""
    return re.sub(r"(?i)^exercise\s+", "", cell)


def locate(row: Mapping[str, str], known: Mapping[str, Record], where: str) -> tuple[str, str]:
    """Return (student, exercise) of a row. Raises ``ValueError`` naming `where` if there is no such answer."""
    student = locate_student(row["student"], known, where)
    exercise, asked = bare(row["exercise"]), known[student].written
    allowed = ", ".join(asked) or "none in this lecture"
    require(exercise in asked, f"{where}, column exercise: {row['exercise']!r} is no written one; allowed: {allowed}")
    return student, exercise


def read_marks(path: Path, records: Sequence[Record]) -> Marks:
    """Return the marks in a CSV file with the columns student, exercise, points and, if there, comment.

    Raises ``FileNotFoundError``, and ``ValueError`` naming row and column of an unknown student or exercise, of points
    that are no number from 0 to what is possible, and of an answer that is there twice.
    """
    known = {record.student: record for record in records}
    marks: Marks = {}
    rows: dict[tuple[str, str], int] = {}
    for at, row in read_csv(path, ("student", "exercise", "points")):
        key = student, exercise = locate(row, known, f"{path}, row {at}")
        require(key not in rows, f"{path}, row {at}: {student}, {exercise} is in row {rows.get(key)} too: delete one")
        rows[key], answer = at, known[student].written[exercise]
        points = parse_points(row["points"], answer.possible, f"{path}, row {at}")
        marked, now, said = row.get("version", ""), version(answer.text), row.get("changed", "")
        conflict = said if said.startswith(TWO) else ""
        changed = points is not None and (bool(said and not conflict) or marked not in ("", now))
        marks[key] = Mark(
            points, row.get("comment", ""), now, changed, row.get("marker", ""), conflict, row.get("base")
        )
    return marks


def state_of(mark: Mark) -> str:
    """Return a short hash of what a marker sees of a mark; nothing of one that is not there."""
    seen = (number(mark.points), mark.comment, mark.conflict)
    return version("\n".join(seen)) if any(seen) else ""


def points_of(record: Record, exercise: str, marks: Marks) -> float | None:
    """Return the points of a written answer: None if unmarked, changed since, or not found; 0 if it is empty."""
    mark = marks.get((record.student, exercise))
    if mark and mark.points is not None:
        return None if mark.changed or mark.conflict else mark.points
    return 0.0 if is_empty(record.written[exercise].text) else None


def rows_of(records: Sequence[Record], marks: Marks) -> list[tuple[Record, str, Mark]]:
    """Return (record, exercise, mark) of each answer to be marked, all answers to one exercise together."""
    answers = [(record, id) for record in records for id in record.written]
    answers.sort(key=lambda answer: (numeric(answer[1]), answer[0].student))
    return [
        (record, id, marks.get((record.student, id), Mark(None)))
        for record, id in answers
        if not is_empty(record.written[id].text) or (record.student, id) in marks
    ]


def shown(record: Record, exercise: str) -> str:
    """Return a written answer as the instructor reads it: that its cell was not found, where it wasn't."""
    text = record.written[exercise].text
    return f"({not_found(exercise)}: {record.file})" if text is None else text


def table(records: Sequence[Record], marks: Marks) -> str:
    """Return written.csv: the answers, and the marks so far. "exercise 1.10" stays text where 1.10 would turn 1.1."""
    lines = [
        [
            record.student,
            f"exercise {id}",
            number(record.written[id].possible),
            number(mark.points),
            mark.comment,
            mark.conflict or (CHANGED if mark.changed else ""),
            mark.marker,
            shown(record, id),
            version(record.written[id].text),
        ]
        for record, id, mark in rows_of(records, marks)
    ]
    return to_csv([COLUMNS, *lines])

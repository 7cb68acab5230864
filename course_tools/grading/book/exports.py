"""The gradebook's tables, for spreadsheets and as Canvas and Moodle import them; pages as these two take them back."""

import io
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from course_tools.grading.book.entries import Entry, flags_of
from course_tools.grading.book.tables import number
from course_tools.grading.hand_in.collect import CANVAS
from course_tools.grading.hand_in.roster import Student
from course_tools.grading.spreadsheets import to_csv

MODIFIED = "Last modified (grade)"
MOODLE = ("Identifier", "Full name", "Grade", "Maximum Grade", MODIFIED, "Feedback comments", "isolation")


def grades_row(entry: Entry) -> list[str]:
    """Return a student's row of grades.csv. Points that are open are blank, never 0."""
    record, results, points = entry.record, entry.record.exercises, entry.points
    row = [entry.key, entry.student.name, "no" if entry.open else "yes", number(entry.total), number(entry.possible)]
    row += [number(entry.sum(entry.tasks)), number(entry.sum(entry.questions))]
    for id in entry.tasks:
        row += [number(points.get(id)), results[id].status if id in results else "no result"]
    row += [number(points.get(id)) for id in entry.questions]
    row += ["; ".join(f"exercise {id}" for id in entry.tasks if id in entry.corrections)]
    row += ["; ".join(map(str, entry.open)), "; ".join(flags_of(record)), record.problem, record.isolation]
    days = number(entry.late.days) if entry.late.known else entry.late.doubt
    taken = number(entry.late.points) if entry.late.known else ""
    return [*row, entry.student.late, days, taken, entry.student.file or record.file]


def grades(everyone: Sequence[Entry], absent: Mapping[str, Student]) -> str:
    """Return grades.csv; `absent` are students of students.csv without a result: a row each, without points.

    A bare 1.10 at the head of a column would be 1.1 in a spreadsheet, and a date in some: hence "1.10 points".
    """
    header = ["student", "name", "complete", "total", "possible", "programmed", "written"]
    header += [f"{id} {what}" for id in everyone[0].tasks for what in ("points", "status")]
    header += [f"{id} written" for id in everyone[0].questions]
    header += ["corrected", "open", "flags", "problem", "isolation", "late", "days late", "taken off", "file"]
    rows = [grades_row(entry) for entry in everyone]
    for key, student in absent.items():
        cells = {"student": key, "name": student.name, "complete": "no", "late": student.late, "file": student.file}
        cells["problem"] = "no result: this submission was not graded"
        rows.append([cells.get(column, "") for column in header])
    return to_csv([header, *rows])


def canvas(everyone: Sequence[Entry]) -> str:
    """Return Canvas's gradebook import. Who has no id or no total is left out: a blank would delete the old grade.

    The column is called after the lecture: where no assignment has that title, Canvas asks which one is meant.
    """
    title, possible = everyone[0].record.lecture, number(everyone[0].possible)
    rows = [["Student", "ID", "SIS User ID", "SIS Login ID", "Section", title]]
    rows.append(["    Points Possible", "", "", "", "", possible])
    for entry in everyone:
        if entry.student.canvas_id and entry.total is not None:
            stamp = entry.record.isolation if entry.record.isolation == "unsandboxed" else ""
            rows.append([entry.name, entry.student.canvas_id, "", "", stamp, number(entry.total)])
    return to_csv(rows, bom=False)


def summary(entry: Entry) -> str:
    """Return a student's points by exercise in one line, for Moodle's column of comments."""
    results = entry.record.exercises
    status = {id: results[id].status if id in results else "written" for id in entry.worth}
    status |= dict.fromkeys(entry.corrections, "corrected")
    each = [f"{id} {status[id]}: {number(entry.points.get(id))} of {number(p)}" for id, p in entry.worth.items()]
    return " · ".join([*each, *filter(None, [str(entry.late)])])


def moodle(everyone: Sequence[Entry]) -> str:
    """Return Moodle's offline grading worksheet, in English as Moodle names its columns, without who has no total.

    The "-" for the time of the last grade makes Moodle keep a grade that it has, unless the upload says otherwise.
    """
    possible = number(everyone[0].possible)
    rows: list[Sequence[str]] = [MOODLE]
    for entry in everyone:
        if entry.student.moodle_id and entry.total is not None:
            who, points = f"Participant {entry.student.moodle_id}", number(entry.total)
            rows.append([who, entry.name, points, possible, "-", summary(entry), entry.record.isolation])
    return to_csv(rows, bom=False)


def for_moodle(entry: Entry) -> str:
    """Return where a page lies in Moodle's zip of feedback files: in the folder of that participant's download."""
    if not entry.student.moodle_id:
        return ""
    name = re.sub(r"[^\w. -]|_", " ", entry.name)[:60].strip(" .") or "student"
    return f"{name}_{entry.student.moodle_id}_assignsubmission_file_/{entry.record.lecture}_feedback.html"


def for_canvas(entry: Entry) -> str:
    """Return a page's name in Canvas's zip: that of the downloaded file, with the ids that Canvas looks for."""
    match = CANVAS.fullmatch(entry.student.file)
    whole = match is not None and match["version"] is not None
    return f"{Path(entry.student.file).stem}_feedback.html" if whole else ""


def feedback_zip(pages: Sequence[tuple[Entry, str]], name_of: Callable[[Entry], str]) -> bytes:
    """Return the pages that have a name as a zip, nothing if none has; the same pages give the same bytes."""
    file, named = io.BytesIO(), {name_of(entry): page for entry, page in pages}
    named.pop("", None)
    with zipfile.ZipFile(file, "w") as archive:
        for name, page in named.items():
            info = zipfile.ZipInfo(name)  # of 1980, not of now
            info.external_attr = 0o644 << 16
            archive.writestr(info, page, zipfile.ZIP_DEFLATED)
    return file.getvalue() if named else b""

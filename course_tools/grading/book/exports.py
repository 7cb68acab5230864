"""The gradebook's tables: for spreadsheets, and what Canvas and Moodle import; the pages of feedback in one file."""

import io
import re
import zipfile
from collections.abc import Mapping, Sequence

from course_tools.grading.book.entries import Entry, flags_of
from course_tools.grading.book.tables import number
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
    return [*row, entry.student.late, entry.student.file or record.file]


def grades(everyone: Sequence[Entry], absent: Mapping[str, Student]) -> str:
    """Return grades.csv; `absent` are students of students.csv without a result: a row each, without points.

    A bare 1.10 at the head of a column would be 1.1 in a spreadsheet, and a date in some: hence "1.10 points".
    """
    header = ["student", "name", "complete", "total", "possible", "programmed", "written"]
    header += [f"{id} {what}" for id in everyone[0].tasks for what in ("points", "status")]
    header += [f"{id} written" for id in everyone[0].questions]
    header += ["corrected", "open", "flags", "problem", "isolation", "late", "file"]
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
    return " · ".join(each)


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


def feedback_name(entry: Entry) -> str:
    """Return a page's name in feedback.zip: where there is a Moodle id, as Moodle's upload of feedback files wants it.

    Moodle takes the number after the first underscore for the participant; so other names have no underscore.
    """
    if entry.student.moodle_id:
        name = re.sub(r"[^\w. -]|_", " ", entry.name)[:60].strip(" .") or "student"
        return f"{name}_{entry.student.moodle_id}_assignsubmission_file_{entry.record.lecture}_feedback.html"
    return f"{entry.key.replace('_', '-')}.html"


def feedback_zip(pages: Sequence[tuple[Entry, str]]) -> bytes:
    """Return all pages of feedback as a zip; the same pages give the same bytes."""
    file, names = io.BytesIO(), set()
    with zipfile.ZipFile(file, "w") as archive:
        for entry, page in pages:
            name = feedback_name(entry)
            if name in names:  # of keys that differ in an underscore only
                name = f"{name.removesuffix('.html')} ({len(names)}).html"
            names.add(name)
            info = zipfile.ZipInfo(name)  # of 1980, not of now
            info.external_attr = 0o644 << 16
            archive.writestr(info, page, zipfile.ZIP_DEFLATED)
    return file.getvalue()

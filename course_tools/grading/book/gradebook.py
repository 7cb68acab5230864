"""From a folder of results to the gradebook: CSV for spreadsheets, Canvas and Moodle, and the pages. Runs no code."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nbformat import NotebookNode

from course_tools.grading.book import pages
from course_tools.grading.book.beside import answers_in, cells_in, functions, solutions
from course_tools.grading.book.corrections import gather_corrections
from course_tools.grading.book.entries import Entry, absent_of, entries, mixed, state
from course_tools.grading.book.exports import canvas, feedback_zip, for_canvas, for_moodle, grades, moodle
from course_tools.grading.book.late import lateness_of
from course_tools.grading.book.marking import RUBRIC, Task, marking_page, merged, read_rubrics, tasks
from course_tools.grading.book.records import Record, read_all
from course_tools.grading.book.settings import FILE, Settings, read_settings, to_json
from course_tools.grading.book.similarity import similar_pairs
from course_tools.grading.book.tables import counted
from course_tools.grading.book.written import Marks, read_marks, table, without_placeholders
from course_tools.grading.hand_in.prose import written_text
from course_tools.grading.hand_in.roster import TABLE, Student, read_students
from course_tools.grading.spreadsheets import decoded, well_formed
from course_tools.grading.visible import visible
from course_tools.notebook_source import exercise_of
from course_utils.errors import listed, require
from course_utils.files import atomically

TABLES = (  # beside the folders results, feedback and marking
    *("grades.csv", "canvas.csv", "moodle.csv", "written.csv", TABLE, FILE, "instructor.html", "published.json"),
    *("feedback_moodle.zip", "feedback_canvas.zip"),
)


def notices(everyone: Sequence[Entry], absent: Mapping[str, Student], with_students: bool) -> list[str]:
    """Return what an instructor has to know of the gradebook, a line each."""
    unfinished = [entry.key for entry in everyone if entry.open]
    nameless = [entry.key for entry in everyone if not (entry.student.canvas_id or entry.student.moodle_id)]
    corrected = sum(len(entry.corrections) for entry in everyone)
    lines = mixed(everyone)
    if corrected:
        lines.append(f"{counted(corrected, 'grade')} corrected by hand in corrections.csv")
    if unfinished:
        lines.append(f"no total yet, not in canvas.csv and moodle.csv: {listed(unfinished)} (column open: why)")
    if not with_students:
        lines.append("canvas.csv and moodle.csv name nobody: ids come from the students.csv of `course collect`")
    elif nameless:
        lines.append(f"without a Canvas or Moodle id in students.csv, not in the import files: {listed(nameless)}")
    if everyone and all(entry.student.canvas_id for entry in everyone):
        unnamed = [entry.key for entry in everyone if not for_canvas(entry)]
        if unnamed:
            lines.append(f"not in feedback_canvas.zip, since column file is no name from Canvas: {listed(unnamed)}")
    doubtful = [entry.key for entry in everyone if entry.late.doubt]
    if doubtful:
        lines.append(f"nothing taken off, though perhaps late: {listed(doubtful)} (see instructor.html)")
    taken = [entry.key for entry in everyone if entry.late.points]
    if taken:
        lines.append(f"points taken off for lateness: {listed(taken)}")
    if absent:
        lines.append(f"in students.csv, but without a result: {listed(list(absent))}")
    return lines


def stubs_of(cells: Sequence[NotebookNode]) -> dict[str, str]:
    """Return what a lecture gives to everybody as each exercise's code."""
    return {exercise_of(cell): cell.source for cell in cells if exercise_of(cell)}


def placeholders_of(cells: Sequence[NotebookNode]) -> dict[str, str]:
    """Return what a lecture gives to everybody as each written answer."""
    asked = [(cell.metadata.get("course", {}).get("written"), cell.source) for cell in cells]
    return {id: written_text(source) for id, source in asked if id}


def gather_marks(out: Path, given: Sequence[Path], records: Sequence[Record]) -> tuple[Marks, list[str]]:
    """Return the marks in OUT/written.csv merged with those of other tables, and what is to be said of the merging."""
    own = out / "written.csv"
    kept = read_marks(own, records) if own.exists() else {}
    others = [path for path in given if path.resolve() != own.resolve()]
    return merged(kept, [(path.name, read_marks(path, records)) for path in others])


def files_of(
    out: Path, everyone: Sequence[Entry], absent: Mapping[str, Student], lecture: str, settings: Settings
) -> dict[Path, str | bytes]:
    """Return path → content of the tables for spreadsheets and imports, of the pages, and last of published.json."""
    feedback = [(entry, well_formed(pages.feedback_page(entry))) for entry in everyone]
    beside = solutions(lecture) | functions(lecture)
    beside |= {name: own for folder in settings.beside for name, own in answers_in(folder).items()}
    asked = tasks(lecture, read_rubrics(out / RUBRIC))
    pairs = similar_pairs([entry.record for entry in everyone], stubs_of(cells_in(lecture)), beside)
    return {
        out / "grades.csv": grades(everyone, absent),
        out / "canvas.csv": canvas(everyone),
        out / "moodle.csv": moodle(everyone),
        out / "instructor.html": pages.instructor_page(everyone, absent, pairs),
        **{
            out / "marking" / f"{id}.html": marking_page(id, everyone, asked.get(id, Task()))
            for id in everyone[0].questions
        },
        **{out / "feedback" / f"{entry.key}.html": page for entry, page in feedback},
        out / "feedback_moodle.zip": feedback_zip(feedback, for_moodle),
        out / "feedback_canvas.zip": feedback_zip(feedback, for_canvas),
        out / "published.json": json.dumps(state(everyone), indent=1, sort_keys=True) + "\n",
    }


def check(out: Path, students_csv: Path | None) -> None:
    """Raise ``ValueError`` if what an instructor wrote can't be read: settings, students.csv with its times, rubric."""
    policy = read_settings(out).policy
    students = read_students(students_csv) if students_csv else {}
    for key, student in students.items():
        lateness_of(student, policy, 0.0, f"{students_csv}, {key}")
    read_rubrics(out / RUBRIC)


def publish(
    out: Path,
    students_csv: Path | None = None,
    marks: Sequence[Path] = (),
    settings: Settings | None = None,
) -> list[Path]:
    """Write all tables and pages of the results in OUT; print what is still open; return the paths.

    `students_csv` is kept as OUT/students.csv and used again when none is given, and so are `settings`; `marks` are
    tables with points of written answers, those in OUT/written.csv are read anyway, and so are the grades corrected by
    hand in OUT/corrections.csv. Raises ``ValueError`` or ``FileNotFoundError`` before anything is written.
    """
    records = read_all(out)
    lectures = sorted({record.lecture for record in records})
    require(len(lectures) == 1, f"{out} has results of {', '.join(lectures)}: give each lecture a folder of its own")
    placeholders = placeholders_of(cells_in(lectures[0]))
    records = [without_placeholders(record, placeholders) for record in records]
    given = students_csv or (out / TABLE if (out / TABLE).exists() else None)
    students = read_students(given) if given else {}
    known = read_settings(out)
    chosen = settings or replace(known, beside=tuple(folder for folder in known.beside if folder.is_dir()))
    (found, merging), absent = gather_marks(out, marks, records), absent_of(students, records)
    everyone = entries(records, students, found, gather_corrections(out, records), chosen.policy)
    files: dict[Path, str | bytes] = {out / "written.csv": table(records, found)}
    if students_csv and students_csv.resolve() != (out / TABLE).resolve():
        files[out / TABLE] = decoded(students_csv.read_bytes())
    if settings:
        files[out / FILE] = to_json(settings)
    files |= files_of(out, everyone, absent, lectures[0], chosen)
    for path, content in files.items():
        if content:
            atomically(path, content if isinstance(content, bytes) else well_formed(content))
        else:
            path.unlink(missing_ok=True)
    gone = [f"not compared with {folder}: it is not there" for folder in set(known.beside) - set(chosen.beside)]
    for line in [*merging, *gone, *notices(everyone, absent, bool(students))]:
        print(visible(line))
    return [path for path, content in files.items() if content]

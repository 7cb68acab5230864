"""From a folder of results to the gradebook: CSV for spreadsheets, Canvas and Moodle, and the pages. Runs no code."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nbformat import NotebookNode

from course_tools.grading.book.corrections import Correction, Corrections, read_corrections
from course_tools.grading.book.records import Record, read_all, worth_of, write_text
from course_tools.grading.book.tables import counted, find_student, number, read_csv, to_csv, well_formed
from course_tools.grading.book.written import (
    Mark,
    Marks,
    merge,
    not_found,
    points_of,
    read_marks,
    table,
    without_placeholders,
)
from course_utils.errors import require

State = dict[str, dict[str, tuple[float | None, str]]]  # student → exercise → points, status
UNTAGGED = "all exercises: found by the function's name"
MODIFIED = "Last modified (grade)"
MOODLE = ("Identifier", "Full name", "Grade", "Maximum Grade", MODIFIED, "Feedback comments", "isolation")


@dataclass(frozen=True)
class Student:
    """One row of students.csv: who a submission is of, and what Canvas and Moodle call them."""

    name: str = ""
    canvas_id: str = ""
    moodle_id: str = ""
    late: str = ""
    file: str = ""


@dataclass(frozen=True)
class Entry:
    """All that the gradebook knows of one student. Points are None while something of them is open, never too low."""

    record: Record
    student: Student
    tasks: Mapping[str, float]  # what each programmed exercise of the class is worth
    questions: Mapping[str, float]  # what each written one is worth
    points: Mapping[str, float | None]
    marks: Mapping[str, Mark]  # of the written answers
    corrections: Mapping[str, Correction] = field(default_factory=dict)  # of the programmed ones

    def sum(self, ids: Iterable[str]) -> float | None:
        """Return the points of some exercises together, None if one of them is open."""
        points = [self.points.get(id) for id in ids]
        known = [p for p in points if p is not None]
        return float(sum(known)) if len(known) == len(points) else None

    @property
    def key(self) -> str:
        return self.record.student

    @property
    def name(self) -> str:
        return self.student.name or self.key

    @property
    def label(self) -> str:
        """Name and key, since two students may have the same name."""
        return self.key if self.name == self.key else f"{self.name} ({self.key})"

    @property
    def worth(self) -> dict[str, float]:
        """What each exercise is worth, the programmed ones first."""
        return {**self.tasks, **self.questions}

    @property
    def possible(self) -> float:
        return float(sum(self.worth.values()))

    @property
    def total(self) -> float | None:
        return self.sum(self.worth)

    @property
    def open(self) -> list[str]:
        """Why there is no total yet, one reason for each exercise that has no points."""
        return [self.reason(id) for id in self.worth if self.points.get(id) is None]

    def reason(self, id: str) -> str:
        """Return why an exercise has no points yet."""
        if id in self.record.exercises and self.record.outdated(id):
            return f"{id} is of an earlier version of the submission: grade again"
        if id in self.record.exercises:
            return f"{id} has to be graded again (infrastructure)"
        if id not in self.record.written:
            return f"{id} has no result"
        if id in self.marks and self.marks[id].changed:
            return f"{id} changed after it was marked"
        return not_found(id) if self.lost(id) else f"{id} is not marked yet"

    def lost(self, id: str) -> bool:
        """Tell whether a written answer's cell was not found, and nobody has given points for it yet."""
        answer = self.record.written.get(id)
        return answer is not None and answer.text is None and self.points.get(id) is None


def read_students(path: Path) -> dict[str, Student]:
    """Return the rows of students.csv by student. Raises ``ValueError`` naming row and column of what is wrong."""
    students: dict[str, Student] = {}
    taken: dict[tuple[str, str], int] = {}
    for at, row in read_csv(path, ("student",)):
        key, where = row["student"], f"{path}, row {at}"
        require(bool(key), f"{where}, column student: it is empty")
        require(key not in students, f"{where}, column student: {key!r} is there twice: delete one row")
        for column in ("canvas_id", "moodle_id"):
            id = row.get(column, "")
            require(not id or id.isdecimal(), f"{where}, column {column}: {id!r} is no number, such as 123456")
            before = taken.setdefault((column, id), at) if id else at
            require(before == at, f"{where}, column {column}: {id} is in row {before} too: two students share it")
        columns = ("name", "canvas_id", "moodle_id", "late", "file")
        students[key] = Student(*(row.get(column, "") for column in columns))
    return students


def entries(
    records: Sequence[Record], students: Mapping[str, Student], marks: Marks, corrections: Corrections | None = None
) -> list[Entry]:
    """Return the class, one entry a result; corrected points stand in place of the result's."""
    tasks, questions = worth_of(r.exercises for r in records), worth_of(r.written for r in records)
    keys = [record.student for record in records]
    known = {find_student(key, keys): student for key, student in students.items()}
    everyone = []
    for record in records:
        points = {id: None if record.outdated(id) else result.points for id, result in record.exercises.items()}
        points |= {id: points_of(record, id, marks) for id in record.written}
        own = {id: marks[record.student, id] for id in record.written if (record.student, id) in marks}
        corrected = {id: made for (student, id), made in (corrections or {}).items() if student == record.student}
        points |= {id: made.points for id, made in corrected.items()}
        student = known.get(record.student, Student())
        everyone.append(Entry(record, student, tasks, questions, points, own, corrected))
    return everyone


def absent_of(students: Mapping[str, Student], records: Sequence[Record]) -> dict[str, Student]:
    """Return the students that students.csv names and that have no result."""
    keys = [record.student for record in records]
    return {key: student for key, student in students.items() if find_student(key, keys) is None}


# Tables --------------------------------------------------------------------------------------------------------------


def together(noticed: Iterable[tuple[str, str]], everything: Iterable[str]) -> list[str]:
    """Return (exercise, text) as "1.1, 1.3: text", each text once; "all exercises" where all of several have it."""
    found: dict[str, dict[str, None]] = {}
    for id, text in noticed:
        found.setdefault(text, {})[id] = None
    every = set(everything)
    everywhere = {text for text, ids in found.items() if len(every) > 1 and set(ids) == every}
    return [f"{'all exercises' if text in everywhere else ', '.join(ids)}: {text}" for text, ids in found.items()]


def flags_of(record: Record) -> list[str]:
    """Return what was noticed of a submission's answers, with the exercises' numbers before it."""
    lines = together(((id, flag) for id, r in record.exercises.items() for flag in r.flags), record.exercises)
    return [f"{line} (metadata missing)" if line == UNTAGGED else line for line in lines]


def grades_row(entry: Entry) -> list[str]:
    """Return a student's row of grades.csv. Points that are open are blank, never 0."""
    record, results, points = entry.record, entry.record.exercises, entry.points
    row = [entry.key, entry.student.name, "no" if entry.open else "yes", number(entry.total), number(entry.possible)]
    row += [number(entry.sum(entry.tasks)), number(entry.sum(entry.questions))]
    for id in entry.tasks:
        row += [number(points.get(id)), results[id].status if id in results else "no result"]
    row += [number(points.get(id)) for id in entry.questions]
    row += ["; ".join(f"exercise {id}" for id in entry.tasks if id in entry.corrections)]
    row += ["; ".join(entry.open), "; ".join(flags_of(record)), record.problem, record.isolation]
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


# Everything ----------------------------------------------------------------------------------------------------------


def listed(names: Sequence[str]) -> str:
    """Return up to ten names, and how many more there are."""
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def mixed_seeds(everyone: Sequence[Entry]) -> list[str]:
    """Return a line that says so if results were made with inputs of several seeds."""
    seeds = sorted({entry.record.seed for entry in everyone})
    several = "two" if len(seeds) == 2 else str(len(seeds))
    line = f"results of {several} seeds, {listed([str(seed) for seed in seeds])}: run `course grade` again"
    return [line] if len(seeds) > 1 else []


def notices(everyone: Sequence[Entry], absent: Mapping[str, Student], with_students: bool) -> list[str]:
    """Return what an instructor has to know of the gradebook, a line each."""
    unfinished = [entry.key for entry in everyone if entry.open]
    nameless = [entry.key for entry in everyone if not (entry.student.canvas_id or entry.student.moodle_id)]
    corrected = sum(len(entry.corrections) for entry in everyone)
    lines = mixed_seeds(everyone)
    if corrected:
        lines.append(f"{counted(corrected, 'grade')} corrected by hand in corrections.csv")
    if unfinished:
        lines.append(f"no total yet, not in canvas.csv and moodle.csv: {listed(unfinished)} (column open: why)")
    if not with_students:
        lines.append("canvas.csv and moodle.csv name nobody: ids come from the students.csv of `course collect`")
    elif nameless:
        lines.append(f"without a Canvas or Moodle id in students.csv, not in the import files: {listed(nameless)}")
    if absent:
        lines.append(f"in students.csv, but without a result: {listed(list(absent))}")
    return lines


def handout(lecture: str) -> list[NotebookNode]:
    """Return the cells of a lecture's student notebook; none if it is not in this course."""
    from course_tools.notebooks import find_lecture, read_notebook

    try:
        nb = read_notebook(find_lecture(lecture).student)
    except (ValueError, FileNotFoundError):
        return []
    return nb.cells if nb else []


def stubs_of(cells: Sequence[NotebookNode]) -> dict[str, str]:
    """Return what a lecture gives to everybody as each exercise's code."""
    from course_tools.notebook_source import exercise_of

    return {exercise_of(cell): cell.source for cell in cells if exercise_of(cell)}


def placeholders_of(cells: Sequence[NotebookNode]) -> dict[str, str]:
    """Return what a lecture gives to everybody as each written answer."""
    from course_tools.grading.hand_in.submission import written_text

    asked = [(cell.metadata.get("course", {}).get("written"), cell.source) for cell in cells]
    return {id: written_text(source) for id, source in asked if id}


def gather_marks(out: Path, marks: Path | None, records: Sequence[Record]) -> Marks:
    """Return the marks in OUT/written.csv, with those of another file in their place."""
    own = out / "written.csv"
    kept = read_marks(own, records) if own.exists() else {}
    return kept if marks is None or marks.resolve() == own.resolve() else merge(kept, read_marks(marks, records))


def gather_corrections(out: Path, records: Sequence[Record]) -> Corrections:
    """Return the corrections in OUT/corrections.csv; none if there is no such file."""
    path = out / "corrections.csv"
    return read_corrections(path, records) if path.exists() else {}


def state(everyone: Sequence[Entry]) -> State:
    """Return the grader's own points and the status of each programmed exercise."""
    return {
        entry.key: {id: (result.points, result.status) for id, result in entry.record.exercises.items()}
        for entry in everyone
    }


def published(out: Path) -> State:
    """Return the state of the last gradebook in OUT; nothing if there was none, or its file is spoilt."""
    try:
        found = json.loads((out / "published.json").read_text("utf-8"))
        return {s: {id: (points, status) for id, (points, status) in own.items()} for s, own in found.items()}
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return {}


def files_of(out: Path, everyone: Sequence[Entry], absent: Mapping[str, Student], lecture: str) -> dict[Path, str]:
    """Return path → text of the tables for spreadsheets and imports, of the pages, and last of published.json."""
    from course_tools.grading.book import pages, similarity

    pairs = similarity.similar_pairs([entry.record for entry in everyone], stubs_of(handout(lecture)))
    return {
        out / "grades.csv": grades(everyone, absent),
        out / "canvas.csv": canvas(everyone),
        out / "moodle.csv": moodle(everyone),
        out / "instructor.html": pages.instructor_page(everyone, absent, pairs),
        out / "written.html": pages.written_page(everyone),
        **{out / "feedback" / f"{entry.key}.html": pages.feedback_page(entry) for entry in everyone},
        out / "published.json": json.dumps(state(everyone), indent=1, sort_keys=True) + "\n",
    }


def publish(out: Path, students_csv: Path | None = None, marks: Path | None = None) -> list[Path]:
    """Write all tables and pages of the results in OUT; print what is still open; return the paths.

    `students_csv` is kept as OUT/students.csv and used again when none is given; `marks` are points of written answers,
    those in OUT/written.csv are read anyway, and so are the grades corrected by hand in OUT/corrections.csv. Raises
    ``ValueError`` or ``FileNotFoundError`` before anything is written.
    """
    records = read_all(out)
    lectures = sorted({record.lecture for record in records})
    require(len(lectures) == 1, f"{out} has results of {', '.join(lectures)}: give each lecture a folder of its own")
    placeholders = placeholders_of(handout(lectures[0]))
    records = [without_placeholders(record, placeholders) for record in records]
    given = students_csv or (out / "students.csv" if (out / "students.csv").exists() else None)
    students = read_students(given) if given else {}
    found, absent = gather_marks(out, marks, records), absent_of(students, records)
    everyone = entries(records, students, found, gather_corrections(out, records))
    files = {out / "written.csv": table(records, found)}
    if students_csv and students_csv.resolve() != (out / "students.csv").resolve():
        files[out / "students.csv"] = students_csv.read_text("utf-8-sig")
    files |= files_of(out, everyone, absent, lectures[0])
    for path, text in files.items():
        write_text(path, well_formed(text))
    for line in notices(everyone, absent, bool(students)):
        print(line)
    return list(files)

"""What the gradebook knows of each student: tables, pages and concerns are made from these."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from course_tools.grading.book.corrections import Correction, Corrections
from course_tools.grading.book.late import Lateness, Policy, lateness_of
from course_tools.grading.book.records import Record, worth_of
from course_tools.grading.book.tables import counted
from course_tools.grading.book.wording import flagged
from course_tools.grading.book.written import Mark, Marks, Open, not_found, points_of
from course_tools.grading.hand_in.roster import TABLE, Student, find_student
from course_tools.grading.hand_in.submission import BY_NAME
from course_utils.errors import listed

State = dict[str, dict[str, tuple[float | None, str]]]  # student → exercise → points, status
EVERYWHERE = "all exercises"


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
    late: Lateness = field(default_factory=Lateness)

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
    def earned(self) -> float:
        """The points so far, of all that is not open."""
        return float(sum(points or 0.0 for points in self.points.values()))

    @property
    def total(self) -> float | None:
        """The points of all exercises, less what lateness costs; None while something is open."""
        whole = self.sum(self.worth)
        return None if whole is None else max(0.0, whole - self.late.points)

    @property
    def open(self) -> list[Open]:
        """Why there is no total yet, one reason for each exercise that has no points."""
        return [self.reason(id) for id in self.worth if self.points.get(id) is None]

    def reason(self, id: str) -> Open:
        """Return why an exercise has no points yet."""
        if id in self.record.exercises and self.record.outdated(id):
            return Open(f"{id} is of an earlier version of the submission", "grade again")
        if id in self.record.exercises:
            return Open(f"{id} has to be graded again (infrastructure)")
        if id not in self.record.written:
            return Open(f"{id} has no result")
        if id in self.marks and self.marks[id].conflict:
            return Open(f"{id} has two marks", self.marks[id].conflict)
        if id in self.marks and self.marks[id].changed:
            return Open(f"{id} changed after it was marked")
        return not_found(id) if self.lost(id) else Open(f"{id} is not marked yet")

    def lost(self, id: str) -> bool:
        """Tell whether a written answer's cell was not found, and nobody has given points for it yet."""
        answer = self.record.written.get(id)
        return answer is not None and answer.text is None and self.points.get(id) is None


def entries(
    records: Sequence[Record],
    students: Mapping[str, Student],
    marks: Marks,
    corrections: Corrections | None = None,
    policy: Policy | None = None,
) -> list[Entry]:
    """Return the class, one entry a result; corrected points stand in place of the result's.

    Raises ``ValueError`` for a time or an extension in students.csv that can't be read.
    """
    tasks, questions = worth_of(r.exercises for r in records), worth_of(r.written for r in records)
    keys = [record.student for record in records]
    known = {find_student(key, keys): student for key, student in students.items()}
    possible = float(sum({**tasks, **questions}.values()))
    everyone = []
    for record in records:
        points = {id: None if record.outdated(id) else result.points for id, result in record.exercises.items()}
        points |= {id: points_of(record, id, marks) for id in record.written}
        own = {id: marks[record.student, id] for id in record.written if (record.student, id) in marks}
        corrected = {id: made for (student, id), made in (corrections or {}).items() if student == record.student}
        points |= {id: made.points for id, made in corrected.items()}
        student = known.get(record.student, Student())
        late = lateness_of(student, policy, possible, f"{TABLE}, {record.student}")
        everyone.append(Entry(record, student, tasks, questions, points, own, corrected, late))
    return everyone


def absent_of(students: Mapping[str, Student], records: Sequence[Record]) -> dict[str, Student]:
    """Return the students that students.csv names and that have no result."""
    keys = [record.student for record in records]
    return {key: student for key, student in students.items() if find_student(key, keys) is None}


def together(noticed: Iterable[tuple[str, str]], everything: Iterable[str]) -> list[str]:
    """Return (exercise, text) as "1.1, 1.3: text", each text once; "all exercises" where all of several have it."""
    found: dict[str, dict[str, None]] = {}
    for id, text in noticed:
        found.setdefault(text, {})[id] = None
    every = set(everything)
    everywhere = {text for text, ids in found.items() if len(every) > 1 and set(ids) == every}
    return [f"{EVERYWHERE if text in everywhere else ', '.join(ids)}: {text}" for text, ids in found.items()]


def flags_of(record: Record) -> list[str]:
    """Return what was noticed of a submission's answers, with the exercises' numbers before it."""
    lines = together(((id, flagged(flag)) for id, r in record.exercises.items() for flag in r.flags), record.exercises)
    return [f"{line} (metadata missing)" if line == f"{EVERYWHERE}: {flagged(BY_NAME)}" else line for line in lines]


def mixed_seeds(everyone: Sequence[Entry]) -> list[str]:
    """Return a line that says so if results were made with inputs of several seeds."""
    seeds = sorted({entry.record.seed for entry in everyone})
    several = "two" if len(seeds) == 2 else str(len(seeds))
    line = f"results of {several} seeds, {listed([str(seed) for seed in seeds])}: run `course grade` again"
    return [line] if len(seeds) > 1 else []


def mixed_worth(everyone: Sequence[Entry]) -> list[str]:
    """Return a line for each exercise that is worth other points in some results than in others."""
    lines = []
    for id in everyone[0].worth:
        parts = [{**entry.record.exercises, **entry.record.written}.get(id) for entry in everyone]
        worth = Counter(part.possible for part in parts if part is not None)
        each = ", ".join(f"{counted(points, 'point')} in {counted(n, 'result')}" for points, n in worth.most_common())
        lines += [f"{id} is worth {each}: old and new mix, run `course grade` again for all"] if len(worth) > 1 else []
    return lines


def mixed_courses(everyone: Sequence[Entry]) -> list[str]:
    """Return a line if results were made by several versions of the course, so that old and new cases may mix."""
    made: dict[str, set[str]] = {}
    for entry in everyone:
        for result in entry.record.exercises.values():
            made.setdefault(result.course, set()).add(entry.key)
    made.pop("", None)
    fewest = min(made.values(), key=len, default=set())
    line = f"results of {len(made)} versions of the course or its packages, one for {listed(sorted(fewest))}"
    return [f"{line}: old and new mix, run `course grade` again for all"] if len(made) > 1 else []


def mixed(everyone: Sequence[Entry]) -> list[str]:
    """Return what says that not all were graded alike: other inputs, other points, another version of the course."""
    return [*mixed_seeds(everyone), *mixed_worth(everyone), *mixed_courses(everyone)]


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

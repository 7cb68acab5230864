"""Why a person should look at a submission before its grade goes out, and the list of it: short enough to be read.

A concern's reason is the same for all whom it is about, so that the list has one group for each reason: those first by
which the most points may be lost to their students, then those by which points may not be theirs. A group of very many
is one folded line. What is left, answers of the student's own that earned nothing, stands last, folded: so nobody has 0
points without a line.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from course_tools.grading.book.entries import EVERYWHERE, Entry
from course_tools.grading.book.records import STOPPED, Error, Result
from course_tools.grading.book.tables import counted
from course_tools.grading.book.wording import flagged, in_general, met_errors, unknown_name
from course_tools.grading.book.written import not_found
from course_tools.grading.hand_in.roster import BESIDE, Student
from course_tools.grading.hand_in.submission import BY_NAME, Flag

UNTOUCHED = ("not attempted", "missing")
MANY = 12  # rows of a group that are still read; more are folded
NOTHING = "the student's own code, and no points"
LACKING = re.compile(  # of an exception's type or text: what a student's machine may have had and ours has not
    r"Import|ModuleNotFound|UsageError|magic function|FileNotFound|No such file|Permission|Read-only|No space left"
    r"|Connection|URLError|HTTPError|gaierror|CalledProcess|TclError|[Bb]ackend|\bdisplay\b|DISPLAY|CUDA|cuda|NVIDIA"
    r"|\bM[Pp][Ss]\b|mps|Triton|[Cc]ompiler|Inductor|dynamo|module '[\w.]+' has no attribute"
)
MERE = ("by name", "course's own", "ran after")  # kinds of flags by which no student loses points
EXPLAINING = ("skipped", "more skipped", "lent", "own module")  # kinds that stand beside an error, if there is one
NO_PYTHON = ("SyntaxError", "IndentationError", "TabError")


@dataclass(frozen=True)
class Concern:
    """A reason to look, in general and of this student; of which exercises, and how many points are at stake.

    `lost` are points that the student may be owed, `held` points that may not be the student's.
    """

    reason: str
    detail: str = ""
    where: str = ""
    lost: float = 0.0
    held: float = 0.0
    quiet: bool = False  # only in the last, folded line

    def __str__(self) -> str:
        return f"{self.where}: {self.detail or self.reason}" if self.where else self.detail or self.reason


@dataclass(frozen=True)
class Row:
    """One student in a group: who, why, what is at stake; `key` of the page, if there is one."""

    label: str
    why: str
    stake: float
    file: str = ""
    isolation: str = ""
    key: str = ""


@dataclass(frozen=True)
class Group:
    """All whom one reason is about, those with the most points at stake first."""

    reason: str
    rows: Sequence[Row]
    lost: float
    held: float
    quiet: bool = False

    @property
    def folded(self) -> bool:
        return self.quiet or len(self.rows) > MANY

    @property
    def stake(self) -> str:
        """How many points are at stake, and how."""
        words = [f"{counted(self.lost, 'point')} may be missing"] if self.lost else []
        words += [f"{counted(self.held, 'point')} depend{'s' if self.held == 1 else ''} on it"] if self.held else []
        return "; ".join(words)


def lacking(error: Error) -> bool:
    """Tell whether an exception may be of what is installed, or of what the sandbox keeps out."""
    return bool(LACKING.search(error.type) or LACKING.search(error.text))


def trouble(result: Result) -> tuple[str, str]:
    """Return what may be no fault of the idea, in general and in particular; nothing of an answer that is right."""
    if result.status in STOPPED:
        return result.status, ""
    if result.status in ("correct", "not attempted", "infrastructure"):
        return "", ""
    if result.status == "missing":
        return "no cell with the exercise was found", ""
    if result.cause == "undefined":
        return "no function of the exercise's name is defined", ""
    if unknown := unknown_name(result):
        return "a name that nothing defined", unknown
    if error := next(filter(lacking, met_errors(result)), None):
        return "something that is not there where it is graded", in_a_line(error)
    if result.error is not None and result.error.type in NO_PYTHON:
        return "the cell is not Python", in_a_line(result.error)
    if result.cause in ("raised", "silent"):
        what = in_a_line(result.error) if result.error else "nothing came back"
        return "the cell itself stopped", f"the cell itself stopped: {what}"
    return (NOTHING, "") if not result.points and result.source.strip() else ("", "")


def in_a_line(error: Error) -> str:
    """Return an exception in one short line."""
    return " ".join(f"{error.type}: {error.text}".split())[:200]


def lateness(entry: Entry) -> Iterator[Concern]:
    """Yield that a submission came late, or that nobody knows when it came."""
    said = entry.student.late.lower()
    if entry.late.doubt:
        yield Concern(entry.late.doubt, held=entry.earned)
    elif not entry.late.known and said not in ("", "no", "false", "0"):
        yield Concern("late", "late" if said in ("yes", "true", "1") else f"late: {entry.student.late}")


def whole(entry: Entry) -> Iterator[Concern]:
    """Yield what is to be said of the whole submission: its file, its written answers."""
    record, results = entry.record, entry.record.exercises.values()
    if record.gone:
        yield Concern("the submission is no longer there: this is the grade of an earlier run", held=entry.earned)
    if record.problem:
        yield Concern("the file can't be read", record.problem, lost=entry.possible - entry.earned)
    elif results and all(result.status in UNTOUCHED for result in results):
        why = "nothing attempted: perhaps it was not saved before it was handed in"
        yield Concern(why, lost=entry.possible - entry.earned)
    if said := entry.student.more.get("problem", ""):
        yield Concern("not all that was handed in was graded", said, lost=entry.possible - entry.earned)
    looked = {*entry.marks, *entry.corrections}
    owed = sum(entry.worth[id] for id, points in entry.points.items() if points == 0 and id not in looked)
    if (files := entry.student.more.get(BESIDE, "") or ", ".join(record.beside)) and owed:
        yield Concern("files of other kinds came beside the notebook", files, lost=owed)
    if not record.problem:
        for id in filter(entry.lost, entry.questions):
            yield Concern("no cell of a written answer was found", str(not_found(id)), lost=entry.questions[id])
    if changed := [id for id, mark in entry.marks.items() if mark.changed and not mark.conflict]:
        stake = sum(entry.questions.get(id, 0.0) for id in changed)
        yield Concern("changed after it was marked", f"{', '.join(changed)} changed after it was marked", lost=stake)
    for id, mark in entry.marks.items():
        if mark.conflict:
            yield Concern("two marks", mark.conflict, id, lost=entry.questions.get(id, 0.0))
    if broken := [id for id in entry.tasks if entry.points.get(id) is None]:
        text = f"no points for {', '.join(broken)}: run `course grade … --rerun failed`"
        yield Concern("no points yet: the machinery failed", text, lost=sum(entry.tasks[id] for id in broken))


def by_exercise(entry: Entry) -> Iterator[Concern]:
    """Yield what was noticed of single answers, each text once with its exercises; not where a person looked."""
    all_untouched = all(result.status in UNTOUCHED for result in entry.record.exercises.values())
    found: dict[tuple[str, str], list[str]] = {}
    flags: dict[Flag, list[str]] = {}
    for id, result in entry.record.exercises.items():
        reason, detail = trouble(result) if id not in entry.corrections else ("", "")
        said = list(dict.fromkeys(result.flags))
        if reason not in ("", NOTHING) and (explained := [flag for flag in said if flag.kind in EXPLAINING]):
            said = [flag for flag in said if flag not in explained]
            detail = "; ".join([detail or reason, *map(flagged, explained)])
        if reason and not (result.status == "missing" and all_untouched):
            found.setdefault((reason, detail), []).append(id)
        for flag in said:
            flags.setdefault(flag, []).append(id)
    reasons = [(reason, detail, None, ids) for (reason, detail), ids in found.items()]
    reasons += [(in_general(flag), flagged(flag), flag, ids) for flag, ids in flags.items()]
    for reason, detail, flag, ids in reasons:
        everywhere = len(ids) == len(entry.record.exercises) > 1
        if everywhere and flag == BY_NAME:
            detail = f"{detail} (metadata missing)"
        lost = sum(entry.tasks[id] - (entry.points.get(id) or 0.0) for id in ids)
        held = sum(entry.points.get(id) or 0.0 for id in ids)
        stake = (0.0, held) if flag and (held or flag.kind in MERE) else (lost, 0.0)
        where = EVERYWHERE if everywhere else ", ".join(ids)
        yield Concern(reason, detail, where, *stake, quiet=reason == NOTHING)


def noticed(entry: Entry, all_unsandboxed: bool) -> list[Concern]:
    """Return why a person should look at a submission, the quiet reasons too."""
    unsandboxed = entry.record.isolation == "unsandboxed" and not all_unsandboxed
    last = [Concern("graded unsandboxed", held=entry.earned)] if unsandboxed else []
    return [*lateness(entry), *whole(entry), *by_exercise(entry), *last]


def row_of(entry: Entry, concern: Concern) -> Row:
    """Return the row of a student in a concern's group."""
    said = str(concern) if concern.detail else concern.where
    return Row(entry.label, said, concern.lost or concern.held, entry.record.file, entry.record.isolation, entry.key)


def absent_rows(absent: Mapping[str, Student], possible: float) -> Iterator[tuple[Concern, Row]]:
    """Yield the students of students.csv who have no result, and why, if it is known."""
    for key, student in absent.items():
        why = student.more.get("problem", "")
        owed = possible if student.file or why else 0.0
        reason = "named in students.csv, but not graded" if owed else "nothing was handed in"
        label = f"{student.name} ({key})" if student.name and student.name != key else key
        yield Concern(reason, lost=owed), Row(label, why, owed, student.file)


def groups(everyone: Sequence[Entry], absent: Mapping[str, Student], all_unsandboxed: bool) -> list[Group]:
    """Return the list of what needs an eye, by reason: the most points at stake first, the quiet ones last."""
    pairs: Iterable[tuple[Concern, Row]] = [
        *((c, row_of(entry, c)) for entry in everyone for c in noticed(entry, all_unsandboxed)),
        *absent_rows(absent, everyone[0].possible),
    ]
    found: dict[str, list[tuple[Concern, Row]]] = {}
    for concern, row in pairs:
        found.setdefault(concern.reason, []).append((concern, row))
    made = []
    for reason, members in found.items():
        rows = sorted((row for _, row in members), key=lambda row: (-row.stake, row.label))
        lost, held = (sum(getattr(concern, what) for concern, _ in members) for what in ("lost", "held"))
        made.append(Group(reason, rows, lost, held, members[0][0].quiet))
    return sorted(made, key=lambda group: (group.quiet, -group.lost, -group.held, group.reason))

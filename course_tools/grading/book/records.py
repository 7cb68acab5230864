"""What is known of a graded submission, and its file: ``results/STUDENT.json``, written beside and then renamed."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from course_tools.grading.hand_in.submission import Flag
from course_tools.grading.spreadsheets import numeric
from course_utils.errors import require
from course_utils.files import atomically

STATUSES = (  # each apart from the others; only the first two earn points, and a stopped run for the calls before
    "correct",
    "partial",
    "wrong",
    "error",
    "timeout",
    "memory",
    "kernel died",
    "not attempted",
    "missing",
    "infrastructure",
)
STOPPED = ("timeout", "memory", "kernel died")  # `--rerun failed` runs these again; infrastructure, every run
FORM = 4  # of the files; those of another form are refused, never half understood


@dataclass
class Error:
    """An exception that an answer raised: its type, its text, the answer's line; of a ``NameError`` the name."""

    type: str
    text: str = ""
    line: str = ""
    name: str = ""


@dataclass
class Call:
    """One call of a student's function: what it looked at, the arguments, both values, what to do.

    `got` is None where the function raised `error` or, without one, was not called.
    """

    label: str
    called: str
    got: str | None
    expected: str
    passed: bool
    advice: str = ""
    error: Error | None = None


@dataclass
class Result:
    """What came of one exercise. `points` is None, never 0, where the infrastructure failed."""

    status: str
    points: float | None
    possible: float
    source: str = ""  # the code that was graded
    cause: str = ""  # why there are no calls, or why they stopped: a key of wording.CAUSES
    detail: str = ""  # of the cause: what is wrong with the file, at what the run was stopped
    error: Error | None = None  # that the answer's cell raised
    names: list[str] = field(default_factory=list)  # if undefined: of the function, then of what the cell defines
    flags: list[Flag] = field(default_factory=list)  # for the instructor's eye; they change no points
    calls: list[Call] = field(default_factory=list)
    hint: str = ""
    printed: str = ""  # the end of what the answer printed
    key: str = ""  # hash of all that the result depends on
    version: str = ""  # of the submission and the seed that it is of
    course: str = ""  # hash of the course's code and the packages that made it


@dataclass
class Written:
    """A written answer, to be marked by hand. `text` is None if its cell was not found."""

    text: str | None
    possible: float
    pictures: list[str] = field(default_factory=list)  # data URIs; the text says "[picture 1, …]" where they stand


@dataclass
class Record:
    """All of one submission of one lecture."""

    student: str
    lecture: str  # such as "01_kl_and_elbo"
    file: str  # the submission's name
    sha256: str
    seed: int
    isolation: str  # "bubblewrap", or "unsandboxed"
    problem: str = ""  # of the whole submission, such as a file that is no notebook
    beside: list[str] = field(default_factory=list)  # files of other kinds in the submission's folder
    gone: bool = False  # whether the submission was not there at the last run, so that this is an older grade
    exercises: dict[str, Result] = field(default_factory=dict)
    written: dict[str, Written] = field(default_factory=dict)

    @property
    def points(self) -> float:
        """The points of the programmed exercises so far; a failure of the infrastructure counts nothing yet."""
        return sum(result.points or 0.0 for result in self.exercises.values())

    def outdated(self, id: str) -> bool:
        """Tell whether an exercise's result is of an earlier version of the submission, or of another seed."""
        return self.exercises[id].version not in ("", version_of(self.sha256, self.seed))

    @property
    def complete(self) -> bool:
        """Whether no exercise is left without points by a failure of the infrastructure."""
        return all(result.points is not None for result in self.exercises.values())


def version_of(sha256: str, seed: int) -> str:
    """Return what tells one version of a submission, graded with one seed, from others."""
    return f"{sha256[:12]}-{seed}"


def worth_of(parts: Iterable[Mapping[str, Result | Written]]) -> dict[str, float]:
    """Return what each exercise is worth, by number, of all students' results or written answers."""
    worth = {id: part.possible for own in parts for id, part in own.items()}
    return {id: worth[id] for id in sorted(worth, key=numeric)}


def path_of(folder: Path, student: str) -> Path:
    """Return where a student's record lies. Raises ``ValueError`` for a name that can't be a file's."""
    safe = bool(student) and student not in (".", "..") and not re.search(r"[/\\\x00-\x1f]", student)
    require(
        safe and len(student.encode("utf-8", "replace")) <= 200,
        f"student {student!r} can't be a file's name: rename the submission",
    )
    return folder / "results" / f"{student}.json"


def write(folder: Path, record: Record) -> Path:
    """Write a record into `folder`; return its path."""
    path = path_of(folder, record.student)
    atomically(path, json.dumps({"form": FORM, **asdict(record)}, indent=1) + "\n")
    return path


def with_error(value: Mapping) -> dict:
    """Return the fields of a result or a call, its error made from what JSON has of it."""
    return {**value, "error": value["error"] and Error(**value["error"])}


def result_from_json(value: Mapping) -> Result:
    """Return a result as JSON has it."""
    calls = [Call(**with_error(call)) for call in value["calls"]]
    flags = [Flag(flag["kind"], tuple(flag["words"])) for flag in value["flags"]]
    return Result(**{**with_error(value), "calls": calls, "flags": flags})


def from_json(value: Mapping) -> Record:
    """Return the record of parsed JSON. Raises ``KeyError`` or ``TypeError`` if it is of another form."""
    exercises = {id: result_from_json(result) for id, result in value["exercises"].items()}
    written = {id: Written(**answer) for id, answer in value["written"].items()}
    return Record(**{**value, "exercises": exercises, "written": written})


def read(path: Path) -> Record:
    """Return the record in a file.

    Raises ``FileNotFoundError``, and ``ValueError`` naming a file that holds none, or one that another version wrote.
    """
    try:
        value = json.loads(path.read_text("utf-8"))
        form = value.pop("form", 1)  # which the first did not say
        record = None if form != FORM and "exercises" in value else from_json(value)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{path} is no result of `course grade`: delete it, and grade again") from None
    if record is None:
        raise ValueError(
            f"{path} is of another version of the course (form {form!r}, this one has {FORM}): read it with that "
            "version, or grade the submissions again into another --out"
        )
    return record


def read_all(folder: Path) -> list[Record]:
    """Return all records of a folder of results, by student. Raises ``FileNotFoundError`` if there is none."""
    paths = sorted((folder / "results").glob("*.json"))
    if not paths:
        raise FileNotFoundError(f"no results in {folder / 'results'}: run `course grade` first")
    return [read(path) for path in paths]

"""What a lecture asks of its students: exercises, the set-up their answers run in, inputs of a run, expected values."""

import hashlib
import re
import sys
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

import torch
from nbformat import NotebookNode

import course_tools
import course_utils
from course_tools.grading.hand_in.prose import written_text
from course_tools.grading.hand_in.release import every_exercise
from course_tools.grading.hand_in.submission import Wanted
from course_tools.grading.inside import exchange
from course_tools.grading.inside.job import Cell
from course_tools.notebook_source import MARKER_LINE, exercise_of
from course_tools.notebooks import ROOT, find_lecture, read_notebook
from course_utils.calls import fresh
from course_utils.errors import require
from course_utils.exercises.checking import Case, Exercise

PACKAGES = [Path(package.__file__).resolve().parent for package in (course_utils, course_tools)]
PARAMETERS = {"device": "cpu"}  # over the lecture's defaults


@dataclass(frozen=True)
class Assignment:
    """A lecture's exercises in the notebook's order, and all that a run of them needs."""

    lecture: str
    seed: int
    exercises: dict[str, Exercise]
    written: dict[str, float]  # id → points
    setup: list[dict]  # cells
    sections: list[str]  # the lecture's own code after it, without exercises: statements of it may be lent
    solutions: dict[str, str]  # the reference's code, for the exercises after one that failed
    wanted: Wanted
    cases: dict[str, list[Case]]
    expected: dict[str, list]
    inputs: dict[str, list]  # the cases' arguments as JSON
    code: str  # hash of the course's code and of what it runs on


def code_of(nb: NotebookNode) -> list[NotebookNode]:
    """Return the code cells before the first numbered section: the lecture's set-up."""
    found = []
    for cell in nb.cells:
        if cell.cell_type == "markdown" and re.search(r"^## +\d", cell.source, re.M):
            break
        if cell.cell_type == "code":
            found.append(cell)
    return found


def setup_cells(nb: NotebookNode) -> list[dict]:
    """Return the lecture's own set-up with its parameters."""
    cells = []
    for number, cell in enumerate(code_of(nb), 1):
        tagged = "parameters" in cell.metadata.get("tags", [])
        cells.append({"id": Cell("setup", "defaults" if tagged else str(number)).encode(), "source": cell.source})
    return cells


def code_hash(files: list[Path]) -> str:
    """Return a hash of the package's code and networks, of these files, and of all that is installed."""
    digest = hashlib.sha256()
    kinds = (".py", ".js", ".json", ".safetensors")
    for path in [*sorted(p for package in PACKAGES for p in package.rglob("*") if p.suffix in kinds), *files]:
        digest.update(path.read_bytes())
    installed = sorted({f"{found.name} {found.version}" for found in distributions()})
    digest.update(repr([sys.version, installed]).encode())
    return digest.hexdigest()


def is_written(cell: NotebookNode) -> bool:
    """Tell whether a cell is for a written answer."""
    return "written" in cell.metadata.get("course", {})


def prepare(which: str, seed: int, root: Path = ROOT) -> Assignment:
    """Return the assignment of a lecture with inputs drawn from a seed. Raises ``ValueError``."""
    lecture = find_lecture(which, root)
    student, twin = read_notebook(lecture.student), read_notebook(lecture.twin)
    if student is None or twin is None:
        raise FileNotFoundError(f"the notebooks of {lecture.name} are not there: make notebooks")
    ids = [exercise_of(cell) for cell in student.cells if exercise_of(cell)]
    known = every_exercise()
    require(ids and not set(ids) - set(known), f"{lecture.name}: exercises {ids}, but the package knows {list(known)}")
    exercises = {id: known[id] for id in ids}
    courses = [cell.metadata.course for cell in student.cells if is_written(cell)]
    code = [cell for cell in student.cells if cell.cell_type == "code"]
    cases = {id: e.cases(torch.Generator().manual_seed(seed)) for id, e in exercises.items()}
    return Assignment(
        lecture=lecture.name,
        seed=seed,
        exercises=exercises,
        written={course["written"]: float(course["points"]) for course in courses},
        setup=setup_cells(student),
        sections=[c.source for c in code[len(code_of(student)) :] if not exercise_of(c) and not is_written(c)],
        solutions={exercise_of(c): MARKER_LINE.sub("", c.source) for c in twin.cells if exercise_of(c)},
        wanted=Wanted(
            exercises=tuple(exercises.values()),
            written={c.metadata.course["written"]: written_text(c.source) for c in student.cells if is_written(c)},
            given=frozenset(cell.source.strip() for cell in student.cells),
        ),
        cases=cases,
        expected={id: [e.reference(*fresh(case.args)) for case in cases[id]] for id, e in exercises.items()},
        inputs={id: [exchange.encode(case.args) for case in cases[id]] for id in ids},
        code=code_hash([lecture.student, lecture.twin]),
    )

"""Answers to compare a class with: the course's own solutions and functions, an earlier class."""

import inspect
import json
import textwrap
from functools import lru_cache
from pathlib import Path

from nbformat import NotebookNode

from course_tools.grading.hand_in.opening import read_cells
from course_tools.grading.hand_in.release import every_exercise
from course_tools.notebook_source import MARKER_LINE, exercise_of
from course_tools.notebooks import find_lecture, read_notebook
from course_utils.errors import require
from course_utils.guard import own_functions

OURS = "the course's own"  # what the names of solutions and functions begin with
SOLUTION = f"{OURS} solution"

Beside = dict[str, dict[str, str]]  # name → exercise → source


@lru_cache(maxsize=4)  # a notebook is large
def cells_in(lecture: str, which: str = "student") -> list[NotebookNode]:
    """Return the cells of a lecture's notebook, "student" or "twin", solved; none if it is not in this course."""
    try:
        nb = read_notebook(getattr(find_lecture(lecture), which))
    except (ValueError, FileNotFoundError):
        return []
    return nb.cells if nb else []


def solutions(lecture: str) -> Beside:
    """Return the solutions of a lecture; none if it is not in this course."""
    cells = cells_in(lecture, "twin")
    return {SOLUTION: {exercise_of(cell): MARKER_LINE.sub("", cell.source) for cell in cells if exercise_of(cell)}}


def functions(lecture: str) -> Beside:
    """Return the course's functions that do what the exercises of a lecture ask for, which can be typed again."""
    found: Beside = {}
    known = every_exercise()
    for id in solutions(lecture)[SOLUTION]:
        for name, function in own_functions(known[id].own, {}).items():
            found.setdefault(f"{OURS} {name}", {})[id] = textwrap.dedent(inspect.getsource(function))
    return found


def from_results(folder: Path) -> Beside:
    """Return the answers in a folder of grades, of whatever version of the course. Raises ``ValueError``."""
    found: Beside = {}
    for path in sorted((folder / "results").glob("*.json")):
        try:
            record = json.loads(path.read_text("utf-8"))
            found[path.stem] = {id: str(result["source"]) for id, result in record["exercises"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(f"--beside {folder}: {path.name} is no result of `course grade`") from None
    return found


def from_notebooks(folder: Path) -> Beside:
    """Return the answers in a folder of submissions, from cells with an exercise's number; broken files are left."""
    found: Beside = {}
    for path in sorted([*folder.glob("*.ipynb"), *folder.glob("*/*.ipynb")]):
        student = path.stem if path.parent == folder else path.parent.name
        own = found.setdefault(student, {})
        try:
            tagged = [(exercise_of(cell), cell.source) for cell in read_cells(path)]
        except ValueError:  # a broken file of an earlier class is not this class's matter
            continue
        for id, source in tagged:
            if id:
                own[id] = f"{own[id]}\n{source}" if id in own else source
    return found


def answers_in(folder: Path) -> Beside:
    """Return the answers of an earlier class, from its folder of grades or of submissions.

    Raises ``FileNotFoundError`` or ``ValueError`` if there is none.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"--beside {folder} is no folder: give an earlier class's grades or submissions")
    found = from_results(folder) or from_notebooks(folder)
    require(any(found.values()), f"--beside {folder} holds no answers: give an earlier class's grades or submissions")
    return {f"{student} in {folder}": own for student, own in found.items()}

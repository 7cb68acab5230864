"""What is handed out: the student's notebook of a lecture, checked, copied into a folder."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from nbformat import NotebookNode

from course_tools.grading.spreadsheets import numeric
from course_tools.notebook_source import BEGIN, END, exercise_of
from course_tools.notebooks import ROOT, Lecture, all_lectures, assemble, dumps, find_lecture, publication
from course_utils import exercises as exercises_package
from course_utils.errors import require
from course_utils.exercises.checking import Exercise
from course_utils.files import atomically

MODULES = [f"course_utils.exercises.{m.name}" for m in iter_modules(exercises_package.__path__) if m.name != "checking"]


def every_exercise() -> dict[str, Exercise]:
    """Return the exercises of all lectures."""
    return {id: exercise for name in MODULES for id, exercise in import_module(name).EXERCISES.items()}


def registered(lecture: Lecture) -> dict[str, Exercise]:
    """Return the exercises of a lecture that the package can grade, by number: "2.1" is one of lecture 02."""
    number = int(lecture.name.split("_")[0])
    return {id: e for id, e in every_exercise().items() if int(id.split(".")[0]) == number}


def current(lecture: Lecture) -> tuple[NotebookNode, str]:
    """Return the student's notebook and its text. Raises ``ValueError`` unless the file is what the source makes."""
    _, made = assemble(lecture, *publication(lecture.root))
    nb, kept = made[lecture.student]
    text = dumps(nb)
    fresh = kept and lecture.student.exists() and lecture.student.read_bytes() == text.encode()
    file, source = lecture.student.relative_to(lecture.root), lecture.source.relative_to(lecture.root)
    require(fresh, f"{file} is not what {source} makes (missing, stale, or edited by hand): make notebooks")
    return nb, text


def fault(nb: NotebookNode, wanted: Mapping[str, Exercise]) -> str | None:
    """Return why a notebook must not be handed out, or None: a solution in it, or exercises that can't be graded."""
    for cell in nb.cells:
        if BEGIN in cell.source or END in cell.source or "solution" in cell.metadata.get("tags", []):
            return f"cell {cell.id} holds a solution"
    cells = {exercise_of(cell): cell.source for cell in nb.cells if exercise_of(cell)}
    if odd := sorted(cells.keys() ^ wanted.keys(), key=numeric):
        return f"exercise {odd[0]} is not in {'course_utils.exercises' if odd[0] in cells else 'the notebook'}"
    for id, source in cells.items():
        if f'raise NotImplementedError("Exercise {id}")' not in source:
            return f"exercise {id} is not open"
        if f"def {wanted[id].function}(" not in source:
            return f"the cell of exercise {id} does not define {wanted[id].function}"
    return None


def prepare(lecture: Lecture, out: Path) -> tuple[Path, str]:
    """Return where a lecture's notebook goes and its text, writing nothing. Raises ``ValueError`` if it must not go."""
    nb, text = current(lecture)
    problem = fault(nb, registered(lecture))
    require(problem is None, f"{lecture.name} is not ready to hand out: {problem}")
    path = out / lecture.student.name
    try:
        same = not path.exists() or path.read_bytes() == text.encode()
    except OSError as error:
        raise ValueError(f"{path} can't be read ({error.strerror}): give another --out") from None
    require(same, f"{path} exists and differs, perhaps edited: move it away, or give another --out")
    return path, text


def hand_out(lectures: list[Lecture], out: Path) -> list[Path]:
    """Write the notebooks, all checked before the first is written; a file that is the same already is left alone."""
    out = Path(out)
    require(not out.exists() or out.is_dir(), f"{out} is a file: give a folder as --out")
    prepared = [prepare(lecture, out) for lecture in lectures]
    try:
        for path, text in prepared:
            if not path.exists():
                atomically(path, text)
    except OSError as error:
        raise ValueError(f"{out} can't be written ({error.strerror}): mend that, or give another --out") from None
    return [path for path, _ in prepared]


def release(which: str, out: Path, root: Path = ROOT) -> Path:
    """Copy a lecture's student notebook, outputs and metadata as committed, into `out`; return its path.

    Raises ``ValueError`` for an unknown lecture, a notebook that is not what its source makes or not fit to hand out,
    a different file in its place, or a folder that can't be written.
    """
    return hand_out([find_lecture(which, root)], out)[0]


def release_all(out: Path, root: Path = ROOT) -> list[Path]:
    """Copy the student notebooks of all lectures into `out`, or none; return their paths. Raises as ``release``."""
    return hand_out(all_lectures(root), out)

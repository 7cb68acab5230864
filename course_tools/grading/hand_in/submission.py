"""What a submission holds: the student's exercise cells and written answers. Nothing of it is run here."""

import io
import re
import tokenize
from dataclasses import dataclass, field
from pathlib import Path

from nbformat import NotebookNode

from course_tools.grading.hand_in.grammar import Binding, binding, imported, is_begun, resembling, with_checked
from course_tools.grading.hand_in.opening import READABLE, digest_of, read_cells
from course_tools.grading.hand_in.prose import read_answers
from course_tools.notebook_source import exercise_of
from course_utils.exercises.checking import Exercise

LONGEST = 200_000  # characters of an answer
FENCED = re.compile(r"^[ \t]*```[ \t]*(?:python|py|ipython3)?[ \t]*\n(.*?)^[ \t]*```", re.M | re.S | re.I)
MAGIC = re.compile(r"\A\s*%%(?:time|capture)\b.*\n")  # can stand only at the head of a cell


@dataclass(frozen=True)
class Flag:
    """What is noticed of an answer, for the instructor's eye: a key of ``wording.FLAGS``, and the words in its text."""

    kind: str
    words: tuple[str, ...] = ()


BY_NAME = Flag("by name")  # not by the exercise's number in the cell's metadata
NO_CODE = Flag("no code")
STILL_OPEN = Flag("still open")


@dataclass(frozen=True)
class Wanted:
    """What to look for: exercises, written id → placeholder, cells handed out."""

    exercises: tuple[Exercise, ...]
    written: dict[str, str]
    given: frozenset[str]  # their sources


@dataclass
class Submission:
    """The answers of one file: id → source of the code, id → words. `problem` says why a file could not be read.

    `others` are the student's own code cells besides; `beside` names files of other kinds that may hold answers.
    """

    file: str
    sha256: str
    answers: dict[str, str] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)
    pictures: dict[str, list[str]] = field(default_factory=dict)  # in these words, as data URIs
    flags: dict[str, list[Flag]] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)
    problem: str = ""


def is_of(cell: NotebookNode, exercise: Exercise) -> bool:
    """Tell whether a cell is the exercise's own, by the number in its metadata, else by its id."""
    number = exercise_of(cell)
    return number == exercise.id or (number is None and cell.get("id") == f"exercise-{exercise.id.replace('.', '-')}")


def code_in(cell: NotebookNode) -> str:
    """Return the code of a cell; of a cell of text, what stands between fences, else all."""
    if cell.cell_type == "code":
        return cell.source
    return "\n\n".join(FENCED.findall(cell.source)) or cell.source


@dataclass(frozen=True)
class Candidate:
    """A cell that may be the answer to an exercise, or a part of it."""

    place: int  # in the notebook
    source: str
    own: bool  # the exercise's own cell
    binding: Binding


def candidates(exercise: Exercise, cells: list[NotebookNode], given: frozenset[str]) -> list[Candidate]:
    """Return the exercise's own cells, and the student's that bind its function."""
    found = []
    for place, cell in enumerate(cells):
        own, source = is_of(cell, exercise), with_checked(code_in(cell), exercise.function, exercise.id)
        if own or cell.source.strip() not in given:
            bound = binding(source, exercise.function, exercise.id)
            if own or bound > Binding.DATA:
                found.append(Candidate(place, source, own, bound))
    return found


def best(found: list[Candidate]) -> Candidate | None:
    """Return the last of the candidates that bind the function best; of open ones, the exercise's own."""
    most = max((c.binding for c in found), default=Binding.NONE)
    same = [c for c in found if c.binding == most]
    own = [c for c in same if c.own]
    return (own if own and most <= Binding.OPEN else same)[-1] if most else None


def joined(chosen: Candidate, found: list[Candidate], function: str) -> str:
    """Return an answer in the notebook's order: the chosen cell, and the exercise's other cells that are parts of it.

    A part above that uses the function, such as a check, comes after it.
    """
    parts = [c for c in found if c is not chosen and c.own and not c.binding and c.source.strip()]
    above = [c for c in parts if c.place < chosen.place and function not in tokens_of(c.source)]
    order = [*above, chosen, *(c for c in parts if c not in above)]
    return "\n\n".join([order[0].source, *(MAGIC.sub("", c.source) for c in order[1:])])


def flags_of(chosen: Candidate, found: list[Candidate], exercise: Exercise, given: frozenset[str]) -> list[Flag]:
    """Return what the instructor should know of how an answer was found."""
    several = [c for c in found if c.binding > Binding.OPEN or (c.binding and c.own and chosen.own)]
    flags = [] if chosen.own else [BY_NAME]
    if len(several) > 1:
        flags.append(Flag("several cells", (str(len(several)), exercise.function)))
    if chosen.binding == Binding.OPEN and is_begun(chosen.source, exercise.function):
        stubs = [tokens_of(source) for source in given if exercise.function in source]
        flags += [STILL_OPEN] if stubs and tokens_of(chosen.source) not in stubs else []
    return flags


def meant_for(exercise: Exercise, cells: list[NotebookNode]) -> list[Flag]:
    """Return the flag that other functions of the student's may be meant as the answer to an open exercise, if so."""
    sources = [cell.source for cell in cells if exercise_of(cell) is None]
    found = [name for source in sources for name in resembling(source, exercise.function, exercise.names)]
    return [Flag("meant for it", (found[-1],))] if found else []


def answer_to(
    exercise: Exercise, cells: list[NotebookNode], given: frozenset[str] = frozenset()
) -> tuple[str | None, list[Flag]]:
    """Return the source that answers an exercise, None if there is none, and what the instructor should know of it.

    The answer is the last cell that defines the function whole: a function goes before another binding, and that
    before the open exercise. Cells of text count where no cell of code does.
    """
    code = [cell for cell in cells if cell.cell_type == "code"]
    found = candidates(exercise, code, given)
    chosen, flags = best(found), []
    if chosen is None or chosen.binding <= Binding.OPEN:
        text = candidates(exercise, [cell for cell in cells if cell.cell_type != "code"], given)
        other = best(text) or next((c for c in text if c.own and c.source.strip() and not found), None)
        if other is not None and (chosen is None or other.binding > chosen.binding):
            chosen, found, flags = other, text, [NO_CODE]
    if chosen is not None and chosen.binding == Binding.OPEN:
        flags += meant_for(exercise, [c for c in code if c.source.strip() not in given])
    if chosen is not None:
        return joined(chosen, found, exercise.function), flags_of(chosen, found, exercise, given) + flags
    parts = [c.source for c in found if c.source.strip()]  # of another name, or emptied: its error will say so
    return ("\n\n".join(parts) if parts else None), []


def tokens_of(source: str) -> list[str]:
    """Return the names, numbers and operators of code, without comments and strings; as far as it can be read."""
    found = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type in (tokenize.NAME, tokenize.NUMBER, tokenize.OP):
                found.append(token.string)
    except (tokenize.TokenError, SyntaxError, ValueError):  # up to where it breaks off
        pass
    return found


def beside(path: Path) -> tuple[set[str], list[str]]:
    """Return what else the student has beside a notebook: names of modules, and of files to be read, such as a scan.

    In a folder of the whole class no module is one student's, and of the files those of the notebook's own name are.
    """
    there = list(path.parent.iterdir())
    alone = sum(file.match("*.ipynb") for file in there) == 1
    modules = {file.stem for file in there if file.match("*.py")} if alone else set()
    mine = [file.name for file in there if file != path and (alone or file.name.startswith(f"{path.stem}."))]
    return modules, sorted(name for name in mine if name.lower().endswith(READABLE) and not name.startswith("."))


def names_from(modules: set[str], cells: list[NotebookNode]) -> dict[str, str]:
    """Return the names that a student's cells import from modules of the student's own, each with its module."""
    sources = [cell.source for cell in cells if cell.cell_type == "code"] if modules else []
    return {name: module for source in sources for name, module in imported(source).items() if module in modules}


def read_submission(path: Path, wanted: Wanted) -> Submission:
    """Return what a file holds of what is wanted. Of a file that can't be read, the problem."""
    modules, files = beside(path)
    submission = Submission(path.name, digest_of(path), beside=files)
    try:
        cells = read_cells(path)
    except ValueError as error:
        submission.problem = str(error)
        return submission
    names = names_from(modules, cells)
    for exercise in wanted.exercises:
        source, flags = answer_to(exercise, cells, wanted.given)
        if source is not None and len(source) > LONGEST:
            source, flags = None, [Flag("too long", (str(LONGEST),))]
        if source is not None:
            submission.answers[exercise.id] = source
            flags += [
                Flag("own module", (name,))
                for name in sorted({names[used] for used in names.keys() & {*tokens_of(source), *imported(source)}})
            ]
        submission.flags[exercise.id] = flags
    for id, answer in read_answers(wanted.written, wanted.given, cells):
        submission.written[id], submission.pictures[id] = answer.text, answer.pictures
    own = [c for c in cells if c.cell_type == "code" and c.source.strip() not in wanted.given]
    graded = [c for c in own if isinstance(exercise_of(c), str)]
    graded = [c for c in graded if c.source in submission.answers.get(exercise_of(c), "")]
    submission.others = [c.source for c in own if c not in graded and len(c.source) <= LONGEST]
    return submission

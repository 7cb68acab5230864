"""What a submission holds: the student's exercise cells and written answers. It is read as text; nothing is run here.

The file comes from a stranger. It is parsed as JSON, brought to notebook format 4 and searched with regular
expressions; Python's own parser, which a hostile text can crash, is left to the sandbox.
"""

import hashlib
import io
import re
import tokenize
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from course_tools.notebook_source import exercise_of
from course_utils.exercises.checking import Exercise

LARGEST = 64 * 2**20  # bytes of a file
NESTED = 2_000_000  # lists and objects in a file: each takes some hundred bytes of memory
LONGEST = 200_000  # characters of an answer
BY_NAME = "found by the function's name"  # not by the exercise's number in the cell's metadata
MAGIC = re.compile(r"\A\s*%%(?:time|capture)\b.*\n")  # can stand only at the head of a cell


@dataclass(frozen=True)
class Wanted:
    """What to look for: exercises, written id → placeholder, cells handed out."""

    exercises: tuple[Exercise, ...]
    written: dict[str, str]
    given: frozenset[str]  # their sources


@dataclass
class Submission:
    """The answers of one file: id → source of the code, id → text. `problem` says why a file could not be read.

    `others` are the student's own code cells besides.
    """

    file: str
    sha256: str
    answers: dict[str, str] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)
    flags: dict[str, list[str]] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    problem: str = ""


def defines(source: str, name: str) -> bool:
    """Tell whether a cell seems to define `name` at its top level, whatever else is in it; its check does not."""
    pattern = rf"^(?:(?:async[ \t]+)?def[ \t]+{name}\b|{name}[ \t]*(?::[^=\n]+)?=(?!=|[ \t]*check\())"
    return re.search(pattern, source, re.M) is not None


def is_stub(source: str, exercise: Exercise) -> bool:
    """Tell whether a cell still raises the error of an open exercise."""
    return f'raise NotImplementedError("Exercise {exercise.id}")' in source


def answer_to(exercise: Exercise, cells: list[NotebookNode]) -> tuple[str | None, list[str]]:
    """Return the source that answers an exercise, None if there is none, and what the instructor should know of it.

    The answer is the last cell that defines the function: among those with the exercise's number in their metadata,
    else among all; one without the open exercise's error is preferred, also if it stands elsewhere. Other cells with
    the number, such as the first half of a cell that was split, come before it.
    """
    tagged = [cell.source for cell in cells if exercise_of(cell) == exercise.id]
    named = [source for source in tagged if defines(source, exercise.function)]
    flags = []
    if all(is_stub(source, exercise) for source in named):
        everywhere = [cell.source for cell in cells if defines(cell.source, exercise.function)]
        elsewhere = [source for source in everywhere if not is_stub(source, exercise)]
        flags = [BY_NAME] if elsewhere or (everywhere and not named) else []
        named = elsewhere or everywhere
    if not named:  # a function of another name, or emptied: its error will say so
        return ("\n\n".join(tagged), flags) if any(source.strip() for source in tagged) else (None, flags)
    done = [source for source in named if not is_stub(source, exercise)] or named
    if len(named) > 1:
        flags.append(f"{len(named)} cells define {exercise.function}: the last was graded")
    first, *rest = [source for source in tagged if not defines(source, exercise.function)] + done[-1:]
    return "\n\n".join([first, *(MAGIC.sub("", source) for source in rest)]), flags


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


def written_text(source: str) -> str:
    """Return the text of a written answer: what stands between the quotes after ``answer =``, else the cell."""
    match = re.search(r"^answer\s*=\s*[a-zA-Z]{0,2}(\"\"\"|'''|\"|')(.*?)(?:(?<!\\)\1|\Z)", source, re.S | re.M)
    return (match[2] if match else source).strip()


def answer_in_words(id: str, wanted: Wanted, cells: list[NotebookNode]) -> str | None:
    """Return the text of a written answer, None if no cell of it was found.

    Its cells are those with its number in their metadata, else with its id, else those that set `answer`; new Markdown
    cells right below belong to it.
    """
    name = f"exercise-{id.replace('.', '-')}"
    tagged = [i for i, cell in enumerate(cells) if cell.metadata.get("course", {}).get("written") == id]
    tagged = tagged or [i for i, cell in enumerate(cells) if cell.get("id") == name]
    tagged = tagged or [i for i, cell in enumerate(cells) if re.match(r"\s*answer\s*=\s*\w{0,2}[\"']", cell.source)]
    if not tagged:
        return None
    texts = [written_text(cells[i].source) for i in tagged]
    for cell in cells[tagged[-1] + 1 :]:
        if cell.cell_type != "markdown" or cell.source.strip() in wanted.given:
            break
        texts.append(cell.source.strip())
    own = [text for text in texts if text and text != wanted.written[id]]
    return "\n\n".join(own or texts[:1])[:LONGEST]


def load(content: bytes) -> NotebookNode:
    """Return a notebook of any format as one of format 4. Raises ``ValueError`` in one line if it is none."""
    try:
        if content.count(b"[") + content.count(b"{") > NESTED:
            raise ValueError(f"more than {NESTED} lists and objects")
        nb = nbformat.reads(content.decode("utf-8-sig"), as_version=4)
        for cell in nb.cells:
            cell.source = "".join(cell.source).encode("utf-8", "replace").decode()  # no file holds a lone surrogate
            if not isinstance(cell.metadata.get("course", {}), dict):
                del cell.metadata["course"]
        return nb
    except RecursionError:
        raise ValueError("the file is nested too deeply for a notebook") from None
    except Exception as error:  # whatever a malformed notebook makes nbformat raise
        raise ValueError(
            f"the file is no notebook ({type(error).__name__}: {' '.join(str(error).split())[:120]})"
        ) from None


def read_submission(path: Path, wanted: Wanted) -> Submission:
    """Return what a file holds of what is wanted. Of a file that can't be read, the problem."""
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    submission = Submission(path.name, hashlib.sha256(content).hexdigest())
    try:
        if len(content) > LARGEST:
            raise ValueError(f"the file is larger than {LARGEST // 2**20} MiB: clear its outputs")
        if not content.strip():
            raise ValueError("the file is empty")
        nb = load(content)
    except ValueError as error:
        submission.problem = str(error)
        return submission
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    for exercise in wanted.exercises:
        source, flags = answer_to(exercise, code)
        if source is not None and len(source) > LONGEST:
            source, flags = None, [f"the answer is longer than {LONGEST} characters"]
        if source is not None:
            submission.answers[exercise.id] = source
        submission.flags[exercise.id] = flags
    answers = {id: answer_in_words(id, wanted, nb.cells) for id in wanted.written}
    submission.written = {id: text for id, text in answers.items() if text is not None}
    own = [c.source for c in code if not exercise_of(c) and c.source.strip() not in wanted.given]
    submission.others = [source for source in own if len(source) <= LONGEST]
    return submission

"""The cells of a run, and how the grader and the worker name them to each other."""

import re
from typing import NamedTuple

KINDS = (
    "setup",  # ours: of the lecture, of the harness
    "answer",  # the student's to an exercise, or the reference
    "calls",  # the harness's, of the answer
)
FORM = re.compile(rf"({'|'.join(KINDS)}) ([A-Za-z0-9.]+)(?: ([0-9]{{1,6}}))?")


class Cell(NamedTuple):
    """A cell of a run: its kind, the exercise for which it runs (of the set-up: its own name), its number there."""

    kind: str
    exercise: str
    call: int | None = None

    @property
    def ours(self) -> bool:
        """Whether it is of the set-up, before any student's code."""
        return self.kind == "setup"

    def encode(self) -> str:
        """Return the cell as one word of a message, such as "calls 1.6 0"."""
        return " ".join(str(part) for part in self if part is not None)


def decode(text) -> Cell:
    """Return the cell of its encoding. Raises ``ValueError`` for anything else."""
    match = FORM.fullmatch(text) if isinstance(text, str) else None
    cell = match and Cell(match[1], match[2], None if match[3] is None else int(match[3]))
    if not cell or cell.encode() != text:
        raise ValueError(f"no cell of a run: {str(text)[:80]!r}")
    return cell

"""Equations are checked with numbers, Monte Carlo means have their standard errors, code stands beside its formula."""

import inspect
import io
import math
import textwrap
import tokenize
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from IPython.display import display
from torch import Tensor

from course_utils.errors import choose, require

COLUMNS = 92  # of a source that is shown: what fits beside the file browser in a window 1280 pixels wide
OPENING, CLOSING = set("([{"), set(")]}")
OPERATORS = {"+", "-", "*", "/", "@", "and", "or", "if", "else", "for"}  # before which a line may be broken
SIGMAS = 4.0  # standard errors allowed between an estimate and its expectation: missed by chance once in 16,000


class Estimate(NamedTuple):
    """A Monte Carlo mean and its standard error, in the unit of the samples."""

    value: Tensor
    se: Tensor


def estimate(samples: Tensor) -> Estimate:
    """Return the mean of independent samples (N, ...) and its standard error, each (...)."""
    require(len(samples) > 1, f"{len(samples)} sample given; a standard error needs at least 2")
    return Estimate(samples.mean(0), samples.std(0) / math.sqrt(len(samples)))


class EquationFails(AssertionError):
    """An equation of the lecture does not hold for the numbers that were put in."""


def verify(
    tag: str,
    left: Tensor | float,
    right: Tensor | float,
    *,
    names: tuple[str, str] = ("left", "right"),
    relation: str = "=",
    se: Tensor | float | None = None,
    tol: float = 1e-6,
) -> None:
    """Check equation `tag`: ``left = right``, ``left <= right`` or ``left < right``; print one line or raise.

    `left`, `right`: numbers or tensors that broadcast; each pair must obey the relation. `names`: what each side is.
    One of them may be a Monte Carlo estimate, with attributes `value` and `se`, or `se` names the standard error of
    their difference: then four standard errors are allowed, else `tol` * max(1, |right|). "<" must hold by more than
    what is allowed. Raises ``ValueError`` for two standard errors, or one that is not finite and >= 0.
    Raises ``EquationFails`` (an ``AssertionError``) with both numbers, ``ValueError`` for an unknown relation.
    """
    choose(relation, ("=", "<=", "<"), "relation")
    given = [e for e in (getattr(left, "se", None), getattr(right, "se", None), se) if e is not None]
    require(len(given) <= 1, f"({tag}) has {len(given)} standard errors; give one, that of the difference, as se=…")
    errors = getattr(left, "se", None), getattr(right, "se", se)
    left, right = torch.broadcast_tensors(*(double(getattr(v, "value", v)) for v in (left, right)))
    allowed = double(given[0]) if given else torch.zeros(())
    fine = bool((allowed.isfinite() & (allowed >= 0)).all())
    require(fine, f"({tag}) has the standard error {given}; it must be finite and not negative")
    slack = (SIGMAS * allowed if given else tol * right.abs().clamp(1, 1e300)).broadcast_to(left.shape)
    holds = {
        "=": (left == right) | ((left - right).abs() <= slack),
        "<=": left <= right + slack,
        "<": left < right - slack,
    }[relation]
    if not holds.all():  # NaN is never right
        i = int((~holds).flatten().nonzero()[0])
        raise EquationFails(
            f"✗ ({tag}) {names[0]} {left.flatten()[i]:.8g} {relation} {names[1]} {right.flatten()[i]:.8g} fails "
            f"(allowed difference {slack.flatten()[i]:.3g}; {int((~holds).sum())} of {holds.numel()} comparisons fail)"
        )
    print(f"✓ ({tag}) {describe(left, right, names, relation, errors)}")


def double(value: Tensor | float) -> Tensor:
    """Return a value in double precision on the CPU, wherever it was."""
    return torch.as_tensor(value.detach().cpu() if isinstance(value, Tensor) else value, dtype=torch.float64)


def refute(label: str, left: Tensor | float, right: Tensor | float, *, names: tuple[str, str], gap: float) -> None:
    """Show that a wrong equation fails: print both sides; raise ``EquationFails`` if they lie within `gap`."""
    left, right = float(left), float(right)
    if not abs(left - right) > gap:
        raise EquationFails(f"({label}) {names[0]} {left:.8g} and {names[1]} {right:.8g} agree to within {gap}")
    print(f"✗ ({label}) is wrong: {names[0]} {number(left)} · {names[1]} {number(right)}")


def expect(holds: bool, sentence: str) -> None:
    """Print what a training is expected to show, and whether this run shows it; a run that differs only warns.

    For what hangs on a training's luck: another processor rounds otherwise, and a training amplifies it. `sentence`
    says what is expected, with the numbers.
    """
    print(
        f"✓ {sentence}" if holds else f"⚠ Your run differs from ours: we expected that {sentence}. Go on all the same."
    )


def describe(left: Tensor, right: Tensor, names: tuple[str, str], relation: str, errors: tuple) -> str:
    """Return what was compared: of many pairs the closest to failing an inequality, or the largest of equal ones.

    Rounded, so that the same computation prints the same text on every machine.
    """
    sign = "·" if relation == "=" else relation.replace("<=", "≤")
    i = right.abs().argmax() if relation == "=" else (right - left).argmin()
    sides = [number(v.flatten()[i].item()) for v in (left, right)]
    for k, error in enumerate(errors):
        if error is not None:
            error = double(error).broadcast_to(left.shape)
            sides[k] += f" ± {number(error.flatten()[i].item())}"
    pair = f"{names[0]} {sides[0]} {sign} {names[1]} {sides[1]}"
    which = "largest" if relation == "=" else "closest"
    return pair if left.numel() == 1 else f"{pair} (the {which} of {left.numel():,} pairs)"


def number(value: float) -> str:
    """Return `value` with four decimals, or four significant digits where it is large; never a negative zero."""
    return f"{round(value, 4) + 0.0:.4f}" if abs(value) < 1000 else f"{value:.4g}"


def show_source(function) -> None:
    """Display the source of a function, method or class without its docstring, and where it stands.

    Lines longer than ``COLUMNS`` are broken between two words of the code: JupyterLab would break them anywhere.
    """
    lines, first = inspect.getsourcelines(function)
    code = textwrap.dedent("".join(lines))
    if doc := inspect.getdoc(function):
        start = code.index('"""')
        end = code.index('"""', start + 3) + 3
        code = code[:start].rstrip() + code[end:]
        title = f"{inspect.getmodule(function).__name__}: {doc.splitlines()[0]}"
    else:
        title = f"{inspect.getmodule(function).__name__}, line {first}"
    text = textwrap.indent(textwrap.fill(title, COLUMNS - 2), "# ") + "\n" + narrow(code.strip())
    display({"text/plain": text, "text/markdown": f"```python\n{text}\n```"}, raw=True)


def narrow(code: str, columns: int = COLUMNS) -> str:
    """Return Python code that does the same with no line longer than `columns`, as far as its words allow.

    A comment behind too long a line moves above it. A line is broken in the outermost of its brackets: behind a comma,
    else before an operator, else behind what opens them, and as far right as fits.
    """
    row, lines = 0, code.split("\n")
    while row < len(lines):
        pieces = halves("\n".join(lines), row, columns) if len(lines[row]) > columns else None
        if pieces:
            lines[row : row + 1] = pieces  # each shorter than the line was: both are looked at again
        else:
            row += 1
    return "\n".join(lines)


def halves(code: str, row: int, columns: int) -> list[str] | None:
    """Return the two lines that a line of code becomes, or None where it has to stay as it is."""
    line = code.split("\n")[row]
    indent = line[: len(line) - len(line.lstrip())]
    tokens = list(words(code, row))
    (first, outside), (last, _) = (tokens[0], tokens[-1]) if tokens else [(None, 0)] * 2
    if first is None:  # inside a long string
        return None
    if first.string.startswith(("#", '"""')):  # prose: at a space
        column = line.rfind(" ", len(indent) + 2, columns)
        return None if column < 0 else [line[:column], indent + "# " * (first.string[0] == "#") + line[column + 1 :]]
    if last.type == tokenize.COMMENT:
        return [indent + last.string, line[: last.start[1]].rstrip()]
    gaps = []
    for (before, _), (token, depth) in pairwise(tokens):
        column = token.start[1]
        rank = 0 if before.string == "," else 1 if token.string in OPERATORS else 2 if before.string in OPENING else 3
        if depth > 0 and rank < 3 and len(indent) + 16 < column < columns:
            gaps.append((depth, rank, -column))
    if not gaps:
        return None
    depth, _, column = min(gaps)
    further = "" if depth <= outside else " " * (8 if line.endswith(":") else 4)
    return [line[:-column].rstrip(), indent + further + line[-column:]]


def words(code: str, row: int) -> Iterator[tuple[tokenize.TokenInfo, int]]:
    """Yield the tokens that begin in a row of Python code, each with the number of brackets that are open before it."""
    depth, text = 0, 0  # brackets, f-strings
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        name = tokenize.tok_name[token.type]
        if token.start[0] == row + 1 and not text and token.string.strip():
            yield token, depth
        text += (name == "FSTRING_START") - (name == "FSTRING_END")
        if name == "OP" and not text:
            depth += (token.string in OPENING) - (token.string in CLOSING)

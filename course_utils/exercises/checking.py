"""What an exercise is, and the instant check in the notebook. The grader uses the same cases and references."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from course_utils.errors import choose

SEED = 0  # of the instant check; a grader draws its own


class Case(NamedTuple):
    """One call of the student's function: what it looks at, in words, and the arguments."""

    label: str
    args: tuple


@dataclass(frozen=True)
class Exercise:
    """An exercise: one function of a fixed name, compared with a reference on drawn inputs.

    `cases` maps a ``torch.Generator`` to a list of ``Case``; `reference` takes the same arguments and returns a tensor,
    a number or a tuple of them. Each case is worth the same share of `points`. `hint` is shown after a wrong answer.
    """

    id: str
    function: str
    points: int
    reference: Callable
    cases: Callable[[torch.Generator], list[Case]]
    hint: str
    tol: float = 1e-6


def agrees(got, expected, tol: float) -> bool:
    """Tell whether an answer equals the expected value: same structure and shape, within `tol` relative or absolute."""
    if isinstance(expected, tuple):
        return (
            isinstance(got, tuple | list)
            and len(got) == len(expected)
            and all(agrees(g, e, tol) for g, e in zip(got, expected, strict=True))
        )
    try:
        got = torch.as_tensor(got, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        return False
    expected = torch.as_tensor(expected, dtype=torch.float64)
    return got.shape == expected.shape and torch.allclose(got, expected, rtol=tol, atol=tol)


def fresh(args: tuple) -> tuple:
    """Return a copy of the arguments, so that a function that writes into them spoils nothing."""
    return tuple(a.clone() if isinstance(a, Tensor) else a for a in args)


def summary(value) -> str:
    """Return a value as a student wants to see it: numbers to five digits, big tensors by shape and first entries."""
    if isinstance(value, tuple | list):
        return "(" + ", ".join(summary(v) for v in value) + ")"
    if not isinstance(value, Tensor):
        return f"{value:.5g}" if isinstance(value, float) else repr(value)
    if value.numel() == 1 and value.ndim == 0:
        return f"{value.item():.5g}"
    head = ", ".join(f"{v:.5g}" for v in value.detach().flatten()[:6].tolist())
    return f"{tuple(value.shape)} [{head}{', …' if value.numel() > 6 else ''}]"


def student_line(error: Exception) -> str:
    """Return the innermost line of the student's own code in a traceback, or nothing if it can't be told."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "ipykernel" in f.filename or "<" in f.filename]
    return f" in your line `{frames[-1].line}`" if frames and frames[-1].line else ""


def check(exercises: dict[str, Exercise], id: str, function: Callable) -> Callable:
    """Print whether `function` solves the exercise; return it if it does, else the reference, for the lecture to go on.

    Raises ``ValueError`` for an unknown exercise. An exception in the student's function is reported, not raised.
    """
    exercise = exercises[choose(id, exercises, "exercise")]
    cases = exercise.cases(torch.Generator().manual_seed(SEED))
    head, points = f"Exercise {id}", f"{exercise.points} points"
    passed, failure = 0, ""
    for case in cases:
        expected = exercise.reference(*fresh(case.args))
        try:
            got = function(*fresh(case.args))
        except NotImplementedError:
            print(f"○ {head} ({points}): not attempted yet. The lecture goes on with the course's own function.")
            return exercise.reference
        except Exception as error:
            problem = f"{type(error).__name__}: {error}{student_line(error)}"
        else:
            if agrees(got, expected, exercise.tol):
                passed += 1
                continue
            problem = f"got {summary(got)}, expected {summary(expected)}"
        failure = failure or f"  {case.label}: {problem}\n  called with {summary(case.args)}\n  Hint: {exercise.hint}"
    if passed == len(cases):
        print(f"✓ {head}: all {len(cases)} checks pass ({points}).")
        return function
    earned = exercise.points * passed / len(cases)
    print(f"✗ {head}: {passed} of {len(cases)} checks pass ({earned:.3g} of {points}).\n{failure}")
    return exercise.reference

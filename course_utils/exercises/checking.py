"""What an exercise is, and the instant check in the notebook. The grader uses the same cases and references."""

import inspect
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from course_utils.errors import choose

SEED = 0  # of the instant check; a grader draws its own
SHOWN = 10  # numbers of a tensor


class Case(NamedTuple):
    """One call of the student's function: what it looks at, in words, and the arguments."""

    label: str
    args: tuple


class Mistake(NamedTuple):
    """A wrong answer that is often given, as a function, and what to say to who gave it."""

    function: Callable
    message: str


@dataclass(frozen=True)
class Exercise:
    """An exercise: one function of a fixed name, compared with a reference on drawn inputs.

    `cases` maps a ``torch.Generator`` to a list of ``Case``; `reference` takes the same arguments and returns a tensor,
    a number or a tuple of them. Each case is worth the same share of `points`. `mistakes` are recognised by their
    results; `hint` is for a wrong answer that is none of them. `errors` are parts of exceptions' texts, each with
    what to say to whose function raised one. `accepts` is for answers that have no single right value, such as weights
    or samples: it maps the arguments and what was returned, of the reference's structure, to whether that will do.
    """

    id: str
    function: str
    points: int
    reference: Callable
    cases: Callable[[torch.Generator], list[Case]]
    hint: str
    mistakes: tuple[Mistake, ...] = ()
    errors: tuple[tuple[str, str], ...] = ()
    tol: float = 1e-6
    accepts: Callable[[tuple, object], bool] | None = None


def normal(*shape: int, g: torch.Generator) -> Tensor:
    """Draw standard normal numbers in float64."""
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def numbers(value) -> Tensor | None:
    """Return a value as a tensor in float64, complex128 if it is complex, or None if it is not made of numbers."""
    try:
        dtype = torch.complex128 if torch.as_tensor(value).is_complex() else torch.float64
        return torch.as_tensor(value, dtype=dtype, device="cpu").detach().to_dense()
    except Exception:  # whatever an answer of any type raises
        return None


def leaves(value) -> list:
    """Return the entries of a tuple or list, and those of tuples and lists in it; of anything else itself alone."""
    return [leaf for v in value for leaf in leaves(v)] if isinstance(value, tuple | list) else [value]


def agrees(got, expected, tol: float) -> bool:
    """Tell whether an answer equals the expected value: same structure and shape, within `tol` relative or absolute.

    A complex number equals none, not even with an imaginary part of 0.
    """
    if isinstance(expected, tuple):
        return (
            isinstance(got, tuple | list)
            and len(got) == len(expected)
            and all(agrees(g, e, tol) for g, e in zip(got, expected, strict=True))
        )
    got, expected = numbers(got), numbers(expected)
    if got is None or got.is_complex():
        return False
    return got.shape == expected.shape and torch.allclose(got, expected, rtol=tol, atol=tol)


def is_right(exercise: Exercise, case: Case, got, expected) -> bool:
    """Tell whether an answer to a case is right: equal to the expected value, or what the exercise accepts."""
    if exercise.accepts is None:
        return agrees(got, expected, exercise.tol)
    if misfit(got, expected) or any(not numbers(leaf).isfinite().all() for leaf in leaves(got)):
        return False
    try:
        return bool(exercise.accepts(fresh(case.args), got))
    except Exception:  # numbers that it was not made for
        return False


def furthest(got, expected) -> str:
    """Return where two values of the same structure differ most, of a tensor too long to be shown; else nothing."""
    pairs = zip(leaves(got), leaves(expected), strict=False)
    for g, e in ((numbers(g), numbers(e)) for g, e in pairs):
        if g is None or g.is_complex() or g.shape != e.shape or g.numel() <= SHOWN:
            continue
        gap = torch.where(g == e, 0.0, (g - e).abs()).nan_to_num(torch.inf, torch.inf)
        place = [int(i) for i in torch.unravel_index(gap.argmax(), g.shape)]
        if gap.max() > 0:
            return f"furthest off at {place}: {g[tuple(place)]:.5g} for {e[tuple(place)]:.5g}"
    return ""


def fresh(value):
    """Return a copy of arguments, with the tensors in lists and tuples, so that writing into them spoils nothing."""
    if isinstance(value, Tensor):
        return value.clone()
    return type(value)(map(fresh, value)) if isinstance(value, tuple | list) else value


def summary(value) -> str:
    """Return a value as a student wants to see it: up to ten numbers to five digits, of more only the shape."""
    if isinstance(value, tuple | list):
        return "(" + ", ".join(summary(v) for v in value) + ")"
    if isinstance(value, Tensor) and (tensor := numbers(value)) is not None:
        if tensor.ndim == 0:
            return f"{tensor.item():.5g}"
        few = " [" + ", ".join(f"{v:.5g}" for v in tensor.flatten().tolist()) + "]" if tensor.numel() <= SHOWN else ""
        return f"shape {tuple(tensor.shape)}{few}"
    return f"{value:.5g}" if isinstance(value, float) else repr(value)


def call(exercise: Exercise, case: Case) -> str:
    """Return the call of a case in words, with the names of the arguments."""
    names = inspect.signature(exercise.reference).parameters
    return ", ".join(f"{name} = {summary(a)}" for name, a in zip(names, case.args, strict=True))


def student_line(error: Exception) -> str:
    """Return the innermost line of the student's own code in a traceback, or nothing if it can't be told."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "ipykernel" in f.filename or "<" in f.filename]
    return f" in your line `{frames[-1].line}`" if frames and frames[-1].line else ""


def structure(value) -> str:
    """Return what kind of thing a value is: "a number", "a tensor of shape (3, 2)", "a tuple of 2", "None"."""
    if value is None:
        return "None"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    tensor = numbers(value)
    if tensor is None:
        return f"a {type(value).__name__}"
    return f"a tensor of shape {tuple(tensor.shape)}" if tensor.ndim else "a number"


def misfit(got, expected, head: str = "Your function returned") -> str | None:
    """Return the first difference between the structures of an answer and of the expected value, or None."""
    if isinstance(expected, tuple) and isinstance(got, tuple | list) and len(got) == len(expected):
        pairs = enumerate(zip(got, expected, strict=True), 1)
        return next((text for i, (g, e) in pairs if (text := misfit(g, e, f"Entry {i} of your answer is"))), None)
    if structure(got) == structure(expected):
        return None
    return f"{head} {structure(got)}; expected is {structure(expected)}."


def is_mistake(mistake: Mistake, case: Case, got, tol: float) -> bool:
    """Tell whether an answer is that of a mistake; a mistake that raises on the case's arguments has none."""
    try:
        return agrees(got, mistake.function(*fresh(case.args)), tol)
    except Exception:  # shapes that do not fit, a decomposition that does not converge
        return False


def diagnose(exercise: Exercise, case: Case, got, expected) -> str:
    """Return what seems to be wrong with an answer, in a sentence."""
    if got is None:
        return "Your function returned None: is a `return` missing?"
    if text := misfit(got, expected):
        return text
    tensors = [numbers(v) for v in leaves(got)]
    if any(v.is_complex() for v in tensors):
        return "Your result is complex; expected are real numbers. If the imaginary part is only rounding: `.real`."
    if any(v.isnan().any() for v in tensors):
        return (
            "Your result contains nan: look for 0/0, 0 · log 0, ∞ − ∞, the logarithm or the root of a negative number."
        )
    for mistake in exercise.mistakes:
        if is_mistake(mistake, case, got, exercise.tol):
            return mistake.message
    single = any(isinstance(v, Tensor) and v.dtype == torch.float32 for v in leaves(got))
    if single and agrees(got, expected, 1e-3):
        return "Right to single precision only: keep the precision of the inputs."
    return f"Hint: {exercise.hint}"


def is_open(exercise: Exercise, error: Exception) -> bool:
    """Tell whether an error is the one that stands in an open exercise; PyTorch raises its class for bad dtypes too."""
    return isinstance(error, NotImplementedError) and str(error) == f"Exercise {exercise.id}"


def advice_on(exercise: Exercise, text: str) -> str:
    """Return what to say to whose function raised an exception with this text."""
    known = (message for part, message in exercise.errors if part in text)
    return next(known, "The error is raised inside your function: call it yourself on these arguments.")


def problem(exercise: Exercise, case: Case, function: Callable) -> str | None:
    """Return what is wrong with `function` on a case, or None. The open exercise's own error goes through."""
    expected = exercise.reference(*fresh(case.args))
    try:
        got = function(*fresh(case.args))
    except Exception as error:
        if is_open(exercise, error):
            raise
        text, advice = f"{type(error).__name__}: {error}{student_line(error)}", advice_on(exercise, str(error))
    else:
        if is_right(exercise, case, got, expected):
            return None
        text, advice = f"got {summary(got)}, expected {summary(expected)}", diagnose(exercise, case, got, expected)
        text += f"; {far}" if (far := furthest(got, expected)) and exercise.accepts is None else ""
    return f"  {case.label}: {text}\n  called with {call(exercise, case)}\n  {advice}"


def check(exercises: dict[str, Exercise], id: str, function: Callable) -> Callable:
    """Print whether `function` solves the exercise; return it if it does, else the reference, for the lecture to go on.

    Raises ``ValueError`` for an unknown exercise. An exception in the student's function is reported, not raised.
    """
    exercise = exercises[choose(id, exercises, "exercise")]
    head, points = f"Exercise {id}", f"{exercise.points} points"
    if getattr(function, "__module__", "").startswith("course_utils"):
        name = exercise.function
        print(f"○ {head} ({points}): this is the course's own function. Run the cell that defines your `{name}`.")
        return function
    cases = exercise.cases(torch.Generator().manual_seed(SEED))
    try:
        problems = [problem(exercise, case, function) for case in cases]
    except NotImplementedError:
        print(f"○ {head} ({points}): not attempted yet. The lecture goes on with the course's own function.")
        return exercise.reference
    failures = [p for p in problems if p]
    if not failures:
        print(f"✓ {head}: all {len(cases)} checks pass ({points}).")
        return function
    passed = len(cases) - len(failures)
    earned = exercise.points * passed / len(cases)
    print(f"✗ {head}: {passed} of {len(cases)} checks pass ({earned:.1f} of {points}).\n{failures[0]}")
    return exercise.reference

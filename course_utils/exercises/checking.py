"""What an exercise is, and the instant check in the notebook. The grader uses the same cases and references."""

import inspect
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from types import FunctionType
from typing import NamedTuple

import torch
from torch import Tensor

from course_utils import data
from course_utils import exercises as package
from course_utils.calls import Returned, call, fresh, leaves
from course_utils.errors import choose, require
from course_utils.guard import TheExercise, own_functions
from course_utils.verify import show_source

SEED = 0  # of the instant check; a grader draws its own
SHOWN = 10  # numbers of a tensor
PARTIAL = 1 / 3  # of the points, at most, for an answer that fails a check
TRIES = 3  # failed ones, after which the course's solution is shown
normal = partial(data.normal, dtype=torch.float64)  # what cases are drawn by


class Case(NamedTuple):
    """One call of the student's function: what it looks at, in words, and the arguments.

    `hint` is what to say where this case alone is failed first and no mistake is recognised.
    """

    label: str
    args: tuple
    hint: str = ""


class Mistake(NamedTuple):
    """A wrong answer that is often given, as a function, and what to say to who gave it."""

    function: Callable
    message: str


@dataclass(frozen=True)
class Exercise:
    """An exercise: one function of a fixed name, compared with a reference on drawn inputs.

    `cases` maps a ``torch.Generator`` to a list of ``Case``; `reference` takes the same arguments and returns a tensor,
    a number or a tuple of them. All `points` are for an answer that passes every case; another one earns the share
    that it passes of a third of them (``earned``). `mistakes` are recognised by their results; `hint` is for a wrong
    answer that is none of them. `errors` are parts of exceptions' texts, each with what to say to whose function
    raised one. `gradients` names the arguments with respect to which the answer's gradient is compared with the
    reference's, too. `accepts` is for answers that have no single right value, such as weights or samples: it maps the
    arguments and what was returned, of the reference's structure, to whether that will do. No argument may be changed.
    `own` names what the course has for the task: functions of the package, such as "divergences.kl_table", and of the
    lecture's notebook, without a dot. An answer in which one of them runs is not the student's, and wrong.
    """

    id: str
    function: str
    points: int
    reference: Callable
    cases: Callable[[torch.Generator], list[Case]]
    hint: str
    mistakes: tuple[Mistake, ...] = ()
    errors: tuple[tuple[str, str], ...] = ()
    tol: float = 1e-5  # single precision will do
    accepts: Callable[[tuple, object], bool] | None = None
    gradients: tuple[str, ...] = ()
    own: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The names of the arguments."""
        return list(inspect.signature(self.reference).parameters)

    @property
    def places(self) -> tuple[int, ...]:
        """The places of the arguments in `gradients`. Raises ``ValueError`` for a name that is none."""
        return tuple(self.names.index(choose(name, self.names, "argument")) for name in self.gradients)


def earned(exercise: Exercise, passed: int, total: int) -> float:
    """Return the points for passing some of all cases: all of them for all, else the share passed of a third.

    So a typical mistake, which gives the right value on some cases, earns at most a third, whatever was drawn.
    """
    share = 1.0 if passed == total else PARTIAL * passed / total
    return round(exercise.points * share, 2)


def numbers(value) -> Tensor | None:
    """Return a value as a tensor in float64, complex128 if it is complex, or None if it is not made of numbers."""
    try:
        if isinstance(value, tuple | list) and any(isinstance(v, Tensor) and v.numel() > 1 for v in value):
            return torch.stack([numbers(v) for v in value])  # of rows
        dtype = torch.complex128 if torch.as_tensor(value).is_complex() else torch.float64
        return torch.as_tensor(value, dtype=dtype, device="cpu").detach().to_dense()
    except Exception:  # whatever an answer of any type raises
        return None


def agrees(got, expected, tol: float, nan: bool = False) -> bool:
    """Tell whether an answer equals the expected value: same structure and shape, within `tol` relative or absolute.

    An infinity equals itself only, a complex number none, not even with an imaginary part of 0; nan equals nan if told.
    """
    if isinstance(expected, tuple):
        return (
            isinstance(got, tuple | list)
            and len(got) == len(expected)
            and all(agrees(g, e, tol, nan) for g, e in zip(got, expected, strict=True))
        )
    got, expected = numbers(got), numbers(expected)
    if got is None or got.is_complex() or got.shape != expected.shape:
        return False
    near = expected.isfinite() & ((got - expected).abs() <= tol * (1 + expected.abs()))
    return bool((near | (got == expected) | (got.isnan() & expected.isnan() & nan)).all())


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


def in_words(exercise: Exercise, case: Case) -> str:
    """Return the call of a case in words, with the names of the arguments."""
    return ", ".join(f"{name} = {summary(a)}" for name, a in zip(exercise.names, case.args, strict=True))


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
    """Tell whether an answer is that of a mistake; a mistake that raises on the case's arguments has none.

    Nan stands for nan if not everything is nan, which may have any cause.
    """
    try:
        given = mistake.function(*fresh(case.args))
        return agrees(got, given, tol, nan=not all(numbers(leaf).isnan().all() for leaf in leaves(given)))
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
    for mistake in exercise.mistakes:
        if is_mistake(mistake, case, got, exercise.tol):
            return mistake.message
    single = any(isinstance(v, Tensor) and v.dtype == torch.float32 for v in leaves(got))
    if single and agrees(got, expected, 1e-3):
        return "Right to single precision only: keep the precision of the inputs."
    if case.hint:
        return case.hint
    if any(v.isnan().any() for v in tensors):
        return (
            "Your result contains nan: look for 0/0, 0 · log 0, ∞ − ∞, the logarithm or the root of a negative number."
        )
    return f"Hint: {exercise.hint}"


def astray(exercise: Exercise, case: Case, got: Returned) -> str | None:
    """Return what is wrong with the gradients of an answer whose value is right, in a sentence, or None."""
    if not exercise.places:
        return None
    expected = call(exercise.reference, partial(fresh, case.args), exercise.places).gradients
    mine = got.gradients if len(got.gradients) == len(expected) else (None,) * len(expected)
    pairs = [
        [torch.zeros_like(case.args[place]) if v is None else v for v in pair]
        for place, *pair in zip(exercise.places, mine, expected, strict=True)
    ]
    wrong = [i for i, pair in enumerate(pairs) if not agrees(*pair, 10 * exercise.tol)]
    if not wrong:
        return None
    if all(v is None for v in mine):
        why = f" ({got.why})" if got.why else ""
        return (
            f"The value is right, but it has no gradient, so nothing can be learnt from it{why}. What cut it off from "
            f"`{exercise.gradients[wrong[0]]}`? (`.detach()`, `.item()`, `float(…)`, `.data`, NumPy, `torch.no_grad()`)"
        )
    name, (g, e) = exercise.gradients[wrong[0]], pairs[wrong[0]]
    far = f" ({far})" if (far := furthest(g, e)) else ""
    cut = "no gradient" if mine[wrong[0]] is None else f"the gradient {summary(g)} in place of {summary(e)}{far}"
    return f"The value is right, but with respect to `{name}` it has {cut}: is a part of it detached?"


def of_the_course(name: str) -> str:
    """Return what to say of an answer that calls a function of the course which does what is asked for."""
    return f"`{name}` is the course's own function for this: it was called. Write down yourself what it does."


def fault(exercise: Exercise, case: Case, got: Returned, expected) -> str | None:
    """Return what is wrong with an answer to a case, in a sentence, or None if it is right."""
    if not is_right(exercise, case, got.value, expected):
        return diagnose(exercise, case, got.value, expected)
    if got.changed:
        names = " and ".join(f"`{name}`" for place, name in enumerate(exercise.names) if place in got.changed)
        return (
            f"The value is right, but your function changed its argument {names}, which its caller still needs: work "
            "on a copy, and without what writes in place (`+=`, `x[…] =`, `mul_`, `sort_`, `.backward()` on weights)."
        )
    return astray(exercise, case, got)


def is_open(exercise: Exercise, error: Exception) -> bool:
    """Tell whether an error is the one that stands in an open exercise; PyTorch raises its class for bad dtypes too."""
    return isinstance(error, NotImplementedError) and str(error) == f"Exercise {exercise.id}"


def advice_on(exercise: Exercise, text: str) -> str:
    """Return what to say to whose function raised an exception with this text."""
    known = (message for part, message in exercise.errors if part in text)
    return next(known, "The error is raised inside your function.")


def is_the_courses(function: Callable) -> bool:
    """Tell whether a function is of the course's package: by its name, and by where it was written."""
    homes = getattr(function, "__module__", ""), getattr(function, "__globals__", {}).get("__name__", "")
    return all(str(home).startswith("course_utils") for home in homes)


def own_of(exercise: Exercise, function: Callable) -> dict[str, FunctionType]:
    """Return the course's functions that a student's may not call: its exercise's own, and the reference itself."""
    found = own_functions(exercise.own, getattr(inspect.unwrap(function), "__globals__", {}))
    return found | ({exercise.function: exercise.reference} if exercise.reference is not function else {})


def problem(exercise: Exercise, case: Case, function: Callable) -> str | None:
    """Return what is wrong with `function` on a case, or None. The open exercise's own error goes through."""
    expected, places = exercise.reference(*fresh(case.args)), exercise.places
    try:
        got = call(function, partial(fresh, case.args), places, own_of(exercise, function))
    except Exception as error:
        if is_open(exercise, error):
            raise
        text = f"{type(error).__name__}: {error}{student_line(error)}"
        advice = of_the_course(error.name) if isinstance(error, TheExercise) else advice_on(exercise, str(error))
    else:
        if (advice := fault(exercise, case, got, expected)) is None:
            return None
        text = f"got {summary(got.value)}, expected {summary(expected)}"
        text += f"; {far}" if (far := furthest(got.value, expected)) and exercise.accepts is None else ""
    return f"  {case.label}: {text}\n  called with {in_words(exercise, case)}\n  {advice}"


def stub(exercise: Exercise) -> str:
    """Return the source of an exercise's cell as it was handed out: signature, docstring, open."""
    function = exercise.reference
    lines = [
        f"def {exercise.function}{inspect.signature(function)}:",
        *(f'"""{inspect.getdoc(function)}"""'.splitlines()),
        f'raise NotImplementedError("Exercise {exercise.id}")',
    ]
    return "\n    ".join(lines)


class InstantCheck:
    """The check of a lecture's exercises in its notebook, and what the kernel remembers of them.

    ``kl_bits = check("1.1", kl_bits)`` checks an answer; the other methods answer to what a student may want next.
    Nothing is saved: a new kernel has forgotten tries and points, the answers stand in the notebook.
    """

    def __init__(self, exercises: dict[str, Exercise] | None = None):
        self.exercises = {} if exercises is None else exercises
        self.tries: Counter[str] = Counter()  # that failed
        self.points: dict[str, float] = {}  # of the last try
        self.answers: dict[str, Callable] = {}  # the student's own

    def exercise(self, id: str, reference: Callable, *, function: str = "", **rest) -> Callable:
        """Register an exercise: a decorator of its cases; `rest` as in ``Exercise``.

        The student's function has the reference's name, or that of `function`.
        """
        require(id not in self.exercises, f"exercise {id!r} is there already; give each its own number")

        def register(cases: Callable) -> Callable:
            name = function or reference.__name__
            self.exercises[id] = Exercise(id, name, reference=reference, cases=cases, **rest)
            return cases

        return register

    def __call__(self, id: str, function: Callable) -> Callable:
        """Print whether `function` solves the exercise; return it if it does, else the reference: the lecture goes on.

        Raises ``ValueError`` for an unknown exercise. An exception in the student's function is reported, not raised.
        """
        exercise = self.find(id)
        head, points = f"Exercise {id}", f"{exercise.points} point{'s' if exercise.points > 1 else ''}"
        if is_the_courses(function):
            name = exercise.function
            print(f"○ {head} ({points}): this is the course's own function. Run the cell that defines your `{name}`.")
            return function
        cases = self.cases(id)
        try:
            problems = [problem(exercise, case, function) for case in cases]
        except NotImplementedError:
            print(f"○ {head} ({points}): not attempted yet. The lecture goes on with the course's own function.")
            return exercise.reference
        failed = [number for number, text in enumerate(problems) if text]
        passed = len(cases) - len(failed)
        self.answers[id], self.points[id] = function, earned(exercise, passed, len(cases))
        if not failed:
            print(f"✓ {head}: all {len(cases)} checks pass ({points}).")
            return function
        self.tries[id] += 1
        rest = "; most of them are for passing all" if passed else ""
        print(f"✗ {head}: {passed} of {len(cases)} checks pass ({self.points[id]:.1f} of {points}{rest}).")
        print(f"{problems[failed[0]]}\n  {self.again(exercise, failed[0])}")
        if self.tries[id] >= TRIES:
            print(f'  The course\'s solution: check.solution("{id}")')
        return exercise.reference

    def find(self, id: str) -> Exercise:
        """Return the exercise with this number. Raises ``ValueError``."""
        return self.exercises[choose(id, self.exercises, "exercise")]

    def cases(self, id: str) -> list[Case]:
        """Return the cases that the check looks at, the same at each call."""
        return self.find(id).cases(torch.Generator().manual_seed(SEED))

    def again(self, exercise: Exercise, number: int) -> str:
        """Return the line of code that calls the student's function once more, and what to say of it."""
        names = ", ".join(exercise.names) + ("," if len(exercise.names) == 1 else "")
        id = exercise.id
        call = f'{names} = check.case("{id}", {number + 1}); check.mine("{id}")({", ".join(exercise.names)})'
        return f"`{exercise.function}` is the course's own from here on. Yours, on these arguments: {call}"

    def case(self, id: str, number: int) -> tuple:
        """Return the arguments of a check, numbered from 1, anew at each call. Raises ``ValueError``."""
        cases = self.cases(id)
        there = isinstance(number, int) and 1 <= number <= len(cases)
        require(there, f"exercise {id} has no check {number!r}; its checks are 1 to {len(cases)}")
        return fresh(cases[number - 1].args)

    def mine(self, id: str) -> Callable:
        """Return the student's own function that was checked last. Raises ``ValueError`` if there is none."""
        exercise = self.find(id)
        require(
            id in self.answers, f"no answer to exercise {id} was checked yet: run the cell of `{exercise.function}`"
        )
        return self.answers[id]

    def progress(self) -> None:
        """Print what each exercise earned at its last check in this kernel, and all of them together."""
        total = sum(e.points for e in self.exercises.values())
        print(f"{sum(self.points.values()):g} of {total} points so far, in this session:")
        for id, exercise in self.exercises.items():
            got = self.points.get(id, 0.0)
            mark = "○" if id not in self.points else "✓" if got == exercise.points else "✗"
            tries = f", failed {self.tries[id]}×" if self.tries[id] else ""
            print(f"  {mark} {id} {exercise.function}: {got:g} of {exercise.points}{tries}")

    def solution(self, id: str) -> None:
        """Show the course's solution, once the exercise is solved or was tried, or the instructor's date has come."""
        exercise = self.find(id)
        opening = package.SOLUTIONS_FROM.get(id.split(".")[0])
        solved = self.points.get(id) == exercise.points
        left = 0 if solved or (opening and date.today() >= date.fromisoformat(opening)) else TRIES - self.tries[id]
        if left > 0:
            when = f", or from {opening} on" if opening else ""
            tries = f"{left} more failed {'try' if left == 1 else 'tries'}"
            print(f"The solution of exercise {id} is shown after {tries}{when}. Have you opened all hints?")
        else:
            show_source(exercise.reference)

    def reset(self, id: str) -> None:
        """Forget the answer to an exercise, with its tries, and print its cell as it was handed out, to be pasted."""
        exercise = self.find(id)
        for memory in (self.answers, self.points, self.tries):
            memory.pop(id, None)
        print(f"Exercise {id} is open again. Its cell as it was handed out:\n\n{stub(exercise)}")

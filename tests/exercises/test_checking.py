"""The instant check: right, wrong, open and broken answers."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from course_utils.exercises.checking import Case, Exercise, InstantCheck, Mistake, agrees


def double_and_total(x, n):
    return 2 * x, x.sum() * n


EXERCISE = Exercise(
    id="9.1",
    function="double",
    points=4,
    reference=double_and_total,
    cases=lambda g: [Case("zeros", (torch.zeros(3), 1)), Case("drawn", (torch.randn(3, generator=g), 2))],
    hint="twice as much",
)


def run(function, capsys, **changes):
    returned = InstantCheck({"9.1": replace(EXERCISE, **changes)})("9.1", function)
    return returned, capsys.readouterr().out


def test_right_answer_is_kept(capsys):
    def double(x, n):
        return [x + x, (x * n).sum()]

    returned, out = run(double, capsys)
    assert returned is double
    assert out == "✓ Exercise 9.1: all 2 checks pass (4 points).\n"


def test_open_answer_goes_on_with_the_reference(capsys):
    def double(x, n):
        raise NotImplementedError("Exercise 9.1")

    returned, out = run(double, capsys)
    assert returned is EXERCISE.reference
    assert out.startswith("○ Exercise 9.1 (4 points): not attempted")


def test_partly_right_answer(capsys):
    returned, out = run(lambda x, n: (2 * x, x.sum()), capsys)
    assert returned is EXERCISE.reference
    assert out.startswith("✗ Exercise 9.1: 1 of 2 checks pass (0.7 of 4 points).")
    assert "drawn: got" in out and "expected" in out and "Hint: twice as much" in out
    assert "called with x = shape (3,) [" in out and "n = 2" in out


def test_courses_own_function_earns_nothing(capsys):
    from course_utils.divergences import kl_table

    returned, out = run(kl_table, capsys)
    assert returned is kl_table
    assert out.startswith("○ Exercise 9.1 (4 points): this is the course's own function. Run the cell")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "is a `return` missing?"),
        (torch.zeros(2), "returned a tensor of shape (2,); expected is a tuple of 2"),
        (0.5, "returned a number; expected is a tuple of 2"),
        ("two", "returned a str"),
        ((torch.zeros(3), (torch.zeros(()),)), "Entry 2 of your answer is a tuple of 1; expected is a number."),
        (((torch.zeros(3),), 0.0), "Entry 1 of your answer is a tuple of 1; expected is a tensor of shape (3,)."),
        ((torch.zeros(3), None), "Entry 2 of your answer is None; expected is a number."),
        ((None, None), "Entry 1 of your answer is None; expected is a tensor of shape (3,)."),
        ([torch.zeros(3), print], "Entry 2 of your answer is a builtin_function_or_method; expected is a number."),
        ((torch.zeros(3, 1), 0.0), "Entry 1 of your answer is a tensor of shape (3, 1); expected is a tensor of"),
        ((torch.zeros(3) + 0j, 0.0), "Your result is complex; expected are real numbers."),
        ((torch.zeros(3), 0j), "Your result is complex; expected are real numbers."),
        ((torch.full((3,), math.nan), 0.0), "the logarithm or the root of a negative number"),
    ],
)
def test_wrong_kinds_are_named(answer, message, capsys):
    assert message in run(lambda x, n: answer, capsys)[1]


@pytest.mark.parametrize("answer", [None, "2", torch.zeros(2), (torch.zeros(3),), (torch.zeros(3, 1), 0.0)])
def test_wrong_types_and_shapes(answer, capsys):
    assert run(lambda x, n: answer, capsys)[1].startswith("✗ Exercise 9.1: 0 of 2")


class Awkward:
    """An object that raises where a tensor is made of it."""

    def __array__(self, *args, **kwargs):
        raise KeyError("awkward")


ODD = [
    torch.zeros(3).to_sparse(),
    torch.zeros(3, device="meta"),
    torch.zeros(3, requires_grad=True),
    torch.nn.Linear(2, 2),
    torch.tensor([2.0, 1.0]).max(0),
    torch.zeros(3, 0),
    [[1.0, 2.0], [3.0]],
    np.array([1j, 2.0]),
    np.array(["two"]),
    np.float32(1.0),
    10**400,
    1j,
    (),
    {"a": 1.0},
    {1.0},
    b"two",
    iter([1.0]),
    lambda: 0.0,
    torch,
    float,
    Awkward(),
]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: type(odd).__name__)
def test_no_answer_makes_the_check_raise_or_warn(odd, capsys):
    for answer in (odd, (odd,), (odd, odd), [odd, 0.0], (torch.zeros(3), odd), (torch.zeros(3), (odd, None))):
        with warnings.catch_warnings(action="error"):
            out = run(lambda x, n, answer=answer: answer, capsys)[1]
        assert out.startswith("✗ Exercise 9.1:")


def test_sparse_answers_are_numbers(capsys):
    assert run(lambda x, n: ((2 * x).to_sparse(), x.sum() * n), capsys)[1].startswith("✓")


@pytest.mark.parametrize("value", [torch.tensor(2.0 + 0j), 2 + 0j, np.complex128(2), [2 + 0j]])
def test_complex_numbers_do_not_agree_and_do_not_warn(value):
    with warnings.catch_warnings(action="error"):
        assert not agrees(value, torch.tensor([2.0]) if isinstance(value, list) else 2.0, 1e-6)


def test_single_precision_is_named(capsys):
    def double(x, n):
        return 2 * x + 1e-4, (x.sum() * n).double()

    message = "Right to single precision only: keep the precision of the inputs."
    assert message in run(double, capsys)[1]
    assert message not in run(lambda x, n: tuple(v.double() for v in double(x, n)), capsys)[1]
    assert message not in run(lambda x, n: (2 * x + 0.01, x.sum() * n), capsys)[1]


def test_a_mistake_that_raises_is_passed_over(capsys):
    def does_not_fit(x, n):
        raise torch.linalg.LinAlgError("no convergence")

    mistakes = Mistake(does_not_fit, "not this"), Mistake(lambda x, n: (x, x.sum() * n), "this one")
    out = run(lambda x, n: (x, x.sum() * n), capsys, mistakes=mistakes)[1]
    assert "\n  this one\n" in out and "1 of 2" in out


def test_known_errors_are_explained(capsys):
    def double(x, n):
        return 2 * x.reshape(7), x.sum() * n

    errors = ("no such text", "not this"), ("is invalid for input of size", "this one")
    out = run(double, capsys, errors=errors)[1]
    assert "RuntimeError: shape '[7]' is invalid" in out and "\n  this one\n" in out
    assert "The error is raised inside your function" in run(double, capsys)[1]


def test_exception_is_reported_not_raised(capsys):
    def double(x, n):
        return x.missing

    out = run(double, capsys)[1]
    assert "AttributeError" in out
    assert "missing" in out


def test_torch_raises_not_implemented_for_bad_dtypes_too(capsys):
    out = run(lambda x, n: x.long().softmax(-1), capsys)[1]
    assert out.startswith("✗ Exercise 9.1: 0 of 2")
    assert "NotImplementedError" in out


def test_a_function_that_writes_into_its_arguments_is_told_so(capsys):
    """Its caller still needs them; the other cases are not spoilt."""

    def double(x, n):
        total = x.sum() * n
        x *= 2
        return x, total

    out = run(double, capsys)[1]
    assert out.startswith("✗ Exercise 9.1: 1 of 2") and "drawn: got" in out  # twice zero is zero
    assert "The value is right, but your function changed its argument `x`" in out


def test_unknown_exercise():
    with pytest.raises(ValueError, match="9.1"):
        InstantCheck({"9.1": EXERCISE})("9.2", print)


def test_agrees_on_infinities_and_refuses_nan():
    assert agrees(torch.tensor(math.inf), math.inf, 1e-6)
    assert not agrees(math.nan, 1.0, 1e-6)
    assert not agrees(1.0, math.inf, 1e-6)


def test_of_a_long_tensor_the_number_furthest_off_is_shown(capsys):
    def double(x, n):
        return 2 * x, x.sum() * n

    def off(x, n):
        wrong = 2 * x
        wrong[3, 1], wrong[4, 0] = 0.5, wrong[4, 0] + 1e-3
        return wrong, x.sum() * n

    long = Exercise("9.1", "double", 4, double, lambda g: [Case("20 numbers", (torch.ones(10, 2), 3))], "hint")
    InstantCheck({"9.1": long})("9.1", off)
    assert "; furthest off at [3, 1]: 0.5 for 2\n" in capsys.readouterr().out
    InstantCheck({"9.1": long})(
        "9.1", lambda x, n: (2 * x.log().log(), x.sum() * n)
    )  # -inf; nan counts as furthest, too
    assert "furthest off at [0, 0]: -inf for 2\n" in capsys.readouterr().out


def line_exercise(accepts):
    """Return the exercise to fit y = w x + b; any weights will do whose fit is as good as the best but for 1 %."""

    def fit_line(x, y):
        slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
        return slope, y.mean() - slope * x.mean()

    def cases(g):
        x = torch.randn(50, generator=g, dtype=torch.float64)
        return [Case("50 points", (x, 2 * x - 1 + torch.randn(50, generator=g, dtype=torch.float64)))]

    return Exercise("9.1", "fit_line", 4, fit_line, cases, "minimise the squared error", accepts=accepts)


def fits(args, weights):
    """Accept weights by their squared error; the least possible one is by NumPy."""
    x, y = args
    slope, intercept = weights
    best = np.polyfit(x.numpy(), y.numpy(), 1, full=True)[1][0]
    return ((slope * x + intercept - y) ** 2).sum() < 1.01 * best


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        (lambda x, y: np.polyfit(x.numpy(), y.numpy(), 1) + 0.01, False),  # a tuple is asked for
        (lambda x, y: tuple(np.polyfit(x.numpy(), y.numpy(), 1) + 0.01), True),
        (lambda x, y: tuple(np.polyfit(x.numpy(), y.numpy(), 1) + 0.5), False),
        (lambda x, y: (2.0, math.nan), False),
        (lambda x, y: (2.0, "-1"), False),
    ],
)
def test_what_has_no_single_right_value_is_evaluated(answer, right, capsys):
    InstantCheck({"9.1": line_exercise(fits)})("9.1", answer)
    assert capsys.readouterr().out.startswith("✓" if right else "✗")

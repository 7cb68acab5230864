"""The instant check: right, wrong, open and broken answers."""

import math

import pytest
import torch

from course_utils.exercises.checking import Case, Exercise, agrees, check


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


def run(function, capsys):
    returned = check({"9.1": EXERCISE}, "9.1", function)
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
    assert out.startswith("✗ Exercise 9.1: 1 of 2 checks pass (2.0 of 4 points).")
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
    ],
)
def test_wrong_kinds_are_named(answer, message, capsys):
    assert message in run(lambda x, n: answer, capsys)[1]


@pytest.mark.parametrize("answer", [None, "2", torch.zeros(2), (torch.zeros(3),), (torch.zeros(3, 1), 0.0)])
def test_wrong_types_and_shapes(answer, capsys):
    assert run(lambda x, n: answer, capsys)[1].startswith("✗ Exercise 9.1: 0 of 2")


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


def test_function_that_writes_into_its_arguments_spoils_nothing(capsys):
    def double(x, n):
        total = x.sum() * n
        x *= 2
        return x, total

    assert run(double, capsys)[1].startswith("✓")


def test_unknown_exercise():
    with pytest.raises(ValueError, match="9.1"):
        check({"9.1": EXERCISE}, "9.2", print)


def test_agrees_on_infinities_and_refuses_nan():
    assert agrees(torch.tensor(math.inf), math.inf, 1e-6)
    assert not agrees(math.nan, 1.0, 1e-6)
    assert not agrees(1.0, math.inf, 1e-6)

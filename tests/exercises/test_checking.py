"""The instant check: right, wrong, open and broken answers."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from course_utils import exercises
from course_utils.exercises.checking import Case, Exercise, InstantCheck, Mistake, agrees, earned


def double_and_total(x, n):
    """Return twice x and the total times n."""
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
    assert out.startswith("✗ Exercise 9.1: 1 of 2 checks pass (0.7 of 4 points; most of them are for passing all).")
    assert "drawn: got" in out and "expected" in out and "Hint: twice as much" in out
    assert "called with x = shape (3,) [" in out and "n = 2" in out


def test_courses_own_function_earns_nothing(capsys):
    from course_utils.divergences import kl_table

    returned, out = run(kl_table, capsys)
    assert returned is kl_table
    assert out.startswith("○ Exercise 9.1 (4 points): this is the course's own function. Run the cell")


def test_an_own_function_that_bears_the_courses_name_is_judged_as_the_grader_does(capsys):
    from functools import wraps

    from course_utils.divergences import kl_table

    named = wraps(kl_table)(lambda x, n: (2 * x, n * x.sum()))
    returned, out = run(named, capsys)
    assert returned is named and out.startswith("✓ Exercise 9.1")


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
    assert not agrees(torch.finfo(torch.float64).max, math.inf, 1e-6)  # what torch.nan_to_num makes of it
    assert not agrees(math.inf, 1.0, 1e-6) and not agrees(-math.inf, math.inf, 1e-6)
    assert not agrees(math.nan, math.nan, 1e-6) and agrees(math.nan, math.nan, 1e-6, nan=True)


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


# What beside the value is judged ------------------------------------------------------------------------------------


def energy(x, w):
    return (x @ w).square().mean()


def energy_cases(g):
    return [Case("4 × 3", (torch.randn(4, 3, generator=g), torch.randn(3, generator=g)))]


def differentiable(function, capsys, **changes):
    exercise = Exercise("9.2", "energy", 3, energy, energy_cases, "square, then mean", gradients=("w",))
    InstantCheck({"9.2": replace(exercise, **changes)})("9.2", function)
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x, w: (x @ w).detach().square().mean(), "it has no gradient, so nothing can be learnt from it."),
        (lambda x, w: (x @ w).square().mean().item(), "What cut it off from `w`?"),
        (lambda x, w: torch.as_tensor((x.numpy() @ w.numpy()) ** 2).mean(), "(RuntimeError: Can't call numpy()"),
        (lambda x, w: ((x @ w) * (x @ w).detach()).mean(), "with respect to `w` it has the gradient"),
        (lambda x, w: (x.requires_grad_() @ w.detach()).square().mean(), "it has no gradient"),
    ],
)
def test_an_answer_without_the_right_gradient_is_told_so(function, said, capsys):
    out = differentiable(function, capsys)
    assert out.startswith("✗ Exercise 9.2: 0 of 1") and "The value is right, but" in out
    assert said in out


def test_of_a_long_gradient_the_place_is_told(capsys):
    """Its shape alone says nothing: it is the right one."""
    rows = {"reference": lambda x, w: x.square().sum(), "gradients": ("x",)}
    out = differentiable(lambda x, w: x[:3].square().sum() + x[3].detach().square().sum(), capsys, **rows)
    assert "shape (4, 3) in place of shape (4, 3) (furthest off at [3, " in out


def test_no_gradient_is_as_good_as_a_zero_one(capsys):
    """Where the value does not depend on the argument; elsewhere it is missed."""
    flat = {"reference": lambda x, w: x.sum() + 0 * w.sum()}
    assert differentiable(lambda x, w: x.sum(), capsys, **flat).startswith("✓")
    assert differentiable(lambda x, w: float(x.sum()), capsys, **flat).startswith("✓")
    assert differentiable(lambda x, w: torch.einsum("nd,d->n", x, w).pow(2).mean(), capsys).startswith("✓")


def test_gradients_of_several_results_and_of_an_unknown_argument(capsys):
    both = {"reference": lambda x, w: (x @ w, w.exp()), "gradients": ("x", "w")}
    assert differentiable(lambda x, w: [(w * x).sum(-1), torch.exp(w)], capsys, **both).startswith("✓")
    out = differentiable(lambda x, w: ((x * w).sum(-1), w.exp().detach()), capsys, **both)
    assert "with respect to `w` it has the gradient" in out
    with pytest.raises(ValueError, match="argument 'y' is not known; allowed: 'x', 'w'"):
        differentiable(energy, capsys, gradients=("y",))


class Scale(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([2.0]))


@pytest.mark.parametrize("how", ["backward", "zero", "append", "right"])
def test_what_is_written_into_is_noticed(how, capsys):
    """In a list, in a module's weights, and in the gradients that its owner gathers there."""

    def total(scale, parts):
        loss = scale.weight.sum() * sum(parts)
        if how == "backward":
            loss.backward()
        if how == "zero":
            scale.weight.grad = torch.zeros(1)
        if how == "append":
            parts.append(parts[0])
        return loss.detach()

    def cases(g):
        scale = Scale()
        scale.weight.grad = None
        return [Case("two parts", (scale, [torch.ones(()), torch.ones(())]))]

    exercise = Exercise("9.3", "total", 1, lambda scale, parts: scale.weight.detach().sum() * sum(parts), cases, "sum")
    InstantCheck({"9.3": exercise})("9.3", total)
    out = capsys.readouterr().out
    assert out.startswith("✓") if how == "right" else "changed its argument `" in out
    assert ("`parts`" in out) == (how == "append")


def test_a_failed_check_leaves_a_third_of_the_points_at_most():
    assert [earned(EXERCISE, passed, 4) for passed in range(5)] == [0, 0.33, 0.67, 1.0, 4]


def test_what_a_case_has_to_say_is_said_where_no_mistake_is_known(capsys):
    cases = [Case("fine", (torch.ones(3), 1)), Case("far", (torch.full((3,), 200.0), 1), "exp overflows")]
    answer = lambda x, n: (x.exp().log() * 2, x.sum() * n)  # noqa: E731
    assert "\n  exp overflows\n" in run(answer, capsys, cases=lambda g: cases)[1]
    known = (Mistake(lambda x, n: (x.float().exp().log() * 2, x.sum() * n), "known"),)
    assert "\n  known\n" in run(answer, capsys, cases=lambda g: cases, mistakes=known)[1]


# What a student may want next ---------------------------------------------------------------------------------------


def half_right(x, n):
    return 2 * x, x.sum()


@pytest.fixture
def memory():
    return InstantCheck({"9.1": EXERCISE})


def test_the_printed_line_calls_the_students_own_function_again(memory, capsys):
    double = memory("9.1", half_right)
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("  `double` is the course's own from here on. Yours, on these arguments: ")
    code = line.split("arguments: ")[1]
    assert code == 'x, n = check.case("9.1", 2); check.mine("9.1")(x, n)'
    names = {"check": memory, "double": double}
    exec(code.split("; ")[0], names)
    value, total = eval(code.split("; ")[1], names)
    assert total == names["x"].sum() and torch.equal(value, 2 * names["x"]) and names["n"] == 2
    assert torch.equal(memory.case("9.1", 2)[0], names["x"])
    names["x"] += 1
    assert not torch.equal(memory.case("9.1", 2)[0], names["x"])  # made anew
    one = Exercise("9.4", "twice", 1, lambda x: 2 * x, lambda g: [Case("one", (torch.ones(2),))], "twice")
    check = InstantCheck({"9.4": one})
    check("9.4", lambda x: x)
    exec(capsys.readouterr().out.splitlines()[-1].split("arguments: ")[1], {"check": check})


@pytest.mark.parametrize("number", [0, 3, "1"])
def test_a_case_or_an_answer_that_is_not_there(number, memory):
    with pytest.raises(ValueError, match=f"exercise 9.1 has no check {number!r}; its checks are 1 to 2"):
        memory.case("9.1", number)
    with pytest.raises(ValueError, match="no answer to exercise 9.1 was checked yet: run the cell of `double`"):
        memory.mine("9.1")
    for method in (memory.mine, memory.solution, memory.reset, lambda id: memory.case(id, 1)):
        with pytest.raises(ValueError, match="exercise '9.2' is not known; allowed: '9.1'"):
            method("9.2")


def test_progress_over_all_exercises(capsys):
    check = InstantCheck({"9.1": EXERCISE, "9.2": replace(EXERCISE, id="9.2"), "9.3": replace(EXERCISE, id="9.3")})
    check("9.1", lambda x, n: (2 * x, x.sum() * n))
    for _ in range(2):
        check("9.2", half_right)
    capsys.readouterr()
    check.progress()
    assert capsys.readouterr().out.splitlines() == [
        "4.67 of 12 points so far, in this session:",
        "  ✓ 9.1 double: 4 of 4",
        "  ✗ 9.2 double: 0.67 of 4, failed 2×",
        "  ○ 9.3 double: 0 of 4",
    ]


def test_the_solution_is_shown_after_three_failed_tries_or_when_solved(memory, capsys):
    memory.solution("9.1")
    out = capsys.readouterr().out
    assert out == "The solution of exercise 9.1 is shown after 3 more failed tries. Have you opened all hints?\n"
    for left in ("2 more failed tries", "1 more failed try."):
        memory("9.1", half_right)
        assert "check.solution" not in capsys.readouterr().out
        memory.solution("9.1")
        assert left in capsys.readouterr().out
    memory("9.1", half_right)
    assert capsys.readouterr().out.endswith('  The course\'s solution: check.solution("9.1")\n')
    memory.solution("9.1")
    assert "return 2 * x, x.sum() * n" in capsys.readouterr().out  # the reference's code
    solved = InstantCheck({"9.1": EXERCISE})
    solved("9.1", lambda x, n: (2 * x, x.sum() * n))
    solved.solution("9.1")
    assert "return 2 * x, x.sum() * n" in capsys.readouterr().out


@pytest.mark.parametrize(("day", "shown"), [("2000-01-01", True), ("2999-12-31", False)])
def test_the_solution_is_shown_from_the_instructors_day_on(day, shown, memory, monkeypatch, capsys):
    monkeypatch.setitem(exercises.SOLUTIONS_FROM, "9", day)
    memory.solution("9.1")
    out = capsys.readouterr().out
    assert ("return 2 * x, x.sum() * n" in out) == shown
    assert (f"or from {day} on" in out) != shown


def test_an_exercise_is_reset(memory, capsys):
    def own(x, n):
        return 2 * x, x.sum()

    for _ in range(3):
        memory("9.1", own)
    capsys.readouterr()
    memory.reset("9.1")
    out = capsys.readouterr().out
    assert out.startswith("Exercise 9.1 is open again.")
    names: dict = {}
    exec(out.split("handed out:\n")[1], names)  # is what is printed the open cell?
    returned = memory("9.1", names["double"])
    assert returned is EXERCISE.reference and capsys.readouterr().out.startswith("○ Exercise 9.1")
    memory.solution("9.1")
    assert "after 3 more failed tries" in capsys.readouterr().out
    memory.progress()
    assert "○ 9.1 double: 0 of 4\n" in capsys.readouterr().out


def test_an_exercise_is_registered_once_under_the_references_name():
    check = InstantCheck()

    @check.exercise("9.1", energy, points=2, hint="hint", gradients=("w",))
    def cases(g):
        return energy_cases(g)

    exercise = check.exercises["9.1"]
    assert (exercise.function, exercise.reference, exercise.cases, exercise.places) == ("energy", energy, cases, (1,))
    check.exercise("9.2", energy, function="other", points=2, hint="hint")(cases)
    assert check.exercises["9.2"].function == "other"
    with pytest.raises(ValueError, match="exercise '9.1' is there already"):
        check.exercise("9.1", energy, points=2, hint="hint")

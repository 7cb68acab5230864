"""What a run's numbers earn: judged without a sandbox, from messages as a worker sends them."""

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from course_tools.grading.book.records import Error, Result
from course_tools.grading.book.wording import came_back, message_of
from course_tools.grading.hand_in.submission import Flag, Submission
from course_tools.grading.inside import exchange
from course_tools.grading.inside.job import Cell
from course_tools.grading.judge.assignment import prepare
from course_tools.grading.judge.judging import concealed, in_own_words, needed, result_of
from course_tools.grading.judge.sandbox import Run
from course_utils.exercises.checking import Case, Exercise


@pytest.fixture(scope="module")
def assignment():
    return prepare("01", seed=4)


def told(id: str, values: dict[int, object], error=None, **rest) -> Run:
    """Return a run in which the calls of an exercise gave these values."""
    sent = {str(number): {"value": exchange.encode(value)} for number, value in values.items()}
    messages = {
        Cell("answer", id): {"calls": None, "error": error, "printed": ""},
        Cell("calls", id, 0): {"calls": json.dumps(sent), "error": None, "printed": ""},
    }
    return Run(told=messages, **rest)


def test_every_right_call_earns_its_share_of_a_third_and_all_of_them_all(assignment):
    expected = assignment.expected["1.6"]
    assert len(expected) == 4
    for count in range(5):
        values = {i: value if i < count else value + 1 for i, value in enumerate(expected)}
        result = result_of(assignment.exercises["1.6"], assignment, told("1.6", values), "")
        assert result.points == (1 if count == 4 else round(count / 4 / 3, 2))
        assert result.status == {0: "wrong", 4: "correct"}.get(count, "partial")


@pytest.mark.parametrize("stopped", ["timeout", "memory", "kernel died", "infrastructure"])
def test_calls_before_the_end_of_a_run_earn_theirs_unless_it_was_our_fault(assignment, stopped):
    run = told("1.6", {0: assignment.expected["1.6"][0]}, stopped=stopped, why="so")
    result = result_of(assignment.exercises["1.6"], assignment, run, "")
    assert (result.status, result.cause, result.detail, message_of(result)) == (stopped, "stopped", "so", "so")
    assert result.points == (None if stopped == "infrastructure" else 0.08)
    assert [came_back(call) for call in result.calls[1:]] == ["not called"] * 3
    values = dict(enumerate(assignment.expected["1.6"]))  # right before the run was stopped, elsewhere
    result = result_of(assignment.exercises["1.6"], assignment, told("1.6", values, stopped=stopped, why="so"), "")
    assert (result.status, result.points, result.cause, message_of(result)) == ("correct", 1, "", "")


def test_a_renamed_function_is_named(assignment):
    run = told("1.6", {})
    result = result_of(assignment.exercises["1.6"], assignment, run, "def iwae_bound(w):\n    return w")
    assert (result.cause, result.names) == ("undefined", ["iwae", "iwae_bound"])
    assert message_of(result) == "Your cell defines no function `iwae`, but `iwae_bound`: was it renamed?"
    assert (result.status, result.points) == ("error", 0)


def test_what_a_cell_or_a_call_raised_is_kept_apart_from_what_is_said_of_it(assignment):
    text = "name 'np' is not defined. Did you forget to import 'np'?"
    cell = result_of(assignment.exercises["1.6"], assignment, told("1.6", {}, error=["NameError", text]), "")
    assert (cell.status, cell.cause, cell.error) == ("error", "raised", Error("NameError", text, "", "np"))
    assert message_of(cell) == f"Your cell stopped with NameError: {text}"
    run = told("1.6", {})
    sent = {str(i): {"error": "NameError", "text": text, "line": "np.log(w)"} for i in range(3)}
    sent["3"] = {"error": "TypeError", "text": "name 'x' is not defined"}
    run.told[Cell("calls", "1.6", 0)]["calls"] = json.dumps(sent)
    result = result_of(assignment.exercises["1.6"], assignment, run, "")
    assert [call.error.name for call in result.calls] == ["np", "np", "np", ""]
    assert came_back(result.calls[0]) == f"NameError: {text} in the line `np.log(w)`"
    assert [call.got for call in result.calls] == [None] * 4 and result.cause == ""


def fit_line(x, y):
    """Return slope and intercept of the least squares."""
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    return slope, y.mean() - slope * x.mean()


def test_returned_weights_are_evaluated_not_compared(assignment):
    """Any weights will do whose error is within 1 % of the least possible, which here is NumPy's."""
    x = torch.linspace(-1, 1, 20).double()
    y = 2 * x - 1 + x.sin() ** 2
    best = np.polyfit(x.numpy(), y.numpy(), 1, full=True)

    def accepts(args, weights):
        return ((weights[0] * args[0] + weights[1] - args[1]) ** 2).sum() < 1.01 * best[1][0]

    exercise = Exercise("1.6", "fit_line", 2, fit_line, lambda g: [Case("a line", (x, y))], "hint", accepts=accepts)
    one = replace(assignment, cases={"1.6": exercise.cases(None)}, expected={"1.6": [fit_line(x, y)]})
    for weights, right in [((0.0, 0.0), True), ((0.004, 0.002), True), ((0.5, 0.0), False), ((math.nan, 0.0), False)]:
        answer = tuple(float(w + d) for w, d in zip(best[0], weights, strict=True))
        assert (result_of(exercise, one, told("1.6", {0: answer}), "").status == "correct") == right


def test_earlier_functions_that_an_answer_calls_are_the_students_if_right_else_ours(assignment):
    sources = {"1.1": "def kl_bits(p, q): return 0", "1.4": "def kl_full(*args): return kl_bits(*args)"}
    last = "def leave_one_out(*args):\n    return kl_full(*args)  # forward_kl_from_q, matched_gaussian"
    submission = Submission("x", "", answers=sources | {"1.7": last})
    right, wrong = Result("correct", 2, 2), Result("wrong", 0, 2)
    assert needed(assignment, submission, {"1.1": right, "1.4": right}, "1.7", set()) == sources  # through each other
    ours = assignment.solutions
    assert needed(assignment, submission, {"1.1": right, "1.4": wrong}, "1.7", set()) == {"1.4": ours["1.4"]}
    assert needed(assignment, submission, {"1.1": wrong, "1.4": right}, "1.7", set()) == sources | {"1.1": ours["1.1"]}


def test_a_later_function_is_put_before_an_answer_only_where_it_was_missed(assignment):
    submission = Submission("x", "", answers={"1.4": "def kl_full(*args): return iwae(args[0])"})
    assert needed(assignment, submission, {}, "1.4", set()) == {}
    assert needed(assignment, submission, {}, "1.4", {"iwae"}) == {"1.6": assignment.solutions["1.6"]}


SECRET = "def kl_bits(p, q): the solution"


def leaky(assignment) -> Result:
    """Return the result of a kernel that puts a secret wherever it can."""
    expected = assignment.expected["1.6"]
    run = told("1.6", {0: SECRET, 1: expected[1] + 1, 2: (SECRET,)}, error=[SECRET, SECRET])
    sent = json.loads(run.told[Cell("calls", "1.6", 0)]["calls"])
    sent["2"] |= {"why": SECRET, "own": [SECRET]}
    sent["3"] = {"error": SECRET, "text": SECRET, "line": SECRET}
    sent["1"] = {"value": ["other", SECRET]}
    run.told[Cell("calls", "1.6", 0)]["calls"] = json.dumps(sent)
    skipped = {"skipped": [[SECRET, SECRET, SECRET]], "lent": [SECRET]}
    run.told[Cell("answer", "1.6")] |= {"calls": json.dumps(skipped), "printed": SECRET}
    return result_of(assignment.exercises["1.6"], assignment, run, "def iwae(w): ...")


def test_beside_a_solution_nothing_is_shown_but_how_many_calls_were_right(assignment):
    exercise, submission = assignment.exercises["1.6"], Submission("x", "", answers={"1.6": "def iwae(w): ..."})
    assert SECRET in json.dumps(asdict(leaky(assignment)))
    result = concealed(in_own_words(leaky(assignment), submission), exercise)
    assert SECRET not in json.dumps(asdict(result))
    assert "1.5" not in result.calls[1].got and [call.passed for call in result.calls] == [False] * 4


def test_a_line_that_an_error_shows_is_one_of_the_students_own(assignment):
    source = "def iwae(w):\n    return np.log(w)"
    submission = Submission("x", "", answers={"1.6": source})
    for line, shown in [("return np.log(w)", "return np.log(w)"), (SECRET, "")]:
        run = told("1.6", {})
        sent = {"0": {"error": "NameError", "text": "name 'np' is not defined", "line": line}}
        run.told[Cell("calls", "1.6", 0)]["calls"] = json.dumps(sent)
        result = in_own_words(result_of(assignment.exercises["1.6"], assignment, run, source), submission)
        assert result.calls[0].error == Error("NameError", "name 'np' is not defined", shown, "np")


def test_an_answer_that_calls_the_courses_own_function_is_wrong_and_flagged(assignment):
    run = told("1.6", {})
    call = {"error": "TheExercise", "text": "…", "line": "", "own": ["divergences.iwae_bound", "x"]}
    sent = {str(number): call for number in range(len(assignment.expected["1.6"]))}
    run.told[Cell("calls", "1.6", 0)]["calls"] = json.dumps(sent)
    result = result_of(assignment.exercises["1.6"], assignment, run, "")
    assert (result.status, result.points) == ("wrong", 0)
    assert result.flags == [Flag("course's own", ("divergences.iwae_bound",))]
    assert "`divergences.iwae_bound` is the course's own function for this" in result.calls[0].advice


def test_skipped_statements_are_told_where_the_answer_is_not_right(assignment):
    skipped = json.dumps({"skipped": [["import wandb", "ModuleNotFoundError", "No module"]] * 5, "lent": ["np"]})
    for offset, flags in [(0, 0), (1, 5)]:
        run = told("1.6", {i: v + offset for i, v in enumerate(assignment.expected["1.6"])})
        run.told[Cell("answer", "1.6")]["calls"] = skipped
        assert len(result_of(assignment.exercises["1.6"], assignment, run, "").flags) == flags
    run = told("1.6", {})
    run.told[Cell("answer", "1.6")]["calls"] = skipped
    result = result_of(assignment.exercises["1.6"], assignment, run, "")
    assert (result.status, message_of(result)) == ("error", "Your cell stopped with ModuleNotFoundError: No module")
    for malformed in ("[", "[]", "7", '{"skipped": 7}', '{"skipped": [7]}', '{"lent": 7}'):
        run.told[Cell("answer", "1.6")]["calls"] = malformed
        assert result_of(assignment.exercises["1.6"], assignment, run, "").cause == "undefined"

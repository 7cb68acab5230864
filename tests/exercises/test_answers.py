"""Answers as students write them, each with its verdict: in the notebook's check and in the grader, whatever is drawn.

They stand in `answers/`, one file a lecture, named as its module of exercises: RIGHT and WRONG, at least six of each.
"""

import importlib.util
import json
import warnings
from importlib import import_module
from pathlib import Path

import pytest
import torch

from course_tools.grading.inside import exchange, harness
from course_tools.grading.judge.judging import outcome_of
from course_utils.calls import fresh
from course_utils.exercises.checking import PARTIAL, earned, problem

LEAST = 6
FILES = sorted((Path(__file__).parent / "answers").glob("*.py"))


def load(path: Path):
    """Return the module of a file."""
    spec = importlib.util.spec_from_file_location(f"answers_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ANSWERS = {path.stem: load(path) for path in FILES}
EXERCISES = {id: e for name in ANSWERS for id, e in import_module(f"course_utils.exercises.{name}").EXERCISES.items()}
RIGHT = [(id, how) for module in ANSWERS.values() for id, found in module.RIGHT.items() for how in found]
WRONG = [(id, what) for module in ANSWERS.values() for id, found in module.WRONG.items() for what in found]


def answer(kind: str, id: str, name: str):
    """Return an answer from the tables: a function, or one with a part of what is said of it."""
    return next(found for m in ANSWERS.values() if (found := getattr(m, kind).get(id, {}).get(name)))


def failures(id: str, function, seed: int) -> tuple[list[str], int]:
    """Return what the notebook's check says of each case that fails, and the number of cases."""
    cases = EXERCISES[id].cases(torch.Generator().manual_seed(seed))
    with warnings.catch_warnings(action="ignore"):  # NumPy's and PyTorch's, of odd answers
        return [text for case in cases if (text := problem(EXERCISES[id], case, function))], len(cases)


def in_the_grader(id: str, function, seed: int) -> list:
    """Return the grader's outcome of each case, with the way through JSON but without a sandbox."""
    exercise, outcomes = EXERCISES[id], []
    for case in exercise.cases(torch.Generator().manual_seed(seed)):
        with warnings.catch_warnings(action="ignore"):
            sent = harness.outcome(function, json.loads(json.dumps(exchange.encode(case.args))), exercise.places)
            expected = exercise.reference(*fresh(case.args))
            outcomes.append(outcome_of(json.loads(json.dumps(sent)), exercise, case, expected))
    return outcomes


@pytest.mark.parametrize("id", EXERCISES)
def test_there_are_enough_answers(id):
    assert len([1 for other, _ in RIGHT if other == id]) >= LEAST
    assert len([1 for other, _ in WRONG if other == id]) >= LEAST


@pytest.mark.parametrize(("id", "how"), RIGHT)
def test_what_is_right_passes(id, how):
    function = answer("RIGHT", id, how)
    for seed in range(5):
        assert failures(id, function, seed)[0] == []
    assert all(outcome.passed for outcome in in_the_grader(id, function, 5))


@pytest.mark.parametrize(("id", "what"), WRONG)
def test_what_is_wrong_is_told_why_and_earns_at_most_a_third(id, what):
    function, said = answer("WRONG", id, what)
    for seed in range(5):
        texts, total = failures(id, function, seed)
        assert texts and said in texts[0]
        assert earned(EXERCISES[id], total - len(texts), total) <= PARTIAL * EXERCISES[id].points + 0.005
    outcomes = in_the_grader(id, function, 5)
    texts, total = failures(id, function, 5)
    wrong = [outcome for outcome in outcomes if not outcome.passed]
    assert len(wrong) == len(texts)
    assert said in texts[0] and (wrong[0].error or said in wrong[0].advice)


def test_in_the_grader_the_check_takes_every_question():
    """There the lecture's set-up imports a stand-in, and a student's cell may ask it for more than to check."""
    assert harness.Mute()("1.1", print) is print
    assert harness.Mute().progress() is harness.Mute().solution("1.1") is None


@pytest.mark.parametrize("change", [{"gradients": 7}, {"gradients": [["plain"]]}, {"changed": "0"}])
def test_another_form_than_the_harness_s_is_refused(change):
    exercise = EXERCISES["2.5"]
    (case, *_) = exercise.cases(torch.Generator().manual_seed(0))
    expected = exercise.reference(*fresh(case.args))
    sent = harness.outcome(exercise.reference, exchange.encode(case.args), exercise.places)
    assert outcome_of(sent, exercise, case, expected).passed
    assert not outcome_of(sent | change, exercise, case, expected).passed


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gradients": []}, "it has no gradient"),
        ({"gradients": [["plain", "x"]]}, "it has the gradient 'x'"),
        ({"gradients": [["tensor", "float64", [1], [1.0]]]}, "it has the gradient shape (1,) [1]"),
        ({"gradients": [["plain", None]], "why": "\ud800"}, "it has no gradient, so nothing can be learnt from it (?)"),
        ({"changed": [0, -1, 10**9, "0", True]}, "changed its argument `kl`"),
    ],
)
def test_what_a_kernel_makes_up_is_no_right_gradient(change, said):
    exercise = EXERCISES["2.5"]
    (case, *_) = exercise.cases(torch.Generator().manual_seed(0))
    expected = exercise.reference(*fresh(case.args))
    sent = harness.outcome(exercise.reference, exchange.encode(case.args), exercise.places)
    outcome = outcome_of(sent | change, exercise, case, expected)
    assert not outcome.passed and said in outcome.advice
    outcome.advice.encode()  # no surrogates, which no file can hold

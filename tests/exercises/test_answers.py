"""Answers as students write them, each with its verdict: in the notebook's check and in the grader, whatever is drawn.

They stand in `answers/`, one file a lecture, named as its module of exercises: RIGHT and WRONG, at least six of each.
"""

import array
import collections
import importlib.util
import json
import math
import pkgutil
import warnings
from decimal import Decimal
from fractions import Fraction
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from course_tools.grading.inside import exchange, harness
from course_tools.grading.judge.judging import outcome_of
from course_utils import exercises
from course_utils.calls import fresh
from course_utils.exercises.checking import PARTIAL, earned, problem
from course_utils.guard import own_functions

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
            own = own_functions(exercise.own, {})
            sent = harness.outcome(function, json.loads(json.dumps(exchange.encode(case.args))), exercise.places, own)
            expected = exercise.reference(*fresh(case.args))
            outcomes.append(outcome_of(json.loads(json.dumps(sent)), exercise, case, expected))
    return outcomes


def test_every_lecture_has_answers():
    modules = {info.name for info in pkgutil.iter_modules(exercises.__path__) if info.name != "checking"}
    assert set(ANSWERS) == modules


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


@pytest.mark.slow  # hundreds of answers, each judged twice
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


OTHER_KINDS = {
    "masked": np.ma.masked_array,
    "array": lambda v: array.array("d", v),
    "deque": collections.deque,
    "matrix": lambda v: np.matrix(v).A1,
    "memoryview": lambda v: memoryview(array.array("d", v)),
    "fractions": lambda v: [Fraction(float(x)) for x in v],
    "decimals": lambda v: tuple(Decimal(float(x)) for x in v),
    "long doubles": lambda v: v.astype(np.longdouble),
    "objects": lambda v: np.array([Fraction(float(x)) for x in v], dtype=object),
    "singles": lambda v: v.astype(np.float32),
    "a view": lambda v: dict(enumerate(v)).values(),
    "a generator": lambda v: (x for x in v),
    "an iterator": iter,
    "complex": lambda v: v + 0j,
    "text": lambda v: np.array([str(x) for x in v]),
    "a set": lambda v: set(v.tolist()),
    "whole numbers": lambda v: range(len(v)),
    "bytes": lambda v: v.tobytes(),
    "unsigned": lambda v: v.astype(np.uint16),
    "rows": lambda v: [np.array(x) for x in v],
    "tensors without dimensions": lambda v: [torch.tensor(x) for x in v],
}
RIGHT_KINDS = [*OTHER_KINDS][:10]


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_numbers_of_every_kind_have_the_same_verdict_in_both(kind):
    exercise, convert = EXERCISES["1.6"], OTHER_KINDS[kind]
    (case, *_) = [c for c in exercise.cases(torch.Generator().manual_seed(0)) if exercise.reference(*c.args).ndim == 1]

    def function(w):
        return convert((w.logsumexp(0) - math.log(len(w))).numpy())

    with warnings.catch_warnings(action="ignore"):
        right = problem(exercise, case, function) is None
        sent = harness.outcome(function, exchange.encode(case.args), ())
    outcome = outcome_of(json.loads(json.dumps(sent)), exercise, case, exercise.reference(*fresh(case.args)))
    assert outcome.passed == right
    assert not right if kind not in RIGHT_KINDS + ["rows", "tensors without dimensions"] else right


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

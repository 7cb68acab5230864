"""What goes between the grader and a student's kernel: arguments there and back, and strangers' answers."""

import json
import math
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from course_tools.grading.hand_in.release import every_exercise
from course_tools.grading.inside import exchange
from course_utils.exercises.checking import agrees, fresh

EXERCISES = every_exercise()


def same(a, b) -> bool:
    """Tell whether two values are the same: kinds, dtypes, shapes and numbers, nan at the same places."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and a.shape == b.shape and equal(a, b)
    if isinstance(a, tuple | list):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, nn.Module):
        mine, other = dict(a.named_parameters()), dict(b.named_parameters())
        return (
            type(a).__name__ == type(b).__name__
            and mine.keys() == other.keys()
            and all(same(mine[n], other[n]) for n in mine)
        )
    return type(a) is type(b) and (a == b or (a != a and b != b))


def equal(a: Tensor, b: Tensor) -> bool:
    """Tell whether two tensors hold the same numbers, nan at the same places."""
    return torch.equal(torch.isnan(a), torch.isnan(b)) and torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))


def through(value):
    """Return a value after its way through JSON, as the grader sends it."""
    return exchange.decode(exchange.parse(json.dumps(exchange.encode(value))))


def back(value):
    """Return a value after its way through JSON, as a student's kernel sends it."""
    return exchange.decode_stranger(exchange.parse(json.dumps(exchange.encode(value))))


@pytest.mark.parametrize("id", EXERCISES)
def test_arguments_arrive_as_they_were(id):
    for case in EXERCISES[id].cases(torch.Generator().manual_seed(3)):
        assert same(tuple(case.args), through(tuple(case.args)))


@pytest.mark.parametrize("id", EXERCISES)
def test_the_reference_gives_the_same_on_what_arrives(id):
    exercise = EXERCISES[id]
    for case in exercise.cases(torch.Generator().manual_seed(3)):
        expected = exercise.reference(*fresh(case.args))
        assert agrees(back(exercise.reference(*through(tuple(case.args)))), expected, exercise.tol)


VALUES = {
    "nan and infinities": torch.tensor([math.nan, math.inf, -math.inf, -0.0, 1e-310]).double(),
    "complex": torch.tensor([[1 + 2j, complex(0, math.inf)]]),
    "complex128, conjugate": torch.tensor([1 + 2j], dtype=torch.complex128).conj(),
    "no numbers": torch.zeros(0, 3),
    "no dimensions": torch.tensor(0.1, dtype=torch.float64),
    "bool": torch.tensor([True, False]),
    "int64": torch.tensor([2**62, -1]),
    "half": torch.tensor([0.1, 65504.0]).half(),
    "bfloat16": torch.tensor([0.1, 3e38]).bfloat16(),
    "uint8": torch.tensor([255], dtype=torch.uint8),
    "not contiguous": torch.arange(6.0).reshape(2, 3).T,
    "nested": (1, 2.5, "text", None, True, [torch.ones(2), (math.nan,)]),
}


@pytest.mark.parametrize("name", VALUES)
def test_there_and_back(name):
    assert same(VALUES[name], through(VALUES[name]))
    assert same(VALUES[name], back(VALUES[name]))


def test_what_students_return_is_understood():
    weight = nn.Parameter(torch.ones(2))
    assert same(back(weight), torch.ones(2))
    assert same(back(torch.eye(2).to_sparse()), torch.eye(2))
    assert same(back(np.float64(0.1)), 0.1)
    assert same(back(np.float32(0.5)), torch.tensor(0.5))
    assert same(back(np.arange(3)), torch.arange(3))
    assert same(back(torch.max(torch.eye(2), 1)), (torch.ones(2), torch.tensor([0, 1])))  # a named tuple


def test_what_can_never_be_right_comes_back_as_its_kind():
    class number:
        pass

    for value, name in [({}, "dict"), (number(), "number object"), (lambda: 0, "function"), (1j, "complex")]:
        assert type(back(value)).__name__ == name
        assert not agrees(back(value), torch.tensor(0.0), 1e9)
    assert type(back(torch.zeros(exchange.MOST + 1))).__name__ == f"tensor of {exchange.MOST + 1} numbers"
    assert type(back([0] * (exchange.LISTED + 1))).__name__ == "list"
    endless: list = []
    endless.append(endless)
    json.dumps(exchange.encode(endless))  # comes to an end


MALFORMED = [
    None,
    7,
    "plain",
    [],
    ["plain"],
    ["plain", []],
    ["plain", 1, 2],
    [["plain"], 1],
    ["list", 5],
    ["list", [5]],
    ["list", [["plain", 0]] * (exchange.LISTED + 1)],
    ["tensor"],
    ["tensor", "float64", [2], [1.0]],
    ["tensor", "float64", [-1], [1.0]],
    ["tensor", "float64", [True], [1.0]],
    ["tensor", "float64", [1.0], [1.0]],
    ["tensor", "float64", 1, [1.0]],
    ["tensor", "float64", [10**12, 0], []],
    ["tensor", "float64", [1] * 17, [1.0]],
    ["tensor", "float64", [1], ["1"]],
    ["tensor", "float64", [1], [None]],
    ["tensor", "float64", [1], [10**400]],
    ["tensor", "object", [1], [1.0]],
    ["tensor", ["float64"], [1], [1.0]],
    ["tensor", "uint8", [1], [math.nan]],
    ["tensor", "int64", [1], [2**70]],
    ["tensor", "complex128", [1], [1.0]],
    ["module", "Linear", "import os", {}, {}],
    ["other", 5],
    {"plain": 1},
]


@pytest.mark.parametrize("value", MALFORMED, ids=lambda value: repr(value)[:40])
def test_a_stranger_s_other_form_is_refused(value):
    with pytest.raises(ValueError, match="."):
        exchange.decode_stranger(value)


def test_nested_too_deeply_is_refused():
    value = ["plain", 0]
    for _ in range(exchange.DEEPEST + 1):
        value = ["list", [value]]
    with pytest.raises(ValueError, match="form"):
        exchange.decode_stranger(value)
    with pytest.raises(ValueError, match="nested"):
        exchange.parse("[" * 100_000)


@pytest.mark.parametrize("name", ["", "x" * 1000, "a\0b", "\ud800", "number", "tensor of shape (2,)"])
def test_a_stranger_s_kind_has_a_harmless_name(name):
    value = exchange.decode_stranger(["other", name])
    assert type(value).__name__.isascii()
    assert len(type(value).__name__) < 100
    assert type(value).__name__ not in ("number", "tensor of shape (2,)")
    assert repr(value) == repr(exchange.decode_stranger(["other", name]))  # no address, which differs between runs


def test_nothing_is_pickled(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("pickle")

    class Poison:
        __reduce__ = __reduce_ex__ = __getstate__ = refuse

    for name in ("dumps", "loads", "dump", "load", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    assert type(back(Poison())).__name__ == "Poison"
    assert type(back(pickle)).__name__ == "module"

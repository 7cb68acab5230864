"""The course's own functions are out of reach of the answer that should do their work, under every name and copy."""

import copy
import functools
import gc
import importlib
import math
import operator
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from course_utils import divergences as dv
from course_utils import guard
from course_utils.calls import call
from course_utils.divergences import kl_table as as_other
from course_utils.exercises import checking
from course_utils.exercises.divergences import EXERCISES

D = dv
P, Q = torch.tensor([0.5, 0.5]), torch.tensor([0.9, 0.1])
NATS = (P * (P / Q).log()).sum()
POOL = ThreadPoolExecutor(1)


def in_a_thread(*args):
    """Return what a thread made of it."""
    found: list = []
    thread = threading.Thread(target=lambda: found.append(dv.kl_table(*args)))
    thread.start()
    thread.join()
    return found[0]


def through_an_exception(*args):
    """Return the value although an exception was raised on the way."""
    try:
        raise ValueError(dv.kl_table(*args))
    except ValueError as error:
        return error.args[0]


WAYS = {
    "as it is": lambda p, q: dv.kl_table(p, q),
    "another module name": lambda p, q: D.kl_table(p, q),
    "import as": lambda p, q: as_other(p, q),
    "getattr": lambda p, q: getattr(dv, "kl_" + "table")(p, q),
    "attrgetter": lambda p, q: operator.attrgetter("kl_table")(dv)(p, q),
    "importlib": lambda p, q: importlib.import_module("course_utils.divergences").kl_table(p, q),
    "sys.modules": lambda p, q: sys.modules["course_utils." + "divergences"].kl_table(p, q),
    "vars": lambda p, q: vars(dv)["kl_table"](p, q),
    "globals of another function": lambda p, q: dv.entropy_table.__globals__["kl_table"](p, q),
    "gc": lambda p, q: next(
        f for f in gc.get_objects() if isinstance(f, types.FunctionType) and f.__name__ == "kl_table"
    )(p, q),
    "partial": functools.partial(dv.kl_table),
    "map": lambda p, q: next(map(dv.kl_table, [p], [q])),
    "deep copy": copy.deepcopy(dv.kl_table),
    "a new function of its code": lambda p, q: types.FunctionType(dv.kl_table.__code__, vars(dv))(p, q),
    "__call__": lambda p, q: dv.kl_table.__call__(p, q),
    "eval": lambda p, q: eval("dv.kl_table(p, q)", {"dv": dv, "p": p, "q": q}),
    "a thread": in_a_thread,
    "a thread that was there before": lambda p, q: POOL.submit(dv.kl_table, p, q).result(),
    "an exception": through_an_exception,
    "itself": dv.kl_table,
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("way", WAYS)
def test_no_way_leads_to_the_function(way):
    POOL.submit(int).result()
    own = guard.own_functions(["divergences.kl_table"], {})
    with pytest.raises(IndexError if way == "a thread" else guard.TheExercise):
        call(WAYS[way], lambda: (P, Q), (), own)
    assert torch.allclose(call(WAYS[way], lambda: (P, Q)).value, NATS)


@pytest.mark.parametrize("way", [way for way in WAYS if way not in ("itself", "a thread")])
def test_the_check_in_the_notebook_tells(way, capsys):
    check = checking.InstantCheck(EXERCISES)
    check("1.1", lambda p, q: WAYS[way](p, q) / math.log(2))
    assert "`divergences.kl_table` is the course's own function for this" in capsys.readouterr().out


def test_other_functions_and_ones_own_work():
    own = guard.own_functions(["divergences.kl_table"], {})
    mine = types.FunctionType(dv.kl_table.__code__.replace(co_filename="mine"), vars(dv), "kl_table")  # typed again
    for function in (lambda p, q: dv.entropy_table(p), mine):
        assert call(function, lambda: (P, Q), (), own).value.isfinite().all()


def test_what_was_sealed_is_nowhere_in_the_process():
    """Unlike names, nothing leads to a code that nobody keeps: not the function's referents, not its parents."""
    made: dict = {}
    exec("def sealed_once(x):\n    return x + 12345.678", made)
    function, code = made["sealed_once"], made["sealed_once"].__code__
    assert guard.seal("vae.sealed_once", function) is code
    assert guard.seal("vae.sealed_once", function) is None  # it is
    with pytest.raises(guard.TheExercise, match="vae.sealed_once does what this exercise asks for"):
        function(1)
    here = sys._getframe()
    assert [kept for kept in gc.get_referrers(code) if kept is not here] == []


def test_afterwards_nothing_is_left():
    before = dv.kl_table.__code__
    with pytest.raises(ZeroDivisionError):
        call(lambda p, q: 1 / 0, lambda: (P, Q), (), guard.own_functions(["divergences.kl_table"], {}))
    assert dv.kl_table.__code__ is before


def test_methods_properties_and_the_notebooks_own_are_found():
    names = ["densities.GaussianMixture.mean", "divergences.ProbabilisticPCA.fit", "vae.evaluate_terms", "f", "g", "h"]
    found = guard.own_functions(names, {"f": in_a_thread, "g": 7})
    assert list(found) == [*names[:3], "f"]
    assert all(isinstance(function, types.FunctionType) for function in found.values())

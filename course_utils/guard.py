"""Notes which of the course's own functions run while an answer is judged, under whatever name it got hold of them.

The code of such a function is replaced by a gate's: so every alias, copy and thread meets the gate, and whoever calls
the function for another purpose still gets what it gives.
"""

import importlib
import inspect
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import CodeType, FunctionType

GATE = (
    "def gate(*args, **kwargs):\n    from course_utils.guard import through\n    return through({!r}, args, kwargs)\n"
)
FILE = "<the course's own function>"
_behind: dict[str, tuple[FunctionType, CodeType]] = {}  # key → a function and its code, now behind a gate
_ran: set[str] = set()  # keys of those that ran
_home = os.getpid()


def find(name: str) -> FunctionType:
    """Return a function of the course, such as "divergences.kl_table" or "densities.GaussianMixture.mean"."""
    module, *path = name.split(".")
    found = importlib.import_module(f"course_utils.{module}")
    for part in path:
        found = inspect.getattr_static(found, part)
    return inspect.unwrap(getattr(found, "fget", None) or getattr(found, "__func__", found))


def own_functions(names: Iterable[str], namespace: Mapping) -> dict[str, FunctionType]:
    """Return name → function of names of the package, and of those without a dot that a namespace has functions for."""
    found = {name: find(name) if "." in name else namespace.get(name) for name in names}
    return {name: function for name, function in found.items() if isinstance(function, FunctionType)}


def key_of(function: FunctionType) -> str:
    """Return what tells a function from all others."""
    return f"{function.__module__}.{function.__qualname__}"


def through(key: str, args: tuple, kwargs: dict):
    """Return what the function behind a gate gives, and note that it ran. In a forked process, which has no notes to
    give back, raises ``RuntimeError``."""
    if os.getpid() != _home:
        raise RuntimeError(f"{key} is what the exercise asks for")
    _ran.add(key)
    function, code = _behind[key]
    behind = FunctionType(code, function.__globals__, function.__name__, function.__defaults__)
    behind.__kwdefaults__ = function.__kwdefaults__
    return behind(*args, **kwargs)


def close(function: FunctionType) -> CodeType | None:
    """Put a gate before a function; return its code, or None if there is a gate already or it can't have one."""
    code = function.__code__
    if code.co_filename == FILE or code.co_freevars:
        return None
    _behind[key_of(function)] = function, code
    made: dict = {}
    exec(compile(GATE.format(key_of(function)), FILE, "exec"), made)
    function.__code__ = made["gate"].__code__
    return code


@contextmanager
def noting(own: Mapping[str, FunctionType]) -> Iterator[list[str]]:
    """Give a list that holds, in the end, the names of those functions that ran meanwhile, whoever called them."""
    global _home
    _home = os.getpid()
    closed = {function: code for function in own.values() if (code := close(function))}
    _ran.clear()
    names: list[str] = []
    try:
        yield names
    finally:
        names += [name for name, function in own.items() if key_of(function) in _ran]
        for function, code in closed.items():
            function.__code__ = code

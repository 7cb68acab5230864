"""Takes the course's own functions away while an answer to what they do is judged, under whatever name it got them.

The code of such a function is replaced by one that raises ``TheExercise``: so every alias, copy and thread meets it.
"""

import importlib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import CodeType, FunctionType

SEAL = """def sealed(*args, **kwargs):
    from course_utils.guard import TheExercise
    raise TheExercise({!r})
"""
FILE = "<what the exercise asks for>"


class TheExercise(RuntimeError):
    """Raised in the place of a function of the course, `name`, that does what the exercise asks for."""

    def __init__(self, name: str):
        super().__init__(f"{name} does what this exercise asks for")
        self.name = name


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


def seal(name: str, function: FunctionType) -> CodeType | None:
    """Leave of a function nothing but the error that names it; return its code, which nothing here keeps.

    None: it is sealed already, or is a closure, which can't be.
    """
    code = function.__code__
    if code.co_filename == FILE or code.co_freevars:
        return None
    made: dict = {}
    exec(compile(SEAL.format(name), FILE, "exec"), made)
    function.__code__ = made["sealed"].__code__
    return code


@contextmanager
def sealed(own: Mapping[str, FunctionType]) -> Iterator[None]:
    """Keep functions, by the names to tell, sealed meanwhile."""
    codes = [(function, code) for name, function in own.items() if (code := seal(name, function))]
    try:
        yield
    finally:
        for function, code in codes:
            function.__code__ = code

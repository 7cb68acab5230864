"""What runs in the student's kernel: it calls the answers on the inputs of this run and sends back what came.

Nothing here knows an expected value. Whoever tampers with it sends other numbers, and those are compared elsewhere.
"""

import json
import sys
import traceback
import types
from collections.abc import Mapping
from pathlib import Path

import torch

from course_tools.grading.inside import exchange, statements
from course_utils import calls
from course_utils.guard import TheExercise, own_functions, seal

MIME = "application/x-course-calls+json"
INPUTS, NOTEBOOK = Path("inputs.json"), Path("notebook.json")
inputs: dict[str, list] = {}  # of each exercise, read in the set-up: later the folder may be another
notebook: dict = {}  # the cells that may be lent: {"answers": {id: source}, "others": [source], "lecture": [source]}


class Mute:
    """In the place of the instant check: gives every answer back, and says nothing to what else is asked of it."""

    def __call__(self, id: str, function):
        return function

    def __getattr__(self, name: str):
        return lambda *args: None


def as_it_is(model=None, **_):
    """Return what was to be compiled by ``torch.compile``, or a decorator that does: a compiler has no place here."""
    return as_it_is if model is None else model


def stand_in(modules: list[str], own: list[str]) -> None:
    """Read the inputs; put modules with a mute `check` in place of the course's exercises, which are not here.

    `own`: the course's functions that do what the exercises judged here ask for. From here on they are gone: an
    answer may do in this process what it likes, and doesn't find them.
    """
    inputs.update(json.loads(INPUTS.read_text("utf-8")))
    notebook.update(json.loads(NOTEBOOK.read_text("utf-8")))
    for name in ("course_utils.exercises", *modules):
        module = sys.modules[name] = types.ModuleType(name)
        module.check = Mute()
    torch.compile = as_it_is
    for name, function in own_functions(own, {}).items():
        seal(name, function)


def send(value) -> None:
    """Send a value to the grader."""
    from IPython.display import display

    display({MIME: json.dumps(value)}, raw=True)


def define(id: str, source: str, namespace: dict, seconds: float, function: str, only: bool = False) -> None:
    """Run the cell of an answer, or `only` what its function needs; send what was skipped and what lent.

    Where the cell binds data to the function's name later, such as ``losses = []``, the function stays.
    """
    from IPython import get_ipython

    compile = get_ipython().compile
    answers = [cell for other, cell in notebook["answers"].items() if other != id]
    bench = statements.Bench(
        namespace, [notebook["others"], answers, notebook["lecture"]], seconds, compile.cache, compile, function
    )
    if only:
        statements.run_needed(bench, source, function)
    else:
        statements.run_cell(bench, source)
    if bench.whole is not None:
        namespace[function] = bench.whole
    send({"skipped": bench.skipped, "lent": [name for name in dict.fromkeys(bench.lent) if name not in bench.own]})


def line_of(error: BaseException) -> str:
    """Return the innermost line of the notebook's own code in a traceback, or nothing."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "ipykernel" in f.filename or "<" in f.filename]
    return (frames[-1].line or "") if frames else ""


def outcome(function, arguments: list, places: tuple[int, ...], own: Mapping | None = None) -> dict:
    """Call a function on encoded arguments; return what it returned, encoded, with the gradients, or its error."""
    try:
        got = calls.call(function, lambda: exchange.decode(arguments), places, own)
        gradients = [exchange.encode(v) for v in got.gradients]
        value = exchange.encode(got.value)
        return {"value": value, "gradients": gradients, "changed": list(got.changed), "why": got.why[:300]}
    except BaseException as error:  # sys.exit too
        kind, text = statements.described(error)
        own = [error.name] if isinstance(error, TheExercise) else []
        return {"error": kind, "text": text[:1000], "line": line_of(error)[:300], "own": own}


def run(
    id: str,
    name: str,
    namespace: Mapping,
    numbers: list[int],
    places: tuple[int, ...] = (),
    own: tuple[str, ...] = (),
) -> None:
    """Call the answer to an exercise, the function `name`, on the inputs with these numbers; send what came.

    `places` are those of the arguments with respect to which gradients are sent, too; `own` are the names of the
    course's functions that the answer may not leave its work to.
    """
    if name in namespace:
        taken = own_functions(own, namespace)
        send({str(i): outcome(namespace[name], inputs[id][i], places, taken) for i in numbers})
    else:
        send({str(i): {"undefined": True} for i in numbers})

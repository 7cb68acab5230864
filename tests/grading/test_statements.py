"""A student's cell, statement by statement: what runs, what is skipped, what other cells lend; without a kernel."""

import math
import time

import pytest
from IPython.core.compilerop import CachingCompiler

from course_tools.grading.inside.statements import Bench, run_cell, run_needed, statements

COMPILE = CachingCompiler()


def bench(*pools: list[str], seconds: float = 5.0, function: str = "", **names) -> Bench:
    """Return a bench with the names of a set-up."""
    return Bench({"math": math, **names}, list(pools), seconds, COMPILE.cache, COMPILE, function)


def after(source: str, *pools: list[str], **rest) -> Bench:
    """Return the bench on which a cell has run."""
    made = bench(*pools, **rest)
    run_cell(made, source)
    return made


HEADS = {
    "a magic": "%matplotlib qt",
    "a magic that nothing knows": "%load_ext nothing",
    "the shell": "!pip install wandb",
    "what the shell says": "files = !ls",
    "help": "math.log?",
    "an import": "import wandb_is_not_here",
    "another": "from google.colab import drive\ndrive.mount('/x')",
    "a file": "data = open('is/not/here.csv').read()",
    "an assertion": "assert 1 + 1 == 3, 'what?'",
    "an end": "raise SystemExit",
    "another end": "import sys\nsys.exit(1)",
    "an exception without words": "class E(Exception):\n    def __str__(self):\n        raise self\nraise E",
    "a name of nothing": "print(nothing)",
    "an interrupt": "raise KeyboardInterrupt",
    "time": "%%time",
    "capture": "%%capture out",
    "a magic of an extension": "%%memit -r 1",
    "a magic that writes a module": "%%writefile -a mine.py",
}


@pytest.mark.parametrize("head", HEADS)
def test_no_head_costs_the_function(head):
    assert after(f"{HEADS[head]}\ndef f(x):\n    return x + 1").namespace["f"](1) == 2


@pytest.mark.parametrize("head", HEADS)
def test_no_foot_costs_the_function(head):
    foot = "" if HEADS[head].startswith("%%") else HEADS[head]
    assert after(f"def f(x):\n    return x + 1\n{foot}").namespace["f"](1) == 2


DEFINITIONS = {
    "types": "def f(x: Float[Tensor, 'n'], *more: npt.NDArray, y: Y = 0) -> math.Typed:",
    "a decorator": "@beartype\ndef f(x):",
    "a decorator of a module": "@numba.njit(cache=True)\ndef f(x):",
    "both": "@jaxtyped(typechecker=typechecker)\ndef f(x: Float) -> Float:",
}


@pytest.mark.parametrize("head", DEFINITIONS)
def test_types_and_decorators_that_are_not_there_do_not_cost_the_function(head):
    made = after(f"{DEFINITIONS[head]}\n    return x + 1")
    assert made.namespace["f"](1) == 2
    assert [kind for _, kind, _ in made.skipped] in (["NameError"], ["AttributeError"])
    lent = after("y = f(1)", [f"{DEFINITIONS[head]}\n    return x + 1"])
    assert lent.namespace["y"] == 2 and lent.skipped == []


def test_a_decorator_that_is_there_stays_where_a_type_is_not():
    assert (
        after("def twice(f):\n    return lambda x: 2 * f(x)\n@twice\ndef f(x: X):\n    return x").namespace["f"](3) == 6
    )


def test_what_another_program_runs_is_not_python():
    for magic in ("bash", "sh", "html", "writefile notes.txt", "script python", "R -i x"):
        assert "f" not in after(f"%%{magic}\nf = 1").namespace


def test_what_failed_is_told_and_what_is_a_command_is_not():
    made = after("%matplotlib qt\nimport wandb_is_not_here\nx = 1\ny = x / 0\n!ls")
    assert [line for line, *_ in made.skipped] == ["import wandb_is_not_here", "y = x / 0"]
    assert [kind for _, kind, _ in made.skipped] == ["ModuleNotFoundError", "ZeroDivisionError"]


def test_the_magic_time_runs_its_statement():
    assert after("%time x = 3").namespace["x"] == 3


def test_an_experiment_ends_and_what_comes_after_it_is_defined():
    start = time.monotonic()
    made = after("while True:\n    pass\nimport time\ntime.sleep(100)\nclass A:\n    x = 1\ny = 2", seconds=0.3)
    assert time.monotonic() - start < 50
    assert [kind for _, kind, _ in made.skipped] == ["TimeoutError"] * 2
    assert made.namespace["A"].x == 1 and made.namespace["y"] == 2


def test_a_cell_that_is_no_python_as_a_whole_gives_the_parts_that_are():
    made = after("def f(x):\n    a = x\n\n    return a\n\nNow I try it:\n\nprint(f(1)\n\ny = f(2)")
    assert made.namespace["y"] == 2
    assert [kind for _, kind, _ in made.skipped] == ["SyntaxError"]


KINDS = {
    "def": "def helper(x):\n    return x",
    "lambda": "helper = lambda x: x",
    "class": "class helper:\n    def __new__(cls, x):\n        return x",
    "import": "from copy import copy as helper",
    "constant": "BASE = math.floor(1.5)\nhelper = {BASE: lambda x: x}[BASE]",
    "changed": "table = {}\ntable['h'] = lambda x: x\ndef helper(x):\n    return table['h'](x)",
    "appended": "table = []\ntable.append(lambda x: x)\nhelper = table[0]",
    "in a loop": "for helper in [int]:\n    pass",
    "in a try": "try:\n    from nothing_here import helper\nexcept ImportError:\n    def helper(x):\n        return x",
    "in an if": "if True:\n    helper = int",
    "with": "import contextlib\nwith contextlib.nullcontext(int) as helper:\n    pass",
    "a pair": "helper, other = int, float",
    "annotated": "helper: type = int",
    "a walrus": "if (helper := int):\n    pass",
    "a walrus alone": "(helper := int)",
    "everything of a module": "from math import *\nfrom nothing_here import *\nhelper = floor",
    "twice": "helper = None\nhelper = int",
    "through another cell": "helper = further",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_is_lent_by_whatever_binds_it_in_a_cell_that_fails(kind):
    cells = [f"import pandas_is_not_here\n{KINDS[kind]}\nprint(undefined)", "further = int\n1 / 0"]
    made = after("def f(x):\n    return helper(x)\ny = f(3)", cells)
    assert made.namespace["y"] == 3
    assert "helper" in made.lent and made.skipped == []


def test_only_what_binds_a_missing_name_is_run():
    cells = ["happened = []\nhappened.append(1)\nmath = None\nimport math as m\nhelper = m.sqrt", "ran = True"]
    made = after("def f(x):\n    return helper(x) + len(x)", cells)
    assert made.namespace["math"] is math and made.namespace["helper"] is math.sqrt
    assert not {"happened", "ran"} & set(made.namespace)


@pytest.mark.parametrize(
    "own",
    [
        "for name in ['a']:\n    print(name)",
        "with math.inf as name:\n    print(name)",
        "if name := 1:\n    print(name)",
        "try:\n    name = 1\nfinally:\n    print(name)",
    ],
)
def test_a_name_that_a_statement_binds_itself_before_it_needs_it_is_not_lent(own):
    assert "slow" not in after(own, ["slow = name = 1"]).namespace


def test_of_a_module_that_is_imported_whole_only_the_name_is_taken():
    made = after(
        "def f(x):\n    return floor(x) + pow(x, 2)\ny = f(3)", ["from nothing_here import *", "from math import *"]
    )
    assert made.namespace["y"] == 12 and made.lent == ["floor"] and "ceil" not in made.namespace
    assert "nothing" not in after("def f():\n    return nothing", ["from math import *"]).namespace


@pytest.mark.parametrize("run", [run_cell, lambda made, source: run_needed(made, source, "losses")])
@pytest.mark.parametrize("later", ["losses = []\nlosses.append(1)", "losses = losses()\nprint(losses + 1)"])
def test_what_was_bound_last_that_can_be_called_is_known(run, later):
    made = bench(function="losses")
    run(made, f"def losses():\n    return 3\n{later}")
    assert made.whole() == 3 and made.skipped == []


def test_ones_own_cells_lend_before_the_lectures():
    made = after("y = c", ["c = 1"], ["c = 2", "d = 3"])
    assert made.namespace["y"] == 1
    assert after("y = d", ["c = 1"], ["c = 2", "d = 3"]).namespace["y"] == 3


def test_names_that_need_each_other_come_to_an_end():
    made = after("z = x", ["x = y", "y = x"])
    assert [kind for _, kind, _ in made.skipped] == ["NameError"]


def test_only_what_a_function_needs_is_run():
    source = """
import math as m
m = m
unit = m.log(2)
happened = True
while True:
    pass
def helper(x):
    return x / unit
def f(x):
    return helper(x)
first = f
def f(x):
    return first(x)
f(2)
"""
    made = bench()
    run_needed(made, source, "f")
    assert made.namespace["f"](unit := math.log(2)) == unit / unit
    assert "happened" not in made.namespace and made.skipped == []


def test_a_setting_of_what_a_function_uses_is_part_of_what_it_needs():
    made = bench(torch=type("torch", (), {"set": lambda value: setattr(math, "course_test", value)}))
    run_needed(made, "torch.set(1)\nother = 1\ndef f():\n    return torch, math.course_test", "f")
    assert made.namespace["f"]()[1] == 1 and "other" not in made.namespace
    del math.course_test


def test_a_statement_is_found_under_its_own_line_and_file():
    (first, second), errors = statements("x = 1\ny = (2,\n  3)", COMPILE.cache)
    assert (first.text, second.text, errors) == ("x = 1", "y = (2,", [])
    assert first.file == second.file and "ipykernel" in first.file or "ipython" in first.file

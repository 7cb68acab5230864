"""The equation check must fail where an equation does."""

import math
from collections import namedtuple

import pytest
import torch

from course_utils import divergences
from course_utils import verify as verify_module
from course_utils.verify import COLUMNS, EquationFails, expect, narrow, refute, show_source, verify


def test_a_run_that_differs_is_told_and_goes_on(capsys):
    expect(True, "all 8 modes are covered")
    expect(False, "all 8 modes are covered")
    right, differs = capsys.readouterr().out.splitlines()
    assert right == "✓ all 8 modes are covered"
    assert differs.startswith("⚠ Your run differs from ours: we expected that all 8 modes are covered")


def test_prints_both_numbers(capsys):
    verify("1.6a", 0.44312, 0.4428, se=0.0011, names=("closed form", "Monte Carlo"))
    assert capsys.readouterr().out == "✓ (1.6a) closed form 0.4431 · Monte Carlo 0.4428 ± 0.0011\n"


@pytest.mark.parametrize(
    ("left", "right", "options"),
    [
        (1.0, 1.001, {}),
        (1.0, 1.05, {"se": 0.01}),
        (1.0, 0.9, {"relation": "<="}),
        (1.0, 1.0, {"relation": "<"}),
        (torch.zeros(3), torch.tensor([0.0, 0.0, 1.0]), {}),
        (float("nan"), float("nan"), {}),
        (0.0, float("nan"), {"relation": "<="}),
        (math.inf, 1e300, {}),
    ],
)
def test_raises_with_both_numbers(left, right, options):
    with pytest.raises(EquationFails, match=r"\(9\.9z\) left .* right .* fails"):
        verify("9.9z", left, right, **options)


@pytest.mark.parametrize(
    ("left", "right", "options"),
    [
        (1.0, 1.0 + 1e-9, {}),
        (1.0, 1.03, {"se": 0.01}),
        (0.9, 1.0, {"relation": "<"}),
        (math.inf, math.inf, {}),
        (torch.zeros(2, 3), torch.zeros(3), {}),
        (0.0, torch.tensor([0.0, 5.0]), {"relation": "<="}),
    ],
)
def test_passes(left, right, options, capsys):
    verify("1.1a", left, right, **options)
    assert capsys.readouterr().out.startswith("✓ (1.1a)")


def test_never_prints_a_negative_zero(capsys):
    verify("1.1a", -1e-12, 0.0)
    assert "-0.0000" not in capsys.readouterr().out


@pytest.mark.parametrize("se", [float("nan"), math.inf, -1.0])
def test_bad_standard_errors(se):
    with pytest.raises(ValueError, match="standard error"):
        verify("1.1a", 1.0, 1.0, se=se)


def test_estimates_bring_their_standard_error(capsys):
    estimate = namedtuple("Estimate", "value se")(torch.tensor(1.03), torch.tensor(0.01))
    verify("1.1a", estimate, 1.0)
    verify("1.1a", 1.0, estimate)
    assert "left 1.0300 ± 0.0100 · right 1.0000" in capsys.readouterr().out
    with pytest.raises(EquationFails):
        verify("1.1a", estimate, 1.1)
    with pytest.raises(ValueError, match="2 standard errors"):
        verify("1.1a", estimate, estimate)


def test_many_pairs_print_the_telling_one(capsys):
    verify("1.1a", torch.tensor([1.0, -3.0]), torch.tensor([1.0, -3.0]))
    verify("1.1b", torch.tensor([1.0, 2.0]), torch.tensor([5.0, 2.5]), relation="<=")
    assert capsys.readouterr().out == (
        "✓ (1.1a) left -3.0000 · right -3.0000 (the largest of 2 pairs)\n"
        "✓ (1.1b) left 2.0000 ≤ right 2.5000 (the closest of 2 pairs)\n"
    )


def test_unknown_relation():
    with pytest.raises(ValueError, match="allowed"):
        verify("1.1a", 1.0, 1.0, relation="≈")


def test_refute(capsys):
    refute("E1.2", 1.0, 2.0, names=("a", "b"), gap=0.5)
    assert capsys.readouterr().out == "✗ (E1.2) is wrong: a 1.0000 · b 2.0000\n"
    with pytest.raises(EquationFails, match="agree"):
        refute("E1.2", 1.0, 1.2, names=("a", "b"), gap=0.5)


SOURCE = """
def double_or_not(weights: torch.Tensor, means: torch.Tensor, sigmas: torch.Tensor, factor: float = 2.0) -> float:
    # A comment that stands by itself and is longer than any line that is shown, so that it has to become two.
    total = sum(w * (m + s) for w, m, s in zip(weights.tolist(), means, sigmas.tolist(), strict=True))  # one
    text = f"{total:.3f} is the sum of {len(weights)} products, and this sentence has commas, and, and (brackets)"
    return total * factor - (total if len(text) > 200 else 0.0) + {"a": 1.0, "b": 2.0}["a" if total > 0 else "b"] - 1
"""


@pytest.mark.parametrize("columns", [60, 92])
def test_long_lines_of_a_shown_source_are_broken_and_it_does_the_same(columns):
    shown = narrow(SOURCE.strip(), columns)
    lines = shown.splitlines()
    assert all(len(line) <= columns or 'f"' in line for line in lines)  # a string is never broken
    results = []
    for code in (SOURCE, shown):
        space = {"torch": torch}
        exec(code, space)
        three = torch.tensor([0.2, 0.3, 0.5]), torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.1, 0.2, 0.3])
        results.append(space["double_or_not"](*three))
    assert results[0] == results[1] == pytest.approx(2 * (0.22 + 0.66 + 1.65))
    assert lines[lines.index("    # one") + 1].startswith("    total = sum(")
    code = ["def f(x):", "    return x  # short"]
    assert narrow("\n".join(code), columns).splitlines() == code


def test_a_source_is_shown_without_its_docstring_and_no_line_is_too_long(monkeypatch):
    shown = []
    monkeypatch.setattr(verify_module, "display", lambda data, raw: shown.append(data))
    show_source(divergences.kl_gaussian_full)
    text = shown[0]["text/plain"]
    assert max(map(len, text.splitlines())) <= COLUMNS and '"""' not in text
    assert "def kl_gaussian_full(" in text and text in shown[0]["text/markdown"]

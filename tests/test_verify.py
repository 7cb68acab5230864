"""The equation check must fail where an equation does."""

import math
from collections import namedtuple

import pytest
import torch

from course_utils.verify import EquationFails, expect, refute, verify


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

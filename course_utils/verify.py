"""The numbered-equation check: every identity and inequality of a lecture is compared with numbers."""

import torch
from torch import Tensor

from course_utils.errors import choose

SIGMAS = 4.0  # standard errors allowed between an estimate and its expectation: missed by chance once in 16,000


class EquationFails(AssertionError):
    """An equation of the lecture does not hold for the numbers that were put in."""


def verify(
    tag: str,
    left: Tensor | float,
    right: Tensor | float,
    *,
    names: tuple[str, str] = ("left", "right"),
    relation: str = "=",
    se: Tensor | float | None = None,
    tol: float = 1e-6,
) -> None:
    """Check equation `tag`: ``left = right``, ``left <= right`` or ``left < right``; print one line or raise.

    `left`, `right`: numbers or tensors that broadcast; each pair must obey the relation. `names`: what each side is.
    One of them may be a Monte Carlo estimate, with attributes `value` and `se`, or `se` names the standard error of
    their difference: then four standard errors are allowed, else `tol` * max(1, |right|). "<" must hold by more than
    what is allowed.
    Raises ``EquationFails`` (an ``AssertionError``) with both numbers, ``ValueError`` for an unknown relation.
    """
    choose(relation, ("=", "<=", "<"), "relation")
    left, se = (left.value, left.se) if hasattr(left, "se") else (left, se)
    right, se = (right.value, right.se) if hasattr(right, "se") else (right, se)
    left, right = torch.broadcast_tensors(*(torch.as_tensor(v, dtype=torch.float64).cpu() for v in (left, right)))
    slack = tol * right.abs().clamp(1, 1e300) if se is None else SIGMAS * torch.as_tensor(se, dtype=torch.float64).cpu()
    slack = slack.broadcast_to(left.shape)
    holds = {
        "=": (left == right) | ((left - right).abs() <= slack),
        "<=": left <= right + slack,
        "<": left < right - slack,
    }[relation]
    if not holds.all():  # NaN is never right
        i = int((~holds).flatten().nonzero()[0])
        raise EquationFails(
            f"✗ ({tag}) {names[0]} {left.flatten()[i]:.8g} {relation} {names[1]} {right.flatten()[i]:.8g} fails "
            f"(allowed difference {slack.flatten()[i]:.3g}; {int((~holds).sum())} of {holds.numel()} comparisons fail)"
        )
    print(f"✓ ({tag}) {describe(left, right, names, relation, se)}")


def refute(label: str, left: Tensor | float, right: Tensor | float, *, names: tuple[str, str], gap: float) -> None:
    """Show that a wrong equation fails: print both sides; raise ``EquationFails`` if they lie within `gap`."""
    left, right = float(left), float(right)
    if not abs(left - right) > gap:
        raise EquationFails(f"({label}) {names[0]} {left:.8g} and {names[1]} {right:.8g} agree to within {gap}")
    print(f"✗ ({label}) is wrong: {names[0]} {number(left)} · {names[1]} {number(right)}")


def describe(left: Tensor, right: Tensor, names: tuple[str, str], relation: str, se: Tensor | float | None) -> str:
    """Return what was compared, rounded so that the same computation prints the same text on every machine."""
    if left.numel() > 1:
        allowed = "four standard errors" if se is not None else "the tolerance"
        word = "agree within" if relation == "=" else f"obey {relation} within"
        return f"{names[0]} {relation} {names[1]}: {left.numel()} pairs {word} {allowed}"
    error = "" if se is None else f" ± {number(torch.as_tensor(se).item())}"
    sign = "·" if relation == "=" else relation.replace("<=", "≤")
    return f"{names[0]} {number(left.item())} {sign} {names[1]} {number(right.item())}{error}"


def number(value: float) -> str:
    """Return `value` with four decimals, or four significant digits where it is large; never a negative zero."""
    return f"{round(value, 4) + 0.0:.4f}" if abs(value) < 1000 else f"{value:.4g}"

"""The twins in JavaScript compute what Python computes, at random states and at the ends of all ranges."""

from collections.abc import Mapping

import numpy as np
import pytest

from course_utils.widgets import divergences, flows, gan_game
from course_utils.widgets.stage import Choice, Declaration, State, Switch

pytestmark = pytest.mark.browser
STATES, CORNERS = 140, 60
RELATIVE, NOTHING = 1e-6, 1e-9
TWINS = {d.name: d for d in (divergences.KL, divergences.ELBO, gan_game.GAN, flows.PLANAR)}


def states(declaration: Declaration) -> list[State]:
    """Return random states, and states made of the ends of ranges."""
    rng = np.random.default_rng(0)

    def drawn(control, corner: bool):
        if isinstance(control, Choice):
            return str(rng.choice(list(control.options)))
        if isinstance(control, Switch):
            return bool(rng.integers(2))
        return float(rng.choice([control.low, control.high]) if corner else rng.uniform(control.low, control.high))

    return [
        {name: drawn(control, i >= STATES) for name, control in declaration.controls.items()}
        for i in range(STATES + CORNERS)
    ]


def flat(numbers: Mapping, name: str = "") -> dict[str, np.ndarray]:
    """Return name → numbers in one row, of parts of parts too."""
    found = {}
    for key, value in numbers.items():
        parts = value._asdict() if hasattr(value, "_asdict") else value
        if isinstance(parts, Mapping):
            found |= flat(parts, f"{name}{key}.")
        else:
            found[name + key] = np.asarray(parts, float).ravel()
    return found


@pytest.mark.parametrize("name", TWINS)
def test_the_same_numbers(bare, name):
    """Each number to a millionth of itself, or to 1e-9 where it is as good as nothing, of nats, places or densities."""
    declaration, tried = TWINS[name], states(TWINS[name])
    for state, there in zip(tried, bare.computed(declaration, tried), strict=True):
        mine, other = flat(declaration.compute(state)._asdict()), flat(there)
        assert mine.keys() == other.keys()
        for key, value in mine.items():
            assert value.shape == other[key].shape, (key, state)
            error = np.abs(other[key] - value) - RELATIVE * np.abs(value)
            assert error.max() <= NOTHING, (key, state, value[error.argmax()], other[key][error.argmax()])

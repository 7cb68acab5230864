"""The twins in JavaScript compute what Python computes, at random states and at the ends of all ranges."""

import numpy as np
import pytest
import stage_page

from course_utils.widgets import divergences, gan_game
from course_utils.widgets.stage import Choice, Declaration, State

pytestmark = pytest.mark.browser
STATES, CORNERS = 140, 60
TWINS = {d.name: d for d in (divergences.KL, divergences.ELBO, gan_game.GAN)}


def states(declaration: Declaration) -> list[State]:
    """Return random states, and states made of the ends of ranges."""
    rng = np.random.default_rng(0)

    def drawn(control, corner: bool):
        if isinstance(control, Choice):
            return str(rng.choice(list(control.options)))
        return float(rng.choice([control.low, control.high]) if corner else rng.uniform(control.low, control.high))

    return [
        {name: drawn(control, i >= STATES) for name, control in declaration.controls.items()}
        for i in range(STATES + CORNERS)
    ]


@pytest.fixture(scope="module")
def stage(browser, tmp_path_factory):
    with stage_page.served(tmp_path_factory.mktemp("page")) as address:
        opened = stage_page.Stage(browser, address)
        yield opened
        assert opened.complaints == []
        opened.close()


@pytest.mark.parametrize("name", TWINS)
def test_the_same_numbers(stage, name):
    declaration, tried = TWINS[name], states(TWINS[name])
    for state, there in zip(tried, stage.computed(declaration, tried), strict=True):
        here = declaration.compute(state)._asdict()
        assert here.keys() == there.keys()
        for key, value in here.items():
            mine, other = np.asarray(value, float).ravel(), np.asarray(there[key], float).ravel()
            assert other == pytest.approx(mine, rel=1e-6, abs=1e-6), (key, state)

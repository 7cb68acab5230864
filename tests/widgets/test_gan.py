"""W-GAN against scipy's quadrature and sampling."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from course_utils import data
from course_utils.widgets import gan_game

STATE = {"data": "one", "mean": 1.5, "width": 0.8, "sharpness": 1.0}
STATES = [
    STATE,
    {**STATE, "mean": -4.0, "width": 2.0},
    {**STATE, "data": "two", "mean": 0.7, "width": 0.5},
    {**STATE, "data": "two", "mean": 3.0, "width": 1.5, "sharpness": 0.3},
    {**STATE, "sharpness": 0.6},
]


# W-GAN ---------------------------------------------------------------------------------------------------------------


def densities(state):
    """Return scipy's p_r and p_g as functions (density, cumulative distribution)."""
    weights, means, sigmas = gan_game.DATA[state["data"]].values()
    parts = [(w, stats.norm(m, s)) for w, m, s in zip(weights, means, sigmas, strict=True)]
    q = stats.norm(state["mean"], state["width"])
    return (
        (lambda x: sum(w * n.pdf(x) for w, n in parts), lambda x: sum(w * n.cdf(x) for w, n in parts)),
        (q.pdf, q.cdf),
    )


def area(f, low=-20.0, high=20.0):
    return integrate.quad(f, low, high, limit=500, points=np.linspace(low, high, 41)[1:-1])[0]


@pytest.mark.parametrize("state", STATES)
def test_value_divergences_and_discriminator(state):
    (p, cdf_p), (q, cdf_q) = densities(state)
    n, s = gan_game.compute_gan(state), state["sharpness"]

    def js(x):
        m = (p(x) + q(x)) / 2
        return 0.5 * sum(f * math.log(f / m) if f > 0 else 0 for f in (p(x), q(x)))

    def game(x):  # with D / (1 - D) = (p / q)^s
        if p(x) < 1e-200 or q(x) < 1e-200:  # of no weight
            return 0.0
        logit = s * (math.log(p(x)) - math.log(q(x)))
        return -p(x) * np.logaddexp(0, -logit) - q(x) * np.logaddexp(0, logit)

    assert float(n.here.js) == pytest.approx(area(js), abs=1e-6)
    assert float(n.here.best) == pytest.approx(-math.log(4) + 2 * float(n.here.js), abs=1e-9)
    assert float(n.here.value) == pytest.approx(area(game), abs=1e-6)
    assert float(n.here.w1) == pytest.approx(area(lambda x: abs(cdf_p(x) - cdf_q(x))), abs=2e-4)
    x = gan_game.X[gan_game.SHOWN].numpy()
    near = np.abs(x) < 5
    ratio = (p(x[near]) / q(x[near])) ** s
    assert n.d[near] == pytest.approx(ratio / (1 + ratio), abs=1e-9)
    assert n.p == pytest.approx(p(x), abs=1e-12) and n.q == pytest.approx(q(x), abs=1e-12)


@pytest.mark.parametrize("state", STATES)
def test_gradients_are_those_of_sampled_losses(state):
    """Monte Carlo: x = mean + width * noise, the discriminator's parameters held fixed."""
    weights, means, sigmas = (torch.tensor(v, dtype=torch.float64) for v in gan_game.DATA[state["data"]].values())
    noise = torch.randn(200_000, generator=data.generator(3), dtype=torch.float64)
    mean, fixed = (torch.tensor(state["mean"], dtype=torch.float64) for _ in range(2))
    x = (mean + state["width"] * noise).requires_grad_(True)
    log_p = torch.logsumexp(
        weights.log() - sigmas.log() - 0.5 * ((x[:, None] - means) / sigmas) ** 2, -1
    )  # but for a constant that q has too
    log_q = -math.log(state["width"]) - 0.5 * ((x - fixed) / state["width"]) ** 2
    d = torch.sigmoid(state["sharpness"] * (log_p - log_q))
    here = gan_game.compute_gan(state).here
    for loss, quadrature in ((torch.log(1 - d), here.saturating), (-torch.log(d), here.non_saturating)):
        (each,) = torch.autograd.grad(loss.sum(), x, retain_graph=True)  # dx / d mean = 1
        error = (each.std() / len(x) ** 0.5).item()
        assert float(quadrature) == pytest.approx(each.mean().item(), abs=4.5 * error)


@pytest.mark.parametrize("mean, width", [(1.5, 0.8), (-3.0, 1.0), (0.4, 2.0)])
def test_gradients_at_the_optimum_are_those_of_divergences(mean, width):
    """Arjovsky and Bottou (2017): saturating, of 2 JS; non-saturating, of KL(p_g || p_r) - 2 JS."""

    def twice_js(mean):
        q = stats.norm(mean, width).pdf
        p = stats.norm.pdf

        def f(x):
            return sum(v * math.log(2 * v / (p(x) + q(x))) if v > 0 else 0 for v in (p(x), q(x)))

        return area(f)

    h = 1e-3
    slope = (twice_js(mean + h) - twice_js(mean - h)) / (2 * h)
    here = gan_game.compute_gan({**STATE, "mean": mean, "width": width}).here
    assert float(here.saturating) == pytest.approx(slope, abs=1e-5)
    assert float(here.non_saturating) == pytest.approx(mean - slope, abs=1e-5)  # d KL / d mean = mean


@pytest.mark.parametrize("width", [0.3, 1.0, 3.0])
def test_wasserstein_distance_of_gaussians(width):
    for mean in (0.0, 10.0):
        w1 = float(gan_game.compute_gan({**STATE, "mean": mean, "width": width}).here.w1)
        if mean == 0:
            assert w1 == pytest.approx(abs(width - 1) * math.sqrt(2 / math.pi), abs=1e-3)
        else:  # |mean + (width - 1) noise|
            folded = stats.foldnorm(mean / abs(width - 1), scale=abs(width - 1)).mean() if width != 1 else mean
            assert w1 == pytest.approx(folded, abs=1e-3)


def test_far_away_nothing_underflows():
    for width in (gan_game.GAN.controls["width"].low, gan_game.GAN.controls["width"].high):
        n = gan_game.compute_gan({**STATE, "mean": 10.0, "width": width})
        assert all(torch.isfinite(c).all() for c in (*n.curves, *n.here))
        assert 0 < float(n.here.saturating) < 0.1 and float(n.here.non_saturating) > 1
    far = gan_game.compute_gan({**STATE, "mean": 10.0, "width": 1.0}).here
    assert float(far.js) == pytest.approx(math.log(2), abs=1e-5) and float(far.best) == pytest.approx(0, abs=1e-5)
    assert float(far.saturating) < 1e-5 and float(far.non_saturating) == pytest.approx(10, abs=1e-3)


def test_a_discriminator_that_knows_nothing():
    here = gan_game.compute_gan({**STATE, "sharpness": 0.0}).here
    assert float(here.value) == pytest.approx(-math.log(4), abs=1e-9)
    assert float(here.saturating) == float(here.non_saturating) == 0


def test_no_discriminator_beats_the_optimal_one():
    best = gan_game.compute_gan({**STATE, "mean": 3.0}).here
    values = [float(gan_game.compute_gan({**STATE, "mean": 3.0, "sharpness": s / 10}).here.value) for s in range(11)]
    assert values == sorted(values) and values[-1] == pytest.approx(float(best.best), abs=1e-12)


def test_the_curves_pass_through_the_present_place():
    n = gan_game.compute_gan({**STATE, "mean": gan_game.MEANS[70].item()})
    assert gan_game.MEANS.numpy() == pytest.approx(np.linspace(-10, 10, 101), abs=1e-12)
    for curve, here in zip(n.curves, n.here, strict=True):
        assert float(curve[70]) == pytest.approx(float(here), abs=1e-12)


def test_the_presets_show_what_their_titles_say():
    declared = gan_game.GAN
    near, far, dull, stuck = (declared.compute(declared.start | state).here for _, state in declared.presets)
    assert min(float(near.saturating), float(near.non_saturating)) > 0.3
    assert float(far.js) > 0.999 * math.log(2) and 0 < float(far.saturating) < 1e-3 and float(far.w1) > 7.9
    assert float(dull.saturating) > 20 * float(far.saturating)
    assert max(abs(float(stuck.saturating)), abs(float(stuck.non_saturating))) < 0.01 and float(stuck.js) > 0.2


@pytest.mark.parametrize("change, message", [
    ({"data": "tow"}, "did you mean 'two'"),
    ({"width": 0.0}, "sigma"),
    ({"sharpness": 1.5}, "sharpness = 1.5; allowed are 0"),
    ({"sharpness": -0.1}, "sharpness = -0.1"),
])  # fmt: skip
def test_bad_states_raise(change, message):
    with pytest.raises(ValueError, match=message):
        gan_game.compute_gan({**STATE, **change})


def test_every_control_changes_the_numbers():
    """Both ends and a step from the start; the numbers are finite everywhere."""

    def flat(state):
        numbers = gan_game.compute_gan(state)
        return np.concatenate([numbers.p, numbers.q, numbers.d, *numbers.curves, np.array(numbers.here)])

    declared = gan_game.GAN
    before = flat(declared.start)
    for name, control in declared.controls.items():
        if name == "data":
            values = ["two"]
        else:
            values = {control.low, control.high, control.start - control.step} - {control.start}
        for value in values:
            after = flat(declared.start | {name: value})
            assert np.isfinite(after).all() and not np.array_equal(after, before), (name, value)

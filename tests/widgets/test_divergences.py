"""W-KL and W-ELBO against closed forms and quadrature of scipy's; every control headless."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, stats

from course_utils.divergences import fit_gaussian
from course_utils.widgets import divergences as W
from course_utils.widgets.stage import Range

KL = {"separation": 5.0, "weight": 0.3, "left": 1.2, "right": 0.6, "alpha": 0.4, "mu": -1.0, "sigma": 1.0}
ELBO = {"x": 1.5, "noise": 0.8, "mu": 0.3, "sigma": 0.6}


def mixture_pdf(state):
    left, right = (stats.norm(s * state["separation"] / 2, state[side]) for s, side in [(-1, "left"), (1, "right")])
    return lambda x: state["weight"] * left.pdf(x) + (1 - state["weight"]) * right.pdf(x)


@pytest.mark.parametrize("start", [(-1.0, 1.0), (4.5, 0.4), (-5.0, 4.0), (0.0, 2.0)])
def test_forward_fit_has_the_moments_of_the_mixture(start):
    n = W.compute_kl({**KL, "kind": "forward", "mu": start[0], "sigma": start[1]})
    w, m = np.array([0.3, 0.7]), np.array([-2.5, 2.5])
    mean = w @ m
    deviation = math.sqrt(w @ (np.array([1.2, 0.6]) ** 2 + m**2) - mean**2)
    assert (n.mu, n.sigma) == pytest.approx((mean, deviation), abs=1e-4)
    assert n.moments == pytest.approx((mean, deviation), abs=1e-8)
    assert n.minima[:, :2] == pytest.approx(np.array([[mean, math.log(deviation)]]), abs=1e-4)


@pytest.mark.parametrize("kind", ["forward", "reverse", "js", "alpha"])
def test_value_is_the_divergence_and_the_integrand_is_its_area(kind):
    state = {**KL, "kind": kind}
    n = W.compute_kl(state)
    p, q, a = mixture_pdf(state), stats.norm(n.mu, n.sigma).pdf, state["alpha"]

    def term(x):
        if kind == "forward":
            return p(x) * np.log(p(x) / q(x))
        if kind == "reverse":
            return q(x) * np.log(q(x) / p(x))
        if kind == "js":
            m = (p(x) + q(x)) / 2
            return 0.5 * (p(x) * np.log(p(x) / m) + q(x) * np.log(q(x) / m))
        return (a * p(x) + (1 - a) * q(x) - p(x) ** a * q(x) ** (1 - a)) / (a * (1 - a))

    exact = integrate.quad(term, -10.5, 10.5, points=[-2.5, 0, 2.5], limit=200)[0]  # beyond, p underflows
    assert n.value == pytest.approx(exact, abs=2e-4)
    assert n.integrand.min() >= -1e-12
    assert np.trapezoid(n.integrand, W.SHOWN) == pytest.approx(n.value, abs=5e-3)  # less the tails that are not shown


@pytest.mark.parametrize("kind", ["reverse", "js", "alpha"])
@pytest.mark.parametrize("start", [(-2.0, 0.6), (2.0, 0.6), (0.0, 3.0)])
def test_the_fit_is_a_minimum_that_the_landscape_knows(kind, start):
    n = W.compute_kl({**KL, "kind": kind, "mu": start[0], "sigma": start[1]})
    distance = np.abs(n.minima[:, :2] - [n.mu, math.log(n.sigma)]).max(1).min()
    assert distance < 1e-3
    assert n.landscape.min() == pytest.approx(n.minima[:, 2].min(), abs=0.05)
    assert n.landscape.min() >= n.minima[:, 2].min() - 1e-9
    assert n.path[0] == pytest.approx((start[0], math.log(start[1])))
    assert n.path[-1] == pytest.approx((n.mu, math.log(n.sigma)))
    log_p, _ = W.log_mixture(*(KL[k] for k in ("separation", "weight", "left", "right")))
    values = W.values_at(log_p, KL["alpha"] if kind == "alpha" else kind, torch.tensor(n.path))
    assert (values.diff() <= 1e-12).all()  # downhill all the way


def test_reverse_kl_finds_each_mode_from_its_own_side():
    state = {**KL, "kind": "reverse", "separation": 8.0, "left": 0.8}
    fits = [W.compute_kl({**state, "mu": mu, "sigma": 0.7}) for mu in (-3.5, 3.5)]
    assert [f.mu for f in fits] == pytest.approx([-4, 4], abs=0.01)  # so far apart, q is the mode itself
    assert [f.sigma for f in fits] == pytest.approx([0.8, 0.6], abs=0.01)
    assert [f.value for f in fits] == pytest.approx([-math.log(0.3), -math.log(0.7)], abs=1e-3)


@pytest.mark.parametrize("kind", ["reverse", "js", 0.3])
def test_the_descent_ends_where_slow_gradient_descent_does(kind):
    generator = np.random.default_rng(2)
    log_p, _ = W.log_mixture(5.0, 0.4, 1.2, 0.6)
    mu, sigma = (torch.tensor(generator.uniform(*ends, 12)) for ends in [(-5, 5), (0.4, 3)])
    slow = fit_gaussian(log_p, W.X, kind, mu, sigma, steps=1500, lr=0.01)
    fast = W.descend(log_p, kind, torch.stack([mu, sigma.log()], dim=-1))[-1]
    same = (fast - torch.stack([slow.mu, slow.sigma.log()], dim=-1)).abs().amax(-1) < 0.01
    assert same.sum() >= 11  # a start on a ridge may fall to either side


def test_alpha_runs_from_reverse_to_forward():
    ends = [W.compute_kl({**KL, "kind": "alpha", "alpha": a}).value for a in (0.0, 1.0)]
    assert ends == [W.compute_kl({**KL, "kind": kind}).value for kind in ("reverse", "forward")]
    near = [W.compute_kl({**KL, "kind": "alpha", "alpha": a}).value for a in (1e-4, 1 - 1e-4)]
    assert near == pytest.approx(ends, abs=1e-3)


@pytest.mark.parametrize("kind", ["forward", "reverse", "js", 0.3])
def test_slopes_are_those_of_autograd(kind):
    """Gradient and second derivatives of the quadrature itself."""
    generator = np.random.default_rng(3)
    theta = torch.tensor(np.column_stack([generator.uniform(-5, 5, 8), np.log(generator.uniform(0.4, 4, 8))]))
    log_p, _ = W.log_mixture(5.0, 0.4, 1.2, 0.6)
    gradient, hessian = W.slopes(log_p, kind, theta)
    for i, at in enumerate(theta):
        f = lambda t: W.values_at(log_p, kind, t)  # noqa: E731
        assert gradient[i].numpy() == pytest.approx(torch.func.grad(f)(at).numpy(), rel=1e-9, abs=1e-12)
        assert hessian[i].numpy() == pytest.approx(torch.func.hessian(f)(at).numpy(), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("kind", ["forward", "reverse", "js", 0.5])
def test_the_descent_ends_where_the_slope_is_none(kind):
    generator = np.random.default_rng(4)
    log_p, _ = W.log_mixture(4.0, 0.3, 0.8, 1.1)
    starts = torch.tensor(np.column_stack([generator.uniform(-4, 4, 12), np.log(generator.uniform(0.5, 3, 12))]))
    ends = W.descend(log_p, kind, starts)[-1]
    gradient, hessian = W.slopes(log_p, kind, ends)
    assert gradient.abs().max() < 1e-9
    assert torch.linalg.eigvalsh(hessian).min() > 0


@pytest.mark.parametrize("x, noise, mu, sigma", [(1.5, 0.8, 0.3, 0.6), (-3.0, 0.3, 0.0, 1.0), (4.0, 2.0, -3.0, 2.0)])
def test_linear_model_against_closed_forms(x, noise, mu, sigma):
    n = W.compute_elbo({"model": "linear", "x": x, "noise": noise, "mu": mu, "sigma": sigma})
    variance = noise**2 / (1.5**2 + noise**2)
    mean = 1.5 * x / (1.5**2 + noise**2)
    log_px = stats.norm(0, math.sqrt(1.5**2 + noise**2)).logpdf(x)
    gap = 0.5 * ((sigma**2 + (mu - mean) ** 2) / variance - 1 - math.log(sigma**2 / variance))
    rate = 0.5 * (sigma**2 + mu**2 - 1) - math.log(sigma)
    expected = stats.norm(0, noise).logpdf(x - 1.5 * mu) - 0.5 * (1.5 * sigma / noise) ** 2
    assert (n.log_px, n.gap, n.rate) == pytest.approx((log_px, gap, rate), rel=1e-4, abs=1e-6)
    assert n.reconstruction == pytest.approx(expected, rel=1e-4)
    assert n.elbo == pytest.approx(log_px - gap, rel=1e-4)


@pytest.mark.parametrize("model", W.MODELS)
def test_elbo_and_gap_add_up_in_both_ways(model):
    rng = np.random.default_rng(0)
    for _ in range(20):
        n = W.compute_elbo({**W.ELBO.start, **W.ELBO.surprised(rng), "model": model})
        assert n.elbo + n.gap == pytest.approx(n.log_px, abs=1e-6)
        assert n.reconstruction - n.rate == pytest.approx(n.elbo, abs=1e-6)
        assert n.gap > 0 and n.integrand.min() >= -1e-12


def test_square_model_against_scipy():
    n = W.compute_elbo({**ELBO, "model": "square"})
    joint = lambda z: stats.norm.pdf(z) * stats.norm.pdf(1.5, z**2, 0.8)  # noqa: E731
    assert n.log_px == pytest.approx(math.log(integrate.quad(joint, -6, 6, points=[-1.2, 0, 1.2])[0]), abs=1e-7)
    q = stats.norm(0.3, 0.6)
    elbo = q.expect(lambda z: stats.norm.logpdf(z) + stats.norm.logpdf(1.5, z**2, 0.8)) + q.entropy()
    assert n.elbo == pytest.approx(elbo, abs=1e-6)


@pytest.mark.slow
def test_no_gap_at_the_exact_posterior_and_always_one_with_two_peaks():
    explorer = W.elbo_explorer()
    explorer.act("best")
    variance = 0.8**2 / (1.5**2 + 0.8**2)
    best = explorer.state["mu"], explorer.state["sigma"]
    assert best == pytest.approx((1.5**2 / (1.5**2 + 0.8**2), math.sqrt(variance)), abs=1e-3)
    assert explorer.numbers.gap == pytest.approx(0, abs=1e-5)
    explorer.set(model="square", x=2.0, noise=0.5, mu=0.5, sigma=0.5)
    before = explorer.numbers.gap
    explorer.act("best")
    assert 0.5 < explorer.numbers.gap < before  # half of the posterior's mass is on the other peak
    best = explorer.numbers.optima[0]
    assert abs(best[0]) == pytest.approx(math.sqrt(2), abs=0.2)


@pytest.mark.slow
def test_all_optima_are_named_and_the_button_finds_the_one_below():
    """x = 2, noise ½: one optimum on each peak, one over both; from mean 0.5 descent ends in the wide one, worse."""
    state = {"model": "square", "x": 2.0, "noise": 0.5}
    table = W.optima(**state).numpy()
    z = np.linspace(-9, 9, 20001)
    log_joint = stats.norm.logpdf(z) + stats.norm.logpdf(2.0, z**2, 0.5)
    log_px = np.log(np.trapezoid(np.exp(log_joint), z))

    def gap(theta):
        q = stats.norm(theta[0], math.exp(theta[1]))
        return log_px - np.trapezoid(q.pdf(z) * (log_joint - q.logpdf(z)), z)

    expected = []
    for start in (-1.4, 0.0, 1.4):
        end = optimize.minimize(gap, [start, math.log(0.8 if start == 0 else 0.2)], method="Nelder-Mead", tol=1e-9)
        expected.append((end.x[0], math.exp(end.x[1]), end.fun))
    assert len(table) == 3 and (np.diff(table[:, 2]) > -1e-9).all()
    for row in expected:
        assert np.abs(table - row).max(1).min() < 1e-3
    explorer = W.elbo_explorer()
    for mean, sigma, place in [(0.5, 1.0, 2), (1.0, 1.0, 0), (0.0, 1.0, 2), (0.1, 1.0, 2), (-0.7, 0.3, 0)]:
        explorer.set(**state, mu=mean, sigma=sigma)
        explorer.act("best")
        assert explorer.numbers.gap == pytest.approx(table[place, 2], abs=1e-3)
        assert explorer.state["mu"] * mean > -1e-3, "not over the ridge to the other peak"
    assert len(W.optima("linear", 1.5, 0.8)) == 1


@pytest.mark.parametrize("f, state, message", [
    (W.compute_kl, {**KL, "kind": "forwards"}, "did you mean 'forward'"),
    (W.compute_kl, {**KL, "kind": "forward", "left": -1.0}, "sigma"),
    (W.compute_kl, {**KL, "kind": "reverse", "sigma": 0.0}, "sigma"),
    (W.compute_elbo, {**ELBO, "model": "liner"}, "did you mean 'linear'"),
    (W.compute_elbo, {**ELBO, "model": "linear", "sigma": -0.5}, "not positive"),
])  # fmt: skip
def test_bad_states_raise(f, state, message):
    with pytest.raises(ValueError, match=message):
        f(state)


@pytest.mark.parametrize("declaration", [W.KL, W.ELBO], ids=["kl", "elbo"])
def test_every_control_changes_the_numbers(declaration):
    start = declaration.start | ({"kind": "alpha"} if declaration is W.KL else {})
    before = declaration.compute(start)
    for name, control in declaration.controls.items():
        if isinstance(control, Range):
            values = [start[name] + control.step, control.low, control.high]
        else:
            values = [option for option in control.options if option != start[name]]
        for value in values:
            numbers = declaration.compute(start | {name: value})
            same = [np.array_equal(a, b) for a, b in zip(numbers, before, strict=True)]
            assert value == start[name] or not all(same), (name, value)
            assert all(np.isfinite(part).all() for part in numbers), (name, value)


@pytest.mark.slow
def test_the_presets_show_what_their_titles_say():
    covers, left, right, between = (W.compute_kl(W.KL.start | state) for _, state in W.KL.presets)
    assert (covers.mu, covers.sigma) == pytest.approx(covers.moments, abs=1e-4)
    assert (left.mu, right.mu) == pytest.approx((-2.5, 2.5), abs=0.05)
    assert max(left.sigma, right.sigma) < 1.1 < between.sigma < covers.sigma
    loose, tight, one, both = (W.compute_elbo(W.ELBO.start | state) for _, state in W.ELBO.presets)
    assert loose.rate == pytest.approx(0, abs=1e-9) and loose.gap > 1
    assert tight.gap == pytest.approx(0, abs=1e-9)
    assert 0.5 < one.gap < both.gap

"""The references of lecture 4's exercises against independent truths; answers of students: `answers/flows.py`."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch

from course_utils import flow_couplings, flow_images
from course_utils.exercises.flows import EXERCISES


@pytest.fixture
def g():
    return torch.Generator().manual_seed(4)


def randn(*shape, g):
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def reference(id):
    return EXERCISES[id].reference


@pytest.mark.parametrize(("mu", "sigma"), [(0.0, 1.0), (-2.0, 0.4), (5.0, 3.0)])
def test_the_positive_density_has_the_probabilities_of_its_gaussian(mu, sigma):
    def density(x):
        return math.exp(reference("4.1")(torch.tensor(x).double(), mu, sigma))

    for low, high in ((0.1, 1.0), (1.0, 6.0), (6.0, 20.0)):
        ends = np.log(np.expm1([low, high]))  # z of both ends
        exact = np.diff(scipy.stats.norm(mu, sigma).cdf(ends))[0]
        assert scipy.integrate.quad(density, low, high)[0] == pytest.approx(exact, abs=1e-7)


def test_the_positive_density_near_zero_is_that_of_a_log_normal():
    x = torch.tensor([1e-9, 1e-16]).double()  # where softplus(z) = exp(z) up to a share x
    exact = scipy.stats.lognorm(0.7, scale=math.exp(-30.0)).logpdf(x.numpy())
    torch.testing.assert_close(reference("4.1")(x, -30.0, 0.7), torch.from_numpy(exact))


def test_the_reverse_kl_of_a_gaussian_to_another(g):
    a, b = 0.6, 1.3  # x = a z + b is N(b, a²); the target is N(0, 1), unnormalised by a factor e
    z = randn(200_000, 2, g=g)
    target = torch.distributions.Normal(0.0, 1.0).log_prob(a * z + b).sum(-1) + 1
    draws = reference("4.2")(z, torch.full((len(z),), 2 * math.log(a)), target)
    exact = 2 * (0.5 * (a**2 + b**2 - 1) - math.log(a)) - 1
    deviation = math.sqrt(2 * (0.5 * (1 - a**2) ** 2 + (a * b) ** 2))  # of one draw's (1-a²)z²/2 - abz, twice
    assert draws.item() == pytest.approx(exact, abs=5 * deviation / math.sqrt(len(z)))


def test_the_corrected_u_keeps_what_is_across(g):
    u, w = randn(50, 4, g=g), 3 * randn(50, 4, g=g)
    mended = reference("4.3")(u, w)
    along = (u * w).sum(-1)
    torch.testing.assert_close((mended * w).sum(-1), torch.logaddexp(along, torch.zeros(50).double()) - 1)
    unit = w / w.norm(dim=-1, keepdim=True)
    for v in (u, mended):
        v -= (v * unit).sum(-1, keepdim=True) * unit
    torch.testing.assert_close(mended, u)


@pytest.mark.parametrize("inverse", [False, True])
def test_the_coupling_is_its_own_inverse_and_autograds_determinant(inverse, g):
    x, s, t = randn(1, 6, g=g), randn(1, 3, g=g), randn(1, 3, g=g)
    out, log_det = reference("4.4")(x, s, t, inverse)
    torch.testing.assert_close(reference("4.4")(out, s, t, not inverse)[0], x)
    jacobian = torch.autograd.functional.jacobian(lambda v: reference("4.4")(v[None], s, t, inverse)[0][0], x[0])
    torch.testing.assert_close(jacobian.det().log()[None], log_det)


def test_the_convolution_by_autograd(g):
    x, w = randn(1, 3, 2, 4, g=g), randn(3, 3, g=g)
    z, log_det = reference("4.5")(x, w)
    torch.testing.assert_close(z[0, :, 1, 2], w @ x[0, :, 1, 2])
    jacobian = torch.autograd.functional.jacobian(
        lambda v: reference("4.5")(v.view(1, 3, 2, 4), w)[0].flatten(), x.flatten()
    )
    torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet[None], log_det)


@pytest.mark.parametrize("kind", ["maf", "iaf", "coupling"])
def test_passes_are_those_of_the_course_s_flows(kind, monkeypatch):
    make = {"maf": flow_couplings.maf, "iaf": flow_couplings.iaf, "coupling": flow_couplings.realnvp}[kind]
    flow, passes = make(5, 3), []
    for module in flow.modules():
        if isinstance(module, flow_couplings.MADE | flow_couplings.MLP):
            module.register_forward_hook(lambda *_: passes.append(1))
    x = torch.zeros(2, 5)
    counted = []
    for way in (flow.transform, flow.transform.inverse):
        passes.clear()
        with torch.no_grad():
            way(x)
        counted.append(len(passes))
    assert [int(v) for v in reference("4.6")(torch.tensor([5]), kind, 3)] == counted


def test_bits_of_a_density_that_is_even_on_the_levels():
    """y even on (0, 1) makes v = logit(α + (1 − 2α) y) a logistic variable, cut off: 16 levels cost 4 bits."""
    alpha, v = 0.05, torch.linspace(-2, 2, 21, dtype=torch.float64)[:, None]
    cut = scipy.stats.logistic.cdf(np.log((1 - alpha) / alpha)) - scipy.stats.logistic.cdf(np.log(alpha / (1 - alpha)))
    log_p_v = torch.from_numpy(scipy.stats.logistic.logpdf(v.numpy()) - math.log(cut))[:, 0]
    torch.testing.assert_close(reference("4.7")(log_p_v, v, alpha, 16), torch.full((21,), 4.0).double())


def test_bits_are_those_of_the_course_s_ledger(g):
    x, alpha = torch.rand(5, 7, generator=g, dtype=torch.float64), 0.02
    v, log_slope = flow_images.Logit(alpha)(x)
    log_p_v = torch.distributions.Normal(0.0, 2.0).log_prob(v).sum(-1)
    exact = flow_images.bits_per_dim(log_p_v + log_slope - 7 * math.log(32), 7)
    torch.testing.assert_close(reference("4.7")(log_p_v, v, alpha, 32), exact)


def test_bayes_rule_by_counting():
    prior, p = torch.tensor([0.5, 0.3, 0.2]).double(), torch.tensor([[0.1, 0.4, 0.05]]).double()
    exact = torch.tensor([[0.05, 0.12, 0.01]]).double() / 0.18
    for shift in (0.0, -5000.0, 900.0):
        torch.testing.assert_close(reference("4.8")(p.log() + shift, prior), exact)

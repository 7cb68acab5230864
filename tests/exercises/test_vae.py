"""The references of lecture 2's exercises against independent truths, and wrong answers the checks catch unnamed."""

import math

import numpy as np
import pytest
import scipy.optimize
import scipy.spatial
import scipy.special
import scipy.stats
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

from course_utils.exercises.vae import EXERCISES, check

UNNAMED = {  # wrong answers that no mistake of the exercise names
    "2.1": [
        lambda mean, log_scale, levels: (
            -((torch.arange(levels) / (levels - 1) - mean[..., None]) / log_scale.exp()[..., None]).abs()
        ).softmax(-1),  # some other bump, normalised
        lambda mean, log_scale, levels: EXERCISES["2.1"].reference(mean.clamp(0, 1), log_scale, levels),
        lambda mean, log_scale, levels: EXERCISES["2.1"].reference(mean, 2 * log_scale, levels),
    ],
    "2.2": [
        lambda x, logits, mean, log_var: (
            -(x * logits.sigmoid().log() + (1 - x) * (1 - logits.sigmoid()).log()).sum(-1).mean()
            + 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(-1).mean()
        ),  # nan where the decoder is sure
        lambda x, logits, mean, log_var: (
            torch.nn.functional.binary_cross_entropy(logits.sigmoid(), x, reduction="none").sum(-1).mean()
            + 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(-1).mean()
        ),  # PyTorch clamps these logarithms at -100
        lambda x, logits, mean, log_var: -Bernoulli(logits=logits).log_prob(x).sum(-1).mean(),  # without the KL
    ],
    "2.3": [
        lambda lam, sigma, beta: (0.5 * (lam / sigma**2).log() / beta).clamp(min=0),
        lambda lam, sigma, beta: (0.5 * (lam / sigma**2).log() - beta).clamp(min=0),
    ],
    "2.4": [
        lambda a, b, t: torch.stack([(1 - v).sqrt() * a + v.sqrt() * b for v in t]),  # mixes variances
        lambda a, b, t: torch.stack([
            ((1 - v) * w).sin() / w.sin() * a / a.norm() * ((1 - v) * a.norm() + v * b.norm())
            + (v * w).sin() / w.sin() * b / b.norm() * ((1 - v) * a.norm() + v * b.norm())
            for w in [(a @ b).clamp(-1, 1).acos()] for v in t
        ]),  # the angle of vectors that have not been normalised
    ],
    "2.5": [
        lambda kl, free_nats: kl.mean(0).sum(),  # the plain KL
        lambda kl, free_nats: torch.where(kl.mean(0) > free_nats, kl.mean(0), 0).sum(),  # nothing in place of the limit
        lambda kl, free_nats: kl.sum(0).clamp(min=free_nats).sum(),
    ],
    "2.6": [
        lambda log_mean, draws, log_w: (
            torch.logaddexp(log_mean, log_w.logsumexp(0)) - math.log(draws + len(log_w))
        ),  # the mean so far counts once
        lambda log_mean, draws, log_w: log_w.exp().mean(0).log(),
    ],
    "2.7": [
        lambda z, y, new_y, means, sigmas: means[new_y] + (z - means[y]) * sigmas[new_y],
        lambda z, y, new_y, means, sigmas: means[new_y] + (z - means[y]) * (sigmas[new_y] / sigmas[y]) ** 0.5,
    ],
}  # fmt: skip


@pytest.mark.parametrize(("id", "wrong"), [(id, wrong) for id, wrongs in UNNAMED.items() for wrong in wrongs])
def test_unnamed_mistakes_fail(id, wrong, capsys):
    assert check(id, wrong) is EXERCISES[id].reference
    assert capsys.readouterr().out.startswith("✗")


@pytest.fixture
def g():
    return torch.Generator().manual_seed(3)


def randn(*shape, g):
    return torch.randn(*shape, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
def test_grey_levels_by_scipy(levels, g):
    mean, log_scale = 0.5 + randn(40, g=g), randn(40, g=g) - 2
    edges = (np.arange(levels - 1) + 0.5) / (levels - 1)
    cdf = scipy.stats.logistic.cdf(edges, loc=mean.numpy()[:, None], scale=log_scale.exp().numpy()[:, None])
    expected = np.diff(np.pad(cdf, [(0, 0), (1, 1)], constant_values=(0, 1)), axis=1)
    table = EXERCISES["2.1"].reference(mean, log_scale, levels)
    np.testing.assert_allclose(table, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(table.sum(-1), 1)


def test_grey_levels_in_single_precision_pass(capsys):
    """Whoever writes edges by torch.arange gets float32; that is no mistake."""

    def single(mean, log_scale, levels):
        edges = (torch.arange(levels - 1) + 0.5) / (levels - 1)
        inner = ((edges - mean.float()[..., None]) / log_scale.float().exp()[..., None]).sigmoid()
        return torch.cat([torch.zeros(*mean.shape, 1), inner, torch.ones(*mean.shape, 1)], -1).diff()

    check("2.1", single)
    assert capsys.readouterr().out.startswith("✓")


def test_loss_by_torch_distributions(g):
    x, logits, mean, log_var = (randn(7, 9, g=g) > 0).double(), randn(7, 9, g=g), randn(7, 4, g=g), randn(7, 4, g=g)
    kl = kl_divergence(Normal(mean, log_var.exp().sqrt()), Normal(0.0, 1.0)).sum(-1)
    expected = (kl - Bernoulli(logits=logits).log_prob(x).sum(-1)).mean()
    assert EXERCISES["2.2"].reference(x, logits, mean, log_var).item() == pytest.approx(expected.item())


@pytest.mark.parametrize(("beta", "off"), [(0.2, 0), (1.0, 1), (8.0, 2)])
def test_linear_rates_by_descent_in_all_matrices(beta, off, g):
    """The optimum of a linear beta-VAE with full matrices, by scipy from random starts, without any formula."""
    eigenvalues, sigma, d = torch.tensor([4.0, 1.5, 0.1]).double(), 0.6, 3
    axes = torch.linalg.qr(randn(d, d, g=g)).Q
    cov = axes @ torch.diag(eigenvalues) @ axes.T  # of the data, mean zero

    def terms(theta):
        encoder, decoder, log_s = theta[:9].reshape(d, d), theta[9:18].reshape(d, d), theta[18:]
        left = torch.eye(d).double() - decoder @ encoder  # E|x - W z|² = tr(left cov left') + sum s_j² |W_j|²
        squared = (left @ cov @ left.T).trace() + ((2 * log_s).exp() * decoder.square().sum(0)).sum()
        rate = 0.5 * ((encoder @ cov @ encoder.T).trace() + (2 * log_s).exp().sum() - d) - log_s.sum()
        return squared / (2 * sigma**2), rate

    def value_and_gradient(theta):
        theta = torch.tensor(theta, requires_grad=True)
        distortion, rate = terms(theta)
        loss = distortion + beta * rate
        return loss.item(), torch.autograd.grad(loss, theta)[0].numpy()

    fits = [
        scipy.optimize.minimize(value_and_gradient, 0.3 * randn(21, g=g).numpy(), jac=True, method="BFGS")
        for _ in range(3)
    ]
    best = min(fits, key=lambda fit: fit.fun)
    rates = EXERCISES["2.3"].reference(eigenvalues, sigma, beta)
    assert int((rates == 0).sum()) == off
    assert terms(torch.tensor(best.x))[1].item() == pytest.approx(rates.sum().item(), abs=1e-4)


@pytest.mark.parametrize("eigenvalue", [0.05, 0.3, 1.0, 6.0])
def test_linear_rate_of_one_direction_by_scipy(eigenvalue):
    sigma, beta = 0.5, 2.0

    def loss(theta):
        m, log_s, w = theta
        distortion = ((1 - w * m) ** 2 * eigenvalue + (w * math.exp(log_s)) ** 2) / (2 * sigma**2)
        return distortion + beta * rate(theta)

    def rate(theta):
        m, log_s, _ = theta
        return 0.5 * (m**2 * eigenvalue + math.exp(2 * log_s) - 1) - log_s

    best = scipy.optimize.minimize(loss, [0.4, -0.2, 0.6], method="BFGS", options={"gtol": 1e-8})
    ours = EXERCISES["2.3"].reference(torch.tensor([eigenvalue]).double(), sigma, beta)
    assert ours.item() == pytest.approx(rate(best.x), abs=1e-5)


def test_path_on_the_sphere_by_scipy(g):
    a, b = randn(2, 6, g=g)
    t = torch.linspace(0, 1, 9, dtype=torch.float64)
    unit = scipy.spatial.geometric_slerp((a / a.norm()).numpy(), (b / b.norm()).numpy(), t.numpy())
    norms = np.interp(t.numpy(), [0, 1], [a.norm().item(), b.norm().item()])
    np.testing.assert_allclose(EXERCISES["2.4"].reference(a, b, t), unit * norms[:, None], atol=1e-12)
    c = torch.stack([a, 2 * a])  # no angle: the straight path
    np.testing.assert_allclose(EXERCISES["2.4"].reference(*c, t), (1 + t)[:, None] * a)


def test_free_bits_by_loops(g):
    kl = randn(5, 3, g=g).exp()
    expected = sum(max(sum(kl[i, j].item() for i in range(5)) / 5, 1.2) for j in range(3))
    assert EXERCISES["2.5"].reference(kl, 1.2).item() == pytest.approx(expected)


def test_chunks_by_scipy(g):
    chunks = [randn(k, 4, g=g) - 1000 for k in (3, 8, 1)]
    log_mean, draws = torch.full((4,), -math.inf).double(), 0
    for chunk in chunks:
        log_mean, draws = EXERCISES["2.6"].reference(log_mean, draws, chunk), draws + len(chunk)
    expected = scipy.special.logsumexp(np.concatenate([c.numpy() for c in chunks]), axis=0, b=1 / 12)
    np.testing.assert_allclose(log_mean, expected)


def test_changed_class_keeps_the_percentile(g):
    y, new_y = torch.randint(4, (2, 50), generator=g)
    z, means, sigmas = randn(50, 3, g=g), randn(4, 3, g=g), randn(4, 3, g=g).exp()
    moved = EXERCISES["2.7"].reference(z, y, new_y, means, sigmas)
    before = scipy.stats.norm.logcdf(z, means[y], sigmas[y])
    np.testing.assert_allclose(scipy.stats.norm.logcdf(moved, means[new_y], sigmas[new_y]), before)

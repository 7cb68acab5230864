"""course_utils.densities against independent truths: SciPy, torch.distributions, autograd, plane geometry."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import distributions as td

from course_utils import densities
from course_utils.data import generator
from course_utils.densities import GaussianMixture, eight_gaussians, toy


def _mixture(d=3, per_axis=True, dtype=torch.float64):
    g = torch.Generator().manual_seed(d)
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=dtype)
    means = 2 * torch.randn(3, d, generator=g, dtype=dtype)
    sigmas = 0.5 + torch.rand((3, d) if per_axis else (3,), generator=g, dtype=dtype)
    return GaussianMixture(weights, means, sigmas)


# Mixtures


@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("per_axis", [True, False])
def test_mixture_log_prob_equals_torch_distributions(d, per_axis):
    mixture = _mixture(d, per_axis)
    sigmas = mixture.sigmas if per_axis else mixture.sigmas[:, :1]
    parts = td.Independent(td.Normal(mixture.means, sigmas.expand(3, d)), 1)
    truth = td.MixtureSameFamily(td.Categorical(mixture.weights), parts)
    x = 3 * torch.randn(4, 50, d, generator=generator(1), dtype=torch.float64)
    torch.testing.assert_close(mixture.log_prob(x), truth.log_prob(x))
    assert mixture.log_prob(x.float()).dtype == torch.float32


@pytest.mark.parametrize("d", [1, 2, 5])
def test_mixture_score_is_the_gradient_of_log_prob(d):
    mixture = _mixture(d)
    x = (3 * torch.randn(4, 50, d, generator=generator(2), dtype=torch.float64)).requires_grad_()
    (gradient,) = torch.autograd.grad(mixture.log_prob(x).sum(), x)
    torch.testing.assert_close(mixture.score(x.detach()), gradient)


def test_mixture_far_away_and_with_a_zero_weight_stays_finite():
    mixture = GaussianMixture([0.0, 1.0], [[0.0], [3.0]], [1.0, 0.5])
    x = torch.tensor([[-80.0], [0.0], [90.0]])
    truth = td.Normal(3.0, 0.5)
    torch.testing.assert_close(mixture.log_prob(x), truth.log_prob(x[:, 0]))
    torch.testing.assert_close(mixture.score(x), (3 - x) / 0.25)


def test_responsibilities_are_bayes_rule():
    mixture = _mixture(2)
    x = torch.randn(20, 2, generator=generator(4), dtype=torch.float64)
    joint = [
        w * stats.multivariate_normal(m.numpy(), np.diag(s.numpy() ** 2)).pdf(x.numpy())
        for w, m, s in zip(mixture.weights.tolist(), mixture.means, mixture.sigmas, strict=True)
    ]
    truth = np.stack(joint, -1) / np.sum(joint, 0)[:, None]
    np.testing.assert_allclose(mixture.responsibilities(x).numpy(), truth, rtol=1e-10)


def test_mixture_density_integrates_to_one():
    for mixture, edge in ((_mixture(1), 15.0), (_mixture(2), 15.0), (eight_gaussians(), 4.0)):
        d = mixture.means.shape[1]
        axis = torch.linspace(-edge, edge, 401, dtype=torch.float64)
        grid = torch.cartesian_prod(*[axis] * d).reshape(-1, d)
        # eight_gaussians keeps its numbers in single precision, hence 1e-6
        assert mixture.log_prob(grid).exp().sum().item() * (axis[1] - axis[0]) ** d == pytest.approx(1, abs=1e-6)


def test_mixture_samples_have_its_moments():
    mixture, n = _mixture(2), 20_000
    x = mixture.sample(n, generator(5))
    assert x.shape == (n, 2) and x.dtype == torch.float32
    x = x.double()
    w = mixture.weights[:, None]
    mean = (w * mixture.means).sum(0)
    second = torch.einsum("c,ci,cj->ij", mixture.weights, mixture.means, mixture.means)
    second += torch.diag((w * mixture.sigmas**2).sum(0))
    assert ((x.mean(0) - mean).abs() < 4 * x.std(0) / math.sqrt(n)).all()
    products = x[:, :, None] * x[:, None, :]  # (n, 2, 2)
    assert ((products.mean(0) - second).abs() < 4 * products.std(0) / math.sqrt(n)).all()


def test_mixture_samples_follow_its_distribution_function():
    mixture = _mixture(1)
    w, m, s = mixture.weights.numpy(), mixture.means[:, 0].numpy(), mixture.sigmas[:, 0].numpy()
    x = mixture.sample(4000, generator(6))[:, 0].numpy()
    assert stats.kstest(x, lambda t: (w * stats.norm.cdf(t[:, None], m, s)).sum(-1)).pvalue > 0.01


@pytest.mark.parametrize(
    ("weights", "means", "sigmas", "match"),
    [
        ([0.5, 0.4], [[0.0], [1.0]], [1.0, 1.0], r"0\.4.*sum must be 1"),
        ([1.5, -0.5], [[0.0], [1.0]], [1.0, 1.0], "negative"),
        ([float("nan"), 1.0], [[0.0], [1.0]], [1.0, 1.0], "weights"),
        ([0.5, 0.5], [[[0.0]], [[1.0]]], [1.0, 1.0], r"means have shape \(2, 1, 1\); allowed: \(C, d\), or \(C,\)"),
        ([1.0], [[0.0], [1.0]], [1.0, 1.0], r"weights have shape \(1,\).*\(2,\)"),
        ([0.5, 0.5], [[0.0], [1.0]], [[1.0, 1.0]] * 2, r"sigmas have shape \(2, 2\).*\(2,\) or \(2, 1\)"),
        ([0.5, 0.5], [[0.0], [1.0]], [1.0, 0.0], "positive"),
        ([0.5, 0.5], [[0.0], [1.0]], [1.0, -1.0], "positive"),
        ([0.5, 0.5], [[0.0], [1.0]], [1.0, float("nan")], "positive"),
        ([0.5, 0.5], [[0.0], [float("inf")]], [1.0, 1.0], "finite"),
    ],
)
def test_mixture_refuses_bad_parameters(weights, means, sigmas, match):
    with pytest.raises(ValueError, match=match):
        GaussianMixture(weights, means, sigmas)


def test_mixture_refuses_points_of_another_shape():
    for x in (torch.zeros(5), torch.zeros(5, 3), torch.zeros(5, 2, dtype=torch.long), torch.tensor(0.0)):
        for method in (eight_gaussians().log_prob, eight_gaussians().score):
            with pytest.raises(ValueError, match=r"x has shape .* allowed: \(…, 2\)"):
                method(x)


def test_a_mixture_of_numbers_is_that_of_vectors_of_one():
    """Against torch.distributions, and the score by autograd."""
    parts = (
        torch.tensor([0.2, 0.5, 0.3]).double(),
        torch.tensor([-1.0, 0.5, 3.0]).double(),
        torch.tensor([0.5, 1.0, 2.0]).double(),
    )
    ours = GaussianMixture(*parts)
    theirs = td.MixtureSameFamily(td.Categorical(parts[0]), td.Normal(*parts[1:]))
    x = torch.linspace(-5, 8, 27, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(ours.log_prob(x), theirs.log_prob(x))
    torch.testing.assert_close(ours.cdf(x), theirs.cdf(x))
    torch.testing.assert_close((ours.mean, ours.variance), (theirs.mean, theirs.variance))
    (slope,) = torch.autograd.grad(theirs.log_prob(x).sum(), x)
    torch.testing.assert_close(ours.score(x), slope)
    assert ours.responsibilities(x).shape == (27, 3) and ours.sample(5, generator(0)).shape == (5,)
    vectors = GaussianMixture(parts[0], parts[1][:, None], parts[2])
    torch.testing.assert_close(vectors.log_prob(x[:, None]), ours.log_prob(x))
    torch.testing.assert_close((vectors.mean, vectors.variance), (ours.mean[None], ours.variance[None]))
    with pytest.raises(ValueError, match="a mixture of vectors has no cdf"):
        vectors.cdf(x)


# Toys


@pytest.mark.parametrize("name", list(densities.TOYS))
def test_toys_shape_range_and_seed(name):
    x = toy(name, 2000, generator(0))
    assert x.shape == (2000, 2) and x.dtype == torch.float32 and x.isfinite().all()
    assert x.abs().max() <= 4
    assert torch.equal(x, toy(name, 2000, generator(0))) and not torch.equal(x, toy(name, 2000, generator(1)))
    assert toy(name, 1, generator(0)).shape == (1, 2)


def test_toy_refuses_bad_input():
    with pytest.raises(ValueError, match="did you mean 'two_moons'"):
        toy("two_moon", 10, generator(0))
    for n in (0, -1, 2.5):
        with pytest.raises(ValueError, match="at least 1"):
            toy("spirals", n, generator(0))


def test_eight_gaussians_modes_are_equally_frequent():
    mixture, n = eight_gaussians(radius=3, sigma=0.2), 8000
    np.testing.assert_allclose(mixture.means.norm(dim=-1), 3, rtol=1e-6)
    x = mixture.sample(n, generator(1)).numpy()
    angle = np.arctan2(x[:, 1], x[:, 0])
    mode = np.round(angle / (np.pi / 4)).astype(int) % 8
    assert stats.chisquare(np.bincount(mode, minlength=8)).pvalue > 0.01
    centre = 3 * np.stack([np.cos(mode * np.pi / 4), np.sin(mode * np.pi / 4)], -1)
    distance = np.linalg.norm(x - centre, axis=-1) / 0.2  # Rayleigh: two standard normal coordinates
    assert stats.kstest(distance, stats.rayleigh.cdf).pvalue > 0.01


def test_the_entropy_of_the_moons_is_that_of_their_samples():
    x = densities.two_moons(20_000, generator(0)).double()
    surprise = -densities.two_moons_log_prob(x)
    assert surprise.mean().item() == pytest.approx(
        densities.entropy_of(densities.two_moons_log_prob, points=100), abs=4 * 0.74 / 141
    )
    assert densities.entropy_of(
        td.Independent(td.Normal(torch.zeros(2), 0.8), 1).log_prob, points=100
    ) == pytest.approx(math.log(2 * math.pi * math.e * 0.64), abs=1e-6)


def test_the_density_of_the_moons_is_a_mixture_along_the_arcs():
    """Against a mixture of 4,000 Gaussians, the midpoint rule over the angle."""
    angle = math.pi * (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    arc = torch.stack([2 * angle.cos() - 1, 2 * angle.sin() - 0.5], -1)
    means = torch.cat([arc, -arc])
    mixture = td.MixtureSameFamily(td.Categorical(torch.ones(4000)), td.Independent(td.Normal(means, 0.3), 1))
    x = 2 * torch.randn(50, 2, generator=generator(0), dtype=torch.float64)
    torch.testing.assert_close(densities.two_moons_log_prob(x, 0.3), mixture.log_prob(x), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="noise = 0 is not positive"):
        densities.two_moons_log_prob(x, 0.0)


def test_two_moons_lie_on_scikit_learns_arcs():
    from sklearn.datasets import make_moons

    ours = densities.two_moons(1000, generator(2), noise=0.0).numpy()
    theirs, _ = make_moons(2000, noise=None)
    theirs = 2 * theirs - [1, 0.5]
    gaps = np.linalg.norm(ours[:, None] - theirs[None], axis=-1)
    assert gaps.min(1).max() < 0.01  # each of ours is on an arc
    assert gaps.min(0).max() < 0.1  # and no stretch of an arc is left out
    upper = np.abs(np.hypot(ours[:, 0] + 1, ours[:, 1] + 0.5) - 2) < 1e-4
    upper &= ours[:, 1] >= -0.5 - 1e-6
    assert stats.binomtest(int(upper.sum()), 1000).pvalue > 0.01
    noise = toy("two_moons", 1000, generator(2)).numpy() - ours  # the same seed: the same arcs
    assert np.abs(noise.std(0) - 0.2).max() < 4 * 0.2 / math.sqrt(2 * 1000)


def test_checkerboard_fills_the_allowed_squares_and_no_other():
    x = toy("checkerboard", 8000, generator(3)).numpy()
    cell = np.floor((x + 4) / 2).astype(int)
    assert ((cell >= 0) & (cell < 4)).all() and (cell.sum(1) % 2 == 0).all()
    counts = np.bincount(4 * cell[:, 0] + cell[:, 1], minlength=16)
    assert (counts > 0).sum() == 8 and stats.chisquare(counts[counts > 0]).pvalue > 0.01
    inside = (x + 4) / 2 - cell
    assert min(stats.kstest(inside[:, axis], "uniform").pvalue for axis in (0, 1)) > 0.01


def test_spirals_have_radius_proportional_to_angle():
    x = densities.spirals(3000, generator(4), noise=0.0).numpy().astype(float)
    radius, angle = np.hypot(*x.T), np.arctan2(x[:, 1], x[:, 0])
    turns = (angle - 3 * radius) / np.pi  # whole: even on the first arm, odd on the second
    assert np.abs(turns - np.round(turns)).max() < 1e-3
    assert stats.binomtest(int((np.round(turns) % 2 == 0).sum()), 3000).pvalue > 0.01
    assert stats.kstest((radius / np.pi) ** 2, "uniform").pvalue > 0.01
    noise = toy("spirals", 3000, generator(4)).numpy() - x
    assert np.abs(noise.std(0) - 0.1).max() < 4 * 0.1 / math.sqrt(2 * 3000)


@pytest.mark.gpu
def test_points_and_densities_stay_on_the_gpu():
    g = generator(0, "cuda")
    for name in densities.TOYS:
        assert toy(name, 10, g).is_cuda
    x = _mixture(2).sample(1000, g)
    torch.testing.assert_close(_mixture(2).score(x).cpu(), _mixture(2).score(x.cpu()))
    torch.testing.assert_close(_mixture(2).log_prob(x).cpu(), _mixture(2).log_prob(x.cpu()))


@pytest.mark.parametrize("make", [densities.two_moons, densities.spirals])
def test_negative_noise(make):
    with pytest.raises(ValueError, match="noise -0.1"):
        make(5, generator(0), noise=-0.1)

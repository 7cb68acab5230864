"""Lecture 1 against torch.distributions, SciPy, quadrature, autograd and closed forms worked out by hand."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.stats
import torch
from torch.distributions import Independent, Laplace, MultivariateNormal, Normal, kl_divergence

from course_utils import divergences as dv
from course_utils.densities import GaussianMixture, gaussian_log_prob
from course_utils.verify import estimate

GRID = torch.linspace(-15, 15, 3001, dtype=torch.float64)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, g: torch.Generator) -> torch.Tensor:
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def model(dim: int = 6, d: int = 3, seed: int = 0, sigma: float = 0.8) -> dv.ProbabilisticPCA:
    g = rng(seed)
    return dv.ProbabilisticPCA(normal(dim, d, g=g), normal(dim, g=g), sigma)


def marginal(m: dv.ProbabilisticPCA) -> MultivariateNormal:
    """The marginal with its full covariance, built without the model's own log_prob."""
    return MultivariateNormal(m.mu, m.W @ m.W.T + m.sigma**2 * torch.eye(len(m.mu), dtype=torch.float64))


# Tables: (1.1a) to (1.2c)


def test_kl_table_against_scipy():
    p, q = normal(2, 7, 5, g=rng()).softmax(-1)
    expected = scipy.stats.entropy(p.numpy(), q.numpy(), axis=-1)
    torch.testing.assert_close(dv.kl_table(p, q), torch.tensor(expected))
    torch.testing.assert_close(dv.entropy_table(p), torch.tensor(scipy.stats.entropy(p.numpy(), axis=-1)))


def test_kl_table_with_zeros():
    whole, holed = torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0.5, 0.5, 0.0])
    assert dv.kl_table(whole, holed) == math.inf
    assert dv.kl_table(holed, whole).item() == pytest.approx(0.5 * math.log(2))


@pytest.mark.parametrize("bad", [[0.5, 0.6], [1.5, -0.5], [0.2, 0.2]])
def test_tables_that_are_none(bad):
    good = torch.tensor([0.5, 0.5])
    with pytest.raises(ValueError, match="sum|negative"):
        dv.kl_table(torch.tensor(bad), good)
    with pytest.raises(ValueError, match="^q .*(sum|negative)"):
        dv.kl_table(good, torch.tensor(bad))


def test_tables_of_different_length():
    with pytest.raises(ValueError, match="2 entries and q 3"):
        dv.kl_table(torch.tensor([0.5, 0.5]), torch.tensor([0.5, 0.25, 0.25]))


def test_estimate_standard_error_against_numpy():
    samples = normal(500, 3, g=rng())
    value, se = estimate(samples)
    np.testing.assert_allclose(value, samples.numpy().mean(0))
    np.testing.assert_allclose(se, scipy.stats.sem(samples.numpy()))
    with pytest.raises(ValueError, match="at least 2"):
        estimate(samples[:1])


# Divergences on a grid: (1.5a) to (1.5e)


def test_quadrature_against_closed_forms():
    p, q = Laplace(torch.tensor(0.3).double(), torch.tensor(0.8).double()), Normal(torch.tensor(-0.5).double(), 1.4)
    forward = dv.divergence(p.log_prob(GRID), q.log_prob(GRID), GRID, "forward")
    assert forward.item() == pytest.approx(kl_divergence(p, q).item(), abs=1e-4)
    a, b = Normal(torch.tensor(0.3).double(), 0.8), Normal(torch.tensor(-0.5).double(), 1.4)
    reverse = dv.divergence(b.log_prob(GRID), a.log_prob(GRID), GRID, "reverse")
    assert reverse.item() == pytest.approx(kl_divergence(a, b).item(), abs=1e-9)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_alpha_divergence_of_gaussians_in_closed_form(alpha):
    """Integral of N(m1, s1²)^a N(m2, s2²)^(1-a) by completing the square, from SciPy's adaptive quadrature."""

    def product(x):
        return scipy.stats.norm.pdf(x, 0.3, 0.8) ** alpha * scipy.stats.norm.pdf(x, -0.5, 1.4) ** (1 - alpha)

    expected = (1 - scipy.integrate.quad(product, -30, 30)[0]) / (alpha * (1 - alpha))
    got = dv.divergence(gaussian_log_prob(GRID, 0.3, 0.8), gaussian_log_prob(GRID, -0.5, 1.4), GRID, alpha)
    assert got.item() == pytest.approx(expected, abs=1e-8)


def test_jensen_shannon_is_symmetric_bounded_and_reaches_log_2():
    p, near, far = (gaussian_log_prob(GRID, mu, 0.5) for mu in (-6.0, -5.5, 6.0))
    assert dv.divergence(p, near, GRID, "js").item() == pytest.approx(dv.divergence(near, p, GRID, "js").item())
    assert 0 < dv.divergence(p, near, GRID, "js") < math.log(2)
    assert dv.divergence(p, far, GRID, "js").item() == pytest.approx(math.log(2), abs=1e-9)


@pytest.mark.parametrize("kind", ["forward", "reverse", "js", 0.3])
def test_integrand_is_nowhere_negative(kind):
    p = GaussianMixture([0.3, 0.7], [-2, 1], [0.5, 1.0]).log_prob(GRID)
    assert dv.integrand(p, gaussian_log_prob(GRID, 0.4, 1.5), kind).min() >= -1e-15


def test_bad_divergence_names_and_alphas():
    log_p = gaussian_log_prob(GRID, 0, 1)
    with pytest.raises(ValueError, match="did you mean 'forward'"):
        dv.divergence(log_p, log_p, GRID, "foward")
    with pytest.raises(ValueError, match="outside"):
        dv.divergence(log_p, log_p, GRID, 1.5)


@pytest.mark.parametrize(
    ("weights", "means", "sigmas", "message"),
    [
        ([0.5, 0.6], [0, 1], [1, 1], "the sum must be 1"),
        ([0.5, 0.5], [0, 1], [1, -1], "must be positive"),
        ([0.5, 0.5], [0, 1, 2], [1, 1], "allowed with these means"),
    ],
)
def test_bad_mixtures(weights, means, sigmas, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(weights, means, sigmas)


# Fits: (1.4a) to (1.4d)


def test_forward_fit_is_moment_matching():
    p = GaussianMixture([0.3, 0.7], [-2, 1], [0.5, 1.0])
    mean = 0.3 * -2 + 0.7 * 1
    variance = 0.3 * (0.25 + (-2 - mean) ** 2) + 0.7 * (1 + (1 - mean) ** 2)
    fit = dv.fit_gaussian(p.log_prob(GRID), GRID, "forward", mu=torch.tensor([-4.0, 0.0, 4.0]), sigma=1.0)
    torch.testing.assert_close(fit.mu, torch.full((3,), mean).double(), atol=1e-3, rtol=0)
    torch.testing.assert_close(fit.sigma, torch.full((3,), variance**0.5).double(), atol=1e-3, rtol=0)
    matched = dv.moment_match(p.log_prob(GRID), GRID)
    assert [v.item() for v in matched] == pytest.approx([mean, variance**0.5], abs=1e-6)


def test_reverse_fit_finds_each_mode_from_its_own_side():
    """Far apart modes: the local optimum is the component itself, and costs minus the logarithm of its weight."""
    p = GaussianMixture([0.3, 0.7], [-6, 6], [0.5, 1.0])
    fit = dv.fit_gaussian(p.log_prob(GRID), GRID, "reverse", mu=torch.tensor([-5.0, 5.0]), sigma=1.0)
    torch.testing.assert_close(fit.mu, torch.tensor([-6.0, 6.0]).double(), atol=2e-3, rtol=0)
    torch.testing.assert_close(fit.sigma, torch.tensor([0.5, 1.0]).double(), atol=2e-3, rtol=0)
    torch.testing.assert_close(fit.value, -torch.tensor([0.3, 0.7]).double().log(), atol=1e-3, rtol=0)


def test_fit_agrees_with_scipy_minimiser():
    log_p = GaussianMixture([0.4, 0.6], [-1.5, 1.5], [0.7, 0.9]).log_prob(GRID)

    def loss(theta):
        return dv.divergence(log_p, gaussian_log_prob(GRID, theta[0], math.exp(theta[1])), GRID, 0.4).item()

    best = scipy.optimize.minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-12})
    fit = dv.fit_gaussian(log_p, GRID, 0.4, mu=1.0, sigma=1.0, steps=400)
    assert [fit.mu.item(), fit.sigma.item()] == pytest.approx([best.x[0], math.exp(best.x[1])], abs=1e-3)
    assert fit.path.shape == (401, 1, 2)
    assert fit.path[0, 0].tolist() == [1.0, 1.0]


def test_landscape_is_the_divergence_at_each_pair():
    log_p = GaussianMixture([0.4, 0.6], [-1.5, 1.5], [0.7, 0.9]).log_prob(GRID)
    mus, sigmas = torch.tensor([-1.0, 0.5]).double(), torch.tensor([0.5, 1.0, 2.0]).double()
    table = dv.landscape(log_p, GRID, "reverse", mus, sigmas)
    q = Normal(mus[1], sigmas[2])
    expected = torch.trapezoid(q.log_prob(GRID).exp() * (q.log_prob(GRID) - log_p), GRID)
    assert table.shape == (3, 2)
    assert table[2, 1].item() == pytest.approx(expected.item(), abs=1e-9)


def test_bad_fits():
    log_p = gaussian_log_prob(GRID, 0, 1)
    with pytest.raises(ValueError, match="not positive"):
        dv.fit_gaussian(log_p, GRID, "forward", mu=0.0, sigma=-1.0)
    with pytest.raises(ValueError, match="steps = 0"):
        dv.fit_gaussian(log_p, GRID, "forward", mu=0.0, sigma=1.0, steps=0)


# Gaussians: (1.6a) to (1.6e)


def test_kl_gaussian_against_torch_and_quadrature():
    g = rng()
    mu, sigma = normal(2, 5, 4, g=g), normal(2, 5, 4, g=g).exp()
    got = dv.kl_gaussian(mu[0], sigma[0], mu[1], sigma[1])
    torch.testing.assert_close(got, kl_divergence(Normal(mu[0], sigma[0]), Normal(mu[1], sigma[1])))
    diagonal = kl_divergence(*(Independent(Normal(m, s), 1) for m, s in zip(mu, sigma, strict=True)))
    torch.testing.assert_close(got.sum(-1), diagonal)
    q, p = Normal(torch.tensor(0.3).double(), 0.8), Normal(torch.tensor(-0.5).double(), 1.4)
    area = torch.trapezoid(q.log_prob(GRID).exp() * (q.log_prob(GRID) - p.log_prob(GRID)), GRID)
    assert dv.kl_gaussian(0.3, 0.8, -0.5, 1.4).item() == pytest.approx(area.item(), abs=1e-6)


def test_kl_gaussian_defaults_to_the_standard_normal():
    m, s = torch.tensor([0.5, -1.0]), torch.tensor([0.3, 2.0])
    torch.testing.assert_close(dv.kl_gaussian(m, s), kl_divergence(Normal(m, s), Normal(0.0, 1.0)))


def test_kl_gaussian_full_against_torch():
    g = rng(1)
    root = normal(2, 3, 4, 4, g=g)
    cov, mu = root @ root.mT + 0.3 * torch.eye(4), normal(2, 3, 4, g=g)
    expected = kl_divergence(MultivariateNormal(mu[0], cov[0]), MultivariateNormal(mu[1], cov[1]))
    torch.testing.assert_close(dv.kl_gaussian_full(mu[0], cov[0], mu[1], cov[1]), expected)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan")])
def test_bad_sigmas(sigma):
    with pytest.raises(ValueError, match="sigma_q = .* not positive"):
        dv.kl_gaussian(torch.tensor(0.0), torch.tensor(sigma))
    with pytest.raises(ValueError, match="not positive"):
        gaussian_log_prob(GRID, 0.0, sigma)


def test_bad_covariance():
    eye, zero = torch.eye(2), torch.zeros(2)
    with pytest.raises(ValueError, match="cov_p is not positive definite"):
        dv.kl_gaussian_full(zero, eye, zero, torch.tensor([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(ValueError, match="cov_q is not symmetric"):
        dv.kl_gaussian_full(zero, torch.tensor([[1.0, 9.0], [0.0, 1.0]]), zero, eye)


# Probabilistic PCA: (1.7a), (1.7b)


def test_marginal_and_posterior_against_multivariate_normal():
    m = model()
    _, x = m.sample(5, rng(2))
    torch.testing.assert_close(m.log_prob(x), marginal(m).log_prob(x))
    mean, cov = m.posterior(x)
    z = normal(5, 3, g=rng(3))  # Bayes, at any z: log p(x) = log p(x, z) - log p(z | x)
    joint = m.log_prior(z) + m.log_likelihood(x, z)
    torch.testing.assert_close(joint - MultivariateNormal(mean, cov).log_prob(z), marginal(m).log_prob(x))


def test_sample_moments():
    m = model()
    z, x = m.sample(50_000, rng(4))
    assert z.shape == (50_000, 3)
    mean = estimate(x)
    assert ((mean.value - m.mu).abs() < 4 * mean.se).all()
    cov = estimate((x - m.mu)[:, :, None] * (x - m.mu)[:, None, :])
    assert ((cov.value - marginal(m).covariance_matrix).abs() < 4 * cov.se).all()


def test_fit_is_a_maximum_of_the_likelihood():
    _, x = model(sigma=0.5).sample(400, rng(5))
    best = dv.ProbabilisticPCA.fit(x, 3)
    w, log_sigma = (
        best.W.clone().requires_grad_(),
        torch.tensor(math.log(best.sigma), dtype=torch.float64).requires_grad_(),
    )
    cov = w @ w.T + (2 * log_sigma).exp() * torch.eye(6, dtype=torch.float64)
    likelihood = MultivariateNormal(best.mu, cov).log_prob(x).mean()
    gradients = torch.autograd.grad(likelihood, [w, log_sigma])
    assert max(v.abs().max() for v in gradients) < 1e-8
    for seed in range(5):
        other = dv.ProbabilisticPCA(best.W + 0.05 * normal(6, 3, g=rng(seed)), best.mu, best.sigma * 1.02)
        assert marginal(other).log_prob(x).mean() < likelihood


def test_fit_agrees_with_scikit_learn():
    from sklearn.decomposition import PCA

    _, x = model(sigma=0.5).sample(400, rng(5))
    reference = PCA(3, svd_solver="full").fit(x.numpy())
    n = len(x)  # scikit-learn divides the covariance by n - 1, maximum likelihood by n
    np.testing.assert_allclose(dv.ProbabilisticPCA.fit(x, 3).sigma ** 2, reference.noise_variance_ * (n - 1) / n)


def test_rotation_keeps_the_marginal():
    m = model()
    rotation = torch.linalg.qr(normal(3, 3, g=rng(6))).Q
    _, x = m.sample(5, rng(7))
    torch.testing.assert_close(m.rotate(rotation).log_prob(x), m.log_prob(x))
    assert not torch.allclose(m.rotate(rotation).posterior(x)[0], m.posterior(x)[0])


def test_densities_that_vanish_on_part_of_the_grid():
    """Uniform on [-1, 1] against N(0, 1): KL = -log 2 + log(2 pi)/2 + 1/6, on a grid whose ends are just inside."""
    log_p = torch.where(GRID.abs() <= 1, -math.log(2.0), -math.inf).double()
    forward = dv.divergence(log_p, gaussian_log_prob(GRID, 0.0, 1.0), GRID, "forward")
    assert forward.item() == pytest.approx(-math.log(2) + 0.5 * math.log(2 * math.pi) + 1 / 6, abs=0.01)
    assert dv.divergence(log_p, gaussian_log_prob(GRID, 0.0, 1.0), GRID, "reverse") == math.inf
    assert 0 < dv.divergence(log_p, gaussian_log_prob(GRID, 0.0, 1.0), GRID, "js") < math.log(2)


def test_alpha_near_its_ends_is_the_limit():
    p, q = gaussian_log_prob(GRID, 0.0, 1.0), gaussian_log_prob(GRID, 1.0, 2.0)
    exact = kl_divergence(Normal(1.0, 2.0), Normal(0.0, 1.0)).item()
    for alpha in (1e-12, 1e-7, 1e-5):
        assert dv.divergence(p, q, GRID, alpha).item() == pytest.approx(exact, abs=1e-3)


def test_bad_grids_and_dtypes():
    log_p = gaussian_log_prob(GRID, 0, 1)
    with pytest.raises(ValueError, match="increase"):
        dv.divergence(log_p, log_p, GRID.flip(0), "forward")
    with pytest.raises(ValueError, match="equally many"):
        dv.divergence(log_p, log_p[:-1], GRID, "forward")
    with pytest.raises(ValueError, match="floating point"):
        gaussian_log_prob(torch.arange(3), 0.5, 1.5)


@pytest.mark.parametrize("sigma", [0.0, -0.5])
def test_gradients_with_bad_sigmas(sigma):
    for estimator in (dv.score_function_gradient, dv.reparameterised_gradient):
        with pytest.raises(ValueError, match="not positive"):
            estimator(lambda z: z.sum(-1), torch.zeros(2), sigma, torch.zeros(3, 2))


def test_other_bad_input():
    m = model()
    with pytest.raises(ValueError, match="K >= 1"):
        dv.iwae_bound(torch.zeros(0, 3))
    with pytest.raises(ValueError, match="steps = 0"):
        dv.em(m, torch.zeros(4, 6, dtype=torch.float64), 0)
    with pytest.raises(ValueError, match="1 columns; this model's has 6"):
        m.log_likelihood(torch.zeros(1).double(), torch.zeros(3).double())
    with pytest.raises(ValueError, match="empty or not finite"):
        dv.kl_table(torch.tensor([math.nan, 1.0]), torch.tensor([0.5, 0.5]))
    for x in (torch.zeros(6), torch.zeros(4, 6, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="floating point"):
            dv.ProbabilisticPCA.fit(x, 2)


def test_bad_models():
    with pytest.raises(ValueError, match="shape"):
        dv.ProbabilisticPCA(torch.zeros(4, 2), torch.zeros(3), 1.0)
    with pytest.raises(ValueError, match="not positive"):
        dv.ProbabilisticPCA(torch.zeros(4, 2), torch.zeros(4), 0.0)
    for d in (0, 6):
        with pytest.raises(ValueError, match="between 1 and 5"):
            dv.ProbabilisticPCA.fit(normal(20, 6, g=rng()), d)


# Bounds: (1.7c) to (1.9e)


def test_elbo_below_iwae_below_evidence_and_increasing():
    m = model()
    _, x = m.sample(1, rng(8))
    mean, cov = m.posterior(x)
    sigma = 1.3 * torch.linalg.eigvalsh(cov).max().sqrt().expand(3)  # bounded weights
    log_w = dv.importance_log_weights(m, x, mean, sigma, 400_000, rng(9))[:, 0]
    bounds = [estimate(dv.iwae_bound(log_w.reshape(k, -1))) for k in (1, 2, 5, 20, 100, 1000)]
    exact = marginal(m).log_prob(x)[0]
    elbo = m.elbo(x, mean, sigma.square().diag())[0]
    assert abs(bounds[0].value - elbo) < 4 * bounds[0].se
    for low, high in zip(bounds[:-1], bounds[1:], strict=True):
        assert low.value < high.value + 4 * torch.hypot(low.se, high.se)
    assert bounds[0].value < bounds[2].value - 4 * bounds[0].se  # and not all the same
    assert abs(bounds[-1].value - exact) < 4 * bounds[-1].se + 0.01
    assert elbo < exact - 0.1


def test_bounds_are_equal_at_the_posterior():
    w = torch.linalg.qr(normal(6, 3, g=rng(10))).Q * torch.tensor([2.0, 1.0, 0.5])  # orthogonal: diagonal posterior
    m = dv.ProbabilisticPCA(w, torch.zeros(6, dtype=torch.float64), 0.7)
    _, x = m.sample(4, rng(11))
    mean, cov = m.posterior(x)
    log_w = dv.importance_log_weights(m, x, mean, cov.diagonal().sqrt(), 7, rng(12))
    torch.testing.assert_close(log_w, marginal(m).log_prob(x).expand(7, 4))
    torch.testing.assert_close(m.elbo(x, mean, cov), marginal(m).log_prob(x))


def test_elbo_is_evidence_minus_kl_to_the_posterior():
    m = model()
    _, x = m.sample(5, rng(13))
    q_mean, root = normal(5, 3, g=rng(14)), normal(3, 3, g=rng(15))
    q_cov = root @ root.T + 0.1 * torch.eye(3)
    gap = kl_divergence(MultivariateNormal(q_mean, q_cov), MultivariateNormal(*m.posterior(x)))
    torch.testing.assert_close(m.elbo(x, q_mean, q_cov), marginal(m).log_prob(x) - gap)


def test_elbo_by_quadrature():
    z = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    m = dv.ProbabilisticPCA(torch.tensor([[1.5]]).double(), torch.zeros(1).double(), 0.6)
    x = torch.tensor([0.9], dtype=torch.float64)
    joint = m.log_prior(z[:, None]) + m.log_likelihood(x, z[:, None])
    got = dv.elbo_quadrature(joint, gaussian_log_prob(z, 0.2, 0.5), z)
    exact = m.elbo(x[None], torch.tensor([[0.2]], dtype=torch.float64), torch.tensor([[0.25]], dtype=torch.float64))
    assert got.item() == pytest.approx(exact.item(), abs=1e-9)


def test_mean_field_is_the_best_diagonal():
    m = model()
    _, x = m.sample(3, rng(16))
    mean, sigma = m.mean_field(x)
    theta = [mean.clone().requires_grad_(), sigma.log().requires_grad_()]
    posterior = MultivariateNormal(*m.posterior(x))
    q = MultivariateNormal(theta[0], scale_tril=torch.diag_embed(theta[1].exp().expand(3, 3)))
    gradients = torch.autograd.grad(kl_divergence(q, posterior).sum(), theta)
    assert max(g.abs().max() for g in gradients) < 1e-10


def test_naive_weights_and_effective_sample_size():
    m = model(2, 1)
    _, x = m.sample(1, rng(17))
    weights = dv.naive_log_weights(m, x, 100_000, rng(18)).exp()
    mean = estimate(weights[:, 0])
    assert abs(mean.value - marginal(m).log_prob(x)[0].exp()) < 4 * mean.se
    w = torch.tensor([1.0, 2.0, 3.0])
    assert dv.effective_sample_size(w.log()).item() == pytest.approx(36 / 14)
    assert dv.effective_sample_size(torch.zeros(8) - 5000).item() == pytest.approx(8)  # no underflow


def test_em_climbs_to_the_maximum_and_variational_em_stays_below():
    _, x = model(sigma=0.5).sample(300, rng(19))
    start = dv.ProbabilisticPCA(normal(6, 3, g=rng(20)), x.mean(0), 1.0)
    best = marginal(dv.ProbabilisticPCA.fit(x, 3)).log_prob(x).mean()
    fitted, bounds = dv.em(start, x, 300)
    assert (bounds.diff() > -1e-10).all()
    assert marginal(fitted).log_prob(x).mean().item() == pytest.approx(best.item(), abs=1e-4)
    fitted, bounds = dv.em(start, x, 10, diagonal=True)
    assert (bounds.diff() > -1e-10).all()
    assert bounds[-1] < marginal(fitted).log_prob(x).mean() < best


@pytest.mark.parametrize("k", [0, -3])
def test_bad_numbers_of_draws(k):
    m = model()
    x = torch.zeros(2, 6, dtype=torch.float64)
    with pytest.raises(ValueError, match=f"k = {k}"):
        dv.naive_log_weights(m, x, k, rng())
    with pytest.raises(ValueError, match=f"k = {k}"):
        dv.importance_log_weights(m, x, torch.zeros(2, 3).double(), torch.ones(3).double(), k, rng())


# Gradients: (1.10a) to (1.10d), (1.10f)


@pytest.mark.parametrize("estimator", [dv.score_function_gradient, dv.reparameterised_gradient])
@pytest.mark.parametrize("widths", [[0.6, 0.6], [0.6, 1.3]])
def test_gradient_estimators_are_unbiased(estimator, widths):
    """f = sin(z1) + z1 z2², whose mean under N(mu, diag s²) is sin(mu1) exp(-s1²/2) + mu1 (mu2² + s2²): by autograd."""
    mu = torch.tensor([0.4, -0.8], dtype=torch.float64, requires_grad=True)
    sigma = torch.tensor(widths, dtype=torch.float64, requires_grad=True)
    mean = mu[0].sin() * (-(sigma[0] ** 2) / 2).exp() + mu[0] * (mu[1] ** 2 + sigma[1] ** 2)
    exact = torch.autograd.grad(mean, [mu, sigma])
    given = 0.6 if widths[1] == 0.6 else sigma.detach()  # a number serves for all coordinates
    got = estimator(lambda z: z[:, 0].sin() + z[:, 0] * z[:, 1] ** 2, mu.detach(), given, normal(200_000, 2, g=rng(21)))
    for samples, truth in zip(got, exact, strict=True):
        value, se = estimate(samples)
        assert samples.shape == (200_000, 2)
        assert ((value - truth).abs() < 4 * se).all() and (se < 0.05).all()


def test_gradient_estimators_sample_by_sample():
    """Against autograd through log_prob and through the draw, for each sample alone."""
    mu, sigma = torch.tensor([0.3, -1.0]).double().requires_grad_(), torch.tensor([0.5, 2.0]).double().requires_grad_()
    eps = normal(5, 2, g=rng(24))

    def f(z):
        return (z[:, 0] * z[:, 1]).exp()

    score = dv.score_function_gradient(f, mu.detach(), sigma.detach(), eps)
    through = dv.reparameterised_gradient(f, mu.detach(), sigma.detach(), eps)
    for i in range(5):
        z = (mu + sigma * eps[i]).detach()
        log_q = Normal(mu, sigma).log_prob(z).sum()
        for got, slope in zip(score, torch.autograd.grad(log_q, [mu, sigma]), strict=True):
            torch.testing.assert_close(got[i], f(z[None])[0] * slope)
        value = f((mu + sigma * eps[i])[None])[0]
        for got, slope in zip(through, torch.autograd.grad(value, [mu, sigma]), strict=True):
            torch.testing.assert_close(got[i], slope)


@pytest.mark.parametrize("d", [1, 3, 10])
@pytest.mark.parametrize("shift", [0.0, 0.8])
def test_gradient_variances(d, shift):
    """For f = ||z||², against E[f² eps_1²] and E[(2 z_1)²] by Gauss-Hermite quadrature, other coordinates by chi²."""
    sigma, mu, eps = 0.7, torch.full((d,), shift, dtype=torch.float64), normal(100_000, d, g=rng(22))

    def f(z):
        return z.square().sum(-1)

    score = estimate((dv.score_function_gradient(f, mu, sigma, eps).mu[:, 0] - 2 * shift) ** 2)
    pathwise = estimate((dv.reparameterised_gradient(f, mu, sigma, eps).mu[:, 0] - 2 * shift) ** 2)
    points, weights = np.polynomial.hermite_e.hermegauss(40)
    first = (shift + sigma * points) ** 2
    others = scipy.stats.ncx2(d - 1, (d - 1) * shift**2 / sigma**2) if d > 1 else None  # of the other coordinates
    mean, second = (sigma**2 * others.mean(), sigma**4 * (others.var() + others.mean() ** 2)) if others else (0, 0)
    square = (weights @ ((first**2 + 2 * first * mean + second) * points**2)) / weights.sum()
    expected = square / sigma**2 - 4 * shift**2
    m = d * shift**2
    by_formula = sigma**2 * (d + 2) * (d + 4) + 2 * (d + 4) * m + m**2 / sigma**2 + 4 * shift**2
    assert by_formula == pytest.approx(expected, rel=1e-9)
    assert abs(score.value - expected) < 4 * score.se
    assert abs(pathwise.value - 4 * sigma**2) < 4 * pathwise.se


def test_a_jump_is_seen_by_the_score_function_only():
    mu, eps = torch.tensor([0.4]).double(), normal(200_000, 1, g=rng(25))

    def step(z):
        return (1 + z.sign()).sum(-1) / 2

    truth = scipy.stats.norm.pdf(0.4, 0, 0.7)  # of mu in P(mu + 0.7 eps > 0)
    assert truth == pytest.approx(0.484, abs=5e-4)
    score = estimate(dv.score_function_gradient(step, mu, 0.7, eps).mu[:, 0])
    assert abs(score.value - truth) < 4 * score.se
    assert dv.reparameterised_gradient(step, mu, 0.7, eps).mu.abs().max() == 0
    kinked = estimate(dv.reparameterised_gradient(lambda z: z.relu().sum(-1), mu, 0.7, eps).mu[:, 0])
    assert abs(kinked.value - scipy.stats.norm.cdf(0.4 / 0.7)) < 4 * kinked.se


# Amortisation: (1.11a), (1.11b)


def test_linear_encoder_reaches_the_best_bound():
    m = model()
    _, x = m.sample(8, rng(23))
    a = torch.linalg.solve(m.sigma**2 * torch.eye(3) + m.W.T @ m.W, m.W.T)
    sigma = m.mean_field(x)[1]

    def encoder(x):
        return torch.cat([(x - m.mu) @ a.T, sigma.log().expand(len(x), 3)], dim=-1)

    q = Independent(Normal((x - m.mu) @ a.T, sigma), 1)
    gap = kl_divergence(MultivariateNormal(q.mean, torch.diag(sigma**2)), MultivariateNormal(*m.posterior(x)))
    torch.testing.assert_close(dv.amortised_elbo(m, encoder, x), marginal(m).log_prob(x) - gap)


@pytest.mark.gpu
def test_cpu_and_gpu_agree():
    m = model()
    _, x = m.sample(20, rng(24))
    there, x_there = m.to("cuda", torch.float32), x.float().cuda()
    torch.testing.assert_close(there.log_prob(x_there).cpu().double(), m.log_prob(x), atol=1e-3, rtol=1e-4)
    q = m.mean_field(x)
    on_gpu = there.elbo(x_there, q[0].float().cuda(), q[1].square().diag().float().cuda())
    torch.testing.assert_close(on_gpu.cpu().double(), m.elbo(x, q[0], q[1].square().diag()), atol=1e-3, rtol=1e-4)

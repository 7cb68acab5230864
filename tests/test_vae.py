"""Lecture 2's functions against torch.distributions, SciPy, finite differences and an exactly solvable VAE."""

import itertools
import math

import pytest
import scipy.spatial
import scipy.stats
import torch
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal, RelaxedOneHotCategorical, kl_divergence

from course_utils import vae
from course_utils.training import fit
from course_utils.verify import estimate


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


class LinearEncoder(nn.Module):
    """Means A x + b, and log standard deviations that do not depend on x."""

    def __init__(self, a, b, log_sigma):
        super().__init__()
        self.a, self.b, self.log_sigma = a, b, log_sigma

    def forward(self, x):
        return torch.cat([x @ self.a.T + self.b, self.log_sigma.expand(*x.shape[:-1], -1)], dim=-1)


def linear_vae(dim: int = 5, d: int = 2, sigma: float = 0.7, wide: float = 1.0):
    """A VAE that is probabilistic PCA, and its exact marginal N(mu, W W^T + sigma² I) and posterior."""
    w, mu = draw(dim, d, seed=1), draw(dim, seed=2)
    decoder = nn.Linear(d, dim).double()
    with torch.no_grad():
        decoder.weight.copy_(w)
        decoder.bias.copy_(mu)
    cov = torch.linalg.inv(torch.eye(d) + w.T @ w / sigma**2)
    a = cov @ w.T / sigma**2
    encoder = LinearEncoder(a, -a @ mu, cov.diagonal().sqrt().log() + math.log(wide))
    model = vae.VAE(encoder, decoder, dim, d, vae.Gaussian(sigma)).double()
    marginal = MultivariateNormal(mu, w @ w.T + sigma**2 * torch.eye(dim, dtype=torch.float64))
    x = marginal.mean + draw(6, dim, seed=3) @ marginal.scale_tril.T
    return model, marginal, MultivariateNormal(x @ a.T - a @ mu, cov), x


def test_elbo_of_a_linear_vae_is_evidence_minus_kl():
    model, marginal, posterior, x = linear_vae()
    with torch.no_grad():
        mean = estimate(torch.stack([model.terms(x, rng(s)).elbo for s in range(4000)]))
        m, s = model.posterior(x)
        q = MultivariateNormal(m, torch.diag_embed(s**2))
    exact = marginal.log_prob(x) - kl_divergence(q, posterior)
    assert ((mean.value - exact).abs() < 4 * mean.se).all()


def test_analytic_kl_against_torch_and_by_latent():
    model, _, _, x = linear_vae()
    terms = model.terms(x, rng())
    m, s = model.posterior(x)
    torch.testing.assert_close(
        terms.kl, kl_divergence(Independent(Normal(m, s), 1), Independent(Normal(0 * m, 1 + 0 * s), 1))
    )
    torch.testing.assert_close(terms.kl_by_latent.sum(-1), terms.kl)


def test_importance_estimate_rises_to_the_exact_log_likelihood():
    model, marginal, _, x = linear_vae(wide=1.5)
    bounds = [
        estimate(torch.stack([vae.evaluate_log_prob(model, x, k, rng(s)) for s in range(n)]))
        for k, n in ((1, 2000), (10, 1000), (2000, 20))
    ]
    exact = marginal.log_prob(x)
    for low, high in zip(bounds[:-1], bounds[1:], strict=True):
        assert (low.value < high.value + 4 * torch.hypot(low.se, high.se)).all()
    assert ((bounds[-1].value - exact).abs() < 4 * bounds[-1].se + 2e-3).all()
    assert (bounds[0].value < exact - 0.05).all()


def test_importance_estimate_does_not_depend_on_how_it_is_cut():
    model, marginal, _, x = linear_vae(wide=1.5)
    whole, cut = (vae.evaluate_log_prob(model, x, 3000, rng(5), rows=rows) for rows in (100_000, 700))
    torch.testing.assert_close(whole, cut, atol=0.1, rtol=0)
    assert cut.shape == marginal.log_prob(x).shape


def test_reparameterised_gradient_against_finite_differences():
    torch.manual_seed(0)
    model = vae.mlp_vae(6, 2, hidden=(5,)).double()
    x = (draw(4, 6, seed=4) > 0).double()
    weight = model.encoder[0].weight

    def loss():
        return vae.negative_elbo(model.terms(x, rng(7)))

    (gradient,) = torch.autograd.grad(loss(), weight)
    h = 1e-5
    for i, j in [(0, 0), (2, 3), (4, 5)]:
        with torch.no_grad():
            values = []
            for shift in (h, -h):
                weight[i, j] += shift
                values.append(loss().item())
                weight[i, j] -= shift
        assert (values[0] - values[1]) / (2 * h) == pytest.approx(gradient[i, j].item(), rel=1e-5, abs=1e-8)


def test_likelihoods_against_torch_distributions():
    logits, binary = draw(3, 4, 5), (draw(4, 5, seed=8) > 0).double()
    expected = torch.distributions.Bernoulli(logits=logits).log_prob(binary.expand(3, 4, 5)).sum(-1)
    torch.testing.assert_close(vae.Bernoulli().log_prob(logits, binary), expected)
    torch.testing.assert_close(vae.Gaussian(0.3).log_prob(logits, binary), Normal(logits, 0.3).log_prob(binary).sum(-1))


def test_discretised_logistic_against_scipy_and_sums_to_one():
    levels = 17
    likelihood = vae.DiscretisedLogistic(levels)
    grid = torch.arange(levels, dtype=torch.float64)[:, None] / (levels - 1)  # (17, 1)
    for mean, scale in [(0.4, 0.1), (-0.3, 0.05), (1.2, 0.5), (0.5, 1e-3)]:
        params = torch.tensor([mean, math.log(scale)], dtype=torch.float64).expand(levels, 2)
        log_p = likelihood.log_prob(params, grid)
        assert log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-9)
        edges = (torch.arange(levels + 1) - 0.5) / (levels - 1)
        cdf = scipy.stats.logistic.cdf(edges.numpy(), mean, scale)
        cdf[0], cdf[-1] = 0.0, 1.0
        torch.testing.assert_close(log_p.exp(), torch.tensor(cdf[1:] - cdf[:-1]), atol=1e-7, rtol=1e-4)


def test_discretised_logistic_in_single_precision_with_wide_scales():
    """256 levels under a scale of e^9: neighbouring edges differ by 5e-7 scales."""
    grid = torch.tensor([[0.0], [100 / 255], [1.0]])
    params = torch.tensor([[0.5, 9.0]])
    exact = vae.DiscretisedLogistic(256).log_prob(params.double(), (grid.double() * 255).round() / 255)
    torch.testing.assert_close(vae.DiscretisedLogistic(256).log_prob(params, grid).double(), exact, atol=1e-4, rtol=0)


def test_discretised_logistic_has_finite_gradients_at_the_edges():
    params = torch.tensor([[0.2, -3.0]], dtype=torch.float64, requires_grad=True)
    for level in (0.0, 0.5, 1.0):
        log_p = vae.DiscretisedLogistic(17).log_prob(params, torch.tensor([[level]], dtype=torch.float64))
        assert torch.autograd.grad(log_p.sum(), params)[0].isfinite().all()


@pytest.mark.parametrize("likelihood", [vae.Bernoulli(), vae.Gaussian(0.2), vae.DiscretisedLogistic(17)])
def test_samples_have_the_mean_that_is_claimed(likelihood):
    params = torch.tensor([[0.3, 0.6, -2.0, -2.5]])[:, : 2 * likelihood.per_pixel].repeat(40_000, 1)
    drawn = estimate(likelihood.sample(params, rng()).double())
    exact = likelihood.mean(params)[0].double()
    assert ((drawn.value - exact).abs() < 4 * drawn.se + (0.01 if likelihood.per_pixel == 2 else 0)).all()


def test_free_bits_removes_the_pressure_below_and_no_more():
    kl = torch.tensor([[0.1, 2.0], [0.3, 4.0]], requires_grad=True)  # means 0.2 and 3
    terms = vae.Terms(torch.tensor([-1.0, -3.0]), kl.sum(-1), kl)
    loss = vae.negative_elbo(terms, beta=2.0, free_nats=0.5)
    assert loss.item() == pytest.approx(2.0 + 2.0 * (0.5 + 3.0))
    assert torch.autograd.grad(loss, kl)[0].tolist() == [[0.0, 1.0], [0.0, 1.0]]
    assert vae.negative_elbo(terms).item() == pytest.approx(2.0 + 3.2)


def test_active_units_of_constructed_posteriors():
    means = torch.stack([draw(500), 0.05 * draw(500, seed=1), torch.full((500,), 3.0).double()], dim=-1)
    assert vae.active_units(means) == 1
    assert vae.active_units(means, threshold=1e-3) == 2


def test_conditional_vae_learns_the_prior_of_each_class():
    torch.manual_seed(0)
    model = vae.mlp_vae(6, 2, hidden=(8,), classes=3)
    with torch.no_grad():
        model.prior_table.copy_(draw(3, 4).float())
    y = torch.tensor([0, 2, 2, 1])
    m, s = model.prior(y)
    torch.testing.assert_close(m, model.prior_table[y, :2])
    torch.testing.assert_close(s, model.prior_table[y, 2:].exp())
    x = torch.rand(4, 6, generator=rng()).round()
    q = Independent(Normal(*model.posterior(x, y)), 1)
    torch.testing.assert_close(model.terms(x, rng(), y).kl, kl_divergence(q, Independent(Normal(m, s), 1)))
    assert model.log_weights(x, 5, rng(), y).shape == (5, 4)
    assert model.sample(4, rng(), y).shape == (4, 6)


@pytest.mark.parametrize("classes", [0, 3])
def test_the_prior_is_where_it_is_used(classes):
    model = vae.mlp_vae(6, 2, hidden=(4,), classes=classes).double()
    y = torch.tensor([0, 2]) if classes else None
    for like, dtype in ((None, torch.float64), (torch.zeros(1), torch.float32)):
        m, s = model.prior(y, like=like)
        assert m.dtype == s.dtype == dtype and m.shape == s.shape == ((2, 2) if classes else (2,))
        assert (m == 0).all() and (s == 1).all()


def test_networks_have_the_sizes_of_the_reference():
    assert [m.out_features for m in vae.mlp_vae(784, 20).encoder if isinstance(m, nn.Linear)] == [500, 250, 40]
    assert [m.out_features for m in vae.mlp_vae(784, 20).decoder if isinstance(m, nn.Linear)] == [250, 500, 784]
    for side, likelihood in [(8, vae.DiscretisedLogistic(17)), (28, vae.Bernoulli())]:
        model = vae.conv_vae(side, 3, width=4, likelihood=likelihood)
        x = torch.rand(2, side * side, generator=rng()).round()
        assert model.log_weights(x, 3, rng()).shape == (3, 2)
        assert model.sample(5, rng()).shape == (5, side * side)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: m.log_weights(x, 0, rng()), "k = 0"),
        (lambda m, x: vae.evaluate_log_prob(m, x, 0, rng()), "k = 0"),
        (lambda m, x: m.terms(x, rng(), torch.zeros(2, dtype=torch.long)), "not conditional"),
        (lambda m, x: vae.negative_elbo(m.terms(x, rng()), beta=-1), "beta = -1"),
        (lambda m, x: m.terms(x[:, :5], rng()), "5 columns.* 6 pixels"),
        (lambda m, x: vae.Gaussian(0.0), "sigma = 0"),
        (lambda m, x: vae.DiscretisedLogistic(1), "levels = 1"),
        (lambda m, x: vae.conv_vae(10), "side = 10"),
        (lambda m, x: vae.mlp_vae(6, 0), "latents = 0"),
    ],
)
def test_bad_input(call, message):
    torch.manual_seed(0)
    with pytest.raises(ValueError, match=message):
        call(vae.mlp_vae(6, 2, hidden=(4,)), torch.zeros(2, 6))


@pytest.mark.parametrize(("y", "message"), [(None, "give y"), ([0, 3], "class 3"), ([-1, 0], "class -1")])
def test_bad_classes(y, message):
    model = vae.mlp_vae(6, 2, hidden=(4,), classes=3)
    with pytest.raises(ValueError, match=message):
        model.terms(torch.zeros(2, 6), rng(), y if y is None else torch.tensor(y))


def test_sampled_kl_has_the_analytic_mean_and_the_same_z():
    model, _, _, x = linear_vae(wide=1.3)
    with torch.no_grad():
        exact = model.terms(x, rng(0))
        sampled = estimate(torch.stack([model.terms(x, rng(s), sampled=True).kl for s in range(4000)]))
        one = model.terms(x, rng(0), sampled=True)
    assert ((sampled.value - exact.kl).abs() < 4 * sampled.se).all()
    torch.testing.assert_close(one.log_likelihood, exact.log_likelihood)


def test_iwae_objective_with_one_draw_is_the_elbo_and_rises_to_the_evidence():
    model, marginal, posterior, x = linear_vae(wide=1.5)
    with torch.no_grad():
        m, s = model.posterior(x)
        elbo = (marginal.log_prob(x) - kl_divergence(MultivariateNormal(m, torch.diag_embed(s**2)), posterior)).mean()
        one = estimate(torch.stack([-vae.negative_iwae(model, x, 1, rng(s)) for s in range(4000)]))
        many = estimate(torch.stack([-vae.negative_iwae(model, x, 2000, rng(s)) for s in range(50)]))
    assert abs(one.value - elbo) < 4 * one.se
    assert abs(many.value - marginal.log_prob(x).mean()) < 4 * many.se + 2e-3
    with pytest.raises(ValueError, match="k = 0 draws"):
        vae.negative_iwae(model, x, 0, rng())


def test_importance_weights_are_constant_at_the_exact_posterior():
    """With one latent the diagonal q can be the posterior itself; then one draw gives log p(x) exactly."""
    model, marginal, _, x = linear_vae(d=1)
    with torch.no_grad():
        log_w = model.log_weights(x, 5, rng(1))
    torch.testing.assert_close(log_w, marginal.log_prob(x).expand(5, -1))


def test_rate_and_distortion_in_batches():
    model, _, _, x = linear_vae()
    with torch.no_grad():
        exact = model.terms(x, rng())
    terms = vae.evaluate_terms(model, x, rng(), batch=4)
    torch.testing.assert_close(terms.kl, exact.kl)  # the rate has no noise in it
    assert terms.log_likelihood.shape == (6,) and terms.kl_by_latent.shape == (6, 2)


def test_an_autoencoder_with_linear_maps_finds_the_principal_subspace():
    x = draw(400, 6) @ torch.diag(torch.tensor([3.0, 2.0, 1.0, 0.3, 0.2, 0.1], dtype=torch.float64))
    x = x - x.mean(0)
    model = vae.Autoencoder(nn.Linear(6, 2, bias=False).double(), nn.Linear(2, 6, bias=False).double())
    fit(lambda i: model.loss(x[i]), model, 400, steps=1500, lr=0.03, batch_size=400, generator=rng())
    singular = torch.linalg.svdvals(x)
    assert model.loss(x).item() == pytest.approx(singular[2:].square().sum().item() / 400, rel=1e-3)


@pytest.mark.parametrize("layers, kernel", [(1, 3), (2, 5), (3, 7)])
def test_a_masked_decoder_sees_neither_its_own_pixel_nor_the_future(layers, kernel):
    torch.manual_seed(0)
    net = vae.autoregressive_vae(6, 3, width=5, layers=layers, kernel=kernel).pixel_cnn.double()
    jacobian = torch.autograd.functional.jacobian(
        lambda x: net(x[None], torch.zeros(1, 5, dtype=torch.float64))[0], draw(36).sigmoid()
    )
    assert (jacobian.triu() == 0).all()  # row i: derivatives of logit i
    assert (jacobian.diagonal(-1)[1:5] != 0).all()  # of the pixel to the left, within a row


def test_a_smaller_field_is_the_four_neighbours():
    torch.manual_seed(0)
    net = vae.autoregressive_vae(5, 3, width=6, layers=3, kernel=3, later=1).pixel_cnn.double()
    jacobian = torch.autograd.functional.jacobian(
        lambda x: net(x[None], torch.zeros(1, 6, dtype=torch.float64))[0], draw(25).sigmoid()
    )
    assert (jacobian[12] != 0).nonzero().flatten().tolist() == [6, 7, 8, 11]  # of the pixel in the middle


def test_autoregressive_probabilities_sum_to_one():
    """All 2^9 images of 3 x 3 pixels."""
    torch.manual_seed(0)
    model = vae.autoregressive_vae(3, 2, width=4, layers=2, kernel=3)
    images = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 9)  # (512, 9)
    with torch.no_grad():
        log_p = model.log_likelihood(images, torch.randn(1, 2, generator=rng()).expand(512, 2))
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_autoregressive_samples_follow_the_probabilities():
    torch.manual_seed(0)
    model = vae.autoregressive_vae(2, 1, width=4, layers=2, kernel=3)
    with torch.no_grad():
        for p in model.decoder.parameters():
            p.zero_()  # the latent says nothing, so p(x) = p(x | z)
        model.pixel_cnn.first.weight.mul_(8)
    x = model.sample(20_000, rng(1))
    images = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    with torch.no_grad():
        p = model.log_likelihood(images, torch.zeros(16, 1)).exp()
    counts = (x[:, None] == images).all(-1).float()  # (N, 16)
    share = estimate(counts)
    assert ((share.value - p).abs() < 4 * (p * (1 - p) / 20_000).sqrt()).all()
    with pytest.raises(ValueError, match="mean=False"):
        model.sample(2, rng(), mean=True)


def test_log_likelihood_of_several_latents_for_each_image():
    model = vae.autoregressive_vae(4, 2, width=4)
    x, z = vae.binarise(torch.full((3, 16), 0.5), rng()), torch.randn(5, 3, 2, generator=rng())
    with torch.no_grad():
        together = model.log_likelihood(x, z)
        single = torch.stack([model.log_likelihood(x, v) for v in z])
    assert together.shape == (5, 3)
    torch.testing.assert_close(together, single)


def test_annealing_waits_then_rises_to_one():
    annealing = vae.KLAnnealing(10, 20)
    betas = []
    for done in (0, 10, 15, 20, 100):
        annealing(done)
        betas.append(annealing.beta)
    assert betas == [0.0, 0.0, 0.5, 1.0, 1.0]
    with pytest.raises(ValueError, match="must end after it starts"):
        vae.KLAnnealing(5, 5)


@pytest.mark.parametrize("arguments", [{"latents": 0}, {"layers": 0}, {"kernel": 4}, {"later": 2}])
def test_impossible_autoregressive_decoders(arguments):
    with pytest.raises(ValueError, match="at least 1|odd"):
        vae.autoregressive_vae(8, **arguments)


# 2.10 Discrete codes -------------------------------------------------------------------------------------------------


def quadratic(n: int, values: int):
    """f(z) = |t - sum_i W_i z_i|² of z (N, n, values), as one line of NumPy would have it for a single z."""
    w, t = draw(n, values, 2, seed=5), draw(2, seed=6)
    return lambda z: (t - (z[..., None] * w).sum((-3, -2))).square().sum(-1)


def enumerated_gradient(f, logits: torch.Tensor) -> torch.Tensor:
    """The gradient of E f in the logits by a loop over all codes: sum_z q(z) f(z) (z - p)."""
    n, values = logits.shape
    p, total = logits.softmax(-1), torch.zeros_like(logits)
    for code in itertools.product(range(values), repeat=n):
        z = torch.zeros_like(logits)
        for i, c in enumerate(code):
            z[i, c] = 1
        total += math.prod(p[i, c].item() for i, c in enumerate(code)) * f(z[None])[0] * (z - p)
    return total


def agrees(draws: torch.Tensor, expected: torch.Tensor) -> bool:
    mean = estimate(draws)
    return bool(((mean.value - expected).abs() < 4.5 * mean.se + 1e-12).all())


def test_expectation_by_enumeration_and_its_gradient():
    f, logits = quadratic(3, 4), draw(3, 4).requires_grad_()
    expected = vae.discrete_expectation(f, logits)
    (gradient,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(gradient, enumerated_gradient(f, logits.detach()))
    drawn = torch.distributions.OneHotCategorical(logits=logits.detach()).sample((100_000,))
    assert agrees(f(drawn), expected.detach())
    with pytest.raises(ValueError, match="too many to enumerate"):
        vae.all_codes(30, 10)


def test_gumbel_numbers_against_scipy():
    drawn = vae.gumbel(20_000, generator=rng())
    assert scipy.stats.kstest(drawn.numpy(), scipy.stats.gumbel_r.cdf).pvalue > 1e-3


@pytest.mark.parametrize("tau", [0.3, 2.0])
def test_relaxed_draws_against_torch_distributions(tau):
    logits = draw(2, 3)
    drawn = vae.relax(logits, tau, 50_000, rng())
    torch.manual_seed(0)
    other = RelaxedOneHotCategorical(torch.tensor(tau).double(), logits=logits).sample((50_000,))
    for power in (1, 2, 3):
        a, b = estimate(drawn**power), estimate(other**power)
        assert ((a.value - b.value).abs() < 4.5 * torch.hypot(a.se, b.se)).all()
    assert agrees(vae.harden(drawn), logits.softmax(-1))
    assert (vae.harden(drawn[:100]).argmax(-1) == drawn[:100].argmax(-1)).all()
    torch.testing.assert_close(drawn.sum(-1), torch.ones(50_000, 2).double())


@pytest.mark.parametrize("baseline", [False, True])
def test_score_function_is_unbiased_for_any_function(baseline):
    logits = draw(2, 3)
    table = draw(3, 3, seed=9)

    def f(z):  # a table look-up: no gradient between the codes
        return table[z[:, 0].argmax(-1), z[:, 1].argmax(-1)]

    draws = vae.discrete_score_gradient(f, logits, 100_000, rng(), baseline)
    assert agrees(draws, enumerated_gradient(f, logits))


def test_a_baseline_lowers_the_noise():
    f, logits = (lambda z: 10 + quadratic(2, 3)(z)), draw(2, 3)
    plain, less = (vae.discrete_score_gradient(f, logits, 5000, rng(), b).var(0).sum() for b in (False, True))
    assert less < plain / 5


def test_gumbel_softmax_gradient_against_torch_distributions():
    f, logits, tau = quadratic(2, 3), draw(2, 3), 0.7
    ours = estimate(vae.gumbel_softmax_gradient(f, logits, tau, 50_000, rng()))
    torch.manual_seed(0)
    leaf = logits.expand(50_000, 2, 3).clone().requires_grad_()
    y = RelaxedOneHotCategorical(torch.tensor(tau).double(), logits=leaf).rsample()
    other = estimate(torch.autograd.grad(f(y).sum(), leaf)[0])
    assert ((ours.value - other.value).abs() < 4.5 * torch.hypot(ours.se, other.se)).all()


def test_straight_through_is_the_gradient_at_the_mean_code_and_right_for_a_linear_function():
    logits = draw(2, 3)
    p = logits.softmax(-1)
    f = quadratic(2, 3)
    jacobian = torch.diag_embed(p) - p[:, :, None] * p[:, None]  # of the softmax
    slope = torch.autograd.functional.jacobian(lambda z: f(z[None])[0], p)
    draws = vae.straight_through_gradient(f, logits, 100_000, rng())
    assert agrees(draws, torch.einsum("icd,id->ic", jacobian, slope))
    weights = draw(2, 3, seed=4)
    linear = vae.straight_through_gradient(lambda z: (weights * z).sum((-2, -1)), logits, 2, rng())
    torch.testing.assert_close(linear[0], enumerated_gradient(lambda z: (weights * z).sum((-2, -1)), logits))


def small_vq(width: int = 3) -> vae.VQVAE:
    torch.manual_seed(0)
    return vae.vq_vae(6, positions=2, codes=5, width=width, hidden=(8,)).double()


def test_codes_are_the_nearest_and_distances_squared():
    model, x = small_vq(), (draw(7, 6) > 0).double()
    with torch.no_grad():
        e, book = model.encodings(x), model.codebook.vectors.detach()
        found = model.codebook(e)
    apart = scipy.spatial.distance.cdist(e.flatten(0, 1).numpy(), book.numpy())
    assert (found.index.flatten().numpy() == apart.argmin(1)).all() and found.index.shape == (7, 2)
    assert (model.codes(x) == found.index).all()
    torch.testing.assert_close(found.vectors, book[found.index])
    squares = torch.tensor(apart.min(1) ** 2).reshape(7, 2).sum(1)
    torch.testing.assert_close(found.distance_of_codes, squares)
    torch.testing.assert_close(found.distance_of_encodings, squares)


def test_who_learns_from_what_in_vector_quantisation():
    """As in the paper: the codebook from its distance alone, the encoder from the decoder and the commitment."""
    model, x, beta = small_vq(), (draw(7, 6) > 0).double(), 0.3
    e = model.encodings(x)
    index, book = model.codes(x), model.codebook.vectors
    loss = model.loss(x, commitment=beta)
    (of_book,) = torch.autograd.grad(loss, book, retain_graph=True)
    for k in range(5):
        mine = e[index == k]
        expected = 2 * (book[k] - mine).sum(0) / len(x)
        torch.testing.assert_close(of_book[k], expected.detach())
    nearest = book[index].detach().requires_grad_()
    images = -model.likelihood.log_prob(model.decoder(nearest.flatten(-2)), x).mean()
    (through,) = torch.autograd.grad(images, nearest)
    of_e = through + 2 * beta * (e - nearest).detach() / len(x)
    weight = model.encoder[0].weight
    (chained,) = torch.autograd.grad(e, weight, of_e)
    torch.testing.assert_close(torch.autograd.grad(loss, weight)[0], chained)
    distance = (e - book[index]).square().sum((-2, -1)).mean()
    assert loss.item() == pytest.approx((images + 1.3 * distance).item())


def test_a_codebook_starts_at_encodings():
    book, encodings = vae.Codebook(4, 2), draw(9, 2).float()
    book.start_at(encodings, rng())
    rows = [(encodings == v).all(-1).nonzero().item() for v in book.vectors.detach()]
    assert len(set(rows)) == 4
    with pytest.raises(ValueError, match="3 encodings for 4 codes"):
        book.start_at(encodings[:3], rng())


def test_a_codebook_descends_to_the_means_of_what_is_nearest():
    """The fixed point of k-means: three clusters far apart, and a code that starts in each."""
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    e = centres[:, None] + 0.5 * draw(3, 20, 2).float()
    book = vae.Codebook(3, 2)
    with torch.no_grad():
        book.vectors.copy_(e[:, 0])
    optimiser = torch.optim.SGD(book.parameters(), lr=1.0)
    for _ in range(60):
        optimiser.zero_grad()
        (book(e.flatten(0, 1)[:, None]).distance_of_codes.mean()).backward()
        optimiser.step()
    torch.testing.assert_close(book.vectors.detach(), e.mean(1), atol=1e-4, rtol=1e-4)


def test_frequencies_of_codes():
    index = torch.tensor([[0, 2], [0, 1], [1, 2], [0, 2]])
    share = vae.code_frequencies(index, 3, extra=0.0)
    torch.testing.assert_close(share, torch.tensor([[0.75, 0.25, 0], [0, 0.25, 0.75]]))
    smooth = vae.code_frequencies(index, 3)
    torch.testing.assert_close(smooth[0], torch.tensor([3.5, 1.5, 0.5]) / 5.5)


def test_a_prior_over_codes_is_a_distribution_and_its_samples_follow_it():
    torch.manual_seed(0)
    prior = vae.CodePrior(3, 2, hidden=8)
    with torch.no_grad():
        for p in prior.parameters():
            p.mul_(3)
        every = torch.cartesian_prod(*[torch.arange(2)] * 3)  # (8, 3)
        p = prior.log_prob(every).exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-5)
    drawn = prior.sample(20_000, rng())
    share = (drawn[:, None] == every).all(-1).float().mean(0)
    assert ((share - p).abs() < 4.5 * (p * (1 - p) / 20_000).sqrt() + 1e-4).all()
    assert p.std() > 0.02  # and they are not all alike


def test_a_prior_over_codes_learns_that_one_follows_another():
    torch.manual_seed(0)
    first = torch.randint(3, (300, 1), generator=rng())
    index = torch.cat([first, (first + 1) % 3], dim=1)
    prior = vae.CodePrior(2, 3, hidden=16)
    fit(lambda i: -prior.log_prob(index[i]).mean(), prior, 300, steps=300, lr=0.01, generator=rng(), label=None)
    drawn = prior.sample(200, rng(1))
    assert ((drawn[:, 0] + 1) % 3 == drawn[:, 1]).float().mean() > 0.95
    assert -prior.log_prob(index).mean().item() == pytest.approx(math.log(3), abs=0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vae.relax(torch.zeros(1, 2), 0.0, 5, rng()), "tau = 0.0"),
        (lambda: vae.gumbel_softmax_gradient(lambda z: z.sum((-2, -1)), torch.zeros(1, 2), -1, 5, rng()), "tau = -1"),
        (lambda: vae.discrete_score_gradient(lambda z: z[:, 0, 0], torch.zeros(1, 2), 1, rng(), True), "at least 2"),
        (lambda: vae.Codebook(1, 2), "codes = 1"),
        (lambda: vae.vq_vae(6, positions=0), "positions = 0"),
        (lambda: small_vq().loss(torch.zeros(2, 6).double(), commitment=-0.1), "commitment = -0.1"),
    ],
)
def test_bad_discrete_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()

"""Metrics against SciPy, closed forms, exact expectations and scalar code."""

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch

from course_utils import metrics
from course_utils.densities import GaussianMixture, eight_gaussians
from course_utils.verify import estimate


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def covariance(d: int, seed: int) -> torch.Tensor:
    a = draw(d, d + 3, seed=seed)
    return a @ a.T


def rotation(d: int, seed: int) -> torch.Tensor:
    return torch.linalg.qr(draw(d, d, seed=seed)).Q


# Fréchet distance


def test_gaussian_of_features_is_numpys():
    x = draw(50, 4, seed=1) @ draw(4, 4, seed=2) + 7
    mean, cov = metrics.gaussian_of(x.float())
    assert mean.dtype == cov.dtype == torch.float64
    rounded = x.float().double().numpy()
    np.testing.assert_allclose(mean, rounded.mean(0), rtol=1e-12)
    np.testing.assert_allclose(cov, np.cov(rounded, rowvar=False), rtol=1e-9)
    assert metrics.gaussian_of(x[:, :1])[1].shape == (1, 1)


@pytest.mark.parametrize("d", [1, 2, 5, 40])
def test_frechet_distance_is_the_formula_with_scipys_root_of_a_matrix(d):
    m_1, m_2, c_1, c_2 = draw(d, seed=1), draw(d, seed=2), covariance(d, 3), covariance(d, 4)
    root = scipy.linalg.sqrtm(c_1.numpy())
    inner = scipy.linalg.sqrtm(root @ c_2.numpy() @ root).real
    expected = np.square((m_1 - m_2).numpy()).sum() + np.trace(c_1.numpy() + c_2.numpy() - 2 * inner)
    for given in ((m_1, c_1, m_2, c_2), (m_2, c_2, m_1, c_1)):
        value = metrics.frechet_distance(*given)
        assert value.shape == () and value.dtype == torch.float64
        assert value.item() == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("zeros", [0, 2, 5], ids=["regular", "singular", "both zero"])
def test_frechet_distance_of_commuting_covariances(zeros):
    """With common axes it is the sum over them of (m_1 - m_2)² + (s_1 - s_2)², also where standard deviations are 0."""
    s_1, s_2 = draw(5, seed=1).abs(), draw(5, seed=2).abs()
    s_1[:zeros] = 0
    s_2[5 - zeros :] = 0
    m_1, m_2, axes = draw(5, seed=3), draw(5, seed=4), rotation(5, 5)
    c_1, c_2 = axes @ torch.diag(s_1**2) @ axes.T, axes @ torch.diag(s_2**2) @ axes.T
    expected = (m_1 - m_2).square().sum() + (s_1 - s_2).square().sum()
    torch.testing.assert_close(metrics.frechet_distance(m_1, c_1, m_2, c_2), expected, atol=1e-6, rtol=0)


def test_frechet_distance_of_a_shift_and_of_a_scaling():
    mean, cov, shift = draw(6, seed=1), covariance(6, 2), draw(6, seed=3)
    shifted = metrics.frechet_distance(mean, cov, mean + shift, cov)
    torch.testing.assert_close(shifted, shift.square().sum())
    scaled = metrics.frechet_distance(mean, cov, mean, 9 * cov)
    torch.testing.assert_close(scaled, (3 - 1) ** 2 * cov.trace())


def test_frechet_distance_to_a_gaussian_on_a_line():
    """For C_1 = u u^T the root has the one eigenvalue (u^T C_2 u)^½."""
    u, cov, zero = draw(6, seed=1), covariance(6, 2), torch.zeros(6)
    line = torch.outer(u, u)
    expected = u @ u + cov.trace() - 2 * (u @ cov @ u).sqrt()
    for given in ((zero, line, zero, cov), (zero, cov, zero, line)):
        torch.testing.assert_close(metrics.frechet_distance(*given), expected, atol=1e-6, rtol=0)


def test_frechet_distance_of_features_with_constant_columns_is_that_of_the_others():
    x, y = draw(40, 5, seed=1), 2 * draw(60, 5, seed=2) + 1
    constant_x, constant_y = torch.full((40, 3), 2.0), torch.full((60, 3), 2.5)
    wide = metrics.frechet(torch.cat([x, constant_x], 1), torch.cat([y, constant_y], 1))
    torch.testing.assert_close(wide, metrics.frechet(x, y) + 3 * 0.5**2, atol=1e-6, rtol=0)
    one_sided = metrics.frechet(torch.cat([x, constant_x], 1), torch.cat([y, y[:, :3]], 1))
    other_side = metrics.frechet(torch.cat([y, y[:, :3]], 1), torch.cat([x, constant_x], 1))
    torch.testing.assert_close(one_sided, other_side, atol=1e-6, rtol=0)


def test_frechet_distance_of_equal_gaussians_is_zero_and_never_negative():
    for seed in range(20):
        mean, cov = draw(12, seed=seed), covariance(12, seed)
        assert 0 <= metrics.frechet_distance(mean, cov, mean, cov) < 1e-12 * cov.trace()


@pytest.mark.parametrize(("n", "d"), [(400, 16), (10, 64)], ids=["more samples", "fewer samples than features"])
def test_frechet_distance_is_a_distance_and_does_not_depend_on_the_axes(n, d):
    x, y = draw(n, d, seed=1), draw(n, d, seed=2) @ draw(d, d, seed=3) / d**0.5
    scale = x.var(0).sum() + y.var(0).sum()
    distance = metrics.frechet(x, y)
    assert distance > 0.01 * scale
    assert 0 <= metrics.frechet(x, x.flip(0)) < 1e-6 * scale
    axes, shift = rotation(d, 4), draw(d, seed=5)
    for same in (metrics.frechet(y, x), metrics.frechet(x @ axes + shift, y @ axes + shift)):
        torch.testing.assert_close(same, distance, atol=1e-6 * scale.item(), rtol=0)


@pytest.mark.slow
def test_frechet_distance_of_two_samples_of_one_gaussian_in_one_dimension_has_its_exact_mean():
    """E (m_1 - m_2)² + E (s_1 - s_2)² = 2 / N + 2 (1 - c_4(N)²), c_4 the mean of a sample's standard deviation."""
    for n in (5, 20, 80):
        x, y = draw(3000, n, 1, seed=n), draw(3000, n, 1, seed=n + 1)
        found = estimate(torch.stack([metrics.frechet(*pair) for pair in zip(x, y, strict=True)]))
        c_4 = math.sqrt(2 / (n - 1)) * math.exp(math.lgamma(n / 2) - math.lgamma((n - 1) / 2))
        assert abs(found.value - (2 / n + 2 * (1 - c_4**2))) < 4 * found.se


def test_frechet_distance_of_two_samples_of_one_gaussian_shrinks_as_its_docstring_says():
    d, found = 4, {}
    for n in (200, 400, 800):
        x, y = draw(600, n, d, seed=n), draw(600, n, d, seed=n + 1)
        found[n] = estimate(n * torch.stack([metrics.frechet(*pair) for pair in zip(x, y, strict=True)]))
    for n, (value, se) in found.items():
        expected = (d**2 + 5 * d) / 2
        assert abs(value - expected) < 4 * se + 2 * d / n * expected  # to first order in 1 / N


# Kernel distance


def kernel(a, b):
    return (a @ b / len(a) + 1) ** 3


def test_kernel_distance_by_hand(monkeypatch):
    x, y = draw(9, 3, seed=1), draw(9, 3, seed=2) + 0.3
    n, pairs = 9, [(i, j) for i in range(9) for j in range(9) if i != j]
    h = {(i, j): kernel(x[i], x[j]) + kernel(y[i], y[j]) - kernel(x[i], y[j]) - kernel(y[i], x[j]) for i, j in pairs}
    value = sum(h.values()) / (n * (n - 1))
    without = torch.stack([sum(v for key, v in h.items() if k not in key) / ((n - 1) * (n - 2)) for k in range(n)])
    error = ((n - 1) / n * (without - without.mean()).square().sum()).sqrt()
    for entries in (2**22, 20):  # at once, and in parts
        monkeypatch.setattr(metrics, "ENTRIES", entries)
        found = metrics.kid(x, y)
        torch.testing.assert_close(found.value, value)
        torch.testing.assert_close(found.se, error)


def repeated(n: int, runs: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return estimates and standard errors, (runs,) each, of -1 or 1 against -1, 1 or 2, from n draws each."""
    g = rng(n)
    signs = torch.tensor([-1.0, 1.0])[torch.randint(2, (runs, n, 1), generator=g)]
    three = torch.tensor([-1.0, 1.0, 2.0])[torch.randint(3, (runs, n, 1), generator=g)]
    found = [metrics.kid(x, y) for x, y in zip(signs, three, strict=True)]
    return torch.stack([f.value for f in found]), torch.stack([f.se for f in found])


@pytest.mark.parametrize("n", [5, 20])
def test_kernel_distance_is_unbiased_for_every_number_of_samples(n):
    """Moments of the two tables: 0, 1, 0 and 2/3, 2, 8/3; (xy + 1)³ weighs their differences by 3, 3, 1."""
    exact = 3 * (2 / 3) ** 2 + 3 * 1**2 + (8 / 3) ** 2
    found = estimate(repeated(n, 1200)[0])
    assert abs(found.value - exact) < 4 * found.se


def test_standard_error_of_the_kernel_distance_is_the_spread_of_its_estimates():
    values, errors = repeated(60, 600)
    assert errors.square().mean().sqrt().item() == pytest.approx(values.std().item(), rel=0.15)


def test_kernel_distance_of_one_distribution_is_zero_in_the_mean_and_sometimes_below():
    values = torch.stack([metrics.kid(*draw(2, 25, 3, seed=seed)).value for seed in range(400)])
    found = estimate(values)
    assert abs(found.value) < 4 * found.se and 0.2 < (values < 0).double().mean() < 0.9


# Inception score


def test_inception_score_of_tables_with_known_values():
    c = 5
    assert metrics.inception_score(torch.full((7, c), 1 / c)).item() == pytest.approx(1, abs=1e-6)  # unsure
    one_hot = torch.eye(c).repeat(4, 1)
    assert metrics.inception_score(one_hot).item() == pytest.approx(c)  # sure, all classes alike
    assert metrics.inception_score(one_hot[::c]).item() == pytest.approx(1)  # sure, but always the same class
    shares = torch.tensor([0.5, 0.25, 0.25])  # sure, classes unequal: exp of the entropy, 2^1.5
    assert metrics.inception_score(torch.eye(3)[[0, 0, 1, 2]]).item() == pytest.approx(2**1.5)
    assert metrics.inception_score(shares.expand(6, 3)).item() == pytest.approx(1)


def test_inception_score_is_that_of_scipys_entropies():
    p = (2 * draw(200, 10, seed=1)).softmax(-1)
    kl = scipy.stats.entropy(p.numpy(), p.numpy().mean(0), axis=1)
    assert metrics.inception_score(p).item() == pytest.approx(np.exp(kl.mean()), rel=1e-12)
    assert metrics.inception_score(p.float()).item() == pytest.approx(np.exp(kl.mean()), rel=1e-5)


# Precision and recall


def inside_by_hand(x, centres, k):
    """The definition with loops: in how many points of x a ball about a centre reaches."""
    hits = 0
    for point in x:
        for i, centre in enumerate(centres):
            others = sorted(np.linalg.norm(centre - other) for j, other in enumerate(centres) if j != i)
            if np.linalg.norm(point - centre) <= others[k - 1]:
                hits += 1
                break
    return hits / len(x)


@pytest.mark.parametrize("k", [1, 3, 7])
@pytest.mark.parametrize("entries", [2**22, 100], ids=["at once", "in parts"])
@pytest.mark.parametrize("kind", ["normal", "grid"])
def test_precision_and_recall_by_hand(k, entries, kind, monkeypatch):
    monkeypatch.setattr(metrics, "ENTRIES", entries)
    real, fake = draw(30, 2, seed=1), 0.7 * draw(40, 2, seed=2) + 0.5
    if kind == "grid":  # equal points, and points on the rim of a ball
        real, fake = (2 * real).round(), (2 * fake).round()
    precision, recall = metrics.precision_recall(real, fake, k)
    assert precision.shape == recall.shape == ()
    assert precision.item() == pytest.approx(inside_by_hand(fake.numpy(), real.numpy(), k))
    assert recall.item() == pytest.approx(inside_by_hand(real.numpy(), fake.numpy(), k))


def test_precision_and_recall_of_half_the_modes_and_of_too_wide_a_fake():
    modes = 100.0 * torch.eye(4)
    real = (modes[:, None] + draw(4, 100, 4, seed=1)).flatten(0, 1)
    half = real[:200]
    precision, recall = metrics.precision_recall(real, half)
    assert precision == 1 and recall == 0.5
    precision, recall = metrics.precision_recall(half, real)
    assert precision == 0.5 and recall == 1
    square = torch.rand(400, 2, generator=rng(2)) * 2 - 1
    wide = torch.rand(400, 2, generator=rng(3)) * 20 - 10  # its balls, radius about 1, reach over all of the square
    precision, recall = metrics.precision_recall(square, wide, k=5)
    assert precision < 0.05 and recall > 0.9


def test_precision_and_recall_of_sets_far_apart_and_of_one_repeated_point():
    x = draw(50, 3)
    assert metrics.precision_recall(x, x + 100) == (0, 0)
    collapsed = x[:1].repeat(50, 1)
    precision, recall = metrics.precision_recall(x, collapsed)
    assert precision == 1 and recall.item() == pytest.approx(1 / 50)


def test_precision_and_recall_of_equal_distributions_agree():
    """Both are shares of draws from the same law in the same kind of set, so that only noise sets them apart."""
    differences = []
    for seed in range(60):
        precision, recall = metrics.precision_recall(draw(100, 8, seed=2 * seed), draw(100, 8, seed=2 * seed + 1))
        differences.append(precision - recall)
    found = estimate(torch.stack(differences))
    assert abs(found.value) < 4 * found.se


# Modes of a known mixture


def test_mode_counts_of_constructed_samples():
    mixture = GaussianMixture(torch.full((3,), 1 / 3), torch.tensor([[0.0, 0], [10, 0], [0, 10]]), torch.ones(3))
    samples = torch.tensor([[0.0, 2.9]] * 50 + [[10.0, 3.1]] * 30 + [[9.0, 0.0]] * 18 + [[0.0, 10.0]] * 2)
    modes = metrics.mode_counts(samples, mixture)
    assert modes.counts.tolist() == [50, 18, 2] and modes.counts.dtype == torch.int64
    assert modes.covered == 3 and isinstance(modes.covered, int)
    assert modes.quality == pytest.approx(0.7) and isinstance(modes.quality, float)
    assert metrics.mode_counts(samples, mixture, least=0.021).covered == 2
    wider = metrics.mode_counts(samples, mixture, within=3.2)
    assert wider.counts.tolist() == [50, 48, 2] and wider.quality == 1
    nowhere = metrics.mode_counts(samples + 50, mixture)
    assert nowhere.counts.tolist() == [0, 0, 0] and nowhere[1:] == (0, 0)


def test_distance_from_a_mode_is_in_its_own_standard_deviations():
    sigmas = torch.tensor([[1.0, 0.1], [0.1, 0.1]])
    mixture = GaussianMixture(torch.tensor([0.5, 0.5]), torch.tensor([[0.0, 0], [4, 0]]), sigmas)
    samples = torch.tensor([[2.9, 0.0], [0.0, 0.31], [3.75, 0.0], [4.2, 0.2], [4.25, 0.25]])
    # in the order of the samples: mode 0 at 2.9; at 3.1; mode 1 at 2.5; at 2.83; at 3.54
    assert metrics.mode_counts(samples, mixture).counts.tolist() == [1, 2]


@pytest.mark.parametrize(("d", "within"), [(2, 3.0), (2, 1.0), (5, 2.0)])
def test_share_of_a_gaussian_within_some_standard_deviations_is_that_of_chi_squared(d, within):
    n, means = 20_000, 100.0 * torch.eye(d)
    mixture = GaussianMixture(torch.full((d,), 1 / d), means, torch.linspace(0.5, 2, d * d).reshape(d, d))
    modes = metrics.mode_counts(mixture.sample(n, rng(1)), mixture, within)
    share = scipy.stats.chi2.cdf(within**2, d)
    assert abs(modes.quality - share) < 4 * math.sqrt(share * (1 - share) / n)
    part = share / d
    assert ((modes.counts / n - part).abs() < 4 * math.sqrt(part * (1 - part) / n)).all()
    assert modes.covered == d


def test_a_collapsed_generator_on_the_ring():
    """Two modes and 1 % of strays on each of two others: those are not covered."""
    ring = eight_gaussians()
    modes = [0] * 60 + [3] * 38 + [5, 6]
    found = metrics.mode_counts(ring.means[modes], ring)
    assert found.counts.tolist() == [60, 0, 0, 38, 0, 1, 1, 0] and found.covered == 2 and found.quality == 1
    true = metrics.mode_counts(ring.sample(2000, rng()), ring)
    assert true.covered == 8 and abs(true.quality - (1 - math.exp(-4.5))) < 4 * math.sqrt(math.exp(-4.5) / 2000)


# Bad input, devices


EYE, ZERO, RING = torch.eye(3), torch.zeros(3), eight_gaussians()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.gaussian_of(torch.zeros(1, 3)), r"features have shape \(1, 3\).* N >= 2"),
        (lambda: metrics.gaussian_of(torch.zeros(5)), r"features have shape \(5,\)"),
        (lambda: metrics.gaussian_of(torch.tensor([[0.0], [math.inf]])), "features: nan or infinite"),
        (lambda: metrics.gaussian_of(torch.tensor([[math.inf], [-math.inf]])), "features: nan or infinite"),
        (lambda: metrics.frechet(torch.zeros(4, 3), torch.zeros(4, 2)), "features_1 have 3 columns, features_2 2"),
        (lambda: metrics.frechet(torch.zeros(4, 3), torch.zeros(1, 3)), r"features_2 have shape \(1, 3\)"),
        (lambda: metrics.frechet_distance(ZERO, EYE, ZERO[:2], EYE), r"\(2,\).* do not fit"),
        (lambda: metrics.frechet_distance(ZERO, EYE, ZERO, EYE[:2]), r"\(2, 3\).* do not fit"),
        (lambda: metrics.frechet_distance(ZERO[0], EYE[0, 0], ZERO[0], EYE[0, 0]), "do not fit"),
        (lambda: metrics.frechet_distance(ZERO, EYE, ZERO, EYE * math.nan), "cov_2: nan or infinite"),
        (lambda: metrics.frechet_distance(ZERO, EYE - 1, ZERO, EYE), "cov_1 has a negative eigenvalue"),
        (lambda: metrics.frechet_distance(ZERO, EYE, ZERO, EYE - 0.6), "cov_2 has a negative eigenvalue"),
        (lambda: metrics.inception_score(torch.ones(4, 3)), "sum to 1; apply softmax"),
        (lambda: metrics.inception_score(torch.tensor([[1.5, -0.5]] * 2)), "negative entry"),
        (lambda: metrics.inception_score(torch.tensor([[1.0, math.nan]] * 2)), "probabilities: nan or infinite"),
        (lambda: metrics.inception_score(torch.ones(1, 1)), r"probabilities have shape \(1, 1\)"),
        (lambda: metrics.precision_recall(draw(3, 2), draw(9, 2)), "k = 3 with 3 real and 9 fake samples"),
        (lambda: metrics.precision_recall(draw(9, 2), draw(4, 2), k=4), "k = 4 with 9 real and 4 fake samples"),
        (lambda: metrics.precision_recall(draw(9, 2), draw(9, 2), k=0), "k = 0"),
        (lambda: metrics.precision_recall(draw(9, 2), draw(9, 3)), "real features have 2 columns, fake features 3"),
        (lambda: metrics.precision_recall(draw(9, 2) / 0, draw(9, 2)), "real features: nan or infinite"),
        (lambda: metrics.kid(draw(9, 2), draw(8, 2)), "9 and 8 samples; equally many are needed"),
        (lambda: metrics.kid(draw(2, 2), draw(2, 2)), "at least 3"),
        (lambda: metrics.kid(draw(9, 2), draw(9, 3)), "features_1 have 2 columns, features_2 3"),
        (lambda: metrics.mode_counts(draw(9, 3), RING), "samples have 3 columns, the mixture's means 2"),
        (lambda: metrics.mode_counts(draw(9, 2) * math.nan, RING), "samples: nan or infinite"),
        (lambda: metrics.mode_counts(draw(9, 2), RING, within=0), "within = 0"),
        (lambda: metrics.mode_counts(draw(9, 2), RING, least=0), "least = 0"),
        (lambda: metrics.mode_counts(draw(9, 2), RING, least=2), "least = 2"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.gpu
def test_cpu_and_gpu_agree():
    x, y = draw(60, 5, seed=1).float(), 1.5 * draw(50, 5, seed=2).float()
    constant = torch.ones(60, 1), torch.ones(50, 1)
    for pair in ((x, y), (torch.cat([x, constant[0]], 1), torch.cat([y, constant[1]], 1))):
        there = metrics.frechet(*(v.cuda() for v in pair))
        assert there.is_cuda
        torch.testing.assert_close(there.cpu(), metrics.frechet(*pair), atol=1e-6, rtol=0)
    p = x.softmax(-1)
    torch.testing.assert_close(metrics.inception_score(p.cuda()).cpu(), metrics.inception_score(p), rtol=1e-5, atol=0)
    there, here = (metrics.precision_recall(*pair) for pair in ((x.cuda(), y.cuda()), (x, y)))
    assert [v.item() for v in there] == pytest.approx([v.item() for v in here])  # means, divided in another order
    samples = RING.sample(500, rng())
    there, here = metrics.mode_counts(samples.cuda(), RING), metrics.mode_counts(samples, RING)
    assert there.counts.tolist() == here.counts.tolist() and there[1:] == here[1:]

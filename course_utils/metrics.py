"""Judging samples: Fréchet distance, kernel distance, Inception score, precision and recall, modes covered.

Features are rows (N, d) that a network gives for N images, or the samples themselves. All is computed in float64.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from course_utils.densities import GaussianMixture
from course_utils.errors import require
from course_utils.verify import Estimate

ENTRIES = 2**22  # of the table of distances that is held at a time: 32 MiB


def _double(name: str, x: Tensor) -> Tensor:
    """Return x in float64, on its device or, where that has no float64 (mps), on the CPU."""
    x = (x.cpu() if x.device.type == "mps" else x).double()
    require(bool(x.sum().isfinite()), f"{name}: nan or infinite numbers are not allowed; find out where they come from")
    return x


def _rows(name: str, x: Tensor) -> Tensor:
    """Return finite rows (N, d), at least two of them, in float64; else raise ``ValueError``."""
    require(
        x.ndim == 2 and len(x) >= 2 and x.shape[1] >= 1,
        f"{name} have shape {tuple(x.shape)}; allowed: (N, d), a row for each of N >= 2 samples",
    )
    return _double(name, x)


def _same_width(first: str, x: Tensor, second: str, y: Tensor) -> None:
    require(
        x.shape[1:] == y.shape[1:],
        f"{first} have {x.shape[1]} columns, {second} {y.shape[1]}; both must have the same number",
    )


# Fréchet distance ----------------------------------------------------------------------------------------------------


def gaussian_of(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean (d,) and unbiased covariance (d, d) of features (N, d).

    Raises ``ValueError`` for fewer than two samples or numbers that are not finite.
    """
    x = _rows("features", features)
    mean = x.mean(0)
    return mean, (x - mean).T @ (x - mean) / (len(x) - 1)


def frechet_distance(mean_1: Tensor, cov_1: Tensor, mean_2: Tensor, cov_2: Tensor) -> Tensor:
    """Return |m_1 - m_2|² + tr(C_1 + C_2 - 2 (C_1^½ C_2 C_1^½)^½), () and >= 0: means (d,), covariances (d, d).

    This is the squared Wasserstein-2 distance of two Gaussians, Dowson and Landau (1982), in squared units of the
    features; Heusel et al. (2017) for images. With C_1 = L L^T the matrix L^T C_2 L has the eigenvalues of
    C_1^½ C_2 C_1^½ and is symmetric, so that no root of a matrix is needed. Covariances may be singular. Raises
    ``ValueError`` for shapes that do not fit, numbers that are not finite and clearly negative eigenvalues. (3.8e)
    """
    given = {"mean_1": mean_1, "cov_1": cov_1, "mean_2": mean_2, "cov_2": cov_2}
    d, shapes = mean_1.numel(), [tuple(value.shape) for value in given.values()]
    require(shapes == [(d,), (d, d)] * 2, f"shapes {shapes} do not fit; allowed: means (d,), covariances (d, d)")
    m_1, c_1, m_2, c_2 = (_double(name, value) for name, value in given.items())
    root = _factor(c_1)  # (d, r)
    squares = torch.linalg.eigvalsh(root.T @ c_2 @ root)  # (r,)
    cross = _non_negative("cov_2", squares, c_1.trace() * c_2.trace()).sqrt().sum()
    return ((m_1 - m_2).square().sum() + c_1.trace() + c_2.trace() - 2 * cross).clamp(min=0)  # rounding


def _factor(covariance: Tensor) -> Tensor:
    """Return F with F F^T = C: Cholesky's (d, d), or (d, r) from the r eigenvalues above 0 if C is singular."""
    lower, failed = torch.linalg.cholesky_ex(covariance)
    if not failed:
        return lower
    values, vectors = torch.linalg.eigh(covariance)  # ascending
    values = _non_negative("cov_1", values, covariance.trace())
    kept = values > values.max() * len(values) * torch.finfo(values.dtype).eps
    return vectors[:, kept] * values[kept].sqrt()


def _non_negative(name: str, values: Tensor, scale: Tensor) -> Tensor:
    """Set to 0 the eigenvalues (r,) that rounding made negative; ``ValueError`` if it was more than float32's."""
    require(
        bool((values >= -1e-6 * scale).all()),
        f"{name} has a negative eigenvalue, so it is no covariance; gaussian_of(features) makes one",
    )
    return values.clamp(min=0)


def frechet(features_1: Tensor, features_2: Tensor) -> Tensor:
    """Return the Fréchet distance of Gaussians fitted to features (N, d) and (M, d), ().

    It is biased upwards: two draws of N samples each of N(0, I_d) are (d² + 5 d) / (2 N) apart in the mean, not 0, to
    first order in 1 / N. Compare only distances of equally many samples. Raises ``ValueError`` as its two parts do.
    (3.8f)
    """
    _same_width("features_1", _rows("features_1", features_1), "features_2", _rows("features_2", features_2))
    return frechet_distance(*gaussian_of(features_1), *gaussian_of(features_2))


# Kernel distance -----------------------------------------------------------------------------------------------------


def kid(features_1: Tensor, features_2: Tensor) -> Estimate:
    """Return the squared distance of two sets of features (N, d) in the space of all monomials up to degree 3, ().

    The U-statistic of E k(x, x') + E k(y, y') - 2 E k(x, y) for k(x, y) = (x·y/d + 1)³, with its jackknife standard
    error: unbiased, so it may come out below 0. Bińkowski et al. (2018), the "KID". Time grows as N², memory as N.
    Raises ``ValueError`` unless both sets have the same N >= 3 and the same d. (3.8h)
    """
    x, y = _rows("features_1", features_1), _rows("features_2", features_2)
    _same_width("features_1", x, "features_2", y)
    n, m = len(x), len(y)
    need = "equally many are needed, at least 3: take the first of each"
    require(n == m >= 3, f"{n} and {m} samples; {need}")
    rows = torch.cat([_kernel_rows(x, y, part) for part in torch.arange(n).split(max(1, ENTRIES // n))])  # (N,)
    mean = rows.sum() / (n * (n - 1))
    without = (rows.sum() - 2 * rows) / ((n - 1) * (n - 2))  # (N,), each pair left out in turn
    return Estimate(mean, ((n - 1) / n * (without - without.mean()).square().sum()).sqrt())


def _kernel_rows(x: Tensor, y: Tensor, i: Tensor) -> Tensor:
    """Return sum over j != i of k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(y_i, x_j), (I,), for rows i (I,)."""
    d = x.shape[1]
    table = sum(
        sign * (a[i] @ b.T / d + 1) ** 3 for sign, a, b in ((1, x, x), (1, y, y), (-1, x, y), (-1, y, x))
    )  # (I, N)
    return table.sum(1) - table[torch.arange(len(i)), i]


# Inception score -----------------------------------------------------------------------------------------------------


def inception_score(probabilities: Tensor) -> Tensor:
    """Return exp E_x KL(p(y | x) || p(y)), (), from 1 to C: class probabilities (N, C) of N samples.

    Salimans et al. (2016), with any classifier. Raises ``ValueError`` unless each row has no negative entry and sum 1.
    (3.8a)
    """
    p = _rows("probabilities", probabilities)
    proper = bool((p >= 0).all() & ((p.sum(-1) - 1).abs() < 1e-3).all())
    wrong = "a negative entry or a row that does not sum to 1"
    require(proper, f"probabilities have {wrong}; apply softmax(-1)")
    kl = (torch.xlogy(p, p) - torch.xlogy(p, p.mean(0))).sum(-1)  # (N,), nats
    return kl.mean().exp()


# Precision and recall ------------------------------------------------------------------------------------------------


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[Tensor, Tensor]:
    """Return the share of fake (M, d) inside the real manifold and of real (N, d) inside the fake one, () each.

    A manifold is the union of balls about its samples, each up to the sample's k-th nearest neighbour: Kynkäänniemi
    et al. (2019). Both depend on how many samples there are: say N and M. Memory grows as N + M. Raises ``ValueError``
    unless both have more than k samples of the same d.
    """
    real, fake = _rows("real features", real), _rows("fake features", fake)
    _same_width("real features", real, "fake features", fake)
    require(
        1 <= k < min(len(real), len(fake)),
        f"k = {k} with {len(real)} real and {len(fake)} fake samples; allowed: from 1 to fewer than there are samples",
    )
    return _share_inside(fake, real, k), _share_inside(real, fake, k)


@torch.no_grad()
def _share_inside(x: Tensor, centres: Tensor, k: int) -> Tensor:
    """Return the share of x (M, d) that lies in a ball about one of the centres (N, d)."""
    rows = max(1, ENTRIES // len(centres))
    radii = [  # the nearest is the centre itself
        torch.cdist(part, centres).topk(k + 1, largest=False).values[:, k] for part in centres.split(rows)
    ]
    radius = torch.cat(radii)  # (N,)
    inside = torch.cat([(torch.cdist(part, centres) <= radius).any(-1) for part in x.split(rows)])  # (M,)
    return inside.double().mean()


# Modes of a known mixture --------------------------------------------------------------------------------------------


class Modes(NamedTuple):
    """Samples near each mode, int64 (C,), how many modes are covered, and the share of samples near a mode."""

    counts: Tensor
    covered: int
    quality: float


def mode_counts(samples: Tensor, mixture: GaussianMixture, within: float = 3.0, least: float = 0.02) -> Modes:
    """Count the samples (N, d) that lie `within` standard deviations (Mahalanobis) of their nearest mode.

    A mode is covered if its count is at least the share `least` of all N samples: 2 % is a sixth of what each of eight
    equal modes should get, and more than the strays that a generator leaves on its way between modes. (A rule of one
    sample covers more, the more samples are drawn.) For more than some 25 modes take less. The 3 standard deviations,
    which hold 98.9 % of a Gaussian in two dimensions, are those of Srivastava et al. (2017), VEEGAN. Raises
    ``ValueError`` for samples of another d, a `within` that is not positive, a `least` outside (0, 1].
    """
    x = _rows("samples", samples)
    means, sigmas = mixture.means.to(x), mixture.sigmas.to(x)
    _same_width("samples", x, "the mixture's means", means)
    require(within > 0, f"within = {within} standard deviations; it must be positive, for example 3")
    require(0 < least <= 1, f"least = {least} is a share of all samples; it must be above 0 and at most 1")
    distance, mode = ((x[:, None] - means) / sigmas).norm(dim=-1).min(-1)  # (N,)
    near = distance <= within
    counts = mode[near].bincount(minlength=len(means))  # (C,)
    covered = int((counts >= least * len(x)).sum())
    return Modes(counts, covered, near.double().mean().item())

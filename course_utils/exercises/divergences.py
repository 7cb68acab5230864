"""The exercises of lecture 1: what the instant check and the grader share."""

import math
from functools import partial

import torch
from torch import Tensor

from course_utils import divergences as dv
from course_utils.exercises.checking import Case, Exercise
from course_utils.exercises.checking import check as check_any


def normal(*shape: int, g: torch.Generator) -> Tensor:
    """Draw standard normal numbers in float64."""
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def covariance(d: int, g: torch.Generator) -> Tensor:
    """Draw a well-conditioned covariance (d, d)."""
    root = normal(d, d, g=g)
    return root @ root.T / d + 0.5 * torch.eye(d, dtype=torch.float64)


# 1.1 ---------------------------------------------------------------------------------------------------------------


def kl_bits(p: Tensor, q: Tensor) -> Tensor:
    """Return KL(p||q) in bits of tables (..., C)."""
    return dv.kl_table(p, q) / math.log(2)


def kl_bits_cases(g: torch.Generator) -> list[Case]:
    """Tables without zeros, with a zero in p, with a zero in q, and many at once."""
    p, q = normal(2, 4, g=g).softmax(-1)
    holed = torch.cat([p[:2] / p[:2].sum(), torch.zeros(2, dtype=torch.float64)])
    many = normal(2, 5, 3, g=g).softmax(-1)
    return [
        Case("two tables without zeros", (p, q)),
        Case("p has zeros: they cost nothing", (holed, q)),
        Case("q is zero where p is not: infinite", (q, holed)),
        Case("five pairs of tables at once", (many[0], many[1])),
    ]


# 1.2 ---------------------------------------------------------------------------------------------------------------


def forward_kl_from_q(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return the importance-sampling estimate of KL(p||q) from log densities (N,) at points drawn from q."""
    log_ratio = log_p - log_q
    return (log_ratio.exp() * log_ratio).mean()


def forward_kl_from_q_cases(g: torch.Generator) -> list[Case]:
    """Pairs of Gaussians, the points drawn from q."""
    cases = []
    for mu, sigma in [(0.5, 1.0), (-1.0, 0.7), (0.0, 0.4)]:
        x = normal(200, g=g)
        cases.append(
            Case(
                f"p = N({mu}, {sigma}²), q = N(0, 1)",
                (dv.gaussian_log_prob(x, mu, sigma), dv.gaussian_log_prob(x, 0, 1)),
            )
        )
    return cases


# 1.3 ---------------------------------------------------------------------------------------------------------------


def matched_gaussian(weights: Tensor, means: Tensor, sigmas: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of a one-dimensional Gaussian mixture (C,), (C,), (C,)."""
    mu = (weights * means).sum()
    return mu, (weights * (sigmas**2 + (means - mu) ** 2)).sum().sqrt()


def matched_gaussian_cases(g: torch.Generator) -> list[Case]:
    """A symmetric mixture, a lopsided one, one with five components."""
    two = torch.tensor([0.5, 0.5], dtype=torch.float64)
    return [
        Case("two equal components", (two, torch.tensor([-2.0, 2.0]).double(), torch.tensor([0.5, 0.5]).double())),
        Case("unequal weights and widths", (normal(2, g=g).softmax(0), 3 * normal(2, g=g), normal(2, g=g).exp())),
        Case("five components", (normal(5, g=g).softmax(0), 3 * normal(5, g=g), normal(5, g=g).exp())),
    ]


# 1.4 ---------------------------------------------------------------------------------------------------------------


def kl_full_cases(g: torch.Generator) -> list[Case]:
    """One dimension, three, and thirty where a determinant would underflow."""
    cases = [Case(f"d = {d}", (normal(d, g=g), covariance(d, g), normal(d, g=g), covariance(d, g))) for d in (1, 3)]
    small = 1e-12 * covariance(30, g)
    return [*cases, Case("d = 30, tiny variances", (0 * normal(30, g=g), small, 1e-6 * normal(30, g=g), 2 * small))]


# 1.5 ---------------------------------------------------------------------------------------------------------------


def elbo_sample(x: Tensor, weight: Tensor, mu: Tensor, sigma: float, m: Tensor, s: Tensor, eps: Tensor) -> Tensor:
    """Return log p(x|z) - KL(q||prior) with z = m + s eps: x (B, D), weight (D, d), m, s, eps (B, d) give (B,)."""
    model = dv.ProbabilisticPCA(weight, mu, sigma)
    return model.log_likelihood(x, m + s * eps) - dv.kl_gaussian(m, s).sum(-1)


def elbo_sample_cases(g: torch.Generator) -> list[Case]:
    """A one-dimensional model, a larger one, and q equal to the prior."""
    cases = []
    for dim, d in [(1, 1), (6, 3)]:
        m, eps = normal(2, 4, d, g=g)
        model = (normal(dim, d, g=g), normal(dim, g=g), 0.5)
        cases.append(Case(f"D = {dim}, d = {d}", (normal(4, dim, g=g), *model, m, normal(4, d, g=g).exp(), eps)))
    x, *model, m, s, eps = cases[-1].args
    return [*cases, Case("q is the prior: no KL is paid", (x, *model, 0 * m, torch.ones_like(s), eps))]


# 1.6 ---------------------------------------------------------------------------------------------------------------


def iwae_cases(g: torch.Generator) -> list[Case]:
    """Ordinary log weights, one sample, and log weights near -1,000 as images have."""
    return [
        Case("ten samples for each of four examples", (normal(10, 4, g=g),)),
        Case("K = 1 is the ELBO's integrand", (normal(1, 4, g=g),)),
        Case("log weights near -1,000", (normal(10, 4, g=g) - 1000,)),
    ]


# 1.7 ---------------------------------------------------------------------------------------------------------------


def leave_one_out(f: Tensor, z: Tensor, mu: Tensor, sigma: float) -> Tensor:
    """Return score-function estimates, the mean of the other f as baseline: f (N,), z (N, d) give (N, d)."""
    others = (f.sum() - f) / (len(f) - 1)
    return (f - others)[:, None] * (z - mu) / sigma**2


def leave_one_out_cases(g: torch.Generator) -> list[Case]:
    """Two samples, twenty samples, and a function with a large constant in it."""
    cases = []
    for n, d, shift in [(2, 1, 0.0), (20, 3, 0.0), (20, 3, 100.0)]:
        mu, z = normal(d, g=g), normal(n, d, g=g)
        cases.append(Case(f"{n} samples, d = {d}, f shifted by {shift:g}", (z.square().sum(-1) + shift, z, mu, 0.5)))
    return cases


EXERCISES = {
    e.id: e
    for e in [
        Exercise("1.1", "kl_bits", 2, kl_bits, kl_bits_cases,
                 "torch.xlogy(p, q) is p log q with 0 log 0 = 0; then change the base of the logarithm."),
        Exercise("1.2", "forward_kl_from_q", 3, forward_kl_from_q, forward_kl_from_q_cases,
                 "the points come from q, the expectation is under p: each needs the weight p/q."),
        Exercise("1.3", "matched_gaussian", 3, matched_gaussian, matched_gaussian_cases,
                 "the variance of a mixture is the mean of the variances plus the variance of the means."),
        Exercise("1.4", "kl_full", 4, dv.kl_gaussian_full, kl_full_cases,
                 "log-determinants from torch.linalg.slogdet or Cholesky factors; a determinant itself underflows.",
                 tol=1e-5),
        Exercise("1.5", "elbo_sample", 4, elbo_sample, elbo_sample_cases,
                 "log N(x; Wz + mu, sigma²) has D terms with their constants; the KL is summed over the d latents."),
        Exercise("1.6", "iwae", 2, dv.iwae_bound, iwae_cases,
                 "torch.logsumexp over the first axis, then subtract log K."),
        Exercise("1.7", "leave_one_out", 5, leave_one_out, leave_one_out_cases,
                 "the baseline of sample i is the mean of all f except f_i: (sum - f_i) / (N - 1)."),
    ]
}  # fmt: skip
check = partial(check_any, EXERCISES)

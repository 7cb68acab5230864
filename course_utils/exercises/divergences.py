"""The exercises of lecture 1: what the instant check and the grader share."""

import math
from functools import partial

import torch
from torch import Tensor

from course_utils import divergences as dv
from course_utils.densities import gaussian_log_prob
from course_utils.exercises.checking import Case, Exercise, Mistake, normal
from course_utils.exercises.checking import check as check_any


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
                (gaussian_log_prob(x, mu, sigma), gaussian_log_prob(x, 0, 1)),
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
    """Ordinary log weights, one sample, and log weights as far from zero and from each other as images have them."""
    return [
        Case("ten samples for each of four examples", (normal(10, 4, g=g),)),
        Case("K = 1 is the ELBO's integrand", (normal(1, 4, g=g),)),
        Case("log weights near -1,000", (normal(10, 4, g=g) - 1000,)),
        Case("examples 1,000 nats apart", (normal(10, 2, g=g) - torch.tensor([1000.0, 0.0]),)),
    ]


# 1.7 ---------------------------------------------------------------------------------------------------------------


def leave_one_out(values: Tensor, z: Tensor, mu: Tensor, sigma: float) -> Tensor:
    """Return score-function estimates, the mean of the other values as baseline: (N,), (N, d) give (N, d)."""
    others = (values.sum() - values) / (len(values) - 1)
    return (values - others)[:, None] * (z - mu) / sigma**2


def leave_one_out_cases(g: torch.Generator) -> list[Case]:
    """Two samples, twenty samples, and a function with a large constant in it."""
    cases = []
    for n, d, shift in [(2, 1, 0.0), (20, 3, 0.0), (20, 3, 100.0)]:
        mu, z = normal(d, g=g), normal(n, d, g=g)
        cases.append(Case(f"{n} samples, d = {d}, f shifted by {shift:g}", (z.square().sum(-1) + shift, z, mu, 0.5)))
    return cases


def exchanged(function):
    """Return `function` with its first half of the arguments exchanged with the second."""

    def swapped(*args):
        half = len(args) // 2
        return function(*args[half:], *args[:half])

    return swapped


EXERCISES = {
    e.id: e
    for e in [
        Exercise(
            id="1.1",
            function="kl_bits",
            points=2,
            reference=kl_bits,
            cases=kl_bits_cases,
            hint="look at 0 · log 0, and at what happens along the last axis.",
            mistakes=(
                Mistake(dv.kl_table, "These are nats. One nat is 1/log 2 bits."),
                Mistake(exchanged(kl_bits), "This is KL(q‖p): the distribution in front of the bar is averaged over."),
            ),
        ),
        Exercise(
            id="1.2",
            function="forward_kl_from_q",
            points=3,
            reference=forward_kl_from_q,
            cases=forward_kl_from_q_cases,
            hint="the points come from q, the expectation is under p: see hint 2.",
            mistakes=(
                Mistake(lambda log_p, log_q: (log_p - log_q).mean(), "This is his function: it estimates −KL(q‖p)."),
                Mistake(lambda log_p, log_q: (log_q - log_p).mean(), "This estimates KL(q‖p), the other direction."),
                Mistake(
                    lambda log_p, log_q: ((log_p - log_q).softmax(0) * (log_p - log_q)).sum(),
                    "You divided by the sum of the weights; divide by their number.",
                ),
            ),
        ),
        Exercise(
            id="1.3",
            function="matched_gaussian",
            points=3,
            reference=matched_gaussian,
            cases=matched_gaussian_cases,
            hint="which two moments does the forward fit match? See hint 1.",
            mistakes=(
                Mistake(
                    lambda w, m, s: (matched_gaussian(w, m, s)[0], matched_gaussian(w, m, s)[1] ** 2),
                    "The second number is the variance; return the standard deviation.",
                ),
                Mistake(
                    lambda w, m, s: ((w * m).sum(), (w * s**2).sum().sqrt()),
                    "The spread of the means is missing from the variance.",
                ),
            ),
        ),
        Exercise(
            id="1.4",
            function="kl_full",
            points=4,
            reference=dv.kl_gaussian_full,
            cases=kl_full_cases,
            hint="compare your three terms with (1.6c) one by one; for tiny variances see hint 1.",
            mistakes=(
                Mistake(
                    lambda *args: 2 * dv.kl_gaussian_full(*args), "This is twice the right value: the ½ is missing."
                ),
                Mistake(exchanged(dv.kl_gaussian_full), "This is KL(p‖q), with the roles of q and p exchanged."),
            ),
            tol=1e-5,
        ),
        Exercise(
            id="1.5",
            function="elbo_sample",
            points=4,
            reference=elbo_sample,
            cases=elbo_sample_cases,
            hint="is every constant of the log-likelihood there, and is the KL summed over the latents?",
            mistakes=(
                Mistake(lambda *args: -elbo_sample(*args), "This is the negative of the ELBO."),
                Mistake(
                    lambda x, weight, mu, sigma, m, s, eps: (
                        elbo_sample(x, weight, mu, sigma, m, s, eps) + 2 * dv.kl_gaussian(m, s).sum(-1)
                    ),
                    "The KL must be subtracted.",
                ),
                Mistake(
                    lambda x, weight, mu, sigma, m, s, eps: (
                        elbo_sample(x, weight, mu, sigma, m, s, eps)
                        + x.shape[-1] * (math.log(sigma) + 0.5 * math.log(2 * math.pi))
                    ),
                    "The constants of the likelihood are missing: see hint 2.",
                ),
            ),
        ),
        Exercise(
            id="1.6",
            function="iwae",
            points=2,
            reference=dv.iwae_bound,
            cases=iwae_cases,
            hint="does anything under- or overflow? See the hint.",
            mistakes=(
                Mistake(lambda log_w: log_w.mean(0), "This is the mean of the logarithms: the ELBO's estimate, K = 1."),
                Mistake(lambda log_w: log_w.logsumexp(0), "This is the logarithm of the sum; the mean is asked for."),
            ),
        ),
        Exercise(
            id="1.7",
            function="leave_one_out",
            points=4,
            reference=leave_one_out,
            cases=leave_one_out_cases,
            hint="each sample has a baseline of its own: see hint 1.",
            mistakes=(
                Mistake(
                    lambda values, z, mu, sigma: (values - values.mean())[:, None] * (z - mu) / sigma**2,
                    "Your baseline is the mean of all values: a sample's own value must stay out.",
                ),
                Mistake(
                    lambda values, z, mu, sigma: values[:, None] * (z - mu) / sigma**2,
                    "This is the estimator without a baseline.",
                ),
            ),
        ),
    ]
}
check = partial(check_any, EXERCISES)

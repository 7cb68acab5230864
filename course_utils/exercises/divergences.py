"""The exercises of lecture 1: what the instant check and the grader share. Each is one block, from reference to hints.

A reference reads like a good answer, since `check.solution` shows it.
"""

import math

import torch
from torch import Tensor
from torch.distributions import Normal

from course_utils import divergences as dv
from course_utils.densities import gaussian_log_prob
from course_utils.exercises.checking import Case, InstantCheck, Mistake, agrees, normal

check = InstantCheck()
EXERCISES = check.exercises


def between(low: float, high: float, g: torch.Generator) -> float:
    """Draw a number."""
    return low + (high - low) * torch.rand((), generator=g).item()


def covariance(d: int, g: torch.Generator) -> Tensor:
    """Draw a well-conditioned covariance (d, d)."""
    root = normal(d, d, generator=g)
    return root @ root.T / d + 0.5 * torch.eye(d, dtype=torch.float64)


def exchanged(function):
    """Return `function` with its first half of the arguments exchanged with the second."""

    def swapped(*args):
        half = len(args) // 2
        return function(*args[half:], *args[:half])

    return swapped


# 1.1 ---------------------------------------------------------------------------------------------------------------


def kl_bits(p: Tensor, q: Tensor) -> Tensor:
    """Return KL(p||q) in bits of tables (..., C): result (...)."""
    terms = torch.xlogy(p, p) - torch.xlogy(p, q)  # 0 log 0 = 0, and p log 0 = -inf where p > 0
    return terms.sum(-1) / math.log(2)


@check.exercise(
    "1.1",
    kl_bits,
    points=2,
    own=("divergences.kl_table", "divergences.integrand"),
    hint="look at 0 · log 0, and at what happens along the last axis.",
    mistakes=(
        Mistake(dv.kl_table, "These are nats. One nat is 1/log 2 bits."),
        Mistake(exchanged(kl_bits), "This is KL(q‖p): the distribution in front of the bar is averaged over."),
        Mistake(
            lambda p, q: kl_bits(p, q) / math.log(2), "You changed the base twice: one division by log 2 is enough."
        ),
        Mistake(lambda p, q: kl_bits(p, q) * math.log(2) ** 2, "From nats to bits one divides by log 2."),
        Mistake(lambda p, q: kl_bits(p, q) / p.shape[-1], "This is a mean over the outcomes; p weighs them already."),
    ),
)
def kl_bits_cases(g: torch.Generator) -> list[Case]:
    """Tables without zeros, with a zero in p, in q, in both at one place, and many at once."""
    p, q = normal(2, 4, generator=g).softmax(-1)
    holed = torch.cat([p[:2] / p[:2].sum(), torch.zeros(2, dtype=torch.float64)])
    one_hole = torch.cat([q[:3] / q[:3].sum(), torch.zeros(1, dtype=torch.float64)])  # two would add up to infinity
    other = torch.cat([q[:2] / q[:2].sum(), torch.zeros(2, dtype=torch.float64)])
    many = normal(2, 5, 3, generator=g).softmax(-1)
    return [
        Case("two tables without zeros", (p, q)),
        Case("five pairs of tables at once", (many[0], many[1])),
        Case(
            "p has zeros: they cost nothing",
            (holed, q),
            "In floating point log 0 = −∞ and 0 · (−∞) = nan: see hint 1. (A small number added to p makes another p.)",
        ),
        Case(
            "q is zero where p is not: infinite",
            (p, one_hole),
            "What q holds impossible happens under p: the divergence is infinite, not large. Is something clamped, "
            "masked, made finite by nan_to_num, or a small number added?",
        ),
        Case(
            "both are zero at the same outcomes: these cost nothing",
            (holed, other),
            "An outcome that never happens costs nothing, whatever q says of it. Here p log q is 0 · (−∞): see hint 1, "
            "for both logarithms.",
        ),
    ]


# 1.2 ---------------------------------------------------------------------------------------------------------------


def forward_kl_from_q(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return an estimate of KL(p||q) in nats from log densities (N,) at points drawn from q."""
    log_ratio = log_p - log_q  # its mean, under q, would estimate -KL(q||p)
    return (log_ratio.exp() * log_ratio).mean()  # importance weights p/q move the expectation to p


def of_non_negative_terms(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return the estimate by w log w - w + 1 >= 0, w = p/q: as good an answer, since the mean of w is 1."""
    w = (log_p - log_q).exp()
    return (w * w.log() - w + 1).mean()


def estimates_kl(args: tuple, value) -> bool:
    """Accept the estimate with and without the terms whose mean is zero."""
    return any(agrees(value, function(*args), 1e-5) for function in (forward_kl_from_q, of_non_negative_terms))


@check.exercise(
    "1.2",
    forward_kl_from_q,
    points=3,
    hint="the points come from q, the expectation is under p: see hint 2.",
    accepts=estimates_kl,
    mistakes=(
        Mistake(lambda log_p, log_q: (log_p - log_q).mean(), "This is his function: it estimates −KL(q‖p)."),
        Mistake(lambda log_p, log_q: (log_q - log_p).mean(), "This estimates KL(q‖p), the other direction."),
        Mistake(
            lambda log_p, log_q: ((log_p - log_q).exp() - 1 - (log_p - log_q)).mean(),
            "No term of yours is negative, but their mean is KL(q‖p), the other direction. Which weights move the "
            "expectation to p?",
        ),
        Mistake(
            lambda log_p, log_q: ((log_p - log_q).softmax(0) * (log_p - log_q)).sum(),
            "You divided by the sum of the weights; divide by their number.",
        ),
        *(
            Mistake(
                lambda log_p, log_q, f=f: len(log_p) * f(log_p, log_q),
                "This is the sum over the points; their mean is the estimate.",
            )
            for f in (forward_kl_from_q, of_non_negative_terms)
        ),
        Mistake(
            lambda log_p, log_q: ((log_q - log_p).exp() * (log_p - log_q)).mean(),
            "Your weights are q/p, upside down: what does a point need that q gives too often?",
        ),
        *(
            Mistake(
                lambda log_p, log_q, total=total: total(log_p.exp() * (log_p - log_q)),
                "You weighted by p(x). That is for points on a grid; those from q come with the density q already.",
            )
            for total in (Tensor.mean, Tensor.sum)
        ),
        Mistake(lambda log_p, log_q: ((log_p - log_q).exp() * log_p).mean(), "The weights are right; where is log q?"),
        Mistake(
            lambda log_p, log_q: -forward_kl_from_q(log_p, log_q), "The sign is wrong: a divergence is not negative."
        ),
    ),
)
def forward_kl_from_q_cases(g: torch.Generator) -> list[Case]:
    """Pairs of Gaussians, the points drawn from q."""
    cases = []
    for mu, sigma in [(0.5, 1.0), (-1.0, 0.7), (0.0, 0.4)]:
        x = normal(200, generator=g)
        cases.append(
            Case(
                f"p = N({mu}, {sigma}²), q = N(0, 1)",
                (gaussian_log_prob(x, mu, sigma), gaussian_log_prob(x, 0, 1)),
            )
        )
    return cases


# 1.3 ---------------------------------------------------------------------------------------------------------------


def matched_gaussian(weights: Tensor, means: Tensor, sigmas: Tensor) -> tuple[Tensor, Tensor]:
    """Return (mu, sigma) of the Gaussian closest in KL(p||q) to a mixture: three tensors (C,)."""
    mu = (weights * means).sum()
    variance = (weights * (sigmas**2 + (means - mu) ** 2)).sum()  # mean of the variances, variance of the means
    return mu, variance.sqrt()


@check.exercise(
    "1.3",
    matched_gaussian,
    points=3,
    own=(
        "divergences.moment_match",
        "divergences.fit_gaussian",
        "densities.GaussianMixture.mean",
        "densities.GaussianMixture.variance",
    ),
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
        Mistake(
            lambda w, m, s: ((w * m).sum(), (w * s).sum()),
            "This is the mean of the standard deviations. Variances add up, and the means' spread is one of them.",
        ),
        Mistake(
            lambda w, m, s: ((w * m).sum(), (w**2 * s**2).sum().sqrt()),
            "This is the standard deviation of a weighted sum of independent variables. A draw from a mixture comes "
            "from one component.",
        ),
        Mistake(
            lambda w, m, s: ((w * m).sum(), (w * (m - (w * m).sum()) ** 2).sum().sqrt()),
            "This is the spread of the means alone: each component has a width, too.",
        ),
        Mistake(
            lambda w, m, s: ((w * m).sum(), (w * (s**2 + m**2)).sum().sqrt()),
            "This is the second moment about 0; the variance is the one about the mean.",
        ),
    ),
)
def matched_gaussian_cases(g: torch.Generator) -> list[Case]:
    """A lopsided mixture, a symmetric one off zero, one with five components."""
    two = torch.tensor([0.5, 0.5], dtype=torch.float64)
    middle = 1 + normal(1, generator=g).abs()
    sides = middle + torch.tensor([-2.0, 2.0]).double()

    def drawn(n: int) -> tuple[Tensor, Tensor, Tensor]:
        return (
            normal(n, generator=g).softmax(0),
            3 * normal(n, generator=g),
            normal(n, generator=g).exp(),
        )

    return [
        Case("unequal weights and widths", drawn(2)),
        Case("two equal components", (two, sides, torch.tensor([0.5, 0.5]).double())),
        Case("five components", drawn(5)),
    ]


# 1.4 ---------------------------------------------------------------------------------------------------------------


def kl_full(mu_q: Tensor, cov_q: Tensor, mu_p: Tensor, cov_p: Tensor) -> Tensor:
    """Return KL(N(mu_q, cov_q) || N(mu_p, cov_p)) in nats: (d,), (d, d), (d,), (d, d) give ()."""
    delta = mu_q - mu_p
    spread = torch.linalg.solve(cov_p, cov_q).trace() - len(delta)
    mahalanobis = delta @ torch.linalg.solve(cov_p, delta)
    volume = torch.linalg.slogdet(cov_p).logabsdet - torch.linalg.slogdet(cov_q).logabsdet
    return 0.5 * (spread + mahalanobis + volume)


def kl_of_parts(mu_q, cov_q, mu_p, cov_p, spread=1.0, dimension=1.0, distance=1.0, volume=1.0, metric=None) -> Tensor:
    """Return the divergence with its parts times factors, and the distance measured by the covariance `metric`."""
    delta = mu_q - mu_p
    return 0.5 * (
        spread * torch.linalg.solve(cov_p, cov_q).trace()
        - dimension * len(delta)
        + distance * (delta @ torch.linalg.solve(cov_p if metric is None else metric, delta))
        + volume * (torch.linalg.slogdet(cov_p).logabsdet - torch.linalg.slogdet(cov_q).logabsdet)
    )


@check.exercise(
    "1.4",
    kl_full,
    points=4,
    own=("divergences.kl_gaussian_full",),
    hint="compare your three terms with (1.6c) one by one; for tiny variances see hint 1.",
    mistakes=(
        Mistake(lambda *args: 2 * kl_full(*args), "This is twice the right value: the ½ is missing."),
        Mistake(exchanged(kl_full), "This is KL(p‖q), with the roles of q and p exchanged."),
        Mistake(
            lambda *args: kl_of_parts(*args, dimension=0.0), "The −d is missing: of equal Gaussians yours is not 0."
        ),
        Mistake(
            lambda *args: kl_of_parts(*args, volume=-1.0),
            "Your log-determinants stand the wrong way round: log det Σ_p comes first.",
        ),
        Mistake(lambda *args: kl_of_parts(*args, volume=0.0), "The log-determinants are missing."),
        Mistake(lambda *args: kl_of_parts(*args, distance=0.0), "The distance of the means is missing."),
        Mistake(
            lambda mu_q, cov_q, mu_p, cov_p: kl_of_parts(mu_q, cov_q, mu_p, cov_p, metric=cov_q),
            "The distance of the means is measured by p's covariance, not by q's.",
        ),
        Mistake(
            lambda mu_q, cov_q, mu_p, cov_p: dv.kl_gaussian(
                mu_q, cov_q.diagonal().sqrt(), mu_p, cov_p.diagonal().sqrt()
            ).sum(),
            "You used the variances only, as if the coordinates were independent.",
        ),
    ),
    errors=(
        (
            "positive-definite",
            "Cholesky's factor exists for covariances only: is one of them multiplied, inverted or subtracted first?",
        ),
    ),
)
def kl_full_cases(g: torch.Generator) -> list[Case]:
    """Three dimensions, two, one, and thirty where a determinant would underflow."""

    def drawn(d: int) -> tuple[Tensor, ...]:
        return normal(d, generator=g), covariance(d, g), normal(d, generator=g), covariance(d, g)

    cases = [Case(f"d = {d}", drawn(d)) for d in (3, 2, 1)]
    small, shift = 1e-12 * covariance(30, g), 1e-6 * normal(30, generator=g)
    tiny = 0 * shift, small, shift, 2 * small
    hint = (
        "The determinant of thirty tiny variances is rounded to 0, and its logarithm and the ratio of two of them are "
        "lost. Take the logarithm of each factor, and sum: see hint 1."
    )
    return [*cases, Case("d = 30, tiny variances", tiny, hint)]


# 1.5 ---------------------------------------------------------------------------------------------------------------


def elbo_sample(x: Tensor, weight: Tensor, mu: Tensor, sigma: float, m: Tensor, s: Tensor, eps: Tensor) -> Tensor:
    """Return one-sample ELBOs in nats, (B,): x (B, D), weight (D, d), mu (D,), m, s, eps (B, d)."""
    z = m + s * eps
    log_likelihood = Normal(z @ weight.T + mu, sigma).log_prob(x).sum(-1)
    kl = (0.5 * (s**2 + m**2 - 1) - s.log()).sum(-1)
    return log_likelihood - kl


def elbo_of_parts(log_likelihood_s: Tensor, kl: Tensor, x, weight, mu, sigma, m, eps) -> Tensor:
    """Return the likelihood at z = m + `log_likelihood_s` eps minus `kl`, (B,)."""
    return elbo_sample(x, weight, mu, sigma, m, log_likelihood_s, eps) + kl_to_prior(m, log_likelihood_s) - kl


def kl_to_prior(m: Tensor, s: Tensor) -> Tensor:
    """Return KL(N(m, s²) || N(0, I)), (B,)."""
    return dv.kl_gaussian(m, s).sum(-1)


VARIANCE = "You took s for a variance. Here σ and s are standard deviations: z = m + s ε, and the KL has s² and log s."


@check.exercise(
    "1.5",
    elbo_sample,
    points=5,
    own=(
        "divergences.kl_gaussian",
        "divergences.ProbabilisticPCA.log_likelihood",
        "divergences.ProbabilisticPCA.elbo",
        "vae.Gaussian.log_prob",
    ),
    hint="is every constant of the log-likelihood there, and is the KL summed over the latents?",
    gradients=("weight", "mu", "m", "s"),
    mistakes=(
        Mistake(lambda *args: -elbo_sample(*args), "This is the negative of the ELBO."),
        Mistake(
            lambda x, weight, mu, sigma, m, s, eps: (
                elbo_sample(x, weight, mu, sigma, m, s, eps) + 2 * kl_to_prior(m, s)
            ),
            "The KL must be subtracted.",
        ),
        Mistake(
            lambda x, weight, mu, sigma, m, s, eps: elbo_sample(x, weight, mu, sigma, m, s, eps) + kl_to_prior(m, s),
            "This is the likelihood alone: where is the KL?",
        ),
        Mistake(
            lambda x, weight, mu, sigma, m, s, eps: (
                elbo_sample(x, weight, mu, sigma, m, s, eps)
                + x.shape[-1] * (math.log(sigma) + 0.5 * math.log(2 * math.pi))
            ),
            "The constants of the likelihood are missing: see hint 2.",
        ),
        Mistake(
            lambda x, weight, mu, sigma, m, s, eps: (
                elbo_sample(x, weight, mu, sigma, m, s, eps) + x.shape[-1] * math.log(sigma)
            ),
            "The constant has 2π without σ² in it: a narrow likelihood is a high one. See hint 2.",
        ),
        *(
            Mistake(
                lambda x, weight, mu, sigma, m, s, eps, in_z=in_z, in_kl=in_kl: elbo_of_parts(
                    s.sqrt() if in_z else s, kl_to_prior(m, s.sqrt() if in_kl else s), x, weight, mu, sigma, m, eps
                ),
                VARIANCE,
            )
            for in_z, in_kl in [(True, True), (False, True), (True, False)]
        ),
        Mistake(
            lambda x, weight, mu, sigma, m, s, eps: elbo_of_parts(
                s, (0.5 * (s + m**2 - 1) - s.log()).sum(-1), x, weight, mu, sigma, m, eps
            ),
            VARIANCE,
        ),
        Mistake(
            lambda x, weight, mu, sigma, m, s, eps: elbo_sample(x, weight, mu, sigma, m, (0.5 * s).exp(), eps),
            "You took s for a logarithm of a variance, as encoders give it. Here s is the standard deviation itself.",
        ),
        Mistake(
            lambda x, weight, mu, sigma, m, s, eps: elbo_sample(x, weight, mu, sigma**0.5, m, s, eps),
            "You took sigma for a variance: its square is one.",
        ),
        *(
            Mistake(
                lambda x, weight, mu, sigma, m, s, eps, divisor=divisor: elbo_of_parts(
                    s,
                    kl_to_prior(m, s)
                    + (x - (m + s * eps) @ weight.T - mu).square().sum(-1) * (1 / divisor(sigma) - 0.5 / sigma**2),
                    x, weight, mu, sigma, m, eps,
                ),
                f"Your squared error is divided by {name}; the density has 2σ² there.",
            )
            for name, divisor in {"2σ": lambda s: 2 * s, "σ": lambda s: s, "σ²": lambda s: s**2}.items()
        ),
        Mistake(
            lambda x, weight, mu, sigma, m, s, eps: elbo_of_parts(
                s, dv.kl_gaussian(m, s).mean(-1), x, weight, mu, sigma, m, eps
            ),
            "You averaged the KL over the latents; it is their sum.",
        ),
        Mistake(
            lambda x, weight, mu, sigma, m, s, eps: elbo_sample(x, weight, mu, sigma, m, s, 0 * eps),
            "You decoded the mean m. The sample is z = m + s ε.",
        ),
        Mistake(
            lambda x, weight, mu, sigma, m, s, eps: elbo_sample(x, weight, 0 * mu, sigma, m, s, eps),
            "The model's mean mu is missing from your likelihood.",
        ),
    ),
)  # fmt: skip
def elbo_sample_cases(g: torch.Generator) -> list[Case]:
    """A larger model, a one-dimensional one, and q equal to the prior; the noise is drawn, too."""
    cases = []
    for dim, d, sigma in [(6, 3, between(0.6, 0.8, g)), (1, 1, between(1.3, 1.8, g))]:
        m, eps = normal(2, 4, d, generator=g)
        model = normal(dim, d, generator=g), normal(dim, generator=g), sigma
        args = normal(4, dim, generator=g), *model, m, normal(4, d, generator=g).exp(), eps
        cases.append(Case(f"D = {dim}, d = {d}", args))
    x, *model, m, s, eps = cases[0].args
    return [*cases, Case("q is the prior: no KL is paid", (x, *model, 0 * m, torch.ones_like(s), eps))]


# 1.6 ---------------------------------------------------------------------------------------------------------------


def iwae(log_w: Tensor) -> Tensor:
    """Return the log mean weight over the first axis: log weights (K, ...) give (...)."""
    return torch.logsumexp(log_w, dim=0) - math.log(len(log_w))


UNDERFLOW = (
    "exp(−1000) is rounded to 0, exp(1000) to infinity. Take the largest log weight out of the sum, the largest of "
    "each example: see the hint."
)


@check.exercise(
    "1.6",
    iwae,
    points=1,
    own=("divergences.iwae_bound",),
    hint="does anything under- or overflow? See the hint.",
    mistakes=(
        Mistake(lambda log_w: log_w.mean(0), "This is the mean of the logarithms: the ELBO's estimate, K = 1."),
        Mistake(lambda log_w: log_w.logsumexp(0), "This is the logarithm of the sum; the mean is asked for."),
        Mistake(
            lambda log_w: torch.logsumexp(log_w / len(log_w), 0),
            "log(a/K) is log a − log K, not a division inside exp.",
        ),
    ),
)
def iwae_cases(g: torch.Generator) -> list[Case]:
    """Ordinary log weights, one sample, and log weights as far from zero and from each other as images have them."""
    return [
        Case("ten samples for each of four examples", (normal(10, 4, generator=g),)),
        Case("K = 1 is the ELBO's integrand", (normal(1, 4, generator=g),)),
        Case("log weights near -1,000", (normal(10, 4, generator=g) - 1000,), UNDERFLOW),
        Case(
            "examples 1,000 nats apart",
            (normal(10, 2, generator=g) - torch.tensor([1000.0, 0.0]),),
            UNDERFLOW,
        ),
    ]


# 1.7 ---------------------------------------------------------------------------------------------------------------


def leave_one_out(values: Tensor, z: Tensor, mu: Tensor, sigma: float) -> Tensor:
    """Return score-function estimates with leave-one-out baselines: (N,), (N, d) give (N, d)."""
    # The baseline is independent of z_i. With f(z_i) in the mean, the expectation would shrink by the factor 1 - 1/N.
    baseline = (values.sum() - values) / (len(values) - 1)
    return (values - baseline)[:, None] * (z - mu) / sigma**2


@check.exercise(
    "1.7",
    leave_one_out,
    points=4,
    own=("divergences.score_function_gradient",),
    hint="each sample has a baseline of its own: see hint 1.",
    mistakes=(
        Mistake(
            lambda values, z, mu, sigma: leave_one_out(values, z, mu, sigma) * sigma,
            "The baseline is right. The score of a Gaussian has the variance σ² under it, not σ: see hint 1.",
        ),
        Mistake(
            lambda values, z, mu, sigma: leave_one_out(values, z, mu, sigma) * sigma**2,
            "The baseline is right. The score of a Gaussian is (z − μ)/σ²: the σ² is missing.",
        ),
        Mistake(
            lambda values, z, mu, sigma: leave_one_out(values, z, mu, sigma) / 2,
            "The baseline is right. The score is a derivative, and that of (z − μ)²/(2σ²) has no ½: see hint 1.",
        ),
        Mistake(
            lambda values, z, mu, sigma: (values - values.mean())[:, None] * (z - mu) / sigma**2,
            "Your baseline is the mean of all values: a sample's own value must stay out.",
        ),
        Mistake(
            lambda values, z, mu, sigma: (
                (values - (values.sum() - values) / len(values))[:, None] * (z - mu) / sigma**2
            ),
            "You added up the others and divided by N: they are N − 1.",
        ),
        Mistake(
            lambda values, z, mu, sigma: values[:, None] * (z - mu) / sigma**2,
            "This is the estimator without a baseline.",
        ),
        Mistake(
            lambda values, z, mu, sigma: -leave_one_out(values, z, mu, sigma),
            "The sign is wrong: is it μ − z, or the baseline minus the value?",
        ),
        Mistake(
            lambda values, z, mu, sigma: leave_one_out(values, z, 0 * mu, sigma),
            "The score looks at z − μ, how far z is from the mean, not at z.",
        ),
    ),
)
def leave_one_out_cases(g: torch.Generator) -> list[Case]:
    """Twenty samples, two samples, and a function with a large constant in it; the width is drawn."""
    cases = []
    for n, d, shift in [(20, 3, 0.0), (2, 1, 0.0), (20, 3, 100.0)]:
        mu, z, sigma = normal(d, generator=g), normal(n, d, generator=g), between(0.6, 0.9, g) + (n == 2)
        label = f"{n} samples, d = {d}, f shifted by {shift:g}"
        cases.append(Case(label, (z.square().sum(-1) + shift, z, mu, sigma)))
    return cases

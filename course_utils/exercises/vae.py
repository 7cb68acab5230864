"""The exercises of lecture 2: what the instant check and the grader share. Each is one block, from reference to hints.

A reference reads like a good answer, since `check.solution` shows it.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from course_utils import divergences as dv
from course_utils import paths, vae
from course_utils.exercises.checking import Case, InstantCheck, Mistake, normal

check = InstantCheck()
EXERCISES = check.exercises

# 2.1 ---------------------------------------------------------------------------------------------------------------


def grey_level_probabilities(mean: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """Return the probability of every grey level: mean, log_scale (...) give (..., levels)."""
    edges = (torch.arange(levels - 1, dtype=mean.dtype) + 0.5) / (levels - 1)  # the inner ones
    inner = torch.sigmoid((edges - mean[..., None]) / log_scale.exp()[..., None])
    zero = torch.zeros_like(inner[..., :1])
    return torch.cat([zero, inner, zero + 1], dim=-1).diff(dim=-1)


def levels_and_standard(mean: Tensor, log_scale: Tensor, levels: int, shift: float = 0.0) -> Tensor:
    """Return (x + shift - mean)/scale for the levels x, (..., levels)."""
    x = torch.arange(levels, dtype=mean.dtype) / (levels - 1)
    return (x + shift - mean[..., None]) / log_scale.exp()[..., None]


def density_times_width(mean: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """Return the logistic density at each level times the width of a bin."""
    u = levels_and_standard(mean, log_scale, levels)
    return u.sigmoid() * (-u).sigmoid() / log_scale.exp()[..., None] / (levels - 1)


def closed_bins(mean: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """Return the mass of bins of equal width around the levels, none of them open."""
    upper, lower = (levels_and_standard(mean, log_scale, levels, h / (levels - 1)) for h in (0.5, -0.5))
    return upper.sigmoid() - lower.sigmoid()


def table_from_edges(edges: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Return the mass between the inner edges (levels - 1,), the outermost bins open: (..., levels)."""
    inner = ((edges - mean[..., None]) / scale[..., None]).sigmoid()
    return torch.cat([torch.zeros_like(mean)[..., None], inner, torch.ones_like(mean)[..., None]], -1).diff()


def bins_of_unit_interval(mean: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """Return the mass of the bins that the edges k/levels make."""
    return table_from_edges(torch.arange(1, levels, dtype=mean.dtype) / levels, mean, log_scale.exp())


def log_scale_as_scale(mean: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """Return the mass of the right bins with the logarithm in the place of the scale."""
    return table_from_edges((torch.arange(levels - 1, dtype=mean.dtype) + 0.5) / (levels - 1), mean, log_scale)


def cdf_at_centres(edges: slice, bins: slice, mean: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """Return the mass between neighbouring levels, for these of them as edges, in these of the bins they make."""
    centres = torch.arange(levels, dtype=mean.dtype) / (levels - 1)
    return table_from_edges(centres[edges], mean, log_scale.exp())[..., bins]


ALL, NO_FIRST, NO_LAST = slice(None), slice(1, None), slice(None, -1)
AT_CENTRES = (
    "You took the distribution function at the levels themselves. They are the centres of the bins; the edges lie half "
    "way between them: see hint 2."
)


def narrow_bins(mean: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """Return the mass of bins of width 1/levels around the levels, the outermost open."""
    upper, lower = (levels_and_standard(mean, log_scale, levels, h / levels).sigmoid() for h in (0.5, -0.5))
    upper[..., -1], lower[..., 0] = 1, 0
    return upper - lower


@check.exercise(
    "2.1",
    grey_level_probabilities,
    points=5,
    own=("vae.DiscretisedLogistic.log_prob",),
    hint="where are the edges between two levels, and what lies beyond the last one? See hints 1 and 2.",
    mistakes=(
        Mistake(
            density_times_width,
            "This is the density at the centre times the width of the bin. Integrate over the bin instead: see hint 1.",
        ),
        *(
            Mistake(partial(cdf_at_centres, edges, bins), AT_CENTRES)
            for edges, bins in [(NO_LAST, ALL), (NO_FIRST, ALL), (ALL, NO_LAST), (ALL, NO_FIRST)]
        ),
        Mistake(lambda *args: levels_and_standard(*args).sigmoid(), AT_CENTRES),
        Mistake(closed_bins, "Your outermost bins end; they must reach to infinity, or mass is lost."),
        Mistake(
            lambda *args: closed_bins(*args) / closed_bins(*args).sum(-1, keepdim=True),
            "You divided by the sum. The mass beyond the outermost levels belongs to these two alone.",
        ),
        Mistake(
            bins_of_unit_interval,
            "Your edges are k/levels. The levels are k/(levels − 1), and the edges half way between them.",
        ),
        Mistake(narrow_bins, "Your bins are 1/levels wide and leave gaps: the levels are 1/(levels − 1) apart."),
        Mistake(log_scale_as_scale, "You divided by the logarithm of the scale; its exponential is the scale."),
        Mistake(
            lambda *args: grey_level_probabilities(*args).log(),
            "These are log-probabilities; probabilities are asked for.",
        ),
    ),
)
def grey_level_cases(g: torch.Generator) -> list[Case]:
    """Ordinary pixels, means outside [0, 1], tiny and huge scales, 2 levels, many pixels."""
    centres = torch.tensor([0.0, 3.0, 7.0]).double() / 7 + 0.01 * normal(3, generator=g).tanh()  # far from the edges
    near = 0.5 + torch.randint(1, 5, (3,), generator=g) * torch.tensor([-1.0, 0.5, 1.0]).double() * 2**-13
    return [
        Case(
            "two pixels, five levels", (0.5 + 0.4 * normal(2, generator=g).tanh(), 0.2 * normal(2, generator=g) - 2, 5)
        ),
        Case(
            "2 × 3 pixels, 17 levels",
            (0.5 + 0.4 * normal(2, 3, generator=g).tanh(), 0.3 * normal(2, 3, generator=g) - 3, 17),
        ),
        Case(
            "means below 0 and above 1",
            (torch.tensor([-0.5, 1.4]) + 0.1 * normal(2, generator=g), normal(2, generator=g) - 2, 4),
            "A mean may lie outside [0, 1], and no mass is lost: the outermost bins take what lies beyond them.",
        ),
        Case(
            "a tiny scale: one level gets all",
            (centres, torch.full((3,), -20.0).double(), 8),
            "With a scale of e⁻²⁰ each edge is far from the mean: all the mass lies in one bin. Does something "
            "overflow?",
        ),
        Case(
            "a tiny scale and a mean next to an edge: two levels share",
            (near, torch.full((3,), -9.0).double(), 6),
            "The scale is e⁻⁹ here, as given: it needs no limit below. (Some programs clamp it at e⁻⁷, for a logarithm "
            "that is not asked for.)",
        ),
        Case(
            "a huge scale: the outer levels get nearly half each",
            (normal(2, generator=g), 5 + normal(2, generator=g).abs(), 6),
            "The scale may be large, too: then the outer levels get nearly half each. Is it limited above?",
        ),
        Case("two levels", (normal(3, generator=g), normal(3, generator=g) - 1, 2)),
    ]


# 2.2 ---------------------------------------------------------------------------------------------------------------


def terms(x: Tensor, logits: Tensor, mean: Tensor, log_var: Tensor) -> vae.Terms:
    """Return the ELBO's terms of binary images x (B, D) with q = N(mean, exp(log_var)), (B, d), for given logits."""
    kl = dv.kl_gaussian(mean, (0.5 * log_var).exp())
    return vae.Terms(vae.Bernoulli().log_prob(logits, x), kl.sum(-1), kl)


def vae_loss(x: Tensor, logits: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Return the negative ELBO, (): binary x and logits (B, D), mean and log variance (B, d)."""
    log_lik = -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)  # (B,)
    kl = 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(-1)  # (B,); log sigma = log_var / 2
    return (kl - log_lik).mean()  # her minus in front of the sum rewarded a large KL


def sum_of_terms(x: Tensor, logits: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Return -(log p(x|z) + KL), mean over images: the KL has the wrong sign."""
    t = terms(x, logits, mean, log_var)
    return -(t.log_likelihood + t.kl).mean()


def loss_with_means(over_latents: bool, *args: Tensor) -> Tensor:
    """Return the loss with the mean over pixels in place of the sum, and over latents too if told."""
    t = terms(*args)
    return (-t.log_likelihood / args[0].shape[-1] + (t.kl_by_latent.mean(-1) if over_latents else t.kl)).mean()


def squared_error_loss(x: Tensor, logits: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Return squared error plus KL, mean over images."""
    return ((x - logits.sigmoid()) ** 2).sum(-1).mean() + terms(x, logits, mean, log_var).kl.mean()


def loss_by_probability(x: Tensor, logits: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Return the loss by PyTorch's cross-entropy of probabilities, which ends every logarithm at -100."""
    cost = F.binary_cross_entropy(logits.sigmoid(), x, reduction="none").sum(-1)
    return (cost + terms(x, logits, mean, log_var).kl).mean()


SATURATED = (
    "The decoder is sure here, and sometimes wrong: sigmoid(300) is rounded to 1, so the other value's probability "
    "is lost. Compute the log-likelihood from the logits, by a function that takes them."
)


@check.exercise(
    "2.2",
    vae_loss,
    points=3,
    own=("vae.negative_elbo", "vae.Bernoulli.log_prob", "vae.Terms.elbo", "divergences.kl_gaussian"),
    gradients=("logits", "mean", "log_var"),
    hint="write down the likelihood and the KL of one image apart from each other; see hints 1 to 3.",
    mistakes=(
        Mistake(
            lambda x, logits, mean, log_var: sum_of_terms(x, logits, mean, 2 * log_var),
            "This is her function: both mistakes are still in it.",
        ),
        Mistake(sum_of_terms, "The KL has the wrong sign: the minus must not reach it. See hint 1."),
        Mistake(
            lambda x, logits, mean, log_var: vae_loss(x, logits, mean, 2 * log_var),
            "The sign is right now, but log_var is still taken for log σ. See hint 2.",
        ),
        Mistake(
            lambda *args: vae.negative_elbo(terms(*args), beta=2),
            "Your KL is twice too large: is the ½ missing?",
        ),
        Mistake(lambda *args: -vae_loss(*args), "This is the ELBO; the loss to be minimised is its negative."),
        Mistake(
            partial(loss_with_means, False),
            "You averaged over the pixels: log p(x|z) is a sum over pixels, so the KL now weighs far too much.",
        ),
        Mistake(
            partial(loss_with_means, True),
            "You averaged over pixels and latents; both terms are sums over them. Only images are averaged.",
        ),
        Mistake(
            lambda *args: len(args[0]) * vae_loss(*args),
            "This is the sum over the batch; the mean over images is asked for.",
        ),
        Mistake(loss_by_probability, SATURATED),
        Mistake(
            squared_error_loss,
            "You measure a squared error, which belongs to a Gaussian decoder; these pixels are binary.",
        ),
    ),
)
def vae_loss_cases(g: torch.Generator) -> list[Case]:
    """A small batch, a posterior equal to the prior, a decoder that is sure, a single latent."""
    x = (normal(5, 6, generator=g) > 0).double()
    logits, mean, log_var = normal(5, 6, generator=g), normal(5, 3, generator=g), normal(5, 3, generator=g)
    return [
        Case("five images of six pixels, three latents", (x, logits, mean, log_var)),
        Case("the posterior is the prior: no KL is paid", (x, logits, 0 * mean, 0 * log_var)),
        Case(
            "logits near ±300: a sure decoder, sometimes wrong",
            (x, 300 * logits.sign() + logits, mean, log_var),
            SATURATED,
        ),
        Case("two images, one latent", (x[:2], logits[:2], mean[:2, :1], log_var[:2, :1])),
    ]


# 2.3 ---------------------------------------------------------------------------------------------------------------


def linear_rates(eigenvalues: Tensor, sigma: float, beta: float) -> Tensor:
    """Return the rate of each direction at the optimum in nats: eigenvalues (d,) give (d,)."""
    noise = beta * sigma**2  # D / beta + R is the negative ELBO with this noise: probabilistic PCA
    return (0.5 * (eigenvalues / noise).log()).clamp(min=0)  # -log s with s² = noise / lambda


@check.exercise(
    "2.3",
    linear_rates,
    points=4,
    own=("descended_rates", "divergences.ProbabilisticPCA.fit", "divergences.ProbabilisticPCA.mean_field"),
    hint="put the best s and m for a given w into the loss, then look for the best w: see hints 1 and 2.",
    mistakes=(
        Mistake(
            lambda lam, sigma, beta: 0.5 * (lam / (beta * sigma**2)).log(),
            "Some of your rates are negative. A KL never is: what does a direction below its threshold do?",
        ),
        Mistake(
            lambda lam, sigma, beta: linear_rates(lam, sigma**0.5, beta),
            "You compared a variance with a standard deviation: the noise enters as sigma².",
        ),
        Mistake(
            lambda lam, sigma, beta: 2 * linear_rates(lam, sigma, beta),
            "This is twice the right value: the ½ is missing.",
        ),
        Mistake(
            lambda lam, sigma, beta: linear_rates(lam, sigma, beta) / math.log(2),
            "These are bits; nats are asked for.",
        ),
        Mistake(
            lambda lam, sigma, beta: linear_rates(lam, sigma, 1.0),
            "These are the rates for beta = 1: your function does not use beta.",
        ),
        Mistake(
            lambda lam, sigma, beta: 0.5 * (1 + lam / (beta * sigma**2)).log(),
            "This is the capacity of a channel with signal λ and noise βσ². Here λ is the variance of the "
            "data, the noise is part of it.",
        ),
    ),
)
def linear_rates_cases(g: torch.Generator) -> list[Case]:
    """Three values of beta, a direction at its threshold, all directions off."""
    sigma = 0.3 + 0.4 * torch.rand((), generator=g).item()
    ratios = torch.tensor([9.0, 3.0, 1.5, 0.7, 0.02]).double() * (0.1 * normal(5, generator=g)).exp()  # three stay on
    first, second = 3 * sigma**2 * ratios, normal(8, generator=g).exp()
    return [
        Case("beta = 3, five directions", (first, sigma, 3.0)),
        Case("beta = 1: the ELBO", (second, sigma, 1.0)),
        Case("beta = 0.1", (second, sigma, 0.1)),
        Case("one direction exactly at its threshold", (torch.tensor([2.0, 0.5]).double(), 0.5, 2.0)),
        Case("all directions off", (second, sigma, 1.1 * second.max().item() / sigma**2)),
    ]


# 2.4 ---------------------------------------------------------------------------------------------------------------


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Return the path on the sphere: a, b (d,) and t (n,) in [0, 1] give (n, d)."""
    t = t[:, None]  # (n, 1)
    u, v = a / a.norm(), b / b.norm()
    angle = (u @ v).clamp(-1, 1).acos()
    if angle < 1e-6:
        return (1 - t) * a + t * b
    direction = (((1 - t) * angle).sin() * u + (t * angle).sin() * v) / angle.sin()  # (n, d)
    return ((1 - t) * a.norm() + t * b.norm()) * direction


def norms_between(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Return (1 - t)|a| + t|b|, (n, 1)."""
    return paths.lerp(a.norm(), b.norm(), t)[:, None]


def normalised_lerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Return the straight path between the directions, drawn onto the right norms."""
    return F.normalize(paths.lerp(F.normalize(a, dim=0), F.normalize(b, dim=0), t), dim=-1) * norms_between(a, b, t)


def shoemake_of_vectors(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Return Shoemake's formula applied to a and b with their norms."""
    angle = torch.dot(F.normalize(a, dim=0), F.normalize(b, dim=0)).clamp(-1, 1).acos()
    return (((1 - t) * angle).sin()[:, None] * a + (t * angle).sin()[:, None] * b) / angle.sin()


def directions(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Return the path on the unit sphere."""
    return F.normalize(slerp(a, b, t), dim=-1)


@check.exercise(
    "2.4",
    slerp,
    points=2,
    own=("paths.slerp",),
    hint="treat direction and norm apart from each other: see hint 1.",
    mistakes=(
        Mistake(paths.lerp, "This is the straight path; it passes nearer to the origin than both ends."),
        Mistake(
            normalised_lerp,
            "The points have the right norms, but the direction turns faster in the middle than at the ends.",
        ),
        Mistake(
            shoemake_of_vectors,
            "You mixed a and b with their norms, so the norm does not go linearly. Mix the directions a/|a| "
            "and b/|b|, then multiply by the norm.",
        ),
        Mistake(lambda a, b, t: directions(a, b, t) * a.norm(), "Your path keeps the norm of a all the way."),
        Mistake(directions, "These are unit vectors: the norm is missing."),
        Mistake(lambda a, b, t: slerp(b, a, t), "Your path runs backwards, from b to a."),
    ),
)
def slerp_cases(g: torch.Generator) -> list[Case]:
    """Different and equal norms, the ends, draws from the prior, a wide angle, the same direction."""
    drawn = torch.tensor([0.1, 0.25, 0.5, 0.7]).double() + 0.1 * torch.rand(4, generator=g, dtype=torch.float64)
    t = torch.tensor([0.0, 0.3, 1.0]).double()
    a, b = 2 * F.normalize(normal(2, 3, generator=g), dim=-1)
    c, d = normal(2, 20, generator=g)
    axis = torch.zeros(3, dtype=torch.float64)  # along it the cosine is exactly 1, elsewhere rounding decides
    axis[torch.randint(3, (), generator=g)] = 2.0
    return [
        Case("three latents, different norms", (a, 1.5 * b, drawn)),
        Case("the same norm, the ends included", (a, b, t)),
        Case("twenty latents from the prior", (c, d, drawn)),
        Case("a wide angle", (a, 0.3 * b - 2 * a, t)),
        Case(
            "the same direction: no angle to turn",
            (axis, 3 * axis, drawn),
            "Without an angle sin ω is 0 and the formula 0/0; with rounding the cosine may be above 1. See hint 3.",
        ),
    ]


# 2.5 ---------------------------------------------------------------------------------------------------------------


def free_bits(kl: Tensor, free_nats: float) -> Tensor:
    """Return the KL term of the loss, (), in nats: kl (B, d) of each image and latent."""
    return kl.mean(0).clamp(min=free_nats).sum()


@check.exercise(
    "2.5",
    free_bits,
    points=2,
    own=("vae.negative_elbo",),
    gradients=("kl",),
    hint="three operations in the right order: mean over images, limit, sum over latents.",
    mistakes=(
        Mistake(
            lambda kl, free_nats: kl.clamp(min=free_nats).mean(0).sum(),
            "You applied the limit to each image; it holds for a latent's mean over the batch.",
        ),
        Mistake(
            lambda kl, free_nats: kl.mean(0).sum().clamp(min=free_nats),
            "Latents below the limit count with their own KL here. Is the limit applied to the total? Each "
            "latent has one of its own.",
        ),
        Mistake(
            lambda kl, free_nats: kl.mean(0).sum().clamp(min=free_nats * kl.shape[-1]),
            "You applied d times the limit to the total; each latent has its own.",
        ),
        Mistake(
            lambda kl, free_nats: kl.mean(0).clamp(max=free_nats).sum(),
            "Your latents count at most free_nats; at least is asked for.",
        ),
        Mistake(
            lambda kl, free_nats: (kl.mean(0) + free_nats).sum(),
            "You added free_nats. A constant changes no gradient: the KL is still under full pressure.",
        ),
        Mistake(
            lambda kl, free_nats: (kl.mean(0) - free_nats).clamp(min=0).sum(),
            "The gradient is right, the value is not: you left out the free part, free_nats for each latent.",
        ),
        Mistake(
            lambda kl, free_nats: kl.mean(-1).clamp(min=free_nats).sum(),
            "You averaged over the latents; the mean is over the batch, the first axis.",
        ),
        Mistake(
            lambda kl, free_nats: kl.mean(0).clamp(min=free_nats).mean(),
            "This is the mean over the latents; their sum is asked for.",
        ),
    ),
)
def free_bits_cases(g: torch.Generator) -> list[Case]:
    """Latents on both sides of the limit, all above it, all below it, no limit, one image."""
    of_image = torch.tensor([0.1, 1.7]).double().repeat(3)[:, None] + 0.2 * torch.rand(6, 4, generator=g).double()
    kl = of_image * torch.tensor([0.02, 0.1, 0.4, 0.9])  # (6, 4): of a latent some images are below 0.5, some above
    return [
        Case("some latents below the limit, some above", (kl, 0.5)),
        Case("all above: the plain KL", (kl + 0.5, 0.4)),
        Case("all below: a constant", (0.1 * kl, 0.5)),
        Case("nothing is free", (kl, 0.0)),
        Case("one image", (kl[:1], 0.5)),
    ]


# 2.6 ---------------------------------------------------------------------------------------------------------------


def add_chunk(log_mean: Tensor, draws: int, log_w: Tensor) -> Tensor:
    """Return the log mean weight of all draws, (B,): log_mean (B,) of those so far, log_w (k, B)."""
    before = log_mean + math.log(draws) if draws else log_mean  # log of the sum so far; at the beginning log 0
    total = torch.logaddexp(before, log_w.logsumexp(0))
    return total - math.log(draws + len(log_w))


def chunk_alone(log_w: Tensor) -> Tensor:
    """Return the log mean weight of the new draws, (B,)."""
    return dv.iwae_bound(log_w)


def mean_of_bounds(log_mean: Tensor, draws: int, log_w: Tensor) -> Tensor:
    """Return the mean of both logarithms, weighted by the numbers of draws."""
    seen = draws * log_mean if draws else torch.zeros_like(log_mean)
    return (seen + len(log_w) * chunk_alone(log_w)) / (draws + len(log_w))


def by_weights(log_mean: Tensor, draws: int, log_w: Tensor) -> Tensor:
    """Return the right value by the weights themselves, which underflow."""
    return ((draws * log_mean.exp() + log_w.exp().sum(0)) / (draws + len(log_w))).log()


@check.exercise(
    "2.6",
    add_chunk,
    points=3,
    own=("divergences.iwae_bound",),
    hint="what has to be known of the draws so far: the sum of their weights, and how many they are. See hint 1.",
    mistakes=(
        Mistake(
            lambda log_mean, draws, log_w: (log_mean + chunk_alone(log_w)) / 2,
            "This is the mean of two logarithms. Average the weights, then take the logarithm.",
        ),
        Mistake(
            mean_of_bounds,
            "This is a weighted mean of logarithms. Average the weights, then take the logarithm.",
        ),
        Mistake(
            lambda log_mean, draws, log_w: torch.logaddexp(log_mean, chunk_alone(log_w)) - math.log(2),
            "The draws so far and the new ones count the same here; the more draws, the more they must count.",
        ),
        Mistake(
            lambda log_mean, draws, log_w: (
                torch.cat([log_mean[None], log_w]).logsumexp(0) - math.log(draws + len(log_w))
            ),
            "The mean so far counts like a single draw here; it stands for `draws` of them.",
        ),
        Mistake(
            lambda log_mean, draws, log_w: torch.cat([log_mean[None], log_w]).logsumexp(0) - math.log(1 + len(log_w)),
            "The mean so far counts like a single draw here; it stands for `draws` of them.",
        ),
        Mistake(
            lambda log_mean, draws, log_w: add_chunk(log_mean, draws, log_w) + math.log(draws + len(log_w)),
            "This is the logarithm of the sum; the mean is asked for: what is K?",
        ),
        Mistake(
            lambda log_mean, draws, log_w: chunk_alone(log_w),
            "This is the bound of the new chunk alone: what was before?",
        ),
        Mistake(
            lambda log_mean, draws, log_w: (
                add_chunk(log_mean, draws, log_w) + math.log((draws + len(log_w)) / len(log_w))
            ),
            "You divided by the number of the new draws; all of them together are K.",
        ),
    ),
    errors=(
        ("math domain error", "math.log(0) raises an error: at the beginning no draw has been seen, `draws` is 0."),
        ("expected a positive", "math.log(0) raises an error: at the beginning no draw has been seen, `draws` is 0."),
    ),
)
def add_chunk_cases(g: torch.Generator) -> list[Case]:
    """Chunks of another size than what came before, the first chunk, log weights far from zero and from each other."""
    so_far, log_w = normal(4, generator=g), normal(5, 4, generator=g)
    far = torch.tensor([1000.0, 0.0, 0.0, 2000.0]).double()
    nothing = torch.full((4,), -torch.inf).double()
    underflow = (
        "The exponential of a log weight near −1,000 is zero in floating point. Stay with logarithms: see hint 2."
    )
    return [
        Case("five draws after nine, four images", (so_far, 9, log_w)),
        Case("one draw after 1,000", (so_far, 1000, log_w[:1])),
        Case(
            "the first chunk: no draw so far",
            (nothing, 0, log_w),
            "At the beginning `draws` is 0 and `log_mean` −∞, the log of an empty sum: 0 · (−∞) is nan.",
        ),
        Case("log weights near -1,000", (so_far - 1000, 9, log_w - 1000), underflow),
        Case("the new chunk 1,000 nats above the others", (so_far - 1000, 9, log_w), underflow),
        Case("the new chunk 1,000 nats below the others", (so_far, 9, log_w - 1000), underflow),
        Case("images 1,000 nats apart", (so_far - far, 9, log_w - far), underflow),
    ]


# 2.7 ---------------------------------------------------------------------------------------------------------------


def change_class(z: Tensor, y: Tensor, new_y: Tensor, means: Tensor, sigmas: Tensor) -> Tensor:
    """Return z moved to another class: z (B, d), classes (B,), means, sigmas (C, d) give (B, d)."""
    style = (z - means[y]) / sigmas[y]  # standard normal under the prior of its class
    return means[new_y] + sigmas[new_y] * style


@check.exercise(
    "2.7",
    change_class,
    points=2,
    hint="how many standard deviations from its class's mean is z? That number is the style.",
    mistakes=(
        Mistake(
            lambda z, y, new_y, means, sigmas: z,
            "You returned z unchanged: under the new class's prior it is another style, maybe an unlikely one.",
        ),
        Mistake(
            lambda z, y, new_y, means, sigmas: z - means[y] + means[new_y],
            "You moved the mean only; the classes' widths differ too.",
        ),
        Mistake(
            lambda z, y, new_y, means, sigmas: means[new_y] + (z - means[y]) * sigmas[y] / sigmas[new_y],
            "Your scale is inverted: divide by the old class's sigma, multiply by the new one's.",
        ),
        Mistake(
            lambda z, y, new_y, means, sigmas: change_class(z, new_y, y, means, sigmas),
            "You went from the new class to the old one.",
        ),
        Mistake(
            lambda z, y, new_y, means, sigmas: (z - means[y]) / sigmas[y],
            "You standardised z by its class; now apply the new class's prior.",
        ),
        Mistake(
            lambda z, y, new_y, means, sigmas: (z - means[y]) / sigmas[y] * sigmas[new_y],
            "The new class's width is there, its mean is missing.",
        ),
        Mistake(
            lambda z, y, new_y, means, sigmas: means[new_y] + sigmas[new_y] * z,
            "You took z for standard normal; standardise it by its own class's prior first.",
        ),
    ),
)
def change_class_cases(g: torch.Generator) -> list[Case]:
    """Several images, a class kept, and many classes."""
    cases = []
    for b, d, classes in [(5, 2, 3), (1, 3, 2), (30, 4, 10)]:
        y = torch.randint(classes, (b,), generator=g)
        step = torch.randint(1, classes, (b,), generator=g)  # never back to the same class
        priors = normal(classes, d, generator=g), normal(classes, d, generator=g).exp()
        label = f"{b} image{'s' if b > 1 else ''}, {classes} classes, d = {d}"
        cases.append(Case(label, (normal(b, d, generator=g), y, (y + step) % classes, *priors)))
    z, y, _, *priors = cases[0].args
    return [*cases, Case("the new class is the old one: nothing changes", (z, y, y, *priors))]

"""The exercises of lecture 2: what the instant check and the grader share."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from course_utils import divergences as dv
from course_utils import paths, vae
from course_utils.exercises.checking import Case, Exercise, Mistake, normal
from course_utils.exercises.checking import check as check_any

# 2.1 ---------------------------------------------------------------------------------------------------------------


def grey_level_probabilities(mean: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """Return the discretised logistic distribution's table: mean, log_scale (...) give (..., levels)."""
    params = torch.stack([mean, log_scale], -1)[..., None, :].expand(*mean.shape, levels, 2)
    x = torch.arange(levels, dtype=mean.dtype)[:, None] / (levels - 1)  # (levels, 1): as many pictures of one pixel
    return vae.DiscretisedLogistic(levels).log_prob(params, x.expand(*mean.shape, levels, 1)).exp()


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


def narrow_bins(mean: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """Return the mass of bins of width 1/levels around the levels, the outermost open."""
    upper, lower = (levels_and_standard(mean, log_scale, levels, h / levels).sigmoid() for h in (0.5, -0.5))
    upper[..., -1], lower[..., 0] = 1, 0
    return upper - lower


def grey_level_cases(g: torch.Generator) -> list[Case]:
    """Ordinary pixels, means outside [0, 1], tiny and huge scales, 2 levels, many pixels."""
    centres = torch.tensor([0.0, 3.0, 7.0]).double() / 7 + 0.01 * normal(3, g=g).tanh()  # far from the bins' edges
    return [
        Case("two pixels, five levels", (0.5 + 0.2 * normal(2, g=g), 0.2 * normal(2, g=g) - 2, 5)),
        Case("means below 0 and above 1", (torch.tensor([-0.5, 1.4]) + 0.1 * normal(2, g=g), normal(2, g=g) - 2, 4)),
        Case("a tiny scale: one level gets all", (centres, torch.full((3,), -20.0).double(), 8)),
        Case("a huge scale: the outer levels get nearly half each", (normal(2, g=g), 5 + normal(2, g=g).abs(), 6)),
        Case("two levels", (normal(3, g=g), normal(3, g=g) - 1, 2)),
        Case("2 × 3 pixels, 17 levels", (0.5 + 0.3 * normal(2, 3, g=g), 0.3 * normal(2, 3, g=g) - 3, 17)),
    ]


# 2.2 ---------------------------------------------------------------------------------------------------------------


def terms(x: Tensor, logits: Tensor, mean: Tensor, log_var: Tensor) -> vae.Terms:
    """Return the ELBO's terms of binary images x (B, D) with q = N(mean, exp(log_var)), (B, d), for given logits."""
    kl = dv.kl_gaussian(mean, (0.5 * log_var).exp())
    return vae.Terms(vae.Bernoulli().log_prob(logits, x), kl.sum(-1), kl)


def vae_loss(x: Tensor, logits: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Return the negative ELBO, mean over images: x, logits (B, D), mean, log_var (B, d) give ()."""
    return vae.negative_elbo(terms(x, logits, mean, log_var))


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


def vae_loss_cases(g: torch.Generator) -> list[Case]:
    """A small batch, a posterior equal to the prior, a decoder that is sure, a single latent."""
    x = (normal(5, 6, g=g) > 0).double()
    logits, mean, log_var = normal(5, 6, g=g), normal(5, 3, g=g), normal(5, 3, g=g)
    return [
        Case("five images of six pixels, three latents", (x, logits, mean, log_var)),
        Case("the posterior is the prior: no KL is paid", (x, logits, 0 * mean, 0 * log_var)),
        Case("logits near ±300: a sure decoder, sometimes wrong", (x, 300 * logits.sign() + logits, mean, log_var)),
        Case("two images, one latent", (x[:2], logits[:2], mean[:2, :1], log_var[:2, :1])),
    ]


# 2.3 ---------------------------------------------------------------------------------------------------------------


def linear_rates(eigenvalues: Tensor, sigma: float, beta: float) -> Tensor:
    """Return the rate of each direction of the optimal linear beta-VAE in nats: (d,), decoder noise sigma, give (d,).

    The optimum of probabilistic PCA (Tipping and Bishop, 1999) with beta sigma² for the noise variance.
    """
    return (0.5 * (eigenvalues / (beta * sigma**2)).log()).clamp(min=0)


def linear_rates_cases(g: torch.Generator) -> list[Case]:
    """Three values of beta, a direction at its threshold, all directions off."""
    sigma = 0.3 + 0.4 * torch.rand((), generator=g).item()
    ratios = torch.tensor([9.0, 3.0, 1.5, 0.7, 0.02]).double() * (0.1 * normal(5, g=g)).exp()  # three stay on
    first, second = 3 * sigma**2 * ratios, normal(8, g=g).exp()
    return [
        Case("beta = 3, five directions", (first, sigma, 3.0)),
        Case("beta = 1: the ELBO", (second, sigma, 1.0)),
        Case("beta = 0.1", (second, sigma, 0.1)),
        Case("one direction exactly at its threshold", (torch.tensor([2.0, 0.5]).double(), 0.5, 2.0)),
        Case("all directions off", (second, sigma, 1.1 * second.max().item() / sigma**2)),
    ]


# 2.4 ---------------------------------------------------------------------------------------------------------------


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
    return F.normalize(paths.slerp(a, b, t), dim=-1)


def slerp_cases(g: torch.Generator) -> list[Case]:
    """Different and equal norms, the ends, draws from the prior, a wide angle, the same direction."""
    drawn = torch.tensor([0.1, 0.25, 0.7]).double() + 0.1 * torch.rand(3, generator=g, dtype=torch.float64)
    t = torch.tensor([0.0, 0.3, 1.0]).double()
    a, b = 2 * F.normalize(normal(2, 3, g=g), dim=-1)
    c, d = normal(2, 20, g=g)
    return [
        Case("three latents, different norms", (a, 1.5 * b, drawn)),
        Case("the same norm, the ends included", (a, b, t)),
        Case("twenty latents from the prior", (c, d, drawn)),
        Case("a wide angle", (a, 0.3 * b - 2 * a, t)),
        Case("the same direction: no angle to turn", (a, 3 * a, t)),
    ]


# 2.5 ---------------------------------------------------------------------------------------------------------------


def free_bits(kl: Tensor, free_nats: float) -> Tensor:
    """Return the KL term of the loss with free bits: kl (B, d) gives ()."""
    return kl.mean(0).clamp(min=free_nats).sum()


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


def log_likelihood_in_chunks(chunks: list[Tensor]) -> Tensor:
    """Return the log mean weight over all chunks: log weights (k_j, B) give (B,)."""
    return dv.iwae_bound(torch.cat(chunks))


def by_chunk(chunks: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return each chunk's bound, (J, B), and its share of all draws, (J, 1)."""
    sizes = torch.tensor([[len(c)] for c in chunks], dtype=torch.float64)
    return torch.stack([dv.iwae_bound(c) for c in chunks]), sizes / sizes.sum()


def chunks_cases(g: torch.Generator) -> list[Case]:
    """Equal and unequal chunks, one chunk, log weights far from zero, chunks and images far from each other."""
    unequal = [normal(k, 4, g=g) for k in (9, 1, 4)]
    return [
        Case("three unequal chunks, four images", (unequal,)),
        Case("two equal chunks", (list(normal(2, 5, 3, g=g)),)),
        Case("one chunk", ([normal(6, 2, g=g)],)),
        Case("log weights near -1,000", ([c - 1000 for c in unequal],)),
        Case("one chunk 1,000 nats above the others", ([unequal[0] - 1000, unequal[1], unequal[2] - 1000],)),
        Case("images 1,000 nats apart", ([c - torch.tensor([1000.0, 0.0, 0.0, 2000.0]) for c in unequal],)),
    ]


# 2.7 ---------------------------------------------------------------------------------------------------------------


def change_class(z: Tensor, y: Tensor, new_y: Tensor, means: Tensor, sigmas: Tensor) -> Tensor:
    """Return z (B, d) moved from the prior of class y to that of new_y, (B,); priors N(means, sigmas²), (C, d)."""
    return means[new_y] + sigmas[new_y] * (z - means[y]) / sigmas[y]


def change_class_cases(g: torch.Generator) -> list[Case]:
    """Several images, a class kept, and many classes."""
    cases = []
    for b, d, classes in [(5, 2, 3), (1, 3, 2), (30, 4, 10)]:
        y = torch.randint(classes, (b,), generator=g)
        step = torch.randint(1, classes, (b,), generator=g)  # never back to the same class
        priors = normal(classes, d, g=g), normal(classes, d, g=g).exp()
        label = f"{b} image{'s' if b > 1 else ''}, {classes} classes, d = {d}"
        cases.append(Case(label, (normal(b, d, g=g), y, (y + step) % classes, *priors)))
    z, y, _, *priors = cases[0].args
    return [*cases, Case("the new class is the old one: nothing changes", (z, y, y, *priors))]


EXERCISES = {
    e.id: e
    for e in [
        Exercise(
            id="2.1",
            function="grey_level_probabilities",
            points=4,
            reference=grey_level_probabilities,
            cases=grey_level_cases,
            hint="where are the edges between two levels, and what lies beyond the last one? See hints 1 and 2.",
            mistakes=(
                Mistake(
                    density_times_width,
                    "This is the density at the centre times the width of the bin. Integrate over the bin instead: "
                    "see hint 1.",
                ),
                Mistake(closed_bins, "Your outermost bins end; they must reach to infinity, or mass is lost."),
                Mistake(
                    lambda *args: closed_bins(*args) / closed_bins(*args).sum(-1, keepdim=True),
                    "You divided by the sum. The mass beyond the outermost levels belongs to these two alone.",
                ),
                Mistake(
                    bins_of_unit_interval,
                    "Your edges are k/levels. The levels are k/(levels − 1), and the edges half way between them.",
                ),
                Mistake(
                    narrow_bins, "Your bins are 1/levels wide and leave gaps: the levels are 1/(levels − 1) apart."
                ),
                Mistake(log_scale_as_scale, "You divided by the logarithm of the scale; its exponential is the scale."),
                Mistake(
                    lambda *args: grey_level_probabilities(*args).log(),
                    "These are log-probabilities; probabilities are asked for.",
                ),
            ),
            tol=1e-5,  # edges computed in single precision will do
        ),
        Exercise(
            id="2.2",
            function="vae_loss",
            points=3,
            reference=vae_loss,
            cases=vae_loss_cases,
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
                Mistake(
                    squared_error_loss,
                    "You measure a squared error, which belongs to a Gaussian decoder; these pixels are binary.",
                ),
            ),
        ),
        Exercise(
            id="2.3",
            function="linear_rates",
            points=3,
            reference=linear_rates,
            cases=linear_rates_cases,
            hint="divide the loss by beta, and compare with the ELBO of another noise: see hints 1 and 2.",
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
        ),
        Exercise(
            id="2.4",
            function="slerp",
            points=3,
            reference=paths.slerp,
            cases=slerp_cases,
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
                Mistake(lambda a, b, t: paths.slerp(b, a, t), "Your path runs backwards, from b to a."),
            ),
        ),
        Exercise(
            id="2.5",
            function="free_bits",
            points=3,
            reference=free_bits,
            cases=free_bits_cases,
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
        ),
        Exercise(
            id="2.6",
            function="log_likelihood_in_chunks",
            points=3,
            reference=log_likelihood_in_chunks,
            cases=chunks_cases,
            hint="what has to be kept of a chunk when the next one comes? See hint 1.",
            mistakes=(
                Mistake(
                    lambda chunks: by_chunk(chunks)[0].mean(0),
                    "This is the mean of the chunks' own bounds. Average the weights, then take the logarithm.",
                ),
                Mistake(
                    lambda chunks: (by_chunk(chunks)[0] * by_chunk(chunks)[1]).sum(0),
                    "This is a weighted mean of the chunks' own bounds. Average the weights, then take the logarithm.",
                ),
                Mistake(
                    lambda chunks: dv.iwae_bound(by_chunk(chunks)[0]),
                    "Every chunk counts the same here; a chunk with more draws must count more.",
                ),
                Mistake(
                    lambda chunks: torch.cat(chunks).logsumexp(0),
                    "This is the logarithm of the sum; the mean is asked for: what is K?",
                ),
                Mistake(
                    lambda chunks: torch.cat(chunks).mean(0),
                    "This is the mean of the logarithms: the ELBO's estimate.",
                ),
                Mistake(
                    lambda chunks: torch.cat(chunks).exp().mean(0).log(),
                    "The exponential of a log weight near −1,000 is zero in floating point. Stay with logarithms: "
                    "see hint 2.",
                ),
            ),
        ),
        Exercise(
            id="2.7",
            function="change_class",
            points=2,
            reference=change_class,
            cases=change_class_cases,
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
        ),
    ]
}
check = partial(check_any, EXERCISES)

"""Lecture 2: variational autoencoders, their likelihoods, bounds and evaluation.

Images are vectors (B, D) of floats in [0, 1]; convolutions fold them inside. All results are in nats per image.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_utils.data import normal, uniform
from course_utils.densities import gaussian_log_prob
from course_utils.divergences import iwae_bound, kl_gaussian
from course_utils.errors import require
from course_utils.nn import MLP

# 2.1 A plain autoencoder, to compare -------------------------------------------------------------------------------


class Autoencoder(nn.Module):
    """Encoder (B, D) -> (B, d) and decoder (..., d) -> (..., D): no distribution of codes, so nothing to sample."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def loss(self, x: Tensor) -> Tensor:
        """Return the squared error of the reconstruction, summed over pixels, mean over images x (B, D). (2.1a)"""
        return (self.decoder(self.encoder(x)) - x).square().sum(-1).mean()


# 2.2 Likelihoods: what the numbers mean that a decoder puts out ----------------------------------------------------


class Bernoulli:
    """p(x | z) = prod_i Bernoulli(x_i; sigmoid(logit_i)) for binary pixels."""

    per_pixel = 1

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """Return log p(x | z), (...): logits (..., D), and x (..., D) in {0, 1}. (2.2a)"""
        params, x = torch.broadcast_tensors(params, x)
        return -F.binary_cross_entropy_with_logits(params, x, reduction="none").sum(-1)

    def mean(self, params: Tensor) -> Tensor:
        """Return E[x | z], (..., D). (2.4a)"""
        return params.sigmoid()

    def sample(self, params: Tensor, generator: torch.Generator) -> Tensor:
        """Draw x given z, (..., D)."""
        return binarise(params.sigmoid(), generator)


class Gaussian:
    """p(x | z) = N(x; mean, sigma² I) with a fixed sigma: squared error, scaled and with its constant."""

    per_pixel = 1

    def __init__(self, sigma: float = 0.1):
        require(sigma > 0, f"sigma = {sigma} is not positive; a standard deviation must be, for example 0.1")
        self.sigma = sigma

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """Return log p(x | z), (...): means (..., D), and real x (..., D). (2.2b)"""
        return gaussian_log_prob(x, params, self.sigma).sum(-1)

    def mean(self, params: Tensor) -> Tensor:
        """Return E[x | z], (..., D)."""
        return params

    def sample(self, params: Tensor, generator: torch.Generator) -> Tensor:
        """Draw x given z, (..., D)."""
        return params + self.sigma * normal(*params.shape, like=params, generator=generator)


class DiscretisedLogistic:
    """Grey levels 0..levels-1 as the bins of a logistic distribution; Salimans et al. (2017), PixelCNN++.

    x = level / (levels - 1); the outermost bins reach to infinity, so that the levels' probabilities sum to 1.
    """

    per_pixel = 2

    def __init__(self, levels: int):
        require(levels >= 2, f"levels = {levels}; at least 2 grey levels are needed")
        self.levels = levels

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """Return log p(x | z), (...): means and log scales (..., 2 D), and x (..., D) on the grid of levels. (2.2d)"""
        mean, log_scale = params.chunk(2, dim=-1)
        half, slope = 0.5 / (self.levels - 1), (-log_scale).exp()
        first, last = x < half, x > 1 - half
        upper = torch.where(last, math.inf, (x + half - mean) * slope)
        lower = torch.where(first, -math.inf, (x - half - mean) * slope)
        gap = torch.where(first | last, math.inf, 2 * half * slope)  # upper - lower, without cancellation
        # log(sigmoid(u) - sigmoid(l)) = logsigmoid(u) + logsigmoid(-l) + log(1 - exp(l - u))
        return (F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(-gap))).sum(-1)

    def mean(self, params: Tensor) -> Tensor:
        """Return the centre of the distribution, clamped to [0, 1], (..., D)."""
        return params.chunk(2, dim=-1)[0].clamp(0, 1)

    def sample(self, params: Tensor, generator: torch.Generator) -> Tensor:
        """Draw x given z on the grid of levels, (..., D)."""
        mean, log_scale = params.chunk(2, dim=-1)
        u = uniform(*mean.shape, like=mean, generator=generator).clamp(1e-6, 1 - 1e-6)
        x = mean + log_scale.exp() * u.logit()
        return (x * (self.levels - 1)).round().clamp(0, self.levels - 1) / (self.levels - 1)


def binarise(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return binary images with P(1) = grey level, x (..., D) in [0, 1]; drawn afresh: dynamic binarisation."""
    return (uniform(*x.shape, like=x, generator=generator) < x).to(x.dtype)


# 2.2 The model -----------------------------------------------------------------------------------------------------


class Terms(NamedTuple):
    """The two parts of the ELBO for each image, (B,) each, in nats; the KL also by latent, (B, d)."""

    log_likelihood: Tensor
    kl: Tensor
    kl_by_latent: Tensor

    @property
    def elbo(self) -> Tensor:
        """log p(x | z) - KL, (B,)."""
        return self.log_likelihood - self.kl


class VAE(nn.Module):
    """A variational autoencoder: prior N(0, I_d), or N(m_y, s_y²) for each class y, and networks for q(z|x), p(x|z).

    `encoder` maps (B, D + classes) to means and log standard deviations (B, 2 d); `decoder` maps (..., d + classes) to
    the likelihood's parameters. With `classes` > 0 both see the one-hot class, and the prior of each class is learned.
    Kingma and Welling (2014); Sohn, Lee and Yan (2015) for the conditional one.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, pixels: int, latents: int, likelihood, classes: int = 0):
        super().__init__()
        self.encoder, self.decoder, self.likelihood = encoder, decoder, likelihood
        self.pixels, self.latents, self.classes = pixels, latents, classes
        self.prior_table = nn.Parameter(torch.zeros(classes, 2 * latents)) if classes else None

    def check_class(self, y: Tensor | None) -> None:
        """Raise ``ValueError`` for a missing or unknown class, or one that the model has no use for."""
        if not self.classes:
            require(y is None, "this model is not conditional: call it without y")
            return
        require(y is not None, f"this model is conditional: give y, the classes 0 to {self.classes - 1}")
        outside = y[(y < 0) | (y >= self.classes)]
        given = outside[0].item() if len(outside) else None
        require(given is None, f"y has the class {given}; allowed are 0 to {self.classes - 1}")

    def with_class(self, v: Tensor, y: Tensor | None) -> Tensor:
        """Append the one-hot class y (B,) to v (..., B, k)."""
        self.check_class(y)
        if not self.classes:
            return v
        one_hot = F.one_hot(y, self.classes).to(v.dtype)
        return torch.cat([v, one_hot.expand(*v.shape[:-1], self.classes)], dim=-1)

    def posterior(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of q(z | x), (B, d) each: x (B, D)."""
        require(
            x.shape[-1] == self.pixels, f"x has {x.shape[-1]} columns; this model's images have {self.pixels} pixels"
        )
        mean, log_sigma = self.encoder(self.with_class(x, y)).chunk(2, dim=-1)
        return mean, log_sigma.clamp(-8, 8).exp()

    def prior(self, y: Tensor | None = None, like: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of p(z), or p(z | y), (d,) or (B, d).

        In the dtype and on the device of `like`, or of the model's parameters.
        """
        self.check_class(y)
        like = next(self.parameters()) if like is None else like
        if self.prior_table is None:
            return torch.zeros(self.latents).to(like), torch.ones(self.latents).to(like)
        mean, log_sigma = self.prior_table[y].to(like).chunk(2, dim=-1)
        return mean, log_sigma.exp()

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the likelihood's parameters: z (..., B, d) gives (..., B, D * per_pixel)."""
        return self.decoder(self.with_class(z, y))

    def log_likelihood(self, x: Tensor, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Return log p(x | z), (..., B), of images x (B, D) at latents z (..., B, d)."""
        return self.likelihood.log_prob(self.decode(z, y), x)

    def terms(self, x: Tensor, generator: torch.Generator, y: Tensor | None = None, sampled: bool = False) -> Terms:
        """Return log p(x | z) and the KL(q || prior) at one reparameterised z, for each image x (B, D).

        The KL is the closed form or, with `sampled`, the unbiased estimate log q(z|x) - log p(z) at the same z.
        (2.3b), (2.3c)
        """
        m, s = self.posterior(x, y)
        z = m + s * normal(*m.shape, like=m, generator=generator)
        prior_m, prior_s = self.prior(y, like=m)
        if sampled:
            kl = gaussian_log_prob(z, m, s) - gaussian_log_prob(z, prior_m, prior_s)
        else:
            kl = kl_gaussian(m, s, prior_m, prior_s)  # (B, d)
        return Terms(self.log_likelihood(x, z, y), kl.sum(-1), kl)

    def log_weights(self, x: Tensor, k: int, generator: torch.Generator, y: Tensor | None = None) -> Tensor:
        """Return log p(x, z) - log q(z | x) for k draws of z: x (B, D) gives (k, B). Both KL terms are sampled."""
        require(k >= 1, f"k = {k} draws; at least 1 is needed")
        m, s = self.posterior(x, y)
        z = m + s * normal(k, *m.shape, like=m, generator=generator)  # (k, B, d)
        prior_m, prior_s = self.prior(y, like=m)
        log_prior = gaussian_log_prob(z, prior_m, prior_s).sum(-1)
        return self.log_likelihood(x, z, y) + log_prior - gaussian_log_prob(z, m, s).sum(-1)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator, y: Tensor | None = None, mean: bool = True) -> Tensor:
        """Return n images (n, D) by ancestral sampling: E[x | z] or, with mean=False, x itself. `y`: classes (n,)."""
        m, s = self.prior(y)
        z = m + s * normal(n, self.latents, like=m, generator=generator)
        params = self.decode(z, y)
        return self.likelihood.mean(params) if mean else self.likelihood.sample(params, generator)


def mlp_vae(
    pixels: int,
    latents: int = 20,
    hidden: tuple[int, ...] = (500, 250),
    likelihood=None,
    classes: int = 0,
    activation: type[nn.Module] = nn.SiLU,
) -> VAE:
    """Return the reference VAE: pixels-500-250-latents and back, Bernoulli likelihood unless another is given."""
    require(latents >= 1, f"latents = {latents}; at least 1 is needed")
    likelihood = likelihood or Bernoulli()
    encoder = MLP([pixels + classes, *hidden, 2 * latents], activation)
    decoder = MLP([latents + classes, *reversed(hidden), pixels * likelihood.per_pixel], activation)
    return VAE(encoder, decoder, pixels, latents, likelihood, classes)


def conv_vae(side: int, latents: int = 20, width: int = 32, likelihood=None) -> VAE:
    """Return a convolutional VAE for side x side images, `side` a multiple of 4; three scales, residual in between."""
    require(side >= 4 and side % 4 == 0, f"side = {side}; a multiple of 4 is needed, such as 8 or 28")
    likelihood = likelihood or Bernoulli()
    small, w = side // 4, width
    encoder = nn.Sequential(
        nn.Unflatten(-1, (1, side, side)),
        nn.Conv2d(1, w, 3, padding=1, stride=2), nn.SiLU(),  # (B, w, side/2, side/2)
        Residual(w),
        nn.Conv2d(w, 2 * w, 3, padding=1, stride=2), nn.SiLU(),  # (B, 2w, side/4, side/4)
        Residual(2 * w),
        nn.Flatten(), nn.Linear(2 * w * small**2, 6 * w), nn.SiLU(), nn.Linear(6 * w, 2 * latents),
    )  # fmt: skip
    decoder = Folded(nn.Sequential(
        nn.Linear(latents, 6 * w), nn.SiLU(), nn.Linear(6 * w, 2 * w * small**2), nn.SiLU(),
        nn.Unflatten(-1, (2 * w, small, small)),
        Residual(2 * w),
        nn.ConvTranspose2d(2 * w, w, 4, padding=1, stride=2), nn.SiLU(),
        Residual(w),
        nn.ConvTranspose2d(w, likelihood.per_pixel, 4, padding=1, stride=2),
        nn.Flatten(),
    ))  # fmt: skip
    return VAE(encoder, decoder, side * side, latents, likelihood)


class Residual(nn.Module):
    """x + conv(silu(conv(x))), 3 x 3 convolutions of one width: (B, width, H, W) gives the same shape."""

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x + self.body(x))


class Folded(nn.Module):
    """A network for (B, k) applied to (..., B, k): the leading axes are folded into one and back."""

    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.flatten(0, -2)).unflatten(0, x.shape[:-1])


# 2.7 A decoder that needs no latents, and remedies -----------------------------------------------------------------


class MaskedConv2d(nn.Conv2d):
    """A convolution that sees only pixels above, and to the left in the same row; its own too with `own`.

    Van den Oord, Kalchbrenner and Kavukcuoglu (2016): masks A (without its own pixel) and B.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int, own: bool):
        super().__init__(channels_in, channels_out, kernel, padding=kernel // 2)
        mask = torch.zeros(kernel, kernel)
        mask[: kernel // 2] = 1
        mask[kernel // 2, : kernel // 2 + own] = 1
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)


class PixelCNN(nn.Module):
    """Logits of p(x_i | x_1..x_{i-1}, context) for every pixel i in raster order, by masked convolutions.

    ``forward(x, context)``: x (N, side²) and context (N, channels) give logits (N, side²). The context enters as a bias
    that is the same at every pixel, as in equation (5) of van den Oord et al. (2016), Conditional PixelCNN.
    """

    def __init__(self, side: int, channels: int, width: int, layers: int, kernel: int, later: int = 3):
        super().__init__()
        self.side = side
        self.position = nn.Parameter(torch.zeros(width, side, side))
        self.context = nn.Linear(channels, width)
        self.first = MaskedConv2d(1, width, kernel, own=False)
        self.later = nn.ModuleList(MaskedConv2d(width, width, later, own=True) for _ in range(layers - 1))
        self.last = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        h = self.first(x.unflatten(-1, (1, self.side, self.side)))  # (N, width, side, side)
        h = h + self.position + self.context(context)[:, :, None, None]
        for conv in self.later:
            h = h + conv(F.silu(h))
        return self.last(F.silu(h)).flatten(1)


class AutoregressiveVAE(VAE):
    """A VAE of binary images whose decoder predicts each pixel from z and from the pixels before it."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, pixels: PixelCNN, latents: int):
        super().__init__(encoder, decoder, pixels.side**2, latents, Bernoulli())
        self.pixel_cnn = pixels

    def log_likelihood(self, x: Tensor, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Return log p(x | z) = sum_i log p(x_i | x_1..x_{i-1}, z), (..., B): x (B, D), z (..., B, d)."""
        context = self.decode(z, y)  # (..., B, channels)
        folded = x.expand(*context.shape[:-1], -1).flatten(0, -2)
        logits = self.pixel_cnn(folded, context.flatten(0, -2)).unflatten(0, context.shape[:-1])
        return self.likelihood.log_prob(logits, x)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator, y: Tensor | None = None, mean: bool = False) -> Tensor:
        """Return n images (n, D), pixel after pixel. E[x | z] has no closed form here: `mean` must be False."""
        require(not mean, "an autoregressive decoder has no closed-form mean image; use mean=False")
        like = next(self.parameters())
        context = self.decode(normal(n, self.latents, like=like, generator=generator), y)
        x = torch.zeros(n, self.pixels).to(like)
        for i in range(self.pixels):
            x[:, i] = binarise(self.pixel_cnn(x, context)[:, i].sigmoid(), generator)
        return x


def autoregressive_vae(
    side: int, latents: int = 10, width: int = 24, layers: int = 2, kernel: int = 5, hidden: int = 128, later: int = 3
) -> AutoregressiveVAE:
    """Return a VAE of side x side binary images with an MLP encoder and `layers` masked convolutions in the decoder.

    The first convolution has the size `kernel`, the others `later`: with small ones the decoder sees fewer pixels and
    is weaker. With ``later=1`` it sees those of the first alone.
    """
    require(latents >= 1 and layers >= 1, f"latents = {latents}, layers = {layers}; each must be at least 1")
    require(kernel >= 3 and kernel % 2 == 1, f"kernel = {kernel}; an odd number from 3 is needed")
    require(later >= 1 and later % 2 == 1, f"later = {later}; an odd number from 1 is needed")
    encoder = MLP([side * side, hidden, 2 * latents])
    decoder = MLP([latents, hidden, width])
    return AutoregressiveVAE(encoder, decoder, PixelCNN(side, width, width, layers, kernel, later), latents)


class KLAnnealing:
    """The weight of the KL: 0 for the first `start` steps, then rising to 1 at step `end`; Bowman et al. (2016).

    Give it to ``fit`` as `after_step` and its `beta` to ``negative_elbo``.
    """

    def __init__(self, start: int, end: int):
        require(
            0 <= start < end, f"start = {start}, end = {end}; the rise must end after it starts, at step 0 or later"
        )
        self.start, self.end, self.beta = start, end, 0.0

    def __call__(self, done: int) -> None:
        """Set beta after `done` steps."""
        self.beta = min(1.0, max(0.0, (done - self.start) / (self.end - self.start)))


# 2.3 and 2.8 Loss and evaluation -----------------------------------------------------------------------------------


def negative_elbo(terms: Terms, beta: float = 1.0, free_nats: float = 0.0) -> Tensor:
    """Return the loss, a scalar: mean over images of -log p(x | z) + beta * KL.

    With `free_nats` each latent's mean KL over the batch counts at least that much: below it there is no pressure on
    the KL. Higgins et al. (2017) for beta, Kingma et al. (2016), equation (15), for free bits. (2.3e), (2.7d)
    """
    require(beta >= 0 and free_nats >= 0, f"beta = {beta}, free_nats = {free_nats}; neither may be negative")
    kl = terms.kl_by_latent.mean(0)  # (d,)
    return -terms.log_likelihood.mean() + beta * kl.clamp(min=free_nats).sum()


def negative_iwae(vae: VAE, x: Tensor, k: int, generator: torch.Generator, y: Tensor | None = None) -> Tensor:
    """Return the loss of the importance-weighted autoencoder, a scalar: minus the mean k-sample bound of x (B, D).

    Burda, Grosse and Salakhutdinov (2016), equation (8); with k = 1 the negative ELBO with a sampled KL. (2.8b)
    """
    return -iwae_bound(vae.log_weights(x, k, generator, y)).mean()


@torch.no_grad()
def evaluate_terms(vae: VAE, x: Tensor, generator: torch.Generator, y: Tensor | None = None, batch: int = 500) -> Terms:
    """Return the terms of each image's ELBO at one draw of z, (N,): x (N, D), computed in batches.

    The mean of `kl` is the rate, that of `-log_likelihood` the distortion; Alemi et al. (2018).
    """
    starts = range(0, len(x), batch)
    parts = [vae.terms(x[i : i + batch], generator, y if y is None else y[i : i + batch]) for i in starts]
    return Terms(*(torch.cat(part) for part in zip(*parts, strict=True)))


@torch.no_grad()
def evaluate_log_prob(
    vae: VAE, x: Tensor, k: int, generator: torch.Generator, y: Tensor | None = None, rows: int = 2_000
) -> Tensor:
    """Return the k-sample importance estimate of log p(x), (N,): x (N, D), at most `rows` latents decoded at once.

    A lower bound on log p(x) on average. Burda, Grosse and Salakhutdinov (2016). (2.8a)
    """
    require(k >= 1, f"k = {k} draws; at least 1 is needed")
    out = []
    images, chunk = max(1, rows // k), min(k, rows)
    for i in range(0, len(x), images):
        x_i, y_i = x[i : i + images], y if y is None else y[i : i + images]
        log_w = [vae.log_weights(x_i, min(chunk, k - j), generator, y_i) for j in range(0, k, chunk)]
        out.append(iwae_bound(torch.cat(log_w)))
    return torch.cat(out)


@torch.no_grad()
def active_units(means: Tensor, threshold: float = 0.01) -> int:
    """Return how many latents are used: those whose posterior mean (N, d) varies over images by more than `threshold`.

    Burda, Grosse and Salakhutdinov (2016), section 5.3: the variance of E_q[z | x] over x.
    """
    return int((means.var(0) > threshold).sum())


# 2.10 Discrete codes: gradients through a draw, and vector quantisation --------------------------------------------


def gumbel(*shape: int, generator: torch.Generator, like: Tensor | None = None) -> Tensor:
    """Draw standard Gumbel numbers, with distribution function exp(-exp(-u)); where `like` is and in its dtype."""
    waits = torch.empty(shape, device=generator.device).exponential_(generator=generator)
    return (waits if like is None else waits.to(like)).log().neg()


def relax(logits: Tensor, tau: float, draws: int, generator: torch.Generator) -> Tensor:
    """Return softmax((logits + Gumbel noise) / tau), (draws, n, C): logits (n, C) of n variables with C values.

    Its largest entry is where a draw from softmax(logits) has its one. Jang, Gu and Poole (2017); Maddison, Mnih and
    Teh (2017). Raises ``ValueError`` for tau <= 0. (2.10b)
    """
    require(tau > 0, f"tau = {tau} is not positive; a temperature must be, for example 0.5")
    noise = gumbel(draws, *logits.shape, like=logits, generator=generator)
    return ((logits + noise) / tau).softmax(-1)


def harden(soft: Tensor) -> Tensor:
    """Return the one-hot vectors (..., C) of the largest entries of `soft` (..., C)."""
    return F.one_hot(soft.argmax(-1), soft.shape[-1]).to(soft)


def all_codes(n: int, values: int) -> Tensor:
    """Return all codes of n variables with so many values each as one-hot vectors, (values^n, n, values)."""
    require(values**n <= 1_000_000, f"{values}^{n} codes are too many to enumerate; at most a million are allowed")
    return F.one_hot(torch.cartesian_prod(*[torch.arange(values)] * n).reshape(-1, n), values)


def discrete_expectation(f: Callable[[Tensor], Tensor], logits: Tensor) -> Tensor:
    """Return E f(z), (), by enumeration; z_i one-hot, drawn from softmax(logits_i): logits (n, C).

    `f` maps (N, n, C) to (N,). Its gradient by autograd is the truth that the estimators below are held against.
    (2.10e)
    """
    z = all_codes(*logits.shape).to(logits)
    log_q = (z * logits.log_softmax(-1)).sum((-2, -1))  # (C^n,)
    return (log_q.exp() * f(z)).sum()


def discrete_score_gradient(
    f: Callable[[Tensor], Tensor], logits: Tensor, draws: int, generator: torch.Generator, baseline: bool = False
) -> Tensor:
    """Return one-sample estimates f(z) (z - softmax(logits)) of the gradient of E f(z), (draws, n, C).

    `f` maps (N, n, C) to (N,), for one-hot vectors only. With `baseline` the mean of f over the other draws is taken
    off first. Unbiased. Williams (1992). (2.10a)
    """
    z = harden(relax(logits, 1.0, draws, generator))
    values = f(z)  # (draws,)
    if baseline:
        require(draws > 1, f"draws = {draws}; a baseline needs at least 2")
        values = values - (values.sum() - values) / (draws - 1)
    return values[:, None, None] * (z - logits.softmax(-1))


def gumbel_softmax_gradient(
    f: Callable[[Tensor], Tensor], logits: Tensor, tau: float, draws: int, generator: torch.Generator
) -> Tensor:
    """Return one-sample estimates of the gradient of E f(relaxed z), (draws, n, C), through the softmax of ``relax``.

    `f` maps (N, n, C) to (N,) and is smooth between one-hot vectors. Biased for E f(z); noisy for small tau. (2.10c)
    """
    require(tau > 0, f"tau = {tau} is not positive; a temperature must be, for example 0.5")
    each = logits.detach().expand(draws, *logits.shape).clone().requires_grad_()
    noise = gumbel(*each.shape, like=logits, generator=generator)
    return torch.autograd.grad(f(((each + noise) / tau).softmax(-1)).sum(), each)[0]


def straight_through_gradient(
    f: Callable[[Tensor], Tensor], logits: Tensor, draws: int, generator: torch.Generator
) -> Tensor:
    """Return one-sample estimates (draws, n, C): f's gradient at drawn one-hot vectors, sent back through the softmax.

    As if the draw had been softmax(logits) itself. Biased unless f is linear. Bengio, Léonard and Courville (2013).
    (2.10d)
    """
    each = logits.detach().expand(draws, *logits.shape).clone().requires_grad_()
    z = harden(relax(logits, 1.0, draws, generator))
    return torch.autograd.grad(f(straight_through(z, each.softmax(-1))).sum(), each)[0]


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """Return `hard`, with the gradient of `soft`: both (...)."""
    return hard.detach() + soft - soft.detach()


class Quantised(NamedTuple):
    """Encodings replaced by their nearest codes: numbers (..., n), vectors (..., n, k) with the encoding's gradient.

    The squared distance, summed over the n positions, (...), stands here once with the gradient to the codebook and
    once with that to the encoder.
    """

    index: Tensor
    vectors: Tensor
    distance_of_codes: Tensor
    distance_of_encodings: Tensor


class Codebook(nn.Module):
    """`codes` vectors of `width` numbers; encodings (..., n, width) are replaced by the nearest.

    Van den Oord, Vinyals and Kavukcuoglu (2017), Neural discrete representation learning, equation (3).
    """

    def __init__(self, codes: int, width: int):
        require(codes >= 2 and width >= 1, f"codes = {codes}, width = {width}; at least 2 and 1 are needed")
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(codes, width))

    @torch.no_grad()
    def start_at(self, encodings: Tensor, generator: torch.Generator) -> None:
        """Put the codes on encodings (N, width) picked at random, so that each is the nearest to something."""
        n = len(self.vectors)
        require(len(encodings) >= n, f"{len(encodings)} encodings for {n} codes; at least as many are needed")
        picked = torch.randperm(len(encodings), generator=generator, device=generator.device)[:n]
        self.vectors.copy_(encodings[picked.to(encodings.device)])

    def forward(self, encodings: Tensor) -> Quantised:
        index = torch.cdist(encodings.detach().flatten(0, -2), self.vectors.detach()).argmin(-1)
        index = index.unflatten(0, encodings.shape[:-1])
        nearest = self.vectors[index]
        to_codes = (encodings.detach() - nearest).square().sum((-2, -1))
        to_encodings = (encodings - nearest.detach()).square().sum((-2, -1))
        return Quantised(index, straight_through(nearest, encodings), to_codes, to_encodings)


class VQVAE(nn.Module):
    """An autoencoder with n discrete codes: p(x | codes), and the codes nearest to what the encoder says.

    `encoder` maps (B, D) to (B, n * width), `decoder` (..., n * width) to the likelihood's parameters.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, codebook: Codebook, likelihood):
        super().__init__()
        self.encoder, self.decoder, self.codebook, self.likelihood = encoder, decoder, codebook, likelihood

    def encodings(self, x: Tensor) -> Tensor:
        """Return what the encoder says, (B, n, width): x (B, D)."""
        return self.encoder(x).unflatten(-1, (-1, self.codebook.vectors.shape[1]))

    def codes(self, x: Tensor) -> Tensor:
        """Return the numbers of the codes, (B, n): x (B, D)."""
        return self.codebook(self.encodings(x)).index

    def decode(self, codes: Tensor) -> Tensor:
        """Return the likelihood's parameters: numbers of codes (..., n)."""
        return self.decoder(self.codebook.vectors[codes].flatten(-2))

    def loss(self, x: Tensor, commitment: float = 0.25) -> Tensor:
        """Return the loss, a scalar: mean over images x (B, D) of -log p(x | codes) and the two distances.

        One moves the codes to the encodings, the other, times `commitment`, the encodings to the codes.
        (2.10g), (2.10h)
        """
        require(commitment >= 0, f"commitment = {commitment}; it may not be negative")
        found = self.codebook(self.encodings(x))
        log_likelihood = self.likelihood.log_prob(self.decoder(found.vectors.flatten(-2)), x)
        return (found.distance_of_codes + commitment * found.distance_of_encodings - log_likelihood).mean()


def vq_vae(
    pixels: int, positions: int = 4, codes: int = 32, width: int = 8, hidden: tuple[int, ...] = (128, 64)
) -> VQVAE:
    """Return a VQ-VAE of binary images: an MLP on either side of `positions` codes, each one of `codes` vectors."""
    require(positions >= 1, f"positions = {positions}; at least 1 is needed")
    encoder = MLP([pixels, *hidden, positions * width])
    decoder = MLP([positions * width, *reversed(hidden), pixels])
    return VQVAE(encoder, decoder, Codebook(codes, width), Bernoulli())


def code_frequencies(index: Tensor, codes: int, extra: float = 0.5) -> Tensor:
    """Return how often each of `codes` codes stands at each position, (n, codes): index (N, n). Rows sum to 1.

    `extra` is added to each count, so that a code not seen yet is not impossible.
    """
    counts = F.one_hot(index, codes).sum(0) + extra  # (n, codes)
    return counts / counts.sum(-1, keepdim=True)


class CodePrior(nn.Module):
    """p(k_1) p(k_2 | k_1) ... p(k_n | k_1..k_{n-1}) of n codes: an MLP is told the position and the codes before it."""

    def __init__(self, positions: int, codes: int, hidden: int = 64):
        super().__init__()
        self.positions, self.codes = positions, codes
        self.network = MLP([positions + positions * codes, hidden, codes])

    def logits(self, index: Tensor) -> Tensor:
        """Return the logits of each position's code given those before it, (B, n, codes): index (B, n)."""
        n = self.positions
        weight = self.network[0].weight
        before = torch.ones(n, n).tril(-1).to(weight)
        one_hot = F.one_hot(index, self.codes).to(weight)  # (B, n, codes)
        seen = (before[..., None] * one_hot[:, None]).flatten(-2)  # (B, n, n * codes): row i sees the codes before i
        position = torch.eye(n).to(weight).expand(len(index), n, n)
        return self.network(torch.cat([position, seen], dim=-1))

    def log_prob(self, index: Tensor) -> Tensor:
        """Return log p(k_1..k_n), (B,): index (B, n)."""
        return self.logits(index).log_softmax(-1).gather(-1, index[..., None])[..., 0].sum(-1)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw the numbers of codes (n, positions), one position after the other."""
        index = torch.zeros(n, self.positions, dtype=torch.long, device=self.network[0].weight.device)
        for i in range(self.positions):
            logits = self.logits(index)[:, i]
            index[:, i] = (logits + gumbel(*logits.shape, like=logits, generator=generator)).argmax(-1)
        return index

"""Lecture 4's flows of images: squeeze and split, dequantisation, the logit, and every Jacobian in a ledger.

Images enter as vectors (B, D) of floats in [0, 1], grey level / (levels - 1), as in lectures 2 and 3.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_utils.data import normal, uniform
from course_utils.errors import require
from course_utils.flow_couplings import Coupling, MixtureCDF
from course_utils.flows import ActNorm, Composition, Flow, Inverse, Layer, LULinear

# 4.7 Layers that move pixels -----------------------------------------------------------------------------------------


class Squeeze(Layer):
    """Each 2 × 2 square of pixels becomes four channels, (B, C, H, W) -> (B, 4C, H/2, W/2): a permutation."""

    def forward(self, x, context=None):
        height, width = x.shape[-2:]
        even = height % 2 == 0 and width % 2 == 0
        require(even, f"Squeeze got images of {height} × {width} pixels; both sides must be even: pad or resize them")
        return F.pixel_unshuffle(x, 2), x.new_zeros(len(x))

    def inverse(self, z, context=None):
        require(z.shape[1] % 4 == 0, f"Squeeze's inverse got {z.shape[1]} channels; a multiple of 4 is needed")
        return F.pixel_shuffle(z, 2), z.new_zeros(len(z))


class Flatten(Layer):
    """Images of one shape (C, H, W) as vectors, (B, C, H, W) -> (B, D)."""

    def __init__(self, shape: tuple[int, int, int]):
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x, context=None):
        given = tuple(x.shape[1:])
        require(given == self.shape, f"images have shape {given}; allowed here: {self.shape}")
        return x.flatten(1), x.new_zeros(len(x))

    def inverse(self, z, context=None):
        return z.unflatten(1, self.shape), z.new_zeros(len(z))


class Split(Layer):
    """Multi-scale: the second half of the channels is done, the first goes on through `inner`, (B, C, H, W) -> (B, D).

    `shape` is that of x, (C, H, W); `inner` ends in vectors. Dinh et al. (2017), section 3.6.
    """

    def __init__(self, inner: Layer, shape: tuple[int, int, int]):
        channels, height, width = shape
        require(channels % 2 == 0, f"Split got {channels} channels; an even number is needed")
        super().__init__()
        self.inner, self.half = inner, (channels // 2, height, width)

    def forward(self, x, context=None):
        on, done = x.chunk(2, 1)
        z, log_det = self.inner(on, context)
        return torch.cat([z, done.flatten(1)], 1), log_det

    def inverse(self, z, context=None):
        z, done = z.chunk(2, 1)
        on, log_det = self.inner.inverse(z, context)
        return torch.cat([on, done.unflatten(1, self.half)], 1), log_det


class ConvNet(nn.Module):
    """A coupling's network, (B, n_in, side, side) -> (B, n_out, side, side): residual 3×3 convolutions, zero at first.

    It knows where it is by a learned map that is added. It trains in bfloat16 on CUDA; its result is in x's precision.
    """

    def __init__(self, n_in: int, n_out: int, side: int, width: int, depth: int = 2):
        super().__init__()
        self.first = nn.Conv2d(n_in, width, 3, padding=1)
        self.place = nn.Parameter(torch.zeros(width, side, side))
        self.hidden = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(depth))
        self.last = nn.Conv2d(width, n_out, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cuda", torch.bfloat16, enabled=x.is_cuda and self.training):
            h = self.first(x.contiguous(memory_format=torch.channels_last)) + self.place
            for conv in self.hidden:
                h = h + conv(F.silu(h))
            return self.last(F.silu(h)).to(x.dtype)


def checkerboard(channels: int, height: int, width: int) -> Tensor:
    """Return the mask (C, H, W) of a ``MaskedCoupling`` that is True where row + column is even."""
    even = (torch.arange(height)[:, None] + torch.arange(width)) % 2 == 0
    return even.expand(channels, height, width).clone()


# 4.10 From grey levels to real numbers -------------------------------------------------------------------------------


class Logit(Layer):
    """z = logit(alpha + (1 - 2 alpha) x) of pixels in [0, 1], which makes them unbounded.

    Raises ``ValueError`` for x outside [0, 1]. (4.10c)
    """

    def __init__(self, alpha: float = 1e-5):
        require(0 < alpha < 0.5, f"alpha = {alpha}; it lies between 0 and 1/2, such as 1e-5")
        super().__init__()
        self.alpha = alpha

    def forward(self, x, context=None):
        low, high = (v.item() for v in x.aminmax())
        require(0 <= low <= high <= 1, f"Logit got values from {low:.4g} to {high:.4g}; allowed are those in [0, 1]")
        z = (self.alpha + (1 - 2 * self.alpha) * x).logit()
        return z, -self._log_slope(z)

    def inverse(self, z, context=None):
        return ((z.sigmoid() - self.alpha) / (1 - 2 * self.alpha)).clamp(0, 1), self._log_slope(z)

    def _log_slope(self, z: Tensor) -> Tensor:
        """Return the log-determinant of the inverse, (B,)."""
        return (F.logsigmoid(z) + F.logsigmoid(-z) - math.log1p(-2 * self.alpha)).flatten(1).sum(1)


class Sigmoid(Layer):
    """z = sigmoid(x): what noise in (0, 1) ends with."""

    def forward(self, x, context=None):
        return x.sigmoid(), (F.logsigmoid(x) + F.logsigmoid(-x)).flatten(1).sum(1)

    def inverse(self, z, context=None):
        x = z.logit()
        return x, -(F.logsigmoid(x) + F.logsigmoid(-x)).flatten(1).sum(1)


class Ledger(NamedTuple):
    """The lines of log p(x) >= log p(z) + ... - log q(u | x) in nats, each (B,): one for each map between x and z."""

    base: Tensor  # 1. log N(z; 0, I)
    layers: Tensor  # 2. log |det| of all trained layers
    logit: Tensor  # 3. log |det| of the logit
    scale: Tensor  # 4. -D log levels: from [0, levels) to [0, 1)
    noise: Tensor  # 5. -log q(u | x) of the noise that fills the steps: 0 if it is uniform

    @property
    def total(self) -> Tensor:
        """The bound of log p(x) in nats, (B,). (4.10d)"""
        return sum(self)


def bits_per_dim(log_prob: Tensor, dims: int) -> Tensor:
    """Return -log p / (D log 2), of log p in nats. (4.10e)"""
    return -log_prob / (dims * math.log(2))


class ImageFlow(nn.Module):
    """A flow of grey-level images, with uniform noise on the levels and, if there is one, with noise from a flow.

    `layers` map (B, 1, side, side) of logits to vectors (B, D); `noise` is the flow q(u | x) on (0, 1), its context
    the images in [0, 1], squeezed, (B, 4, side/2, side/2).
    """

    def __init__(self, layers: list[Layer], side: int, levels: int = 256, noise: Flow | None = None):
        super().__init__()
        self.side, self.dims, self.levels = side, side**2, levels
        self.logit, self.flow, self.noise = Logit(), Flow(layers, self.dims), noise

    def dequantise(self, x: Tensor, generator: torch.Generator, variational: bool = True) -> tuple[Tensor, Tensor]:
        """Return (level + u) / levels, (B, 1, side, side), and log q(u | x), (B,), of images x (B, D)."""
        x = x.view(len(x), 1, self.side, self.side)
        if variational and self.noise is not None:
            u, log_q = self.noise.rsample(len(x), generator, F.pixel_unshuffle(x, 2))
        else:
            u, log_q = uniform(*x.shape, generator=generator, like=x), x.new_zeros(len(x))
        return ((x * (self.levels - 1)).round() + u) / self.levels, log_q

    def ledger(self, x: Tensor, generator: torch.Generator, variational: bool = True) -> Ledger:
        """Return the lines of the bound of log p(x) for images x (B, D) in [0, 1], with noise from the generator."""
        y, log_q = self.dequantise(x, generator, variational)
        y, logit = self.logit(y)
        base, layers = self.flow.terms(y)
        scale = torch.full_like(base, -self.dims * math.log(self.levels))
        return Ledger(base, layers, logit, scale, -log_q)

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Return the images (n, D) in [0, 1] of noise z (n, D): down to the level below."""
        y, _ = self.flow.transform.inverse(z)
        x, _ = self.logit.inverse(y)
        return ((x * self.levels).floor().clamp(max=self.levels - 1) / (self.levels - 1)).flatten(1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw n images, (n, D) in [0, 1]."""
        return self.decode(normal(n, self.dims, generator=generator, like=next(self.parameters())))

    @torch.no_grad()
    def round_trip(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return the largest error of x -> z -> x, (), of dequantised images in [0, 1]; x is (B, D)."""
        y, _ = self.dequantise(x, generator)
        back, _ = self.logit.inverse(self.flow.transform.inverse(self.flow.transform(self.logit(y)[0])[0])[0])
        return (back - y).abs().max()


def negative_log_prob(model: ImageFlow, x: Tensor, generator: torch.Generator) -> Tensor:
    """Return minus the bound of log p(x), mean over images x (B, D), in bits per dimension: what is minimised."""
    return bits_per_dim(model.ledger(x, generator).total, model.dims).mean()


@torch.no_grad()
def evaluate_bits(
    model: ImageFlow, x: Tensor, generator: torch.Generator, k: int = 1, variational: bool = True, batch: int = 250
) -> Tensor:
    """Return bits per dimension of each image x (N, D), (N,): the bound of log p(x) by k importance samples of noise.

    It falls with k towards -log2 P(x) / D, in expectation. (4.10f)
    """
    require(k >= 1, f"k = {k}; at least 1 sample is needed")
    parts = []
    for part in x.split(batch):
        bounds = torch.stack([model.ledger(part, generator, variational).total for _ in range(k)])  # (k, B)
        parts.append(bounds.logsumexp(0) - math.log(k))
    return bits_per_dim(torch.cat(parts), model.dims)


def blocks(n: int, channels: int, side: int, width: int, components: int) -> list[Layer]:
    """Return n times actnorm, 1×1 convolution, and a coupling that moves the second half of the channels."""
    layers, half = [], channels // 2
    for _ in range(n):
        transform = MixtureCDF(components)
        network = ConvNet(half, half * transform.n, side, width)
        layers += [ActNorm(channels), LULinear(channels), Coupling(transform, network)]
    return layers


def noise_flow(side: int, width: int, components: int) -> Flow:
    """Return q(u | x) of the noise for side × side images: four couplings that are fast where it is drawn."""
    half, layers = side // 2, [Inverse(Sigmoid()), Squeeze()]
    for i in range(4):
        transform = MixtureCDF(components)
        network = ConvNet(2 + 4, 2 * transform.n, half, width, depth=1)
        layers.append(Inverse(Coupling(transform, network, swap=i % 2 == 1)))
    return Flow([*layers, Flatten((4, half, half))], side**2)


def multi_scale(
    side: int = 28, levels: int = 256, widths: tuple[int, int] = (64, 96), components: int = 4, noise_width: int = 32
) -> ImageFlow:
    """Return a flow of images in two scales with learned noise; `side` is a multiple of 4, else ``ValueError``.

    Four blocks at side/2, four at side/4, half of the channels split off, two more blocks.
    """
    require(side >= 4 and side % 4 == 0, f"side = {side}; a multiple of 4 is needed, such as 8 or 28")
    half, quarter = side // 2, side // 4
    shape = (16, quarter, quarter)
    inner = Composition([*blocks(2, 8, quarter, widths[1], components), Flatten((8, quarter, quarter))])
    layers = [Squeeze(), *blocks(4, 4, half, widths[0], components)]
    layers += [Squeeze(), *blocks(4, 16, quarter, widths[1], components), Split(inner, shape)]
    return ImageFlow(layers, side, levels, noise_flow(side, noise_width, components))

"""Lecture 4: normalizing flows, invertible layers with a log-determinant, their composition, density and training.

``forward`` is the inference direction, data x to noise z; ``inverse`` is the sampling direction, z to x. Each returns
log |det| of *its own* Jacobian, (B,), so that of the inverse is minus that of forward at the same pair. Vectors are
(B, D), images (B, C, H, W). What a layer may depend on besides x is its `context`, (B, C', ...). All in nats.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_utils.data import check_draw, normal
from course_utils.densities import gaussian_log_prob
from course_utils.errors import require

# 4.3 The interface: layers, their composition, and the density that they make of a Gaussian ---------------------------


class Layer(nn.Module):
    """An invertible map: ``forward(x, context)`` gives z and log |det dz/dx|, (B,); ``inverse`` x and log |det dx/dz|.

    The shape of z may be another than that of x, with as many numbers in it.
    """

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


class Composition(Layer):
    """Layers one after another: the log-determinants add up. (4.3a)

    Raises ``FloatingPointError`` naming the first layer that leaves a state or a log-determinant that is not finite.
    """

    def __init__(self, layers: Sequence[Layer]):
        require(len(layers) >= 1, "a composition of 0 layers; at least 1 is needed")
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x, context=None):
        return self._pass(list(self.layers), "forward", x, context)

    def inverse(self, z, context=None):
        return self._pass(list(self.layers)[::-1], "inverse", z, context)

    def _pass(self, layers: list[Layer], direction: str, start: Tensor, context: Tensor | None):
        x, total = start, start.new_zeros(len(start))
        for layer in layers:
            x, log_det = getattr(layer, direction)(x, context)
            total = total + log_det
        if not finite(x, total):
            self._blame(layers, direction, start, context)
        return x, total

    @torch.no_grad()
    def _blame(self, layers: list[Layer], direction: str, x: Tensor, context: Tensor | None) -> None:
        """Go the same way again and name the layer that leaves the numbers."""
        require(bool(x.isfinite().all()), "x has values that are not finite; remove them from the data")
        names = {layer: f"layer {i} of {len(layers)}, {layer}" for i, layer in enumerate(self.layers)}
        for layer in layers:
            x, log_det = getattr(layer, direction)(x, context)
            if not finite(x, log_det):
                raise FloatingPointError(
                    f"{names[layer]}: its {direction} leaves a state or a log-determinant that is not finite; "
                    "bound its log-scale, clip the gradient or lower the learning rate"
                )


def finite(x: Tensor, log_det: Tensor) -> bool:
    """Tell whether states x (B, ...) and log-determinants (B,) are all finite."""
    return bool((x.flatten(1).sum(1) + log_det).isfinite().all())


class Inverse(Layer):
    """A layer with its directions exchanged, such as what is to be fast where samples are drawn."""

    def __init__(self, layer: Layer):
        super().__init__()
        self.layer = layer

    def forward(self, x, context=None):
        return self.layer.inverse(x, context)

    def inverse(self, z, context=None):
        return self.layer(z, context)


class Flow(nn.Module):
    """The density of those x, (B, ...), whose images z = f(x), (B, D), under the layers are standard normal.

    It has the method names of ``torch.distributions``.
    """

    def __init__(self, layers: Sequence[Layer], dim: int):
        require(dim >= 1, f"dim = {dim}; at least 1 is needed")
        super().__init__()
        self.transform, self.dim = Composition(layers), dim

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return log p(x) = log N(f(x); 0, I) + log |det df/dx| in nats: x (B, ...) gives (B,). (4.2b)"""
        return sum(self.terms(x, context))

    def terms(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the two terms of log p(x), (B,) each: log N(f(x); 0, I) and the log-determinant."""
        z, log_det = self.transform(x, context)
        return normal_log_prob(z), log_det

    def rsample(self, n: int, generator: torch.Generator, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Draw x = f⁻¹(z), (n, ...), and return it with log p(x), (n,); gradients reach the parameters through both.

        The log-determinant of the sampling direction has the opposite sign. (4.3b)
        """
        check_draw(generator, n=n)
        z = normal(n, self.dim, generator=generator, like=next(self.parameters()))
        x, log_det = self.transform.inverse(z, context)
        return x, normal_log_prob(z) - log_det

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator, context: Tensor | None = None) -> Tensor:
        """Draw n examples, (n, ...)."""
        return self.rsample(n, generator, context)[0]


def normal_log_prob(z: Tensor) -> Tensor:
    """Return log N(z; 0, I) in nats: z (B, ...) gives (B,)."""
    return gaussian_log_prob(z, 0.0, 1.0).flatten(1).sum(1)


# 4.8 Linear flows ----------------------------------------------------------------------------------------------------


def spread(v: Tensor, x: Tensor) -> Tensor:
    """Return numbers per channel v (C,) in a shape that broadcasts with x (B, C, ...)."""
    return v.view(-1, *[1] * (x.ndim - 2))


def positions(x: Tensor) -> int:
    """Return the number of positions that share a channel: height times width of images (B, C, H, W), 1 of vectors."""
    return x[0, 0].numel()


class ActNorm(Layer):
    """z = exp(s) (x + b), a scale and a shift for each channel of vectors or images; Kingma and Dhariwal (2018).

    The first batch that it sees is made standardised: s and b start there, and are trained from then on. (4.8a)
    """

    def __init__(self, channels: int):
        super().__init__()
        self.log_scale, self.shift = nn.Parameter(torch.zeros(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("started", torch.tensor(False))

    def forward(self, x, context=None):
        if not self.started:
            self.start(x)
        z = spread(self.log_scale.exp(), x) * (x + spread(self.shift, x))
        return z, self._log_det(x)

    def inverse(self, z, context=None):
        return spread((-self.log_scale).exp(), z) * z - spread(self.shift, z), -self._log_det(z)

    def _log_det(self, x: Tensor) -> Tensor:
        return (positions(x) * self.log_scale.sum()).expand(len(x))

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Make the channels of this batch have mean 0 and standard deviation 1."""
        require(len(x) > 1, f"ActNorm starts from a batch of {len(x)}; at least 2 examples are needed")
        channels = x.transpose(0, 1).flatten(1)  # (C, B * positions)
        self.shift.copy_(-channels.mean(1))
        self.log_scale.copy_(-channels.std(1).clamp(min=1e-3).log())
        self.started.fill_(True)


class LULinear(Layer):
    """z = P L U x for each vector, or at each position of an image: Glow's invertible 1×1 convolution.

    P is a fixed permutation, L unit lower triangular, U upper triangular with a diagonal of fixed signs that never
    vanishes. log |det| = the sum of log |U_ii|, times height × width. It starts at a random rotation. (4.8b)
    """

    def __init__(self, channels: int):
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels)).Q
        p, lower, upper = torch.linalg.lu(rotation)
        self.lower, self.upper = nn.Parameter(lower.tril(-1)), nn.Parameter(upper.triu(1))
        self.log_diagonal = nn.Parameter(upper.diagonal().abs().log())
        self.register_buffer("sign", upper.diagonal().sign())
        self.register_buffer("order", p.argmax(1))  # row i of P has its 1 in this column

    def factors(self) -> tuple[Tensor, Tensor]:
        """Return L and U, (C, C) each."""
        one = torch.eye(len(self.sign), dtype=self.lower.dtype, device=self.lower.device)
        return self.lower.tril(-1) + one, self.upper.triu(1) + torch.diag(self.sign * self.log_diagonal.exp())

    def matrix(self) -> Tensor:
        """Return P L U, (C, C)."""
        lower, upper = self.factors()
        return (lower @ upper)[self.order]

    def forward(self, x, context=None):
        return torch.einsum("ij,bj...->bi...", self.matrix(), x), self._log_det(x)

    def inverse(self, z, context=None):
        lower, upper = self.factors()
        y = z.flatten(2) if z.ndim > 2 else z[..., None]  # (B, C, positions)
        y = torch.empty_like(y).index_copy(1, self.order, y)  # P⁻¹
        y = torch.linalg.solve_triangular(lower, y, upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(upper, y, upper=True).view(z.shape), -self._log_det(z)

    def _log_det(self, x: Tensor) -> Tensor:
        return (positions(x) * self.log_diagonal.sum()).expand(len(x))


# 4.7 Maps of one number, and the coupling that applies them ----------------------------------------------------------


class Transform:
    """An increasing map of each number, whose parameters a network gives: x (B, ...) and params (B, P, ...).

    ``forward`` and ``inverse`` return the result and the log-derivative, both shaped like x. `n` is P.
    """

    n: int

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def inverse(self, z: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


def bounded(s: Tensor, bound: float) -> Tensor:
    """Return a smooth clamp of log-scales to (-bound, bound), with slope 1 at 0."""
    return bound * (s / bound).tanh()


class MixtureCDF(Transform):
    """z = exp(a) y + b of y = logit F(x) + x/20, F the cumulative distribution of a mixture of K logistics.

    All is computed from log F and log(1 - F), so the tails stay exact. The small multiple of x keeps the slope above
    1/20, so that the inverse, by bisection, is well conditioned where F is flat. Ho et al. (2019), Flow++. (4.10g)
    """

    SLOPE = 0.05

    def __init__(self, components: int = 4, bound: float = 3.0):
        require(components >= 1, f"components = {components}; at least 1 is needed")
        self.components, self.bound, self.n = components, bound, 3 * components + 2

    def _split(self, params: Tensor):
        """Return log-weights, means and log-scales (B, K, ...), then a and b (B, ...)."""
        weights, means, scales, affine = params.split([self.components] * 3 + [2], 1)
        apart = torch.linspace(-2, 2, self.components, dtype=params.dtype, device=params.device)
        means = means + spread(apart, params)
        scales = bounded(scales, self.bound)
        return weights.log_softmax(1), means, scales, bounded(affine[:, 0], self.bound), affine[:, 1]

    def _mixture(self, x: Tensor, weights: Tensor, means: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
        """Return y and log dy/dx, (B, ...)."""
        u = (x[:, None] - means) * (-scales).exp()  # (B, K, ...)
        below = F.logsigmoid(u)
        above = below - u  # log(1 - sigmoid(u))
        log_cdf, log_sf = (weights + below).logsumexp(1), (weights + above).logsumexp(1)
        log_pdf = (weights + below + above - scales).logsumexp(1)
        slope = (log_pdf - log_cdf - log_sf).exp() + self.SLOPE
        return log_cdf - log_sf + self.SLOPE * x, slope.log()

    def forward(self, x, params):
        *mixture, a, b = self._split(params)
        y, log_slope = self._mixture(x, *mixture)
        return y * a.exp() + b, log_slope + a

    @torch.no_grad()
    def inverse(self, z, params, iterations: int = 40):
        *mixture, a, b = self._split(params)
        y = (z - b) * (-a).exp()
        quantiles = mixture[1] + mixture[2].exp() * y[:, None]  # of each component: that of the mixture is between
        low, high = quantiles.amin(1).clamp(max=0), quantiles.amax(1).clamp(min=0)
        for _ in range(iterations):
            middle = (low + high) / 2
            right = self._mixture(middle, *mixture)[0] < y
            low, high = torch.where(right, middle, low), torch.where(right, high, middle)
        x = (low + high) / 2
        return x, -self._mixture(x, *mixture)[1] - a


class Coupling(Layer):
    """The first half of the channels gives, through a network, the parameters that transform the second; or `swap`.

    The Jacobian is triangular and the half that stays makes the inverse exact. `network` maps the half that stays,
    and the context's channels behind it, to (B, channels of the other half * transform.n, ...). Dinh et al. (2017).
    (4.7b)
    """

    def __init__(self, transform: Transform, network: nn.Module, swap: bool = False):
        super().__init__()
        self.transform, self.network, self.swap = transform, network, swap

    def forward(self, x, context=None):
        return self._apply_half(self.transform.forward, x, context)

    def inverse(self, z, context=None):
        return self._apply_half(self.transform.inverse, z, context)

    def _apply_half(self, direction, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        halves = x.chunk(2, 1)
        stays, moves = halves[::-1] if self.swap else halves
        known = stays if context is None else torch.cat([stays, context], 1)
        params = self.network(known).unflatten(1, (self.transform.n, moves.shape[1]))
        moved, log_slope = direction(moves, params)
        parts = (moved, stays) if self.swap else (stays, moved)
        return torch.cat(parts, 1), log_slope.flatten(1).sum(1)

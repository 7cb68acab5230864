"""Lecture 4's couplings and autoregressive flows: maps of one number, and the networks that give their parameters.

A coupling lets one half of the channels move the other; an autoregressive flow lets all earlier numbers move each.
Vectors are (B, D), images (B, C, H, W). All in nats.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_utils.data import uniform
from course_utils.errors import require
from course_utils.flows import ElementwiseAffine, Flow, Inverse, Layer, LULinear, Permutation, root, spread
from course_utils.nn import MLP

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
    """Return a smooth clamp of log-scales to (-bound, bound), with slope 1 at 0; ``math.inf`` clamps nothing."""
    if bound == math.inf:
        return s
    b = constant(bound, s.dtype, s.device)
    return b * (s / b).tanh()


@lru_cache
@torch.inference_mode(False)
def constant(value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a number as a tensor (), made once: a product with a Python number makes one each time, at twice the cost.

    Outside of inference mode, in which it could serve no training later.
    """
    return torch.tensor(value, dtype=dtype, device=device)


class Additive(Transform):
    """z = x + t: volume is preserved. Dinh, Krueger and Bengio (2015), NICE. (4.7a)"""

    n = 1

    def forward(self, x, params):
        return x + params[:, 0], torch.zeros_like(x)

    def inverse(self, z, params):
        return z - params[:, 0], torch.zeros_like(z)


class Affine(Transform):
    """z = exp(s) x + t, with |s| < bound; Dinh, Sohl-Dickstein and Bengio (2017), RealNVP. (4.7a)"""

    n = 2

    def __init__(self, bound: float = 3.0):
        require(bound > 0, f"bound = {bound}; it must be positive, such as 3, or math.inf for none")
        self.bound = bound

    def forward(self, x, params):
        s, t = params.unbind(1)
        s = bounded(s, self.bound)
        return torch.addcmul(t, s.exp(), x), s

    def inverse(self, z, params):
        s, t = params.unbind(1)
        minus_s = -bounded(s, self.bound)
        return (z - t) * minus_s.exp(), minus_s


class MixtureCDF(Transform):
    """z = exp(a) y + b of y = logit F(x) + x/20, F the cumulative distribution of a mixture of K logistics.

    All is computed from log F and log(1 - F), so the tails stay exact. The small multiple of x keeps the slope above
    1/20, so that the inverse is well conditioned where F is flat. Ho et al. (2019), Flow++. (4.11a)
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

    def inverse(self, z, params):
        *mixture, a, b = self._split(params)
        y = (z - b) * (-a).exp()
        quantiles = mixture[1] + mixture[2].exp() * y[:, None]  # of each component: that of the mixture is between
        x = root(
            lambda x: self._mixture(x, *mixture), y, quantiles.amin(1).clamp(max=0), quantiles.amax(1).clamp(min=0)
        )
        return x, -self._mixture(x, *mixture)[1] - a


class Spline(Transform):
    """Monotone rational-quadratic splines of `bins` pieces on [-limit, limit], the identity outside. (4.7c)

    The parameters are bin widths, heights and slopes at the inner knots; at 0 all are equal and the map is the
    identity. Durkan et al. (2019), equations 4 to 8. Raises ``ValueError`` for fewer than 2 bins, or more than 1,000.
    """

    LEAST = 1e-3  # of a bin's share of the width or height, and of a slope

    def __init__(self, bins: int = 8, limit: float = 4.0):
        require(2 <= bins < 1 / self.LEAST, f"bins = {bins}; allowed: 2 to {round(1 / self.LEAST) - 1}")
        require(limit > 0, f"limit = {limit}; it must be positive, such as 4")
        self.bins, self.limit, self.n = bins, limit, 3 * bins - 1

    def _knots(self, shares: Tensor) -> Tensor:
        """Return knots from -limit to limit, (..., K + 1), of logits of their distances, (..., K)."""
        steps = self.LEAST + (1 - self.bins * self.LEAST) * shares.softmax(-1)
        inner = 2 * self.limit * steps.cumsum(-1)[..., :-1] - self.limit
        return F.pad(F.pad(inner, (1, 0), value=-self.limit), (0, 1), value=self.limit)

    def _bin(self, v: Tensor, params: Tensor, side: int) -> tuple[Tensor, ...]:
        """Return x, y, slope at the left of the bins that hold v, then at the right, (B, ...) each.

        `side`: 0 if v is along x, 1 if along y.
        """
        raw = params.movedim(1, -1)
        knots = self._knots(torch.stack(raw[..., : 2 * self.bins].chunk(2, -1)))  # (2, B, ..., K + 1): x and y
        slopes = self.LEAST + F.softplus(raw[..., 2 * self.bins :] + math.log(math.expm1(1 - self.LEAST)))  # 1 at 0
        table = torch.cat([knots, F.pad(slopes, (1, 1), value=1.0)[None]])  # (3, B, ..., K + 1)
        left = torch.searchsorted(knots[side, ..., 1:-1].detach().contiguous(), v.detach()[..., None])  # (B, ..., 1)
        ends = torch.cat([left, left + 1], -1).expand(3, *v.shape, 2)
        return table.gather(-1, ends).movedim(-1, 0).flatten(0, 1).unbind()

    def forward(self, x, params):
        inside = x.abs() < self.limit
        v = torch.where(inside, x, 0.0)
        x0, y0, d0, x1, y1, d1 = self._bin(v, params, 0)
        width, height = x1 - x0, y1 - y0
        xi = (v - x0) / width
        mean, cross = height / width, xi * (1 - xi)
        below = mean + (d0 + d1 - 2 * mean) * cross
        z = y0 + height * (mean * xi**2 + d0 * cross) / below
        log_slope = self._log_slope(xi, mean, cross, below, d0, d1)
        return torch.where(inside, z, x), torch.where(inside, log_slope, 0.0)

    def inverse(self, z, params):
        inside = z.abs() < self.limit
        v = torch.where(inside, z, 0.0)
        x0, y0, d0, x1, y1, d1 = self._bin(v, params, 1)
        width, height = x1 - x0, y1 - y0
        mean, rise = height / width, v - y0
        bend = rise * (d0 + d1 - 2 * mean)
        a, b, c = height * (mean - d0) + bend, height * d0 - bend, -mean * rise
        xi = 2 * c / (-b - (b**2 - 4 * a * c).clamp(min=0).sqrt())
        cross = xi * (1 - xi)
        below = mean + (d0 + d1 - 2 * mean) * cross
        log_slope = self._log_slope(xi, mean, cross, below, d0, d1)
        return torch.where(inside, x0 + xi * width, z), torch.where(inside, -log_slope, 0.0)

    @staticmethod
    def _log_slope(xi: Tensor, mean: Tensor, cross: Tensor, below: Tensor, d0: Tensor, d1: Tensor) -> Tensor:
        return 2 * mean.log() + (d1 * xi**2 + 2 * mean * cross + d0 * (1 - xi) ** 2).log() - 2 * below.log()


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
        if len(halves) < 2:
            raise ValueError(f"x {tuple(x.shape)} has one channel; a coupling needs two halves")
        stays, moves = halves[::-1] if self.swap else halves
        known = stays if context is None else torch.cat([stays, context], 1)
        params = self.network(known).view(len(x), self.transform.n, *moves.shape[1:])
        moved, log_slope = direction(moves, params)
        parts = (moved, stays) if self.swap else (stays, moved)
        return torch.cat(parts, 1), log_slope.flatten(1).sum(1)


class MaskedCoupling(Layer):
    """A coupling by any mask of x's shape (D,) or (C, H, W): where it is True x stays, and moves the rest.

    `network` maps x, with zeros in the place of what moves, and the context's channels behind it, to
    (B, channels of x * transform.n, ...). Raises ``ValueError`` for a mask that is not of booleans, or all alike.
    """

    def __init__(self, mask: Tensor, transform: Transform, network: nn.Module):
        require(mask.dtype == torch.bool, f"mask has dtype {mask.dtype}; torch.bool is needed: use mask.bool()")
        mixed = bool(mask.any()) and not bool(mask.all())
        require(mixed, f"mask {tuple(mask.shape)} is {bool(mask.any())} everywhere; some must stay and some must move")
        super().__init__()
        self.transform, self.network = transform, network
        self.register_buffer("mask", mask)

    def forward(self, x, context=None):
        return self._apply_masked(self.transform.forward, x, context)

    def inverse(self, z, context=None):
        return self._apply_masked(self.transform.inverse, z, context)

    def _apply_masked(self, direction, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        given, needed = tuple(x.shape[1:]), tuple(self.mask.shape)
        require(given == needed, f"x has the shape {given}, its mask {needed}; they must be the same")
        stays = torch.where(self.mask, x, 0.0)
        known = stays if context is None else torch.cat([stays, context], 1)
        params = self.network(known).unflatten(1, (self.transform.n, x.shape[1]))
        moved, log_slope = direction(x, params)
        return torch.where(self.mask, x, moved), torch.where(self.mask, 0.0, log_slope).flatten(1).sum(1)


def mlp(n_in: int, n_out: int, hidden: Sequence[int]) -> MLP:
    """Return a coupling's network of vectors; its last layer is 0 at first, so that nearly nothing moves."""
    network = MLP([n_in, *hidden, n_out])
    nn.init.zeros_(network[-1].weight)
    nn.init.zeros_(network[-1].bias)
    return network


def coupling_flow(
    dim: int,
    transform: Transform,
    layers: int = 8,
    hidden: Sequence[int] = (64, 64),
    context: int = 0,
    mix: bool = False,
) -> Flow:
    """Return a flow of vectors (B, dim) whose couplings move the two halves in turn; `mix`: a linear layer between.

    `context` is the number of values that the networks see besides. Raises ``ValueError`` for dim < 2 or layers < 1.
    """
    require(dim >= 2 and layers >= 1, f"dim = {dim}, layers = {layers}; couplings need dim >= 2 and layers >= 1")
    parts, halves = [], ((dim + 1) // 2, dim // 2)  # as Tensor.chunk cuts
    for i in range(layers):
        stays, moves = halves[::-1] if i % 2 else halves
        parts.append(Coupling(transform, mlp(stays + context, moves * transform.n, hidden), swap=i % 2 == 1))
        parts += [LULinear(dim)] if mix and i < layers - 1 else []
    return Flow(parts, dim)


def nice(dim: int, layers: int = 8, hidden: Sequence[int] = (64, 64)) -> Flow:
    """Return additive couplings and a scaling at the end, the only layer that changes volumes."""
    flow = coupling_flow(dim, Additive(), layers, hidden)
    return Flow([*flow.transform.layers, ElementwiseAffine(dim)], dim)


def realnvp(dim: int, layers: int = 8, hidden: Sequence[int] = (64, 64), context: int = 0, bound: float = 3.0) -> Flow:
    """Return affine couplings whose log-scales are bounded; `bound` = ``math.inf`` leaves them free."""
    return coupling_flow(dim, Affine(bound), layers, hidden, context)


def spline_flow(
    dim: int, layers: int = 4, hidden: Sequence[int] = (64, 64), context: int = 0, bins: int = 16, limit: float = 4.0
) -> Flow:
    """Return couplings by rational-quadratic splines. Its data should lie within [-limit, limit]."""
    return coupling_flow(dim, Spline(bins, limit), layers, hidden, context)


# 4.1, 4.9 Autoregressive networks and flows ---------------------------------------------------------------------------


class MaskedLinear(nn.Linear):
    """A linear layer some of whose weights are held at 0: mask (out, in)."""

    def __init__(self, mask: Tensor):
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.mask, self.bias)


class MADE(nn.Module):
    """A masked network (B, D) -> (B, n, D): what belongs to x_i depends on x_1 ... x_{i-1} only, and on the context.

    Each hidden unit has a degree, the number of inputs that it may see; Germain et al. (2015). At first it gives 0.
    """

    block = 1

    def __init__(self, dim: int, n: int, hidden: Sequence[int] = (64, 64), context: int = 0):
        require(dim >= 1 and n >= 1, f"dim = {dim}, n = {n}; both must be at least 1")
        require(len(hidden) >= 1, "hidden is empty; at least one hidden layer is needed")
        super().__init__()
        self.n = n
        inputs, least = torch.arange(1, dim + 1), 0 if context or dim == 1 else 1
        below, layers = torch.cat([inputs, torch.zeros(context, dtype=torch.long)]), []
        for width in hidden:
            degrees = least + torch.arange(width) * (dim - least) // width  # least ... D - 1
            layers += [MaskedLinear((degrees[:, None] >= below).float()), nn.SiLU()]
            below = degrees
        layers.append(MaskedLinear((inputs.repeat(n)[:, None] > below).float()))
        nn.init.zeros_(layers[-1].weight)
        nn.init.zeros_(layers[-1].bias)
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        known = x if context is None else torch.cat([x, context], 1)
        return self.layers(known).unflatten(1, (self.n, -1))


class Attention(nn.Module):
    """A residual block of a causal transformer, (B, T, width): attention to what came before, then a small MLP."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = MLP([width, 4 * width, width])

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm_1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, T, d)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm_2(x))


class CausalTransformer(nn.Module):
    """A transformer (B, D) -> (B, n, D) over D / block tokens of `block` numbers: each depends on the tokens before it.

    The tokens are shifted by one, behind the context or a learned first token. Raises ``ValueError`` where `block` does
    not divide D or `heads` not `width`. At first it gives 0.
    """

    def __init__(
        self, dim: int, n: int, block: int = 1, width: int = 64, heads: int = 4, depth: int = 2, context: int = 0
    ):
        require(block >= 1 and dim % block == 0, f"block = {block}; it must divide the dimension, {dim}")
        require(heads >= 1 and width % heads == 0, f"heads = {heads}; it must divide the width, {width}")
        super().__init__()
        self.n, self.block = n, block
        self.enter = nn.Linear(block, width)
        self.first = nn.Linear(max(context, 1), width)
        self.place = nn.Parameter(0.02 * torch.randn(dim // block, width))
        self.blocks = nn.Sequential(*(Attention(width, heads) for _ in range(depth)))
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, n * block))
        nn.init.zeros_(self.leave[1].weight)
        nn.init.zeros_(self.leave[1].bias)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        tokens = self.enter(x.unflatten(1, (-1, self.block)))  # (B, T, width)
        first = self.first(x.new_ones(len(x), 1) if context is None else context)
        shifted = torch.cat([first[:, None], tokens[:, :-1]], 1)
        params = self.leave(self.blocks(shifted + self.place))  # (B, T, n * block)
        return params.unflatten(2, (self.n, self.block)).transpose(1, 2).flatten(2)


class AutoregressiveBernoulli(nn.Module):
    """p(x) = prod_i Bernoulli(x_i; sigmoid(logit_i(x_1 ... x_{i-1}))) of binary vectors (B, D). (4.1a)

    `network` maps (B, D) to logits (B, 1, D), such as ``MADE(D, 1)``. Its likelihood is exact, and it has no latents.
    """

    def __init__(self, network: MADE | CausalTransformer, dim: int):
        super().__init__()
        self.network, self.dim = network, dim

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats, (B,): one pass of the network."""
        return -F.binary_cross_entropy_with_logits(self.network(x)[:, 0], x, reduction="none").sum(1)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw n vectors, (n, D): one pass of the network for each number."""
        u = uniform(n, self.dim, generator=generator, like=next(self.parameters()))
        x = torch.zeros_like(u)
        for i in range(self.dim):
            x[:, i] = (u[:, i] < self.network(x)[:, 0, i].sigmoid()).to(x)
        return x


class Autoregressive(Layer):
    """z_i = T(x_i; parameters from x_1 ... x_{i-1}): one pass of the network forward, D / block passes back. (4.9a)

    `network` is a ``MADE`` or a ``CausalTransformer`` with transform.n outputs for each number. Papamakarios et al.
    (2017); with its directions exchanged it is the flow of Kingma et al. (2016).
    """

    def __init__(self, transform: Transform, network: MADE | CausalTransformer):
        require(
            network.n == transform.n, f"the network gives {network.n} parameters a number; {transform.n} are needed"
        )
        super().__init__()
        self.transform, self.network = transform, network

    def forward(self, x, context=None):
        z, log_slope = self.transform.forward(x, self.network(x, context))
        return z, log_slope.sum(1)

    def inverse(self, z, context=None):
        block, done, total = self.network.block, z[:, :0], z.new_zeros(len(z))
        for i in range(0, z.shape[1], block):
            known = F.pad(done, (0, z.shape[1] - i))
            params = self.network(known, context)[:, :, i : i + block]
            x, log_slope = self.transform.inverse(z[:, i : i + block], params)
            done, total = torch.cat([done, x], 1), total + log_slope.sum(1)
        return done, total


def autoregressive_flow(
    dim: int, transform: Transform, layers: int = 4, hidden: Sequence[int] = (64, 64), context: int = 0
) -> Flow:
    """Return autoregressive layers with masked networks, the order of the numbers reversed between them."""
    return in_turns([Autoregressive(transform, MADE(dim, transform.n, hidden, context)) for _ in range(layers)], dim)


def in_turns(layers: Sequence[Layer], dim: int) -> Flow:
    """Return a flow of these layers, the order of the numbers reversed between them."""
    require(len(layers) >= 1, f"layers = {len(layers)}; at least 1 is needed")
    parts = [part for layer in layers for part in (layer, Permutation(range(dim)[::-1]))]
    return Flow(parts[:-1], dim)


def maf(dim: int, layers: int = 4, hidden: Sequence[int] = (64, 64), context: int = 0) -> Flow:
    """Return a masked autoregressive flow: ``log_prob`` takes one pass, ``sample`` D passes a layer."""
    return autoregressive_flow(dim, Affine(), layers, hidden, context)


def iaf(dim: int, layers: int = 4, hidden: Sequence[int] = (64, 64), context: int = 0) -> Flow:
    """Return an inverse autoregressive flow: ``rsample`` takes one pass, ``log_prob`` of other x D passes a layer."""
    return in_turns([Inverse(Autoregressive(Affine(), MADE(dim, 2, hidden, context))) for _ in range(layers)], dim)


def transformer_flow(dim: int, block: int, layers: int = 4, width: int = 64, depth: int = 2, context: int = 0) -> Flow:
    """Return affine autoregressive layers by causal transformers over tokens of `block` numbers; Zhai et al. (2024)."""
    networks = [CausalTransformer(dim, 2, block, width, depth=depth, context=context) for _ in range(layers)]
    return in_turns([Autoregressive(Affine(), network) for network in networks], dim)

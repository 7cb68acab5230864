"""Lecture 4: normalizing flows, invertible layers with a log-determinant, their composition, density and training.

``forward`` is the inference direction, data x to noise z; ``inverse`` is the sampling direction, z to x. Each returns
log |det| of *its own* Jacobian, (B,), so that of the inverse is minus that of forward at the same pair. Vectors are
(B, D), images (B, C, H, W). What a layer may depend on besides x is its `context`, (B, C', ...). All in nats.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_utils.data import check_draw, normal
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
    return math.isfinite((x.sum() + log_det.sum()).item())  # a sum of finite numbers is finite, all others are not


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
        log_normal, log_det = self.terms(x, context)
        return log_normal + log_det

    def terms(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the two terms of log p(x), (B,) each: log N(f(x); 0, I) and the log-determinant."""
        z, log_det = self.transform(x, context)
        return normal_log_prob(z), log_det

    def rsample(self, n: int, generator: torch.Generator, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Draw x = f⁻¹(z), (n, ...), and return it with log p(x), (n,); gradients reach the parameters through both.

        The log-determinant of the sampling direction has the opposite sign. (4.3b)
        """
        z = self._noise(n, generator)
        x, log_det = self.transform.inverse(z, context)
        return x, normal_log_prob(z) - log_det

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator, context: Tensor | None = None) -> Tensor:
        """Draw n examples, (n, ...)."""
        return self.transform.inverse(self._noise(n, generator), context)[0]

    def _noise(self, n: int, generator: torch.Generator) -> Tensor:
        check_draw(generator, n=n)
        return normal(n, self.dim, generator=generator, like=next(self.parameters(), None))


def normal_log_prob(z: Tensor) -> Tensor:
    """Return log N(z; 0, I) in nats: z (B, ...) gives (B,)."""
    z = z.flatten(1)
    return -0.5 * (z.square().sum(1) + z.shape[1] * math.log(2 * math.pi))


# 4.5 Training: forward and reverse KL, and what both share -----------------------------------------------------------


def negative_log_likelihood(flow: Flow, x: Tensor, context: Tensor | None = None) -> Tensor:
    """Return minus the mean of log q(x) over examples x (B, ...) of p, (): KL(p || q) plus the entropy of p. (4.5a)"""
    return -flow.log_prob(x, context).mean()


def reverse_kl(
    flow: Flow,
    log_target: Callable[[Tensor], Tensor],
    n: int,
    generator: torch.Generator,
    context: Tensor | None = None,
) -> Tensor:
    """Return the mean of log q(x) - log_target(x) over n draws of q, (): KL(q || p) minus log Z.

    `log_target` is the log of an unnormalised density, (n, ...) to (n,). Gradients reach the flow's parameters. (4.5b)
    """
    x, log_prob = flow.rsample(n, generator, context)
    return (log_prob - log_target(x)).mean()


def class_log_probs(flow: Flow, x: Tensor, classes: int) -> Tensor:
    """Return log p(x | y) for every class y, (B, classes): a flow whose context is the one-hot class.

    With log p(y) added, softmax gives p(y | x), which is Bayes' rule. (4.11b)
    """
    one_hot = torch.eye(classes, dtype=x.dtype, device=x.device)
    return torch.stack([flow.log_prob(x, y.expand(len(x), classes)) for y in one_hot], 1)


# 4.6 Layers of rank one and more: planar, radial, Sylvester -----------------------------------------------------------


def root(
    f: Callable[[Tensor], tuple[Tensor, Tensor]], y: Tensor, low: Tensor, high: Tensor, iterations: int = 40
) -> Tensor:
    """Return x with f(x) = y, elementwise, of an increasing f between low and high: Newton's method, kept in a bracket.

    f returns its value and its log-derivative. A step of Newton's that leaves the bracket, or is longer than half of
    the one before, gives way to a bisection. The last step lets gradients pass to y and to what f depends on.
    """
    low, high = low.detach(), high.detach()
    near = 0.1 * torch.finfo(y.dtype).eps ** 0.5  # the step after one so short is exact, its error being the square
    with torch.no_grad():
        x, length = (low + high) / 2, high - low
        done = torch.zeros_like(x, dtype=torch.bool)
        for _ in range(iterations):
            value, log_slope = f(x)
            right = value < y
            low, high = torch.where(right, x, low), torch.where(right, high, x)
            newton = x + (y - value) * (-log_slope).exp()
            good = (low <= newton) & (newton <= high) & ((newton - x).abs() <= length / 2)
            step = torch.where(good, newton, (low + high) / 2) - x
            x, length = x + step.masked_fill(done, 0.0), step.abs()
            done |= good & (length <= near * (1 + x.abs()))
            if done.all():
                break
    value, log_slope = f(x)
    return x - (value - y) * (-log_slope.detach()).exp()


class Planar(Layer):
    """z = x + û tanh(w·x + b), and det = 1 + (1 - tanh²) w·û by the matrix determinant lemma. (4.6a)

    û = u + (m(w·u) - w·u) w / ‖w‖², m(a) = -1 + log(1 + e^a), keeps w·û >= -1, so that the layer is invertible.
    Rezende and Mohamed (2015).
    """

    def __init__(self, dim: int):
        super().__init__()
        self.u, self.w, self.b = (nn.Parameter(torch.randn(n) / math.sqrt(dim)) for n in (dim, dim, 1))

    def u_hat(self) -> Tensor:
        """Return û, (D,). (4.6c)"""
        a = self.w @ self.u
        return self.u + (F.softplus(a) - 1 - a) * self.w / self.w.square().sum()

    def forward(self, x, context=None):
        u = self.u_hat()
        h = (x @ self.w + self.b).tanh()  # (B,)
        return x + h[:, None] * u, torch.log1p((1 - h**2) * (self.w @ u))

    def inverse(self, z, context=None):
        u = self.u_hat()
        slope, y = self.w @ u, z @ self.w  # of a = w·x: a + w·û tanh(a + b) = w·z

        def along(a: Tensor) -> tuple[Tensor, Tensor]:
            h = (a + self.b).tanh()
            return a + slope * h, torch.log1p((1 - h**2) * slope)

        a = root(along, y, y - slope.abs(), y + slope.abs())
        return z - (a + self.b).tanh()[:, None] * u, -along(a)[1]


class Radial(Layer):
    """z = x + beta h (x - x0), h = 1 / (alpha + r), r = ‖x - x0‖: moves points along rays from x0. (4.6d)

    beta > -alpha keeps it invertible; the inverse solves a quadratic equation for r. Rezende and Mohamed (2015).
    """

    def __init__(self, dim: int):
        super().__init__()
        self.centre = nn.Parameter(torch.randn(dim))
        self.log_alpha, self.raw = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def coefficients(self) -> tuple[Tensor, Tensor]:
        """Return alpha > 0 and beta > -alpha."""
        alpha = self.log_alpha.exp()
        return alpha, F.softplus(self.raw) - alpha

    def _log_det(self, r: Tensor, dim: int) -> Tensor:
        """dim - 1 directions are stretched by 1 + beta h, the radial one by its derivative in r."""
        alpha, beta = self.coefficients()
        around, along = torch.log1p(beta / (alpha + r)), torch.log1p(alpha * beta / (alpha + r) ** 2)
        return (dim - 1) * around + along

    def forward(self, x, context=None):
        alpha, beta = self.coefficients()
        ray = x - self.centre
        r = ray.norm(dim=1)
        return x + (beta / (alpha + r))[:, None] * ray, self._log_det(r, x.shape[1])

    def inverse(self, z, context=None):
        alpha, beta = self.coefficients()
        ray = z - self.centre
        s = ray.norm(dim=1)  # = r (1 + beta / (alpha + r))
        half = (alpha + beta - s) / 2
        root = (half**2 + s * alpha).sqrt()
        r = torch.where(half > 0, s * alpha / (half + root), root - half)  # no cancellation on either side
        return self.centre + ray / (1 + beta / (alpha + r))[:, None], -self._log_det(r, z.shape[1])


def reflections(v: Tensor) -> Tensor:
    """Return the orthogonal matrix (D, D) that is the product of the Householder reflections I - 2 v vᵀ / ‖v‖².

    v is (K, D), a vector for each reflection. (4.8d)
    """
    q = torch.eye(v.shape[1], dtype=v.dtype, device=v.device)
    for normal_vector in F.normalize(v, dim=1):
        q = q - 2 * torch.outer(q @ normal_vector, normal_vector)
    return q


class Sylvester(Layer):
    """z = x + Q R tanh(S Qᵀ x + b), Q (D, M) of orthonormal columns, R and S (M, M) upper triangular. (4.6e)

    Sylvester's identity leaves a triangular (M, M) determinant. R_ii S_ii > -1, here by tanh, keeps it invertible.
    Van den Berg et al. (2018). Raises ``ValueError`` unless 1 <= M <= D.
    """

    def __init__(self, dim: int, rank: int):
        require(1 <= rank <= dim, f"rank = {rank}; allowed: 1 to the dimension, {dim}")
        super().__init__()
        self.v = nn.Parameter(torch.randn(dim, dim))
        self.r, self.s = (nn.Parameter(torch.randn(rank, rank) / rank) for _ in range(2))
        self.b = nn.Parameter(torch.zeros(rank))

    def factors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return Q, R and S."""
        r, s = (m.triu(1) + m.diagonal().tanh().diag() for m in (self.r, self.s))
        return reflections(self.v)[:, : len(self.b)], r, s

    def forward(self, x, context=None):
        q, r, s = self.factors()
        h = (x @ q @ s.T + self.b).tanh()  # (B, M)
        return x + h @ r.T @ q.T, torch.log1p((1 - h**2) * r.diagonal() * s.diagonal()).sum(1)

    def inverse(self, z, context=None):
        q, r, s = self.factors()
        target, y, h = z @ q, [], []  # from the last component, which depends on no other, to the first
        log_det = z.new_zeros(len(z))
        for i in reversed(range(len(self.b))):
            known_h = torch.stack(h, 1) if h else z.new_zeros(len(z), 0)  # of i + 1, i + 2, ...
            known_y = torch.stack(y, 1) if y else z.new_zeros(len(z), 0)
            left, shift = target[:, i] - known_h @ r[i, i + 1 :], known_y @ s[i, i + 1 :] + self.b[i]

            def along(a: Tensor, i: int = i, shift: Tensor = shift) -> tuple[Tensor, Tensor]:
                t = (s[i, i] * a + shift).tanh()
                return a + r[i, i] * t, torch.log1p((1 - t**2) * r[i, i] * s[i, i])

            a = root(along, left, left - r[i, i].abs(), left + r[i, i].abs())
            y, h = [a, *y], [(s[i, i] * a + shift).tanh(), *h]
            log_det = log_det - along(a)[1]
        return z - torch.stack(h, 1) @ r.T @ q.T, log_det


# 4.8 Linear flows ----------------------------------------------------------------------------------------------------


def spread(v: Tensor, x: Tensor) -> Tensor:
    """Return numbers per channel v (C,) in a shape that broadcasts with x (B, C, ...)."""
    return v.view(-1, *[1] * (x.ndim - 2))


def positions(x: Tensor) -> int:
    """Return the number of positions that share a channel: height times width of images (B, C, H, W), 1 of vectors."""
    return x[0, 0].numel()


class Permutation(Layer):
    """The channels in another order, z_i = x_order[i]: log |det| = 0. Raises ``ValueError`` if it is no permutation."""

    def __init__(self, order: Sequence[int]):
        order = [int(i) for i in order]
        require(
            sorted(order) == list(range(len(order))), f"order = {order}; each of 0 to {len(order) - 1} once is needed"
        )
        super().__init__()
        self.register_buffer("order", torch.tensor(order))

    def forward(self, x, context=None):
        return x[:, self.order], x.new_zeros(len(x))

    def inverse(self, z, context=None):
        return z[:, self.order.argsort()], z.new_zeros(len(z))


class ElementwiseAffine(Layer):
    """z = exp(s) (x + b), a scale and a shift for each channel of vectors or images: a diagonal Jacobian."""

    def __init__(self, channels: int):
        super().__init__()
        self.log_scale, self.shift = nn.Parameter(torch.zeros(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x, context=None):
        z = spread(self.log_scale.exp(), x) * (x + spread(self.shift, x))
        return z, self._log_det(x)

    def inverse(self, z, context=None):
        return spread((-self.log_scale).exp(), z) * z - spread(self.shift, z), -self._log_det(z)

    def _log_det(self, x: Tensor) -> Tensor:
        return (positions(x) * self.log_scale.sum()).expand(len(x))


class ActNorm(ElementwiseAffine):
    """An elementwise affine map whose first batch starts it: that batch is standardised. Kingma and Dhariwal (2018)."""

    def __init__(self, channels: int):
        super().__init__(channels)
        self.register_buffer("started", torch.tensor(False))

    def forward(self, x, context=None):
        if not self.started:
            self.start(x)
        return super().forward(x)

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Make the channels of this batch have mean 0 and standard deviation 1."""
        require(len(x) > 1, f"ActNorm starts from a batch of {len(x)}; at least 2 examples are needed")
        channels = x.transpose(0, 1).flatten(1)  # (C, B * positions)
        self.shift.copy_(-channels.mean(1))
        self.log_scale.copy_(-channels.std(1).clamp(min=1e-3).log())
        self.started.fill_(True)


class ChannelLinear(Layer):
    """z = W x for each vector, or at each position of an image: an invertible 1×1 convolution.

    log |det| = height × width × the sum of a triangular factor's log-diagonal.
    """

    def matrix(self) -> Tensor:
        """Return W, (C, C)."""
        raise NotImplementedError

    def solve(self, z: Tensor) -> Tensor:
        """Return W⁻¹ z of columns z (B, C, positions)."""
        raise NotImplementedError

    def forward(self, x, context=None):
        return torch.einsum("ij,bj...->bi...", self.matrix(), x), self._log_det(x)

    def inverse(self, z, context=None):
        columns = z.flatten(2) if z.ndim > 2 else z[..., None]
        return self.solve(columns).view(z.shape), -self._log_det(z)

    def _log_det(self, x: Tensor) -> Tensor:
        return (positions(x) * self.log_diagonal.sum()).expand(len(x))


class LULinear(ChannelLinear):
    """W = P L U: P a fixed permutation, L unit lower triangular, U upper triangular, its diagonal's signs fixed.

    It starts at `matrix` (C, C), without one at a random rotation. Raises ``ValueError`` for a singular matrix.
    Kingma and Dhariwal (2018). (4.8b)
    """

    def __init__(self, channels: int, matrix: Tensor | None = None):
        super().__init__()
        matrix = torch.linalg.qr(torch.randn(channels, channels)).Q if matrix is None else matrix
        given = tuple(matrix.shape)
        require(given == (channels, channels), f"matrix has shape {given}; allowed: {(channels, channels)}")
        rank = int(torch.linalg.matrix_rank(matrix))
        require(rank == channels, f"the matrix is singular: it has rank {rank}, and {channels} is needed")
        p, lower, upper = torch.linalg.lu(matrix)
        self.lower, self.upper = nn.Parameter(lower.tril(-1)), nn.Parameter(upper.triu(1))
        self.log_diagonal = nn.Parameter(upper.diagonal().abs().log())
        self.register_buffer("sign", upper.diagonal().sign())
        self.register_buffer("order", p.argmax(1))  # row i of P has its 1 in this column

    def factors(self) -> tuple[Tensor, Tensor]:
        """Return L and U, (C, C) each."""
        one = torch.eye(len(self.sign), dtype=self.lower.dtype, device=self.lower.device)
        return self.lower.tril(-1) + one, upper_factor(self, self.sign)

    def matrix(self):
        lower, upper = self.factors()
        return (lower @ upper)[self.order]

    def solve(self, z):
        lower, upper = self.factors()
        y = torch.linalg.solve_triangular(lower, z[:, self.order.argsort()], upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(upper, y, upper=True)


class QRLinear(ChannelLinear):
    """W = Q R: Q a product of Householder reflections, R upper triangular with a positive diagonal. (4.8d)"""

    def __init__(self, channels: int):
        super().__init__()
        self.v = nn.Parameter(torch.randn(channels, channels))
        self.upper = nn.Parameter(torch.zeros(channels, channels))
        self.log_diagonal = nn.Parameter(torch.zeros(channels))

    def matrix(self):
        return reflections(self.v) @ upper_factor(self, 1.0)

    def solve(self, z):
        return torch.linalg.solve_triangular(upper_factor(self, 1.0), reflections(self.v).T @ z, upper=True)


def upper_factor(layer: LULinear | QRLinear, sign: Tensor | float) -> Tensor:
    """Return the upper triangular factor (C, C) whose diagonal is sign * exp(log_diagonal)."""
    return layer.upper.triu(1) + torch.diag(sign * layer.log_diagonal.exp())

"""Densities that more than one lecture uses, and points in the plane to learn from. All log densities are in nats."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from course_utils.data import check_draw, normal, uniform
from course_utils.errors import choose, require

# Gaussians and their mixtures ----------------------------------------------------------------------------------------


def gaussian_log_prob(x: Tensor, mu: Tensor | float, sigma: Tensor | float) -> Tensor:
    """Return log N(x; mu, sigma^2) elementwise, broadcast. Raises ``ValueError`` for sigma <= 0 or integer x."""
    require(x.is_floating_point(), f"x has dtype {x.dtype}; floating point is needed: use x.double()")
    mu, sigma = (torch.as_tensor(v, dtype=x.dtype, device=x.device) for v in (mu, sigma))
    check_sigma(sigma)
    return -0.5 * ((x - mu) / sigma) ** 2 - sigma.log() - 0.5 * math.log(2 * math.pi)


def check_sigma(sigma: Tensor, name: str = "sigma") -> Tensor:
    """Return `sigma` if all of it is positive; else raise ``ValueError``."""
    require(
        bool((sigma > 0).all()),
        f"{name} = {sigma.min().item():.4g} is not positive; a standard deviation must be: parameterise its logarithm",
    )
    return sigma


def double(value: Tensor | list) -> Tensor:
    """Return numbers in float64 on the CPU, where the parameters of a density are kept."""
    return torch.as_tensor(value, dtype=torch.float64, device="cpu").detach()


class GaussianMixture:
    """p(x) = sum_c w_c N(x; mu_c, diag(sigma_c²)) in d dimensions, or of a number x, with its exact score.

    Takes weights (C,), non-negative with sum 1, means (C, d), and positive standard deviations sigmas (C,) or (C, d);
    means (C,) make it the density of a number, and (…, d) is then (…) below. Raises ``ValueError`` for anything else.
    Its parameters are kept in float64; its methods compute in the dtype and on the device of x.
    """

    def __init__(self, weights: Tensor, means: Tensor, sigmas: Tensor) -> None:
        weights, means, sigmas = (double(value) for value in (weights, means, sigmas))
        require(means.ndim in (1, 2), f"means have shape {tuple(means.shape)}; allowed: (C, d), or (C,) for numbers")
        self.scalar = means.ndim == 1
        means = means[:, None] if self.scalar else means  # (C, d)
        n, d = means.shape
        for name, value, shapes in (("weights", weights, [(n,)]), ("sigmas", sigmas, [(n,), (n, d)])):
            allowed = " or ".join(map(str, shapes))
            require(
                value.shape in shapes, f"{name} have shape {tuple(value.shape)}; allowed with these means: {allowed}"
            )
        require(
            bool((weights >= 0).all()) and math.isclose(float(weights.sum()), 1, abs_tol=1e-5),
            f"weights {weights.tolist()} are not allowed; none may be negative, and the sum must be 1",
        )
        positive = bool((sigmas > 0).all() & sigmas.isfinite().all())
        require(positive, f"sigmas {sigmas.tolist()} are not allowed; they must be positive and finite")
        require(bool(means.isfinite().all()), f"means {means.tolist()} are not allowed; they must be finite")
        self.weights, self.means = weights, means
        self.sigmas = sigmas if sigmas.ndim == 2 else sigmas[:, None].expand(n, d)

    def _points(self, x: Tensor) -> Tensor:
        """Return x (…, d), of numbers (…, 1); raise ``ValueError`` for another shape or integers."""
        d = self.means.shape[1]
        allowed = "(…)" if self.scalar else f"(…, {d})"
        require(
            x.is_floating_point() and (self.scalar or x.shape[-1:] == (d,)),
            f"x has shape {tuple(x.shape)} and dtype {x.dtype}; allowed: {allowed}, floating point",
        )
        return x[..., None] if self.scalar else x

    def _log_joint(self, x: Tensor) -> Tensor:
        """log w_c + log N(x; mu_c, diag(sigma_c²)); x (…, d) to (…, C)."""
        weights, means, sigmas = self.weights.to(x), self.means.to(x), self.sigmas.to(x)
        z = (self._points(x)[..., None, :] - means) / sigmas  # (…, C, d)
        return weights.log() - (z**2 / 2 + sigmas.log() + math.log(2 * math.pi) / 2).sum(-1)

    @property
    def mean(self) -> Tensor:
        """E[x] in float64, (d,), of numbers ()."""
        mean = self.weights @ self.means
        return mean[0] if self.scalar else mean

    @property
    def variance(self) -> Tensor:
        """The variance of each coordinate in float64, (d,), of numbers ()."""
        variance = self.weights @ (self.sigmas**2 + (self.means - self.weights @ self.means) ** 2)
        return variance[0] if self.scalar else variance

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats; x (…, d) to (…)."""
        return self._log_joint(x).logsumexp(-1)

    def cdf(self, x: Tensor) -> Tensor:
        """P(X <= x) of numbers; x (…) to (…). Raises ``ValueError`` for a mixture of vectors."""
        require(self.scalar, "a mixture of vectors has no cdf here; give means of shape (C,)")
        z = (self._points(x) - self.means[:, 0].to(x)) / self.sigmas[:, 0].to(x)  # (…, C)
        return (self.weights.to(x) * torch.special.ndtr(z)).sum(-1)

    def responsibilities(self, x: Tensor) -> Tensor:
        """p(c | x), the posterior of the component; x (…, d) to (…, C)."""
        return self._log_joint(x).softmax(-1)

    def score(self, x: Tensor) -> Tensor:
        """grad_x log p(x) = sum_c p(c | x) (mu_c - x) / sigma_c²; x (…, d) to (…, d)."""
        r = self.responsibilities(x)  # (…, C)
        pull = (self.means.to(x) - self._points(x)[..., None, :]) / self.sigmas.to(x) ** 2  # (…, C, d)
        score = (r[..., None] * pull).sum(-2)
        return score[..., 0] if self.scalar else score

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n independent draws, (n, d), of numbers (n,), on the generator's device, in PyTorch's default dtype."""
        check_draw(generator, n=n)
        place = {"device": generator.device, "dtype": torch.get_default_dtype()}
        weights, means, sigmas = (value.to(**place) for value in (self.weights, self.means, self.sigmas))
        c = torch.multinomial(weights, n, replacement=True, generator=generator)  # (n,)
        x = means[c] + sigmas[c] * normal(n, means.shape[1], generator=generator, like=means)
        return x[:, 0] if self.scalar else x


def eight_gaussians(radius: float = 2.0, sigma: float = 0.1) -> GaussianMixture:
    """Eight equal Gaussians of standard deviation `sigma` on a ring; mode k is at angle 2 pi k / 8."""
    angle = 2 * math.pi * torch.arange(8) / 8
    means = radius * torch.stack([angle.cos(), angle.sin()], -1)  # (8, 2)
    return GaussianMixture(torch.full((8,), 1 / 8), means, torch.full((8,), float(sigma)))


# Points in the plane --------------------------------------------------------------------------------------------------


def _check_noise(noise: float) -> None:
    require(noise >= 0, f"noise {noise!r} is not allowed; it is a standard deviation, 0 or more")


def two_moons(n: int, generator: torch.Generator, noise: float = 0.2) -> Tensor:
    """Two interleaved half circles of radius 2, one about (-1, -½), one about (1, ½), plus noise; (n, 2)."""
    _check_noise(noise)
    angle = math.pi * uniform(n, generator=generator)
    side = uniform(n, generator=generator).round() * 2 - 1  # +1 upper, -1 lower
    arc = torch.stack([2 * angle.cos() - 1, 2 * angle.sin() - 0.5], -1)
    return side[:, None] * arc + noise * normal(n, 2, generator=generator)


def two_moons_log_prob(x: Tensor, noise: float = 0.2, nodes: int = 128) -> Tensor:
    """Return the log density in nats of ``two_moons``, x (..., 2) to (...), by Gauss-Legendre quadrature over angles.

    Exact to 1e-9 for a noise of at least 0.1. Raises ``ValueError`` for a noise that is not positive.
    """
    check_sigma(torch.tensor(noise), "noise")
    node, weight = (double(torch.from_numpy(v)).to(x) for v in np.polynomial.legendre.leggauss(nodes))
    angle = math.pi / 2 * (node + 1)
    arc = torch.stack([2 * angle.cos() - 1, 2 * angle.sin() - 0.5], -1)  # (nodes, 2)
    log_joint = gaussian_log_prob(x[..., None, :], torch.cat([arc, -arc]), noise).sum(-1)
    return (log_joint + (weight / 4).log().repeat(2)).logsumexp(-1)


def entropy_of(log_prob: Callable[[Tensor], Tensor], limit: float = 5.0, points: int = 200) -> float:
    """Return the entropy in nats of a density of the plane by the trapezoidal rule on [-limit, limit]²."""
    line = torch.linspace(-limit, limit, points, dtype=torch.float64)
    cell, total = float(line[1] - line[0]) ** 2, 0.0
    for u in line:  # one column of the grid at a time
        value = log_prob(torch.stack([u.expand(points), line], -1))
        total -= float((value.exp() * value).sum()) * cell
    return total


def checkerboard(n: int, generator: torch.Generator) -> Tensor:
    """Uniform on the eight squares of side 2 of a 4 × 4 board on [-4, 4]² whose column + row is even; (n, 2)."""
    cell = torch.randint(8, (n,), generator=generator, device=generator.device)
    column = cell // 2
    row = 2 * (cell % 2) + column % 2
    return 2 * (torch.stack([column, row], -1) + uniform(n, 2, generator=generator)) - 4


def spirals(n: int, generator: torch.Generator, noise: float = 0.1) -> Tensor:
    """Two spiral arms of one and a half turns, ±(t/3) (cos t, sin t) for t in [0, 3 pi], plus noise; (n, 2)."""
    _check_noise(noise)
    t = 3 * math.pi * uniform(n, generator=generator).sqrt()
    side = uniform(n, generator=generator).round() * 2 - 1
    return (side * t / 3)[:, None] * torch.stack([t.cos(), t.sin()], -1) + noise * normal(n, 2, generator=generator)


TOYS: dict[str, Callable[[int, torch.Generator], Tensor]] = {
    "two_moons": two_moons,
    "eight_gaussians": lambda n, generator: eight_gaussians().sample(n, generator),
    "checkerboard": checkerboard,
    "spirals": spirals,
}


def toy(name: str, n: int, generator: torch.Generator) -> Tensor:
    """n points (n, 2) of the toy called `name`, one of ``TOYS``, inside [-4, 4]², on the generator's device."""
    choose(name, TOYS, "toy")
    check_draw(generator, n=n)
    return TOYS[name](n, generator)

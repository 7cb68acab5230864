"""Lecture 1: Kullback-Leibler divergence, its relatives, and the evidence lower bound.

The functions stand in the order of the lecture, each under the number of its row. All results are in nats.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import LowRankMultivariateNormal

from course_utils.data import normal
from course_utils.densities import check_sigma, gaussian_log_prob
from course_utils.errors import choose, require

KINDS = ("forward", "reverse", "js")


# 1.1 Divergence of tables and by Monte Carlo ---------------------------------------------------------------------


def check_table(p: Tensor, name: str = "p") -> Tensor:
    """Return `p` (..., C) if it is a table of probabilities; else raise ``ValueError``."""
    require(p.numel() > 0 and bool(p.isfinite().all()), f"{name} is empty or not finite; a table of numbers is needed")
    require(bool((p >= 0).all()), f"{name} has the negative entry {p.min().item():.4g}; probabilities are >= 0")
    total = p.sum(-1)
    worst = total.flatten()[(total - 1).abs().argmax()].item()
    require(abs(worst - 1) < 1e-5, f"{name} sums to {worst:.6g}; a table must sum to 1: divide it by its sum")
    return p


def kl_table(p: Tensor, q: Tensor) -> Tensor:
    """Return KL(p||q) = sum p log(p/q) in nats for tables (..., C): result (...). Infinite where p > 0 = q.

    Raises ``ValueError`` for a table with negative entries or a sum other than 1. (1.1a), (1.1c), (1.2a)
    """
    check_table(p, "p")
    check_table(q, "q")
    require(p.shape[-1] == q.shape[-1], f"p has {p.shape[-1]} entries and q {q.shape[-1]}; they must be equally many")
    return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum(-1)  # xlogy(0, 0) = 0: impossible outcomes cost nothing


def entropy_table(p: Tensor) -> Tensor:
    """Return the entropy -sum p log p in nats of tables (..., C): result (...). (1.3a)"""
    return -torch.xlogy(check_table(p), p).sum(-1)


# 1.4 and 1.5 Divergences by quadrature on a grid, and fitting a Gaussian with each ---------------------------------


def alpha_of(kind: str | float) -> float | None:
    """Return the alpha of a divergence: 1 for "forward", 0 for "reverse", a number for itself, None for "js"."""
    if isinstance(kind, str):
        return {"forward": 1.0, "reverse": 0.0, "js": None}[choose(kind, KINDS, "divergence")]
    require(0 <= kind <= 1, f"alpha = {kind} is outside [0, 1]; 0 is reverse KL, 1 is forward KL")
    return float(round(kind)) if abs(kind - round(kind)) < 1e-6 else float(kind)  # else a difference of equals over 0


def integrand(log_p: Tensor, log_q: Tensor, kind: str | float) -> Tensor:
    """Return a function on the grid, >= 0 everywhere, whose integral is the divergence of p from q.

    `log_p`, `log_q`: log densities (..., G) on the same grid; `kind`: "forward" KL(p||q), "reverse" KL(q||p), "js", or
    alpha in [0, 1] for Amari's alpha-divergence, which runs from reverse (0) to forward KL (1). Terms that integrate to
    zero, such as q - p, are added so that the integrand itself is never negative. Result (..., G).
    """
    p, q, alpha = log_p.exp(), log_q.exp(), alpha_of(kind)
    if alpha is None:
        log_m = torch.logaddexp(log_p, log_q) - math.log(2)
        return 0.5 * (weighted(p, log_p - log_m) + weighted(q, log_q - log_m))
    if alpha == 1:
        return weighted(p, log_p - log_q) - p + q
    if alpha == 0:
        return weighted(q, log_q - log_p) - q + p
    return (alpha * p + (1 - alpha) * q - (alpha * log_p + (1 - alpha) * log_q).exp()) / (alpha * (1 - alpha))


def weighted(p: Tensor, log_ratio: Tensor) -> Tensor:
    """Return p * log_ratio, and zero where p is zero, whatever the logarithm is there."""
    return torch.where(p > 0, p * log_ratio, 0.0)


def divergence(log_p: Tensor, log_q: Tensor, x: Tensor, kind: str | float) -> Tensor:
    """Return the divergence in nats by the trapezoidal rule on the grid x (G,): log_p, log_q (..., G) give (...).

    Both densities must be normalised, with all but a negligible part of their mass inside the grid. Raises
    ``ValueError`` for a grid that does not increase or has another length. (1.4d), (1.5a), (1.5c), (1.5d), (1.5e)
    """
    require(
        x.ndim == 1 and bool((x[1:] > x[:-1]).all()), f"the grid x, shape {tuple(x.shape)}, must be (G,) and increase"
    )
    require(
        log_p.shape[-1] == log_q.shape[-1] == len(x),
        f"log_p, log_q and x have {log_p.shape[-1]}, {log_q.shape[-1]} and {len(x)} points; they must be equally many",
    )
    return torch.trapezoid(integrand(log_p, log_q, kind), x)


class GaussianFit(NamedTuple):
    """Gaussians found from S starts: mu, sigma, divergence (S,), and the path (steps + 1, S, 2) of (mu, sigma)."""

    mu: Tensor
    sigma: Tensor
    value: Tensor
    path: Tensor


def fit_gaussian(
    log_p: Tensor,
    x: Tensor,
    kind: str | float,
    mu: Tensor | float,
    sigma: Tensor | float,
    steps: int = 200,
    lr: float = 0.1,
) -> GaussianFit:
    """Fit N(mu, sigma^2) to p by descending a divergence from S starts at once; gradients by autograd.

    `log_p` (G,) on the grid `x` (G,); `kind` as in ``integrand``; `mu`, `sigma`: the starts, numbers or (S,).
    Adam on (mu, log sigma), its rate falling linearly to zero. Raises ``ValueError`` for sigma <= 0 or steps < 1.
    """
    require(steps >= 1, f"steps = {steps}; at least 1 is needed")
    mu, sigma = torch.broadcast_tensors(*(torch.as_tensor(v, dtype=x.dtype).reshape(-1) for v in (mu, sigma)))
    theta = torch.stack([mu, check_sigma(sigma).log()]).requires_grad_()  # (2, S)
    optimiser = torch.optim.Adam([theta], lr=lr, betas=(0.8, 0.95))
    path = []
    for step in range(steps + 1):
        path.append(torch.stack([theta[0], theta[1].exp()], dim=-1).detach())  # (S, 2)
        value = divergence(log_p, gaussian_log_prob(x, theta[0][:, None], theta[1].exp()[:, None]), x, kind)  # (S,)
        if step < steps:
            (theta.grad,) = torch.autograd.grad(value.sum(), theta)
            optimiser.param_groups[0]["lr"] = lr * (1 - step / steps)
            optimiser.step()
    return GaussianFit(path[-1][:, 0], path[-1][:, 1], value.detach(), torch.stack(path))


def landscape(log_p: Tensor, x: Tensor, kind: str | float, mus: Tensor, sigmas: Tensor) -> Tensor:
    """Return the divergence in nats of p from N(mu, sigma^2) for all pairs of mus (M,) and sigmas (S,): (S, M)."""
    log_q = gaussian_log_prob(x, mus[None, :, None], sigmas[:, None, None])  # (S, M, G)
    return divergence(log_p, log_q, x, kind)


def moment_match(log_p: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the density of values `log_p` (G,) on the grid `x` (G,). (1.4a), (1.4b)"""
    p = log_p.exp()
    mu = torch.trapezoid(p * x, x)
    return mu, torch.trapezoid(p * (x - mu) ** 2, x).sqrt()


# 1.6 Gaussians in closed form --------------------------------------------------------------------------------------


def kl_gaussian(mu_q: Tensor, sigma_q: Tensor, mu_p: Tensor | float = 0.0, sigma_p: Tensor | float = 1.0) -> Tensor:
    """Return KL(N(mu_q, sigma_q^2) || N(mu_p, sigma_p^2)) elementwise, in nats. Sum over the last axis for a diagonal.

    All arguments broadcast; the default p is the standard normal. Raises ``ValueError`` for sigma <= 0. (1.6a), (1.6b)
    """
    mu_q, sigma_q, mu_p, sigma_p = (torch.as_tensor(v) for v in (mu_q, sigma_q, mu_p, sigma_p))
    ratio = check_sigma(sigma_q, "sigma_q") / check_sigma(sigma_p, "sigma_p")
    return 0.5 * (ratio**2 + ((mu_q - mu_p) / sigma_p) ** 2 - 1) - ratio.log()


def kl_gaussian_full(mu_q: Tensor, cov_q: Tensor, mu_p: Tensor, cov_p: Tensor) -> Tensor:
    """Return KL(N(mu_q, cov_q) || N(mu_p, cov_p)) in nats: means (..., d), covariances (..., d, d), result (...).

    Through Cholesky factors; no inverse is formed. Raises ``ValueError`` for a matrix that is not positive definite.
    (1.6c)
    """
    chol_q, chol_p = cholesky(cov_q, "cov_q"), cholesky(cov_p, "cov_p")
    trace = torch.linalg.solve_triangular(chol_p, chol_q, upper=False).square().sum((-2, -1))  # tr(cov_p^-1 cov_q)
    shift = torch.linalg.solve_triangular(chol_p, (mu_q - mu_p)[..., None], upper=False).square().sum((-2, -1))
    log_det = 2 * (chol_p.diagonal(dim1=-2, dim2=-1).log() - chol_q.diagonal(dim1=-2, dim2=-1).log()).sum(-1)
    return 0.5 * (trace + shift - mu_q.shape[-1] + log_det)


def cholesky(cov: Tensor, name: str) -> Tensor:
    """Return the lower Cholesky factor of (..., d, d); raise ``ValueError`` naming the matrix if it has none."""
    require(torch.allclose(cov, cov.mT, rtol=1e-4), f"{name} is not symmetric; a covariance must be: use (C + C.T) / 2")
    factor, info = torch.linalg.cholesky_ex(cov)
    require(not info.any(), f"{name} is not positive definite; a covariance must be: add a small multiple of identity")
    return factor


# 1.7 A latent-variable model whose every density is known ----------------------------------------------------------


@dataclass(frozen=True)
class ProbabilisticPCA:
    """Probabilistic PCA: z ~ N(0, I_d), x | z ~ N(W z + mu, sigma^2 I_D). Tipping and Bishop (1999).

    `W` (D, d), `mu` (D,), `sigma` a positive number. Raises ``ValueError`` for other shapes or sigma <= 0.
    """

    W: Tensor
    mu: Tensor
    sigma: float

    def __post_init__(self):
        require(
            self.W.ndim == 2 and self.mu.shape == self.W.shape[:1],
            f"W has shape {tuple(self.W.shape)} and mu {tuple(self.mu.shape)}; (D, d) and (D,) are needed",
        )
        check_sigma(torch.as_tensor(self.sigma))

    @classmethod
    def fit(cls, x: Tensor, d: int) -> "ProbabilisticPCA":
        """Return the maximum-likelihood model with d latents for data x (N, D); their equations (7) and (8)."""
        require(
            x.ndim == 2 and x.is_floating_point(),
            f"x has shape {tuple(x.shape)} and dtype {x.dtype}; floating point (N, D) is needed",
        )
        n, dim = x.shape
        require(1 <= d < dim, f"d = {d} latents; between 1 and {dim - 1} are possible for data with {dim} columns")
        mu = x.mean(0)
        values, vectors = torch.linalg.eigh((x - mu).T @ (x - mu) / n)  # ascending
        variance = values[:-d].mean()
        return cls(vectors[:, -d:] * (values[-d:] - variance).sqrt(), mu, variance.sqrt().item())

    @property
    def dims(self) -> tuple[int, int]:
        """(D, d): dimensions of x and of z."""
        return tuple(self.W.shape)

    def rotate(self, rotation: Tensor) -> "ProbabilisticPCA":
        """Return the model with W R for an orthogonal R (d, d): the same p(x), another p(z | x)."""
        return replace(self, W=self.W @ rotation)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> "ProbabilisticPCA":
        """Return the same model with its tensors on `device` in `dtype`."""
        return replace(self, W=self.W.to(device, dtype), mu=self.mu.to(device, dtype))

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw by ancestral sampling, first z (n, d) from the prior, then x (n, D) given z."""
        z, noise = (normal(n, k, like=self.W, generator=generator) for k in reversed(self.dims))
        return z, z @ self.W.T + self.mu + self.sigma * noise

    def log_prior(self, z: Tensor) -> Tensor:
        """Return log p(z): z (..., d) gives (...)."""
        return gaussian_log_prob(z, 0.0, 1.0).sum(-1)

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """Return log p(x | z): x (..., D) and z (..., d), broadcast, give (...)."""
        require(x.shape[-1] == len(self.mu), f"x has {x.shape[-1]} columns; this model's has {len(self.mu)}")
        return gaussian_log_prob(x, z @ self.W.T + self.mu, self.sigma).sum(-1)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the exact log p(x): x (..., D) gives (...). The marginal is N(mu, W W^T + sigma^2 I), (1.7a)."""
        return LowRankMultivariateNormal(self.mu, self.W, torch.full_like(self.mu, self.sigma**2)).log_prob(x)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the exact posterior N(m, S): means (..., d) for x (..., D), and the one covariance (d, d). (1.7b)"""
        precision = torch.eye(self.dims[1]).to(self.W) + self.W.T @ self.W / self.sigma**2
        cov = torch.linalg.inv(precision)
        return (x - self.mu) @ self.W @ cov / self.sigma**2, cov

    def mean_field(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the diagonal Gaussian closest to the posterior in KL(q || posterior): means (..., d), sigmas (d,).

        Its mean is the posterior's, its precisions are the diagonal of the posterior's precision, (1.8d).
        """
        return self.posterior(x)[0], (1 + self.W.square().sum(0) / self.sigma**2).rsqrt()

    def elbo(self, x: Tensor, m: Tensor, cov: Tensor) -> Tensor:
        """Return the exact ELBO of N(m, cov): x (..., D), m (..., d), cov (..., d, d) or (d, d) give (...). (1.8b)"""
        prior = torch.zeros_like(m), torch.eye(m.shape[-1]).to(m)
        spread = (self.W @ cov).mul(self.W).sum((-2, -1)) / self.sigma**2  # tr(W cov W^T) / sigma^2
        return self.log_likelihood(x, m) - 0.5 * spread - kl_gaussian_full(m, cov, *prior)


def naive_log_weights(model: ProbabilisticPCA, x: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Return log p(x | z_k) for k draws from the prior, x (B, D) to (k, B): weights whose mean is p(x), (1.7c)."""
    require(k >= 1, f"k = {k} draws; at least 1 is needed")
    z = normal(k, 1, model.dims[1], like=x, generator=generator)  # (k, 1, d)
    return model.log_likelihood(x, z)


def effective_sample_size(log_w: Tensor) -> Tensor:
    """Return (sum w)^2 / sum w^2 over the first axis: log weights (K, ...) give (...), between 1 and K. (1.7e)"""
    w = (log_w - log_w.amax(0)).exp()  # the largest is 1: nothing under- or overflows
    return w.sum(0) ** 2 / w.square().sum(0)


# 1.8 The evidence lower bound --------------------------------------------------------------------------------------


def elbo_quadrature(log_joint: Tensor, log_q: Tensor, z: Tensor) -> Tensor:
    """Return E_q[log p(x, z) - log q(z)] on the grid z (G,): log p(x, z), log q(z) (..., G) give (...). (1.8a)"""
    return torch.trapezoid(log_q.exp() * (log_joint - log_q), z)


def m_step(model: ProbabilisticPCA, x: Tensor, m: Tensor, cov: Tensor) -> ProbabilisticPCA:
    """Return the model that maximises the mean ELBO for fixed q = N(m_n, cov): x (N, D), m (N, d), cov (d, d).

    Tipping and Bishop (1999), equations (27) and (28), with whatever q the E step allowed; mu stays. (1.8g)
    """
    centred = x - model.mu
    second = m.T @ m + len(x) * cov  # sum of E_q[z z^T], (d, d)
    w = torch.linalg.solve(second, m.T @ centred).T  # (D, d)
    residual = centred.square().sum() - 2 * (centred @ w).mul(m).sum() + (w.T @ w).mul(second).sum()
    return replace(model, W=w, sigma=(residual / centred.numel()).sqrt().item())


def em(model: ProbabilisticPCA, x: Tensor, steps: int, diagonal: bool = False) -> tuple[ProbabilisticPCA, Tensor]:
    """Run EM, or variational EM with a diagonal q: return the model and the mean ELBO after each half step (2 steps,).

    Each E step sets q to the best allowed Gaussian, each M step the model to the best for this q. (1.8f)
    """
    require(steps >= 1, f"steps = {steps}; at least 1 is needed")
    bounds = []
    for _ in range(steps):
        m, cov = model.posterior(x)
        if diagonal:
            cov = model.mean_field(x)[1].square().diag()
        bounds.append(model.elbo(x, m, cov).mean())
        model = m_step(model, x, m, cov)
        bounds.append(model.elbo(x, m, cov).mean())
    return model, torch.stack(bounds)


# 1.9 The importance-weighted bound ---------------------------------------------------------------------------------


def importance_log_weights(
    model: ProbabilisticPCA, x: Tensor, m: Tensor, sigma: Tensor, k: int, generator: torch.Generator
) -> Tensor:
    """Return log p(x, z_k) - log q(z_k | x) for k draws from q = N(m, diag sigma^2).

    x (B, D), m (B, d), sigma (B, d) or (d,) give (k, B). Raises ``ValueError`` for k < 1 or sigma <= 0. (1.9d)
    """
    require(k >= 1, f"k = {k} draws; at least 1 is needed")
    eps = normal(k, *m.shape, like=m, generator=generator)  # (k, B, d)
    z = m + check_sigma(sigma) * eps
    return model.log_prior(z) + model.log_likelihood(x, z) - gaussian_log_prob(z, m, sigma).sum(-1)


def iwae_bound(log_w: Tensor) -> Tensor:
    """Return log (1/K sum w_k) from log weights (K, ...): (...). Burda, Grosse and Salakhutdinov (2016). (1.9a)"""
    require(
        log_w.ndim >= 1 and len(log_w) >= 1, f"log_w has shape {tuple(log_w.shape)}; (K, ...) with K >= 1 is needed"
    )
    return log_w.logsumexp(0) - math.log(len(log_w))


# 1.10 Gradients of an expectation ----------------------------------------------------------------------------------


class Gradients(NamedTuple):
    """One-sample estimates of the gradient of E f(z), z ~ N(mu, diag sigma^2), in mu and in sigma: (N, d) each."""

    mu: Tensor
    sigma: Tensor


def score_function_gradient(f: Callable[[Tensor], Tensor], mu: Tensor, sigma: Tensor | float, eps: Tensor) -> Gradients:
    """Return f(z) times the slope of log q(z), at z = mu + sigma eps: mu, sigma (d,) or numbers, noise eps (N, d).

    `f` maps (N, d) to (N,) and need not be differentiable. Raises ``ValueError`` for sigma <= 0. Williams (1992).
    (1.10a)
    """
    sigma = check_sigma(torch.as_tensor(sigma)).to(eps)
    value = f(mu + sigma * eps)[:, None]
    return Gradients(value * eps / sigma, value * (eps**2 - 1) / sigma)


def reparameterised_gradient(
    f: Callable[[Tensor], Tensor], mu: Tensor, sigma: Tensor | float, eps: Tensor
) -> Gradients:
    """Return the slope of f at z = mu + sigma eps, times dz/dmu = 1 and dz/dsigma = eps: shapes as above.

    `f` maps (N, d) to (N,), by operations that autograd knows, and must be continuous and piecewise smooth. Raises
    ``ValueError`` for sigma <= 0. Kingma and Welling (2014). (1.10b)
    """
    sigma = check_sigma(torch.as_tensor(sigma)).to(eps)
    z = (mu + sigma * eps).requires_grad_()
    (slope,) = torch.autograd.grad(f(z).sum(), z)
    return Gradients(slope, slope * eps)


# 1.11 Amortisation -------------------------------------------------------------------------------------------------


def amortised_elbo(model: ProbabilisticPCA, encoder: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return the exact ELBO of q = N(m, diag sigma^2), encoder(x) = (m, log sigma): x (B, D) gives (B,). (1.11a)"""
    m, log_sigma = encoder(x).chunk(2, dim=-1)  # (B, d) each
    return model.elbo(x, m, torch.diag_embed((2 * log_sigma).exp()))

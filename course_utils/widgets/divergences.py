"""Lecture 1: W-KL (fit a Gaussian to a mixture with a divergence of your choice) and W-ELBO (bound, value and gap)."""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from course_utils import divergences as D
from course_utils.densities import GaussianMixture, gaussian_log_prob
from course_utils.errors import choose
from course_utils.plots import ramp, schemes
from course_utils.widgets.stage import Choice, Declaration, Range, State, Widget, grid

# W-KL: rows 1.4 and 1.5 --------------------------------------------------------------------------------------------

NAMES = {
    "forward": "forward KL(p‖q)",
    "reverse": "reverse KL(q‖p)",
    "js": "Jensen–Shannon",
    "alpha": "alpha",
}
GRIDS = {
    "x": grid(-22, 22, 221),  # quadrature: step 0.2 <= sigma / 2, and room for a wide q's tails
    "shown": grid(-9, 9, 301),  # what the left panel draws
    "mus": grid(-5.5, 5.5, 45),
    "logSigmas": grid(math.log(0.35), math.log(6), 31),
}
X, SHOWN, MUS, LOG_SIGMAS = (torch.linspace(g["low"], g["high"], g["n"], dtype=torch.float64) for g in GRIDS.values())
DESCENT = {
    "stride": 0.35,  # longest step of the descent in (mu, log sigma): short enough not to leap over a ridge
    "steps": 60,
    "parts": [0.0, 0.1, 0.3, 1.0],  # of a step that are tried
    "close": 1e-3,  # a step as short as this is taken whole: rounding would hide which part is best
    "enough": 1e-9,  # a step as short as this is none
}
LEVELS = [0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1, 1.25, 1.5, 2, 3, 5, 10]


class KLNumbers(NamedTuple):
    """What W-KL shows: numpy arrays on the grids SHOWN (X), MUS (M) and LOG_SIGMAS (S); divergences in nats."""

    p: np.ndarray  # (X,) density of the mixture
    q: np.ndarray  # (X,) density of the fit
    start: np.ndarray  # (X,) density that the descent starts from
    integrand: np.ndarray  # (X,) >= 0; its area is `value`
    value: float
    mu: float
    sigma: float
    path: np.ndarray  # (T, 2) of (mu, log sigma) from the start to the fit
    minima: np.ndarray  # (N, 3) of (mu, log sigma, value): local minima of the landscape
    landscape: np.ndarray  # (S, M)
    moments: tuple[float, float]  # mean and standard deviation of p


def compute_kl(state: State) -> KLNumbers:
    """Return the Gaussian fitted to a mixture of two by descent, and the landscape that was descended.

    `state`: separation, weight, left, right (widths) of the mixture; kind, alpha of the divergence; mu, sigma of the
    start. Raises ``ValueError`` for an unknown kind or a parameter out of its range.
    """
    kind = state["alpha"] if choose(state["kind"], NAMES, "divergence") == "alpha" else state["kind"]
    shape = (state["separation"], state["weight"], state["left"], state["right"])
    log_p, shown_p = log_mixture(*shape)
    terrain, minima = terrain_of(shape, kind)
    start_q = gaussian_log_prob(SHOWN, state["mu"], state["sigma"])  # raises for sigma <= 0
    start = torch.tensor([[state["mu"], math.log(state["sigma"])]], dtype=X.dtype)
    path = descend(log_p, kind, start)[:, 0]  # (T, 2)
    mu, sigma = path[-1, 0].item(), path[-1, 1].exp().item()
    shown_q = gaussian_log_prob(SHOWN, mu, sigma)
    mean, deviation = D.moment_match(log_p, X)
    return KLNumbers(
        p=shown_p.exp().numpy(),
        q=shown_q.exp().numpy(),
        start=start_q.exp().numpy(),
        integrand=D.integrand(shown_p, shown_q, kind).numpy(),
        value=values_at(log_p, kind, path[-1]).item(),
        mu=mu,
        sigma=sigma,
        path=path.numpy(),
        minima=minima.numpy(),
        landscape=terrain.numpy(),
        moments=(mean.item(), deviation.item()),
    )


def log_mixture(separation: float, weight: float, left: float, right: float) -> tuple[Tensor, Tensor]:
    """Return log p on X (G,) and on SHOWN: `weight` is that of the left one, at -separation/2."""
    p = GaussianMixture([weight, 1 - weight], [-separation / 2, separation / 2], [left, right])
    return p.log_prob(X), p.log_prob(SHOWN)


@lru_cache(maxsize=64)
def terrain_of(shape: tuple[float, ...], kind: str | float) -> tuple[Tensor, Tensor]:
    """Return the divergence over (mu, sigma), (S, M), and its local minima (N, 3); the start does not matter to it."""
    log_p, _ = log_mixture(*shape)
    terrain = D.landscape(log_p, X, kind, MUS, LOG_SIGMAS.exp())
    inner = terrain[1:-1, 1:-1]
    rows, columns = terrain.shape
    around = [terrain[i : rows - 2 + i, j : columns - 2 + j] for i in range(3) for j in range(3) if (i, j) != (1, 1)]
    s, m = (inner < torch.stack(around).amin(0)).nonzero(as_tuple=True)
    minima = descend(log_p, kind, torch.stack([MUS[m + 1], LOG_SIGMAS[s + 1]], dim=-1))[-1]  # off the grid
    return terrain, torch.cat([minima, values_at(log_p, kind, minima)[:, None]], dim=-1)


def descend(log_p: Tensor, kind: str | float, start: Tensor, x: Tensor = X) -> Tensor:
    """Return the path (T, N, 2) of (mu, log sigma) downhill from N starts (N, 2) into the minima below them.

    `log_p` (G,) is that of the target on the grid `x`. Newton's method with the absolute value of the curvatures, steps
    of limited length, and of each step the part that lowers the divergence most (``DESCENT``). A dozen steps in place
    of a gradient method's hundred, so that a slider can be followed.
    """
    path = [start]
    parts = torch.tensor(DESCENT["parts"], dtype=start.dtype)[:, None, None]
    for _ in range(DESCENT["steps"]):
        gradient, hessian = slopes(log_p, kind, path[-1], x)
        size, axes = torch.linalg.eigh(hessian)
        along = (axes.mT @ gradient[..., None]) / size.abs().clamp(min=1e-2)[..., None]  # downhill at a saddle too
        step = (axes @ along)[..., 0]
        length = step.norm(dim=-1)  # (N,)
        tried = path[-1] - parts * step / (length / DESCENT["stride"]).clamp(min=1)[:, None]  # (4, N, 2)
        best = values_at(log_p, kind, tried, x).argmin(0)  # (N,)
        best[length < DESCENT["close"]] = len(parts) - 1
        best[length < DESCENT["enough"]] = 0
        if not best.any():
            break
        path.append(tried[best, torch.arange(len(start))])
    return torch.stack(path)


def slopes(log_p: Tensor, kind: str | float, theta: Tensor, x: Tensor = X) -> tuple[Tensor, Tensor]:
    """Return gradient (N, 2) and second derivatives (N, 2, 2) of the divergence at theta = (mu, log sigma) (N, 2).

    By the chain rule through log q, whose derivatives are z / sigma by mu and z² - 1 by log sigma,
    z = (x - mu) / sigma.
    """
    sigma = theta[:, 1:].exp()
    z = (x - theta[:, :1]) / sigma  # (N, G)
    first, second = derivatives(log_p, gaussian_log_prob(x, theta[:, :1], sigma), kind)
    by = z / sigma, z**2 - 1
    a = second * by[0] ** 2 - first / sigma**2
    b = second * by[1] ** 2 - first * 2 * z**2
    c = second * by[0] * by[1] - first * 2 * z / sigma
    gradient, hessian = torch.stack([first * by[0], first * by[1]]), torch.stack([a, c, c, b])
    return torch.trapezoid(gradient, x).T, torch.trapezoid(hessian, x).T.reshape(-1, 2, 2)


def derivatives(log_p: Tensor, log_q: Tensor, kind: str | float) -> tuple[Tensor, Tensor]:
    """Return first and second derivative of the divergence's integrand by log q: (..., G) each, as log_q."""
    q, alpha = log_q.exp(), D.alpha_of(kind)
    if alpha is None:
        log_m = torch.logaddexp(log_p, log_q) - math.log(2)
        first = 0.5 * D.weighted(q, log_q - log_m)
        return first, first + 0.25 * q * (log_p - log_m).exp()
    if alpha == 0:
        first = D.weighted(q, log_q - log_p)
        return first, first + q
    between = (alpha * log_p + (1 - alpha) * log_q).exp()
    return (q - between) / alpha, (q - (1 - alpha) * between) / alpha


def values_at(log_p: Tensor, kind: str | float, theta: Tensor, x: Tensor = X) -> Tensor:
    """Return the divergence at theta = (mu, log sigma) (..., 2) by quadrature on the grid `x`: (...)."""
    return D.divergence(log_p, gaussian_log_prob(x, theta[..., :1], theta[..., 1:].exp()), x, kind)


KL = Declaration(
    name="kl",
    title="Fit a Gaussian q to a mixture p",
    controls={
        "kind": Choice("divergence", "reverse", NAMES),
        "separation": Range("separation", 5.0, 0, 8),
        "mu": Range("start μ", -2.0, -5, 5),
        "alpha": Range("alpha", 0.5, 0, 1, 0.05, when={"kind": ["alpha"]}),
        "left": Range("width left", 1.0, 0.4, 2),
        "sigma": Range("start σ", 1.0, 0.4, 4),
        "weight": Range("weight left", 0.5, 0.05, 0.95, 0.05),
        "right": Range("width right", 0.7, 0.4, 2),
    },
    compute=compute_kl,
    presets=[
        ("Forward KL covers both modes", {"kind": "forward"}),
        ("Reverse KL started on the left finds the left mode", {"mu": -2.0}),
        ("Reverse KL started on the right finds the right mode", {"mu": 2.0}),
        ("In between: alpha = 0.5", {"kind": "alpha", "alpha": 0.5}),
    ],
    surprise={
        "separation": (3, 7),
        "weight": (0.2, 0.8),
        "left": (0.4, 1.6),
        "right": (0.4, 1.6),
        "alpha": (0.1, 0.9),
        "mu": (-4, 4),
        "sigma": (0.5, 3),
        "kind": list(NAMES),
    },
    alt=(
        "Four fits of one Gaussian q to a mixture p with two modes, each with its integrand shaded and the descent "
        "drawn on the landscape over mu and sigma. Forward KL covers both modes with one wide Gaussian; reverse KL "
        "started on the left finds the left mode, started on the right the right one; alpha one half lies between."
    ),
    colours=schemes("p", "q", "gap", "grey", "sky", "ground"),
    constants={
        "grids": GRIDS,
        "descent": DESCENT,
        "levels": LEVELS,
        "ticks": [0, 0.1, 0.3, 0.6, 1, 2, 10],
        "bands": ramp(len(LEVELS)),
        "words": {
            "densities": "Densities of p, of the fitted q and of its start; the shaded area is the divergence.",
            "landscape": "The divergence over mean and deviation of q, its minima, and the descent from the start.",
        },
    },
)


def kl_explorer(seed: int = 0) -> Widget:
    """Return W-KL: a Gaussian q fitted to a mixture p; `seed` is that of surprises from Python."""
    return Widget(KL, seed)


# W-ELBO: row 1.8 ---------------------------------------------------------------------------------------------------

MODELS = {"linear": "x = 1.5 z + noise", "square": "x = z² + noise"}
DECODERS = {"linear": lambda z: 1.5 * z, "square": lambda z: z**2}
Z_GRID = grid(-13, 13, 1041)  # step 0.025 <= sigma / 4, and room for a wide q's tails
Z = torch.linspace(Z_GRID["low"], Z_GRID["high"], Z_GRID["n"], dtype=torch.float64)
MU_Q, SIGMA_Q = (-3.0, 3.0), (0.1, 2.0)  # the sliders' ends
STARTS = {"means": [-2.4, -1.6, -0.8, 0.0, 0.8, 1.6, 2.4], "logSigmas": [-1.5, -0.2], "nudge": 0.05}
NUDGES = STARTS["nudge"] * torch.cartesian_prod(
    *[torch.tensor([-1.0, 0.0, 1.0], dtype=Z.dtype)] * 2
)  # (9, 2) around an optimum
SHOWN_Z = slice(360, 681)  # -4 to 4: what the left panel draws
TERMS = ["log p(x)", "− KL(q ‖ p(z|x))", "E log p(x|z)", "− KL(q ‖ p(z))"]


class ELBONumbers(NamedTuple):
    """What W-ELBO shows: numpy arrays on Z[SHOWN_Z]; all else in nats."""

    prior: np.ndarray
    posterior: np.ndarray
    q: np.ndarray
    integrand: np.ndarray  # >= 0; its area is `gap`
    log_px: float
    elbo: float
    gap: float  # KL(q || p(z|x))
    reconstruction: float  # E_q log p(x|z)
    rate: float  # KL(q || p(z))
    optima: np.ndarray  # (N, 3) of (mu, sigma, gap): the local optima of the ELBO over q, the best first


def compute_elbo(state: State) -> ELBONumbers:
    """Return log p(x), the ELBO and what lies between them, each by its own quadrature over z.

    `state`: model, x, noise, mu, sigma (of q). Raises ``ValueError`` for an unknown model, noise <= 0 or sigma <= 0.
    """
    log_prior, log_likelihood = log_model(state)
    log_joint = log_prior + log_likelihood
    log_px = torch.trapezoid(log_joint.exp(), Z).log()
    log_posterior = log_joint - log_px
    log_q = gaussian_log_prob(Z, state["mu"], state["sigma"])
    density = {"prior": log_prior, "posterior": log_posterior, "q": log_q}
    return ELBONumbers(
        **{name: log[SHOWN_Z].exp().numpy() for name, log in density.items()},
        integrand=D.integrand(log_posterior, log_q, "reverse")[SHOWN_Z].numpy(),
        log_px=log_px.item(),
        elbo=D.elbo_quadrature(log_joint, log_q, Z).item(),
        gap=D.divergence(log_posterior, log_q, Z, "reverse").item(),
        reconstruction=torch.trapezoid(log_q.exp() * log_likelihood, Z).item(),
        rate=D.divergence(log_prior, log_q, Z, "reverse").item(),
        optima=optima(state["model"], state["x"], state["noise"]).numpy(),
    )


def log_model(state: State) -> tuple[Tensor, Tensor]:
    """Return log p(z) and log p(x | z) on the grid Z."""
    decoder = DECODERS[choose(state["model"], MODELS, "model")]
    observed = torch.tensor(state["x"], dtype=torch.float64)
    return gaussian_log_prob(Z, 0.0, 1.0), gaussian_log_prob(observed, decoder(Z), state["noise"])


@lru_cache(maxsize=64)
def optima(model: str, x: float, noise: float) -> Tensor:
    """Return the q at which the ELBO has a local maximum, rows (mu, sigma, gap) (N, 3), the best first.

    A posterior with one peak has one; the two peaks of the square model give one for each, and one over both.
    """
    starts = torch.cartesian_prod(*(torch.tensor(STARTS[k], dtype=Z.dtype) for k in ("means", "logSigmas")))
    log_posterior = log_posterior_of({"model": model, "x": x, "noise": noise})
    ends = descend(log_posterior, "reverse", starts, Z)[-1]  # (14, 2) of (mu, log sigma)
    gaps = values_at(log_posterior, "reverse", ends, Z)
    bent = values_at(log_posterior, "reverse", ends[:, None] + NUDGES, Z).amin(-1) < gaps - 1e-7  # a saddle is none
    found = []
    for i in sorted(range(len(gaps)), key=lambda i: (round(gaps[i].item(), 9), ends[i, 0].item())):  # twins by mean
        if not bent[i] and all((ends[i] - other[:2]).abs().max() > 1e-2 for other in found):
            found.append(torch.cat([ends[i], gaps[i : i + 1]]))
    table = torch.stack(found)
    return torch.stack([table[:, 0], table[:, 1].exp(), table[:, 2]], dim=-1)


def log_posterior_of(state: State) -> Tensor:
    """Return log p(z | x) on the grid Z."""
    log_joint = sum(log_model(state))
    return log_joint - torch.trapezoid(log_joint.exp(), Z).log()


def best_q(state: State) -> State:
    """Return mu and sigma of the local optimum below the present q: the least reverse KL to the posterior."""
    start = torch.tensor([[state["mu"], math.log(state["sigma"])]], dtype=Z.dtype)
    mu, log_sigma = descend(log_posterior_of(state), "reverse", start, Z)[-1, 0]
    return {"mu": float(mu.clamp(*MU_Q)), "sigma": float(log_sigma.exp().clamp(*SIGMA_Q))}


POSTERIOR = {"mu": 1.5**2 / (1.5**2 + 0.8**2), "sigma": 0.8 / math.hypot(1.5, 0.8)}  # of the linear model at the start
PEAKS = {"model": "square", "x": 2.0, "noise": 0.5}

ELBO = Declaration(
    name="elbo",
    title="Close the gap between the ELBO and log p(x)",
    controls={
        "model": Choice("model", "linear", MODELS),
        "x": Range("observed x", 1.5, -4, 6),
        "noise": Range("noise σ", 0.8, 0.3, 2, 0.05),
        "mu": Range("mean of q", 0.0, *MU_Q),
        "sigma": Range("σ of q", 1.0, *SIGMA_Q, 0.05),
    },
    compute=compute_elbo,
    presets=[
        ("Linear model, q is the prior: a loose bound", {}),
        ("Linear model, q is the posterior: no gap", POSTERIOR),
        ("Two peaks, q on one of them: the gap stays", {**PEAKS, "mu": 1.35, "sigma": 0.2}),
        ("Two peaks, q over both: a wider gap", {**PEAKS, "mu": 0.0, "sigma": 1.0}),
    ],
    surprise={"x": (-1, 4), "noise": (0.4, 1.2), "mu": (-2, 2), "sigma": (0.2, 1.5), "model": list(MODELS)},
    actions={"best": ("To the best q", best_q)},
    alt=(
        "Four states of prior, exact posterior and q over z, beside bars in nats: log p(x) minus KL from q to the "
        "posterior, and expected log-likelihood minus KL from q to the prior; both end at the ELBO. The gap is "
        "zero when q is the linear model's posterior, and never zero for the posterior with two peaks."
    ),
    colours=schemes("p", "q", "gap", "grey", "good", "amber"),
    constants={
        "grid": Z_GRID,
        "shown": [SHOWN_Z.start, SHOWN_Z.stop],
        "starts": STARTS,
        "descent": DESCENT,
        "words": {
            "densities": "Prior, exact posterior and q over z; the shaded area is the gap.",
            "bars": "log p(x) minus the gap, and expected log-likelihood minus the rate: both end at the ELBO.",
            "terms": TERMS,
        },
    },
)


def elbo_explorer(seed: int = 0) -> Widget:
    """Return W-ELBO: a Gaussian q against an exact posterior; `seed` is that of surprises from Python."""
    return Widget(ELBO, seed)

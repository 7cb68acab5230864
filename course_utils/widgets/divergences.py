"""Lecture 1: W-KL (fit a Gaussian to a mixture with a divergence of your choice) and W-ELBO (bound, value and gap)."""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import ipywidgets as widgets
import matplotlib as mpl
import numpy as np
import torch
from matplotlib import patheffects
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from torch import Tensor

from course_utils import divergences as D
from course_utils.densities import GaussianMixture, gaussian_log_prob
from course_utils.errors import choose
from course_utils.plots import COLOURS, figure
from course_utils.widgets.shell import Explorer, State, slider

WIDTH, HEIGHT = 8.8, 3.9  # inches: what fits a notebook in a window 1280 pixels wide
ABOVE = {"loc": "lower left", "bbox_to_anchor": (-0.02, 0.98), "ncols": 4, "columnspacing": 1.2, "handlelength": 1.2}


# W-KL: rows 1.4 and 1.5 --------------------------------------------------------------------------------------------

NAMES = {
    "forward": "forward KL(p‖q)",
    "reverse": "reverse KL(q‖p)",
    "js": "Jensen–Shannon",
    "alpha": "alpha",
}
X = torch.linspace(
    -22, 22, 221, dtype=torch.float64
)  # quadrature: step 0.2 <= sigma / 2, and room for a wide q's tails
SHOWN = torch.linspace(-9, 9, 301, dtype=torch.float64)  # what the left panel draws
MUS = torch.linspace(-5.5, 5.5, 45, dtype=torch.float64)
LOG_SIGMAS = torch.linspace(math.log(0.35), math.log(6), 31, dtype=torch.float64)
STRIDE = 0.35  # longest step of the descent in (mu, log sigma): short enough not to leap over a ridge
LEVELS = [0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1, 1.25, 1.5, 2, 3, 5, 10]
BANDS = ListedColormap(mpl.colormaps["Blues"](np.linspace(0.02, 0.85, len(LEVELS))))
NORM = BoundaryNorm(LEVELS, BANDS.N, extend="max")


class KLNumbers(NamedTuple):
    """What W-KL shows: numpy arrays on the grids SHOWN (X), MUS (M) and LOG_SIGMAS (S); divergences in nats."""

    name: str
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
    name = NAMES[choose(state["kind"], NAMES, "divergence")]
    kind = state["kind"]
    if kind == "alpha":
        kind, name = state["alpha"], f"alpha-divergence ({state['alpha']:.2f})"
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
        name=name,
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


def descend(log_p: Tensor, kind: str | float, start: Tensor, x: Tensor = X, steps: int = 60, h: float = 1e-3) -> Tensor:
    """Return the path (T, N, 2) of (mu, log sigma) downhill from N starts (N, 2) into the minima below them.

    `log_p` (G,) is that of the target on the grid `x`.

    Newton's method with derivatives by central differences, the absolute value of the curvatures, steps of at most
    STRIDE, and of each step the part that lowers the divergence most. A dozen steps in place of a gradient method's
    hundred, so that a slider can be followed.
    """
    path = [start]
    offsets = h * torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0], dtype=start.dtype)] * 2)  # (9, 2)
    parts = torch.tensor([0, 0.1, 0.3, 1], dtype=start.dtype)[:, None, None]
    for _ in range(steps):
        f = values_at(log_p, kind, path[-1][:, None] + offsets, x).reshape(-1, 3, 3)  # (N, 3, 3)
        gradient = torch.stack([f[:, 2, 1] - f[:, 0, 1], f[:, 1, 2] - f[:, 1, 0]], dim=-1) / (2 * h)
        if gradient.abs().max() < 1e-6:
            break
        a, b = (f[:, 2, 1] + f[:, 0, 1] - 2 * f[:, 1, 1]) / h**2, (f[:, 1, 2] + f[:, 1, 0] - 2 * f[:, 1, 1]) / h**2
        c = (f[:, 2, 2] + f[:, 0, 0] - f[:, 2, 0] - f[:, 0, 2]) / (4 * h**2)
        size, axes = torch.linalg.eigh(torch.stack([a, c, c, b], dim=-1).reshape(-1, 2, 2))
        along = (axes.mT @ gradient[..., None]) / size.abs().clamp(min=1e-2)[..., None]  # downhill at a saddle too
        step = (axes @ along)[..., 0]
        tried = path[-1] - parts * step / (step.norm(dim=-1, keepdim=True) / STRIDE).clamp(min=1)  # (4, N, 2)
        best = values_at(log_p, kind, tried, x).argmin(0)  # (N,)
        if not best.any():
            break
        path.append(tried[best, torch.arange(len(start))])
    return torch.stack(path)


def values_at(log_p: Tensor, kind: str | float, theta: Tensor, x: Tensor = X) -> Tensor:
    """Return the divergence at theta = (mu, log sigma) (..., 2) by quadrature on the grid `x`: (...)."""
    return D.divergence(log_p, gaussian_log_prob(x, theta[..., :1], theta[..., 1:].exp()), x, kind)


def make_kl_figure(height: float | None = None) -> tuple[Figure, dict[str, Any]]:
    """Return W-KL's figure and the artists that ``draw_kl`` moves."""
    fig, (left, right) = figure(ncols=2, width=WIDTH, height=height or HEIGHT, gridspec_kw={"width_ratios": [1.15, 1]})
    moving = {"animated": True}
    artists = {
        "left": left,
        "title": left.set_title(" ", loc="left", pad=26, **moving),
        "start": left.plot(SHOWN, 0 * SHOWN, ":", color=COLOURS["grey"], lw=1.5, label="start", **moving)[0],
        "integrand": left.fill([0], [0], color=COLOURS["gap"], alpha=0.5, lw=0, label="area = D", **moving)[0],
        "p": left.plot(SHOWN, 0 * SHOWN, color=COLOURS["p"], label="p", **moving)[0],
        "q": left.plot(SHOWN, 0 * SHOWN, color=COLOURS["q"], label="q, fitted", **moving)[0],
    }
    left.set(xlim=(-9, 9), ylim=(0, 1), xlabel="x", ylabel="density")
    left.locator_params(nbins=5)
    left.yaxis.set_major_formatter("{x:.2f}")
    order = [artists[k] for k in ("p", "q", "start", "integrand")]
    left.legend(handles=order, **ABOVE)

    (m, *_, last_m), (s, *_, last_s) = MUS.tolist(), LOG_SIGMAS.tolist()
    half_m, half_s = (last_m - m) / (len(MUS) - 1) / 2, (last_s - s) / (len(LOG_SIGMAS) - 1) / 2
    extent = (m - half_m, last_m + half_m, s - half_s, last_s + half_s)  # of pixels, whose centres the grid is
    artists["image"] = right.imshow(
        bands(np.zeros((len(LOG_SIGMAS), len(MUS)))), extent=extent, origin="lower", aspect="auto", zorder=0, **moving
    )
    halo = [patheffects.withStroke(linewidth=4, foreground="white")]
    ring = {"markeredgecolor": COLOURS["ink"], "linestyle": "none", "clip_on": False}
    artists["path"] = right.plot([], [], color=COLOURS["q"], lw=2, path_effects=halo, **moving)[0]
    artists["minima"] = right.plot([], [], "*", ms=14, color="white", label="minimum", zorder=3, **ring, **moving)[0]
    artists["from"] = right.plot([], [], "o", ms=7, color="white", label="start", zorder=4, **ring, **moving)[0]
    artists["to"] = right.plot([], [], "o", ms=7, color=COLOURS["q"], label="fit", zorder=4, **ring, **moving)[0]
    right.set(xlim=extent[:2], ylim=extent[2:], xlabel="μ", ylabel="σ")
    right.set_yticks(np.log([0.5, 1, 2, 4]), ["0.5", "1", "2", "4"])
    right.grid(False)
    right.set_title("landscape of D and its descent", loc="left", pad=26)
    right.legend(handles=[artists[k] for k in ("from", "to", "minima")], **ABOVE)
    ticks = [0, 0.1, 0.3, 0.6, 1, 2, 10]
    bar = fig.colorbar(ScalarMappable(NORM, BANDS), ax=right, label="D in nats", ticks=ticks, format="%g")
    bar.ax.tick_params(length=0)
    bar.minorticks_off()
    return fig, artists


def draw_kl(artists: dict[str, Any], numbers: KLNumbers) -> None:
    """Move W-KL's artists to these numbers."""
    artists["title"].set_text(f"{numbers.name} = {numbers.value:.3f} nats")
    for name in ("p", "q", "start"):
        artists[name].set_ydata(getattr(numbers, name))
    artists["integrand"].set_xy(outline(SHOWN, numbers.integrand))
    artists["left"].set_ylim(0, ceiling(max(numbers.p.max(), numbers.q.max(), 0.8 * numbers.integrand.max())))
    artists["image"].set_data(bands(numbers.landscape))
    artists["path"].set_data(*numbers.path.T)
    artists["from"].set_data(*numbers.path[:1].T)
    artists["to"].set_data(*numbers.path[-1:].T)
    artists["minima"].set_data(*numbers.minima[:, :2].T)


def bands(landscape: np.ndarray, zoom: int = 6) -> np.ndarray:
    """Return the landscape (S, M) as filled contours: an RGBA image, interpolated linearly, `zoom` times as fine."""
    fine = magnify(magnify(landscape, zoom).T, zoom).T
    level = np.searchsorted(LEVELS, fine, side="right") - 1
    return (BANDS.colors * 255).astype(np.uint8)[level.clip(0, len(LEVELS) - 1)]


def magnify(rows: np.ndarray, zoom: int) -> np.ndarray:
    """Return rows (N, M) interpolated linearly to (N zoom, M): pixels, with their values at the centres.

    No matrix product on purpose: its threads would wait for each other on a busy machine.
    """
    centres = ((np.arange(len(rows) * zoom) + 0.5) / zoom - 0.5).clip(0, len(rows) - 1)
    below = np.minimum(centres.astype(int), len(rows) - 2)
    part = (centres - below)[:, None]
    return (1 - part) * rows[below] + part * rows[below + 1]


def outline(x: Tensor, height: np.ndarray) -> np.ndarray:
    """Return the polygon (G + 2, 2) between a curve over x (G,) and zero."""
    return np.column_stack([np.r_[x[0], x, x[-1]], np.r_[0, height, 0]])


def ceiling(top: float) -> float:
    """Return a round upper limit for an axis; few different ones, so that the axis seldom changes."""
    return next(limit for limit in (0.3, 0.45, 0.6, 0.9, 1.2, 1.8, 2.4, 4, 8, 16, math.inf) if 1.1 * top < limit)


def nats(value: float, digits: int = 3) -> str:
    """Return the number with a true minus sign, and no minus before a zero."""
    return f"{value:z.{digits}f}".replace("-", "−")


def read_kl(numbers: KLNumbers) -> str:
    """Return the numbers of W-KL as a line of HTML."""
    mean, deviation = numbers.moments
    minima = ", ".join(f"{value:.3f}" for value in np.sort(numbers.minima[:, 2]))
    return (
        f"<b>{numbers.name}: {numbers.value:.4f} nats</b> at μ = {nats(numbers.mu)}, σ = {numbers.sigma:.3f} · "
        f"p: mean {nats(mean)}, deviation {deviation:.3f} · minima: {minima}"
    )


def surprise_kl(rng: np.random.Generator) -> State:
    """Return a random state of W-KL with two modes to choose from."""
    low_high = {
        "separation": (3, 7),
        "weight": (0.2, 0.8),
        "left": (0.4, 1.6),
        "right": (0.4, 1.6),
        "alpha": (0.1, 0.9),
    }
    state = {name: round(rng.uniform(*bounds), 1) for name, bounds in low_high.items()}
    start = {"mu": round(rng.uniform(-4, 4), 1), "sigma": round(rng.uniform(0.5, 3), 1)}
    return {**state, **start, "kind": str(rng.choice(list(NAMES)))}


def kl_explorer(seed: int = 0) -> Explorer:
    """Return W-KL: a Gaussian q fitted to a mixture p; `seed` is that of "Surprise me"."""
    options = [(label, kind) for kind, label in NAMES.items()]
    return Explorer(
        title="Fit a Gaussian q to a mixture p",
        controls={
            "kind": widgets.Dropdown(options=options, value="reverse", description="divergence"),
            "separation": slider("separation", 5.0, 0, 8),
            "mu": slider("start μ", -2.0, -5, 5),
            "alpha": slider("alpha", 0.5, 0, 1, 0.05),
            "left": slider("width left", 1.0, 0.4, 2),
            "sigma": slider("start σ", 1.0, 0.4, 4),
            "weight": slider("weight left", 0.5, 0.05, 0.95, 0.05),
            "right": slider("width right", 0.7, 0.4, 2),
        },
        compute=compute_kl,
        make_figure=make_kl_figure,
        draw=draw_kl,
        readout=read_kl,
        presets=[
            ("Forward KL covers both modes", {"kind": "forward"}),
            ("Reverse KL started on the left finds the left mode", {"mu": -2.0}),
            ("Reverse KL started on the right finds the right mode", {"mu": 2.0}),
            ("In between: alpha = 0.5", {"kind": "alpha", "alpha": 0.5}),
        ],
        surprise=surprise_kl,
        enabled=lambda state: {"alpha": state["kind"] == "alpha"},
        alt=(
            "Four fits of one Gaussian q to a mixture p with two modes, each with its integrand shaded and the descent "
            "drawn on the landscape over mu and sigma. Forward KL covers both modes with one wide Gaussian; reverse KL "
            "started on the left finds the left mode, started on the right the right one; alpha one half lies between."
        ),
        seed=seed,
    )


# W-ELBO: row 1.8 ---------------------------------------------------------------------------------------------------

MODELS = {"linear": "x = 1.5 z + noise", "square": "x = z² + noise"}
DECODERS = {"linear": lambda z: 1.5 * z, "square": lambda z: z**2}
Z = torch.linspace(-13, 13, 1041, dtype=torch.float64)  # step 0.025 <= sigma / 4, and room for a wide q's tails
MU_Q, SIGMA_Q = (-3.0, 3.0), (0.1, 2.0)  # the sliders' ends
NUDGES = 0.05 * torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0], dtype=Z.dtype)] * 2)  # (9, 2) around an optimum
SHOWN_Z = slice(360, 681)  # -4 to 4: what the left panel draws
BARS = {"log p(x)": "p", "− KL(q ‖ p(z|x))": "gap", "E$_q$ log p(x|z)": "good", "− KL(q ‖ p(z))": "amber"}


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
    starts = torch.cartesian_prod(
        torch.linspace(-2.4, 2.4, 7, dtype=Z.dtype), torch.tensor([-1.5, -0.2], dtype=Z.dtype)
    )
    log_posterior = log_posterior_of({"model": model, "x": x, "noise": noise})
    ends = descend(log_posterior, "reverse", starts, Z)[-1]  # (14, 2) of (mu, log sigma)
    gaps = values_at(log_posterior, "reverse", ends, Z)
    bent = values_at(log_posterior, "reverse", ends[:, None] + NUDGES, Z).amin(-1) < gaps - 1e-7  # a saddle is none
    found = []
    for i in gaps.argsort().tolist():
        if not bent[i] and all((ends[i] - other[:2]).abs().max() > 1e-2 for other in found):
            found.append(torch.cat([ends[i], gaps[i : i + 1]]))
    table = torch.stack(found)
    return torch.stack([table[:, 0], table[:, 1].exp(), table[:, 2]], dim=-1)


def log_posterior_of(state: State) -> Tensor:
    """Return log p(z | x) on the grid Z."""
    log_joint = sum(log_model(state))
    return log_joint - torch.trapezoid(log_joint.exp(), Z).log()


def best_q(state: State) -> State:
    """Return mu and sigma of the local optimum that descent finds from the present q: reverse KL to the posterior."""
    start = torch.tensor([[state["mu"], math.log(state["sigma"])]], dtype=Z.dtype)
    mu, log_sigma = descend(log_posterior_of(state), "reverse", start, Z)[-1, 0]
    return {"mu": float(mu.clamp(*MU_Q)), "sigma": float(log_sigma.exp().clamp(*SIGMA_Q))}


def make_elbo_figure(height: float | None = None) -> tuple[Figure, dict[str, Any]]:
    """Return W-ELBO's figure and the artists that ``draw_elbo`` moves."""
    fig, (left, right) = figure(ncols=2, width=WIDTH, height=height or HEIGHT)
    moving = {"animated": True}
    z = Z[SHOWN_Z]
    artists = {
        "left": left,
        "right": right,
        "integrand": left.fill([0], [0], color=COLOURS["gap"], alpha=0.5, lw=0, label="area = gap", **moving)[0],
        "prior": left.plot(z, 0 * z, color=COLOURS["grey"], lw=1, label="prior", **moving)[0],
        "posterior": left.plot(z, 0 * z, color=COLOURS["p"], label="posterior", **moving)[0],
        "q": left.plot(z, 0 * z, color=COLOURS["q"], label="q", **moving)[0],
        "title": right.set_title(" ", loc="right", **moving),
        "log_px": right.axvline(0, color=COLOURS["p"], lw=2, **moving),
        "elbo": right.axvline(0, color=COLOURS["q"], lw=2, ls="--", **moving),
    }
    left.set(xlim=(-4, 4), ylim=(0, 1), xlabel="z", ylabel="density")
    left.locator_params(nbins=5)
    left.yaxis.set_major_formatter("{x:.2f}")
    order = [artists[k] for k in ("posterior", "q", "prior", "integrand")]
    left.legend(handles=order, **ABOVE)
    rows = range(len(BARS), 0, -1)
    colours = [COLOURS[c] for c in BARS.values()]
    artists["bars"] = list(right.barh(rows, 0, height=0.6, color=colours, zorder=2))
    artists["labels"] = [right.text(0, row, "", va="center", ha="right", zorder=4, **moving) for row in rows]
    for bar in artists["bars"]:
        bar.set_animated(True)
    for label in artists["labels"]:
        label.set_path_effects([patheffects.withStroke(linewidth=3, foreground="white")])
    right.set_yticks(rows, BARS)
    right.set(xlim=(-5, 0.5), xlabel="nats", ylim=(0.5, len(BARS) + 0.5))
    right.tick_params(axis="y", length=0)
    right.grid(False, axis="y")
    right.locator_params(axis="x", nbins=6)
    return fig, artists


def draw_elbo(artists: dict[str, Any], numbers: ELBONumbers) -> None:
    """Move W-ELBO's artists to these numbers."""
    for name in ("prior", "posterior", "q"):
        artists[name].set_ydata(getattr(numbers, name))
    artists["integrand"].set_xy(outline(Z[SHOWN_Z], numbers.integrand))
    artists["left"].set_ylim(0, ceiling(max(numbers.posterior.max(), numbers.q.max())))
    artists["title"].set_text(f"ELBO = {nats(numbers.elbo, 2)} ≤ log p(x) = {nats(numbers.log_px, 2)}")
    for name in ("log_px", "elbo"):
        artists[name].set_xdata([getattr(numbers, name)] * 2)
    ends = [(0, numbers.log_px), (numbers.log_px, numbers.elbo)]
    ends += [(0, numbers.reconstruction), (numbers.reconstruction, numbers.elbo)]
    for bar, label, (start, end) in zip(artists["bars"], artists["labels"], ends, strict=True):
        bar.set(x=start, width=end - start)
        label.set(x=min(start, end), text=nats(end - start) + " ")
    deepest = min(numbers.elbo, numbers.reconstruction)
    artists["right"].set_xlim(floor(deepest), 0.1 * -floor(deepest))


def floor(value: float) -> float:
    """Return a round lower limit for the axis of the bars, with room for a label; few different ones."""
    return -next(f * 10**k for k in range(6) for f in (3, 5, 10, 20) if 1.5 * -value < f * 10**k or k == 5)


def read_elbo(numbers: ELBONumbers) -> str:
    """Return the numbers of W-ELBO as a line of HTML."""
    several = [f"gap {nats(gap)} at mean {nats(mu, 2)}, σ {sigma:.2f}" for mu, sigma, gap in numbers.optima]
    choice = (
        ""
        if len(several) < 2
        else (
            f"<br>{len(several)} local optima for q: {'; '.join(several)}. "
            "“To the best q” descends into the one below the present q"
        )
    )
    return (
        f"<b>log p(x) {nats(numbers.log_px, 4)} = ELBO {nats(numbers.elbo, 4)} + gap {nats(numbers.gap, 4)}</b> nats · "
        f"ELBO = {nats(numbers.reconstruction, 4)} (E<sub>q</sub> log p(x|z)) − {nats(numbers.rate, 4)} (KL(q ‖ p(z)))"
        + choice
    )


def surprise_elbo(rng: np.random.Generator) -> State:
    """Return a random state of W-ELBO."""
    low_high = {"x": (-1, 4), "noise": (0.4, 1.2), "mu": (-2, 2), "sigma": (0.2, 1.5)}
    state = {name: round(rng.uniform(*bounds), 1) for name, bounds in low_high.items()}
    return {**state, "model": str(rng.choice(list(MODELS)))}


def elbo_explorer(seed: int = 0) -> Explorer:
    """Return W-ELBO: a Gaussian q against an exact posterior; `seed` is that of "Surprise me"."""
    posterior = {"mu": 1.5**2 / (1.5**2 + 0.8**2), "sigma": 0.8 / math.hypot(1.5, 0.8)}
    return Explorer(
        title="Close the gap between the ELBO and log p(x)",
        controls={
            "model": widgets.Dropdown(options=[(label, key) for key, label in MODELS.items()], description="model"),
            "x": slider("observed x", 1.5, -4, 6),
            "noise": slider("noise σ", 0.8, 0.3, 2, 0.05),
            "mu": slider("mean of q", 0.0, *MU_Q),
            "sigma": slider("σ of q", 1.0, *SIGMA_Q, 0.05),
        },
        compute=compute_elbo,
        make_figure=make_elbo_figure,
        draw=draw_elbo,
        readout=read_elbo,
        presets=[
            ("Linear model, q is the prior: a loose bound", {}),
            ("Linear model, q is the posterior: no gap", posterior),
            (
                "Two peaks, q on one of them: the gap stays",
                {"model": "square", "x": 2.0, "noise": 0.5, "mu": 1.35, "sigma": 0.2},
            ),
            (
                "Two peaks, q over both: a wider gap",
                {"model": "square", "x": 2.0, "noise": 0.5, "mu": 0.0, "sigma": 1.0},
            ),
        ],
        surprise=surprise_elbo,
        actions={"To the best q": best_q},
        alt=(
            "Four states of prior, exact posterior and q over z, beside bars in nats: log p(x) minus KL from q to the "
            "posterior, and expected log-likelihood minus KL from q to the prior; both end at the ELBO. The gap is "
            "zero when q is the linear model's posterior, and never zero for the posterior with two peaks."
        ),
        seed=seed,
    )

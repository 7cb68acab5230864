"""Lecture 3: W-GAN, the film of a training, interpolation of latents, and the switchboard of remedies on a ring."""

import copy
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any, NamedTuple

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullFormatter
from torch import Tensor

from course_utils import data, gan, networks
from course_utils import divergences as D
from course_utils.densities import GaussianMixture, gaussian_log_prob
from course_utils.errors import choose, require
from course_utils.metrics import mode_counts
from course_utils.paths import lerp, slerp
from course_utils.plots import COLOURS, figure, image_grid
from course_utils.training import Interrupted
from course_utils.widgets.shell import SHEET_HEIGHT, Explorer, State, one_thread, slider

WIDTH = 8.8  # inches: what fits a notebook in a window 1280 pixels wide


def legend_above(ax: Axes, lines: Sequence[Any], left: float = -0.08) -> None:
    """Name the lines in one row above the panel, which keeps its size whatever the names' lengths."""
    row = {"ncols": len(lines), "columnspacing": 0.9, "handlelength": 1.1, "handletextpad": 0.4, "borderpad": 0}
    ax.legend(handles=lines, loc="lower left", bbox_to_anchor=(left, 1.03), **row).set_in_layout(False)
    ax.set_title(" ")  # keeps the room


def signed(value: float, digits: int = 2) -> str:
    """Return the number with a true minus sign, and no minus before a zero."""
    return f"{value:z.{digits}f}".replace("-", "−")


# W-GAN: rows 3.2 and 3.3 --------------------------------------------------------------------------------------------

DATA = {"one": ("one mode", [1.0], [0.0], [1.0]), "two": ("two modes", [0.5, 0.5], [-2.0, 2.0], [0.6, 0.6])}
X = torch.linspace(-26, 26, 1041, dtype=torch.float64)  # step 0.05 <= width / 6, and room for the tails of all p_g
SHOWN = slice(280, 761)  # -12 to 12: what the left panel draws
MEANS = torch.linspace(-10, 10, 161, dtype=torch.float64)
WIDTHS = (0.3, 3.0)  # the slider's ends
FLOOR = 1e-8  # the smallest gradient that is drawn


class Curves(NamedTuple):
    """What depends on p_g's mean, (M,) each: values in nats, derivatives of the generator's losses by the mean."""

    value: Tensor  # V of the discriminator at hand
    best: Tensor  # V of the optimal one
    js: Tensor
    w1: Tensor
    saturating: Tensor
    non_saturating: Tensor


class GANNumbers(NamedTuple):
    """What W-GAN shows: densities and D on X[SHOWN], all else over MEANS, and at the present mean."""

    p: np.ndarray
    q: np.ndarray
    d: np.ndarray
    curves: Curves
    mean: float
    here: Curves  # () each
    sharpness: float


@lru_cache
def real_density(kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return log p_r, its derivative and its cumulative distribution on the grid X; `kind` is one of DATA."""
    _, *parts = DATA[choose(kind, DATA, "data")]
    mixture, x = GaussianMixture(*parts), X.clone().requires_grad_(True)
    log_p = mixture.log_prob(x)
    (slope,) = torch.autograd.grad(log_p.sum(), x)
    return log_p.detach(), slope, mixture.cdf(X)


def curves_at(means: Tensor, kind: str, width: float, sharpness: float) -> Curves:
    """Return value, divergences and gradients for p_g = N(mean, width²) at each of the means (M,), by quadrature.

    The discriminator's logits are `sharpness` times the optimal ones. It is held fixed in the gradients, which go
    through the sample x = mean + width * noise alone: the derivative is E over p_g of the loss's slope in x.
    """
    log_p, slope_p, cdf_p = real_density(kind)
    mean = means[:, None]
    log_q = gaussian_log_prob(X, mean, width)  # (M, G); raises for width <= 0
    optimal = log_p - log_q
    logits = sharpness * optimal
    slope = sharpness * (slope_p + (X - mean) / width**2)  # of the logits, in x
    believed = logits.sigmoid()  # D
    q = log_q.exp()
    return Curves(
        value=gan.game_value(logits, log_p, log_q, X),
        best=gan.game_value(optimal, log_p, log_q, X),
        js=D.divergence(log_p.expand_as(log_q), log_q, X, "js"),
        w1=torch.trapezoid((cdf_p - torch.special.ndtr((X - mean) / width)).abs(), X),
        saturating=-torch.trapezoid(q * believed * slope, X),  # of log(1 - D)
        non_saturating=-torch.trapezoid(q * (1 - believed) * slope, X),  # of -log D
    )


@lru_cache(maxsize=64)
def curves_of(kind: str, width: float, sharpness: float) -> Curves:
    """Return the curves over MEANS: they stay as they are while only the mean moves."""
    return curves_at(MEANS, kind, width, sharpness)


def compute_gan(state: State) -> GANNumbers:
    """Return what W-GAN shows of the game between p_r and p_g = N(mean, width²).

    `state`: data (one of DATA), mean, width, sharpness (of the discriminator: 1 optimal, 0 knows nothing). Raises
    ``ValueError`` for unknown data, a width that is not positive or a sharpness outside [0, 1].
    """
    kind, mean, width, sharpness = (state[name] for name in ("data", "mean", "width", "sharpness"))
    require(0 <= sharpness <= 1, f"sharpness = {sharpness}; allowed are 0 (knows nothing) to 1 (optimal)")
    log_p, *_ = real_density(kind)
    log_q = gaussian_log_prob(X, mean, width)
    here = curves_at(torch.tensor([mean], dtype=X.dtype), kind, width, sharpness)
    return GANNumbers(
        p=log_p[SHOWN].exp().numpy(),
        q=log_q[SHOWN].exp().numpy(),
        d=(sharpness * (log_p - log_q)).sigmoid()[SHOWN].numpy(),
        curves=curves_of(kind, width, sharpness),
        mean=mean,
        here=Curves(*(v[0] for v in here)),
        sharpness=sharpness,
    )


def make_gan_figure(height: float | None = None) -> tuple[Figure, dict[str, Any]]:
    """Return W-GAN's figure and the artists that ``draw_gan`` moves."""
    fig, (left, middle, right) = figure(3, width=WIDTH, height=height or 3.3, gridspec_kw={"width_ratios": [1, 1, 0.9]})
    belief, distance = left.twinx(), middle.twinx()
    moving, x, means = {"animated": True}, X[SHOWN].numpy(), MEANS.numpy()
    artists = {
        "left": left,
        "p": left.plot(x, 0 * x, color=COLOURS["p"], label="$p_r$", **moving)[0],
        "q": left.plot(x, 0 * x, color=COLOURS["q"], label="$p_g$", **moving)[0],
        "d": belief.plot(x, 0 * x, "--", color=COLOURS["good"], lw=1.6, label="D", **moving)[0],
    }
    left.set(xlim=(-12, 12), ylim=(0, 0.5), xlabel="x", ylabel="density")
    left.yaxis.set_major_formatter("{x:.1f}")
    legend_above(left, [artists[k] for k in ("p", "q", "d")])
    second_scale(belief, COLOURS["good"], (0, 1.02), [0, 0.5, 1])

    curve, spot = {"lw": 1.8, **moving}, {"ms": 7, "clip_on": False, "zorder": 5, **moving}
    names = {"best": ("-", COLOURS["gap"], "V(D*, G)"), "value": (":", COLOURS["ink"], "V(D, G)")}
    for name, (style, colour, label) in names.items():
        artists[name] = middle.plot(means, 0 * means, style, color=colour, label=label, **curve)[0]
    artists["w1"] = distance.plot(means, 0 * means, "-", color=COLOURS["amber"], label="$W_1$", **curve)[0]
    for level, text in ((0, "JS = log 2"), (-math.log(4), "JS = 0")):
        middle.axhline(level, color=COLOURS["grey"], lw=0.8, ls=(0, (4, 3)))
        middle.text(-9.6, level + 0.02, text, fontsize=9, color="#555555", va="bottom")
    middle.set(xlim=(-10, 10), ylim=(-1.5, 0.2), xlabel="mean of $p_g$", ylabel="V in nats")
    middle.set_yticks([-1.5, -1.0, -0.5, 0.0], ["−1.5", "−1.0", "−0.5", "0.0"])
    legend_above(middle, [artists[k] for k in ("best", "value", "w1")])
    second_scale(distance, "#9a6a00", (0, 11.5), [0, 5, 10])

    for name, colour, style in (("non_saturating", COLOURS["p"], "-"), ("saturating", COLOURS["q"], "--")):
        label = name.replace("_", "-")
        artists[name] = right.plot(means, 0 * means + 1, style, color=colour, label=label, **curve)[0]
    right.set(xlim=(-10, 10), xlabel="mean of $p_g$", ylabel="|gradient|")
    right.set(yscale="log", ylim=(FLOOR, 1e3))
    right.set_yticks([1e-8, 1e-6, 1e-4, 1e-2, 1, 100])
    right.yaxis.set_minor_formatter(NullFormatter())
    legend_above(right, [artists[k] for k in ("saturating", "non_saturating")], left=-0.28)
    for name in ("best", "value", "w1", "saturating", "non_saturating"):
        line = artists[name]
        artists[f"{name} here"] = line.axes.plot([0], [1], "o", color=line.get_color(), **spot)[0]
    return fig, artists


def second_scale(ax: Axes, colour: str, limits: tuple[float, float], ticks: list[float]) -> None:
    """Give a twin axes its scale on the right, in the colour of its curve."""
    ax.set(ylim=limits)
    ax.set_yticks(ticks, [f"{t:g}" for t in ticks])
    ax.tick_params(axis="y", colors=colour)
    ax.grid(False)


def draw_gan(artists: dict[str, Any], numbers: GANNumbers) -> None:
    """Move W-GAN's artists to these numbers."""
    for name in ("p", "q", "d"):
        artists[name].set_ydata(getattr(numbers, name))
    artists["left"].set_ylim(0, next(top for top in (0.5, 0.8, 1.5) if numbers.q.max() < top))
    for name in ("best", "value", "w1", "saturating", "non_saturating"):
        curve, here = (getattr(c, name) for c in (numbers.curves, numbers.here))
        if "saturating" in name:
            curve, here = (v.abs().clamp(min=FLOOR) for v in (curve, here))
        artists[name].set_ydata(curve.numpy())
        artists[f"{name} here"].set_data([numbers.mean], [float(here)])
    for name in ("value", "value here"):  # the same as the best, unless D is not optimal
        artists[name].set_visible(numbers.sharpness < 1)


def read_gan(numbers: GANNumbers) -> str:
    """Return the numbers of W-GAN as a line of HTML."""
    here = Curves(*(float(v) for v in numbers.here))
    return (
        f"<b>V(D*, G) = −log 4 + 2 JS = {signed(here.best, 4)}, JS = {here.js:.4f}</b> "
        f"· V(D, G) = {signed(here.value, 4)} · W₁ = {here.w1:.3f} "
        f"· gradient: saturating {scientific(here.saturating)}, non-saturating {scientific(here.non_saturating)}"
    )


def scientific(value: float) -> str:
    """Return a number of any size, with two decimals or as a power of ten; what is only rounding is 0."""
    if abs(value) < 1e-13:
        return "0"
    if 0.01 <= abs(value) < 1000:
        return signed(value, 3)
    mantissa, exponent = f"{value:.1e}".split("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa}·10{raised}".replace("-", "−")


def surprise_gan(rng: np.random.Generator) -> State:
    """Return a random state of W-GAN."""
    low_high = {"mean": (-8, 8), "width": (0.4, 2)}
    state = {name: round(rng.uniform(*bounds), 1) for name, bounds in low_high.items()}
    return {**state, "data": str(rng.choice(list(DATA))), "sharpness": float(rng.choice([0.2, 0.5, 1.0]))}


def gan_explorer(seed: int = 0) -> Explorer:
    """Return W-GAN: move p_g, see D*, the game's value and the generator's gradients; `seed` of "Surprise me"."""
    return Explorer(
        title="The optimal discriminator, the game's value and the generator's gradient",
        controls={
            "data": widgets.Dropdown(options=[(v[0], kind) for kind, v in DATA.items()], description="data"),
            "mean": slider("mean of p_g", 4.0, -10, 10),
            "width": slider("width of p_g", 1.0, *WIDTHS),
            "sharpness": slider("D trained", 1.0, 0, 1, 0.05),
        },
        compute=compute_gan,
        make_figure=make_gan_figure,
        draw=draw_gan,
        readout=read_gan,
        presets=[
            ("Near the data both losses have a gradient", {"mean": 1.5}),
            ("Far away JS is flat at log 2, the saturating gradient vanishes, W₁ is linear", {"mean": 8.0}),
            (
                "A discriminator that is not so well trained leaves some of the saturating gradient",
                {"mean": 8.0, "sharpness": 0.2},
            ),
            (
                "Two modes, the generator on one of them: a game that stands still",
                {"data": "two", "mean": 2.0, "width": 0.6},
            ),
        ],
        surprise=surprise_gan,
        alt=(
            "Four states of the game between data p_r and a Gaussian p_g: densities with the discriminator, the value "
            "V and the Wasserstein distance over the mean of p_g, and the sizes of the generator's gradients. Near the "
            "data both losses have a gradient. Far away V is flat at 0, where JS is log 2, and the saturating gradient "
            "is below a thousandth, while the Wasserstein distance is linear and the non-saturating gradient grows "
            "with the distance. A discriminator with a fifth of the optimal logits leaves more of the saturating "
            "gradient. On one of two modes both gradients are small."
        ),
        seed=seed,
    )


# Images of a generator -----------------------------------------------------------------------------------------------


def own_copy(model: gan.GAN, side: int) -> gan.GAN:
    """Return a copy on the CPU, in evaluation mode, that later training leaves alone.

    Raises ``ValueError`` for what is no GAN of images with side x side pixels.
    """
    require(isinstance(model, gan.GAN), f"model is a {type(model).__name__}; a course_utils.gan.GAN is needed")
    model = copy.deepcopy(model).cpu().float().eval()
    pixels = model.decode(torch.zeros(2, model.latents)).shape[-1]
    require(pixels == side**2, f"side = {side}, but the model's images have {pixels} pixels; side * side is needed")
    return model


def mosaic(images: np.ndarray, ncols: int, gap: int = 2) -> np.ndarray:
    """Return images (N, H, W), N a multiple of `ncols`, as one with gaps of NaN between them."""
    padded = np.pad(images, ((0, 0), (0, gap), (0, gap)), constant_values=np.nan)
    n, h, w = padded.shape
    return padded.reshape(n // ncols, ncols, h, w).swapaxes(1, 2).reshape(-1, ncols * w)[:-gap, :-gap]


def moving_grid(ax: Axes, rows: int, ncols: int, side: int, title: str = "") -> AxesImage:
    """Draw an empty grid of images in [-1, 1] and return the artist whose data ``mosaic`` gives."""
    image_grid(ax, np.full((rows * ncols, side, side), -1.0), ncols=ncols, vmin=-1, vmax=1)
    ax.images[0].set_animated(True)
    ax.set_title(title, loc="left")
    return ax.images[0]


# The film: row 3.5 ---------------------------------------------------------------------------------------------------

ROWS, COLUMNS = 6, 8
PERCENT = [f"{100 * moment:g} %" for moment in gan.MOMENTS]


class FilmNumbers(NamedTuple):
    """What the film shows at one moment: images (N, side, side) in [-1, 1]."""

    k: int
    fixed: np.ndarray
    fresh: np.ndarray
    score: float | None


def compute_film(film: gan.Film, side: int, seed: int, scores: list[float] | None, state: State) -> FilmNumbers:
    """Return the images of a moment; fresh latents are new at each of them. ``ValueError`` for an unknown moment."""
    k = PERCENT.index(choose(state["moment"], PERCENT, "moment"))
    latents = [film.players.latent(ROWS * COLUMNS, data.generator(s)) for s in (seed, 1000 + 100 * seed + k)]
    fixed, fresh = (film.decode(k, z).view(-1, side, side).numpy() for z in latents)
    return FilmNumbers(k, fixed, fresh, scores and scores[k])


class FilmExplorer(Explorer):
    """An explorer whose one slider a Play button moves too: in the browser, so that no callback waits for it."""

    def _arrange(self) -> widgets.Box:
        moment = self.controls["moment"]
        moment.style.description_width, moment.layout.width = "84px", "auto"
        moment.layout.flex = "1 1 260px"
        self.play = widgets.Play(min=0, max=len(PERCENT) - 1, interval=700, show_repeat=False)
        self.link = widgets.jslink((self.play, "value"), (moment, "index"))
        return widgets.HBox([moment, self.play], layout=widgets.Layout(flex_flow="row wrap", grid_gap="0 12px"))


def film_explorer(
    film: gan.Film | None = None,
    side: int = 28,
    seed: int = 0,
    scores: Sequence[float] | None = None,
    score_name: str = "Fréchet distance",
) -> Explorer:
    """Return the scrubber of a training: images of fixed latents, and of fresh ones, at each of its moments.

    `film` has images of side x side pixels; without one, that of the course (MNIST). `scores`: a number for each
    of ``gan.MOMENTS``, drawn over the training under the name `score_name`. `seed` is that of the latents and of
    "Surprise me". Raises ``ValueError`` for what is no film, another side or another number of scores.
    """
    if film is None:
        film = gan.Film(networks.load("gan_mnist"), networks.extras("gan_mnist")["film"])
    require(isinstance(film, gan.Film), f"film is a {type(film).__name__}; a course_utils.gan.Film is needed")
    film = gan.Film(own_copy(film.players, side), film.frames.clone())
    n = len(gan.MOMENTS)
    scores = None if scores is None else [float(v) for v in scores]
    require(scores is None or len(scores) == n, f"{scores and len(scores)} scores; one for each of {n} moments")
    return FilmExplorer(
        title="The film of a training",
        controls={"moment": widgets.SelectionSlider(options=PERCENT, value=PERCENT[0], description="training")},
        compute=partial(compute_film, film, side, seed, scores),
        make_figure=partial(make_film_figure, side, scores, score_name),
        draw=draw_film,
        readout=lambda numbers: read_film(numbers, score_name),
        presets=[(f"After {PERCENT[k]} of the training", {"moment": PERCENT[k]}) for k in (0, 3, 6, n - 1)],
        surprise=lambda rng: {"moment": str(rng.choice(PERCENT))},
        alt=(
            f"Samples of a generator after {', '.join(PERCENT[k] for k in (0, 3, 6, n - 1))} of its training, on the "
            "left of the same latents all the time, on the right of fresh ones: from noise to images."
        ),
        seed=seed,
    )


def make_film_figure(
    side: int, scores: list[float] | None, score_name: str, height: float | None = None
) -> tuple[Figure, dict[str, Any]]:
    """Return the film's figure, with a panel for the scores if there are any, and the artists that move."""
    ratios = {"width_ratios": [1, 1, 0.75]} if scores else {}
    size = {"width": WIDTH, "height": 1.15 * (height or SHEET_HEIGHT) if scores else 3.6}
    fig, panels = figure(3 if scores else 2, **size, gridspec_kw=ratios)
    artists = {
        name: moving_grid(ax, ROWS, COLUMNS, side, f"{name} latents")
        for name, ax in zip(("fixed", "fresh"), panels[:2], strict=True)
    }
    if scores:
        artists["spot"] = score_panel(panels[2], scores, score_name)
    return fig, artists


def score_panel(ax: Axes, scores: list[float], name: str) -> Any:
    """Draw scores over the training's moments and return the marker that moves along them."""
    ks = range(len(scores))
    ax.plot(ks, scores, "o-", color=COLOURS["grey"], ms=4)
    ax.set_title(name, loc="left")
    if min(scores) > 0:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
    shown = list(ks)[::4]
    ax.set_xticks(shown, [PERCENT[k] for k in shown])
    ax.set_xlabel("training")
    return ax.plot([0], scores[:1], "o", color=COLOURS["q"], ms=9, clip_on=False, animated=True)[0]


def draw_film(artists: dict[str, Any], numbers: FilmNumbers) -> None:
    """Show the images of a moment, and its place among the scores."""
    for name in ("fixed", "fresh"):
        artists[name].set_data(mosaic(getattr(numbers, name), COLUMNS))
    if "spot" in artists:
        artists["spot"].set_data([numbers.k], [numbers.score])


def read_film(numbers: FilmNumbers, score_name: str) -> str:
    """Return the moment as a line of HTML."""
    score = "" if numbers.score is None else f" · {score_name} {numbers.score:.4g}"
    return f"<b>after {PERCENT[numbers.k]} of the training</b>{score} · Play runs through all {len(PERCENT)} moments"


# Interpolation: row 3.6 ----------------------------------------------------------------------------------------------

PATHS = {"straight": ("straight", lerp), "sphere": ("on the sphere", slerp)}
STOPS = 11  # images of a strip
T = torch.linspace(0, 1, 101, dtype=torch.float64)
PAIRS = 99  # the largest number of a pair


class InterpolationNumbers(NamedTuple):
    """What the interpolation shows: images (N, side, side) in [-1, 1] and norms of latents."""

    path: str
    t: float
    strips: dict[str, np.ndarray]
    image: np.ndarray  # (side, side)
    norms: dict[str, np.ndarray]  # (101,) over T
    norm: float
    shorter: float  # share of the prior's latents with a smaller norm


def chi_density(r: Tensor, k: int) -> Tensor:
    """Return the density at r (...), positive, of the norm of k standard normal numbers: (...)."""
    return ((k - 1) * r.log() - r.square() / 2 - (k / 2 - 1) * math.log(2) - math.lgamma(k / 2)).exp()


def chi_cumulative(r: Tensor, k: int) -> Tensor:
    """Return the probability of a norm below r (...): (...)."""
    return torch.special.gammainc(torch.tensor(k / 2, dtype=r.dtype), r.square() / 2)


def compute_interpolation(model: gan.GAN, side: int, seed: int, state: State) -> InterpolationNumbers:
    """Return the images along both paths between a pair of latents, and where t is on the chosen one.

    `state`: path (one of PATHS), t, pair. Raises ``ValueError`` for an unknown path.
    """
    kind, t = choose(state["path"], PATHS, "path"), state["t"]
    a, b = model.latent(2, data.generator(1000 * seed + state["pair"])).double()
    paths = {name: walk(a, b, T) for name, (_, walk) in PATHS.items()}  # (101, latents) each
    here = PATHS[kind][1](a, b, torch.tensor([t], dtype=T.dtype))  # (1, latents)
    stops = [path[:: (len(T) - 1) // (STOPS - 1)] for path in paths.values()]
    images = model.decode(torch.cat([*stops, here]).float()).view(-1, side, side).numpy()
    return InterpolationNumbers(
        path=kind,
        t=t,
        strips={name: images[i * STOPS : (i + 1) * STOPS] for i, name in enumerate(paths)},
        image=images[-1],
        norms={name: path.norm(dim=-1).numpy() for name, path in paths.items()},
        norm=here.norm().item(),
        shorter=chi_cumulative(here.norm(), model.latents).item(),
    )


def interpolation_explorer(model: gan.GAN | None = None, side: int = 28, seed: int = 0) -> Explorer:
    """Return two latents and the paths between them, straight and on the sphere: images, and norms beside the prior's.

    `model` has images of side x side pixels; without one, that of the course (MNIST). `seed` is that of the latents
    and of "Surprise me". Raises ``ValueError`` for a model with another side.
    """
    model = own_copy(networks.load("gan_mnist") if model is None else model, side)
    return Explorer(
        title="From one latent to another",
        controls={
            "path": widgets.Dropdown(options=[(label, kind) for kind, (label, _) in PATHS.items()], description="path"),
            "t": slider("t", 0.5, 0, 1, 0.05),
            "pair": widgets.IntSlider(value=0, min=0, max=PAIRS, description="pair"),
        },
        compute=partial(compute_interpolation, model, side, seed),
        make_figure=partial(make_interpolation_figure, side, model.latents),
        draw=draw_interpolation,
        readout=read_interpolation,
        presets=[
            ("Half-way on the straight path: a latent shorter than the prior's", {}),
            ("Half-way on the sphere: a latent of the usual length", {"path": "sphere"}),
        ],
        surprise=lambda rng: {"pair": int(rng.integers(PAIRS + 1)), "t": 0.5},
        alt=(
            "Images along two paths between the same two latents, straight and on the sphere, the image half-way, and "
            f"the norms along both paths over the density of norms under the prior with {model.latents} dimensions: in "
            "the middle the straight path goes where the prior has hardly any mass, the other stays among usual norms."
        ),
        seed=seed,
    )


COLOURS_OF = {"straight": COLOURS["q"], "sphere": COLOURS["p"]}


def make_interpolation_figure(side: int, latents: int, height: float | None = None) -> tuple[Figure, dict[str, Any]]:
    """Return the figure of two strips, one image and the norms, and the artists that ``draw_interpolation`` moves.

    It is equally high in the saved picture: less would not do for the strips.
    """
    top = 1.25 * math.sqrt(latents) + 1.2  # of the axis of norms
    fig, grid = figure(
        2, 3, width=WIDTH, height=4.9, gridspec_kw={"height_ratios": [1, 1, 3.0], "width_ratios": [1, 2]}
    )
    artists: dict[str, Any] = {"strips": {}, "norms": {}}
    for row, (kind, (label, _)) in zip(grid[:2], PATHS.items(), strict=True):
        row[1].remove()
        row[0].set_subplotspec(row[0].get_gridspec()[list(PATHS).index(kind), :])
        artists["strips"][kind] = moving_grid(row[0], 1, STOPS, side)
        row[0].set_ylabel(label.replace(" sp", "\nsp"), color=COLOURS_OF[kind], rotation=0, ha="right", va="center")
    edge = {"color": COLOURS["ink"], "lw": 2.5, "fill": False, "animated": True}
    artists["frames"] = {kind: strip_frame(s.axes, edge) for kind, s in artists["strips"].items()}
    artists["step"] = side + 2
    large, norms = grid[2]
    artists["image"] = moving_grid(large, 1, 1, side, "at t")
    r = torch.linspace(0.01, top, 300, dtype=torch.float64)
    norms.imshow(
        chi_density(r, latents).numpy()[:, None],
        origin="lower",
        extent=(0, 1, 0, top),
        aspect="auto",
        cmap="Greys",
        alpha=0.45,
    )
    for kind, (label, _) in PATHS.items():
        artists["norms"][kind] = norms.plot(
            T.numpy(), 0 * T.numpy(), color=COLOURS_OF[kind], label=label, animated=True
        )[0]
    artists["spot"] = norms.plot([0], [0], "o", ms=9, clip_on=False, animated=True, zorder=5)[0]
    norms.set(xlim=(0, 1), ylim=(0, top), xlabel="t", ylabel="norm of the latent")
    norms.set_title("grey: density of norms under the prior", loc="left", fontsize=11)
    norms.legend(loc="lower left", ncols=2)
    return fig, artists


def strip_frame(ax: Axes, style: dict) -> Any:
    """Add the frame around the image of a strip that is nearest to t."""
    return ax.add_patch(Rectangle((-1, -1), 1, 1, clip_on=False, **style))


def draw_interpolation(artists: dict[str, Any], numbers: InterpolationNumbers) -> None:
    """Show the strips, the image at t and the norms."""
    side = artists["step"] - 2
    for kind in PATHS:
        artists["strips"][kind].set_data(mosaic(numbers.strips[kind], STOPS))
        artists["norms"][kind].set_ydata(numbers.norms[kind])
        frame = artists["frames"][kind]
        frame.set_bounds(round(numbers.t * (STOPS - 1)) * artists["step"] - 1.5, -1.5, side + 2, side + 2)
        frame.set_visible(kind == numbers.path)
    artists["image"].set_data(numbers.image)
    artists["spot"].set_data([numbers.t], [numbers.norm])
    artists["spot"].set_color(COLOURS_OF[numbers.path])


def read_interpolation(numbers: InterpolationNumbers) -> str:
    """Return the norm at t as a line of HTML."""
    return (
        f"<b>{PATHS[numbers.path][0]}, t = {numbers.t:.2f}: norm {numbers.norm:.2f}</b>; under the prior "
        f"{100 * numbers.shorter:.2g} % of the latents are shorter"
    )


# The switchboard: row 3.7 --------------------------------------------------------------------------------------------

REMEDIES = {  # control -> (label, what it is in a Game; spectral norm belongs to the network)
    "r1": ("R1 penalty", {"r1": 0.3}),
    "gp": ("gradient penalty", {"gp": 1.0}),
    "spectral": ("spectral norm", {}),
    "smooth": ("label smoothing", {"smooth": 0.1}),
    "noise": ("label noise", {"noise": 0.1}),
    "flip": ("label flips", {"flip": 0.05}),
    "blur": ("blur", {"blur": 0.1}),
}
LABELS = ("smooth", "noise", "flip")  # what only a cross-entropy has
PLAIN: State = {
    "loss": "non-saturating",
    "momentum": 0.9,
    "critic_steps": 1,
    "seed": 0,
    **dict.fromkeys(REMEDIES, False),
}
RING_STEPS = 2000
LOOKS = 20  # how often a training is looked at
SAMPLES = 1000
REACH = 3.2  # the plane is shown from -REACH to REACH
FIELD = 48  # cells of the background to a side
TALLEST = 300  # samples of the highest bar; its label says how many there are


class Ring(NamedTuple):
    """What is seen of a training on the ring of eight Gaussians after `done` of `steps` steps."""

    name: str  # its rules, in words
    done: int
    steps: int
    seconds: float
    samples: np.ndarray  # (SAMPLES, 2)
    field: np.ndarray  # (FIELD, FIELD) from 0 to 1: D, or a critic's scores scaled to that range
    counts: np.ndarray  # (8,) samples within 3 standard deviations of a mode
    looks: np.ndarray  # (K, 3) of (steps done, modes covered, share of samples near a mode) so far


RINGS: dict[tuple, Ring] = {}  # what was trained already, by its rules


def rules_of(state: State) -> State:
    """Return the whole state of a training, the rest as in PLAIN, without labels where the loss has none.

    Raises ``ValueError`` for an unknown name or loss.
    """
    for name in state:
        choose(name, PLAIN, "rule")
    state = PLAIN | state
    labels = choose(state["loss"], gan.LOSSES, "loss") in ("minimax", "non-saturating")
    return state if labels else state | dict.fromkeys(LABELS, False)


def name_of(state: State) -> str:
    """Return the rules of a training in words."""
    remedies = [label for key, (label, _) in REMEDIES.items() if state[key]]
    turns = [f"{state['critic_steps']} turns of D"] if state["critic_steps"] > 1 else []
    return ", ".join([state["loss"], f"momentum {state['momentum']:g}", *remedies, *turns, f"seed {state['seed']}"])


def ring_result(
    state: State | None = None, steps: int = RING_STEPS, watch: Callable[[Ring], None] | None = None
) -> Ring:
    """Return a training on the ring by these rules, the rest as in PLAIN; one that was run before is not run again.

    ``watch(what is seen)`` is called after the first step and each twentieth of them. A training that is interrupted is
    returned as it is, but not kept. Raises ``ValueError`` for an unknown rule, ``FloatingPointError`` where the loss
    is no longer finite.
    """
    rules = rules_of(state or {})
    key = (*rules.items(), steps)
    if key not in RINGS:
        ring = train_ring(rules, steps, watch or (lambda ring: None))
        if ring.done < steps:
            return ring
        RINGS[key] = ring
    return RINGS[key]


def train_ring(rules: State, steps: int, watch: Callable[[Ring], None]) -> Ring:
    """Train by these rules and return what is seen at the end."""
    require(steps >= LOOKS, f"steps = {steps}; at least {LOOKS} are needed")
    remedies = {name: value for key, (_, part) in REMEDIES.items() if rules[key] for name, value in part.items()}
    game = gan.Game(rules["loss"], critic_steps=rules["critic_steps"], **remedies)
    start, rings = time.perf_counter(), []

    def look(done: int, players: gan.GAN) -> None:
        if done == 1 or done % (steps // LOOKS) == 0 or done == steps:
            earlier = rings[-1].looks if rings else np.zeros((0, 3))
            rings.append(see(players, rules, done, steps, time.perf_counter() - start, earlier))
            watch(rings[-1])

    with one_thread(), suppress(Interrupted):  # what was seen so far is shown
        gan.play_ring(game, rules["seed"], steps, rules["momentum"], rules["spectral"], look, label=None)
    return rings[-1]


@torch.no_grad()
def see(players: gan.GAN, rules: State, done: int, steps: int, seconds: float, earlier: np.ndarray) -> Ring:
    """Return what is seen of the players now; `earlier` are the looks before."""
    samples = players.sample(SAMPLES, data.generator(rules["seed"]))  # of the same latents at each look
    modes = mode_counts(samples, gan.RING)
    axis = (torch.arange(FIELD) + 0.5) / FIELD * 2 * REACH - REACH
    plane = torch.cartesian_prod(axis, axis).flip(-1)  # row by row from below
    mode = players.training
    scores = players.eval().logits(plane).view(FIELD, FIELD)
    players.train(mode)
    if rules["loss"] == "wasserstein":  # a score has no scale of its own
        field = (scores - scores.min()) / (scores.max() - scores.min()).clamp(min=1e-12)
    else:
        field = scores.sigmoid()
    looks = np.vstack([earlier, [done, modes.covered, modes.quality]])
    counts = modes.counts.numpy()
    return Ring(name_of(rules), done, steps, seconds, samples.numpy(), field.numpy(), counts, looks)


BELIEF = LinearSegmentedColormap.from_list("belief", ["#f3c9a9", "#fbfbfb", "#a9cfe8"])


def make_ring_figure(steps: int, height: float | None = None) -> tuple[Figure, dict[str, Any]]:
    """Return the switchboard's figure and the artists that ``draw_ring`` moves."""
    fig, panels = figure(
        2, 2, width=WIDTH, height=height or 4.4, gridspec_kw={"width_ratios": [1, 1.15], "height_ratios": [1.2, 1]}
    )
    (plane, course), (spare, bars) = panels
    spare.remove()
    plane.set_subplotspec(plane.get_gridspec()[:, 0])
    moving = {"animated": True}
    real = gan.RING.sample(SAMPLES, data.generator(0))
    field = plane.imshow(
        np.full((FIELD, FIELD), 0.5),
        origin="lower",
        extent=(-REACH, REACH) * 2,
        cmap=BELIEF,
        vmin=0,
        vmax=1,
        interpolation="bilinear",
        **moving,
    )
    plane.scatter(*real.T, s=5, lw=0, color=COLOURS["grey"], alpha=0.5, label="data", **moving)
    samples = plane.scatter([0], [0], s=5, lw=0, color=COLOURS["q"], alpha=0.8, label="samples", **moving)
    plane.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal", xticks=[-2, 0, 2], yticks=[-2, 0, 2])
    plane.grid(False)
    plane.set_xlabel("background: D, from low (orange) to high (blue)", fontsize=9)
    plane.legend(loc="lower left", bbox_to_anchor=(-0.03, 0.99), ncols=2, markerscale=2, handletextpad=0.2)

    quality = course.twinx()
    line = {"lw": 1.8, "ms": 4, **moving}
    artists = {"samples": samples, "field": field}
    artists["covered"] = course.step([0], [0], where="post", color=COLOURS["p"], label="modes covered", **line)[0]
    artists["quality"] = quality.plot([0], [0], "o-", color=COLOURS["good"], label="quality", **line)[0]
    course.set(xlim=(0, steps), ylim=(0, 8.6), yticks=[0, 2, 4, 6, 8], xlabel="steps", ylabel="modes")
    course.xaxis.set_major_formatter("{x:,.0f}")
    course.locator_params(axis="x", nbins=5)
    legend_above(course, [artists["covered"], artists["quality"]])
    second_scale(quality, COLOURS["good"], (0, 1.075), [0, 0.5, 1])
    artists["bars"] = list(bars.bar(range(8), 0, width=0.7, color=COLOURS["q"]))
    for bar in artists["bars"]:
        bar.set_animated(True)
    halo = [patheffects.withStroke(linewidth=3, foreground="white")]
    artists["labels"] = [
        bars.text(k, 0, "", ha="center", va="bottom", fontsize=9, path_effects=halo, **moving) for k in range(8)
    ]
    bars.axhline(SAMPLES / 8, color=COLOURS["grey"], lw=1.2, ls="--")
    bars.set(xlim=(-0.6, 7.6), ylim=(0, 1.25 * TALLEST), xlabel="mode, from the right, anticlockwise", ylabel="samples")
    bars.set_xticks(range(8))
    bars.grid(False, axis="x")
    return fig, artists


def draw_ring(artists: dict[str, Any], ring: Ring) -> None:
    """Show the players at this look, and all looks so far."""
    artists["samples"].set_offsets(ring.samples)
    artists["field"].set_data(ring.field)
    done, covered, quality = ring.looks.T
    artists["covered"].set_data(done, covered)
    artists["quality"].set_data(done, quality)
    for bar, label, count in zip(artists["bars"], artists["labels"], ring.counts, strict=True):
        height = min(count, TALLEST)
        bar.set_height(height)
        label.set(y=height, text=f"{count}")


def read_ring(ring: Ring) -> str:
    """Return what a training has come to as a line of HTML."""
    _, covered, quality = ring.looks[-1]
    how = f"after {ring.done:,} of {ring.steps:,} steps" if ring.done < ring.steps else f"{ring.seconds:.0f} s"
    return f"<b>{covered:.0f} of 8 modes, quality {quality:.2f}</b> · {ring.name} · {how}"


class Switchboard(Explorer):
    """An explorer that computes only when told to: a control shows what was trained by these rules before, if any."""

    def __init__(self, steps: int, **parts: Any):
        self.steps = steps
        super().__init__(compute=lambda state: ring_result(state, steps), actions={"Train": self._train}, **parts)

    def _redraw(self) -> None:
        if (*rules_of(self.state).items(), self.steps) in RINGS:
            super()._redraw()
            return
        for name, on in self._enabled(self.state).items():
            self.controls[name].disabled = not on
        name = name_of(rules_of(self.state))
        if name == self.numbers.name:  # a training that was stopped on its way
            self.readout.value = read_ring(self.numbers)
        else:
            self.readout.value = f"<b>Press Train</b> for {name} · the picture still shows {self.numbers.name}"

    def _train(self, state: State) -> State:
        """Train by the state's rules and show each look; nothing of the state changes."""
        ring_result(state, self.steps, self._show)
        return {}

    def _show(self, ring: Ring) -> None:
        self.numbers = ring
        self._draw(self._artists, ring)
        self.image.value = self._picture.frame()
        self.readout.value = read_ring(ring)


def switchboard(seed: int = 0, steps: int = RING_STEPS) -> Switchboard:
    """Return the switchboard: rules of the game on the ring of eight Gaussians, and what a training by them comes to.

    Trains for its saved picture by three rules, unless ``ring_result`` has already. `seed` is that of "Surprise me"
    and, at the start, of the training. Raises ``ValueError`` for fewer than 20 steps.
    """
    presets = {
        "Momentum 0.9: the samples run after the discriminator and never settle": {},
        "One remedy, no momentum: the modes are found": {"momentum": 0.0},
        "And the R1 penalty: the modes get equal shares": {"momentum": 0.0, "r1": True},
    }
    start = PLAIN | {"seed": seed}
    for rules in presets.values():
        ring_result(start | rules, steps)
    switches = {
        key: widgets.Checkbox(value=False, description=label, indent=False) for key, (label, _) in REMEDIES.items()
    }
    return Switchboard(
        steps=steps,
        title="Remedies for a game that does not settle",
        controls={
            "loss": widgets.Dropdown(options=gan.LOSSES, value=start["loss"], description="loss"),
            "momentum": widgets.Dropdown(options=[("0.9", 0.9), ("0.5", 0.5), ("0", 0.0)], description="momentum"),
            "critic_steps": widgets.Dropdown(options=[("1", 1), ("5", 5)], description="turns of D"),
            "seed": widgets.IntSlider(value=seed, min=0, max=max(9, seed), description="seed"),
            **switches,
        },
        make_figure=lambda height=None: make_ring_figure(steps, height and 1.2 * height),
        draw=draw_ring,
        readout=read_ring,
        presets=presets.items(),
        surprise=surprise_ring,
        enabled=lambda state: dict.fromkeys(LABELS, state["loss"] in ("minimax", "non-saturating")),
        alt=(
            "Three trainings on a ring of eight Gaussians: samples over the data and the discriminator's belief, modes "
            "covered and quality over the steps, samples near each mode. With momentum 0.9 the samples stay in one "
            "cloud; without momentum they reach all eight modes, unevenly; with the R1 penalty besides, evenly."
        ),
        seed=seed,
    )


def surprise_ring(rng: np.random.Generator) -> State:
    """Return random rules with one or two remedies."""
    chosen = rng.choice(list(REMEDIES), size=rng.integers(1, 3), replace=False)
    return {
        **PLAIN,
        "loss": str(rng.choice(gan.LOSSES)),
        "momentum": float(rng.choice([0.9, 0.5, 0.0])),
        **{str(key): True for key in chosen},
    }

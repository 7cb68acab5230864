"""Lecture 3, W-GAN (rows 3.2 and 3.3): the optimal discriminator, the game's value and the generator's gradient."""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from torch import Tensor

from course_utils import divergences as D
from course_utils import gan
from course_utils.densities import GaussianMixture, gaussian_log_prob
from course_utils.errors import choose, require
from course_utils.plots import COLOURS, figure
from course_utils.widgets.gan_parts import WIDTH, legend_above, second_scale
from course_utils.widgets.shell import Explorer, State, slider

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
    fig, (left, middle, right) = figure(
        ncols=3, width=WIDTH, height=height or 3.3, gridspec_kw={"width_ratios": [1, 1, 0.9]}
    )
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
    """Return W-GAN: move the generated density, see D*, the value and the gradients; `seed` of "Surprise me"."""
    return Explorer(
        title="The optimal discriminator, the game's value and the generator's gradient",
        controls={
            "data": widgets.Dropdown(options=[(v[0], kind) for kind, v in DATA.items()], description="data"),
            "mean": slider("mean of G", 4.0, -10, 10),
            "width": slider("width of G", 1.0, *WIDTHS),
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
            "Four states of the game between data and a generated Gaussian: densities with the discriminator, the "
            "value V and the Wasserstein distance over the generated mean, and the generator's gradients. Near the "
            "data both losses have a gradient. Far away V is flat at 0, where JS is log 2, and the saturating gradient "
            "is below a thousandth, while the Wasserstein distance is linear and the non-saturating gradient grows "
            "with the distance. A discriminator with a fifth of the optimal logits leaves more of the saturating "
            "gradient. On one of two modes both gradients are small."
        ),
        seed=seed,
    )


def signed(value: float, digits: int = 2) -> str:
    """Return the number with a true minus sign, and no minus before a zero."""
    return f"{value:z.{digits}f}".replace("-", "−")

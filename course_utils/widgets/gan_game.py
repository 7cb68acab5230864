"""Lecture 3, W-GAN (rows 3.2 and 3.3): the optimal discriminator, the game's value and the generator's gradient."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from course_utils import divergences as D
from course_utils import gan
from course_utils.densities import GaussianMixture, gaussian_log_prob
from course_utils.errors import choose, require
from course_utils.plots import schemes
from course_utils.widgets.stage import Choice, Declaration, Range, State, Widget, grid

DATA = {
    "one": {"weights": [1.0], "means": [0.0], "sigmas": [1.0]},
    "two": {"weights": [0.5, 0.5], "means": [-2.0, 2.0], "sigmas": [0.6, 0.6]},
}
X_GRID = grid(-26, 26, 1041)  # step 0.05 <= width / 6, and room for the tails of all p_g
X = torch.linspace(X_GRID["low"], X_GRID["high"], X_GRID["n"], dtype=torch.float64)
SHOWN = slice(280, 761)  # -12 to 12: what the left panel draws
MEANS_AT = slice(320, 721, 4)  # -10 to 10 in steps of 0.2: points of X, so that the page needs one table for all p_g
MEANS = X[MEANS_AT]


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
    mixture, x = GaussianMixture(**DATA[choose(kind, DATA, "data")]), X.clone().requires_grad_(True)
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


GAN = Declaration(
    name="gan_game",
    title="The optimal discriminator, the game's value and the generator's gradient",
    controls={
        "data": Choice("data", "one", {"one": "one mode", "two": "two modes"}),
        "mean": Range("mean of G", 4.0, -10, 10),
        "width": Range("width of G", 1.0, 0.3, 3),
        "sharpness": Range("D trained", 1.0, 0, 1, 0.05),
    },
    compute=compute_gan,
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
    surprise={"mean": (-8, 8), "width": (0.4, 2), "data": list(DATA), "sharpness": (0.2, 1)},
    alt=(
        "Four states of the game between data and a generated Gaussian: densities with the discriminator, the "
        "value V and the Wasserstein distance over the generated mean, and the generator's gradients. Near the "
        "data both losses have a gradient. Far away V is flat at 0, where JS is log 2, and the saturating gradient "
        "is below a thousandth, while the Wasserstein distance is linear and the non-saturating gradient grows "
        "with the distance. A discriminator with a fifth of the optimal logits leaves more of the saturating "
        "gradient. On one of two modes both gradients are small."
    ),
    colours=schemes("p", "q", "gap", "grey", "good", "amber", "ink"),
    constants={
        "x": X_GRID,
        "means": [MEANS_AT.start, MEANS_AT.stop, MEANS_AT.step],
        "shown": [SHOWN.start, SHOWN.stop],
        "data": DATA,
        "floor": 1e-8,  # the smallest gradient that is drawn
        "words": {
            "densities": "Densities of the data and of the generator, and the discriminator.",
            "value": "The game's value and the Wasserstein distance over the generator's mean.",
            "gradients": "Sizes of the gradients of both losses over the generator's mean, on a logarithmic scale.",
        },
    },
)


def gan_explorer(seed: int = 0) -> Widget:
    """Return W-GAN: move the generated density, see D*, the value and the gradients; `seed` of "Surprise me"."""
    return Widget(GAN, seed)

"""Lecture 3, the film of a training (row 3.5): the same latents, and fresh ones, at each of its moments."""

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from course_utils import data, gan, networks
from course_utils.errors import require
from course_utils.plots import schemes
from course_utils.widgets.stage import Declaration, Kernel, Range, State, Widget, ink

ROWS, COLUMNS = 6, 8
PERCENT = [f"{100 * moment:g} %" for moment in gan.MOMENTS]


class FilmNumbers(NamedTuple):
    """What the film shows at one moment: images (N, side, side) as bytes, 255 is ink."""

    fixed: np.ndarray
    fresh: np.ndarray


def compute_film(film: gan.Film, side: int, seed: int, state: State, tell: Callable | None = None) -> FilmNumbers:
    """Return the images of a moment; fresh latents are new at each of them. ``ValueError`` for an unknown moment."""
    k = int(state["moment"])
    latents = [film.players.latent(ROWS * COLUMNS, data.generator(s)) for s in (seed, 1000 + 100 * seed + k)]
    return FilmNumbers(*(ink(film.decode(k, z).view(-1, side, side)) for z in latents))


def declare_film(film: gan.Film, side: int, seed: int, scores: list[float] | None, score_name: str) -> Declaration:
    """Declare W-film. Every moment travels with the widget, so it moves without a kernel."""
    last = len(PERCENT) - 1
    return Declaration(
        name="gan_film",
        title="The film of a training",
        controls={"moment": Range("training", 0, 0, last, 1, digits=0, names=PERCENT, play=700)},
        compute=partial(compute_film, film, side, seed),
        kernel=Kernel(of=["moment"], sprites=[(percent, {"moment": k}) for k, percent in enumerate(PERCENT)]),
        presets=[(f"After {PERCENT[k]} of the training", {"moment": k}) for k in (0, 3, 6, last)],
        surprise={"moment": (0, last)},
        alt=(
            f"Samples of a generator after {', '.join(PERCENT[k] for k in (0, 3, 6, last))} of its training, on the "
            "left of the same latents all the time, on the right of fresh ones: from noise to images."
        ),
        colours=schemes("grey", "q"),
        constants={
            "columns": COLUMNS,
            "side": side,
            "scores": scores,
            "log": bool(scores) and min(scores) > 0,
            "score": score_name,
            "words": {"fixed": "fixed latents", "fresh": "fresh latents", "axis": "training"},
        },
        hint="Play, or drag the spot on the curve · Tab to a control, arrow keys move it." if scores else "Press Play.",
    )


def film_explorer(
    film: gan.Film | None = None,
    side: int = 28,
    seed: int = 0,
    scores: Sequence[float] | None = None,
    score_name: str = "Fréchet distance",
) -> Widget:
    """Return the scrubber of a training: images of fixed latents, and of fresh ones, at each of its moments.

    `film` has images of side x side pixels; without one, that of the course (MNIST). `scores`: a number for each
    of ``gan.MOMENTS``, drawn over the training under the name `score_name`. `seed` is that of the latents and of
    surprises from Python. Raises ``ValueError`` for what is no film, another side or another number of scores.
    """
    if film is None:
        film = gan.Film(networks.load("gan_mnist"), networks.extras("gan_mnist")["film"])
    require(isinstance(film, gan.Film), f"film is a {type(film).__name__}; a course_utils.gan.Film is needed")
    film = gan.Film(own_copy(film.players, side), film.frames.clone())
    n = len(gan.MOMENTS)
    scores = None if scores is None else [float(v) for v in scores]
    require(scores is None or len(scores) == n, f"{scores and len(scores)} scores; one for each of {n} moments")
    require(scores is None or bool(np.isfinite(scores).all()), f"scores = {scores}; finite numbers are needed")
    return Widget(declare_film(film, side, seed, scores, score_name), seed)


def own_copy(model: gan.GAN, side: int) -> gan.GAN:
    """Return a copy on the CPU, in evaluation mode, that later training leaves alone.

    Raises ``ValueError`` for what is no GAN of images with side x side pixels.
    """
    require(isinstance(model, gan.GAN), f"model is a {type(model).__name__}; a course_utils.gan.GAN is needed")
    model = copy.deepcopy(model).cpu().float().eval()
    pixels = model.decode(torch.zeros(2, model.latents)).shape[-1]
    require(pixels == side**2, f"side = {side}, but the model's images have {pixels} pixels; side * side is needed")
    return model

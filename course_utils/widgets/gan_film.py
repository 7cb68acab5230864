"""Lecture 3, the film of a training (row 3.5): the same latents, and fresh ones, at each of its moments."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import ipywidgets as widgets
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from course_utils import data, gan, networks
from course_utils.errors import choose, require
from course_utils.plots import COLOURS, figure
from course_utils.widgets.gan_parts import WIDTH, mosaic, moving_grid, own_copy
from course_utils.widgets.shell import SHEET_HEIGHT, Explorer, State

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
    fig, panels = figure(ncols=3 if scores else 2, **size, gridspec_kw=ratios)
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

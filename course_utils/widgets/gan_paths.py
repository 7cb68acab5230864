"""Lecture 3, paths between latents (row 3.6): straight and on the sphere, with their images and norms."""

import math
from functools import partial
from typing import Any, NamedTuple

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from course_utils import data, gan, networks
from course_utils.errors import choose
from course_utils.paths import lerp, slerp
from course_utils.plots import COLOURS, figure
from course_utils.widgets.gan_parts import WIDTH, mosaic, moving_grid, own_copy
from course_utils.widgets.shell import Explorer, State, slider

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
        3, 2, width=WIDTH, height=4.9, gridspec_kw={"height_ratios": [1, 1, 3.0], "width_ratios": [1, 2]}
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

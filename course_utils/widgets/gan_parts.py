"""What several widgets of lecture 3 are made of: legends and scales, a model of their own, grids of images."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from course_utils import gan
from course_utils.errors import require
from course_utils.plots import image_grid

WIDTH = 8.8  # inches: what fits a notebook in a window 1280 pixels wide


def legend_above(ax: Axes, lines: Sequence[Any], left: float = -0.08) -> None:
    """Name the lines in one row above the panel, which keeps its size whatever the names' lengths."""
    row = {"ncols": len(lines), "columnspacing": 0.9, "handlelength": 1.1, "handletextpad": 0.4, "borderpad": 0}
    ax.legend(handles=lines, loc="lower left", bbox_to_anchor=(left, 1.03), **row).set_in_layout(False)
    ax.set_title(" ")  # keeps the room


def second_scale(ax: Axes, colour: str, limits: tuple[float, float], ticks: list[float]) -> None:
    """Give a twin axes its scale on the right, in the colour of its curve."""
    ax.set(ylim=limits)
    ax.set_yticks(ticks, [f"{t:g}" for t in ticks])
    ax.tick_params(axis="y", colors=colour)
    ax.grid(False)


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

"""Legends and scales of the switchboard of lecture 3."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

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

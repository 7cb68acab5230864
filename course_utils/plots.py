"""One style for every figure of the course: colour-blind-safe colours, white ground, alt text.

Importing this module sets matplotlib's defaults, so that a figure of the reader's own looks the same.
"""

import io

import matplotlib as mpl
import numpy as np
from IPython.display import display
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from course_utils.errors import require

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/), by what a colour stands for in the course.
COLOURS = {
    "p": "#0072B2",
    "q": "#D55E00",
    "gap": "#CC79A7",
    "good": "#009E73",
    "sky": "#56B4E9",
    "amber": "#E69F00",
    "ink": "#222222",
    "grey": "#888888",
}
# In widgets, on a light page and on a dark one: at least 3:1 against the ground.
LIGHT = COLOURS | {"sky": "#2F8FCB", "amber": "#B07C00", "ground": "#ffffff"}
DARK = {
    "p": "#56B4E9",
    "q": "#F0813C",
    "gap": "#D98CB8",
    "good": "#2FBF96",
    "sky": "#3E8FC4",
    "amber": "#E69F00",
    "ink": "#eeeeee",
    "grey": "#9a9a9a",
    "ground": "#161616",
}
CYCLE = [COLOURS[k] for k in ("p", "q", "good", "gap", "amber", "sky", "ink")]
# Ten classes, as different as ten can be for colour-blind eyes too: Petroff (2021), arXiv:2107.02270. Label them too.
CLASSES = ["#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"]
# The same on a dark page: two are made lighter.
CLASSES_DARK = [{"#bd1f01": "#cf3a1f", "#832db6": "#a35bd4"}.get(colour, colour) for colour in CLASSES]
STYLE = {
    "axes.prop_cycle": mpl.cycler(color=CYCLE),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.labelsize": 11,
    "figure.facecolor": "white",
    "font.size": 11,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "lines.linewidth": 2.0,
    "savefig.facecolor": "white",
}
DPI = 100
mpl.rcParams.update(STYLE)


def schemes(*names: str) -> dict[str, tuple[str, str]]:
    """Return name → the colour on a light page and on a dark one; "ground" is the page itself."""
    return {name: (LIGHT[name], DARK[name]) for name in names}


def ramp(n: int) -> tuple[list[str], list[str]]:
    """Return n colours from the page's ground to a strong blue, for a light page and for a dark one."""
    light = [mpl.colors.to_hex(c) for c in mpl.colormaps["Blues"](np.linspace(0.02, 0.85, n))]
    far, near = np.array([18, 26, 38]) / 255, np.array([110, 175, 230]) / 255
    return light, [mpl.colors.to_hex((1 - t) * near + t * far) for t in np.linspace(0, 1, n)]


def shades(n: int) -> list:
    """Return n colours (r, g, b, a) that go from dark to light and differ in lightness for every eye."""
    return list(mpl.colormaps["viridis"](np.linspace(0.0, 0.9, n)))


def figure(nrows: int = 1, ncols: int = 1, width: float = 10, height: float = 4, **subplots):
    """Return (figure, axes) in the course's style, on an Agg canvas and unknown to pyplot.

    `width` and `height` are in inches at 100 pixels each; further arguments go to ``Figure.subplots``. Axes are one
    object for a single panel, else an array as matplotlib gives it.
    """
    layout = subplots.pop("layout", "constrained")
    fig = Figure(figsize=(width, height), dpi=DPI, layout=layout)
    FigureCanvasAgg(fig)
    if layout == "constrained":
        fig.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    return fig, fig.subplots(nrows, ncols, **subplots)


def to_png(fig: Figure) -> bytes:
    """Return the figure as PNG bytes, lightly compressed because a widget sends them once and forgets them."""
    with io.BytesIO() as buffer:
        fig.savefig(buffer, format="png", dpi=fig.dpi, pil_kwargs={"compress_level": 1})
        return buffer.getvalue()


def small_png(pixels: np.ndarray) -> bytes:
    """Return pixels (H, W, 3) as a small PNG of few colours, chosen so that rare colours keep their hue.

    They are 256, and fewer where the picture is like noise and would take more than 500 kB.
    """
    for colours in (256, 64, 32):
        with io.BytesIO() as buffer:
            few = Image.fromarray(pixels).quantize(colours, Image.Quantize.MAXCOVERAGE, kmeans=1)
            few.save(buffer, "png", optimize=True)
            png = buffer.getvalue()
        if len(png) <= 500_000:
            break
    return png


def png_bundle(png: bytes, alt: str, width: int) -> tuple[dict, dict]:
    """Return (data, metadata) of one notebook output: the picture, its alt text, its width in pixels.

    Raises ``ValueError`` for an empty alt text: a reader who can't see the picture needs its message.
    """
    require(bool(alt.strip()), "alt text is empty; say in a sentence what the figure shows")
    return {"image/png": png, "text/plain": f"Figure: {alt}"}, {"image/png": {"alt": alt, "width": width}}


class Live:
    """One place in a cell's output whose picture is replaced while something runs: a preview of a training."""

    def __init__(self):
        self.handle = None

    def show(self, fig: Figure, alt: str) -> None:
        """Show the figure in the place of the one before."""
        data, metadata = png_bundle(to_png(fig), alt, width=round(fig.get_figwidth() * fig.dpi))
        if self.handle is None:
            self.handle = display(data, metadata=metadata, raw=True, display_id=True)
        else:
            self.handle.update(data, metadata=metadata, raw=True)


def show(fig: Figure, alt: str) -> None:
    """Display the figure at its own size and under it, as a caption, what it shows.

    `alt` is also the alternative text where the viewer has a place for it: nbconvert has one, JupyterLab has none.
    """
    with io.BytesIO() as buffer:
        fig.savefig(buffer, format="png", dpi=1.5 * fig.dpi)  # half as many pixels again, for dense screens
        data, metadata = png_bundle(buffer.getvalue(), alt, width=round(fig.get_figwidth() * fig.dpi))
    display({**data, "text/plain": "Figure"}, metadata=metadata, raw=True)
    display({"text/markdown": f"*{alt}*", "text/plain": alt}, raw=True)


def image_grid(ax, images, ncols: int = 10, gap: int = 2, vmin: float = 0.0, vmax: float = 1.0) -> None:
    """Draw grey-level images (N, H, W) on one axes, `ncols` to a row: `vmin` is white, `vmax` black."""
    images = np.asarray(images, dtype=float)
    require(images.ndim == 3, f"images have shape {images.shape}; (N, H, W) is needed")
    n, h, w = images.shape
    nrows = -(-n // ncols)
    canvas = np.full((nrows * (h + gap) - gap, ncols * (w + gap) - gap), np.nan)
    for i, image in enumerate(images):
        r, c = divmod(i, ncols)
        canvas[r * (h + gap) : r * (h + gap) + h, c * (w + gap) : c * (w + gap) + w] = image
    ax.imshow(canvas, cmap="Greys", vmin=vmin, vmax=vmax, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set(visible=True, color="#cccccc")

"""Lecture 2: W-manifold, the latent plane of a VAE: its codes, the image under the pointer, the manifold, a path.

The kernel decodes and sends bytes; what draws them, and sends back where the pointer is, stands in latent_pad.js.
"""

import copy
import html
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import anywidget
import ipywidgets as widgets
import numpy as np
import torch
import traitlets
from matplotlib import patheffects
from matplotlib.figure import Figure
from torch import Tensor

from course_utils import networks
from course_utils.errors import choose, require
from course_utils.paths import lerp, prior_grid, slerp
from course_utils.plots import CLASSES, COLOURS, figure, image_grid
from course_utils.training import one_thread
from course_utils.vae import VAE
from course_utils.widgets.shell import Shell, State, small_png

WIDTH = 880  # pixels: what fits a notebook in a window 1280 pixels wide
GRID = 15  # images in a row of the manifold
SMALL = 16  # pixels; smaller images are drawn with a gap between them
STOPS = 11  # images along a path
LINE = 61  # points of the path's line, a multiple of STOPS - 1 more than 1
LEAST = 3.0  # the plane is shown at least from -3 to 3: 99 % of the prior
LIMIT = 1000.0  # largest coordinate of z
PATHS = {"straight": ("straight", lerp), "sphere": ("on the sphere", slerp)}
VIEWS = {"codes": "all codes", "prior": "±3"}
HINT = "Point at the plane to decode; click A, then B. Keys: arrows (Shift: faster), Enter sets A and B, Escape clears."
ALT = (
    "The latent plane of {labels}: codes of test images in the colours of their classes, with the circles of 1 and 2 "
    "standard deviations of the prior and a straight path from A to B; the decoded manifold, a grid with equal prior "
    "mass in every cell; and the images decoded along the path."
)
MEANING = (
    " With beta = 0.01 the classes are islands and more than half of the codes lie outside the larger circle; with "
    "beta = 1 they fill the prior as one smooth map; with beta = 100 all lie at zero, and every decoded image is the "
    "same blur."
)


# Numbers -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Model:
    """A VAE with 2 latents as the pad needs it: a copy on the CPU, in eval mode, that later training leaves alone."""

    vae: VAE
    codes: Tensor  # (N, 2) floats
    classes: Tensor  # (N,) integers 0..9
    side: int  # pixels of an image's edge

    @property
    def gap(self) -> int:
        """Pixels between two images of the manifold."""
        return 0 if self.side >= SMALL else 2

    @classmethod
    def of(cls, label: str, given: Any) -> "Model":
        """Return the model of (vae, codes (N, 2), labels (N,)). Raises ``ValueError`` for what a pad can't show."""
        named = f"model {label!r}"
        require(
            isinstance(given, tuple | list) and len(given) == 3, f"{named}: a triple (vae, codes, labels) is needed"
        )
        vae, codes, classes = given[0], *(torch.as_tensor(v).detach().cpu().float() for v in given[1:])
        require(isinstance(vae, VAE), f"{named} is a {type(vae).__name__}; a course_utils.vae.VAE is needed")
        require(vae.latents == 2, f"{named} has {vae.latents} latents; the pad shows 2: mlp_vae({vae.pixels}, 2)")
        require(not vae.classes, f"{named} is conditional; the pad shows models without classes")
        side = math.isqrt(vae.pixels)
        require(side**2 == vae.pixels, f"{named} has {vae.pixels} pixels; a square image is needed, such as 8 x 8")
        shape = tuple(codes.shape)
        require(
            len(shape) == 2 and shape[0] > 0 and shape[1] == 2, f"{named}: codes have shape {shape}; (N, 2) is needed"
        )
        require(bool(codes.isfinite().all()), f"{named}: some codes are not finite; has the training diverged?")
        require(classes.shape == (len(codes),), f"{named}: {tuple(classes.shape)} labels for {len(codes)} codes")
        known = bool(torch.isin(classes, torch.arange(len(CLASSES))).all())
        require(known, f"{named}: labels must be whole numbers from 0 to {len(CLASSES) - 1}")
        return cls(copy.deepcopy(vae).cpu().float().eval(), codes, classes.long(), side)


class Scene(NamedTuple):
    """What depends on the model only; the plane is shown from -half to half."""

    half: float
    names: list[tuple[str, float, float]]  # (classes, z_1, z_2): what is written on the plane, and where
    inside: tuple[float, float]  # fraction of the codes within 1 and 2 standard deviations of the prior
    reach: float  # largest coordinate of a code
    hidden: int  # codes outside the view
    axis: list[float]  # (GRID,) what z_1 and z_2 are in the manifold's columns and, from below, rows
    grid: np.ndarray  # (GRID², D) bytes, row by row from above


class Point(NamedTuple):
    """What depends on z."""

    image: np.ndarray  # (D,) bytes
    corner: tuple[float, float]  # Phi(z): where z lies on the manifold, from below left, each in [0, 1]
    nearest: tuple[int, float]  # class and distance of the nearest code


class Interpolation(NamedTuple):
    """What depends on A and B: all are empty until both are set."""

    line: np.ndarray  # (LINE, 2)
    stops: np.ndarray  # (STOPS, 2)
    strip: np.ndarray  # (STOPS, D) bytes


@torch.no_grad()
def decode(vae: VAE, z: Tensor) -> np.ndarray:
    """Return E[x | z] as bytes, 255 for 1: z (..., 2) gives (..., D)."""
    mean = vae.likelihood.mean(vae.decode(z.float()))
    return (255 * mean.clamp(0, 1)).round().to(torch.uint8).numpy()


def compute_scene(model: Model, view: str) -> Scene:
    """Return codes and manifold as the pad shows them; `view` is one of VIEWS. Raises ``ValueError`` for another."""
    choose(view, VIEWS, "view")
    codes, largest = model.codes, model.codes.abs().amax(-1)
    half = max(LEAST, math.ceil(torch.quantile(largest, 0.995))) if view == "codes" else LEAST
    z = prior_grid(GRID)
    return Scene(
        half=half,
        names=[name for name in names_of(model, 0.13 * half) if max(map(abs, name[1:])) < half],
        inside=tuple((codes.norm(dim=-1) < r).float().mean().item() for r in (1, 2)),
        reach=largest.max().item(),
        hidden=int((largest > half).sum()),
        axis=z[0, :, 0].tolist(),
        grid=decode(model.vae, z.flatten(0, 1)),
    )


def medians_of(model: Model) -> dict[int, Tensor]:
    """Return each class's median code (2,), coordinate by coordinate."""
    return {k: model.codes[model.classes == k].quantile(0.5, dim=0) for k in model.classes.unique().tolist()}


def names_of(model: Model, near: float) -> list[tuple[str, float, float]]:
    """Return (classes, z_1, z_2) of names at the medians; classes `near` each other share one: "3 5 8", "0–9".

    A shared name stands a little above its place, so that it does not hide codes that all lie there.
    """
    groups: list[tuple[list[int], list[float]]] = []
    for k, median in medians_of(model).items():
        at = median.tolist()
        shared = next((classes for classes, place in groups if math.dist(at, place) < near), None)
        if shared is None:
            groups.append(([k], at))
        else:
            shared.append(k)
    return [(runs(classes), x, y + (0.55 * near if len(classes) > 1 else 0)) for classes, (x, y) in groups]


def runs(numbers: list[int]) -> str:
    """Return ascending numbers as text: a run of more than two as "0–9", others one by one."""
    first, last = numbers[0], numbers[-1]
    whole = len(numbers) > 2 and numbers == list(range(first, last + 1))
    return f"{first}–{last}" if whole else " ".join(map(str, numbers))


def compute_point(model: Model, z: tuple[float, float]) -> Point:
    """Return the decoded image at z, and where z lies."""
    place = torch.tensor(z, dtype=torch.float64)
    distances = (model.codes - place).norm(dim=-1)
    nearest = int(distances.argmin())
    return Point(
        image=decode(model.vae, place[None])[0],
        corner=tuple(torch.special.ndtr(place).tolist()),
        nearest=(int(model.classes[nearest]), distances[nearest].item()),
    )


def compute_path(model: Model, kind: str, a: tuple | None, b: tuple | None) -> Interpolation:
    """Return line and images from A to B; `kind` is one of PATHS. Raises ``ValueError`` for another."""
    _, interpolate = PATHS[choose(kind, PATHS, "path")]
    if a is None or b is None:
        return Interpolation(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros((0, model.side**2), np.uint8))
    ends = torch.tensor([a, b], dtype=torch.float64)
    line = interpolate(*ends, torch.linspace(0, 1, LINE, dtype=torch.float64))
    stops = line[:: (LINE - 1) // (STOPS - 1)]
    return Interpolation(line.numpy(), stops.numpy(), decode(model.vae, stops))


def far_apart(model: Model) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return ends of a path worth seeing: a little beyond the first class's median, and that of the farthest class."""
    medians = 1.2 * torch.stack(list(medians_of(model).values()))
    return rounded(medians[0]), rounded(medians[(medians - medians[0]).norm(dim=-1).argmax()])


def rounded(z: Tensor) -> tuple[float, float]:
    """Return a point (2,) with two decimals."""
    return tuple(round(v, 2) for v in z.tolist())


def check_point(name: str, value: Any) -> None:
    """Raise ``ValueError`` unless the value is a point of the plane; A and B may also be None."""
    if value is None and name != "z":
        return
    pair = isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(v, int | float) for v in value)
    fits = pair and all(abs(v) <= LIMIT for v in value)  # False for NaN
    require(fits, f"{name} = {value!r}; two numbers from -{LIMIT:g} to {LIMIT:g} are needed")


# Drawing -----------------------------------------------------------------------------------------------------------


class LatentPad(anywidget.AnyWidget):
    """The canvases and the pointer: shows what the kernel puts into its traits, sends what the reader does.

    Bytes travel beside the JSON. Messages from the page: {"do": "set", "state": {…}}, {"do": "mark", "z": […]},
    {"do": "clear"}; to each the kernel answers by counting up `answers`.
    """

    _esm = (Path(__file__).parent / "latent_pad.js").read_text("utf-8")
    scene = traitlets.Dict().tag(sync=True)  # model and view
    point = traitlets.Dict().tag(sync=True)  # z and its image
    path = traitlets.Dict().tag(sync=True)  # A, B and the film strip
    answers = traitlets.Int(0).tag(sync=True)

    def __repr__(self) -> str:
        return "LatentPad()"


def scene_message(label: str, model: Model, scene: Scene) -> dict:
    """Return the trait `scene`."""
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, math.inf) if scene.half / s <= 4)
    top = int(scene.half // step)
    hidden = f"; {scene.hidden} of {len(model.codes):,} outside" if scene.hidden else ""
    return {
        "label": label,
        "side": model.side,
        "half": scene.half,
        "ticks": [step * i for i in range(-top, top + 1)] if math.isfinite(step) else [0],
        "note": f"−{scene.half:g} to {scene.half:g}{hidden}",
        "colours": [CLASSES[k] if k in model.classes else None for k in range(len(CLASSES))],
        "codes": model.codes.numpy().astype("<f4").tobytes(),
        "classes": model.classes.numpy().astype("u1").tobytes(),
        "names": [list(name) for name in scene.names],
        "columns": GRID,
        "gap": model.gap,
        "axis": scene.axis,
        "grid": scene.grid.tobytes(),
    }


def point_message(z: tuple[float, float], point: Point, half: float) -> dict:
    """Return the trait `point`; it says so where z lies off the plane, which is shown from -half to half."""
    digit, distance = point.nearest
    text = [f"z = ({signed(z[0])}, {signed(z[1])})", f"nearest code: a {digit},", f"{distance:.2f} away"]
    if max(map(abs, z)) > half:
        text.append("off this plane, marked at its edge")
    return {"z": list(z), "corner": list(point.corner), "text": text, "image": point.image.tobytes()}


def path_message(kind: str, a: tuple | None, b: tuple | None, path: Interpolation) -> dict:
    """Return the trait `path`."""
    if a is None:
        text = "No path yet: click A, then B on the plane."
    elif b is None:
        text = "A is set: click B."
    else:
        text = f"from A ({signed(a[0])}, {signed(a[1])}) to B ({signed(b[0])}, {signed(b[1])}), {PATHS[kind][0]}"
    ends = {"a": a and list(a), "b": b and list(b), "frames": STOPS}
    curves = {"line": path.line.tolist(), "stops": path.stops.tolist()}
    return {"text": text, **ends, **curves, "strip": path.strip.tobytes()}


def signed(value: float) -> str:
    """Return a number with two decimals and a true minus sign, no minus before a zero."""
    return f"{value:z.2f}".replace("-", "−")


def read_scene(label: str, scene: Scene) -> str:
    """Return where the codes lie as a line of HTML."""
    one, two = (f"{100 * part:.0f} %" for part in scene.inside)
    return (
        f"<b>{html.escape(label)}</b>: {one} of the codes within 1σ of the prior, {two} within 2σ "
        f"(39 % and 86 % of the prior itself); farthest coordinate {scene.reach:.1f}"
    )


def draw_sheet(models: Mapping[str, Model], a: tuple[float, float], b: tuple[float, float]) -> Figure:
    """Return the saved picture: for each model a column of codes with a path, manifold and film strip."""
    if len(models) == 1:
        fig, panels = figure(2, 2, width=WIDTH / 100, height=5.4, gridspec_kw={"height_ratios": [1, 0.2]})
        (codes, manifold), (strip, rest) = panels
        strip.set_subplotspec(strip.get_gridspec()[1, :])
        rest.remove()
        panels = np.array([[codes], [manifold], [strip]])
    else:
        edge = max(WIDTH / 100 / len(models), 2.2)  # inches of a panel
        size = {"width": len(models) * edge, "height": 2 * edge + 0.3}
        fig, panels = figure(3, len(models), **size, gridspec_kw={"height_ratios": [1, 1, 0.14]})
    for (label, model), (codes, manifold, strip) in zip(models.items(), panels.T, strict=True):
        scene, path = compute_scene(model, "codes"), compute_path(model, "straight", a, b)
        draw_plane(codes, model, scene, path)
        codes.set_title(label)
        image_grid(manifold, scene.grid.reshape(-1, model.side, model.side) / 255, ncols=GRID, gap=model.gap)
        image_grid(strip, path.strip.reshape(-1, model.side, model.side) / 255, ncols=STOPS)
    for panel, name in zip(panels[:, 0], ("codes of test images", "manifold", "A to B"), strict=True):
        panel.set_ylabel(name)
    return fig


def draw_plane(ax, model: Model, scene: Scene, path: Interpolation) -> None:
    """Draw codes by class, the prior's circles and a path on one axes."""
    halo = [patheffects.withStroke(linewidth=3, foreground="white")]
    colours = np.array(CLASSES)[model.classes]
    ax.scatter(*model.codes.T, c=colours, s=5, lw=0, alpha=0.8)
    turn = torch.linspace(0, 2 * math.pi, 181)
    for radius, style in ((1, "-"), (2, "--")):
        ax.plot(radius * turn.cos(), radius * turn.sin(), style, color=COLOURS["ink"], lw=1)
    ax.plot(*path.line.T, color=COLOURS["ink"], lw=1.8, path_effects=halo)
    words = {"ha": "center", "va": "center", "weight": "bold", "clip_on": True}
    for name, x, y in scene.names:
        ax.text(x, y, name, fontsize=11, path_effects=halo, **words)
    for name, (x, y) in zip("AB", path.stops[[0, -1]], strict=True):
        ring = {"boxstyle": "circle,pad=0.15", "fc": "white", "ec": COLOURS["ink"]}
        ax.text(x, y, name, fontsize=9, bbox=ring, **words)
    limits = (-scene.half, scene.half)
    ax.set(xlim=limits, ylim=limits, aspect="equal")
    ax.locator_params(nbins=6)
    ax.tick_params(labelsize=9)


# The widget --------------------------------------------------------------------------------------------------------


class ManifoldExplorer(Shell):
    """The latent plane under the pointer; without a kernel, a picture of all models side by side.

    `models`: label -> (vae, codes (N, 2), labels (N,)); `start`: the label shown first; `alt`: of the saved picture.
    The state is model, path and view, from the controls, and z, a, b (None where not set), from the pad. All models
    and every message of the pad are played through at once, so what is wrong with a decoder raises here, in the cell.
    Raises ``ValueError`` for models that the pad can't show.
    """

    def __init__(self, models: Mapping[str, tuple[VAE, Any, Any]], start: str, alt: str, seed: int = 0):
        require(len(models) > 0, "models is empty; a mapping label -> (vae, codes, labels) is needed")
        self.models = {label: Model.of(label, given) for label, given in models.items()}
        cached = lru_cache(maxsize=32)
        self._scene = cached(one_thread()(lambda label, view: compute_scene(self.models[label], view)))
        self._path = cached(one_thread()(lambda label, *path: compute_path(self.models[label], *path)))
        self._point = one_thread()(lambda label, z: compute_point(self.models[label], z))
        a, b = far_apart(self.models[choose(start, self.models, "model")])
        z = tuple(round(0.3 * u + 0.7 * v, 2) for u, v in zip(a, b, strict=True))
        self._points: State = {"z": z, "a": a, "b": b}
        self.pad = LatentPad(layout=widgets.Layout(width="100%", margin="4px 0 0"))
        self.pad.on_msg(self._received)
        controls = {
            "model": widgets.ToggleButtons(options=list(self.models), value=start, description="model"),
            "path": widgets.ToggleButtons(options=[(name, k) for k, (name, _) in PATHS.items()], description="path"),
            "view": widgets.ToggleButtons(options=[(name, k) for k, name in VIEWS.items()], description="view"),
        }
        title = "Walk through the latent plane"
        super().__init__(title, controls, self.pad, self._random_state, alt, WIDTH, hint=HINT, seed=seed)
        self._play()
        with one_thread():
            self._saved = sheet_png(draw_sheet(self.models, a, b))

    @property
    def state(self) -> State:
        """The controls' values, and the points z, a, b."""
        return {**super().state, **self._points}

    def mark(self, z: Any) -> None:
        """Set A at z, or B if only A is set. Raises ``ValueError`` for what is no point."""
        begin = self._points["a"] is None or self._points["b"] is not None
        self.set(**({"z": z, "a": z, "b": None} if begin else {"z": z, "b": z}))

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        """Return the shell's bundle; in Colab it also names the widget manager that knows anywidget."""
        data, metadata = super()._repr_mimebundle_()
        return data, metadata | self.pad._repr_mimebundle_()[1]

    def _check(self, name: str, value: Any) -> None:
        if name in self._points:
            check_point(name, value)
        else:
            super()._check(name, value)

    def _put(self, name: str, value: Any) -> None:
        if name in self._points:
            self._points[name] = value and tuple(float(v) for v in value)
        else:
            super()._put(name, value)

    def _arrange(self) -> widgets.Box:
        for control in self.controls.values():
            control.style.button_width = control.style.description_width = "auto"
            control.layout.width = "auto"
        return widgets.HBox(
            list(self.controls.values()), layout=widgets.Layout(flex_flow="row wrap", grid_gap="0 24px")
        )

    def _redraw(self) -> None:
        label, kind, view, z, a, b = self.state.values()
        scene, point, path = self._scene(label, view), self._point(label, z), self._path(label, kind, a, b)
        with self.pad.hold_sync():  # one message for all
            self.pad.scene = scene_message(label, self.models[label], scene)
            self.pad.point = point_message(z, point, scene.half)
            self.pad.path = path_message(kind, a, b, path)
        self.readout.value = read_scene(label, scene)

    def _received(self, _, content: Any, buffers: Any) -> None:
        """Do what the pad asks for, and answer in any case: the pad does not send its next point before."""
        with self.pad.hold_sync():
            self._try(lambda: self._obey(content))
            self.pad.answers += 1

    def _obey(self, content: Any) -> None:
        require(isinstance(content, dict), f"message {content!r} from the pad; a dictionary is needed")
        match choose(content.get("do"), ("set", "mark", "clear"), "message"):
            case "set":
                self.set(**content["state"])
            case "mark":
                self.mark(content["z"])
            case "clear":
                self.set(a=None, b=None)

    def _random_state(self, rng: np.random.Generator) -> State:
        """Return a random model and a path between the codes of two test images."""
        label = str(rng.choice(list(self.models)))
        codes = self.models[label].codes
        a, b = (rounded(codes[i]) for i in rng.choice(len(codes), size=2, replace=len(codes) < 2))
        return {"model": label, "z": a, "a": a, "b": b}

    def _play(self) -> None:
        """Send every message that the pad can send, on every model, and go back to the start; raise what went wrong."""
        at = {"do": "mark", "z": [0.5, -0.5]}
        for label in self.models:
            played = {"model": label, "path": "sphere", "view": "prior", "z": [0.0, 0.0]}
            for content in ({"do": "set", "state": played}, at, {**at, "z": [-1, 1]}, {"do": "clear"}):
                self._received(self.pad, content, [])
                if self.error:
                    raise self.error
        self.reset()
        if self.error:
            raise self.error


def sheet_png(fig: Figure) -> bytes:
    """Return the figure as a small PNG with half as many pixels again, for dense screens."""
    fig.set_dpi(1.5 * fig.dpi)
    fig.canvas.draw()
    return small_png(np.asarray(fig.canvas.buffer_rgba())[..., :3].copy())


def shipped_models() -> dict[str, tuple[VAE, Tensor, Tensor]]:
    """Return the course's VAEs of MNIST with 2 latents, by their beta, with the codes of 2,000 test images."""
    names = {"β = 0.01": "vae_2_islands", "β = 1": "vae_2_map", "β = 100": "vae_2_collapse"}
    loaded = {label: (networks.load(name), networks.extras(name)) for label, name in names.items()}
    return {label: (vae, extras["codes"], extras["labels"]) for label, (vae, extras) in loaded.items()}


def manifold_explorer(models: Mapping[str, tuple[VAE, Any, Any]] | None = None, seed: int = 0) -> ManifoldExplorer:
    """Return W-manifold for `models`: label -> (vae with 2 latents, codes (N, 2), labels (N,)).

    Without models those of the course: MNIST with the KL weighted by beta = 0.01, 1 and 100. `seed` is that of
    "Surprise me". Raises ``ValueError`` for models that the pad can't show.
    """
    if models is None:
        shipped = shipped_models()
        return ManifoldExplorer(shipped, "β = 1", alt_of(shipped) + MEANING, seed)
    return ManifoldExplorer(models, next(iter(models), ""), alt_of(models), seed)


def alt_of(models: Mapping[str, Any]) -> str:
    """Return what the saved picture shows, in words."""
    what = "a VAE" if len(models) == 1 else f"{len(models)} VAEs side by side"
    return ALT.format(labels=f"{what}, {', '.join(models)}")

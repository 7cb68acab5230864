"""Lecture 2: W-manifold, the latent plane of a VAE: its codes, the image at a point, the manifold, a path.

The page decodes by itself, from the decoders' weights in half precision; see vae.js and network.js.
"""

import copy
import html
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from course_utils import networks
from course_utils.errors import choose, require
from course_utils.paths import lerp, prior_grid, slerp
from course_utils.plots import CLASSES, CLASSES_DARK, schemes
from course_utils.vae import VAE, Bernoulli, DiscretisedLogistic, Gaussian
from course_utils.widgets.stage import Choice, Declaration, Range, State, Widget
from course_utils.widgets.weights import pack

GRID = 15  # images in a row of the manifold
SMALL = 16  # pixels; smaller images are drawn with a gap between them
STOPS = 11  # images along a path
LINE = 61  # points of the path's line, a multiple of STOPS - 1 more than 1
LEAST = 3.0  # the plane is shown at least from -3 to 3: 99 % of the prior
REACH = 10.0  # how far z, A and B can be moved at least
STEP = 0.01  # of their coordinates
PATHS = {"straight": lerp, "sphere": slerp}
PATH_NAMES = {"straight": "straight", "sphere": "on the sphere"}
VIEWS = {"codes": "all codes", "prior": "−3 to 3"}
MEANS = {Bernoulli: [nn.Sigmoid()], Gaussian: [], DiscretisedLogistic: []}  # from a decoder's numbers to E[x | z]
HINT = (
    "Click into the plane, the manifold or the film strip: z goes there. Drag z, A and B, or Tab to one of them and "
    "press the arrow keys, with Shift for longer steps. Double click on the plane: back to the start."
)
ALT = (
    "The latent plane of {labels}: codes of test images in the colours of their classes, with the circles of 1 and 2 "
    "standard deviations of the prior and a straight path from A to B; the image decoded at z; the decoded manifold, a "
    "grid with equal prior mass in every cell; and the images decoded along the path."
)
MEANING = (
    " With beta = 0.01 the classes are islands and more than half of the codes lie outside the larger circle; with "
    "beta = 1 they fill the prior as one smooth map; with beta = 100 all lie at zero, and every decoded image is the "
    "same blur."
)
SHIPPED = {  # label → checkpoint, and what its picture shows
    "β = 0.01": ("vae_2_islands", "islands, and more than half of the codes far outside the prior"),
    "β = 1": ("vae_2_map", "one smooth map that fills the prior"),
    "β = 100": ("vae_2_collapse", "all codes at zero, and one image everywhere"),
}


# Numbers -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Model:
    """A VAE with 2 latents as the page needs it: a copy in half precision that later training leaves alone."""

    vae: VAE  # on the CPU, in evaluation mode; its decoder's weights are those that the page has
    layers: list[State]  # of z -> E[x | z]
    weights: bytes
    codes: Tensor  # (N, 2) floats
    classes: Tensor  # (N,) integers 0..9
    side: int  # pixels of an image's edge

    @classmethod
    def of(cls, label: str, given: Any) -> "Model":
        """Return the model of (vae, codes (N, 2), labels (N,)). Raises ``ValueError`` for what a page can't show."""
        named = f"model {label!r}"
        triple = isinstance(given, tuple | list) and len(given) == 3
        require(triple, f"{named}: a triple (vae, codes, labels) is needed")
        vae, codes, classes = given[0], *(torch.as_tensor(v).detach().cpu().float() for v in given[1:])
        require(isinstance(vae, VAE), f"{named} is a {type(vae).__name__}; a course_utils.vae.VAE is needed")
        require(vae.latents == 2, f"{named} has {vae.latents} latents; the plane shows 2: mlp_vae({vae.pixels}, 2)")
        require(not vae.classes, f"{named} is conditional; the plane shows models without classes")
        side = math.isqrt(vae.pixels)
        require(side**2 == vae.pixels, f"{named} has {vae.pixels} pixels; a square image is needed, such as 8 x 8")
        check_codes(named, codes, classes)
        vae = copy.deepcopy(vae).cpu().float().eval()
        layers, weights = pack(mean_network(named, vae), f"{named}, decoder")
        ends = [(layer["inputs"], layer["outputs"]) for layer in layers if layer["kind"] == "linear"]
        fits = ends[0][0] == 2 and ends[-1][1] == vae.pixels * vae.likelihood.per_pixel
        require(fits, f"{named}: the decoder's layers {ends} don't lead from 2 latents to {vae.pixels} pixels")
        vae.decoder.half().float()
        return cls(vae, layers, weights, codes, classes.long(), side)


def check_codes(named: str, codes: Tensor, classes: Tensor) -> None:
    """Raise ``ValueError`` unless codes are finite (N, 2) and classes (N,) whole numbers from 0 to 9."""
    shape = tuple(codes.shape)
    fits = len(shape) == 2 and shape[0] > 0 and shape[1] == 2
    require(fits, f"{named}: codes have shape {shape}; (N, 2) is needed")
    require(bool(codes.isfinite().all()), f"{named}: some codes are not finite; has the training diverged?")
    require(classes.shape == (len(codes),), f"{named}: {tuple(classes.shape)} labels for {len(codes)} codes")
    known = bool(torch.isin(classes, torch.arange(len(CLASSES))).all())
    require(known, f"{named}: labels must be whole numbers from 0 to {len(CLASSES) - 1}")


def mean_network(named: str, vae: VAE) -> nn.Sequential:
    """Return the network z -> E[x | z] (before it is clamped to [0, 1]; further numbers for a pixel come after all)."""
    kind = type(vae.likelihood)
    allowed = ", ".join(known.__name__ for known in MEANS)
    require(kind in MEANS, f"{named}: the likelihood {kind.__name__} has no mean in the page; allowed: {allowed}")
    return nn.Sequential(vae.decoder, *MEANS[kind])


class ManifoldNumbers(NamedTuple):
    """What W-manifold shows: images are bytes, 255 for 1, one after the other."""

    image: np.ndarray  # (D,) decoded at z
    corner: tuple[float, float]  # Phi(z): where z lies on the manifold, from below left, each in [0, 1]
    nearest: tuple[int, float]  # class and distance of the nearest code
    line: np.ndarray  # (LINE, 2) from A to B
    stops: np.ndarray  # (STOPS, 2)
    strip: np.ndarray  # (STOPS, D)
    manifold: np.ndarray  # (GRID², D) row by row from above


@torch.no_grad()
def decode(vae: VAE, z: Tensor) -> np.ndarray:
    """Return E[x | z] as bytes, 255 for 1: z (..., 2) gives (..., D)."""
    mean = vae.likelihood.mean(vae.decode(z.float()))
    return (255 * mean.clamp(0, 1)).round().to(torch.uint8).numpy()


def compute_manifold(models: Mapping[str, Model], state: State) -> ManifoldNumbers:
    """Return images at z, along the path from A to B and on the manifold, and where z lies.

    `state`: model, path (one of PATHS), z1, z2, a1, a2, b1, b2. Raises ``ValueError`` for an unknown model or path.
    """
    model = models[choose(state["model"], models, "model")]
    interpolate = PATHS[choose(state["path"], PATHS, "path")]
    z, a, b = (torch.tensor([state[f"{name}1"], state[f"{name}2"]], dtype=torch.float64) for name in "zab")
    distances = (model.codes - z).norm(dim=-1)
    nearest = int(distances.argmin())
    line = interpolate(a, b, torch.linspace(0, 1, LINE, dtype=torch.float64))
    stops = line[:: (LINE - 1) // (STOPS - 1)]
    return ManifoldNumbers(
        image=decode(model.vae, z),
        corner=tuple(torch.special.ndtr(z).tolist()),
        nearest=(int(model.classes[nearest]), distances[nearest].item()),
        line=line.numpy(),
        stops=stops.numpy(),
        strip=decode(model.vae, stops),
        manifold=decode(model.vae, prior_grid(GRID).flatten(0, 1)),
    )


# What depends on the model only --------------------------------------------------------------------------------------


def scene(label: str, model: Model) -> State:
    """Return what the page needs to know of a model besides its bytes."""
    norms = model.codes.norm(dim=-1)
    return {
        "layers": model.layers,
        "side": model.side,
        "count": len(model.codes),
        "label": html.escape(label),
        "inside": [(norms < radius).float().mean().item() for radius in (1, 2)],
        "reach": reach(model),
        "views": {view: seen(model, view) for view in VIEWS},
    }


def reach(model: Model) -> float:
    """Return the largest coordinate of a code."""
    return model.codes.abs().max().item()


def seen(model: Model, view: str) -> State:
    """Return the plane's half width in one of VIEWS, how many codes lie outside, and what is written on it, where."""
    largest = model.codes.abs().amax(-1)
    half = max(LEAST, math.ceil(torch.quantile(largest, 0.995))) if view == "codes" else LEAST
    names = [name for name in names_of(model, 0.13 * half) if max(map(abs, name[1:])) < half]
    rings = [free_place(radius, half, names) for radius in (1, 2) if radius > 0.1 * half]
    return {"half": half, "hidden": int((largest > half).sum()), "names": names, "rings": rings}


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


def free_place(radius: int, half: float, taken: list[tuple[str, float, float]]) -> tuple[str, float, float]:
    """Return the name of a circle around the origin, and a place beside it far from names: straight above, if free."""
    turns = sorted((math.pi * i / 8 for i in range(-7, 9)), key=abs)
    away = radius + 0.05 * half
    places = [(away * math.sin(turn), away * math.cos(turn)) for turn in turns]
    room = [min([0.14 * half, *(math.dist(place, name[1:]) for name in taken)]) for place in places]
    return (f"{radius}σ", *places[room.index(max(room))])


# The widget --------------------------------------------------------------------------------------------------------


def far_apart(model: Model) -> tuple[Tensor, Tensor]:
    """Return ends of a path worth seeing: a little beyond the first class's median, and that of the farthest class."""
    medians = 1.2 * torch.stack(list(medians_of(model).values()))
    return medians[0], medians[(medians - medians[0]).norm(dim=-1).argmax()]


def apart(model: Model) -> float:
    """Return how far apart they are."""
    a, b = far_apart(model)
    return (a - b).norm().item()


def walk(model: Model) -> dict[str, float]:
    """Return z1, z2, a1, a2, b1, b2 of that path, z on it nearer to B."""
    a, b = far_apart(model)
    points = {"z": 0.3 * a + 0.7 * b, "a": a, "b": b}
    return {f"{name}{i + 1}": round(at[i].item(), 2) for name, at in points.items() for i in range(2)}


def declare(models: Mapping[str, Model], start: str, alt: str, titles: Mapping[str, str]) -> Declaration:
    """Return W-manifold for models by label; `start`: the one shown first, `titles`: of the saved pictures."""
    limit = float(max(REACH, math.ceil(1.2 * max(map(reach, models.values())))))
    points = walk(models[choose(start, models, "model")])
    own = {label: walk(model) for label, model in models.items() if apart(model) > 1}
    return Declaration(
        name="manifold",
        title="Walk through the latent plane",
        controls={
            "model": Choice("model", start, {label: label for label in models}),
            "path": Choice("path", "straight", PATH_NAMES),
            "view": Choice("view", "codes", VIEWS),
            **{name: Range(name, at, -limit, limit, STEP, hidden=True) for name, at in points.items()},
        },
        compute=lambda state: compute_manifold(models, state),
        presets=[(titles.get(label, label), {"model": label} | own.get(label, {})) for label in models],
        surprise={"model": list(models), "path": list(PATHS)} | dict.fromkeys(points, (-2.0, 2.0)),
        alt=alt,
        colours=schemes("q", "ink", "grey", "ground")
        | {f"class {k}": colours for k, colours in enumerate(zip(CLASSES, CLASSES_DARK, strict=True))},
        constants={
            "models": {label: scene(label, model) for label, model in models.items()},
            "classes": sorted({k for model in models.values() for k in model.classes.tolist()}),
            "axis": prior_grid(GRID)[0, :, 0].tolist(),  # z_1 of the manifold's columns, and z_2 of its rows from below
            "prior": [1 - math.exp(-(radius**2) / 2) for radius in (1, 2)],  # P(|z| < radius)
            "stops": STOPS,
            "line": LINE,
            "small": SMALL,
            "stride": 0.02,  # of an arrow key, in halves of the plane
            "words": {
                "plane": "The plane of codes, with the prior's circles and the path from A to B.",
                "image": "The image decoded at z.",
                "manifold": "Images decoded on a grid of equal prior mass.",
                "strip": "Images decoded along the path from A to B.",
            },
        },
        hint=HINT,
        assets={
            f"{label}/{part}": content
            for label, model in models.items()
            for part, content in (
                ("weights", model.weights),
                ("codes", model.codes.numpy().astype("<f4").tobytes()),
                ("classes", model.classes.numpy().astype("u1").tobytes()),
            )
        },
    )


def shipped_models() -> dict[str, tuple[VAE, Tensor, Tensor]]:
    """Return the course's VAEs of MNIST with 2 latents, by their beta, with the codes of 2,000 test images."""
    loaded = {label: (networks.load(name), networks.extras(name)) for label, (name, _) in SHIPPED.items()}
    return {label: (vae, extras["codes"], extras["labels"]) for label, (vae, extras) in loaded.items()}


def manifold_explorer(models: Mapping[str, tuple[VAE, Any, Any]] | None = None, seed: int = 0) -> Widget:
    """Return W-manifold for `models`: label -> (vae with 2 latents, codes (N, 2), labels (N,)).

    Without models those of the course: MNIST with the KL weighted by beta = 0.01, 1 and 100. `seed` is that of
    surprises from Python. Raises ``ValueError`` for models that the page can't show.
    """
    given = shipped_models() if models is None else models
    require(len(given) > 0, "models is empty; a mapping label -> (vae, codes, labels) is needed")
    made = {label: Model.of(label, triple) for label, triple in given.items()}
    if models is None:
        titles = {label: f"{label}: {what}" for label, (_, what) in SHIPPED.items()}
        return Widget(declare(made, "β = 1", alt_of(made) + MEANING, titles), seed)
    return Widget(declare(made, next(iter(made)), alt_of(made), {}), seed)


def alt_of(models: Mapping[str, Any]) -> str:
    """Return what the picture shows, in words."""
    what = "a VAE" if len(models) == 1 else f"{len(models)} VAEs"
    return ALT.format(labels=f"{what}, {', '.join(models)}")

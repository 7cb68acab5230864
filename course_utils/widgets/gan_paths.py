"""Lecture 3, paths between latents (row 3.6): straight and on the sphere, with their images and norms."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from course_utils import data, gan, networks
from course_utils.paths import lerp, slerp
from course_utils.plots import schemes
from course_utils.widgets.gan_film import own_copy
from course_utils.widgets.stage import Choice, Declaration, Kernel, Range, State, Widget, ink

PATHS = {"straight": ("straight", lerp), "sphere": ("on the sphere", slerp)}
STEPS = 20  # of t from one end to the other: an image at each
STRIP = 10  # steps from one end of a strip to the other, a divisor of STEPS
T = torch.linspace(0, 1, 5 * STEPS + 1, dtype=torch.float64)  # of the norms
PAIRS = 99  # the largest number of a pair
WITHOUT_KERNEL = 8  # pairs


class PathNumbers(NamedTuple):
    """What is along both paths, in the order of PATHS: images as bytes, norms of latents."""

    images: np.ndarray  # (2, STEPS + 1, side, side)
    norms: np.ndarray  # (2, len(T))
    shorter: np.ndarray  # (2, len(T)): share of the prior's latents with a smaller norm


def chi_density(r: Tensor, k: int) -> Tensor:
    """Return the density at r (...), positive, of the norm of k standard normal numbers: (...)."""
    return ((k - 1) * r.log() - r.square() / 2 - (k / 2 - 1) * math.log(2) - math.lgamma(k / 2)).exp()


def chi_cumulative(r: Tensor, k: int) -> Tensor:
    """Return the probability of a norm below r (...): (...)."""
    return torch.special.gammainc(torch.tensor(k / 2, dtype=r.dtype), r.square() / 2)


def compute_paths(model: gan.GAN, side: int, seed: int, state: State, tell: Callable | None = None) -> PathNumbers:
    """Return images and norms along both paths between the latents of a pair; of the state it takes `pair` alone."""
    a, b = model.latent(2, data.generator(1000 * seed + int(state["pair"]))).double()
    paths = torch.stack([walk(a, b, T) for _, walk in PATHS.values()])  # (2, T, latents)
    stops = paths[:, :: (len(T) - 1) // STEPS].flatten(0, 1)
    norms = paths.norm(dim=-1)
    return PathNumbers(
        images=ink(model.decode(stops.float()).view(len(PATHS), -1, side, side)),
        norms=norms.numpy(),
        shorter=chi_cumulative(norms, model.latents).numpy(),
    )


def declare_paths(model: gan.GAN, side: int, seed: int) -> Declaration:
    """Declare W-paths. Some pairs travel with the widget, the others are asked from the kernel."""
    top = 1.25 * math.sqrt(model.latents) + 1.2  # of the axis of norms
    r = torch.linspace(0.01, top, 200, dtype=torch.float64)
    density = chi_density(r, model.latents)
    return Declaration(
        name="gan_paths",
        title="From one latent to another",
        controls={
            "path": Choice("path", "straight", {kind: label for kind, (label, _) in PATHS.items()}),
            "t": Range("t", 0.5, 0, 1, 1 / STEPS),
            "pair": Range("pair", 0, 0, PAIRS, 1, digits=0),
        },
        compute=partial(compute_paths, model, side, seed),
        kernel=Kernel(of=["pair"], sprites=[(f"pair {n}", {"pair": n}) for n in range(WITHOUT_KERNEL)]),
        presets=[
            ("Half-way on the straight path: a latent shorter than the prior's", {}),
            ("Half-way on the sphere: a latent of the usual length", {"path": "sphere"}),
        ],
        surprise={"pair": (0, PAIRS), "t": (0.5, 0.5)},
        alt=(
            "Images along two paths between the same two latents, straight and on the sphere, the images half-way, and "
            f"the norms along both paths over the density of norms under the prior with {model.latents} dimensions: in "
            "the middle the straight path goes where the prior has hardly any mass, the other stays among usual norms."
        ),
        colours=schemes("p", "q", "grey"),
        constants={
            "side": side,
            "strip": STRIP,
            "top": top,
            "density": (density / density.max()).tolist(),
            "colours": {"straight": "q", "sphere": "p"},
            "words": {
                "here": "at t",
                "norms": "Norms of the latents along both paths over t; shaded are those usual under the prior.",
                "prior": "grey: density of norms under the prior",
                "norm": "norm of the latent",
            },
        },
        hint="Click an image, or drag the spot on a curve · Tab to a control, arrow keys move it.",
    )


def interpolation_explorer(model: gan.GAN | None = None, side: int = 28, seed: int = 0) -> Widget:
    """Return two latents and the paths between them, straight and on the sphere: images, and norms beside the prior's.

    `model` has images of side x side pixels; without one, that of the course (MNIST). `seed` is that of the latents
    and of surprises from Python. Raises ``ValueError`` for a model with another side.
    """
    model = own_copy(networks.load("gan_mnist") if model is None else model, side)
    return Widget(declare_paths(model, side, seed), seed)

"""Lecture 4: W-flow, one planar layer; W-layers, a trained coupling flow layer by layer; W-picture, a drawn density.

The first two compute in the page, see flows.js; the third trains in the kernel.
"""

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from course_utils import data, training
from course_utils.densities import gaussian_log_prob
from course_utils.errors import require
from course_utils.flow_couplings import Affine, Coupling, Spline, spline_flow
from course_utils.flows import Flow, negative_log_likelihood, normal_log_prob
from course_utils.plots import ramp, schemes
from course_utils.widgets.stage import (
    Bitmap,
    Choice,
    Declaration,
    Kernel,
    Range,
    State,
    Switch,
    Widget,
    bitmap,
    cells_of,
    grid,
)
from course_utils.widgets.weights import pack

REACH = 4.0  # the plane is shown from -REACH to REACH
SHADES = 64  # of a density
LIGHT, DARK = ramp(SHADES)
BLUES = [LIGHT, DARK[::-1]]  # from the page's ground to strong, on a light page and on a dark one


def centres(n: int) -> Tensor:
    """Return the centres (n², 2) of n x n cells of the plane, row by row from below."""
    axis = (torch.arange(n, dtype=torch.float64) + 0.5) / n * 2 * REACH - REACH
    return torch.cartesian_prod(axis, axis).flip(-1)


def grid_lines(lines: State, steps: State) -> Tensor:
    """Return the lines of a regular grid of the plane, (2 L, M, 2): the upright ones first."""
    at, along = (torch.linspace(v["low"], v["high"], v["n"], dtype=torch.float64) for v in (lines, steps))
    upright = torch.stack(torch.meshgrid(at, along, indexing="ij"), -1)
    return torch.cat([upright, upright.flip(-1)])


# W-flow, row 4.6 -----------------------------------------------------------------------------------------------------

PLANAR_LINES, PLANAR_STEPS = grid(-REACH, REACH, 17), grid(-REACH, REACH, 81)
PIXELS = 72  # of the density, to a side
SQUARE = 2.2  # half the side of the base that is even
LATTICE = 16  # points to a side in it
POINTS = 400  # of the Gaussian
HALVINGS = 40  # of the interval that holds x's distance from the hyperplane
NODES = 1000  # of the integral of the density
FAR = 2.5  # cube root of the distance from the hyperplane to which it goes


class PlanarNumbers(NamedTuple):
    """What W-flow shows of one planar layer, in the plane from -REACH to REACH."""

    u: np.ndarray  # (2,) the arrow that the layer uses: û where it is enforced
    slope: float  # w·u of it
    smallest: float  # determinant anywhere
    band: float  # the determinant is negative up to this distance from the hyperplane; 0: nowhere
    points: np.ndarray  # (N, 2) of the base, after the layer
    lines: np.ndarray  # (2 L, M, 2) of the grid, after the layer
    density: np.ndarray  # (PIXELS², ) p(z) at pixels, row by row from below
    integral: float  # of p(z) over the plane


class Plane(NamedTuple):
    """A planar layer as seen from its hyperplane n·x = d: r = n·x - d moves to r + k tanh(s r), the rest along u."""

    n: Tensor  # (2,) of length 1
    d: float
    s: float  # ‖w‖: w = s n, b = -s d
    u: Tensor  # (2,)

    @property
    def k(self) -> float:
        """n·u."""
        return float(self.n @ self.u)

    def after(self, x: Tensor) -> Tensor:
        """Return z = x + u tanh(w·x + b), (..., 2)."""
        return x + (self.s * (x @ self.n - self.d)).tanh()[..., None] * self.u

    def determinant(self, r: Tensor) -> Tensor:
        """Return 1 + (1 - tanh²) w·u at distances r from the hyperplane, as (4.6a) says."""
        return 1 + (1 - (self.s * r).tanh() ** 2) * self.s * self.k

    def before(self, v: Tensor) -> Tensor:
        """Return a distance r that the layer moves to v, by halving an interval: one of three where the plane folds."""
        low, high = v - abs(self.k), v + abs(self.k)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            right = middle + self.k * (self.s * middle).tanh() < v
            low, high = torch.where(right, middle, low), torch.where(right, high, middle)
        return (low + high) / 2

    def density(self, z: Tensor, base: str) -> Tensor:
        """Return p(z) = base(x) / |det| at the x that ``before`` finds: z (..., 2) gives (...)."""
        r = self.before(z @ self.n - self.d)
        x = z - (self.s * r).tanh()[..., None] * self.u
        return base_density(x, base) / self.determinant(r).abs()

    def integral(self, base: str) -> float:
        """Return the integral of p(z) over the plane, by the midpoint rule in the cube root of v = n·z - d.

        Across n the layer only shifts, so one dimension is left. The cube root takes the peak away that p has at the
        hyperplane where the determinant is nearly 0.
        """
        root = (torch.arange(NODES, dtype=torch.float64) + 0.5) * 2 * FAR / NODES - FAR
        r = self.before(root**3)
        p = base_along(r + self.d, self.n, base) / self.determinant(r).abs()
        return float((p * 3 * root**2).sum() * 2 * FAR / NODES)


def base_density(x: Tensor, base: str) -> Tensor:
    """Return the density of the base at x (..., 2): a standard Gaussian, or an even square."""
    if base == "gaussian":
        return normal_log_prob(x.reshape(-1, 2)).view(x.shape[:-1]).exp()
    return (x.abs().amax(-1) < SQUARE).double() / (2 * SQUARE) ** 2


def base_along(a: Tensor, n: Tensor, base: str) -> Tensor:
    """Return the density of n·x at a where x is of the base: the even square's is a trapezium."""
    if base == "gaussian":
        return gaussian_log_prob(a, 0.0, 1.0).exp()
    long, short = SQUARE * n.abs().max(), SQUARE * n.abs().min().clamp(min=1e-9)
    return ((long + short - a.abs()) / (2 * short)).clamp(0, 1) / (2 * long)


def invertible(u: Tensor, w: Tensor) -> Tensor:
    """Return û, (2,): w·û = softplus(w·u) - 1 > -1, and what u does across w stays, as (4.6c) says."""
    a = w @ u
    return u + (F.softplus(a) - 1 - a) * w / w.square().sum()


def plane_of(state: State) -> Plane:
    """Return the layer of a state: angle of w in degrees, steepness ‖w‖, offset of the hyperplane, u, enforce."""
    angle, s = math.radians(state["angle"]), state["steepness"]
    n = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
    u = torch.tensor([state["u1"], state["u2"]], dtype=torch.float64)
    return Plane(n, state["offset"], s, invertible(u, s * n) if state["enforce"] else u)


def compute_planar(state: State) -> PlanarNumbers:
    """Return what W-flow shows of the layer and the base ("gaussian" or "square") of a state."""
    plane, base = plane_of(state), state["base"]
    slope = plane.s * plane.k
    return PlanarNumbers(
        u=plane.u.numpy(),
        slope=slope,
        smallest=min(1.0, 1 + slope),
        band=math.acosh(math.sqrt(-slope)) / plane.s if slope < -1 else 0.0,
        points=plane.after(BASES[base]).numpy(),
        lines=plane.after(grid_lines(PLANAR_LINES, PLANAR_STEPS)).numpy(),
        density=plane.density(centres(PIXELS), base).numpy(),
        integral=plane.integral(base),
    )


BASES = {  # points of each base, (N, 2)
    "gaussian": data.normal(POINTS, 2, generator=data.generator(0)).double().round(decimals=3),
    "square": centres(LATTICE) / REACH * SQUARE,
}
FOLD: State = {"angle": 0, "steepness": 1.5, "u1": -1.6, "u2": 0.8}
SHEAR: State = {"angle": 90, "u1": 2.0, "u2": 0.0, "base": "square", "enforce": False}
PLANAR = Declaration(
    name="planar",
    title="One planar layer: z = x + u tanh(w·x + b)",
    controls={
        "angle": Range("angle of w", 25, -180, 180, 1, digits=1, unit="°"),
        "steepness": Range("‖w‖", 1.5, 0.3, 3, 0.05),
        "offset": Range("hyperplane", 0.0, -2.4, 2.4, 0.05),
        "u1": Range("u₁", 1.8, -3.6, 3.6, 0.05),
        "u2": Range("u₂", 0.4, -3.6, 3.6, 0.05),
        "base": Choice("base", "gaussian", {"gaussian": "a Gaussian", "square": "a square, even"}),
        "enforce": Switch("enforce: û in place of u", True),
    },
    compute=compute_planar,
    presets=[
        ("Along w the layer pulls apart: the determinant is largest, and p lowest, at the hyperplane", {}),
        ("u across w: a shear, the determinant is 1", SHEAR),
        ("u against w, enforced: û stops short of the line, and the layer presses together", FOLD),
        ("The same without: three x lead to one z near the hyperplane", FOLD | {"enforce": False}),
    ],
    surprise={
        "angle": (-180, 180),
        "steepness": (0.5, 3),
        "offset": (-1, 1),
        "u1": (-3, 3),
        "u2": (-3, 3),
        "enforce": (True, True, False),
        "base": ("gaussian", "square"),
    },
    alt=(
        "Four planar layers, each with a regular grid and points before it, the arrows w, u and û with the half plane "
        "in which the tip of u leaves the layer invertible, and grid, points and density after it. Pulled apart along "
        "w, the Gaussian becomes two lumps. Sheared, a square keeps its density. Pressed together, the Gaussian is a "
        "ridge along the hyperplane. With u beyond the line the grid folds over itself, the determinant is negative "
        "in a band, and the density integrates to less than 1."
    ),
    colours=schemes("p", "q", "gap", "good", "amber", "ink", "grey", "ground"),
    constants={
        "reach": REACH,
        "pixels": PIXELS,
        "lines": PLANAR_LINES,
        "steps": PLANAR_STEPS,
        "points": {base: points.flatten().tolist() for base, points in BASES.items()},
        "square": SQUARE,
        "halvings": HALVINGS,
        "nodes": NODES,
        "far": FAR,
        "top": 0.32,  # density of the strongest shade
        "shades": BLUES,
        "tip": [0.5, 0.33],  # w's arrow is drawn so long: the first and the second times ‖w‖
        "words": {
            "before": "The plane before the layer: grid, points, hyperplane, and where the determinant is negative.",
            "arrows": "The arrows w, u and û, and the half plane of tips that leave the layer invertible.",
            "after": "The plane after the layer: the grid deformed, the points moved, and their density.",
        },
    },
)


def planar_explorer(seed: int = 0) -> Widget:
    """Return W-flow: one planar layer by its hyperplane and its arrow u; `seed` is that of "Surprise me"."""
    return Widget(PLANAR, seed)


# W-layers, row 4.7 ---------------------------------------------------------------------------------------------------

LAYER_LINES, LAYER_STEPS = grid(-3.5, 3.5, 15), grid(-3.5, 3.5, 71)
LAYER_PIXELS = 48
SAMPLES = 800
GRIDS = {"data": "even in the data", "noise": "even in the noise"}
RUNNABLE = "couplings by Affine or Spline can, as in realnvp(2) and spline_flow(2)"


class LayersNumbers(NamedTuple):
    """What W-layers shows of a flow of L layers after some of them."""

    lines: np.ndarray  # (2 L, M, 2) of the grid, there
    samples: np.ndarray  # (SAMPLES, 2) of the flow, there
    log_density: np.ndarray  # (LAYER_PIXELS²,) of what the data have become there, in nats; rows from below
    path: np.ndarray  # (L + 1, 2) of the point: data first, noise last
    log_dets: np.ndarray  # (L,) of each layer at the point
    base: float  # log N(z; 0, I) at its end


@dataclass(frozen=True)
class Layers:
    """A flow as the page has it: a copy in double precision of the weights in half precision."""

    flow: Flow
    layers: list[State]
    weights: Mapping[str, bytes]

    @classmethod
    def of(cls, flow: Any) -> "Layers":
        """Return a flow for the page. Raises ``ValueError`` that names a layer which can't run there."""
        require(isinstance(flow, Flow), f"flow is a {type(flow).__name__}; a course_utils.flows.Flow is needed")
        require(flow.dim == 2, f"the flow has {flow.dim} dimensions; the plane has 2: spline_flow(2)")
        flow = copy.deepcopy(flow).cpu().float().eval()
        layers, weights = [], {}
        for i, layer in enumerate(flow.transform.layers):
            named = f"layer {i + 1} of {len(flow.transform.layers)}"
            packed, weights[f"layer {i + 1}"] = pack_coupling(layer, named)
            layers.append(packed)
        return cls(flow.half().double(), layers, weights)

    @property
    def steps(self) -> list[Coupling]:
        """The layers in order."""
        return list(self.flow.transform.layers)

    def forward(self, x: Tensor, start: int = 0) -> tuple[list[Tensor], list[Tensor]]:
        """Return what x (B, 2), as it is after `start` layers, is after all others, and each one's log-determinant."""
        states, log_dets = [x], []
        for layer in self.steps[start:]:
            z, log_det = layer(states[-1])
            states.append(z)
            log_dets.append(log_det)
        return states, log_dets

    def backward(self, z: Tensor, start: int) -> list[Tensor]:
        """Return what z (B, 2), as it is after `start` layers, was before each of them: the data first, z last."""
        states = [z]
        for layer in reversed(self.steps[:start]):
            states.insert(0, layer.inverse(states[0])[0])
        return states


def pack_coupling(layer: Any, named: str) -> tuple[State, bytes]:
    """Return a coupling of two numbers as the page takes it, and its network's weights."""
    kind = type(layer.transform) if isinstance(layer, Coupling) else type(layer)
    require(kind in (Affine, Spline), f"{named}, {kind.__name__}, can't run in the page; {RUNNABLE}")
    layers, weights = pack(layer.network, f"{named}, network")
    ends = [(part["inputs"], part["outputs"]) for part in layers if part["kind"] == "linear"]
    fits = ends[0][0] == 1 and ends[-1][1] == layer.transform.n
    require(fits, f"{named}: its network {ends} must lead from 1 number to {layer.transform.n}, without a context")
    own = layer.transform
    if kind is Affine:
        how = {"kind": "affine", "bound": own.bound if own.bound < math.inf else None}
    else:
        how = {"kind": "spline", "bins": own.bins, "limit": own.limit, "least": own.LEAST}
    return how | {"swap": layer.swap, "network": layers}, weights


@torch.no_grad()
def compute_layers(model: Layers, noise: Tensor, state: State) -> LayersNumbers:
    """Return what W-layers shows after `state["layer"]` layers; the point is (p1, p2) after `state["at"]` layers."""
    layer, at, count = state["layer"], state["at"], len(model.steps)
    regular = grid_lines(LAYER_LINES, LAYER_STEPS)
    flat = regular.flatten(0, 1)
    lines = model.forward(flat)[0][layer] if state["grid"] == "data" else model.backward(flat, count)[layer]
    states, log_dets = model.forward(centres(LAYER_PIXELS), layer)
    point = torch.tensor([[state["p1"], state["p2"]]], dtype=torch.float64)
    path, terms = model.forward(model.backward(point, at)[0])
    return LayersNumbers(
        lines=lines.view_as(regular).numpy(),
        samples=model.backward(noise, count)[layer].numpy(),
        log_density=(normal_log_prob(states[-1]) + sum(log_dets)).numpy(),
        path=torch.cat(path).numpy(),
        log_dets=torch.cat(terms).numpy(),
        base=float(normal_log_prob(path[-1])),
    )


def terms_seen(model: Layers, noise: Tensor) -> tuple[int, int]:
    """Return whole numbers between which all partial sums of log p(x) lie, from the noise on, of nearly all samples."""
    with torch.no_grad():
        states, log_dets = model.forward(model.backward(noise, len(model.steps))[0])
    sums = torch.stack([normal_log_prob(states[-1]), *log_dets[::-1]]).cumsum(0)
    low, high = sums.quantile(0.01), sums.quantile(0.99)
    return math.floor(min(low, -4)), math.ceil(max(high, 1))


@torch.no_grad()
def far_travelled(model: Layers, noise: Tensor) -> Tensor:
    """Return the sample (2,), at the data's end, whose path is longer than those of nine in ten."""
    states = torch.stack(model.backward(noise, len(model.steps)))
    lengths = (states[1:] - states[:-1]).norm(dim=-1).sum(0)
    return states[0, lengths.argsort()[int(0.9 * len(noise))]]


def declare_layers(flow: Flow, seed: int = 0) -> Declaration:
    """Return W-layers for a flow of two numbers. Raises ``ValueError`` as ``Layers.of`` does."""
    model = Layers.of(flow)
    noise = data.normal(SAMPLES, 2, generator=data.generator(seed)).double()
    count = len(model.steps)
    x = far_travelled(model, noise)
    names = ["data", *map(str, range(1, count)), "noise"]
    span = 2 * REACH
    point = [round(min(REACH, max(-REACH, v)), 2) for v in x.tolist()]
    return Declaration(
        name="layers",
        title="From data to noise, layer by layer",
        controls={
            "layer": Range("layer", 0, 0, count, 1, digits=0, names=names, play=900),
            "grid": Choice("grid", "data", GRIDS),
            "p1": Range("first number of the point", point[0], -span, span, 0.01, hidden=True),
            "p2": Range("second number of the point", point[1], -span, span, 0.01, hidden=True),
            "at": Range("layers passed where the point was set", 0, 0, count, 1, digits=0, hidden=True),
        },
        compute=lambda state: compute_layers(model, noise, state),
        presets=[
            ("The data's end", {}),
            (f"Half way, after {count // 2} of {count} layers", {"layer": count // 2}),
            ("The noise's end: a Gaussian, and the data's grid deformed", {"layer": count}),
            ("The grid that is even in the noise, at the data's end", {"grid": "noise"}),
        ],
        surprise={"layer": (0, count), "grid": list(GRIDS), "p1": (-2, 2), "p2": (-2, 2), "at": (count, count)},
        alt=(
            f"A flow of {count} couplings at its data's end, half way, at its noise's end, and with the grid that is "
            "even in the noise: density, samples and a grid that deform from one to the other, the path of one point "
            "through all layers, and what each layer adds to the log-density there."
        ),
        colours=schemes("p", "q", "gap", "good", "amber", "ink", "grey", "ground"),
        constants={
            "reach": REACH,
            "pixels": LAYER_PIXELS,
            "lines": LAYER_LINES,
            "steps": LAYER_STEPS,
            "layers": model.layers,
            "names": names,
            "terms": terms_seen(model, noise),
            "shades": BLUES,
            "sectors": ["p", "good", "gap", "q"],  # colours of samples, by the quarter of the noise that they belong to
            "words": {
                "plane": "Density, samples and a grid after some of the layers, and a point's path through all.",
                "terms": "What the noise's density and each layer add to the log-density of the data at the point.",
            },
        },
        hint=(
            "Click or drag the point: it is followed to both ends · Tab to a control or handle, arrow keys move it · "
            "double click: the start."
        ),
        assets=model.weights | {"noise": noise.numpy().astype("<f4").tobytes()},
    )


def layers_explorer(flow: Flow, seed: int = 0) -> Widget:
    """Return W-layers: a trained flow of two numbers, layer by layer; `seed` is that of its samples and of surprises.

    Raises ``ValueError`` that names a layer which a page can't run: it can run affine and spline couplings.
    """
    return Widget(declare_layers(flow, seed), seed)


# W-picture, row 4.11 -------------------------------------------------------------------------------------------------

SIDE = 24  # cells of a picture
HALF = 3.0  # it is drawn from -HALF to HALF
PICTURE_PIXELS = 56
PICTURE_STEPS = 250
LOOKS = 15  # how often a training is looked at
DRAWN = 1000  # samples
EVEN = 128  # the shade, of 255, of a density that is even on the picture


class Learned(NamedTuple):
    """What is seen of a flow that learns a picture after `done` of `steps` steps."""

    done: int
    steps: int
    seconds: float
    entropy: float  # of the picture: log of the ink's area, in nats
    looks: np.ndarray  # (K, 2) of (steps done, held-out negative log-likelihood in nats) so far
    samples: np.ndarray  # (DRAWN, 2)
    density: np.ndarray  # (PICTURE_PIXELS, PICTURE_PIXELS) bytes, rows from below: the root of the density


LEARNED: dict[tuple, Learned] = {}  # what was trained already, by picture, seed and steps


def drawn_shapes() -> dict[str, str]:
    """Return name → picture of the shapes that come with the widget."""
    axis = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    x, y = np.meshgrid(axis, -axis)  # rows from above
    u, v = 1.4 * x, 1.35 * y + 0.1
    eyes = np.hypot(np.abs(x) - 0.35, y - 0.4) < 0.17
    mouth = (np.abs(np.hypot(x, y) - 0.68) < 0.12) & (y < -0.15)
    t = np.linspace(0, 1, 400)
    arm = 0.85 * t * np.exp(3.2j * math.pi * t)  # as complex numbers
    near = np.abs((x + 1j * y)[..., None] - arm).min(-1) < 0.1
    return {
        "heart": bitmap((u**2 + v**2 - 1) ** 3 < u**2 * v**3),
        "face": bitmap(eyes | mouth),
        "spiral": bitmap(near),
    }


SHAPES = drawn_shapes()


def picture_points(cells: np.ndarray, n: int, generator: torch.Generator) -> Tensor:
    """Draw n points (n, 2), even on the ink of cells (SIDE, SIDE), rows from above."""
    rows, columns = (torch.from_numpy(v) for v in np.nonzero(cells))
    which = torch.randint(len(rows), (n,), generator=generator)
    within = data.uniform(n, 2, generator=generator)
    corner = torch.stack([columns[which], SIDE - 1 - rows[which]], -1)
    return (corner + within) / SIDE * 2 * HALF - HALF


def learn(picture: str, seed: int, steps: int, watch: Callable[[Learned], None] = lambda seen: None) -> Learned:
    """Train a spline flow on points of a picture and return what is seen at the end; what was learned is kept.

    ``watch(what is seen)`` is called at LOOKS looks on the way. Raises ``ValueError`` for a picture without ink.
    """
    key = picture, seed, steps
    if key not in LEARNED:
        cells = cells_of(picture, SIDE)
        require(bool(cells.any()), "the picture has no ink: draw something, or choose a shape")
        with training.one_thread(), torch.random.fork_rng(devices=[]):
            LEARNED[key] = train_picture(cells, seed, steps, watch)
    return LEARNED[key]


def train_picture(cells: np.ndarray, seed: int, steps: int, watch: Callable[[Learned], None]) -> Learned:
    """Train on points of the cells and return what is seen at the end."""
    torch.manual_seed(seed)
    g, start, looks = data.generator(seed), time.perf_counter(), []
    points, held_out = picture_points(cells, 20_000, g), picture_points(cells, 2000, g)
    flow = spline_flow(2, layers=4, bins=12)
    area = cells.mean() * (2 * HALF) ** 2
    for step in training.steps(
        lambda index: negative_log_likelihood(flow, points[index]),
        training.adamw(flow, lr=8e-3),
        len(points),
        generator=g,
        steps=steps,
        batch_size=256,
        clip=1.0,
    ):
        if step.done == 1 or step.done % max(1, steps // LOOKS) == 0 or step.done == steps:
            with torch.no_grad():
                looks.append([step.done, negative_log_likelihood(flow, held_out).item()])
                density = flow.log_prob(centres(PICTURE_PIXELS).float()).exp()
            seen = Learned(
                done=step.done,
                steps=steps,
                seconds=time.perf_counter() - start,
                entropy=math.log(area),
                looks=np.array(looks, np.float32),
                samples=flow.sample(DRAWN, data.generator(seed)).numpy(),
                density=root_shades(density, area).reshape(PICTURE_PIXELS, PICTURE_PIXELS),
            )
            watch(seen)
    return seen


def root_shades(density: Tensor, area: float) -> np.ndarray:
    """Return bytes for the root of a density; EVEN for one that is even on an area."""
    return (EVEN * (density * area).sqrt()).clamp(0, 255).round().to(torch.uint8).numpy()


def declare_picture(seed: int = 0, steps: int = PICTURE_STEPS) -> Declaration:
    """Return W-picture's declaration, with the shapes learned."""
    require(steps >= LOOKS, f"steps = {steps}; at least {LOOKS} are needed")

    def compute(state: State, tell: Callable[[Learned, float], None]) -> Learned:
        """Return what a flow has learned of the state's picture; one that was stopped is not kept."""

        def watch(seen: Learned) -> None:
            if seen.done < steps:
                tell(seen, seen.done / steps)

        return learn(state["picture"], state["seed"], steps, watch)

    shapes = [(name, {"picture": picture}) for name, picture in SHAPES.items()]
    return Declaration(
        name="picture",
        title="Your own density",
        controls={
            "picture": Bitmap("picture", SHAPES["heart"], SIDE),
            "pen": Choice("pen", "thick", {"thick": "thick", "thin": "thin", "rubber": "rubber"}),
            "seed": Range("seed", seed, 0, max(9, seed), 1, digits=0),
        },
        compute=compute,
        kernel=Kernel(of=("picture", "seed"), sprites=shapes, press="Train"),
        presets=shapes,
        surprise={"picture": list(SHAPES.values())},
        actions={"clear": ("Clear", lambda state: {"picture": bitmap(np.zeros((SIDE, SIDE), bool))})},
        alt=(
            f"Three pictures and what a spline flow has learned of each in {steps} steps: its density with samples, "
            f"and the held-out negative log-likelihood over the steps. {', '.join(SHAPES)}."
        ),
        colours=schemes("p", "q", "gap", "ink", "grey", "ground"),
        constants={
            "reach": REACH,
            "half": HALF,
            "pixels": PICTURE_PIXELS,
            "even": EVEN,
            "steps": steps,
            "pens": {"thick": [1.6, 1], "thin": [0.5, 1], "rubber": [1.6, 0]},  # radius in cells, ink
            "shades": BLUES,
            "words": {
                "picture": f"The picture, {SIDE} × {SIDE} cells: arrow keys move the pen, space draws, Shift both.",
                "learned": "The flow's density and samples of it.",
                "course": "The held-out negative log-likelihood over the steps of the training.",
            },
        },
        hint=(
            "Draw in the left panel, or Tab to it: arrow keys move the pen, space draws. Train takes some seconds. "
            "Double click on the right: the start."
        ),
    )


def picture_explorer(seed: int = 0, steps: int = PICTURE_STEPS) -> Widget:
    """Return W-picture: draw a picture, and a spline flow learns its density in so many steps.

    It learns three shapes at once, unless it has already. `seed` is that of the training at the start and of surprises.
    Raises ``ValueError`` for fewer than 15 steps.
    """
    return Widget(declare_picture(seed, steps), seed)

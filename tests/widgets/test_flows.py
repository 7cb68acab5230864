"""Lecture 4's widgets, headless: numbers against the package's layers, SciPy and autograd; what they refuse."""

import math
import threading

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import norm
from torch import nn

from course_utils import flow_couplings, flows
from course_utils.widgets import flows as shown
from course_utils.widgets.stage import cells_of

START = shown.PLANAR.start
PULLED = {"angle": 40, "steepness": 1.7, "offset": 0.6, "u1": -1.5, "u2": -0.9}


def layer_of(state: dict, u: str) -> flows.Planar:
    """Return the package's layer with w, b and u of a state."""
    angle, s = math.radians(state["angle"]), state["steepness"]
    layer = flows.Planar(2).double()
    with torch.no_grad():
        layer.w[:] = s * torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
        layer.b[:] = -s * state["offset"]
        layer.u[:] = torch.tensor([state["u1"], state["u2"]], dtype=torch.float64)
        if u == "plain":
            layer.u_hat = lambda: layer.u
    return layer.requires_grad_(False)


# W-flow --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [{}, PULLED, {"angle": -130, "offset": -2.0, "u1": 3.0}, shown.FOLD])
def test_it_shows_the_packages_layer(state):
    state = START | state
    numbers, layer = shown.compute_planar(state), layer_of(state, "hat")
    assert numbers.u == pytest.approx(layer.u_hat().numpy())
    points = shown.BASES["gaussian"]
    assert numbers.points == pytest.approx(layer(points)[0].numpy())
    corners = torch.tensor([[-4.0, -4.0], [-4.0, 4.0], [4.0, -4.0], [4.0, 4.0]], dtype=torch.float64)
    after = layer(corners)[0].numpy()
    assert numbers.lines[[0, 0, 16, 16], [0, 80, 0, 80]] == pytest.approx(after)
    assert numbers.lines[[17, 17, 33, 33], [0, 80, 0, 80]] == pytest.approx(after[[0, 2, 1, 3]])
    z = shown.centres(shown.PIXELS)
    x, log_det = layer.inverse(z)
    assert numbers.density == pytest.approx((flows.normal_log_prob(x) + log_det).exp().numpy(), rel=1e-6)
    foot = state["offset"] * layer.w / layer.w.norm()
    far_and_near = torch.stack([foot, foot + 30 * layer.w])
    assert numbers.smallest == pytest.approx(float(layer(far_and_near)[1].exp().min()))
    assert numbers.integral == pytest.approx(1, abs=1e-6) and numbers.band == 0


@pytest.mark.parametrize("u1", [-0.5, -0.66, -1.0, -1.6, -3.0])
def test_without_enforcement_mass_is_lost_where_the_plane_folds(u1):
    """The layer moves r to r + k tanh(s r); the halving never finds r between -c and c, where r = -k tanh(s r)."""
    state = START | {"angle": 0, "steepness": 1.5, "offset": 0.4, "u1": u1, "enforce": False}
    numbers, layer = shown.compute_planar(state), layer_of(state, "plain")
    assert numbers.slope == pytest.approx(1.5 * u1) and numbers.smallest == pytest.approx(min(1, 1 + 1.5 * u1))
    lost = 0.0
    if 1.5 * u1 < -1:
        c = brentq(lambda r: r + u1 * math.tanh(1.5 * r), 1e-9 + numbers.band, 5)
        lost = norm.cdf(0.4 + c) - norm.cdf(0.4 - c)
    assert numbers.integral == pytest.approx(1 - lost, abs=2e-4)
    if numbers.band:
        edges = [torch.tensor([0.4 + numbers.band + step, 0.3], dtype=torch.float64) for step in (-1e-3, 1e-3)]
        inside, outside = (
            torch.autograd.functional.jacobian(lambda v: layer(v[None])[0][0], edge).det() for edge in edges
        )
        assert inside < 0 < outside
    assert (numbers.band > 0) == (1.5 * u1 < -1)


@pytest.mark.parametrize("angle", [0, 30, 90, 135])
def test_an_even_square_stays_a_density(angle):
    state = START | {"base": "square", "angle": angle, "enforce": True}
    assert shown.compute_planar(state).integral == pytest.approx(1, abs=5e-3)
    a = torch.linspace(-4, 4, 4001, dtype=torch.float64)
    n = torch.tensor([math.cos(math.radians(angle)), math.sin(math.radians(angle))], dtype=torch.float64)
    along = shown.base_along(a, n, "square")
    points = (2 * np.random.default_rng(0).random((200_000, 2)) - 1) * shown.SQUARE
    share = float(torch.trapezoid(along[(a > 0.5) & (a < 1.5)], a[(a > 0.5) & (a < 1.5)]))
    within = np.abs(points @ n.numpy() - 1) < 0.5
    assert share == pytest.approx(within.mean(), abs=4 * 0.5 / math.sqrt(len(points)) + 1e-3)


def test_a_shear_keeps_the_density():
    numbers = shown.compute_planar(START | shown.SHEAR)
    assert numbers.slope == pytest.approx(0, abs=1e-12) and numbers.smallest == pytest.approx(1)
    assert set(np.round(numbers.density * (2 * shown.SQUARE) ** 2, 9)) == {0.0, 1.0}


def test_what_the_maker_takes():
    assert shown.planar_explorer(3).state == START
    with pytest.raises(ValueError, match="steepness = 0 is out of range; allowed: 0.3 to 3"):
        shown.planar_explorer().set(steepness=0)


# W-layers ------------------------------------------------------------------------------------------------------------


def shaken(flow: flows.Flow) -> flows.Flow:
    """Return a flow that does something, though it was not trained."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weights in flow.parameters():
            weights.add_(0.3 * torch.randn_like(weights))
    return flow


FLOWS = {
    "affine": lambda: shaken(flow_couplings.realnvp(2, 4, (16, 16))),
    "unbounded": lambda: shaken(flow_couplings.realnvp(2, 2, (8,), bound=math.inf)),
    "spline": lambda: shaken(flow_couplings.spline_flow(2, 3, (16, 16), bins=6)),
}


@pytest.mark.parametrize("name", FLOWS)
def test_the_layers_numbers_are_the_flows(name):
    flow = FLOWS[name]()
    widget = shown.layers_explorer(flow)
    rounded = flow.half().double()
    count = len(rounded.transform.layers)
    widget.set(p1=0.7, p2=-0.4)
    with torch.no_grad():
        x = torch.tensor([[0.7, -0.4]], dtype=torch.float64)
        z, log_det = rounded.transform(x)
        first = widget.numbers
        assert first.path[0] == pytest.approx([0.7, -0.4]) and first.path[-1] == pytest.approx(z[0].numpy())
        assert first.log_dets.sum() == pytest.approx(float(log_det))
        assert first.base == pytest.approx(float(torch.distributions.Normal(0, 1).log_prob(z).sum()))
        pixels = shown.centres(shown.LAYER_PIXELS)
        assert first.log_density == pytest.approx(rounded.log_prob(pixels).numpy())
        widget.set(layer=count)
        last = widget.numbers
        assert last.log_density == pytest.approx(flows.normal_log_prob(pixels).numpy())
        back = rounded.transform.inverse(torch.from_numpy(last.samples))[0].numpy()
        assert first.samples == pytest.approx(back, abs=1e-6)
        assert rounded.transform(torch.from_numpy(first.lines).flatten(0, 1))[0].numpy() == pytest.approx(
            last.lines.reshape(-1, 2), abs=1e-6
        )


@pytest.mark.parametrize("grid", shown.GRIDS)
def test_the_grid_is_even_at_its_own_end(grid):
    widget = shown.layers_explorer(FLOWS["spline"]())
    widget.set(grid=grid, layer={"data": 0, "noise": 3}[grid])
    lines = widget.numbers.lines
    assert lines[3, :, 0] == pytest.approx(np.full(71, -2.0)) and lines[15, :, 1] == pytest.approx(np.full(71, -3.5))


def test_a_point_is_followed_both_ways_from_any_layer():
    widget = shown.layers_explorer(FLOWS["spline"]())
    widget.set(p1=0.5, p2=1.5, at=0)
    path = widget.numbers.path
    for at in (1, 2, 3):
        widget.set(p1=path[at, 0], p2=path[at, 1], at=at)
        assert widget.numbers.path == pytest.approx(path, abs=1e-9)
    moves = np.abs(np.diff(path, axis=0)) > 0
    assert (moves.sum(1) == 1).all()  # a coupling moves one of two numbers


def with_context() -> flows.Flow:
    return flow_couplings.realnvp(2, 2, context=1)


def mixed() -> flows.Flow:
    return flow_couplings.coupling_flow(2, flow_couplings.Affine(), 2, mix=True)


@pytest.mark.parametrize("make, message", [
    (lambda: nn.Linear(2, 2), "flow is a Linear; a course_utils.flows.Flow is needed"),
    (lambda: flow_couplings.realnvp(3), "the flow has 3 dimensions; the plane has 2"),
    (lambda: flow_couplings.nice(2, 2), "layer 1 of 3, Additive, can't run in the page; couplings by Affine"),
    (mixed, "layer 2 of 3, LULinear, can't run"),
    (with_context, r"layer 1 of 2: its network .*\(2, 64\).* must lead from 1 number to 2, without a context"),
    (lambda: flows.Flow([flows.Planar(2)], 2), "layer 1 of 1, Planar, can't run in the page"),
])  # fmt: skip
def test_a_flow_that_cannot_run_in_the_page_is_told(make, message):
    with pytest.raises(ValueError, match=message):
        shown.layers_explorer(make())


def test_weights_that_are_too_large_name_their_layer():
    flow = flow_couplings.realnvp(2, 2)
    with torch.no_grad():
        flow.transform.layers[1].network[0].weight.fill_(1e6)
    with pytest.raises(ValueError, match="layer 2 of 2, network: some weights are not finite in half precision"):
        shown.layers_explorer(flow)


def test_later_training_leaves_the_widget_alone():
    flow = FLOWS["affine"]()
    widget = shown.layers_explorer(flow)
    before = widget.numbers.log_density
    with torch.no_grad():
        flow.transform.layers[0].network[0].weight.zero_()
    assert np.array_equal(widget.numbers.log_density, before)
    assert flow.transform.layers[0].network[0].weight.dtype == torch.float32


# W-picture -----------------------------------------------------------------------------------------------------------

STEPS = 15


@pytest.fixture(scope="module")
def shapes() -> dict:
    """Return what is learned of the shapes in so few steps."""
    shown.LEARNED.clear()
    shown.picture_explorer(steps=STEPS)
    return dict(shown.LEARNED)


@pytest.fixture
def known(monkeypatch, shapes) -> dict:
    """Know the shapes; forget other trainings after the test."""
    monkeypatch.setattr(shown, "LEARNED", dict(shapes))
    return shown.LEARNED


def ask(widget, stop_after=None):
    """Ask as the page does when Train is pressed; return all answers, and press Stop after so many if told to."""
    answers, done = [], threading.Event()

    def hear(change):
        answers.append(change["new"])
        if len(answers) == stop_after:
            widget._asked(None, {"stop": 7}, [])
        if change["new"]["share"] == 1:
            done.set()

    widget.observe(hear, "answer")
    widget._asked(None, {"number": 7, "state": dict(widget.state)}, [])
    assert done.wait(120)
    return answers


def test_points_are_even_on_the_ink():
    cells = np.zeros((24, 24), bool)
    cells[0, 23] = cells[23, 0] = cells[12, 5] = True  # above right, below left, and one inside
    points = shown.picture_points(cells, 3000, torch.Generator().manual_seed(0)).numpy()
    column, row = np.floor((points[:, 0] + 3) / 0.25), np.floor((3 - points[:, 1]) / 0.25)
    places, counts = np.unique(np.stack([row, column]), axis=1, return_counts=True)
    assert places.T.tolist() == [[0, 23], [12, 5], [23, 0]]
    assert counts == pytest.approx([1000] * 3, abs=5 * math.sqrt(3000 * 2 / 9))
    within = points - np.floor(points / 0.25) * 0.25
    assert within.mean(0) == pytest.approx([0.125] * 2, abs=5 * 0.25 / math.sqrt(12 * 3000))


def test_shapes_are_drawn_and_learned(known):
    widget = shown.picture_explorer(steps=STEPS)
    assert len(known) == len(shown.SHAPES) == 3
    for sprite, picture in zip(widget.parts.sprites, shown.SHAPES.values(), strict=True):
        ink = cells_of(picture, 24).mean()
        assert 0.1 < ink < 0.6 and sprite["state"] == {"picture": picture, "seed": 0}
        assert sprite["numbers"]["entropy"] == pytest.approx(math.log(36 * ink))
    assert widget.numbers.done == STEPS and len(known) == 3


def test_it_learns_the_picture(monkeypatch):
    """200 steps come nearer to the entropy, and put nine in ten samples within half a cell of the ink or so."""
    seen = []
    monkeypatch.setattr(shown, "LEARNED", {})
    learned = shown.learn(shown.SHAPES["heart"], 0, 200, seen.append)
    assert [s.done for s in seen] == [1, *range(13, 200, 13), 200]
    first, last = learned.looks[0, 1] - learned.entropy, learned.looks[-1, 1] - learned.entropy
    assert 0 < last < 0.5 * first
    cells = cells_of(shown.SHAPES["heart"], 24)
    near = np.zeros((26, 26), bool)
    for i in range(3):
        for j in range(3):
            near[i : i + 24, j : j + 24] |= cells
    column, row = (learned.samples[:, 0] + 3) / 0.25 + 1, (3 - learned.samples[:, 1]) / 0.25 + 1
    at = np.stack([row, column]).clip(0, 25).astype(int)
    assert near[at[0], at[1]].mean() > 0.9
    mass = ((learned.density / shown.EVEN) ** 2).sum() * (8 / shown.PICTURE_PIXELS) ** 2 / (36 * cells.mean())
    assert mass == pytest.approx(1, abs=0.1)


def test_what_the_kernel_answers(known):
    widget = shown.picture_explorer(steps=STEPS)
    widget.set(picture="f" * 72 + "0" * 72)
    answers = ask(widget)
    assert [answer["share"] for answer in answers] == [0, *[k / 15 for k in range(1, 15)], 1]
    assert answers[-1]["numbers"]["entropy"] == pytest.approx(math.log(18)) and len(known) == 4
    widget.act("clear")
    assert widget.state["picture"] == "0" * 144
    assert "the picture has no ink: draw something" in ask(widget)[-1]["error"]
    widget.set(picture="0f" * 72)
    assert ask(widget, stop_after=4)[-1]["stopped"] and len(known) == 4


def test_a_training_leaves_the_notebooks_random_numbers_alone(monkeypatch):
    monkeypatch.setattr(shown, "LEARNED", {})
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    shown.learn(shown.SHAPES["face"], 0, STEPS)
    assert torch.equal(torch.rand(4), expected)


def test_too_few_steps_are_refused():
    with pytest.raises(ValueError, match="steps = 14; at least 15 are needed"):
        shown.picture_explorer(steps=14)


def test_surprises_and_seeds(known):
    assert shown.picture_explorer(seed=0, steps=STEPS).state["seed"] == 0
    for (picture, _, steps), learned in list(known.items()):
        known[picture, 12, steps] = learned
    widget = shown.picture_explorer(seed=12, steps=STEPS)
    assert widget.state["seed"] == 12 and widget.spec["controls"][-1]["high"] == 12
    seen = set()
    for _ in range(12):
        widget.surprise()
        seen.add(widget.state["picture"])
    assert seen == set(shown.SHAPES.values())

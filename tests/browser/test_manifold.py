"""W-manifold in a plain page: its images against torch, and what pointer, finger and keyboard do, without a kernel."""

import json
import re

import numpy as np
import pytest
import stage_page
import torch
from torch import nn

from course_utils import networks
from course_utils.paths import prior_grid
from course_utils.vae import DiscretisedLogistic, Gaussian, mlp_vae
from course_utils.widgets.stage import Declaration
from course_utils.widgets.vae import GRID, SHIPPED, STOPS, manifold_explorer

pytestmark = pytest.mark.browser
COMPUTE = """(text) => {
  const [spec, states] = JSON.parse(text, revived);
  const all = states.map((state) => course.widgets.manifold.compute(state, spec));
  for (const numbers of all.slice(1)) delete numbers.manifold; // the same in all states of a model
  return plain(all);
}"""
IMAGE, GRID_CANVAS, STRIP = (f'[data-panel="{name}"] canvas' for name in ("image", "manifold", "strip"))


@pytest.fixture(scope="module")
def shipped() -> Declaration:
    return manifold_explorer()._declaration


@pytest.fixture
def stage(browser, address, shipped):
    opened = stage_page.Stage(browser, address)
    opened.mount(shipped)
    yield opened
    assert opened.complaints == []
    opened.close()


# Numbers -----------------------------------------------------------------------------------------------------------


def grey(vae, z) -> np.ndarray:
    """Return E[x | z] in grey levels, not rounded, in torch's single precision."""
    with torch.no_grad():
        return 255 * vae.likelihood.mean(vae.decode(torch.as_tensor(z).float())).clamp(0, 1).numpy()


def states_of(declaration: Declaration, label: str, n: int, seed: int) -> list[dict]:
    """Return random states of a model: points from the prior, some far outside, and the ends of their ranges."""
    rng = np.random.default_rng(seed)
    names = [name for name in declaration.controls if name[-1] in "12"]
    limit = declaration.controls["z1"].high
    scales = rng.choice([1, 1, 0.4 * limit], size=(n, 1))
    points = np.clip(scales * rng.standard_normal((n, len(names))), -limit, limit)
    points[-2:] = rng.choice([-limit, limit], size=(2, len(names)))
    kinds = rng.choice(["straight", "sphere"], size=n)
    return [
        declaration.start | {"model": label, "path": str(kind)} | dict(zip(names, map(float, point), strict=True))
        for kind, point in zip(kinds, points, strict=True)
    ]


def compare(page, declaration: Declaration, label: str, vae, n: int) -> None:
    """Hold what the page computes to torch's images within a grey level, to Python's other numbers within 1e-6."""
    tried = states_of(declaration, label, n, seed=n)
    spec = declaration.spec() | {"assets": dict(declaration.assets)}
    found = page.page.evaluate(COMPUTE, json.dumps([spec, tried], default=stage_page.as_base64))
    numbers = json.loads(found)
    manifold = np.array(numbers[0]["manifold"]).reshape(GRID**2, -1)
    assert np.abs(manifold - grey(vae, prior_grid(GRID).flatten(0, 1))).max() <= 1
    for state, there in zip(tried, numbers, strict=True):
        here = declaration.compute(state)
        z = [state["z1"], state["z2"]]
        assert np.abs(np.array(there["image"]) - grey(vae, z)).max() <= 1
        assert np.abs(np.array(there["strip"]).reshape(STOPS, -1) - grey(vae, here.stops)).max() <= 1
        for name in ("corner", "nearest", "line", "stops"):
            mine, other = np.array(getattr(here, name), float), np.array(there[name], float)
            assert other == pytest.approx(mine, rel=1e-6, abs=1e-9), (name, state)


@pytest.mark.parametrize("label", SHIPPED)
def test_the_shipped_models_decode_as_in_torch(bare, shipped, label):
    compare(bare, shipped, label, networks.load(SHIPPED[label][0]), 40)


@pytest.mark.parametrize("options", [
    {"likelihood": Gaussian(0.2), "hidden": (128, 64)},
    {"likelihood": DiscretisedLogistic(17), "hidden": (33,)},
    {"activation": nn.ReLU, "hidden": (20, 10, 5)},
    {"activation": nn.LeakyReLU, "hidden": ()},
])  # fmt: skip
def test_other_decoders_in_half_precision(bare, options):
    torch.manual_seed(0)
    vae = mlp_vae(64, 2, **options)
    codes = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    made = manifold_explorer({"one": (vae, codes, torch.arange(50) % 10)})._declaration
    vae.decoder.half().float()
    compare(bare, made, "one", vae, 10)


# Moving ------------------------------------------------------------------------------------------------------------


def pixels(stage, which: str) -> str:
    return stage.page.locator(which).evaluate("canvas => canvas.toDataURL()")


def settle(stage) -> dict:
    """Wait until the page has drawn its newest state; return it."""
    stage.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return stage.state()


def hand(stage, name: str):
    return stage.page.get_by_role("slider", name=name)


def middle(locator) -> tuple[float, float]:
    box = locator.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def at(stage, z: tuple[float, float]) -> tuple[float, float]:
    """Return where on the page a point of the plane at the start lies, from the places of A and B."""
    (ax, ay), (bx, by) = middle(hand(stage, "A, end")), middle(hand(stage, "B, end"))
    state = stage.state()
    x = ax + (z[0] - state["a1"]) * (bx - ax) / (state["b1"] - state["a1"])
    return x, ay + (z[1] - state["a2"]) * (by - ay) / (state["b2"] - state["a2"])


@pytest.mark.parametrize("name, controls, changes", [
    ("z, the point", ("z1", "z2"), (IMAGE,)),
    ("A, end", ("a1", "a2"), (STRIP,)),
    ("B, end", ("b1", "b2"), (STRIP,)),
])  # fmt: skip
def test_handles_by_mouse_and_keyboard(stage, name, controls, changes):
    start, before = settle(stage), [pixels(stage, which) for which in (IMAGE, STRIP, GRID_CANVAS)]
    x, y = middle(hand(stage, name))
    stage.page.mouse.move(x, y)
    stage.page.mouse.down()
    stage.page.mouse.move(x + 40, y - 30, steps=4)
    stage.page.mouse.up()
    dragged = settle(stage)
    assert dragged[controls[0]] > start[controls[0]] and dragged[controls[1]] > start[controls[1]]
    assert {k: v for k, v in dragged.items() if k not in controls} == {
        k: v for k, v in start.items() if k not in controls
    }
    changed = [
        which for which, old in zip((IMAGE, STRIP, GRID_CANVAS), before, strict=True) if pixels(stage, which) != old
    ]
    assert tuple(changed) == changes
    hand(stage, name).focus()
    for key, control, sign in (("ArrowLeft", 0, -1), ("ArrowUp", 1, 1)):
        steps = []
        for pressed in (key, f"Shift+{key}"):
            old = stage.state()[controls[control]]
            stage.page.keyboard.press(pressed)
            steps.append(sign * (settle(stage)[controls[control]] - old))
        assert 0 < 3 * steps[0] < steps[1]


def test_a_press_into_the_plane_moves_z_and_a_double_click_goes_back(stage):
    start = settle(stage)
    stage.page.mouse.move(*at(stage, (1.0, 2.0)))
    text = stage.page.locator(".hover").text_content()
    assert re.fullmatch(r"\((1\.0|0\.9)\d, (2\.0|1\.9)\d\): near a 7", text), text
    stage.page.mouse.down()
    moved = settle(stage)
    assert (moved["z1"], moved["z2"]) == pytest.approx((1.0, 2.0), abs=0.03)
    stage.page.mouse.move(*at(stage, (-1.0, -2.0)), steps=3)
    stage.page.mouse.up()
    dragged = settle(stage)
    assert (dragged["z1"], dragged["z2"]) == pytest.approx((-1.0, -2.0), abs=0.03)
    stage.page.locator("output", has_text=f"nearest code: a {nearest(stage)}").wait_for()
    stage.page.mouse.dblclick(*at(stage, (2.0, 2.0)))
    assert settle(stage) == start


def nearest(stage) -> int:
    """Return the class of the code nearest to z, from the checkpoint."""
    codes, state = networks.extras("vae_2_map"), stage.state()
    z = torch.tensor([state["z1"], state["z2"]])
    return int(codes["labels"][(codes["codes"] - z).norm(dim=-1).argmin()])


def test_a_finger_moves_z_and_a(browser, address, shipped):
    opened = stage_page.Stage(browser, address, touch=True)
    opened.mount(shipped)
    opened.page.touchscreen.tap(*at(opened, (0.5, -1.5)))
    moved = settle(opened)
    assert (moved["z1"], moved["z2"]) == pytest.approx((0.5, -1.5), abs=0.03)
    (x, y), session = middle(hand(opened, "A, end")), opened.context.new_cdp_session(opened.page)
    for kind, shift in (("touchStart", 0), ("touchMove", 15), ("touchMove", 30), ("touchEnd", None)):
        points = [] if shift is None else [{"x": x - shift, "y": y - shift}]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert settle(opened)["a1"] < moved["a1"] and opened.state()["a2"] > moved["a2"]
    assert opened.complaints == []
    opened.close()


def test_a_click_on_the_manifold_or_the_strip_goes_there(stage, shipped):
    axis = shipped.constants["axis"]
    box = stage.page.locator(GRID_CANVAS).bounding_box()
    cell = box["width"] / GRID
    stage.page.locator(GRID_CANVAS).click(position={"x": 12.5 * cell, "y": 1.5 * cell})
    state = settle(stage)
    assert (state["z1"], state["z2"]) == pytest.approx((axis[12], axis[-2]), abs=0.006)
    ring = stage.page.locator('[data-panel="manifold"] circle').last.evaluate(
        "c => [c.cx, c.cy].map(v => v.baseVal.value)"
    )
    assert ring == pytest.approx([12.5 / GRID, 1.5 / GRID], abs=0.002)
    box = stage.page.locator(STRIP).bounding_box()
    stage.page.locator(STRIP).click(position={"x": 2.5 * box["width"] / STOPS, "y": 20})
    state = settle(stage)
    expected = [0.8 * state[f"a{i}"] + 0.2 * state[f"b{i}"] for i in (1, 2)]
    assert (state["z1"], state["z2"]) == pytest.approx(expected, abs=0.006)


def test_models_paths_and_views(stage):
    grid, strip = pixels(stage, GRID_CANVAS), pixels(stage, STRIP)
    dots = pixels(stage, '[data-panel="plane"] > canvas')
    stage.page.locator("select[name=path]").select_option("sphere")
    settle(stage)
    assert pixels(stage, STRIP) != strip and pixels(stage, GRID_CANVAS) == grid
    stage.page.locator("select[name=model]").select_option("β = 0.01")
    settle(stage)
    assert pixels(stage, GRID_CANVAS) != grid
    islands = pixels(stage, '[data-panel="plane"] > canvas')
    stage.page.evaluate("model.set('state', { ...model.get('state'), z1: 12 })")
    stage.page.locator("select[name=view]").select_option("prior")
    settle(stage)
    assert len({dots, islands, pixels(stage, '[data-panel="plane"] > canvas')}) == 3
    stage.page.locator("output", has_text="off this plane").wait_for()
    stage.page.get_by_role("button", name="Reset").click()
    settle(stage)
    assert [pixels(stage, which) for which in (GRID_CANVAS, STRIP)] == [grid, strip]


def test_a_state_out_of_range_is_told_by_name(stage):
    image = pixels(stage, IMAGE)
    stage.page.evaluate("model.set('state', { ...model.get('state'), z1: 1e6 })")
    stage.page.get_by_role("alert").filter(has_text="z1 = 1000000 is out of range; allowed: -").wait_for()
    assert pixels(stage, IMAGE) == image
    stage.page.get_by_role("button", name="Reset").click()
    stage.page.get_by_role("alert").wait_for(state="hidden")


def test_two_widgets_of_other_models_on_one_page(stage):
    image = pixels(stage, IMAGE)
    torch.manual_seed(0)
    codes = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    small = manifold_explorer({"β = 1": (mlp_vae(64, 2, (8,)), codes, torch.arange(50) % 10)})._declaration
    stage.mount(small)
    settle(stage)
    sizes = stage.page.locator(IMAGE).evaluate_all("all => all.map(c => c.width)")
    assert sizes == [28 + 2, 8 + 2]
    assert stage.page.locator(IMAGE).first.evaluate("canvas => canvas.toDataURL()") == image


@pytest.mark.parametrize("dark", [False, True])
def test_on_a_telephone_nothing_scrolls_sideways(browser, address, shipped, dark):
    opened = stage_page.Stage(browser, address, width=390, dark=dark)
    opened.mount(shipped)
    settle(opened)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390
    ground = opened.page.locator(".stage").evaluate("e => getComputedStyle(e).backgroundColor")
    assert (ground == "rgb(22, 22, 22)") == dark
    assert opened.complaints == []
    opened.close()

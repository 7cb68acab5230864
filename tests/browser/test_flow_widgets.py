"""Lecture 4's widgets in a plain page, where flows run as in torch; and the learning of a picture in JupyterLab."""

import json
import math
import re
import textwrap

import lab
import nbformat
import numpy as np
import pytest
import torch

from course_utils import flow_couplings
from course_utils.widgets import flows
from course_utils.widgets.stage import cells_of

pytestmark = pytest.mark.browser
STEPS = 15
PICTURE = "root => [...root.querySelectorAll('.panel svg')].map((svg) => svg.innerHTML).join()"


def shaken(flow):
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
MADE = {
    "planar": lambda: flows.PLANAR,
    "layers": lambda: flows.declare_layers(FLOWS["spline"]()),
    "picture": lambda: flows.declare_picture(0, STEPS),
}


@pytest.fixture
def put(put):
    """Return a function that puts one of the three on a page of its own."""
    return lambda name, **options: put(MADE[name](), **options)


@pytest.mark.parametrize("width", [1000, 390])
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", MADE)
def test_drawn_without_a_complaint_or_barrier(put, axe, name, width, dark):
    stage, root = put(name, width=width, dark=dark)
    assert root.locator(".panel").count() == {"planar": 3, "layers": 2, "picture": 3}[name]
    assert root.locator(".error").is_hidden()
    stage.page.add_script_tag(path=axe)
    found = stage.page.evaluate("axe.run('.stage', { resultTypes: ['violations'] })")["violations"]
    assert [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")] == []


# W-flow: its twin is held in test_twins.py, its handles in test_stage.py ---------------------------------------------


def test_the_tip_of_u_leaves_the_half_plane(put):
    stage, root = put("planar")
    root.get_by_role("checkbox", name="enforce").uncheck()
    hand = root.get_by_role("slider", name="tip of u")
    hand.focus()
    for _ in range(12):
        stage.after(lambda: stage.page.keyboard.press("Shift+ArrowLeft"))
        if "not invertible" in root.locator("output").inner_text():
            break
        stage.page.wait_for_timeout(200)
    root.get_by_text("not invertible").wait_for()
    assert float(re.findall(r"dz = ([\d.]+)", root.locator("output").inner_text())[0]) < 0.99
    assert root.locator("[data-key=negative] path").count() == 1
    root.get_by_role("checkbox", name="enforce").check()
    root.get_by_text(re.compile("dz = 1.00")).wait_for()
    assert root.locator("[data-key=negative] path").count() == 0


# W-layers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FLOWS)
def test_couplings_in_the_page_are_those_of_torch(bare, name):
    """Beyond the plane too, where a spline is the identity, and at its edge; in double precision to 1e-8."""
    declaration = flows.declare_layers(FLOWS[name]())
    count = len(declaration.constants["layers"])
    points = [(0.3, -0.7, 0), (-2.0, 1.1, 1), (4.0, -4.0, 0), (7.5, -6.2, count), (1.2, 2.2, count), (-3.9, 0.0, 1)]
    states = [
        declaration.start | {"p1": a, "p2": b, "at": at, "layer": i % (count + 1), "grid": ["data", "noise"][i % 2]}
        for i, (a, b, at) in enumerate(points)
    ]
    for state, there in zip(states, bare.computed(declaration, states), strict=True):
        mine = declaration.compute(state)._asdict()
        assert mine.keys() == there.keys()
        for key, value in mine.items():
            assert np.ravel(there[key]) == pytest.approx(np.ravel(value), rel=1e-8, abs=1e-8), (key, state)


def test_a_flow_in_half_precision_is_near_the_trained_one(bare):
    """Float16 weights move places and log-densities of the flow itself, in float32, by less than a hundredth."""
    flow = FLOWS["spline"]()
    declaration = flows.declare_layers(flow)
    state = declaration.start | {"layer": 0, "p1": 0.4, "p2": 0.9}
    there = bare.computed(declaration, [state])[0]
    with torch.no_grad():
        z, log_det = flow.transform(torch.tensor([[0.4, 0.9]]))
    assert there["path"][-2:] == pytest.approx(z[0].tolist(), abs=0.01)
    assert sum(there["log_dets"]) == pytest.approx(float(log_det), abs=0.01)


def test_a_click_sets_the_point_in_the_layer_that_is_shown(put):
    stage, root = put("layers")
    stage.after(lambda: root.locator("input[name=layer]").fill("2"))
    ground = root.locator("[data-panel=plane] .ground")
    box = ground.bounding_box()
    stage.after(lambda: stage.page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 0.5 * box["height"]))
    state = stage.state()
    assert (state["layer"], state["at"]) == (2, 2)
    assert (state["p1"], state["p2"]) == pytest.approx((2, 0), abs=0.03)
    root.get_by_text("after layer 2").wait_for()
    hand = root.get_by_role("slider", name="point that is followed")
    place = hand.locator(".grip").bounding_box()
    assert place["x"] + place["width"] / 2 == pytest.approx(box["x"] + 0.75 * box["width"], abs=3)
    stage.after(lambda: root.locator("input[name=layer]").fill("3"))
    assert stage.state()["at"] == 2  # it is the same point, seen elsewhere
    hand.focus()
    stage.after(lambda: stage.page.keyboard.press("ArrowUp"))
    assert stage.state()["at"] == 3
    assert root.locator("[data-panel=plane] [data-key=stops] path").count() == 4


def test_play_goes_from_data_to_noise(put):
    stage, root = put("layers")
    before = root.evaluate(PICTURE)
    stage.page.evaluate("window.met = []; model.on('change:state', () => met.push(model.get('state').layer))")
    root.get_by_role("button", name="Play: layer").click()
    root.get_by_text("the noise, after all 3 layers").wait_for()
    assert stage.page.evaluate("met") == [1, 2, 3]
    assert root.evaluate(PICTURE) != before


# W-picture -----------------------------------------------------------------------------------------------------------


def ink(stage) -> np.ndarray:
    return cells_of(stage.state()["picture"], flows.SIDE)


def take(stage, root, name: str) -> None:
    """Choose a pen, and wait until the picture has it in its hand, at the next frame."""
    before = root.locator(".pad + circle").get_attribute("r")
    root.locator("select[name=pen]").select_option(name)
    stage.page.wait_for_function("r => document.querySelector('.pad + circle').getAttribute('r') !== r", arg=before)


def test_the_pointer_draws(put):
    stage, root = put("picture")
    learned = root.locator("[data-panel=learned] svg").inner_html()
    root.get_by_role("button", name="Clear").click()
    stage.page.wait_for_function("!/[^0]/.test(model.get('state').picture)")
    take(stage, root, "thin")
    box = root.locator(".pad").bounding_box()

    def at(column, row):
        return box["x"] + (column + 0.5) / 24 * box["width"], box["y"] + (row + 0.5) / 24 * box["height"]

    stage.page.mouse.move(*at(3, 5))
    stage.page.mouse.down()
    stage.page.mouse.move(*at(20, 5), steps=2)  # a quick hand: the way between is drawn too
    stage.page.mouse.up()
    drawn = ink(stage)
    assert drawn[5, 3:21].all() and drawn.sum() == 18
    root.get_by_text("your picture: 3 % ink").wait_for()
    assert root.locator("[data-panel=learned] svg").inner_html() == learned
    take(stage, root, "rubber")
    stage.page.mouse.click(*at(10, 5))
    assert not ink(stage)[5, 9:12].any() and ink(stage)[5, 3:8].all()
    root.locator(".pad").dblclick()  # no reset
    assert stage.state()["pen"] == "rubber"
    root.get_by_role("button", name="Train").click()
    root.get_by_text("Train takes a kernel, which a page has not").wait_for()


def test_the_keyboard_draws_what_the_pointer_does(put):
    stage, root = put("picture")
    root.get_by_role("button", name="Clear").click()
    take(stage, root, "thin")
    root.locator(".pad").focus()
    for key in ["ArrowUp"] * 3 + ["Space"] + ["ArrowRight"] * 2 + ["Space"] + ["Shift+ArrowRight"] * 4:
        stage.page.keyboard.press(key)  # several before the next frame
    drawn = ink(stage)
    assert np.argwhere(drawn).tolist() == [[9, 12], [9, 14], [9, 15], [9, 16], [9, 17], [9, 18]]


def test_a_finger_draws(put):
    stage, root = put("picture", width=390, dark=False, touch=True)
    root.get_by_role("button", name="Clear").click()
    stage.page.wait_for_function("!/[^0]/.test(model.get('state').picture)")
    root.locator(".pad").tap()
    stage.page.wait_for_function("/[^0]/.test(model.get('state').picture)")
    assert ink(stage)[10:14, 10:14].any()


def test_shapes_are_chosen_from_the_list(put):
    stage, root = put("picture")
    listed = root.get_by_label("computed beforehand")
    seen = set()
    for name, picture in flows.SHAPES.items():
        if stage.state()["picture"] != picture:
            stage.after(lambda name=name: listed.select_option(name))
        assert stage.state()["picture"] == picture
        seen.add(root.locator("[data-panel=learned] svg").inner_html())
    assert len(seen) == 3
    root.locator("[data-panel=learned] svg").dblclick()
    stage.page.wait_for_function("text => model.get('state').picture === text", arg=flows.SHAPES["heart"])


def test_a_picture_that_is_none_is_told(put):
    stage, root = put("picture")
    for text in ("0" * 143, "x" * 144):
        stage.page.evaluate("text => model.set('state', { ...model.get('state'), picture: text })", text)
        root.get_by_text("picture: 144 hexadecimal digits are needed").wait_for()


# In JupyterLab -------------------------------------------------------------------------------------------------------

CELLS = [
    f"from course_utils.widgets.flows import LEARNED, picture_explorer; mine = picture_explorer(steps={STEPS})",
    "mine  # shown",
    "",
]


@pytest.fixture(scope="module")
def notebook(browser, tmp_path_factory):
    home = tmp_path_factory.mktemp("picture")
    (home / "notebooks").mkdir()
    cells = [nbformat.v4.new_code_cell(textwrap.dedent(source)) for source in CELLS]
    kernel = {"name": "python3", "display_name": "Python 3"}
    made = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    (home / "notebooks" / "picture.ipynb").write_text(json.dumps(made), "utf-8")
    with lab.session(home / "notebooks", home, browser) as open_notebook:
        opened = open_notebook("picture.ipynb")
        for i in (0, 1):
            opened.run_cell(i)
        yield opened


def test_a_drawing_is_learned_when_train_is_pressed(notebook):
    root = notebook.page.locator(".stage").first
    learned = root.locator("[data-panel=learned] svg")
    before = learned.inner_html()
    root.get_by_role("button", name="Clear").click()
    root.get_by_text("for this one press Train").wait_for()
    root.get_by_role("button", name="Train").click()
    root.get_by_text("the picture has no ink").wait_for()
    root.locator(".pad").focus()
    for key in ["Space"] + ["ArrowRight"] * 3 + ["Space"]:
        notebook.page.keyboard.press(key)
    root.get_by_text("your picture: 3 % ink").wait_for()
    assert learned.inner_html() == before
    root.get_by_role("button", name="Train").click()
    entropy = f"{math.log(36 * 18 / 576):.2f}"  # of 18 cells
    root.get_by_text(f"entropy {entropy} = log of its area · {STEPS} steps in").wait_for()
    assert root.locator(".error").is_hidden() and learned.inner_html() != before
    assert notebook.complaints == []

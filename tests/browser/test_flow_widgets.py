"""Lecture 4's widgets in a plain page, where flows run as in torch; and the learning of a picture in JupyterLab."""

import json
import math
import re
import textwrap

import lab
import nbformat
import numpy as np
import pytest
import stage_page
import torch

from course_utils import flow_couplings
from course_utils.widgets import flows
from course_utils.widgets.stage import cells_of

pytestmark = pytest.mark.browser
AXE = lab.ROOT / "course_tools/stage/node_modules/axe-core/axe.min.js"
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


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with stage_page.served(tmp_path_factory.mktemp("page")) as found:
        yield found


@pytest.fixture
def put(browser, address):
    """Return a function that puts a widget on a page of its own; in the end no page may have complained."""
    opened = []

    def mounted(name, **options):
        opened.append(stage_page.Stage(browser, address, **options))
        return opened[-1], opened[-1].mount(MADE[name]())

    yield mounted
    for stage in opened:
        assert stage.complaints == []
        assert stage.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        stage.close()


def after(stage, act) -> None:
    """Act, and wait until the picture was drawn again."""
    before = int(stage.page.locator(".stage").get_attribute("data-drawn"))
    act()
    stage.page.wait_for_function("n => document.querySelector('.stage').dataset.drawn > n", arg=before)


@pytest.mark.parametrize("width", [1000, 390])
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", MADE)
def test_drawn_without_a_complaint_or_barrier(put, name, width, dark):
    stage, root = put(name, width=width, dark=dark)
    assert root.locator(".panel").count() == {"planar": 3, "layers": 2, "picture": 3}[name]
    assert root.locator(".error").is_hidden()
    stage.page.add_script_tag(path=str(AXE))
    found = stage.page.evaluate("axe.run('.stage', { resultTypes: ['violations'] })")["violations"]
    assert [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")] == []


# W-flow: its twin is held in test_twins.py, its handles in test_stage.py ---------------------------------------------


def test_the_tip_of_u_leaves_the_half_plane(put):
    stage, root = put("planar")
    root.get_by_role("checkbox", name="enforce").uncheck()
    hand = root.get_by_role("slider", name="tip of u")
    hand.focus()
    for _ in range(12):
        after(stage, lambda: stage.page.keyboard.press("Shift+ArrowLeft"))
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
def test_couplings_in_the_page_are_those_of_torch(browser, address, name):
    """Beyond the plane too, where a spline is the identity, and at its edge; in double precision to 1e-8."""
    declaration = flows.declare_layers(FLOWS[name]())
    count = len(declaration.constants["layers"])
    points = [(0.3, -0.7, 0), (-2.0, 1.1, 1), (4.0, -4.0, 0), (7.5, -6.2, count), (1.2, 2.2, count), (-3.9, 0.0, 1)]
    states = [
        declaration.start | {"p1": a, "p2": b, "at": at, "layer": i % (count + 1), "grid": ["data", "noise"][i % 2]}
        for i, (a, b, at) in enumerate(points)
    ]
    stage = stage_page.Stage(browser, address)
    for state, there in zip(states, stage.computed(declaration, states), strict=True):
        mine = declaration.compute(state)._asdict()
        assert mine.keys() == there.keys()
        for key, value in mine.items():
            assert np.ravel(there[key]) == pytest.approx(np.ravel(value), rel=1e-8, abs=1e-8), (key, state)
    assert stage.complaints == []
    stage.close()


def test_a_flow_in_half_precision_is_near_the_trained_one(browser, address):
    """Float16 weights move places and log-densities of the flow itself, in float32, by less than a hundredth."""
    flow = FLOWS["spline"]()
    declaration = flows.declare_layers(flow)
    state = declaration.start | {"layer": 0, "p1": 0.4, "p2": 0.9}
    stage = stage_page.Stage(browser, address)
    there = stage.computed(declaration, [state])[0]
    stage.close()
    with torch.no_grad():
        z, log_det = flow.transform(torch.tensor([[0.4, 0.9]]))
    assert there["path"][-2:] == pytest.approx(z[0].tolist(), abs=0.01)
    assert sum(there["log_dets"]) == pytest.approx(float(log_det), abs=0.01)


def test_a_click_sets_the_point_in_the_layer_that_is_shown(put):
    stage, root = put("layers")
    after(stage, lambda: root.locator("input[name=layer]").fill("2"))
    ground = root.locator("[data-panel=plane] .ground")
    box = ground.bounding_box()
    after(stage, lambda: stage.page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 0.5 * box["height"]))
    state = stage.state()
    assert (state["layer"], state["at"]) == (2, 2)
    assert (state["p1"], state["p2"]) == pytest.approx((2, 0), abs=0.03)
    root.get_by_text("after layer 2").wait_for()
    hand = root.get_by_role("slider", name="point that is followed")
    place = hand.locator(".grip").bounding_box()
    assert place["x"] + place["width"] / 2 == pytest.approx(box["x"] + 0.75 * box["width"], abs=3)
    after(stage, lambda: root.locator("input[name=layer]").fill("3"))
    assert stage.state()["at"] == 2  # it is the same point, seen elsewhere
    hand.focus()
    after(stage, lambda: stage.page.keyboard.press("ArrowUp"))
    assert stage.state()["at"] == 3
    assert root.locator("[data-panel=plane] [data-key=stops] path").count() == 4


def test_play_goes_from_data_to_noise(put):
    stage, root = put("layers")
    seen = {root.evaluate(PICTURE)}
    root.get_by_role("button", name="Play: layer").click()
    for k in (1, 2, 3):
        stage.page.wait_for_function("k => model.get('state').layer === k", arg=k)
        stage.page.wait_for_timeout(300)
        seen.add(root.evaluate(PICTURE))
    assert len(seen) == 4
    root.get_by_text("the noise, after all 3 layers").wait_for()


# W-picture -----------------------------------------------------------------------------------------------------------


def ink(stage) -> np.ndarray:
    return cells_of(stage.state()["picture"], flows.SIDE)


def test_the_pointer_draws(put):
    stage, root = put("picture")
    learned = root.locator("[data-panel=learned] svg").inner_html()
    root.get_by_role("button", name="Clear").click()
    stage.page.wait_for_function("!/[^0]/.test(model.get('state').picture)")
    root.locator("select[name=pen]").select_option("thin")
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
    root.locator("select[name=pen]").select_option("rubber")
    stage.page.mouse.click(*at(10, 5))
    assert not ink(stage)[5, 9:12].any() and ink(stage)[5, 3:8].all()
    root.locator(".pad").dblclick()  # no reset
    assert stage.state()["pen"] == "rubber"
    root.get_by_role("button", name="Train").click()
    root.get_by_text("Train takes a kernel, which a page has not").wait_for()


def test_the_keyboard_draws_what_the_pointer_does(put):
    stage, root = put("picture")
    root.get_by_role("button", name="Clear").click()
    root.locator("select[name=pen]").select_option("thin")
    root.locator(".pad").focus()
    for key in ["ArrowUp"] * 3 + ["Space"] + ["ArrowRight"] * 2 + ["Space"] + ["Shift+ArrowRight"] * 4:
        stage.page.keyboard.press(key)  # several before the next frame
    drawn = ink(stage)
    assert np.argwhere(drawn).tolist() == [[9, 12], [9, 14], [9, 15], [9, 16], [9, 17], [9, 18]]


def test_a_finger_draws(put):
    stage, root = put("picture", width=390, dark=False, touch=True)
    root.get_by_role("button", name="Clear").click()
    root.locator(".pad").tap()
    stage.page.wait_for_timeout(100)
    assert ink(stage)[10:14, 10:14].any()


def test_shapes_are_chosen_from_the_list(put):
    stage, root = put("picture")
    listed = root.get_by_label("computed beforehand")
    seen = set()
    for name, picture in flows.SHAPES.items():
        listed.select_option(name)
        stage.page.wait_for_function("text => model.get('state').picture === text", arg=picture)
        stage.page.wait_for_timeout(200)
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

"""Widgets whose numbers a kernel computes: film and paths in a plain page, and what JupyterLab's kernel is asked."""

import contextlib
import dataclasses
import os
import re

import lab
import numpy as np
import pytest
import torch
from playwright.sync_api import TimeoutError

from course_utils import gan
from course_utils.widgets import gan_film, gan_paths

pytestmark = pytest.mark.browser
SIDE, LATENTS = 8, 16
SCORES = [300.0 / (1 + k) for k in range(len(gan.MOMENTS))]
PIXELS = "canvas => canvas.toDataURL()"


def model() -> gan.GAN:
    torch.manual_seed(0)
    return gan.conv_gan(SIDE, latents=LATENTS, width=6)


def film():
    players = model()
    weights = torch.cat([v.flatten() for v in gan.weights_of(players.generator)])
    reel = gan.Film(players.eval(), torch.stack([weights * (1 + 6 * share) for share in gan.MOMENTS]))
    return gan_film.declare_film(reel, SIDE, 0, SCORES, "Fréchet distance")


def paths():
    return gan_paths.declare_paths(model().eval(), SIDE, 0)


def norm_half_way(pair: int) -> str:
    """Return the norm in the middle of the straight path, as the readout has it."""
    a, b = torch.randn(2, LATENTS, generator=torch.Generator().manual_seed(pair)).double()
    return f"norm {((a + b) / 2).norm():.2f}"


# In a plain page -----------------------------------------------------------------------------------------------------


def ink_of(canvas) -> np.ndarray:
    """Return the ink, 0 to 255, of the pixels of a canvas (H, W)."""
    grey = canvas.evaluate("""c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)""")
    return 255 - np.array(grey).reshape(*canvas.evaluate("c => [c.height, c.width]"), 4)[:, :, 0]


@pytest.mark.parametrize("width", [1000, 390])
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("make", [film, paths])
def test_drawn_without_a_complaint_or_barrier(put, axe, make, width, dark):
    stage, root = put(make(), width=width, dark=dark)
    assert root.locator(".panel").count() == {film: 3, paths: 5}[make]
    assert root.locator(".error").is_hidden()
    stage.page.add_script_tag(path=axe)
    found = stage.page.evaluate("axe.run('.stage', { resultTypes: ['violations'] })")["violations"]
    assert [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")] == []


def test_the_film_moves_through_all_moments(put):
    declaration = film()
    stage, root = put(declaration)
    assert root.locator(".news").count() == 0  # nothing is ever asked from a kernel
    root.locator("input[name=moment]").focus()
    seen = set()
    for k in range(len(gan.MOMENTS)):
        if k:
            stage.after(lambda: stage.page.keyboard.press("ArrowRight"))
        root.get_by_text(f"after {100 * gan.MOMENTS[k]:g} % of the training").wait_for()
        assert root.locator("label .value").inner_text() == f"{100 * gan.MOMENTS[k]:g} %"
        seen.add(root.locator("[data-panel=fixed] canvas").evaluate(PIXELS))
    assert len(seen) == len(gan.MOMENTS) and stage.state() == {"moment": 12}
    images = declaration.compute({"moment": 12}).fixed
    assert (ink_of(root.locator("[data-panel=fixed] canvas"))[11:19, 11:19] == images[9]).all()  # row 2, column 2


def test_the_spot_on_the_curve_moves_the_film(put):
    stage, root = put(film())
    hand = root.get_by_role("slider", name="moment of the training")
    hand.focus()
    stage.after(lambda: stage.page.keyboard.press("ArrowRight"))
    assert stage.state() == {"moment": 1}
    box = hand.bounding_box()
    stage.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    stage.page.mouse.down()
    stage.after(lambda: stage.page.mouse.move(box["x"] + 150, box["y"], steps=4))
    stage.page.mouse.up()
    assert stage.state()["moment"] > 4
    stage.after(lambda: root.locator("[data-panel=scores] svg").dblclick())
    assert stage.state() == {"moment": 0}
    root.locator("[data-panel=scores] svg").hover()
    assert re.search(r"% *: \d", root.locator(".hover").text_content())


def test_play_runs_to_the_end_and_begins_anew(put):
    declaration = film()
    quick = dataclasses.replace(declaration.controls["moment"], play=30)
    stage, root = put(dataclasses.replace(declaration, controls={"moment": quick}))
    root.get_by_role("button", name="Play: training").click()
    root.get_by_role("button", name="Pause: training").wait_for()
    root.get_by_text("after 100 % of the training").wait_for()
    button = root.get_by_role("button", name="Play: training")
    button.wait_for()
    button.press("Enter")
    root.get_by_role("button", name="Pause: training").press("Enter")
    assert stage.state()["moment"] < 12


def test_who_wants_no_motion_steps_by_the_button(put):
    stage, root = put(film())
    stage.page.emulate_media(reduced_motion="reduce")
    for k in (1, 2):
        stage.after(root.locator(".play").click)
        stage.page.wait_for_timeout(900)
        assert stage.state() == {"moment": k}


def test_without_a_kernel_the_page_moves_through_what_was_computed(put):
    stage, root = put(paths())
    listed = root.get_by_label("computed beforehand")
    strip = root.locator("[data-panel=straight] canvas")
    seen = set()
    for pair in range(gan_paths.WITHOUT_KERNEL):
        if pair:
            stage.after(lambda pair=pair: listed.select_option(f"pair {pair}"))
        root.get_by_text(norm_half_way(pair)).wait_for()
        assert stage.state()["pair"] == pair
        seen.add(strip.evaluate(PIXELS))
    assert len(seen) == gan_paths.WITHOUT_KERNEL
    shown = strip.evaluate(PIXELS)
    root.locator("input[name=pair]").focus()
    stage.page.keyboard.press("ArrowRight")
    root.get_by_text("takes a kernel, which a page has not").wait_for()
    assert strip.evaluate(PIXELS) == shown and stage.state()["pair"] == gan_paths.WITHOUT_KERNEL
    for _ in range(5):
        stage.after(root.get_by_role("button", name="Surprise me").click)
        assert stage.state()["pair"] < gan_paths.WITHOUT_KERNEL


def test_t_and_path_choose_what_is_drawn(put):
    declaration = paths()
    stage, root = put(declaration)
    listed = root.get_by_label("computed beforehand")
    stage.after(lambda: listed.select_option("pair 3"))
    numbers = declaration.compute({"pair": 3})
    strip = root.locator("[data-panel=sphere] canvas")
    strip.scroll_into_view_if_needed()
    box = strip.bounding_box()
    stage.after(lambda: stage.page.mouse.click(box["x"] + box["width"] * 7.5 / 11, box["y"] + box["height"] / 2))
    assert stage.state() == {"path": "sphere", "t": 0.7, "pair": 3}
    assert listed.evaluate("list => list.selectedOptions[0].textContent") == "pair 3"
    assert root.locator("[data-panel=sphere] rect").get_attribute("x") == "7"
    assert root.locator("[data-panel=straight] rect").count() == 0
    for which, path in enumerate(gan_paths.PATHS):
        at_t, strip = (ink_of(root.locator(f"[data-panel='{name}'] canvas")) for name in (f"{path} at t", path))
        assert (at_t[1:9, 1:9] == numbers.images[which, 14]).all()
        assert (strip[1:9, 41:49] == numbers.images[which, 8]).all()  # the fifth of the strip, t = 0.4
    hand = root.locator("[data-panel=norms]").get_by_role("slider")
    hand.focus()
    stage.after(lambda: stage.page.keyboard.press("Shift+ArrowLeft"))
    assert stage.state()["t"] == 0.45
    stage.after(lambda: root.locator("select[name=path]").select_option("straight"))
    assert f"norm {numbers.norms[0, 45]:.2f}" in hand.get_attribute("aria-valuetext").replace("0.45, ", "")


# In JupyterLab -------------------------------------------------------------------------------------------------------

CELLS = [
    f"""
    import ctypes, dataclasses, os, time, torch
    from course_utils import gan
    from course_utils.widgets import gan_paths
    from course_utils.widgets.stage import Widget

    torch.manual_seed(0)
    declared = gan_paths.declare_paths(gan.conv_gan({SIDE}, latents={LATENTS}, width=6).eval(), {SIDE}, 0)
    calls = []

    def compute(state, tell):
        calls.append(state["pair"])
        if state["pair"] == 13:
            raise RuntimeError("no luck")
        time.sleep(60 if state["pair"] == 99 else 0.8)
        return declared.compute(state)

    paths = Widget(dataclasses.replace(declared, compute=compute))
    calls.clear()
    """,
    "paths  # shown",
    "print('asked for', calls); calls.clear()",
    """
    print("held", flush=True)
    ctypes.PyDLL(None).read(os.open("gate", os.O_RDONLY), ctypes.create_string_buffer(1), 1)
    """,
    "",
]


LAST = len(CELLS) - 1


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("kernel")


@pytest.fixture
def gate(home):
    """Return a pipe beside the notebook: who reads from it waits until something is written."""
    pipe = home / "notebooks" / "gate"
    os.mkfifo(pipe)
    return pipe


@pytest.fixture(scope="module")
def notebook(browser, home):
    lab.write_notebook(home / "notebooks" / "asked.ipynb", CELLS)
    with lab.session(home / "notebooks", home, browser) as open_notebook:
        opened = open_notebook("asked.ipynb")
        for i in (0, 1):
            opened.run_cell(i)
        opened.page.locator(".stage").wait_for()
        yield opened


def calls(notebook) -> list[int]:
    """Return the pairs that were computed since the last time."""
    notebook.run_cell(2)
    text = notebook.page.locator(".jp-Notebook .jp-CodeCell").nth(2).locator(".jp-Cell-outputArea").inner_text()
    return [int(n) for n in re.findall(r"\d+", text)]


def go(notebook, *pairs: int) -> None:
    """Move the slider of the pair as a quick hand does, one at a frame."""
    notebook.page.locator(".stage").first.locator("input[name=pair]").evaluate(
        """async (range, pairs) => {
          for (const pair of pairs) {
            range.value = pair;
            range.dispatchEvent(new Event('input', { bubbles: true }));
            await new Promise(requestAnimationFrame);
          }
        }""",
        list(pairs),
    )


def test_a_new_pair_is_asked_from_the_kernel_and_kept(notebook):
    root = notebook.page.locator(".stage")
    calls(notebook)
    go(notebook, 3)
    root.get_by_text(norm_half_way(3)).wait_for()
    assert root.get_by_label("computed beforehand").is_hidden()
    assert calls(notebook) == []  # a sprite
    go(notebook, 40)
    root.get_by_text(norm_half_way(40)).wait_for()
    go(notebook, 3)
    root.get_by_text(norm_half_way(3)).wait_for()
    go(notebook, 40)
    root.get_by_text(norm_half_way(40)).wait_for()
    root.locator("select[name=path]").select_option("sphere")
    root.get_by_text("on the sphere, t = 0.50: norm").wait_for()
    root.locator("select[name=path]").select_option("straight")
    assert calls(notebook) == [40]


def test_keys_are_the_widgets_own(notebook):
    """Else JupyterLab takes arrow keys for itself, and letters on a list for its commands: b adds a cell."""
    root, cells = notebook.page.locator(".stage"), notebook.page.locator(".jp-Notebook .jp-CodeCell")
    go(notebook, 5)
    root.locator("input[name=pair]").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        notebook.page.keyboard.press(key)
    root.get_by_text(norm_half_way(6)).wait_for()
    root.get_by_role("slider", name="t", exact=True).last.focus()
    notebook.page.keyboard.press("ArrowLeft")
    root.get_by_text("straight, t = 0.45").wait_for()
    before = cells.count()
    root.locator("select[name=path]").focus()
    for key in ("b", "ArrowUp", "ArrowDown"):
        notebook.page.keyboard.press(key)
    notebook.page.wait_for_timeout(500)
    assert cells.count() == before
    assert notebook.page.evaluate("document.activeElement.name") == "path"
    root.get_by_role("button", name="Reset").press("Enter")
    root.get_by_text(norm_half_way(0)).wait_for()


def test_of_ten_quick_requests_the_newest_counts(notebook):
    root = notebook.page.locator(".stage")
    calls(notebook)
    go(notebook, *range(50, 60))
    root.get_by_text(norm_half_way(59)).wait_for()
    assert calls(notebook) == [50, 59]


def test_what_is_known_before_the_kernel_gets_to_it_is_not_asked(notebook):
    root = notebook.page.locator(".stage")
    calls(notebook)
    go(notebook, 60, 61, 2)
    root.get_by_text(norm_half_way(2)).wait_for()
    notebook.page.wait_for_timeout(1500)
    assert calls(notebook) == [60]
    assert norm_half_way(2) in root.inner_text()


def test_an_exception_is_shown_with_its_state(notebook):
    root = notebook.page.locator(".stage")
    go(notebook, 1)
    root.get_by_text(norm_half_way(1)).wait_for()
    shown = root.locator("[data-panel=straight] canvas").evaluate(PIXELS)
    go(notebook, 13)
    box = root.get_by_role("alert")
    box.get_by_text("In the kernel: RuntimeError: no luck").wait_for()
    assert '"pair":13' in box.inner_text() and "Reset" in box.inner_text()
    assert root.locator("[data-panel=straight] canvas").evaluate(PIXELS) == shown
    root.get_by_role("button", name="Reset").click()
    box.wait_for(state="hidden")
    assert calls(notebook)[-1:] == [13]


def test_a_busy_kernel_is_said_and_answers_afterwards(notebook, gate):
    """The cell holds the interpreter's lock: else a subshell may answer while it runs (JupyterLab 4.4, ipykernel 7)."""
    root = notebook.page.locator(".stage")
    silent = root.get_by_text("The kernel is silent: it is busy")
    calls(notebook)
    notebook.run_cell(3, wait=False)
    notebook.page.locator(".jp-OutputArea-output", has_text="held").wait_for()
    with gate.open("wb", buffering=0) as opened:  # the cell reads from it, or is about to
        for pair in range(30, 36):  # until none is answered any more
            go(notebook, pair)
            with contextlib.suppress(TimeoutError):
                silent.wait_for(timeout=5000)
                break
        else:
            pytest.fail("the kernel answered all the while")
        go(notebook, 71, 72, 73)
        root.get_by_label("computed beforehand").select_option("pair 5")
        root.get_by_text(norm_half_way(5)).wait_for()  # meanwhile
        go(notebook, 74)
        opened.write(b"1")
    root.get_by_text(norm_half_way(74)).wait_for(timeout=20_000)
    assert root.get_by_label("computed beforehand").is_hidden()
    assert silent.count() == 0
    assert calls(notebook) == [*range(30, pair + 1), 74]


def test_python_moves_the_picture(notebook):
    notebook.run_cell(LAST, source="paths.set(pair=81)")
    notebook.page.locator(".stage").get_by_text(norm_half_way(81)).wait_for()


def test_two_views_of_one_widget_agree(notebook):
    notebook.run_cell(LAST, source="paths")
    views = notebook.page.locator(".stage")
    views.nth(1).wait_for()
    go(notebook, 82)
    for i in (0, 1):
        views.nth(i).get_by_text(norm_half_way(82)).wait_for()
    assert notebook.complaints == []


def test_a_restart_while_it_computes_is_said(notebook):
    root = notebook.page.locator(".stage").first
    go(notebook, 99)
    root.get_by_text("The kernel computes").wait_for()
    notebook.page.get_by_role("menuitem", name="Kernel", exact=True).click()
    notebook.page.get_by_text("Restart Kernel…", exact=True).click()
    notebook.page.get_by_role("button", name="Confirm Kernel Restart").click()
    root.get_by_text("The kernel is gone: run the cell again").wait_for(timeout=20_000)
    notebook.wait_idle(60)
    notebook.run_cell(LAST, source="")
    for i in (0, 1):
        notebook.run_cell(i)
    go(notebook, 66)
    root.get_by_text(norm_half_way(66)).wait_for()


def test_a_dead_kernel_is_said(notebook):  # the last one: nothing lives after it
    notebook.page.get_by_role("menuitem", name="Kernel", exact=True).click()
    notebook.page.get_by_role("menuitem", name="Shut Down Kernel", exact=True).click()
    notebook.page.wait_for_selector('#jp-main-statusbar :text-matches("No Kernel")')
    root = notebook.page.locator(".stage").first
    go(notebook, 90)
    root.get_by_text("The kernel is gone").wait_for(timeout=4000)
    root.get_by_label("computed beforehand").select_option("pair 4")
    root.get_by_text(norm_half_way(4)).wait_for()

"""Lecture 2 as a student meets it: opened in JupyterLab, run to its end, its latent planes moved by hand."""

import pytest

pytestmark = pytest.mark.browser
SOURCES = ("manifold_explorer()", 'manifold_explorer({"trained here": mine})')


@pytest.fixture(scope="module")
def lecture(open_notebook):
    notebook = open_notebook("02_vae.ipynb")
    notebook.fresh = {source: notebook.widget(source).output.inner_html() for source in SOURCES}
    notebook.run_all(seconds=900)
    return notebook


@pytest.fixture(params=SOURCES, ids=["shipped", "trained here"])
def stage(request, lecture):
    """Return W-manifold as it is at the start."""
    found = lecture.widget(request.param).output.locator(".stage[data-drawn]")
    found.scroll_into_view_if_needed()
    found.get_by_role("button", name="Reset").click()
    settle(lecture)
    return found


def settle(lecture) -> None:
    """Wait until the newest state is drawn."""
    lecture.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def pixels(stage, panel: str) -> str:
    return stage.locator(f'[data-panel="{panel}"] canvas').evaluate("canvas => canvas.toDataURL()")


def place(hand) -> str:
    """Return a handle's point as it is read out."""
    return hand.get_attribute("aria-valuetext")


def test_runs_to_the_end_without_an_error(lecture):
    assert lecture.errors() == []
    assert lecture.not_run() == []


@pytest.mark.parametrize("source", SOURCES)
def test_a_fresh_clone_shows_the_saved_picture(lecture, source):
    assert "<img" in lecture.fresh[source] and "model not found" not in lecture.fresh[source]


def test_z_is_dragged_and_moved_by_arrow_keys(lecture, stage):
    hand, image, strip = (
        stage.get_by_role("slider", name="z, the point"),
        pixels(stage, "image"),
        pixels(stage, "strip"),
    )
    hand.scroll_into_view_if_needed()
    start, box = place(hand), hand.bounding_box()
    lecture.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    lecture.page.mouse.down()
    lecture.page.mouse.move(box["x"] + 60, box["y"] - 40, steps=5)
    lecture.page.mouse.up()
    settle(lecture)
    dragged = place(hand)
    assert dragged != start and pixels(stage, "image") != image and pixels(stage, "strip") == strip
    hand.focus()
    lecture.page.keyboard.press("Shift+ArrowDown")
    settle(lecture)
    assert place(hand) != dragged
    assert hand.evaluate("e => e === document.activeElement")  # JupyterLab has not gone to the next cell


def test_a_and_the_path_change_the_strip(lecture, stage):
    hand, strips = stage.get_by_role("slider", name="A, end"), [pixels(stage, "strip")]
    hand.focus()
    lecture.page.keyboard.press("Shift+ArrowLeft")
    settle(lecture)
    strips.append(pixels(stage, "strip"))
    stage.locator("select[name=path]").select_option("sphere")
    settle(lecture)
    strips.append(pixels(stage, "strip"))
    stage.get_by_role("button", name="Surprise me").press("Enter")
    settle(lecture)
    strips.append(pixels(stage, "strip"))
    assert len(set(strips)) == 4
    stage.get_by_role("button", name="Reset").press("Space")
    settle(lecture)
    assert pixels(stage, "strip") == strips[0]


def test_nothing_overflows_in_a_window_1280_pixels_wide(lecture, stage):
    assert [lecture.widget(source).overflow() for source in SOURCES] == [[], []]


def test_the_page_has_no_complaints(lecture):  # the last one: it speaks for all that came before
    assert lecture.complaints == []

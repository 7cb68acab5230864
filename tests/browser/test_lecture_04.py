"""Lecture 4 as a student meets it: opened in JupyterLab, run to its end, every control of its widgets moved once."""

import pytest

pytestmark = pytest.mark.browser
STAGES = ("planar_explorer()", "layers_explorer(", "picture_explorer(")
SLIDERS = [
    ("planar_explorer()", "angle"),
    ("planar_explorer()", "steepness"),
    ("planar_explorer()", "offset"),
    ("planar_explorer()", "u1"),
    ("planar_explorer()", "u2"),
    ("layers_explorer(", "layer"),
]
HANDLES = [
    ("planar_explorer()", "tip of u"),
    ("planar_explorer()", "w: turns"),
    ("planar_explorer()", "hyperplane, along"),
    ("layers_explorer(", "point that is followed"),
]


@pytest.fixture(scope="module")
def lecture(open_notebook):
    notebook = open_notebook("04_normalizing_flows.ipynb")
    notebook.fresh = {source: notebook.widget(source).output.inner_html() for source in STAGES}
    notebook.run_all(seconds=900)
    return notebook


def test_runs_to_the_end_without_an_error(lecture):
    assert lecture.errors() == []
    assert lecture.not_run() == []


@pytest.mark.parametrize("source", STAGES)
def test_a_fresh_clone_shows_the_saved_picture(lecture, source):
    assert "<img" in lecture.fresh[source] and "model not found" not in lecture.fresh[source]


@pytest.fixture
def start(lecture):
    """Return a function: the widget of a cell as it is at the start, and its picture."""

    def widget_of(source):
        widget = lecture.widget(source)
        widget.button("Reset").click()
        return widget, widget.picture()

    return widget_of


@pytest.mark.parametrize("source, name", SLIDERS)
def test_slider_and_reset_by_keyboard(lecture, start, source, name):
    widget, picture = start(source)
    slider = widget.control(name)
    value = slider.input_value()
    slider.focus()
    lecture.page.keyboard.press("ArrowRight")
    moved = widget.changed(picture)
    assert slider.input_value() != value
    widget.press_button("Reset")
    assert widget.changed(moved) == picture and slider.input_value() == value


@pytest.mark.parametrize("source, name", HANDLES)
def test_a_handle_by_keyboard(lecture, start, source, name):
    widget, picture = start(source)
    widget.root.get_by_role("slider", name=name).focus()
    lecture.page.keyboard.press("ArrowUp")
    widget.changed(picture)


@pytest.mark.parametrize("source", STAGES)
def test_surprise_by_keyboard(start, source):
    widget, picture = start(source)
    widget.button("Reset").focus()
    while (surprised := widget.picture()) == picture:  # a surprise may be the start
        widget.press_button("Surprise me", key="Enter")
    widget.press_button("Reset", back=True)
    assert widget.changed(surprised) == picture


@pytest.mark.parametrize(
    "source, name, chosen", [("planar_explorer()", "base", "square"), ("layers_explorer(", "grid", "noise")]
)
def test_a_choice_by_keyboard(lecture, start, source, name, chosen):
    widget, picture = start(source)
    widget.control(name).focus()
    for key in ("Space", "End", "Enter"):  # on the closed list, arrow keys would make JupyterLab go to the next cell
        lecture.page.keyboard.press(key)
    widget.changed(picture)
    assert widget.control(name).input_value() == chosen


def test_the_switch_by_keyboard(lecture, start):
    widget, _ = start("planar_explorer()")
    switch = widget.control("enforce")
    switch.focus()
    lecture.page.keyboard.press("Space")
    assert not switch.is_checked()
    widget.button("Reset").click()
    lecture.page.wait_for_function("box => box.checked", arg=switch.element_handle())


def test_play_goes_through_the_layers_to_the_noise(start):
    widget, _ = start("layers_explorer(")
    widget.root.get_by_role("button", name="Play: layer").click()
    widget.output.get_by_text("the noise, after all 4 layers").wait_for(timeout=20_000)
    assert widget.control("layer").input_value() == "4"


def test_the_kernel_learns_what_the_keyboard_draws(lecture, start):
    widget, _ = start("picture_explorer(")
    learned = widget.root.locator("[data-panel=learned] svg")
    before = learned.inner_html()
    widget.button("Clear").click()
    widget.output.get_by_text("for this one press Train").wait_for()
    widget.root.locator(".pad").focus()
    for key in ["Space"] + ["ArrowRight"] * 3 + ["Space"]:
        lecture.page.keyboard.press(key)
    widget.output.get_by_text("your picture: 3 % ink").wait_for()
    widget.button("Train").click()
    widget.output.get_by_text("20 steps in").wait_for(timeout=60_000)
    assert learned.inner_html() != before and widget.root.locator(".error").is_hidden()


@pytest.mark.parametrize("source", STAGES)
def test_nothing_overflows_in_a_window_1280_pixels_wide(lecture, source):
    assert lecture.widget(source).overflow() == []


def test_the_page_has_no_complaints(lecture):  # the last one: it speaks for all that came before
    assert lecture.complaints == []

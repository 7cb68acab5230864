"""Lecture 3 as a student meets it: opened in JupyterLab, run to its end, every control of its widgets moved once."""

import re

import pytest

pytestmark = pytest.mark.browser
SOURCES = ("gan_explorer()", "film_explorer(", "interpolation_explorer(", "switchboard(")
STAGES = SOURCES[:3]
SLIDERS = [
    ("gan_explorer()", "mean"),
    ("gan_explorer()", "width"),
    ("gan_explorer()", "sharpness"),
    ("film_explorer(", "moment"),
    ("interpolation_explorer(", "t"),
    ("interpolation_explorer(", "pair"),
]


@pytest.fixture(scope="module")
def lecture(open_notebook):
    notebook = open_notebook("03_gan.ipynb")
    notebook.fresh = {source: notebook.widget(source).output.inner_html() for source in SOURCES}
    notebook.run_all(seconds=900)
    return notebook


def wait_for_text(widget, text: str, seconds: float = 10) -> None:
    widget.output.get_by_text(re.compile(text)).first.wait_for(timeout=1000 * seconds)


def test_runs_to_the_end_without_an_error(lecture):
    assert lecture.errors() == []
    assert lecture.not_run() == []


@pytest.mark.parametrize("source", SOURCES)
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
    lecture.page.keyboard.press("ArrowLeft" if value == slider.get_attribute("max") else "ArrowRight")
    moved = widget.changed(picture)
    assert slider.input_value() != value
    widget.press_button("Reset")
    assert widget.changed(moved) == picture and slider.input_value() == value


@pytest.mark.parametrize("source", STAGES)
def test_surprise_by_keyboard(start, source):
    widget, picture = start(source)
    widget.button("Reset").focus()
    while (surprised := widget.picture()) == picture:  # a surprise may be the start
        widget.press_button("Surprise me", key="Enter")
    widget.press_button("Reset", back=True)
    assert widget.changed(surprised) == picture


@pytest.mark.parametrize(
    "source, name, chosen", [("gan_explorer()", "data", "two"), ("interpolation_explorer(", "path", "sphere")]
)
def test_a_choice_by_keyboard(lecture, start, source, name, chosen):
    widget, picture = start(source)
    widget.control(name).focus()
    for key in ("Space", "End", "Enter"):  # on the closed list, arrow keys would make JupyterLab go to the next cell
        lecture.page.keyboard.press(key)
    widget.changed(picture)
    assert widget.control(name).input_value() == chosen


def test_play_runs_to_the_end_of_the_film(start):
    widget, _ = start("film_explorer(")
    widget.root.get_by_role("button", name="Play: training").click()
    wait_for_text(widget, "after 0.5 % of the training")
    wait_for_text(widget, "after 100 % of the training", seconds=30)
    assert widget.control("moment").input_value() == "12"


def test_the_kernel_decodes_a_pair_that_did_not_travel(lecture, start):
    widget, picture = start("interpolation_explorer(")
    widget.control("pair").focus()
    lecture.page.keyboard.press("End")
    widget.changed(picture)
    assert widget.control("pair").input_value() == "99"
    assert widget.output.get_by_text("The picture shows the last state").count() == 0


@pytest.mark.parametrize("source", SOURCES)
def test_nothing_overflows_in_a_window_1280_pixels_wide(lecture, source):
    assert lecture.widget(source).overflow() == []


def test_the_page_has_no_complaints(lecture):  # the last one: it speaks for all that came before
    assert lecture.complaints == []

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
PICTURE = """root => root.querySelector('.view').innerHTML
  + [...root.querySelectorAll('canvas')].map(canvas => canvas.toDataURL())"""


@pytest.fixture(scope="module")
def lecture(open_notebook):
    notebook = open_notebook("03_gan.ipynb")
    notebook.fresh = {source: notebook.widget(source).output.inner_html() for source in SOURCES}
    notebook.run_all(seconds=900)
    return notebook


@pytest.fixture
def start(lecture):
    """Return a function: the widget of a cell as it is at the start, and its picture."""

    def widget_of(source):
        widget = lecture.widget(source)
        widget.button("Reset").click()
        return widget, settle(widget)

    return widget_of


def settle(widget) -> str:
    """Wait until no answer is under way any more, and return the picture.

    A slider that the kernel has moved answers with its own rounding, 2.1999999999999993 for 2.2, a moment later.
    """
    before = None
    while (now := (widget.picture(), widget.output.inner_text())) != before:
        before = now
        widget.page.wait_for_timeout(300)
    return now[0]


def wait_for_text(widget, text: str, seconds: float = 10) -> None:
    widget.output.get_by_text(re.compile(text)).first.wait_for(timeout=1000 * seconds)


def test_runs_to_the_end_without_an_error(lecture):
    assert lecture.errors() == []
    assert lecture.not_run() == []


@pytest.mark.parametrize("source", SOURCES)
def test_a_fresh_clone_shows_the_saved_picture(lecture, source):
    assert "<img" in lecture.fresh[source] and "model not found" not in lecture.fresh[source]


def shown(root) -> str:
    """Wait until nothing is drawn any more, and return the picture."""
    before = None
    while (now := root.evaluate(PICTURE)) != before:
        before = now
        root.page.wait_for_timeout(300)
    return now


def changed(root, before: str) -> str:
    """Wait until the picture is another one, and return it."""
    root.page.wait_for_function(
        f"([root, before]) => ({PICTURE})(root) !== before", arg=[root.element_handle(), before]
    )
    return shown(root)


@pytest.fixture
def stage(lecture):
    """Return a function: the widget of a cell, what is on its stage at the start, and the picture."""

    def widget_of(source):
        widget = lecture.widget(source)
        root = widget.output.locator(".stage")
        widget.button("Reset").click()
        return widget, root, shown(root)

    return widget_of


@pytest.mark.parametrize("source, name", SLIDERS)
def test_slider_and_reset_by_keyboard(lecture, stage, source, name):
    widget, root, picture = stage(source)
    slider = root.locator(f"input[name={name}]")
    value = slider.input_value()
    slider.focus()
    lecture.page.keyboard.press("ArrowLeft" if value == slider.get_attribute("max") else "ArrowRight")
    changed(root, picture)
    assert slider.input_value() != value
    widget.press_button("Reset")
    root.page.wait_for_function("([slider, value]) => slider.value === value", arg=[slider.element_handle(), value])
    assert shown(root) == picture


@pytest.mark.parametrize("source", STAGES)
def test_surprise_by_keyboard(stage, source):
    widget, root, picture = stage(source)
    widget.button("Reset").focus()
    while (surprised := shown(root)) == picture:  # a surprise may be the start
        widget.press_button("Surprise me", key="Enter")
    widget.press_button("Reset", back=True)
    assert changed(root, surprised) == picture


@pytest.mark.parametrize(
    "source, name, chosen", [("gan_explorer()", "data", "two"), ("interpolation_explorer(", "path", "sphere")]
)
def test_a_choice_by_keyboard(lecture, stage, source, name, chosen):
    _, root, picture = stage(source)
    root.locator(f"select[name={name}]").focus()
    for key in ("Space", "End", "Enter"):  # on the closed list, arrow keys would make JupyterLab go to the next cell
        lecture.page.keyboard.press(key)
    changed(root, picture)
    assert root.locator(f"select[name={name}]").input_value() == chosen


def test_play_runs_to_the_end_of_the_film(stage):
    widget, root, _ = stage("film_explorer(")
    root.get_by_role("button", name="Play: training").click()
    wait_for_text(widget, "after 0.5 % of the training")
    wait_for_text(widget, "after 100 % of the training", seconds=30)
    assert root.locator("input[name=moment]").input_value() == "12"


def test_the_kernel_decodes_a_pair_that_did_not_travel(lecture, stage):
    widget, root, picture = stage("interpolation_explorer(")
    root.locator("input[name=pair]").focus()
    lecture.page.keyboard.press("End")
    changed(root, picture)
    assert root.locator("input[name=pair]").input_value() == "99"
    assert widget.output.get_by_text("The picture shows the last state").count() == 0


@pytest.mark.parametrize("source", SOURCES)
def test_nothing_overflows_in_a_window_1280_pixels_wide(lecture, source):
    assert lecture.widget(source).overflow() == []


def test_the_page_has_no_complaints(lecture):  # the last one: it speaks for all that came before
    assert lecture.complaints == []

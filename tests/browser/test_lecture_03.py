"""Lecture 3 as a student meets it: opened in JupyterLab, run to its end, every control of its widgets moved once."""

import re

import pytest

pytestmark = pytest.mark.browser
SOURCES = ("gan_explorer()", "film_explorer(", "interpolation_explorer(", "switchboard(")
SLIDERS = [
    ("gan_explorer()", "mean of G"),
    ("gan_explorer()", "width of G"),
    ("gan_explorer()", "D trained"),
    ("film_explorer(", "training"),
    ("interpolation_explorer(", "t"),
    ("interpolation_explorer(", "pair"),
]


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


@pytest.mark.parametrize("source, label", SLIDERS)
def test_slider_and_reset_by_keyboard(lecture, start, source, label):
    widget, picture = start(source)
    slider = widget.slider(label)
    value = float(slider.get_attribute("aria-valuenow"))
    slider.focus()
    lecture.page.keyboard.press("ArrowLeft" if value == float(slider.get_attribute("aria-valuemax")) else "ArrowRight")
    widget.wait_for_change(picture)
    moved = settle(widget)
    assert float(slider.get_attribute("aria-valuenow")) != value
    widget.press_button("Reset")
    widget.wait_for_change(moved)
    assert settle(widget) == picture
    assert float(slider.get_attribute("aria-valuenow")) == value


@pytest.mark.parametrize("source", SOURCES[:3])
def test_surprise_by_keyboard(lecture, start, source):
    widget, picture = start(source)
    widget.button("Reset").focus()
    widget.press_button("Surprise me", key="Enter")
    widget.wait_for_change(picture)
    surprised = settle(widget)
    widget.press_button("Reset", back=True)
    widget.wait_for_change(surprised)
    assert settle(widget) == picture


@pytest.mark.parametrize(
    "source, label, chosen", [("gan_explorer()", "data", "two"), ("interpolation_explorer(", "path", "sphere")]
)
def test_a_choice_by_keyboard(lecture, start, source, label, chosen):
    widget, picture = start(source)
    widget.dropdown(label).focus()
    for key in ("Space", "End", "Enter"):  # on the closed list, arrow keys would make JupyterLab go to the next cell
        lecture.page.keyboard.press(key)
    widget.wait_for_change(picture)
    assert chosen in widget.dropdown(label).input_value()


def test_play_runs_to_the_end_of_the_film(lecture, start):
    widget, picture = start("film_explorer(")
    widget.output.locator(".widget-play button").first.click()
    wait_for_text(widget, "after 0.5 % of the training")
    seen = {picture, widget.wait_for_change(picture)}
    wait_for_text(widget, "after 100 % of the training", seconds=30)
    assert settle(widget) not in seen
    assert float(widget.slider("training").get_attribute("aria-valuenow")) == 12


@pytest.mark.parametrize("source", SOURCES)
def test_nothing_overflows_in_a_window_1280_pixels_wide(lecture, source):
    assert lecture.widget(source).overflow() == []


def test_the_page_has_no_complaints(lecture):  # the last one: it speaks for all that came before
    assert lecture.complaints == []

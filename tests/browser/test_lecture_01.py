"""Lecture 1 as a student meets it: opened in JupyterLab, run from top to bottom, its widgets moved by keyboard."""

import pytest

pytestmark = pytest.mark.browser
SLIDERS = {"kl_explorer()": "separation", "elbo_explorer()": "mu"}


@pytest.fixture(scope="module")
def lecture(open_notebook):
    notebook = open_notebook("01_kl_and_elbo.ipynb")
    notebook.fresh = {source: notebook.widget(source).output.inner_html() for source in SLIDERS}
    notebook.run_all()
    return notebook


def test_runs_to_the_end_without_an_error(lecture):
    assert lecture.errors() == []
    assert lecture.not_run() == []


@pytest.mark.parametrize("source", SLIDERS)
def test_a_fresh_clone_shows_the_saved_picture(lecture, source):
    assert "<img" in lecture.fresh[source] and "model not found" not in lecture.fresh[source]


@pytest.mark.parametrize("source, name", SLIDERS.items())
def test_slider_and_buttons_by_keyboard(lecture, source, name):
    widget = lecture.widget(source)
    start, slider = widget.picture(), widget.control(name)
    value = slider.input_value()
    slider.focus()
    lecture.page.keyboard.press("ArrowRight")
    moved = widget.changed(start)
    assert float(slider.input_value()) > float(value)
    widget.press_button("Reset")
    assert widget.changed(moved) == start and slider.input_value() == value
    widget.press_button("Surprise me", key="Enter")
    surprised = widget.changed(start)
    widget.press_button("Reset", back=True)
    assert widget.changed(surprised) == start


def test_the_divergence_is_chosen_by_keyboard(lecture):
    widget = lecture.widget("kl_explorer()")
    start = widget.picture()
    widget.control("kind").focus()
    for key in ("Space", "End", "Enter"):  # on the closed list, arrow keys would make JupyterLab go to the next cell
        lecture.page.keyboard.press(key)
    chosen = widget.changed(start)
    assert widget.control("kind").input_value() == "alpha"
    widget.control("alpha").focus()
    lecture.page.keyboard.press("ArrowLeft")
    widget.changed(chosen)


@pytest.mark.parametrize("source", SLIDERS)
def test_nothing_overflows_in_a_window_1280_pixels_wide(lecture, source):
    assert lecture.widget(source).overflow() == []


def test_the_page_has_no_complaints(lecture):  # the last one: it speaks for all that came before
    assert lecture.complaints == []

"""Lecture 1 as a student meets it: opened in JupyterLab, run from top to bottom, its widgets moved by keyboard."""

import pytest

pytestmark = pytest.mark.browser
SLIDERS = {"kl_explorer()": "separation", "elbo_explorer()": "mean of q"}


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


@pytest.mark.parametrize("source, label", SLIDERS.items())
def test_slider_and_reset_by_keyboard(lecture, source, label):
    widget = lecture.widget(source)
    slider = widget.slider(label)
    start, value = widget.picture(), float(slider.get_attribute("aria-valuenow"))
    slider.focus()
    lecture.page.keyboard.press("ArrowRight")
    widget.wait_for_change(start)
    assert float(slider.get_attribute("aria-valuenow")) > value
    widget.press_button("Reset")
    widget.wait_for(start)
    assert float(slider.get_attribute("aria-valuenow")) == value
    widget.press_button("Surprise me", key="Enter")
    widget.wait_for_change(start)
    widget.press_button("Reset", back=True)
    widget.wait_for(start)


def test_the_divergence_is_chosen_by_keyboard(lecture):
    widget = lecture.widget("kl_explorer()")
    start = widget.picture()
    widget.dropdown("divergence").focus()
    for key in ("Space", "End", "Enter"):  # on the closed list, arrow keys would make JupyterLab go to the next cell
        lecture.page.keyboard.press(key)
    chosen = widget.wait_for_change(start)
    assert widget.dropdown("divergence").input_value() == "alpha"
    widget.slider("alpha").focus()
    lecture.page.keyboard.press("ArrowLeft")
    widget.wait_for_change(chosen)


@pytest.mark.parametrize("source", SLIDERS)
def test_nothing_overflows_in_a_window_1280_pixels_wide(lecture, source):
    assert lecture.widget(source).overflow() == []


def test_the_page_has_no_complaints(lecture):  # the last one: it speaks for all that came before
    assert lecture.complaints == []

"""Where no Chromium is, a notebook that was run keeps its widgets' former pictures."""

import nbformat
import pytest

from course_tools import stills

SPEC = {"name": "kl", "start": {}, "presets": [], "alt": "Two curves."}
MODELS = {"m": {"state": {"parts": "IPY_MODEL_p"}}, "p": {"state": {"spec": SPEC}}}


def notebook(text: str, models: dict, **data: str) -> nbformat.NotebookNode:
    """Return a notebook with one cell whose output is a view of the model "m", with these further data."""
    data = {"text/plain": text, stills.VIEW: {"model_id": "m"}, **data}
    output = nbformat.v4.new_output("display_data", data, metadata={"image/png": {"alt": "old"}} if data else {})
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("w", id="cell", outputs=[output])])
    nb.metadata["widgets"] = {stills.STATE: {"state": models}}
    return nb


@pytest.fixture
def no_chromium(monkeypatch):
    monkeypatch.setattr(stills, "missing", lambda: "no Chromium found")


def picture(nb: nbformat.NotebookNode) -> str | None:
    return nb.cells[0].outputs[0].data.get("image/png")


def test_the_former_picture_is_kept_and_a_line_says_so(no_chromium):
    nb, former = notebook("W", MODELS), notebook("W", {}, **{"image/png": "former"})
    assert stills.illustrate(nb, former) == (
        "pictures of widgets: 1 of 1 kept as they were, none made (no Chromium found)"
    )
    assert picture(nb) == "former" and nb.cells[0].outputs[0].metadata["image/png"] == {"alt": "old"}


@pytest.mark.parametrize("former", [None, notebook("another widget", {}, **{"image/png": "former"})])
def test_that_of_another_widget_is_not_taken(no_chromium, former):
    nb = notebook("W", MODELS)
    assert "0 of 1 kept" in stills.illustrate(nb, former)
    assert picture(nb) is None


@pytest.mark.parametrize("models", [{}, {"m": {"state": {"value": 3}}}])
def test_other_widgets_are_left_alone(monkeypatch, models):
    monkeypatch.setattr(stills, "chromium", None)  # nothing may be started
    nb = notebook("W", models, **{"image/png": "own"})
    assert stills.illustrate(nb, None) == "" and picture(nb) == "own"

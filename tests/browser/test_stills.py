"""Still pictures: what `make notebooks` puts in the place of a widget, drawn by the widget itself."""

import base64
import io
import subprocess
import sys
from dataclasses import replace

import nbformat
import numpy as np
import pytest
from PIL import Image

from course_tools import notebooks, stills, widgets
from course_utils.widgets import divergences
from course_utils.widgets.stage import DIST

pytestmark = pytest.mark.browser
SOURCE = """---
jupytext:
  text_representation:
    format_name: myst
---

# A widget

<!-- colab-badge -->

```{code-cell}
REPOSITORY = ""
TAG = ""
from course_utils.widgets.divergences import kl_explorer

w = kl_explorer()
w.parts.spec = {**w.spec, "presets": w.spec["presets"][2:3], "alt": "One state."}
w
```
"""


@pytest.fixture(scope="module")
def page(browser):
    with stills.studio(browser) as opened:
        yield opened


def pixels(png: bytes) -> np.ndarray:
    """Return a picture's grey levels (H, W)."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("L"), float)


def test_every_preset_is_seen_and_no_control(page):
    png = stills.still(page, {"spec": divergences.KL.spec()})
    height, width = pixels(png).shape
    assert width == stills.SCALE * stills.WIDTH and len(png) < 200_000
    quarters = pixels(png)[: height // 4 * 4].reshape(4, height // 4, width)
    left, right = quarters[..., : width // 2], quarters[..., width // 2 :]
    for half in (left, right):
        differences = [np.abs(half[i] - half[j]).mean() for i in range(4) for j in range(i)]
        assert min(differences) > 0.2, differences
    one = replace(divergences.KL, presets=divergences.KL.presets[:1])
    assert height / 4 == pixels(stills.still(page, {"spec": one.spec()})).shape[0] < 1.5 * 450


@pytest.mark.parametrize("name", widgets.PICTURED)
def test_the_committed_pictures_are_those_of_the_present_widgets(page, name):
    now = pixels(stills.still(page, {"spec": widgets.PICTURED[name].spec()}))
    there = pixels((DIST / f"{name}.png").read_bytes())
    assert now.shape == there.shape, "make widgets"
    states = np.array_split(np.abs(now - there), len(widgets.PICTURED[name].presets))
    assert max(state.mean() for state in states) < 0.5, "make widgets"  # another Chromium smooths edges otherwise


def test_a_preset_that_can_not_be_drawn_is_named(page):
    broken = replace(divergences.KL, presets=[("Too far", {"mu": 99})])
    with pytest.raises(ValueError, match=r"widget 'kl', preset 'Too far': RangeError: mu = 99 is out of range"):
        stills.still(page, {"spec": broken.spec()})


def test_bytes_arrive_as_anywidget_hands_them_over(page):
    traits = {"spec": divergences.KL.spec(), "assets": {"inner": {}}}
    buffers = [{"path": ["assets", "inner", "w"], "data": base64.b64encode(b"\x07\xff").decode(), "encoding": "base64"}]
    stills.still(page, traits, buffers)
    view = "model.get('assets').inner.w"
    assert page.evaluate(f"[{view} instanceof DataView, {view}.byteLength, {view}.getUint8(0)]") == [True, 2, 7]


def test_a_notebook_gets_them(page, tmp_path):
    (tmp_path / "solutions").mkdir()
    (tmp_path / "solutions" / "07_small.md").write_text(SOURCE, "utf-8")
    (tmp_path / "pyproject.toml").write_text("[tool.course]\n")
    call = "import sys, pathlib; from course_tools import notebooks; notebooks.make(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", call, tmp_path], check=True)  # in this process a Chromium runs already
    one = stills.still(page, {"spec": replace(divergences.KL, presets=divergences.KL.presets[2:3]).spec()})
    (lecture,) = notebooks.all_lectures(tmp_path)
    for path in (lecture.twin, lecture.student):
        nb = nbformat.read(path, 4)
        (output,) = nb.cells[1].outputs
        assert stills.VIEW not in output.data and "widgets" not in nb.metadata
        assert output.metadata["image/png"] == {"alt": "One state.", "width": stills.WIDTH}
        assert base64.b64decode(output.data["image/png"]) == one
    assert notebooks.check(tmp_path) == []

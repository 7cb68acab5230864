"""Still pictures of widgets, for who reads a notebook that is not run: their own drawing, taken by Chromium."""

import base64
import copy
import functools
import http.server
import io
import json
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from nbformat import NotebookNode
from PIL import Image

from course_tools.browser import chromium, missing
from course_utils.errors import require
from course_utils.plots import small_png
from course_utils.widgets.stage import DIST, VIEW, WIDTH

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PAGE = Path(__file__).with_name("stage") / "page.html"
STATE = "application/vnd.jupyter.widget-state+json"
SCALE = 1.5  # pixels of a dense screen for each of a page
PATIENCE = 15_000  # milliseconds for one drawing
LOOKS = 20  # at a drawing, until two of them are the same
FONTS = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf")  # matplotlib's, so that letters are the same on every machine
CSS = """body { margin: 0 !important }
@font-face { font-family: Still; src: url(DejaVuSans.ttf) }
@font-face { font-family: Still; font-weight: bold; src: url(DejaVuSans-Bold.ttf) }
.stage, .stage * { font-family: Still !important }
.stage > :not(.view, .preset) { display: none !important }
.stage .preset { font-size: 16px; font-weight: bold; margin: 4px 0 0 }"""
POSE = """({ title, state }) => {
  const root = document.querySelector(".stage");
  root.querySelector(".preset")?.remove();
  const head = Object.assign(document.createElement("p"), { className: "preset", textContent: title });
  root.querySelector(".view").before(head);
  window.drawn = root.dataset.drawn;
  model.set("state", state);
}"""
SETTLED = """() => {
  const root = document.querySelector(".stage");
  return root.dataset.drawn !== window.drawn || !root.querySelector(".error").hidden;
}"""


# A plain page ------------------------------------------------------------------------------------------------------


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a line for each."""

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve the bundle of all widgets and a page for it from a folder; yield the page's address."""
    for path in (DIST / "course.js", PAGE):
        (folder / path.name).write_bytes(path.read_bytes())
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/{PAGE.name}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def studio(browser: "Browser") -> Iterator["Page"]:
    """Open a plain page, light and at rest, in which ``still`` takes its pictures."""
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as address:
        for name in FONTS:
            shutil.copy(Path(matplotlib.get_data_path(), "fonts", "ttf", name), folder)
        page = browser.new_page(
            viewport={"width": WIDTH, "height": 800},
            device_scale_factor=SCALE,
            color_scheme="light",
            reduced_motion="reduce",
        )
        page.set_default_timeout(PATIENCE)
        page.goto(address)
        page.wait_for_function("window.course !== undefined")
        page.add_style_tag(content=CSS)
        page.evaluate("Promise.all(['', 'bold'].map((weight) => document.fonts.load(`${weight} 13px Still`)))")
        yield page
        page.close()


# Pictures ----------------------------------------------------------------------------------------------------------


def still(page: "Page", traits: Mapping[str, Any], buffers: Sequence[Mapping] = ()) -> bytes:
    """Return a PNG of a widget's presets, one under the other, each below its title; WIDTH pixels wide, times SCALE.

    `page` is that of ``studio``; `traits` are the values of the widget's traits, without `buffers` (path, base64)
    as a notebook stores both. Raises ``ValueError`` for a preset that can't be drawn.
    """
    spec = traits["spec"]
    page.evaluate("(text) => put(text)", json.dumps(restored(traits, buffers), default=as_base64))
    try:
        frames = [frame(page, spec["name"], preset) for preset in spec["presets"]]
    finally:
        page.evaluate("leave()")
    return small_png(np.vstack(frames))


def as_base64(value: bytes) -> dict[str, str]:
    """Return bytes as the page revives them to a view, as anywidget does."""
    return {"base64": base64.b64encode(value).decode()}


def restored(traits: Mapping[str, Any], buffers: Sequence[Mapping]) -> dict[str, Any]:
    """Return the traits with the buffers where they were taken out."""
    traits = copy.deepcopy(dict(traits))
    for buffer in buffers:
        *way, last = buffer["path"]
        functools.reduce(lambda part, name: part[name], way, traits)[last] = {"base64": buffer["data"]}
    return traits


def frame(page: "Page", name: str, preset: Mapping[str, Any]) -> np.ndarray:
    """Return the pixels (H, W, 3) of one preset; ``ValueError`` where the widget shows an error or draws nothing."""
    from playwright.sync_api import TimeoutError

    what = f"widget {name!r}, preset {preset['title']!r}"
    page.evaluate(POSE, preset)
    try:
        page.wait_for_function(SETTLED)
    except TimeoutError:
        raise ValueError(f"{what}: nothing was drawn; without a kernel only its sprites can be") from None
    error = page.locator(".stage .error")
    require(error.get_attribute("hidden") is not None, f"{what}: {error.text_content()}")
    before, now = b"", page.locator(".stage").screenshot()
    for _ in range(LOOKS):  # what a browser decodes beside the script comes a moment later
        if now == before:
            break
        before, now = now, page.locator(".stage").screenshot()
    return np.asarray(Image.open(io.BytesIO(now)).convert("RGB"))


def illustrate(nb: NotebookNode, former: NotebookNode | None) -> str:
    """Give every output with a widget of the stage its picture; return a remark, empty if there is none.

    `nb` has just been run and has the widgets' state in its metadata. Without Chromium the pictures of the `former`
    notebook are kept, and the remark says so.
    """
    models = nb.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    places = [
        (cell, output, models[output.data[VIEW]["model_id"]])
        for cell in nb.cells
        for output in cell.get("outputs", [])
        if output.get("data", {}).get(VIEW, {}).get("model_id") in models
    ]
    places = [(cell, output, model) for cell, output, model in places if "parts" in model["state"]]
    if places and missing():
        kept = [keep(output, cell.id, former) for cell, output, _ in places]
        return f"pictures of widgets: {sum(kept)} of {len(kept)} kept as they were, none made ({missing()})"
    if places:
        with chromium() as browser, studio(browser) as page:
            for _, output, model in places:
                parts = models[model["state"]["parts"].removeprefix("IPY_MODEL_")]
                png = still(page, parts["state"], parts.get("buffers", []))
                output.data["image/png"] = base64.b64encode(png).decode()
                output.metadata["image/png"] = {"alt": parts["state"]["spec"]["alt"], "width": WIDTH}
    return ""


def keep(output: NotebookNode, cell_id: str, former: NotebookNode | None) -> bool:
    """Give an output the picture that it had in this cell of the former notebook; tell whether there was one."""
    for cell in former.cells if former else []:
        for old in cell.get("outputs", []) if cell.get("id") == cell_id else []:
            same = old.get("data", {}).get("text/plain") == output.data.get("text/plain")
            if same and "image/png" in old.data:
                output.data["image/png"] = old.data["image/png"]
                output.metadata["image/png"] = old.metadata.get("image/png", {})
                return True
    return False

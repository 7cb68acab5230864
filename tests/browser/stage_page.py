"""A plain page with the bundle of all widgets: no kernel, no JupyterLab, nothing from another host."""

import functools
import http.server
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, Page

from course_utils.widgets.stage import DIST, Declaration

HTML = """<!doctype html><html lang="en"><meta charset="utf-8"><title>A widget</title>
<link rel="icon" href="data:,"><body style="margin: 8px"></body>
<script type="module">
import * as course from "./course.js";
window.course = course;
window.plain = (value) => JSON.stringify(value, (_, v) => (ArrayBuffer.isView(v) ? Array.from(v) : v));
window.put = (spec) => {
  window.model = course.plainModel({ spec, state: spec.start });
  window.leave = course.render({ model, el: document.body });
};
</script></html>"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a line for each."""

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve the bundle and a page for it from a folder; yield the page's address."""
    (folder / "course.js").write_bytes((DIST / "course.js").read_bytes())
    (folder / "page.html").write_text(HTML, "utf-8")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/page.html"
        finally:
            server.shutdown()
            thread.join()


class Stage:
    """A page that may hold one widget; notes complaints of the console, and requests to other hosts."""

    def __init__(self, browser: Browser, address: str, width: int = 1000, dark: bool = False):
        scheme = "dark" if dark else "light"
        self.context = browser.new_context(viewport={"width": width, "height": 700}, color_scheme=scheme)
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda e: self.complaints.append(str(e)))
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type == "error" else None)
        self.page.on("request", lambda r: None if r.url.startswith(("data:", "blob:")) else self.asked(r.url, address))
        self.page.goto(address)
        self.page.wait_for_function("window.course !== undefined")

    def asked(self, url: str, address: str) -> None:
        """Complain of a request to another host; a page's icon is asked for by the browser."""
        if not url.startswith(address.rsplit("/", 1)[0]):
            self.complaints.append(f"asked {url}")

    def computed(self, declaration: Declaration, states: Sequence[Mapping]) -> list[dict]:
        """Return what JavaScript computes for states."""
        told = {"spec": declaration.spec(), "states": list(states)}
        text = self.page.evaluate(
            "({ spec, states }) => plain(states.map((state) => course.widgets[spec.name].compute(state, spec)))", told
        )
        return json.loads(text)

    def mount(self, declaration: Declaration) -> Locator:
        """Put a widget on the page."""
        self.page.evaluate("(spec) => put(spec)", declaration.spec())
        return self.page.locator(".stage")

    def state(self) -> dict:
        """Return the state of the widget on the page."""
        return self.page.evaluate("model.get('state')")

    def close(self) -> None:
        self.context.close()

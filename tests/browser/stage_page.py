"""A plain page with the bundle of all widgets: no kernel, no JupyterLab, nothing from another host."""

import json
from collections.abc import Callable, Mapping, Sequence

from playwright.sync_api import Browser, Locator, Page

from course_tools.stills import as_base64
from course_tools.stills import served as served  # the page's address
from course_utils.widgets.stage import Declaration


class Stage:
    """A page that may hold one widget; notes complaints of the console, and requests to other hosts."""

    def __init__(self, browser: Browser, address: str, width: int = 1000, dark: bool = False, touch: bool = False):
        scheme = "dark" if dark else "light"
        size = {"width": width, "height": 700}
        self.context = browser.new_context(viewport=size, color_scheme=scheme, has_touch=touch)
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
        told = json.dumps([declaration.spec() | {"assets": dict(declaration.assets)}, list(states)], default=as_base64)
        code = """(text) => {
          const [spec, states] = JSON.parse(text, revived);
          return plain(states.map((state) => course.widgets[spec.name].compute(state, spec)));
        }"""
        return json.loads(self.page.evaluate(code, told))

    def mount(self, declaration: Declaration) -> Locator:
        """Put a widget on the page."""
        told = {"spec": declaration.spec(), "assets": dict(declaration.assets), "sprites": declaration.sprites()}
        self.page.evaluate("(text) => put(text)", json.dumps(told, default=as_base64))
        return self.page.locator(".stage")

    def after(self, act: Callable[[], object]) -> None:
        """Act, and wait until the widget was drawn again."""
        before = int(self.page.locator(".stage").get_attribute("data-drawn"))
        act()
        self.page.wait_for_function("n => document.querySelector('.stage').dataset.drawn > n", arg=before)

    def state(self) -> dict:
        """Return the state of the widget on the page."""
        return self.page.evaluate("model.get('state')")

    def close(self) -> None:
        self.context.close()

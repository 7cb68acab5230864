"""A real JupyterLab in a real Chromium, for tests and benchmarks: start, open a notebook, run it, move its widgets."""

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import nbformat
from playwright.sync_api import Browser, Locator, Page

from course_tools.bootstrap import write_settings

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    # else only the cells in view are in the page
    "@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": {"fetchNews": "false", "checkForUpdates": False},
}
PICTURE = """root => root.querySelector('.view').innerHTML
  + [...root.querySelectorAll('canvas')].map(canvas => canvas.toDataURL())"""


@contextlib.contextmanager
def jupyter_lab(notebooks: Path, home: Path, theme: str = "JupyterLab Light") -> Iterator[str]:
    """Serve the folder `notebooks`, with all of JupyterLab's own files in `home`; yield an address with a `{}`.

    The token goes by the environment, so that no list of processes shows it. Raises ``RuntimeError`` with the server's
    log if it doesn't answer within a minute.
    """
    themes = {"@jupyterlab/apputils-extension/themes.jupyterlab-settings": {"theme": theme}}
    for name, setting in {**SETTINGS, **themes}.items():
        path = home / "settings" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(setting), "utf-8")
    write_settings(str(home))  # as in the environment that bootstrap makes
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    folders = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_CONFIG_PATH": "etc/jupyter",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
    }
    environment = {**os.environ, "JUPYTER_TOKEN": token, **{name: str(home / f) for name, f in folders.items()}}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
    command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={notebooks}"]
    command += ["--LabApp.news_url=", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    command += ["--LabApp.extension_manager=readonly"]
    log = home / "lab.log"
    with log.open("w", encoding="utf-8") as out:
        server = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT)
    try:
        wait_for_server(f"http://127.0.0.1:{port}/api/status?token={token}", server, log)
        yield f"http://127.0.0.1:{port}/lab/tree/{{}}?token={token}&reset"
    finally:
        server.terminate()  # JupyterLab ends its kernels first
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


def wait_for_server(address: str, server: subprocess.Popen, log: Path) -> None:
    """Return when the server answers; raise ``RuntimeError`` with its log if it doesn't."""
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(address, timeout=2)
            return
        except OSError as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"JupyterLab did not start:\n{log.read_text('utf-8')}") from error
            time.sleep(0.1)


def write_notebook(path: Path, sources: Sequence[str]) -> None:
    """Write a notebook that was not run yet, a code cell for each of the sources; folders are made."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [nbformat.v4.new_code_cell(textwrap.dedent(source).strip()) for source in sources]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


@contextlib.contextmanager
def session(notebooks: Path, home: Path, browser: Browser) -> Iterator[Callable[[str], "Notebook"]]:
    """Run JupyterLab on a folder; yield a function that opens a notebook by its name in the browser."""
    opened: list[Notebook] = []

    def open_notebook(name: str) -> Notebook:
        opened.append(Notebook(browser, address, name))
        return opened[-1]

    with jupyter_lab(notebooks, home) as address:
        yield open_notebook
        for notebook in opened:
            notebook.close()


class Notebook:
    """A notebook open in a page of 1280 by 1000 pixels; `complaints` are the errors in the page's console."""

    def __init__(self, browser: Browser, address: str, name: str):
        self.context = browser.new_context(viewport={"width": 1280, "height": 1000})
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(f"page error: {error}"))
        self.page.on("console", lambda m: self.complaints.append(f"console: {m.text}") if m.type == "error" else None)
        self.page.goto(address.format(name), wait_until="domcontentloaded")
        self.page.wait_for_selector(".jp-NotebookPanel .jp-CodeCell", timeout=90_000)
        self.wait_idle(90)

    def wait_idle(self, seconds: float) -> None:
        """Wait for the kernel; the cells' own indicator says idle before the kernel is connected."""
        idle = '#jp-main-statusbar :text-matches("Python 3 .*\\\\| Idle")'
        self.page.wait_for_selector(idle, timeout=seconds * 1000)

    def run_all(self, seconds: float = 300) -> None:
        """Run all cells and wait for the end; an error in a cell ends the run too."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        waiting = (
            "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].some(e => e.textContent.includes('*'))"
        )
        self.page.wait_for_function(waiting, timeout=20_000)
        self.page.wait_for_function(f"!{waiting}", timeout=seconds * 1000)
        self.wait_idle(30)

    def run_cell(self, i: int, source: str | None = None, wait: bool = True) -> None:
        """Run one cell, as it is or with another source; wait until it has ended."""
        self.page.locator(".jp-Notebook .jp-CodeCell").nth(i).locator(".cm-content").click()
        if source is not None:
            self.page.keyboard.press("Control+a")
            self.page.keyboard.type(source)
        self.page.keyboard.press("Control+Enter")
        if wait:
            self.page.wait_for_timeout(100)
            self.wait_idle(60)

    def errors(self) -> list[str]:
        """Return the texts of all error outputs."""
        return self.page.locator(
            '.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.error"]'
        ).all_inner_texts()

    def not_run(self) -> list[str]:
        """Return the sources of code cells that have a source and no execution number."""
        return self.page.evaluate("""() => [...document.querySelectorAll('.jp-Notebook .jp-CodeCell')]
          .filter(cell => !/\\d/.test(cell.querySelector('.jp-InputPrompt').textContent))
          .map(cell => cell.querySelector('.jp-InputArea-editor')?.textContent ?? '').filter(text => text.trim())""")

    def widget(self, source: str) -> "Widget":
        """Return the widget of the code cell whose source contains this text."""
        cell = self.page.locator(".jp-Notebook .jp-CodeCell", has=self.page.locator(".cm-content", has_text=source))
        return Widget(self.page, cell.first)

    def close(self) -> None:
        self.context.close()


class Widget:
    """A widget of the course in the output of a cell; `root` is its stage."""

    def __init__(self, page: Page, cell: Locator):
        self.page, self.cell = page, cell
        self.output = cell.locator(".jp-Cell-outputArea")
        self.root = self.output.locator(".stage[data-drawn]")

    def control(self, name: str) -> Locator:
        """Return the slider, choice or switch with this name."""
        return self.root.locator(f"[name={name}]")

    def button(self, label: str) -> Locator:
        """Return the button with this label."""
        return self.output.get_by_role("button", name=label, exact=True)

    def picture(self) -> str:
        """Wait until nothing is drawn any more, and return the picture: all of its lines, and its pixels."""
        before = None
        while (now := self.root.evaluate(PICTURE)) != before:
            before = now
            self.page.wait_for_timeout(300)
        return now

    def changed(self, before: str) -> str:
        """Wait until the picture is another one, and return it."""
        another = f"([root, before]) => ({PICTURE})(root) !== before"
        self.page.wait_for_function(another, arg=[self.root.element_handle(), before])
        return self.picture()

    def press_button(self, label: str, key: str = "Space", back: bool = False, tabs: int = 30) -> None:
        """Go to a button by the Tab key from wherever the focus is, forwards or back, and press it by a key."""
        for _ in range(tabs):
            if self.page.evaluate("document.activeElement.textContent.trim()") == label:
                self.page.keyboard.press(key)
                return
            self.page.keyboard.press("Shift+Tab" if back else "Tab")
        raise AssertionError(f"button {label!r} is not reached by {tabs} presses of Tab")

    def overflow(self) -> list[str]:
        """Return what is wider than its place, sticks out of the output, or scrolls."""
        return self.output.evaluate("""output => {
          const limit = output.getBoundingClientRect().right + 1, found = [];
          for (const e of [output, ...output.querySelectorAll('*')]) {
            const style = getComputedStyle(e), box = e.getBoundingClientRect();
            const scrolls = [style.overflowX, style.overflowY].some(o => o === 'auto' || o === 'scroll');
            const cut = e.closest('[clip-path]'); // what lies outside of it is not drawn
            if (box.width && box.right > limit && !cut) found.push(`${e.className} sticks out`);
            if (scrolls && (e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 1))
              found.push(`${e.className} scrolls`);
          }
          return found;
        }""")

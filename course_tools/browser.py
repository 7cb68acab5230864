"""The Chromium or Chrome that is installed here. Playwright, which drives it, is imported when it starts."""

import contextlib
import importlib.util
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

from course_tools.doctor import BROWSERS

if TYPE_CHECKING:
    from playwright.sync_api import Browser

INSTALL = (
    "no Chromium found; install it with: sudo apt-get install -y --no-install-recommends chromium fonts-dejavu-core"
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


def find_chromium() -> str | None:
    """Return the path of an installed Chromium or Chrome, or None."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def missing() -> str:
    """Return what is to be installed before ``chromium`` can run, empty if nothing is."""
    if importlib.util.find_spec("playwright") is None:
        return "no Playwright found; install it with: pip install -e '.[lab,test]'"
    return "" if find_chromium() else INSTALL


@contextlib.contextmanager
def chromium() -> Iterator["Browser"]:
    """Run the Chromium that is installed, without a window. Only one can run in a process at a time."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS, headless=True)
        try:
            yield browser
        finally:
            browser.close()

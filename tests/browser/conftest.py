"""One JupyterLab on a copy of the lectures and one Chromium for all browser tests."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parent))

import lab  # noqa: E402  (beside this file)


@pytest.fixture(scope="session")
def open_notebook(tmp_path_factory):
    """Return a function that opens a lecture by name, as a ``lab.Notebook``.

    Without a Chromium the tests are skipped; with COURSE_REQUIRE_BROWSER=1 they fail.
    """
    if lab.find_chromium() is None:
        if os.environ.get("COURSE_REQUIRE_BROWSER") == "1":
            pytest.fail(lab.INSTALL, pytrace=False)
        pytest.skip(lab.INSTALL)
    home = tmp_path_factory.mktemp("jupyter")
    lectures = home / "lectures"
    shutil.copytree(lab.ROOT / "lectures", lectures, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    opened = []

    def open_lecture(name: str) -> lab.Notebook:
        opened.append(lab.Notebook(browser, address, name))
        return opened[-1]

    with lab.jupyter_lab(lectures, home) as address, sync_playwright() as p, lab.chromium(p) as browser:
        yield open_lecture
        for notebook in opened:
            notebook.close()

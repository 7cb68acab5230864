"""One Chromium for all browser tests, and one JupyterLab on a copy of the lectures, whose trainings are short there."""

import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import lab  # noqa: E402  (beside this file)
import stage_page  # noqa: E402

from course_tools import widgets  # noqa: E402
from course_tools.browser import INSTALL, chromium, find_chromium  # noqa: E402

SHORT = ("budget = 1.0", "budget = 0.05")  # nbval runs the lectures at full length


@pytest.fixture(scope="session")
def browser():
    """Return the one Chromium. Without one the tests are skipped; with COURSE_REQUIRE_BROWSER=1 they fail."""
    if find_chromium() is None:
        if os.environ.get("COURSE_REQUIRE_BROWSER") == "1":
            pytest.fail(INSTALL, pytrace=False)
        pytest.skip(INSTALL)
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="session")
def address(tmp_path_factory):
    """Return the address of a plain page with the bundle of all widgets."""
    with stage_page.served(tmp_path_factory.mktemp("page")) as found:
        yield found


@pytest.fixture(scope="module")
def bare(browser, address):
    """Return a plain page without a widget, to compute in; in the end it may not have complained."""
    opened = stage_page.Stage(browser, address)
    yield opened
    assert opened.complaints == []
    opened.close()


@pytest.fixture
def put(browser, address):
    """Return a function that puts a widget on a page of its own; in the end no page may have complained."""
    opened = []

    def mounted(declaration, **options):
        opened.append(stage_page.Stage(browser, address, **options))
        return opened[-1], opened[-1].mount(declaration)

    yield mounted
    for stage in opened:
        assert stage.complaints == []
        assert stage.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        stage.close()


@pytest.fixture(scope="session")
def axe():
    """Return the path of axe-core, which npm installs. Without node: skipped; with COURSE_REQUIRE_NODE=1 a failure."""
    try:
        return widgets.modules() / "axe-core" / "axe.min.js"
    except ValueError as error:
        if os.environ.get("COURSE_REQUIRE_NODE") == "1":
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def open_notebook(browser, tmp_path_factory):
    """Return a function that opens a lecture by name, as a ``lab.Notebook``."""
    home = tmp_path_factory.mktemp("jupyter")
    lectures = home / "lectures"
    shutil.copytree(lab.ROOT / "lectures", lectures, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    for path in lectures.glob("*.ipynb"):
        text = path.read_text("utf-8")
        assert text.count(SHORT[0]) == 1, f"{path.name}: no single line {SHORT[0]}"
        path.write_text(text.replace(*SHORT), "utf-8")
    with lab.session(lectures, home, browser) as open_lecture:
        yield open_lecture

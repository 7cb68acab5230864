"""A notebook that a student saved, opened again the next day: its kernel is gone, its widgets are not."""

import json
import re

import lab
import pytest
from playwright.sync_api import expect

from course_tools.stills import STATE

pytestmark = pytest.mark.browser
NAME = "saved.ipynb"


@pytest.fixture(scope="module")
def folders(browser, tmp_path_factory):
    """Return the folder with a notebook that was run and saved in JupyterLab, and the folder of JupyterLab's files."""
    home = tmp_path_factory.mktemp("jupyter")
    notebooks = home / "notebooks"
    source = "from course_utils.widgets.divergences import kl_explorer\n\nkl_explorer()"
    lab.write_notebook(notebooks / NAME, [source])
    with lab.session(notebooks, home, browser) as open_notebook:
        notebook = open_notebook(NAME)
        notebook.run_all()
        notebook.page.locator(".stage").wait_for()
        notebook.page.keyboard.press("Control+s")
        notebook.page.locator(".jp-Document .jp-mod-dirty, .lm-TabBar-tab.jp-mod-dirty").wait_for(state="detached")
    return notebooks, home


@pytest.fixture
def reopen(browser, folders):
    """Return a function that opens a notebook in a JupyterLab started anew."""
    notebooks, home = folders
    with lab.session(notebooks, home, browser) as open_notebook:
        yield open_notebook


def picture_stands(page) -> None:
    """Hold that the saved picture is there, and no complaint in its place."""
    picture = page.locator(".jp-OutputArea-output img")
    picture.wait_for()
    assert picture.evaluate("image => image.naturalWidth") == 1410
    expect(page.get_by_text(re.compile("model not found", re.I))).to_have_count(0)


def test_the_widget_lives_without_its_kernel(folders, reopen):
    saved = json.loads((folders[0] / NAME).read_text("utf-8"))
    assert STATE in saved["metadata"]["widgets"]
    page = reopen(NAME).page
    stage = page.locator(".stage")
    stage.wait_for()
    curve = stage.locator("[data-key=p]").first
    before = curve.get_attribute("d")
    stage.locator("input[name=separation]").press("ArrowRight")
    expect(stage.locator(".value").first).to_have_text("5.10")
    expect(curve).not_to_have_attribute("d", before)
    expect(page.get_by_text(re.compile("model not found", re.I))).to_have_count(0)


def test_where_the_notebook_is_not_trusted_the_picture_stands(folders, reopen):
    notebooks, _ = folders
    text = (notebooks / NAME).read_text("utf-8")
    (notebooks / "foreign.ipynb").write_text(text.replace("kl_explorer()", "kl_explorer(seed=0)"), "utf-8")
    page = reopen("foreign.ipynb").page
    picture_stands(page)


def test_without_any_kernel_the_picture_stands(folders, browser):
    """No kernel is installed for the notebook's language, and the student chooses none."""
    notebooks, home = folders
    saved = json.loads((notebooks / NAME).read_text("utf-8"))
    elsewhere = {
        "kernelspec": {"name": "elsewhere", "display_name": "Elsewhere"},
        "language_info": {"name": "elsewhere"},
    }
    saved["metadata"] |= elsewhere
    (notebooks / "lonely.ipynb").write_text(json.dumps(saved), "utf-8")
    with lab.jupyter_lab(notebooks, home) as address:
        page = browser.new_page()
        page.goto(address.format("lonely.ipynb"), wait_until="domcontentloaded")
        dialog = page.locator(".jp-Dialog")
        dialog.locator("select").select_option(label="No Kernel", timeout=90_000)
        dialog.locator("button.jp-mod-accept").click()
        expect(page.get_by_text("No Kernel", exact=True).first).to_be_visible()
        picture_stands(page)
        page.close()

"""The bundle of all widgets that students get: small enough for a notebook, and what its sources make."""

import gzip
import os
import shutil

import pytest

from course_tools import widgets
from course_utils.widgets.stage import DIST

BUNDLE = DIST / "course.js"


def test_it_is_small():
    assert BUNDLE.stat().st_size <= 250_000
    assert len(gzip.compress(BUNDLE.read_bytes())) <= 80_000


def test_it_asks_no_other_host_for_anything():
    text = BUNDLE.read_text("utf-8")
    assert "import(" not in text and "fetch(" not in text and "//cdn" not in text
    assert "XMLHttpRequest" not in text


@pytest.fixture
def node():
    """Skip where the bundle can't be made; with COURSE_REQUIRE_NODE=1 its tests fail there."""
    if os.environ.get("COURSE_REQUIRE_NODE") == "1":
        return
    installed = (widgets.STAGE / "node_modules").is_dir()
    if not (shutil.which("node") and shutil.which("npm") and installed):
        pytest.skip("no node, or nothing installed by it yet: make widgets")


def test_it_is_what_its_sources_make(node):
    assert widgets.bundle(check=True), "stale; run: make widgets"


def test_a_stale_one_is_told(node, tmp_path, monkeypatch, capfd):
    copy = tmp_path / "course_tools" / "stage"
    shutil.copytree(widgets.STAGE, copy, ignore=shutil.ignore_patterns("node_modules"))
    (copy / "node_modules").symlink_to(widgets.STAGE / "node_modules")
    sources = tmp_path / "course_utils" / "widgets"
    shutil.copytree(DIST.parent, sources, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    monkeypatch.setattr(widgets, "STAGE", copy)
    assert widgets.bundle(check=True)
    script = sources / "stage.js"
    script.write_text(script.read_text("utf-8").replace('"Reset"', '"Back"'), "utf-8")
    assert not widgets.bundle(check=True)
    assert "make widgets" in capfd.readouterr().err
    assert widgets.bundle() and widgets.bundle(check=True)


def test_without_node_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr(widgets.shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match="no node or npm found; install them with: .* nodejs npm"):
        widgets.bundle()


@pytest.mark.parametrize("name", widgets.PICTURED)
def test_a_widget_that_needs_no_network_has_its_picture(name):
    assert (DIST / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_without_chromium_the_pictures_stay(monkeypatch, capsys):
    monkeypatch.setattr(widgets, "missing", lambda: "no Chromium found")
    assert widgets.stills() == []
    assert "stay as they were: no Chromium found" in capsys.readouterr().err

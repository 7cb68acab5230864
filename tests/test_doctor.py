"""The doctor's report: here nothing is wrong, and each fault is named with the command that mends it."""

import re
import sys
from importlib import metadata

import pytest

from course_tools import doctor


def lines_of(text: str) -> dict[str, str]:
    """Return each line of a report, with the command under it, by its name."""
    return {block.split()[1]: block for block in re.findall(r"^[✓!✗] .*(?:\n +→.*)?", text, re.M)}


@pytest.fixture
def without(monkeypatch):
    """A function that makes a package look as if it was not installed."""
    version = metadata.version

    def hide(*names: str) -> None:
        def hidden(name: str) -> str:
            if name in names:
                raise metadata.PackageNotFoundError(name)
            return version(name)

        monkeypatch.setattr(doctor.metadata, "version", hidden)

    return hide


def test_all_is_well_here(capsys):
    text, problems = doctor.report()
    assert problems == []
    assert "✗" not in text
    named = ["python", "course-utils", "torch", "torchvision", "jupyterlab", "ipywidgets", "anywidget", "jupytext"]
    named += ["papermill", "device", "memory", "disk", "digits", "mnist", "fashion_mnist", "widgets", "chromium"]
    assert set(named) <= set(lines_of(text))
    assert f" {metadata.version('torch')}" in lines_of(text)["torch"]
    assert len(text.splitlines()) <= 40  # one screen
    assert doctor.main() == 0
    assert "All that the course needs" in capsys.readouterr().out


def test_missing_package(without, capsys):
    without("jupytext")
    line = lines_of(doctor.report()[0])["jupytext"]
    assert line.startswith("✗")
    assert re.search(r'→ \S+ -m pip install --upgrade "jupytext>=1\.16"$', line)
    assert doctor.main() == 1
    assert "To mend: jupytext." in capsys.readouterr().out


def test_package_that_only_the_tests_need_is_a_remark(without):
    without("nbval")
    text, problems = doctor.report()
    assert lines_of(text)["nbval"].startswith("!")
    assert problems == []


def test_old_package(monkeypatch):
    version = metadata.version
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "7.6.5" if name == "ipywidgets" else version(name))
    text, problems = doctor.report()
    assert "ipywidgets" in problems
    assert "7.6.5, needed: >=7.7" in text


@pytest.mark.parametrize("version", ["7.7.1", "8.1.9"])
def test_widgets_of_colab_and_of_now_fit(version):
    assert doctor.fits(version, ">=7.7,<9")
    assert not doctor.fits("9.0", ">=7.7,<9")


@pytest.mark.parametrize("name", ["torch", "torchvision"])
def test_package_that_does_not_load(monkeypatch, name):
    load = doctor.importlib.import_module

    def broken(wanted: str) -> object:
        if wanted == name:
            raise RuntimeError("operator torchvision::nms does not exist\nmore")
        return load(wanted)

    monkeypatch.setattr(doctor.importlib, "import_module", broken)
    text, problems = doctor.report()
    assert problems == [name]
    assert "does not load: RuntimeError: operator torchvision::nms does not exist" in lines_of(text)[name]
    assert 'pip install --upgrade "torch" "torchvision"' in lines_of(text)[name]


def test_course_not_installed(without, monkeypatch):
    without("course-utils")
    assert "-m pip install -r requirements.txt" in doctor.install_all() or "bootstrap.py" in doctor.install_all()
    text, problems = doctor.report()
    assert problems == ["course-utils"]
    assert doctor.install_all() in lines_of(text)["course-utils"]
    monkeypatch.setattr(sys, "prefix", "/usr")
    assert doctor.install_all().endswith("course_tools/bootstrap.py")


def test_data_found_and_not_found(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    raw = tmp_path / "MNIST/raw"
    raw.mkdir(parents=True)
    for part in ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte"):
        (raw / part).write_bytes(b"")
    line = lines_of(doctor.report()[0])["mnist"]
    assert line.startswith("!")
    assert "data.load('mnist')" in line
    (raw / "t10k-labels-idx1-ubyte").write_bytes(b"")
    text = lines_of(doctor.report()[0])
    assert text["mnist"].startswith("✓")
    assert text["fashion_mnist"].startswith("!")


def test_no_browser_is_a_remark_with_its_remedy(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    line = lines_of(doctor.report()[0])["chromium"]
    assert line.startswith("!")
    assert "install" in line.splitlines()[1]


def test_full_disk(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10**8}))
    text, problems = doctor.report()
    assert problems == ["disk"]
    assert "pip cache purge" in text


def test_a_check_that_crashes_is_a_line(monkeypatch):
    def crash():
        raise OSError("broken beyond words")

    monkeypatch.setattr(doctor, "CHECKS", (crash, *doctor.CHECKS))
    text, problems = doctor.report()
    assert problems == ["crash"]
    assert "OSError: broken beyond words" in text
    assert "digits" in text


def test_memory_agrees_with_the_machine():
    total, free = doctor.memory_gib()
    assert 0.1 < total < 10_000
    assert free != free or 0 < free <= total

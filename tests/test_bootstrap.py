"""The environment's maker, in a course of its own: an empty folder with requirements that need no network."""

import ast
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

from course_tools import bootstrap

pytestmark = pytest.mark.slow
Usage = namedtuple("Usage", "total used free")
PROJECT = '[project]\nname = "tiny-course"\ndependencies = ["tiny"]\n'


def make_wheel(folder: Path) -> None:
    """Write the package `tiny`, a wheel with one empty module, into `folder`."""
    info = "tiny-1.0.dist-info"
    with zipfile.ZipFile(folder / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.py", "")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"tiny.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


@pytest.fixture(scope="module")
def made_once(tmp_path_factory) -> Path:
    """A small course whose environment holds only `tiny`, made by the script as a user would call it."""
    root = tmp_path_factory.mktemp("course")
    (root / "course_tools").mkdir()
    shutil.copy(bootstrap.__file__, root / "course_tools")
    (root / "requirements.txt").write_text("./tiny-1.0-py3-none-any.whl\n")
    (root / "pyproject.toml").write_text(PROJECT)
    make_wheel(root)
    with pytest.MonkeyPatch.context() as patch:
        away(patch)
        patch.setattr(bootstrap, "ROOT", root)
        patch.setattr(bootstrap.shutil, "disk_usage", lambda path: Usage(10**11, 0, 10**11))
        assert bootstrap.main() == 0
    return root


@pytest.fixture
def course(made_once, monkeypatch) -> Path:
    """The small course with its environment as the installation left it, and this process set to work on it."""
    away(monkeypatch)
    monkeypatch.setattr(bootstrap, "ROOT", made_once)
    monkeypatch.setattr(bootstrap, "ESSENTIAL", ("tiny",))
    monkeypatch.setattr(bootstrap.shutil, "disk_usage", lambda path: Usage(10**11, 0, 10**11))
    (made_once / "requirements.txt").write_text("./tiny-1.0-py3-none-any.whl\n")
    (made_once / "pyproject.toml").write_text(PROJECT)
    assert bootstrap.main() == 0
    return made_once


@pytest.fixture
def empty(tmp_path, monkeypatch) -> Path:
    """A small course without an environment."""
    away(monkeypatch)
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    (tmp_path / "requirements.txt").write_text("")
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    return tmp_path


def away(monkeypatch) -> None:
    """Turn pip to a package index that no one serves, and away from what the machine has configured."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("NO_PROXY", "*")


def has_tiny(root: Path) -> bool:
    """Tell whether the environment of the course in `root` imports `tiny`."""
    return (
        subprocess.run([str(root / ".venv/bin/python"), "-c", "import tiny"], stderr=subprocess.DEVNULL).returncode == 0
    )


def test_installs_and_the_second_call_runs_no_pip(course, monkeypatch):
    assert has_tiny(course)
    monkeypatch.setattr(bootstrap, "install", lambda: pytest.fail("pip was run again"))
    assert bootstrap.main() == 0


def test_jupyterlab_saves_widgets_with_a_notebook(course):
    (file,) = (course / ".venv/etc/jupyter/labconfig/default_setting_overrides.d").iterdir()
    assert json.loads(file.read_text())["@jupyter-widgets/jupyterlab-manager:plugin"] == {"saveState": True}


def test_script_says_how_to_go_on(course):
    script = [sys.executable, "course_tools/bootstrap.py"]
    environment = {key: value for key, value in os.environ.items() if key != "MAKELEVEL"}
    done = subprocess.run(script, cwd=course, env=environment, capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stderr) == (0, "")
    assert ".venv/bin/python -m jupyterlab lectures" in done.stdout


@pytest.mark.parametrize("change", ["requirements.txt", "pyproject.toml"])
def test_changed_requirements_run_pip_again(course, monkeypatch, change):
    calls = []
    monkeypatch.setattr(bootstrap, "install", lambda: calls.append(1))
    if change == "requirements.txt":
        (course / change).write_text("./tiny-1.0-py3-none-any.whl\n# more\n")
    else:
        (course / change).write_text(PROJECT.replace('"tiny"]', '"tiny>=1"]'))
    assert [bootstrap.main(), bootstrap.main(), len(calls)] == [0, 0, 1]


def test_other_changes_of_pyproject_do_not(course, monkeypatch):
    monkeypatch.setattr(bootstrap, "install", lambda: pytest.fail("pip was run again"))
    (course / "pyproject.toml").write_text(PROJECT + "[tool.ruff]\nline-length = 99\n")
    assert bootstrap.main() == 0


def test_interrupted_installation_goes_on(course, capsys, monkeypatch):
    (course / ".venv/stamp.json").unlink()
    (packages,) = (course / ".venv").glob("lib/python*/site-packages")
    (packages / "tiny.py").unlink()  # as if cut off while `tiny` was unpacked: its record stands, the module does not
    (packages / "tiny-1.0.dist-info/INSTALLER").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(bootstrap, "install", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
        assert bootstrap.main() == 130
        assert "goes on" in capsys.readouterr().err
    assert not has_tiny(course)
    assert bootstrap.main() == 0
    assert has_tiny(course)


def test_environment_without_its_python_is_made_anew(course):
    (course / ".venv/bin/python").unlink()
    (course / ".venv/bin/python").symlink_to(course / "no-such-python")
    assert bootstrap.main() == 0
    assert has_tiny(course)


def test_moved_environment_is_made_anew(course, tmp_path, monkeypatch):
    moved = tmp_path / "elsewhere"
    shutil.copytree(course, moved, symlinks=True)
    monkeypatch.setattr(bootstrap, "ROOT", moved)
    for stamp in ("with", "without"):
        if stamp == "without":
            (moved / ".venv/stamp.json").unlink()
            config = moved / ".venv/pyvenv.cfg"
            config.write_text(config.read_text().replace(str(moved), str(course)))
        assert bootstrap.was_moved()
        assert bootstrap.main() == 0
        assert not bootstrap.was_moved()
        assert json.loads((moved / ".venv/stamp.json").read_text())["folder"] == str(moved / ".venv")
        assert str(moved) in (moved / ".venv/bin/activate").read_text()


@pytest.mark.parametrize("name", ["Übung", "Álvaro", "Анна", "講義"])
def test_a_folder_of_any_name_is_not_taken_for_moved(tmp_path, name):
    """Whatever the system's encoding is, cp1252 say: no file is read or written in it."""
    folder = tmp_path / name / ".venv"
    folder.mkdir(parents=True)
    (folder / "pyvenv.cfg").write_text(f"home = /usr/bin\ncommand = /usr/bin/python3 -m venv {folder}\n", "utf-8")
    code = (
        "import pathlib, sys\nfrom course_tools import bootstrap\nbootstrap.ROOT = pathlib.Path(sys.argv[1])\n"
        "assert not bootstrap.was_moved()\nbootstrap.write_stamp({'folder': str(bootstrap.venv())})\n"
        "assert not bootstrap.was_moved()\nbootstrap.write_stamp({'folder': 'another'})\nassert bootstrap.was_moved()"
    )
    strict = ["-X", "warn_default_encoding", "-W", "error::EncodingWarning"]
    command = [sys.executable, *strict, "-c", code, str(folder.parent)]
    done = subprocess.run(command, cwd=bootstrap.__file__.rsplit("/", 2)[0], capture_output=True)
    assert done.returncode == 0, done.stderr


def test_two_calls_at_once_install_once(course, monkeypatch, capsys):
    (course / ".venv/stamp.json").unlink()
    installed = []

    def by_the_other_call(seconds):
        installed.append(seconds)
        bootstrap.write_stamp(bootstrap.wanted_stamp(bootstrap.venv_version()))
        other.close()

    monkeypatch.setattr(bootstrap, "install", lambda: pytest.fail("pip was run a second time"))
    monkeypatch.setattr(bootstrap.time, "sleep", by_the_other_call)
    (course / "build").mkdir(exist_ok=True)
    with (course / "build/bootstrap.lock").open("ab") as other:
        assert bootstrap.try_lock(other)
        assert bootstrap.main() == 0
    assert len(installed) == 1 and "Another call is installing here" in capsys.readouterr().out


def test_changed_requirements_without_a_network_warn_and_go_on(course, capsys):
    before = bootstrap.read_stamp()
    (course / "requirements.txt").write_text("./tiny-1.0-py3-none-any.whl\nno-such-package-of-ours\n")
    assert bootstrap.main() == 0
    assert "Warning: the course's requirements have changed" in capsys.readouterr().err
    assert bootstrap.read_stamp() == before  # so that the next call tries again


def test_no_network(course, capsys, monkeypatch):
    monkeypatch.setattr(bootstrap, "ESSENTIAL", ("tiny", "no_such_package_of_ours"))
    (course / "requirements.txt").write_text("no-such-package-of-ours\n")
    assert bootstrap.main() == 1
    said = capsys.readouterr().err
    assert said.startswith("The package index is out of reach")
    assert "Traceback" not in said
    assert str(course / ".venv/install.log") in said


def test_package_that_the_index_does_not_have(course, capsys, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    (course / "requirements.txt").write_text("no-such-package-of-ours\n")
    assert bootstrap.main() == 1
    assert "There is no no-such-package-of-ours for Python" in capsys.readouterr().err


def test_no_disk(empty, capsys, monkeypatch):
    monkeypatch.setattr(bootstrap.shutil, "disk_usage", lambda path: Usage(10**10, 9 * 10**9, 10**9))
    assert bootstrap.main() == 1
    said = capsys.readouterr().err
    assert "GB of free disk are needed" in said
    assert "1.0 GB are there" in said
    assert not (empty / ".venv").exists()


def test_disk_counts_what_is_there_already(empty, monkeypatch):
    monkeypatch.setattr(bootstrap.sys, "platform", "linux")
    monkeypatch.delenv("PIP_INDEX_URL")
    monkeypatch.setattr(bootstrap.shutil, "disk_usage", lambda path: Usage(10**11, 0, 7 * 10**9))
    with pytest.raises(bootstrap.Problem, match=r"^8\.0 GB"):
        bootstrap.check_disk()
    (empty / ".venv").mkdir()
    with (empty / ".venv/big").open("wb") as file:
        file.truncate(2 * 10**9)  # sparse
    bootstrap.check_disk()


def test_read_only_folder(empty, capsys, monkeypatch):
    monkeypatch.setattr(bootstrap.os, "access", lambda path, mode: False)
    assert bootstrap.main() == 1
    assert f"{empty} is read-only" in capsys.readouterr().err


def test_python_without_venv(empty, capsys, monkeypatch):
    monkeypatch.setattr(bootstrap, "check_disk", lambda: None)
    monkeypatch.setattr(bootstrap.importlib.util, "find_spec", lambda name: None)
    assert bootstrap.main() == 1
    assert f"sudo apt install python3.{sys.version_info[1]}-venv" in capsys.readouterr().err


def test_old_python():
    with pytest.raises(bootstrap.Problem, match=r"Python 3\.11 or newer is needed; this is 3\.9\.2"):
        bootstrap.check_python((3, 9, 2, "final", 0))
    bootstrap.check_python((3, 11, 0))
    ast.parse(Path(bootstrap.__file__).read_text(encoding="utf-8"), feature_version=(3, 6))


@pytest.mark.parametrize(
    ("log", "sentence"),
    [
        ("OSError: [Errno 28] No space left on device", "The disk became full"),
        ("SSLError(SSLCertVerificationError(1, 'CERTIFICATE_VERIFY_FAILED'))", "certificate is not trusted"),
        ("ProxyError('Unable to connect to proxy')\nNo matching distribution found for torch", "out of reach"),
        ("ERROR: Something new", "pip could not install"),
    ],
)
def test_diagnosis_of_pips_log(log, sentence):
    assert sentence in str(bootstrap.diagnose(log))


def test_only_the_long_steps_are_told():
    told = {
        "  Downloading https://pypi.org/a/torch-2.15.0-cp311-cp311-linux_x86_64.whl (532.0 MB)": "torch (532",
        "Downloading nvidia_cublas-13.0-py3-none-linux.whl (1.2 GB)": "nvidia_cublas (1.2 GB)",
        "Downloading tqdm-4.66-py3-none-any.whl (78 kB)": "",
        "Requirement already satisfied: numpy": "",
        "Installing collected packages: " + ", ".join("abcdefghijklm"): "13 packages",
        "Installing collected packages: course-utils": "",
        "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError'": "trying again",
    }
    for line, expected in told.items():
        assert expected in bootstrap.news(line)
        assert bool(expected) == bool(bootstrap.news(line))

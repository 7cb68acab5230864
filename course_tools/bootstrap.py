"""Make the course's environment, `.venv` with all that requirements.txt names: `python3 course_tools/bootstrap.py`.

Standard library only, and plain enough in its syntax for an old Python to read it and say that it is too old. Safe to
repeat: a stamp in `.venv` tells what was installed, and while it holds nothing is done and no network is needed.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
ESSENTIAL = ("course_utils", "torch", "jupyterlab", "pytest")  # where these are found one can work, new or not
OFFLINE = (
    "NewConnectionError|NameResolutionError|ConnectTimeoutError|ReadTimeoutError|ProtocolError|ProxyError|"
    "Failed to establish a new connection|Temporary failure in name resolution|Network is unreachable"
)
# JupyterLab's defaults: widgets are saved with a notebook, and live when it is opened again without its kernel.
SETTINGS = {"@jupyter-widgets/jupyterlab-manager:plugin": {"saveState": True}}
TEXT = {"encoding": "utf-8", "errors": "replace"}  # of what other programs print


class Problem(Exception):
    """What stops the installation, in one sentence for the user."""


class Offline(Problem):
    """The package index is out of reach."""


def check_python(version: tuple) -> None:
    """Raise ``Problem`` if `version` (major, minor, …) is older than the course needs."""
    if tuple(version[:2]) < OLDEST:
        found = ".".join(str(number) for number in version[:3])
        raise Problem(
            f"Python 3.11 or newer is needed; this is {found} ({sys.executable}). Install a newer one from "
            "https://www.python.org/downloads/ or name it: make lab PYTHON=python3.12"
        )


def check_venv_module() -> None:
    """Raise ``Problem`` if this Python cannot make virtual environments (Debian packs that part separately)."""
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
        raise Problem(
            f"{sys.executable} cannot make virtual environments; on Debian and Ubuntu: sudo apt install {package}"
        )


def check_writable() -> None:
    """Raise ``Problem`` if nothing can be written where the environment goes."""
    folder = venv() if venv().is_dir() else ROOT
    if not os.access(str(folder), os.W_OK):
        raise Problem(f"{folder} is read-only; copy the course to a folder of your own and start again there.")


def check_disk() -> None:
    """Raise ``Problem`` if the disk has no room for what is still to be installed."""
    indexes = os.environ.get("PIP_INDEX_URL", "") + os.environ.get("PIP_EXTRA_INDEX_URL", "")
    cuda = sys.platform == "linux" and "whl/cpu" not in indexes  # elsewhere PyTorch comes without CUDA's libraries
    needed = 8.0 if cuda else 3.0  # GB: 6.1 measured with CUDA, and room for files on their way
    there = sum(file.lstat().st_size for file in venv().rglob("*")) / 1e9 if venv().is_dir() else 0.0
    free = shutil.disk_usage(str(ROOT)).free / 1e9
    if free < needed - there:
        smaller = "; without CUDA 3 GB do: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu" if cuda else ""
        raise Problem(f"{needed - there:.1f} GB of free disk are needed in {ROOT}, {free:.1f} GB are there{smaller}.")


def venv() -> Path:
    """Return the environment's folder."""
    return ROOT / ".venv"


def venv_python() -> Path:
    """Return the environment's own interpreter."""
    return venv() / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def venv_version() -> str:
    """Return the environment's Python version, such as "3.11"; empty if it does not run, has no pip or is too old."""
    code = "import pip, sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([str(venv_python()), "-I", "-c", code], capture_output=True, **TEXT)
    except OSError:
        return ""
    version = done.stdout.strip() if done.returncode == 0 else ""
    return version if version and tuple(map(int, version.split("."))) >= OLDEST else ""


def wanted_stamp(version: str) -> dict:
    """Return what the environment is made of: a hash of the requirements, the Python, the folder, the settings."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    keys = ("name", "requires-python", "dependencies", "optional-dependencies", "scripts")
    parts = [project.get(key) for key in keys] + [(ROOT / "requirements.txt").read_text(encoding="utf-8")]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return {"requirements": digest, "python": version, "folder": str(venv()), "settings": SETTINGS}


def read_stamp() -> dict:
    """Return the stamp of the last complete installation, empty if there was none."""
    try:
        return json.loads((venv() / "stamp.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def write_stamp(stamp: dict) -> None:
    """Write `stamp` beside the old one, then put it in its place."""
    beside = venv() / "stamp.json.new"
    beside.write_text(json.dumps(stamp, indent=1), encoding="utf-8")
    os.replace(str(beside), str(venv() / "stamp.json"))


def was_moved() -> bool:
    """Tell whether the environment was made in another folder: its scripts would still point there."""
    made_in = read_stamp().get("folder")
    if not made_in and (venv() / "pyvenv.cfg").is_file():
        config = (venv() / "pyvenv.cfg").read_text(encoding="utf-8", errors="replace")
        command = re.search(r"^command = .* -m venv (?:--\S+ )*(.+)$", config, re.M)
        made_in = command and command.group(1)
    return bool(made_in) and os.path.realpath(made_in) != os.path.realpath(str(venv()))


def make_venv() -> None:
    """Make an empty environment, in the place of a broken one if there is one."""
    check_venv_module()
    if venv().exists():
        print("The old .venv does not work any more (its Python is gone, or it was moved): making it anew.", flush=True)
    command = [sys.executable, "-I", "-m", "venv", "--clear", str(venv())]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **TEXT)
    if done.returncode != 0 or not venv_version():
        last = (done.stdout.strip().splitlines() or ["no message"])[-1]
        raise Problem(f"{sys.executable} could not make the environment {venv()}: {last}")


def drop_half_installed() -> None:
    """Remove the records of packages whose installation was cut off (no INSTALLER yet), so that pip redoes them."""
    for packages in (*venv().glob("lib/python*/site-packages"), venv() / "Lib" / "site-packages"):
        for record in packages.glob("*.dist-info"):
            if not (record / "INSTALLER").is_file():
                shutil.rmtree(str(record))


def news(line: str) -> str:
    """Return what a student should see of one line of pip's output, mostly nothing."""
    download = re.match(r"\s*Downloading (?:\S*/)?([^\s/-]+)-\S+ \(([\d.]+) (MB|GB)\)", line)
    if download and (download.group(3) == "GB" or float(download.group(2)) >= 10):
        return f"  downloading {download.group(1)} ({download.group(2)} {download.group(3)})"
    if line.startswith("Installing collected packages:") and line.count(",") >= 10:
        return f"  unpacking {line.count(',') + 1} packages (a minute or two)"
    return "  no answer from the package index, trying again" if "WARNING: Retrying" in line else ""


def diagnose(log: str) -> Problem:
    """Return the problem that pip's `log` tells of."""
    missing = re.search(r"No matching distribution found for (\S+)", log)
    if re.search(r"No space left on device|Errno 28|not enough space on the disk", log):
        return Problem(
            "The disk became full; make room where the course lies and in the folder for temporary files (TMPDIR)."
        )
    if re.search(r"CERTIFICATE_VERIFY_FAILED|SSLCertVerificationError", log):
        return Problem("The network's certificate is not trusted: name your institution's in PIP_CERT=/path/to/its.pem")
    if re.search(OFFLINE, log):
        return Offline(
            "The package index is out of reach, and the installation needs it: check the network "
            "(behind a proxy set HTTPS_PROXY), then give the same command again; finished downloads are kept."
        )
    if missing:
        return Problem(
            f"There is no {missing.group(1)} for Python {venv_version()} on this machine "
            f"({sys.platform}); another Python may have it: make lab PYTHON=python3.12"
        )
    return Problem("pip could not install the requirements.")


def install() -> None:
    """Let pip install requirements.txt, telling only the long steps. Raises ``Problem`` with the cause."""
    log = venv() / "install.log"
    log.write_text("", encoding="utf-8")
    drop_half_installed()
    print("Installing what the course needs into .venv (the first time some minutes) ...", flush=True)
    command = [str(venv_python()), "-I", "-X", "utf8", "-m", "pip", "install", "--no-input", "--progress-bar=off"]
    command += ["--disable-pip-version-check", "--log", str(log), "-r", "requirements.txt"]
    environment = dict(os.environ, PIP_USER="0")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, cwd=str(ROOT), env=environment, **pipes, **TEXT) as pip:
        told = ""
        for line in pip.stdout:
            if news(line) not in ("", told):
                told = news(line)
                print(told, flush=True)
    if pip.returncode != 0:
        text = log.read_text(encoding="utf-8", errors="replace")
        problem = diagnose(text)
        errors = re.findall(r"ERROR: .*", text)[-2:]
        raise type(problem)("\n  ".join([str(problem), *errors, f"pip's whole log: {log}"]))


def write_settings(prefix: str = sys.prefix) -> None:
    """Give JupyterLab its defaults in the environment whose folder is `prefix`."""
    folder = Path(prefix, "etc/jupyter/labconfig/default_setting_overrides.d")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "course_utils.json").write_text(json.dumps(SETTINGS, indent=1) + "\n", encoding="utf-8")


def is_usable() -> bool:
    """Tell whether the environment finds what every command needs, whatever the versions."""
    code = f"import importlib.util as u, sys; sys.exit(not all(u.find_spec(name) for name in {ESSENTIAL!r}))"
    return subprocess.run([str(venv_python()), "-I", "-c", code]).returncode == 0


def try_lock(file) -> bool:
    """Lock an open file until it is closed; return whether no other process has."""
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def alone():
    """Wait until no other call works on the environment, as two `make` at once would."""
    path = ROOT / "build" / "bootstrap.lock"
    try:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    except OSError:
        raise Problem(f"{path} can't be written; copy the course to a folder of your own and start again.") from None
    with path.open("ab") as file:
        if not try_lock(file):
            print("Another call is installing here: waiting for its end ...", flush=True)
            while not try_lock(file):
                time.sleep(0.5)
        yield


def state() -> tuple:
    """Return the Python version of the environment, whether it can be used, and whether nothing is to be done."""
    version = venv_version()
    usable = bool(version) and not was_moved()
    return version, usable, usable and read_stamp() == wanted_stamp(version)


def prepare() -> None:
    """Make the environment, or what is missing of it. Raises ``Problem``."""
    if state()[2]:
        return
    check_writable()
    with alone():
        prepare_alone()


def prepare_alone() -> None:
    """Do what is still to be done, while no other call does."""
    _, usable, done = state()
    if done:
        return
    if not usable or not read_stamp():
        check_disk()
    if not usable:
        make_venv()
    write_settings(str(venv()))
    try:
        install()
    except Offline as problem:
        if not is_usable():
            raise
        print(
            "Warning: the course's requirements have changed and the package index is out of reach; going on with "
            f"what is installed.\n  {str(problem).splitlines()[-1]}",
            file=sys.stderr,
        )
        return
    write_stamp(wanted_stamp(venv_version()))


def main() -> int:
    """Prepare the environment; return the exit code."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a folder's name need not fit the console's encoding
    try:
        check_python(sys.version_info)
        prepare()
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted: the same command goes on from here.", file=sys.stderr)
        return 130
    if "MAKELEVEL" not in os.environ:
        python = os.path.relpath(str(venv_python()), os.getcwd())
        print(f"The environment is ready. Open the lectures with: {python} -m jupyterlab lectures")
    return 0


if __name__ == "__main__":
    sys.exit(main())

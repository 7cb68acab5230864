"""One screen on the state of an installation, with the command that mends what is wrong: `course doctor`.

It is needed most where something is missing or broken, so at import it takes the standard library alone, and a check
that fails is a line of the report.
"""

import importlib
import importlib.util
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
COLAB = "COLAB_RELEASE_TAG"  # Colab sets it; the notebook's front end is Colab's own there
LISTED = ("course-utils", "torch", "torchvision", "jupyterlab", "ipywidgets", "anywidget", "jupytext", "papermill")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
GOOD, WARN, BAD = "✓", "!", "✗"


class Line(NamedTuple):
    """One line of the report; `mend` is the command under it."""

    mark: str
    name: str
    text: str
    mend: str = ""


def python() -> str:
    """Return how to call the Python that runs this from the current folder."""
    path = Path(sys.executable)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def pip_install(*requirements: str) -> str:
    """Return the command that installs `requirements` into the Python that runs this."""
    return f"{python()} -m pip install --upgrade " + " ".join(f'"{requirement}"' for requirement in requirements)


def install_all() -> str:
    """Return the command that installs everything: into this environment, or from outside into a new one."""
    inside = Path(sys.prefix) == ROOT / ".venv"
    return f"{python()} " + ("-m pip install -r requirements.txt" if inside else "course_tools/bootstrap.py")


def fits(version: str, allowed: str) -> bool:
    """Tell whether `version` lies in the range `allowed`, such as ">=7.7,<9"; true where that cannot be told."""
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:
        return True
    return SpecifierSet(allowed).contains(version, prereleases=True)


def package(name: str, allowed: str, absent: str = BAD) -> Line:
    """Report the installed version of `name` against the range `allowed`; `absent` marks one that is not there."""
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Line(absent, name, "not installed", pip_install(name + allowed))
    if not fits(version, allowed):
        return Line(BAD, name, f"{version}, needed: {allowed}", pip_install(name + allowed))
    return Line(GOOD, name, version)


def requirements() -> Iterator[tuple[str, str, str]]:
    """Yield what the installed course requires: name, allowed range, extra ("" for what the lectures import)."""
    for text in metadata.requires("course-utils") or []:
        name, allowed, extra = re.fullmatch(
            r"([\w.-]+)\s*([^;]*?)\s*(?:;.*?extra == [\"'](\w+)[\"'].*)?", text
        ).groups()
        yield name, allowed, extra or ""


def versions() -> Iterator[Line]:
    """Report Python, the packages that matter most by name, and the others together."""
    yield Line(GOOD, "python", f"{platform.python_version()} · {sys.executable}")
    try:
        course = metadata.version("course-utils")
    except metadata.PackageNotFoundError:
        yield Line(BAD, "course-utils", f"not installed in {sys.prefix}", install_all())
        return
    yield Line(GOOD, "course-utils", f"{course} · {ROOT}")
    ready = 0
    for name, allowed, extra in requirements():
        optional = extra == "test" or (extra == "lab" and COLAB in os.environ)
        line = package(name, allowed, WARN if optional else BAD)
        broken = line.mark == GOOD and name in ("torch", "torchvision") and import_error(name)
        if broken:
            line = Line(BAD, name, f"{line.text} does not load: {broken}", pip_install("torch", "torchvision"))
        ready += line.mark == GOOD
        if line.mark != GOOD or name in LISTED:
            yield line
    count = len(list(requirements()))
    mark = GOOD if ready == count else WARN
    yield Line(mark, "packages", f"{ready} of {count} required packages are there in the versions needed")


def import_error(name: str) -> str:
    """Import `name`; return the first line of what went wrong, empty if nothing did."""
    try:
        importlib.import_module(name)
    except Exception as error:  # a broken installation raises anything: OSError, RuntimeError, AttributeError, …
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""


def device() -> Iterator[Line]:
    """Report what the lectures will compute on."""
    if import_error("torch"):
        yield Line(WARN, "device", "not known while torch does not load", pip_install("torch", "torchvision"))
        return
    torch: ModuleType = importlib.import_module("torch")
    threads = f"{torch.get_num_threads()} threads of {os.cpu_count()} cores"
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory
        yield Line(GOOD, "device", f"cuda · {torch.cuda.get_device_name(0)}, {memory / 2**30:.0f} GiB · {threads}")
    elif torch.backends.mps.is_available():
        yield Line(GOOD, "device", f"mps · {platform.processor()} · {threads}")
    elif shutil.which("nvidia-smi"):
        text = f"cpu · {threads}; an NVIDIA driver is here, but torch {torch.__version__} finds no GPU"
        yield Line(
            WARN, "device", text, "nvidia-smi   (does it list the GPU? is its CUDA version new enough for torch?)"
        )
    else:
        yield Line(GOOD, "device", f"cpu · {threads} · no GPU, and none is needed")


def memory_gib() -> tuple[float, float]:
    """Return total and available memory in GiB, of the container where there is one; NaN where it cannot be known."""
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        kib = dict(re.findall(r"^(\w+):\s+(\d+) kB", meminfo.read_text("utf-8"), re.M))
        total, free = (int(kib[key]) * 1024 for key in ("MemTotal", "MemAvailable"))
        limit, used = (Path("/sys/fs/cgroup", name) for name in ("memory.max", "memory.stat"))
        if limit.is_file() and limit.read_text("utf-8").strip().isdecimal():
            total = min(total, int(limit.read_text("utf-8")))
            free = min(free, total - int(re.search(r"^anon (\d+)", used.read_text("utf-8"), re.M).group(1)))
        return total / 2**30, free / 2**30
    if sys.platform == "win32":
        import ctypes

        status = (ctypes.c_ulonglong * 8)()  # MEMORYSTATUSEX: two 32-bit numbers, then total and available bytes, …
        status[0] = ctypes.sizeof(status)
        ctypes.windll.kernel32.GlobalMemoryStatusEx(status)
        return status[1] / 2**30, status[2] / 2**30
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, float("nan")


def room() -> Iterator[Line]:
    """Report memory and disk."""
    total, free = memory_gib()
    text = f"{total:.1f} GiB" + (f", {free:.1f} free" if free == free else "")
    tight = total < 3.5 or free < 1.0
    yield Line(WARN if tight else GOOD, "memory", text, "close other notebooks and programs" if tight else "")
    disk = shutil.disk_usage(Path.cwd()).free / 1e9
    mark = GOOD if disk > 2 else WARN if disk > 0.2 else BAD
    mend = "" if mark == GOOD else f"{python()} -m pip cache purge"
    yield Line(mark, "disk", f"{disk:.1f} GB free in {Path.cwd()}", mend)


def data() -> Iterator[Line]:
    """Report which data sets are here."""
    sklearn = importlib.util.find_spec("sklearn")
    digits = sklearn and (Path(sklearn.origin).parent / "datasets/data/digits.csv.gz").is_file()
    yield (
        Line(GOOD, "digits", "inside scikit-learn")
        if digits
        else Line(BAD, "digits", "not found: scikit-learn is missing or broken", pip_install("scikit-learn"))
    )
    root = Path(os.environ.get("COURSE_DATA") or "~/.cache/course_utils").expanduser()
    for name, folder in (("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")):
        raw = root / folder / "raw"
        parts = [f"{split}-{part}-ubyte" for split in ("train", "t10k") for part in ("images-idx3", "labels-idx1")]
        if all((raw / part).is_file() or (raw / f"{part}.gz").is_file() for part in parts):
            yield Line(GOOD, name, str(raw))
        else:
            fetch = f"{python()} -c \"from course_utils import data; data.load('{name}')\""
            yield Line(WARN, name, f"not in {raw}; only for the parts that ask for it", fetch)


def widgets() -> Iterator[Line]:
    """Report what the widgets and their test need."""
    line = package("ipywidgets", ">=7.7,<9")
    if line.mark == GOOD and COLAB not in os.environ:
        line = package("jupyterlab_widgets", ">=1.1")
        extension = Path(sys.prefix, "share/jupyter/labextensions/@jupyter-widgets/jupyterlab-manager/package.json")
        if line.mark == GOOD and not extension.is_file():
            mend = pip_install("jupyterlab_widgets") + " --force-reinstall --no-deps"
            line = Line(BAD, "widgets", f"JupyterLab's extension is not in {extension.parent}", mend)
    settings = Path(sys.prefix, "etc/jupyter/labconfig/default_setting_overrides.d/course_utils.json")
    if line.mark == GOOD and COLAB not in os.environ and not settings.is_file():
        mend = f'{python()} -c "from course_tools import bootstrap; bootstrap.write_settings()"'
        yield Line(WARN, "saving", "JupyterLab does not save widgets with a notebook", mend)
    text = f"ipywidgets and JupyterLab's extension for them ({line.text})"
    yield Line(GOOD, "widgets", text) if line.mark == GOOD else line
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    install = "brew install --cask chromium" if sys.platform == "darwin" else "sudo apt-get install chromium"
    yield (
        Line(GOOD, "chromium", browser)
        if browser
        else Line(WARN, "chromium", "not found; only the widgets' still pictures, PDFs and tests want it", install)
    )


CHECKS: tuple[Callable[[], Iterator[Line]], ...] = (versions, device, room, data, widgets)


def report() -> tuple[str, list[str]]:
    """Return the report and the names of what is wrong in it (✗, not !)."""
    lines: list[Line] = []
    for check in CHECKS:
        try:
            lines.extend(check())
        except Exception as error:  # whatever is broken, the other checks are wanted all the more
            lines.append(Line(BAD, check.__name__, f"{type(error).__name__}: {error}".splitlines()[0], install_all()))
    text = []
    for line in lines:
        text.append(f"{line.mark} {line.name:<14}{line.text}")
        if line.mend:
            text.append(f"{'':<16}→ {line.mend}")
    problems = [line.name for line in lines if line.mark == BAD]
    text.append(f"To mend: {', '.join(problems)}." if problems else "All that the course needs is here.")
    return "\n".join(text), problems


def main() -> int:
    """Print the report; return 1 if something is wrong."""
    text, problems = report()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a console without ✓ shows ? rather than a traceback
    print(text)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

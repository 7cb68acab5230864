"""Runs the lectures as other processors would, and tells what they print differently: `course foreign`.

Another instruction set or another number of threads adds up the same numbers in another order; a training amplifies the
last digit. What a lecture asserts, and what its tests compare, must hold there too.
"""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from configparser import ConfigParser
from difflib import ndiff
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from nbformat import NotebookNode

from course_tools import bootstrap
from course_tools.notebooks import ROOT, Lecture, code_cells, execute, read_notebook, with_parameters
from course_utils.errors import choose, require

# Environment variables of each setting: PyTorch's own loops, oneDNN's convolutions, MKL's and OpenBLAS's products.
SETTINGS: dict[str, dict[str, str]] = {
    "native": {},
    "default": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_CBWR": "COMPATIBLE",
        "OPENBLAS_CORETYPE": "Nehalem",
    },
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_CBWR": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
    },
    "two-threads": {"OMP_NUM_THREADS": "2", "COURSE_THREADS": "2"},
}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "COURSE_THREADS": "1"}
COMPARED = ("text/plain", "text/markdown")
LINES = 4  # of a difference that are shown
SANITIZE = Path("tests") / "notebooks" / "nbval_sanitize.cfg"


class Finding(NamedTuple):
    """A cell that stopped, or whose text differs; `compared` is false where the tests do not compare it either."""

    cell: str
    what: str
    stopped: bool
    compared: bool

    @property
    def matters(self) -> bool:
        return self.stopped or self.compared


def choose_setting(name: str) -> str:
    """Return the name of a setting; raise ``ValueError`` for any other."""
    return choose(name, SETTINGS, "setting")


def foreign(
    lectures: Sequence[Lecture], settings: Sequence[str], values: Mapping[str, object] | None = None
) -> Iterator[tuple[str, str, list[Finding]]]:
    """Run the lectures' student notebooks under the settings; yield lecture, setting, findings as they come.

    Texts are compared with the stored ones; with other parameters, `values`, with those of a first run under the native
    setting. A cell that fails does not stop the run: the cells after it are tried too.
    """
    for lecture in lectures:
        stored = read_notebook(lecture.student)
        require(stored is not None, f"{lecture.student} is not there: make notebooks")
        expected = run_under("native", with_parameters(stored, values), lecture) if values else stored
        for setting in settings:
            found = run_under(setting, with_parameters(stored, values or {}), lecture)
            yield lecture.name, setting, list(findings(expected, found))


def run_under(setting: str, nb: NotebookNode, lecture: Lecture) -> NotebookNode:
    """Run all cells of the notebook under a setting, also those after one that fails; return it."""
    for cell in code_cells(nb):
        cell.outputs, cell.execution_count = [], None
    env = os.environ | ONE_THREAD | SETTINGS[setting]
    execute(nb, lecture.student.parent, f"{lecture.name}, {setting}", env=env, allow_errors=True)
    return nb


def findings(expected: NotebookNode, found: NotebookNode) -> Iterator[Finding]:
    """Yield the cells that stopped in `found` and not in `expected`, or printed something else."""
    before = {cell.id: cell for cell in code_cells(expected)}
    for cell in code_cells(found):
        if cell.id not in before:
            continue
        errors, earlier = ([o for o in c.outputs if o.output_type == "error"] for c in (cell, before[cell.id]))
        if errors and not earlier:
            yield Finding(cell.id, f"{errors[0].ename}: {errors[0].evalue}".splitlines()[0], True, True)
        elif difference := list(differing(texts(before[cell.id]), texts(cell))):
            more = [f"… {len(difference) - LINES} more lines"] if len(difference) > LINES else []
            compared = "nbval-ignore-output" not in cell.metadata.get("tags", [])
            yield Finding(cell.id, "\n".join(difference[:LINES] + more), False, compared)


def texts(cell: NotebookNode) -> list[str]:
    """Return the lines of a cell's texts, as the tests compare them: without pictures, widgets, times, addresses."""
    printed = (output.text for output in cell.outputs if output.output_type == "stream" and output.name == "stdout")
    parts = ["".join(printed)]  # in how many pieces a print arrives depends on the moment
    for output in cell.outputs:
        parts += [output.data[kind] for kind in COMPARED if kind in output.get("data", {})]
    text = "\n".join(part.rstrip("\n") for part in parts)
    for regex, replacement in sanitizers():
        text = regex.sub(replacement, text)
    return text.splitlines()


@lru_cache
def sanitizers() -> list[tuple[re.Pattern, str]]:
    """Return the patterns that the tests of notebooks replace before they compare."""
    rules = ConfigParser(interpolation=None)
    rules.read(ROOT / SANITIZE, "utf-8")
    return [(re.compile(rules[name]["regex"]), rules[name]["replace"]) for name in rules.sections()]


def differing(before: Iterable[str], after: Iterable[str]) -> Iterator[str]:
    """Yield the lines of the one text, after "-", and of the other, after "+", that they don't share."""
    return (line for line in ndiff(list(before), list(after)) if line[0] in "-+")


def describe(lecture: str, setting: str, found: Sequence[Finding]) -> str:
    """Return what a run found, a few lines for each cell."""
    lines = [f"{lecture}, {setting}: {verdict(found)}"]
    for finding in found:
        if finding.matters:
            lines.append(f"  {finding.cell} {'stopped' if finding.stopped else 'differs'}")
            lines += [f"    {line}" for line in finding.what.splitlines()]
    ignored = [finding.cell for finding in found if not finding.matters]
    if ignored:
        lines.append(f"  and, not compared by the tests: {', '.join(ignored)}")
    return "\n".join(lines)


def verdict(found: Sequence[Finding]) -> str:
    """Return in some words what a run found."""
    stopped, differ = (sum(f.matters and f.stopped == kind for f in found) for kind in (True, False))
    words = [f"{count} {what}" for count, what in ((stopped, "stopped"), (differ, "differ")) if count]
    return ", ".join(words) or "the same"


# Other releases of PyTorch -------------------------------------------------------------------------------------------


def pins(release: str) -> list[str]:
    """Return what to demand of pip for "oldest", "newest" or a release such as "2.7.1"."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    oldest = dict(re.findall(r"^(torch|torchvision)>=([\d.]+)$", "\n".join(project["dependencies"]), re.M))
    if release == "newest":
        return ["torch", "torchvision"]
    if release == "oldest":
        return [f"{name}=={version}.*" for name, version in oldest.items()]
    require(re.fullmatch(r"\d+(\.\d+)+", release) is not None, f"--torch {release}: oldest, newest or such as 2.7.1")
    return [f"torch=={release}", "torchvision"]


def environment_of(release: str) -> Path:
    """Return the Python of an environment in build/ with this release of PyTorch and all that a lecture needs.

    It is made at the first call. Raises ``ValueError`` with pip's reason if it can't be.
    """
    folder = ROOT / "build" / f"torch-{release}"
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if (folder / "READY").exists():
        return python
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [*pins(release), *project["dependencies"], *project["optional-dependencies"]["lab"]]
    print(f"making {folder.relative_to(ROOT)} (some minutes) …", flush=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [*pip, *wanted],
    ):
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ValueError(f"{folder} can't be made: {bootstrap.diagnose(done.stderr)} {last}")
    (folder / "READY").write_text("", "utf-8")
    return python


def under_release(release: str, arguments: Sequence[str]) -> int:
    """Run `course foreign` with the arguments under another release of PyTorch; return its exit code."""
    command = [str(environment_of(release)), "-m", "course_tools.cli", "foreign", *arguments]
    return subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}).returncode

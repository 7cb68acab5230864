"""Lectures under other settings: what differs is found, what stops is told, and all cells are tried."""

import subprocess
from functools import partial

import nbformat
import pytest

from course_tools import foreign, notebooks
from course_tools.foreign import Finding

pytestmark = pytest.mark.slow  # kernels run small notebooks

PROBE = """
import os
print(os.environ.get("ATEN_CPU_CAPABILITY", "none"), os.environ["OMP_NUM_THREADS"], "took 1.5 s", object())
"""


@pytest.fixture
def lecture(repository, sample):
    """Return a lecture whose stored outputs are those of the native setting, but for one cell."""
    more = [PROBE, ":tags: [nbval-ignore-output]\n\nimport time\nprint(time.time())"]
    cells = "".join(f"```{{code-cell}}\n{code.strip()}\n```\n\n" for code in more)
    root = repository(sample.replace("## Summary", f"## 7.2 Other machines\n\n{cells}## Summary"))
    notebooks.make(root)
    return notebooks.find_lecture("7", root)


def test_what_differs_and_what_does_not(lecture):
    runs = list(foreign.foreign([lecture], ["native", "avx2"]))
    assert [run[:2] for run in runs] == [("07_sample", "native"), ("07_sample", "avx2")]
    native, avx2 = (run[2] for run in runs)
    time = Finding("s7-2-code-2", native[-1].what, False, False)
    assert native[-1] == time and not time.matters
    threads = [f for f in avx2 if f.matters]
    assert [f.cell for f in threads] == ["s7-2-code-1"] and not threads[0].stopped
    assert threads[0].what.splitlines()[1].startswith("+ avx2 1 took T s")
    text = foreign.describe(*runs[1])
    assert text.startswith("07_sample, avx2: 1 differ\n  s7-2-code-1 differs\n    - none 1 took")
    assert text.endswith("not compared by the tests: s7-2-code-2")


def test_a_cell_that_stops_does_not_hide_the_others(lecture):
    nb = nbformat.read(lecture.student, 4)
    cell = next(cell for cell in nb.cells if cell.id == "s7-2-code-1")
    cell.source = "assert OMP, 'one thread'" + cell.source
    nb.cells[-1].source = "print(1)"
    nbformat.write(nb, lecture.student)
    ((_, _, found),) = foreign.foreign([lecture], ["native"])
    assert [(f.cell, f.stopped) for f in found if f.matters] == [("s7-2-code-1", True), (nb.cells[-1].id, False)]
    assert foreign.verdict(found) == "1 stopped, 1 differ"


def test_with_other_parameters_the_native_run_is_compared(lecture):
    ((_, _, found),) = foreign.foreign([lecture], ["two-threads"], {"seed": 3})
    assert [f.cell for f in found if f.matters] == ["s7-2-code-1"]  # not the cell that prints the seed


def test_in_how_many_pieces_a_print_arrives_is_no_difference():
    stream = partial(nbformat.v4.new_output, "stream", name="stdout")
    result = nbformat.v4.new_output("execute_result", data={"text/plain": "7"})
    whole, pieces, other = (
        nbformat.v4.new_code_cell(outputs=[*(stream(text=text) for text in texts), result])
        for texts in (["a b\nc\n"], ["a ", "b\n", "c\n"], ["a ", "b\n", "d\n"])
    )
    assert foreign.texts(whole) == foreign.texts(pieces) == ["a b", "c", "7"] != foreign.texts(other)


def test_an_environment_is_made_once_and_a_failed_one_is_told(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_bytes((notebooks.ROOT / "pyproject.toml").read_bytes())
    monkeypatch.setattr(foreign, "ROOT", tmp_path)
    ran, codes = [], [0, 1, 0, 0]  # venv and pip, which fails; both once more

    def run(command, **_):
        ran.append(command)
        (tmp_path / "build" / "torch-oldest").mkdir(parents=True, exist_ok=True)
        return subprocess.CompletedProcess(command, codes[len(ran) - 1], "", "ERROR: No matching distribution found")

    monkeypatch.setattr(foreign.subprocess, "run", run)
    with pytest.raises(ValueError, match="can't be made.*No matching distribution"):
        foreign.environment_of("oldest")
    assert foreign.environment_of("oldest") == foreign.environment_of("oldest")
    assert [command[1:3] for command in ran] == [["-m", "venv"], ["-m", "pip"]] * 2  # the last call found it there
    assert {"torch==2.6.*", "torchvision==0.21.*", "ipykernel>=6.29"} <= set(ran[-1])


def test_releases():
    assert foreign.pins("newest") == ["torch", "torchvision"]
    torch, torchvision = foreign.pins("oldest")
    assert torch.startswith("torch==2.") and torchvision.startswith("torchvision==0.")
    assert foreign.pins("2.7.1") == ["torch==2.7.1", "torchvision"]
    with pytest.raises(ValueError, match="--torch old: oldest, newest or such as"):
        foreign.pins("old")

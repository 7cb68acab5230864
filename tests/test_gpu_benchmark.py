"""The script for GPUs, tried without one: it keeps its time, and fills README's column."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def gpu():
    """Return the script as a module."""
    spec = importlib.util.spec_from_file_location("gpu", ROOT / "benchmarks" / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_column_is_filled_and_nothing_else_changes(gpu):
    readme = (ROOT / "README.md").read_text("utf-8")
    names = [lecture.name for lecture in gpu.notebooks.all_lectures()]
    new = gpu.fill(readme, {name: 10.0 + i for i, name in enumerate(names)}, "NVIDIA X")
    changed = [(a, b) for a, b in zip(readme.splitlines(), new.splitlines(), strict=True) if a != b]
    assert len(changed) == len(names) + 1 and changed[0][1].endswith("| GPU (NVIDIA X) |")
    for i, (before, after) in enumerate(changed[1:]):
        assert after.endswith(f"| {10 + i} s |") and after.split("|")[:-2] == before.split("|")[:-2]
    assert gpu.fill(new, {names[0]: 10.0}, "NVIDIA X") == new and gpu.fill(readme, {}, "NVIDIA X") == readme
    with pytest.raises(ValueError, match="0 rows for 99_none"):
        gpu.fill(readme, {"99_none": 1.0}, "NVIDIA X")


def test_it_keeps_its_time_and_what_failed_is_not_counted(gpu, monkeypatch):
    now, ran = [0.0], []
    lectures = [gpu.Lecture(ROOT, name) for name in ("01_a", "02_b", "03_c", "04_d")]
    monkeypatch.setattr(gpu.notebooks, "all_lectures", lambda: lectures)
    monkeypatch.setattr(gpu, "run_tests", lambda left: now.__setitem__(0, 100.0))

    def run(name, parameters, out, timeout):
        ran.append((name, parameters, timeout))
        now[0] += 60.0
        if name == "02_b":
            raise gpu.NotebookError("02_b: out of memory")

    monkeypatch.setattr(gpu.notebooks, "run", run)
    assert list(gpu.measure("cpu", "0.1", 4.0, clock=lambda: now[0])) == ["01_a", "03_c"]  # 04_d had no time
    wanted = {"device": "cpu", "budget": "0.1"}
    assert ran == [("01_a", wanted, 140), ("02_b", wanted, 80), ("03_c", wanted, 20)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so():
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / "gpu.py"], capture_output=True, encoding="utf-8")
    assert done.returncode == 0 and done.stdout.count("\n") == 1
    assert done.stdout.startswith("no CUDA device here")

"""Everything that only a GPU can show, in at most eight minutes: `python benchmarks/gpu.py`.

It runs the tests marked `gpu`, then each lecture with device="cuda", and writes the seconds into the GPU column of
README.md's table. What no time is left for keeps its old entry, and so does a lecture that fails. Without a GPU it says
so and does nothing.
"""

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from course_tools import notebooks
from course_tools.notebooks import ROOT, Lecture, NotebookError
from course_utils.files import atomically

MINUTES = 8.0
LEAST = 20.0  # seconds; with less left no lecture is begun
TESTS = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu and not lecture", "tests"]


def run_tests(left: float) -> bool:
    """Run the tests that need a GPU, but the lectures, which follow at full length; return whether all passed."""
    try:
        done = subprocess.run([sys.executable, *TESTS], cwd=ROOT, timeout=left, capture_output=True, encoding="utf-8")
    except subprocess.TimeoutExpired:
        print("tests marked gpu: no time was left for all of them")
        return False
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()]
    print("tests marked gpu:", lines[-1] if done.returncode == 0 else done.stdout, flush=True)
    return done.returncode == 0


def time_lecture(lecture: Lecture, device: str, budget: str, left: float) -> float | None:
    """Run one lecture on the device; return the seconds, None where it failed or was not done in the time left."""
    start = time.perf_counter()
    try:
        parameters = {"device": device, "budget": budget}
        notebooks.run(lecture.name, parameters, ROOT / "build" / "gpu", timeout=max(1, int(left)))
    except NotebookError as error:
        print(f"{lecture.name}: {str(error).splitlines()[0]}", flush=True)
        return None
    seconds = time.perf_counter() - start
    print(f"{lecture.name}: {seconds:.0f} s", flush=True)
    return seconds


def fill(readme: str, seconds: dict[str, float], gpu: str) -> str:
    """Return README's text with the seconds in the last column of the table of lectures, whose head names the GPU."""
    for name, value in seconds.items():
        row = rf"^(\|.*lectures/{re.escape(name)}\.ipynb.*\|) [^|]* \|$"
        readme, found = re.subn(row, lambda m, v=value: f"{m[1]} {v:.0f} s |", readme, flags=re.M)
        if found != 1:
            raise ValueError(f"README.md has {found} rows for {name} in its table of lectures; one is needed")
    head = r"^(\| \| lecture \|.*\| 2 CPU cores \|) GPU[^|]* \|$"
    return re.sub(head, lambda m: f"{m[1]} GPU ({gpu}) |", readme, flags=re.M) if seconds else readme


def measure(device: str, budget: str, minutes: float, clock: Callable[[], float] = time.monotonic) -> dict[str, float]:
    """Run tests and lectures until the minutes are over; return lecture → seconds of those that ran to their end."""
    end, seconds = clock() + 60 * minutes, {}
    run_tests(end - clock())
    for lecture in notebooks.all_lectures():
        left = end - clock()
        if left < LEAST:
            print(f"{lecture.name}: no time was left")
            continue
        taken = time_lecture(lecture, device, budget, left)
        if taken is not None:
            seconds[lecture.name] = taken
    return seconds


def main() -> int:
    """Measure and write; return 1 if something was not measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cpu to try the script itself: then README.md stays as it is")
    parser.add_argument("--budget", default="1.0", help="of the trainings; README.md is written for 1.0 only")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    args = parser.parse_args()
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        print("no CUDA device here: the GPU column of README.md stays as it is")
        return 0
    seconds = measure(args.device, args.budget, args.minutes)
    if args.device.startswith("cuda") and float(args.budget) == 1:
        gpu = torch.cuda.get_device_name(0)
        path = Path(ROOT / "README.md")
        atomically(path, fill(path.read_text("utf-8"), seconds, gpu))
        print(f"wrote the seconds on {gpu} into {path}; the lectures' heads name them too, by hand")
    return 0 if len(seconds) == len(notebooks.all_lectures()) else 1


if __name__ == "__main__":
    sys.exit(main())

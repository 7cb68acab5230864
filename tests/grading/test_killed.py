"""A run that is killed at random moments, and run again, ends with the gradebook of an undisturbed one."""

import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest

pytestmark = pytest.mark.sandbox

SIGNALS = [signal.SIGKILL] * 5 + [signal.SIGINT]  # the last to the whole group, as Ctrl-C in a terminal sends it
ENDLESS = """\
def iwae(log_w):
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass
"""


def start(submissions, out):
    command = [sys.executable, "-m", "course_tools.cli", "grade", submissions, "--lecture=01", f"--out={out}"]
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([*command, "--jobs=2", "--seed=3", "--seconds=2"], start_new_session=True, **streams)


def files(out):
    """Return what a gradebook says: all files but the list of what changed in the last run.

    What a run that was killed was writing lies beside its place, with the number of that process at the end.
    """
    return {
        path.relative_to(out): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file()
        and path.name != "changes.csv"
        and not path.name.startswith(".")
        and (path.parent.name == "results" or not path.suffix[1:].isdecimal())
    }


def at_work(process, out, results: int) -> bool:
    """Tell whether a run has made a sandbox, and there are so many results; or whether it has ended."""
    if process.poll() is not None:
        return True
    try:
        names = [child.name() for child in psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return False
    return "bwrap" in names and len(list((out / "results").glob("*.json"))) >= results


def test_killed_at_five_random_moments(tmp_path, write_submission):
    for i in range(4):
        write_submission(tmp_path / "in" / f"student {i}.ipynb", {"1.2": None} if i % 3 else {})
    write_submission(tmp_path / "in" / "endless.ipynb", {"1.6": ENDLESS})
    assert start(tmp_path / "in", tmp_path / "calm").wait(300) == 0
    out, draw, done = tmp_path / "killed", random.Random(5), []
    for number in SIGNALS:
        process = start(tmp_path / "in", out)
        while not at_work(process, out, results=1 if number == signal.SIGINT else 0):
            time.sleep(0.05)
        time.sleep(draw.uniform(0, 3))
        tree = psutil.Process(process.pid).children(recursive=True)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        process.wait(60)
        _, left = psutil.wait_procs(tree, timeout=20)
        assert not left, "a process outlived the grader"
        done.append(len(list((out / "results").glob("*.json"))))
    assert start(tmp_path / "in", out).wait(300) == 0
    assert done == sorted(done) and done[-1] > 0  # nothing that was done was lost
    assert files(out) == files(tmp_path / "calm")

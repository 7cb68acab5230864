"""The warm parent and its kernels: what does not start in the parent, what each kernel has anew, what is shared."""

import subprocess
import threading
from contextlib import closing

import psutil
import pytest

from course_tools.grading.inside.job import Cell
from course_tools.grading.judge import sandbox
from course_tools.grading.judge.sandbox import Budget, Grounds

pytestmark = pytest.mark.sandbox

DRAW = "import random, numpy, torch\nprint(random.random(), numpy.random.rand(), torch.rand(()).item())"


@pytest.fixture(scope="module")
def grounds(warm):
    with closing(Grounds(True, Budget())) as grounds:
        yield grounds


def printed(grounds: Grounds, code: str, seed: int = 0) -> str:
    """Return what a cell prints in a kernel of its own."""
    cells = [{"id": "setup 1", "source": "import torch"}, {"id": "answer 1", "source": code}]
    run = grounds.run({"cells": cells, "inputs": {}, "parameters": {}, "seed": seed})
    told = run.told.get(Cell("answer", "1"))
    assert run.stopped == "" and told and told["error"] is None, run
    return told["printed"]


def test_every_kernel_draws_from_its_seed(grounds):
    first = printed(grounds, DRAW, seed=1)
    assert printed(grounds, DRAW, seed=1) == first
    assert not set(printed(grounds, DRAW, seed=2).split()) & set(first.split())


def test_the_parent_has_no_threads_and_no_cuda(grounds):
    assert printed(grounds, "print(torch.get_num_threads(), torch.cuda.is_initialized())") == "1 False\n"
    assert psutil.Process(grounds.zygote.process.pid).num_threads() == 1


def test_nothing_is_left_in_the_folder_for_the_next(grounds):
    assert printed(grounds, "import pathlib; print(pathlib.Path('note').write_text('hello'))") == "5\n"
    assert printed(grounds, "import pathlib; print(pathlib.Path('note').exists())") == "False\n"


def test_a_dead_parent_is_started_again(grounds):
    before = grounds.zygote.process.pid
    psutil.Process(before).kill()
    grounds.zygote.process.wait()
    assert printed(grounds, "print(1)") == "1\n"
    assert grounds.zygote.process.pid != before


def test_the_course_is_seen_but_not_as_a_whole_clone():
    paths = sandbox.readable()
    assert any(sandbox.PACKAGE.is_relative_to(path) for path in paths)
    assert str(sandbox.PACKAGE.parent) not in paths and "/" not in paths


READS = """
import glob, importlib, inspect, os
from course_utils import divergences as dv
folder = os.path.dirname(dv.__file__)
print("solve_triangular(chol_p" in open(dv.__file__).read(), len(glob.glob(folder + "/**/*.pyc", recursive=True)))
print("NotImplementedError" in inspect.getsource(dv.kl_gaussian_full), "xlogy" in inspect.getsource(dv.entropy_table))
print(float(dv.kl_gaussian_full(torch.zeros(1), torch.eye(1), torch.zeros(1), torch.eye(1))))
try:
    importlib.reload(dv).kl_table(torch.ones(1), torch.ones(1))
except NotImplementedError:
    print("refused")
print(glob.glob(folder + "/exercises/*"), glob.glob(os.path.dirname(folder) + "/solutions/*"))
"""


def test_no_file_holds_what_an_exercise_asks_for(grounds):
    assert printed(grounds, READS) == "False 0\nTrue True\n0.0\nrefused\n[] []\n"


CHANNELS = """
import ctypes, fcntl, os
from course_utils import divergences as dv
first, second = open(dv.__file__), open(dv.__file__)
for file in (first, second):
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.lockf(file, fcntl.LOCK_SH)
    for command in (fcntl.F_GETLK, fcntl.F_SETLEASE, fcntl.F_NOTIFY):
        try:
            fcntl.fcntl(file, command, bytes(32) if command == fcntl.F_GETLK else 0)
            print("LEAK", command)
        except OSError:
            pass
print(open("/proc/locks").read(), ctypes.CDLL(None).inotify_init1(0), fcntl.fcntl(first, fcntl.F_GETFL) >= 0)
"""


def test_no_lock_is_a_message_to_another_run(grounds):
    assert printed(grounds, CHANNELS) == " -1 True\n"


PIPES = """
import os
for pid in filter(str.isdigit, os.listdir("/proc")):
    if int(pid) != os.getpid():
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{fd}").startswith("pipe"):
                    os.write(os.open(f"/proc/{pid}/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK), b"message")
                    print("LEAK", pid, fd)
        except OSError:
            pass
print("end")
"""


def test_nobody_writes_into_the_workers_pipe(grounds):
    assert printed(grounds, PIPES) == "end\n"


MEMORIES = """
import os
for pid in filter(str.isdigit, os.listdir("/proc")):
    if int(pid) != os.getpid():
        try:
            with open(f"/proc/{pid}/mem", "rb", 0) as memory:
                memory.seek(id(os.open))
                print("LEAK", pid, memory.read(8))
        except OSError:
            pass
print("end")
"""


def test_nobody_reads_in_the_memory_that_a_kernel_was_forked_from(grounds):
    """There the functions are not sealed, at the same addresses."""
    assert printed(grounds, MEMORIES) == "end\n"


def test_orphans_are_members_too():
    with subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; exec sleep 60"], stdout=subprocess.PIPE) as process:
        orphan = int(process.stdout.readline())
        assert {process.pid, orphan} <= set(sandbox.members([psutil.Process().pid]))
        psutil.Process(orphan).kill()
        process.kill()


@pytest.mark.parametrize(("size", "stopped"), [(1, "kernel died"), (0, "")])
def test_who_hides_from_the_watch_is_stopped_and_who_has_ended_is_not(monkeypatch, size, stopped):
    def refuse(path):
        raise PermissionError

    watch = sandbox.Watch(Budget(), [], (480, 60), [1, 2], 0, threading.Event())
    monkeypatch.setattr(sandbox, "members", lambda roots: [psutil.Process().pid])
    monkeypatch.setattr(sandbox, "usage", lambda pid: (size, 1))
    monkeypatch.setattr(sandbox.os, "scandir", refuse)
    watch.began = True
    assert not watch.is_ours(psutil.Process().pid)
    watch.look()
    assert (watch.run.stopped, watch.run.why) == (stopped, "a process of it hid from the grader" if stopped else "")


def test_a_second_copy_of_the_course_is_masked(tmp_path, monkeypatch):
    for name in ("solutions", "course_utils/exercises"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(sandbox, "import_path", lambda: [str(tmp_path)])
    command = sandbox.bubblewrap(Budget(), [], {})
    for name in ("solutions", "course_utils/exercises"):
        assert command[command.index(str(tmp_path / name)) - 1] == "--tmpfs"

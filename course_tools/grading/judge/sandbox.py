"""Where a student's code runs: a sandbox made by bubblewrap, entered by a fork of the warm zygote, watched from here.

Inside there is a read-only system, Python and the course's package without its exercises, an empty folder of limited
size, loopback as the only network, and no process but its own. The kernel ends all of them with the sandbox. Time,
memory and the number of processes are watched from outside, where nothing inside can interrupt or patch the watch.
Without bubblewrap the same processes run with the same limits, but see the whole machine: "unsandboxed".
"""

import json
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import psutil

import course_utils
from course_tools.grading.inside import exchange
from course_tools.grading.inside.job import Cell, decode
from course_tools.grading.inside.zygote import NAMESPACES
from course_tools.grading.judge.redacted import write_redacted

PACKAGE = Path(course_utils.__file__).resolve().parent
INSIDE = Path(exchange.__file__).resolve().parent  # of the tools, all that a sandbox sees
SECRET = ("judge", "book", "hand_in")  # of the grader's own packages
FOLDER = "/tmp/work"
POLL = 0.1  # seconds between looks at memory and processes
LONGEST = 64 * 2**20  # bytes that a run may tell
PATIENCE = 120.0  # seconds to wait for our own processes
THREADS = 16  # for each process allowed


@dataclass(frozen=True)
class Budget:
    """What one submission may use. Memory and disk are bytes, times are seconds of wall clock."""

    exercise_seconds: float = 60.0  # each exercise, its cell and all its calls; and each cell of the set-up
    total_seconds: float = 480.0  # all exercises together
    memory: int = 2 * 2**30  # all processes together, beyond what they share with the warm parent
    disk: int = 64 * 2**20
    processes: int = 64


@dataclass
class Run:
    """What a run told: cell → its message; if it was stopped, how (a status), at which cell, and why."""

    told: dict[Cell, dict] = field(default_factory=dict)
    stopped: str = ""
    at: Cell | None = None
    why: str = ""


class Broken(Exception):
    """The grader's own machinery failed, not the submission."""


@cache
def import_path() -> list[str]:
    """Return where the zygote finds its modules: not what this process added, such as the folder it was started in."""
    command = [sys.executable, "-P", "-c", "import json, sys; print(json.dumps(sys.path))"]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def readable() -> list[str]:
    """Return the folders that a kernel must see: the system's, Python's, the package's."""
    wanted = ["/usr", sys.prefix, sys.base_prefix, str(PACKAGE), str(INSIDE), *import_path()]
    paths = {
        p for path in wanted if path and os.path.isdir(path) for p in (os.path.abspath(path), os.path.realpath(path))
    }
    if not (PACKAGE.parent / "pip").exists():  # a clone, not site-packages: its root is never seen as a whole
        paths = {path for path in paths if not PACKAGE.parent.is_relative_to(path)}
    paths.discard("/")
    return sorted(p for p in paths if not any(p != q and Path(p).is_relative_to(q) for q in paths))


def mask(paths: list[str], secrets: list[Path]) -> list[str]:
    """Return bubblewrap's options that put an empty folder over each secret that would be seen."""
    seen = [str(path) for path in map(Path.resolve, secrets) if any(path.is_relative_to(p) for p in paths)]
    return [option for path in seen if os.path.isdir(path) for option in ("--size", "4096", "--tmpfs", path)]


def copies() -> list[Path]:
    """Return where other copies of the course, a second clone or what was installed before, have what is secret."""
    names = ("solutions", "lectures", "course_utils/exercises", *(f"course_tools/grading/{name}" for name in SECRET))
    return [Path(path) / name for path in import_path() for name in names]


def bubblewrap(budget: Budget, secrets: list[Path], redacted: dict[Path, Path]) -> list[str]:
    """Return the command that makes a sandbox and keeps it until it is killed.

    `redacted` maps files of the package to what is seen in their place.
    """
    paths = readable()
    command = ["bwrap", "--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    command += ["--uid", "0", "--gid", "0"]  # else, for ordinary users, a second user namespace that can't be entered
    command += ["--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    command += ["--size", str(budget.disk), "--tmpfs", "/tmp", "--dir", FOLDER]
    for path in paths:
        command += ["--ro-bind", path, path]
    for link in ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"):
        if os.path.islink(link):
            command += ["--symlink", os.readlink(link), link]
        elif os.path.isdir(link):
            command += ["--ro-bind", link, link]
    for path in ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime", "/etc/fonts"):
        command += ["--ro-bind-try", path, path]
    for package in (INSIDE.parents[1], INSIDE.parents[0]):
        command += ["--ro-bind", str(package / "__init__.py"), str(package / "__init__.py")]
    others = [path for path in INSIDE.parent.iterdir() if path.is_dir() and path != INSIDE]
    compiled = PACKAGE.rglob("__pycache__") if redacted else []
    hidden = [PACKAGE / "exercises", PACKAGE.parent / "solutions", *others, *copies(), *secrets, *compiled]
    command += mask(paths, list(dict.fromkeys(hidden)))
    for path, instead in redacted.items():
        command += ["--ro-bind", str(instead), str(path)]
    command += ["--proc", "/proc", "--dev", "/dev", "--size", str(budget.disk), "--tmpfs", "/dev/shm"]
    return [*command, "--remount-ro", "/proc", "--remount-ro", "/dev", "--remount-ro", "/"]


class Zygote:
    """The warm parent, started on first use and again if it has died. Threads may share it."""

    def __init__(self):
        self.lock, self.process, self.connection = threading.Lock(), None, None

    def start(self) -> None:
        """Start the process and wait until it is warm. Raises ``Broken``."""
        self.stop()
        self.connection, theirs = socket.socketpair()
        kept = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "MPLCONFIGDIR")
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        environment |= {
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
        command = [sys.executable, "-P", "-m", "course_tools.grading.inside.zygote", str(theirs.fileno())]
        with tempfile.TemporaryFile() as errors:
            streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": errors}
            own = {"pass_fds": [theirs.fileno()], "env": environment, "start_new_session": True}
            self.process = subprocess.Popen(command, **own, **streams)
            theirs.close()
            self.connection.settimeout(PATIENCE)
            if self.connection.recv(4) != b"warm":
                self.stop()
                errors.seek(0)
                last = errors.read().decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
                raise Broken(f"the warm kernel did not start: {last[0]}")

    def stop(self) -> None:
        """End the process, if there is one."""
        if self.process is not None:
            self.connection.close()
            self.process.kill()
            self.process.wait()
            self.process = None

    def fork(self, job: dict, descriptors: list[int]) -> tuple[int, int]:
        """Let the zygote fork a keeper for a job, with these open descriptors. Raises ``Broken``.

        Returns the keeper's pid, and how many bytes of its memory are the zygote's.
        """
        with tempfile.TemporaryFile("w+", encoding="utf-8") as file, self.lock:
            json.dump(job, file)
            file.seek(0)
            try:
                if self.process is None or self.process.poll() is not None:
                    self.start()
                socket.send_fds(self.connection, [b"j"], [file.fileno(), *descriptors])
                answer = self.connection.recv(8)
                shared, _ = usage(self.process.pid)
            except OSError as error:
                self.stop()
                raise Broken(f"the warm kernel does not answer: {error}") from None
            if len(answer) != 8 or not shared:
                self.stop()
                raise Broken("the warm kernel ended")
            return int.from_bytes(answer, "big"), shared


@contextmanager
def namespaces(budget: Budget, secrets: list[Path], redacted: dict[Path, Path]) -> Iterator[tuple[int, list[int]]]:
    """Make a sandbox; give its first process and the descriptors of its namespaces; end every process in it.

    Raises ``Broken``.
    """
    with ExitStack() as stack:
        told, tell = os.pipe()
        stack.callback(os.close, told)
        command = [
            *bubblewrap(budget, secrets, redacted),
            "--info-fd",
            str(tell),
            "sh",
            "-c",
            "echo ready; exec sleep infinity",
        ]
        try:
            streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            bare = {"PATH": os.environ.get("PATH", os.defpath)}  # the first process's environment can be read inside
            process = subprocess.Popen(command, pass_fds=[tell], env=bare, start_new_session=True, **streams)
        except OSError as error:
            raise Broken(f"bubblewrap does not start: {error}") from None
        finally:
            os.close(tell)
        stack.callback(process.stderr.close)
        stack.callback(process.stdout.close)
        stack.callback(process.wait)
        stack.callback(process.kill)
        ready = select.select([process.stdout], [], [], PATIENCE)[0]
        if not ready or process.stdout.readline() != b"ready\n":
            process.kill()
            raise Broken(f"bubblewrap: {process.stderr.read().decode(errors='replace').strip()[:300] or 'no message'}")
        process.stdout.close()  # nobody reads what is written into these from inside
        process.stderr.close()
        inside = json.loads(os.read(told, 4096))["child-pid"]
        stack.callback(reap, inside)
        descriptors = [os.open(f"/proc/{inside}/ns/{name}", os.O_RDONLY) for name in NAMESPACES]
        for descriptor in descriptors:
            stack.callback(os.close, descriptor)
        yield inside, descriptors


def reap(pid: int) -> None:
    """Take leave of a process that has become our child, where we are the first process of a container."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def parent_of(pid: int | str) -> int:
    """Return the parent of a process, 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return int(stat.read().rsplit(b")", 1)[1].split()[1])  # the command before may hold anything
    except (OSError, IndexError):
        return 0


def members(roots: list[int]) -> list[int]:
    """Return the processes below these: all of a run, which in a sandbox have its first process or the keeper above.

    Whose child a process is it can't hide, as it can what else /proc tells of it.
    """
    below: dict[int, list[int]] = defaultdict(list)
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            below[parent_of(entry)].append(int(entry))
    found, level = [], roots
    while level:
        level = [child for pid in level for child in below.get(pid, [])]
        found += level
    return found


def usage(pid: int) -> tuple[int, int]:
    """Return the bytes of a process that no file stands behind, and its threads; zeros if it is gone."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as status:
            lines = dict(line.split(":", 1) for line in status)
        found = [int(lines.get(name, "0").split()[0]) for name in ("RssAnon", "RssShmem", "Threads")]
        return (found[0] + found[1]) * 1024, found[2]
    except OSError:
        return 0, 0


def unmapped_bytes(pids: list[int]) -> int:
    """Return the bytes of files in memory that processes hold open, whether or not they look at them.

    Raises ``PermissionError`` where a process keeps them from being seen.
    """
    sizes = {}
    for pid in pids:
        try:
            for entry in os.scandir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    if os.readlink(entry.path).startswith("/memfd:"):
                        found = entry.stat()
                        sizes[found.st_dev, found.st_ino] = found.st_blocks * 512
        except PermissionError:
            if usage(pid)[0]:  # of one that has ended, and waits for its parent, nobody but root sees that it has none
                raise
        except OSError:
            pass
    return sum(sizes.values())


def plain(message: dict) -> dict:
    """Return what the worker tells of a cell, in the form that it should have; who took its place could tell others."""
    calls, error = message.get("calls"), message.get("error")
    return {
        "calls": calls if isinstance(calls, str) else None,
        "error": [str(part) for part in error] if isinstance(error, list) and len(error) == 2 else None,
        "printed": str(message.get("printed", "")),
    }


class Watch:
    """Reads what a run tells, and decides when it must end: after its last cell, or beyond its budget."""

    def __init__(
        self,
        budget: Budget,
        cells: list[Cell],
        seconds: tuple[float, float],
        roots: list[int],
        shared: int,
        interrupted: threading.Event,
    ):
        self.budget, self.cells, self.interrupted = budget, cells, interrupted
        self.seconds, self.exercise_seconds = seconds  # for the run, for each exercise
        self.roots, self.shared = roots, shared  # the keeper, the sandbox's first process; bytes that are the zygote's
        self.start = self.turn = time.monotonic()  # the latter: since when the clock that runs now has been running
        self.clock, self.spent = "", defaultdict(float)  # whose clock that is; seconds on each before
        self.looked, self.bytes = 0.0, 0
        self.run, self.rest, self.ended = Run(), bytearray(), False
        self.began = False  # a student's code

    def stop(self, how: str, why: str) -> None:
        """Note how and why the run is to end."""
        self.run.stopped, self.run.why, self.ended = how, why, True

    def read(self, data: bytes) -> None:
        """Take what came through the pipe; no data is its end."""
        if not data:
            return self.fail("the kernel and its parent ended without a word")
        self.bytes += len(data)
        if self.bytes > LONGEST:
            return self.stop("memory", f"it sent more than {LONGEST // 2**20} MiB")
        self.rest += data
        if b"\n" not in data:
            return None
        *lines, self.rest = self.rest.split(b"\n")
        for line in lines:
            try:
                self.take(exchange.parse(line.decode()))
            except (ValueError, RecursionError, TypeError, AttributeError):
                self.fail("what came from the kernel's parent was no message of its own")
            if self.ended:
                return None
        return None

    def take(self, message: dict) -> None:
        """Take one message of the worker. The set-up is over with a student's first cell, whoever tells of it again."""
        if "end" in message:
            return self.fail(str(message["end"])[:500])
        cell = decode(message.get("start", message.get("done")))
        if cell not in self.cells and not cell.ours or cell.ours and self.began:
            raise ValueError(f"no cell {cell} in this run")
        if "start" in message:
            self.run.at, self.began = cell, not cell.ours
            self.change(cell.encode() if cell.ours else cell.exercise)
        else:
            self.run.told[cell] = plain(message)
            self.ended = cell == self.cells[-1]
        return None

    def change(self, clock: str) -> None:
        """Let another clock run: each cell of the set-up has one, and each exercise, whatever runs for it and when."""
        now = time.monotonic()
        self.spent[self.clock] += now - self.turn
        self.clock, self.turn = clock, now

    def fail(self, why: str) -> None:
        """Note that the run ended too early: by its own doing once a student's code has begun."""
        self.stop("kernel died" if self.began else "infrastructure", why)

    def is_ours(self, pid: int) -> bool:
        """Tell whether a process is our worker or what it forks kernels from, which hide from the kernels."""
        return self.roots[0] in (parent := parent_of(pid), parent_of(parent))

    def look(self) -> None:
        """Stop the run if it has used up its time, its memory or its processes."""
        now = time.monotonic()
        used = self.spent[self.clock] + now - self.turn
        if self.interrupted.is_set():
            return self.stop("infrastructure", "the grader was interrupted")
        if now - self.start > self.seconds:
            return self.stop("timeout", f"the submission's {self.budget.total_seconds:g} s were used up")
        if not self.began and used > self.budget.exercise_seconds:
            return self.stop("infrastructure", f"the set-up was still running after {self.budget.exercise_seconds:g} s")
        if self.began and used > self.exercise_seconds:
            return self.stop("timeout", f"still running after {self.exercise_seconds:g} s")
        if now - self.looked < POLL:
            return None
        self.looked, pids = now, members(self.roots)
        if len(pids) > self.budget.processes:
            return self.stop("kernel died", f"it started more than {self.budget.processes} processes")
        used = [usage(pid) for pid in pids]
        if sum(threads for _, threads in used) > THREADS * self.budget.processes:
            return self.stop("kernel died", f"it started more than {THREADS * self.budget.processes} threads")
        private = sum(max(0, size - self.shared) for size, _ in used)
        try:
            private += unmapped_bytes([pid for pid in pids if not self.is_ours(pid)])
        except PermissionError:
            return self.stop("kernel died", "a process of it hid from the grader")
        if private > self.budget.memory:
            return self.stop("memory", f"it took more than {self.budget.memory // 2**20} MiB")
        return None


def watch(pipe: int, watcher: Watch) -> Run:
    """Read a run's pipe until it ends or must be ended."""
    while not watcher.ended:
        if select.select([pipe], [], [], POLL)[0]:
            watcher.read(os.read(pipe, 1 << 20))
        if not watcher.ended:
            watcher.look()
    run = watcher.run
    broken = [told["error"] for cell, told in run.told.items() if cell.ours and told["error"]]
    if broken:
        run.stopped, run.why = "infrastructure", f"the set-up failed: {': '.join(broken[0])}"
    return run


class Grounds:
    """Where jobs run: with or without isolation, within a budget. Threads may share it; close it at the end."""

    def __init__(self, sandboxed: bool, budget: Budget, secrets: list[Path] | None = None):
        self.sandboxed, self.budget, self.secrets, self.zygote = sandboxed, budget, secrets or [], Zygote()
        self.interrupted = threading.Event()  # set from another thread, ends all runs
        self.folder = tempfile.TemporaryDirectory(prefix="course-redacted-")
        self.redacted = write_redacted(PACKAGE, Path(self.folder.name))

    def close(self) -> None:
        """End the warm parent."""
        self.zygote.stop()
        self.folder.cleanup()

    def try_run(self, job: dict, seconds: tuple[float, float]) -> Run:
        """Run a job once, for so many seconds in all and in each exercise. Raises ``Broken`` or ``OSError``."""
        with ExitStack() as stack:
            pipe, tell = os.pipe()
            stack.callback(os.close, pipe)
            control, close = os.pipe()
            folder, descriptors, first = FOLDER, [], []
            try:
                if self.sandboxed:
                    inside, descriptors = stack.enter_context(namespaces(self.budget, self.secrets, self.redacted))
                    first = [inside]
                else:
                    folder = tempfile.mkdtemp(prefix="course-grading-")
                    stack.callback(shutil.rmtree, folder, ignore_errors=True)
                limits = {"memory": self.budget.memory, "disk": self.budget.disk}
                whole = {**job, "folder": folder, "limits": limits}
                keeper, shared = self.zygote.fork(whole, [tell, control, *descriptors])
            except BaseException:
                os.close(close)
                raise
            finally:
                os.close(tell)
                os.close(control)
            stack.callback(await_end, keeper)
            stack.callback(os.close, close)  # before that: the keeper ends all
            cells = [decode(cell["id"]) for cell in job["cells"]]
            return watch(pipe, Watch(self.budget, cells, seconds, [keeper, *first], shared, self.interrupted))

    def run(self, job: dict, seconds: float | None = None, exercise_seconds: float | None = None) -> Run:
        """Run a job: {"cells": [{"id", "source"}], "inputs", "parameters", "seed"}; an id is an encoded ``Cell``.

        It may take so many seconds in all and in each exercise, no more than the budget has. A failure of the
        infrastructure is tried once more, and then told as the status "infrastructure".
        """
        whole = self.budget.total_seconds if seconds is None else seconds
        each = self.budget.exercise_seconds
        each = each if exercise_seconds is None else min(each, exercise_seconds)
        for _ in range(2):
            try:
                run = self.try_run(job, (whole, each))
            except (Broken, OSError, ValueError) as error:  # of our own machinery, whose every step is ours
                run = Run(stopped="infrastructure", why=str(error))
            if run.stopped != "infrastructure" or self.interrupted.is_set():
                break
        return run


def await_end(pid: int) -> None:
    """Wait until a process, not our child, is gone; a run leaves nothing behind. Raises ``Broken`` if it stays."""
    end = time.monotonic() + PATIENCE
    with suppress(psutil.NoSuchProcess):
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > end:
                raise Broken(f"process {pid} does not end")
            time.sleep(0.005)
    reap(pid)

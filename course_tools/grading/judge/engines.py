"""Where the submissions of a run are graded, if not by this machine's pool: an array job of Slurm, or a Dask cluster.

Both start ``course grade-one`` once for each submission, as a subprocess with a time limit: no student's code runs in a
process of theirs. Both assume that the submissions, the folder of results and this Python have the same absolute paths
on every machine (a shared file system). An engine returns students → why there is no result, for those without one.
"""

import contextlib
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from tqdm import tqdm

from course_tools.grading.book import records
from course_utils.errors import choose, require
from course_utils.files import atomically

UNIT = (sys.executable, "-m", "course_tools.cli", "grade-one")
ENGINES = ("dask", "slurm")
MAX_TASKS = 1000  # of one array: Slurm's MaxArraySize is 1001 unless a cluster says otherwise


class Job(NamedTuple):
    """One submission to grade."""

    student: str
    path: Path


@dataclass(frozen=True)
class Limits:
    """What one submission may take, and how they are spread. Raises ``ValueError`` for values that make no sense."""

    seconds: float = 1800.0  # a submission; far above its own budget, it only stops what hangs
    memory: str = "4G"  # a task of Slurm
    parallel: int = 50  # tasks of Slurm at a time
    chunk: int = 1  # submissions a task of Slurm, at least; more where the array would have over MAX_TASKS tasks

    def __post_init__(self):
        require(self.seconds >= 1, f"time limit {self.seconds!r} is no number of seconds from 1 up")
        require(bool(re.fullmatch(r"[1-9]\d*[KMGT]?", self.memory)), f"memory {self.memory!r} is not of a form like 4G")
        for name in ("parallel", "chunk"):
            require(getattr(self, name) >= 1, f"{name} {getattr(self, name)!r} is not a whole number from 1 up")


def prefix(out: Path, options: Sequence[str], unit: Sequence[str] = UNIT) -> list[str]:
    """Return what the commands of all submissions begin with."""
    return [*unit, *options, f"--out={out.absolute()}"]


def commands(jobs: Sequence[Job], out: Path, options: Sequence[str], unit: Sequence[str] = UNIT) -> list[list[str]]:
    """Return the command that grades each submission; `options` are all others, such as ``--lecture 02 --seed 0``."""
    start = prefix(out, options, unit)
    return [[*start, f"--student={job.student}", str(job.path.absolute())] for job in jobs]


def run(
    engine: str,
    jobs: Sequence[Job],
    out: Path,
    options: Sequence[str],
    scheduler: str | None = None,
    limits: Limits | None = None,
    done: Callable[[Job], bool] | None = None,
    settle: float = 60.0,
    unit: Sequence[str] = UNIT,
) -> dict[str, str]:
    """Grade `jobs` by "slurm" or "dask" into `out`; return students → why there is no result, for those without one.

    `done` tells whether a job's result is there and belongs to this run (if not given: whether there is one at all).
    A shared file system may show results late: they are waited for up to `settle` seconds. Raises ``ValueError`` or
    ``FileNotFoundError`` if the engine can't be started at all.
    """
    choose(engine, ENGINES, "engine")
    limits = limits or Limits()
    if not jobs:
        return {}
    if engine == "slurm":
        failed = slurm(jobs, out, options, limits, settle=settle, unit=unit)
    else:
        failed = dask(jobs, out, options, scheduler, limits, unit=unit)
    ended = [job for job in jobs if job.student not in failed]
    unseen = wait_for(ended, done or (lambda job: records.path_of(out, job.student).is_file()), settle)
    text = f"graded, but no result is to be seen in {out / 'results'}: do the machines share that folder?"
    return failed | {job.student: text for job in unseen}


def wait_for(jobs: Sequence[Job], done: Callable[[Job], bool], seconds: float, pause: float = 0.5) -> list[Job]:
    """Return the jobs that are not done after at most `seconds`."""
    end = time.monotonic() + seconds
    while (left := [job for job in jobs if not done(job)]) and time.monotonic() < end:
        jobs = left
        time.sleep(pause)
    return left


def last_line(text: str) -> str:
    """Return the last line with anything in it, or nothing."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def tail(file: IO[bytes]) -> str:
    """Return the last line of a file that is open for reading bytes; only its last 4 kB are read."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
    return last_line(file.read().decode("utf-8", "replace"))


def tail_of(path: Path) -> str:
    """Return the last line of a file, or nothing if there is no such file."""
    try:
        with path.open("rb") as file:
            return tail(file)
    except FileNotFoundError:
        return ""


def explain(code: int, line: str, seconds: float) -> str:
    """Return why ``grade-one`` failed, from its exit code (124: stopped after `seconds`) and last line of stderr."""
    if code == 124:
        return f"stopped after {seconds:g} s"
    killed = code in (-signal.SIGKILL, 128 + signal.SIGKILL)
    what = f"killed (exit code {code}), perhaps for want of memory" if killed else f"exit code {code}"
    return f"{what}: {line}" if line else what


# Slurm ----------------------------------------------------------------------------------------------------------------

HEAD = """\
#!/bin/bash
# Grades {count} submissions, {chunk} a task. Written by `course grade --engine slurm`, which submits it and waits.
# Account, partition and the like are taken from SBATCH_ACCOUNT, SBATCH_PARTITION, … in the environment.
#SBATCH --job-name=course-grade
#SBATCH --array=0-{last}%{parallel}
#SBATCH --output={log}
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem={memory}
#SBATCH --time={minutes}
# shellcheck disable=SC2016  # what is quoted below is meant as it stands
set -euo pipefail
export OMP_NUM_THREADS=1
"""

BODY = """\
# Each submission leaves N.exit, its command's exit code, and N.err, what that said, in the folder of this run.
for ((i = SLURM_ARRAY_TASK_ID * chunk; i < (SLURM_ARRAY_TASK_ID + 1) * chunk && i < ${#students[@]}; i++)); do
    code=0
    timeout --kill-after=10 "$seconds" "${command[@]}" --student="${students[i]}" "${submissions[i]}" \\
        < /dev/null 2> "$run/$i.err" || code=$?
    echo "$code" > "$run/$i.exit"
done
"""


def chunk_of(count: int, limits: Limits) -> int:
    """Return how many of `count` submissions a task of the array grades."""
    return max(limits.chunk, math.ceil(count / MAX_TASKS))


def bash_array(name: str, values: Sequence[str]) -> str:
    """Return the line or lines of Bash that set an array."""
    return f"{name}=(\n" + "".join(f"    {shlex.quote(value)}\n" for value in values) + ")\n"


def script_of(
    jobs: Sequence[Job], out: Path, options: Sequence[str], run: Path, limits: Limits, unit: Sequence[str] = UNIT
) -> str:
    """Return the batch script that grades `jobs` as an array and reports into the folder `run`.

    The jobs stand in the script, of which Slurm keeps a copy: a later run can't change what an earlier one grades.
    """
    chunk = chunk_of(len(jobs), limits)
    head = HEAD.format(
        count=len(jobs),
        chunk=chunk,
        last=math.ceil(len(jobs) / chunk) - 1,
        parallel=limits.parallel,
        log=shlex.quote(f"{run.parent}/".replace("%", "%%") + "%A_%a.log"),
        memory=limits.memory,
        minutes=math.ceil(chunk * (limits.seconds + 10) / 60) + 5,
    )
    settings = f"chunk={chunk}\nseconds={math.ceil(limits.seconds)}\nrun={shlex.quote(str(run))}\n"
    arrays = {
        "command": prefix(out, options, unit),
        "students": [job.student for job in jobs],
        "submissions": [str(job.path.absolute()) for job in jobs],
    }
    return "\n".join([head, settings, *(bash_array(name, values) for name, values in arrays.items()), BODY])


def write_array(
    jobs: Sequence[Job], out: Path, options: Sequence[str], limits: Limits, unit: Sequence[str] = UNIT
) -> tuple[Path, Path]:
    """Write ``out/slurm/grade.sbatch``; return it and the new folder that its tasks report into."""
    folder = out.absolute() / "slurm"
    require(
        not re.search(r"[\\\"'\n]", str(folder)),
        f"folder {str(out)!r} has a quote, a backslash or a line break in its path: Slurm can't use it, take another",
    )
    folder.mkdir(parents=True, exist_ok=True)
    run = Path(tempfile.mkdtemp(prefix="run_", dir=folder))
    script = folder / "grade.sbatch"
    atomically(script, script_of(jobs, out, options, run, limits, unit))
    return script, run


def slurm(
    jobs: Sequence[Job],
    out: Path,
    options: Sequence[str],
    limits: Limits,
    settle: float = 60.0,
    unit: Sequence[str] = UNIT,
    sbatch: str = "sbatch",
) -> dict[str, str]:
    """Write and submit an array job, and wait until it is done; return students → why there is no result.

    Raises ``FileNotFoundError`` if there is no `sbatch`, ``ValueError`` if it refuses the array.
    """
    script, run = write_array(jobs, out, options, limits, unit)
    if not shutil.which(sbatch):
        raise FileNotFoundError(
            f"there is no {sbatch} here: the array job stands in {script}; submit it where Slurm is, "
            "and when it is done give the same `course grade` again without --engine for the gradebook"
        )
    codes: dict[int, int] = {}
    with tqdm(total=len(jobs), desc="graded by Slurm", unit="submission", file=sys.stderr) as bar:

        def look() -> None:
            codes.update(
                {i: code for i in range(len(jobs)) if i not in codes and (code := exit_code(run, i)) is not None}
            )
            bar.update(len(codes) - bar.n)
            bar.refresh()  # the seconds, while none is done

        array = submit_and_wait(script, sbatch, look)
        end = time.monotonic() + settle
        while len(codes) < len(jobs) and time.monotonic() < end:
            time.sleep(0.5)
            look()
    chunk = chunk_of(len(jobs), limits)
    return {
        job.student: text
        for i, job in enumerate(jobs)
        if (text := verdict(codes.get(i), run, i, run.parent / f"{array}_{i // chunk}.log", limits.seconds))
    }


def exit_code(run: Path, index: int) -> int | None:
    """Return the exit code that a task of the array wrote for a submission, or None as long as there is none."""
    try:
        text = (run / f"{index}.exit").read_text("utf-8")
    except FileNotFoundError:
        return None
    return int(text) if text.endswith("\n") else None


def submit_and_wait(script: Path, sbatch: str, look: Callable[[], None], pause: float = 2.0) -> str:
    """Submit an array, call `look` now and then until it is done, and return its number.

    The exit code of ``sbatch --wait`` is the highest of the tasks', so a number on stdout is what tells a submission.
    """
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen([sbatch, "--parsable", "--wait", str(script)], stdout=stdout, stderr=stderr)
        try:
            while process.poll() is None:
                look()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(pause)
            look()
        except KeyboardInterrupt:
            print(
                "Slurm may go on with the array (`scancel --me --name=course-grade` stops it); "
                "the same command again grades what is missing then, and makes the gradebook.",
                file=sys.stderr,
            )
            raise
        finally:
            process.terminate()
            process.wait()
        said = tail(stdout)
        require(
            bool(re.match(r"\d+", said)), f"Slurm did not take {script}: {tail(stderr) or 'sbatch did not say why'}"
        )
        return re.match(r"\d+", said).group()


def verdict(code: int | None, run: Path, index: int, log: Path, seconds: float) -> str | None:
    """Return why a submission of an array has no result, or None if its command ended well."""
    if code == 0:
        return None
    if code is not None:
        return explain(code, tail_of(run / f"{index}.err"), seconds)
    line = tail_of(log)
    return f"not graded: Slurm's task ended or was lost before it ({line or 'it said nothing'}; see {log})"


# Dask -----------------------------------------------------------------------------------------------------------------


def execute(command: Sequence[str], seconds: float) -> tuple[int, str]:
    """Run a command, for at most so many seconds; return its exit code (124: stopped) and the last line of its stderr.

    It gets a process group of its own, all of which is killed in the end.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env=environment,
            start_new_session=True,
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = 124
        finally:
            stop(process)
        return code, tail(stderr)


def stop(process: subprocess.Popen, grace: float = 10.0) -> None:
    """End a process and its group: by SIGTERM, so that it can clean up, and by SIGKILL after `grace` seconds."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nothing is left of it
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def ticking(bar: tqdm, seconds: float | None = None) -> Iterator[None]:
    """Let a bar move every so many seconds, also while no submission ends; a log needs fewer lines than a terminal."""
    ended, pause = threading.Event(), seconds or (1.0 if sys.stderr.isatty() else 30.0)

    def tick() -> None:
        while not ended.wait(pause):
            bar.refresh()

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def connect(scheduler: str | None, seconds: float = 10.0):
    """Return a ``distributed.Client`` of a running scheduler.

    Raises ``ValueError`` if none answers within so many seconds, or if Dask is not installed.
    """
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise ValueError(f"the engine 'dask' needs what is not installed ({error}): pip install -e '.[dask]'") from None
    require(bool(scheduler), "the engine 'dask' needs --scheduler ADDRESS, such as --scheduler tcp://host:8786")
    form = bool(re.fullmatch(r"((tcp|tls|ucx|ws|wss)://)?[^\s/]+:\d{1,5}", scheduler))
    require(form, f"scheduler {scheduler!r} is no address of the form tcp://host:8786")
    try:
        return Client(scheduler, timeout=seconds)
    except OSError as error:
        why = last_line(str(error)) or type(error).__name__
        raise ValueError(f"no Dask scheduler answers at {scheduler!r} ({why}): is it running?") from None


def dask(
    jobs: Sequence[Job],
    out: Path,
    options: Sequence[str],
    scheduler: str | None,
    limits: Limits,
    unit: Sequence[str] = UNIT,
) -> dict[str, str]:
    """Grade by the workers of a running Dask cluster, one submission a thread; return students → why no result.

    A worker that is lost has its submissions graded by another. Raises ``ValueError`` if the scheduler can't be had.
    """
    failed = {}
    with connect(scheduler) as client:
        from distributed import as_completed

        if not client.scheduler_info()["workers"]:
            print(f"The Dask scheduler {scheduler} has no workers yet; waiting for some.", file=sys.stderr)
        futures = client.map(execute, commands(jobs, out, options, unit), seconds=limits.seconds, pure=False)
        students = {future.key: job.student for future, job in zip(futures, jobs, strict=True)}
        bar = tqdm(total=len(jobs), desc="graded by Dask", unit="submission", file=sys.stderr)
        with bar, ticking(bar):
            for future in as_completed(futures):
                if text := reason(future, limits.seconds):
                    failed[students[future.key]] = text
                bar.update()
    return failed


def reason(future, seconds: float) -> str | None:
    """Return why the submission of a completed future has no result, or None if its command ended well."""
    if future.status == "finished":
        code, line = future.result()
        return explain(code, line, seconds) if code else None
    if future.status == "error":
        error = future.exception()
        return f"not graded: {type(error).__name__}: {last_line(str(error))}"
    return f"not graded: the Dask scheduler was lost, or took it back ({future.status})"

"""Grades a folder of submissions: what is known already is kept, what is missing is run, and changes are listed.

The journal is the folder of results, one file a student, each exercise with the hash of all that it depends on. It is
written as submissions are done, so a run that is killed loses only what was under way.
"""

import json
import re
import secrets
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from course_tools.grading.book import records
from course_tools.grading.book.corrections import gather_corrections
from course_tools.grading.book.entries import State, published
from course_tools.grading.book.gradebook import TABLES
from course_tools.grading.book.records import STOPPED, Record, Result, Written
from course_tools.grading.hand_in.folder import handout, submissions_in
from course_tools.grading.hand_in.submission import Submission, read_submission
from course_tools.grading.inside.job import Cell
from course_tools.grading.judge import engines
from course_tools.grading.judge.assignment import Assignment, prepare
from course_tools.grading.judge.engines import Limits
from course_tools.grading.judge.judging import judge, key_of
from course_tools.grading.judge.sandbox import Budget, Grounds
from course_tools.grading.spreadsheets import to_csv
from course_tools.notebooks import all_lectures, find_lecture
from course_utils.errors import choose, require
from course_utils.files import atomically

Change = tuple[str, str, str, str]  # student, exercise, before, after
SEEDS = 2**31
INSTALL = "install bubblewrap (Debian, Ubuntu: apt-get install bubblewrap), or grade code that you trust --unsandboxed"


@dataclass(frozen=True)
class Options:
    """How to grade: the inputs' seed, isolation, budget, what to run again, one exercise only."""

    seed: int | None = None  # of the inputs; None: that of the runs before in the same folder, else a new one
    sandboxed: bool = True
    budget: Budget = Budget()
    rerun: str = "none"  # or "failed", "all"
    exercise: str | None = None
    student: str | None = None  # one only, graded again with the seed it had

    @property
    def isolation(self) -> str:
        """What to stamp on every row."""
        return "bubblewrap" if self.sandboxed else "unsandboxed"

    def arguments(self, lecture: str) -> list[str]:
        """Return the options of ``course grade-one`` that say the same."""
        given = [f"--lecture={lecture}", f"--seed={self.seed}", f"--seconds={self.budget.exercise_seconds!r}"]
        given += [f"--memory={self.budget.memory // 2**20}", f"--rerun={self.rerun}"]
        given += [f"--exercise={self.exercise}"] if self.exercise else []
        return given + ([] if self.sandboxed else ["--unsandboxed"])


def budget_of(seconds: float, memory: int) -> Budget:
    """Return the budget of so many seconds an exercise and MiB. Raises ``ValueError`` for too little of either."""
    require(seconds > 0, f"--seconds {seconds:g}: an exercise needs more than 0; the default is 60")
    require(memory >= 64, f"--memory {memory}: an exercise needs at least 64 MiB; the default is 2048")
    return Budget(exercise_seconds=seconds, total_seconds=8 * seconds, memory=memory * 2**20)


def find_submissions(folder: Path, given: frozenset[str] = frozenset()) -> dict[str, Path]:
    """Return student → file, as ``submissions_in`` does. Raises as it does, and for a name that no file can have."""
    found = submissions_in(folder, [lecture.name for lecture in all_lectures()], given)
    for student in found:
        records.path_of(folder, student)
    return found


def note_gone(submissions: Path, out: Path, given: frozenset[str] = frozenset()) -> list[str]:
    """Say in the results of students whose submission is no longer there that it isn't; return these students."""
    found, gone = find_submissions(submissions, given), []
    for record in records.read_all(out):
        if record.gone != (record.student not in found):
            records.write(out, replace(record, gone=not record.gone))
        if record.student not in found:
            gone.append(record.student)
    return gone


def former(out: Path, student: str) -> Record | None:
    """Return the record of an earlier run, None if there is none."""
    path = records.path_of(out, student)
    return records.read(path) if path.exists() else None


def pending(assignment: Assignment, submission: Submission, old: Record | None, options: Options) -> list[str]:
    """Return the exercises whose result is missing, out of date or to be run again."""
    if options.exercise and old is not None:
        return [options.exercise]
    ids = []
    for id in assignment.exercises:
        result = old.exercises.get(id) if old else None
        key = key_of(assignment, submission, options.budget, options.isolation, id)
        again = options.rerun == "all" or (options.rerun == "failed" and result and result.status in STOPPED)
        if result is None or result.key != key or result.status == "infrastructure" or again:
            ids.append(id)
    return ids


def read(path: Path, assignment: Assignment) -> Submission:
    """Return what a submission's file holds for an assignment."""
    return read_submission(path, assignment.wanted)


def grade_file(path: Path, student: str, assignment: Assignment, grounds: Grounds, out: Path, options: Options) -> None:
    """Grade what has to be of one submission, and write its record into `out`."""
    submission, old = read(path, assignment), former(out, student)
    version = records.version_of(submission.sha256, assignment.seed)
    kept = old.exercises if old else {}
    ids = pending(assignment, submission, old, options)
    known = {id: result for id, result in kept.items() if id not in ids and result.version == version}
    results = judge(assignment, submission, grounds, ids, known)
    for id, result in results.items():
        result.key = key_of(assignment, submission, options.budget, options.isolation, id)
        result.version, result.course = version, assignment.code[:12]
    if grounds.interrupted.is_set():
        return
    record = Record(
        student=student,
        lecture=assignment.lecture,
        file=submission.file,
        sha256=submission.sha256,
        seed=assignment.seed,
        isolation=options.isolation,
        problem=submission.problem,
        beside=submission.beside,
        exercises={id: results.get(id) or kept[id] for id in assignment.exercises},
        written={
            id: Written(submission.written.get(id), points, submission.pictures.get(id, []))
            for id, points in assignment.written.items()
        },
    )
    records.write(out, record)


def check_grounds(grounds: Grounds) -> None:
    """Run a trivial job. Raises ``ValueError`` if nothing can be run here, with what to do."""
    ours, theirs = Cell("setup", "torch"), Cell("answer", "sum")
    sources = {ours: "import torch", theirs: "assert 1 + 1 == 2"}
    cells = [{"id": cell.encode(), "source": source} for cell, source in sources.items()]
    run = grounds.run({"cells": cells, "inputs": {}, "parameters": {}, "seed": 0})
    if run.stopped or run.told[theirs]["error"]:
        raise ValueError(f"no {'sandbox' if grounds.sandboxed else 'kernel'} here ({run.why}): {INSTALL}")


def settle(out: Path, lecture: str, seed: int | None, anew: bool) -> int:
    """Return the seed of this folder of grades: the given one, else the one of the runs before, else a new one.

    Raises ``ValueError`` if the folder holds the grades of another lecture, or of another seed unless all is graded
    `anew`.
    """
    path, known = out / "run.json", None
    if path.exists():
        try:
            run = json.loads(path.read_text("utf-8"))
            known = int(run["seed"])
            require(run["lecture"] == lecture, f"{out} holds the grades of {run['lecture']}: take another --out")
        except (KeyError, TypeError, json.JSONDecodeError):
            raise ValueError(f"{path} is not what course grade writes: delete it, or take another --out") from None
    if None not in (seed, known) and seed != known and not anew:
        raise ValueError(f"{out} holds grades with seed {known}, not {seed}: give --rerun all too, or another --out")
    seed = next(s for s in (seed, known, secrets.randbelow(SEEDS)) if s is not None)
    require(0 <= seed < SEEDS, f"seed {seed} is out of range; allowed: 0 to {SEEDS - 1}")
    return seed


def show(points: float | None, status: str) -> str:
    """Return a result in a few characters."""
    return f"{'?' if points is None else f'{points:g}'} ({status})"


def changes(before: State, after: Iterable[Record]) -> list[Change]:
    """Return (student, exercise, before, after) of the grades that are not those of the last gradebook."""
    return [
        (record.student, id, show(*before[record.student].get(id, (None, "nothing"))), show(now.points, now.status))
        for record in after
        if record.student in before
        for id, now in record.exercises.items()
        if before[record.student].get(id) != (now.points, now.status)
    ]


def fail(out: Path, student: str, path: Path, assignment: Assignment, options: Options, why: str) -> None:
    """Write the record of a student whom the grader could not grade, so that no older grade stands for them."""
    record = Record(student, assignment.lecture, path.name, "", assignment.seed, options.isolation, problem=why)
    for id, exercise in assignment.exercises.items():
        record.exercises[id] = Result("infrastructure", None, float(exercise.points), cause="stopped", detail=why)
    record.written = {id: Written(None, points) for id, points in assignment.written.items()}
    records.write(out, record)


def slowest(at_work: Mapping[str, float]) -> str:
    """Return which submission has been at work the longest and for how many seconds, and how many others are."""
    started = sorted(dict(at_work).items(), key=lambda item: item[1])
    if not started:
        return ""
    (student, since), others = started[0], len(started) - 1
    return f"{student[:30]} for {time.monotonic() - since:.0f} s" + (f", {others} more" if others else "")


def follow(futures: Iterable[Future], at_work: Mapping[str, float], tick: float | None = None) -> Iterator[Future]:
    """Yield futures as they end, with a bar that moves every `tick` seconds, also while none does.

    `at_work` maps the students who are being graded to when that began.
    """
    waiting = set(futures)
    tick = tick or (1.0 if sys.stderr.isatty() else 30.0)  # a log needs fewer lines than a terminal
    with tqdm(total=len(waiting), desc="graded", unit="submission") as bar:
        while waiting:
            ended, waiting = wait(waiting, tick, FIRST_COMPLETED)
            bar.set_postfix_str(slowest(at_work), refresh=False)
            bar.update(len(ended))
            bar.refresh()
            yield from ended


def local(
    todo: dict[str, Path], assignment: Assignment, out: Path, options: Options, jobs: int, secrets: list[Path]
) -> dict[str, str]:
    """Grade submissions on this machine, `jobs` at a time; return student → what went wrong with the grader."""
    failures: dict[str, str] = {}
    at_work: dict[str, float] = {}

    def grade_next(path: Path, student: str) -> None:
        at_work[student] = time.monotonic()
        try:
            grade_file(path, student, assignment, grounds, out, options)
        finally:
            del at_work[student]

    with closing(Grounds(options.sandboxed, options.budget, secrets)) as grounds:
        check_grounds(grounds)
        with ThreadPoolExecutor(jobs) as pool:
            futures = {pool.submit(grade_next, path, student): student for student, path in todo.items()}
            try:
                for future in follow(futures, at_work):
                    try:
                        future.result()
                    except OSError:  # a full disk is everybody's
                        raise
                    except Exception as error:  # of one student
                        failures[futures[future]] = f"{type(error).__name__}: {error}"
            except BaseException:  # Ctrl-C
                grounds.interrupted.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return failures


def elsewhere(
    engine: str, todo: dict[str, Path], assignment: Assignment, out: Path, options: Options, limits: Limits, scheduler
) -> dict[str, str]:
    """Grade submissions by Slurm or Dask; return student → why there is no result."""

    def done(job: engines.Job) -> bool:
        settled = replace(options, rerun="none", exercise=None)
        return not pending(assignment, read(job.path, assignment), former(out, job.student), settled)

    jobs = [engines.Job(student, path) for student, path in todo.items()]
    checked = None if options.exercise else done  # a regraded exercise leaves others that may be out of date
    return engines.run(engine, jobs, out, options.arguments(assignment.lecture), scheduler, limits, checked)


def grade_all(
    submissions: Path,
    which: str,
    out: Path,
    options: Options,
    jobs: int = 2,
    engine: str | None = None,
    limits: Limits | None = None,
    scheduler: str | None = None,
) -> tuple[list[Record], list[Change], dict[str, str]]:
    """Grade a folder of submissions into `out`; return the records, the changed grades, and student → failure.

    `engine`: "slurm" or "dask" with its `limits`; None for this machine, `jobs` at a time. Raises ``ValueError`` or
    ``FileNotFoundError`` for bad input.
    """
    found, lecture = find_submissions(submissions, handout(which)), find_lecture(which).name
    seed = settle(out, lecture, options.seed, options.rerun == "all" and not options.student)
    if options.student:
        choose(options.student, found, "student")
        found, options = {options.student: found[options.student]}, replace(options, rerun="all")
        before = former(out, options.student)
        options = replace(options, seed=before.seed if before else seed)
    assignment = prepare(which, options.seed if options.student else seed)
    if options.exercise:
        choose(options.exercise, assignment.exercises, "exercise")
    options = replace(options, seed=assignment.seed)
    with locked(out):
        if list((out / "results").glob("*.json")):
            gather_corrections(out, records.read_all(out))  # a mistake in them is told before the work
        atomically(out / "run.json", json.dumps({"lecture": lecture, "seed": seed}) + "\n")
        todo = {s: p for s, p in found.items() if pending(assignment, read(p, assignment), former(out, s), options)}
        failures: dict[str, str] = {}
        if todo and engine:
            failures = elsewhere(engine, todo, assignment, out, options, limits or Limits(), scheduler)
        elif todo:
            failures = local(todo, assignment, out, options, jobs, [submissions, out])
        for student, why in failures.items():
            fail(out, student, found[student], assignment, options, why)
        after = [record for student in found if (record := former(out, student))]
        return after, changes(published(out), after), failures


def left_behind(out: Path) -> list[Path]:
    """Return what a run that was killed was writing into a folder of grades: NAME.PID beside NAME."""
    found = [path for name in (*TABLES, "run.json", "changes.csv") for path in out.glob(f"{name}.*")]
    found += [path for name in ("results", "feedback", "marking") for path in (out / name).glob("*.*.*")]
    return [path for path in found if re.fullmatch(r".+\.(json|csv|html|zip)\.\d+", path.name)]


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep others out of a folder of grades, made if it is not there. Raises ``ValueError`` if one is at work in it."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / ".lock", timeout=0):
            for left in left_behind(out):
                left.unlink(missing_ok=True)
            yield
    except Timeout:
        raise ValueError(f"another course grade is at work in {out}: wait for it, or take another --out") from None


def grade_one(path: Path, student: str, which: str, out: Path, options: Options) -> Record:
    """Grade one submission into `out`; a result that still holds is kept. Raises ``ValueError`` for bad input."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no submission")
    records.path_of(out, student)
    require(options.seed is not None and 0 <= options.seed < SEEDS, f"--seed {options.seed}: 0 to {SEEDS - 1}")
    assignment = prepare(which, options.seed)
    if pending(assignment, read(path, assignment), former(out, student), options):
        local({student: path}, assignment, out, options, 1, [path.parent, out])
    return records.read(records.path_of(out, student))


def write_changes(out: Path, changed: list[Change]) -> Path:
    """Write the grades that changed in this run."""
    head = ("student", "exercise", "before", "after")
    atomically(out / "changes.csv", to_csv([head, *changed]))
    return out / "changes.csv"


def incomplete(all_records: Iterable[Record]) -> list[str]:
    """Return the students for whom the infrastructure failed."""
    return [record.student for record in all_records if not record.complete]

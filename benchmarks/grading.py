"""The course's grader against nbgrader and a plain papermill loop: the same honest submissions, side by side.

Run it by ``.venv/bin/python benchmarks/grading.py [--submissions 8] [--rounds 3]`` on Linux while nothing else runs:
CPU seconds are those of the whole machine (/proc/stat: user, nice, system), so that no process is overlooked, whoever
its parent is; what the idle machine and this program use is taken off. Memory is the largest sum of the proportional
set sizes (PSS: of a page that n processes share each has 1/n) of all processes below this one, looked at every 0.2 s
(a class: every second).

All get the solved exercises of lecture 1. The peers' notebook is the lecture's set-up and the exercises' cells, and
after each a cell that compares with the reference on the same inputs as ours; nothing of the rest of the lecture. Ours
writes all tables and pages too. nbgrader (PyPI) is put into build/ on the first run.

With ``--class 300`` a class of so many is graded instead, ``--jobs`` at a time: most answers right, some wrong, open or
with an error, and five hostile ones. It ends with an error if an answer gets another status than it must, and tells
how many rows the list of what needs an eye has.
"""

import argparse
import copy
import csv
import json
import os
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nbformat
import peers
import psutil
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

from course_tools import bootstrap
from course_tools.notebook_source import exercise_of, inject
from course_tools.notebooks import find_lecture, read_notebook

PINS = [
    "nbgrader==0.9.6",
    "SQLAlchemy==2.1.9",
    "alembic==1.20.1",
    "Mako==1.4.3",
    "RapidFuzz==3.14.6",
    "notebook==7.6.5",
]
LECTURE, SEED = "01", 5
LOOK, LOOK_AT_A_CLASS = 0.2, 1.0  # seconds between looks at memory, each of which takes time itself
IDLE = 5  # seconds for which the idle machine is measured
BUSY = 0.1  # CPU seconds a second, above which it isn't idle
AIM = "aim: at most 0.50 of nbgrader's CPU seconds, sandbox included; at most 0.60 of its memory with 4 at a time"
TEST = """from course_utils.exercises.checking import agrees, fresh
from course_utils.exercises.divergences import EXERCISES
exercise = EXERCISES["{id}"]
for case in exercise.cases(torch.Generator().manual_seed({seed})):
    assert agrees({name}(*fresh(case.args)), exercise.reference(*fresh(case.args)), exercise.tol), case.label"""


# Submissions -------------------------------------------------------------------------------------------------------


def marked(cell: NotebookNode, id: str, **kind) -> NotebookNode:
    """Return a code cell with nbgrader's marks."""
    plain = {"grade": False, "solution": False, "locked": True, "task": False, "schema_version": 3}
    return new_code_cell(cell.source, metadata={"nbgrader": {**plain, "cell_type": "code", "grade_id": id, **kind}})


def peers_notebook(nb: NotebookNode) -> NotebookNode:
    """Return the set-up and the exercises of a lecture, each with its test, as nbgrader wants them."""
    from course_tools.grading.judge.assignment import code_of
    from course_utils.exercises.divergences import EXERCISES

    made = new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}})
    made.cells = [marked(cell, f"setup-{i}") for i, cell in enumerate(code_of(nb))]
    for cell in nb.cells:
        if id := exercise_of(cell):
            number = id.replace(".", "-")
            made.cells.append(marked(cell, f"exercise-{number}", solution=True, locked=False))
            test = new_code_cell(TEST.format(id=id, name=EXERCISES[id].function, seed=SEED))
            made.cells.append(marked(test, f"test-{number}", grade=True, points=EXERCISES[id].points))
    return made


def student(i: int) -> str:
    """Return the name of student i; the first letters share the students out to nbgrader's four processes."""
    return f"{'abcd'[i % 4]}{i:03d}"


def make_submissions(folder: Path, count: int) -> None:
    """Write what all graders start from: the solved lecture for ours, the solved assignment for the peers."""
    lecture = find_lecture(LECTURE)
    twin = read_notebook(lecture.twin)
    solved = inject(read_notebook(lecture.student), twin)
    for name, nb in {"course": solved, "peers": peers_notebook(solved)}.items():
        for i in range(count):
            path = folder / name / student(i) / "lecture.ipynb"
            path.parent.mkdir(parents=True)
            nbformat.write(nb, path)
    source = folder / "nbgrader/source/lecture/lecture.ipynb"
    source.parent.mkdir(parents=True)
    nbformat.write(peers_notebook(twin), source)
    (folder / "nbgrader/nbgrader_config.py").write_text("c = get_config()\n", "utf-8")
    nbgrader(folder / "nbgrader", "generate_assignment", "lecture")
    for path in (folder / "peers").iterdir():
        shutil.copytree(path, folder / "nbgrader/submitted" / path.name / "lecture")


# Measuring ---------------------------------------------------------------------------------------------------------


def busy() -> float:
    """Return the CPU seconds that this machine has worked since its start, this process's own left aside."""
    with open("/proc/stat", encoding="ascii") as stat:
        ticks = [int(n) for n in stat.readline().split()[1:4]]  # user, nice, system
    return sum(ticks) / os.sysconf("SC_CLK_TCK") - time.process_time()


def idle() -> float:
    """Return how many CPU seconds a second the machine works by itself. Ends the program if something else runs."""
    start = busy()
    time.sleep(IDLE)
    rate = max(0.0, busy() - start) / IDLE
    if rate > BUSY:
        sys.exit(f"something else takes {100 * rate:.0f} % of a CPU: measure when the machine is idle")
    return rate


def pss(pid: int) -> int:
    """Return the proportional set size of a process in bytes, 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
            return next((int(line.split()[1]) * 1024 for line in rollup if line.startswith("Pss:")), 0)
    except (FileNotFoundError, ProcessLookupError):
        return 0


@contextmanager
def watched_memory(every: float) -> Iterator[list[int]]:
    """Give a list whose only entry is the largest sum of PSS, in bytes, of the processes below this one."""
    peak, done = [0], threading.Event()

    def look() -> None:
        while not done.wait(every):
            peak[0] = max(peak[0], sum(pss(p.pid) for p in psutil.Process().children(recursive=True)))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


@dataclass(frozen=True)
class Cost:
    """What a grading took: CPU and wall seconds, peak memory in MiB."""

    cpu: float
    wall: float
    memory: float


def measured(task: Callable, rest: float, every: float = LOOK) -> Cost:
    """Return what a task took; `rest` is what the idle machine works in a second, `every` the time between looks."""
    with watched_memory(every) as peak:
        cpu, wall = busy(), time.perf_counter()
        task()
        wall = time.perf_counter() - wall
        cpu = busy() - cpu - rest * wall
    return Cost(cpu, wall, peak[0] / 2**20)


# Graders: each grades the submissions in `folder`, `jobs` at a time, and ends the program if a grade is wrong ------


def run(*command: str | Path, **options) -> None:
    """Run a Python module; if it fails, end with what it said."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **options.pop("env", {})}
    text = {"capture_output": True, "encoding": "utf-8", "errors": "replace"}
    done = subprocess.run([sys.executable, "-m", *command], env=environment, **text, **options)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def nbgrader(course: Path, *arguments: str) -> None:
    """Run nbgrader in its course's folder; it calls alembic by name."""
    site = bootstrap.ROOT / "build/bench-grading"
    path = f"{site / 'bin'}{os.pathsep}{os.environ['PATH']}"
    run("nbgrader", *arguments, cwd=course, env={"PYTHONPATH": str(site), "PATH": path})


def course(submissions: Path, out: Path, jobs: int) -> None:
    """Run the course's grader: sandbox, tables, pages."""
    options = {"lecture": LECTURE, "out": out, "jobs": jobs, "seed": SEED}
    run("course_tools.cli", "grade", submissions, *(f"--{name}={value}" for name, value in options.items()))


def by_course(folder: Path, jobs: int) -> None:
    """The course's grader."""
    out = folder.with_name("out")
    course(folder, out, jobs)
    for path in (out / "results").iterdir():
        results = json.loads(path.read_text("utf-8"))["exercises"].values()
        assert all(result["status"] == "correct" for result in results), f"course: {path} is not correct"


def by_nbgrader(folder: Path, jobs: int) -> None:
    """nbgrader's autograde, in one process or, as it has no pool of its own, in four side by side."""
    globs = ["*"] if jobs == 1 else [f"{letter}*" for letter in "abcd"]
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda glob: nbgrader(folder, "autograde", "lecture", f"--student={glob}"), globs))
    with sqlite3.connect(folder / "gradebook.db") as gradebook:
        wrong = "select count(*) from grade join grade_cells on grade_cells.id = cell_id where auto_score < max_score"
        graded, lost = gradebook.execute(f"select count(*), ({wrong}) from grade").fetchone()
    students = len(list((folder / "submitted").iterdir()))
    assert (graded, lost) == (7 * students, 0), f"nbgrader: {graded} grades, {lost} of them too low"


def by_papermill(folder: Path, jobs: int) -> None:
    """papermill's command for each notebook; its exit status is the grade."""

    def grade(path: Path) -> None:
        run("papermill", path, path.with_suffix(".out.ipynb"), "--no-progress-bar", cwd=path.parent)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(grade, sorted(folder.glob("*/lecture.ipynb"))))


GRADERS = {"course": ("course", by_course), "nbgrader": ("nbgrader", by_nbgrader), "papermill": ("peers", by_papermill)}


# Side by side ------------------------------------------------------------------------------------------------------


def graded(name: str, folder: Path, jobs: int, rest: float = 0.0) -> Cost:
    """Let a grader grade a fresh copy of its submissions; return what it took."""
    kind, grade = GRADERS[name]
    with tempfile.TemporaryDirectory() as fresh:
        shutil.copytree(folder / kind, Path(fresh) / kind)
        return measured(lambda: grade(Path(fresh) / kind, jobs), rest)


def take_turns(folder: Path, rounds: int, rest: float) -> dict[tuple[str, int], list[Cost]]:
    """Return the costs by grader and number at a time; in each round the graders follow each other in another order.

    One at a time, which takes longest, is left to the first round.
    """
    costs: dict[tuple[str, int], list[Cost]] = {(name, jobs): [] for jobs in (1, 4) for name in GRADERS}
    for turn in range(rounds):
        for jobs in (4,) if turn else (1, 4):
            for name in [*GRADERS][turn % 3 :] + [*GRADERS][: turn % 3]:
                costs[name, jobs].append(graded(name, folder, jobs, rest))
    return costs


def middle(costs: Sequence[Cost], key: str) -> float:
    """Return the median of a quantity."""
    return statistics.median(getattr(cost, key) for cost in costs)


def spread(values: Sequence[float]) -> str:
    """Return the median of some numbers, and their range."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def show(costs: dict[tuple[str, int], list[Cost]], count: int) -> None:
    """Print a row for each grader and number at a time: per submission, and relative to nbgrader round by round."""
    print("| | at a time | CPU | wall | peak memory | CPU / nbgrader's | memory / nbgrader's |")
    print("|---|---|---|---|---|---|---|")
    for (name, jobs), found in costs.items():
        pairs = list(zip(found, costs["nbgrader", jobs], strict=True))
        row = [f"{middle(found, key) / count:.2f} s" for key in ("cpu", "wall")]
        row.append(f"{middle(found, 'memory'):.0f} MiB")
        row += [spread([getattr(a, key) / getattr(b, key) for a, b in pairs]) for key in ("cpu", "memory")]
        print(f"| {name} | {jobs} | {' | '.join(row)} |")


def judge(costs: dict[tuple[str, int], list[Cost]]) -> None:
    """Print whether the aims are met by the medians."""
    for key, jobs, most in (("cpu", 1, 0.5), ("cpu", 4, 0.5), ("memory", 4, 0.6)):
        ratio = middle(costs["course", jobs], key) / middle(costs["nbgrader", jobs], key)
        print(f"{key}, {jobs} at a time: {ratio:.2f} of nbgrader's, {'met' if ratio <= most else 'MISSED'}: {most:.2f}")


def compare(folder: Path, count: int, rounds: int) -> None:
    """Measure and print the comparison, and which part of it each grader takes once a run."""
    many, one = folder / "many", folder / "one"
    with ProcessPoolExecutor(1) as pool:  # so that this process has no pages of torch to share
        for made, students in ((many, count), (one, 1)):
            pool.submit(make_submissions, made, students).result()
    for name in GRADERS:  # uncounted: files come into the system's memory
        graded(name, one, 1)
    rest = idle()
    print(f"{AIM}\n{count} submissions, {rounds} rounds; the idle machine works {100 * rest:.1f} % of one CPU\n")
    costs = take_turns(many, rounds, rest)
    show(costs, count)
    print()
    judge(costs)
    for name in ("course", "nbgrader"):
        alone = graded(name, one, 1, rest).cpu
        each = (middle(costs[name, 1], "cpu") - alone) / (count - 1)
        print(f"{name}: {alone - each:.1f} CPU s once a run, contained above, and {each:.2f} for each submission")
    idle()  # still


# A class -----------------------------------------------------------------------------------------------------------


WRONG = """\n\nright_{name}, calls = {name}, []\n\n\ndef {name}(*args):\n    {body}"""
KINDS = {  # status: (what the function does, how many of a thousand answers)
    "correct": ("", 800),
    "partial": ("calls.append(0); return right_{name}(*args) if len(calls) < 3 else None", 40),
    "wrong": ("return -1.5", 60),
    "error": ("return right_{name}(*args)[99]", 50),
    "not attempted": ('raise NotImplementedError("Exercise {id}")', 50),
}
HOSTILE = {  # student: (exercise, status, what the function does)
    10: ("1.2", "timeout", "while True: pass"),
    110: ("1.4", "timeout", "while True: pass"),
    60: ("1.3", "kernel died", "import os; os._exit(0)"),
    160: ("1.7", "kernel died", "import os; os.kill(os.getpid(), 9)"),
    210: ("1.5", "memory", "return torch.ones(2**30)"),
}


def wrapped(source: str, name: str, body: str) -> str:
    """Return an answer's source, with another function around it if there is a body for it."""
    return source + WRONG.format(name=name, body=body) if body else source


def make_class(folder: Path, count: int) -> dict[tuple[str, str], str]:
    """Write a class's submissions; return (student, exercise) → the status that it must get."""
    from course_utils.exercises.divergences import EXERCISES

    lecture, planned, dice = find_lecture(LECTURE), {}, random.Random(SEED)
    solved = inject(read_notebook(lecture.student), read_notebook(lecture.twin))
    for i in range(count):
        nb = copy.deepcopy(solved)
        for cell in nb.cells:
            if id := exercise_of(cell):
                status = dice.choices([*KINDS], [share for _, share in KINDS.values()])[0]
                body = KINDS[status][0]
                if i in HOSTILE and HOSTILE[i][0] == id:
                    _, status, body = HOSTILE[i]
                planned[student(i), id], name = status, EXERCISES[id].function
                cell.source = wrapped(cell.source, name, body.format(name=name, id=id))
        nbformat.write(nb, folder / f"{student(i)}.ipynb")
    return planned


def check_class(out: Path, planned: dict[tuple[str, str], str]) -> dict[str, int]:
    """Return how many answers got each status. Ends the program if one got another than planned or has no row."""
    told = {path.stem: json.loads(path.read_text("utf-8"))["exercises"] for path in (out / "results").glob("*.json")}
    wrong = {key: (told[key[0]][key[1]]["status"], status) for key, status in planned.items()}
    wrong = {key: pair for key, pair in wrong.items() if pair[0] != pair[1]}
    assert not wrong, f"another status than planned: {wrong}"
    with (out / "grades.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    assert rows.keys() == told.keys(), "grades.csv has not one row for each student"
    return dict(Counter(planned.values()))


def to_read(out: Path) -> tuple[int, int]:
    """Return how many rows of what needs an eye are read, a folded reason as one, and how many are folded."""
    from course_tools.grading.book.concerns import groups
    from course_tools.grading.book.entries import entries
    from course_tools.grading.book.records import read_all

    listed = groups(entries(read_all(out), {}, {}, {}), {}, False)
    folded = [len(group.rows) for group in listed if group.folded]
    return len(folded) + sum(len(group.rows) for group in listed if not group.folded), sum(folded)


def grade_class(folder: Path, count: int, jobs: int) -> None:
    """Grade a class, and print what it took."""
    with ProcessPoolExecutor(1) as pool:
        planned = pool.submit(make_class, folder, count).result()
    rest, out = idle(), folder / "out"
    cost = measured(lambda: course(folder, out, jobs), rest, LOOK_AT_A_CLASS)
    statuses = ", ".join(f"{number} {status}" for status, number in check_class(out, planned).items())
    print(f"{count} submissions, {jobs} at a time: {cost.wall:.0f} s, {cost.cpu:.0f} CPU s, peak {cost.memory:.0f} MiB")
    print(f"every answer has the status it must have: {statuses}\ngrades.csv has a row for each student")
    with ProcessPoolExecutor(1) as pool:
        read, folded = pool.submit(to_read, out).result()
    print(f"what needs an eye: {read} rows to read, a folded reason as one; {folded} rows are folded")
    idle()  # still


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--submissions", type=int, default=8, help="for each grader; at least 4")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--class", type=int, dest="students", metavar="N", help="grade a class of N instead")
    parser.add_argument("--jobs", type=int, default=2, help="of the class at a time")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.students:
            grade_class(Path(folder), args.students, args.jobs)
            return
        peers.install("grading", PINS)
        compare(Path(folder), args.submissions, args.rounds)


if __name__ == "__main__":
    main()

"""A folder of honest and hostile submissions, graded once: what each must get, and that nothing else has happened."""

import json
import socket
import sys
import tempfile
import threading
import time
import uuid
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import psutil
import pytest

from course_tools.grading.book.wording import came_back, flagged, message_of
from course_tools.grading.judge.grade import Options, grade_all
from course_tools.grading.judge.sandbox import PACKAGE, Budget
from course_tools.notebooks import ROOT
from course_utils.exercises.divergences import EXERCISES

sys.path.insert(0, str(Path(__file__).parent))
import nasty  # noqa: E402  (beside this file)

pytestmark = pytest.mark.sandbox
SOLUTION = next(line.strip() for line in nasty.RIGHT["1.1"].splitlines() if "xlogy" in line)
BUDGET = Budget(exercise_seconds=5, total_seconds=60, memory=2**30)
NAMES = [*nasty.honest(), *nasty.unreadable(), *nasty.hostile_entries(nasty.World(Path(), Path(), Path(), 0, ""))]


def listing(folder: Path, but: Path | None = None) -> dict[str, tuple]:
    """Return path → kind, size and time of all in a folder, but for what lies in one of its folders."""
    return {
        str(path.relative_to(folder)): (path.is_symlink(), path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
        if not path.is_dir() and not (but and path.is_relative_to(but))
    }


def marked(mark: str) -> list[str]:
    """Return the processes with a mark in their command line or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            command, environment = process.cmdline(), process.environ()
        except psutil.Error:
            continue
        if mark in " ".join([*command, *environment.values()]):
            found.append(f"{process.pid}: {' '.join(command)}")
    return found


def survivors(mark: str, seconds: float = 5) -> list[str]:
    """Return the marked processes that are still there after a while."""
    end = time.monotonic() + seconds
    while (found := marked(mark)) and time.monotonic() < end:
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def visitors():
    """Listen on a port of this machine; give the port, and a list of who came."""
    came = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            while True:
                try:
                    connection, address = server.accept()
                except OSError:
                    return
                came.append(address)
                connection.close()

        threading.Thread(target=answer, daemon=True).start()
        yield server.getsockname()[1], came


@pytest.fixture(scope="module")
def graded(tmp_path_factory, visitors):
    """Grade all submissions in a world of their own; say what was there before and after."""
    folder, mark = tmp_path_factory.mktemp("world"), f"nasty-{uuid.uuid4().hex}"
    world = nasty.World(folder / "canary", folder / "out", folder / "submissions", visitors[0], mark)
    for name in ("canary", "submissions", "home", "tmp"):
        (folder / name).mkdir()
    (world.canary / "canary.txt").write_text("tweet")
    entries = nasty.make(world.submissions, world)
    code = listing(PACKAGE), listing(ROOT / "solutions")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLCONFIGDIR", matplotlib.get_cachedir())  # no new list of fonts in the new home
        patch.setenv("HOME", str(folder / "home"))
        patch.setenv("VIRTUAL_ENV", mark)  # in the environment of all that the zygote forks
        patch.setenv("GRADEBOOK_TOKEN", "SECRET-OF-THE-GRADER")
        patch.setattr(tempfile, "tempdir", str(folder / "tmp"))
        before = listing(folder, world.out)
        records, changes, failures = grade_all(world.submissions, "01", world.out, Options(seed=5, budget=BUDGET), 2)
        alive = survivors(mark)
    return SimpleNamespace(
        world=world,
        entries=entries,
        records={record.student: record for record in records},
        failures=failures,
        changes=changes,
        survivors=alive,
        before=before,
        after=listing(folder, world.out),
        code=(code, (listing(PACKAGE), listing(ROOT / "solutions"))),
    )


def everything_in(result) -> str:
    """Return all text that a result shows."""
    said = asdict(replace(result, source=""))
    return "\n".join([message_of(result), result.printed, *map(came_back, result.calls), json.dumps(said)])


@pytest.mark.parametrize("student", NAMES)
def test_each_gets_what_it_must(graded, student):
    entry, record = graded.entries[student], graded.records[student]
    statuses = {id: entry.statuses.get(id, "missing") for id in EXERCISES}
    assert {id: result.status for id, result in record.exercises.items()} == statuses, record
    shares = {"correct": 1.0} | {"partial": None}
    for id, result in record.exercises.items():
        share = entry.shares.get(id, shares.get(result.status, 0.0))
        assert result.points == pytest.approx(EXERCISES[id].points * share), id
    for id, text in entry.flags.items():
        assert any(text in flagged(flag) for flag in record.exercises[id].flags), record.exercises[id].flags
    for id, text in entry.says.items():
        assert text in everything_in(record.exercises[id])
    assert entry.problem in record.problem
    assert bool(entry.problem) == bool(record.problem)
    assert "\n" not in record.problem


@pytest.mark.parametrize("student", NAMES)
def test_nothing_was_reached(graded, student):
    for result in graded.records[student].exercises.values():
        assert "LEAK" not in everything_in(result)
        assert SOLUTION not in everything_in(result)


def test_only_what_was_handed_in_is_graded(graded):
    assert set(graded.records) == set(graded.entries)  # no linked file
    assert not graded.failures
    assert not graded.changes


def test_no_process_is_left(graded):
    assert graded.survivors == []


def test_no_file_outside_is_touched(graded):
    assert graded.before == graded.after
    assert graded.code[0] == graded.code[1]
    assert (graded.world.canary / "canary.txt").read_text() == "tweet"
    results = {f"results/{student}.json" for student in graded.entries}
    assert {str(p.relative_to(graded.world.out)) for p in graded.world.out.rglob("*") if p.is_file()} == results | {
        "run.json",
        ".lock",
    }
    assert not [path for path in Path(tempfile.gettempdir()).iterdir() if graded.world.mark in path.name]


def test_nobody_came_to_our_port(graded, visitors):
    assert visitors[1] == []


def test_flags_name_nothing_else(graded):
    honest = [name for name, entry in nasty.honest().items() if not entry.flags]
    assert [flag for name in honest for r in graded.records[name].exercises.values() for flag in r.flags] == []


# Without a sandbox -------------------------------------------------------------------------------------------------

DAEMONS = """
import os, time
for _ in range(5):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execv("/bin/sleep", ["{mark}", "600"])
        os._exit(0)
"""


def test_without_a_sandbox_it_is_stamped_stopped_and_cleaned_up(tmp_path, monkeypatch):
    mark = f"nasty-{uuid.uuid4().hex}"
    monkeypatch.setenv("VIRTUAL_ENV", mark)
    daemons, killing = DAEMONS.format(mark=mark), nasty.STOPS["kill the parents"][1]
    entries = {
        "right": nasty.solved(e1_1=nasty.RIGHT["1.1"]),
        "daemons": nasty.hostile(nasty.within(daemons + nasty.STOPS["loop that swallows interrupts"][1]), "timeout"),
        "killer": nasty.entry(nasty.cell("1.1", daemons + killing), statuses={"1.1": "kernel died"}),
    }
    folder = tmp_path / "submissions"
    folder.mkdir()
    for student, entry in entries.items():
        (folder / f"{student}.ipynb").write_bytes(entry.content)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    options = Options(seed=5, sandboxed=False, budget=Budget(exercise_seconds=2, total_seconds=30))
    records, _, failures = grade_all(folder, "01", tmp_path / "out", options, 2)
    assert not failures
    assert survivors(mark) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "submissions"]
    for record in records:
        assert record.isolation == "unsandboxed"
        statuses = {id: result.status for id, result in record.exercises.items() if result.status != "missing"}
        assert statuses == entries[record.student].statuses

"""The names of a run's cells, and the clocks by which a run is stopped."""

import json
import threading

import pytest

from course_tools.grading.inside.job import KINDS, Cell, decode
from course_tools.grading.judge import sandbox
from course_tools.grading.judge.sandbox import Budget, Watch

SETUP, EARLIER = Cell("setup", "defaults"), Cell("answer", "1.1")
ANSWER, CALLS = Cell("answer", "1.6"), Cell("calls", "1.6", 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("exercise", "call"), [("1.1", None), ("12.10", 0), ("defaults", 17)])
def test_a_cell_is_decoded_as_it_was_encoded(kind, exercise, call):
    cell = Cell(kind, exercise, call)
    assert decode(cell.encode()) == cell
    assert decode(json.loads(json.dumps(cell.encode()))) == cell


@pytest.mark.parametrize(
    "text",
    [None, 7, ["answer", "1.1"], "", "answer", "answer ", "answer 1.1,", "answer 1.1, lent", "calls 1.1 00", "own 1.1"]
    + ["calls 1.1 0 ", " calls 1.1 0", "calls 1.1 -1", "calls 1.1 9999999", "answer 1.1\n", "answer 1.1 ٣"],
)
def test_nothing_else_is_a_cell(text):
    with pytest.raises(ValueError, match="no cell of a run"):
        decode(text)


@pytest.fixture
def watch(monkeypatch):
    """Return at(second, message), which lets a watch see a message at a time, and says how the run is stopped then."""
    now = [0.0]
    monkeypatch.setattr(sandbox.time, "monotonic", lambda: now[0])
    budget = Budget(exercise_seconds=60, total_seconds=480)
    cells = [SETUP, EARLIER, ANSWER, CALLS]
    watcher = Watch(budget, cells, (480, 60), [0], 0, threading.Event())
    monkeypatch.setattr(sandbox, "members", lambda roots: [])

    def at(second: float, message: dict | None = None) -> str:
        now[0] = second
        if message is not None:
            watcher.read(json.dumps(message).encode() + b"\n")
        watcher.look()
        return watcher.run.stopped

    return at


def test_an_earlier_answer_between_them_has_its_own_clock_and_gives_none_back(watch):
    assert watch(0, {"start": ANSWER.encode()}) == ""
    assert watch(40, {"start": EARLIER.encode()}) == ""
    assert watch(95, {"start": ANSWER.encode()}) == ""  # 55 s of 1.1
    assert watch(105, {"start": CALLS.encode()}) == ""
    assert watch(114) == ""
    assert watch(116) == "timeout"


def test_who_tells_of_a_cell_again_wins_no_time(watch):
    assert watch(0, {"start": ANSWER.encode()}) == ""
    assert watch(40, {"start": EARLIER.encode()}) == ""
    assert watch(50, {"start": ANSWER.encode()}) == ""
    assert watch(71) == "timeout"


def test_each_cell_of_the_set_up_has_a_clock_and_a_slow_one_is_the_graders_fault(watch):
    assert watch(50, {"start": SETUP.encode()}) == ""
    assert watch(109) == ""
    assert watch(111) == "infrastructure"

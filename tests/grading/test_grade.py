"""A run over a folder of submissions: what is kept, what is run again, what changed, and what a failure leaves."""

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from filelock import FileLock

from course_tools import cli
from course_tools.grading.book import gradebook, records
from course_tools.grading.inside.job import Cell, decode
from course_tools.grading.judge import grade, sandbox
from course_tools.grading.judge.grade import Options, grade_all, grade_one
from course_tools.grading.judge.sandbox import Broken, Grounds, Run
from course_tools.grading.run import MANY, changes_in_lines, grade_folder

pytestmark = pytest.mark.sandbox

WRONG = "def kl_bits(p, q):\n    return (p * (p / q).log2()).sum()"  # no zeros, one table only
POINTS = {"1.1": 2, "1.2": 3, "1.3": 3, "1.4": 4, "1.5": 5, "1.6": 1, "1.7": 4}  # as the lecture says


def submissions(folder, write_submission):
    """Write three submissions: all right, one wrong and one open, all open."""
    write_submission(folder / "Åsa Öberg" / "01_kl_and_elbo.ipynb")
    write_submission(folder / "bo" / "01_kl_and_elbo.ipynb", {"1.1": WRONG, "1.2": None})
    write_submission(folder / "cy" / "01_kl_and_elbo.ipynb", dict.fromkeys(POINTS))
    return folder


def points_of(found):
    """Return student → points."""
    return {record.student: record.points for record in found}


@pytest.fixture(scope="module")
def graded(tmp_path_factory, write_submission, warm):
    """A folder of submissions and of its grades; tests copy what they change."""
    folder = tmp_path_factory.mktemp("graded")
    submissions(folder / "in", write_submission)
    grade_all(folder / "in", "01", folder / "out", Options(seed=11))
    gradebook.publish(folder / "out")
    return folder


@pytest.fixture
def copy(graded, tmp_path):
    """A copy of them that a test may change."""
    return shutil.copytree(graded, tmp_path / "copy")


@pytest.fixture
def counted(monkeypatch):
    """The exercises whose answers are run, a list for each run, while they are really run."""
    runs, run = [], Grounds.run

    def counting(self, job, *args, **options):
        cells = [decode(cell["id"]) for cell in job["cells"]]
        runs.append([cell.exercise for cell in cells if cell.kind == "answer" and cell.exercise != "sum"])  # the probe
        return run(self, job, *args, **options)

    monkeypatch.setattr(Grounds, "run", counting)
    return runs


def test_each_exercise_has_its_status_and_points(graded):
    found = {record.student: record for record in records.read_all(graded / "out")}
    assert {s: r.status for s, r in found["Åsa Öberg"].exercises.items()} == dict.fromkeys(POINTS, "correct")
    assert {s: r.points for s, r in found["Åsa Öberg"].exercises.items()} == POINTS
    assert found["Åsa Öberg"].points == 22
    bo = found["bo"].exercises
    assert (bo["1.1"].status, bo["1.2"].status, bo["1.7"].status) == ("partial", "not attempted", "correct")
    failed = [call for call in bo["1.1"].calls if not call.passed]
    assert bo["1.1"].points == pytest.approx(2 / 3 * (5 - len(failed)) / 5, abs=0.005) and 0 < len(failed) < 5
    assert all(call.called and call.got and call.expected and call.advice for call in failed)
    assert {r.status for r in found["cy"].exercises.values()} == {"not attempted"} and found["cy"].points == 0
    assert {record.isolation for record in found.values()} == {"bubblewrap"}


def test_nothing_is_run_twice(copy, counted):
    before = {path.name: path.read_bytes() for path in (copy / "out" / "results").iterdir()}
    found, changed, failed = grade_all(copy / "in", "01", copy / "out", Options())
    assert (len(found), changed, failed, counted) == (3, [], {}, [])
    assert {path.name: path.read_bytes() for path in (copy / "out" / "results").iterdir()} == before


def test_a_new_version_alone_is_run_and_its_changes_are_listed(copy, counted, write_submission):
    write_submission(copy / "in" / "bo" / "01_kl_and_elbo.ipynb", {"1.2": None})
    old = next(r for r in records.read_all(copy / "out") if r.student == "bo").exercises["1.1"]
    _, changed, _ = grade_all(copy / "in", "01", copy / "out", Options())
    assert changed == [("bo", "1.1", f"{old.points:g} (partial)", "2 (correct)")]
    assert counted[0] == []  # the probe
    assert all(set(run) <= set(POINTS) and len(run) > 1 for run in counted[1:]) and len(counted) == 2


def test_one_exercise_alone_is_run_again(copy, counted):
    path = copy / "out" / "results" / "bo.json"
    value = json.loads(path.read_text())
    points = value["exercises"]["1.1"]["points"]
    value["exercises"]["1.1"]["points"] = value["exercises"]["1.3"]["points"] = 0.5  # of another reference, say
    path.write_text(json.dumps(value))
    _, changed, _ = grade_all(copy / "in", "01", copy / "out", Options(exercise="1.1"))
    assert changed == [("bo", "1.3", "3 (correct)", "0.5 (correct)")]
    after = records.read(path).exercises
    assert (after["1.1"].status, after["1.1"].points) == ("partial", points) and after["1.3"].points == 0.5


def test_what_an_interrupted_run_changed_is_listed_by_the_next(copy, write_submission):
    write_submission(copy / "in" / "bo" / "01_kl_and_elbo.ipynb", {"1.1": WRONG})
    first = grade_all(copy / "in", "01", copy / "out", Options())[1]
    assert first == [("bo", "1.2", "0 (not attempted)", "3 (correct)")]
    assert grade_all(copy / "in", "01", copy / "out", Options())[1] == first  # as no gradebook was made
    gradebook.publish(copy / "out")
    assert grade_all(copy / "in", "01", copy / "out", Options())[1] == []


def test_the_seed_stays_and_another_one_grades_anew(copy, counted):
    assert json.loads((copy / "out" / "run.json").read_text())["seed"] == 11
    with pytest.raises(ValueError, match="holds grades with seed 11, not 12: give --rerun all too"):
        grade_all(copy / "in", "01", copy / "out", Options(seed=12))
    found, changed, _ = grade_all(copy / "in", "01", copy / "out", Options(seed=12, rerun="all"))
    assert {record.seed for record in found} == {12}
    assert len(counted) > 3 and not [c for c in changed if c[0] == "Åsa Öberg"]
    calls = records.read_all(copy / "out")[-1].exercises["1.3"].calls
    assert json.loads((copy / "out" / "run.json").read_text())["seed"] == 12 and calls


def test_a_seed_is_drawn_where_none_is_given(tmp_path):
    drawn = {grade.settle(tmp_path, "01_kl_and_elbo", None, anew=False) for _ in range(5)}
    assert len(drawn) == 5 and all(0 <= seed < 2**31 for seed in drawn)
    assert grade.settle(tmp_path, "01_kl_and_elbo", 0, anew=False) == 0
    with pytest.raises(ValueError, match="seed -1 is out of range"):
        grade.settle(tmp_path, "01_kl_and_elbo", -1, anew=False)
    assert not list(tmp_path.iterdir())


def test_a_broken_infrastructure_is_tried_twice_and_never_a_zero(copy, monkeypatch):
    tries, try_run = [], Grounds.try_run

    def broken(self, job, seconds):
        if job["inputs"]:
            tries.append(job)
            raise Broken("no more pids")
        return try_run(self, job, seconds)

    with monkeypatch.context() as patch:
        patch.setattr(Grounds, "try_run", broken)
        found, changed, _ = grade_all(copy / "in", "01", copy / "out", Options(rerun="all"))
    results = [result for record in found for result in record.exercises.values()]
    assert {result.status for result in results} == {"infrastructure"} and {r.points for r in results} == {None}
    assert grade.incomplete(found) == ["bo", "cy", "Åsa Öberg"] and len(changed) == 21
    assert len(tries) == 2 * (3 + 3 * len(POINTS))  # all together, then each alone: each of them twice
    assert "no more pids" in results[0].detail
    found, *_ = grade_all(copy / "in", "01", copy / "out", Options())
    assert points_of(found)["Åsa Öberg"] == 22
    assert grade.incomplete(found) == []


@pytest.mark.parametrize("how", ["timeout", "memory", "kernel died"])
def test_what_was_stopped_is_run_again_on_demand_only(copy, monkeypatch, how):
    with monkeypatch.context() as patch:
        patch.setattr(
            Grounds, "run", lambda self, *args, **options: Run(stopped=how, at=Cell("answer", "1.1"), why="!")
        )
        patch.setattr(grade, "check_grounds", lambda grounds: None)
        found, *_ = grade_all(copy / "in", "01", copy / "out", Options(rerun="all"))
        assert {r.status for record in found for r in record.exercises.values()} == {how}
        assert {r.points for record in found for r in record.exercises.values()} == {0}
        again = grade_all(copy / "in", "01", copy / "out", Options())[0]
        assert again == found
    if how == "timeout":  # once is enough
        found, *_ = grade_all(copy / "in", "01", copy / "out", Options(rerun="failed"))
        assert points_of(found)["Åsa Öberg"] == 22


def test_one_submission_alone_gives_the_same_record(graded, tmp_path, monkeypatch):
    path = graded / "in" / "bo" / "01_kl_and_elbo.ipynb"
    record = grade_one(path, "bo", "1", tmp_path, Options(seed=11))
    assert record == records.read(graded / "out" / "results" / "bo.json")
    monkeypatch.setattr(Grounds, "run", None)  # nothing is run
    assert grade_one(path, "bo", "1", tmp_path, Options(seed=11)) == record


def test_every_status_of_a_run_is_known():
    assert set(records.STOPPED) < set(records.STATUSES)


def test_a_failure_of_the_grader_replaces_an_older_grade(copy, monkeypatch, write_submission):
    write_submission(copy / "in" / "bo" / "01_kl_and_elbo.ipynb")
    with monkeypatch.context() as patch:
        patch.setattr(grade, "judge", None)  # whatever a mistake of ours raises
        found, _, failed = grade_all(copy / "in", "01", copy / "out", Options())
    assert list(failed) == ["bo"] and "TypeError" in failed["bo"]
    assert grade.incomplete(found) == ["bo"] and points_of(found)["Åsa Öberg"] == 22
    found, *_ = grade_all(copy / "in", "01", copy / "out", Options())
    assert points_of(found)["bo"] == 22


def test_an_interrupt_writes_nothing(copy, monkeypatch):
    def interrupted(self, *args, **options):
        self.interrupted.set()
        return Run(stopped="kernel died", why="with the terminal's other processes")

    before = {path.name: path.read_bytes() for path in (copy / "out" / "results").iterdir()}
    monkeypatch.setattr(grade, "check_grounds", lambda grounds: None)
    monkeypatch.setattr(Grounds, "run", interrupted)
    grade_all(copy / "in", "01", copy / "out", Options(rerun="all"))
    assert {path.name: path.read_bytes() for path in (copy / "out" / "results").iterdir()} == before


def test_results_of_an_older_version_are_told_from_those_of_this_one(copy, write_submission):
    write_submission(copy / "in" / "bo" / "01_kl_and_elbo.ipynb")
    found, *_ = grade_all(copy / "in", "01", copy / "out", Options(exercise="1.2"))
    bo = next(record for record in found if record.student == "bo")
    assert [id for id in bo.exercises if bo.outdated(id)] == ["1.1", "1.3", "1.4", "1.5", "1.6", "1.7"]
    assert bo.exercises["1.2"].status == "correct"
    gradebook.publish(copy / "out")
    (row,) = [row for row in (copy / "out" / "grades.csv").read_text("utf-8-sig").splitlines() if row.startswith("bo,")]
    assert "1.1 is of an earlier version of the submission" in row and row.split(",")[2] == "no"


def test_the_bar_moves_while_a_submission_loops(capsys):
    with ThreadPoolExecutor(2) as pool:
        at_work, go = {"ada": time.monotonic() - 34, "bo": time.monotonic()}, threading.Event()
        futures = [pool.submit(go.wait, 60), pool.submit(int)]
        ended = grade.follow(futures, at_work, tick=0.01)
        assert next(ended) is futures[1]
        at_work.pop("bo")
        threading.Timer(0.3, go.set).start()
        assert next(ended) is futures[0] and next(ended, None) is None
    shown = capsys.readouterr().err.split("\r")
    assert any("1/2" in line and "ada for 34 s, 1 more" in line for line in shown)
    assert len([line for line in shown if "1/2" in line and re.search(r"ada for 3\d s\W", line)]) > 3
    assert "2/2" in shown[-1]


# Bad input ---------------------------------------------------------------------------------------------------------


def bad_inputs(copy):
    grades, into = copy / "in", ["--lecture", "01", "--out", copy / "out"]
    (copy / "empty").mkdir()
    (copy / "twice" / "bo").mkdir(parents=True)
    for name in ("a.ipynb", "b.ipynb"):
        (copy / "twice" / "bo" / name).write_text("{}")
    (copy / "file").write_text("")
    (copy / "single").mkdir()
    (copy / "single" / "01_kl_and_elbo.ipynb").write_text("{}")
    (copy / "marks.csv").write_bytes(b"\xff\xfe\x00student")
    return [
        (["grade", copy / "nowhere", *into], "nowhere is no folder of submissions"),
        (["grade", copy / "empty", *into], "no notebook in"),
        (["grade", copy / "twice", *into], "student 'bo' has two notebooks"),
        (["grade", grades, "--lecture", "99", "--out", copy / "out"], "lecture '99' is not known"),
        (["grade", grades, "--lecture", "02", "--out", copy / "out"], "holds the grades of 01_kl_and_elbo"),
        (["grade", grades, "--lecture", "01", "--out", copy / "file"], "file"),
        (["grade", grades, *into, "--exercise", "9.9"], "exercise '9.9' is not known; allowed: '1.1'"),
        (["grade", grades, *into, "--jobs", "-1"], "--jobs -1: at least 1"),
        (["grade", grades, *into, "--seconds", "0"], "--seconds 0"),
        (["grade", grades, *into, "--memory", "1"], "--memory 1: an exercise needs at least 64 MiB"),
        (["grade", grades, *into, "--seed", "12"], "holds grades with seed 11, not 12"),
        (["grade", grades, "--lecture", "01", "--out", copy / "x", "--seed", str(2**31)], "seed 2147483648 is out of"),
        (["grade", copy / "single", *into], "is one student's folder"),
        (["grade", grades, *into, "--engine", "dask", "--rerun", "all"], "scheduler"),
        (["grade-one", copy / "nobody.ipynb", *into, "--seed", "1"], "is no submission"),
        (["grade-one", grades / "bo" / "01_kl_and_elbo.ipynb", *into, "--seed", "1", "--student", "../x"], "'../x'"),
        (["gradebook", copy / "empty"], "no results in"),
        (["gradebook", copy / "out", "--written", copy / "marks.csv"], "marks.csv"),
        (["release", "--out", copy / "x"], "give one lecture"),
        (["release", "77", "--out", copy / "x"], "lecture '77' is not known"),
        (["collect", copy / "nowhere.zip", "--out", copy / "x"], "nowhere.zip"),
        (["collect", copy / "file", "--out", copy / "x"], "file"),
    ]


def test_bad_input_is_one_line_exit_code_2_and_changes_nothing(copy, capsys):
    cases = bad_inputs(copy)
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file() and path.name != ".lock"}
    for arguments, message in cases:
        assert cli.main(list(map(str, arguments))) == 2, arguments
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err.count("\n") == 1 and message in captured.err, captured
    after = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file() and path.name != ".lock"}
    assert after == before and not (copy / "x").exists()


def test_spoilt_files_of_an_earlier_run_are_named(copy, capsys):
    arguments = ["grade", str(copy / "in"), "--lecture", "01", "--out", str(copy / "out")]
    (copy / "out" / "results" / "bo.json").write_text('{"student": "bo"')
    assert cli.main(arguments) == 2
    assert "bo.json is no result of `course grade`: delete it" in capsys.readouterr().err
    value = json.loads((copy / "out" / "results" / "cy.json").read_text())
    assert value.pop("form") == records.FORM
    (copy / "out" / "results" / "bo.json").write_text(json.dumps(value))  # as the first version wrote it
    for command in (arguments, ["gradebook", str(copy / "out")]):
        assert cli.main(command) == 2
        assert f"bo.json is of another version of the course (form 1, this one has {records.FORM})" in (
            capsys.readouterr().err
        )
    (copy / "out" / "run.json").write_text("[]")
    assert cli.main(arguments) == 2
    assert "run.json is not what course grade writes" in capsys.readouterr().err


def test_two_runs_do_not_mix(copy):
    with FileLock(copy / "out" / ".lock"), pytest.raises(ValueError, match="another course grade is at work"):
        grade_all(copy / "in", "01", copy / "out", Options())


def test_without_bubblewrap_nothing_is_run_unless_asked_for(copy, monkeypatch):
    monkeypatch.setattr(sandbox, "bubblewrap", lambda *args: ["no-such-program"])
    options = Options(rerun="all")
    with pytest.raises(ValueError, match=r"no sandbox here .*no-such-program.*install bubblewrap.*--unsandboxed"):
        grade_all(copy / "in", "01", copy / "out", options)
    found, *_ = grade_all(copy / "in", "01", copy / "out", Options(sandboxed=False))
    assert {record.isolation for record in found} == {"unsandboxed"}
    assert points_of(found)["Åsa Öberg"] == 22


def test_a_full_disk_is_one_line_and_leaves_no_half_written_file(copy):
    out = copy / "full"
    out.mkdir()
    grading = f"'{sys.executable}' -m course_tools.cli grade '{copy}/in' --lecture 01 --out '{out}'"
    command = f"{grading}; echo $?; find '{out}' -type f"
    disk = ["bwrap", "--dev-bind", "/", "/", "--size", "8192", "--tmpfs", str(out)]
    done = subprocess.run([*disk, "sh", "-c", command], capture_output=True, text=True, timeout=600)
    lines = done.stdout.splitlines()
    assert lines[0] == "2"
    assert {line.rsplit("/", 1)[1] for line in lines[1:]} <= {"run.json", ".lock"}
    assert "No space left on device" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr


def test_one_student_is_graded_again_with_the_seed_it_had(copy, counted):
    before = {record.student: record for record in records.read_all(copy / "out")}
    path = records.path_of(copy / "out", "bo")
    value = json.loads(path.read_text())
    value["exercises"]["1.1"]["points"] = 0.25
    path.write_text(json.dumps(value))
    found, changed, _ = grade_all(copy / "in", "01", copy / "out", Options(student="bo"))
    assert [record.student for record in found] == ["bo"] and counted
    after = {record.student: record for record in records.read_all(copy / "out")}
    assert after == before, "the same inputs give the same grades, and nobody else is touched"
    assert changed == []
    with pytest.raises(ValueError, match="student 'boo' is not known.*did you mean 'bo'"):
        grade_all(copy / "in", "01", copy / "out", Options(student="boo"))


def test_the_seed_that_one_student_had_is_kept_though_the_class_has_another(copy):
    grade_all(copy / "in", "01", copy / "out", Options(seed=12, rerun="all"))
    path = records.path_of(copy / "out", "bo")
    path.write_text(json.dumps({**json.loads(path.read_text()), "seed": 11}))
    (record,), *_ = grade_all(copy / "in", "01", copy / "out", Options(student="bo"))
    assert record.seed == 11 and not any(map(record.outdated, record.exercises))
    assert json.loads((copy / "out" / "run.json").read_text())["seed"] == 12


def test_another_version_of_the_course_beside_an_older_one_is_named(copy, monkeypatch, capsys):
    monkeypatch.setattr("course_tools.grading.judge.assignment.code_hash", lambda files: "another" * 9)
    grade_all(copy / "in", "01", copy / "out", Options(student="bo"))
    gradebook.publish(copy / "out")
    said = capsys.readouterr().out
    assert "results of 2 versions of the course or its packages, one for bo: old and new mix" in said
    assert "old and new mix" in (copy / "out" / "instructor.html").read_text("utf-8")


def test_what_a_killed_run_was_writing_is_cleared_away_and_nothing_else(copy):
    out = copy / "out"
    left = ["grades.csv.17", "feedback/bo.html.17", "results/bo.json.17", "feedback_moodle.zip.9", "marking/1.8.html.3"]
    mine = ["corrections.csv.2", "notes.csv.17", "grades.csv.bak", "rubric.csv"]
    for name in left + mine:
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("x")
    with grade.locked(out):
        assert not [name for name in left if (out / name).exists()]
    assert all((out / name).exists() for name in mine)
    assert (out / "results" / "bo.json").exists() and (out / "marking" / "1.8.html").exists()


# What is no longer there, and what is no notebook --------------------------------------------------------------------


def test_the_grade_of_a_removed_submission_is_named_until_it_is_back(copy):
    shutil.move(copy / "in" / "bo", copy / "bo")
    told = grade_folder(copy / "in", "01", copy / "out", Options(), 1).lines
    assert [line for line in told if line.startswith("no submission any more") and "older grade: bo " in line]
    assert "no longer there" in (copy / "out" / "instructor.html").read_text("utf-8")
    assert [r.student for r in records.read_all(copy / "out") if r.gone] == ["bo"]
    shutil.move(copy / "bo", copy / "in" / "bo")
    told = grade_folder(copy / "in", "01", copy / "out", Options(), 1).lines
    assert not [line for line in told if line.startswith("no submission any more")]
    assert "no longer there" not in (copy / "out" / "instructor.html").read_text("utf-8")


def test_who_handed_in_something_else_is_listed_with_the_reason(copy):
    (copy / "in" / "bo" / "01_kl_and_elbo.ipynb").rename(copy / "in" / "bo" / "01_kl_and_elbo.ipynb.json")
    (copy / "in" / "di").mkdir()
    (copy / "in" / "di" / "work.pdf").write_bytes(b"%PDF-1.4")
    found, *_ = grade_all(copy / "in", "01", copy / "out", Options())
    records_of = {record.student: record for record in found}
    assert records_of["bo"].points == next(r for r in records.read_all(copy / "out") if r.student == "bo").points > 0
    assert records_of["di"].problem == "the file is no notebook, but a PDF"
    assert {answer.text for answer in records_of["di"].written.values()} == {None}, "so there is no total, and no 0"


def test_very_many_changed_grades_are_counted_not_printed(tmp_path):
    changed = [(f"student {n}", "1.1", "2 (correct)", "0 (wrong)") for n in range(300)]
    lines = changes_in_lines(changed, tmp_path)
    assert len(lines) == MANY + 1 and lines[0] == "changed: student 0 1.1 2 (correct) -> 0 (wrong)"
    assert lines[-1] == f"and {300 - MANY} more changed grades: {tmp_path / 'changes.csv'}"
    assert len(changes_in_lines(changed[:MANY], tmp_path)) == MANY

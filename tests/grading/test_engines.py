"""Slurm by a stand-in for sbatch that runs the array, Dask for real by two worker processes; a stand-in grades."""

import json
import os
import shutil
import subprocess
import sys
import threading
import types
from pathlib import Path

import psutil
import pytest

from course_tools.grading.book import records
from course_tools.grading.judge import engines
from course_tools.grading.judge.engines import Job, Limits
from course_tools.grading.judge.grade import Options, grade_all

pytestmark = pytest.mark.slow  # processes are started, and waited for

# Does what its submission's text says. Takes the options of `course grade-one`.
UNIT = """
import argparse, json, os, signal, subprocess, sys
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("submission", type=Path)
for option in ("--student", "--lecture", "--seed"):
    parser.add_argument(option, required=True)
parser.add_argument("--out", type=Path, required=True)
args = parser.parse_args()
text = args.submission.read_text()
once = args.submission.with_suffix(".once")
if text == "bad input":
    sys.exit("a warning\\ncourse: lecture '99' is not known\\n")
if text == "hang":
    sleeper = subprocess.Popen(["sleep", "600"])
    args.submission.with_suffix(".pid").write_text(str(sleeper.pid))
    sleeper.wait()
if text == "no memory":
    os.kill(os.getpid(), signal.SIGKILL)
if text == "lose the worker once" and not once.exists():
    once.touch()
    os.kill(os.getppid(), signal.SIGKILL)
if text != "write nothing":
    found = vars(args) | {"parent": os.getppid(), "threads": os.environ["OMP_NUM_THREADS"]}
    args.out.joinpath("results").mkdir(exist_ok=True)
    args.out.joinpath("results", args.student + ".json").write_text(json.dumps(found, default=str))
"""

# Reads the #SBATCH lines as Slurm does and runs the tasks one after the other, in another folder.
SBATCH = """#!{python}
import os, shlex, subprocess, sys
from pathlib import Path

if os.environ.get("STAND_IN") == "refuse":
    sys.exit("sbatch: error: Batch job submission failed: Invalid account")
assert sys.argv[1:-1] == ["--parsable", "--wait"], sys.argv
script = Path(sys.argv[-1]).read_text()
Path("{folder}", "spooled").write_text(script)
lines = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH ")]
options = dict(word.split("=", 1) for line in lines for word in shlex.split(line, comments=True))
first, last = options["--array"].split("%")[0].split("-")
codes = [0]
print("4711;cluster", flush=True)
for task in range(int(first), int(last) + 1):
    log = options["--output"].replace("%%", "\\0").replace("%A", "4711").replace("%a", str(task)).replace("\\0", "%")
    with open(log, "w") as file:
        if os.environ.get("STAND_IN") == f"lose {{task}}":
            file.write("slurmstepd: error: CANCELLED DUE TO TIME LIMIT\\n")
            codes.append(1)
            continue
        environment = os.environ | {{"SLURM_ARRAY_TASK_ID": str(task)}}
        command = ["bash", "{folder}/spooled"]
        codes.append(subprocess.run(command, env=environment, cwd="{folder}", stdout=file, stderr=file).returncode)
sys.exit(max(codes))
"""

NAMES = ["Ada Lovelace", "O'Brien $HOME `id`", "Ödön 学生", '-dash "q" *; #', "plain"]
OPTIONS = ["--lecture", "02", "--seed", "7"]


@pytest.fixture
def unit(tmp_path) -> list[str]:
    """The stand-in for `course grade-one`."""
    path = tmp_path / "unit.py"
    path.write_text(UNIT)
    return [sys.executable, str(path)]


@pytest.fixture
def out(tmp_path) -> Path:
    """A folder of results with a name that needs quoting."""
    folder = tmp_path / "out 100% #2"
    folder.mkdir()
    return folder


@pytest.fixture
def sbatch(tmp_path, monkeypatch) -> Path:
    """The stand-in for sbatch, on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    path = folder / "sbatch"
    path.write_text(SBATCH.format(python=sys.executable, folder=folder))
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return path


@pytest.fixture(scope="module")
def cluster():
    """A Dask cluster of two worker processes."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=":0", silence_logs=50
    ) as cluster:
        yield cluster


def make_jobs(folder: Path, texts: dict[str, str]) -> list[Job]:
    """Write a submission for each student and return the jobs."""
    jobs = []
    for number, (student, text) in enumerate(texts.items()):
        path = folder / "sub missions" / f"{number} it's.ipynb"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        jobs.append(Job(student, path))
    return jobs


def check_results(jobs: list[Job], out: Path) -> list[dict]:
    """Check that each job's own submission was graded with the options; return what the stand-in wrote."""
    found = [json.loads(records.path_of(out, job.student).read_text()) for job in jobs]
    for job, result in zip(jobs, found, strict=True):
        assert result["student"] == job.student
        assert result["submission"] == str(job.path)
        assert (result["lecture"], result["seed"], result["out"], result["threads"]) == ("02", "7", str(out), "1")
    return found


def check_failures(failed: dict[str, str]) -> None:
    """Check the errors of a run of the students below."""
    assert failed.keys() == TROUBLE.keys() - {"fine", "also fine"}
    assert failed["bad input"] == "exit code 1: course: lecture '99' is not known"
    assert failed["hangs"] == "stopped after 4 s"
    assert failed["killed"].startswith("killed (exit code ") and "memory" in failed["killed"]
    assert failed["silent"].startswith("graded, but no result is to be seen in")


TROUBLE = {
    "fine": "",
    "bad input": "bad input",
    "hangs": "hang",
    "killed": "no memory",
    "silent": "write nothing",
    "also fine": "",
}


def gone(pid: int) -> bool:
    """Tell whether a process has ended, reaped or not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_commands_are_those_of_grade_one_with_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (command,) = engines.commands([Job("-x y", Path("a.ipynb"))], Path("out"), OPTIONS)
    assert command[:4] == [sys.executable, "-m", "course_tools.cli", "grade-one"]
    assert sorted(command[4:]) == sorted([*OPTIONS, f"--out={tmp_path}/out", "--student=-x y", f"{tmp_path}/a.ipynb"])


@pytest.mark.parametrize("chunk", [1, 2, 9])
def test_slurm_grades_every_submission_whatever_its_name(tmp_path, out, unit, sbatch, chunk):
    jobs = make_jobs(tmp_path, dict.fromkeys(NAMES, ""))
    assert engines.run("slurm", jobs, out, OPTIONS, limits=Limits(chunk=chunk), unit=unit) == {}
    check_results(jobs, out)
    assert len(list((out / "slurm").glob("4711_*.log"))) == -(-len(jobs) // chunk)


def test_slurm_names_who_has_no_result_and_goes_on(tmp_path, out, unit, sbatch):
    jobs = make_jobs(tmp_path, TROUBLE)
    failed = engines.run("slurm", jobs, out, OPTIONS, limits=Limits(seconds=4, chunk=3), unit=unit, settle=0)
    check_failures(failed)
    check_results([jobs[0], jobs[-1]], out)
    assert gone(int(jobs[2].path.with_suffix(".pid").read_text()))


def test_slurm_lost_task_is_told_from_an_old_result_and_run_again(tmp_path, out, unit, sbatch, monkeypatch):
    jobs = make_jobs(tmp_path, dict.fromkeys(NAMES, ""))
    records.path_of(out, NAMES[2]).parent.mkdir()
    records.path_of(out, NAMES[2]).write_text("of an earlier run")
    monkeypatch.setenv("STAND_IN", "lose 1")
    failed = engines.run("slurm", jobs, out, OPTIONS, limits=Limits(chunk=2), unit=unit, settle=0)
    assert failed.keys() == set(NAMES[2:4])
    assert all("CANCELLED DUE TO TIME LIMIT" in text and "4711_1.log" in text for text in failed.values())
    monkeypatch.delenv("STAND_IN")
    assert engines.run("slurm", [job for job in jobs if job.student in failed], out, OPTIONS, unit=unit) == {}
    check_results(jobs, out)


def test_slurm_script_is_clean_and_says_what_it_asks_for(tmp_path, out):
    jobs = make_jobs(tmp_path, dict.fromkeys(NAMES, ""))
    limits = Limits(seconds=600, memory="3G", parallel=2, chunk=3)
    script, run = engines.write_array(jobs, out, OPTIONS, limits)
    text = script.read_text()
    assert script == out / "slurm" / "grade.sbatch" and run.parent == out / "slurm"
    for line in ("--array=0-1%2", "--mem=3G", "--cpus-per-task=1", "--job-name=course-grade"):
        assert f"\n#SBATCH {line}\n" in text
    minutes = next(int(line.split("=")[1]) for line in text.splitlines() if line.startswith("#SBATCH --time="))
    assert minutes * 60 >= 3 * 600
    assert "\nset -euo pipefail\n" in text and "\nexport OMP_NUM_THREADS=1\n" in text
    assert not list(script.parent.glob(".*"))  # nothing half-written
    if shutil.which("shellcheck"):
        checked = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout


def test_slurm_array_never_has_too_many_tasks(tmp_path, out):
    jobs = [Job(f"s{n}", tmp_path / f"{n}.ipynb") for n in range(2001)]
    script, _ = engines.write_array(jobs, out, OPTIONS, Limits())
    assert "\n#SBATCH --array=0-666%50\n" in script.read_text()  # 667 tasks of three


def test_without_sbatch_the_script_stands_there(tmp_path, out, unit, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no sbatch here") as caught:
        engines.run("slurm", make_jobs(tmp_path, {"s": ""}), out, OPTIONS, unit=unit)
    script = out / "slurm" / "grade.sbatch"
    assert str(script) in str(caught.value) and script.exists() and "\n" not in str(caught.value)


def test_sbatch_that_refuses_is_quoted(tmp_path, out, unit, sbatch, monkeypatch):
    monkeypatch.setenv("STAND_IN", "refuse")
    with pytest.raises(ValueError, match="Slurm did not take .*: sbatch: error: .* Invalid account$"):
        engines.run("slurm", make_jobs(tmp_path, {"s": ""}), out, OPTIONS, unit=unit)


def test_dask_grades_in_subprocesses_of_its_workers(tmp_path, out, unit, cluster):
    jobs = make_jobs(tmp_path, dict.fromkeys(NAMES, ""))
    address = cluster.scheduler_address
    assert engines.run("dask", jobs, out, OPTIONS, scheduler=address, unit=unit) == {}
    with engines.connect(address) as client:
        workers = set(client.run(os.getpid).values())
    assert len(workers) == 2
    assert {result["parent"] for result in check_results(jobs, out)} <= workers


def test_dask_names_who_has_no_result_and_goes_on(tmp_path, out, unit, cluster):
    jobs = make_jobs(tmp_path, TROUBLE)
    limits = Limits(seconds=4)
    failed = engines.run("dask", jobs, out, OPTIONS, cluster.scheduler_address, limits, unit=unit, settle=0)
    check_failures(failed)
    check_results([jobs[0], jobs[-1]], out)
    assert gone(int(jobs[2].path.with_suffix(".pid").read_text()))


def test_dask_grades_again_what_a_lost_worker_had(tmp_path, out, unit, cluster):
    jobs = make_jobs(tmp_path, {"unlucky": "lose the worker once", "fine": "", "also fine": ""})
    assert engines.run("dask", jobs, out, OPTIONS, scheduler=cluster.scheduler_address, unit=unit) == {}
    assert jobs[0].path.with_suffix(".once").exists()
    check_results(jobs, out)


def test_dask_names_a_command_that_cannot_start(tmp_path, out, cluster):
    jobs = make_jobs(tmp_path, {"s": "", "t": ""})
    failed = engines.run("dask", jobs, out, OPTIONS, cluster.scheduler_address, unit=["/no/such/python"], settle=0)
    assert failed.keys() == {"s", "t"}
    assert all("/no/such/python" in text for text in failed.values())


def test_scheduler_that_does_not_answer_is_one_line():
    pytest.importorskip("distributed")
    with pytest.raises(ValueError, match=r"^no Dask scheduler answers at 'tcp://127.0.0.1:1' \(.*\): is it running\?$"):
        engines.connect("tcp://127.0.0.1:1", seconds=1)


@pytest.mark.parametrize("address", ["no address", "host", "ftp://host:1", "tcp://host", "tcp://host:1/x y"])
def test_scheduler_that_is_no_address_is_refused(address):
    pytest.importorskip("distributed")
    with pytest.raises(ValueError, match=f"^scheduler '{address}' is no address of the form tcp://host:8786$"):
        engines.connect(address)


def test_scheduler_has_to_be_named():
    pytest.importorskip("distributed")
    with pytest.raises(ValueError, match="needs --scheduler ADDRESS"):
        engines.connect(None)


def test_missing_dask_names_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[dask\]'"):
        engines.connect("tcp://127.0.0.1:1")


def test_unknown_engine_and_senseless_limits_are_refused(tmp_path):
    with pytest.raises(ValueError, match="engine 'slrm' is not known; allowed: .*did you mean 'slurm'"):
        engines.run("slrm", [], tmp_path, OPTIONS)
    for limits in ({"seconds": 0}, {"memory": "4 GB\n#SBATCH --x"}, {"parallel": 0}, {"chunk": 0}):
        with pytest.raises(ValueError, match=next(iter(limits)) if "seconds" not in limits else "time limit"):
            Limits(**limits)


def test_nothing_to_grade_starts_nothing(tmp_path):
    assert engines.run("slurm", [], tmp_path, OPTIONS) == {}
    assert not list(tmp_path.iterdir())


def test_results_that_come_late_are_waited_for(tmp_path):
    looks = iter([False, False, True])
    assert engines.wait_for([Job("s", tmp_path)], lambda job: next(looks), seconds=60, pause=0) == []


def test_folder_that_slurm_cannot_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has a quote"):
        engines.write_array([Job("s", tmp_path)], tmp_path / "it's", OPTIONS, Limits())
    assert not (tmp_path / "it's").exists()


# The whole way: `course grade` with the command itself as the unit ---------------------------------------------------


@pytest.fixture(scope="module")
def graded(tmp_path_factory, write_submission) -> Path:
    """Two submissions, graded on this machine."""
    folder = tmp_path_factory.mktemp("graded")
    for student in ("Ödön 学生", "ada"):
        write_submission(folder / "in" / f"{student}.ipynb", {"1.2": None} if student == "ada" else {})
    grade_all(folder / "in", "01", folder / "out", Options(seed=1))
    return folder


@pytest.mark.sandbox
@pytest.mark.parametrize("engine", ["slurm", "dask"])
def test_an_engine_grades_what_is_missing_as_this_machine_does(engine, graded, tmp_path, sbatch, cluster):
    here = records.read_all(graded / "out")
    shutil.copytree(graded / "out", tmp_path / "out")
    records.path_of(tmp_path / "out", "Ödön 学生").unlink()
    others = {"engine": engine, "scheduler": cluster.scheduler_address}
    there, changed, failed = grade_all(graded / "in", "01", tmp_path / "out", Options(), **others)
    assert there == here
    assert (changed, failed) == ([], {})
    assert [record.points for record in there] == [19, 22]  # 3 of 22 points are those of 1.2
    if engine == "slurm":
        script = (tmp_path / "out" / "slurm" / "grade.sbatch").read_text()
        assert "学生.ipynb" in script and "ada.ipynb" not in script


def test_the_bar_moves_while_nothing_ends():
    moved = threading.Event()
    bar = types.SimpleNamespace(refresh=moved.set)
    with engines.ticking(bar, 0.01):
        assert moved.wait(60)

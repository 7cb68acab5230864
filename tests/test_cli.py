"""The command `course`: quick to start, one line and exit code 2 for bad input, the right calls for good input."""

import subprocess
import sys

import pytest

from course_tools import cli, foreign, notebooks
from course_tools.notebooks import Lecture, NotebookError

COMMANDS = (
    "notebooks",
    "widgets",
    "run",
    "lectures",
    "foreign",
    "export",
    "update",
    "doctor",
    "train",
    "evaluate",
    "checkpoints",
)
COMMANDS += ("release", "collect", "grade", "grade-one", "gradebook")


def test_help_imports_nothing_heavy():
    heavy = {"torch", "matplotlib", "jupytext", "nbformat", "papermill", "ipywidgets"}
    code = (
        "import sys\nfrom course_tools.cli import main\nassert main(['--help']) == 0\n"
        f"assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        assert f"\n  {command} " in done.stdout
    assert "..." not in done.stdout.split("Commands:")[1], "a summary is too long for its line"


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command, capsys):
    assert cli.main([command, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: course {command} ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lecture"], "No such command 'lecture'"),
        ([], "Missing command"),
        (["notebooks", "--everything"], "No such option"),
        (["run"], "Missing argument 'LECTURE'"),
        (["run", "99"], "lecture '99' is not known; allowed: "),
        (["run", "01", "-p", "seed"], "parameter 'seed' is not of the form name=value"),
        (["run", "01", "-p", "device=gpu"], "did you mean 'cuda'?"),
        (["run", "01", "-p", "dataset=MNIST"], "did you mean 'mnist'?"),
        (["run", "01", "-p", "seed=-1"], "seed -1 is not allowed; it must be an integer from 0"),
        (["run", "01", "-p", "seed=True"], "seed True is not allowed"),
        (["run", "01", "-p", "budget=0"], "budget 0 is not allowed"),
        (["run", "01", "-p", "budget=fast"], "budget 'fast' is not allowed; it scales all trainings"),
        (["run", "01", "-p", "budget=1e999"], "budget inf is not allowed"),
        (["foreign", "--setting", "avx3"], "did you mean 'avx2'?"),
        (["foreign", "--lecture", "99"], "lecture '99' is not known"),
        (["grade", "x", "--lecture=01", "--out=y", "--rerun=some"], "'some' is not one of 'none', 'failed', 'all'"),
        (["run", "01", "-p", "=1"], "parameter '=1' is not of the form name=value"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, capsys):
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("course") and captured.err.count("\n") == 1
    assert message in captured.err


def test_the_exit_code_is_that_of_the_process():
    command = [sys.executable, "-m", "course_tools.cli", "run"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "course run: Missing argument 'LECTURE'. (see course run --help)\n"


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("course 0.")


def test_run_passes_the_parameters_on(monkeypatch, tmp_path, capsys):
    calls = []
    monkeypatch.setattr(notebooks, "run", lambda *args: calls.append(args) or tmp_path / "x.ipynb")
    assert cli.main(["run", "01", "-p", "seed=1", "-p", "dataset=a=b", "--out", str(tmp_path)]) == 0
    assert cli.main(["run", "01"]) == 0
    assert calls == [("01", {"seed": "1", "dataset": "a=b"}, tmp_path), ("01", {}, notebooks.ROOT / "build")]
    assert str(tmp_path / "x.ipynb") in capsys.readouterr().out


def test_lectures_tries_all_and_tells_of_failures(monkeypatch, tmp_path, capsys):
    def run(name, params, out_dir):
        if name == "01_a":
            raise NotebookError("build/01_a.ipynb: no memory\nand a traceback")

    monkeypatch.setattr(notebooks, "all_lectures", lambda: [Lecture(tmp_path, name) for name in ("01_a", "02_b")])
    monkeypatch.setattr(notebooks, "run", run)
    assert cli.main(["lectures"]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("01_a") and first.endswith("failed: build/01_a.ipynb: no memory")
    assert second.startswith("02_b") and second.endswith("ok")
    monkeypatch.setattr(notebooks, "all_lectures", lambda: [Lecture(tmp_path, "02_b")])
    assert cli.main(["lectures"]) == 0


def test_notebooks_check(monkeypatch, capsys):
    monkeypatch.setattr(notebooks, "check", lambda: ["lectures/01_a.ipynb"])
    assert cli.main(["notebooks", "--check"]) == 1
    output = capsys.readouterr().out
    assert "lectures/01_a.ipynb" in output and "make notebooks" in output
    monkeypatch.setattr(notebooks, "check", list)
    assert cli.main(["notebooks", "--check"]) == 0


def test_notebooks_options_and_failure(monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(notebooks, "make", lambda **options: calls.append(options) or [])
    assert cli.main(["notebooks"]) == cli.main(["notebooks", "--all", "--force"]) == 0
    assert calls == [{"run_all": False, "force": False}, {"run_all": True, "force": True}]
    assert "up to date" in capsys.readouterr().out

    def fail(**_):
        raise NotebookError("solutions/01_a.ipynb, cell s1-1-code-1: AssertionError: 1 is not 2")

    monkeypatch.setattr(notebooks, "make", fail)
    assert cli.main(["notebooks"]) == 1
    assert "cell s1-1-code-1: AssertionError" in capsys.readouterr().err


def test_other_errors_are_not_hidden(monkeypatch):
    def fail(**_):
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(notebooks, "make", fail)
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        cli.main(["notebooks"])


@pytest.mark.parametrize("said", ["", "vae: interrupted after 5 of 60 steps."])
def test_ctrl_c_is_one_line(monkeypatch, capsys, said):
    def stop(**_):
        raise KeyboardInterrupt(said)

    monkeypatch.setattr(notebooks, "make", stop)
    assert cli.main(["notebooks"]) == 130
    expected = f"course: {said.rstrip('.') or 'interrupted'}; the same command again goes on with what is missing\n"
    assert capsys.readouterr().err == expected


def test_foreign_tells_and_fails_only_for_what_is_compared(monkeypatch, capsys):
    ignored = foreign.Finding("s1-1-code-1", "- 1\n+ 2", stopped=False, compared=False)
    differs = foreign.Finding("s1-1-code-2", "- 1\n+ 2", stopped=False, compared=True)
    for findings, code, word in (([ignored], 0, "the same"), ([ignored, differs], 1, "1 differ")):
        calls = []

        def run(found, settings, values, calls=calls, findings=findings):
            calls.append(([lecture.name for lecture in found], settings, values))
            yield found[0].name, settings[0], findings

        monkeypatch.setattr(foreign, "foreign", run)
        assert cli.main(["foreign", "--setting", "avx2", "--lecture", "1", "--budget", "0.1"]) == code
        assert calls == [(["01_kl_and_elbo"], ["avx2"], {"budget": 0.1})]
        assert f"01_kl_and_elbo, avx2: {word}" in capsys.readouterr().out

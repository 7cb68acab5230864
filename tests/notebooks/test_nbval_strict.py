"""That the comparison of notebooks is strict: each test gives pytest a notebook that must fail, or just pass."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from course_tools.notebooks import execute

pytestmark = pytest.mark.slow  # kernels run small notebooks

ROOT = Path(__file__).resolve().parents[2]
CODE = [
    "import sys\nprint('loss 0.1234')\nprint('a warning', file=sys.stderr)",
    "from IPython.display import display\ndisplay({'image/png': 'AAAA', 'text/plain': 'Figure: a curve'}, raw=True)",
    "print('took 1.23 s, at', object())\n2 + 2;",
]


@pytest.fixture(scope="module")
def executed(tmp_path_factory) -> nbformat.NotebookNode:
    """Return a notebook as it is committed, without stderr."""
    cells = [nbformat.v4.new_code_cell(code, id=f"cell-{i}") for i, code in enumerate(CODE)]
    nb = nbformat.v4.new_notebook(cells=cells)
    execute(nb, tmp_path_factory.mktemp("run"), "tiny.ipynb")
    nb.cells[0].outputs = [output for output in nb.cells[0].outputs if output.name == "stdout"]
    return nb


def run_pytest(nb: nbformat.NotebookNode, folder: Path) -> tuple[int, str]:
    """Return exit code and output of this repository's pytest on the notebook."""
    nbformat.write(nb, folder / "tiny.ipynb")
    options = ["--nbval", "--nbval-current-env", "-p", "conftest", "-p", "no:cacheprovider", "--color=no", "-q"]
    command = [sys.executable, "-m", "pytest", *options, f"--rootdir={folder}", str(folder / "tiny.ipynb")]
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    done = subprocess.run(
        command, cwd=folder, env={**env, "PYTHONPATH": str(ROOT)}, capture_output=True, encoding="utf-8"
    )
    return done.returncode, done.stdout + done.stderr


def test_an_honest_notebook_passes(executed, tmp_path):
    code, output = run_pytest(executed, tmp_path)
    assert (code, "3 passed" in output) == (0, True), output


@pytest.mark.parametrize(
    ("cell", "old", "new"),
    [(0, "0.1234", "0.1235"), (1, "a curve", "another curve"), (2, "took 1.23 s", "took 1.23 steps")],
)
def test_a_changed_output_fails(executed, tmp_path, cell, old, new):
    text = nbformat.writes(executed)
    start = [match.start() for match in re.finditer('"outputs"', text)][cell]
    assert old in text[start:]
    code, output = run_pytest(nbformat.reads(text[:start] + text[start:].replace(old, new, 1), 4), tmp_path)
    assert code == 1 and "1 failed, 2 passed" in output and "Cell outputs differ" in output, output


def test_a_missing_output_fails(executed, tmp_path):
    nb = nbformat.reads(nbformat.writes(executed), 4)
    nb.cells[0].outputs = []
    code, output = run_pytest(nb, tmp_path)
    assert code == 1 and "Unexpected output fields" in output, output


def test_an_error_fails(executed, tmp_path):
    nb = nbformat.reads(nbformat.writes(executed), 4)
    nb.cells[2].source += "\nraise RuntimeError('broken')"
    code, output = run_pytest(nb, tmp_path)
    assert code == 1 and "Cell execution caused an exception" in output, output


def test_a_notebook_never_run_is_refused(executed, tmp_path):
    nb = nbformat.reads(nbformat.writes(executed), 4)
    nb.cells[1].outputs, nb.cells[1].execution_count = [], None
    code, output = run_pytest(nb, tmp_path)
    assert code == 2 and "tiny.ipynb: cells never run: cell-1. Run: make notebooks" in output, output
    assert "passed" not in output

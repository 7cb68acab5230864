"""Every lecture: its notebooks are what the source makes, its equations are checked, its solutions solve the exercises.

That the student's notebook runs and prints what is committed is nbval's part, see conftest.py at the root: the one run
at full length. The solved twin is not run again: what its cells printed is compared with the student's, which are the
same cells. This module runs each lecture twice more, with short trainings: with another seed and the solutions in the
student's notebook, and with the package versions of Colab; and lecture 1 once with a mistake in a formula.
"""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import nbformat
import pytest
from filelock import FileLock

from course_tools import notebooks
from course_tools.foreign import COMPARED, sanitizers
from course_tools.notebook_source import exercise_of, inject, read_source, tags_in, verified_in
from course_tools.notebooks import ROOT, Lecture, NotebookError, code_cells
from course_utils.verify import COLUMNS

LECTURES = sorted(path.stem for path in (ROOT / "solutions").glob("[0-9][0-9]_*.md"))
PARAMETERS = {"dataset", "device", "seed", "budget", "data_root"}
SHORT = 0.05  # of the trainings
COLAB = ["ipywidgets==7.7.1", "ipykernel==6.17.1", "ipython==7.34.0", "traitlets==5.7.1", "anywidget==0.9.21"]
COLAB_NEEDS = ["backcall==0.2.0", "decorator==4.4.2", "ipython-genutils==0.2.0", "pickleshare==0.7.5"]
OFFLINE = r"from versions: none|NewConnectionError|Connection refused|Temporary failure in name resolution|timed out"
COLAB_PROOF = """
import anywidget, IPython, ipykernel, ipywidgets, traitlets
print("versions", *(m.__version__ for m in (ipywidgets, ipykernel, IPython, traitlets, anywidget)))
"""
# The univariate Gaussian KL in course_utils/divergences.py (1.6a), and the same line with a sign turned over.
KL_GAUSSIAN = re.compile(r"^(    return 0\.5 \* \(ratio\*\*2 .*\)) - (ratio\.log\(\))$", re.M)
KL_GAUSSIAN_WRONG = r"\1 + \2"


@pytest.fixture(params=LECTURES)
def lecture(request) -> Lecture:
    """Return each lecture that has a source."""
    return Lecture(ROOT, request.param)


@pytest.fixture
def source(lecture):
    """Return the cells of a lecture's source."""
    return read_source(lecture.source.read_text("utf-8"))


@pytest.fixture
def student(lecture):
    """Return a lecture's committed student notebook."""
    return nbformat.read(lecture.student, as_version=4)


@pytest.fixture
def twin(lecture):
    """Return a lecture's committed solved notebook."""
    return nbformat.read(lecture.twin, as_version=4)


def printed(cell) -> str:
    """Return what a cell printed."""
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def told(cell) -> list[str]:
    """Return the texts among a cell's outputs, as nbval compares them, without the verdict on an exercise."""
    texts = [output.text if output.output_type == "stream" else output.data for output in cell.outputs]
    texts = [text if isinstance(text, str) else repr([text.get(kind) for kind in COMPARED]) for text in texts]
    for regex, replacement in sanitizers():
        texts = [regex.sub(replacement, text) for text in texts]
    return [re.sub(r"^[○✓✗] Exercise .*\n", "", text, flags=re.M) for text in texts]


def outputs(nb):
    """Return (cell, output) for all outputs of a notebook."""
    return [(cell, output) for cell in code_cells(nb) for output in cell.outputs]


def test_there_are_lectures():
    assert LECTURES


def test_committed_notebooks_are_what_the_sources_make():
    assert notebooks.check() == [], "stale; run: make notebooks"


def test_equations_are_numbered_once_and_all_checked(lecture, source, twin, student):
    tags = [tag for cell in source if cell.cell_type == "markdown" for tag in tags_in(cell.source)]
    verified = {tag for cell in source if cell.cell_type == "code" for tag in verified_in(cell.source)}
    number = str(int(lecture.name.split("_")[0]))
    assert [tag for tag, times in Counter(tags).items() if times > 1] == []
    assert set(tags) == verified and tags
    assert all(re.fullmatch(rf"{number}\.\d+[a-z]", tag) for tag in tags)
    for nb in (twin, student):  # and the checks have been made, and have held
        lines = "\n".join(printed(cell) for cell in code_cells(nb))
        assert set(re.findall(r"^✓ \((.+?)\)", lines, re.M)) == set(tags)


def test_exercises_are_open_and_followed_by_their_check(source, student, twin):
    numbers = [exercise_of(cell) for cell in source if exercise_of(cell)]
    assert numbers and [exercise_of(cell) for cell in student.cells if exercise_of(cell)] == numbers
    for nb, mark in ((student, "○"), (twin, "✓")):
        cells = code_cells(nb)
        for cell, check in zip(cells, cells[1:], strict=False):
            if not exercise_of(cell):
                continue
            number = exercise_of(cell)
            stub = f'raise NotImplementedError("Exercise {number}")'
            assert (stub in cell.source, "SOLUTION" in cell.source) == ((True, False) if mark == "○" else (False, True))
            function = re.search(r"^def (\w+)\(", cell.source, re.M)[1]
            assert check.source.startswith(f'{function} = check("{number}", {function})')
            assert printed(check).startswith(f"{mark} Exercise {number}")


def test_no_solution_reaches_the_student(source, student):
    text = nbformat.writes(student)
    hidden = [cell.id for cell in source if "solution" in cell.metadata.get("tags", [])]
    assert "SOLUTION" not in text
    assert not {cell.id for cell in student.cells} & set(hidden)


def test_first_screen(source):
    tagged = [cell for cell in source if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    assert set(notebooks.parameters(nbformat.v4.new_notebook(cells=tagged))) == PARAMETERS
    assert source[0].source.startswith("# ") and "<!-- colab-badge -->" in source[0].source
    assert 'REPOSITORY = "' in code_cells(nbformat.v4.new_notebook(cells=source))[0].source


def test_pictures_have_alt_text_and_nothing_failed(student, twin):
    pictures = 0
    for cell, output in outputs(student) + outputs(twin):
        assert output.output_type != "error", cell.id
        data = output.get("data", {})
        assert notebooks.WIDGET_VIEW not in data, cell.id
        if "image/png" in data:
            pictures += 1
            alt = output.metadata.get("image/png", {}).get("alt", "")
            assert len(alt) > 20, f"{cell.id}: {alt!r} does not tell what the picture shows"
    assert pictures > 0


def test_no_line_of_shown_code_is_too_long(student):
    """JupyterLab would break it anywhere."""
    texts = [output.get("data", {}).get("text/plain", "") for _, output in outputs(student)]
    shown = [text for text in texts if text.startswith("# course_utils.")]
    assert shown and [line for text in shown for line in text.splitlines() if len(line) > COLUMNS] == []


def test_the_twin_printed_what_the_student_notebook_printed(student, twin):
    """In the cells that both have; nbval runs the student's and compares them strictly. Points differ, of course."""
    solved, compared = {cell.id: cell for cell in code_cells(twin)}, 0
    for cell in code_cells(student):
        other = solved[cell.id]
        told_apart = "nbval-ignore-output" in cell.metadata.get("tags", []) or "check.progress()" in cell.source
        if cell.source == other.source and not told_apart:
            assert told(other) == told(cell), cell.id
            compared += 1
    assert compared > 10


@pytest.mark.lecture
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_runs_solved_with_another_seed_and_a_small_budget(lecture, source, student, twin, device):
    """The student notebook, each exercise answered by the twin; on a GPU where there is one."""
    solved = notebooks.with_parameters(inject(student, twin), {"device": device, "budget": SHORT, "seed": 1})
    notebooks.execute(solved, lecture.student.parent, f"{lecture.student.name} with solutions")
    text = "\n".join(map(printed, code_cells(solved)))
    assert f"device: {device}" in text
    lines = re.findall(r"^([○✓✗]) Exercise (\S+?)\b[^.\d]", text, re.M)
    assert lines == [("✓", exercise_of(cell)) for cell in student.cells if exercise_of(cell)]
    verified = set(re.findall(r"^✓ \((\d+\.\d+[a-z])\)", text, re.M))
    assert verified == {tag for cell in source for tag in tags_in(cell.source)}


@pytest.fixture(scope="module")
def colab_site() -> Path:
    """Return a folder with Colab's versions of what runs in a kernel, made once and kept in build/."""
    site, beside = ROOT / "build" / "colab-site", ROOT / "build" / "colab-site.new"
    pins = "\n".join(COLAB + COLAB_NEEDS)
    site.parent.mkdir(exist_ok=True)
    with FileLock(site.with_suffix(".lock")):  # several processes run lectures
        make_site(site, beside, pins)
    return site


def make_site(site: Path, beside: Path, pins: str) -> None:
    """Install the pinned packages into a folder, unless they are there."""
    if not (site / "PINS").exists() or (site / "PINS").read_text("utf-8") != pins:
        shutil.rmtree(beside, ignore_errors=True)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--retries=0", "--timeout=15", "--no-deps"]
        done = subprocess.run(
            [*command, f"--target={beside}", *COLAB, *COLAB_NEEDS], capture_output=True, encoding="utf-8"
        )
        demanded = os.environ.get("COURSE_REQUIRE_COLAB") == "1"
        if done.returncode and re.search(OFFLINE, done.stderr) and not demanded:
            pytest.skip("build/colab-site is missing and the package index is out of reach")
        assert done.returncode == 0, done.stderr
        (beside / "PINS").write_text(pins, "utf-8")
        shutil.rmtree(site, ignore_errors=True)
        beside.rename(site)


@pytest.mark.lecture
def test_runs_with_the_versions_of_colab(lecture, student, colab_site):
    student = notebooks.with_parameters(student, {"budget": SHORT})
    student.cells.insert(0, nbformat.v4.new_code_cell(COLAB_PROOF, id="proof"))
    env = os.environ | {"PYTHONPATH": str(colab_site), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    notebooks.execute(student, lecture.student.parent, f"{lecture.student.name} as in Colab", env=env)
    versions = "versions " + " ".join(pin.split("==")[1] for pin in COLAB)
    assert printed(student.cells[0]).strip() == versions


def test_widgets_live_with_the_versions_of_colab(colab_site):
    tests = [str(ROOT / "tests" / "widgets" / name) for name in ("test_makers.py", "test_stage.py")]
    env = os.environ | {"PYTHONPATH": f"{colab_site}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=ROOT, env=env, capture_output=True, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


@pytest.mark.lecture
@pytest.mark.parametrize("name", [name for name in LECTURES if name.startswith("01_")])
def test_a_wrong_sign_stops_the_lecture(name, tmp_path):
    lecture = Lecture(ROOT, name)
    shutil.copytree(ROOT / "course_utils", tmp_path / "course_utils", ignore=shutil.ignore_patterns("__pycache__"))
    module = tmp_path / "course_utils" / "divergences.py"
    text, count = KL_GAUSSIAN.subn(KL_GAUSSIAN_WRONG, module.read_text("utf-8"))
    assert count == 1, "the line of formula (1.6a) was rewritten: adapt KL_GAUSSIAN above"
    module.write_text(text, "utf-8")
    nb = nbformat.read(lecture.student, as_version=4)
    with pytest.raises(NotebookError, match=r"\(1\.6a\)") as stopped:
        notebooks.execute(
            nb, lecture.student.parent, lecture.student.name, env=os.environ | {"PYTHONPATH": str(tmp_path)}
        )
    assert "1.6a" in verified_in(stopped.value.cell.source)
    assert stopped.value.cell.id.startswith("s1-6-")

"""The notebook pipeline on a small lecture: what is made, that it is stable, that nothing of value is overwritten."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import read

from course_tools import notebooks
from course_tools.notebook_source import (
    inject,
    publish,
    read_source,
    student_notebook,
    tags_in,
    twin_notebook,
    verified_in,
)
from course_tools.notebooks import Lecture, NotebookError

IDS = [
    "lecture-7-a-small-markdown-1",
    "lecture-7-a-small-code-1",
    "lecture-7-a-small-code-2",
    "s7-1-markdown-1",
    "s7-1-markdown-2",
    "exercise-7-1",
    "s7-1-code-1",
    "s7-1-code-2",
    "s7-1-markdown-3",
    "s7-1-markdown-4",
    "summary-markdown-1",
    "summary-code-1",
]


def files(root):
    """Return the bytes of all files of the repository."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def stdout(nb, cell_id):
    """Return what a cell printed."""
    cell = next(cell for cell in nb.cells if cell.id == cell_id)
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def edit(path, old, new):
    """Replace a string that occurs in the file."""
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def edit_cell(path, cell_id, old, new):
    """Edit one cell of a notebook as a front end does, which leaves our metadata as they were."""
    nb = read(path, 4)
    cell = next(cell for cell in nb.cells if cell.id == cell_id)
    assert old in cell.source
    cell.source = cell.source.replace(old, new)
    nbformat.write(nb, path)


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    """Return a repository whose notebooks have been made."""
    root = tmp_path_factory.mktemp("made")
    (root / "solutions").mkdir()
    shutil.copy(Path(__file__).with_name("sample.md"), root / "solutions" / "07_sample.md")
    (root / "pyproject.toml").write_text("[tool.course]\n")
    notebooks.make(root)
    return root


@pytest.fixture
def made(made_once, tmp_path):
    """Return a copy of the made repository, a clean clone as it were, and its lecture."""
    root = tmp_path / "clone"
    shutil.copytree(made_once, root)
    return Lecture(root, "07_sample")


def test_ids_follow_from_the_source(sample):
    cells = read_source(sample)
    assert [cell.id for cell in cells] == IDS
    assert [cell.id for cell in twin_notebook(cells).cells] == IDS
    assert [cell.id for cell in student_notebook(cells).cells] == [i for i in IDS if i != "s7-1-markdown-3"]
    assert "id" not in sample.split("---", 2)[1]


def test_inserting_a_section_leaves_other_ids(sample):
    longer = sample.replace("## Summary", "## 7.2 More\n\n```{code-cell}\n1\n```\n\n## Summary")
    ids = [cell.id for cell in read_source(longer)]
    assert [i for i in ids if not i.startswith("s7-2")] == IDS
    assert [i for i in ids if i.startswith("s7-2")] == ["s7-2-markdown-1", "s7-2-code-1"]


def test_stub_keeps_signature_and_docstring(sample):
    cells = read_source(sample)
    stub = next(cell for cell in student_notebook(cells).cells if cell.id == "exercise-7-1")
    assert stub.source == 'def square(x):\n    """Return the square."""\n    raise NotImplementedError("Exercise 7.1")'
    assert stub.metadata == {"course": {"exercise": "7.1"}}
    assert "### BEGIN SOLUTION" in next(c for c in twin_notebook(cells).cells if c.id == "exercise-7-1").source


def test_several_blocks_at_their_own_indentation(sample):
    double = sample.replace(
        "    ### END SOLUTION",
        "    ### END SOLUTION\n\n\ndef cube(x):\n    if x:\n        ### BEGIN SOLUTION\n        y = x\n\n"
        "        return y**3\n        ### END SOLUTION\n    return 0",
    )
    source = next(cell for cell in student_notebook(read_source(double)).cells if cell.id == "exercise-7-1").source
    assert source.count("raise NotImplementedError") == 2
    assert source.endswith('    if x:\n        raise NotImplementedError("Exercise 7.1")\n    return 0')
    assert "SOLUTION" not in source


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    ### END SOLUTION\n", "", "exercise-7-1.*in pairs"),
        ("---\ncourse:\n  exercise: '7.1'\n---\n", "", "solution markers but no metadata"),
        (
            "## Summary",
            "```{code-cell}\n:course: {exercise: '7.1'}\n\n### BEGIN SOLUTION\n### END SOLUTION\n```",
            "7.1",
        ),
    ],
)
def test_mistakes_in_a_source(sample, old, new, message):
    assert old in sample
    with pytest.raises(ValueError, match=message):
        read_source(sample.replace(old, new))


def test_what_is_committed(made):
    student, twin = read(made.student, 4), read(made.twin, 4)
    assert stdout(student, "s7-1-code-1") == "○ Exercise 7.1: not attempted\n"
    assert stdout(twin, "s7-1-code-1") == "✓ Exercise 7.1: 4\n"
    assert stdout(twin, "s7-1-code-2") == "✓ (7.1a)\nseed 0 digits\n"  # stderr dropped, streams merged
    outputs = next(cell for cell in twin.cells if cell.id == "s7-1-code-2").outputs
    assert [output.output_type for output in outputs] == ["stream", "display_data"]
    assert outputs[1].data == {"text/plain": "a widget"}  # the view is stripped, and an output of nothing else dropped
    assert student.cells[-1].outputs[0].data == {"text/plain": "16"}
    for nb in (student, twin):
        assert [c.execution_count for c in nb.cells if c.cell_type == "code"] == list(range(1, 7))
        assert nb.metadata.kernelspec.name == "python3"
        assert nb.metadata.language_info == {"name": "python"}
        assert not any("execution" in cell.metadata for cell in nb.cells)
    assert twin.metadata.jupytext == {"formats": "ipynb,md:myst"}
    text = made.twin.read_text("utf-8")
    assert text.startswith('{\n "cells"') and text.endswith("}\n") and "✓" in text


def test_second_run_changes_nothing(made, monkeypatch):
    before = files(made.root)
    assert notebooks.check(made.root) == []
    monkeypatch.setattr(notebooks, "execute", None)  # nothing may be run
    assert notebooks.make(made.root) == []
    assert files(made.root) == before


def test_running_everything_again_gives_the_same_bytes(made):
    before = files(made.root)
    assert notebooks.make(made.root, run_all=True) == []
    assert files(made.root) == before


def test_prose_is_taken_over_without_running(made, monkeypatch):
    edit(made.source, "A second cell", "Another cell")
    monkeypatch.setattr(notebooks, "execute", None)
    assert notebooks.check(made.root) == ["solutions/07_sample.ipynb", "lectures/07_sample.ipynb"]
    assert notebooks.make(made.root) == [made.twin, made.student]
    assert "Another cell" in made.student.read_text("utf-8")
    assert notebooks.check(made.root) == []


def test_edited_code_runs_again(made):
    edit(made.source, "square(4)", "square(5)")
    assert notebooks.check(made.root) == ["solutions/07_sample.ipynb", "lectures/07_sample.ipynb"]
    assert notebooks.make(made.root) == [made.twin, made.student]
    assert read(made.student, 4).cells[-1].outputs[0].data == {"text/plain": "25"}


def test_edited_solution_runs_the_twin_only(made):
    edit(made.source, "return x * x\n    ### END", "return x**2\n    ### END")
    assert notebooks.make(made.root) == [made.twin]


def test_tampered_output_is_stale_and_mended(made):
    before = files(made.root)
    edit(made.student, '"text/plain": [\n       "16"', '"text/plain": [\n       "17"')
    assert notebooks.check(made.root) == ["lectures/07_sample.ipynb"]
    notebooks.make(made.root)
    assert files(made.root) == before


def test_failing_cell_leaves_the_old_files(made):
    edit(made.source, "square(4)", "square('no number')")
    before = files(made.root)
    with pytest.raises(
        NotebookError, match=r"solutions/07_sample.ipynb, cell summary-code-1: TypeError: can't multiply"
    ):
        notebooks.make(made.root)
    assert files(made.root) == before


def test_failure_of_the_student_version_keeps_the_twin_too(made):
    edit(made.source, "        return lambda x: x * x\n", "        raise\n")
    before = files(made.root)
    with pytest.raises(NotebookError, match=r"lectures/07_sample.ipynb, cell s7-1-code-1: NotImplementedError"):
        notebooks.make(made.root)
    assert files(made.root) == before


def test_endless_cell_and_dead_kernel(tmp_path):
    def one_cell(code):
        return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code, id="only")])

    with pytest.raises(NotebookError, match="x.ipynb, cell only: still running after 1 s"):
        notebooks.execute(one_cell("import time; time.sleep(60)"), tmp_path, "x.ipynb", timeout=1)
    with pytest.raises(NotebookError, match="x.ipynb, cell only: the kernel died"):
        notebooks.execute(one_cell("import os; os._exit(1)"), tmp_path, "x.ipynb")


def test_edited_twin_is_not_destroyed(made):
    edit_cell(made.twin, "summary-code-1", "square(4)", "square(6)")
    before = files(made.root)
    with pytest.raises(NotebookError, match=r"edited by hand.*jupytext --to md:myst.*--force"):
        notebooks.make(made.root)
    assert files(made.root) == before

    command = [sys.executable, "-m", "jupytext", "--quiet", "--to", "md:myst", str(made.twin)]
    subprocess.run(command, check=True, capture_output=True)  # the remedy of the message
    assert "square(6)" in made.source.read_text("utf-8")
    assert "source_hash" not in made.source.read_text("utf-8")
    notebooks.make(made.root)
    assert read(made.student, 4).cells[-1].outputs[0].data == {"text/plain": "36"}


def test_edited_notebooks_are_overwritten_by_force(made):
    before = files(made.root)
    for path in (made.twin, made.student):
        edit_cell(path, "summary-code-1", "square(4)", "square(6)")
        with pytest.raises(NotebookError, match=f"{path.parent.name}/07_sample.ipynb was edited by hand"):
            notebooks.make(made.root)
        notebooks.make(made.root, force=True)
        assert files(made.root) == before


def test_broken_notebook_is_named(made):
    made.student.write_text("<<<<<<< HEAD\n")
    with pytest.raises(ValueError, match=r"07_sample.ipynb is not a notebook.*delete it"):
        notebooks.make(made.root)


def test_publication(repository, sample):
    root = repository(repository="https://github.com/someone/course.git", tag="v1.2")
    lecture = Lecture(root, "07_sample")
    assert "solutions/07_sample.md" in notebooks.check(root)
    notebooks.make(root)
    source, student = lecture.source.read_text("utf-8"), read(lecture.student, 4)
    assert 'REPOSITORY = "https://github.com/someone/course.git"\nTAG = "v1.2"\n' in source
    assert student.cells[1].source in source
    url = "https://colab.research.google.com/github/someone/course/blob/v1.2/lectures/07_sample.ipynb"
    assert f'<!-- colab-badge --> <a href="{url}"><img ' in student.cells[0].source
    assert notebooks.check(root) == []
    assert publish(source, "07_sample", "", "") == sample  # and back again
    assert "<a" not in publish(source, "07_sample", "https://gitlab.com/someone/course", "v1")  # Colab reads GitHub


def test_publication_mistakes(repository, sample):
    with pytest.raises(ValueError, match="both repository and tag"):
        notebooks.check(repository(repository="https://github.com/someone/course"))
    with pytest.raises(ValueError, match="07_sample.md has 0 lines like .*TAG"):
        publish(sample.replace('TAG = ""\n', ""), "07_sample", "", "")


def test_inject(made):
    student, twin = read(made.student, 4), read(made.twin, 4)
    solved = inject(student, twin)
    cell = next(cell for cell in solved.cells if cell.id == "exercise-7-1")
    assert cell.source == 'def square(x):\n    """Return the square."""\n    return x * x'
    assert [cell.id for cell in solved.cells] == [cell.id for cell in student.cells]
    assert "NotImplementedError(" in next(cell for cell in student.cells if cell.id == "exercise-7-1").source
    twin.cells = [cell for cell in twin.cells if cell.id != "exercise-7-1"]
    with pytest.raises(ValueError, match="exercise '7.1' is not known"):
        inject(student, twin)


def test_equation_numbers():
    assert tags_in("$$ a \\tag{1.6a} $$ `\\tag{1.9z}` \n$$ b \\tag{1.10b} $$\n```\n\\tag{2.1a}\n```") == [
        "1.6a",
        "1.10b",
    ]
    assert verified_in('verify("1.6a", 1, 1)\n# verify("1.6b", 1, 1)\nprint(\'verify("1.6c", 0, 0)\')') == ["1.6a"]
    assert verified_in('%matplotlib inline\nfor x in xs:\n    verify("1.10a", x, f("1.10b"))') == ["1.10a"]


def test_run_with_parameters(made, tmp_path):
    result = notebooks.run("7", {"seed": "3", "dataset": "mnist"}, tmp_path / "out", root=made.root)
    assert re.search("seed 3 .*mnist", stdout(read(result, 4), "s7-1-code-2"), re.S)
    assert notebooks.check(made.root) == []  # the lecture itself is as it was


@pytest.mark.parametrize(
    ("which", "params", "message"),
    [
        ("8", {}, r"lecture '8' is not known; allowed: '07', '07_sample'"),
        ("07_sampel", {}, r"did you mean '07_sample'"),
        ("07", {"sede": "1"}, r"parameter 'sede' is not known; allowed: 'seed', 'dataset', 'data_root'; did you mean"),
    ],
)
def test_run_refuses(made, tmp_path, which, params, message):
    with pytest.raises(ValueError, match=message):
        notebooks.run(which, params, tmp_path, root=made.root)


def test_run_reports_failures(made, tmp_path):
    edit_cell(made.student, "summary-code-1", "square(4)", "1 / seed")
    with pytest.raises(NotebookError, match=r"ZeroDivisionError: division by zero"):
        notebooks.run("07", {}, tmp_path, root=made.root)
    edit_cell(made.student, "summary-code-1", "1 / seed", "import time; time.sleep(60)")
    with pytest.raises(NotebookError, match=r"still running after 1 s"):
        notebooks.run("07", {}, tmp_path, root=made.root, timeout=1)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"seed": "-1"}, r"seed -1 is not allowed"),
        ({"seed": "1.5"}, r"seed 1\.5 is not allowed"),
        ({"dataset": "MNIST"}, r"did you mean 'mnist'"),
    ],
)
def test_values_are_checked_before_a_kernel_starts(made, tmp_path, monkeypatch, params, message):
    monkeypatch.setattr(notebooks, "run_by_papermill", None)
    with pytest.raises(ValueError, match=message):
        notebooks.run("07", params, tmp_path / "out", root=made.root)
    assert not (tmp_path / "out").exists()


def test_only_one_run_writes_a_file(made, tmp_path, monkeypatch):
    with (
        notebooks.only_writer(tmp_path / "07_sample.ipynb"),
        pytest.raises(ValueError, match=r"another run is writing .*07_sample\.ipynb: wait for it, or .*--out DIR"),
    ):
        notebooks.run("07", {}, tmp_path, root=made.root)
    assert list(tmp_path.glob("*.lock")) == list(tmp_path.glob(".*.lock")) == []

    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file can't hold a file \(File exists\); name another folder: --out DIR"):
        notebooks.run("07", {}, tmp_path / "file", root=made.root)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ValueError, match=r"is read-only; name another folder: --out DIR"):
        notebooks.run("07", {}, tmp_path, root=made.root)


def test_with_parameters(made):
    student = read(made.student, 4)
    changed = notebooks.with_parameters(student, {"seed": 3, "dataset": "mnist"})
    i = next(i for i, cell in enumerate(changed.cells) if cell.id == "injected-parameters")
    assert changed.cells[i].source == "seed = 3\ndataset = 'mnist'"
    assert "parameters" in changed.cells[i - 1].metadata.tags
    assert len(changed.cells) == len(student.cells) + 1 == len(notebooks.with_parameters(student, {}).cells) + 1
    with pytest.raises(ValueError, match="did you mean 'seed'"):
        notebooks.with_parameters(student, {"sede": 1})


@pytest.mark.parametrize(
    ("text", "value"), [("1", 1), ("1e-3", 1e-3), ("None", None), ("mnist", "mnist"), ("'1'", "1")]
)
def test_parameter_values(text, value):
    assert notebooks.parse_value(text) == value


def test_no_lectures(tmp_path):
    with pytest.raises(FileNotFoundError, match="no lecture"):
        notebooks.all_lectures(tmp_path)

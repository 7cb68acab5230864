"""Handing out: only what the source makes, with exercises open and gradable; nothing of a student's is overwritten."""

import os

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from course_tools import notebooks
from course_tools.grading.hand_in import release as releasing
from course_tools.grading.hand_in.release import fault, registered, release, release_all
from course_tools.notebooks import NotebookError, all_lectures, find_lecture

SOURCE = """# Lecture {n}

<!-- colab-badge -->

```{{code-cell}}
REPOSITORY = ""
TAG = ""
```

```{{code-cell}}
---
course: {{exercise: '{n}.1'}}
---
def square(x):
    ### BEGIN SOLUTION
    return x * x
    ### END SOLUTION
```

```{{code-cell}}
print("a picture")
```

+++ {{"tags": ["solution"]}}

The answer.
"""


class Square:
    """As much of an exercise as handing out looks at."""

    function = "square"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Return a course of lectures 07 and 08, made but for being run."""
    root = tmp_path / "course"
    (root / "solutions").mkdir(parents=True)
    (root / "pyproject.toml").write_text("[tool.course]\n")
    for n in (7, 8):
        (root / "solutions" / f"0{n}_sample.md").write_text(SOURCE.format(n=n))

    def pretend(nb, folder, label):
        for cell in notebooks.code_cells(nb):
            cell.outputs = [nbformat.v4.new_output("stream", text="a picture\n")]

    monkeypatch.setattr(notebooks, "execute", pretend)
    notebooks.make(root)
    monkeypatch.setattr(releasing, "registered", lambda lecture: {f"{int(lecture.name[:2])}.1": Square})
    return root


def contents(folder):
    """Return name → bytes of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_notebook_as_committed(root, tmp_path):
    path = release("7", tmp_path / "new" / "out", root)
    assert path == tmp_path / "new" / "out" / "07_sample.ipynb"
    assert contents(path.parent) == {"07_sample.ipynb": (root / "lectures" / "07_sample.ipynb").read_bytes()}
    nb = nbformat.read(path, 4)
    (exercise,) = [cell for cell in nb.cells if cell.id == "exercise-7-1"]
    assert exercise.metadata.course.exercise == "7.1"
    assert 'raise NotImplementedError("Exercise 7.1")' in exercise.source and "x * x" not in exercise.source
    assert nb.cells[-1].outputs[0].text == "a picture\n"
    assert "The answer" not in path.read_text("utf-8")


def test_all_and_again(root, tmp_path):
    paths = release_all(tmp_path / "out", root)
    assert [path.name for path in paths] == ["07_sample.ipynb", "08_sample.ipynb"]
    before = {path: path.stat().st_mtime_ns for path in paths}
    assert release_all(tmp_path / "out", root) == paths
    assert release("08", tmp_path / "out", root) == paths[1]
    assert {path: path.stat().st_mtime_ns for path in paths} == before


def test_a_different_file_is_not_overwritten(root, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "08_sample.ipynb").write_text("a student's")
    for call in (lambda: release("8", tmp_path / "out", root), lambda: release_all(tmp_path / "out", root)):
        with pytest.raises(ValueError, match=r"08_sample.ipynb exists and differs.*another --out") as error:
            call()
        assert "\n" not in str(error.value)
        assert contents(tmp_path / "out") == {"08_sample.ipynb": b"a student's"}  # of all lectures, none was written


def edit_source(root):
    path = root / "solutions" / "07_sample.md"
    path.write_text(path.read_text().replace("a picture", "another"))


def edit_notebook(root):
    path = root / "lectures" / "07_sample.ipynb"
    path.write_text(path.read_text().replace("def square", "def  square"))


def edit_output(root):
    path = root / "lectures" / "07_sample.ipynb"
    path.write_text(path.read_text().replace('"a picture\\n"', '"nonsense\\n"'))


def edit_metadata(root):
    path = root / "lectures" / "07_sample.ipynb"
    path.write_text(path.read_text().replace('"exercise": "7.1"', '"exercise": "7.2"'))


def spoil(root):
    (root / "lectures" / "07_sample.ipynb").write_text("{")


def remove(root):
    (root / "lectures" / "07_sample.ipynb").unlink()


@pytest.mark.parametrize("change", [edit_source, edit_notebook, edit_output, edit_metadata, spoil, remove])
def test_what_the_source_does_not_make_is_refused(root, tmp_path, change):
    before = contents(root / "lectures")
    change(root)
    assert change is edit_source or contents(root / "lectures") != before
    with pytest.raises(ValueError, match="make notebooks") as error:
        release("7", tmp_path / "out", root)
    assert "\n" not in str(error.value) and "07_sample" in str(error.value)
    assert not (tmp_path / "out").exists()
    release("8", tmp_path / "out", root)  # another lecture's fault is none of its own


def exercise(source, id="7.1", **metadata):
    """Return the cell of an exercise."""
    return new_code_cell(source, metadata={"course": {"exercise": id}, **metadata})


OPEN = 'def square(x):\n    raise NotImplementedError("Exercise 7.1")'


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([exercise(OPEN)], None),
        ([], "exercise 7.1 is not in the notebook"),
        ([exercise(OPEN), exercise(OPEN, "7.10")], "exercise 7.10 is not in course_utils.exercises"),
        ([exercise("def square(x):\n    return x * x")], "exercise 7.1 is not open"),
        ([exercise(OPEN.replace("square", "cube"))], "does not define square"),
        ([exercise(OPEN), new_code_cell("x = 1  ### BEGIN SOLUTION")], "holds a solution"),
        ([exercise(OPEN), new_code_cell("1", metadata={"tags": ["solution"]})], "holds a solution"),
    ],
)
def test_what_must_not_be_handed_out(cells, message):
    found = fault(new_notebook(cells=cells), {"7.1": Square})
    assert found is None if message is None else message in found


def test_an_exercise_that_cannot_be_graded_stops_the_release(root, tmp_path, monkeypatch):
    monkeypatch.setattr(releasing, "registered", lambda lecture: {})
    with pytest.raises(ValueError, match=r"07_sample is not ready.*7\.1 is not in course_utils\.exercises"):
        release("7", tmp_path / "out", root)
    assert not (tmp_path / "out").exists()


def test_bad_input_is_one_line(root, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="lecture '9' is not known"):
        release("9", tmp_path / "out", root)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="is a file"):
        release("7", tmp_path / "file", root)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ValueError, match="No space left on device") as error:
        release("7", tmp_path / "out", root)
    assert "\n" not in str(error.value)
    assert contents(tmp_path / "out") == {}


def test_every_lecture_of_the_course_is_registered():
    """Each lecture's exercises are those of its number, and its notebook has exactly them, open."""
    for lecture in all_lectures():
        exercises = registered(find_lecture(lecture.name))
        assert len(exercises) >= 4 and {int(id.split(".")[0]) for id in exercises} == {int(lecture.name[:2])}
        assert fault(nbformat.read(lecture.student, 4), exercises) is None


def test_a_pipeline_error_is_not_hidden(root, tmp_path):
    source = root / "solutions" / "07_sample.md"
    source.write_text(source.read_text().replace("    ### END SOLUTION\n", ""))
    with pytest.raises((ValueError, NotebookError), match="exercise-7-1"):
        release("7", tmp_path / "out", root)

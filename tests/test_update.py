"""`course update`: answers survive a new version of the course, and nothing is lost where git refuses."""

import subprocess
from pathlib import Path

import nbformat
import pytest

from course_tools.update import update

CODE = 'def kl(p, q):\n    """Return it."""\n    raise NotImplementedError("Exercise 1.1")'
ANSWER = CODE.replace('raise NotImplementedError("Exercise 1.1")', "return 42")
WORDS = "*Your answer here.*"


def git(folder: Path, *arguments: str) -> None:
    name = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *name, *arguments], cwd=folder, check=True, capture_output=True)


def write(folder: Path, text: str, code: str = CODE, words: str = WORDS) -> Path:
    """Write lecture 1 with a text, an exercise to be programmed and one to be answered in words."""
    cells = [nbformat.v4.new_markdown_cell(text, id="text")]
    cells.append(nbformat.v4.new_code_cell(code, id="e1", metadata={"course": {"exercise": "1.1"}}))
    cells.append(nbformat.v4.new_markdown_cell(words, id="e2", metadata={"course": {"written": "1.8"}}))
    path = folder / "lectures" / "01_kl.ipynb"
    path.parent.mkdir(exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


@pytest.fixture
def clone(tmp_path) -> Path:
    """Return a student's clone of a course that has a newer version since."""
    course, clone = tmp_path / "course", tmp_path / "clone"
    course.mkdir()
    git(course, "init", "-q")
    write(course, "old")
    (course / "README.md").write_text("old", "utf-8")
    git(course, "add", ".")
    git(course, "commit", "-qm", "old")
    git(tmp_path, "clone", "-q", str(course), str(clone))
    write(course, "new")
    git(course, "commit", "-qam", "new")
    return clone


def sources(path: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(path, 4).cells]


def test_answers_are_carried_over_and_the_notebook_is_kept(clone):
    path = write(clone, "old, with my notes", ANSWER, "Because.")
    lines = update(clone)
    assert sources(path) == ["new", ANSWER, "Because."]
    (kept,) = (clone / "answers").glob("*/01_kl.ipynb")
    assert sources(kept) == ["old, with my notes", ANSWER, "Because."]
    assert lines[0].startswith("01_kl.ipynb: answers 1.1, 1.8 carried over; your whole notebook is in answers")


def test_without_answers_the_new_text_stands(clone):
    path = write(clone, "old, with my notes")
    assert "no answers carried over" in update(clone)[0]
    assert sources(path) == ["new", CODE, WORDS]


def test_where_git_refuses_everything_is_as_it_was(clone):
    path = write(clone, "old", ANSWER)
    mine = path.read_bytes()
    git(clone, "remote", "set-url", "origin", str(clone.parent / "gone"))
    with pytest.raises(ValueError, match="git pull failed"):
        update(clone)
    assert path.read_bytes() == mine


def test_other_edits_are_named(clone):
    (clone / "README.md").write_text("mine", "utf-8")
    with pytest.raises(ValueError, match=r"you edited README\.md: commit that, or undo it"):
        update(clone)

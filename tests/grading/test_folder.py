"""Whose each file in a folder of submissions is: nobody is passed over, and nobody is made up."""

import json

import pytest

from course_tools.grading.hand_in.folder import submissions_in


def book(*sources: str) -> str:
    """Return a notebook's text."""
    cells = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": source} for source in sources]
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells})


@pytest.fixture
def found(tmp_path):
    """Return found(path → text): student → path of what counts."""

    def find(files: dict[str, str], given=frozenset()) -> dict[str, str]:
        for name, text in files.items():
            path = tmp_path / "in" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        found = submissions_in(tmp_path / "in", ["01_kl_and_elbo"], given)
        return {student: path.relative_to(tmp_path / "in").as_posix() for student, path in found.items()}

    return find


def test_folders_and_flat_files(found):
    files = dict.fromkeys(["ada/hw.ipynb", "bob.ipynb", "cy/01_kl_and_elbo.ipynb"], book())
    assert found(files) == {"ada": "ada/hw.ipynb", "bob": "bob.ipynb", "cy": "cy/01_kl_and_elbo.ipynb"}


@pytest.mark.parametrize(
    "left",
    [
        ".ipynb_checkpoints/ada-checkpoint.ipynb",
        "ada/.ipynb_checkpoints/hw-checkpoint.ipynb",
        "ada/sub/.ipynb_checkpoints/hw-checkpoint.ipynb",
        "__MACOSX/ada/._hw.ipynb",
        "__MACOSX/hw.ipynb",
        ".git/x.ipynb",
        "._ada.ipynb",
        "ada/.hw.ipynb",
        "students.csv",
        "notes.md",
        "helpers.py",
        "ada/helpers.py",
        "ada/figure.png",
        "ada/hw.pdf",
        "grades/run.json",
        ".DS_Store",
    ],
)
def test_what_is_no_submission_is_nobodys(found, left):
    files = {"ada/hw.ipynb": book("x"), left: "{}"}
    files |= {"grades/feedback/ada.html": "x", "grades/results/ada.json": "{}"} if left.startswith("grades") else {}
    assert found(files) == {"ada": "ada/hw.ipynb"}


@pytest.mark.parametrize(
    "file",
    [
        "hw.ipynb.json",
        "hw.ipynb.txt",
        "hw.json",
        "hw.txt",
        "hw.pdf",
        "hw.html",
        "hw.zip",
        "hw.py",
        "hw.docx",
        "photo.jpg",
    ],
)
def test_who_handed_in_something_else_is_there(found, file):
    text = book("x") if "json" in file or "txt" in file else "?"
    assert found({f"ada/{file}": text, "bob/hw.ipynb": book()}) == {"ada": f"ada/{file}", "bob": "bob/hw.ipynb"}


@pytest.mark.parametrize("file", ["ada.ipynb.json", "ada.ipynb.txt", "ada.pdf", "ada.html", "ada.zip", "ada.ipynb.pdf"])
def test_who_has_another_file_beside_notebooks_is_there(found, file):
    assert found({file: "{}", "bob.ipynb": book()}) == {"ada": file, "bob": "bob.ipynb"}
    assert found({"ada.ipynb": book()})["ada"] == "ada.ipynb"


def test_a_notebook_without_an_ending_is_there(found):
    files = {"ada": book(), "README": "see the notebooks", "bob.ipynb": book()}
    assert found(files) == {"ada": "ada", "bob": "bob.ipynb"}


def test_a_notebook_further_down_is_found(found):
    files = {"ada/hw/deep/hw.ipynb": book(), "ada/readme.txt": "see below"}
    assert found(files) == {"ada": "ada/hw/deep/hw.ipynb"}


def test_the_better_of_several_files_is_taken(found):
    files = {"ada/a.pdf": "?", "ada/notes.txt": "?", "ada/z.ipynb.txt": book("x"), "ada/figure.png": "?"}
    assert found(files) == {"ada": "ada/z.ipynb.txt"}


def test_an_original_does_not_count_beside_a_copy(found):
    given = frozenset({"given"})
    assert found({"ada/hw.ipynb": book("given"), "ada/Copy of hw.ipynb": book("mine")}, given) == {
        "ada": "ada/Copy of hw.ipynb"
    }
    assert found({"bo/hw.ipynb": book("given"), "bo/hw2.ipynb": book("given", "")}, given)["bo"] == "bo/hw.ipynb"


@pytest.mark.parametrize(
    "names", [("ada/a.ipynb", "ada/b.ipynb"), ("ada.ipynb", "ada/b.ipynb"), ("ada/x/a.ipynb", "ada/y/b.ipynb")]
)
def test_two_notebooks_are_refused_by_their_names(found, names):
    with pytest.raises(ValueError, match="student 'ada' has two notebooks") as error:
        found(dict.fromkeys(names, book("mine")))
    assert all(name in str(error.value) for name in names)


def test_no_folder_an_empty_one_and_one_students(found, tmp_path):
    with pytest.raises(FileNotFoundError, match="is no folder of submissions"):
        submissions_in(tmp_path / "none", [])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no notebook in"):
        submissions_in(tmp_path / "empty", [])
    with pytest.raises(ValueError, match="is one student's folder"):
        found({"01_kl_and_elbo.ipynb": book()})


def test_links_are_not_followed(found, tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "hw.ipynb").write_text(book(), "utf-8")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "eve").symlink_to(tmp_path / "secret")
    (tmp_path / "in" / "eve.ipynb").symlink_to(tmp_path / "secret" / "hw.ipynb")
    assert found({"ada/hw.ipynb": book()}) == {"ada": "ada/hw.ipynb"}

"""Grades corrected by hand: what spreadsheets save is read, what is wrong is named with row and column."""

import pytest

from course_tools.grading.book.corrections import Correction, read_corrections
from course_tools.grading.book.records import Record, Result, Written


def record(student: str, *ids: str) -> Record:
    """A submission with these exercises, three points each, and a written one, 1.8."""
    exercises = {id: Result("wrong", 0.0, 3.0) for id in ids}
    record = Record(student, "01_kl_and_elbo", f"{student}.ipynb", "", 0, "bubblewrap", exercises=exercises)
    record.written["1.8"] = Written("Because.", 3.0)
    return record


CLASS = [record("ada", "1.1", "1.2", "1.10"), record("0012", "1.1")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_what_spreadsheets_save_is_read(tmp_path, delimiter, encoding):
    rows = [
        ["student", "exercise", "points", "reason"],
        ["ada", "Exercise 1.10", '"2,5"', '"right idea; a slip, no more"'],
        ["", "", "", ""],
        ["12", "1.2", "0", ""],
    ]
    path = tmp_path / "corrections.csv"
    path.write_bytes("\r\n".join(delimiter.join(row) for row in rows).encode(encoding))
    assert read_corrections(path, CLASS) == {
        ("ada", "1.10"): Correction(2.5, "right idea; a slip, no more"),
        ("0012", "1.2"): Correction(0.0),
    }


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        ("adda,1.1,1,x", ["row 2", "column student", "'adda'", "'ada'"]),
        ("ada,1.1,1,x\nada,1.3,1,x", ["row 3", "column exercise", "'1.3'", "1.1, 1.2, 1.10"]),
        ("ada,1.8,1,x", ["row 2", "column exercise", "'1.8'", "written.csv"]),
        ("ada,1.1,3.5,x", ["row 2", "column points", "'3.5'", "0 to 3"]),
        ("ada,1.1,-1,x", ["row 2", "column points", "'-1'"]),
        ("ada,1.1,nan,x", ["row 2", "column points", "'nan'"]),
        ("ada,1.1,,x", ["row 2", "column points", "empty", "0 to 3"]),
        ("ada,1.1,1,x\n,,,\nada,exercise 1.1,2,y", ["row 4", "row 2", "ada", "1.1"]),
    ],
)
def test_bad_corrections_give_one_line_that_names_row_and_column(tmp_path, rows, parts):
    path = tmp_path / "corrections.csv"
    path.write_text(f"student,exercise,points,reason\n{rows}\n", "utf-8")
    with pytest.raises(ValueError) as error:
        read_corrections(path, CLASS)
    assert all(part in str(error.value) for part in [*parts, "corrections.csv"])
    assert "\n" not in str(error.value)


def test_a_missing_column_is_named(tmp_path):
    (tmp_path / "corrections.csv").write_text("student,exercise,points\nada,1.1,1\n", "utf-8")
    with pytest.raises(ValueError, match="row 1: the column reason is missing"):
        read_corrections(tmp_path / "corrections.csv", CLASS)

"""Written answers: collected once, marked by hand, and never unmarked by the program."""

import csv
import io

import pytest

from course_tools.grading.book import written
from course_tools.grading.book.records import Record, Written
from course_tools.grading.book.written import Mark, points_of, read_marks, table


def record(student: str, **answers: str | None) -> Record:
    """A submission with written answers to 1.8 and, if given, 1.10, three points each."""
    ids = {"a": "1.8", "b": "1.10"}
    own = {ids[name]: Written(text, 3.0) for name, text in answers.items()}
    return Record(student, "01_kl_and_elbo", f"{student}.ipynb", "", 0, "bubblewrap", written=own)


CLASS = [record("ada", a="Because.", b="Yes"), record("bob", a="It is not.", b="")]


def marks_file(tmp_path, text: str, encoding: str = "utf-8"):
    """Write a file of marks; return its path."""
    path = tmp_path / "marks.csv"
    path.write_bytes(text.encode(encoding))
    return path


def parsed(text: str) -> list[dict[str, str]]:
    """Return the rows of CSV text as any other program reads it."""
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))


def test_the_table_has_every_answer_and_answers_to_one_exercise_stand_together():
    rows = parsed(table(CLASS, {}))
    assert [(row["exercise"], row["student"]) for row in rows] == [
        ("exercise 1.8", "ada"),
        ("exercise 1.8", "bob"),
        ("exercise 1.10", "ada"),
    ]
    assert rows[0]["answer"] == "Because."
    assert {row["possible"] for row in rows} == {"3"}
    assert {row["points"] for row in rows} == {""}


def test_an_answer_that_was_not_found_can_be_given_points():
    lost = record("eve", a=None)
    (row,) = parsed(table([lost], {}))
    assert (row["student"], row["points"]) == ("eve", "")
    assert "no cell for 1.8 found" in row["answer"]
    assert "eve.ipynb" in row["answer"]
    assert points_of(lost, "1.8", {("eve", "1.8"): Mark(0.0)}) == 0.0


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
@pytest.mark.parametrize("head", ["", "sep={}\r\n", '"sep={}"\r\n'])
def test_what_spreadsheets_save_is_read(tmp_path, delimiter, encoding, head):
    rows = [["student", "exercise", "points", "comment"], ["ada", "1.8", '"2,5"', "naïve; but right"], ["", "", "", ""]]
    rows[1][3] = f'"{rows[1][3]}"'
    text = "\r\n".join(delimiter.join(row) for row in rows)
    path = marks_file(tmp_path, head.format(delimiter) + text, encoding)
    marks = read_marks(path, CLASS)
    assert marks["ada", "1.8"].points == 2.5
    assert marks["ada", "1.8"].comment == "naïve; but right"


def test_marks_survive_a_round_trip_and_new_answers_are_added(tmp_path):
    first = table(CLASS[:1], {("ada", "1.8"): Mark(2.0, "=short")})
    kept = read_marks(marks_file(tmp_path, first), CLASS)
    rows = parsed(table(CLASS, kept))
    assert (rows[0]["points"], rows[0]["comment"], rows[0]["changed"]) == ("2", "'=short", "")
    assert kept["ada", "1.8"].comment == "=short"
    assert rows[1]["student"] == "bob"
    assert rows[1]["points"] == ""


def test_an_answer_that_changed_after_marking_is_open_until_the_instructor_says_so(tmp_path):
    path = marks_file(tmp_path, table(CLASS, {("ada", "1.8"): Mark(2.0)}))
    now = [record("ada", a="Something else.", b="Yes"), CLASS[1]]
    marks = read_marks(path, now)
    assert points_of(now[0], "1.8", marks) is None
    assert parsed(table(now, marks))[0]["points"] == "2"
    assert "changed" in parsed(table(now, marks))[0]["changed"]
    path.write_text(table(now, marks), "utf-8")
    assert points_of(now[0], "1.8", read_marks(path, now)) is None, "seen once more, and still not confirmed"
    path.write_text(table(now, marks).replace(written.CHANGED, ""), "utf-8")
    assert points_of(now[0], "1.8", read_marks(path, now)) == 2.0


def test_no_answer_gives_no_points_and_an_unmarked_one_is_open():
    assert points_of(CLASS[1], "1.10", {}) == 0
    assert points_of(CLASS[1], "1.8", {}) is None
    assert points_of(record("eve", a=None), "1.8", {}) is None, "its cell was not found: nobody knows"
    assert points_of(CLASS[1], "1.10", {("bob", "1.10"): Mark(1.0)}) == 1.0, "found elsewhere by hand"


def test_zeros_that_a_spreadsheet_cut_off_a_number_are_found_again(tmp_path):
    path = marks_file(tmp_path, "student,exercise,points\n1234,exercise 1.8,1\n")
    assert read_marks(path, [record("001234", a="x")])["001234", "1.8"].points == 1.0


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("student,exercise\nada,1.8\n", ["row 1", "points", "missing"]),
        ("", ["row 1", "missing"]),
        ("student,exercise,points,points\nada,1.8,1,2\n", ["row 1", "points", "twice"]),
        ("student,exercise,points\nada,1.8,1\nadda,1.8,1\n", ["row 3", "student", "'adda'", "'ada'"]),
        ("student,exercise,points\nada,1.9,1\n", ["row 2", "exercise", "1.9", "1.8, 1.10"]),
        ("student,exercise,points\nada,1.8,3.5\n", ["row 2", "points", "3.5", "0 to 3"]),
        ("student,exercise,points\nada,1.8,-1\n", ["row 2", "points", "-1"]),
        ("student,exercise,points\nada,1.8,nan\n", ["row 2", "points", "nan"]),
        ("student,exercise,points\nada,1.8,two\n", ["row 2", "points", "two"]),
        ("student,exercise,points\nada,1.8,1\n,,\nada,exercise 1.8,2\n", ["row 4", "row 2", "ada"]),
    ],
)
def test_bad_marks_give_one_line_that_names_row_and_column(tmp_path, text, parts):
    with pytest.raises(ValueError) as error:
        read_marks(marks_file(tmp_path, text), CLASS)
    assert all(part in str(error.value) for part in [*parts, "marks.csv"])
    assert "\n" not in str(error.value)


def test_files_that_are_no_csv_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.csv is not there"):
        read_marks(tmp_path / "none.csv", CLASS)
    with pytest.raises(ValueError, match="folder"):
        read_marks(tmp_path, CLASS)
    with pytest.raises(ValueError, match="UTF-8"):
        read_marks(marks_file(tmp_path, 'student,exercise,points\n"' + "x" * 200_000 + "\n"), CLASS)

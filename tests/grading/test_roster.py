"""students.csv: written by collecting, opened in a spreadsheet, read by the gradebook; one escape for all tables."""

import csv
import zipfile

import pytest

from course_tools.grading.hand_in.collect import collect
from course_tools.grading.hand_in.roster import Student, read_students, write_students

CLASS = {
    "ada_1": Student("Ada, L.", "1", "", "no", "ada.ipynb"),
    "bo_2": Student("=HYPERLINK(1)", "", "0012", "", "-x.ipynb", {"tutor": "Tim"}),
    "李": Student("@li", late="2 days"),
}


def test_what_is_written_is_read_again(tmp_path):
    path = tmp_path / "students.csv"
    write_students(path, CLASS)
    again = read_students(path)
    assert again == {key: Student(**{**vars(s), "more": {"tutor": "", **s.more}}) for key, s in CLASS.items()}
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["student", "name", "canvas_id", "moodle_id", "late", "file", "handed_in", "login", "tutor"]
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@"))]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_what_a_spreadsheet_saved_is_known_to_the_next_collect(tmp_path, delimiter, encoding):
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.writestr("=1+1/01_kl_and_elbo.ipynb", "first")
        archive.writestr("B\u00f8/01_kl_and_elbo.ipynb", "second")
    out = tmp_path / "out"
    first = collect(tmp_path / "d.zip", out)
    table = out / "students.csv"
    rows = list(csv.reader(table.read_text("utf-8").splitlines()))
    table.write_text("\n".join(delimiter.join(row) for row in rows), encoding)
    again = collect(tmp_path / "d.zip", out)
    assert sorted(again.unchanged) == sorted(first.new) and again.unplaced == []
    assert {student.name for student in read_students(table).values()} == {"=1+1", "B\u00f8"}

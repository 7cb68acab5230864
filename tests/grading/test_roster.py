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


# The class as a platform exports it ----------------------------------------------------------------------------------

LECTURE = "01_kl_and_elbo.ipynb"
CANVAS = (
    "Student,ID,SIS User ID,SIS Login ID,Section,01_kl_and_elbo (123)\n"
    ",,,,,Manual Posting\n"
    "    Points Possible,,,,,25.0\n"
    '"Lovelace, Ada",11,S1,ada,A,\n'
    '"Hopper, Grace",12,S2,grace,A,\n'
    '"Student, Test",99,,x,A,\n'
)
MOODLE = (
    "Identifier,Full name,Email address,Status,Grade,Maximum Grade,Last modified (submission)\n"
    'Participant 11,Ada Lovelace,a@x.org,Submitted for grading,,25,"Tuesday, 4 March 2025, 10:05 PM"\n'
    "Participant 12,Grace Hopper,g@x.org,No submission,,25,-\n"
)
GERMAN = "ID;Vollständiger Name;E-Mail\nTeilnehmer/in11;Ada Lovelace;a\nTeilnehmer/in12;Grace Hopper;g\n"
NAMES = "First name,Surname,Username\nAda,Lovelace,ada\nGrace,Hopper,grace\n"
DOWNLOADS = {
    "canvas": f"lovelaceada_11_5_{LECTURE}",
    "moodle": f"Ada Lovelace_11_assignsubmission_file_/{LECTURE}",
    "blackboard": f"HW_ada_attempt_2025-03-04-10-00-00_{LECTURE}",
    "brightspace": f"1-2 - Ada Lovelace - Mar 4, 2025 1005 PM/{LECTURE}",
    "classroom": f"Ada Lovelace - {LECTURE}",
    "folder": f"Ada Lovelace/{LECTURE}",
    "other order": f"Lovelace, Ada/{LECTURE}",
}


def collected(tmp_path, roster: str, *files: str):
    """Collect files with a roster; return the report and students.csv."""
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        for file in files:
            archive.writestr(file, "{}")
    (tmp_path / "roster.csv").write_text(roster, "utf-8")
    report = collect(tmp_path / "d.zip", tmp_path / "out", roster=tmp_path / "roster.csv")
    return report, read_students(tmp_path / "out" / "students.csv")


@pytest.mark.parametrize(
    ("roster", "system"),
    [
        *((CANVAS, system) for system in DOWNLOADS if system != "moodle"),
        *((MOODLE, system) for system in DOWNLOADS if system not in ("canvas", "blackboard")),
        *((GERMAN, system) for system in ("moodle", "folder")),
        *((NAMES, system) for system in ("blackboard", "brightspace", "classroom", "folder", "other order")),
    ],
)
def test_a_roster_names_who_handed_in_nothing(tmp_path, roster, system):
    report, students = collected(tmp_path, roster, DOWNLOADS[system])
    ((key, ada), (missing, grace)) = sorted(students.items(), key=lambda item: not item[1].file)
    assert report.new == [key] and report.absent == [missing] and len(students) == 2
    assert {"Ada", "Lovelace"} <= set(ada.name.replace(",", "").split()) or ada.name == "Ada Lovelace"
    assert "Grace" in grace.name and grace.file == ""
    number = {CANVAS: "canvas_id", MOODLE: "moodle_id", GERMAN: "moodle_id"}.get(roster)
    assert number is None or (getattr(ada, number), getattr(grace, number)) == ("11", "12")
    if roster == MOODLE and system == "moodle":
        assert ada.handed_in == "2025-03-04T22:05"
    again, _ = collected(tmp_path, roster, DOWNLOADS[system])
    assert (again.unchanged, again.absent, again.unplaced) == ([key], [missing], [])
    later = DOWNLOADS[system].replace("ada", "grace").replace("Ada", "Grace").replace("Lovelace", "Hopper")
    later = later.replace("lovelace", "hopper").replace("_11_", "_12_").replace("1-2", "2-2")
    third, now = collected(tmp_path, roster, DOWNLOADS[system], later)
    assert (third.new, third.unchanged, third.absent) == ([missing], [key], []) and len(now) == 2


def test_two_students_of_one_name_are_not_confused(tmp_path):
    roster = CANVAS + '"Lovelace, Ada",13,S3,ada2,B,\n'
    report, students = collected(tmp_path, roster, DOWNLOADS["folder"])
    assert len(report.absent) == 3, "nobody knows which of the two it is: both stand there, beside the submission"
    assert students["Ada_Lovelace"].canvas_id == "" and len(students) == 4


def test_an_anonymous_download_can_not_be_compared(tmp_path):
    with pytest.raises(ValueError, match="anonymous"):
        collected(tmp_path, CANVAS, f"anon_x1_6_{LECTURE}")


@pytest.mark.parametrize("roster", ["", "a,b\n1,2\n", "Student,ID\n  Points Possible,\n"])
def test_a_roster_without_students_is_refused(tmp_path, roster):
    with pytest.raises(ValueError, match=r"roster\.csv names no students"):
        collected(tmp_path, roster, DOWNLOADS["folder"])
    assert not (tmp_path / "out").exists()

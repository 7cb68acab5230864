"""The gradebook's tables: nothing lost, nothing too low, nothing that a spreadsheet runs."""

import csv
import io
import json
import re
import shutil
import zipfile
from pathlib import Path

import pytest

from course_tools.grading.book import entries, gradebook, records, settings
from course_tools.grading.book.records import Record, Result, Written
from course_tools.grading.book.tables import counted, number
from course_tools.grading.hand_in.submission import BY_NAME, Flag
from course_tools.grading.spreadsheets import escape, read_csv, to_csv, unescape


def submission(student: str, *statuses: str, answer: str | None = "", **fields) -> Record:
    """A submission with one exercise of three points for each status, 1.1, 1.2, …, and a written one, 1.10."""
    points = {"correct": 3.0, "partial": 2.0, "infrastructure": None}
    results = {f"1.{i}": Result(s, points.get(s, 0.0), 3.0, "def f(): ...") for i, s in enumerate(statuses, 1)}
    fields = {"isolation": "bubblewrap", "file": f"{student}.ipynb", "seed": 0, **fields}
    record = Record(student, "01_kl_and_elbo", sha256="", exercises=results, **fields)
    record.written["1.10"] = Written(answer, 4.0)
    return record


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder of results: ada and bob are done, eve waits for her mark, gus for another run."""
    for record in (
        submission("ada", "correct", "partial"),
        submission("bob", "wrong", "not attempted", isolation="unsandboxed"),
        submission("eve", "correct", "correct", answer="Because."),
        submission("gus", "infrastructure", "correct"),
    ):
        records.write(tmp_path, record)
    return tmp_path


def students_csv(out: Path, text: str) -> Path:
    """Write a students.csv beside the results; return its path."""
    path = out.parent / f"{out.name}-students.csv"
    path.write_text(text, "utf-8")
    return path


IDS = "student,name,canvas_id,moodle_id,late,file\n"
EVERYBODY = IDS + "ada,Ada L.,11,101,,a.ipynb\nbob,Bob,12,102,yes,b.ipynb\neve,Eve,13,103,,\ngus,Gus,14,104,,\n"


def rows(path: Path) -> dict[str, dict[str, str]]:
    """Return the rows of a CSV file by the first column, read as any other program reads it."""
    lines = list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))
    return {next(iter(line.values())): line for line in lines}


def test_everything_is_written_and_only_that(out):
    paths = gradebook.publish(out, students_csv(out, EVERYBODY))
    tables = {"grades.csv", "canvas.csv", "moodle.csv", "written.csv", "students.csv"}
    pages = {
        "instructor.html",
        "marking/1.10.html",
        *(f"feedback/{name}.html" for name in ("ada", "bob", "eve", "gus")),
    }
    results = {f"results/{name}.json" for name in ("ada", "bob", "eve", "gus")}
    there = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    others = {"feedback_moodle.zip", "published.json"}
    assert {path.relative_to(out).as_posix() for path in paths} == tables | pages | others
    assert there == tables | pages | results | others


def test_totals_stand_only_where_nothing_is_open(out):
    gradebook.publish(out)
    table = rows(out / "grades.csv")
    assert {name: row["total"] for name, row in table.items()} == {"ada": "5", "bob": "0", "eve": "", "gus": ""}
    assert {row["possible"] for row in table.values()} == {"10"}
    assert {name: row["complete"] for name, row in table.items()} == {
        "ada": "yes",
        "bob": "yes",
        "eve": "no",
        "gus": "no",
    }
    assert table["eve"]["programmed"] == "6"
    assert table["eve"]["open"] == "1.10 is not marked yet"
    assert (table["gus"]["1.1 points"], table["gus"]["1.1 status"]) == ("", "infrastructure")
    assert table["gus"]["programmed"] == ""
    assert "1.1" in table["gus"]["open"]
    assert (table["ada"]["1.10 written"], table["eve"]["1.10 written"]) == ("0", "")
    assert table["bob"]["isolation"] == "unsandboxed"


def test_an_exercise_without_any_result_is_open_too(out):
    records.write(out, submission("new", "correct", problem="cut off"))
    gradebook.publish(out)
    row = rows(out / "grades.csv")["new"]
    assert (row["total"], row["1.2 status"], row["problem"]) == ("", "no result", "cut off")


def test_marks_are_merged_and_stay(out):
    marks = out.parent / "marks.csv"
    marks.write_text('student;exercise;points;comment\neve;exercise 1.10;"3,5";fine\n', "utf-8")
    gradebook.publish(out, None, [marks])
    marks.unlink()
    for _ in range(2):
        assert rows(out / "grades.csv")["eve"]["total"] == "9.5"
        assert "fine" in (out / "feedback/eve.html").read_text("utf-8")
        gradebook.publish(out)


def test_a_written_answer_whose_cell_is_lost_is_open_until_somebody_gives_points(out):
    records.write(out, submission("lost", "correct", "correct", answer=None))
    for _ in range(2):
        gradebook.publish(out)
        row = rows(out / "grades.csv")["lost"]
        assert (row["total"], row["open"]) == ("", "no cell for 1.10 found: look into the file")
    table = out / "written.csv"
    lines = table.read_text("utf-8-sig").splitlines()
    (at,) = [i for i, line in enumerate(lines) if line.startswith("lost,")]
    assert "lost.ipynb" in lines[at]
    lines[at] = lines[at].replace("exercise 1.10,4,,", "exercise 1.10,4,0,", 1)
    table.write_text("\n".join(lines), "utf-8")
    gradebook.publish(out)
    assert rows(out / "grades.csv")["lost"]["total"] == "6"


@pytest.mark.parametrize("lecture", ["01_kl_and_elbo", "17_not_of_this_course"])
@pytest.mark.parametrize("answer", ["", "Write here.", "\n Write   here.\n"])
def test_the_handouts_placeholder_is_no_answer(tmp_path, lecture, answer):
    record = submission("ada", "correct", answer=answer)
    record.lecture, record.written = lecture, {"1.8": Written(answer, 3.0), "1.9": Written("Write here. Done.", 3.0)}
    records.write(tmp_path, record)
    gradebook.publish(tmp_path)
    row = rows(tmp_path / "grades.csv")["ada"]
    assert (row["1.8 written"], row["1.9 written"], row["open"]) == ("0", "", "1.9 is not marked yet")
    assert "1.8" not in (tmp_path / "written.csv").read_text("utf-8")


def test_a_lectures_own_placeholder_counts():
    from nbformat.v4 import new_code_cell

    cells = [new_code_cell('answer = """\nSay why.\n"""', metadata={"course": {"written": "9.8", "points": 3}})]
    assert gradebook.placeholders_of([new_code_cell("x = 1"), *cells]) == {"9.8": "Say why."}
    assert set(gradebook.placeholders_of(gradebook.cells_in("01"))) == {"1.8"}


def test_corrected_points_stand_everywhere_in_place_of_the_results(out, capsys):
    text = 'student;exercise;points;reason\r\nada;exercise 1.2;"2,5";nearly\r\ngus;1.1;1;machine down\r\n'
    (out / "corrections.csv").write_text(text, "utf-8-sig")
    gradebook.publish(out, students_csv(out, EVERYBODY))
    table = rows(out / "grades.csv")
    assert (table["ada"]["1.2 points"], table["ada"]["1.2 status"], table["ada"]["total"]) == ("2.5", "partial", "5.5")
    assert (table["gus"]["1.1 points"], table["gus"]["total"], table["gus"]["complete"]) == ("1", "4", "yes")
    assert {name: row["corrected"] for name, row in table.items()} == {
        "ada": "exercise 1.2",
        "gus": "exercise 1.1",
        "bob": "",
        "eve": "",
    }
    assert (out / "canvas.csv").read_text("utf-8").splitlines()[-1] == "Gus,14,,,,4"
    assert "1.1 corrected: 1 of 3" in rows(out / "moodle.csv")["Participant 104"]["Feedback comments"]
    assert (out / "corrections.csv").read_text("utf-8-sig") == text.replace("\r\n", "\n"), "never written by us"
    assert "2 grades corrected by hand" in capsys.readouterr().out


def test_bad_corrections_change_nothing(out):
    paths = gradebook.publish(out)
    before = {path: path.read_bytes() for path in paths}
    (out / "corrections.csv").write_text("student,exercise,points,reason\nada,1.1,1,ok\nada,1.2,4,too many\n", "utf-8")
    with pytest.raises(ValueError, match="row 3, column points"):
        gradebook.publish(out)
    assert {path: path.read_bytes() for path in paths} == before


def test_the_published_state_can_be_compared_with_the_next(out):
    assert entries.published(out) == {}
    gradebook.publish(out)
    first = entries.published(out)
    assert first["ada"] == {"1.1": (3.0, "correct"), "1.2": (2.0, "partial")}
    assert first["gus"]["1.1"] == (None, "infrastructure")
    (out / "corrections.csv").write_text("student,exercise,points,reason\nada,1.2,3,\n", "utf-8")
    gradebook.publish(out)
    changed = {s for s, own in entries.published(out).items() if own != first[s]}
    assert changed == set()  # a correction is no change of the grader's
    records.write(out, submission("ada", "correct", "correct"))
    gradebook.publish(out)
    assert {s for s, own in entries.published(out).items() if own != first[s]} == {"ada"}
    assert entries.published(out)["ada"]["1.2"] == (3.0, "correct")
    text = (out / "published.json").read_text("utf-8")
    assert list(json.loads(text)) == sorted(first)
    (out / "published.json").write_text("{spoilt", "utf-8")
    assert entries.published(out) == {}


def test_results_of_several_seeds_are_named(out, capsys):
    gradebook.publish(out)
    assert "seeds" not in capsys.readouterr().out
    records.write(out, submission("zoe", "correct", "correct", seed=5))
    gradebook.publish(out)
    assert "results of two seeds, 0, 5: run `course grade` again" in capsys.readouterr().out
    assert "results of two seeds" in (out / "instructor.html").read_text("utf-8")


def test_flags_that_repeat_stand_once(out):
    record = submission("zoe", "correct", "correct")
    for result in record.exercises.values():
        result.flags = [BY_NAME]
    record.exercises["1.2"].flags.append(Flag("course's own", ("vae",)))
    assert entries.flags_of(record) == [
        "all exercises: found by the function's name (metadata missing)",
        "1.2: calls the course's own vae",
    ]
    noticed = [("1.1", "a"), ("1.2", "b"), ("1.3", "a"), ("1.3", "a")]
    assert entries.together(noticed, ["1.1", "1.2", "1.3"]) == ["1.1, 1.3: a", "1.2: b"]
    assert entries.together([("1.1", "a")], ["1.1"]) == ["1.1: a"]


def test_publishing_again_changes_no_byte(out):
    paths = gradebook.publish(out, students_csv(out, EVERYBODY))
    before = {path: path.read_bytes() for path in paths}
    gradebook.publish(out)
    assert {path: path.read_bytes() for path in paths} == before


def test_bad_marks_change_nothing(out):
    paths = gradebook.publish(out)
    before = {path: path.read_bytes() for path in paths}
    (out.parent / "marks.csv").write_text("student,exercise,points\neve,1.10,5\nada,1.10,5\n", "utf-8")
    with pytest.raises(ValueError, match="row 2"):
        gradebook.publish(out, None, [out.parent / "marks.csv"])
    assert {path: path.read_bytes() for path in paths} == before


def test_canvas_gets_totals_under_the_header_it_demands(out):
    gradebook.publish(out, students_csv(out, EVERYBODY))
    lines = list(csv.reader(io.StringIO((out / "canvas.csv").read_text("utf-8"))))
    assert lines[0] == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "01_kl_and_elbo"]
    assert lines[1][0].strip() == "Points Possible"
    assert lines[1][-1] == "10"
    assert lines[2:] == [["Ada L.", "11", "", "", "", "5"], ["Bob", "12", "", "", "unsandboxed", "0"]]


def test_moodle_gets_the_three_columns_without_which_it_refuses(out):
    gradebook.publish(out, students_csv(out, EVERYBODY))
    table = rows(out / "moodle.csv")
    assert list(table) == ["Participant 101", "Participant 102"]
    ada = table["Participant 101"]
    assert (ada["Full name"], ada["Grade"], ada["Maximum Grade"], ada["Last modified (grade)"]) == (
        "Ada L.",
        "5",
        "10",
        "-",
    )
    assert "1.2 partial: 2 of 3" in ada["Feedback comments"]


def participant(path: str) -> tuple[int, str]:
    """Return whom Moodle's upload of feedback files takes a path for, as its code of 2025 reads it, and the rest."""
    parts = f"/{path}".split("/")
    while parts:
        info = parts.pop(0).split("_", 4)
        if len(info) >= 4 and info[1].isdecimal() and info[2:4] == ["assignsubmission", "file"]:
            return int(info[1]), "/".join([*info[4:], *parts]).lstrip("/")
    return 0, ""


def pages_in(path: Path) -> dict[str, bytes]:
    """Return the files of a zip by name."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_moodle_takes_the_pages_back_in_its_own_layout(out):
    records.write(out, submission("a_9_assignsubmission_file_x", "correct", "correct"))
    names = IDS + "ada,Ada_L. <1>/..,11,101,,\nbob,Bob,12,102,,\neve,=Eve,13,,,\n"
    paths = gradebook.publish(out, students_csv(out, names))
    found = pages_in(out / "feedback_moodle.zip")
    pages = {path.stem: path.read_bytes() for path in paths if path.parent.name == "feedback"}
    who = {participant(name): page for name, page in found.items()}
    file = "01_kl_and_elbo_feedback.html"
    assert who == {(101, file): pages["ada"], (102, file): pages["bob"]}, "who has no id is not there"
    assert f"Bob_102_assignsubmission_file_/{file}" in found
    assert not [name for name in found if "/." in name or "~" in name]


def user_and_attachment(path: str) -> list[str]:
    """Return whose submission Canvas takes a file for, and which file of it: the first two numbers between "_"."""
    return [part for part in Path(path).name.split("_") if re.fullmatch(r"\d+", part)][:2]


def test_canvas_takes_the_pages_back_under_the_names_it_gave(out):
    files = {
        "ada": "lovelaceada_11_2201_01_kl_and_elbo.ipynb",
        "bob": "bob_LATE_12_2202_01_kl_and_elbo-1.ipynb",
        "eve": "eve_13_2203_my_link.ipynb",
        "gus": "01_kl_and_elbo.ipynb",
    }
    rows_ = "".join(f"{key},{key},{10 + i},,,{file}\n" for i, (key, file) in enumerate(files.items(), 1))
    paths = gradebook.publish(out, students_csv(out, IDS + rows_))
    pages = {path.stem: path.read_bytes() for path in paths if path.parent.name == "feedback"}
    found = pages_in(out / "feedback_canvas.zip")
    assert {tuple(user_and_attachment(name)): page for name, page in found.items()} == {
        ("11", "2201"): pages["ada"],
        ("12", "2202"): pages["bob"],
        ("13", "2203"): pages["eve"],
    }
    assert all(name.endswith(".html") and not name.split("_")[-1].startswith("link") for name in found)


def test_a_zip_that_would_be_empty_is_not_left_from_before(out, capsys):
    gradebook.publish(out, students_csv(out, EVERYBODY))
    assert (out / "feedback_moodle.zip").exists() and not (out / "feedback_canvas.zip").exists()
    gradebook.publish(out, students_csv(out, "student,name\nada,Ada\n"))
    assert not (out / "feedback_moodle.zip").exists()


def test_who_is_left_out_is_named(out, capsys):
    gradebook.publish(out, students_csv(out, IDS + "ada,Ada,11,,,\neve,Eve,13,,,\nzoe,Zoe,15,,,z.ipynb\n"))
    said = capsys.readouterr().out
    assert "no total yet" in said
    assert "eve, gus" in said
    assert "bob, gus" in said
    assert "zoe" in said
    absent = rows(out / "grades.csv")["zoe"]
    assert (absent["total"], absent["complete"], absent["name"], absent["file"]) == ("", "no", "Zoe", "z.ipynb")
    assert "not graded" in absent["problem"]


def test_names_are_found_again_without_being_given_again(out):
    gradebook.publish(out, students_csv(out, EVERYBODY))
    gradebook.publish(out)
    assert rows(out / "grades.csv")["ada"]["name"] == "Ada L."


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\r=1", "\n=1", "'=1", "''-1"])
def test_no_cell_is_a_formula(out, text):
    assert escape(text)[0] == "'"
    assert unescape(escape(text)) == text
    hostile = submission("zed", "error", "correct", problem=text, file=text, answer=text)
    hostile.exercises["1.1"].flags.append(Flag("skipped", (text, "")))
    records.write(out, hostile)
    path = students_csv(out, "")
    path.write_text(to_csv([("student", "name", "canvas_id", "moodle_id"), ("zed", text, "1", "2")]), "utf-8")
    gradebook.publish(out, path)
    for table in out.glob("*.csv"):
        for line in csv.reader(io.StringIO(table.read_bytes().decode("utf-8-sig"), newline="")):
            assert not [cell for cell in line if cell[:1] in "=+-@\t\r\n" and cell not in ("", "-")]


def test_tables_for_spreadsheets_are_utf8_with_bom_and_crlf(out):
    records.write(out, submission("李善蘭", "correct", "correct"))
    gradebook.publish(out)
    for name in ("grades.csv", "written.csv"):
        data = (out / name).read_bytes()
        assert data.startswith(b"\xef\xbb\xbf")
        assert data.endswith(b"\r\n")
    assert rows(out / "grades.csv")["李善蘭"]["total"] == "6"


def test_half_a_character_stops_nothing(out):
    records.write(out, submission("odd", "correct", "correct", answer="PLACE"))
    path = out / "results" / "odd.json"
    path.write_text(path.read_text("utf-8").replace("PLACE", "half \\ud83d"), "utf-8")
    gradebook.publish(out)
    assert rows(out / "written.csv")["odd"]["answer"] == "half ?"
    assert "half ?" in (out / "feedback" / "odd.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("name,canvas_id\nAda,1\n", ["row 1", "student", "missing"]),
        ("student,canvas_id\nada,1\nada,2\n", ["row 3", "student", "'ada'", "twice"]),
        ("student,canvas_id\nada,1\nbob,1\n", ["row 3", "canvas_id", "row 2"]),
        ("student,moodle_id\nada,Participant\n", ["row 2", "moodle_id", "'Participant'", "number"]),
        ("student,name\n,Ada\n", ["row 2", "student", "empty"]),
    ],
)
def test_a_bad_students_csv_is_one_line(out, text, parts):
    path = students_csv(out, text)
    with pytest.raises(ValueError) as error:
        gradebook.publish(out, path)
    assert all(part in str(error.value) for part in parts)
    assert not (out / "grades.csv").exists()


def test_no_results_and_two_lectures_in_one_folder(tmp_path, out):
    with pytest.raises(FileNotFoundError, match="course grade"):
        gradebook.publish(tmp_path / "none")
    other = submission("zoe", "correct")
    other.lecture = "02_vae"
    records.write(out, other)
    with pytest.raises(ValueError, match="01_kl_and_elbo, 02_vae"):
        gradebook.publish(out)


def test_points_have_at_most_two_decimals():
    assert [number(p) for p in (None, 0.0, 3.0, 100.0, 2 / 3, 2.5)] == ["", "0", "3", "100", "0.67", "2.5"]


def test_one_is_one_and_no_other_number_is():
    assert [counted(n, "grade") for n in (0, 1, 1.0, 2, 0.5)] == [
        "0 grades",
        "1 grade",
        "1 grade",
        "2 grades",
        "0.5 grades",
    ]


def test_a_table_is_read_as_it_was_written(tmp_path):
    cells = ["a,b;c", 'say "hi"', "two\nlines", "=1", "ü"]
    path = tmp_path / "t.csv"
    path.write_bytes(to_csv([list("vwxyz"), cells]).encode())
    assert read_csv(path, ["v", "z"]) == [(2, dict(zip("vwxyz", cells, strict=True)))]


def test_exercises_that_are_worth_other_points_in_some_results_are_named(out, capsys):
    newer = submission("zoe", "correct", "correct")
    newer.exercises["1.2"].possible = newer.exercises["1.2"].points = 5.0
    records.write(out, newer)
    gradebook.publish(out)
    line = "1.2 is worth 3 points in 4 results, 5 points in 1 result: old and new mix, run `course grade` again for all"
    assert line in capsys.readouterr().out
    assert "5 points in 1 result: old and new mix" in (out / "instructor.html").read_text("utf-8")


def test_all_that_is_written_can_be_cleared_away_after_a_kill(out):
    (out / "rubric.csv").write_text("exercise,points,text\n", "utf-8")
    paths = gradebook.publish(out, students_csv(out, EVERYBODY), settings=settings.Settings())
    assert {path.name for path in paths if path.parent == out} <= set(gradebook.TABLES)


def test_an_earlier_class_is_compared_with_and_kept_for_the_next_time(out, capsys, tmp_path_factory):
    code = "def f(p):\n" + "".join(f"    total[p > {i}] -= weights[{i}] * p[p > {i}].log()\n" for i in range(5))
    code += "    return total\n"
    earlier = tmp_path_factory.mktemp("earlier")
    for folder, key in ((out, "ada"), (earlier, "old")):
        record = submission(key, "correct", "correct")
        record.exercises["1.1"].source = code
        records.write(folder, record)
    path = records.path_of(earlier, "old")
    path.write_text(path.read_text("utf-8").replace('"form": 2', '"form": 99'), "utf-8")  # of whatever version
    gradebook.publish(out, settings=settings.changed(settings.Settings(), None, None, None, [earlier]))
    for _ in range(2):
        assert f"old in {earlier}" in (out / "instructor.html").read_text("utf-8")
        gradebook.publish(out)
    path.unlink()
    with pytest.raises(ValueError, match="holds no answers"):
        gradebook.publish(out)
    shutil.rmtree(earlier)
    gradebook.publish(out)
    assert f"not compared with {earlier}: it is not there" in capsys.readouterr().out

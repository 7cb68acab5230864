"""Collecting: what Canvas and Moodle export, and folders, in all forms; nothing lost, nothing taken for another's."""

import csv
import io
import json
import os
import random
import stat
import subprocess
import sys
import zipfile

import pytest

from course_tools.grading.book import records
from course_tools.grading.hand_in import collect as collecting
from course_tools.grading.hand_in import download as download_module
from course_tools.grading.hand_in.collect import collect, describe
from course_tools.grading.hand_in.roster import read_students

LECTURES = ("01_kl_and_elbo", "02_vae")
DAY = (2025, 3, 4, 10, 0, 0)
LATER = (2025, 3, 5, 10, 0, 0)


@pytest.fixture
def root(tmp_path):
    """Return a course of two lectures, as far as collecting looks at it."""
    (tmp_path / "course" / "solutions").mkdir(parents=True)
    for name in LECTURES:
        (tmp_path / "course" / "solutions" / f"{name}.md").touch()
    return tmp_path / "course"


@pytest.fixture(params=["zip", "folder"])
def download(request, tmp_path):
    """Return a function that makes a download of (path, content, time) or path → content, as a zip and as a folder."""

    def make(files, name="download"):
        entries = [(path, text, DAY) for path, text in files.items()] if isinstance(files, dict) else files
        if request.param == "zip":
            return zipped(tmp_path / f"{name}.zip", entries)
        for path, text, time in entries:
            file = tmp_path / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text if isinstance(text, bytes) else text.encode())
            seconds = sum(
                part * scale for part, scale in zip(time, (32140800, 2678400, 86400, 3600, 60, 1), strict=True)
            )
            os.utime(file, (seconds - 63e9, seconds - 63e9))  # only the order counts
        return tmp_path / name

    return make


def zipped(path, entries):
    """Write a zip of (name or ZipInfo, content, time)."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, text, time in entries:
            archive.writestr(zipfile.ZipInfo(name, time) if isinstance(name, str) else name, text)
    return path


def submissions(out):
    """Return path → text of all that was collected but the table."""
    return {
        p.relative_to(out).as_posix(): p.read_text("utf-8")
        for p in out.rglob("*")
        if p.is_file() and p.name != "students.csv"
    }


def table(out):
    """Return the rows of students.csv by student."""
    with (out / "students.csv").open(encoding="utf-8", newline="") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


def reasons(report):
    """Return file → reason of what was not placed."""
    return dict(report.unplaced)


# Forms of downloads ------------------------------------------------------------------------------------------------


def test_canvas(download, root, tmp_path):
    path = download(
        {
            "lovelaceada_12345_67890_02_vae.ipynb": "Ada",
            "turingalan_LATE_12346_67891_02_vae-2.ipynb": "Alan",
            "müllerzoë_12347_67892_My homework (3).ipynb": "Zoë",
            "anon_aB3dE_67893_02_vae.ipynb": "hidden",
            "LATE_anon_77_67894_02_vae.ipynb": "hidden and late",
        }
    )
    report = collect(path, tmp_path / "out", root=root)
    assert report.lecture == "02_vae"
    assert submissions(tmp_path / "out") == {
        "lovelaceada_12345/02_vae.ipynb": "Ada",
        "turingalan_12346/02_vae.ipynb": "Alan",
        "müllerzoë_12347/02_vae.ipynb": "Zoë",
        "anon_aB3dE/02_vae.ipynb": "hidden",
        "anon_77/02_vae.ipynb": "hidden and late",
    }
    rows = table(tmp_path / "out")
    assert rows["turingalan_12346"] == {
        "student": "turingalan_12346",
        "name": "turingalan",
        "canvas_id": "12346",
        "moodle_id": "",
        "late": "yes",
        "file": "turingalan_LATE_12346_67891_02_vae-2.ipynb",
        "handed_in": "",
        "login": "",
    }
    assert [rows[key]["late"] for key in ("lovelaceada_12345", "anon_aB3dE", "anon_77")] == ["no", "no", "yes"]
    assert not report.unplaced and not report.superseded and len(report.new) == 5


@pytest.mark.parametrize(
    "folder", ["Ada Lovelace_123_assignsubmission_file_", "Ada Lovelace_123_assignsubmission_file"]
)
@pytest.mark.parametrize("inside", ["/02_vae.ipynb", "/sub/02_vae.ipynb", "_02_vae.ipynb"])
@pytest.mark.parametrize("above", ["", "Course-Homework-7/"])
def test_moodle(download, root, tmp_path, folder, inside, above):
    inside = inside.removeprefix("_") if folder.endswith("_") and inside.startswith("_") else inside
    path = download(
        {above + folder + inside: "Ada", f"{above}José Núñez_124_assignsubmission_file_/02_vae.ipynb": "José"}
    )
    report = collect(path, tmp_path / "out", root=root)
    assert submissions(tmp_path / "out") == {
        "Ada_Lovelace_123/02_vae.ipynb": "Ada",
        "José_Núñez_124/02_vae.ipynb": "José",
    }
    row = table(tmp_path / "out")["Ada_Lovelace_123"]
    assert (row["name"], row["moodle_id"], row["canvas_id"], row["late"]) == ("Ada Lovelace", "123", "", "")
    assert not report.unplaced


def test_moodle_online_text_is_named(download, root, tmp_path):
    text = "Ada Lovelace_123_assignsubmission_onlinetext_/onlinetext.html"
    path = download({text: "<p>", "Alan Turing_9_assignsubmission_file_/02_vae.ipynb": "Alan"})
    report = collect(path, tmp_path / "out", root=root)
    assert list(submissions(tmp_path / "out")) == ["Alan_Turing_9/02_vae.ipynb"]
    assert reasons(report) == {text: "no file, but what Moodle calls onlinetext"}


@pytest.mark.parametrize("above", ["", "submissions/", "a/b/"])
def test_a_folder_for_each_student(download, root, tmp_path, above):
    path = download(
        {
            f"{above}Ada Lovelace/02_vae.ipynb": "Ada",
            f"{above}李雷/deep/02_vae.ipynb": "李",
            f"{above}हिन्दी/02_vae.ipynb": "ह",
            f"{above}-=x!/02_vae.ipynb": "x",
        }
    )
    collect(path, tmp_path / "out", root=root)
    assert submissions(tmp_path / "out") == {
        "Ada_Lovelace/02_vae.ipynb": "Ada",
        "李雷/02_vae.ipynb": "李",
        "हिन्दी/02_vae.ipynb": "ह",
        "x/02_vae.ipynb": "x",
    }


def test_sections_of_canvas_downloads_side_by_side(download, root, tmp_path):
    path = download({f"section {s}/student{s}{i}_{s}{i}_9_02_vae.ipynb": f"{s}{i}" for s in (1, 2) for i in (1, 2)})
    collect(path, tmp_path / "out", root=root)
    assert set(submissions(tmp_path / "out")) == {f"student{n}_{n}/02_vae.ipynb" for n in (11, 12, 21, 22)}


def test_numbers_in_a_file_name_in_a_students_folder_are_not_canvas(download, root, tmp_path):
    path = download({"ada/exam_2024_12_vae.ipynb": "Ada", "alan/exam_2024_12_vae.ipynb": "Alan"})
    collect(path, tmp_path / "out", "02", root)
    assert submissions(tmp_path / "out") == {"ada/02_vae.ipynb": "Ada", "alan/02_vae.ipynb": "Alan"}


def test_clutter_is_passed_over(download, root, tmp_path):
    clutter = [
        "__MACOSX/ada/._02_vae.ipynb",
        "ada/.ipynb_checkpoints/02_vae-checkpoint.ipynb",
        ".DS_Store",
        "ada/._x.ipynb",
    ]
    path = download({"ada/02_vae.ipynb": "Ada"} | dict.fromkeys(clutter, "clutter"))
    report = collect(path, tmp_path / "out", root=root)
    assert submissions(tmp_path / "out") == {"ada/02_vae.ipynb": "Ada"}
    assert not report.unplaced and not report.superseded


def test_names_of_both_unicode_forms_are_one_student(root, tmp_path):
    first = zipped(tmp_path / "nfc.zip", [("Zo\u00eb/02_vae.ipynb", "old", DAY)])
    second = zipped(tmp_path / "nfd.zip", [("Zoe\u0308/02_vae.ipynb", "new", DAY)])
    collect(first, tmp_path / "out", root=root)
    assert collect(second, tmp_path / "out", root=root).replaced == ["Zo\u00eb"]
    assert submissions(tmp_path / "out") == {"Zo\u00eb/02_vae.ipynb": "new"}


def test_windows_separators(root, tmp_path):
    info = zipfile.ZipInfo("x", DAY)
    info.filename = "ada\\02_vae.ipynb"
    collect(zipped(tmp_path / "d.zip", [(info, "Ada", DAY)]), tmp_path / "out", root=root)
    assert submissions(tmp_path / "out") == {"ada/02_vae.ipynb": "Ada"}


# Which version counts ----------------------------------------------------------------------------------------------


def test_the_highest_number_of_canvas_counts(download, root, tmp_path):
    names = [
        f"lovelaceada_1_{id}_02_vae{again}.ipynb" for id, again in ((99, "-7"), (1000, ""), (1000, "-10"), (1000, "-9"))
    ]
    report = collect(download([(name, name, DAY) for name in names]), tmp_path / "out", root=root)
    assert submissions(tmp_path / "out") == {"lovelaceada_1/02_vae.ipynb": names[2]}
    assert {file for _, file in report.superseded} == {names[0], names[1], names[3]}
    assert all(name in describe(report) for name in (names[0], names[1], names[3]))


@pytest.mark.parametrize("folder", ["ada", "Ada_1_assignsubmission_file_"])
def test_elsewhere_the_latest_counts_then_the_name(download, root, tmp_path, folder):
    files = [(f"{folder}/02_vae.ipynb", "latest", LATER), (f"{folder}/02_vae (2).ipynb", "2", DAY)]
    collect(download(files), tmp_path / "out", root=root)
    assert list(submissions(tmp_path / "out").values()) == ["latest"]
    files = [(f"{folder}/02_vae ({i}).ipynb", str(i), DAY) for i in (10, 9, 1)]
    collect(download(files, "other"), tmp_path / "other_out", root=root)
    assert list(submissions(tmp_path / "other_out").values()) == ["10"]


def test_a_notebook_named_for_the_lecture_goes_before_another(download, root, tmp_path):
    files = [("ada/02_vae.ipynb", "answers", DAY), ("ada/scratch.ipynb", "scratch", LATER), ("bob/x.ipynb", "bob", DAY)]
    report = collect(download(files), tmp_path / "out", root=root)
    assert submissions(tmp_path / "out") == {"ada/02_vae.ipynb": "answers", "bob/02_vae.ipynb": "bob"}
    assert report.superseded == [("ada", "ada/scratch.ipynb")]


def test_a_download_of_several_lectures(download, root, tmp_path):
    files = {f"ada/{name}.ipynb": name for name in LECTURES} | {"bob/01_kl_and_elbo (1).ipynb": "bob"}
    path = download(files)
    with pytest.raises(ValueError, match=r"01_kl_and_elbo, 02_vae.*--lecture"):
        collect(path, tmp_path / "out", root=root)
    assert not (tmp_path / "out").exists()
    report = collect(path, tmp_path / "out", "2", root)
    assert submissions(tmp_path / "out") == {"ada/02_vae.ipynb": "02_vae"}
    assert reasons(report) == {"bob/01_kl_and_elbo (1).ipynb": "a notebook of another lecture than 02_vae"}


def test_without_a_lecture_the_name_stays(download, root, tmp_path):
    report = collect(download({"ada/my =work.ipynb": "Ada"}), tmp_path / "out", root=root)
    assert report.lecture is None
    assert submissions(tmp_path / "out") == {"ada/my _work.ipynb": "Ada"}
    assert collect(download({"ada/other.ipynb": "new"}, "later"), tmp_path / "out", root=root).replaced == ["ada"]
    assert submissions(tmp_path / "out") == {"ada/my _work.ipynb": "new"}
    collect(download({"ada/other.ipynb": "newer"}, "named"), tmp_path / "out", "02", root)
    assert submissions(tmp_path / "out") == {"ada/02_vae.ipynb": "newer"}


def test_collected_bytes_are_the_chosen_ones(download, root, tmp_path):
    draw, files, wanted = random.Random(0), [], {}
    for student in range(40):
        ids = draw.sample(range(1, 10**6), draw.randint(1, 4))
        contents = {id: draw.randbytes(draw.randint(0, 300)) for id in ids}
        files += [(f"s{student}_{student + 1}_{id}_02_vae.ipynb", content, DAY) for id, content in contents.items()]
        wanted[f"s{student}_{student + 1}"] = contents[max(ids)]
    draw.shuffle(files)
    report = collect(download(files), tmp_path / "out", root=root)
    assert {
        path.name: (path / "02_vae.ipynb").read_bytes() for path in (tmp_path / "out").iterdir() if path.is_dir()
    } == wanted
    assert len(report.superseded) + len(wanted) == len(files)


# What can't be placed ----------------------------------------------------------------------------------------------


def test_what_could_not_be_placed_is_told(download, root, tmp_path):
    path = download(
        {
            "lovelaceada_1_2_02_vae.ipynb": "Ada",
            "lovelaceada_1_3_figure.png": "an extra",
            "02_vae.ipynb": "whose?",
            "turingalan_3_4_work.pdf": "pdf",
            "hopper_5_6_work.ZIP": "zip",
            "curiemarie_7_text.html": "text",
            "noetheremmy_LATE_8_link.html": "link",
        }
    )
    report = collect(path, tmp_path / "out", root=root)
    assert list(submissions(tmp_path / "out")) == ["lovelaceada_1/02_vae.ipynb"]
    assert reasons(report) == {
        "02_vae.ipynb": "its name does not tell whose it is",
        "turingalan_3_4_work.pdf": "no notebook (.ipynb)",
        "hopper_5_6_work.ZIP": "an archive: unpack it into a folder for this student",
        "curiemarie_7_text.html": "no file, but a text typed into Canvas",
        "noetheremmy_LATE_8_link.html": "no file, but a link typed into Canvas",
    }
    assert all(f"{file}: {reason}" in describe(report) for file, reason in report.unplaced)


@pytest.mark.parametrize("names", [("Ada L", "Ada_L"), ("Ada", "ADA")])
def test_two_students_of_one_key_are_both_told(root, tmp_path, names):
    entries = [(f"{name}/02_vae.ipynb", name, DAY) for name in (*names, "Bob")]
    report = collect(zipped(tmp_path / "d.zip", entries), tmp_path / "out", root=root)
    assert submissions(tmp_path / "out") == {"Bob/02_vae.ipynb": "Bob"}
    assert set(reasons(report)) == {f"{name}/02_vae.ipynb" for name in names}
    assert all("2 students would share the key" in reason for reason in reasons(report).values())


def test_another_student_of_that_key_in_the_folder(download, root, tmp_path):
    collect(download({"Ada L/02_vae.ipynb": "first"}), tmp_path / "out", root=root)
    later = download({"ada_l/02_vae.ipynb": "second", "Bob/02_vae.ipynb": "Bob"}, "later")
    report = collect(later, tmp_path / "out", root=root)
    assert "another student has the key" in reasons(report)["ada_l/02_vae.ipynb"]
    assert submissions(tmp_path / "out") == {"Ada_L/02_vae.ipynb": "first", "Bob/02_vae.ipynb": "Bob"}


def test_a_folder_of_folders_is_not_taken_for_one_student(download, root, tmp_path):
    files = {
        f"group {g}/{name}/02_vae.ipynb": name for g, names in (("A", ("ada", "bob")), ("B", ("cy",))) for name in names
    }
    report = collect(download(files), tmp_path / "out", root=root)
    assert submissions(tmp_path / "out") == {"group_B/02_vae.ipynb": "cy"}
    assert set(reasons(report)) == {"group A/ada/02_vae.ipynb", "group A/bob/02_vae.ipynb"}


# Hostile downloads -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["../../evil/02_vae.ipynb", "/tmp/evil/02_vae.ipynb", "ada/../../02_vae.ipynb", "..\\x\\02_vae.ipynb"]
)
def test_paths_that_lead_outside(root, tmp_path, path):
    before = set(tmp_path.rglob("*"))
    archive = zipped(tmp_path / "d.zip", [(path, "evil", DAY), ("Bob/02_vae.ipynb", "Bob", DAY)])
    report = collect(archive, tmp_path / "out", root=root)
    assert submissions(tmp_path / "out") == {"Bob/02_vae.ipynb": "Bob"}
    assert [reason for _, reason in report.unplaced] == ["its path leads outside the download"]
    assert set(tmp_path.rglob("*")) - before - set((tmp_path / "out").rglob("*")) == {archive, tmp_path / "out"}


def test_links_are_not_followed(root, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "02_vae.ipynb").write_text("secret")
    info = zipfile.ZipInfo("mallory/02_vae.ipynb", DAY)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    entries = [(info, str(secret / "02_vae.ipynb"), DAY), ("Bob/02_vae.ipynb", "Bob", DAY)]
    report = collect(zipped(tmp_path / "d.zip", entries), tmp_path / "out", root=root)
    assert reasons(report) == {"mallory/02_vae.ipynb": "a link; links are not followed"}
    folder = tmp_path / "download"
    (folder / "mallory").mkdir(parents=True)
    (folder / "mallory" / "02_vae.ipynb").symlink_to(secret / "02_vae.ipynb")
    (folder / "eve").symlink_to(secret)
    (folder / "Bob").mkdir()
    (folder / "Bob" / "02_vae.ipynb").write_text("Bob")
    os.mkfifo(folder / "Bob" / "pipe.ipynb")
    report = collect(folder, tmp_path / "other", root=root)
    assert reasons(report) == {
        "mallory/02_vae.ipynb": "a link; links are not followed",
        "eve": "a link; links are not followed",
        "Bob/pipe.ipynb": "not a plain file",
    }
    assert submissions(tmp_path / "other") == submissions(tmp_path / "out") == {"Bob/02_vae.ipynb": "Bob"}


def test_a_file_that_is_too_large(download, root, tmp_path, monkeypatch):
    monkeypatch.setattr(collecting, "LARGEST", 2**20), monkeypatch.setattr(download_module, "LARGEST", 2**20)
    report = collect(
        download({"ada/02_vae.ipynb": b"0" * 2**20, "bob/02_vae.ipynb": b"0" * (2**20 + 1)}),
        tmp_path / "out",
        root=root,
    )
    assert list(submissions(tmp_path / "out")) == ["ada/02_vae.ipynb"]
    assert reasons(report) == {"bob/02_vae.ipynb": "larger than 1 MiB"}


def test_a_zip_bomb_that_lies_about_its_size(root, tmp_path, monkeypatch):
    monkeypatch.setattr(collecting, "LARGEST", 2**20), monkeypatch.setattr(download_module, "LARGEST", 2**20)
    path = tmp_path / "d.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bob/02_vae.ipynb", "Bob")
        archive.writestr("eve/02_vae.ipynb", b"0" * 2**24)
    size = (2**24).to_bytes(4, "little")
    assert path.read_bytes().count(size) == 2
    path.write_bytes(path.read_bytes().replace(size, (100).to_bytes(4, "little")))
    report = collect(path, tmp_path / "out", root=root)
    assert submissions(tmp_path / "out") == {"bob/02_vae.ipynb": "Bob"}
    assert reasons(report)["eve/02_vae.ipynb"].startswith("damaged")


def test_a_damaged_last_version_is_not_replaced_by_an_earlier_one(root, tmp_path):
    entries = [
        ("ada_1_2_02_vae.ipynb", "early", DAY),
        ("ada_1_3_02_vae.ipynb", "the last", DAY),
        ("bob_2_4_02_vae.ipynb", "Bob", DAY),
    ]
    path = zipped(tmp_path / "d.zip", entries)
    path.write_bytes(path.read_bytes().replace(b"the last", b"the 1ast"))
    report = collect(path, tmp_path / "out", root=root)
    assert submissions(tmp_path / "out") == {"bob_2/02_vae.ipynb": "Bob"}
    assert list(reasons(report)) == ["ada_1_3_02_vae.ipynb"]


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)"])
def test_formulas_in_the_table_are_quoted(root, tmp_path, name):
    entries = [(f"{name.replace('/', '∕')}/02_vae.ipynb", "x", DAY), ("Bob/=1+1.ipynb", "Bob", DAY)]
    for _ in range(2):  # and stay as they are at the next call
        collect(zipped(tmp_path / "d.zip", entries), tmp_path / "out", root=root)
        cells = [cell for row in table(tmp_path / "out").values() for cell in row.values()]
        assert len(cells) == 16 and not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)
        assert f"'{name.replace('/', '∕')}" in cells and "'=1+1.ipynb" in cells


@pytest.mark.parametrize("name", ["a" * 250, "字" * 80, "line\nbreak", "\x1b[31mred", "\u202eevil", "..x", "CR\rLF"])
def test_absurd_names_give_usable_keys(root, tmp_path, name):
    collect(zipped(tmp_path / "d.zip", [(f"{name}/02_vae.ipynb", "x", DAY)]), tmp_path / "out", root=root)
    (student,) = table(tmp_path / "out")
    assert records.path_of(tmp_path, student) and student.isprintable() and not student.startswith(".")
    assert len(student.encode()) <= 120
    assert submissions(tmp_path / "out") == {f"{student}/02_vae.ipynb": "x"}
    row = table(tmp_path / "out")[student]
    assert all(value.isprintable() for value in row.values())


def test_long_names_that_differ_at_the_end_stay_apart(root, tmp_path):
    entries = [("a" * 150 + end + "/02_vae.ipynb", end, DAY) for end in "xy"]
    collect(zipped(tmp_path / "d.zip", entries), tmp_path / "out", root=root)
    assert sorted(submissions(tmp_path / "out").values()) == ["x", "y"]


def test_a_name_without_a_letter(root, tmp_path):
    entries = [("!!!/02_vae.ipynb", "x", DAY), ("Bob/02_vae.ipynb", "Bob", DAY)]
    report = collect(zipped(tmp_path / "d.zip", entries), tmp_path / "out", root=root)
    assert reasons(report) == {"!!!/02_vae.ipynb": "no letter or digit in the student's name"}


def test_the_console_gets_no_control_characters(root, tmp_path):
    entries = [("\x1b[2J.txt", "x", DAY), ("Bob/02_vae.ipynb", "Bob", DAY)]
    text = describe(collect(zipped(tmp_path / "d.zip", entries), tmp_path / "out", root=root))
    assert "\x1b" not in text and "Bob" not in text and "1 submission of 02_vae" in text


def test_file_names_that_are_no_unicode(root, tmp_path):
    folder = tmp_path / "download" / os.fsdecode(b"A\xff da")
    folder.mkdir(parents=True)
    (folder / "02_vae.ipynb").write_text("Ada")
    report = collect(tmp_path / "download", tmp_path / "out", root=root)
    assert submissions(tmp_path / "out") == {"A_da/02_vae.ipynb": "Ada"}
    describe(report).encode()


def test_names_of_moodle_in_a_students_folder_are_not_another_student(download, root, tmp_path):
    path = download({"bob/02_vae.ipynb": "Bob", "mallory/bob_assignsubmission_file_02_vae.ipynb": "evil"})
    collect(path, tmp_path / "out", root=root)
    assert submissions(tmp_path / "out")["bob/02_vae.ipynb"] == "Bob"


def test_numbers_chosen_by_a_canvas_student_are_not_another_student(download, root, tmp_path):
    path = download(
        {"bob_2_3_02_vae.ipynb": "Bob", "eve_4_5_bob_2_9_02_vae.ipynb": "evil", "anon_x1_6_2_9_02_vae.ipynb": "evil"}
    )
    collect(path, tmp_path / "out", "02", root)
    assert submissions(tmp_path / "out")["bob_2/02_vae.ipynb"] == "Bob"
    assert set(table(tmp_path / "out")) == {"bob_2", "eve_4", "anon_x1"}


# Again into the same folder ----------------------------------------------------------------------------------------


def test_a_later_download(download, root, tmp_path):
    out = tmp_path / "out"
    first = download({f"{name}_{i}_{i}0_02_vae.ipynb": name for i, name in enumerate(("ada", "bob", "cy"), 1)})
    assert len(collect(first, out, root=root).new) == 3
    second = download(
        {"ada_1_10_02_vae.ipynb": "ada", "bob_LATE_2_99_02_vae-1.ipynb": "bob again", "di_4_40_02_vae.ipynb": "di"},
        "later",
    )
    report = collect(second, out, root=root)
    assert (report.new, report.replaced, report.unchanged, report.kept) == (["di_4"], ["bob_2"], ["ada_1"], [])
    wanted = {"ada_1": "ada", "bob_2": "bob again", "cy_3": "cy", "di_4": "di"}
    assert submissions(out) == {f"{key}/02_vae.ipynb": text for key, text in wanted.items()}
    assert set(table(out)) == set(wanted) and table(out)["bob_2"]["late"] == "yes"
    assert "Replaced: bob_2" in describe(report)
    report = collect(first, out, root=root)  # the old download by mistake
    assert (report.new, report.replaced, report.unchanged, report.kept) == ([], [], ["ada_1", "cy_3"], ["bob_2"])
    assert submissions(out)["bob_2/02_vae.ipynb"] == "bob again" and table(out)["bob_2"]["late"] == "yes"


def test_a_changed_name_keeps_the_key_and_added_columns_stay(download, root, tmp_path):
    out = tmp_path / "out"
    collect(download({"smithann_1_10_02_vae.ipynb": "old"}), out, root=root)
    text = (out / "students.csv").read_text("utf-8").splitlines()
    (out / "students.csv").write_text(f"{text[0]},tutor\n{text[1]},Tim\n", "utf-8")
    report = collect(download({"jonesann_1_11_02_vae.ipynb": "new"}, "later"), out, root=root)
    assert report.replaced == ["smithann_1"] and submissions(out) == {"smithann_1/02_vae.ipynb": "new"}
    assert table(out)["smithann_1"]["tutor"] == "Tim" and table(out)["smithann_1"]["name"] == "jonesann"


def test_the_same_again_changes_no_file(download, root, tmp_path):
    path = download({"ada/02_vae.ipynb": "Ada", "bob/02_vae.ipynb": "Bob"})
    collect(path, tmp_path / "out", root=root)
    before = {p: (p.read_bytes(), p.stat().st_ino) for p in (tmp_path / "out").rglob("*.ipynb")}
    report = collect(path, tmp_path / "out", root=root)
    assert report.unchanged == ["ada", "bob"]
    assert {p: (p.read_bytes(), p.stat().st_ino) for p in (tmp_path / "out").rglob("*.ipynb")} == before


def test_another_lecture_does_not_overwrite(download, root, tmp_path):
    collect(download({"ada/01_kl_and_elbo.ipynb": "one"}), tmp_path / "out", root=root)
    with pytest.raises(ValueError, match=r"holds submissions of 01_kl_and_elbo.*another --out"):
        collect(download({"ada/02_vae.ipynb": "two"}, "later"), tmp_path / "out", root=root)
    assert submissions(tmp_path / "out") == {"ada/01_kl_and_elbo.ipynb": "one"}


def test_the_results_inside_the_download_are_left_aside(root, tmp_path):
    folder = tmp_path / "download"
    (folder / "ada").mkdir(parents=True)
    (folder / "ada" / "02_vae.ipynb").write_text("Ada")
    for _ in range(2):
        collect(folder, folder / "collected", root=root)
        assert submissions(folder / "collected") == {"ada/02_vae.ipynb": "Ada"}


# Bad input ---------------------------------------------------------------------------------------------------------


def one_line(error):
    """Return the error's text, which must be one line."""
    assert "\n" not in str(error.value)
    return str(error.value)


def broken(tmp_path, case):
    """Make a bad download; return its path."""
    path = tmp_path / "bad.zip"
    if case == "no zip":
        path.write_bytes(b"PK\x03\x04 and then nothing")
    elif case == "a notebook":
        path.write_text("{}")
    elif case == "cut off":
        zipped(path, [("ada/02_vae.ipynb", "x" * 1000, DAY)])
        path.write_bytes(path.read_bytes()[:700])
    elif case == "empty":
        zipped(path, [])
    elif case == "only clutter":
        zipped(path, [("__MACOSX/._x.ipynb", "x", DAY)])
    elif case == "nothing placed":
        zipped(path, [("02_vae.ipynb", "x", DAY), ("line\nbreak.txt", "x", DAY)])
    elif case == "encrypted":
        content = zipped(path, [("ada/02_vae.ipynb", "x", DAY)]).read_bytes()
        at = content.index(b"PK\x01\x02") + 8
        path.write_bytes(content[:at] + b"\x01" + content[at + 1 :])
    return path


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("missing", "is not there"),
        ("no zip", "neither a folder nor a zip"),
        ("a notebook", "neither a folder nor a zip"),
        ("cut off", "neither a folder nor a zip"),
        ("empty", "holds no files"),
        ("only clutter", "holds no files"),
        ("nothing placed", "02_vae.ipynb: its name does not tell whose it is; 2 files in all"),
        ("encrypted", "is encrypted: unpack it"),
    ],
)
def test_a_bad_download_is_one_line_and_leaves_nothing(root, tmp_path, case, message):
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        collect(broken(tmp_path, case), tmp_path / "out", root=root)
    assert message in one_line(error) and "bad.zip" in one_line(error)
    assert not (tmp_path / "out").exists()


def test_a_bad_out(download, root, tmp_path):
    path = download({"ada/02_vae.ipynb": "Ada"})
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="is a file") as error:
        collect(path, tmp_path / "file", root=root)
    assert one_line(error) and (tmp_path / "file").read_text() == "mine"
    with pytest.raises(ValueError, match="lecture '7' is not known"):
        collect(path, tmp_path / "out", "7", root)
    folder = tmp_path / "taken"
    folder.mkdir()
    (folder / "students.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"students\.csv is not a table"):
        collect(path, folder, root=root)
    assert [p.name for p in folder.iterdir()] == ["students.csv"]
    (folder / "students.csv").unlink()
    (folder / "ada").write_text("a file where the student's folder goes")
    with pytest.raises(ValueError, match="collect again") as error:
        collect(path, folder, root=root)
    assert one_line(error)


def test_the_download_is_not_its_own_result(root, tmp_path):
    (tmp_path / "d" / "ada").mkdir(parents=True)
    (tmp_path / "d" / "ada" / "02_vae.ipynb").touch()
    with pytest.raises(ValueError, match="is the download itself"):
        collect(tmp_path / "d", tmp_path / "d", root=root)


def test_a_student_with_two_notebooks_in_the_folder_is_refused(download, root, tmp_path):
    path = download({"ada/02_vae.ipynb": "Ada"})
    collect(path, tmp_path / "out", root=root)
    (tmp_path / "out" / "ada" / "copy.ipynb").write_text("mine")
    with pytest.raises(ValueError, match="holds 2 notebooks"):
        collect(path, tmp_path / "out", root=root)


def test_a_full_disk_leaves_the_old_file(download, root, tmp_path, monkeypatch):
    collect(download({"ada/02_vae.ipynb": "old"}), tmp_path / "out", root=root)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ValueError, match="No space left on device") as error:
        collect(download({"ada/02_vae.ipynb": "new"}, "later"), tmp_path / "out", root=root)
    assert one_line(error)
    assert submissions(tmp_path / "out") == {"ada/02_vae.ipynb": "old"}


def test_collecting_imports_no_torch():
    code = "from course_tools.grading.hand_in import collect"
    code += "\nimport sys\nassert not {'torch', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# Other platforms ---------------------------------------------------------------------------------------------------


def rows_of(out):
    """Return student → (name, login, handed_in, problem) of students.csv."""
    return {k: (r["name"], r["login"], r["handed_in"], r.get("problem", "")) for k, r in table(out).items()}


@pytest.mark.parametrize("head", ["gradebook_ST101_1_Homework 2_", "Homework_2_", "HW_1_2_"])
@pytest.mark.parametrize("above", ["", "gradebook_ST101_Homework/"])
def test_blackboard(download, root, tmp_path, head, above):
    early, late = "2025-03-04-10-00-00", "2025-03-05-09-08-07"
    note = "Name: Ada Lovelace (alove)\nAssignment: Homework\nDate Submitted: Tuesday, March 4, 2025\n"
    files = {
        f"{head}alove_attempt_{early}_02_vae.ipynb": "first",
        f"{head}alove_attempt_{late}_02_vae.ipynb": "second",
        f"{head}alove_attempt_{late}.txt": note,
        f"{head}bob_attempt_{early}_x_eve_attempt_{late}_02_vae.ipynb": "Bob, who would be Eve",
        f"{head}cy_attempt_{early}.txt": "Name: Cy Young (cy)\n",
    }
    report = collect(download({above + name: text for name, text in files.items()}), tmp_path / "out", "02", root)
    assert submissions(tmp_path / "out") == {
        "Ada_Lovelace_alove/02_vae.ipynb": "second",
        "bob/02_vae.ipynb": "Bob, who would be Eve",
    }
    rows = rows_of(tmp_path / "out")
    assert rows["Ada_Lovelace_alove"] == ("Ada Lovelace", "alove", "2025-03-05T09:08:07", "")
    assert rows["Cy_Young_cy"][:2] == ("Cy Young", "cy") and "Blackboard's note" in rows["Cy_Young_cy"][3]
    assert [student for student, _ in report.superseded] == ["Ada_Lovelace_alove"]
    assert set(reasons(report)) == {f"{above}{head}cy_attempt_{early}.txt"}


@pytest.mark.parametrize("form", ["{}/02_vae.ipynb", "{}/sub/02_vae.ipynb", "{} - 02_vae.ipynb"])
@pytest.mark.parametrize("above", ["", "Homework Download Mar 6, 2025/"])
def test_brightspace(download, root, tmp_path, form, above):
    names = {
        "111-9 - Ada Lovelace - Mar 4, 2025 1000 AM": "first",
        "111-9 - Ada Lovelace - Mar 5, 2025 905 PM": "second",
        "112-9 - Mary-Ann Smith - December 5, 2024 1149 AM": "Mary-Ann",
        "113-9 - José Núñez - 4 March, 2025 1205 AM": "José",
        "114-9 - Twin - Mar 4, 2025 100 PM": "one",
        "115-9 - Twin - Mar 4, 2025 100 PM": "other",
    }
    files = {above + form.format(name): text for name, text in names.items()} | {f"{above}index.html": "<html>"}
    report = collect(download(files), tmp_path / "out", root=root)
    assert submissions(tmp_path / "out") == {
        "Ada_Lovelace/02_vae.ipynb": "second",
        "Mary-Ann_Smith/02_vae.ipynb": "Mary-Ann",
        "José_Núñez/02_vae.ipynb": "José",
        "Twin_114-9/02_vae.ipynb": "one",
        "Twin_115-9/02_vae.ipynb": "other",
    }
    came = {key: row[2] for key, row in rows_of(tmp_path / "out").items()}
    assert came == {
        "Ada_Lovelace": "2025-03-05T21:05",
        "Mary-Ann_Smith": "2024-12-05T11:49",
        "José_Núñez": "2025-03-04T00:05",
        "Twin_114-9": "2025-03-04T13:00",
        "Twin_115-9": "2025-03-04T13:00",
    }
    assert not report.unplaced


def test_brightspace_where_all_numbers_are_equal(download, root, tmp_path):
    names = [f"397-25 - {name} - Sep 24, 2024 926 PM" for name in ("Mary-Ann Smith", "John Doe")]
    collect(download({f"{name}/02_vae.ipynb": name for name in names}), tmp_path / "out", root=root)
    assert set(table(tmp_path / "out")) == {"Mary-Ann_Smith", "John_Doe"}


@pytest.mark.parametrize("above", ["", "Homework-20250304T100000Z-001/Homework/"])
def test_classroom(download, root, tmp_path, above):
    files = {
        f"{above}Ada Lovelace - 02_vae.ipynb": "Ada",
        f"{above}José Núñez - Copy of 02_vae.ipynb": "José",
        f"{above}02_vae (1).ipynb": "whose?",
    }
    report = collect(download(files), tmp_path / "out", root=root)
    assert submissions(tmp_path / "out") == {"Ada_Lovelace/02_vae.ipynb": "Ada", "José_Núñez/02_vae.ipynb": "José"}
    assert reasons(report) == {f"{above}02_vae (1).ipynb": "its name does not tell whose it is"}


@pytest.mark.parametrize(
    "name",
    ["x_bob_attempt_2025-03-05-10-00-00_02_vae.ipynb", "1-2 - Bob - Mar 4, 2025 1000 AM - x.ipynb", "Bob - x.ipynb"],
)
def test_a_file_named_as_on_another_platform_is_still_its_students(download, root, tmp_path, name):
    path = download({f"ada_1_2_{name}": "Ada", "bob_2_3_02_vae.ipynb": "Bob", "cy_3_4_02_vae.ipynb": "Cy"})
    collect(path, tmp_path / "out", "02", root)
    assert submissions(tmp_path / "out")["bob_2/02_vae.ipynb"] == "Bob" and set(table(tmp_path / "out")) == {
        "ada_1",
        "bob_2",
        "cy_3",
    }
    folders = {f"ada/{name}": "Ada", "bob/02_vae.ipynb": "Bob"}
    collect(download(folders, "folders"), tmp_path / "other", "02", root)
    assert submissions(tmp_path / "other") == {"ada/02_vae.ipynb": "Ada", "bob/02_vae.ipynb": "Bob"}


# What is no .ipynb -------------------------------------------------------------------------------------------------

BOOK = '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []}'


def packed(**files):
    """Return the bytes of a zip."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return file.getvalue()


@pytest.mark.parametrize(
    "name",
    [
        "02_vae.ipynb.json",
        "02_vae.ipynb.txt",
        "02_vae.json",
        "work.txt",
        "02_vae.ipynb.download",
        "02_vae.ipynb_",
        "02_vae",
    ],
)
def test_a_notebook_under_another_name_is_taken(download, root, tmp_path, name):
    path = download({f"ada/{name}": BOOK, "ada/readme.txt": "see the notebook", "bob/02_vae.ipynb": BOOK})
    report = collect(path, tmp_path / "out", "02", root)
    assert submissions(tmp_path / "out") == {"ada/02_vae.ipynb": BOOK, "bob/02_vae.ipynb": BOOK}
    assert not report.unplaced


@pytest.mark.parametrize("inside", ["02_vae.ipynb", "sub/02_vae.ipynb", "sub/my work.ipynb"])
def test_a_notebook_in_a_zip_is_taken(download, root, tmp_path, inside):
    content = packed(**{inside: BOOK, f"__MACOSX/._{inside}": "x", "figure.png": "x"})
    for name in ("ada/hw.zip", "ada_1_2_hw.zip", "Ada_1_assignsubmission_file_/hw.ZIP"):
        folder = tmp_path / name.replace("/", "-")
        other = {"a": "bob/02_vae.ipynb"}.get(name[:1] if "/" in name else "", "bob_2_3_02_vae.ipynb")
        collect(download({name: content, other: "Bob"}, folder.name + "-d"), folder, "02", root)
        assert sorted(submissions(folder).values()) == sorted([BOOK, "Bob"])


def test_the_table_has_the_name_that_canvas_gave_to_a_zip(download, root, tmp_path):
    """Canvas takes a page of feedback back by it."""
    inside = packed(**{"hw/ada_7_8_02_vae.ipynb": BOOK})
    files = {"class_3_4_of_2026/ada_1_2_hw.zip": inside, "class_3_4_of_2026/bob_2_3_02_vae.ipynb": BOOK}
    collect(download(files), tmp_path / "out", "02", root)
    rows = read_students(tmp_path / "out" / "students.csv")
    assert [row.file for row in rows.values()] == ["ada_1_2_hw.zip", "bob_2_3_02_vae.ipynb"]


def test_the_notebook_of_the_lecture_in_a_zip_is_taken(download, root, tmp_path):
    content = packed(
        **{"02_vae.ipynb": "it", "scratch.ipynb": "no", "../../evil.ipynb": "no", "deep/01_kl_and_elbo.ipynb": "no"}
    )
    collect(download({"ada/hw.zip": content, "bob/02_vae.ipynb": BOOK}), tmp_path / "out", "02", root)
    assert submissions(tmp_path / "out")["ada/02_vae.ipynb"] == "it"


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("work.pdf", b"%PDF", "no notebook (.ipynb)"),
        ("02_vae.ipynb - Colab.pdf", b"%PDF", "no notebook (.ipynb)"),
        ("02_vae.ipynb.html", b"<html>", "no notebook (.ipynb)"),
        ("02_vae.py", b"x = 1", "no notebook (.ipynb)"),
        ("work.7z", b"7z", "an archive"),
        ("work.zip", b"PK no zip", "an archive"),
        ("work.zip", packed(**{"work.pdf": "x"}), "an archive"),
        ("work.json", b'{"a": 1}', "no notebook (.ipynb)"),
        ("01_kl_and_elbo.ipynb", BOOK.encode(), "a notebook of another lecture than 02_vae"),
    ],
)
def test_who_handed_in_nothing_that_can_be_graded_stands_in_the_table(download, root, tmp_path, name, content, why):
    out = tmp_path / "out"
    report = collect(download({f"ada/{name}": content, "bob/02_vae.ipynb": BOOK}), out, "02", root)
    assert list(submissions(out)) == ["bob/02_vae.ipynb"]
    assert why in reasons(report)[f"ada/{name}"]
    row = table(out)["ada"]
    assert (row["name"], row["file"]) == ("ada", name) and name in row["problem"] and why in row["problem"]
    assert table(out)["bob"]["problem"] == ""
    collect(download({"ada/02_vae.ipynb": BOOK}, "later"), out, "02", root)
    assert (table(out)["ada"]["file"], table(out)["ada"]["problem"]) == ("02_vae.ipynb", "")
    collect(download({f"ada/{name}": content, "bob/02_vae.ipynb": BOOK}, "again"), out, "02", root)
    assert (
        submissions(out)["ada/02_vae.ipynb"] == BOOK
        and "a later version can't be graded" in table(out)["ada"]["problem"]
    )


def test_links_typed_texts_and_damage_stand_in_the_table(download, root, tmp_path):
    path = download(
        {"ada_1_text.html": "x", "bob_2_link.html": "x", "cy_3_4_02_vae.ipynb": BOOK, "di_LATE_5_6_hw.pdf": "x"}
    )
    collect(path, tmp_path / "out", root=root)
    told = {key: (row["canvas_id"], row["late"], row["problem"]) for key, row in table(tmp_path / "out").items()}
    assert told == {
        "ada_1": ("1", "no", "ada_1_text.html: no file, but a text typed into Canvas"),
        "bob_2": ("2", "no", "bob_2_link.html: no file, but a link typed into Canvas"),
        "cy_3": ("3", "no", ""),
        "di_5": ("5", "yes", "hw.pdf: no notebook (.ipynb)"),
    }


# Originals and copies ----------------------------------------------------------------------------------------------


def book(*sources):
    """Return a notebook's text."""
    cells = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": source} for source in sources]
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells})


@pytest.fixture
def with_handout(root):
    """Return a course whose second lecture has a notebook of two cells."""
    (root / "lectures").mkdir()
    (root / "lectures" / "02_vae.ipynb").write_text(book("given 1", "given 2"), "utf-8")
    return root


@pytest.mark.parametrize(
    "copy", ["Copy of 02_vae.ipynb", "Kopie von 02_vae.ipynb", "my work.ipynb", "02_vae-Copy1.ipynb"]
)
@pytest.mark.parametrize("times", [(DAY, LATER), (LATER, DAY)])
def test_an_untouched_original_does_not_count_beside_a_solved_copy(download, with_handout, tmp_path, copy, times):
    original, solved = book("given 1", " given 2\n", ""), book("given 1", "mine")
    files = [
        ("ada/02_vae.ipynb", original, times[0]),
        (f"ada/{copy}", solved, times[1]),
        ("bo/02_vae.ipynb", original, DAY),
    ]
    collect(download(files), tmp_path / "out", "02", with_handout)
    assert submissions(tmp_path / "out") == {"ada/02_vae.ipynb": solved, "bo/02_vae.ipynb": original}
    assert table(tmp_path / "out")["ada"].get("problem", "") == ""


def test_a_second_notebook_that_was_worked_on_is_named(download, with_handout, tmp_path):
    files = {"ada/02_vae.ipynb": book("one"), "ada/scratch.ipynb": book("two"), "bo/02_vae.ipynb": book("three")}
    collect(download(files), tmp_path / "out", "02", with_handout)
    assert submissions(tmp_path / "out")["ada/02_vae.ipynb"] == book("one")
    assert table(tmp_path / "out")["ada"]["problem"] == "more notebooks were handed in, not graded: scratch.ipynb"
    assert table(tmp_path / "out")["bo"]["problem"] == ""


def test_files_of_other_kinds_beside_a_notebook_are_named(download, root, tmp_path):
    scans = {f"cy/{number}.jpg": "x" for number in range(7)}
    files = {"ada/02_vae.ipynb": BOOK, "ada/answers.PDF": "%PDF", "ada/data.csv": "x", "bo/02_vae.ipynb": BOOK}
    files |= {"cy/02_vae.ipynb": BOOK, "di/hw.zip": packed(**{"02_vae.ipynb": BOOK}), **scans}
    report = collect(download(files), tmp_path / "out", "02", root)
    told = {key: row["beside"] for key, row in table(tmp_path / "out").items()}
    assert told == {"ada": "answers.PDF", "bo": "", "cy": "0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg and 2 more", "di": ""}
    assert "Beside a notebook, left where they are (8):\n  ada: ada/answers.PDF\n" in describe(report)
    again = download({"ada/02_vae.ipynb": BOOK, "bo/02_vae.ipynb": BOOK}, "later")
    collect(again, tmp_path / "out", "02", root)
    assert table(tmp_path / "out")["ada"]["beside"] == ""


def test_a_students_own_modules_stay_beside_the_notebook(download, root, tmp_path):
    inside = packed(**{"hw/02_vae.ipynb": BOOK, "hw/my-tools.py": "y = 2"})
    path = download({"ada/02_vae.ipynb": BOOK, "ada/sub/helpers.py": "x = 1", "bob/hw.zip": inside})
    collect(path, tmp_path / "out", "02", root)
    assert submissions(tmp_path / "out") == {
        "ada/02_vae.ipynb": BOOK,
        "ada/helpers.py": "x = 1",
        "bob/02_vae.ipynb": BOOK,
        "bob/my-tools.py": "y = 2",
    }


@pytest.mark.parametrize("above", ["submissions/", "a/b/", ""])
def test_one_notebook_among_files_of_other_kinds_is_its_students(download, root, tmp_path, above):
    files = {
        f"{above}ada/02_vae.ipynb": BOOK,
        f"{above}bob/hw.pdf": "x",
        f"{above}cy/hw.zip": packed(**{"a.ipynb": BOOK}),
    }
    collect(download(files), tmp_path / "out", "02", root)
    assert submissions(tmp_path / "out") == {"ada/02_vae.ipynb": BOOK, "cy/02_vae.ipynb": BOOK}
    assert set(table(tmp_path / "out")) == {"ada", "bob", "cy"}
    alone = {f"{above}ada/02_vae.ipynb": BOOK, f"{above}ada/img/a.png": "x", f"{above}ada/notes/b.md": "x"}
    collect(download(alone, "alone"), tmp_path / "alone_out", "02", root)
    assert len(table(tmp_path / "alone_out")) == 1

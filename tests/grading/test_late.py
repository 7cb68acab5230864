"""Late submissions: what a day costs, who has more time, and that nothing is taken off where the time is not known."""

import csv
import io
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from course_tools import cli
from course_tools.grading.book import gradebook, records, settings
from course_tools.grading.book.concerns import groups
from course_tools.grading.book.entries import entries
from course_tools.grading.book.late import DISAGREE, UNKNOWN, UNKNOWN_LATE, moment, policy_of
from course_tools.grading.book.records import Record, Result, Written
from course_tools.grading.hand_in.roster import Student

POLICY = policy_of("2026-11-30T23:59:00+00:00", 10.0, 50.0)


def rows(path: Path) -> dict[str, dict[str, str]]:
    """Return the rows of a CSV file by the first column, read as any other program reads it."""
    lines = list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))
    return {next(iter(line.values())): line for line in lines}


def entry_of(handed_in: str = "", late: str = "", extension: str = "", points: float = 8.0, policy=POLICY):
    """Ada, who has 8 of 20 points."""
    result = Result("partial", points, 20.0, "def f(): ...")
    record = Record("ada", "01_kl_and_elbo", "ada.ipynb", "", 0, "bubblewrap", exercises={"1.1": result})
    student = Student("Ada", late=late, handed_in=handed_in, more={"extension": extension})
    (entry,) = entries([record], {"ada": student}, {}, None, policy)
    return entry


@pytest.mark.parametrize(
    ("handed_in", "days", "total"),
    [
        ("2026-11-30T23:59:00+00:00", 0, 8.0),
        ("2026-11-30T23:59:01+00:00", 1, 6.0),
        ("2026-12-01T23:59:00Z", 1, 6.0),
        ("2026-12-02T00:00:00Z", 2, 4.0),
        ("2026-12-01T00:58:00+01:00", 0, 8.0),
        ("2026-12-03T12:00:00Z", 3, 2.0),
        ("2027-06-01T12:00:00Z", 183, 0.0),
    ],
)
def test_each_day_begun_costs_its_share_of_the_possible_points_and_nobody_falls_below_0(handed_in, days, total):
    entry = entry_of(handed_in)
    assert (entry.late.days, entry.total) == (days, total)
    assert entry_of(handed_in, points=20.0).total == max(10.0, 20.0 - 2 * days), "at most half"
    assert entry_of(handed_in, policy=None).total == 8.0
    assert [group.reason for group in groups([entry], {}, False)] == []


@pytest.mark.parametrize(
    ("extension", "days"),
    [
        ("", 2),
        ("1 day", 1),
        ("48 h", 0),
        ("+2 days", 0),
        ("1.5 d", 1),
        ("1 week", 0),
        ("2026-12-01T23:59:00Z", 1),
        ("2026-12-04", 0),
    ],
)
def test_who_has_more_time_is_late_later(extension, days):
    assert entry_of("2026-12-02T12:00:00Z", extension=extension).late.days == days


@pytest.mark.parametrize(
    ("late", "handed_in", "doubt"),
    [
        ("", "", UNKNOWN),
        ("yes", "", UNKNOWN_LATE),
        ("no", "", ""),
        ("no", "2026-12-02T12:00:00Z", DISAGREE),
        ("yes", "2026-11-30T12:00:00Z", ""),
    ],
)
def test_nothing_is_taken_off_where_it_is_not_known_and_a_person_is_asked(late, handed_in, doubt):
    entry = entry_of(handed_in, late)
    assert (entry.late.points, entry.total, entry.late.doubt) == (0.0, 8.0, doubt)
    assert [group.reason for group in groups([entry], {}, False)] == [doubt] * bool(doubt)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"handed_in": "yesterday"}, "column handed_in: 'yesterday' is no time"),
        ({"extension": "soon"}, "column extension: 'soon' is neither a time nor"),
        ({"extension": "2026-11-01"}, "before the due date"),
    ],
)
def test_a_time_that_cannot_be_read_is_named(fields, said):
    with pytest.raises(ValueError, match=rf"students.csv, ada.*{said}"):
        entry_of(**{"handed_in": "2026-12-02T12:00:00Z", **fields})


def test_a_day_alone_is_its_end_and_a_time_without_a_zone_is_of_this_machine():
    assert moment("2026-11-30", "x") == moment("2026-11-30T23:59:59", "x")
    assert moment("2026-11-30T12:00", "x") == datetime(2026, 11, 30, 12).astimezone()
    assert moment("2026-11-30T12:00+02:00", "x") == datetime(2026, 11, 30, 12, tzinfo=timezone(timedelta(hours=2)))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Two students with all 20 points, one of them a day late; their students.csv."""
    for key in ("ada", "bob"):
        results = {"1.1": Result("correct", 20.0, 20.0, "def f(): ...")}
        records.write(tmp_path, Record(key, "01_kl_and_elbo", f"{key}.ipynb", "", 0, "bubblewrap", exercises=results))
    table = "student,name,canvas_id,moodle_id,late,file,handed_in,extension\n"
    table += "ada,Ada,11,101,,,2026-12-01T10:00:00Z,\nbob,Bob,12,102,,,2026-12-01T10:00:00Z,1 day\n"
    (tmp_path / "students.csv").write_text(table, "utf-8")
    return tmp_path


def test_what_is_taken_off_stands_in_tables_and_pages_and_is_kept_for_the_next_gradebook(out, capsys):
    said = settings.changed(settings.read_settings(out), "2026-11-30T23:59Z", 10.0, None, [])
    gradebook.publish(out, settings=said)
    assert "points taken off for lateness: ada" in capsys.readouterr().out
    for _ in range(2):
        table = rows(out / "grades.csv")
        assert [(row["total"], row["days late"], row["taken off"]) for row in table.values()] == [
            ("18", "1", "2"),
            ("20", "0", "0"),
        ]
        assert (out / "canvas.csv").read_text("utf-8").splitlines()[2:] == ["Ada,11,,,,18", "Bob,12,,,,20"]
        assert "1 day late: 2 taken off" in rows(out / "moodle.csv")["Participant 101"]["Feedback comments"]
        page = (out / "feedback" / "ada.html").read_text("utf-8")
        assert "20 points earned; handed in 1 day late, 2 taken off" in page
        gradebook.publish(out)
    gradebook.publish(out, settings=settings.changed(settings.read_settings(out), "none", None, None, []))
    assert {row["total"] for row in rows(out / "grades.csv").values()} == {"20"}


def test_a_setting_alone_changes_nothing_else(out):
    first = settings.changed(settings.Settings(), "2026-11-30", 10.0, 50.0, [])
    later = settings.changed(first, "2026-12-01", None, None, [out])
    assert (later.policy.per_day, later.policy.most, later.policy.due.day) == (10.0, 50.0, 1)
    assert settings.changed(later, None, 5.0, None, []).policy.per_day == 5.0
    (out / "settings.json").write_text(settings.to_json(later), "utf-8")
    assert settings.read_settings(out) == later


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((None, 10.0, None), "--penalty needs --due"),
        (("soon", 10.0, None), "--due: 'soon' is no time"),
        (("2026-11-30", 120.0, None), "--penalty 120"),
        (("2026-11-30", 10.0, -1.0), "--at-most -1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given, said):
    with pytest.raises(ValueError, match=said):
        settings.changed(settings.Settings(), *given, [])


def test_spoilt_settings_are_named(out):
    (out / "settings.json").write_text("{", "utf-8")
    with pytest.raises(ValueError, match="settings.json is not what"):
        gradebook.publish(out)


def test_the_command_takes_due_date_marks_of_several_and_an_earlier_class(out, tmp_path_factory, capsys):
    earlier = tmp_path_factory.mktemp("earlier")
    for folder in (earlier, out):
        record = records.read(records.path_of(out, "ada"))
        record.written = {"1.8": Written("Because.", 3.0)}
        records.write(folder, record)
    tables = [out / f"{who}.csv" for who in ("anna", "ben")]
    for points, table in enumerate(tables, 1):
        table.write_text(f"student,exercise,points\nada,1.8,{points}\n", "utf-8")
    given = ["--due=2026-11-30", "--penalty=10", "--at-most=50", f"--beside={earlier}"]
    marks = [f"--written={table}" for table in tables]
    assert cli.main(["gradebook", str(out), *given, *marks]) == 0
    assert "ada, 1.8: two marks: 1 (written.csv), 2 (ben.csv)" in capsys.readouterr().out
    kept = settings.read_settings(out)
    assert (kept.policy.per_day, kept.policy.most, kept.beside) == (10.0, 50.0, (earlier,))
    assert cli.main(["gradebook", str(out), "--due=soon"]) == 2
    assert "--due: 'soon' is no time such as" in capsys.readouterr().err
    assert settings.read_settings(out) == kept

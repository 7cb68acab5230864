"""Written answers marked on a page, by several people: nothing is lost, and two different marks are named."""

import base64
import hashlib
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from course_tools.grading.book import gradebook, marking, records
from course_tools.grading.book.entries import entries
from course_tools.grading.book.marking import Task, marking_page, merged, rubric_in, tasks
from course_tools.grading.book.records import Record, Result, Written
from course_tools.grading.book.written import Mark, points_of, read_marks, state_of, table

KEY = ("ada", "1.8")
EVIL = "</script></textarea><script>alert(1)</script><img src=x onerror=alert(1)>\"'{{ 7*7 }}\u202e"


def record(student: str, answer: str | None, pictures: list[str] | None = None) -> Record:
    """A submission with a programmed exercise and a written answer."""
    made = Record(student, "01_kl_and_elbo", f"{student}.ipynb", "", 0, "bubblewrap")
    made.exercises = {"1.1": Result("correct", 2.0, 2.0, "def f(): ...")}
    made.written = {"1.8": Written(answer, 3.0, pictures or [])}
    return made


def mark(points: float | None, who: str, comment: str = "", seen: Mark | None = None) -> Mark:
    """A mark that somebody made on the page, of an answer whose mark was `seen` before."""
    return Mark(points, comment, marker=who, base=state_of(seen or Mark(None)))


# Merging -------------------------------------------------------------------------------------------------------------


def test_shares_of_several_markers_merge_in_any_order():
    shares = [(f"{who}.csv", {(who, "1.8"): mark(i, who)}) for i, who in enumerate(("anna", "ben", "cleo"))]
    for order in itertools.permutations(shares):
        found, said = merged({}, order)
        assert ({key: m.points for key, m in found.items()}, said) == (
            {("anna", "1.8"): 0, ("ben", "1.8"): 1, ("cleo", "1.8"): 2},
            [],
        )


@pytest.mark.parametrize("together", [True, False])
def test_two_different_marks_are_a_conflict_and_both_are_kept(together):
    anna, ben = {KEY: mark(2.0, "Anna", "nearly")}, {KEY: mark(3.0, "Ben")}
    if together:
        found, said = merged({}, [("a.csv", anna), ("b.csv", ben)])
    else:
        found, said = merged(merged({}, [("a.csv", anna)])[0], [("b.csv", ben)])
    assert found[KEY].conflict == "two marks: 2 (Anna: nearly), 3 (Ben)"
    assert [line.startswith("ada, 1.8: two marks: 2 (Anna: nearly), 3 (Ben)") for line in said] == [True]
    assert points_of(record("ada", "x"), "1.8", found) is None, "open until a person decides"
    again, _ = merged(found, [("b.csv", ben), ("a.csv", anna)])
    assert again == found, "given again, nothing is added"
    third, _ = merged(found, [("c.csv", {KEY: mark(1.0, "Cleo")})])
    assert third[KEY].conflict == "two marks: 2 (Anna: nearly), 3 (Ben), 1 (Cleo)"


def test_who_saw_the_conflict_decides_it():
    found, _ = merged({}, [("a.csv", {KEY: mark(2.0, "Anna")}), ("b.csv", {KEY: mark(3.0, "Ben")})])
    decided, _ = merged(found, [("c.csv", {KEY: mark(2.5, "Cleo", seen=found[KEY])})])
    assert (decided[KEY].points, decided[KEY].conflict) == (2.5, "")


def test_a_marker_may_think_again():
    found, _ = merged({}, [("a.csv", {KEY: mark(2.0, "Anna")})])
    later, said = merged(found, [("a (1).csv", {KEY: mark(3.0, "Anna")})])
    assert (later[KEY].points, later[KEY].conflict) == (3.0, "")
    assert said == ["ada, 1.8: 2 replaced by 3 (Anna)"]
    seen, _ = merged(found, [("b.csv", {KEY: mark(1.0, "Ben", seen=found[KEY])})])
    assert (seen[KEY].points, seen[KEY].conflict) == (1.0, ""), "Ben saw Anna's mark"


def test_equal_points_are_no_conflict_and_both_comments_stay():
    found, said = merged({}, [("a.csv", {KEY: mark(2.0, "Anna", "one")}), ("b.csv", {KEY: mark(2.0, "Ben", "two")})])
    assert (found[KEY].points, found[KEY].comment, said) == (2.0, "one / two", [])


def test_a_spreadsheet_replaces_what_was_there_but_not_what_another_gave_just_now():
    old, sheet = {KEY: Mark(2.0)}, {KEY: Mark(1.0)}
    assert merged(old, [("s.csv", sheet)])[0][KEY].points == 1.0
    found, said = merged({}, [("s.csv", sheet), ("t.csv", {KEY: Mark(3.0)})])
    assert found[KEY].conflict == "two marks: 1 (written.csv), 3 (t.csv)" and len(said) == 1


def test_blank_points_never_replace_points():
    old = {KEY: Mark(2.0)}
    assert merged(old, [("s.csv", {KEY: Mark(None, "hm")})])[0][KEY].points == 2.0
    assert merged({}, [("s.csv", {KEY: Mark(None, "hm")})])[0][KEY].comment == "hm"


def test_a_conflict_stays_in_the_table_until_its_cell_is_emptied(tmp_path):
    found, _ = merged({}, [("a.csv", {KEY: mark(2.0, "Anna")}), ("b.csv", {KEY: mark(3.0, "Ben")})])
    path, ada = tmp_path / "written.csv", record("ada", "x")
    path.write_text(table([ada], found), "utf-8")
    kept = read_marks(path, [ada])
    assert (kept[KEY].conflict, kept[KEY].marker) == (found[KEY].conflict, "Anna")
    assert state_of(kept[KEY]) == state_of(found[KEY])
    path.write_text(table([ada], kept).replace(f'"{found[KEY].conflict}"', ""), "utf-8")
    assert points_of(ada, "1.8", read_marks(path, [ada])) == 2.0


def test_a_conflict_is_listed_for_the_instructor(tmp_path, capsys):
    records.write(tmp_path, record("ada", "Because."))
    files = []
    for who, points in (("Anna", 2), ("Ben", 3)):
        files.append(tmp_path.parent / f"{tmp_path.name}_{who}.csv")
        files[-1].write_text(
            f"student,exercise,points,comment,marker,version,base\nada,1.8,{points},,{who},,\n", "utf-8"
        )
    gradebook.publish(tmp_path, None, files)
    assert "ada, 1.8: two marks: 2 (Anna), 3 (Ben)" in capsys.readouterr().out
    assert "two marks: 2 (Anna), 3 (Ben)" in (tmp_path / "instructor.html").read_text("utf-8")
    assert "two marks: 2 (Anna), 3 (Ben)" in (tmp_path / "marking" / "1.8.html").read_text("utf-8")
    assert ",no," in (tmp_path / "grades.csv").read_text("utf-8-sig").splitlines()[1], "not complete"


# The page ------------------------------------------------------------------------------------------------------------


def page_of(*made: Record, marks=None, task: Task | None = None) -> str:
    """The page to mark 1.8 by."""
    return marking_page("1.8", entries(list(made), {}, marks or {}), task or Task())


def test_only_our_own_script_may_run():
    text = page_of(record("ada <img onerror=1>", EVIL), record("eve", EVIL), task=Task(EVIL, EVIL, [(1.0, EVIL)]))
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert script == Path(marking.__file__).with_name("templates").joinpath("marking.js").read_text("utf-8")
    seen = HTMLParser()
    seen.handle_starttag = lambda tag, attrs: found.append((tag, [name for name, _ in attrs]))
    found: list = []
    seen.feed(text)
    assert [tag for tag, _ in found].count("script") == 1 and "img" not in [tag for tag, _ in found]
    assert not [name for _, names in found for name in names if name.startswith("on")]
    assert "\u202e" not in text and "⟨U+202E⟩" in text


def test_pictures_are_shown_and_nothing_else_is_fetched():
    text = page_of(
        record("ada", "see", ["data:image/png;base64,iVBO", "https://x.org/p.png", "data:image/svg+xml,<svg/>"])
    )
    assert re.findall(r'<img src="([^"]*)"', text) == ["data:image/png;base64,iVBO"]
    assert "default-src 'none'" in text and "img-src data:" in text


def test_a_lectures_own_question_model_and_rubric_stand_beside_the_answers():
    found = tasks("01", {})["1.8"]
    assert found.question.startswith("Exercise 1.8") and "model answer" in found.model
    assert [points for points, _ in found.rubric] == [1.0, 1.0, 1.0]
    assert found.rubric[0][1] == "naming both gaps"
    assert [points for points, _ in tasks("03", {})["3.9"].rubric] == [1.0, 1.0, 1.0]
    assert tasks("01", {"1.8": [(0.5, "own")]})["1.8"].rubric == [(0.5, "own")]
    assert (tasks("17_not_here", {}), rubric_in("No rubric.")) == ({}, [])


def test_an_own_rubric_is_read(tmp_path):
    path = tmp_path / "rubric.csv"
    path.write_text('exercise;points;text\nexercise 1.8;"1,5";says; why\n', "utf-8")
    assert marking.read_rubrics(path) == {"1.8": [(1.5, "says")]}
    path.write_text("exercise,points,text\n1.8,many,x\n", "utf-8")
    with pytest.raises(ValueError, match=r"rubric.csv, row 2, column points: 'many'"):
        marking.read_rubrics(path)


def test_comments_given_twice_are_at_hand():
    marks = {(f"s{i}", "1.8"): Mark(1.0, "no reason" if i < 2 else "alone") for i in range(3)}
    text = page_of(*(record(f"s{i}", "x") for i in range(3)), marks=marks)
    assert re.findall(r'<li data-text="([^"]*)"', text) == ["no reason"]

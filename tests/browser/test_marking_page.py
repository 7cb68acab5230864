"""The marking page in a browser: by keyboard, saved and merged, reloaded, shared among several markers."""

from pathlib import Path

import pytest

from course_tools.grading.book import gradebook, records
from course_tools.grading.book.records import Record, Result, Written
from course_tools.grading.book.written import read_marks

pytestmark = pytest.mark.browser


def record(student: str, answer: str) -> Record:
    """A submission with a programmed exercise and a written answer."""
    made = Record(student, "01_kl_and_elbo", f"{student}.ipynb", "", 0, "bubblewrap")
    made.exercises = {"1.1": Result("correct", 2.0, 2.0, "def f(): ...")}
    made.written = {"1.8": Written(answer, 3.0, [])}
    return made


@pytest.fixture
def page(browser, tmp_path):
    """The page of a small class, open in Chromium, and the folder of grades."""
    for i in range(4):
        records.write(tmp_path, record(f"s{i}", f"Answer {i}, because =1+1."))
    records.write(tmp_path, record("empty", "Write here."))
    gradebook.publish(tmp_path)
    context = browser.new_context(accept_downloads=True)
    opened, errors = context.new_page(), []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    opened.goto((tmp_path / "marking" / "1.8.html").as_uri())
    yield opened, tmp_path
    context.close()
    assert errors == []


def test_marks_given_by_the_keyboard_come_into_the_gradebook(page):
    opened, out = page
    opened.fill("#marker", "Änne B.")
    opened.locator(".one").first.focus()
    for keys in ("2", "j", "q", "w", "h", "j", "c"):
        opened.keyboard.press(keys)
    opened.keyboard.type('=why, "so"?\nsecond line')
    opened.keyboard.press("Escape")
    opened.keyboard.press("0")
    opened.reload()  # nothing is lost
    opened.fill("#marker", "Änne B.")
    with opened.expect_download() as download:
        opened.click("#save")
    assert download.value.suggested_filename == "marks_1.8_Änne_B_.csv"
    path = out.parent / f"{out.name}.csv"
    download.value.save_as(path)
    gradebook.publish(out, None, [path])
    marks = read_marks(out / "written.csv", records.read_all(out))
    assert {student: m.points for (student, _), m in marks.items() if m.points is not None} == {
        "s0": 2,
        "s1": 2.5,
        "s2": 0,
    }
    assert marks["s2", "1.8"].comment == '=why, "so"?\nsecond line'
    assert marks["s1", "1.8"].comment.count("\n") == 1, "two items of the rubric"
    assert {m.marker for m in marks.values() if m.points is not None} == {"Änne B."}
    opened.reload()  # the page made again: all is merged
    assert opened.inner_text("#progress") == "3 of 4 marked"


def test_marks_of_who_is_not_on_the_page_are_not_saved_and_keys_can_be_switched_off(page):
    opened, out = page
    opened.fill("#marker", "Anna")
    opened.locator(".one").first.focus()
    opened.keyboard.press("2")
    path = records.path_of(out, "s0")
    path.unlink()
    (out / "written.csv").unlink()
    gradebook.publish(out)
    opened.reload()
    opened.locator(".one").first.focus()
    opened.keyboard.press("1")
    with opened.expect_download() as download:
        opened.click("#save")
    text = Path(download.value.path()).read_text("utf-8-sig")
    assert [line.split(",")[0] for line in text.splitlines()] == ['"student"', '"s1"']
    opened.click("summary:has-text('Keys')")
    opened.uncheck("#shortcuts")
    opened.locator(".one").first.focus()
    opened.keyboard.press("3")
    assert opened.locator("[data-field=points]").first.input_value() == "1"


def test_points_out_of_range_are_refused_and_shares_split_the_class(page):
    opened, _ = page
    field = opened.locator("[data-field=points]").first
    field.fill("3,5")
    assert field.get_attribute("aria-invalid") == "true" and "0 to 3" in opened.inner_text("#warning")
    field.fill("2,5")
    assert field.get_attribute("aria-invalid") == "false" and not opened.is_visible("#warning")
    opened.fill("#parts", "3")
    seen = []
    for part in "123":
        opened.fill("#part", part)
        seen += [card.get_attribute("data-student") for card in opened.locator(".one").all() if card.is_visible()]
    assert sorted(seen) == ["s0", "s1", "s2", "s3"]


def test_no_key_marks_an_answer_outside_the_share(page):
    opened, _ = page
    opened.fill("#part", "2")
    opened.fill("#parts", "2")
    opened.locator("#parts").blur()
    opened.keyboard.press("3")
    assert [field.input_value() for field in opened.locator("[data-field=points]").all()] == ["", "3", "", ""]
    assert opened.locator(".one.now").get_attribute("data-student") == "s1"
    opened.fill("#part", "9")
    opened.fill("#parts", "9")  # nobody's
    opened.locator("#parts").blur()
    opened.keyboard.press("2")
    assert [field.input_value() for field in opened.locator("[data-field=points]").all()] == ["", "3", "", ""]

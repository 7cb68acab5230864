"""The pages: everything that a student or an instructor must see is there, and nothing of it is run."""

import re
from html.parser import HTMLParser

import pytest

from course_tools.grading.book import pages
from course_tools.grading.book.concerns import noticed
from course_tools.grading.book.corrections import Correction
from course_tools.grading.book.entries import entries
from course_tools.grading.book.marking import Task, marking_page
from course_tools.grading.book.records import STATUSES, Call, Error, Record, Result, Written
from course_tools.grading.book.similarity import Alike, Pair, similar_pairs
from course_tools.grading.book.written import Mark
from course_tools.grading.hand_in.roster import Student
from course_tools.grading.hand_in.submission import Flag
from course_tools.grading.visible import visible

EVIL = "</script></pre></style><script>alert(1)</script><img src=x onerror=alert(1)>\"'{{ 7*7 }}"
VOID = {"meta", "br", "line", "rect", "img", "link", "input"}


class Page(HTMLParser):
    """What a browser would see: the tags, their attributes, the text; and that every tag is closed."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.attributes, self.words, self.opened = [], [], [], []
        self.feed(text)
        self.text = " ".join("".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.opened.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.opened.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def submission(student: str = "ada", evil: bool = False) -> Record:
    """A submission with one exercise of each status, and a written one."""
    said = EVIL if evil else "said"
    record = Record(student, "01_kl_and_elbo", said if evil else f"{student}.ipynb", "", 7, "bubblewrap", problem=said)
    for i, status in enumerate(STATUSES, 1):
        points = {"correct": 2.0, "partial": 1.0, "infrastructure": None}.get(status, 0.0)
        calls = [Call(f"{said} case", f"{said} called", f"{said} got", f"{said} wanted", False, f"{said} advice")]
        calls += [failed(Error(said, said, said, said), said)] if evil else []
        record.exercises[f"1.{i}"] = Result(
            status,
            points,
            2.0,
            f"x = 1  # {said}",
            "stopped",
            f"{said} message",
            flags=[Flag("skipped", (f"{said} flag", ""))],
            calls=calls,
            hint=f"{said} hint",
            printed=f"{said} print",
        )
    record.written["1.11"] = Written(f"{said} answer", 3.0)
    return record


def page_of(record: Record, marks=None, name: str = "") -> Page:
    """The student's page, parsed."""
    (entry,) = entries([record], {record.student: Student(name)}, marks or {})
    return Page(pages.feedback_page(entry))


def test_every_status_has_a_sign_and_a_sentence_of_its_own():
    assert set(pages.SIGNS) == set(pages.MEANINGS) == set(STATUSES)
    assert len(set(pages.SIGNS.values())) == len(set(pages.MEANINGS.values())) == len(STATUSES)
    text = page_of(submission()).text
    for status in STATUSES:
        assert f"{pages.SIGNS[status]} {status}" in text
        assert pages.MEANINGS[status] in text


def test_a_student_sees_calls_results_advice_code_and_hint():
    text = page_of(submission(), name="Ada Lovelace").text
    for words in ("Ada Lovelace", "said case", "said called", "said got", "said wanted", "✗ failed", "said advice"):
        assert words in text
    for words in ("x = 1 # said", "said message", "said print", "said hint", "said answer"):
        assert words in text
    assert "said flag" not in text, "flags are for the instructor"


def test_what_is_open_has_no_points_and_no_total():
    text = page_of(submission()).text
    assert "No total yet" in text
    assert "no points yet, of 2" in text
    assert "Not marked yet" in text


def test_points_and_comment_of_a_written_answer_are_shown():
    record = submission()
    del record.exercises["1.10"]
    text = page_of(record, {("ada", "1.11"): Mark(2.5, "almost")}).text
    assert "2.5 of 3 points" in text
    assert "almost" in text
    assert "5.5 of 21 points" in text
    open_again = page_of(record, {("ada", "1.11"): Mark(2.5, "almost", changed=True)}).text
    assert "changed after it was marked" in open_again
    assert "2.5 of 3" not in open_again


def only(result: Result, corrections=None) -> Page:
    """The page of a submission with this one result, as 1.1."""
    record = Record("ada", "01_kl_and_elbo", "ada.ipynb", "", 7, "bubblewrap", exercises={"1.1": result})
    (entry,) = entries([record], {}, {}, corrections)
    return Page(pages.feedback_page(entry))


def failed(got: str | Error, advice: str) -> Call:
    """A call that failed."""
    raised = isinstance(got, Error)
    return Call("case", "f(p)", None if raised else got, "1", False, advice, got if raised else None)


def test_only_correct_exercises_are_folded():
    assert page_of(submission()).tags.count("details") == 1
    page = only(Result("correct", 1.0, 1.0, "x = 1"))
    assert "✓ correct" in page.text
    assert page.text.count("1 of 1 point") == 2
    assert "1 of 1 points" not in page.text
    assert "details" not in only(Result("correct", 2.0, 2.0), {("ada", "1.1"): Correction(1.0)}).tags


def test_what_is_said_of_one_call_is_not_said_of_the_next():
    same = [failed(Error("TypeError", "bad operand"), "call it yourself") for _ in range(3)]
    calls = [*same, failed("2", "look at zeros"), failed("2", "look at zeros"), failed("3", "call it yourself")]
    text = only(Result("wrong", 0.0, 2.0, calls=calls)).text
    assert [text.count(words) for words in ("bad operand", "call it yourself", "look at zeros")] == [1, 1, 1]
    assert text.count("the same error") == 2
    rows = pages.rows_of(Result("wrong", 0.0, 2.0, calls=calls))
    assert [row.got for row in rows[3:]] == ["2", "2", "3"], "values stand in every row"
    assert [bool(row.advice) for row in rows] == [True, False, False, True, False, False]


@pytest.mark.parametrize("status", STATUSES)
def test_the_hint_is_for_those_whose_idea_was_not_right(status):
    assert bool(pages.hint_of(Result(status, 0.0, 2.0, hint="logs"))) == (status in ("wrong", "partial"))


@pytest.mark.parametrize("status", ["error", "partial", "wrong"])
def test_who_missed_a_name_gets_no_mathematical_hint(status):
    unknown = Error("NameError", "name 'np' is not defined", "np.log(p)", "np")
    calls = [failed(unknown, "log 0 is not 0"), failed(unknown, "log 0 is not 0")]
    text = only(Result(status, 0.0, 2.0, calls=calls, hint="use xlogy")).text
    assert "log 0 is not 0" not in text
    assert "xlogy" not in text
    assert "Restart the kernel" not in text
    assert text.count(pages.NAMELESS) == 1


def test_who_renamed_the_function_is_told_so():
    text = only(Result("error", 0.0, 2.0, cause="undefined", names=["f", "g"], hint="use xlogy")).text
    assert pages.UNDEFINED in text
    assert "Your cell defines no function `f`, but `g`: was it renamed?" in text
    assert "Restart the kernel" not in text
    assert "xlogy" not in text


def test_a_correction_is_shown_to_student_and_instructor():
    made = {("ada", "1.1"): Correction(3.0, "right <idea>")}
    result = Result("infrastructure", None, 4.0)
    page = only(result, made)
    assert "corrected by hand: 3 of 4 points: right <idea>" in page.text
    assert "No total yet" not in page.text
    assert "no points yet" not in page.text
    record = Record("ada", "01_kl_and_elbo", "ada.ipynb", "", 7, "unsandboxed", exercises={"1.1": result})
    everyone = entries([record], {}, {}, made)
    page = Page(pages.instructor_page(everyone, {}, []))
    assert "3 of 4none (infrastructure)right <idea>unsandboxed" in page.text
    assert ("aria-label", "infrastructure, corrected by hand") in page.attributes
    assert pages.exercise_summary("1.1", everyone).mean == 3.0
    assert "Corrected by hand" not in Page(pages.instructor_page(entries([record], {}, {}), {}, [])).text


def test_a_correction_closes_an_exercise_that_has_no_result():
    records = [submission("ada"), submission("bob")]
    del records[1].exercises["1.2"]
    everyone = entries(records, {}, {}, {("bob", "1.2"): Correction(1.5, "seen on paper")})
    text = Page(pages.feedback_page(everyone[1])).text
    assert "corrected by hand: 1.5 of 2 points: seen on paper" in text
    assert everyone[1].points["1.2"] == 1.5


def test_links_of_the_overview_lead_to_their_exercise():
    records = [submission("ada"), submission("bob")]
    del records[1].exercises["1.2"]
    page = Page(pages.feedback_page(entries(records, {}, {})[1]))
    links = {value[1:] for name, value in page.attributes if name == "href" and value.startswith("#")}
    assert links == {value for name, value in page.attributes if name == "id"}


def test_a_written_answer_that_was_not_found_is_no_zero():
    record = submission()
    record.written["1.11"] = Written(None, 3.0)
    text = page_of(record).text
    assert "no points yet, of 3" in text
    assert "no cell for 1.11 found" in text
    assert "look into the file" not in text


def test_one_of_anything_is_singular():
    record = Record("ada", "01_kl_and_elbo", "ada.ipynb", "", 7, "bubblewrap", exercises={"1.1": Result("wrong", 0, 1)})
    record.written["1.2"] = Written("Because.", 1.0)
    (entry,) = entries([record], {}, {})
    text = Page(pages.instructor_page([entry], {}, [])).text
    for words in (
        "1 submission ",
        "1 written answer to mark",
        "0 rows to look at",
        "0 similar pairs",
        "of 1 point, 1 student.",
    ):
        assert words in text


def test_who_has_what_the_course_has_is_shown_apart_from_pairs_of_students():
    sources = {"ada": "the course's own solution", "bob": "the course's own gan.f", "eve": "zoe in 2025"}
    everyone = entries([submission(name) for name in sources], {}, {})
    pairs = [Pair(both, (Alike("1.1", 0.9, 20, ("mine", "theirs")),)) for both in sources.items()]
    text = " ".join(Page(pages.instructor_page(everyone, {}, pairs)).text.split())
    students, courses = text.split("Like what the course has itself")
    assert "1 similar pair" in text and "eve and zoe in 2025 · 1.1 (90 %)" in students
    assert "2 pairs" in courses and "own gan.f" not in students
    assert "ada and the course's own solution · 1.1 (90 %)" in courses and "bob and the course's own gan.f" in courses


def test_the_hint_is_not_said_twice():
    record = submission()
    record.exercises = {"1.3": record.exercises["1.3"]}
    record.exercises["1.3"].hint = "look at zeros"
    record.exercises["1.3"].calls[0].advice = "Hint: look at zeros"
    assert page_of(record).text.count("look at zeros") == 1


@pytest.mark.parametrize("which", ["feedback", "instructor"])
def test_nothing_of_a_student_becomes_part_of_a_page(which):
    records = [submission("ada <img onerror=1>", evil=True), submission("bob"), submission("eve#%?", evil=True)]
    for record in records[::2]:
        record.exercises["1.1"].source = EVIL + "\n".join(f"a{i} = b[{i}] + {i}" for i in range(20))
    everyone = entries(records, {"bob": Student(EVIL)}, {})
    pairs = similar_pairs(records)
    assert pairs
    text = {
        "feedback": lambda: pages.feedback_page(everyone[0]),
        "instructor": lambda: pages.instructor_page(everyone, {EVIL: Student(EVIL, file=EVIL)}, pairs),
    }[which]()
    page = Page(text)
    assert not {"script", "img", "iframe", "link"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "{{ 7*7 }}" in page.text, "shown as it is"
    assert page.opened == []
    assert ("http-equiv", "Content-Security-Policy") in page.attributes
    assert all(
        value.startswith(("#", "feedback/")) or value.endswith((".csv", ".html"))
        for n, value in page.attributes
        if n == "href"
    )


def test_links_lead_to_the_pages_whatever_the_students_are_called():
    assert pages.feedback_link("a#b?c% d") == "feedback/a%23b%3Fc%25%20d.html"


def test_code_is_shown_whole_and_long_code_is_cut():
    code = "def f(x):\n    return x < 1 and 'ü' > \"b\"  # & so on\n"
    assert "".join(Page(str(pages.highlight(code))).words) == code
    assert len(Page(str(pages.highlight("x = 1\n" * 100_000))).text) < 30_000


def test_the_class_is_summed_up():
    records = [submission(name) for name in ("ada", "bob", "eve")]
    records[1].exercises["1.3"] = Result("correct", 2.0, 2.0)
    everyone = entries(records, {}, {})
    third = pages.exercise_summary("1.3", everyone)
    assert third.counts == {"correct": 1, "wrong": 2}
    assert third.mean == pytest.approx(2 / 3)
    assert third.failed == pytest.approx(2 / 3)
    assert set(third.said) == {("said advice", 2), ("said message", 2)}
    machine = pages.exercise_summary("1.10", everyone)
    assert (machine.mean, machine.graded) == (None, 0)
    assert [reason for reason in map(str, noticed(everyone[0], False)) if "1.10" in reason and "--rerun" in reason]


def test_the_histogram_counts_everybody_once():
    bars = pages.Histogram("", 10.0, [0, 0.9, 1, 5, 9.9, 10, 10]).bars
    assert [count for *_, count in bars] == [2, 1, 0, 0, 0, 1, 0, 0, 0, 3]
    assert (bars[0][:2], bars[-1][:2]) == ((0, 1), (9, 10))
    assert sum(count for *_, count in pages.Histogram("", 0.0, [0.0]).bars) == 1


def test_the_histogram_says_which_points_it_shows():
    marked, unmarked = submission("ada"), submission("bob")
    for record in (marked, unmarked):
        del record.exercises["1.10"]
    marks = {("ada", "1.11"): Mark(3.0)}
    half = pages.histogram(entries([marked, unmarked], {}, marks))
    assert "programmed" in half.title
    assert (half.possible, list(half.points)) == (18.0, [3.0, 3.0])
    whole = pages.histogram(entries([marked], {}, marks))
    assert (whole.title, whole.possible, list(whole.points)) == ("Totals", 21.0, [6.0])


def test_the_instructor_sees_who_needs_an_eye():
    quiet, loud = submission("quiet"), submission("loud")
    quiet.problem, quiet.exercises, quiet.written = "", {"1.1": Result("correct", 2.0, 2.0)}, {}
    loud.isolation = "unsandboxed"
    loud.exercises = {"1.1": loud.exercises["1.1"]}
    everyone = entries([quiet, loud], {}, {})
    assert noticed(everyone[0], False) == []
    assert [str(concern) for concern in noticed(everyone[1], False)] == [
        "said",
        "1.1: skipped `said flag` ()",
        "graded unsandboxed",
    ]
    page = Page(pages.instructor_page(everyone, {"zoe": Student("Zoe", file="z.ipynb")}, []))
    assert "Zoe (zoe)" in page.words
    assert "Named in students.csv, but not graded" in page.text
    assert any(name == "aria-label" and value.startswith("Histogram") for name, value in page.attributes)


def test_a_run_without_isolation_is_stamped_on_every_row():
    record = submission()
    record.isolation = "unsandboxed"
    everyone = entries([record], {}, {})
    text = pages.instructor_page(everyone, {}, [])
    assert "Graded unsandboxed" in text
    students = text.split("<h2>Students</h2>")[1]
    assert all("unsandboxed" in row for row in re.findall(r"(?s)<tr>(.*?)</tr>", students)[1:])


HIDDEN = ["\u202e", "\u2066", "\u200b", "\u200e", "\u061c", "\u00ad", "\ufeff", "\u2060", "\u180e", "\u2028", "\u3164"]
HIDDEN += ["\u2800", "\u034f", "\x1b", "\x00", "\x85", "\r", "\U000e0041"]


@pytest.mark.parametrize("hidden", HIDDEN)
def test_what_cannot_be_seen_is_spelt_out_on_every_page(hidden):
    record = submission()
    record.exercises["1.1"].source = f"x = 1  # a{hidden}b"
    record.exercises["1.2"].printed = record.written["1.11"].text = record.file = f"a{hidden}b"
    (entry,) = entries([record], {"ada": Student(f"Ada{hidden}B")}, {})
    spelt = f"⟨U+{ord(hidden):04X}⟩"
    for page in (
        pages.feedback_page(entry),
        pages.instructor_page([entry], {}, []),
        marking_page("1.11", [entry], Task(question=hidden)),
    ):
        assert hidden not in page
        assert f"Ada{spelt}B" in page
    assert pages.feedback_page(entry).count(spelt) >= 4


@pytest.mark.parametrize(
    "text",
    [
        "two\nlines\tand a tab",
        "crlf\r\nend",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian, with its own joiner
        "\U0001f469\u200d\U0001f4bb",  # one emoji of two
        "naïve – “quoted” … ½ ✓ a\u00a0b",
    ],
)
def test_what_belongs_to_a_text_stays_as_it_is(text):
    assert visible(text) == text


@pytest.mark.parametrize("flag", [Flag("several cells", ("3", "kl_bits")), Flag("course's own", ("x",))])
def test_who_has_several_cells_is_told_which_was_graded(flag):
    text = only(Result("correct", 2.0, 2.0, "def kl_bits(): ...", flags=[flag])).text
    said = "3 cells of your notebook define kl_bits; the one shown here was graded." in text
    assert said == (flag.kind == "several cells")


def test_the_pictures_of_a_written_answer_are_shown():
    record = submission()
    record.written["1.11"] = Written("see [picture 1]", 3.0, ["data:image/png;base64,iVBO", "javascript:alert(1)"])
    page = page_of(record)
    assert [value for name, value in page.attributes if name == "src"] == ["data:image/png;base64,iVBO"]

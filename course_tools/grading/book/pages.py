"""The pages of a gradebook: one for each student, one for the instructor.

All text of students goes through jinja2's escaping; the pages hold no script, and forbid any.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import mean, median
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from course_tools.grading.book.beside import OURS
from course_tools.grading.book.concerns import groups
from course_tools.grading.book.entries import Entry, mixed
from course_tools.grading.book.records import STATUSES, Call, Result, Written
from course_tools.grading.book.similarity import EVIDENCE, LIKENESS, Pair
from course_tools.grading.book.tables import counted, number, plural
from course_tools.grading.book.wording import came_back, is_of_a_name, message_of, unknown_name
from course_tools.grading.book.written import Mark, shown, version
from course_tools.grading.hand_in.roster import Student
from course_tools.grading.visible import visible

SIGNS = {
    "correct": "✓",
    "partial": "◐",
    "wrong": "✗",
    "error": "!",
    "timeout": "…",
    "memory": "▲",
    "kernel died": "†",
    "not attempted": "○",
    "missing": "∅",
    "infrastructure": "?",
}
KINDS = {"correct": "good", "partial": "part", "not attempted": "none", "missing": "none", "infrastructure": "ours"}
MEANINGS = {
    "correct": "Every call gave what was expected.",
    "partial": "Some of the calls gave what was expected, and earned their share of a third of the points; all are for "
    "an answer that passes every call. Start with the first row marked ✗.",
    "wrong": "The calls ran, but none gave what was expected. Start with the first row: compare what came back "
    "with what was expected.",
    "error": "Your code stopped with an error. Restart the kernel, run all cells from the top, and call your function "
    "on the arguments shown here.",
    "timeout": "Your code was still running when its time was up, and was stopped. Calls that had passed by then "
    "count. Look for a loop that never ends, or one over single numbers where one tensor operation would do.",
    "memory": "Your code asked for more memory than a submission may have, and was stopped. Calls that had passed by "
    "then count. Look for a tensor that has more dimensions, or longer ones, than you meant.",
    "kernel died": "The process that ran your code ended in the middle. Calls that had passed by then count. Look for "
    "exit() and the like, or for a recursion that never ends.",
    "not attempted": "The cell is as the lecture gave it to you, so there was nothing to grade. If you did write an "
    "answer: was it saved before you handed the notebook in?",
    "missing": "No answer to this exercise was found in what you handed in. Was the cell deleted, or its function "
    "renamed?",
    "infrastructure": "The grading machine failed here, not your code. There are no points for this exercise yet; it "
    "will be graded again, and you need not do anything.",
}
UNDEFINED = (
    "Your cell ran, but no function of the name that the exercise asks for was there at its end. Keep the name and the "
    "arguments that the lecture gave to it."
)
NAMELESS = (
    "Your code uses a name that nothing defined. An answer may use what the lecture's set-up imports, the functions of "
    "other exercises, and every function, class, import or cheap constant that some cell of the notebook defines at "
    "its top level, but nothing that a training made: look for a slip, or put what is missing into this cell."
)
CODE_LIMIT = 20_000  # characters of an answer that a page shows
PAIRS_SHOWN = 50
BINS = 10


def cut(text: str, limit: int = CODE_LIMIT) -> str:
    """Return the head of a text, and how much is left out."""
    return text if len(text) <= limit else f"{text[:limit]}\n… ({len(text) - limit:,} more characters left out)"


@lru_cache(maxsize=4096)
def highlight(source: str) -> Markup:
    """Return Python code as HTML, its tokens marked by class; plain where pygments is not installed."""
    try:
        from pygments import highlight as mark
        from pygments.formatters import HtmlFormatter
        from pygments.lexers import PythonLexer
    except ModuleNotFoundError:
        return escape(cut(source))
    return Markup(mark(cut(source), PythonLexer(stripnl=False), HtmlFormatter(nowrap=True)))  # it escapes


def hint_of(result: Result) -> str:
    """Return the hint for a student whose idea was not right, unless the advice on a call says it already."""
    said = any(result.hint in call.advice for call in result.calls)
    return result.hint if result.status in ("partial", "wrong") and not said and not unknown_name(result) else ""


def meaning_of(result: Result) -> str:
    """Return what a status means for the student; of an error of names, what is to be done about the name."""
    if result.status == "error" and result.cause == "undefined":
        return UNDEFINED
    return NAMELESS if result.status == "error" and unknown_name(result) else MEANINGS[result.status]


@dataclass(frozen=True)
class Row:
    """One call as the student's page shows it; what an earlier row said is not repeated."""

    call: Call
    got: str
    advice: str
    again: bool


def which_cell(result: Result) -> str:
    """Return, for the student, that several cells define the function and which was graded; else nothing."""
    found = next((flag.words for flag in result.flags if flag.kind == "several cells"), None)
    return "{} cells of your notebook define {}; the one shown here was graded.".format(*found) if found else ""


def rows_of(result: Result) -> list[Row]:
    """Return the rows of an exercise's calls."""
    rows, said = [], {meaning_of(result)}
    for call in result.calls:
        got, advice = came_back(call), NAMELESS if is_of_a_name(call.error) else call.advice
        advice = "" if call.passed else advice
        again = call.error is not None and got in said
        rows.append(Row(call, "the same error" if again else got, "" if advice in said else advice, again))
        said |= {got, advice}
    return rows


def pictures(answer: Written) -> list[str]:
    """Return the pictures of a written answer that a page may show, as data URIs."""
    allowed = r"data:image/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/=\s]*"
    return [picture for picture in answer.pictures if re.fullmatch(allowed, picture)]


def feedback_link(key: str) -> str:
    """Return the address of a student's page as the instructor's page links to it."""
    return quote(f"feedback/{key}.html")


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Return jinja2 with the templates, escaping on, and what they call."""
    folder = Path(__file__).with_name("templates")
    options = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True, "undefined": StrictUndefined}
    options["finalize"] = lambda value: visible(value) if isinstance(value, str) else value
    env = Environment(loader=FileSystemLoader(folder), **options)
    env.filters |= {"points": number, "code": highlight, "cut": cut, "link": feedback_link}
    env.filters |= {"counted": counted, "plural": lambda count, noun: plural(noun, count)}
    env.filters |= {"pictures": pictures, "version": version}
    env.filters["sentence"] = lambda text: text[:1].upper() + text[1:]  # "NameError" stays as it is
    env.globals |= {
        "SIGNS": SIGNS,
        "kind": lambda status: KINDS.get(status, "bad"),
        "hint_of": hint_of,
        "meaning_of": meaning_of,
        "message_of": message_of,
        "rows_of": rows_of,
        "shown": shown,
        "which_cell": which_cell,
    }
    return env


def render(template: str, **values) -> str:
    """Return a page."""
    return environment().get_template(template).render(**values)


def feedback_page(entry: Entry) -> str:
    """Return a student's page: each exercise with code, calls, advice; the written answers with points and comments."""
    still_open = [reason.why for reason in entry.open]  # what to do about it is the instructor's
    values = {"entry": entry, "record": entry.record, "still_open": still_open}
    return render("feedback.html", **values, unmarked=Mark(None))


# The instructor's page -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ExerciseSummary:
    """How a class did on one exercise. `said`: the commonest (advice or message, number of students)."""

    id: str
    possible: float
    mean: float | None
    counts: Mapping[str, int]
    said: Sequence[tuple[str, int]]

    @property
    def graded(self) -> int:
        return sum(self.counts.values()) - self.counts.get("infrastructure", 0)

    @property
    def failed(self) -> float:
        """The share of those graded whose answer was not correct."""
        return 1 - self.counts.get("correct", 0) / self.graded if self.graded else 0.0


def said_of(result: Result) -> set[str]:
    """Return what a student was told about an exercise: advice on failed calls, and the message's first line."""
    failed = [call for call in result.calls if not call.passed]
    advice = {call.advice for call in failed if not is_of_a_name(call.error)}
    advice |= {message_of(result) or unknown_name(result)}
    return {text.strip().splitlines()[0][:200] for text in advice if text.strip()}


def exercise_summary(id: str, everyone: Sequence[Entry]) -> ExerciseSummary:
    """Return how the class did on a programmed exercise."""
    results = [entry.record.exercises[id] for entry in everyone if id in entry.record.exercises]
    points = [p for entry in everyone if (p := entry.points.get(id)) is not None]
    counted = Counter(result.status for result in results)
    counts = {status: counted[status] for status in STATUSES if counted[status]}
    said = Counter(text for result in results for text in sorted(said_of(result))).most_common(3)
    return ExerciseSummary(id, everyone[0].tasks[id], mean(points) if points else None, counts, said)


@dataclass(frozen=True)
class Histogram:
    """Numbers of students in equal bins from 0 to `possible` points, and what those points are."""

    title: str
    possible: float
    points: Sequence[float]

    @property
    def bars(self) -> list[tuple[float, float, int]]:
        """(from, to, students) of each bin; the last one has its upper end."""
        width = self.possible / BINS or 1.0
        bins = Counter(min(int(p / width + 1e-9), BINS - 1) for p in self.points)
        return [(i * width, (i + 1) * width, bins[i]) for i in range(BINS)]

    @property
    def summary(self) -> str:
        """Mean and median in words."""
        if not self.points:
            return "nobody has all points yet"
        middle = f"mean {number(mean(self.points))}, median {number(median(self.points))}"
        return f"{middle} of {counted(self.possible, 'point')}, {counted(len(self.points), 'student')}"


def histogram(everyone: Sequence[Entry]) -> Histogram:
    """Return the class's totals; of the programmed exercises only while written answers wait to be marked."""
    totals = [entry.total for entry in everyone if entry.total is not None]
    programmed = [p for entry in everyone if (p := entry.sum(entry.tasks)) is not None]
    if len(totals) == len(programmed):
        return Histogram("Totals", everyone[0].possible, totals)
    title = "Points of the programmed exercises (written answers are not all marked yet)"
    return Histogram(title, float(sum(everyone[0].tasks.values())), programmed)


def instructor_page(everyone: Sequence[Entry], absent: Mapping[str, Student], pairs: Sequence[Pair]) -> str:
    """Return the class on one page: points, exercises, submissions that need an eye, pairs of similar answers."""
    all_unsandboxed = all(entry.record.isolation == "unsandboxed" for entry in everyone)
    listed = groups(everyone, absent, all_unsandboxed)
    ours = [pair for pair in pairs if pair.students[1].startswith(OURS)]
    theirs = [pair for pair in pairs if not pair.students[1].startswith(OURS)]
    return render(
        "instructor.html",
        everyone=everyone,
        lecture=everyone[0].record.lecture,
        histogram=histogram(everyone),
        exercises=[exercise_summary(id, everyone) for id in everyone[0].tasks],
        unmarked=sum(1 for e in everyone for id in e.questions if id in e.record.written and e.points[id] is None),
        groups=listed,
        eye=sum(1 if group.folded else len(group.rows) for group in listed if not group.quiet),
        corrected=[(entry, id, made) for entry in everyone for id, made in entry.corrections.items()],
        mixed=mixed(everyone),
        all_unsandboxed=all_unsandboxed,
        isolations=sorted({entry.record.isolation for entry in everyone}),
        labels={entry.key: entry.label for entry in everyone},
        pairs=theirs[:PAIRS_SHOWN],
        pairs_left_out=len(theirs[PAIRS_SHOWN:]),
        like_ours=ours[:PAIRS_SHOWN],
        like_ours_left_out=len(ours[PAIRS_SHOWN:]),
        thresholds=(LIKENESS, EVIDENCE),
    )

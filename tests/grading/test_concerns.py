"""Which submissions a person should look at, and why, in few words."""

import pytest

from course_tools.grading.book.concerns import concerns
from course_tools.grading.book.corrections import Correction
from course_tools.grading.book.entries import entries
from course_tools.grading.book.records import Call, Error, Record, Result, Written
from course_tools.grading.book.wording import unknown_name
from course_tools.grading.book.written import Mark
from course_tools.grading.hand_in.roster import Student

UNKNOWN = Error("NameError", "name 'np' is not defined", "return np.log(p)", "np")
WRONG = Error("TypeError", "no NameError: name 'x' is not defined here")


def submission(*results: Result, answer: str | None = "", **fields) -> Record:
    """A submission with these results as 1.1, 1.2, …, and a written answer, 1.9."""
    exercises = {f"1.{i}": result for i, result in enumerate(results, 1)}
    record = Record("ada", "01_kl_and_elbo", "ada.ipynb", "", 0, "bubblewrap", exercises=exercises, **fields)
    record.written["1.9"] = Written(answer, 3.0)
    return record


def result(status: str, raised: Error | None = None, flags: list[str] | None = None, **fields) -> Result:
    """A result of three points; with one failed call, if that raised something."""
    points = {"correct": 3.0, "infrastructure": None}.get(status, 0.0)
    calls = [Call("case", "f(p)", None, "1", False, "log 0 is not 0", raised)] if raised else []
    return Result(status, points, 3.0, flags=flags or [], calls=calls, **fields)


def why(record: Record, student: Student | None = None, marks=None, corrections=None) -> list[str]:
    """The reasons to look at a submission."""
    (entry,) = entries([record], {"ada": student or Student()}, marks or {}, corrections or {})
    return concerns(entry, False)


def test_an_ordinary_submission_needs_no_eye():
    assert why(submission(result("correct"), result("wrong"), result("not attempted"), answer="Because.")) == []


@pytest.mark.parametrize("status", ["timeout", "memory", "kernel died"])
def test_what_was_stopped_is_named_with_its_exercises(status):
    assert why(submission(result(status), result("correct"), result(status))) == [f"1.1, 1.3: {status}"]


def test_nothing_attempted_is_said_once_and_not_of_a_file_that_cannot_be_read():
    nothing = [result("not attempted"), result("missing")]
    (line,) = why(submission(*nothing))
    assert line.startswith("nothing attempted")
    assert why(submission(*nothing, problem="the file is empty")) == ["the file is empty"]
    assert why(submission(*nothing, result("wrong"))) == []


def test_a_written_answer_that_was_not_found_is_named_until_it_is_marked():
    lost = submission(result("correct"), answer=None)
    assert why(lost) == ["no cell for 1.9 found: look into the file"]
    assert why(lost, marks={("ada", "1.9"): Mark(0.0)}) == []
    assert why(lost, marks={("ada", "1.9"): Mark(None, "where is it?")}) != []


@pytest.mark.parametrize(
    ("late", "line"), [("yes", ["late"]), ("no", []), ("", []), ("2 days", ["late: 2 days"]), ("No", [])]
)
def test_late_submissions_are_named(late, line):
    assert why(submission(result("correct")), Student(late=late)) == line


def test_a_submission_that_is_gone_is_named():
    (line,) = why(submission(result("correct"), gone=True))
    assert "no longer there" in line


def test_names_that_nothing_defined_are_named():
    undefined = result("error", cause="undefined", names=["kl_table"])
    other = result("error", cause="undefined", names=["elbo"])
    assert why(submission(undefined, other, result("correct"))) == [
        "1.1, 1.2: no function of the exercise's name is defined"
    ]
    unknown = [result("error", UNKNOWN), result("partial", cause="raised", error=UNKNOWN)]
    assert why(submission(*unknown)) == ["all exercises: NameError: name 'np' is not defined"]
    assert why(submission(result("error", WRONG, cause="raised", error=WRONG))) == []


def test_what_was_corrected_by_hand_has_been_looked_at():
    record = submission(result("timeout"), result("infrastructure"), result("correct", flags=["uses x"]))
    (broken,) = [line for line in why(record) if "--rerun" in line]
    assert "1.2" in broken
    made = {("ada", "1.1"): Correction(1.0), ("ada", "1.2"): Correction(3.0)}
    assert why(record, corrections=made) == ["1.3: uses x"]


def test_errors_of_names_are_told_from_others():
    assert unknown_name(result("error", UNKNOWN)) == "NameError: name 'np' is not defined"
    assert unknown_name(result("error", Error("NameError", "mine"))) == "NameError"
    assert unknown_name(result("error", WRONG)) == ""
    assert unknown_name(Result("correct", 3.0, 3.0, calls=[Call("", "", "1", "1", True)])) == ""
    lying = Error("TypeError", "Your cell defines no function `f`.")
    assert why(submission(result("error", lying, cause="raised", error=lying))) == []

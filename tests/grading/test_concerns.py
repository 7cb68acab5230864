"""Which submissions a person should look at, and why, in few words."""

import re
from pathlib import Path

import pytest

from course_tools.grading.book import concerns
from course_tools.grading.book.concerns import NOTHING, groups, noticed
from course_tools.grading.book.corrections import Correction
from course_tools.grading.book.entries import Entry, entries
from course_tools.grading.book.records import STOPPED, Call, Error, Record, Result, Written
from course_tools.grading.book.wording import FLAGS, flagged, unknown_name
from course_tools.grading.book.written import Mark
from course_tools.grading.hand_in.roster import Student
from course_tools.grading.hand_in.submission import STILL_OPEN, Flag

UNKNOWN = Error("NameError", "name 'np' is not defined", "return np.log(p)", "np")
WRONG = Error("TypeError", "no NameError: name 'x' is not defined here")


def submission(*results: Result, answer: str | None = "", **fields) -> Record:
    """A submission with these results as 1.1, 1.2, …, and a written answer, 1.9."""
    exercises = {f"1.{i}": result for i, result in enumerate(results, 1)}
    record = Record("ada", "01_kl_and_elbo", "ada.ipynb", "", 0, "bubblewrap", exercises=exercises, **fields)
    record.written["1.9"] = Written(answer, 3.0)
    return record


def result(status: str, raised: Error | None = None, flags: list[Flag] | None = None, **fields) -> Result:
    """A result of three points; with one failed call, if that raised something."""
    points = {"correct": 3.0, "infrastructure": None}.get(status, 0.0)
    calls = [Call("case", "f(p)", None, "1", False, "log 0 is not 0", raised)] if raised else []
    return Result(status, points, 3.0, flags=flags or [], calls=calls, **fields)


def why(record: Record, student: Student | None = None, marks=None, corrections=None) -> list[str]:
    """The reasons to look at a submission."""
    (entry,) = entries([record], {"ada": student or Student()}, marks or {}, corrections or {})
    return [str(concern) for concern in noticed(entry, False) if not concern.quiet]


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
    assert why(submission(*nothing, result("wrong"))) == ["1.2: no cell with the exercise was found"]


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
    (line,) = why(submission(result("error", WRONG, cause="raised", error=WRONG)))
    assert line.startswith("1.1: the cell itself stopped: TypeError: no NameError")


@pytest.mark.parametrize(
    "error",
    [
        Error("ModuleNotFoundError", "No module named 'wandb'"),
        Error("ImportError", "Cannot load backend 'qtagg' which requires the 'qt' interactive framework"),
        Error("UsageError", "Line magic function `%load_ext` not found."),
        Error("AssertionError", "Torch not compiled with CUDA enabled"),
        Error("RuntimeError", "Found no NVIDIA driver on your system."),
        Error("FileNotFoundError", "[Errno 2] No such file or directory: 'mine.csv'"),
        Error("URLError", "<urlopen error [Errno -3] Temporary failure in name resolution>"),
        Error("TclError", "no display name and no $DISPLAY environment variable"),
        Error("BackendCompilerFailed", "backend='inductor' raised"),
        Error("AttributeError", "module 'torch' has no attribute 'xlog2y'"),
        Error("OSError", "[Errno 30] Read-only file system: 'a.pt'"),
    ],
)
@pytest.mark.parametrize("where", ["cell", "call"])
def test_what_only_the_students_machine_had_is_named(error, where):
    raised = {"cause": "raised", "error": error} if where == "cell" else {"raised": error}
    (entry,) = entries([submission(result("error", **raised), result("correct"))], {}, {})
    (concern,) = noticed(entry, False)
    assert concern.reason == "something that is not there where it is graded"
    assert str(concern) == f"1.1: {error.type}: {error.text}"
    assert concern.lost == 3.0


def test_every_zero_of_the_students_own_code_has_a_line():
    faults = [
        result("wrong", raised=None),
        result("error", WRONG),
        result("error", UNKNOWN),
        result("error", cause="silent"),
        result("error", cause="undefined", names=["f"]),
        result("error", cause="raised", error=Error("SyntaxError", "invalid syntax")),
        result("missing"),
        *map(result, STOPPED),
    ]
    for fault in faults:
        fault.source = "def f(): ..."
        (entry,) = entries([submission(fault, result("correct"))], {}, {})
        (group,) = groups([entry], {}, False)
        assert (group.rows[0].key, group.lost) == ("ada", 3.0), fault


def class_of(count: int, *results: Result, name: str = "s") -> list[Entry]:
    """So many students, all with these results."""
    records = [submission(*results) for _ in range(count)]
    for i, record in enumerate(records):
        record.student = f"{name}{i:03}"
    return entries(records, {}, {})


def test_a_reason_of_very_many_is_one_folded_line_and_hides_no_other():
    flagged = class_of(58, result("correct", flags=[Flag("course's own", ("divergences.kl_table",))]), name="f")
    stopped = class_of(5, result("timeout"), name="t")
    found = groups([*flagged, *stopped], {}, False)
    assert [(group.reason, len(group.rows), group.folded) for group in found] == [
        ("timeout", 5, False),
        ("uses the course's own functions", 58, True),
    ]
    assert [group.stake for group in found] == [
        "15 points may be missing",
        "174 points depend on it",
    ]


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ((Flag("several cells", ("2", "kl_bits")), Flag("several cells", ("3", "elbo"))), "several cells define "),
        ((Flag("course's own", ("divergences.kl_table",)), Flag("course's own", ("vae.relax",))), "uses the course's"),
        ((Flag("skipped", ("import wandb", "ModuleNotFoundError")), Flag("more skipped", ("3",))), "statements were "),
        ((Flag("lent", ("root",)), Flag("lent", ("LOG2, np",))), "needs other cells of the notebook"),
        ((Flag("meant for it", ("a",)), Flag("meant for it", ("b_2",))), "left open, but another function "),
        ((Flag("own module", ("mine",)), Flag("own module", ("utils",))), "imports ….py, which was beside the "),
        ((Flag("ran after", ("1.3",)), Flag("ran after", ("1.10",))), "ran after the course's answer to …"),
        ((STILL_OPEN,), "the open exercise's own error still stands in it, beside code of the student's"),
    ],
)
def test_the_same_flag_of_different_answers_is_one_reason(flags, reason):
    everyone = [
        entry for i, flag in enumerate(flags) for entry in class_of(2, result("wrong", flags=[flag]), name=f"{i}")
    ]
    (group,) = (group for group in groups(everyone, {}, False) if not group.quiet)
    assert {row.why for row in group.rows} == {f"1.1: {flagged(flag)}" for flag in flags}
    assert group.reason.startswith(reason)


def test_every_kind_of_flag_has_a_text():
    package = Path(concerns.__file__).parents[1]
    sources = "".join(path.read_text("utf-8") for path in package.rglob("*.py"))
    assert set(re.findall(r'\bFlag\("([^"]+)"', sources)) == set(FLAGS) >= set(concerns.MERE)


def test_what_explains_an_error_stands_beside_it_and_not_in_a_list_of_its_own():
    flags = [Flag("skipped", ("import numpy as np", "ModuleNotFoundError")), Flag("lent", ("f",))]
    explained = ["skipped `import numpy as np` (ModuleNotFoundError)", "needs other cells of the notebook, for f"]
    record = submission(result("error", UNKNOWN, flags=[*flags, Flag("course's own", ("x",))]), result("correct"))
    assert why(record) == [
        f"1.1: NameError: name 'np' is not defined; {'; '.join(explained)}",
        "1.1: calls the course's own x",
    ]
    silent = result("wrong", flags=flags[:1])
    silent.source = "def f(): ..."
    assert why(submission(silent, result("correct"))) == [f"1.1: {explained[0]}"]
    same = [result("error", UNKNOWN, flags=flags[:1]), result("error", UNKNOWN)]
    assert len(why(submission(*same))) == 2


def test_the_most_points_at_stake_come_first_and_what_is_quiet_last():
    wrong = result("wrong")
    wrong.source = "def f(): ..."
    small = class_of(1, result("timeout"), result("correct"), name="small")
    large = class_of(1, result("error", UNKNOWN), result("error", UNKNOWN), name="large")
    quiet = class_of(40, wrong, wrong, name="quiet")
    more = class_of(1, result("timeout"), result("timeout"), name="more")
    found = groups([*quiet, *small, *large, *more], {"zoe": Student("Zoe")}, False)
    assert [group.reason for group in found] == [
        "timeout",
        "a name that nothing defined",
        "nothing was handed in",
        NOTHING,
    ]
    assert [row.label for row in found[0].rows] == ["more000", "small000"]
    assert found[-1].folded and len(found[-1].rows) == 40


def test_what_was_corrected_by_hand_has_been_looked_at():
    own = Flag("course's own", ("x",))
    record = submission(result("timeout"), result("infrastructure"), result("correct", flags=[own]))
    (broken,) = [line for line in why(record) if "--rerun" in line]
    assert "1.2" in broken
    made = {("ada", "1.1"): Correction(1.0), ("ada", "1.2"): Correction(3.0)}
    assert why(record, corrections=made) == ["1.3: calls the course's own x"]


def test_errors_of_names_are_told_from_others():
    assert unknown_name(result("error", UNKNOWN)) == "NameError: name 'np' is not defined"
    assert unknown_name(result("error", Error("NameError", "mine"))) == "NameError"
    assert unknown_name(result("error", WRONG)) == ""
    assert unknown_name(Result("correct", 3.0, 3.0, calls=[Call("", "", "1", "1", True)])) == ""
    lying = Error("TypeError", "Your cell defines no function `f`.")
    (entry,) = entries([submission(result("error", lying, cause="raised", error=lying))], {}, {})
    assert [concern.reason for concern in noticed(entry, False)] == ["the cell itself stopped"]


def test_what_could_not_be_taken_of_a_submission_is_named_beside_its_grade():
    student = Student("Ada", more={"problem": "a later version can't be graded: final.pdf"})
    assert why(submission(result("correct")), student) == ["a later version can't be graded: final.pdf"]
    (group,) = groups(class_of(1, result("correct")), {"zoe": Student("Zoe", more={"problem": "a PDF"})}, False)
    assert (group.reason, group.rows[0].why) == ("named in students.csv, but not graded", "a PDF")


def test_files_beside_a_notebook_are_named_where_something_earned_nothing():
    student = Student("Ada", more={"beside": "answers.pdf"})
    assert why(submission(result("correct"), answer="Because."), student) == []
    assert why(submission(result("correct")), student, marks={("ada", "1.9"): Mark(0.0)}) == []
    assert why(submission(result("wrong"), beside=["scan.jpg"])) == ["scan.jpg"]  # without a table of students
    (entry,) = entries([submission(result("correct"), result("not attempted"))], {"ada": student}, {})
    (concern,) = noticed(entry, False)
    assert (str(concern), concern.lost) == ("answers.pdf", 6.0)

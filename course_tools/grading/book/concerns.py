"""Why a person should look at a submission before its grade goes out."""

from collections.abc import Iterator

from course_tools.grading.book.entries import Entry, flags_of, together
from course_tools.grading.book.records import STOPPED, Result
from course_tools.grading.book.wording import unknown_name
from course_tools.grading.book.written import not_found

UNTOUCHED = ("not attempted", "missing")


def trouble(result: Result) -> str:
    """Return what may be no fault of the idea: a run that was stopped, a name that nothing defined. Else nothing."""
    if result.status in STOPPED:
        return result.status
    if result.status == "correct":
        return ""
    return "no function of the exercise's name is defined" if result.cause == "undefined" else unknown_name(result)


def lateness(late: str) -> list[str]:
    """Return that a submission came late, if students.csv says so."""
    said = late.lower()
    return [] if said in ("", "no", "false", "0") else ["late" if said in ("yes", "true", "1") else f"late: {late}"]


def whole(entry: Entry) -> Iterator[str]:
    """Yield what is to be said of the whole submission: its file, its written answers."""
    record, results = entry.record, entry.record.exercises.values()
    if record.gone:
        yield "the submission is no longer there: this is the grade of an earlier run"
    if record.problem:
        yield record.problem
    elif results and all(result.status in UNTOUCHED for result in results):
        yield "nothing attempted: perhaps it was not saved before it was handed in"
    if not record.problem:
        yield from (str(not_found(id)) for id in entry.questions if entry.lost(id))
    if changed := [id for id, mark in entry.marks.items() if mark.changed]:
        yield f"{', '.join(changed)} changed after it was marked"


def concerns(entry: Entry, all_unsandboxed: bool) -> list[str]:
    """Return why a person should look at a submission; what was corrected by hand has been looked at."""
    record = entry.record
    broken = [id for id in entry.tasks if entry.points.get(id) is None]
    seen = {id: result for id, result in record.exercises.items() if id not in entry.corrections}
    lines = [*lateness(entry.student.late), *whole(entry)]
    lines += [f"no points for {', '.join(broken)}: run `course grade … --rerun failed`"] if broken else []
    lines += together(((id, text) for id, result in seen.items() if (text := trouble(result))), record.exercises)
    lines += flags_of(record)
    return [*lines, *(["graded unsandboxed"] if record.isolation == "unsandboxed" and not all_unsandboxed else [])]

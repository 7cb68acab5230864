"""What `course grade` does, from a folder of submissions to tables and pages, and what it says of it."""

from pathlib import Path
from typing import NamedTuple

from course_tools.grading.book import gradebook
from course_tools.grading.book.tables import counted
from course_tools.grading.hand_in.folder import handout
from course_tools.grading.judge.engines import Limits
from course_tools.grading.judge.grade import Change, Options, grade_all, incomplete, locked, note_gone, write_changes
from course_utils.errors import listed

MANY = 30  # changed grades that are still printed


class Outcome(NamedTuple):
    """What to print after a run, and whether every exercise of every student has a grade."""

    lines: list[str]
    complete: bool


def changes_in_lines(changed: list[Change], out: Path) -> list[str]:
    """Return a line for each changed grade, of very many only for the first."""
    lines = [f"changed: {student} {id} {before} -> {after}" for student, id, before, after in changed[:MANY]]
    more = len(changed) - MANY
    return lines + ([f"and {counted(more, 'more changed grade')}: {out / 'changes.csv'}"] if more > 0 else [])


def grade_folder(
    submissions: Path,
    lecture: str,
    out: Path,
    options: Options,
    jobs: int,
    engine: str | None = None,
    limits: Limits | None = None,
    scheduler: str | None = None,
) -> Outcome:
    """Grade a folder of submissions into `out`, list what changed, make tables and pages.

    The arguments are those of ``grade_all``, and so is what it raises; a mistake in a table is told before the work.
    """
    students = submissions / "students.csv"
    given = students if students.exists() else None
    gradebook.check(out, given)
    found, changed, failed = grade_all(submissions, lecture, out, options, jobs, engine, limits, scheduler)
    lines = [f"NOT GRADED {student}: {why}" for student, why in failed.items()]
    lines += changes_in_lines(changed, out)
    write_changes(out, changed)
    if found:
        with locked(out):
            gone = note_gone(submissions, out, handout(lecture))
            gradebook.publish(out, given)
        if gone:
            older = f"no submission any more, and still in the gradebook with an older grade: {listed(gone)}"
            lines.append(f"{older} (to drop one, delete {out / 'results'}/STUDENT.json)")
    without = incomplete(found)
    if without:
        lines.append(
            f"Without a grade, by a failure of the infrastructure: {', '.join(without)}; grade again for these."
        )
    stamp = "" if options.sandboxed else " UNSANDBOXED: the code ran with all rights of its user."
    counts = f"{counted(len(found), 'submission')}, {counted(len(changed), 'grade')} changed."
    lines.append(f"{counts} Begin with {out / 'instructor.html'}.{stamp}")
    return Outcome(lines, not failed and not without)

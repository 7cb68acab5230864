"""Late submissions: when they were due, what lateness costs, and who has more time.

When a submission came is the column ``handed_in`` of students.csv, who has more time the column ``extension``: another
due date, or a time such as "2 days". Where it isn't known when a submission came, or the platform and the clock
disagree, nothing is taken off, and a person is asked to look.
"""

import math
import re
from dataclasses import dataclass
from datetime import datetime, time, timedelta

from course_tools.grading.book.tables import counted, number
from course_tools.grading.hand_in.roster import Student
from course_utils.errors import require

UNITS = {"min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
UNKNOWN = "handed in at an unknown time: nothing was taken off"
UNKNOWN_LATE = "late, but it is not known by how much: nothing was taken off"
DISAGREE = "late by the clock, in time by the platform: nothing was taken off"


@dataclass(frozen=True)
class Policy:
    """When submissions are due, and what each day begun costs, in per cent of the points that are possible."""

    due: datetime
    per_day: float
    most: float = 100.0


@dataclass(frozen=True)
class Lateness:
    """How late a submission is and what that costs; `doubt` says why a person should look, `known` that nobody need."""

    days: int = 0  # begun
    points: float = 0.0
    doubt: str = ""
    known: bool = False

    def __str__(self) -> str:
        return f"{counted(self.days, 'day')} late: {number(self.points)} taken off" if self.days else ""


def moment(text: str, where: str) -> datetime:
    """Return a time of ISO 8601; a day alone is its end, without a zone it is this machine's. Raises ``ValueError``."""
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{where}: {text!r} is no time such as 2026-11-30T23:59 or 2026-11-30") from None
    if re.fullmatch(r"\d{4}-?\d\d-?\d\d", text):
        value = datetime.combine(value.date(), time(23, 59, 59))
    return value.astimezone()


def policy_of(due: str, per_day: float, most: float) -> Policy:
    """Return the policy of a command line. Raises ``ValueError`` for what makes no sense."""
    require(0 <= per_day <= 100, f"--penalty {per_day:g}: per cent of the possible points a day, 0 to 100")
    require(0 <= most <= 100, f"--at-most {most:g}: per cent of the possible points, 0 to 100")
    return Policy(moment(due, "--due"), per_day, most)


def extended(due: datetime, extension: str, where: str) -> datetime:
    """Return until when a student has time. Raises ``ValueError`` naming `where` for an extension in no known form."""
    if not extension:
        return due
    match = re.fullmatch(r"\+?(\d+(?:[.,]\d+)?)\s*(min|h|d|w)[a-z]*", extension.strip().lower())
    if match:
        return due + timedelta(**{UNITS[match[2]]: float(match[1].replace(",", "."))})
    try:
        until = moment(extension.strip(), where)
    except ValueError:
        raise ValueError(
            f"{where}, column extension: {extension!r} is neither a time nor such as 2 days, 48 h"
        ) from None
    require(until >= due, f"{where}, column extension: {extension} is before the due date, {due:%Y-%m-%d %H:%M}")
    return until


def lateness_of(student: Student, policy: Policy | None, possible: float, where: str) -> Lateness:
    """Return how late a student's submission is. Raises ``ValueError`` naming `where` for a time in no known form."""
    if policy is None:
        return Lateness()
    until = extended(policy.due, student.more.get("extension", ""), where)
    came, said = student.handed_in, student.late.lower()
    if not came:
        return Lateness(doubt="" if said in ("no", "false", "0") else UNKNOWN if not said else UNKNOWN_LATE)
    over = moment(came, f"{where}, column handed_in") - until
    if over <= timedelta(0):
        return Lateness(known=True)
    if said in ("no", "false", "0"):
        return Lateness(doubt=DISAGREE)
    days = math.ceil(over / timedelta(days=1))
    return Lateness(days, possible * min(days * policy.per_day, policy.most) / 100, known=True)

"""The page to mark a written answer by: all students on one page, and what its downloads bring back.

Several markers may each take a share of the students, and save what they did as a table. A mark in it says of which
state of the mark it was made (`base`), so that tables merge in any order: what only one has changed is taken, and where
two have given different points, both stand in written.csv as a conflict and the points are open until a person decides.
"""

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from markupsafe import Markup
from nbformat import NotebookNode

from course_tools.grading.book.beside import cells_in
from course_tools.grading.book.entries import Entry
from course_tools.grading.book.pages import render
from course_tools.grading.book.tables import number
from course_tools.grading.book.written import TWO, Mark, Marks, bare, is_empty, parse_points, state_of
from course_tools.grading.spreadsheets import read_csv

RUBRIC = "rubric.csv"
KEYS = "qwertyadfg"  # of the rubric and the comments at hand
ITEM = re.compile(r"[Oo]ne point for |, and one for |, one for ")


@dataclass(frozen=True)
class Task:
    """A written exercise as its marker sees it: the question, a model answer, rubric as (points, text)."""

    question: str = ""
    model: str = ""
    rubric: Sequence[tuple[float, str]] = field(default_factory=list)


# The page ------------------------------------------------------------------------------------------------------------


def rubric_in(model: str) -> list[tuple[float, str]]:
    """Return the rubric in a model answer's last brackets, as in "(One point for this, one for that.)"."""
    found = re.search(r"\((One point for [^()]*)\)\s*\Z", model)
    items = ITEM.split(found[1])[1:] if found else []
    return [(1.0, item.strip(" .,")) for item in items]


def read_rubrics(path: Path) -> dict[str, list[tuple[float, str]]]:
    """Return exercise → (points, text) of an instructor's rubric.csv; nothing without one. Raises ``ValueError``."""
    found: dict[str, list[tuple[float, str]]] = {}
    for at, row in read_csv(path, ("exercise", "points", "text")) if path.exists() else []:
        points = parse_points(row["points"], 1000.0, f"{path}, row {at}") or 0.0
        found.setdefault(bare(row["exercise"]), []).append((points, row["text"]))
    return found


def tasks(lecture: str, rubrics: Mapping[str, list[tuple[float, str]]]) -> dict[str, Task]:
    """Return a lecture's written exercises; none if it is not in this course."""
    cells, found = cells_in(lecture, "twin"), {}
    for at, cell in enumerate(cells):
        if id := cell.metadata.get("course", {}).get("written"):
            above = next((c.source for c in reversed(cells[:at]) if c.cell_type == "markdown"), "")
            below: Iterable[NotebookNode] = cells[at + 1 : at + 2]
            model = next((c.source for c in below if "solution" in c.metadata.get("tags", [])), "")
            question = above[max(above.rfind("### "), 0) :].lstrip("# ")  # the cell may hold a section's end, too
            found[id] = Task(question, model, rubrics.get(id) or rubric_in(model))
    return found


def comments_at_hand(id: str, everyone: Sequence[Entry], most: int) -> list[str]:
    """Return the comments that were given to more than one answer, the most frequent first."""
    given = Counter(entry.marks[id].comment for entry in everyone if id in entry.marks and entry.marks[id].comment)
    return [text for text, count in given.most_common(most) if count > 1]


def marking_page(id: str, everyone: Sequence[Entry], task: Task) -> str:
    """Return the page to mark one written exercise by; only its own script may run in it."""
    script = Path(__file__).with_name("templates").joinpath("marking.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    bank = [{"points": number(points), "text": text} for points, text in task.rubric]
    bank += [{"points": "", "text": text} for text in comments_at_hand(id, everyone, len(KEYS) - len(bank))]
    answers = [entry for entry in everyone if id in entry.record.written]
    return render(
        "marking.html",
        id=id,
        lecture=everyone[0].record.lecture,
        run=min(entry.record.seed for entry in everyone),  # tells this class from others in the browser's memory
        possible=everyone[0].questions[id],
        answers=[entry for entry in answers if id in entry.marks or not is_empty(entry.record.written[id].text)],
        empty=[entry for entry in answers if id not in entry.marks and is_empty(entry.record.written[id].text)],
        task=task,
        bank=bank,
        keys=KEYS,
        state_of=state_of,
        nothing=Mark(None),
        script=Markup(script),  # ours
        digest=digest,
    )


# What comes back -----------------------------------------------------------------------------------------------------


def both(old: Mark, new: Mark, name: str) -> Mark:
    """Return the mark that names two different ones for one answer; its points are open."""
    each = [(old, old.marker or "written.csv"), (new, new.marker or name)]
    words = [f"{number(m.points)} ({who}{f': {m.comment}' if m.comment else ''})" for m, who in each]
    said = old.conflict or f"{TWO}: {words[0]}"
    return replace(old, conflict=said if words[1] in said else f"{said}, {words[1]}")


def joined(old: Mark, new: Mark) -> Mark:
    """Return a mark of which two agree in the points; both comments stay."""
    texts = dict.fromkeys(filter(None, (old.comment, new.comment)))
    kept = old.comment if new.comment in old.comment else " / ".join(texts)
    return replace(new, comment=kept, marker=old.marker or new.marker)


def merged(kept: Marks, given: Sequence[tuple[str, Marks]]) -> tuple[Marks, list[str]]:
    """Return the marks with those of several tables, by name, and a line for each that was replaced or conflicts."""
    found, said, new_here = dict(kept), [], set()
    for name, marks in given:
        for key, new in marks.items():
            old, who = found.get(key, Mark(None)), ", ".join(key)
            settled = old.points is not None or bool(old.conflict)
            if new.points is None and settled:  # a row without points replaces none with points
                continue
            current = new.base == state_of(old) if new.base is not None else key not in new_here
            own = bool(new.marker) and new.marker == old.marker and not old.conflict
            if not settled or current or own:
                if settled and (old.points, old.comment) != (new.points, new.comment):
                    said.append(f"{who}: {number(old.points)} replaced by {number(new.points)} ({new.marker or name})")
                found[key] = new
            elif old.points == new.points and not old.conflict:
                found[key] = joined(old, new)
            else:
                found[key] = both(old, new, name)
                said.append(f"{who}: {found[key].conflict}; decide in written.csv or on its page")
            new_here.add(key)
    return found, said

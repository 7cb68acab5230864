"""Fetches a new version of the course and keeps the answers: `course update`.

A lecture that was worked on differs from the one in git, so that `git pull` refuses or ends in a conflict. Here each
such notebook is kept whole in answers/, the new one is fetched, and the answers are put into it.
"""

import shutil
import subprocess
import time
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from course_tools.notebook_source import exercise_of
from course_tools.notebooks import ROOT, read_notebook
from course_utils.errors import require
from course_utils.files import atomically


def git(root: Path, *arguments: str) -> str:
    """Return what git says. Raises ``ValueError`` with its last line if it fails."""
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, encoding="utf-8", errors="replace")
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    require(done.returncode == 0, f"git {arguments[0]} failed in {root}: {last}")
    return done.stdout


def number_of(cell: NotebookNode) -> str | None:
    """Return the number of the exercise that is answered in this cell, by code or in words, or None."""
    return exercise_of(cell) or cell.metadata.get("course", {}).get("written")


def carry_over(new: NotebookNode, mine: NotebookNode, before: NotebookNode) -> list[str]:
    """Put the answers of `mine` that are not as open as `before` into the new notebook; return their numbers."""
    was_open = {number_of(cell): cell.source for cell in before.cells if number_of(cell)}
    answers = {number_of(cell): cell.source for cell in mine.cells if number_of(cell)}
    carried = []
    for cell in new.cells:
        number = number_of(cell)
        answer = answers.get(number, "") if number else ""
        if answer.strip() and answer != was_open.get(number) and answer != cell.source:
            cell.source = answer
            carried.append(str(number))
    return carried


def update(root: Path = ROOT) -> list[str]:
    """Fetch the new version by ``git pull --ff-only`` and put the answers into its lectures; return lines to print.

    Raises ``ValueError`` where git refuses, and where other files than the lectures were edited; the notebooks are then
    as they were.
    """
    edited = git(root, "-c", "core.quotePath=false", "diff", "--name-only", "HEAD").splitlines()
    lectures = [root / name for name in edited if name.startswith("lectures/") and name.endswith(".ipynb")]
    lectures = [path for path in lectures if path.exists()]
    others = [name for name in edited if root / name not in lectures]
    require(
        not others, f"you edited {', '.join(others[:3])}: commit that, or undo it by git checkout, then update again"
    )
    kept = root / "answers" / time.strftime("%Y-%m-%d-%H%M%S")
    before, lines = {}, []
    for path in lectures:
        kept.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, kept / path.name)
        before[path] = nbformat.reads(git(root, "show", f"HEAD:lectures/{path.name}"), as_version=4)
    try:
        if lectures:
            git(root, "checkout", "HEAD", "--", *map(str, lectures))
        git(root, "pull", "--ff-only")
    except ValueError:
        for path in lectures:
            shutil.copy2(kept / path.name, path)
        raise
    for path in lectures:
        new, mine = read_notebook(path), read_notebook(kept / path.name)
        if new is None:
            lines.append(f"{path.name} is no longer part of the course; yours is in {kept.relative_to(root)}")
            continue
        carried = carry_over(new, mine, before[path])
        atomically(path, nbformat.writes(new) + "\n")
        answers = f"answers {', '.join(carried)}" if carried else "no answers"
        lines.append(f"{path.name}: {answers} carried over; your whole notebook is in {kept.relative_to(root)}")
    return [*lines, "The course is up to date; install what is new: make lab"]

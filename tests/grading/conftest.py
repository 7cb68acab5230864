"""What the tests of the grader share: submissions made from the lecture itself, and whether there is a sandbox."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest

from course_tools.grading.judge import sandbox
from course_tools.notebook_source import exercise_of, inject
from course_tools.notebooks import find_lecture


def pytest_runtest_setup(item):
    if "sandbox" in item.keywords and not shutil.which("bwrap") and not os.environ.get("COURSE_REQUIRE_SANDBOX"):
        pytest.skip("bubblewrap is not installed")


@pytest.fixture(scope="session")
def warm() -> Iterator[None]:
    """Let all graders of these tests share one warm parent, so that each need not start its own."""

    class Shared(sandbox.Zygote):
        def stop(self) -> None:
            pass

    shared = Shared()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox, "Zygote", lambda: shared)
        yield
        super(Shared, shared).stop()


@pytest.fixture(scope="session")
def write_submission() -> Callable[..., Path]:
    """Return write(path, answers, lecture): a solved notebook with other sources for some exercises; None: open."""

    def write(path: Path, answers: dict[str, str | None] | None = None, lecture: str = "01") -> Path:
        found = find_lecture(lecture)
        student, twin = nbformat.read(found.student, 4), nbformat.read(found.twin, 4)
        stubs = {exercise_of(cell): cell.source for cell in student.cells if exercise_of(cell)}
        nb = inject(student, twin)
        for cell in nb.cells:
            if cell.cell_type == "code":
                cell.outputs = []
            if exercise_of(cell) in (answers or {}):
                cell.source = answers[exercise_of(cell)] or stubs[exercise_of(cell)]
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(nb, path)
        return path

    return write

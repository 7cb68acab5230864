"""Tests of the whole repository: notebooks are compared strictly; tests marked `gpu` are skipped where there is none.

A plain `pytest` also runs every notebook in lectures/ by nbval (its options stand in pyproject.toml) and compares what
each cell prints with what is committed. Pictures, widget views, HTML and stderr are left out. What takes long comes
first, each lecture in a process of its own, and the end tells what the time was spent on.
"""

import re
from collections import Counter
from pathlib import Path

import nbformat
import pytest
from nbval.kernel import RunningKernel
from nbval.plugin import IPyNbCell, IPyNbFile

HERE = Path(__file__).parent
LONG = ("lecture", "browser", "sandbox", "slow")  # marks, in the order in which their tests are run; all others follow
SPENT = 12  # files in the table of seconds


class StrictNotebook(IPyNbFile):
    """A notebook all of whose cells have been run: nbval passes a cell without execution count unchecked."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.skip_compare += ("stderr", "text/html", "application/javascript", "image/svg+xml")

    def get_sanitize_files(self) -> list[str]:
        return [str(HERE / "tests" / "notebooks" / "nbval_sanitize.cfg")]  # wherever pytest was started

    def collect(self):
        cells = [c for c in nbformat.read(self.path, as_version=4).cells if c.cell_type == "code" and c.source.strip()]
        never_run = [cell.get("id", "?") for cell in cells if cell.execution_count is None]
        if never_run:
            raise self.CollectError(f"{self.path.name}: cells never run: {', '.join(never_run)}. Run: make notebooks")
        return super().collect()


def execute_with_history(self: RunningKernel, cell_input: str, allow_stdin: bool | None = None) -> str:
    """Execute as a front end does: without history IPython does not honour a trailing semicolon."""
    return self.kc.execute(cell_input, store_history=True, allow_stdin=allow_stdin, stop_on_error=False)


RunningKernel.execute_cell_input = execute_with_history


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path, parent: pytest.Collector):
    """Put strict collectors in the place of nbval's own."""
    collectors = yield
    return [
        StrictNotebook.from_parent(parent, path=file_path) if isinstance(collector, IPyNbFile) else collector
        for collector in collectors
    ]


@pytest.hookimpl(tryfirst=True)  # before tests are deselected by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the cells of notebooks, skip tests marked `gpu` where there is no CUDA device, put what is long first."""
    for item in items:
        if isinstance(item, IPyNbCell):
            item.add_marker(pytest.mark.lecture)
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu:
        import torch

        if not torch.cuda.is_available():
            for item in on_gpu:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))
    first: dict[str, int] = {}  # of each file: the first mark that one of its tests bears
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        rank = next((i for i, name in enumerate(LONG) if name in marks), len(LONG))
        first[file_of(item.nodeid)] = min(rank, first.get(file_of(item.nodeid), rank))
    items.sort(key=lambda item: first[file_of(item.nodeid)])


def file_of(nodeid: str) -> str:
    """Return the file that a test stands in."""
    return nodeid.split("::")[0]


def group_of(nodeid: str) -> str:
    """Return what one process runs: the tests of a file, or of one lecture in it."""
    lecture = re.search(r"\[.*?(\d\d_\w+).*\]$", nodeid)
    return file_of(nodeid) + (f"::{lecture[1]}" if lecture and "notebooks" in nodeid else "")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """With --dist=loadfile, give each process a file at a time, or one lecture of it, in the order above."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class InOrder(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    config.option.loadscopereorder = False
    return InOrder(config, log)


def pytest_terminal_summary(terminalreporter) -> None:
    """Tell which files took the time."""
    seconds: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if hasattr(report, "duration") and hasattr(report, "nodeid"):
                seconds[file_of(report.nodeid)] += report.duration
    if seconds.total() > 30:
        terminalreporter.section("seconds by file")
        for name, spent in [*seconds.most_common(SPENT), ("all", seconds.total())]:
            terminalreporter.line(f"{spent:8.1f}  {name}")

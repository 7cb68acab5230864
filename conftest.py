"""Tests of the whole repository: notebooks are compared strictly; tests marked `gpu` are skipped where there is none.

A plain `pytest` also runs every notebook in lectures/ and solutions/ by nbval (its options stand in pyproject.toml) and
compares what each cell prints with what is committed. Pictures, widget views, HTML and stderr are left out.
"""

from pathlib import Path

import nbformat
import pytest
from nbval.kernel import RunningKernel
from nbval.plugin import IPyNbFile

HERE = Path(__file__).parent


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` where there is no CUDA device."""
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu:
        import torch

        if not torch.cuda.is_available():
            for item in on_gpu:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))

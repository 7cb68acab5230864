"""A cell that is run again and again in JupyterLab: what the page holds stays level."""

import lab
import pytest

pytestmark = pytest.mark.browser
SOURCE = "from course_utils.widgets.vae import manifold_explorer\n\nmanifold_explorer()"


def test_memory_is_level_when_the_cell_is_run_20_times(browser, tmp_path):
    """The widget with the largest assets: less than 3 MB of heap more (eight plain sliders of ipywidgets take 6), less
    than 1 MB of bytes, less than 200 nodes.
    """
    lab.write_notebook(tmp_path / "notebooks" / "again.ipynb", [SOURCE])
    with lab.session(tmp_path / "notebooks", tmp_path, browser) as open_notebook:
        notebook = open_notebook("again.ipynb")
        session = notebook.context.new_cdp_session(notebook.page)

        def used() -> tuple[float, float, int]:
            notebook.page.wait_for_timeout(1000)
            for _ in range(4):
                session.send("HeapProfiler.collectGarbage")
            heap = session.send("Runtime.getHeapUsage")
            nodes = session.send("Memory.getDOMCounters")["nodes"]
            return heap["usedSize"], heap["backingStorageSize"], nodes

        def run(times: int) -> None:
            for _ in range(times):
                notebook.run_cell(0)
                notebook.page.locator(".stage[data-drawn]").wait_for()

        run(3)
        before = used()
        run(20)
        heap, held, nodes = (now - then for now, then in zip(used(), before, strict=True))
        assert heap < 3e6 and held < 1e6 and nodes < 200, (heap, held, nodes)
        assert notebook.complaints == []

"""Runs one notebook by papermill, inside the sandbox, and tells what happens line by line over a pipe.

Lines are JSON: ``{"start": cell}`` and ``{"done": cell, "calls": …, "error": …, "printed": …}``, and ``{"end": why}``
if it ends before its last cell is done.
"""

import json
import os
from pathlib import Path

import nbformat
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from papermill.execute import execute_notebook

from course_tools.grading.inside import harness, provisioner
from course_tools.grading.inside.job import Cell, decode

ENGINE = "course-telling"
INJECTED = Cell("setup", "parameters").encode()  # papermill's own
DEFAULTS = Cell("setup", "defaults").encode()  # of the parameters
PRINTED = 2000  # characters of what a cell printed that are passed on
SENT = 8 * 2**20  # characters of what a harness cell sent


def summary(cell: NotebookNode) -> dict:
    """Return what a cell sent, the error it raised, and the end of what it printed."""
    told: dict = {"done": cell.metadata.get("course_cell", INJECTED), "calls": None, "error": None, "printed": ""}
    for output in cell.outputs:
        if output.output_type == "stream":
            told["printed"] = (told["printed"] + output.text)[-PRINTED:]
        elif output.output_type == "error":
            told["error"] = [str(output.ename)[:100], str(output.evalue)[:1000]]
        elif harness.MIME in output.get("data", {}):
            calls = str(output.data[harness.MIME])
            told["calls"] = calls if len(calls) <= SENT else None
    return told


class TellingEngine(NBClientEngine):
    """papermill's own engine, telling of each cell's start and end."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, tell=None, **kwargs):
        start, complete = nb_man.cell_start, nb_man.cell_complete

        def cell_start(cell, *args, **options):
            tell({"start": cell.metadata.get("course_cell", INJECTED)})
            return start(cell, *args, **options)

        def cell_complete(cell, *args, **options):
            tell(summary(cell))
            return complete(cell, *args, **options)

        nb_man.cell_start, nb_man.cell_complete = cell_start, cell_complete
        return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)


papermill_engines.register(ENGINE, TellingEngine)


def notebook(cells: list[dict]) -> NotebookNode:
    """Return the notebook to run: our set-up, the answers, our harness; every cell but the set-up may fail."""
    spec = {"name": provisioner.KERNEL, "display_name": "Forked", "language": "python"}
    nb = nbformat.v4.new_notebook(metadata={"kernelspec": spec})
    for cell in cells:
        tags = [] if decode(cell["id"]).ours else ["raises-exception"]
        tags += ["parameters"] if cell["id"] == DEFAULTS else []
        new = nbformat.v4.new_code_cell(cell["source"], metadata={"course_cell": cell["id"], "tags": tags})
        nb.cells.append(new)
    return nb


def work(job: dict, pipe: int) -> None:
    """Run a job's cells in a forked kernel, in the current folder, telling the pipe; does not return."""

    def tell(message: dict) -> None:
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(pipe, data) :]

    try:
        provisioner.write_kernelspec(Path("jupyter"))
        harness.INPUTS.write_text(json.dumps(job["inputs"]), "utf-8")
        harness.NOTEBOOK.write_text(json.dumps(job.get("notebook", {})), "utf-8")
        provisioner.start_forker(job["seed"], pipe)
        provisioner.let_in(False)  # what a kernel wrote into the pipe would be taken for ours
        execute_notebook(
            notebook(job["cells"]),
            None,
            job["parameters"],
            engine_name=ENGINE,
            kernel_name=provisioner.KERNEL,
            progress_bar=False,
            request_save_on_cell_execute=False,
            tell=tell,
        )
    except PapermillExecutionError:
        pass  # told with its cell
    except DeadKernelError:
        tell({"end": "the kernel ended while the code ran"})
    except BaseException as error:
        tell({"end": f"{type(error).__name__}: {error}"[:500]})
    finally:
        os._exit(0)

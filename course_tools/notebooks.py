"""The notebook pipeline: one text source per lecture gives two executed notebooks, always the same bytes.

``solutions/NN_name.md`` (MyST Markdown, paired by jupytext) is the only file edited by hand. From it come its twin
``solutions/NN_name.ipynb`` (the same cells, executed) and the student's ``lectures/NN_name.ipynb`` (solutions cut out,
executed). What was not changed is not run again: the metadata hold a hash of all cell sources, which tells an edited
notebook, and a hash of code and outputs, which tells outputs that this pipeline made from this very code. A change of
the *package* is not seen here and may leave stale outputs: nbval, which runs and compares every cell in `make test`,
catches that; `course notebooks --all` mends it.
"""

import ast
import copy
import hashlib
import json
import math
import re
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import nbformat
from filelock import FileLock, Timeout
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from course_tools.notebook_source import publish, read_source, student_notebook, twin_notebook
from course_utils.errors import choose, require
from course_utils.files import together

ROOT = Path(__file__).resolve().parents[1]
CELL_TIMEOUT = 600  # seconds
QUIET = ["--IPKernelApp.log_level=40"]  # the kernel's errors, not its remarks on encryption
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}


class NotebookError(RuntimeError):
    """A notebook that did not run to its end, or that must not be overwritten; `cell` is where it stopped, if known."""

    def __init__(self, message: str, cell: NotebookNode | None = None):
        super().__init__(message)
        self.cell = cell


@dataclass(frozen=True)
class Lecture:
    """A lecture's name, such as "01_kl_and_elbo", and where its three files lie."""

    root: Path
    name: str

    @property
    def source(self) -> Path:
        return self.root / "solutions" / f"{self.name}.md"

    @property
    def twin(self) -> Path:
        return self.root / "solutions" / f"{self.name}.ipynb"

    @property
    def student(self) -> Path:
        return self.root / "lectures" / f"{self.name}.ipynb"


def all_lectures(root: Path = ROOT) -> list[Lecture]:
    """Return the lectures that have a source, in order. Raises ``FileNotFoundError`` if there is none."""
    sources = sorted((root / "solutions").glob("[0-9][0-9]_*.md"))
    if not sources:
        raise FileNotFoundError(
            f"no lecture (NN_name.md) in {root / 'solutions'}: clone the course and install it with pip install -e ."
        )
    return [Lecture(root, source.stem) for source in sources]


def find_lecture(which: str, root: Path = ROOT) -> Lecture:
    """Return the lecture of a number ("1", "01") or name. Raises ``ValueError`` naming the lectures there are."""
    lectures = {lecture.name: lecture for lecture in all_lectures(root)}
    numbers = {name.split("_")[0]: name for name in lectures}
    name = numbers.get(which.zfill(2), which)
    return lectures[name] if name in lectures else lectures[choose(which, [*numbers, *lectures], "lecture")]


def publication(root: Path) -> tuple[str, str]:
    """Return (repository, tag) as pyproject.toml names them in [tool.course]; both empty before publication."""
    course = tomllib.loads((root / "pyproject.toml").read_text("utf-8")).get("tool", {}).get("course", {})
    repository, tag = course.get("repository", ""), course.get("tag", "")
    require(bool(repository) == bool(tag), "pyproject.toml, [tool.course]: set both repository and tag, or neither")
    return repository, tag


# Executing ---------------------------------------------------------------------------------------------------------


def execute(
    nb: NotebookNode,
    folder: Path,
    label: str,
    env: Mapping[str, str] | None = None,
    timeout: float = CELL_TIMEOUT,
    allow_errors: bool = False,
) -> None:
    """Run all cells in `folder`, filling in the outputs and, in the metadata, the state of widgets.

    Raises ``NotebookError`` naming `label`, the cell, the error.
    `env`: the kernel's environment variables instead of this process's; `timeout`: seconds for each cell; with
    `allow_errors` a cell that fails does not stop the others, and its error is one of its outputs.
    """
    at: list[NotebookNode] = []
    client = NotebookClient(
        nb,
        timeout=timeout,
        allow_errors=allow_errors,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=list(QUIET),
        record_timing=False,
        on_cell_start=lambda cell, cell_index: at.append(cell),
    )
    try:
        client.execute(**({} if env is None else {"env": dict(env)}))
    except CellExecutionError as error:
        trace = re.sub(r"\x1b\[[0-9;]*m", "", error.traceback)
        message = f"{label}, cell {at[-1].id}: {error.ename}: {error.evalue}\n{trace}"
        raise NotebookError(message, at[-1]) from None
    except CellTimeoutError:
        raise NotebookError(f"{label}, cell {at[-1].id}: still running after {timeout:g} s", at[-1]) from None
    except DeadKernelError:
        raise NotebookError(f"{label}, cell {at[-1].id}: the kernel died (out of memory?)", at[-1]) from None


def clean_outputs(outputs: Sequence[NotebookNode]) -> list[NotebookNode]:
    """Return what is worth committing: no stderr (warnings, progress bars), no widget views, streams merged."""
    kept = []
    for output in outputs:
        output = nbformat.from_dict(dict(output))
        if output.output_type == "stream":
            if output.name == "stderr":
                continue
            if kept and kept[-1].output_type == "stream":
                kept[-1].text += output.text
                continue
        elif "data" in output:
            output.data.pop(WIDGET_VIEW, None)
            output.metadata.pop(WIDGET_VIEW, None)
            if not any(output.data.values()):  # nothing, or the empty place of a progress bar
                continue
        kept.append(output)
    return kept


def digest(value) -> str:
    """Return a short hash of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def sources(nb: NotebookNode) -> list[list[str]]:
    """Return (kind, source) of every cell, without the blank lines around it."""
    return [[cell.cell_type, cell.source.strip()] for cell in nb.cells]


def code_cells(nb: NotebookNode) -> list[NotebookNode]:
    """Return the code cells of a notebook."""
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def run_hash(nb: NotebookNode) -> str:
    """Return the hash of the code and what it gave."""
    return digest([[cell.source, cell.execution_count, cell.outputs] for cell in code_cells(nb)])


def stamp(nb: NotebookNode) -> None:
    """Set the notebook's metadata: the kernel, no versions, and the two hashes."""
    course = {"source_hash": digest(sources(nb)), "run_hash": run_hash(nb)}
    pairing = {"jupytext": nb.metadata.jupytext} if "jupytext" in nb.metadata else {}
    metadata = {"kernelspec": KERNELSPEC, "language_info": {"name": "python"}, "course": course, **pairing}
    nb.metadata = nbformat.from_dict(metadata)


def keep_outputs(nb: NotebookNode, old: NotebookNode | None) -> bool:
    """Give the new notebook the old one's outputs; tell whether they came from this code by this pipeline."""
    if old is None or len(code_cells(nb)) != len(code_cells(old)):
        return False
    for cell, before in zip(code_cells(nb), code_cells(old), strict=True):
        cell.outputs, cell.execution_count = before.outputs, before.execution_count
    return old.metadata.get("course", {}).get("run_hash") == run_hash(nb)


# Making and checking -----------------------------------------------------------------------------------------------


def read_notebook(path: Path) -> NotebookNode | None:
    """Return the notebook, None if there is none. Raises ``ValueError`` for a file that is no notebook."""
    try:
        return nbformat.read(path, as_version=4) if path.exists() else None
    except Exception as error:
        raise ValueError(f"{path} is not a notebook ({type(error).__name__}): delete it, then make notebooks") from None


def was_edited(old: NotebookNode | None, new: NotebookNode) -> bool:
    """Tell whether the notebook on disk was edited by hand and says something else than the source."""
    if old is None or sources(old) == sources(new):
        return False
    return old.metadata.get("course", {}).get("source_hash") != digest(sources(old))


def refuse_edited(lecture: Lecture) -> None:
    """Raise ``NotebookError`` if making the notebooks would destroy an edit of one of them."""
    root, cells = lecture.root, read_source(lecture.source.read_text("utf-8"))
    twin, source, student = (path.relative_to(root) for path in (lecture.twin, lecture.source, lecture.student))
    if was_edited(read_notebook(lecture.twin), twin_notebook(cells)):
        raise NotebookError(
            f"{twin} was edited by hand and differs from its source {source}: keep the edit with `jupytext --to "
            f"md:myst {twin}` (or `--sync`, if it is the newer), or discard it with `course notebooks --force`."
        )
    if was_edited(read_notebook(lecture.student), student_notebook(cells)):
        raise NotebookError(
            f"{student} was edited by hand and would be overwritten: copy it elsewhere and carry the change over to "
            f"{source}, or discard it with `course notebooks --force`."
        )


def assemble(lecture: Lecture, repository: str, tag: str) -> tuple[str, dict[Path, tuple[NotebookNode, bool]]]:
    """Return the source's text, and each notebook with whether its outputs could be kept."""
    text = publish(lecture.source.read_text("utf-8"), lecture.name, repository, tag)
    cells, notebooks = read_source(text), {}
    for path, make_notebook in ((lecture.twin, twin_notebook), (lecture.student, student_notebook)):
        nb = make_notebook(cells)
        kept = keep_outputs(nb, read_notebook(path))
        stamp(nb)
        notebooks[path] = nb, kept
    return text, notebooks


def dumps(nb: NotebookNode) -> str:
    """Return the notebook's text, the same for the same content. Raises ``nbformat.ValidationError``."""
    nbformat.validate(nb)
    return nbformat.writes(nb) + "\n"


def write(files: Mapping[Path, str]) -> list[Path]:
    """Write the files that changed, all of them beside the old ones first; return their paths."""
    changed = [path for path, text in files.items() if not path.exists() or path.read_bytes() != text.encode()]
    together({path: files[path] for path in changed})
    return changed


def make(root: Path = ROOT, run_all: bool = False, force: bool = False) -> list[Path]:
    """Bring all notebooks up to date, running what changed, or everything; return the paths that were written.

    A lecture's files are replaced together, once both its notebooks have run. Raises ``NotebookError`` where a cell
    fails, or where a notebook was edited by hand (unless `force`), ``ValueError`` for a mistake in a source.
    """
    written, published = [], publication(root)
    for lecture in all_lectures(root):
        if not force:
            refuse_edited(lecture)
        text, notebooks = assemble(lecture, *published)
        for path, (nb, kept) in notebooks.items():
            if run_all or not kept:
                run_in_place(nb, path, root)
        written += write({lecture.source: text} | {path: dumps(nb) for path, (nb, _) in notebooks.items()})
    return written


def run_in_place(nb: NotebookNode, path: Path, root: Path) -> None:
    """Execute a notebook as if it lay at `path` already, picture its widgets, tell the time, clean and stamp it."""
    from course_tools.stills import illustrate  # takes matplotlib and the widgets with it

    label, start = str(path.relative_to(root)), time.perf_counter()
    path.parent.mkdir(parents=True, exist_ok=True)
    print(f"running {label} …", flush=True)
    execute(nb, path.parent, label)
    remark = illustrate(nb, read_notebook(path))
    for cell in code_cells(nb):
        cell.outputs = clean_outputs(cell.outputs)
    stamp(nb)
    print(f"  {time.perf_counter() - start:.0f} s{f'; {remark}' if remark else ''}", flush=True)


def check(root: Path = ROOT) -> list[str]:
    """Return the files that `make notebooks` would change, writing and running nothing."""
    stale, published = [], publication(root)
    for lecture in all_lectures(root):
        text, notebooks = assemble(lecture, *published)
        files = {lecture.source: (text, True)} | {path: (dumps(nb), kept) for path, (nb, kept) in notebooks.items()}
        for path, (wanted, kept) in files.items():
            if not kept or not path.exists() or path.read_bytes() != wanted.encode():
                stale.append(str(path.relative_to(root)))
    return stale


# Running with parameters -------------------------------------------------------------------------------------------


def parameters(nb: NotebookNode) -> dict:
    """Return the names and defaults in the cell tagged `parameters`; it holds one literal a line."""
    cells = [cell for cell in nb.cells if "parameters" in cell.metadata.get("tags", [])]
    lines = ast.parse("\n".join(cell.source for cell in cells)).body
    return {line.targets[0].id: ast.literal_eval(line.value) for line in lines if isinstance(line, ast.Assign)}


def with_parameters(nb: NotebookNode, values: Mapping[str, object]) -> NotebookNode:
    """Return a copy of the notebook that sets these parameters below the cell with the defaults."""
    nb = copy.deepcopy(nb)
    if not values:
        return nb
    at = next(i for i, cell in enumerate(nb.cells) if "parameters" in cell.metadata.get("tags", []))
    lines = "\n".join(f"{choose(name, parameters(nb), 'parameter')} = {value!r}" for name, value in values.items())
    nb.cells.insert(at + 1, nbformat.v4.new_code_cell(lines, id="injected-parameters"))
    return nb


def parse_value(text: str, name: str = ""):
    """Return a parameter's value: a Python literal such as 1, 0.5 or None, else the text itself.

    Raises ``ValueError`` for a value that the parameter called `name` can't have.
    """
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    return CHECKS.get(name, lambda value: value)(value)


def check_dataset(value):
    """Return the name of a data set; raise ``ValueError`` for any other."""
    from course_utils.data import DATASETS

    return choose(value, DATASETS, "dataset")


def check_device(value):
    """Return the name of a device that is here; raise ``ValueError`` for any other."""
    from course_utils.data import device

    device(value)
    return value


def check_seed(value):
    """Return a seed; raise ``ValueError`` for what is none."""
    from course_utils.data import generator

    generator(value)
    return value


def check_budget(value):
    """Return a budget, the factor of all trainings' lengths; raise ``ValueError`` for what is no positive number."""
    positive = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
    require(positive, f"budget {value!r} is not allowed; it scales all trainings: a number above 0, such as 0.05 or 1")
    return value


def check_data_root(value):
    """Return a folder's name, as text, or None."""
    return value if value is None else str(value)


# What is told before a kernel starts, rather than by a cell after some minutes.
CHECKS: dict[str, Callable] = {
    "dataset": check_dataset,
    "device": check_device,
    "seed": check_seed,
    "budget": check_budget,
    "data_root": check_data_root,
}


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Keep other runs from writing the same file. ``ValueError`` where one does, or where the folder takes no file."""
    elsewhere = "name another folder: --out DIR"
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise ValueError(f"another run is writing {path}: wait for it, or {elsewhere}") from None
    except PermissionError:
        raise ValueError(f"{path.parent} is read-only; {elsewhere}") from None
    except OSError as error:
        raise ValueError(f"{path.parent} can't hold a file ({error.strerror}); {elsewhere}") from None
    try:
        yield
    finally:
        with suppress(OSError):  # Windows keeps open files
            Path(lock.lock_file).unlink()
        lock.release()


def run(which: str, params: Mapping[str, str], out_dir: Path, root: Path = ROOT, timeout: int = CELL_TIMEOUT) -> Path:
    """Run a lecture's student notebook by papermill with parameters, given as text; return the path of the result.

    Raises ``ValueError`` for an unknown lecture or parameter, a value it can't have, a folder that can't be written
    to, and ``FileNotFoundError`` if the notebook was not made yet, all before a kernel starts; ``NotebookError`` where
    a cell fails or takes more than `timeout` seconds.
    """
    lecture, out_dir = find_lecture(which, root), Path(out_dir).resolve()
    nb = read_notebook(lecture.student)
    if nb is None:
        raise FileNotFoundError(f"{lecture.student} is not there: make notebooks")
    values = {name: parse_value(text, choose(name, parameters(nb), "parameter")) for name, text in params.items()}
    result = out_dir / lecture.student.name
    with only_writer(result):
        run_by_papermill(lecture, result, values, timeout)
    return result


def run_by_papermill(lecture: Lecture, result: Path, values: Mapping[str, object], timeout: float) -> None:
    """Run a student notebook with these parameters into the file `result`, which grows meanwhile."""
    import papermill

    options = {"cwd": str(lecture.student.parent), "kernel_name": "python3", "extra_arguments": list(QUIET)}
    try:
        papermill.execute_notebook(str(lecture.student), str(result), values, execution_timeout=timeout, **options)
    except papermill.PapermillExecutionError as error:
        raise NotebookError(f"{result}, cell [{error.exec_count}]: {error.ename}: {error.evalue}") from None
    except CellTimeoutError:
        raise NotebookError(f"{result}: a cell was still running after {timeout} s") from None
    except DeadKernelError:
        raise NotebookError(f"{result}: the kernel died (out of memory?)") from None

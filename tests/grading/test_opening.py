"""A stranger's file is read without its outputs; what is broken in it is named by its line."""

import json
import random
import tracemalloc
import warnings
import zipfile

import pytest

from course_tools.grading.hand_in import opening
from course_tools.grading.hand_in.opening import cells_of, read_cells, without_outputs


def notebook(*sources: str, outputs: list | None = None, **more) -> dict:
    """Return a notebook of cells of code."""
    cell = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": outputs or []}
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {},
        "cells": [cell | {"source": s} for s in sources],
        **more,
    }


def problem(content: bytes | str) -> str:
    """Return why a file is no notebook."""
    with pytest.raises(ValueError) as error:
        cells_of(without_outputs(content if isinstance(content, bytes) else content.encode()))
    assert "\n" not in str(error.value)
    return str(error.value)


TRICKY = [
    'print("outputs")',
    '"outputs": [1, 2]',
    '{"outputs": [',
    "]}\\",
    '\\"outputs\\": [[[',
    "\\\\",
    "ü \U0001f600 \u2028",
]


@pytest.mark.parametrize("indent", [None, 1, 4])
@pytest.mark.parametrize("ascii", [True, False])
def test_what_is_cut_out_is_the_outputs_and_nothing_else(indent, ascii):
    outputs = [{"output_type": "stream", "text": TRICKY}, {"data": {"a": {"outputs": [[1], {}]}}}, [], {}]
    nb = notebook(*TRICKY, outputs=outputs) | {"metadata": {"widgets": {"x": {"state": {"a": [1, "}"]}}}, "k": 1}}
    text = json.dumps(nb, indent=indent, ensure_ascii=ascii)
    kept = json.loads(without_outputs(text.encode()))
    for cell in nb["cells"]:
        cell["outputs"] = []
    nb["metadata"]["widgets"] = {}
    assert kept == nb
    assert [cell.source for cell in cells_of(text.encode())] == TRICKY


def test_random_notebooks_are_cut_as_json_would():
    draw = random.Random(0)

    def value(depth: int):
        kind = draw.randrange(6 if depth else 3)
        if kind < 3:
            return ["".join(draw.choices('ab"\\[]{}:,\n outputs', k=9)), draw.random(), None][kind]
        size = draw.randrange(4)
        keys = ["outputs", "widgets", 'outputs"', "a", "x"]
        return [value(depth - 1) for _ in range(size)] if kind < 5 else {draw.choice(keys): value(depth - 1)}

    def cut(x):
        if isinstance(x, dict):
            empty = {"outputs": list, "widgets": dict}
            return {k: type(v)() if isinstance(v, empty.get(k, bytes)) else cut(v) for k, v in x.items()}
        return [cut(y) for y in x] if isinstance(x, list) else x

    for _ in range(2000):
        found = value(6)
        text = json.dumps(found, indent=draw.choice([None, 2]))
        kept = without_outputs(text.encode())
        assert json.loads(kept) == cut(found)
        assert kept.count(b"\n") == text.count("\n"), "lines keep their numbers"


def test_seventy_mebibytes_of_output_take_no_memory(tmp_path):
    picture = {"output_type": "display_data", "data": {"image/png": "A" * 10 * 2**20}, "metadata": {}}
    path = tmp_path / "one.ipynb"
    path.write_text(json.dumps(notebook("x = 1", outputs=[picture] * 7), indent=1), "utf-8")
    assert path.stat().st_size > 70 * 2**20
    tracemalloc.start()
    (cell,) = read_cells(path)
    assert cell.source == "x = 1" and tracemalloc.get_traced_memory()[1] < 8 * 2**20
    tracemalloc.stop()


def test_too_many_bytes_or_lists_are_refused(monkeypatch):
    monkeypatch.setattr(opening, "WITHOUT_OUTPUTS", 1000)
    assert "without its outputs" in problem(json.dumps(notebook("x" * 1000)))
    assert cells_of(without_outputs(json.dumps(notebook("x", outputs=["y" * 1000])).encode()))
    monkeypatch.setattr(opening, "NESTED", 100)
    assert "lists and objects" in problem("[" * 200)
    assert "lists and objects" in problem('{"outputs": [' + "[" * 3000)


@pytest.mark.parametrize("end", [0.3, 0.6, 0.95])
def test_a_file_that_breaks_off_is_named_by_its_line(end):
    text = json.dumps(notebook(*"abcdefgh"), indent=1)
    part = text[: int(end * len(text))]
    line, cell = part.rstrip().count("\n") + 1, part.count('"cell_type"')
    assert problem(part).endswith(f"it breaks off at line {line}, in cell {cell}")


def test_a_file_that_breaks_off_within_an_output():
    text = json.dumps(notebook("a", outputs=[{"text": "x" * 99}]), indent=1)
    assert "breaks off at line" in problem(text[: text.index("xx") + 5])


def test_a_merge_conflict_is_named_by_its_lines():
    lines = json.dumps(notebook("a", "b", outputs=[{"text": ["1\n", "2\n"]}]), indent=1).splitlines()
    at = next(i for i, line in enumerate(lines) if '"source": "b"' in line)
    lines[at : at + 1] = ["<<<<<<< HEAD", lines[at], "=======", lines[at].replace("b", "c"), ">>>>>>> theirs"]
    assert problem("\n".join(lines)).endswith(f"lines {at + 1}, {at + 3}, {at + 5}")
    assert problem("\r\n".join(lines)).endswith(f"lines {at + 1}, {at + 3}, {at + 5}")
    assert "merge conflict" in problem("<<<<<<< HEAD\n{}\n=======\n[]\n>>>>>>> x\n")


def test_another_mistake_is_named_by_its_line():
    text = json.dumps(notebook("a", "b"), indent=1).replace('"source": "b"', '"source" "b"')
    line = text[: text.index('"source" "b"')].count("\n") + 1
    assert f"line {line}:" in problem(text)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"PK\x03\x04...", "but a zip archive"),
        (b"%PDF-1.4", "but a PDF"),
        (b"\n<!DOCTYPE html><html>", "but a web page"),
        (b"Rar!\x1a", "but a rar archive"),
        (b"# In[1]:\nimport torch", "no notebook"),
        (b"\0" * 100, "empty"),
        (b'{"a": 1}', "no list of cells"),
        (b'{"cells": {}}', "no list of cells"),
        (b'{"nbformat": 5, "cells": []}', "nbformat 5"),
        (b'{"nbformat": "x", "cells": []}', "nbformat x"),
        (b'{"nbformat": 3, "worksheets": [3]}', "no notebook"),
        (b'{"cells": [3]}', "cell 1"),
        (b'{"cells": [{}, {"metadata": [1]}]}', "cell 2"),
        (b'{"cells": [{"source": 5}]}', "cell 1"),
        (b'{"cells": [{"source": ["a", 5]}]}', "cell 1"),
    ],
)
def test_what_it_is_instead_is_said(content, kind):
    assert kind in problem(content) and problem(content).startswith("the file is")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings_of_windows_are_read(encoding):
    text = json.dumps(notebook("# Müller – naïve"), ensure_ascii=False)
    (cell,) = cells_of(without_outputs(text.encode(encoding)))
    assert cell.source == "# Müller – naïve"


def test_cells_in_odd_forms_are_read():
    cells = [
        {"source": ["a\r\n", "b"], "metadata": None},
        {"cell_type": "code", "metadata": {"course": 3}},
        {"id": 7},
    ]
    found = cells_of(json.dumps({"cells": cells}).encode())
    assert [cell.source for cell in found] == ["a\nb", "", ""]
    assert [cell.metadata for cell in found] == [{}, {}, {}]


def test_older_formats_are_read():
    code = {"cell_type": "code", "input": ["x = 1"], "outputs": [], "language": "python", "metadata": {}}
    old = {"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": [{"cells": [code], "metadata": {}}]}
    (cell,) = cells_of(without_outputs(json.dumps(old).encode()))
    assert (cell.cell_type, cell.source) == ("code", "x = 1")


def test_equal_ids_are_read_in_silence(capfd, caplog):
    nb = notebook(*["x = 1"] * 100)
    for cell in nb["cells"]:
        cell["id"] = "same"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert len(cells_of(json.dumps(nb).encode())) == 100
    assert (told, capfd.readouterr(), caplog.text) == ([], ("", ""), "")


def zipped(path, **files: str):
    """Write a zip; return its path."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def test_the_one_notebook_in_a_zip_is_read(tmp_path):
    book = json.dumps(notebook("x = 1"))
    files = {"hw/one.ipynb": book, "__MACOSX/._one.ipynb": "?", "figure.png": "?"}
    (cell,) = read_cells(zipped(tmp_path / "one.zip", **files))
    assert cell.source == "x = 1"
    with pytest.raises(ValueError, match="a zip archive with 2 of them"):
        read_cells(zipped(tmp_path / "two.zip", **files, **{"hw/two.ipynb": book}))
    with pytest.raises(ValueError, match="a zip archive with 0 of them"):
        read_cells(zipped(tmp_path / "none.ipynb", **{"hw.pdf": "?"}))
    (tmp_path / "cut.zip").write_bytes((tmp_path / "one.zip").read_bytes()[:60])
    with pytest.raises(ValueError, match="a zip archive with 0 of them"):
        read_cells(tmp_path / "cut.zip")
    content = (tmp_path / "one.zip").read_bytes().replace(b"x = 1", b"x = 2")
    (tmp_path / "damaged.zip").write_bytes(content)
    with pytest.raises(ValueError, match="damaged zip archive"):
        read_cells(tmp_path / "damaged.zip")

"""Written answers are found wherever a student puts the words, in every lecture, and none where there are none."""

import base64
import json
from functools import cache

import nbformat
import pytest
from nbformat import NotebookNode

from course_tools.grading.hand_in.prose import ELSEWHERE, LARGEST, is_prose, written_text
from course_tools.grading.hand_in.submission import Wanted, read_submission
from course_tools.notebooks import all_lectures, find_lecture

TEXT = "The bound rose by 3 nats, since a gap shrank; the likelihood may even have fallen."
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(range(40))).decode()
LECTURES = [lecture.name for lecture in all_lectures()]


def code(source: str, **metadata) -> dict:
    """Return a cell of code."""
    cell = {"cell_type": "code", "source": source, "metadata": metadata}
    return cell | {"outputs": [], "execution_count": None, "id": f"own{hash(source) % 10**6}"}


def text(source: str, kind: str = "markdown", **more) -> dict:
    """Return a cell of text."""
    return {"cell_type": kind, "source": source, "metadata": {}, "id": f"own{hash(source) % 10**6}", **more}


@cache
def sources_of(lecture: str) -> str:
    """Return a lecture's notebook as it is handed out, without outputs."""
    nb = json.loads(find_lecture(lecture).student.read_text("utf-8"))
    for cell in nb["cells"]:
        cell["source"] = "".join(cell["source"])
        cell |= {"outputs": []} if cell["cell_type"] == "code" else {}
    return json.dumps(nb)


def handed_out(lecture: str) -> tuple[dict, Wanted, str, int]:
    """Return a lecture's notebook, what to look for, the number of its written answer and the place of its cell."""
    nb = json.loads(sources_of(lecture))
    (at,) = [i for i, cell in enumerate(nb["cells"]) if "written" in cell["metadata"].get("course", {})]
    id = nb["cells"][at]["metadata"]["course"]["written"]
    given = frozenset(cell["source"].strip() for cell in nb["cells"])
    return nb, Wanted((), {id: written_text(nb["cells"][at]["source"])}, given), id, at


def read(path, nb: dict, wanted: Wanted):
    """Return what is found in a notebook."""
    path.write_text(json.dumps(nb), "utf-8")
    return read_submission(path, wanted)


def instead(source):
    """Write something in the answer's cell."""
    return lambda cells, at: cells[at].update(source=source)


def near(offset, *new):
    """Put cells so far from the answer's cell: 0 above it, 1 below it."""
    return lambda cells, at: cells.__setitem__(slice(at + offset, at + offset), new)


def in_question(cells, at, new=f"\n\n{TEXT}"):
    """Write below the question, in its own cell."""
    cells[at - 1]["source"] += new


def without_cell(*new):
    """Put other cells in the place of the answer's."""
    return lambda cells, at: cells.__setitem__(slice(at, at + 1), new)


def retyped(kind, source):
    """Turn the answer's cell into one of another type; its metadata stay."""

    def change(cells, at):
        cells[at] = text(source, kind) | {"metadata": cells[at]["metadata"], "id": cells[at]["id"]}

    return change


def far_below(source):
    """Append a cell of code."""
    return lambda cells, at: cells.append(code(source))


def in_code(mark, source):
    """Write below the first cell of code that has a mark in its source or its metadata."""

    def change(cells, at):
        own = (c for c in cells if c["cell_type"] == "code" and mark in c["source"] + str(c["metadata"]))
        next(own)["source"] += f"\n\n{source}"

    return change


HALVES = TEXT[: TEXT.index("since")], TEXT[TEXT.index("since") :]
PLACES = {
    "in its place": instead(f'answer = """\n{TEXT}\n"""'),
    "below the placeholder": instead(f'answer = """\nWrite here.\n{TEXT}\n"""'),
    "code below": near(1, code(f'my_answer = "{TEXT}"')),
    "code above": near(0, code(f'text = "{TEXT}"')),
    "a bare text below": near(1, code(f'"""{TEXT}"""')),
    "printed below": near(1, code(f'print("{TEXT}")')),
    "Markdown below": near(1, text(TEXT)),
    "Markdown above": near(0, text(TEXT)),
    "Markdown above the question": near(-1, text(TEXT)),
    "Markdown below the next words": near(2, text(TEXT)),
    "Markdown with a heading below": near(1, text(f"## My answer\n\n{TEXT}")),
    "raw below": near(1, text(TEXT, "raw")),
    "in the question": in_question,
    "at the end of the question's line": lambda cells, at: in_question(cells, at, f" {TEXT}"),
    "another variable in the cell": instead(f'answer = """\nWrite here.\n"""\nreply = "{TEXT}"'),
    "comments": instead(f'answer = """\nWrite here.\n"""\n# {HALVES[0]}\n# {HALVES[1]}'),
    "comments alone": instead(f"# {TEXT}"),
    "comments below": near(1, code(f"# {TEXT}")),
    "concatenated": instead(f'answer = """{HALVES[0]}""" + """{HALVES[1]}"""'),
    "side by side": instead(f'answer = ("{HALVES[0]}"\n    "{HALVES[1]}")'),
    "added": instead(f'answer = "{HALVES[0]}"\nanswer += "{HALVES[1]}"'),
    "added below": near(1, code(f'answer += "{TEXT}"')),
    "joined": instead(f'answer = "".join(["{HALVES[0]}", "{HALVES[1]}"])'),
    "joined from a list": instead(f'parts = []\nparts.append("{TEXT}")\nanswer = "".join(parts)'),
    "formatted": instead(f'answer = f"{TEXT}"'),
    "formatted with %": instead(f'answer = "{TEXT} %d" % 3'),
    "dedented": instead(f'from textwrap import dedent\nanswer = dedent("""{TEXT}""").strip()'),
    "of variables": instead(f'a = "{HALVES[0]}"\nb = "{HALVES[1]}"\nanswer = a + b'),
    "a function": instead(f'def answer():\n    """{TEXT}"""'),
    "a dictionary": instead(f'answer = {{"1": "{TEXT}"}}'),
    "displayed": near(1, code(f'from IPython.display import Markdown\nMarkdown("{TEXT}")')),
    "a magic of Markdown": near(1, code(f"%%markdown\n{TEXT}")),
    "no quotes": instead(TEXT),
    "no quotes after answer": instead(f"answer = {TEXT}"),
    "quotes not closed": instead(f'answer = """\n{TEXT}'),
    "below the quotes": instead(f'answer = """\nWrite here.\n"""\n{TEXT}'),
    "an apostrophe in quotes": instead(f"answer = 'It isn't so. {TEXT}'"),
    "annotated": instead(f'answer: str = "{TEXT}"'),
    "turned to Markdown": retyped("markdown", TEXT),
    "turned to Markdown with its quotes": retyped("markdown", f'answer = """\n{TEXT}\n"""'),
    "turned to raw": retyped("raw", f'answer = """\n{TEXT}\n"""'),
    "Markdown in its place": without_cell(text(TEXT)),
    "new code in its place": without_cell(code(f'x = "{TEXT}"')),
    "far below": lambda cells, at: cells.append(text(TEXT)),
    "far below, in code": lambda cells, at: cells.append(code(f'answer_1 = "{TEXT}"')),
    "far above": lambda cells, at: cells.insert(1, text(TEXT)),
    "far below, comments": far_below(f"#@title My words\n# {TEXT}"),
    "far below, no quotes": far_below(TEXT),
    "far below, a magic": far_below(f"%%markdown\n{TEXT}"),
    "far below, a command": far_below(f'!echo "{TEXT}"'),
    "a command": near(1, code(f'!echo "{TEXT}"')),
    "elsewhere, comments in an exercise": in_code("exercise", f"# {TEXT}"),
    "elsewhere, a variable in an exercise": in_code("exercise", f'words = "{TEXT}"'),
    "elsewhere, a bare text in an exercise": in_code("exercise", f'"""{TEXT}"""'),
    "elsewhere, printed in an exercise": in_code("exercise", f'print("{TEXT}")'),
    "elsewhere, comments in a check": in_code("check(", f"# {TEXT}"),
    "elsewhere, comments in the set-up": in_code("import ", f"# {TEXT}"),
}


@pytest.mark.parametrize("lecture", LECTURES)
@pytest.mark.parametrize("place", PLACES)
def test_the_words_are_found_wherever_they_stand(tmp_path, lecture, place):
    nb, wanted, id, at = handed_out(lecture)
    PLACES[place](nb["cells"], at)
    found = read(tmp_path / "one.ipynb", nb, wanted).written[id]
    words = " ".join(found.split())
    assert TEXT in words
    assert "Write here" not in words and len(words) < len(TEXT) + 90, "what was handed out is left out"
    if place != "Markdown below the next words":  # of lecture 3 these are the summary's
        assert found.startswith(ELSEWHERE) == place.startswith(("far", "elsewhere"))


@pytest.mark.parametrize("lecture", LECTURES)
@pytest.mark.parametrize(
    "change",
    [
        lambda cells, at: None,
        instead(""),
        instead("answer = ''"),
        instead('answer = """\n"""'),
        instead("answer = None"),
        instead('answer = """\n  Write here.\n"""\nprint(answer)'),
        retyped("markdown", 'answer = """\nWrite here.\n"""'),
        retyped("raw", ""),
        near(1, code("check.progress()")),
        near(1, text(" \n")),
        near(-20, code("x = 3  # a number")),
        far_below("# import numpy as np\n# for x in range(3):\n#     print(x)\n# return p if q else 0"),
        far_below('dataset = "mnist"\nimport numpy as np'),
        far_below("print(x, y, z"),
        in_code("exercise", "# return (p * (p / q).log()).sum(-1)\n# slow, but it works"),
        in_code(
            "exercise", "def helper(x):\n    # here the sum over all of the states is taken in one go\n    return x"
        ),
        lambda cells, at: cells.append(
            code("for x in range(3):\n    # the sum over all of the states in one go\n    print(x, x**2, x**3)")
        ),
    ],
)
def test_nothing_is_found_where_nothing_was_written(tmp_path, lecture, change):
    nb, wanted, id, at = handed_out(lecture)
    change(nb["cells"], at)
    found = read(tmp_path / "one.ipynb", nb, wanted).written
    assert found == {id: ""}


SHORT = "The gap shrank."


@pytest.mark.parametrize(
    "source",
    [
        SHORT,
        f"# {SHORT}",
        f"# answer\n# {SHORT}",
        f'words = "{SHORT}"',
        f'"""{SHORT}"""',
        f'print("{SHORT}")',
        f'from IPython.display import Markdown, display\ndisplay(Markdown("{SHORT}"))',
        f"%%markdown\n{SHORT}",
        'my_answer = "It fell."',
        "my_answer = 3 * gap  # It fell.",
    ],
)
def test_few_words_are_found_far_from_the_question_in_a_cell_that_only_says_them(tmp_path, source):
    nb, wanted, id, at = handed_out("01")
    far_below(source)(nb["cells"], at)
    found = read(tmp_path / "one.ipynb", nb, wanted).written[id]
    assert found.startswith(ELSEWHERE) and (SHORT in found or "It fell." in found)


@pytest.mark.parametrize("above", [0, 1])
def test_where_the_answers_cell_is_gone_and_nothing_is_in_its_place_nobody_knows(tmp_path, above):
    nb, wanted, id, at = handed_out("01")
    del nb["cells"][at - above : at + 1]
    assert read(tmp_path / "one.ipynb", nb, wanted).written == {}


def test_numbers_are_an_answer_too(tmp_path):
    nb, wanted, id, at = handed_out("01")
    nb["cells"][at]["source"] = "answer = 3 * kl"
    assert read(tmp_path / "one.ipynb", nb, wanted).written == {id: "answer = 3 * kl"}


def test_each_text_is_said_once(tmp_path):
    nb, wanted, id, at = handed_out("01")
    nb["cells"][at]["source"] = f'a = "{TEXT}"\nanswer = a + "!"\nprint(answer)'
    assert read(tmp_path / "one.ipynb", nb, wanted).written == {id: f"{TEXT}!"}


@pytest.mark.parametrize(
    "cell",
    [
        text("See ![my photo](attachment:my%20photo.png).", attachments={"my photo.png": {"image/png": PNG}}),
        text('See <img src="attachment:a.png" width="300">.', attachments={"a.png": {"image/png": [PNG[:8], PNG[8:]]}}),
        text(f"See ![image.png](data:image/png;base64,{PNG})."),
        text(f'See <img src="data:image/png;base64,{PNG}" alt="x"/>.'),
    ],
)
def test_a_pasted_picture_comes_along(tmp_path, cell):
    nb, wanted, id, at = handed_out("02")
    nb["cells"].insert(at + 1, cell)
    found = read(tmp_path / "one.ipynb", nb, wanted)
    assert found.pictures[id] == [f"data:image/png;base64,{PNG}"]
    assert found.written[id].startswith("See [picture 1, ") and found.written[id].endswith("].")


@pytest.mark.parametrize(
    "attachment", [{"image/svg+xml": "<svg onload='x'>"}, {"image/png": "<script>"}, {"image/png": 3}, "x", None, {}]
)
def test_what_is_no_picture_is_not_shown(tmp_path, attachment):
    nb, wanted, id, at = handed_out("02")
    nb["cells"].insert(at + 1, text("![x](attachment:a.png)", attachments={"a.png": attachment}))
    found = read(tmp_path / "one.ipynb", nb, wanted)
    assert found.pictures[id] == [] and found.written[id] == "![x](attachment:a.png)"


def test_pictures_that_are_too_large_are_said_to_be(tmp_path):
    nb, wanted, id, at = handed_out("02")
    nb["cells"].insert(at + 1, text("![x](attachment:a.png)", attachments={"a.png": {"image/png": "A" * LARGEST}}))
    found = read(tmp_path / "one.ipynb", nb, wanted)
    assert found.pictures[id] == [] and found.written[id] == "[a picture too large to show]"


def test_other_pictures_are_another_answer(tmp_path):
    nb, wanted, id, at = handed_out("02")
    nb["cells"].insert(at + 1, text("![x](attachment:a.png)", attachments={"a.png": {"image/png": PNG}}))
    first = read(tmp_path / "one.ipynb", nb, wanted).written[id]
    nb["cells"][at + 1]["attachments"]["a.png"]["image/png"] = PNG[4:]
    assert read(tmp_path / "one.ipynb", nb, wanted).written[id] != first, "so that a mark does not hold for both"


def test_hostile_texts_only_fail_to_be_words():
    for source in ("-" * 90_000 + "1", "1" + "+1" * 90_000, "(" * 90_000, "lambda:" * 20_000 + "1", "f'" + "{" * 9000):
        assert isinstance(written_text(source), str)
    for source in ("answer" * 30_000, "a" * 200_000, "a b " * 50_000, "# for x in y:\n" * 14_000):
        assert isinstance(is_prose(NotebookNode(cell_type="code", source=source)), bool)


def test_many_empty_lines_take_no_time(tmp_path):
    nb, wanted, id, at = handed_out("01")
    nb["cells"] += [text("\n" * 150_000 + "."), code("x = 1\n" + "\n" * 150_000)]  # minutes if it were quadratic
    assert read(tmp_path / "one.ipynb", nb, wanted).written[id].endswith(".")


def test_the_handed_out_notebooks_are_valid():
    for lecture in LECTURES:
        nb, *_ = handed_out(lecture)
        nbformat.validate(nb)

"""From a lecture's text source to the cells of its two notebooks: ids, stubs, equation numbers. Nothing is run here."""

import ast
import copy
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import jupytext
import nbformat
from nbformat import NotebookNode

from course_utils.errors import choose, require

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
BLOCK = re.compile(rf"^([ \t]*){BEGIN}[ \t]*\n(?:.*\n)*?[ \t]*{END}[ \t]*$", re.M)
MARKER_LINE = re.compile(rf"^[ \t]*(?:{BEGIN}|{END})[ \t]*\n?", re.M)
FENCE = re.compile(r"^[ \t]*(```+|~~~+).*?^[ \t]*\1[ \t]*$", re.M | re.S)
BADGE = "<!-- colab-badge -->"


def colab_badge(name: str, repository: str, tag: str) -> str:
    """Return the badge's HTML (Markdown would not be rendered on a line with a comment); empty if not on GitHub."""
    github = re.fullmatch(r"https://github\.com/([^/]+/[^/]+?)(?:\.git)?/?", repository)
    if not github:
        return ""
    url = f"https://colab.research.google.com/github/{github[1]}/blob/{tag}/lectures/{name}.ipynb"
    image = "https://colab.research.google.com/assets/colab-badge.svg"
    return f'<a href="{url}"><img src="{image}" alt="Open in Colab"></a>'


def publish(text: str, name: str, repository: str, tag: str) -> str:
    """Return the source with the set-up constants and the badge filled in; ``ValueError`` if such a line is missing."""
    badge = colab_badge(name, repository, tag)
    lines = {
        r'^REPOSITORY = ".*"$': f'REPOSITORY = "{repository}"',
        r'^TAG = ".*"$': f'TAG = "{tag}"',
        rf"^{re.escape(BADGE)}.*$": f"{BADGE} {badge}" if badge else BADGE,
    }
    for pattern, line in lines.items():
        found = len(re.findall(pattern, text, re.M))
        require(found == 1, f"{name}.md has {found} lines like {pattern}; exactly one is needed")
        text = re.sub(pattern, lambda _, line=line: line, text, flags=re.M)
    return text


def slug(heading: str) -> str:
    """Return a section's short name: "s1-6" for "1.6 Gaussians", else the heading's first words."""
    number = re.match(r"\d+(?:\.\d+)*\b", heading)
    if number:
        return "s" + number[0].replace(".", "-")
    plain = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode().lower()
    return "-".join(re.findall(r"[a-z0-9]+", plain)[:4])[:40] or "section"


def sections(markdown: str) -> list[str]:
    """Return the slugs of the sections that begin in a Markdown cell: levels 1 and 2, and numbered headings of any."""
    headings = re.findall(r"^(#{1,6}) +(.+)$", FENCE.sub("", markdown), re.M)
    return [slug(text) for marks, text in headings if len(marks) <= 2 or text[0].isdigit()]


def exercise_of(cell: NotebookNode) -> str | None:
    """Return the number of the exercise to be programmed in this cell, such as "1.2", or None."""
    return cell.metadata.get("course", {}).get("exercise")


def with_ids(cells: Sequence[NotebookNode]) -> list[NotebookNode]:
    """Return the cells with ids that follow from the source: section, kind, ordinal; or the exercise's number."""
    section, counts = "start", Counter()
    for cell in cells:
        begun = sections(cell.source) if cell.cell_type == "markdown" else []
        section = begun[0] if begun else section
        number = exercise_of(cell) or cell.metadata.get("course", {}).get("written")
        key = f"exercise-{slug(str(number))[1:]}" if number else f"{section}-{cell.cell_type}"
        counts[key] += 1
        require(not number or counts[key] == 1, f"exercise {number} has more than one cell; give each its own number")
        cell["id"] = key if number else f"{key}-{counts[key]}"
        section = begun[-1] if begun else section
    return list(cells)


def check_markers(cell: NotebookNode) -> None:
    """Raise ``ValueError`` if a cell's solution markers don't pair up, or stand where they would not be cut out."""
    blocks, markers = len(BLOCK.findall(cell.source)), len(MARKER_LINE.findall(cell.source))
    if cell.cell_type == "code" and exercise_of(cell):
        require(blocks > 0 and markers == 2 * blocks, f"cell {cell.id}: needs `{BEGIN}` and `{END}` lines in pairs")
    else:
        mentioned = BEGIN in cell.source or END in cell.source
        require(not mentioned, f"cell {cell.id}: has solution markers but no metadata {{course: {{exercise: …}}}}")


def read_source(text: str) -> list[NotebookNode]:
    """Return the cells of a source, without outputs, with their ids. Raises ``ValueError`` for a mistake in it."""
    cells = with_ids(jupytext.reads(text, fmt="md:myst").cells)
    for cell in cells:
        check_markers(cell)
    return cells


def new_notebook(cells: Sequence[NotebookNode], **metadata) -> NotebookNode:
    """Return a notebook of copies of the cells."""
    return nbformat.v4.new_notebook(cells=copy.deepcopy(list(cells)), metadata=copy.deepcopy(metadata))


def twin_notebook(cells: Sequence[NotebookNode]) -> NotebookNode:
    """Return the solved notebook: all cells, so that jupytext can write the source back from it."""
    return new_notebook(cells, jupytext={"formats": "ipynb,md:myst"})


def stub(source: str, number: str) -> str:
    """Return an exercise's source with the solution cut out."""
    return BLOCK.sub(rf'\1raise NotImplementedError("Exercise {number}")', source)


def student_notebook(cells: Sequence[NotebookNode]) -> NotebookNode:
    """Return the student's notebook: cells tagged `solution` left out, exercises open."""
    nb = new_notebook([cell for cell in cells if "solution" not in cell.metadata.get("tags", [])])
    for cell in nb.cells:
        if exercise_of(cell):
            cell.source = stub(cell.source, exercise_of(cell))
    return nb


def inject(student_nb: NotebookNode, solved_nb: NotebookNode) -> NotebookNode:
    """Return the student's notebook with the solved one's code, without marker lines, in its exercise cells.

    Raises ``ValueError`` for an exercise that the solved notebook lacks.
    """
    solved = [cell for cell in solved_nb.cells if exercise_of(cell)]
    solutions = {exercise_of(cell): MARKER_LINE.sub("", cell.source).rstrip() for cell in solved}
    nb = new_notebook(student_nb.cells, **student_nb.metadata)
    for cell in nb.cells:
        if exercise_of(cell):
            cell.source = solutions[choose(exercise_of(cell), solutions, "exercise")]
    return nb


# Equations and their checks ----------------------------------------------------------------------------------------


def tags_in(markdown: str) -> list[str]:
    r"""Return the equation numbers, ``\tag{1.6a}``, of a Markdown cell in order; code in it does not count."""
    return re.findall(r"\\tag\{([^}]*)\}", re.sub(r"`[^`\n]*`", "", FENCE.sub("", markdown)))


def verified_in(code: str) -> list[str]:
    """Return the equation numbers that a code cell checks, ``verify("1.6a", …)``, in order; comments don't count."""
    tree = ast.parse(re.sub(r"^[ \t]*[%!].*$", "", code, flags=re.M))  # IPython's magics are no Python
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "verify"]
    return [call.args[0].value for call in calls if call.args and isinstance(call.args[0], ast.Constant)]

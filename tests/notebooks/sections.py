"""What holds for every section of every lecture, found by reading a source and by running it once, sections in reverse.

    python tests/notebooks/sections.py [solutions/02_vae.md …] [--only 2.3,2.7] [--static] [-p budget=0.05]

prints what is wrong: names that a section takes from another, asserts without a sentence, docstrings that cite an
equation whose check does not call them, sections that do not run after the set-up cells alone, and equations whose
checks would not notice a doubled side or a sign turned over. ``test_sections.py`` demands that nothing is.
"""

import argparse
import ast
import builtins
import contextlib
import io
import json
import re
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import torch
from nbformat import NotebookNode
from torch import Tensor

import course_utils
from course_tools.notebook_source import exercise_of, read_source, tags_in, verified_in

ROOT = Path(__file__).resolve().parents[2]
SECTION = re.compile(r"^## (?:(\d+\.\d+)\b|.)", re.M)
NUMBERS = re.compile(r"((?:(?:,| and)? ?\(\d+\.\d+[a-z]\))+)\.?\s*\Z")  # "… in nats, (1.6a)." at the end of a docstring
SMALL = {"budget": "0.05"}


class Section(NamedTuple):
    """A numbered section: its number, "1.6", and its cells; the part before the first one is "set-up"."""

    number: str
    cells: list[NotebookNode]

    @property
    def code(self) -> list[NotebookNode]:
        """Its code cells."""
        return [cell for cell in self.cells if cell.cell_type == "code"]


def sections_of(source: Path) -> list[Section]:
    """Return a lecture's set-up and its numbered sections; a heading without a number ends the one before."""
    found = [Section("set-up", [])]
    for cell in read_source(source.read_text("utf-8")):
        heading = SECTION.search(cell.source) if cell.cell_type == "markdown" else None
        if heading and (heading[1] or found[-1].number != "set-up"):
            found.append(Section(heading[1] or "", []))
        found[-1].cells.append(cell)
    return [section for section in found if section.number]


# What the source alone tells -----------------------------------------------------------------------------------------


def names(tree: ast.AST) -> tuple[set[str], set[str]]:
    """Return the names that a piece of code binds, anywhere in it, and those that it reads."""
    bound, read = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
    return bound, read


def bound_at_top(tree: ast.Module) -> set[str]:
    """Return the names that a cell leaves behind: those bound outside functions, classes and comprehensions."""
    inner = (ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    found, waiting = set(), list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).split(".")[0])
        if not isinstance(node, inner):
            waiting.extend(ast.iter_child_nodes(node))
    return found


def borrowed_names(sections: list[Section]) -> dict[str, list[str]]:
    """Return, by section, the names that it reads without binding them, neither it nor the set-up."""
    set_up = set().union(*(bound_at_top(ast.parse(cell.source)) for cell in sections[0].code))
    found = {}
    for section in sections[1:]:
        cells = [names(ast.parse(cell.source)) for cell in section.code]
        bound, read = (set().union(*(cell[i] for cell in cells)) for i in (0, 1))
        found[section.number] = sorted(read - bound - set_up - set(dir(builtins)))
    return {number: borrowed for number, borrowed in found.items() if borrowed}


def rebound_names(sections: list[Section]) -> dict[str, list[str]]:
    """Return, by section, the names of the set-up that it binds anew, so that another section meets another thing."""
    set_up = set().union(*(bound_at_top(ast.parse(cell.source)) for cell in sections[0].code))
    found = {s.number: set().union(*(bound_at_top(ast.parse(c.source)) for c in s.code)) for s in sections[1:]}
    return {number: sorted(bound & set_up) for number, bound in found.items() if bound & set_up}


def shared_with_exercises(sections: list[Section]) -> dict[str, list[str]]:
    """Return, by section, the names that an exercise or the cell below it reads and another section binds too.

    After Run All the other section's value is there, and who solves the exercise then meets it.
    """
    bound = {s.number: set().union(*(bound_at_top(ast.parse(cell.source)) for cell in s.code)) for s in sections}
    found = {}
    for section in sections[1:]:
        others = set().union(*(bound[s.number] for s in sections[1:] if s.number != section.number))
        needed = set()
        for cell in exercise_cells(section):
            own, read = names(ast.parse(cell.source))
            needed |= read - own
        found[section.number] = sorted(needed & bound[section.number] & others)
    return {number: shared for number, shared in found.items() if shared}


def exercise_cells(section: Section) -> list[NotebookNode]:
    """Return a section's exercises and the cells below them, which check them and use them."""
    cells = section.code
    return [c for i, c in enumerate(cells) if exercise_of(c) or (i and exercise_of(cells[i - 1]))]


def silent_asserts(sections: list[Section]) -> list[str]:
    """Return the asserts without a sentence for whose run they stop, with their cells."""
    found = []
    for section in sections:
        for cell in section.code:
            silent = [n for n in ast.walk(ast.parse(cell.source)) if isinstance(n, ast.Assert) and n.msg is None]
            found += [f"{cell.id}: {ast.unparse(node)}" for node in silent]
    return found


def called_below(sections: list[Section]) -> dict[str, set[str]]:
    """Return, by equation, what is called from where it stands to its last check: "kl_gaussian", "elbo"."""
    found = defaultdict(set)
    for section in sections:
        called, above = [], {}  # the names called in each code cell so far; by tag, how many cells stood above it
        for cell in section.cells:
            if cell.cell_type == "markdown":
                above |= dict.fromkeys(tags_in(cell.source), len(called))
            elif cell.cell_type == "code":
                calls = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Call)]
                handed = [a for call in calls for a in [call.func, *call.args, *(k.value for k in call.keywords)]]
                called.append({getattr(a, "attr", getattr(a, "id", None)) for a in handed})
                for tag in verified_in(cell.source):
                    found[tag] |= set().union(*called[above.get(tag, 0) :])
    return found


def citations() -> Iterator[tuple[str, str, list[str]]]:
    """Yield (module, function, equations) for each docstring of the package that ends with equation numbers."""
    for path in sorted(Path(course_utils.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and (doc := ast.get_docstring(node)):
                cited = NUMBERS.search(doc)
                if cited:
                    yield path.stem, node.name, re.findall(r"\d+\.\d+[a-z]", cited[1])


def wrong_citations(called: dict[str, set[str]]) -> list[str]:
    """Return the docstrings that end with an equation whose check, as far as it is in `called`, does not call them."""
    return [
        f"{module}.{name} cites ({tag}), " + ("whose check does not call it" if tag in called else "which is not there")
        for module, name, tags in citations()
        for tag in tags
        if (tag in called or tag[0] in {t[0] for t in called}) and name not in called.get(tag, ())
    ]


# What one run tells --------------------------------------------------------------------------------------------------


def scaled(side, factor: float):
    """Return one side of an equation times a factor, with its standard error."""
    if hasattr(side, "se"):
        return type(side)(side.value * factor, side.se * abs(factor))
    return side * factor


class Side(NamedTuple):
    """One side of one check that held: which, what it is worth, and which distortions of it make the check fail."""

    which: str
    value: Tensor
    noticed: frozenset[str]


class Watch:
    """Stands before ``verify``: each check that holds is made again with one of its sides doubled, or its sign turned.

    A side that is the number 0 in an inequality is left alone: it says which sign the other one has.
    """

    def __init__(self, verify: Callable):
        self.verify = verify
        self.sides = defaultdict(list)  # by equation

    def __call__(self, tag: str, left, right, **options) -> None:
        self.verify(tag, left, right, **options)
        inequality = options.get("relation", "=") != "="
        for which, side in {"left": left, "right": right}.items():
            if inequality and isinstance(side, int | float) and side == 0:
                continue
            changed = {"scale": scaled(side, 2.0), "sign": scaled(side, -1.0)}
            pairs = {what: (new, right) if which == "left" else (left, new) for what, new in changed.items()}
            noticed = frozenset(what for what, pair in pairs.items() if self.fails(tag, *pair, **options))
            value = torch.as_tensor(getattr(side, "value", side)).detach().cpu().double()
            self.sides[tag].append(Side(which, value, noticed))

    def fails(self, tag: str, left, right, **options) -> bool:
        """Tell whether a check fails."""
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                self.verify(tag, left, right, **options)
        except AssertionError:
            return True
        return False

    def blind(self) -> dict[str, list[str]]:
        """Return, by equation, what none of its checks notices: "scale", "sign of the left side", "… right side".

        A side that stands in another check of the same equation too, on whichever side, counts there as well. Doubling
        the one side of an inequality is halving the other: so either will do.
        """
        found = {}
        for tag, sides in self.sides.items():
            missed = [] if any("scale" in side.noticed for side in sides) else ["scale"]
            for which in ("left", "right"):
                own = [side for side in sides if side.which == which]
                linked = [s for s in sides if any(s.value.equal(o.value) for o in own)]
                if own and not any("sign" in side.noticed for side in own + linked):
                    missed.append(f"sign of the {which} side")
            if missed:
                found[tag] = missed
        return found


def run_cell(cell: NotebookNode, namespace: dict) -> None:
    """Run a code cell as the notebook does, but for showing its last value."""
    exec(compile(cell.source, f"<{cell.id}>", "exec"), namespace)


def run_sections(sections: list[Section], parameters: dict[str, str], only: set[str]) -> dict:
    """Run the set-up once, then each section in a copy of its names, the last section first.

    After each section its exercises and their checks run again, as for a reader who comes back to them. Returns
    {"errors": {section: traceback}, "blind": {tag: distortions}}.
    """
    from IPython.core.interactiveshell import InteractiveShell

    import course_utils.verify as module

    InteractiveShell.instance()  # display() prints; nothing asks for a kernel
    watch = Watch(module.verify)
    start, errors = {"__name__": "__main__"}, {}
    with mock.patch.object(module, "verify", watch):  # what the set-up imports
        for cell in sections[0].code:
            run_cell(cell, start)
            if "parameters" in cell.metadata.get("tags", []):
                exec("\n".join(f"{name} = {value}" for name, value in parameters.items()), start)
    for section in reversed(sections[1:]):
        if only and section.number not in only:
            continue
        cells = section.code
        again = exercise_cells(section)
        namespace = dict(start)
        try:
            for cell in cells + again:
                run_cell(cell, namespace)
        except BaseException as error:  # whatever stops a reader; the other sections run all the same
            where = "" if cell not in again else " (perhaps when run again, after the section)"
            short = traceback.format_exception_only(error)[-1].strip()
            errors[section.number] = f"{cell.id}{where}: {short[:600]}"
    return {"errors": errors, "blind": watch.blind()}


def main(arguments: list[str] | None = None) -> None:
    """Print what is wrong with the sections of some lectures; the last line is all of it in JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", type=Path, help="sources of lectures; without any, all of them")
    parser.add_argument("--only", default="", help="run these sections only: 2.3,2.7")
    parser.add_argument("--static", action="store_true", help="run nothing")
    parser.add_argument("-p", action="append", default=[], help="a parameter of the lecture: name=value")
    given = parser.parse_args(arguments)
    parameters = SMALL | dict(pair.split("=", 1) for pair in given.p)
    result = {}
    for source in given.sources or sorted((ROOT / "solutions").glob("[0-9][0-9]_*.md")):
        sections = sections_of(source)
        found = {
            "names of other sections": borrowed_names(sections),
            "names of the set-up bound anew": rebound_names(sections),
            "names of exercises that other sections bind": shared_with_exercises(sections),
            "asserts without a sentence": silent_asserts(sections),
            "wrong citations": wrong_citations(called_below(sections)),
        }
        if not given.static:
            with contextlib.redirect_stdout(io.StringIO()):
                found |= run_sections(sections, parameters, set(filter(None, given.only.split(","))))
        result[source.stem] = found
        print(f"\n{source.stem}")
        for what, items in found.items():
            pairs = items.items() if isinstance(items, dict) else ((None, item) for item in items)
            print(f"  {what}: {'none' if not items else ''}")
            for key, item in pairs:
                print(f"    {'' if key is None else f'{key}: '}{item if isinstance(item, str) else ', '.join(item)}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()

"""The course's files as a sandbox sees them: without the functions that exercises ask for.

In the kernels' memory these functions are sealed (``guard.seal``). What is read from a file, by another Python,
``importlib.reload`` or ``inspect.getsource``, is not.
"""

import ast
from pathlib import Path

from course_tools.grading.hand_in.release import every_exercise

INSTEAD = 'raise NotImplementedError("this is what an exercise asks for")'


def functions_of(tree: ast.Module) -> dict[str, ast.FunctionDef]:
    """Return name → definition of a module's functions, and of methods such as "VAE.terms"."""
    found = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    for parent in tree.body:
        if isinstance(parent, ast.ClassDef):
            found |= {f"{parent.name}.{node.name}": node for node in parent.body if isinstance(node, ast.FunctionDef)}
    return found


def without(source: str, names: set[str]) -> str:
    """Return a module's source with an error in place of these functions' bodies, each line where it was."""
    lines, functions = source.splitlines(), functions_of(ast.parse(source))
    for name in names:
        first, end = functions[name].body[0], functions[name].body[-1].end_lineno
        emptied = [" " * first.col_offset + INSTEAD, *[""] * (end - first.lineno)]
        lines[first.lineno - 1 : end] = emptied
    return "\n".join(lines) + "\n"


def write_redacted(package: Path, folder: Path) -> dict[Path, Path]:
    """Write the files of the package that hold what exercises ask for into a folder, redacted: file → its stand-in."""
    names: dict[str, set[str]] = {}
    for exercise in every_exercise().values():
        for name in exercise.own:
            module, _, function = name.partition(".")
            if function:
                names.setdefault(module, set()).add(function)
    written = {}
    for module, own in names.items():
        path = package / f"{module}.py"
        written[path] = folder / path.name
        written[path].write_text(without(path.read_text("utf-8"), own), "utf-8")
    return written

"""What Python's grammar says of a cell that a stranger wrote: which names it binds, and to what. Nothing is run."""

import ast
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from enum import IntEnum

LONGEST = 200_000  # characters of a source that is parsed
BLOCKS = (
    ast.If,
    ast.Try,
    ast.TryStar,
    ast.With,
    ast.AsyncWith,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.Match,
)  # their statements bind names of the cell, too
QUIET = threading.Lock()  # what catches warnings is no thread's own
CALLABLE = (ast.Name, ast.Attribute, ast.Call, ast.Lambda, ast.Subscript, ast.IfExp)  # what may stand for a function


class Binding(IntEnum):
    """How a cell binds a function's name, the better the greater."""

    NONE = 0
    DATA = 1  # to what can't be a function
    OPEN = 2  # to the open exercise
    OTHER = 3  # to something that may be a function
    EMPTY = 4  # to a function that does nothing
    WHOLE = 5


def without_magic(source: str) -> str:
    """Return a cell without IPython's own lines: magics, shell commands, questions."""
    source = re.sub(r"\A(\s*)%%.*", r"\1pass", source)
    return re.sub(r"^([ \t]*)(?:[%!].*|\??[\w.]+\?{1,2}[ \t]*)$", r"\1pass", source, flags=re.M)


def parsed(source: str) -> ast.Module | None:
    """Return a cell's syntax tree, None if it is not Python: also where it is too long or nested too deeply."""
    if len(source) > LONGEST:
        return None
    for text in dict.fromkeys((source, without_magic(source))):
        try:
            with QUIET, warnings.catch_warnings():  # of a student's "\\s", for one
                warnings.simplefilter("ignore")
                return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return None


def statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a cell, those in its blocks too, but not what stands in functions and classes."""
    for node in body:
        yield node
        if isinstance(node, BLOCKS):
            inner = [*getattr(node, "handlers", []), *getattr(node, "cases", [])]
            yield from statements(
                [
                    *getattr(node, "body", []),
                    *(s for block in inner for s in block.body),
                    *getattr(node, "orelse", []),
                    *getattr(node, "finalbody", []),
                ]
            )


def raises_stub(node: ast.stmt, id: str | None) -> bool:
    """Tell whether a statement is the ``raise NotImplementedError(…)`` of an open exercise; None: of any."""
    if not isinstance(node, ast.Raise) or node.exc is None:
        return False
    call = node.exc
    name = call.func if isinstance(call, ast.Call) else call
    if not isinstance(name, ast.Name) or name.id != "NotImplementedError":
        return False
    text = call.args[0] if isinstance(call, ast.Call) and call.args else None
    return id is None or (isinstance(text, ast.Constant) and text.value == f"Exercise {id}")


def returns(node: ast.stmt) -> bool:
    """Tell whether a statement can end its function with a value."""
    return any(isinstance(part, (ast.Return, ast.Yield, ast.YieldFrom)) for part in ast.walk(node))


def is_nothing(node: ast.stmt) -> bool:
    """Tell whether a statement of a function does nothing: pass, ``...``, a text, ``return None``, not implemented."""
    if isinstance(node, ast.Return):
        return node.value is None or (isinstance(node.value, ast.Constant) and node.value.value is None)
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return isinstance(node, ast.Pass) or text or raises_stub(node, None)


def of_function(node: ast.FunctionDef | ast.AsyncFunctionDef, id: str) -> Binding:
    """Return what a function's definition is worth as the answer to an exercise."""
    for statement in node.body:
        if raises_stub(statement, id):
            return Binding.OPEN
        if returns(statement) and not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            break
    return Binding.EMPTY if all(map(is_nothing, node.body)) else Binding.WHOLE


def checked(node: ast.AST) -> tuple[object, ast.expr] | None:
    """Return the exercise's number and the function of a call of the exercise's own check, None of anything else."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id != "check":
        return None
    given = [*node.args, *(keyword.value for keyword in node.keywords)]
    return (given[0].value, given[1]) if len(given) == 2 and isinstance(given[0], ast.Constant) else None


def checks(value: ast.AST, name: str) -> bool:
    """Tell whether a value is what the exercise's own check returns of the function itself."""
    found = checked(value)
    return bool(found and isinstance(found[1], ast.Name) and found[1].id == name)


def with_checked(source: str, name: str, id: str) -> str:
    """Return a cell that hands another function to the check of exercise `id` with that one bound to `name`, too.

    For ``check("1.1", mine)`` says, as ``kl_bits = mine`` does, which function is the answer.
    """
    tree = parsed(source) if "check" in source else None
    for node in tree.body if tree else ():
        found = checked(getattr(node, "value", None))
        if found and found[0] == id and name not in {n.id for n in ast.walk(found[1]) if isinstance(n, ast.Name)}:
            source += f"\n{name} = {ast.unparse(found[1])}"
    return source


def of_statement(node: ast.AST, name: str, id: str, functions: set[str]) -> Binding:
    """Return how one statement binds a name; `functions` are those that the cell defines."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name:
        return of_function(node, id)
    if isinstance(node, ast.ClassDef) and node.name == name:
        return Binding.WHOLE
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return Binding.OTHER if any(name == (alias.asname or alias.name) for alias in node.names) else Binding.NONE
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple) and isinstance(node.targets[0], ast.Tuple):
        pairs = zip(node.targets[0].elts, node.value.elts, strict=False)
        single = (ast.Assign([target], value) for target, value in pairs)
        return max((of_statement(one, name, id, functions) for one in single), default=Binding.NONE)
    node = node.value if isinstance(node, ast.Expr) and isinstance(node.value, ast.NamedExpr) else node
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    if not any(isinstance(part, ast.Name) and part.id == name for t in targets if t for part in ast.walk(t)):
        return Binding.NONE
    if checks(getattr(node, "value", None), name):
        return Binding.NONE
    named = any(isinstance(target, ast.Name) for target in targets)
    if (
        not named
        or not isinstance(node, (ast.Assign, ast.AnnAssign, ast.NamedExpr))
        or not isinstance(node.value, CALLABLE)
    ):
        return Binding.DATA
    own = isinstance(node.value, ast.Name) and node.value.id in functions
    return Binding.WHOLE if own or isinstance(node.value, ast.Lambda) else Binding.OTHER


def seems(source: str, name: str, id: str) -> Binding:
    """Return how text that is not Python seems to bind a name, by its lines."""
    if not re.search(
        rf"^(?:(?:async[ \t]+)?def[ \t]+{name}\b|{name}[ \t]*(?::[^=\n]+)?=(?!=|[ \t]*check\())", source, re.M
    ):
        return Binding.NONE
    still = re.search(rf"^[ \t]*raise[ \t]+NotImplementedError\([\"']Exercise {re.escape(id)}[\"']\)", source, re.M)
    return Binding.OPEN if still else Binding.WHOLE


def binding(source: str, name: str, id: str) -> Binding:
    """Return the best way in which a cell binds `name`, the function of exercise `id`, at its top level."""
    if name not in source:
        return Binding.NONE
    tree = parsed(source)
    if tree is None:
        return seems(source, name, id)
    nodes = list(statements(tree.body))
    functions = {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
    return max((of_statement(node, name, id, functions) for node in nodes), default=Binding.NONE)


def is_begun(source: str, name: str) -> bool:
    """Tell whether a function of this name does more than raise the open exercise's error."""
    tree = parsed(source) or ast.Module([], [])
    named = [node for node in statements(tree.body) if getattr(node, "name", None) == name]
    return any(not is_nothing(statement) for node in named for statement in getattr(node, "body", []))


def imported(source: str) -> dict[str, str]:
    """Return the names that a cell imports anywhere, each with the first name of the module that it is from."""
    found = {}
    for node in ast.walk(parsed(source) or ast.Module([], [])):
        if isinstance(node, ast.Import):
            found |= {alias.asname or alias.name.split(".")[0]: alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {alias.asname or alias.name: node.module.split(".")[0] for alias in node.names}
    return found


def resembling(source: str, name: str, arguments: Sequence[str]) -> list[str]:
    """Return the functions of a cell that may be meant as `name`: called like it, or with several arguments like its.

    Those in texts, such as ``exec("def kl_bits(p, q): …")``, too.
    """
    found = []
    for node in ast.walk(parsed(source) or ast.Module([], [])):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not all(map(is_nothing, node.body)):
            alike = len(arguments) > 1 and [arg.arg for arg in node.args.args] == list(arguments)
            found += [node.name] if name in node.name or alike else []
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and f"def {name}(" in node.value:
            found.append(name)
    return found

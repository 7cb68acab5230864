"""Runs a student's cells statement by statement, in the kernel: what fails is skipped, what is missing is lent.

A statement's names are those that its bytecode loads; a name that nothing has bound yet is looked for in the pools,
other cells of the same notebook, and only the statements that bind it are run.
"""

import ast
import builtins
import dis
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import CodeType

from IPython.core.inputtransformer2 import TransformerManager

OTHERS = (
    "bash|sh|!|script|system|sx|cmd|html|latex|markdown|javascript|js|svg|perl|ruby|cython|sql|R\\b|pypy|python2|file"
)
OF_ITS_BODY = re.compile(rf"^%%(?!{OTHERS}|writefile(?!.*\.py\b)).*\n?", re.M)  # magics whose cell is Python
TIMED = re.compile(r"^([ \t]*)%time[ \t]+", re.M)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
COMMANDS = {"run_line_magic", "run_cell_magic", "system", "getoutput"}  # of IPython: %load_ext, %%bash, !pip
LOADS = {"LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"}
LEAST = 0.2  # seconds for a statement when the time is used up: enough to define, too little to compute


class TimeUp(BaseException):
    """A statement took too long."""


@dataclass
class Statement:
    """A statement at a cell's top level: its tree, its text, the file that its traceback names."""

    node: ast.stmt
    text: str
    file: str
    lent: bool = False  # by another cell
    tried: bool = False

    @cached_property
    def binds(self) -> set[str]:
        """The names that it binds, or whose objects it seems to change."""
        return set(bound(self.node))

    def code(self, compile: Callable) -> CodeType:
        """Return it compiled."""
        return compile(ast.Module([self.node], []), self.file, "exec")


def root(node: ast.expr) -> Iterator[str]:
    """Yield the names at the left of attributes and items, such as `table` of ``table["a"].b``; of tuples, each."""
    if isinstance(node, ast.Tuple | ast.List):
        for entry in node.elts:
            yield from root(entry)
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Starred | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    if isinstance(node, ast.Name):
        yield node.id


def bound(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement binds or changes, with those of the statements in it."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name
            return
        case ast.Import() | ast.ImportFrom():
            yield from ((alias.asname or alias.name).split(".")[0] for alias in node.names)
        case ast.Assign(targets=targets):
            for target in targets:
                yield from root(target)
        case ast.AugAssign(target=target) | ast.AnnAssign(target=target) | ast.For(target=target):
            yield from root(target)
        case ast.With(items=items):
            for item in items:
                yield from root(item.optional_vars) if item.optional_vars else ()
        case ast.Expr(value=ast.Call(func=ast.Attribute() as method)):
            yield from root(method)
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield from (part.target.id for part in ast.walk(child) if isinstance(part, ast.NamedExpr))
        elif isinstance(child, ast.stmt):
            yield from bound(child)
        elif isinstance(child, ast.ExceptHandler):
            for inner in child.body:
                yield from bound(inner)


def from_stars(statement: Statement, name: str) -> Iterator[Statement]:
    """Yield the import of one name from each module of which a statement imports everything."""
    for node in ast.walk(statement.node):
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            one = ast.copy_location(ast.ImportFrom(node.module, [ast.alias(name)], node.level), node)
            yield replace(statement, node=ast.fix_missing_locations(one), lent=True, tried=False)


def loaded(code: CodeType) -> set[str]:
    """Return the global names that code loads, with those of the functions in it."""
    names = {i.argval for i in dis.get_instructions(code) if i.opname in LOADS}
    return names.union(*(loaded(inner) for inner in code.co_consts if isinstance(inner, CodeType)))


def needed(code: CodeType) -> set[str]:
    """Return the global names that a statement's code loads before it binds them, as a loop does its own variable."""
    first = {}
    for i in dis.get_instructions(code):
        if i.opname in LOADS or i.opname == "STORE_NAME":
            first.setdefault(i.argval, i.opname)
    return {name for name in loaded(code) if first.get(name) != "STORE_NAME"}


def plainer(node: ast.FunctionDef) -> Iterator[ast.FunctionDef]:
    """Yield a function's definition without annotations, and without decorators."""
    for part in ast.walk(node.args):
        if isinstance(part, ast.arg):
            part.annotation = None
    node.returns = None
    yield node
    node.decorator_list = []
    yield node


def is_command(node: ast.stmt) -> bool:
    """Tell whether a statement is one of IPython's: a magic, a command of the shell. None of them is run."""
    calls = (n.func for n in ast.walk(node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute))
    return any(f.attr in COMMANDS and ast.unparse(f.value) == "get_ipython()" for f in calls)


def parts(source: str) -> Iterator[str]:
    """Yield the parts of a cell that is no Python as a whole: what stands between an empty line and the next one
    before a line that is not indented."""
    yield from (part for part in re.split(r"\n[ \t]*\n(?=\S)", source) if part.strip())


def statements(source: str, register: Callable[[str], str]) -> tuple[list[Statement], list[SyntaxError]]:
    """Return the statements of a cell, and the errors of what can't be read. `register` maps a source to a file."""
    source = TransformerManager().transform_cell(TIMED.sub(r"\1", OF_ITS_BODY.sub("", source)))
    try:
        trees, errors = [(ast.parse(source), source)], []
    except SyntaxError as error:
        trees, errors = [], [error]
        for part in parts(source):
            try:
                trees.append((ast.parse(part), part))
            except SyntaxError:
                continue
    found = []
    for tree, text in trees:
        file, lines = register(text), text.splitlines()
        for node in tree.body:
            own = lines[node.lineno - 1] if node.lineno <= len(lines) else ""
            if not is_command(node):
                found.append(Statement(node, own.strip(), file))
    return found, errors


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise ``TimeUp`` in the body after so many seconds."""

    def ring(*_) -> None:
        raise TimeUp

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.1)  # again and again, if it is caught
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass
class Bench:
    """Where statements run: a namespace, pools of cells to lend from, the time that they have.

    Names in `own` are provided even where they are bound already, since the answer's own cell binds them anew.
    `whole` is what the name `function` was bound to last that can be called.
    """

    namespace: dict
    pools: list[list[str]]
    seconds: float
    register: Callable[[str], str]
    compile: Callable
    function: str = ""
    whole: Callable | None = None
    own: frozenset[str] = frozenset()
    skipped: list[tuple[str, str, str]] = field(default_factory=list)  # line, type and text of the error
    lent: list[str] = field(default_factory=list)  # names
    known: dict[str, list[Statement]] = field(default_factory=dict)  # by cell

    def read(self, cell: str) -> list[Statement]:
        """Return the statements of a cell of a pool."""
        if cell not in self.known:
            self.known[cell], _ = statements(cell, self.register)
            for statement in self.known[cell]:
                statement.lent = True
        return self.known[cell]

    def provide(self, name: str) -> None:
        """Run the statements that bind a name, of the first pool that has any."""
        for pool in self.pools:
            cells = (cell for cell in pool if name in cell or "import *" in cell)
            found = [statement for cell in cells for statement in self.read(cell)]
            binders = [statement for statement in found if name in statement.binds]
            binders = binders or [one for statement in found for one in from_stars(statement, name)]
            if binders:
                for statement in binders:
                    self.run(statement)
                if name in self.namespace:
                    self.lent.append(name)
                    return

    def lacks(self, name: str) -> bool:
        """Tell whether a name is to be provided."""
        return name in self.own or name not in self.namespace and not hasattr(builtins, name)

    def run(self, statement: Statement) -> None:
        """Run a statement once, after what it lacks; note it if it fails."""
        if statement.tried:
            return
        statement.tried, start = True, time.monotonic()
        try:
            code = statement.code(self.compile)
            for name in sorted(filter(self.lacks, needed(code))):
                self.provide(name)
            if isinstance(statement.node, DEFINITIONS):
                self.define(statement, code)  # as long as it takes, which on a busy machine may be long
            else:
                with at_most(max(self.seconds, LEAST)):
                    exec(code, self.namespace)
        except TimeUp:
            self.skip(statement.text, "TimeoutError", "it took too long")
        except BaseException as error:  # sys.exit too
            if not statement.lent:
                self.skip(statement.text, *described(error))
        self.seconds -= time.monotonic() - start
        if callable(value := self.namespace.get(self.function)):
            self.whole = value

    def define(self, statement: Statement, code: CodeType) -> None:
        """Run a definition; a function's without annotations, then without decorators, if they name what is not there.

        Types and decorators are often of packages that only the student's machine has.
        """
        try:
            exec(code, self.namespace)
        except (NameError, AttributeError) as error:
            if not isinstance(statement.node, ast.FunctionDef):
                raise
            if not statement.lent:
                self.skip(statement.text, *described(error))
            for node in plainer(statement.node):
                statement.node = node
                with suppress(NameError, AttributeError):
                    return exec(statement.code(self.compile), self.namespace)

    def skip(self, line: str, kind: str, text: str) -> None:
        """Note a statement that failed."""
        self.skipped.append((line[:200], kind[:100], text[:1000]))


def described(error: BaseException) -> tuple[str, str]:
    """Return an exception's type and text, as far as they can be read."""
    try:
        return type(error).__name__, str(error)
    except BaseException:  # whatever a student's class raises
        return "Exception", ""


def run_cell(bench: Bench, source: str) -> None:
    """Run a cell's statements one after the other."""
    found, errors = statements(source, bench.register)
    for error in errors:
        bench.skip((error.text or "").strip(), *described(error))
    for statement in found:
        bench.run(statement)


def run_needed(bench: Bench, source: str, name: str) -> None:
    """Run those of a cell's statements that the binding of a name needs, and no experiments."""
    found, _ = statements(source, bench.register)
    bench.known[source] = found
    bench.pools = [[source], *bench.pools]
    bench.own = frozenset().union(*(statement.binds for statement in found))
    bench.provide(name)

"""Show the package's own code in a lecture, so that formula and function stand side by side."""

import inspect
import textwrap

from IPython.display import display


def show_source(function) -> None:
    """Display the source of a function, method or class without its docstring, and where it stands."""
    lines, first = inspect.getsourcelines(function)
    code = textwrap.dedent("".join(lines))
    if doc := inspect.getdoc(function):
        start = code.index('"""')
        end = code.index('"""', start + 3) + 3
        code = code[:start].rstrip() + code[end:]
        title = f"{inspect.getmodule(function).__name__}: {doc.splitlines()[0]}"
    else:
        title = f"{inspect.getmodule(function).__name__}, line {first}"
    text = textwrap.indent(textwrap.fill(title, 90), "# ") + "\n" + code.strip()
    display({"text/plain": text, "text/markdown": f"```python\n{text}\n```"}, raw=True)

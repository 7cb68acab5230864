"""What no linter holds: encodings of files, imports that run one way, a package that starts at once."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(p for d in ("course_utils", "course_tools", "benchmarks") for p in (ROOT / d).rglob("*.py"))
TEXT_CALLS = {"read_text": 1, "write_text": 2}  # how many arguments there are with an encoding
TEXT_MODE = re.compile(r"[rwaxt+]+")


def without_encoding(code: str) -> list[int]:
    """Return the lines that read or write text in whatever encoding the system has: cp1252 on many a laptop."""
    lines = []
    for call in (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)):
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        if "encoding" in given or None in given:  # None: **options
            continue
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        if name in TEXT_CALLS:
            lines += [call.lineno] * (len(call.args) < TEXT_CALLS[name])
        elif name in ("open", "fdopen", "NamedTemporaryFile", "TemporaryFile"):
            path_first = isinstance(call.func, ast.Name) or name == "fdopen"
            mode = given.get("mode", call.args[path_first] if len(call.args) > path_first else None)
            default = "r" if name == "open" and len(call.args) <= path_first else "b"
            text = mode.value if isinstance(mode, ast.Constant) else default
            lines += [call.lineno] * bool(isinstance(text, str) and TEXT_MODE.fullmatch(text))
        elif any(getattr(given.get(k), "value", False) is True for k in ("text", "universal_newlines")):
            lines.append(call.lineno)
    return lines


def test_the_rule_itself():
    wrong = [
        "open(p)",
        "open(p, 'w')",
        "p.open()",
        "p.open('a')",
        "p.read_text()",
        "p.write_text(s)",
        "run(c, text=True)",
    ]
    right = ["open(p, 'rb')", "open(p, encoding='utf-8')", "p.open('wb')", "p.read_text('utf-8')", "Image.open(buffer)"]
    right += ["p.write_text(s, 'utf-8')", "run(c, text=True, encoding='utf-8')", "os.open(p, flags)", "gzip.open(p)"]
    assert [without_encoding(code) for code in wrong] == [[1]] * len(wrong)
    assert [without_encoding(code) for code in right] == [[]] * len(right)


def test_the_package_alone_starts_at_once():
    heavy = {"torch", "matplotlib", "numpy", "IPython", "ipywidgets"}
    code = f"import course_utils, sys; sys.exit(str({heavy} & set(sys.modules)) if {heavy} & set(sys.modules) else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr


def test_imports_run_one_way():
    """By the contracts in pyproject.toml."""
    linter = Path(sys.executable).with_name("lint-imports")
    command = (
        [linter]
        if linter.exists()
        else [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    )
    done = subprocess.run([*command, "--no-cache"], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_file_is_opened_with_an_encoding(path):
    assert without_encoding(path.read_text("utf-8")) == []

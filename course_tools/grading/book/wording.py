"""What came of an answer, in English: of its cell, of a call, of a name that nothing defined, what is noticed of it."""

from course_tools.grading.book.records import Call, Error, Result
from course_tools.grading.hand_in.submission import Flag

CAUSES = {
    "no notebook": "{detail}",
    "no cell": "No cell with this exercise was found.",
    "raised": "Your cell stopped with {error.type}: {error.text}",
    "stopped": "{detail}",
    "undefined": "Your cell defines no function `{names[0]}`{but}",
    "silent": "Nothing came back: the answer changes how the notebook runs.",
}
FLAGS = {  # the text of each kind of flag, and what all of the kind are called where that is no text with "…"
    "by name": ("found by the function's name", ""),
    "no code": ("its cell is one of text, not of code: what stands there was graded", ""),
    "still open": ("the open exercise's own error still stands in it, beside code of the student's", ""),
    "several cells": (
        "{} cells define {}: the last was graded",
        "several cells define the function: the last was graded",
    ),
    "meant for it": (
        "left open, but `{}` of another cell may be meant for it",
        "left open, but another function of the student's may be meant",
    ),
    "too long": ("the answer is longer than {} characters", ""),
    "own module": ("imports {}.py, which was beside the notebook and is not taken along", ""),
    "course's own": ("calls the course's own {}", "uses the course's own functions"),
    "skipped": ("skipped `{}` ({})", "statements were skipped that can't run where it is graded"),
    "more skipped": ("and {} more statements", "statements were skipped that can't run where it is graded"),
    "lent": ("needs other cells of the notebook, for {}", "needs other cells of the notebook"),
    "ran after": ("ran after the course's answer to {}", ""),
}


def flagged(flag: Flag) -> str:
    """Return the text of a flag."""
    return FLAGS[flag.kind][0].format(*flag.words)


def in_general(flag: Flag) -> str:
    """Return what all flags of a kind are called."""
    text, name = FLAGS[flag.kind]
    return name or text.format(*("…" for _ in flag.words))


def message_of(result: Result) -> str:
    """Return why an exercise has no calls, or why they stopped; nothing where the calls say it all."""
    others = [f"`{name}`" for name in result.names[1:]]
    but = f", but {' and '.join(others)}: was it renamed?" if others else "."
    words = {"detail": result.detail, "error": result.error, "names": result.names, "but": but}
    return CAUSES[result.cause].format(**words) if result.cause else ""


def came_back(call: Call) -> str:
    """Return what a call gave: its value, the error it raised, or that it was not called."""
    if call.error is None:
        return "not called" if call.got is None else call.got
    line = f" in the line `{call.error.line}`" if call.error.line else ""
    return f"{call.error.type}: {call.error.text}{line}"


def is_of_a_name(error: Error | None) -> bool:
    """Tell whether an error says that nothing defined a name."""
    return error is not None and error.type == "NameError"


def met_errors(result: Result) -> list[Error]:
    """Return the exceptions that an answer raised: in its cell, then in its calls."""
    met = [result.error, *(call.error for call in result.calls if not call.passed)]
    return [error for error in met if error is not None]


def unknown_name(result: Result) -> str:
    """Return the first name that an answer missed, such as "NameError: name 'x' is not defined", or nothing."""
    error = next(filter(is_of_a_name, met_errors(result)), None)
    if error is None:
        return ""
    return f"NameError: name '{error.name}' is not defined" if error.name else "NameError"

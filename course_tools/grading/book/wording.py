"""What came of an answer, in English: of its cell, of a call, of a name that nothing defined."""

from course_tools.grading.book.records import Call, Error, Result

CAUSES = {
    "no notebook": "{detail}",
    "no cell": "No cell with this exercise was found.",
    "raised": "Your cell stopped with {error.type}: {error.text}",
    "stopped": "{detail}",
    "undefined": "Your cell defines no function `{names[0]}`{but}",
    "silent": "Nothing came back: the answer changes how the notebook runs.",
}


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

"""Clear errors for bad input: what was given, what is allowed, what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


def require(condition: bool, message: str) -> None:
    """Raise ``ValueError(message)`` unless `condition` holds."""
    if not condition:
        raise ValueError(message)


def choose(value: str, allowed: Iterable[str], what: str) -> str:
    """Return `value` if it is `allowed`; else raise ``ValueError`` with the allowed names and the nearest one."""
    names = list(allowed)
    if value in names:
        return value
    near = get_close_matches(str(value), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{what} {value!r} is not known; allowed: {', '.join(map(repr, names))}{hint}")

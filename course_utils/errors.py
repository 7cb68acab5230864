"""Clear errors for bad input: what was given, what is allowed, what to do."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

LISTED = 30  # allowed names that are told


def require(condition: bool, message: str) -> None:
    """Raise ``ValueError(message)`` unless `condition` holds."""
    if not condition:
        raise ValueError(message)


def listed(names: Sequence[str], most: int = 10) -> str:
    """Return up to so many names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def choose(value: str, allowed: Iterable[str], what: str, meant: Mapping[str, str] | None = None) -> str:
    """Return `value` if it is `allowed`; else raise ``ValueError`` with the allowed names and the nearest one.

    Capitals make no name another one's neighbour; `meant` has names that stand for an allowed one, {"gpu": "cuda"}.
    """
    names = list(allowed)
    if value in names:
        return value
    given, lowered = str(value).lower(), {str(name).lower(): name for name in names}
    near = (meant or {}).get(given) or next(map(lowered.get, get_close_matches(given, lowered, n=1)), None)
    hint = f"; did you mean {near!r}?" if near else ""
    raise ValueError(f"{what} {value!r} is not known; allowed: {listed(list(map(repr, names)), LISTED)}{hint}")

"""Numbers as tables and pages show them."""


def number(value: float | None) -> str:
    """Return points as a cell: at most two decimals, none for whole numbers, blank for None."""
    return "" if value is None else f"{value:.2f}".rstrip("0").rstrip(".")


def plural(noun: str, count: float) -> str:
    """Return a noun as it stands after a number: "1 point", "0.5 points"."""
    return noun if number(count) == "1" else f"{noun}s"


def counted(count: float, noun: str) -> str:
    """Return a number and its noun."""
    return f"{number(count)} {plural(noun, count)}"

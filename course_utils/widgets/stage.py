"""The stage: what every widget declares, once, and how it stands in a notebook.

A widget is a ``Declaration`` with a pure ``compute(state)``, the truth that the lecture teaches, and a module in
JavaScript that computes the same and draws it. ``Widget`` hands the declaration to the page as one JSON `spec`; the
page draws, moves and reads off by itself, with or without a kernel.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets

from course_utils.errors import choose, require

State = dict[str, Any]

DIST = Path(__file__).parent / "dist"
HINT = "Drag the handles in the picture · Tab to a control or handle, arrow keys move it · double click: back to the start."


@dataclass(frozen=True)
class Range:
    """A number from `low` to `high` in steps, shown with so many digits and a unit; `when`: control → values."""

    label: str
    start: float
    low: float
    high: float
    step: float = 0.1
    digits: int = 2
    unit: str = ""
    when: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def check(self, name: str, value: Any) -> None:
        """Raise ``ValueError`` for a value out of range."""
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        inside = number and self.low <= value <= self.high
        require(inside, f"{name} = {value!r} is out of range; allowed: {self.low:g} to {self.high:g}")

    def spec(self) -> State:
        """Return what the page needs to know."""
        return {"kind": "range", **{k: v for k, v in vars(self).items() if k != "start"}}


@dataclass(frozen=True)
class Choice:
    """One of `options`: value → what the reader sees."""

    label: str
    start: str
    options: Mapping[str, str]
    when: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def check(self, name: str, value: Any) -> None:
        """Raise ``ValueError`` for a value that is none of the options."""
        choose(value, self.options, name)

    def spec(self) -> State:
        """Return what the page needs to know."""
        return {"kind": "choice", "label": self.label, "options": list(self.options.items()), "when": self.when}


@dataclass(frozen=True)
class Declaration:
    """All names, ranges, grids, colours and words of a widget, and its mathematics.

    `name` is that of the module's export in JavaScript. `controls`: name → ``Range`` or ``Choice``, in tab order; their
    values are the state. `compute(state)` returns the numbers. `constants`: what the page needs besides, as JSON.
    `colours`: name → one for light pages and one for dark. `presets`: (title, state) of the still picture; a state may
    be partial. `surprise`: control → an interval, or a list. `actions`: name → (label, function of the state giving a
    partial state), one further button each. `alt`: what the picture shows, for who can't see it.
    """

    name: str
    title: str
    controls: Mapping[str, Range | Choice]
    compute: Callable[[State], Any]
    presets: Sequence[tuple[str, State]]
    surprise: Mapping[str, Sequence]
    alt: str
    colours: Mapping[str, tuple[str, str]]
    constants: Mapping[str, Any] = field(default_factory=dict)
    actions: Mapping[str, tuple[str, Callable[[State], State]]] = field(default_factory=dict)
    hint: str = HINT

    @property
    def start(self) -> State:
        """The state at the start."""
        return {name: control.start for name, control in self.controls.items()}

    def check(self, values: Mapping[str, Any]) -> None:
        """Raise ``ValueError`` for an unknown control or a value that it can't take."""
        for name, value in values.items():
            self.controls[choose(name, self.controls, "control")].check(name, value)

    def surprised(self, rng: np.random.Generator) -> State:
        """Return random values of the controls that `surprise` names."""
        values: State = {}
        for name, among in self.surprise.items():
            control = self.controls[name]
            if isinstance(control, Choice):
                values[name] = str(rng.choice(list(among)))
            else:
                steps = round((rng.uniform(*among) - control.low) / control.step)
                values[name] = min(control.high, round(control.low + steps * control.step, 10))
        return values

    def spec(self) -> State:
        """Return what the page is told, as JSON."""
        return {
            "name": self.name,
            "title": self.title,
            "controls": [{"name": name, **control.spec()} for name, control in self.controls.items()],
            "start": self.start,
            "presets": [{"title": title, "state": self.start | state} for title, state in self.presets],
            "surprise": self.surprise,
            "actions": {name: label for name, (label, _) in self.actions.items()},
            "constants": self.constants,
            "colours": self.colours,
            "alt": self.alt,
            "hint": self.hint,
        }


def grid(low: float, high: float, n: int) -> State:
    """Return a grid of n numbers from low to high, as the page makes it itself."""
    require(n >= 2 and math.isfinite(low) and low < high, f"grid from {low} to {high} in {n} points: n >= 2, low < high")
    return {"low": low, "high": high, "n": n}

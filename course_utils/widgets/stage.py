"""The stage: what every widget declares, once, and how it stands in a notebook.

A widget is a ``Declaration`` with a pure ``compute(state)``, the truth that the lecture teaches, and a module in
JavaScript that computes the same and draws it. ``Widget`` hands the declaration to the page as one JSON `spec`; the
page draws, moves and reads off by itself, with or without a kernel.
"""

import base64
import hashlib
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from ipywidgets import widget_serialization

from course_utils.errors import choose, require

State = dict[str, Any]

DIST = Path(__file__).parent / "dist"
ARRAYS = ("uint8", "int32", "float32", "float64")  # those that JavaScript has too
HINT = "Drag the handles in the picture · Tab to a control or handle, arrow keys move it · double click: the start."


@dataclass(frozen=True)
class Range:
    """A number from `low` to `high` in steps, shown with so many digits and a unit; without digits a whole one.

    `when`: control → the values for which it applies. `play`: milliseconds a step of a Play button beside it, 0 for no
    such button. `hidden`: it has no slider, only a handle in the picture. `names`: what the reader sees instead of each
    of the whole numbers from 0 on.
    """

    label: str
    start: float
    low: float
    high: float
    step: float = 0.1
    digits: int = 2
    unit: str = ""
    when: Mapping[str, Sequence] = field(default_factory=dict)
    play: int = 0
    hidden: bool = False
    names: Sequence[str] = ()

    def check(self, name: str, value: Any) -> None:
        """Raise ``ValueError`` for a value out of range, or between whole numbers where one is needed."""
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        inside = number and self.low <= value <= self.high
        require(inside, f"{name} = {value!r} is out of range; allowed: {self.low:g} to {self.high:g}")
        whole = self.digits > 0 or value == int(value)
        require(whole, f"{name} = {value!r}; a whole number is needed, {self.low:g} to {self.high:g}")

    def spec(self) -> State:
        """Return what the page needs to know."""
        return {"kind": "range", **{k: v for k, v in vars(self).items() if k != "start"}}


@dataclass(frozen=True)
class Choice:
    """One of `options`: value → what the reader sees."""

    label: str
    start: str
    options: Mapping[str, str]
    when: Mapping[str, Sequence] = field(default_factory=dict)

    def check(self, name: str, value: Any) -> None:
        """Raise ``ValueError`` for a value that is none of the options."""
        choose(value, self.options, name)

    def spec(self) -> State:
        """Return what the page needs to know."""
        return {"kind": "choice", "label": self.label, "options": list(self.options.items()), "when": self.when}


@dataclass(frozen=True)
class Switch:
    """Yes or no."""

    label: str
    start: bool = False
    when: Mapping[str, Sequence] = field(default_factory=dict)

    def check(self, name: str, value: Any) -> None:
        """Raise ``ValueError`` for what is neither True nor False."""
        require(isinstance(value, bool), f"{name} = {value!r}; True or False is needed")

    def spec(self) -> State:
        """Return what the page needs to know."""
        return {"kind": "switch", "label": self.label, "when": self.when}


@dataclass(frozen=True)
class Bitmap:
    """A picture of `side` x `side` cells that is drawn in the widget; `side` is a multiple of 4.

    Its value is text, as ``bitmap`` makes it: the cells row by row from above, a hexadecimal digit for four of them.
    """

    label: str
    start: str
    side: int
    when: Mapping[str, Sequence] = field(default_factory=dict)

    def check(self, name: str, value: Any) -> None:
        """Raise ``ValueError`` for what is no such text."""
        digits = self.side**2 // 4
        fits = isinstance(value, str) and len(value) == digits and set(value) <= set("0123456789abcdef")
        require(fits, f"{name} = {value!r:.40}; {digits} hexadecimal digits are needed, such as bitmap(cells)")

    def spec(self) -> State:
        """Return what the page needs to know."""
        return {"kind": "bitmap", "label": self.label, "side": self.side, "when": self.when, "hidden": True}


def bitmap(cells: np.ndarray) -> str:
    """Return cells (S, S), True for ink, rows from above, as a ``Bitmap`` has them; S is a multiple of 4."""
    return np.packbits(cells).tobytes().hex()


def cells_of(value: str, side: int) -> np.ndarray:
    """Return the cells (side, side) of a ``Bitmap``'s value, True for ink, rows from above."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(value), np.uint8)).reshape(side, side).astype(bool)


@dataclass(frozen=True)
class Kernel:
    """What a page can't compute by itself: it asks the kernel, and without one shows what was computed beforehand.

    The numbers depend on the controls `of` only; the others choose what is drawn of them. `sprites`: (title, state)
    whose numbers travel with the widget; a state may be partial, and who chooses the title goes to what it says and to
    the start's values of `of`. `press`: label of the button that asks; without one the page asks whenever it has no
    numbers. ``compute(state, tell)`` may call ``tell(numbers, share)`` on its way, share in (0, 1): that much is done,
    and the numbers so far are shown. What a button started runs in a thread of its own, so that the kernel hears
    "Stop": the next ``tell`` then raises ``KeyboardInterrupt``.
    """

    of: Sequence[str]
    sprites: Sequence[tuple[str, State]]
    press: str = ""


@dataclass(frozen=True)
class Declaration:
    """All names, ranges, grids, colours and words of a widget, and its mathematics.

    `name` is that of the module's export in JavaScript. `controls`: name → ``Range``, ``Choice``, ``Switch`` or
    ``Bitmap``, in tab order; their values are the state. `compute(state)` returns the numbers, a named tuple of
    numbers, arrays, text; of a ``Kernel`` it is ``compute(state, tell)``. `constants`: what the page needs besides, as
    JSON.
    `colours`: name → one for light pages and one for dark. `presets`: (title, state) of the still picture; a state may
    be partial. `surprise`: control → an interval, or a list. `actions`: name → (label, function of the state giving a
    partial state), one further button each. `alt`: what the picture shows, for who can't see it. `assets`: bytes that
    the page needs, such as a network's weights.
    """

    name: str
    title: str
    controls: Mapping[str, Range | Choice | Switch | Bitmap]
    compute: Callable[..., Any]
    presets: Sequence[tuple[str, State]]
    surprise: Mapping[str, Sequence]
    alt: str
    colours: Mapping[str, tuple[str, str]]
    constants: Mapping[str, Any] = field(default_factory=dict)
    actions: Mapping[str, tuple[str, Callable[[State], State]]] = field(default_factory=dict)
    hint: str = HINT
    assets: Mapping[str, bytes] = field(default_factory=dict)
    kernel: Kernel | None = None

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
            if not isinstance(control, Range):
                values[name] = list(among)[rng.integers(len(among))]
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
            "kernel": self.kernel and {"of": list(self.kernel.of), "press": self.kernel.press},
        }

    def key(self, state: State) -> State:
        """Return the part of a state that the kernel's numbers depend on."""
        return {name: (self.start | state)[name] for name in self.kernel.of}

    def numbers(self, state: State) -> Any:
        """Return what ``compute`` returns for a state, which may be partial."""
        unheard = [lambda numbers, share: None] if self.kernel else []
        return self.compute(self.start | state, *unheard)

    def sprites(self) -> list[State]:
        """Return what a page without a kernel can show: title, part of the state, numbers."""
        return [
            {
                "title": title,
                "state": self.key(state) | state,
                "numbers": packed(self.numbers(state)),
            }
            for title, state in (self.kernel.sprites if self.kernel else ())
        ]


def packed(value: Any) -> Any:
    """Return numbers as they travel: arrays as bytes with shape and type, named tuples as dictionaries."""
    if isinstance(value, np.ndarray):
        require(value.dtype.name in ARRAYS, f"array of {value.dtype}; a page takes {', '.join(ARRAYS)}")
        return {"shape": list(value.shape), "type": value.dtype.name, "bytes": np.ascontiguousarray(value).tobytes()}
    if isinstance(value, np.generic):
        return value.item()
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {name: packed(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [packed(part) for part in value]
    return value


def ink(images: Any, low: float = -1.0, high: float = 1.0) -> np.ndarray:
    """Return images of any shape as bytes, as the page draws them: 0, the paper, for `low` and 255 for `high`."""
    share = (np.asarray(images, np.float32) - low) / (high - low)
    return (255 * share.clip(0, 1)).round().astype(np.uint8)


def grid(low: float, high: float, n: int) -> State:
    """Return a grid of n numbers from low to high, as the page makes it itself."""
    require(n >= 2 and -math.inf < low < high < math.inf, f"grid {low} to {high} in {n} points: n >= 2, low < high")
    return {"low": low, "high": high, "n": n}


# In a notebook -----------------------------------------------------------------------------------------------------

VIEW = "application/vnd.jupyter.widget-view+json"
WIDTH = 940  # pixels, as in stage.css
# A widget's own script is only this: all widgets of a page share one copy of the code, which a model of its own holds.
LOADER = """
const name = "course-stage-{digest}";
const held = (model, name) => model.widget_manager.get_model(model.get(name).slice("IPY_MODEL_".length));
const load = async (model) => {{
  const bundle = await held(model, "bundle");
  const address = URL.createObjectURL(new Blob([bundle.get("code")], {{ type: "text/javascript" }}));
  return import(address).finally(() => URL.revokeObjectURL(address));
}};
const shared = (model) => {{
  globalThis[name] ??= load(model);
  globalThis[name].catch(() => delete globalThis[name]);
  return globalThis[name];
}};
export default {{
  render: async ({{ model, el }}) => (await shared(model)).render({{ model, el, parts: await held(model, "parts") }}),
}};
"""


@lru_cache
def code() -> str:
    """Return the bundle of all widgets; raise ``FileNotFoundError`` with the remedy where it was not built."""
    path = DIST / "course.js"
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: make widgets")
    return path.read_text("utf-8")


class Shared(anywidget.AnyWidget):
    """What widgets share, once for a kernel and for a page: the code of all of them, or what equal ones are made of."""

    _esm = "export default {};"
    code = traitlets.Unicode().tag(sync=True)
    spec = traitlets.Dict().tag(sync=True)
    assets = traitlets.Dict().tag(sync=True)
    sprites = traitlets.List().tag(sync=True)


@lru_cache
def bundle() -> Shared:
    """Return the code, this kernel's only copy."""
    return Shared(code=code())


PARTS: dict[str, Shared] = {}  # by a digest of what they hold


def parts(declaration: Declaration) -> Shared:
    """Return spec, assets and sprites of a widget: the same object for equal ones, as when a cell is run again."""
    held = {"spec": declaration.spec(), "assets": dict(declaration.assets), "sprites": declaration.sprites()}
    digest = hashlib.sha256(repr(held).encode()).hexdigest()
    if digest not in PARTS:
        PARTS[digest] = Shared(**held)
    return PARTS[digest]


TURN = threading.Lock()  # of what buttons start: one after the other


class Widget(anywidget.AnyWidget):
    """A declared widget in a notebook: `state` is what its controls say, `set`, `reset` and `surprise` move them.

    The page computes and draws. `numbers` are those that Python computes for the present state. Without a kernel the
    widget lives on; where no script runs, the saved picture stands in its place.
    """

    state = traitlets.Dict().tag(sync=True)
    answer = traitlets.Dict().tag(sync=True)  # to the page's last request, with number, share, numbers or error
    bundle = traitlets.Instance(Shared).tag(sync=True, **widget_serialization)
    parts = traitlets.Instance(Shared).tag(sync=True, **widget_serialization)

    def __init__(self, declaration: Declaration, seed: int = 0):
        digest = hashlib.sha256(code().encode()).hexdigest()[:12]
        self._declaration, self._rng = declaration, np.random.default_rng(seed)
        self._stopped = None  # the number of the last request that was stopped
        super().__init__(
            _esm=LOADER.format(digest=digest),
            state=declaration.start,
            bundle=bundle(),
            parts=parts(declaration),
        )
        self.on_msg(self._asked)

    def __repr__(self) -> str:
        return f"Widget({self._declaration.title!r})"

    @property
    def spec(self) -> State:
        """What the page is told of the declaration."""
        return self.parts.spec

    @property
    def numbers(self) -> Any:
        """What ``compute`` returns for the present state."""
        return self._declaration.numbers(dict(self.state))

    def set(self, **values: Any) -> None:
        """Move several controls at once.

        Raises ``ValueError`` for an unknown control or a value that it can't take, before anything moves.
        """
        self._declaration.check(values)
        self.state = {**self.state, **values}

    def reset(self) -> None:
        """Go back to the state at the start."""
        self.state = self._declaration.start

    def surprise(self) -> None:
        """Go to a random state; the sequence of them follows the seed."""
        self.set(**self._declaration.surprised(self._rng))

    def act(self, name: str) -> None:
        """Do what a button does. Raises ``ValueError`` for an unknown name."""
        _, action = self._declaration.actions[choose(name, self._declaration.actions, "action")]
        self.set(**action(dict(self.state)))

    def _asked(self, _: Any, content: Any, buffers: Any) -> None:
        """Hear the page: a request {"number", "state"} for numbers, or {"stop": number of a request}."""
        if not isinstance(content, dict) or not self._declaration.kernel:
            return
        if "stop" in content:
            self._stopped = content["stop"]
        elif {"number", "state"} <= content.keys():
            asked = content["number"], content["state"]
            if self._declaration.kernel.press:
                threading.Thread(target=self._answer_in_turn, args=asked, daemon=True).start()
            else:
                self._answer(*asked)

    def _answer_in_turn(self, number: int, state: State) -> None:
        """Answer when no other computation that a button started is under way."""
        with TURN:
            self._answer(number, state)

    def _answer(self, number: int, state: State) -> None:
        """Compute what a page asked for and tell it the numbers, or what went wrong."""

        def tell(share: float, **rest: Any) -> None:
            self.answer = {"number": number, "share": share, "state": state, **rest}

        def tell_so_far(numbers: Any, share: float) -> None:
            tell(share, numbers=packed(numbers))
            if self._stopped == number:
                raise KeyboardInterrupt

        try:
            self._declaration.check(state)
            tell(0)
            tell(1, numbers=packed(self._declaration.compute(self._declaration.start | state, tell_so_far)))
        except KeyboardInterrupt:
            tell(1, stopped=True)
        except Exception as error:
            tell(1, error=f"{type(error).__name__}: {error}")

    @traitlets.validate("state")
    def _known(self, proposal: traitlets.Bunch) -> State:
        """Refuse, from the page too, what is no state."""
        self._declaration.check(proposal["value"])
        return proposal["value"]

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict, dict]:
        """Return the live view, and for readers without a script the saved picture with its alt text."""
        data, metadata = {"text/plain": repr(self)}, {}
        picture = DIST / f"{self._declaration.name}.png"
        if picture.exists():
            data["image/png"] = base64.b64encode(picture.read_bytes()).decode()
            metadata["image/png"] = {"alt": self._declaration.alt, "width": WIDTH}
        view = {"version_major": 2, "version_minor": 1, "model_id": self.model_id}
        return {**data, VIEW: view}, metadata

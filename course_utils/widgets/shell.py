"""The one shell of every widget of the course: controls, a body, a line of numbers, and an error box.

A widget is three layers. ``compute(state) -> numbers`` is pure; ``draw(artists, numbers)`` sets data on artists that
exist already; ``Explorer``, a ``Shell`` whose body is a picture, owns the ipywidgets. A widget whose body is something
else, such as a pad to point at, is a ``Shell`` of its own. Only API that ipywidgets 7.7 (Colab) and 8 both have is
used, and no Output widget: those hang headless runs.
"""

import base64
import html
import io
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import ipywidgets as widgets
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from course_utils.errors import choose, require
from course_utils.plots import STYLE, png_bundle, small_png, to_png
from course_utils.training import one_thread

State = dict[str, Any]

VIEW = "application/vnd.jupyter.widget-view+json"
HINT = "Keyboard: Tab to a control · arrow keys move a slider · Space opens a list or presses a button."
SHEET_HEIGHT = 2.7  # inches of one state in the saved picture


class Picture:
    """PNG frames of one figure, quick because only animated artists are drawn again.

    All that ``make_figure`` creates with ``animated=True`` is drawn on every frame; axes, ticks, labels and legends are
    drawn once and kept, until ``draw`` changes the limits of an axes. Panels stay where the first frame has laid them
    out, so tick labels should always be equally wide.
    """

    def __init__(self, fig: Figure):
        self.fig = fig
        self.limits = None
        self.moving = sorted(fig.findobj(lambda a: a.get_animated()), key=lambda a: a.get_zorder())

    def frame(self) -> bytes:
        """Return the present figure as PNG bytes."""
        canvas, limits = self.fig.canvas, [tuple(ax.viewLim.extents) for ax in self.fig.axes]
        if limits != self.limits:
            with mpl.rc_context(STYLE):
                canvas.draw()
            self.fig.set_layout_engine("none")  # the first draw has laid the panels out; they stay there
            self.background, self.limits = canvas.copy_from_bbox(self.fig.bbox), limits
        canvas.restore_region(self.background)
        for artist in self.moving:
            artist.draw(canvas.get_renderer())
        with io.BytesIO() as buffer:
            Image.fromarray(np.asarray(canvas.buffer_rgba())).save(buffer, "png", compress_level=1)
            return buffer.getvalue()


class Shell(ABC):
    """Controls, buttons, a line of numbers and an error box around a `body`; without a kernel, a saved picture.

    `controls`: name -> ipywidgets control, in tab order; their values are the state. `surprise(rng)`: a state. `alt`:
    what the saved picture shows, for readers who can't see it. `width`: of the view, in pixels at most. `actions`:
    label -> function of the state giving a (partial) state, one further button each. `hint`: how to use the keyboard.
    `seed`: of the surprises.

    A subclass says in ``_redraw`` how the body follows the state, and keeps its saved picture in `_saved`. Exceptions
    are shown in the widget and kept in `error`.
    """

    def __init__(
        self,
        title: str,
        controls: Mapping[str, widgets.ValueWidget],
        body: widgets.DOMWidget,
        surprise: Callable[[np.random.Generator], State],
        alt: str,
        width: int,
        actions: Mapping[str, Callable[[State], State]] | None = None,
        hint: str = HINT,
        seed: int = 0,
    ):
        self.title, self.controls, self.alt = title, dict(controls), alt
        self._surprise, self._actions, self._width = surprise, dict(actions or {}), width
        self._rng = np.random.default_rng(seed)
        self._start = self._replaced = self.state
        self._quiet = False
        self.error: Exception | None = None
        self._saved = b""
        self._build(body, hint)
        for control in self.controls.values():
            control.observe(self._changed, "value")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.title!r})"

    @property
    def state(self) -> State:
        """The controls' values by name."""
        return {name: control.value for name, control in self.controls.items()}

    def set(self, **values: Any) -> None:
        """Move several controls at once and redraw once.

        Raises ``ValueError`` for an unknown control or a value that it can't take, before anything moves.
        """
        for name, value in values.items():
            self._check(choose(name, self.state, "control"), value)
        self._replaced = self.state
        with self._quietly():
            for name, value in values.items():
                self._put(name, value)
        self._update()

    def reset(self) -> None:
        """Go back to the state at the start."""
        self.set(**self._start)

    def surprise(self) -> None:
        """Go to a random state; the sequence of them follows the seed."""
        self._try(lambda: self.set(**self._surprise(self._rng)))

    def act(self, label: str) -> None:
        """Do what the button `label` does. Raises ``ValueError`` for an unknown label."""
        action = self._actions[choose(label, self._actions, "action")]
        self._try(lambda: self.set(**action(self.state)))

    def _check(self, name: str, value: Any) -> None:
        """Raise ``ValueError`` if this part of the state can't take this value."""
        check_value(self.controls[name], name, value)

    def _put(self, name: str, value: Any) -> None:
        """Give this part of the state a value that was checked."""
        self.controls[name].value = value

    def _build(self, body: widgets.DOMWidget, hint: str) -> None:
        """Assemble the view: title, controls, buttons, readout, error box, body."""
        buttons = []
        pressed = {label: lambda label=label: self.act(label) for label in self._actions}
        for label, press in {"Reset": self.reset, "Surprise me": self.surprise, **pressed}.items():
            button = widgets.Button(description=label, layout=widgets.Layout(width="auto"))
            button.on_click(lambda _, press=press: press())
            buttons.append(button)
        self.buttons = {button.description: button for button in buttons}
        keys = widgets.HTML(f'<span style="opacity: 0.75; font-size: 12px">{hint}</span>')
        row = widgets.HBox([*buttons, keys], layout=widgets.Layout(flex_flow="row wrap", align_items="center"))
        self.readout, self.error_box = widgets.HTML(), widgets.HTML()
        title = widgets.HTML(f"<b>{html.escape(self.title)}</b>")
        self.view = widgets.VBox(
            [title, self._arrange(), row, self.readout, self.error_box, body],
            layout=widgets.Layout(width="100%", max_width=f"{self._width}px", overflow="hidden"),
        )

    def _arrange(self) -> widgets.Box:
        """Return the controls in columns as wide as a slider needs."""
        for control in self.controls.values():
            control.style.description_width = "84px"
            control.layout.width = "auto"
        return widgets.GridBox(
            list(self.controls.values()),
            layout=widgets.Layout(grid_template_columns="repeat(auto-fit, minmax(260px, 1fr))", grid_gap="0 12px"),
        )

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Move controls without a redraw for each."""
        self._quiet = True
        try:
            yield
        finally:
            self._quiet = False

    def _changed(self, change) -> None:
        """Redraw, unless it is an echo: a slider that was set here sends the value back, rounded by its steps.

        The echo of the present value changes nothing. That of the value before arrives late, after a quick Reset, and
        is undone.
        """
        if self._quiet or is_echo(change.new, change.old):
            return
        name = next(name for name, control in self.controls.items() if control is change.owner)
        if is_echo(change.new, self._replaced.get(name)):
            with self._quietly():
                change.owner.value = change.old
        else:
            self._update()

    def _update(self) -> None:
        """Compute, draw and show the present state; show the exception instead if there is one."""
        self._try(self._redraw_cleanly)

    def _redraw_cleanly(self) -> None:
        self._redraw()
        self.error, self.error_box.value, self.error_box.layout.display = None, "", "none"

    @abstractmethod
    def _redraw(self) -> None:
        """Let body and readout follow the state."""

    def _try(self, call: Callable[[], None]) -> None:
        """Call; keep an exception in `error` and show it in the widget, where a callback has no cell to raise in."""
        try:
            call()
        except Exception as error:
            self.error, self.error_box.layout.display = error, None
            self.error_box.value = (
                '<div role="alert" style="border-left: 4px solid #D55E00; padding: 4px 10px; line-height: 1.4">'
                f"<b>{type(error).__name__}</b>: {html.escape(str(error))}<br>"
                "The picture shows the last state that worked. Press Reset to go back to the start.</div>"
            )

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        """Return the live view, and for readers without a kernel the saved picture with its alt text."""
        data, metadata = png_bundle(self._saved, self.alt, width=self._width)
        data["image/png"] = base64.b64encode(data["image/png"]).decode()
        return {**data, VIEW: {"version_major": 2, "version_minor": 0, "model_id": self.view.model_id}}, metadata


class Explorer(Shell):
    """Controls above a picture that follows them; without a kernel, a picture of several informative states.

    `compute`: state -> numbers, cached. `make_figure(height)`: -> (figure, artists), where `height` in inches may be
    None for the usual one. `draw(artists, numbers)`: sets data on the artists. `readout(numbers)`: one line of HTML.
    `presets`: (title, state) pairs, states may be partial. `enabled`: state -> {name: bool} for controls that do not
    always apply. All else is the shell's.

    The presets are played through at once by moving the controls, so what is wrong with a callback raises here, in the
    cell; later exceptions are shown in the widget and kept in `error`.
    """

    def __init__(
        self,
        title: str,
        controls: Mapping[str, widgets.ValueWidget],
        compute: Callable[[State], Any],
        make_figure: Callable[[float | None], tuple[Figure, Any]],
        draw: Callable[[Any, Any], None],
        readout: Callable[[Any], str],
        presets: Sequence[tuple[str, State]],
        surprise: Callable[[np.random.Generator], State],
        alt: str,
        actions: Mapping[str, Callable[[State], State]] | None = None,
        enabled: Callable[[State], dict[str, bool]] | None = None,
        seed: int = 0,
    ):
        self.presets = list(presets)
        self._make_figure, self._draw, self._readout = make_figure, draw, readout
        self._enabled = enabled or (lambda state: {})
        self._compute = one_thread()(lru_cache(maxsize=128)(lambda items: compute(dict(items))))
        fig, self._artists = make_figure(None)
        self._picture = Picture(fig)
        self.image = widgets.Image(format="png", layout=widgets.Layout(width="100%", margin="0"))
        width = round(fig.get_figwidth() * fig.dpi)
        super().__init__(title, controls, self.image, surprise, alt, width, actions, seed=seed)
        self._saved = self._play_presets()

    def _redraw(self) -> None:
        state = self.state
        for name, on in self._enabled(state).items():
            self.controls[name].disabled = not on
        self.numbers = self._compute(tuple(state.items()))
        self._draw(self._artists, self.numbers)
        self.image.value = self._picture.frame()
        self.readout.value = self._readout(self.numbers)

    def _play_presets(self) -> bytes:
        """Move the controls through the presets, return the picture of these states, restore the start.

        Raises what a callback raised.
        """
        frames = []
        fig, artists = self._make_figure(SHEET_HEIGHT)
        fig.set_dpi(1.5 * fig.dpi)  # half as many pixels again, for dense screens
        for title, state in [*self.presets, ("", self._start)]:
            self.set(**state)
            if self.error:
                raise self.error
            if title:
                self._draw(artists, self.numbers)
                fig.suptitle(title, x=0.01, ha="left", fontsize=13, weight="bold", color="#444444")
                frames.append(np.asarray(Image.open(io.BytesIO(to_png(fig))).convert("RGB")))
            self.set(**self._start)  # a preset names only what differs from the start
        return small_png(np.vstack(frames))


def is_echo(value: Any, sent: Any) -> bool:
    """Tell whether a number is one that was sent to a slider, up to rounding, but not exactly that."""
    floats = isinstance(value, float) and isinstance(sent, float)
    return floats and value != sent and math.isclose(value, sent, rel_tol=1e-9, abs_tol=1e-9)


def check_value(control: widgets.ValueWidget, name: str, value: Any) -> None:
    """Raise ``ValueError`` if a slider or a choice can't take this value; ipywidgets would silently clip a slider's."""
    if hasattr(control, "min"):
        low, high = control.min, control.max
        require(low <= value <= high, f"{name} = {value!r} is outside the slider; allowed: {low:g} to {high:g}")
    if hasattr(control, "options"):
        choose(value, [option[1] if isinstance(option, tuple) else option for option in control.options], name)


def slider(label: str, value: float, low: float, high: float, step: float = 0.1) -> widgets.FloatSlider:
    """Return a slider with a label, as compact as all of the course's."""
    return widgets.FloatSlider(value=value, min=low, max=high, step=step, description=label, readout_format=".2f")

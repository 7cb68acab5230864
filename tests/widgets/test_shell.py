"""The shell of all widgets, on a small widget of its own: moves, buttons, errors, the saved picture."""

import base64
import io

import ipywidgets
import numpy as np
import pytest
from PIL import Image

from course_utils.plots import figure
from course_utils.widgets.shell import VIEW, Explorer, slider


class Line:
    """A widget that draws y = slope x, and counts what it computes. A slope of 4 is more than it can bear."""

    def __init__(self, presets=(("Flat", {"slope": 0.0}), ("Steep", {"slope": 3.0, "colour": "red"}))):
        self.computed = []
        self.explorer = Explorer(
            title="A <line>",
            controls={
                "slope": slider("slope", 1.0, -5, 5),
                "shift": slider("shift", 0.0, -5, 5),
                "colour": ipywidgets.Dropdown(options=[("Blue", "blue"), ("Red", "red")], description="colour"),
            },
            compute=self.compute,
            make_figure=self.make_figure,
            draw=self.draw,
            readout=lambda numbers: f"slope <b>{numbers['slope']:.2f}</b>",
            presets=presets,
            surprise=lambda rng: {"slope": round(rng.uniform(-3, 3), 1)},
            actions={"Double": lambda state: {"slope": 2 * state["slope"]}},
            enabled=lambda state: {"shift": state["colour"] == "blue"},
            alt="A line through the origin, flat and steep.",
            seed=3,
        )

    def compute(self, state):
        if state["slope"] == 4:
            raise ZeroDivisionError("a <b>steep</b> slope")
        self.computed.append(state)
        return state

    def make_figure(self, height=None):
        fig, ax = figure(width=4, height=height or 2)
        (line,) = ax.plot([0, 1], [0, 0], animated=True)
        ax.set(ylim=(-5, 5), yticks=[])
        return fig, (ax, line)

    def draw(self, artists, numbers):
        ax, line = artists
        line.set_ydata([numbers["shift"], numbers["shift"] + numbers["slope"]])
        line.set_color(numbers["colour"])
        ax.set_ylim(-5, 20 if numbers["slope"] > 4.5 else 5)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


@pytest.mark.parametrize("name, value", [("slope", 2.0), ("shift", 1.0), ("colour", "red")])
def test_moving_a_control_changes_the_picture_and_back(name, value):
    explorer = Line().explorer
    start, before = explorer.state[name], explorer.image.value
    explorer.controls[name].value = value
    assert explorer.image.value != before
    explorer.controls[name].value = start
    assert explorer.image.value == before


def test_a_frame_is_what_matplotlib_would_draw_from_scratch():
    line = Line()
    for slope in (2.0, -3.0, 5.0):  # the last one changes the axis too
        line.explorer.controls["slope"].value = slope
    fig, artists = line.make_figure()
    line.draw(artists, line.explorer.numbers)
    for artist in fig.findobj(lambda a: a.get_animated()):
        artist.set_animated(False)
    fig.canvas.draw()
    fresh = np.asarray(fig.canvas.buffer_rgba())[..., :3].astype(int)
    different = (np.abs(pixels(line.explorer.image.value) - fresh).max(-1) > 60).mean()
    assert different < 0.002  # the line runs over the axes' frame instead of under it, no more


def test_several_controls_move_with_one_computation():
    line = Line()
    line.computed.clear()
    line.explorer.set(slope=2.5, shift=-1.0, colour="red")
    assert line.computed == [{"slope": 2.5, "shift": -1.0, "colour": "red"}]
    assert line.explorer.readout.value == "slope <b>2.50</b>"


def test_states_seen_before_are_not_computed_again():
    line = Line()
    line.computed.clear()
    line.explorer.set(slope=2.0)
    line.explorer.set(slope=2.1)
    line.explorer.set(slope=2.0)
    assert len(line.computed) == 2


def test_buttons_reset_surprise_and_actions():
    explorer = Line().explorer
    start, picture = explorer.state, explorer.image.value
    assert list(explorer.buttons) == ["Reset", "Surprise me", "Double"]
    explorer.set(slope=1.5)
    explorer.buttons["Double"].click()
    assert explorer.state["slope"] == 3.0
    explorer.buttons["Surprise me"].click()
    surprised = explorer.state
    assert surprised != start
    explorer.buttons["Reset"].click()
    assert explorer.state == start and explorer.image.value == picture
    again = Line().explorer
    again.surprise()
    assert again.state["slope"] == surprised["slope"]  # same seed, same surprise


def test_a_control_that_does_not_apply_is_disabled():
    explorer = Line().explorer
    assert not explorer.controls["shift"].disabled
    explorer.controls["colour"].value = "red"
    assert explorer.controls["shift"].disabled


def test_an_exception_is_shown_in_the_widget_and_reset_clears_it():
    explorer = Line().explorer
    assert explorer.error is None and explorer.error_box.value == ""
    explorer.controls["slope"].value = 4.0
    assert isinstance(explorer.error, ZeroDivisionError)
    shown = explorer.error_box.value
    assert "ZeroDivisionError" in shown and "a &lt;b&gt;steep&lt;/b&gt; slope" in shown and "Reset" in shown
    assert explorer.error_box.layout.display != "none"
    explorer.buttons["Reset"].click()
    assert explorer.error is None and explorer.error_box.value == "" and explorer.error_box.layout.display == "none"


def test_an_action_beyond_a_slider_is_shown_in_the_widget():
    explorer = Line().explorer
    explorer.set(slope=3.0)
    explorer.buttons["Double"].click()
    assert isinstance(explorer.error, ValueError) and "allowed: -5 to 5" in explorer.error_box.value


@pytest.mark.parametrize("presets", [[("Broken", {"slope": 4.0})], [("Fine", {}), ("Broken", {"slope": 4.0})]])
def test_an_exception_in_a_preset_raises_in_the_cell(presets):
    with pytest.raises(ZeroDivisionError, match="steep"):
        Line(presets)


def test_the_saved_picture_shows_every_preset_and_leaves_the_start():
    line = Line()
    states = [{"slope": 0.0, "shift": 0.0, "colour": "blue"}, {"slope": 3.0, "shift": 0.0, "colour": "red"}]
    assert all(state in line.computed for state in states)
    assert line.explorer.state == {"slope": 1.0, "shift": 0.0, "colour": "blue"}
    data, metadata = line.explorer._repr_mimebundle_()
    assert set(data) == {VIEW, "image/png", "text/plain"}
    assert data[VIEW]["model_id"] == line.explorer.view.model_id
    assert data["text/plain"] == "Figure: A line through the origin, flat and steep."
    assert metadata["image/png"] == {"alt": "A line through the origin, flat and steep.", "width": 400}
    sheet = pixels(base64.b64decode(data["image/png"]))
    upper, lower = sheet[: len(sheet) // 2], sheet[len(sheet) // 2 :]
    red = (lower[..., 0] > 200) & (lower[..., 1:].max(-1) < 80)
    assert red.sum() > 200 and not ((upper[..., 0] > 200) & (upper[..., 1:].max(-1) < 80)).any()


@pytest.mark.parametrize(
    "values, message",
    [
        ({"slop": 1.0}, "control 'slop' is not known; .*did you mean 'slope'"),
        ({"slope": 9.0}, "slope = 9.0 is outside the slider; allowed: -5 to 5"),
        ({"colour": "rde"}, "colour 'rde' is not known; allowed: 'blue', 'red'; did you mean 'red'"),
    ],
)
def test_a_bad_state_is_refused_before_anything_moves(values, message):
    explorer = Line().explorer
    with pytest.raises(ValueError, match=message):
        explorer.set(shift=2.0, **values)
    assert explorer.state["shift"] == 0.0


def test_keyboard_order_and_labels():
    explorer = Line().explorer
    title, grid, row, *_ = explorer.view.children
    assert title.value == "<b>A &lt;line&gt;</b>"
    assert list(grid.children) == list(explorer.controls.values())
    assert all(control.description for control in grid.children)
    assert [button.description for button in row.children[:-1]] == list(explorer.buttons)
    assert "arrow keys" in row.children[-1].value


def test_repr_has_no_address():
    assert repr(Line().explorer) == "Explorer('A <line>')"


def test_an_echo_of_the_present_value_draws_nothing():
    line = Line()
    line.explorer.set(slope=2.2)
    before = len(line.computed)
    line.explorer.controls["slope"].value = 2.2 - 4e-16  # as the browser rounds it
    assert len(line.computed) == before
    line.explorer.controls["slope"].value = 2.3  # the user
    assert line.computed[-1]["slope"] == 2.3


def test_a_late_echo_does_not_undo_a_reset():
    line = Line()
    start = line.explorer.state
    line.explorer.set(slope=2.2)
    line.explorer.reset()
    picture = line.explorer.image.value
    line.explorer.controls["slope"].value = 2.2 - 4e-16  # arrives only now
    assert line.explorer.state == start
    assert line.explorer.image.value == picture
    line.explorer.controls["slope"].value = 2.2  # exactly: from the user
    assert line.explorer.state["slope"] == 2.2

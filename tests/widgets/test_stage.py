"""What a widget declares: ranges, choices, surprises, words; and how it stands in a notebook, headless."""

import json
from dataclasses import replace

import numpy as np
import pytest

from course_utils.widgets import divergences, flows, gan_game, stage
from course_utils.widgets.stage import (
    VIEW,
    Bitmap,
    Choice,
    Declaration,
    Kernel,
    Range,
    Switch,
    Widget,
    bitmap,
    cells_of,
    grid,
    packed,
)

DECLARATIONS = {d.name: d for d in (divergences.KL, divergences.ELBO, gan_game.GAN, flows.PLANAR)}
SMALL = Declaration(
    name="small",
    title="A small one",
    controls={
        "x": Range("place", 0.5, -1, 1, 0.25),
        "kind": Choice("kind", "plain", {"plain": "a plain one", "fancy": "a fancy one"}),
        "bold": Switch("bold", False, when={"kind": ["fancy"]}),
    },
    compute=lambda state: {"twice": 2 * state["x"]},
    presets=[("start", {}), ("fancy", {"kind": "fancy"})],
    surprise={"x": (-0.5, 1), "kind": ["plain", "fancy"], "bold": [True]},
    actions={"zero": ("To zero", lambda state: {"x": 0.0}), "far": ("Too far", lambda state: {"x": 3 * state["x"]})},
    alt="A small picture.",
    colours={"p": ("#000000", "#ffffff")},
)


@pytest.fixture
def small():
    return Widget(SMALL, seed=1)


# Declarations --------------------------------------------------------------------------------------------------------


def test_the_start_is_that_of_the_controls():
    assert SMALL.start == {"x": 0.5, "kind": "plain", "bold": False}


@pytest.mark.parametrize("values, message", [
    ({"x": 1.5}, "x = 1.5 is out of range; allowed: -1 to 1"),
    ({"x": -1.0001}, "x = -1.0001 is out of range"),
    ({"x": "0.5"}, "x = '0.5' is out of range"),
    ({"x": True}, "x = True is out of range"),
    ({"x": float("nan")}, "x = nan is out of range"),
    ({"x": None}, "x = None is out of range"),
    ({"kind": "plian"}, "kind 'plian' is not known; allowed: 'plain', 'fancy'; did you mean 'plain'"),
    ({"bold": 1}, "bold = 1; True or False is needed"),
    ({"y": 0.0}, "control 'y' is not known; allowed: 'x', 'kind', 'bold'"),
])  # fmt: skip
def test_bad_states_are_refused_by_name_before_anything_moves(small, values, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        SMALL.check(values)
    with pytest.raises(ValueError, match=message):
        small.set(**({"x": 0.0} | values))
    with pytest.raises(ValueError, match=message):
        small.state = SMALL.start | values  # as a page would
    assert small.state == SMALL.start


@pytest.mark.parametrize("value", [-1, 1, 0, 0.1, np.float64(0.3), np.int64(1)])
def test_a_range_takes_any_number_in_it(small, value):
    small.set(x=value)
    assert small.state["x"] == value


def test_surprises_stand_on_steps_inside_their_intervals():
    rng = np.random.default_rng(0)
    drawn = [SMALL.surprised(rng) for _ in range(200)]
    assert {d["x"] for d in drawn} == {-0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0}
    assert {d["kind"] for d in drawn} == {"plain", "fancy"} and {d["bold"] for d in drawn} == {True}


@pytest.mark.parametrize("low, high, n", [(0, 1, 1), (1, 0, 5), (0, float("inf"), 5), (1, 1, 3)])
def test_a_grid_needs_two_points_and_order(low, high, n):
    with pytest.raises(ValueError, match=f"in {n} points"):
        grid(low, high, n)


@pytest.mark.parametrize("name", DECLARATIONS)
def test_a_declaration_holds_together(name):
    """Presets, surprises and actions are allowed states; the page gets all as JSON, once."""
    declaration, rng = DECLARATIONS[name], np.random.default_rng(0)
    declaration.check(declaration.start)
    assert len(declaration.presets) == 4 and len({title for title, _ in declaration.presets}) == 4
    for _, state in declaration.presets:
        declaration.check(state)
        for _, action in declaration.actions.values():
            declaration.check(action(declaration.start | state))
    for _ in range(50):
        declaration.check(declaration.surprised(rng))
    assert set(declaration.surprise) <= set(declaration.controls)
    for control in declaration.controls.values():
        for other, values in control.when.items():
            for value in values:
                declaration.check({other: value})
    spec = json.loads(json.dumps(declaration.spec(), allow_nan=False))
    assert [c["name"] for c in spec["controls"]] == list(declaration.controls) and spec["start"] == declaration.start
    for light, dark in declaration.colours.values():
        for colour in (light, dark):
            assert len(colour) == 7 and int(colour[1:], 16) >= 0
    assert len(declaration.alt) > 100
    assert all(len(text) > 30 for text in declaration.constants["words"].values() if isinstance(text, str))


def test_a_bitmap_is_a_hexadecimal_digit_for_four_cells():
    cells = np.array([[1, 0, 1, 0], [0, 0, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0]], bool)
    assert bitmap(cells) == "a1f0" and np.array_equal(cells_of("a1f0", 4), cells)
    drawn = np.random.default_rng(0).random((24, 24)) < 0.3
    assert np.array_equal(cells_of(bitmap(drawn), 24), drawn)


@pytest.mark.parametrize("value", ["a1f", "a1f00", "A1F0", "a1g0", 0xA1F0, None])
def test_a_bitmap_that_is_none_is_refused(value):
    control = Bitmap("picture", "0000", 4)
    control.check("picture", "a1f0")
    with pytest.raises(ValueError, match="picture = .*; 4 hexadecimal digits are needed"):
        control.check("picture", value)


def test_numbers_travel_as_bytes():
    numbers = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": [np.float64(0.5), "text"], "c": None}
    there = packed(numbers)
    assert there["a"]["shape"] == [2, 3] and there["a"]["type"] == "float32"
    assert np.array_equal(np.frombuffer(there["a"]["bytes"], np.float32).reshape(2, 3), numbers["a"])
    assert there["b"] == [0.5, "text"] and there["c"] is None
    with pytest.raises(ValueError, match="array of complex128; a page takes uint8"):
        packed(np.zeros(2, complex))


# In a notebook -------------------------------------------------------------------------------------------------------


def test_set_reset_and_surprise(small):
    small.set(x=-0.25, kind="fancy")
    assert small.state == {"x": -0.25, "kind": "fancy", "bold": False} and small.numbers == {"twice": -0.5}
    small.reset()
    assert small.state == SMALL.start
    other = Widget(SMALL, seed=1)
    for _ in range(5):
        small.surprise()
        other.surprise()
        assert small.state == other.state
    assert Widget(SMALL, seed=2).state == SMALL.start  # a surprise comes when asked for


def test_actions(small):
    small.act("zero")
    assert small.state["x"] == 0
    small.set(x=0.75)
    with pytest.raises(ValueError, match="x = 2.25 is out of range"):
        small.act("far")
    assert small.state["x"] == 0.75
    with pytest.raises(ValueError, match="action 'zeor' is not known.*did you mean 'zero'"):
        small.act("zeor")


def test_the_state_that_python_holds_is_not_the_callers(small):
    values = dict(small.state)
    small.set(x=1.0)
    assert values["x"] == 0.5 and SMALL.start["x"] == 0.5


@pytest.mark.parametrize("name", DECLARATIONS)
def test_every_widget_is_constructed_headless(name):
    declaration = DECLARATIONS[name]
    widget = Widget(declaration)
    for _ in range(3):
        widget.surprise()
    widget.numbers  # noqa: B018  (computes)
    widget.reset()
    assert widget.state == declaration.start == dict(widget.spec["start"])
    assert "0x" not in repr(widget) and declaration.title in repr(widget)


def test_all_widgets_share_one_copy_of_the_code():
    one, two = Widget(SMALL), Widget(DECLARATIONS["kl"])
    assert one.bundle is two.bundle and one.bundle.code == stage.code()
    assert len(one._esm) < 2000 and one._esm == two._esm


def test_equal_widgets_share_their_assets():
    declared = replace(SMALL, assets={"weights": bytes(100)})
    one, two, other = Widget(declared), Widget(declared), Widget(replace(SMALL, assets={"weights": b"other"}))
    assert one.parts is two.parts and one.parts.assets == {"weights": bytes(100)}
    assert other.parts is not one.parts and Widget(SMALL).parts.assets == {}


def test_what_is_shown_where_no_script_runs(small, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "DIST", tmp_path)
    content, metadata = small._repr_mimebundle_()
    assert set(content) == {VIEW, "text/plain"} and content["text/plain"] == "Widget('A small one')"
    assert content[VIEW]["model_id"] == small.model_id and metadata == {}
    (tmp_path / "small.png").write_bytes(b"picture")
    content, metadata = small._repr_mimebundle_()
    assert content["image/png"] == "cGljdHVyZQ=="  # base64 of "picture"
    assert metadata["image/png"] == {"alt": "A small picture.", "width": stage.WIDTH}


def test_a_bundle_that_was_not_built_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "DIST", tmp_path)
    stage.code.cache_clear()
    with pytest.raises(FileNotFoundError, match="make widgets"):
        stage.code()
    stage.code.cache_clear()


# With a kernel -------------------------------------------------------------------------------------------------------


def slow(state, tell):
    tell({"half": state["x"]}, 0.5)
    if state["x"] < 0:
        raise RuntimeError("broken on purpose")
    return {"whole": 2 * state["x"]}


ASKED = Declaration(**{
    **{name: getattr(SMALL, name) for name in ("title", "controls", "presets", "surprise", "alt", "colours")},
    "name": "asked", "compute": slow, "kernel": Kernel(of=["x"], sprites=[("one", {"x": 1.0})]),
})  # fmt: skip


def answers(widget, content):
    """Return all answers to a request, in order."""
    seen = []
    widget.observe(lambda change: seen.append(change["new"]), "answer")
    widget._asked(widget, content, [])
    return seen


def test_the_kernel_answers_what_a_page_asks():
    widget = Widget(ASKED)
    assert widget.parts.sprites == [{"title": "one", "state": {"x": 1.0}, "numbers": {"whole": 2.0}}]
    told = {"number": 7, "state": {"x": 0.25}}
    assert answers(widget, told) == [
        {**told, "share": 0},
        {**told, "share": 0.5, "numbers": {"half": 0.25}},
        {**told, "share": 1, "numbers": {"whole": 0.5}},
    ]
    assert widget.numbers == {"whole": 1.0}


@pytest.mark.parametrize("state, message", [
    ({"x": -0.5}, "RuntimeError: broken on purpose"),
    ({"x": 9}, "ValueError: x = 9 is out of range; allowed: -1 to 1"),
])  # fmt: skip
def test_the_kernel_tells_what_went_wrong(state, message):
    last = answers(Widget(ASKED), {"number": 8, "state": state})[-1]
    assert last["number"] == 8 and last["share"] == 1 and last["error"] == message


@pytest.mark.parametrize("content", [None, "text", {}, {"number": 1}, {"state": {}}])
def test_what_is_no_request_is_ignored(content):
    assert answers(Widget(ASKED), content) == []

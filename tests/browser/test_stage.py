"""The widgets in a plain page without a kernel: hand, keyboard, faults, colours, narrow screens, readers, memory."""

import re

import pytest
import stage_page

from course_utils.widgets import divergences, flows, gan_game
from course_utils.widgets.stage import Choice, Declaration, Range, Switch

pytestmark = pytest.mark.browser
WIDGETS = {d.name: d for d in (divergences.KL, divergences.ELBO, gan_game.GAN, flows.PLANAR)}
# What is drawn, but for what a panel cuts off, further to the right than the widget.
TOO_WIDE = """(root) => [...root.querySelectorAll("*")]
    .filter((e) => !e.closest("clipPath, g[clip-path]"))
    .filter((e) => e.getBoundingClientRect().right > root.getBoundingClientRect().right + 1)
    .map((e) => e.outerHTML.slice(0, 120))"""
# The colours of all texts, in the picture and beside it.
INKS = """(root) => [...root.querySelectorAll("svg text, .value, .hint, output")]
    .map((e) => getComputedStyle(e)[e instanceof SVGElement ? "fill" : "color"].match(/\\d+/g).slice(0, 3))
    .map((rgb) => "#" + rgb.map((v) => Number(v).toString(16).padStart(2, "0")).join(""))"""
SECOND = """() => {
    window.second = document.createElement("div");
    document.body.append(second);
    window.leaveSecond = course.render({ model, el: second });
}"""
AGAIN = """(n) => {
    for (let i = 0; i < n; i++) {
        leave();
        window.leave = course.render({ model, el: document.body });
    }
}"""
SOFT = {"light": ("#595959", "#ffffff"), "dark": ("#b4b4b4", "#161616")}  # hint and ground, as in stage.css


class Mounted:
    """A widget on a page of its own, at its start."""

    def __init__(self, stage: stage_page.Stage, declaration: Declaration):
        self.stage, self.page, self.declaration = stage, stage.page, declaration
        self.page.set_default_timeout(10_000)
        self.root = stage.mount(declaration)
        self.settled()

    def settled(self) -> None:
        """Wait until the next frame is drawn."""
        self.page.evaluate("() => new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))")

    def go(self, **values) -> None:
        """Go to the start, but for some values."""
        self.page.evaluate("state => model.set('state', state)", self.declaration.start | values)
        self.settled()

    def picture(self, view: int = 0) -> str:
        """Return what is drawn in one of the views, without what the pointer reads off and what is a view's own."""
        drawn = self.page.locator(".stage .view").nth(view).inner_html()
        return re.sub(r"<text class=\"note hover.*?</text>|clip-\w+-\w+| data-lm-suppress-shortcuts=\"\"", "", drawn)

    def error(self) -> str:
        """Return the error that is shown, or nothing."""
        box = self.root.locator(".error")
        return box.inner_text() if box.is_visible() else ""


@pytest.fixture(scope="module")
def open_widget(browser, address):
    """Return a function that opens a widget of a name; at the end no page may have complained."""
    opened = []

    def open_one(name: str, **how) -> Mounted:
        opened.append(stage_page.Stage(browser, address, **how))
        return Mounted(opened[-1], WIDGETS[name])

    yield open_one
    for stage in opened:
        stage.close()
    assert [complaint for stage in opened for complaint in stage.complaints] == []


@pytest.fixture(scope="module", params=WIDGETS)
def widget(request, open_widget):
    return open_widget(request.param)


def where(declaration: Declaration, control: Range | Choice) -> dict:
    """Return values of other controls for which this one applies."""
    return {name: values[0] for name, values in control.when.items()}


# By hand and by keyboard ---------------------------------------------------------------------------------------------


def test_every_control_is_moved_by_the_keyboard(widget):
    for name, control in widget.declaration.controls.items():
        widget.go(**where(widget.declaration, control))
        before = widget.stage.state(), widget.picture()
        element = widget.root.locator(f"[name={name}]")
        element.focus()
        at_the_end = isinstance(control, Range) and before[0][name] >= control.high
        last = isinstance(control, Choice) and before[0][name] == list(control.options)[-1]
        down, up = ("ArrowLeft", "ArrowRight") if isinstance(control, Range) else ("ArrowUp", "ArrowDown")
        widget.page.keyboard.press("Space" if isinstance(control, Switch) else down if at_the_end or last else up)
        widget.settled()
        assert widget.error() == ""
        after = widget.stage.state()
        assert after[name] != before[0][name], name
        assert {k: v for k, v in after.items() if k != name} == {k: v for k, v in before[0].items() if k != name}
        assert widget.picture() != before[1], name
        if isinstance(control, Range):
            assert after[name] == pytest.approx(before[0][name] + control.step * (-1 if at_the_end else 1))
            shown = element.locator("xpath=..").locator(".value").inner_text()
            assert shown == f"{after[name]:z.{control.digits}f}".replace("-", "−") + f" {control.unit}".rstrip()


def test_a_control_that_does_not_apply_is_off(widget):
    for name, control in widget.declaration.controls.items():
        widget.go(**where(widget.declaration, control))
        assert widget.root.locator(f"[name={name}]").is_enabled()
        for other, values in control.when.items():
            rest = next(v for v in widget.declaration.controls[other].options if v not in values)
            widget.go(**{other: rest})
            assert widget.root.locator(f"[name={name}]").is_disabled()


def test_every_handle_is_dragged_and_moved_by_arrow_keys(widget):
    widget.go()
    handles = widget.root.locator(".hand")
    assert handles.count() >= 2
    for i in range(handles.count()):
        widget.go()
        hand = handles.nth(i)
        label = hand.get_attribute("aria-label")
        before, picture, place = widget.stage.state(), widget.picture(), hand.locator(".grip").bounding_box()
        x, y = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
        widget.page.mouse.move(x, y)
        widget.page.mouse.down()
        widget.page.mouse.move(x + 12, y, steps=3)
        widget.settled()
        widget.page.mouse.up()
        assert widget.stage.state() != before and widget.picture() != picture, label
        now = hand.locator(".grip").bounding_box()
        assert now["x"] + now["width"] / 2 == pytest.approx(x + 12, abs=4), f"{label} follows the hand"
        for key in ("ArrowLeft", "ArrowRight"):
            before, picture = widget.stage.state(), widget.picture()
            hand.focus()
            widget.page.keyboard.press(key)
            widget.settled()
            assert widget.stage.state() != before and widget.picture() != picture, (label, key)
        assert widget.error() == ""


def test_a_handle_stays_inside_the_ranges(widget):
    """Dragged far out of the panel on all sides: the state is allowed, and the picture is drawn."""
    handles = widget.root.locator(".hand")
    for i in range(handles.count()):
        widget.go()
        place = handles.nth(i).locator(".grip").bounding_box()
        widget.page.mouse.move(place["x"] + 5, place["y"] + 5)
        widget.page.mouse.down()
        for x, y in [(2000, 10), (-500, 600), (300, -400)]:
            widget.page.mouse.move(x, y)
            widget.settled()
            widget.declaration.check(widget.stage.state())
            assert widget.error() == ""
        widget.page.mouse.up()


def test_double_click_and_reset_go_back(widget):
    widget.go()
    first = widget.picture()
    for back in ("double click", "Reset"):
        name = next(name for name, c in widget.declaration.controls.items() if isinstance(c, Range) and not c.when)
        widget.go(**{name: widget.declaration.controls[name].low})
        assert widget.picture() != first
        if back == "Reset":
            widget.root.get_by_role("button", name="Reset").click()
        else:
            widget.root.locator(".panel svg").first.dblclick(position={"x": 80, "y": 60})
        widget.settled()
        assert widget.stage.state() == widget.declaration.start, back
        assert widget.picture() == first, back


def test_surprises_are_allowed_and_differ(widget):
    widget.go()
    seen = []
    for _ in range(12):
        widget.root.get_by_role("button", name="Surprise me").click()
        widget.settled()
        state = widget.stage.state()
        widget.declaration.check(state)
        for name, among in widget.declaration.surprise.items():
            control = widget.declaration.controls[name]
            if isinstance(control, Range):
                assert among[0] - control.step <= state[name] <= among[1] + control.step
            else:
                assert state[name] in among
        assert widget.error() == ""
        seen.append(str(state))
    assert len(set(seen)) > 8


def test_actions_do_what_python_does(widget):
    for name, (label, action) in widget.declaration.actions.items():
        for values in ({}, *(state for _, state in widget.declaration.presets)):
            widget.go(**values)
            widget.root.get_by_role("button", name=label).click()
            widget.settled()
            expected = widget.declaration.start | values
            state, moved = widget.stage.state(), action(expected)
            assert {k: state[k] for k in moved} == pytest.approx(moved, rel=1e-6, abs=1e-9), name
            assert {k: state[k] for k in state if k not in moved} == {k: expected[k] for k in state if k not in moved}


def test_the_pointer_reads_values_off(widget):
    widget.go()
    notes = 0
    for panel in widget.root.locator(".panel svg").all():
        note = panel.locator(".note.hover")
        if not note.count():
            continue
        panel.hover(position={"x": 150, "y": 150})
        first = note.text_content()
        panel.hover(position={"x": 220, "y": 120})
        assert re.search(r"\d", first) and note.text_content() != first
        widget.page.mouse.move(0, 0)
        assert note.text_content() == ""
        notes += 1
    assert notes >= 1


def test_the_presets_are_drawn(widget):
    pictures = []
    for title, state in widget.declaration.presets:
        widget.go(**state)
        assert widget.error() == "", title
        pictures.append(widget.picture())
    assert len(set(pictures)) == len(pictures)


# Faults --------------------------------------------------------------------------------------------------------------


def refused(declaration: Declaration, values: dict) -> str:
    """Return Python's words for values that it refuses."""
    with pytest.raises(ValueError) as caught:
        declaration.check(values)
    return str(caught.value)


def test_a_state_out_of_range_is_refused_by_pythons_words(widget):
    widget.go()
    picture = widget.picture()
    ranges = {name: c for name, c in widget.declaration.controls.items() if isinstance(c, Range)}
    choices = [name for name, c in widget.declaration.controls.items() if isinstance(c, Choice)]
    bad = [{name: c.high + 0.5} for name, c in ranges.items()] + [{name: c.low - 0.5} for name, c in ranges.items()]
    bad += [*({name: "zzz"} for name in choices), {"zzz": 1}]
    words = [refused(widget.declaration, values) for values in bad]
    told = widget.page.evaluate("""([spec, bad]) => bad.map((values) => {
        try { course.check(values, spec); } catch (error) { return error.message; }
    })""", [widget.declaration.spec(), bad])  # fmt: skip
    assert told == words
    for values, text in list(zip(bad, words, strict=True))[-3:]:  # a range, a choice, an unknown name
        widget.go(**values)
        assert text in widget.error() and "press Reset" in widget.error()
        for name, value in values.items():
            assert f'"{name}":' in widget.error() and str(value) in widget.error()
        assert widget.picture() == picture, "the last state that worked"
        widget.root.get_by_role("button", name="Reset").click()
        widget.settled()
        assert widget.error() == "" and widget.stage.state() == widget.declaration.start


@pytest.mark.parametrize("layer", ["compute", "draw", "read"])
def test_an_exception_is_shown_with_its_state(widget, layer):
    widget.go()
    name = next(name for name, c in widget.declaration.controls.items() if isinstance(c, Range) and not c.when)
    widget.page.evaluate("""([name, layer]) => {
        const module = course.widgets[name];
        window.whole = module[layer];
        module[layer] = () => { throw new TypeError("broken on purpose"); };
    }""", [widget.declaration.name, layer])  # fmt: skip
    low = widget.declaration.controls[name].low
    widget.go(**{name: low})
    widget.page.wait_for_timeout(200)  # values are told when the hand rests
    assert "TypeError: broken on purpose" in widget.error() and f'"{name}":{low:g}' in widget.error()
    widget.page.evaluate(
        "([name, layer]) => { course.widgets[name][layer] = window.whole; }", [widget.declaration.name, layer]
    )
    widget.root.get_by_role("button", name="Reset").click()
    widget.settled()
    assert widget.error() == "" and widget.stage.state() == widget.declaration.start


# Colours, narrow screens, readers ------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    """Return the relative luminance of WCAG 2.1."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return sum(weight * v for weight, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of WCAG 2.1, 1 to 21."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_wcags():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # a textbook case: just too little


@pytest.mark.parametrize("name", WIDGETS)
@pytest.mark.parametrize("scheme", SOFT)
def test_lines_stand_out_from_the_ground(name, scheme):
    dark = scheme == "dark"
    soft, ground = SOFT[scheme]
    for colour, pair in WIDGETS[name].colours.items():
        if colour != "ground":
            assert contrast(pair[dark], ground) >= 3, f"{colour} {pair[dark]}"
    assert contrast(soft, ground) >= 4.5


@pytest.mark.parametrize(("width", "dark"), [(1000, False), (390, True)], ids=["wide and light", "narrow and dark"])
@pytest.mark.parametrize("name", WIDGETS)
def test_no_serious_barrier_on_any_screen(open_widget, axe, name, width, dark):
    """axe-core; no scrolling sideways; texts in the picture, of coloured axes too, at 4.5 to 1."""
    widget = open_widget(name, width=width, dark=dark)
    overflow = widget.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert overflow <= 0, f"{overflow} pixels too wide"
    wide = widget.root.evaluate(TOO_WIDE)
    assert wide == []
    widget.page.add_script_tag(path=axe)
    found = widget.page.evaluate("axe.run('.stage', { resultTypes: ['violations'] })")["violations"]
    assert [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")] == []
    ground = SOFT["dark" if dark else "light"][1]
    fills = widget.root.evaluate(INKS)
    assert fills and min(contrast(fill, ground) for fill in fills) >= 4.5
    assert widget.root.evaluate("(root) => getComputedStyle(root).backgroundColor") == (
        "rgb(22, 22, 22)" if dark else "rgb(255, 255, 255)"
    )


def test_the_picture_follows_the_scheme(widget):
    widget.go()
    light = widget.picture()
    widget.page.emulate_media(color_scheme="dark")
    widget.settled()
    dark = widget.picture()
    for theme, expected in (("true", light), ("false", dark)):  # JupyterLab says it on the body
        widget.page.evaluate("theme => { document.body.dataset.jpThemeLight = theme; }", theme)
        widget.settled()
        assert widget.picture() == expected
    widget.page.evaluate("() => { delete document.body.dataset.jpThemeLight; }")
    widget.page.emulate_media(color_scheme="light")
    widget.settled()
    assert dark != light and widget.picture() == light


def test_readers_are_told_once_the_hand_rests(widget):
    widget.go()
    widget.page.wait_for_timeout(250)
    output = widget.root.locator("output")
    assert output.get_attribute("aria-live") == "polite"
    before = output.inner_text()
    assert re.search(r"\d", before)
    name = next(name for name, c in widget.declaration.controls.items() if isinstance(c, Range) and not c.when)
    control = widget.declaration.controls[name]
    told = widget.page.evaluate("""async ([name, values]) => {
        const output = document.querySelector(".stage output");
        let told = 0;
        const watcher = new MutationObserver(() => (told += 1));
        watcher.observe(output, { childList: true, subtree: true, characterData: true });
        for (const value of values) {
          model.set("state", { ...model.get("state"), [name]: value });
          await new Promise((r) => requestAnimationFrame(r));
        }
        await new Promise((r) => setTimeout(r, 600));
        watcher.disconnect();
        return told;
    }""", [name, [control.low + i * control.step for i in range(5)]])  # fmt: skip
    assert 1 <= told <= 2 and output.inner_text() != before
    spec = widget.declaration.spec()
    assert widget.root.locator(".view").get_attribute("aria-label") == spec["alt"]
    assert widget.root.get_by_role("slider").count() >= 4  # ranges and handles
    for slider in widget.root.get_by_role("slider").all():
        assert re.search(r"\d", slider.get_attribute("aria-valuetext"))


# Several views, memory -----------------------------------------------------------------------------------------------


def test_two_views_of_one_model_agree(widget):
    widget.go()
    widget.page.evaluate(SECOND)
    try:
        name = next(name for name, c in widget.declaration.controls.items() if isinstance(c, Range) and not c.when)
        widget.page.locator(".stage").nth(1).locator(f"[name={name}]").press("ArrowLeft")
        widget.settled()
        assert widget.stage.state() != widget.declaration.start
        assert widget.picture(0) == widget.picture(1)
        values = [widget.page.locator(f"[name={name}]").nth(i).input_value() for i in (0, 1)]
        assert values[0] == values[1] == f"{widget.stage.state()[name]:g}"
    finally:
        widget.page.evaluate("() => { leaveSecond(); second.remove(); }")
    assert widget.page.locator(".stage").count() == 1


def test_memory_is_level(widget):
    """After 1,000 moves, and after 20 times mounting and leaving: less than 1.5 MB more, less than 200 nodes more."""
    session = widget.stage.context.new_cdp_session(widget.page)

    def used() -> tuple[float, int]:
        for _ in range(3):
            session.send("HeapProfiler.collectGarbage")
        return session.send("Runtime.getHeapUsage")["usedSize"], session.send("Memory.getDOMCounters")["nodes"]

    def level(before: tuple[float, int]) -> None:
        """Fail unless what is used is level; what is only on its way, as on a busy machine, has 10 s to pass."""
        for _ in range(20):
            grown = [now - then for now, then in zip(used(), before, strict=True)]
            if grown[0] < 1.5e6 and grown[1] < 200:
                return
            widget.page.wait_for_timeout(500)
        pytest.fail(f"{grown[0]:,} bytes and {grown[1]} nodes more")

    names = [name for name, c in widget.declaration.controls.items() if isinstance(c, Range) and not c.when]
    ends = {name: (widget.declaration.controls[name].low, widget.declaration.controls[name].high) for name in names}
    often = next(name for name in ("mu", "mean", "u1") if name in names)
    # Frames come 60 times a second; here each move is drawn at once. Mostly one moves, every 20th time another control.
    move = """async ([ends, often, n]) => {
        const names = Object.keys(ends);
        for (let i = 0; i < n; i++) {
          const name = i % 20 ? often : names[(i / 20) % names.length];
          const [low, high] = ends[name];
          model.set("state", { ...model.get("state"), [name]: low + ((i % 50) / 50) * (high - low) });
          window.drawNow();
          if (i % 100 === 0) await new Promise((r) => setTimeout(r, 0));
        }
    }"""
    widget.go()
    widget.page.evaluate("""() => {
        window.frame = window.requestAnimationFrame;
        window.requestAnimationFrame = (f) => { window.drawNow = f; return 1; };
    }""")
    widget.page.evaluate(move, [ends, often, 100])
    before, drawn = used(), int(widget.root.get_attribute("data-drawn"))
    widget.page.evaluate(move, [ends, often, 1000])
    assert int(widget.root.get_attribute("data-drawn")) == drawn + 1000
    level(before)
    widget.page.evaluate("() => { window.requestAnimationFrame = window.frame; delete window.drawNow; }")
    widget.page.evaluate(AGAIN, 3)
    first = used()
    widget.page.evaluate(AGAIN, 20)
    level(first)

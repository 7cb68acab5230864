"""Lecture 2 as a student meets it: opened in JupyterLab, run to its end, its pad moved by pointer and keyboard."""

import re

import pytest

pytestmark = pytest.mark.browser
SOURCE = "manifold_explorer()"


@pytest.fixture(scope="module")
def lecture(open_notebook):
    notebook = open_notebook("02_vae.ipynb")
    notebook.fresh = notebook.widget(SOURCE).output.inner_html()
    notebook.run_all(seconds=900)
    return notebook


@pytest.fixture
def pad(lecture):
    """Return W-manifold as it is at the start, with no focus in it and the pointer elsewhere."""
    widget = lecture.widget(SOURCE)
    widget.picture()
    lecture.page.mouse.move(5, 5)
    widget.button("Reset").click()
    lecture.page.wait_for_function("e => e.textContent.includes('straight')", arg=caption(widget).element_handle())
    settle(widget)
    return widget


def caption(widget):
    return widget.output.locator(".film .caption")


def z_of(widget) -> tuple[float, ...]:
    """Return the z that is printed below the decoded image."""
    text = widget.output.locator("output").inner_text().replace("−", "-")
    return tuple(float(v) for v in re.search(r"z = \((\S+), (\S+)\)", text).groups())


def settle(widget) -> None:
    """Wait until no answer of the kernel is under way any more."""
    before = None
    while (now := (widget.picture(), widget.canvas("strip"), z_of(widget))) != before:
        before = now
        widget.page.wait_for_timeout(150)


def test_runs_to_the_end_without_an_error(lecture):
    assert lecture.errors() == []
    assert lecture.not_run() == []


def test_a_fresh_clone_shows_the_saved_picture(lecture):
    assert "<img" in lecture.fresh and "model not found" not in lecture.fresh


def test_the_image_under_the_pointer_is_decoded(lecture, pad):
    start, strip = pad.picture(), pad.canvas("strip")
    lecture.page.mouse.move(*pad.at(0.3, 0.5))
    left = pad.wait_for_change(start)
    settle(pad)
    x, y = z_of(pad)
    lecture.page.mouse.move(*pad.at(0.8, 0.2))
    pad.wait_for_change(left)
    settle(pad)
    assert z_of(pad)[0] > x and z_of(pad)[1] > y  # to the right and upwards
    lecture.page.mouse.move(*pad.at(0.3, 0.5))
    settle(pad)
    assert pad.picture() == left and z_of(pad) == (x, y)
    assert pad.canvas("strip") == strip  # pointing leaves the path alone


def test_after_a_quick_movement_the_last_point_is_shown(lecture, pad):
    lecture.page.mouse.move(*pad.at(0.7, 0.4))
    settle(pad)
    last, z = pad.picture(), z_of(pad)
    lecture.page.mouse.move(*pad.at(0.2, 0.8))
    lecture.page.mouse.move(*pad.at(0.7, 0.4), steps=60)
    settle(pad)
    assert (pad.picture(), z_of(pad)) == (last, z)


def test_no_queue_builds_up(lecture, pad):
    """Of many moves at once only the first and the newest are decoded."""
    x, y = pad.at(0.7, 0.4)
    draws = pad.plane.evaluate(
        """async (plane, [x, y]) => {
          const context = plane.closest('.latent-pad').querySelector('canvas.image').getContext('2d');
          const put = context.putImageData;
          let draws = 0;
          context.putImageData = (...args) => { draws += 1; put.apply(context, args); };
          for (let i = 0; i < 60; i++)
            plane.dispatchEvent(new PointerEvent('pointermove', { clientX: x - 3 * (59 - i), clientY: y }));
          await new Promise(done => setTimeout(done, 2000));
          context.putImageData = put;
          return draws;
        }""",
        [x, y],
    )
    assert draws == 2
    shown, z = pad.picture(), z_of(pad)
    lecture.page.mouse.move(x, y)
    settle(pad)
    assert (pad.picture(), z_of(pad)) == (shown, pytest.approx(z, abs=0.011))


def test_arrow_keys_move_z_and_do_not_leave_the_pad(lecture, pad):
    start, (x, y) = pad.picture(), z_of(pad)
    pad.plane.focus()
    assert pad.plane.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    lecture.page.keyboard.press("ArrowRight")
    pad.wait_for_change(str((x, y)), look=lambda: str(z_of(pad)))
    one = z_of(pad)[0] - x
    assert one > 0 and z_of(pad)[1] == y
    lecture.page.keyboard.press("Shift+ArrowDown")
    pad.wait_for_change(start)
    settle(pad)
    assert y - z_of(pad)[1] > 3 * one
    assert pad.plane.evaluate("e => e === document.activeElement")  # JupyterLab has not gone to the next cell


@pytest.mark.parametrize("by", ["pointer", "keyboard"])
def test_a_path_between_two_points(lecture, pad, by):
    page, first = lecture.page, pad.canvas("strip")
    pad.plane.focus()
    page.keyboard.press("Escape")
    empty = pad.wait_for_change(first, look=lambda: pad.canvas("strip"))
    assert "No path yet" in caption(pad).inner_text()
    if by == "pointer":
        page.mouse.click(*pad.at(0.3, 0.3))
        page.mouse.click(*pad.at(0.8, 0.6))
    else:
        page.keyboard.press("Enter")
        for _ in range(4):
            page.keyboard.press("Shift+ArrowLeft")
        page.keyboard.press("Enter")
    straight = pad.wait_for_change(empty, look=lambda: pad.canvas("strip"))
    settle(pad)
    assert straight != first and "from A" in caption(pad).inner_text()
    assert pad.plane.locator("polyline").first.get_attribute("points")
    pad.button("straight").focus()
    pad.press_button("on the sphere")
    pad.wait_for_change(straight, look=lambda: pad.canvas("strip"))
    assert "on the sphere" in caption(pad).inner_text()


def test_a_click_on_the_manifold_or_the_strip_goes_there(lecture, pad):
    for name in ("grid", "strip"):
        before, canvas = pad.picture(), pad.output.locator(f"canvas.{name}")
        box = canvas.bounding_box()
        canvas.click(position={"x": 0.02 * box["width"], "y": 0.1 * box["height"]})
        pad.wait_for_change(before)
        settle(pad)
        ends = re.findall(r"[−\d.]+", caption(pad).inner_text().replace("A (", "").replace("B (", ""))
        expected = (-1.83, 1.28) if name == "grid" else tuple(float(v.replace("−", "-")) for v in ends[:2])
        assert z_of(pad) == pytest.approx(expected, abs=0.006)


def test_the_model_is_chosen_by_keyboard(lecture, pad):
    grid, dots = pad.canvas("grid"), pad.canvas("dots")
    pad.button("β = 1").focus()
    pad.press_button("β = 100")
    collapsed = pad.wait_for_change(grid, look=lambda: pad.canvas("grid"))
    assert pad.canvas("dots") != dots
    pad.press_button("β = 0.01", key="Enter", back=True)
    pad.wait_for_change(collapsed, look=lambda: pad.canvas("grid"))
    assert "β = 0.01" in pad.output.inner_text()


def test_surprise_and_reset_by_keyboard(lecture, pad):
    strip = pad.canvas("strip")
    pad.button("Reset").focus()
    pad.press_button("Surprise me", key="Enter")
    surprised = pad.wait_for_change(strip, look=lambda: pad.canvas("strip"))
    pad.press_button("Reset", back=True)
    assert pad.wait_for_change(surprised, look=lambda: pad.canvas("strip")) == strip


def test_nothing_overflows_in_a_window_1280_pixels_wide(pad):
    assert pad.overflow() == []


def test_the_page_has_no_complaints(lecture):  # the last one: it speaks for all that came before
    assert lecture.complaints == []

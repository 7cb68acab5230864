"""The switchboard in a plain page, where it shows what was trained, and in JupyterLab, where it trains when told to."""

import functools
import re

import lab
import numpy as np
import pytest

from course_utils.widgets import gan_ring

pytestmark = pytest.mark.browser
STEPS = 20
PICTURE = "root => [...root.querySelectorAll('.panel svg > g')].map((group) => group.innerHTML).join()"
PIXELS = """async image => {
  const loaded = new Image();
  loaded.src = image.getAttribute("href");
  await loaded.decode();
  const canvas = Object.assign(document.createElement("canvas"), { width: loaded.width, height: loaded.height });
  canvas.getContext("2d").drawImage(loaded, 0, 0);
  return Array.from(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data);
}"""


# In a plain page -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def declaration():
    return gan_ring.declare(0, STEPS)


@pytest.fixture
def put(put, declaration):
    """Return a function that puts the switchboard on a page."""
    return functools.partial(put, declaration)


def said(ring) -> str:
    """Return how the readout begins."""
    return f"{(ring.counts >= 20).sum()} of 8 modes, {100 * ring.counts.sum() / 1000:.0f} % of the samples near one"


def points_of(root, key: str) -> np.ndarray:
    """Return the dots (N, 2) of a cloud in the plane, in its units, which the ticks at -2 and 2 tell."""
    plane = root.locator("[data-panel=plane]")
    ticks = plane.evaluate("""panel => [...panel.querySelectorAll(".axes .tick")].map(
      (tick) => [tick.querySelector("text").textContent, tick.getAttribute("transform")])""")
    places = [
        {text: float(re.findall(r"[\d.]+", where)[k]) for text, where in row}
        for k, row in ((0, ticks[:3]), (1, ticks[3:]))
    ]
    path = plane.locator(f"[data-key={key}]").get_attribute("d")
    pixels = np.array(re.findall(r"M([-\d.]+),([-\d.]+)h0", path), float)
    low, high = (np.array([place[text] - 0.5 for place in places]) for text in ("−2", "2"))  # d3 moves ticks by that
    return (pixels - low) / (high - low) * 4 - 2


@pytest.mark.parametrize("width", [1000, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_drawn_without_a_complaint_at_any_width(put, width, dark):
    _, root = put(width=width, dark=dark)
    assert root.locator(".panel").count() == 3 and root.locator(".error").is_hidden()
    root.locator("output", has_text=said(gan_ring.ring_result(steps=STEPS))).wait_for()


def test_what_was_trained_can_be_chosen_and_is_drawn_as_it_is(put, declaration):
    stage, root = put()
    pictures = {root.evaluate(PICTURE)}
    for title, rules in declaration.presets[1:]:
        stage.after(lambda title=title: root.get_by_label("computed beforehand").select_option(title))
        assert stage.state() == gan_ring.PLAIN | rules
        pictures.add(root.evaluate(PICTURE))
        ring = gan_ring.ring_result(rules, STEPS)
        root.locator("output", has_text=said(ring)).wait_for()
        assert points_of(root, "samples") == pytest.approx(ring.samples, abs=0.002)  # a tenth of a pixel
        texts = root.locator("[data-panel=bars] .note").all_text_contents()
        assert [text for text in texts if text.isdecimal()] == [str(count) for count in ring.counts]
        pixels = np.array(root.locator("[data-key=field]").evaluate(PIXELS)).reshape(48, 48, 4)[::-1]
        blue = pixels[..., 2].astype(int) - pixels[..., 0]  # from orange to blue it only grows
        order = np.argsort(ring.field, axis=None)
        assert (np.diff(blue.ravel()[order]) >= -2).all() and np.ptp(blue) > 0
    assert len(pictures) == 3
    data = np.frombuffer(declaration.assets["data"], np.float32).reshape(-1, 2)
    assert points_of(root, "data") == pytest.approx(data, abs=0.002)


def test_values_are_read_off_under_the_pointer(put):
    stage, root = put()
    ring = gan_ring.ring_result(steps=STEPS)
    plane = root.locator("[data-panel=plane] [data-key=field]")
    plane.scroll_into_view_if_needed()
    box = plane.bounding_box()
    stage.page.mouse.move(box["x"] + box["width"] * 36.5 / 48, box["y"] + box["height"] * (1 - 12.5 / 48))
    assert root.locator("[data-panel=plane] .hover").text_content() == f"x 1.7, y −1.5: D {ring.field[12, 36]:.2f}"
    root.locator("[data-panel=course] svg").hover()
    assert re.search(r"step 10: \d modes, share \d", root.locator("[data-panel=course] .hover").text_content())
    root.locator("[data-panel=bars] svg").hover()
    assert re.search(
        f"mode [45]: ({ring.counts[3]}|{ring.counts[4]})", root.locator("[data-panel=bars] .hover").text_content()
    )


def test_without_a_kernel_train_says_what_it_takes(put):
    stage, root = put()
    picture = root.evaluate(PICTURE)
    root.get_by_role("checkbox", name="blur").focus()
    stage.page.keyboard.press("Space")
    root.get_by_text("The picture shows the last state that was computed").wait_for()
    root.get_by_role("button", name="Train").click()
    root.get_by_text("Train takes a kernel, which a page has not").wait_for()
    assert stage.state()["blur"] is True and root.evaluate(PICTURE) == picture
    root.locator("select[name=loss]").select_option("hinge")
    root.locator("label:has(input[name=flip]:disabled)").wait_for()
    assert root.locator(".switches :disabled").count() == len(gan_ring.LABELS)
    for _ in range(3):
        stage.after(root.get_by_role("button", name="Surprise me").click)  # one of those that were trained
    stage.after(lambda: root.locator("[data-panel=plane] svg").dblclick())
    assert stage.state() == gan_ring.PLAIN and root.evaluate(PICTURE) == picture


# In JupyterLab -------------------------------------------------------------------------------------------------------

CELLS = [
    f"""
    import time
    from course_utils import gan
    from course_utils.widgets import gan_ring

    board = gan_ring.switchboard(steps={STEPS})
    see, play = gan_ring.see, gan.play_ring

    def slowly(*args):
        time.sleep(0.2)
        return see(*args)

    gan_ring.see = slowly
    """,
    "board  # shown",
    "",
]


@pytest.fixture(scope="module")
def notebook(browser, tmp_path_factory):
    home = tmp_path_factory.mktemp("switchboard")
    lab.write_notebook(home / "notebooks" / "board.ipynb", CELLS)
    with lab.session(home / "notebooks", home, browser) as open_notebook:
        opened = open_notebook("board.ipynb")
        for i in (0, 1):
            opened.run_cell(i)
        yield opened


@pytest.fixture
def root(notebook):
    """Return the switchboard as it is at the start."""
    found = notebook.page.locator(".stage").first
    found.get_by_role("button", name="Reset").click()
    found.get_by_text("momentum 0.9, seed 0").first.wait_for()
    return found


def train(root) -> None:
    root.get_by_role("button", name="Train").click()
    root.get_by_text(re.compile(r"after \d+ of 20 steps")).wait_for()


def printed(notebook, source: str) -> str:
    """Return what a cell prints."""
    last = len(CELLS) - 1
    notebook.run_cell(last, source)
    cell = notebook.page.locator(".jp-Notebook .jp-CodeCell").nth(last)
    return cell.locator(".jp-Cell-outputArea").inner_text().strip()


def test_it_trains_when_told_to_and_the_picture_follows(notebook, root):
    start = root.evaluate(PICTURE)
    root.get_by_role("checkbox", name="blur").check()
    root.get_by_text("for this one press Train").wait_for()
    assert root.evaluate(PICTURE) == start
    train(root)
    assert root.locator("progress").evaluate("bar => bar.value") < 1
    seen = {start, root.evaluate(PICTURE)}
    assert printed(notebook, "print(6 * 7)") == "42"  # meanwhile
    seen.add(root.evaluate(PICTURE))
    root.get_by_text("blur, seed 0 · 20 steps in").wait_for()
    trained = root.evaluate(PICTURE)
    assert len(seen | {trained}) == 4
    assert root.locator("progress").is_hidden() and root.get_by_role("button", name="Stop").is_hidden()
    root.get_by_role("button", name="Reset").click()
    root.get_by_text("0.9, seed 0 · 20 steps in").wait_for()
    assert root.evaluate(PICTURE) == start
    root.get_by_role("checkbox", name="blur").check()  # known by now
    root.get_by_text("blur, seed 0 · 20 steps in").wait_for()
    assert root.evaluate(PICTURE) == trained


def test_a_stopped_training_says_so_and_shows_how_far_it_came(notebook, root):
    root.locator("select[name=momentum]").select_option("0.5")
    train(root)
    root.get_by_role("button", name="Stop").click()
    root.get_by_text("Stopped: the picture shows how far it came").wait_for()
    root.get_by_text(re.compile(r"momentum 0.5, seed 0 · after \d+ of 20 steps")).wait_for()
    assert "0.5" not in printed(notebook, "print({dict(key[:-1])['momentum'] for key in gan_ring.RINGS})")
    train(root)
    root.get_by_text("momentum 0.5, seed 0 · 20 steps in").wait_for()


def test_what_goes_wrong_is_shown_with_its_state(notebook, root):
    printed(notebook, "def bad(*args, label=None): raise FloatingPointError('the loss is nan')")
    printed(notebook, "gan.play_ring = bad")
    root.get_by_role("checkbox", name="label flips").check()
    root.get_by_role("button", name="Train").click()
    box = root.get_by_role("alert")
    box.get_by_text("In the kernel: FloatingPointError: the loss is nan").wait_for()
    assert '"flip":true' in box.inner_text()
    root.get_by_role("checkbox", name="label flips").uncheck()
    box.wait_for(state="hidden")
    printed(notebook, "gan.play_ring = play")


def test_python_and_a_second_view_follow(notebook, root):
    printed(notebook, "board")
    other = notebook.page.locator(".stage").nth(1)
    other.wait_for()
    root.get_by_role("checkbox", name="spectral norm").check()
    train(root)
    for view in (root, other):
        view.get_by_text("spectral norm, seed 0 · 20 steps in").wait_for()
    assert root.evaluate(PICTURE).count("path") == other.evaluate(PICTURE).count("path")
    printed(notebook, "board.set(momentum='0', spectral=False)")
    root.get_by_text("non-saturating, momentum 0, seed 0 · 20 steps in").wait_for()
    assert notebook.complaints == []

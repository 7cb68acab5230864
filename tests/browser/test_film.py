"""The page of a film in a browser: scrubber, keys, Play."""

import pytest

from course_utils.film import film
from course_utils.plots import figure

pytestmark = pytest.mark.browser
ALT = 'A bar that grows: "half" & <more>.'
HEIGHTS = (0.1, 0.4, 0.7, 1.0)


def bars():
    """Yield a figure for each height: one bar."""
    for height in HEIGHTS:
        fig, ax = figure(width=3, height=2)
        ax.bar([0], [height])
        ax.set(ylim=(0, 1))
        yield fig


@pytest.fixture
def made(tmp_path):
    return film(bars(), tmp_path / "bar", ALT, fps=4)


@pytest.fixture
def page(browser, made):
    context = browser.new_context(viewport={"width": 800, "height": 600})
    opened = context.new_page()
    opened.requests, opened.complaints = [], []
    opened.on("request", lambda r: opened.requests.append(r.url))
    opened.on("pageerror", lambda e: opened.complaints.append(str(e)))
    opened.on("console", lambda m: opened.complaints.append(m.text) if m.type == "error" else None)
    opened.goto(made.page.as_uri())
    yield opened
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []
    context.close()


def shown(page) -> tuple[str, str]:
    """Return which frame the page says it shows, and the picture, a data URL."""
    return page.locator("output").inner_text(), page.get_by_role("img").get_attribute("src")


def test_scrubber_by_keyboard(page):
    first = shown(page)
    assert first[0] == "1 of 4" and page.get_by_role("img").get_attribute("alt") == ALT
    page.get_by_role("slider").focus()
    seen = [first[1]]
    for place in ("2 of 4", "3 of 4", "4 of 4"):
        page.keyboard.press("ArrowRight")
        assert shown(page)[0] == place
        seen.append(shown(page)[1])
    assert len(set(seen)) == 4
    page.keyboard.press("Home")
    assert shown(page) == first


def test_play_runs_to_the_end_and_again_from_the_start(page):
    first = shown(page)
    page.get_by_role("button", name="Play").click()
    page.get_by_text("4 of 4").wait_for()
    page.get_by_role("button", name="Play").wait_for()  # it has stopped by itself
    assert shown(page)[1] != first[1]
    page.keyboard.press("Space")  # on the button
    page.get_by_role("button", name="Pause").wait_for()
    page.get_by_text("2 of 4").wait_for()
    page.keyboard.press("Space")
    page.get_by_role("button", name="Play").wait_for()


def test_keys_work_without_a_focus(page):
    page.keyboard.press("ArrowRight")
    assert shown(page)[0] == "2 of 4"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert shown(page)[0] == "1 of 4"
    page.keyboard.press("Space")
    page.get_by_text("4 of 4").wait_for()


def test_nothing_sticks_out_of_a_small_window(page):
    page.set_viewport_size({"width": 320, "height": 500})
    assert page.evaluate("document.documentElement.scrollWidth <= 320")


def test_what_a_notebook_stores_moves(browser, made):
    page = browser.new_page()
    page.set_content(f'<img src="data:image/png;base64,{made._repr_mimebundle_()[0]["image/png"]}">')
    seen = set()
    for _ in range(40):
        seen.add(page.screenshot())
        if len(seen) >= 3:
            break
        page.wait_for_timeout(50)
    assert len(seen) >= 3
    page.close()

"""Films: the GIF read back, the page as text, bad input that leaves nothing behind."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image, ImageSequence

from course_utils import files
from course_utils import film as F
from course_utils.plots import figure

ALT = 'A bar that grows: "half" & <more>.'
HEIGHTS = (0.1, 0.4, 0.7, 1.0)


def bars(heights=HEIGHTS, width=3.0):
    """Yield a figure for each height: one bar in the colour of p."""
    for height in heights:
        fig, ax = figure(width=width, height=2)
        ax.bar([0], [height])
        ax.set(ylim=(0, 1))
        yield fig


def coloured(image: Image.Image) -> int:
    """Return how many pixels have nearly the bar's colour."""
    return int((np.abs(np.asarray(image.convert("RGB")).astype(int) - [0, 0x72, 0xB2]).max(-1) < 40).sum())


@pytest.fixture
def made(tmp_path):
    return F.film(bars(), tmp_path / "deep" / "bar", ALT, fps=4)


def test_the_gif_has_every_frame_for_its_time(made):
    with Image.open(made.gif) as gif:
        assert gif.format == "GIF" and gif.n_frames == 4 and gif.size == (300, 200) and gif.info["loop"] == 0
        frames = [(frame.info["duration"], coloured(frame)) for frame in ImageSequence.Iterator(gif)]
    assert [duration for duration, _ in frames] == [250] * 4
    sizes = np.array([size for _, size in frames])
    assert sizes / sizes[-1] == pytest.approx(HEIGHTS, abs=0.03)


def test_the_frames_look_like_the_figures(made):
    with Image.open(made.gif) as gif:
        for frame, fig in zip(ImageSequence.Iterator(gif), bars(), strict=True):
            fig.canvas.draw()
            drawn = np.asarray(fig.canvas.buffer_rgba())[..., :3].astype(int)
            assert np.abs(np.asarray(frame.convert("RGB")).astype(int) - drawn).mean() < 1  # of 255


def test_a_notebook_stores_a_moving_picture_with_alt_text(made):
    content, metadata = made._repr_mimebundle_()
    assert metadata == {"image/png": {"alt": ALT, "width": 300}}
    assert content["text/plain"] == f"Figure: {ALT}"
    picture = Image.open(io.BytesIO(base64.b64decode(content["image/png"])))
    assert picture.format == "PNG" and picture.n_frames == 4
    sizes = np.array([coloured(frame) for frame in ImageSequence.Iterator(picture)])
    assert sizes / sizes[-1] == pytest.approx(HEIGHTS, abs=0.03)
    assert repr(made) == "Film(4 frames, 4 a second)"


def test_the_page_is_whole_and_asks_nothing_of_anyone(made):
    page = made.page.read_text("utf-8")
    assert 'alt="A bar that grows: &quot;half&quot; &amp; &lt;more&gt;."' in page and "color-scheme: light dark" in page
    assert not re.search(r"@[A-Z]+@|https?:|//cdn|src=\"(?!data:)", page)
    frames = [base64.b64decode(code) for code in re.findall(r'^"data:image/png;base64,([^"]+)"', page, re.MULTILINE)]
    sizes = np.array([coloured(Image.open(io.BytesIO(frame))) for frame in frames])
    assert len(frames) == 4 and sizes / sizes[-1] == pytest.approx(HEIGHTS, abs=0.03)


def test_names_with_and_without_an_ending(tmp_path):
    for given, name in (("a", "a"), ("b.gif", "b"), ("c.html", "c"), ("step.5", "step.5")):
        made = F.film(bars((0.5,)), tmp_path / given, ALT)
        assert (made.gif, made.page) == (tmp_path / f"{name}.gif", tmp_path / f"{name}.html")
    assert len(list(tmp_path.iterdir())) == 8


@pytest.mark.parametrize("figures, options, message", [
    (lambda: [], {}, "there are no figures"),
    (lambda: [*bars((0.1,)), *bars((0.1,), width=4)], {}, "different sizes, 300 x 200, 400 x 200 pixels"),
    (bars, {"fps": 0}, "fps = 0; more than 0"),
    (bars, {"fps": -2}, "fps = -2; more than 0"),
    (bars, {"fps": float("nan")}, "fps = nan"),
    (bars, {"fps": 51}, "at most 50"),
    (bars, {"alt": " "}, "alt text is empty"),
])  # fmt: skip
def test_bad_input_writes_nothing(tmp_path, figures, options, message):
    with pytest.raises(ValueError, match=message):
        F.film(figures(), tmp_path / "new" / "bar", **{"alt": ALT, **options})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_not_be_written_to(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ValueError, match="can't write into .*file.*; name a path in another folder"):
        F.film(bars(), tmp_path / "file" / "bar", ALT)
    assert (tmp_path / "file").read_text() == "not a folder"


def test_a_failure_while_writing_keeps_the_old_film(made, monkeypatch):
    old, synced = {path: path.read_bytes() for path in (made.gif, made.page)}, []

    def full(descriptor):
        synced.append(descriptor)
        if len(synced) == len(old):  # the film itself is on the disk, beside its place
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(ValueError, match="No space left on device"):
        F.film(bars(HEIGHTS[::-1]), made.gif, ALT)
    assert {path: path.read_bytes() for path in made.gif.parent.iterdir()} == old

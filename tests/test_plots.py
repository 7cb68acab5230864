"""Figures: what a notebook stores of them."""

import io

import numpy as np
import pytest
from PIL import Image

from course_utils import plots


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_png_has_the_size_asked_for_and_a_white_ground():
    fig, ax = plots.figure(width=5, height=3)
    ax.plot([0, 1], [0, 1])
    image = pixels(plots.to_png(fig))
    assert image.shape == (300, 500, 3)
    assert (image[0, 0] == 255).all()
    assert (image == np.array([0, 0x72, 0xB2])).all(-1).any()  # the first colour of the cycle is that of p


def test_show_stores_picture_and_alt_text(monkeypatch):
    stored = []
    monkeypatch.setattr(plots, "display", lambda data, metadata=None, raw=False: stored.append((data, metadata)))
    fig, _ = plots.figure(width=6, height=2)
    plots.show(fig, "An empty pair of axes.")
    (picture, metadata), (caption, _) = stored
    assert metadata["image/png"] == {"alt": "An empty pair of axes.", "width": 600}
    assert pixels(picture["image/png"]).shape == (300, 900, 3)
    assert caption == {"text/markdown": "*An empty pair of axes.*", "text/plain": "An empty pair of axes."}
    with pytest.raises(ValueError, match="alt text is empty"):
        plots.show(fig, " ")


def test_image_grid_places_each_image():
    fig, ax = plots.figure()
    plots.image_grid(ax, np.stack([np.full((2, 3), v) for v in (0.1, 0.5, 0.9)]), ncols=2, gap=1)
    canvas = ax.images[0].get_array()
    assert canvas.shape == (5, 7)
    assert [canvas[0, 0], canvas[0, 4], canvas[3, 0]] == [0.1, 0.5, 0.9]
    assert np.ma.masked_invalid(canvas).mask[2].all()  # the gap
    with pytest.raises(ValueError, match=r"\(N, H, W\)"):
        plots.image_grid(ax, np.zeros((4, 4)))


def test_shades_get_lighter():
    luminance = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b, _ in plots.shades(6)]
    assert luminance == sorted(luminance)


def test_rows_come_first_as_in_matplotlib():
    _, axes = plots.figure(2, 3)
    assert axes.shape == (2, 3)


def test_a_picture_like_noise_has_fewer_colours_and_keeps_its_rare_hue():
    noise = np.random.default_rng(0).integers(100, 160, (1000, 1000), dtype=np.uint8)
    picture = np.repeat(noise[..., None], 3, axis=-1)
    picture[:10, :10] = 255, 0, 0
    calm, loud = (Image.open(io.BytesIO(plots.small_png(p))) for p in (picture[:100], picture))
    assert len(calm.getcolors()) == 61 and len(loud.getcolors()) == 32
    assert np.abs(pixels_of(loud) - picture).mean() < 2
    assert pixels_of(loud)[0, 0].tolist() == pytest.approx([255, 0, 0], abs=8)


def pixels_of(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"), float)

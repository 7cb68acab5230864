"""The film of a training: the images are those of the generator as it was, and all moments travel with the widget."""

import json
import types

import numpy as np
import pytest
import torch

from course_utils import gan
from course_utils.vae import mlp_vae
from course_utils.widgets import gan_film
from course_utils.widgets.stage import VIEW, ink

SIDE, LAST = 8, len(gan.MOMENTS) - 1
SCORES = [300 / (1 + k) for k in range(LAST + 1)]


def filmed(side: int = SIDE, seed: int = 0) -> gan.Film:
    """Return the film of an untrained GAN: the weights grow, at moment k by a factor 1 + 6 times its share."""
    torch.manual_seed(seed)
    model = gan.conv_gan(side, latents=16, width=6)
    weights = torch.cat([v.flatten() for v in model.generator.state_dict().values() if v.is_floating_point()])
    return gan.Film(model, torch.stack([weights * (1 + 6 * share) for share in gan.MOMENTS]))


def grey_of(images: np.ndarray) -> np.ndarray:
    """Return the grey levels of images in [-1, 1], one by one."""
    return np.array([[[int(np.floor(127.5 * (v + 1) + 0.5)) for v in row] for row in image] for image in images])


def test_film_shows_the_generator_as_it_was():
    widget = gan_film.film_explorer(filmed(), SIDE, seed=4)
    latents = torch.randn(48, 16, generator=torch.Generator().manual_seed(4))
    for k in (0, 5, LAST):
        widget.set(moment=k)
        generator = filmed().players.generator
        for v in generator.state_dict().values():
            if v.is_floating_point():
                v.mul_(1 + 6 * gan.MOMENTS[k])
        with torch.no_grad():
            expected = generator.eval()(latents).view(48, SIDE, SIDE).numpy()
        shown = widget.numbers.fixed
        assert shown.dtype == np.uint8 and np.abs(shown - grey_of(expected)).max() <= 1  # a grey level, by rounding
        assert np.ptp(shown) > 20
        assert np.abs(widget.numbers.fresh.astype(int) - shown).max() > 2


def test_bytes_of_images():
    assert ink(torch.tensor([-3.0, -1.0, 0.0, 0.5, 1.0, 2.0])).tolist() == [0, 0, 128, 191, 255, 255]
    assert ink([0.0, 0.25, 1.0], low=0).tolist() == [0, 64, 255]


def test_fresh_latents_are_new_at_each_moment():
    film = filmed()
    film.frames[:] = film.frames[0].clone()  # only the latents change now
    widget = gan_film.film_explorer(film, SIDE)
    seen = []
    for k in range(LAST + 1):
        widget.set(moment=k)
        seen.append(widget.numbers)
    assert len({n.fixed.tobytes() for n in seen}) == 1
    assert len({n.fresh.tobytes() for n in seen}) == len(gan.MOMENTS)


def test_a_later_training_leaves_the_film_alone():
    film = filmed()
    widget = gan_film.film_explorer(film, SIDE)
    film.frames.zero_()
    widget.set(moment=3)
    assert widget.numbers.fixed.std() > 0


def test_every_moment_travels_with_the_widget():
    widget = gan_film.film_explorer(filmed(), SIDE, scores=SCORES, score_name="Test score")
    assert [sprite["state"]["moment"] for sprite in widget.parts.sprites] == list(range(LAST + 1))
    assert widget.parts.sprites[4]["title"] == "4 %"
    widget.set(moment=4)
    for which in ("fixed", "fresh"):
        told = widget.parts.sprites[4]["numbers"][which]
        assert told["shape"] == [48, SIDE, SIDE] and told["type"] == "uint8"
        assert told["bytes"] == getattr(widget.numbers, which).tobytes()
    assert widget.spec["constants"]["scores"] == SCORES and widget.spec["constants"]["score"] == "Test score"
    assert widget.spec["controls"][0]["names"] == [f"{100 * share:g} %" for share in gan.MOMENTS]
    json.dumps(widget.spec)


@pytest.mark.parametrize("scores, log", [(SCORES, True), ([-v for v in SCORES], False), ([0.0] * (LAST + 1), False)])
def test_the_scale_is_logarithmic_where_it_can_be(scores, log):
    assert gan_film.film_explorer(filmed(), SIDE, scores=scores).spec["constants"]["log"] is log


def test_state_surprise_and_reset():
    first, second = (gan_film.film_explorer(filmed(), SIDE, 7) for _ in range(2))
    seen = set()
    for _ in range(8):
        first.surprise()
        second.surprise()
        assert first.state == second.state
        seen.add(first.state["moment"])
    assert len(seen) > 2 and all(isinstance(k, int) and 0 <= k <= LAST for k in seen)
    first.reset()
    assert first.state == {"moment": 0}


@pytest.mark.parametrize("value, message", [
    (13, "moment = 13 is out of range; allowed: 0 to 12"),
    (3.5, "moment = 3.5; a whole number is needed, 0 to 12"),
    ("4 %", "moment = '4 %' is out of range"),
    (True, "moment = True is out of range"),
])  # fmt: skip
def test_moments_that_are_none(value, message):
    widget = gan_film.film_explorer(filmed(), SIDE)
    with pytest.raises(ValueError, match=message):
        widget.set(moment=value)
    assert widget.state == {"moment": 0}


def test_the_alt_text_names_the_moments_of_the_presets():
    widget = gan_film.film_explorer(filmed(), SIDE)
    for preset in widget.spec["presets"]:
        assert gan_film.PERCENT[preset["state"]["moment"]] in preset["title"]
        assert gan_film.PERCENT[preset["state"]["moment"]] in widget.spec["alt"]
    assert VIEW in widget._repr_mimebundle_()[0]


@pytest.mark.parametrize("make, message", [
    (lambda: gan_film.film_explorer(gan.Film(gan.mlp_gan(64)), 28), "side = 28, but the model's images have 64 pixels"),
    (lambda: gan_film.film_explorer(gan.Film(gan.toy_gan()), SIDE), "side = 8, but the model's images have 2 pixels"),
    (lambda: gan_film.film_explorer(mlp_vae(64, 2), SIDE), "film is a VAE; a course_utils.gan.Film is needed"),
    (lambda: gan_film.film_explorer(filmed().players, SIDE), "film is a GAN; a course_utils.gan.Film is needed"),
    (lambda: gan_film.film_explorer(filmed(), SIDE, scores=[1.0, 2.0]), "2 scores; one for each of 13"),
    (lambda: gan_film.film_explorer(filmed(), SIDE, scores=[np.nan, *SCORES[1:]]), "finite numbers are needed"),
])  # fmt: skip
def test_bad_films(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_courses_own_film_is_the_default(monkeypatch):
    asked = []
    shipped = {"load": filmed(28).players, "extras": {"film": filmed(28).frames}}
    asks = {what: lambda name, what=what: asked.append(name) or shipped[what] for what in shipped}
    monkeypatch.setattr(gan_film, "networks", types.SimpleNamespace(**asks))
    gan_film.film_explorer()
    assert set(asked) == {"gan_mnist"} and len(asked) == 2

"""Paths between latents: norms and images against NumPy, the prior's norms against SciPy, what travels as sprites."""

import json
import math
import types

import numpy as np
import pytest
import torch
from scipy import stats

from course_utils import gan
from course_utils.vae import mlp_vae
from course_utils.widgets import gan_paths
from course_utils.widgets.stage import VIEW, ink

SIDE, LATENTS = 8, 16


def model(side: int = SIDE) -> gan.GAN:
    torch.manual_seed(0)
    return gan.conv_gan(side, latents=LATENTS, width=6).eval()


@pytest.mark.parametrize("k", [2, 16, 32, 100])
def test_norms_of_the_prior(k):
    r = torch.linspace(0.05, 15, 200, dtype=torch.float64)
    assert gan_paths.chi_density(r, k).numpy() == pytest.approx(stats.chi(k).pdf(r), abs=1e-12)
    assert gan_paths.chi_cumulative(r, k).numpy() == pytest.approx(stats.chi(k).cdf(r), abs=1e-9)


def test_norms_and_images_along_both_paths():
    widget = gan_paths.interpolation_explorer(model(), SIDE, seed=2)
    a, b = torch.randn(2, LATENTS, generator=torch.Generator().manual_seed(2005)).double().numpy()
    t = np.linspace(0, 1, 101)[:, None]
    straight = (1 - t) * a + t * b
    widget.set(pair=5)
    n = widget.numbers
    assert n.norms[0] == pytest.approx(np.linalg.norm(straight, axis=1), abs=1e-9)
    ends = np.linalg.norm([a, b], axis=1)
    assert n.norms[1] == pytest.approx(np.interp(t[:, 0], [0, 1], ends), abs=1e-9)
    assert n.shorter == pytest.approx(stats.chi(LATENTS).cdf(n.norms), abs=1e-9)
    angle = math.acos(a @ b / ends.prod())
    u, v = a / ends[0], b / ends[1]
    sphere = (np.sin((1 - t) * angle) * u + np.sin(t * angle) * v) / math.sin(angle)
    sphere *= (1 - t) * ends[0] + t * ends[1]
    for which, path in enumerate((straight, sphere)):
        images = model().decode(torch.tensor(path[::5]).float()).view(21, SIDE, SIDE)
        assert np.abs(n.images[which].astype(int) - ink(images)).max() <= 1
    assert (n.images[0, [0, -1]] == n.images[1, [0, -1]]).all()
    assert np.abs(n.images[0, 10].astype(int) - n.images[1, 10]).max() > 1


def test_path_and_t_change_no_number():
    widget = gan_paths.interpolation_explorer(model(), SIDE)
    before = widget.numbers
    widget.set(path="sphere", t=0.2)
    assert all((x == y).all() for x, y in zip(before, widget.numbers, strict=True))
    assert widget.spec["kernel"]["of"] == ["pair"]


def test_the_strip_has_images_and_the_slider_no_stop_between_them():
    constants, (_, t, _) = (gan_paths.interpolation_explorer(model(), SIDE).spec[k] for k in ("constants", "controls"))
    assert gan_paths.STEPS % constants["strip"] == 0 and t["step"] == pytest.approx(1 / gan_paths.STEPS)
    assert (len(gan_paths.T) - 1) % gan_paths.STEPS == 0


def test_some_pairs_travel_with_the_widget():
    widget = gan_paths.interpolation_explorer(model(), SIDE)
    assert [sprite["state"] for sprite in widget.parts.sprites] == [
        {"pair": n} for n in range(gan_paths.WITHOUT_KERNEL)
    ]
    widget.set(pair=3)
    for name, told in widget.parts.sprites[3]["numbers"].items():
        mine = getattr(widget.numbers, name)
        assert told["bytes"] == mine.tobytes() and told["shape"] == list(mine.shape) and told["type"] == mine.dtype.name


def test_sprites_of_mnist_are_small():
    sprites = gan_paths.interpolation_explorer(model(28)).parts.sprites
    assert sum(len(told["bytes"]) for sprite in sprites for told in sprite["numbers"].values()) < 1e6


def test_spec_and_presets():
    widget = gan_paths.interpolation_explorer(model(), SIDE)
    json.dumps(widget.spec)
    r = np.linspace(0.01, widget.spec["constants"]["top"], 200)
    density = stats.chi(LATENTS).pdf(r)
    assert widget.spec["constants"]["density"] == pytest.approx(density / density.max(), abs=1e-9)
    assert stats.chi(LATENTS).sf(widget.spec["constants"]["top"]) < 0.02  # the axis holds nearly all of the prior
    straight, sphere = (preset["state"] for preset in widget.spec["presets"])
    assert straight["t"] == sphere["t"] == 0.5 and straight["pair"] == sphere["pair"]
    assert widget.numbers.norms[0, 50] < widget.numbers.norms[1, 50]
    assert widget.numbers.shorter[0, 50] < 0.2 < widget.numbers.shorter[1, 50]
    assert VIEW in widget._repr_mimebundle_()[0]


def test_a_surprise_is_another_pair_half_way():
    first, second = (gan_paths.interpolation_explorer(model(), SIDE, 3) for _ in range(2))
    for widget in (first, second):
        widget.set(t=0.2)
        widget.surprise()
    assert first.state == second.state and first.state["t"] == 0.5
    assert isinstance(first.state["pair"], int) and first.state["pair"] != 0
    first.reset()
    assert first.state == {"path": "straight", "t": 0.5, "pair": 0}


@pytest.mark.parametrize("values, message", [
    ({"path": "bent"}, "path 'bent' is not known"),
    ({"t": 1.2}, "t = 1.2 is out of range; allowed: 0 to 1"),
    ({"pair": 2.5}, "pair = 2.5; a whole number is needed, 0 to 99"),
    ({"pear": 2}, "did you mean 'pair'"),
])  # fmt: skip
def test_states_that_are_none(values, message):
    with pytest.raises(ValueError, match=message):
        gan_paths.interpolation_explorer(model(), SIDE).set(**values)


@pytest.mark.parametrize("make, message", [
    (lambda: gan_paths.interpolation_explorer(gan.mlp_gan(64), 28), "have 64 pixels"),
    (lambda: gan_paths.interpolation_explorer(mlp_vae(64, 2), SIDE), "a course_utils.gan.GAN is needed"),
])  # fmt: skip
def test_bad_models(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_courses_own_model_is_the_default(monkeypatch):
    asked = []
    monkeypatch.setattr(gan_paths, "networks", types.SimpleNamespace(load=lambda name: asked.append(name) or model(28)))
    gan_paths.interpolation_explorer()
    assert asked == ["gan_mnist"]


# What the kernel answers ---------------------------------------------------------------------------------------------


def asked(widget, state) -> list[dict]:
    """Return what the widget answers to the page's request for a state."""
    answers = []
    widget.observe(lambda change: answers.append(change["new"]), "answer")
    widget._handle_custom_msg({"number": 7, "state": state}, [])
    return answers


def test_the_kernel_answers_with_the_numbers():
    widget = gan_paths.interpolation_explorer(model(), SIDE)
    begun, done = asked(widget, {"path": "straight", "t": 0.5, "pair": 42})
    assert (begun["number"], begun["share"]) == (7, 0) and "numbers" not in begun
    assert (done["number"], done["share"]) == (7, 1)
    widget.set(pair=42)
    assert done["numbers"]["images"]["bytes"] == widget.numbers.images.tobytes()


def test_what_goes_wrong_is_told():
    widget = gan_paths.interpolation_explorer(model(), SIDE)
    assert asked(widget, {"pair": 100})[-1]["error"].startswith("ValueError: pair = 100 is out of range")

"""W-manifold headless: its numbers against SciPy, NumPy and closed forms, every message of the pad, bad models."""

import base64
import io
import json
import math
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from scipy.spatial.distance import cdist
from scipy.special import expit

from course_utils.vae import VAE, Gaussian, conv_vae, mlp_vae
from course_utils.widgets import vae as W
from course_utils.widgets.shell import VIEW

ROOT = Path(__file__).resolve().parents[2]


def codes_of(n: int = 60, scale: float = 1.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random codes (n, 2) and the classes 0..9 in turn."""
    return scale * torch.randn(n, 2, generator=torch.Generator().manual_seed(seed)), torch.arange(n) % 10


def tiny(seed: int = 0, **options) -> VAE:
    """Return an untrained VAE of 8 x 8 images with 2 latents, and weights large enough for its images to differ."""
    torch.manual_seed(seed)
    vae = mlp_vae(64, 2, hidden=(8,), **options)
    for p in vae.decoder.parameters():
        p.data.mul_(3)
    return vae


def three_models() -> dict:
    return {
        "wide": (tiny(0), *codes_of(scale=4)),
        "plain": (tiny(1), *codes_of()),
        "still": (tiny(2), *codes_of(scale=0.01)),
    }


@pytest.fixture
def explorer():
    return W.manifold_explorer(three_models(), seed=1)


@pytest.fixture(scope="module")
def shipped():
    return W.manifold_explorer()


def images(data: bytes, side: int) -> np.ndarray:
    return np.frombuffer(data, np.uint8).reshape(-1, side**2).astype(int)


def sigmoid_bytes(decoder, z) -> np.ndarray:
    """Return what a two-layer SiLU decoder of logits gives for z (N, 2), in NumPy and double precision."""
    (w1, b1), (w2, b2) = ([p.detach().double().numpy() for p in decoder[i].parameters()] for i in (0, 2))
    h = np.asarray(z) @ w1.T + b1
    return 255 * expit((h * expit(h)) @ w2.T + b2)


# Numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("z", [(0.0, 0.0), (0.52, -1.2), (-7.0, 3.0), (40.0, 0.1)])
def test_image_is_what_the_decoder_gives_for_z(explorer, z):
    explorer.set(z=z)
    image = images(explorer.pad.point["image"], 8)[0]
    decoder = three_models()["wide"][0].decoder
    assert np.abs(image - sigmoid_bytes(decoder, [z])[0]).max() <= 0.51  # half a grey level, and rounding
    exact = (255 * torch.sigmoid(decoder(torch.tensor([z])))[0]).round().to(torch.uint8)
    assert bytes(exact.tolist()) == explorer.pad.point["image"]
    assert explorer.pad.point["z"] == list(z)


@pytest.mark.parametrize(
    "make, side",
    [
        (lambda: conv_vae(8, 2, 4), 8),
        (lambda: conv_vae(28, 2, 4), 28),
        (lambda: mlp_vae(784, 2, hidden=(16,)), 28),
        (lambda: mlp_vae(64, 2, hidden=(16,), likelihood=Gaussian(0.2)), 8),
    ],
)
def test_any_decoder_of_square_images(make, side):
    torch.manual_seed(0)
    vae = make()
    explorer = W.manifold_explorer({"one": (vae, *codes_of())})
    explorer.set(z=(0.3, -0.4))
    with torch.no_grad():
        mean = vae.likelihood.mean(vae.decode(torch.tensor([[0.3, -0.4]])))[0].numpy()
    assert np.abs(images(explorer.pad.point["image"], side)[0] - 255 * mean.clip(0, 1)).max() <= 0.51
    assert explorer.pad.scene["side"] == side
    assert explorer.pad.scene["gap"] == (2 if side == 8 else 0)


def test_manifold_is_the_grid_of_the_priors_quantiles(explorer):
    scene = explorer.pad.scene
    n = scene["columns"]
    axis = stats.norm.ppf((np.arange(n) + 0.5) / n)
    assert scene["axis"] == pytest.approx(axis, abs=1e-5)
    z = [(x, y) for y in axis[::-1] for x in axis]  # from above, row by row
    expected = sigmoid_bytes(three_models()["wide"][0].decoder, z)
    assert np.abs(images(scene["grid"], 8) - expected).max() <= 0.52


@pytest.mark.parametrize("z", [(0.0, 0.0), (-1.3, 2.4), (5.0, -8.0)])
def test_the_marker_on_the_manifold_lies_at_the_cumulative_distribution(explorer, z):
    explorer.set(z=z)
    assert explorer.pad.point["corner"] == pytest.approx(stats.norm.cdf(z), abs=1e-12)


def test_nearest_code(explorer):
    codes, classes = codes_of(scale=4)
    for z in [(0.1, 0.2), (-3.0, 5.0), (9.0, 0.0)]:
        distances = cdist([z], codes.double().numpy())[0]
        explorer.set(z=z)
        text = " ".join(explorer.pad.point["text"])
        assert f"nearest code: a {classes[distances.argmin()]}, {distances.min():.2f} away" in text


def test_a_point_off_the_plane_says_so_and_stays_where_it_is(explorer):
    explorer.set(z=(9.0, 0.5))
    assert explorer.pad.scene["half"] > 9 and len(explorer.pad.point["text"]) == 3
    for name, value in (("view", "prior"), ("model", "still")):
        explorer.set(**{"view": "codes", name: value})
        assert explorer.pad.scene["half"] == 3 and explorer.pad.point["z"] == [9.0, 0.5]
        assert explorer.pad.point["text"][-1] == "off this plane, marked at its edge"


def path_of(explorer, kind, a, b) -> tuple[np.ndarray, np.ndarray]:
    explorer.set(path=kind, a=a, b=b)
    return np.array(explorer.pad.path["stops"]), np.array(explorer.pad.path["line"])


@pytest.mark.parametrize("a, b", [((1.0, 2.0), (-3.0, 0.5)), ((0.0, 0.0), (2.0, -1.0)), ((1.0, 1.0), (1.0, 1.0))])
def test_straight_path(explorer, a, b):
    t = np.linspace(0, 1, 11)[:, None]
    stops, line = path_of(explorer, "straight", a, b)
    assert stops == pytest.approx((1 - t) * a + t * b, abs=1e-12)
    assert line[::6] == pytest.approx(stops) and len(line) == 61
    expected = sigmoid_bytes(three_models()["wide"][0].decoder, stops)
    assert np.abs(images(explorer.pad.path["strip"], 8) - expected).max() <= 0.52


def test_path_on_the_sphere(explorer):
    stops, line = path_of(explorer, "sphere", (2.0, 0.0), (0.0, 2.0))  # equal norms, a right angle
    turn = np.linspace(0, math.pi / 2, 61)
    assert line == pytest.approx(2 * np.column_stack([np.cos(turn), np.sin(turn)]), abs=1e-9)
    assert stops[5] == pytest.approx([math.sqrt(2)] * 2)
    stops, line = path_of(explorer, "sphere", (3.0, 0.0), (-0.5, -0.5))  # other norms: they change linearly
    assert stops[[0, -1]] == pytest.approx(np.array([[3, 0], [-0.5, -0.5]]))
    z = line[:, 0] + 1j * line[:, 1]
    assert np.abs(z) == pytest.approx(np.linspace(3, math.sqrt(0.5), 61))
    assert np.angle(z) == pytest.approx(np.linspace(0, -3 * math.pi / 4, 61))  # the shorter way round
    for a, b in [((1.0, 0.0), (-1.0, 0.0)), ((0.0, 0.0), (1.0, 1.0)), ((0.0, 0.0), (0.0, 0.0))]:
        stops, _ = path_of(explorer, "sphere", a, b)  # no way is the shorter one, or no angle at all
        assert explorer.error is None and np.isfinite(stops).all()
        assert stops[[0, -1]] == pytest.approx(np.array([a, b]), abs=1e-6)


def test_the_plane_shows_the_codes_and_at_least_plus_minus_three(explorer):
    for label, least in (("wide", 4), ("plain", 3), ("still", 3)):
        codes = three_models()[label][1].numpy()
        explorer.set(model=label, view="codes")
        scene = explorer.pad.scene
        outside = (np.abs(codes).max(1) > scene["half"]).sum()
        assert scene["half"] >= least and outside <= 1
        assert scene["half"] == 3 or (np.abs(codes).max(1) > scene["half"] - 1).mean() > 0.005  # no larger than needed
        assert (f"; {outside} of 60 outside" in scene["note"]) == (outside > 0)
        assert max(scene["ticks"]) <= scene["half"] and 0 in scene["ticks"] and 3 <= len(scene["ticks"]) <= 9
        assert np.frombuffer(scene["codes"], "<f4").reshape(-1, 2) == pytest.approx(codes)
        assert list(scene["classes"]) == [i % 10 for i in range(60)]
    explorer.set(model="wide", view="prior")
    assert explorer.pad.scene["half"] == 3
    outside = (np.abs(three_models()["wide"][1].numpy()).max(1) > 3).sum()
    assert explorer.pad.scene["note"] == f"−3 to 3; {outside} of 60 outside"
    assert all(max(abs(x), abs(y)) < 3 for _, x, y in explorer.pad.scene["names"])


def test_classes_are_named_at_their_medians():
    centres = np.array([[2.0, 2.0], [-2.0, 1.0], [2.05, 2.0], [0.0, -2.0]])
    rng = np.random.default_rng(0)
    codes = np.repeat(centres, 20, 0) + 0.05 * rng.standard_normal((80, 2))
    explorer = W.manifold_explorer({"m": (tiny(), torch.tensor(codes), np.repeat([0, 1, 4, 7], 20))})
    names = {name: place for name, *place in explorer.pad.scene["names"]}
    assert set(names) == {"0 4", "1", "7"}
    for k, i in (("1", 1), ("7", 3)):
        assert names[k] == pytest.approx(np.median(codes[20 * i : 20 * i + 20], axis=0), abs=1e-6)
    assert names["0 4"][1] > np.median(codes[:20, 1])  # above the codes, not on them
    colours = explorer.pad.scene["colours"]
    assert [k for k, colour in enumerate(colours) if colour] == [0, 1, 4, 7] and len(set(W.CLASSES)) == 10


@pytest.mark.parametrize("classes, name", [([3], "3"), ([3, 5, 8], "3 5 8"), ([4, 9], "4 9"), ([*range(10)], "0–9")])
def test_names_of_classes_at_one_place(classes, name):
    assert W.runs(classes) == name


def test_readout_counts_the_codes_within_the_circles(explorer):
    norms = np.linalg.norm(three_models()["wide"][1].numpy(), axis=1)
    one, two = (f"{100 * (norms < r).mean():.0f} %" for r in (1, 2))
    assert f"<b>wide</b>: {one} of the codes within 1σ of the prior, {two} within 2σ" in explorer.readout.value
    prior = stats.chi2(2).cdf([1, 4])  # the squared norm of a standard normal z in two dimensions
    assert "({:.0f} % and {:.0f} % of the prior itself)".format(*100 * prior) in explorer.readout.value


# Messages ----------------------------------------------------------------------------------------------------------


def send(explorer, **content) -> None:
    """Hand a message to the widget as the page would."""
    explorer.pad._handle_custom_msg(json.loads(json.dumps(content)), [])


def test_first_click_sets_a_second_b_third_begins_anew(explorer):
    send(explorer, do="clear")
    assert (explorer.state["a"], explorer.state["b"]) == (None, None)
    assert explorer.pad.path["stops"] == [] and explorer.pad.path["strip"] == b""
    assert "No path yet" in explorer.pad.path["text"]
    send(explorer, do="mark", z=[1, 0])
    assert (explorer.state["z"], explorer.state["a"], explorer.state["b"]) == ((1.0, 0.0), (1.0, 0.0), None)
    assert explorer.pad.path["stops"] == [] and "click B" in explorer.pad.path["text"]
    send(explorer, do="mark", z=[0.5, -1.25])
    assert (explorer.state["z"], explorer.state["a"]) == ((0.5, -1.25), (1.0, 0.0))
    assert explorer.pad.path["text"] == "from A (1.00, 0.00) to B (0.50, −1.25), straight"
    assert len(images(explorer.pad.path["strip"], 8)) == len(explorer.pad.path["stops"]) == 11
    send(explorer, do="mark", z=[2, 2])
    assert (explorer.state["a"], explorer.state["b"]) == ((2.0, 2.0), None)
    assert explorer.error is None


def test_every_message_is_answered_once(explorer):
    answers = explorer.pad.answers
    messages = [
        {"do": "set", "state": {"z": [1, 2]}},
        {"do": "set", "state": {"z": [1, 2]}},  # nothing changes
        {"do": "set", "state": {"z": None}},
        {"do": "mark", "z": [0, 0]},
        {"do": "clear"},
        {},
    ]
    for i, content in enumerate(messages, 1):
        send(explorer, **content)
        assert explorer.pad.answers == answers + i


@pytest.mark.parametrize("content, message", [
    ({"do": "set", "state": {"z": [math.nan, 0]}}, "z = .*two numbers from -1000 to 1000"),
    ({"do": "set", "state": {"z": [None, None]}}, "z = "),  # what JavaScript makes of NaN
    ({"do": "set", "state": {"z": [math.inf, 0]}}, "z = "),
    ({"do": "set", "state": {"z": [1e30, 0]}}, "z = "),
    ({"do": "set", "state": {"z": [1, 2, 3]}}, "z = "),
    ({"do": "set", "state": {"z": "12"}}, "z = "),
    ({"do": "set", "state": {"z": None}}, "z = None"),
    ({"do": "set", "state": {"a": [0]}}, "a = "),
    ({"do": "set", "state": {"model": "wid"}}, "model 'wid' is not known; .*did you mean 'wide'"),
    ({"do": "set", "state": {"path": "curved"}}, "path 'curved' is not known"),
    ({"do": "set", "state": {"view": 3}}, "view 3 is not known"),
    ({"do": "set", "state": {"zz": [0, 0]}}, "control 'zz' is not known"),
    ({"do": "set"}, "state"),
    ({"do": "set", "state": 3}, "mapping"),
    ({"do": "mark", "z": [math.nan, 0]}, "z = "),
    ({"do": "mark"}, "z"),
    ({"do": "marc", "z": [0, 0]}, "message 'marc' is not known; .*did you mean 'mark'"),
    ({}, "message None is not known"),
    ([1, 2], "a dictionary is needed"),
])  # fmt: skip
def test_a_bad_message_is_shown_and_moves_nothing(explorer, content, message):
    state, image = explorer.state, explorer.pad.point["image"]
    explorer.pad._handle_custom_msg(content, [])
    assert isinstance(explorer.error, ValueError | TypeError | KeyError)
    with pytest.raises(type(explorer.error), match=message):
        raise explorer.error
    assert type(explorer.error).__name__ in explorer.error_box.value and explorer.error_box.layout.display != "none"
    assert explorer.state == state and explorer.pad.point["image"] == image
    send(explorer, do="set", state={"z": [0.5, 0.5]})
    assert explorer.error is None and explorer.error_box.value == ""


def test_bad_values_raise_in_the_cell(explorer):
    for values, message in (({"z": (0.0, math.nan)}, "z = "), ({"model": "β = 2"}, "model 'β = 2' is not known")):
        with pytest.raises(ValueError, match=message):
            explorer.set(**values)


# Controls ----------------------------------------------------------------------------------------------------------


def shown(explorer) -> tuple:
    return explorer.pad.scene, explorer.pad.point, explorer.pad.path


def test_every_control_changes_what_is_shown_and_back(explorer):
    for name, value in (("model", "plain"), ("path", "sphere"), ("view", "prior")):
        before, start = shown(explorer), explorer.state[name]
        explorer.controls[name].value = value
        assert explorer.error is None and shown(explorer) != before, name
        explorer.controls[name].value = start
        assert shown(explorer) == before, name


def test_reset_goes_back_to_the_start(explorer):
    start, before = explorer.state, shown(explorer)
    send(explorer, do="mark", z=[1, 1])
    explorer.set(model="still", path="sphere", view="prior")
    explorer.buttons["Reset"].click()
    assert explorer.state == start and shown(explorer) == before


def test_surprises_are_paths_between_codes_and_follow_the_seed():
    first, second, other = (W.manifold_explorer(three_models(), seed=seed) for seed in (7, 7, 8))
    assert first.state == other.state  # a surprise comes when asked for
    seen = []
    for _ in range(8):
        for e in (first, second, other):
            e.buttons["Surprise me"].click()
            assert e.error is None
        assert first.state == second.state
        codes = three_models()[first.state["model"]][1].numpy()
        for end in (first.state["a"], first.state["b"]):
            assert np.abs(codes - end).max(1).min() <= 0.005 + 1e-6
        seen.append((first.state, other.state))
    assert any(a != b for a, b in seen) and len({a["model"] for a, _ in seen}) > 1


def test_the_path_at_the_start_joins_the_classes_farthest_apart(explorer):
    codes, classes = (v.numpy() for v in codes_of(scale=4))
    medians = np.array([np.median(codes[classes == k], axis=0) for k in range(10)])
    far = np.linalg.norm(medians - medians[0], axis=1).argmax()
    assert explorer.state["a"] == pytest.approx(1.2 * medians[0], abs=0.006)
    assert explorer.state["b"] == pytest.approx(1.2 * medians[far], abs=0.006)


def test_labels_and_reprs(explorer):
    assert repr(explorer) == "ManifoldExplorer('Walk through the latent plane')" and repr(explorer.pad) == "LatentPad()"
    title, controls, row, *_ = explorer.view.children
    assert explorer.view.children[-1] is explorer.pad
    assert [control.description for control in controls.children] == ["model", "path", "view"]
    assert [button.description for button in row.children[:-1]] == ["Reset", "Surprise me"]
    assert "Escape" in row.children[-1].value
    named = W.manifold_explorer({"<b": (tiny(), *codes_of())})
    assert "&lt;b" in named.readout.value and "<b<" not in named.readout.value


# The cell: what is saved, what raises ------------------------------------------------------------------------------


def test_saved_output(shipped):
    data, metadata = shipped._repr_mimebundle_()
    assert set(data) == {VIEW, "image/png", "text/plain"} and set(metadata) == {"image/png"}
    assert data[VIEW]["model_id"] == shipped.view.model_id
    assert metadata["image/png"]["alt"] in data["text/plain"] and "β = 0.01, β = 1, β = 100" in data["text/plain"]
    assert len(data["image/png"]) < 400_000
    picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert picture.width == round(1.5 * metadata["image/png"]["width"])
    pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    for colour in W.CLASSES:  # every class can be told in the picture
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        faint = [0.8 * v + 0.2 * 255 for v in rgb]
        assert min(np.abs(pixels - v).max(1).min() for v in (rgb, faint)) <= 12, colour


def test_the_shipped_models_show_what_the_alt_text_says(shipped):
    assert list(shipped.models) == ["β = 0.01", "β = 1", "β = 100"] and shipped.state["model"] == "β = 1"
    within = {k: np.linalg.norm(m.codes.numpy(), axis=1) < 2 for k, m in shipped.models.items()}
    assert within["β = 0.01"].mean() < 0.5 < 0.7 < within["β = 1"].mean() < 0.9
    assert np.abs(shipped.models["β = 100"].codes.numpy()).max() < 0.1
    spread = {}
    for label in shipped.models:
        shipped.set(model=label)
        spread[label] = images(shipped.pad.scene["grid"], 28).std(0).max()
    shipped.reset()
    assert spread["β = 100"] < 10 < 70 < min(spread["β = 0.01"], spread["β = 1"])  # of 255 grey levels


def test_one_model_has_a_picture_of_its_own():
    explorer = W.manifold_explorer({"live": (tiny(), *codes_of())})
    data, metadata = explorer._repr_mimebundle_()
    assert "a VAE, live" in metadata["image/png"]["alt"] and "side by side" not in data["text/plain"]
    picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert picture.width > picture.height and len(data["image/png"]) < 400_000


def test_colab_is_told_which_widget_manager_to_load(explorer, monkeypatch):
    url = "https://example.org/manager.js"
    installed = SimpleNamespace(_widgets=SimpleNamespace(_installed_url=url), enable_custom_widget_manager=lambda: None)
    monkeypatch.setitem(sys.modules, "google.colab.output", installed)
    _, metadata = explorer._repr_mimebundle_()
    assert metadata[VIEW] == {"colab": {"custom_widget_manager": {"url": url}}} and "image/png" in metadata


def test_the_page_s_part_is_one_module_without_network_and_is_packaged():
    text = W.LatentPad._esm
    assert "export default { render };" in text and "import " not in text and "fetch(" not in text
    assert {word for word in text.replace('"', " ").split() if "://" in word} == {
        "http://www.w3.org/1999/xhtml",
        "http://www.w3.org/2000/svg",
    }
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]
    assert "widgets/*.js" in tool["setuptools"]["package-data"]["course_utils"]


def test_later_training_changes_nothing_and_the_model_is_left_as_it_was():
    vae = tiny().double().train()
    explorer = W.manifold_explorer({"m": (vae, *codes_of())})
    assert vae.training and next(vae.parameters()).dtype == torch.float64
    before = explorer.pad.point["image"]
    z = explorer.state["z"]
    for p in vae.parameters():
        p.data.zero_()
    explorer.set(z=(9.0, 9.0))
    explorer.set(z=z)
    assert explorer.pad.point["image"] == before


@pytest.mark.gpu
def test_a_model_on_the_gpu():
    vae = tiny()
    codes, classes = codes_of()
    here = W.manifold_explorer({"m": (vae, codes, classes)})
    there = W.manifold_explorer({"m": (vae.cuda(), codes.cuda(), classes.cuda())})
    assert shown(there) == shown(here)


CODES, LABELS = codes_of()


@pytest.mark.parametrize("models, message", [
    ({}, "models is empty"),
    ({"m": tiny()}, "'m': a triple .* is needed"),
    ({"m": (tiny(), CODES)}, "'m': a triple"),
    ({"m": (torch.nn.Linear(2, 64), CODES, LABELS)}, "'m' is a Linear; a course_utils.vae.VAE is needed"),
    ({"m": (mlp_vae(64, 3), torch.randn(60, 3), LABELS)}, "'m' has 3 latents; the pad shows 2: mlp_vae.64, 2."),
    ({"m": (mlp_vae(64, 2, classes=10), CODES, LABELS)}, "'m' is conditional"),
    ({"m": (mlp_vae(60, 2), CODES, LABELS)}, "'m' has 60 pixels; a square image"),
    ({"m": (tiny(), torch.randn(60, 3), LABELS)}, r"codes have shape \(60, 3\); \(N, 2\) is needed"),
    ({"m": (tiny(), torch.randn(60, 2, 1), LABELS)}, r"codes have shape \(60, 2, 1\)"),
    ({"m": (tiny(), torch.zeros(0, 2), LABELS[:0])}, r"codes have shape \(0, 2\)"),
    ({"m": (tiny(), CODES * math.inf, LABELS)}, "not finite"),
    ({"m": (tiny(), CODES, LABELS[:-1])}, r"\(59,\) labels for 60 codes"),
    ({"m": (tiny(), CODES, LABELS + 1)}, "whole numbers from 0 to 9"),
    ({"m": (tiny(), CODES, LABELS + 0.5)}, "whole numbers from 0 to 9"),
    ({"good": (tiny(), CODES, LABELS), "m": (mlp_vae(64, 4), CODES, LABELS)}, "'m' has 4 latents"),
])  # fmt: skip
def test_models_that_the_pad_cannot_show(models, message):
    with pytest.raises(ValueError, match=message):
        W.manifold_explorer(models)


class BrokenDecoder(torch.nn.Module):
    def forward(self, z):
        raise RuntimeError("broken on purpose")


def test_a_broken_decoder_fails_the_cell_whichever_model_it_is_in():
    models = three_models()
    models["still"][0].decoder = BrokenDecoder()
    with pytest.raises(RuntimeError, match="on purpose"):
        W.manifold_explorer(models)


@pytest.mark.parametrize(
    "layer",
    ["compute_scene", "compute_point", "compute_path", "scene_message", "point_message", "path_message", "read_scene"]
    + ["draw_sheet", "draw_plane"],
)
def test_a_broken_layer_fails_the_cell(layer, monkeypatch):
    def broken(*args):
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(W, layer, broken)
    with pytest.raises(RuntimeError, match="on purpose"):
        W.manifold_explorer(three_models())


def test_a_decoder_that_breaks_later_is_shown_in_the_widget(explorer):
    image = explorer.pad.point["image"]
    explorer.models["wide"].vae.decoder = BrokenDecoder()
    send(explorer, do="set", state={"z": [1.5, 1.5]})
    assert isinstance(explorer.error, RuntimeError) and "on purpose" in explorer.error_box.value
    assert explorer.pad.point["image"] == image

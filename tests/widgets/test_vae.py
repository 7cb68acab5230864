"""W-manifold in Python: its numbers against SciPy, NumPy and closed forms, what the page is told, bad models."""

import json
import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import cdist
from scipy.special import expit

from course_utils.vae import VAE, Bernoulli, DiscretisedLogistic, Gaussian, conv_vae, mlp_vae
from course_utils.widgets import vae as W
from course_utils.widgets.stage import VIEW
from course_utils.widgets.weights import pack


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


def at(**points) -> dict:
    """Return the controls of points: z=(1, 2) gives z1=1, z2=2."""
    return {f"{name}{i + 1}": float(v) for name, point in points.items() for i, v in enumerate(point)}


def sigmoid_bytes(decoder, z) -> np.ndarray:
    """Return what a two-layer SiLU decoder of logits gives for z (N, 2), by its weights in half precision, in NumPy."""
    halves = [p.detach().numpy().astype(np.float16).astype(float) for p in decoder.parameters()]
    w1, b1, w2, b2 = halves
    h = np.asarray(z) @ w1.T + b1
    return 255 * expit((h * expit(h)) @ w2.T + b2)


def constants(explorer, label: str) -> dict:
    """Return what the page is told of a model."""
    return explorer.spec["constants"]["models"][label]


# Numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("z", [(0.0, 0.0), (0.52, -1.2), (-7.0, 3.0), (10.0, 0.1)])
def test_image_is_what_the_decoder_gives_for_z(explorer, z):
    explorer.set(**at(z=z))
    image = explorer.numbers.image.astype(int)
    decoder = three_models()["wide"][0].decoder
    assert np.abs(image - sigmoid_bytes(decoder, [z])[0]).max() <= 0.51  # half a grey level, and rounding


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian(0.2), DiscretisedLogistic(17)])
@pytest.mark.parametrize("side", [8, 28])
def test_any_likelihood_of_square_images(likelihood, side):
    torch.manual_seed(0)
    vae = mlp_vae(side**2, 2, hidden=(32, 16), likelihood=likelihood)
    explorer = W.manifold_explorer({"one": (vae, *codes_of())})
    explorer.set(**at(z=(0.3, -0.4)))
    with torch.no_grad():
        mean = vae.likelihood.mean(vae.decode(torch.tensor([[0.3, -0.4]])))[0].numpy()
    assert np.abs(explorer.numbers.image - 255 * mean.clip(0, 1)).max() <= 1  # half a grey level, and half precision
    assert constants(explorer, "one")["side"] == side
    assert (constants(explorer, "one")["layers"][-1]["kind"] == "sigmoid") == isinstance(likelihood, Bernoulli)


def test_manifold_is_the_grid_of_the_priors_quantiles(explorer):
    n = W.GRID
    axis = stats.norm.ppf((np.arange(n) + 0.5) / n)
    assert explorer.spec["constants"]["axis"] == pytest.approx(axis, abs=1e-5)
    z = [(x, y) for y in axis[::-1] for x in axis]  # from above, row by row
    expected = sigmoid_bytes(three_models()["wide"][0].decoder, z)
    assert np.abs(explorer.numbers.manifold - expected).max() <= 0.52


@pytest.mark.parametrize("z", [(0.0, 0.0), (-1.3, 2.4), (5.0, -8.0)])
def test_the_marker_on_the_manifold_lies_at_the_cumulative_distribution(explorer, z):
    explorer.set(**at(z=z))
    assert explorer.numbers.corner == pytest.approx(stats.norm.cdf(z), abs=1e-12)


def test_nearest_code(explorer):
    codes, classes = codes_of(scale=4)
    for z in [(0.1, 0.2), (-3.0, 5.0), (9.0, 0.0)]:
        distances = cdist([z], codes.double().numpy())[0]
        explorer.set(**at(z=z))
        assert explorer.numbers.nearest == (classes[distances.argmin()], pytest.approx(distances.min()))


def path_of(explorer, kind, a, b) -> tuple[np.ndarray, np.ndarray]:
    explorer.set(path=kind, **at(a=a, b=b))
    return explorer.numbers.stops, explorer.numbers.line


@pytest.mark.parametrize("a, b", [((1.0, 2.0), (-3.0, 0.5)), ((0.0, 0.0), (2.0, -1.0)), ((1.0, 1.0), (1.0, 1.0))])
def test_straight_path(explorer, a, b):
    t = np.linspace(0, 1, 11)[:, None]
    stops, line = path_of(explorer, "straight", a, b)
    assert stops == pytest.approx((1 - t) * a + t * b, abs=1e-12)
    assert line[::6] == pytest.approx(stops) and len(line) == 61
    expected = sigmoid_bytes(three_models()["wide"][0].decoder, stops)
    assert np.abs(explorer.numbers.strip - expected).max() <= 0.52


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
        assert np.isfinite(stops).all()
        assert stops[[0, -1]] == pytest.approx(np.array([a, b]), abs=1e-6)


# What the page is told of the models --------------------------------------------------------------------------------


def test_the_plane_shows_the_codes_and_at_least_plus_minus_three(explorer):
    for label, least in (("wide", 4), ("plain", 3), ("still", 3)):
        codes = three_models()[label][1].numpy()
        view = constants(explorer, label)["views"]["codes"]
        outside = (np.abs(codes).max(1) > view["half"]).sum()
        assert view["half"] >= least and outside == view["hidden"] <= 1
        assert view["half"] == 3 or (np.abs(codes).max(1) > view["half"] - 1).mean() > 0.005  # no larger than needed
        assert np.frombuffer(explorer.parts.assets[f"{label}/codes"], "<f4").reshape(-1, 2) == pytest.approx(codes)
        assert list(explorer.parts.assets[f"{label}/classes"]) == [i % 10 for i in range(60)]
    view = constants(explorer, "wide")["views"]["prior"]
    assert view["half"] == 3
    assert view["hidden"] == (np.abs(three_models()["wide"][1].numpy()).max(1) > 3).sum() > 0
    assert all(max(abs(x), abs(y)) < 3 for _, x, y in view["names"])


def test_weights_are_those_of_the_decoder(explorer):
    for label, (vae, *_) in three_models().items():
        layers, content = pack(vae.decoder, label)
        assert explorer.parts.assets[f"{label}/weights"] == content
        assert constants(explorer, label)["layers"] == [*layers, {"kind": "sigmoid"}]
    json.dumps(explorer.spec, allow_nan=False)


def test_classes_are_named_at_their_medians():
    centres = np.array([[2.0, 2.0], [-2.0, 1.0], [2.05, 2.0], [0.0, -2.0]])
    rng = np.random.default_rng(0)
    codes = np.repeat(centres, 20, 0) + 0.05 * rng.standard_normal((80, 2))
    explorer = W.manifold_explorer({"m": (tiny(), torch.tensor(codes), np.repeat([0, 1, 4, 7], 20))})
    names = {name: place for name, *place in constants(explorer, "m")["views"]["codes"]["names"]}
    assert set(names) == {"0 4", "1", "7"}
    for k, i in (("1", 1), ("7", 3)):
        assert names[k] == pytest.approx(np.median(codes[20 * i : 20 * i + 20], axis=0), abs=1e-6)
    assert names["0 4"][1] > np.median(codes[:20, 1])  # above the codes, not on them
    assert explorer.spec["constants"]["classes"] == [0, 1, 4, 7]


@pytest.mark.parametrize("classes, name", [([3], "3"), ([3, 5, 8], "3 5 8"), ([4, 9], "4 9"), ([*range(10)], "0–9")])
def test_names_of_classes_at_one_place(classes, name):
    assert W.runs(classes) == name


def test_a_circle_s_name_stands_above_it_or_where_no_class_is_named():
    assert W.free_place(1, 3.0, []) == ("1σ", pytest.approx(0), pytest.approx(1.15))
    name, x, y = W.free_place(2, 3.0, [("7", 0.0, 2.2)])
    assert math.hypot(x, y) == pytest.approx(2.15) and math.dist((x, y), (0, 2.2)) > 0.4


def test_shares_of_codes_within_the_circles(explorer):
    norms = np.linalg.norm(three_models()["wide"][1].numpy(), axis=1)
    assert constants(explorer, "wide")["inside"] == pytest.approx([(norms < r).mean() for r in (1, 2)])
    assert constants(explorer, "wide")["reach"] == pytest.approx(np.abs(three_models()["wide"][1].numpy()).max())
    prior = stats.chi2(2).cdf([1, 4])  # the squared norm of a standard normal z in two dimensions
    assert explorer.spec["constants"]["prior"] == pytest.approx(prior)


def test_labels_cannot_bring_markup_into_the_page():
    named = W.manifold_explorer({"<b": (tiny(), *codes_of())})
    assert constants(named, "<b")["label"] == "&lt;b"


# Moving ------------------------------------------------------------------------------------------------------------


def test_the_path_at_the_start_joins_the_classes_farthest_apart(explorer):
    codes, classes = (v.numpy() for v in codes_of(scale=4))
    medians = np.array([np.median(codes[classes == k], axis=0) for k in range(10)])
    far = np.linalg.norm(medians - medians[0], axis=1).argmax()
    a, b, z = (np.array([explorer.state[f"{name}1"], explorer.state[f"{name}2"]]) for name in "abz")
    assert a == pytest.approx(1.2 * medians[0], abs=0.006)
    assert b == pytest.approx(1.2 * medians[far], abs=0.006)
    assert z == pytest.approx(0.3 * a + 0.7 * b, abs=0.02)


def test_presets_show_each_model_and_a_path_of_its_own_where_its_codes_allow(shipped):
    presets = shipped.spec["presets"]
    assert [p["state"]["model"] for p in presets] == ["β = 0.01", "β = 1", "β = 100"]
    for preset in presets:
        shipped._declaration.check(preset["state"])
        assert preset["title"].startswith(preset["state"]["model"] + ": ")
    islands, chart, collapse = (np.array([p["state"][f"{name}{i}"] for name in "ab" for i in (1, 2)]) for p in presets)
    assert np.abs(islands).max() > 2 * np.abs(chart).max() and (chart == collapse).all()


def test_set_and_reset(explorer):
    start, before = dict(explorer.state), explorer.numbers
    explorer.set(model="still", path="sphere", view="prior", z1=1, z2=1)
    assert explorer.state["model"] == "still" and (explorer.numbers.image != before.image).any()
    explorer.reset()
    assert explorer.state == start and (explorer.numbers.image == before.image).all()


@pytest.mark.parametrize("values, message", [
    ({"z1": math.nan}, "z1 = nan is out of range; allowed: -"),
    ({"a2": 1e9}, "a2 = 1000000000.0 is out of range"),
    ({"z1": "0"}, "z1 = '0' is out of range"),
    ({"z": (0, 0)}, "control 'z' is not known; .*'z1'"),
    ({"model": "wid"}, "model 'wid' is not known; .*did you mean 'wide'"),
    ({"path": "curved"}, "path 'curved' is not known"),
    ({"view": "3"}, "view '3' is not known"),
])  # fmt: skip
def test_bad_values_raise_and_move_nothing(explorer, values, message):
    state = dict(explorer.state)
    with pytest.raises(ValueError, match=message):
        explorer.set(**({"path": "sphere"} | values))
    assert explorer.state == state


def test_every_code_is_within_reach(explorer):
    codes = three_models()["wide"][1].numpy()
    explorer.set(**at(z=codes[np.abs(codes).max(1).argmax()]))
    assert explorer.numbers.nearest[1] < 1e-6
    for label in three_models():
        explorer.set(model=label, z1=10, z2=-10)


def test_surprises_follow_the_seed_and_show_other_models():
    first, second = (W.manifold_explorer(three_models(), seed=7) for _ in range(2))
    seen = set()
    for _ in range(8):
        for e in (first, second):
            e.surprise()
        assert first.state == second.state
        assert max(abs(first.state[name]) for name in at(z=(0, 0), a=(0, 0), b=(0, 0))) <= 2
        seen.add(first.state["model"])
    assert len(seen) > 1


# The cell: what is shown, what raises ------------------------------------------------------------------------------


def test_the_cell_s_output(shipped):
    data, _ = shipped._repr_mimebundle_()
    assert data[VIEW]["model_id"] == shipped.model_id
    assert data["text/plain"] == repr(shipped) == "Widget('Walk through the latent plane')"
    assert "β = 0.01, β = 1, β = 100" in shipped.spec["alt"] and "same blur" in shipped.spec["alt"]
    one = W.manifold_explorer({"live": (tiny(), *codes_of())})
    assert "a VAE, live" in one.spec["alt"] and "blur" not in one.spec["alt"]


def test_the_shipped_models_show_what_the_alt_text_says(shipped):
    assert list(dict(shipped.spec["controls"][0]["options"])) == ["β = 0.01", "β = 1", "β = 100"]
    assert shipped.state["model"] == "β = 1"
    codes, spread = {}, {}
    for label in ("β = 0.01", "β = 1", "β = 100"):
        shipped.set(model=label)
        codes[label] = np.frombuffer(shipped.parts.assets[f"{label}/codes"], "<f4").reshape(-1, 2)
        spread[label] = shipped.numbers.manifold.astype(float).std(0).max()
    shipped.reset()
    within = {label: np.linalg.norm(places, axis=1) < 2 for label, places in codes.items()}
    assert within["β = 0.01"].mean() < 0.5 < 0.7 < within["β = 1"].mean() < 0.9
    assert np.abs(codes["β = 100"]).max() < 0.1
    assert spread["β = 100"] < 10 < 70 < min(spread["β = 0.01"], spread["β = 1"])  # of 255 grey levels


def test_the_shipped_assets_stay_small(shipped):
    for label in ("β = 0.01", "β = 1", "β = 100"):
        size = sum(len(content) for name, content in shipped.parts.assets.items() if name.startswith(f"{label}/"))
        assert size < 500_000


def test_later_training_changes_nothing_and_the_model_is_left_as_it_was():
    vae = tiny().double().train()
    explorer = W.manifold_explorer({"m": (vae, *codes_of())})
    assert vae.training and next(vae.parameters()).dtype == torch.float64
    before = explorer.numbers.image
    for p in vae.parameters():
        p.data.zero_()
    assert (explorer.numbers.image == before).all() and len(set(before.tolist())) > 9


@pytest.mark.gpu
def test_a_model_on_the_gpu():
    vae = tiny()
    codes, classes = codes_of()
    here = W.manifold_explorer({"m": (vae, codes, classes)})
    there = W.manifold_explorer({"m": (vae.cuda(), codes.cuda(), classes.cuda())})
    assert there.parts.assets == here.parts.assets and there.spec == here.spec


class BrokenDecoder(torch.nn.Module):
    def forward(self, z):
        raise RuntimeError("broken on purpose")


class Poisson(Bernoulli):
    """A likelihood of a student's own."""


def with_decoder(decoder) -> VAE:
    vae = tiny()
    vae.decoder = decoder
    return vae


CODES, LABELS = codes_of()


@pytest.mark.parametrize("models, message", [
    ({}, "models is empty"),
    ({"m": tiny()}, "'m': a triple .* is needed"),
    ({"m": (tiny(), CODES)}, "'m': a triple"),
    ({"m": (torch.nn.Linear(2, 64), CODES, LABELS)}, "'m' is a Linear; a course_utils.vae.VAE is needed"),
    ({"m": (mlp_vae(64, 3), torch.randn(60, 3), LABELS)}, "'m' has 3 latents; the plane shows 2: mlp_vae.64, 2."),
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
    ({"m": (conv_vae(8, 2, 4), CODES, LABELS)}, "'m', decoder: a page can't compute Folded; it can: Linear.*build"),
    ({"m": (with_decoder(BrokenDecoder()), CODES, LABELS)}, "'m', decoder: a page can't compute BrokenDecoder"),
    ({"m": (with_decoder(torch.nn.Linear(3, 64)), CODES, LABELS)}, "layers .*3, 64.* don't lead from 2 latents to 64"),
    ({"m": (with_decoder(torch.nn.Linear(2, 63)), CODES, LABELS)}, "don't lead from 2 latents to 64 pixels"),
    ({"m": (tiny(likelihood=Poisson()), CODES, LABELS)}, "the likelihood Poisson has no mean in the page; allowed"),
])  # fmt: skip
def test_models_that_the_page_cannot_show(models, message):
    with pytest.raises(ValueError, match=message):
        W.manifold_explorer(models)

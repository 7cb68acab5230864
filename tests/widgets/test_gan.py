"""W-GAN against scipy's quadrature and sampling, film and interpolation headless: every control."""

import base64
import io
import math
import types

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import integrate, stats

from course_utils import data, gan
from course_utils.plots import figure, image_grid
from course_utils.vae import mlp_vae
from course_utils.widgets import gan_film, gan_game, gan_parts, gan_paths
from course_utils.widgets.shell import VIEW

SIDE = 8
STATE = {"data": "one", "mean": 1.5, "width": 0.8, "sharpness": 1.0}
STATES = [
    STATE,
    {**STATE, "mean": -4.0, "width": 2.0},
    {**STATE, "data": "two", "mean": 0.7, "width": 0.5},
    {**STATE, "data": "two", "mean": 3.0, "width": 1.5, "sharpness": 0.3},
    {**STATE, "sharpness": 0.6},
]


def filmed(side: int = SIDE, seed: int = 0) -> gan.Film:
    """Return the film of an untrained GAN: the weights grow, at moment k by a factor 1 + 6 times its share."""
    torch.manual_seed(seed)
    model = gan.conv_gan(side, latents=16, width=6)
    weights = torch.cat([v.flatten() for v in model.generator.state_dict().values() if v.is_floating_point()])
    return gan.Film(model, torch.stack([weights * (1 + 6 * share) for share in gan.MOMENTS]))


MAKERS = {
    "film": lambda seed: gan_film.film_explorer(filmed(), SIDE, seed),
    "film with scores": lambda seed: gan_film.film_explorer(filmed(), SIDE, seed, [300 / (1 + k) for k in range(13)]),
    "interpolation": lambda seed: gan_paths.interpolation_explorer(filmed().players, SIDE, seed),
}


@pytest.fixture(scope="module", params=MAKERS)
def explorer(request):
    return MAKERS[request.param](1)


# W-GAN ---------------------------------------------------------------------------------------------------------------


def densities(state):
    """Return scipy's p_r and p_g as functions (density, cumulative distribution)."""
    weights, means, sigmas = gan_game.DATA[state["data"]].values()
    parts = [(w, stats.norm(m, s)) for w, m, s in zip(weights, means, sigmas, strict=True)]
    q = stats.norm(state["mean"], state["width"])
    return (
        (lambda x: sum(w * n.pdf(x) for w, n in parts), lambda x: sum(w * n.cdf(x) for w, n in parts)),
        (q.pdf, q.cdf),
    )


def area(f, low=-20.0, high=20.0):
    return integrate.quad(f, low, high, limit=500, points=np.linspace(low, high, 41)[1:-1])[0]


@pytest.mark.parametrize("state", STATES)
def test_value_divergences_and_discriminator(state):
    (p, cdf_p), (q, cdf_q) = densities(state)
    n, s = gan_game.compute_gan(state), state["sharpness"]

    def js(x):
        m = (p(x) + q(x)) / 2
        return 0.5 * sum(f * math.log(f / m) if f > 0 else 0 for f in (p(x), q(x)))

    def game(x):  # with D / (1 - D) = (p / q)^s
        if p(x) < 1e-200 or q(x) < 1e-200:  # of no weight
            return 0.0
        logit = s * (math.log(p(x)) - math.log(q(x)))
        return -p(x) * np.logaddexp(0, -logit) - q(x) * np.logaddexp(0, logit)

    assert float(n.here.js) == pytest.approx(area(js), abs=1e-6)
    assert float(n.here.best) == pytest.approx(-math.log(4) + 2 * float(n.here.js), abs=1e-9)
    assert float(n.here.value) == pytest.approx(area(game), abs=1e-6)
    assert float(n.here.w1) == pytest.approx(area(lambda x: abs(cdf_p(x) - cdf_q(x))), abs=2e-4)
    x = gan_game.X[gan_game.SHOWN].numpy()
    near = np.abs(x) < 5
    ratio = (p(x[near]) / q(x[near])) ** s
    assert n.d[near] == pytest.approx(ratio / (1 + ratio), abs=1e-9)
    assert n.p == pytest.approx(p(x), abs=1e-12) and n.q == pytest.approx(q(x), abs=1e-12)


@pytest.mark.parametrize("state", STATES)
def test_gradients_are_those_of_sampled_losses(state):
    """Monte Carlo: x = mean + width * noise, the discriminator's parameters held fixed."""
    weights, means, sigmas = (torch.tensor(v, dtype=torch.float64) for v in gan_game.DATA[state["data"]].values())
    noise = torch.randn(200_000, generator=data.generator(3), dtype=torch.float64)
    mean, fixed = (torch.tensor(state["mean"], dtype=torch.float64) for _ in range(2))
    x = (mean + state["width"] * noise).requires_grad_(True)
    log_p = torch.logsumexp(
        weights.log() - sigmas.log() - 0.5 * ((x[:, None] - means) / sigmas) ** 2, -1
    )  # but for a constant that q has too
    log_q = -math.log(state["width"]) - 0.5 * ((x - fixed) / state["width"]) ** 2
    d = torch.sigmoid(state["sharpness"] * (log_p - log_q))
    here = gan_game.compute_gan(state).here
    for loss, quadrature in ((torch.log(1 - d), here.saturating), (-torch.log(d), here.non_saturating)):
        (each,) = torch.autograd.grad(loss.sum(), x, retain_graph=True)  # dx / d mean = 1
        error = (each.std() / len(x) ** 0.5).item()
        assert float(quadrature) == pytest.approx(each.mean().item(), abs=4.5 * error)


@pytest.mark.parametrize("mean, width", [(1.5, 0.8), (-3.0, 1.0), (0.4, 2.0)])
def test_gradients_at_the_optimum_are_those_of_divergences(mean, width):
    """Arjovsky and Bottou (2017): saturating, of 2 JS; non-saturating, of KL(p_g || p_r) - 2 JS."""

    def twice_js(mean):
        q = stats.norm(mean, width).pdf
        p = stats.norm.pdf

        def f(x):
            return sum(v * math.log(2 * v / (p(x) + q(x))) if v > 0 else 0 for v in (p(x), q(x)))

        return area(f)

    h = 1e-3
    slope = (twice_js(mean + h) - twice_js(mean - h)) / (2 * h)
    here = gan_game.compute_gan({**STATE, "mean": mean, "width": width}).here
    assert float(here.saturating) == pytest.approx(slope, abs=1e-5)
    assert float(here.non_saturating) == pytest.approx(mean - slope, abs=1e-5)  # d KL / d mean = mean


@pytest.mark.parametrize("width", [0.3, 1.0, 3.0])
def test_wasserstein_distance_of_gaussians(width):
    for mean in (0.0, 10.0):
        w1 = float(gan_game.compute_gan({**STATE, "mean": mean, "width": width}).here.w1)
        if mean == 0:
            assert w1 == pytest.approx(abs(width - 1) * math.sqrt(2 / math.pi), abs=1e-3)
        else:  # |mean + (width - 1) noise|
            folded = stats.foldnorm(mean / abs(width - 1), scale=abs(width - 1)).mean() if width != 1 else mean
            assert w1 == pytest.approx(folded, abs=1e-3)


def test_far_away_nothing_underflows():
    for width in (gan_game.GAN.controls["width"].low, gan_game.GAN.controls["width"].high):
        n = gan_game.compute_gan({**STATE, "mean": 10.0, "width": width})
        assert all(torch.isfinite(c).all() for c in (*n.curves, *n.here))
        assert 0 < float(n.here.saturating) < 0.1 and float(n.here.non_saturating) > 1
    far = gan_game.compute_gan({**STATE, "mean": 10.0, "width": 1.0}).here
    assert float(far.js) == pytest.approx(math.log(2), abs=1e-5) and float(far.best) == pytest.approx(0, abs=1e-5)
    assert float(far.saturating) < 1e-5 and float(far.non_saturating) == pytest.approx(10, abs=1e-3)


def test_a_discriminator_that_knows_nothing():
    here = gan_game.compute_gan({**STATE, "sharpness": 0.0}).here
    assert float(here.value) == pytest.approx(-math.log(4), abs=1e-9)
    assert float(here.saturating) == float(here.non_saturating) == 0


def test_no_discriminator_beats_the_optimal_one():
    best = gan_game.compute_gan({**STATE, "mean": 3.0}).here
    values = [float(gan_game.compute_gan({**STATE, "mean": 3.0, "sharpness": s / 10}).here.value) for s in range(11)]
    assert values == sorted(values) and values[-1] == pytest.approx(float(best.best), abs=1e-12)


def test_the_curves_pass_through_the_present_place():
    n = gan_game.compute_gan({**STATE, "mean": gan_game.MEANS[70].item()})
    assert gan_game.MEANS.numpy() == pytest.approx(np.linspace(-10, 10, 101), abs=1e-12)
    for curve, here in zip(n.curves, n.here, strict=True):
        assert float(curve[70]) == pytest.approx(float(here), abs=1e-12)


def test_the_presets_show_what_their_titles_say():
    declared = gan_game.GAN
    near, far, dull, stuck = (declared.compute(declared.start | state).here for _, state in declared.presets)
    assert min(float(near.saturating), float(near.non_saturating)) > 0.3
    assert float(far.js) > 0.999 * math.log(2) and 0 < float(far.saturating) < 1e-3 and float(far.w1) > 7.9
    assert float(dull.saturating) > 20 * float(far.saturating)
    assert max(abs(float(stuck.saturating)), abs(float(stuck.non_saturating))) < 0.01 and float(stuck.js) > 0.2


@pytest.mark.parametrize("change, message", [
    ({"data": "tow"}, "did you mean 'two'"),
    ({"width": 0.0}, "sigma"),
    ({"sharpness": 1.5}, "sharpness = 1.5; allowed are 0"),
    ({"sharpness": -0.1}, "sharpness = -0.1"),
])  # fmt: skip
def test_bad_states_raise(change, message):
    with pytest.raises(ValueError, match=message):
        gan_game.compute_gan({**STATE, **change})


# All explorers -------------------------------------------------------------------------------------------------------


def test_every_control_changes_the_picture_and_back(explorer):
    explorer.reset()
    for name, control in explorer.controls.items():
        before, state = explorer.image.value, explorer.state
        if hasattr(control, "step"):
            control.value = (
                control.value - control.step if control.value == control.max else control.value + control.step
            )
        else:
            values = [option[1] if isinstance(option, tuple) else option for option in control.options]
            control.value = values[0] if control.value != values[0] else values[1]
        assert explorer.error is None, explorer.error
        assert explorer.image.value != before, name
        explorer.set(**state)
        assert explorer.image.value == before, name


def test_both_ends_of_every_control_work(explorer):
    explorer.reset()
    for name, control in explorer.controls.items():
        options = [option[1] if isinstance(option, tuple) else option for option in getattr(control, "options", [])]
        for value in options or (control.min, control.max):
            explorer.set(**{name: value})
            assert explorer.error is None, f"{name} = {value}: {explorer.error}"
    explorer.reset()


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAKERS)
def test_surprises_are_valid_and_follow_the_seed(kind):
    first, second = (MAKERS[kind](7) for _ in range(2))
    for _ in range(6):
        first.surprise()
        second.surprise()
        assert first.error is None and first.state == second.state
        assert first.image.value == second.image.value


def test_saved_output(explorer):
    content, metadata = explorer._repr_mimebundle_()
    assert set(content) == {VIEW, "image/png", "text/plain"}
    assert metadata["image/png"]["alt"] in content["text/plain"] and metadata["image/png"]["width"] == 880
    assert len(content["image/png"]) < 600_000
    assert Image.open(io.BytesIO(base64.b64decode(content["image/png"]))).width == 1320


# Film ----------------------------------------------------------------------------------------------------------------


def test_mosaic_is_the_image_grid():
    images = np.random.default_rng(0).uniform(-1, 1, (12, 5, 5))
    _, ax = figure()
    image_grid(ax, images, ncols=4, vmin=-1, vmax=1)
    assert np.array_equal(gan_parts.mosaic(images, 4), ax.images[0].get_array().filled(np.nan), equal_nan=True)


def test_film_shows_the_generator_as_it_was():
    explorer = gan_film.film_explorer(filmed(), SIDE, seed=4)
    latents = torch.randn(48, 16, generator=torch.Generator().manual_seed(4))
    for k in (0, 5, 12):
        explorer.set(moment=gan_film.PERCENT[k])
        generator = filmed().players.generator
        for v in generator.state_dict().values():
            if v.is_floating_point():
                v.mul_(1 + 6 * gan.MOMENTS[k])
        with torch.no_grad():
            expected = generator.eval()(latents).view(48, SIDE, SIDE).numpy()
        assert explorer.numbers.fixed == pytest.approx(expected, abs=1e-5)
        assert np.abs(explorer.numbers.fresh - explorer.numbers.fixed).max() > 0.01
        canvas = explorer._artists["fixed"].get_array().filled(np.nan)
        assert canvas[:SIDE, SIDE + 2 : 2 * SIDE + 2] == pytest.approx(expected[1], abs=1e-5)  # the second image
        assert f"after {100 * gan.MOMENTS[k]:g} %" in explorer.readout.value


def test_fresh_latents_are_new_at_each_moment():
    film = filmed()
    film.frames[:] = film.frames[0].clone()  # only the latents change now
    explorer = gan_film.film_explorer(film, SIDE)
    seen = {}
    for moment in gan_film.PERCENT:
        explorer.set(moment=moment)
        seen[moment] = explorer.numbers
    assert len({n.fixed.tobytes() for n in seen.values()}) == 1
    assert len({n.fresh.tobytes() for n in seen.values()}) == len(gan.MOMENTS)


def test_a_later_training_leaves_the_film_alone():
    film = filmed()
    explorer = gan_film.film_explorer(film, SIDE)
    film.frames.zero_()
    explorer.set(moment=gan_film.PERCENT[3])
    assert explorer.numbers.fixed.std() > 0


def test_the_scores_have_a_marker():
    scores = [50.0 - 3 * k for k in range(13)]
    explorer = gan_film.film_explorer(filmed(), SIDE, scores=scores, score_name="Test score")
    explorer.set(moment=gan_film.PERCENT[9])
    assert [list(v) for v in explorer._artists["spot"].get_data()] == [[9], [23.0]]
    assert "Test score 23" in explorer.readout.value
    gan_film.film_explorer(filmed(), SIDE, scores=[-1.0] * 13)  # below zero: no logarithmic scale


def test_play_moves_the_slider():
    explorer = gan_film.film_explorer(filmed(), SIDE)
    assert (explorer.play.min, explorer.play.max) == (0, 12)
    assert explorer.link.source == (explorer.play, "value")
    assert explorer.link.target == (explorer.controls["moment"], "index")
    explorer.controls["moment"].index = 4  # what the link does in the browser
    assert explorer.numbers.k == 4 and explorer.error is None


@pytest.mark.parametrize("make, message", [
    (lambda: gan_film.film_explorer(gan.Film(gan.mlp_gan(64)), 28), "side = 28, but the model's images have 64 pixels"),
    (lambda: gan_film.film_explorer(gan.Film(gan.toy_gan()), SIDE), "side = 8, but the model's images have 2 pixels"),
    (lambda: gan_film.film_explorer(mlp_vae(64, 2), SIDE), "film is a VAE; a course_utils.gan.Film is needed"),
    (lambda: gan_film.film_explorer(filmed(), SIDE, scores=[1.0, 2.0]), "2 scores; one for each of 13"),
    (lambda: gan_paths.interpolation_explorer(gan.mlp_gan(64), 28), "have 64 pixels"),
    (lambda: gan_paths.interpolation_explorer(mlp_vae(64, 2), SIDE), "a course_utils.gan.GAN is needed"),
    (lambda: gan_film.film_explorer(plain(), SIDE), "film is a GAN; a course_utils.gan.Film is needed"),
])  # fmt: skip
def test_bad_models(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def plain() -> gan.GAN:
    return filmed().players


@pytest.mark.parametrize(
    ("module", "make"), [(gan_film, gan_film.film_explorer), (gan_paths, gan_paths.interpolation_explorer)]
)
def test_the_courses_own_model_is_the_default(module, make, monkeypatch):
    asked = []
    shipped = {"load": filmed(28).players, "extras": {"film": filmed(28).frames}}
    asks = {what: lambda name, what=what: asked.append(name) or shipped[what] for what in shipped}
    monkeypatch.setattr(module, "networks", types.SimpleNamespace(**asks))
    make()
    assert set(asked) == {"gan_mnist"}


# Interpolation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [2, 16, 32, 100])
def test_norms_of_the_prior(k):
    r = torch.linspace(0.05, 15, 200, dtype=torch.float64)
    assert gan_paths.chi_density(r, k).numpy() == pytest.approx(stats.chi(k).pdf(r), abs=1e-12)
    assert gan_paths.chi_cumulative(r, k).numpy() == pytest.approx(stats.chi(k).cdf(r), abs=1e-9)


def test_paths_norms_and_images():
    model = filmed().players
    explorer = gan_paths.interpolation_explorer(filmed().players, SIDE, seed=2)
    a, b = torch.randn(2, 16, generator=torch.Generator().manual_seed(2005)).double().numpy()
    t = np.linspace(0, 1, 101)[:, None]
    straight = (1 - t) * a + t * b
    explorer.set(pair=5, t=0.3)
    n = explorer.numbers
    assert n.norms["straight"] == pytest.approx(np.linalg.norm(straight, axis=1), abs=1e-9)
    ends = np.linalg.norm([a, b], axis=1)
    assert n.norms["sphere"] == pytest.approx(np.interp(t[:, 0], [0, 1], ends), abs=1e-9)
    assert n.norm == pytest.approx(np.linalg.norm(straight[30]), abs=1e-9)
    assert n.shorter == pytest.approx(stats.chi(16).cdf(n.norm), abs=1e-9)
    images = model.decode(torch.tensor(straight[::10]).float()).view(11, SIDE, SIDE).numpy()
    assert n.strips["straight"] == pytest.approx(images, abs=1e-5)
    assert n.image == pytest.approx(images[3], abs=1e-5)
    for end in (0, -1):
        assert n.strips["sphere"][end] == pytest.approx(images[end], abs=1e-5)
    explorer.set(path="sphere")
    angle = math.acos(a @ b / ends.prod())
    direction = (math.sin(0.7 * angle) * a / ends[0] + math.sin(0.3 * angle) * b / ends[1]) / math.sin(angle)
    z = direction * (0.7 * ends[0] + 0.3 * ends[1])
    expected = model.decode(torch.tensor(z)[None].float()).view(SIDE, SIDE).numpy()
    assert explorer.numbers.image == pytest.approx(expected, abs=1e-5)


def test_a_surprise_is_another_pair():
    explorer = gan_paths.interpolation_explorer(filmed().players, SIDE)
    explorer.surprise()
    assert isinstance(explorer.state["pair"], int) and explorer.state["pair"] != 0

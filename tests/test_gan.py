"""Lecture 3's functions against closed forms, quadrature, finite differences, decompositions and PyTorch's own."""

import math
from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import integrate, stats
from torch import nn

from course_utils import data, gan, training
from course_utils.nn import EMA
from course_utils.training import fit

LOG_2 = math.log(2)


@pytest.fixture
def g():
    return data.generator(0)


# 3.2 The optimal discriminator and the value


def test_optimal_discriminator_is_the_share_of_real_density(g):
    p, q = data.uniform(2, 100, generator=g).double()
    torch.testing.assert_close(gan.optimal_discriminator(p.log(), q.log()), p / (p + q))
    far = torch.tensor([-2000.0, -2001.0]), torch.tensor([-2003.0, -2001.0])  # both densities underflow
    torch.testing.assert_close(gan.optimal_discriminator(*far), torch.tensor([1 / (1 + math.exp(-3)), 0.5]))


def test_no_discriminator_beats_the_optimal_one_at_any_point(g):
    p, q, d = data.uniform(3, 1000, generator=g).double()
    best = gan.optimal_discriminator(p.log(), q.log())
    value = p * best.log() + q * (1 - best).log()
    assert (p * d.log() + q * (1 - d).log() <= value + 1e-12).all()


@pytest.mark.parametrize(("mean", "sigma"), [(0.0, 1.0), (1.0, 0.5), (4.0, 2.0)])
def test_value_at_the_optimum_is_minus_log_4_plus_twice_js(mean, sigma):
    """JS by SciPy's adaptive quadrature of its definition, from SciPy's densities."""
    p, q = stats.norm(0, 1).pdf, stats.norm(mean, sigma).pdf

    def js(x: float) -> float:
        m = (p(x) + q(x)) / 2
        return 0.5 * sum(float(f(x) * np.log(f(x) / m)) if f(x) > 0 else 0.0 for f in (p, q))

    exact = integrate.quad(js, -12, 20, limit=400, epsabs=1e-10)[0]
    x = torch.linspace(-12, 20, 6401, dtype=torch.float64)
    log_p, log_q = (torch.distributions.Normal(*v).log_prob(x) for v in ((0.0, 1.0), (mean, sigma)))
    value = gan.game_value(log_p - log_q, log_p, log_q, x).item()
    assert value == pytest.approx(-2 * LOG_2 + 2 * exact, abs=1e-7)


def test_value_of_any_discriminator_by_scipy():
    x = torch.linspace(-12, 14, 5201, dtype=torch.float64)
    log_p, log_q = (torch.distributions.Normal(m, 1.0).log_prob(x) for m in (0.0, 2.0))

    def integrand(v: float) -> float:
        d = 1 / (1 + math.exp(-(math.sin(v) + 0.3)))
        return stats.norm.pdf(v) * math.log(d) + stats.norm.pdf(v, 2) * math.log(1 - d)

    value = gan.game_value(torch.sin(x) + 0.3, log_p, log_q, x).item()
    assert value == pytest.approx(integrate.quad(integrand, -12, 14)[0], abs=1e-7)


def test_a_trained_discriminator_is_near_the_optimal_one(g):
    """Real N(0, 1), generated N(1.5, 1): the log ratio is 1.125 - 1.5 x, so a logistic regression can express it."""
    torch.manual_seed(0)
    net = nn.Sequential(*gan.layers([1, 32, 32, 1]))

    def loss(_):
        real = data.normal(256, 1, generator=g)
        fake = 1.5 + data.normal(256, 1, generator=g)
        return gan.discriminator_loss("non-saturating", net(real)[:, 0], net(fake)[:, 0])

    fit(loss, net, 256, steps=800, lr=3e-3, generator=g)
    x = torch.linspace(-3, 4.5, 500)
    weights = torch.from_numpy(stats.norm.pdf(x.numpy()) + stats.norm.pdf(x.numpy(), 1.5))
    with torch.no_grad():
        error = (net(x[:, None])[:, 0].sigmoid() - (1.125 - 1.5 * x).sigmoid()).abs()
    assert (weights * error).sum() / weights.sum() < 0.05  # of an untrained one 0.2


# 3.3 f-divergences and their bounds


GRID = torch.linspace(-14, 16, 6001, dtype=torch.float64)
PAIR = [torch.distributions.Normal(*v).log_prob(GRID) for v in ((0.0, 1.0), (1.0, 1.3))]
EXACT = {  # of N(0, 1) and N(1, 1.3²): closed forms, and SciPy's quadrature of the definition
    "kl": math.log(1.3) + (1 + 1) / (2 * 1.3**2) - 0.5,
    "reverse kl": -math.log(1.3) + (1.3**2 + 1) / 2 - 0.5,
    "game": sum(
        integrate.quad(
            lambda x, f=f: f(x) * math.log(2 * f(x) / (stats.norm.pdf(x) + stats.norm.pdf(x, 1, 1.3))), -12, 14
        )[0]
        for f in (stats.norm.pdf, stats.norm(1, 1.3).pdf)
    ),
    "total variation": integrate.quad(
        lambda x: abs(stats.norm.pdf(x) - stats.norm.pdf(x, 1, 1.3)) / 2, -12, 14, limit=200
    )[0],
}


@pytest.mark.parametrize("kind", gan.F_DIVERGENCES)
def test_f_divergences_are_those_of_closed_forms_and_quadrature(kind):
    assert gan.f_divergence(kind, *PAIR, GRID).item() == pytest.approx(EXACT[kind], abs=1e-6)


@pytest.mark.parametrize("kind", gan.F_DIVERGENCES)
def test_conjugate_and_slope_are_those_of_the_function(kind):
    """The conjugate by brute force over u, the slope by autograd, and f(1) = 0."""
    f, conjugate, slope = gan.F_DIVERGENCES[kind]
    u = torch.logspace(-3, 3, 200_001, dtype=torch.float64)
    at = torch.tensor([0.2, 0.7, 1.6, 5.0], dtype=torch.float64, requires_grad=True)
    (by_autograd,) = torch.autograd.grad(f(at).sum(), at)
    torch.testing.assert_close(slope(at), by_autograd)
    t = by_autograd[:, None]
    torch.testing.assert_close(conjugate(by_autograd), (t * u - f(u)).amax(1), atol=1e-6, rtol=1e-5)
    assert f(torch.ones((), dtype=torch.float64)) == 0


@pytest.mark.parametrize("kind", gan.F_DIVERGENCES)
def test_no_critic_exceeds_the_divergence_and_the_best_one_reaches_it(kind):
    slope, exact, g = gan.F_DIVERGENCES[kind].slope, EXACT[kind], data.generator(0)
    ratio = (PAIR[0] - PAIR[1]).exp()
    best = gan.variational_bound(kind, slope(ratio), *PAIR, GRID)
    assert best.item() == pytest.approx(exact, abs=1e-6)
    shapes = data.normal(40, 2, generator=g).double()
    tried = slope(ratio * (shapes[:, :1] * torch.sin(GRID + shapes[:, 1:])).exp())
    assert (gan.variational_bound(kind, tried, *PAIR, GRID) <= exact + 1e-9).all()


def test_a_critic_of_the_total_variation_is_bounded():
    assert gan.variational_bound("total variation", torch.full_like(GRID, 0.6), *PAIR, GRID) == -math.inf


def test_an_unknown_divergence_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'reverse kl'"):
        gan.f_divergence("reverse_kl", *PAIR, GRID)


# 3.3 Losses


def test_cross_entropies_are_pytorchs(g):
    real, fake = 3 * data.normal(2, 50, generator=g).double()
    ones, zeros = torch.ones(50).double(), torch.zeros(50).double()
    bce = F.binary_cross_entropy_with_logits
    torch.testing.assert_close(gan.discriminator_loss("minimax", real, fake), bce(real, ones) + bce(fake, zeros))
    torch.testing.assert_close(
        gan.discriminator_loss("non-saturating", real, fake, 0.9, 0.1),
        bce(real, 0.9 * ones) + bce(fake, zeros + 0.1),
    )
    torch.testing.assert_close(gan.generator_loss("non-saturating", fake), bce(fake, ones))
    torch.testing.assert_close(gan.generator_loss("minimax", fake), -bce(fake, zeros))


def test_hinge_and_wasserstein_by_hand():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.0])
    assert gan.discriminator_loss("hinge", real, fake).item() == pytest.approx((0 + 0.5) / 2 + (0 + 1) / 2)
    assert gan.discriminator_loss("wasserstein", real, fake).item() == pytest.approx(-1.5 - 1.25)
    for kind in ("hinge", "wasserstein"):
        assert gan.generator_loss(kind, fake).item() == pytest.approx(1.5)


@pytest.mark.parametrize("kind", gan.LOSSES)
def test_losses_are_finite_for_confident_logits(kind):
    far = torch.tensor([300.0, -300.0])
    assert gan.discriminator_loss(kind, far, -far).isfinite() and gan.generator_loss(kind, far).isfinite()


def test_slopes_of_the_generators_losses():
    """Saturating -D, non-saturating -(1 - D), by central differences."""
    for logit in (-8.0, -1.0, 0.0, 2.0):
        d, h = 1 / (1 + math.exp(-logit)), 1e-5
        for kind, slope in (("minimax", -d), ("non-saturating", d - 1)):
            up, down = (gan.generator_loss(kind, torch.tensor([logit + s], dtype=torch.float64)) for s in (h, -h))
            assert ((up - down) / (2 * h)).item() == pytest.approx(slope, abs=1e-9)


def test_an_unknown_loss_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'wasserstein'"):
        gan.generator_loss("waserstein", torch.zeros(2))
    with pytest.raises(ValueError, match="loss 'lsgan' is not known"):
        gan.discriminator_loss("lsgan", torch.zeros(2), torch.zeros(2))


def test_gradient_penalty_of_a_quadratic_by_its_closed_form(g):
    """The critic |x|²/2 has the slope |x|; real = generated, so the point between is known."""
    x = data.normal(20, 3, generator=g).double()
    for target in (0.0, 1.0):
        penalty = gan.gradient_penalty(lambda v: v.square().sum(-1) / 2, x, x, g, target)
        torch.testing.assert_close(penalty, (x.norm(dim=-1) - target).square().mean())


def test_gradient_penalty_by_finite_differences():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    real, fake = data.normal(2, 6, 2, generator=data.generator(1)).double()
    penalty = gan.gradient_penalty(lambda v: net(v)[:, 0], real, fake, data.generator(2))
    t = data.uniform(6, 1, generator=data.generator(2)).double()
    x, h = real + t * (fake - real), 1e-5
    with torch.no_grad():
        slopes = torch.stack(
            [(net(x + h * e) - net(x - h * e))[:, 0] / (2 * h) for e in torch.eye(2, dtype=torch.float64)], -1
        )
    torch.testing.assert_close(penalty, (slopes.norm(dim=-1) - 1).square().mean(), rtol=1e-7, atol=1e-9)


def test_gradient_penalty_reaches_the_critics_parameters():
    """d/dw of (|w| - 1)² for the critic w · x is 2 (|w| - 1) w / |w|."""
    w = torch.tensor([3.0, 4.0], requires_grad=True)
    x = torch.zeros(5, 2)
    gan.gradient_penalty(lambda v: v @ w, x, x + 1, data.generator(0)).backward()
    torch.testing.assert_close(w.grad, 2 * (5 - 1) * torch.tensor([0.6, 0.8]))


@pytest.mark.parametrize("shape", [(5, 5), (3, 40), (64, 8)])
def test_largest_singular_value_is_that_of_the_decomposition(shape, g):
    w = data.normal(*shape, generator=g).double()
    torch.testing.assert_close(gan.largest_singular_value(w, g, 500), torch.linalg.svdvals(w)[0], rtol=1e-6, atol=0)


def test_power_iteration_wants_a_matrix_and_a_step(g):
    with pytest.raises(ValueError, match=r"shape \(2, 2, 2\); a matrix"):
        gan.largest_singular_value(torch.zeros(2, 2, 2), g)
    with pytest.raises(ValueError, match="iterations = 0"):
        gan.largest_singular_value(torch.eye(2), g, 0)


def test_spectral_layers_have_spectral_norm_one():
    torch.manual_seed(0)
    net = nn.Sequential(*gan.layers([6, 32, 1], spectral=True))
    for _ in range(200):
        net(torch.zeros(1, 6))  # each forward pass in training mode is one power iteration
    for layer in net:
        if isinstance(layer, nn.Linear):
            assert torch.linalg.svdvals(layer.weight.detach())[0].item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("shift", [2.0, 5.0])
def test_wasserstein_critic_measures_the_shift_of_two_gaussians(shift):
    """The penalty's weight lambda lets the slope exceed 1 by W/(2 lambda): for a linear critic the exact optimum."""
    torch.manual_seed(0)
    g, weight = data.generator(0), 10.0
    critic = nn.Sequential(*gan.layers([2, 64, 64, 1]))
    move = torch.tensor([shift, 0.0])

    def score(x):
        return critic(x)[:, 0]

    def loss(_):
        real, fake = data.normal(256, 2, generator=g), move + data.normal(256, 2, generator=g)
        penalty = weight * gan.gradient_penalty(score, real, fake, g)
        return gan.discriminator_loss("wasserstein", score(real), score(fake)) + penalty

    fit(loss, critic, 256, steps=500, lr=3e-3, generator=g)
    x = data.normal(20_000, 2, generator=g).requires_grad_(True)
    (slope,) = torch.autograd.grad(score(x + 0.5 * move).sum(), x)
    with torch.no_grad():
        estimate = (score(x) - score(move + data.normal(20_000, 2, generator=g))).mean().item()
    assert estimate == pytest.approx(shift * (1 + shift / (2 * weight)), rel=0.1)
    assert estimate / slope.norm(dim=-1).mean().item() == pytest.approx(shift, rel=0.1)


# 3.4 The players and the rules


@pytest.mark.parametrize(
    ("net", "pixels"), [(gan.toy_gan(), 2), (gan.mlp_gan(64), 64), (gan.conv_gan(8), 64), (gan.conv_gan(28), 784)]
)
def test_players_have_the_shapes_they_say(net, pixels, g):
    x = net.sample(5, g)
    assert x.shape == (5, pixels) and net.logits(x).shape == (5,) and net.latent(3, g).shape == (3, net.latents)
    assert net.training, "sampling leaves the mode as it was"
    if pixels > 2:
        assert x.abs().max() <= 1


def test_the_generator_has_five_layers_and_the_discriminator_three():
    net = gan.mlp_gan(64)
    count = [sum(isinstance(m, nn.Linear) for m in part.modules()) for part in (net.generator, net.discriminator)]
    assert count == [5, 3]
    slopes = {m.negative_slope for m in net.modules() if isinstance(m, nn.LeakyReLU)}
    assert slopes == {0.2} and any(isinstance(m, nn.BatchNorm1d) for m in net.generator)


def test_sampling_in_evaluation_mode_does_not_depend_on_the_batch(g):
    net = gan.mlp_gan(64, generator_dropout=0.5)
    net.generator(net.latent(64, g))  # running statistics
    z = net.latent(10, g)
    torch.testing.assert_close(net.decode(z)[:3], net.decode(z[:3]))


def test_bad_sizes_are_named():
    with pytest.raises(ValueError, match="latents = 0"):
        gan.mlp_gan(64, 0)
    with pytest.raises(ValueError, match="side = 10; a multiple of 4"):
        gan.conv_gan(10)
    with pytest.raises(ValueError, match="n = 0"):
        gan.toy_gan().sample(0, data.generator(0))


@pytest.mark.parametrize("kind", gan.LOSSES)
def test_each_part_of_the_loss_moves_its_own_player_only(kind):
    """The gradient of both is, for each player, that of its own loss computed alone."""
    torch.manual_seed(0)
    net = gan.toy_gan(16).double()
    x = gan.RING.sample(32, data.generator(1)).double()
    losses = gan.Game(kind).losses(net, x, 0, data.generator(2))
    losses.discriminator.backward()
    losses.generator.backward()
    z = net.latent(32, data.generator(2))
    d, gen = list(net.discriminator.parameters()), list(net.generator.parameters())
    of_d = torch.autograd.grad(gan.discriminator_loss(kind, net.logits(x), net.logits(net.generator(z).detach())), d)
    of_g = torch.autograd.grad(gan.generator_loss(kind, net.logits(net.generator(z))), gen)
    for p, expected in zip(d + gen, of_d + of_g, strict=True):
        torch.testing.assert_close(p.grad, expected)
    assert all(p.requires_grad for p in d), "thawed again"


def test_the_generator_waits_while_the_critic_takes_its_turns():
    net, g = gan.toy_gan(16), data.generator(0)
    game, x = gan.Game("wasserstein", gp=1.0, critic_steps=3), gan.RING.sample(200, g)
    seen = [next(net.generator.parameters()).detach().clone()]
    played = []
    for step in gan.rounds(net, game, x, gan.optimisers(net), generator=g, steps=6, batch_size=32):
        seen.append(next(net.generator.parameters()).detach().clone())
        played.append(step)
    moved = [not torch.equal(a, b) for a, b in zip(seen, seen[1:], strict=False)]
    assert moved == [True, False, False, True, False, False]
    assert [step.done for step in played] == [1, 2, 3, 4, 5, 6] and played[-1].share == 1
    assert all(((step.confidence >= 0) & (step.confidence <= 1)).all() for step in played)


def test_rounds_are_simultaneous_adam_steps_of_each_player():
    """Both gradients where both stand, then one Adam step each: against torch's own Adam, turn by turn."""
    torch.manual_seed(0)
    net, x = gan.toy_gan(16), gan.RING.sample(64, data.generator(1))
    twin, game, g = deepcopy(net), gan.Game(r1=0.1), data.generator(2)
    list(gan.rounds(net, game, x, gan.optimisers(net, 1e-2, 0.5), generator=data.generator(2), steps=5, batch_size=64))
    adams = [
        torch.optim.Adam(player.parameters(), 1e-2, (0.5, 0.99)) for player in (twin.discriminator, twin.generator)
    ]
    for turn in range(5):
        losses = game.losses(twin, x[training.batch(turn, 64, 64, 2)], turn, g)
        for adam, loss in zip(adams, losses[:2], strict=True):
            adam.param_groups[0]["lr"] = 1e-2 * training.schedule(turn / 5)
            adam.zero_grad()
            loss.backward()
        for adam in adams:
            adam.step()
    for a, b in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_a_game_that_goes_on_is_the_game_that_was_never_stopped():
    torch.manual_seed(0)
    whole, x, game = gan.toy_gan(16), gan.RING.sample(100, data.generator(1)), gan.Game(r1=0.1, noise=0.1)
    parted, g, h = deepcopy(whole), data.generator(2), data.generator(2)
    list(gan.rounds(whole, game, x, gan.optimisers(whole), generator=g, steps=9, batch_size=32))
    moves = gan.optimisers(parted)
    for step in gan.rounds(parted, game, x, moves, generator=h, steps=9, batch_size=32):
        if step.done == 4:
            break
    list(gan.rounds(parted, game, x, moves, generator=h, steps=9, batch_size=32, done=4))
    for a, b in zip(whole.parameters(), parted.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match="steps = 0"):
        next(gan.rounds(whole, game, x, gan.optimisers(whole), generator=g, steps=0))


def test_labels_are_smoothed_disturbed_and_flipped():
    like, g = torch.zeros(20_000), data.generator(0)
    real, fake = gan.Game(smooth=0.1).targets(like, g)
    assert (real == 0.9).all() and (fake == 0).all()
    real, fake = gan.Game(smooth=0.2, noise=0.1).targets(like, g)
    assert real.min() >= 0.7 and real.max() <= 0.9 and real.std().item() == pytest.approx(0.2 / math.sqrt(12), rel=0.03)
    assert fake.min() == 0 and fake.max() <= 0.1
    real, fake = gan.Game(flip=0.05).targets(like, g)
    share = (real == 0).float().mean().item()
    assert share == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / 20_000))
    assert ((real == 0) == (fake == 1)).all()


def test_blur_has_the_standard_deviation_it_says():
    x = torch.zeros(50_000, 1)
    assert gan.Game(blur=0.3).blurred(x, data.generator(0)).std().item() == pytest.approx(0.3, rel=0.02)
    assert gan.Game().blurred(x, data.generator(0)) is x


ROUNDS = [(0.5, 0), (0.0, 0), (0.5, 1)]  # r1, turn


def test_the_penalty_at_real_points_is_their_mean_squared_slope():
    """In the first of four turns, four times the weight: against autograd without the library's penalty."""
    torch.manual_seed(0)
    net = gan.toy_gan(16).double()
    x = gan.RING.sample(16, data.generator(0)).double()
    values = [gan.Game(r1=r1).losses(net, x, turn, data.generator(2)).discriminator for r1, turn in ROUNDS]
    leaf = x.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(net.logits(leaf).sum(), leaf)
    torch.testing.assert_close(values[0] - values[1], 4 * 0.5 * slope.square().sum(-1).mean())
    torch.testing.assert_close(values[2], values[1])  # the other three turns are without it


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"kind": "hing"}, "did you mean 'hinge'"),
        ({"smooth": 1.0}, r"smooth = 1.0; allowed: 0 to below 1"),
        ({"flip": -0.1}, r"flip = -0.1; allowed: 0 to below 1"),
        ({"blur": -1.0}, r"blur = -1.0; allowed: 0 or more"),
        ({"critic_steps": 0}, r"critic_steps = 0; at least 1"),
    ],
)
def test_rules_that_make_no_sense_are_refused(rules, message):
    with pytest.raises(ValueError, match=message):
        gan.Game(**rules)


def test_a_conditional_gan_plays_on_pairs():
    torch.manual_seed(0)
    net, g = gan.conditional_gan(64, classes=4, latents=8), data.generator(0)
    z = net.latent(4000, g)
    assert z.shape == (4000, 12) and (z[:, 8:].sum(1) == 1).all()
    shares = z[:, 8:].mean(0)
    assert ((shares - 0.25).abs() < 4 * math.sqrt(0.25 * 0.75 / 4000)).all()
    pairs = net.sample(5, data.generator(1))
    assert pairs.shape == (5, 68) and torch.equal(pairs[:, 64:], net.latent(5, data.generator(1))[:, 8:])
    y = torch.tensor([3, 0, 3])
    images = net.of_class(y, data.generator(2))
    z = data.normal(3, 8, generator=data.generator(2))
    expected = net.decode(torch.cat([z, torch.eye(4)[y]], 1))[:, :64]
    assert images.shape == (3, 64) and torch.equal(images, expected)
    with pytest.raises(ValueError, match=r"classes \[0, 4\] were asked for; there are 0 to 3"):
        net.of_class(torch.tensor([0, 4]), g)
    x = torch.cat([2 * torch.rand(50, 64) - 1, torch.eye(4)[torch.arange(50) % 4]], 1)
    assert len(list(gan.rounds(net, gan.Game(r1=0.1), x, gan.optimisers(net), generator=g, steps=3))) == 3


def test_a_conditional_gan_learns_which_class_was_asked_for():
    """Two classes, at +2 and at -2: after a training the classes' means are far apart, in the right order."""
    torch.manual_seed(0)
    net, g = gan.conditional_gan(1, classes=2, latents=4), data.generator(0)
    y = torch.arange(400) % 2
    x = torch.cat([0.6 * (2.0 * y[:, None] - 1) + 0.05 * data.normal(400, 1, generator=g), torch.eye(2)[y]], 1)
    list(gan.rounds(net, gan.Game(r1=0.1), x, gan.optimisers(net), generator=g, steps=150))
    means = [net.of_class(torch.full((200,), k), g).mean().item() for k in (0, 1)]
    assert means[1] - means[0] > 0.3  # 1.2 in the data


def test_averaged_players_have_the_average_and_its_own_batch_statistics():
    torch.manual_seed(0)
    net = gan.mlp_gan(6, latents=3)
    average = EMA(net.generator, 0.9)
    first = [p.detach().clone() for p in net.generator.parameters()]
    for p in net.generator.parameters():
        p.data.add_(1.0)
    average.update(net.generator)
    live = deepcopy(net.state_dict())
    found = gan.averaged(net, average, data.generator(1), n=500)
    decay = 2 / 11  # of the first update
    for p, start in zip(found.generator.parameters(), first, strict=True):
        torch.testing.assert_close(p.detach(), start + (1 - decay))
    assert all(torch.equal(v, live[k]) for k, v in net.state_dict().items()), "the players themselves stay"
    z = net.latent(500, data.generator(1))
    hidden = found.generator[0](z)  # what the first batch normalisation sees
    torch.testing.assert_close(found.generator[1].running_mean, hidden.mean(0).detach(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.generator[1].running_var, hidden.var(0).detach(), atol=1e-5, rtol=1e-4)
    assert found.generator[1].momentum == net.generator[1].momentum == 0.1


# 3.5 The film


def test_film_keeps_the_generator_of_each_moment():
    torch.manual_seed(0)
    net, steps = gan.mlp_gan(64), 40
    z = net.latent(4, data.generator(0))
    seen, film = {}, gan.Film(net)
    for done in range(steps + 1):
        with torch.no_grad():
            for p in net.generator.parameters():
                p.add_(0.01)
        net.generator(net.latent(8, data.generator(done)))  # moves the running statistics too
        film.shoot(done, steps)
        seen[done] = net.decode(z)
    for k, moment in enumerate(gan.MOMENTS):
        torch.testing.assert_close(film.decode(k, z), seen[round(moment * steps)])
        torch.testing.assert_close(gan.Film(net, film.frames).decode(k, z), seen[round(moment * steps)])
    with pytest.raises(ValueError, match="k = 13; allowed are 0 to 12"):
        film.decode(len(gan.MOMENTS), z)
    with pytest.raises(ValueError, match=r"frames have shape \(13, 5\); of this generator"):
        gan.Film(net, torch.zeros(13, 5))


def test_moments_start_at_the_beginning_and_end_at_the_end():
    assert gan.MOMENTS[0] == 0 and gan.MOMENTS[-1] == 1 and list(gan.MOMENTS) == sorted(set(gan.MOMENTS))
    assert len(gan.MOMENTS) >= 12


# 3.7 The ring


def test_a_ring_training_follows_its_seed_and_reports_its_steps():
    done = []
    a, b, c = (
        gan.play_ring(gan.Game(r1=0.1), seed, 25, watch=lambda n, net: done.append(n)).sample(10, data.generator(0))
        for seed in (0, 0, 1)
    )
    torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert not torch.equal(a, c) and done == 3 * list(range(1, 26))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_losses_agree_on_the_gpu():
    torch.manual_seed(0)
    net = gan.conv_gan(8)
    x = 2 * torch.rand(16, 64) - 1
    on_cpu = gan.Game(r1=0.1).losses(net, x, 0, data.generator(0))[:2]
    on_gpu = gan.Game(r1=0.1).losses(net.cuda(), x.cuda(), 0, data.generator(0))[:2]
    assert [v.item() for v in on_gpu] == pytest.approx([v.item() for v in on_cpu], rel=1e-3)

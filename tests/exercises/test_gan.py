"""The references of lecture 3's exercises against independent truths; answers of students stand in `answers/gan.py`."""

from decimal import Decimal

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import scipy.special
import scipy.stats
import torch
from torch.distributions import Bernoulli, Normal

from course_utils.exercises.gan import EXERCISES, Critic, Duel


def her_penalty(critic, real, fake, t):
    """The function with four mistakes that exercise 3.4 prints."""
    x = (1 - t[0]) * real + t[0] * fake
    x.requires_grad_()
    (slope,) = torch.autograd.grad(critic(x).mean(), x)
    return (slope.norm() - 1).square()


@pytest.fixture
def g():
    return torch.Generator().manual_seed(3)


def randn(*shape, g):
    return torch.randn(*shape, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("share", [0.5, 0.1, 0.8])
def test_discriminator_is_the_share_of_real_points_by_torch_distributions(share, g):
    x = 2 * randn(50, g=g)
    p, q = Normal(0.0, 1.0), Normal(torch.tensor(1.0).double(), 0.5)
    real, generated = share * p.log_prob(x).exp(), (1 - share) * q.log_prob(x).exp()
    ours = EXERCISES["3.1"].reference(p.log_prob(x), q.log_prob(x), share)
    torch.testing.assert_close(ours, real / (real + generated))


@pytest.mark.parametrize(("log_p", "log_q"), [(-2000.0, -2001.5), (-1999.0, -1990.0), (-3.0, -900.0), (-750.0, -746.0)])
def test_discriminator_far_out_by_decimals(log_p, log_q):
    p, q = Decimal(log_p).exp(), Decimal(log_q).exp()  # no underflow before 10^(-10^18)
    ours = EXERCISES["3.1"].reference(torch.tensor(log_p).double(), torch.tensor(log_q).double(), 0.25)
    assert ours.item() == pytest.approx(float(p / (p + 3 * q)), rel=1e-12)


@pytest.mark.parametrize("smooth", [0.0, 0.1, 0.4])
def test_losses_by_torch_distributions(smooth, g):
    real, fake = 3 * randn(40, g=g), 3 * randn(25, g=g)
    on_real = (1 - smooth) * Bernoulli(logits=real).log_prob(torch.ones(40).double())
    on_real = on_real + smooth * Bernoulli(logits=real).log_prob(torch.zeros(40).double())
    on_fake = Bernoulli(logits=fake).log_prob(torch.zeros(25).double())
    discriminator, generator = EXERCISES["3.2"].reference(real, fake, smooth)
    torch.testing.assert_close(discriminator, -on_real.mean() - on_fake.mean())
    torch.testing.assert_close(generator, -Bernoulli(logits=fake).log_prob(torch.ones(25).double()).mean())


def test_losses_of_a_sure_discriminator_by_hand():
    """log sigmoid(-300) is -300 but for e^-300, log sigmoid(300) is 0: the loss is a product and a sum."""
    discriminator, generator = EXERCISES["3.2"].reference(torch.tensor([300.0]), torch.tensor([-300.0]), 0.25)
    assert discriminator.item() == pytest.approx(75.0) and generator.item() == pytest.approx(300.0)


def test_generator_gradients_by_finite_differences():
    logits = np.linspace(-9, 9, 13)
    log_d, log_not_d = scipy.special.log_expit, lambda v: scipy.special.log_expit(-v)
    ours = EXERCISES["3.3"].reference(torch.from_numpy(logits))
    for derivative, loss in zip(ours, (log_not_d, lambda v: -log_d(v)), strict=True):
        np.testing.assert_allclose(derivative, (loss(logits + 1e-5) - loss(logits - 1e-5)) / 2e-5, atol=1e-9)


def test_gradient_penalty_by_finite_differences(g):
    """For the sum of tanh(W x) the slope at x is W^T (1 - tanh²): penalty by hand, its gradient by differences."""
    weight, real, fake = randn(3, 2, g=g), randn(6, 2, g=g), randn(6, 2, g=g)
    t = torch.rand(6, generator=g, dtype=torch.float64)
    x = ((1 - t[:, None]) * real + t[:, None] * fake).numpy()

    def penalty(flat):
        w = flat.reshape(3, 2)
        slope = (1 - np.tanh(x @ w.T) ** 2) @ w  # (6, 2)
        return np.mean((np.linalg.norm(slope, axis=1) - 1) ** 2)

    value, gradient = EXERCISES["3.4"].reference(Critic(weight), real, fake, t)
    flat = weight.flatten().numpy()
    steps = 1e-6 * np.eye(6)
    differences = [(penalty(flat + h) - penalty(flat - h)) / 2e-6 for h in steps]
    assert value.item() == pytest.approx(penalty(flat), rel=1e-12)
    np.testing.assert_allclose(gradient.flatten(), differences, atol=1e-8)


@pytest.mark.parametrize("batch", [1, 7, 300])
def test_gradient_penalty_of_a_linear_critic_does_not_depend_on_the_batch(batch, g):
    """The slope of w·x is w everywhere: the penalty is (|w| - 1)², its gradient 2 (|w| - 1) w / |w|."""
    w = torch.tensor([[3.0, 4.0]]).double()
    args = randn(batch, 2, g=g), randn(batch, 2, g=g), torch.rand(batch, generator=g, dtype=torch.float64)
    value, gradient = EXERCISES["3.4"].reference(Critic(w, linear=True), *args)
    assert value.item() == pytest.approx(16)
    torch.testing.assert_close(gradient, 2 * 4 * w / 5)


def test_her_penalty_is_what_the_exercise_says(g):
    """For a linear critic of slope 3 the mean's gradient has the norm 3 / sqrt(B); nothing reaches the critic."""
    critic = torch.nn.Linear(2, 1, bias=False)
    critic.weight.data = torch.tensor([[0.0, 3.0]])
    for batch in (1, 100, 400):
        real, t = torch.randn(batch, 2, generator=g), torch.rand(batch, generator=g)
        penalty = her_penalty(critic, real, torch.zeros(batch, 2), t)
        assert penalty.item() == pytest.approx((3 / batch**0.5 - 1) ** 2, rel=1e-4)
        assert not penalty.requires_grad


def rotation(angle):
    """What two turns of the players do, with steps of 2 sin(angle / 2), is similar to a rotation."""
    eta = 2 * np.sin(angle / 2)
    return np.array([[1, -eta], [eta, 1 - eta**2]])


@pytest.mark.parametrize(("steps", "decay"), [(1, 0.9), (7, 0.5), (40, 0.97)])
def test_average_of_players_by_a_geometric_series_of_matrices(steps, decay, g):
    """After t steps the weights are A^t w: the sum of decay^(T - t) A^t is (A^(T+1) - decay^T A) (A - decay I)^-1."""
    step, start = rotation(0.3), randn(2, 4, g=g)
    players = Duel(start, float(step[1, 0]))
    power = np.linalg.matrix_power
    total = (power(step, steps + 1) - decay**steps * step) @ np.linalg.inv(step - decay * np.eye(2))
    expected = total @ start.numpy() * (1 - decay) / (1 - decay**steps)
    np.testing.assert_allclose(EXERCISES["3.7"].reference(players, steps, decay), expected, rtol=1e-9)


def test_average_of_one_whole_circle_is_near_the_equilibrium():
    """In turns the players circle, (3.4b): with steps of 2 sin(pi/50) they are back after 50, and add up to 0."""
    players = Duel(torch.tensor([[1.0], [0.0]]).double(), float(rotation(2 * np.pi / 50)[1, 0]))
    *_, last = players.play(50)
    torch.testing.assert_close(last, players.weight.detach(), atol=1e-12, rtol=0)
    assert EXERCISES["3.7"].reference(players, 50, 1.0).abs().max() < 1e-12


def test_players_yield_one_tensor_and_stay_as_they_were():
    players = Duel(torch.ones(2, 3), 0.1)
    kept = list(players.play(5))
    assert all(weights is kept[0] for weights in kept)
    assert torch.equal(players.weight, torch.ones(2, 3)) and not torch.equal(kept[0], players.weight)


@pytest.mark.parametrize(("shape", "iterations"), [((4, 4), 1), ((3, 7), 2), ((7, 3), 5), ((6, 6), 11)])
def test_spectral_norm_by_singular_vectors(shape, iterations, g):
    """After k rounds v is V s^(2k-1) U^T u, normalised: rounds written as powers of the singular values."""
    weight, start = randn(*shape, g=g), randn(shape[0], g=g)
    u, s, vt = np.linalg.svd(weight.numpy(), full_matrices=False)
    coefficients = s ** (2 * iterations - 1) * (u.T @ start.numpy())
    expected = np.linalg.norm(s * coefficients) / np.linalg.norm(coefficients)
    assert EXERCISES["3.5"].reference(weight, start, iterations).item() == pytest.approx(expected, rel=1e-10)
    assert expected <= s[0]


def test_spectral_norm_converges_to_the_largest_singular_value(g):
    weight = randn(9, 5, g=g)
    ours = EXERCISES["3.5"].reference(weight, randn(9, g=g), 500).item()
    assert ours == pytest.approx(scipy.linalg.svdvals(weight.numpy())[0], rel=1e-9)


def test_wasserstein_by_scipy_and_by_assignment(g):
    for n in (1, 2, 30):
        x, y = randn(n, g=g), 3 * randn(n, g=g) + 1
        costs = np.abs(x.numpy()[:, None] - y.numpy())
        ours = EXERCISES["3.6"].reference(x, y).item()
        assert ours == pytest.approx(scipy.stats.wasserstein_distance(x, y))
        assert ours == pytest.approx(costs[scipy.optimize.linear_sum_assignment(costs)].mean())


def test_frechet_by_matrix_root(g):
    a, b = randn(50, 4, g=g) @ randn(4, 4, g=g), 1 + randn(30, 4, g=g) @ randn(4, 4, g=g)
    c_1, c_2 = np.cov(a.numpy(), rowvar=False), np.cov(b.numpy(), rowvar=False)
    squared = np.sum((a.mean(0) - b.mean(0)).numpy() ** 2)
    expected = squared + np.trace(c_1 + c_2 - 2 * np.real(scipy.linalg.sqrtm(c_1 @ c_2)))
    assert EXERCISES["3.8"].reference(a, b).item() == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("angle", [0.0, 0.7, np.pi / 2])
def test_frechet_of_sets_on_two_lines_in_closed_form(angle, g):
    """Both covariances have rank 1, s² e e^T: the cross term is s_1 s_2 |e_1 · e_2|."""
    s, r = randn(12, g=g), 2 * randn(9, g=g)
    e_1 = torch.eye(5).double()[0]
    e_2 = np.cos(angle) * e_1 + np.sin(angle) * torch.eye(5).double()[1]
    a, b = s[:, None] * e_1, r[:, None] * e_2
    traces = s.var() + r.var() - 2 * s.std() * r.std() * abs(np.cos(angle))
    expected = (s.mean() * e_1 - r.mean() * e_2).square().sum() + traces
    assert EXERCISES["3.8"].reference(a, b).item() == pytest.approx(expected.item(), rel=1e-6)

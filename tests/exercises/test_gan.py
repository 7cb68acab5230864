"""The references of lecture 3's exercises against independent truths, and wrong answers the checks catch unnamed."""

from decimal import Decimal

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import scipy.special
import scipy.stats
import torch
import torch.nn.functional as F
from torch.distributions import Bernoulli, Normal

from course_utils.exercises.gan import EXERCISES, Critic, check


def her_penalty(critic, real, fake, t):
    """The function with four mistakes that exercise 3.4 prints."""
    x = (1 - t[0]) * real + t[0] * fake
    x.requires_grad_()
    (slope,) = torch.autograd.grad(critic(x).mean(), x)
    return (slope.norm() - 1).square()


def points_between(real, fake, t):
    return (real + t[:, None] * (fake - real)).requires_grad_()


def penalty_from(slope):
    return (slope.norm(dim=-1) - 1).square().mean()


def without_graph(critic, real, fake, t):
    """The right penalty that the critic's weight can't be reached from: an error of PyTorch's."""
    x = points_between(real, fake, t)
    penalty = penalty_from(torch.autograd.grad(critic(x).sum(), x)[0])
    return penalty, torch.autograd.grad(penalty, critic.weight)[0]


def gradient_at_generated_examples(critic, real, fake, t):
    x = points_between(real, fake, t)
    penalty = penalty_from(torch.autograd.grad(critic(x).sum(), x, create_graph=True)[0])
    return penalty, torch.autograd.grad(penalty, x)[0]


def by_backward(critic, real, fake, t):
    """The right numbers, but .backward() adds them to what the weight's owner has in .grad."""
    x = points_between(real, fake, t)
    penalty = penalty_from(torch.autograd.grad(critic(x).sum(), x, create_graph=True)[0])
    penalty.backward()
    return penalty, critic.weight.grad


def rounds_with_largest_entry_one(weight, u, iterations):
    for _ in range(iterations):
        v = weight.T @ u / (weight.T @ u).abs().max()
        u = weight @ v / (weight @ v).abs().max()
    return u @ weight @ v


def moments(x):
    return x.mean(0), torch.cov(x.T)


UNNAMED = {  # wrong answers that no mistake of the exercise names
    "3.1": [
        lambda log_p, log_q: log_p.exp() / (log_p.exp() + log_q.exp()),  # 0/0 where both underflow
        lambda log_p, log_q: (log_p > log_q).double(),
        lambda log_p, log_q: (log_p.exp() - log_q.exp()).sigmoid(),
    ],
    "3.2": [
        lambda real, fake, smooth: EXERCISES["3.2"].reference(real.sigmoid(), fake.sigmoid(), smooth),
        lambda real, fake, smooth: (
            -((1 - smooth) * (real.sigmoid() + 1e-8).log() + smooth * ((-real).sigmoid() + 1e-8).log()).mean()
            - ((-fake).sigmoid() + 1e-8).log().mean(),
            -(fake.sigmoid() + 1e-8).log().mean(),
        ),  # a small number under the logarithm: wrong where the discriminator is sure
        lambda real, fake, smooth: (F.relu(1 - real).mean() + F.relu(1 + fake).mean(), -fake.mean()),  # hinge
    ],
    "3.3": [
        lambda logits: (-logits.sigmoid(), (-logits).sigmoid()),
        lambda logits: ((-logits).sigmoid(), -logits.sigmoid()),
        lambda logits: tuple(v.sum() for v in EXERCISES["3.3"].reference(logits)),
    ],
    "3.4": [her_penalty, without_graph, gradient_at_generated_examples, by_backward],
    "3.5": [
        rounds_with_largest_entry_one,
        lambda weight, u, iterations: weight.norm(dim=1).max(),
        lambda weight, u, iterations: weight.abs().max(),
    ],
    "3.6": [
        lambda x, y: (x.sort().values - y.sort().values).abs().median(),
        lambda x, y: (x.sort().values - y.sort().values).norm() / len(x),
    ],
    "3.7": [
        lambda a, b: (a.mean(0) - b.mean(0)).square().sum() + (
            torch.linalg.eigvalsh(torch.cov(a.T)).clamp(min=0).sqrt()
            - torch.linalg.eigvalsh(torch.cov(b.T)).clamp(min=0).sqrt()
        ).square().sum(),  # as if both had the same axes
        lambda a, b: EXERCISES["3.7"].reference(torch.cat([a, -a]), torch.cat([b, -b])),  # moments about 0
        lambda a, b: (a.mean(0) - b.mean(0)).square().sum() + (
            torch.linalg.cholesky(torch.cov(a.T)) - torch.linalg.cholesky(torch.cov(b.T))
        ).square().sum(),  # Cholesky's factor for the root; it fails where a covariance is singular
    ],
}  # fmt: skip


@pytest.mark.parametrize(("id", "wrong"), [(id, wrong) for id, wrongs in UNNAMED.items() for wrong in wrongs])
def test_unnamed_mistakes_fail(id, wrong, capsys):
    assert check(id, wrong) is EXERCISES[id].reference
    assert capsys.readouterr().out.startswith("✗")


def by_roots_of_the_product(a, b):
    """Another right way: C_1 C_2 has the eigenvalues of C_1^½ C_2 C_1^½."""
    (m_1, c_1), (m_2, c_2) = moments(a), moments(b)
    cross = torch.linalg.eigvals(c_1 @ c_2).real.clamp(min=0).sqrt().sum()
    return (m_1 - m_2).square().sum() + c_1.trace() + c_2.trace() - 2 * cross


def by_autograd(logits):
    logits = logits.requires_grad_()
    both = F.logsigmoid(-logits).sum(), -F.logsigmoid(logits).sum()
    return tuple(torch.autograd.grad(loss, logits)[0] for loss in both)


def by_targets(real, fake, smooth):
    cost = F.binary_cross_entropy_with_logits
    on_real, on_fake = cost(real, torch.full_like(real, 1 - smooth)), cost(fake, torch.zeros_like(fake))
    return on_real + on_fake, cost(fake, torch.ones_like(fake))


OTHERWISE = {  # right answers that are computed in another way
    "3.1": lambda log_p, log_q: 1 / (1 + (log_q - log_p).exp()),
    "3.2": by_targets,
    "3.3": by_autograd,
    "3.6": lambda x, y: (x.sort(descending=True).values - y.sort(descending=True).values).abs().sum() / len(x),
    "3.7": by_roots_of_the_product,
}


@pytest.mark.parametrize("id", OTHERWISE)
def test_other_right_ways_pass(id, capsys):
    check(id, OTHERWISE[id])
    assert capsys.readouterr().out.startswith("✓")


@pytest.fixture
def g():
    return torch.Generator().manual_seed(3)


def randn(*shape, g):
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def test_discriminator_is_the_share_of_real_points_by_torch_distributions(g):
    x = 2 * randn(50, g=g)
    p, q = Normal(0.0, 1.0), Normal(torch.tensor(1.0).double(), 0.5)
    share = p.log_prob(x).exp() / (p.log_prob(x).exp() + q.log_prob(x).exp())
    torch.testing.assert_close(EXERCISES["3.1"].reference(p.log_prob(x), q.log_prob(x)), share)


@pytest.mark.parametrize(("log_p", "log_q"), [(-2000.0, -2001.5), (-1999.0, -1990.0), (-3.0, -900.0), (-750.0, -746.0)])
def test_discriminator_far_out_by_decimals(log_p, log_q):
    p, q = Decimal(log_p).exp(), Decimal(log_q).exp()  # no underflow before 10^(-10^18)
    ours = EXERCISES["3.1"].reference(torch.tensor(log_p).double(), torch.tensor(log_q).double())
    assert ours.item() == pytest.approx(float(p / (p + q)), rel=1e-12)


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
    """log σ(-300) is -300 but for e^-300, log σ(300) is 0: the loss is a product and a sum."""
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


def without_a_sum(critic, real, fake, t):
    x = points_between(real, fake, t)
    return penalty_from(torch.autograd.grad(critic(x), x, create_graph=True)[0])


def without_tracking(critic, real, fake, t):
    x = points_between(real, fake, t).detach()
    return penalty_from(torch.autograd.grad(critic(x).sum(), x, create_graph=True)[0])


@pytest.mark.parametrize(
    ("function", "error", "advice"),
    [
        (without_graph, "does not require grad", "The penalty has forgotten that its slopes depend on the critic"),
        (without_a_sum, "only for scalar outputs", "differentiates one number"),
        (without_tracking, "does not require grad", "x.requires_grad_() before the critic sees x"),
    ],
)
def test_errors_of_autograd_are_reported_and_explained(function, error, advice, capsys):
    check("3.4", function)
    out = capsys.readouterr().out
    assert error in out and advice in out


def test_a_gradient_in_a_tuple_is_named(capsys):
    def penalty_and_tuple(*args):
        penalty, gradient = by_backward(*args)
        return penalty, (gradient,)

    check("3.4", penalty_and_tuple)
    assert "Entry 2 of your answer is a tuple of 1; expected is a tensor of shape (2, 3)." in capsys.readouterr().out


def written_by_students(a, b, root, outer, covariance=lambda x: torch.cov(x.T)):
    """The formula of exercise 3.7 as a student writes it, with parts of it to be put wrong."""
    c_1, c_2 = covariance(a), covariance(b)
    cross = outer(root(c_1) @ c_2 @ root(c_1))
    return (a.mean(0) - b.mean(0)).square().sum() + c_1.trace() + c_2.trace() - 2 * cross


def matrix_root(c):
    values, vectors = torch.linalg.eigh(c)
    return vectors @ values.clamp(min=0).sqrt().diag() @ vectors.T


def sum_of_roots(c):
    return torch.linalg.eigvalsh(c).clamp(min=0).sqrt().sum()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ((torch.sqrt, sum_of_roots), "takes the root of each entry"),
        ((torch.sqrt, lambda c: c.sqrt().trace()), "takes the root of each entry"),
        ((matrix_root, lambda c: c.sqrt().trace()), "takes the root of each entry"),
        ((matrix_root, torch.trace), "without the outer root"),
        ((matrix_root, lambda c: torch.linalg.eigvalsh(c).sum()), "without the outer root"),
        ((lambda c: c, sum_of_roots), "Your C₁^½ is C₁ itself"),
        ((matrix_root, sum_of_roots, lambda x: x.T @ x / len(x)), "not centred"),
        ((matrix_root, sum_of_roots, lambda x: x.T @ x / (len(x) - 1)), "not centred"),
    ],
)
def test_mistakes_in_the_frechet_distance_as_students_write_them(wrong, message, capsys):
    check("3.7", lambda a, b: written_by_students(a, b, *wrong))
    assert message in capsys.readouterr().out


def test_frechet_in_single_precision_is_named(capsys):
    check("3.7", lambda a, b: written_by_students(a.float(), b.float(), matrix_root, sum_of_roots))
    assert "Right to single precision only" in capsys.readouterr().out


def test_complex_eigenvalues_are_named(capsys):
    def by_eigvals(a, b):
        return written_by_students(a, b, matrix_root, lambda c: torch.linalg.eigvals(c).sqrt().sum())

    check("3.7", by_eigvals)
    assert "Your result is complex" in capsys.readouterr().out


def test_means_alone_earn_at_most_one_case_of_wasserstein(capsys):
    check("3.6", lambda x, y: (x.mean() - y.mean()).abs())
    assert "1 of 6 checks pass" in capsys.readouterr().out


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
    assert EXERCISES["3.7"].reference(a, b).item() == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("angle", [0.0, 0.7, np.pi / 2])
def test_frechet_of_sets_on_two_lines_in_closed_form(angle, g):
    """Both covariances have rank 1, s² e e^T: the cross term is s_1 s_2 |e_1 · e_2|."""
    s, r = randn(12, g=g), 2 * randn(9, g=g)
    e_1 = torch.eye(5).double()[0]
    e_2 = np.cos(angle) * e_1 + np.sin(angle) * torch.eye(5).double()[1]
    a, b = s[:, None] * e_1, r[:, None] * e_2
    traces = s.var() + r.var() - 2 * s.std() * r.std() * abs(np.cos(angle))
    expected = (s.mean() * e_1 - r.mean() * e_2).square().sum() + traces
    assert EXERCISES["3.7"].reference(a, b).item() == pytest.approx(expected.item(), rel=1e-6)

"""Lecture 4's interface and layers against autograd's Jacobians, torch.distributions, quadrature and finite steps."""

import math
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal, Normal

from course_utils import flows
from course_utils.densities import GaussianMixture

sys.path.insert(0, str(Path(__file__).parent))
from flow_cases import check_layer, draw, mass, rng, stirred  # noqa: E402

LAYERS = {
    "planar": lambda: flows.Planar(3),
    "planar, steep": lambda: stirred(flows.Planar(3), 3.0),
    "radial": lambda: flows.Radial(3),
    "radial, steep": lambda: stirred(flows.Radial(3), 2.0),
    "sylvester": lambda: flows.Sylvester(3, 2),
    "sylvester, full rank": lambda: stirred(flows.Sylvester(3, 3), 2.0),
    "permutation": lambda: flows.Permutation([2, 0, 1]),
    "elementwise affine": lambda: flows.ElementwiseAffine(3),
    "actnorm": lambda: flows.ActNorm(3),
    "lu": lambda: flows.LULinear(3),
    "qr": lambda: flows.QRLinear(3),
    "inverse": lambda: flows.Inverse(flows.Sylvester(3, 2)),
    "composition": lambda: flows.Composition([flows.Planar(3), flows.LULinear(3), flows.ActNorm(3), flows.Radial(3)]),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name):
    torch.manual_seed(0)
    check_layer(stirred(LAYERS[name]()), 2 * draw(4, 3))


@pytest.mark.parametrize("name", ["actnorm", "lu", "qr", "permutation"])
def test_a_layer_of_channels_works_at_each_position_of_an_image(name):
    """Its log-determinant has the factor height × width, which is often forgotten."""
    torch.manual_seed(0)
    layer, x = stirred(LAYERS[name]()), draw(2, 3, 2, 4)
    check_layer(layer, x)
    z, log_det = layer(x)
    at, log_det_there = layer(x[:, :, 1, 2])
    torch.testing.assert_close(z[:, :, 1, 2], at)
    torch.testing.assert_close(log_det, 8 * log_det_there)


# The density ----------------------------------------------------------------------------------------------------------


def test_an_elementwise_affine_flow_is_a_normal_distribution():
    flow = flows.Flow([flows.ElementwiseAffine(1)], 1).double()
    with torch.no_grad():
        flow.transform.layers[0].log_scale.fill_(-math.log(2.5))
        flow.transform.layers[0].shift.fill_(-0.7)
    x = draw(5, 1)
    torch.testing.assert_close(flow.log_prob(x), Normal(0.7, 2.5).log_prob(x[:, 0]))


def test_a_linear_flow_is_a_multivariate_normal_distribution():
    torch.manual_seed(0)
    for layer in (stirred(flows.LULinear(3)), stirred(flows.QRLinear(3))):
        w = layer.matrix().detach()
        exact = MultivariateNormal(torch.zeros(3, dtype=torch.float64), precision_matrix=w.T @ w)
        x = draw(5, 3)
        torch.testing.assert_close(flows.Flow([layer], 3).log_prob(x), exact.log_prob(x))


def test_samples_come_with_their_own_log_density():
    """The log-determinant of the sampling direction is subtracted: with a plus this fails."""
    torch.manual_seed(0)
    flow = stirred(flows.Flow([flows.Planar(2), flows.LULinear(2), flows.Radial(2)], 2))
    x, log_prob = flow.rsample(50, rng())
    torch.testing.assert_close(log_prob, flow.log_prob(x))
    assert flow.transform.inverse(draw(50, 2))[1].abs().min() > 0.01
    assert torch.equal(flow.sample(50, rng()), x.detach())


PLANE = {
    "planar": lambda d: [flows.Planar(d) for _ in range(3)],
    "radial": lambda d: [flows.Radial(d) for _ in range(3)],
    "sylvester": lambda d: [flows.Sylvester(d, d) for _ in range(2)],
}


@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize("name", PLANE)
def test_densities_integrate_to_one(name, dim):
    torch.manual_seed(1)
    flow = stirred(flows.Flow(PLANE[name](dim), dim))
    assert mass(flow.log_prob, 12, 500 if dim == 2 else 5000, dim) == pytest.approx(1, abs=1e-5)


def test_divided_by_the_determinant_it_is_no_density():
    """p(x) = p(z) |det dz/dx|: with 1 / |det dz/dx| a map that halves all lengths would give the mass 4."""
    flow = flows.Flow([flows.ElementwiseAffine(1)], 1).double()
    with torch.no_grad():
        flow.transform.layers[0].log_scale.fill_(-math.log(2))

    def wrong(x):
        base, log_det = flow.terms(x)
        return base - log_det

    assert mass(flow.log_prob, 20, 2000, 1) == pytest.approx(1, abs=1e-9)
    assert mass(wrong, 20, 2000, 1) == pytest.approx(4, abs=1e-9)


def test_samples_follow_the_density():
    """The first two moments of 20,000 samples against quadrature, within four standard errors."""
    torch.manual_seed(1)
    flow = stirred(flows.Flow([flows.Planar(1), flows.Radial(1)], 1))
    x = torch.linspace(-12, 12, 4001, dtype=torch.float64)[:, None]
    p = flow.log_prob(x).exp().detach()
    sample = flow.sample(20_000, rng())[:, 0]
    for power in (1, 2):
        exact = torch.trapezoid(p * x[:, 0] ** power, x[:, 0])
        values = sample**power
        assert abs(values.mean() - exact) < 4 * values.std() / math.sqrt(20_000)


@pytest.mark.parametrize("name", ["planar", "radial", "sylvester", "lu", "qr", "actnorm"])
def test_gradients_by_finite_differences(name):
    """Of the log-density, and of samples with theirs, in all parameters: also through the numerical inverse."""
    torch.manual_seed(0)
    flow = stirred(flows.Flow([LAYERS[name]()], 3))
    x = draw(2, 3)
    flow.log_prob(x)
    names, values = zip(*[(n, p.detach().clone().requires_grad_()) for n, p in flow.named_parameters()], strict=True)

    class LogProb(nn.Module):
        def __init__(self):
            super().__init__()
            self.flow = flow

        def forward(self, x):
            sample, log_prob = self.flow.rsample(2, rng())
            return self.flow.log_prob(x), sample, log_prob

    model = LogProb()

    def f(*values):
        given = {f"flow.{n}": v for n, v in zip(names, values, strict=True)}
        return torch.func.functional_call(model, given, (x,))

    assert torch.autograd.gradcheck(f, values, eps=1e-6, atol=1e-5)


# Training -------------------------------------------------------------------------------------------------------------


def test_both_directions_of_kl_at_gaussians():
    """Against closed forms: cross-entropy and reverse KL of N(0.7, 2.5²) and N(0, 1), within four standard errors."""
    flow = flows.Flow([flows.ElementwiseAffine(1)], 1).double()
    with torch.no_grad():
        flow.transform.layers[0].log_scale.fill_(-math.log(2.5))
        flow.transform.layers[0].shift.fill_(-0.7)
    p, q, n = Normal(0.0, 1.0), Normal(0.7, 2.5), 40_000
    forward = torch.distributions.kl_divergence(p, q) + p.entropy()
    assert flows.negative_log_likelihood(flow, draw(n, 1)).item() == pytest.approx(
        forward.item(), abs=4 * 0.17 / n**0.5
    )
    reverse = torch.distributions.kl_divergence(q, p) - 1.5  # the target is e^1.5 times a density
    value = flows.reverse_kl(flow, lambda x: p.log_prob(x[:, 0]) + 1.5, n, rng())
    assert value.item() == pytest.approx(reverse.item(), abs=4 * 5.0 / n**0.5)  # the integrand's deviation is below 5


def test_the_kl_between_data_and_flow_is_that_between_their_images():
    """KL duality: of p and q in x, and of p's image under f and N(0, I), by quadrature over the same points."""
    torch.manual_seed(1)
    flow = stirred(flows.Flow([flows.Planar(1), flows.Planar(1)], 1))
    p = GaussianMixture(torch.tensor([0.3, 0.7]), torch.tensor([-1.0, 1.5]), torch.tensor([0.6, 0.8]))
    x = torch.linspace(-9, 9, 20_001, dtype=torch.float64)[:, None]
    with torch.no_grad():
        z, log_det = flow.transform(x)
        log_p, log_q = p.log_prob(x[:, 0]), flow.log_prob(x)
    in_x = torch.trapezoid(log_p.exp() * (log_p - log_q), x[:, 0])
    log_image = log_p - log_det  # of z = f(x)
    in_z = torch.trapezoid(log_image.exp() * (log_image - Normal(0, 1).log_prob(z[:, 0])), z[:, 0])
    assert in_x == pytest.approx(in_z.item(), abs=1e-6) and in_x > 0.01


def test_bayes_rule_with_a_flow_for_each_class():
    """Two Gaussians by a context-dependent shift: the posterior of the classes is that of the mixture."""

    class Shifted(flows.Layer):
        def forward(self, x, context=None):
            return (x - 4 * context[:, 1:]) / 2, x.new_full((len(x),), -math.log(2))

    x = draw(6, 1) * 3
    posterior = flows.class_log_probs(flows.Flow([Shifted()], 1), x, 2).softmax(1)
    mixture = GaussianMixture(torch.tensor([0.5, 0.5]), torch.tensor([0.0, 4.0]), torch.tensor([2.0, 2.0]))
    torch.testing.assert_close(posterior, mixture.responsibilities(x[:, 0]))


def test_reverse_kl_training_lowers_it():
    torch.manual_seed(0)
    flow = flows.Flow([flows.ElementwiseAffine(2), flows.LULinear(2)], 2)
    optimiser, generator = torch.optim.Adam(flow.parameters(), 0.1), rng()
    target = MultivariateNormal(torch.tensor([1.0, -2.0]), torch.tensor([[2.0, 0.8], [0.8, 1.0]]))
    for _ in range(150):
        loss = flows.reverse_kl(flow, target.log_prob, 256, generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert abs(loss.item()) < 0.02  # the family holds the target: KL 0


# Starts and bounds ----------------------------------------------------------------------------------------------------


def test_actnorm_starts_from_its_first_batch_and_from_no_other():
    layer, x = flows.ActNorm(3), draw(64, 3, 2, 2).float() * torch.tensor([1.0, 5.0, 0.1])[:, None, None] + 7
    z, _ = layer(x)
    assert z.mean((0, 2, 3)).abs().max() < 1e-4
    torch.testing.assert_close(z.std((0, 2, 3)), torch.ones(3), rtol=1e-3, atol=0)
    before = [p.clone() for p in layer.parameters()]
    layer(2 * x)
    assert all(torch.equal(a, b) for a, b in zip(before, layer.parameters(), strict=True))
    again = flows.ActNorm(3)
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again(2 * x)[0], layer(2 * x)[0])


def test_a_planar_layer_is_invertible_whatever_its_parameters():
    for seed in range(50):
        layer = stirred(flows.Planar(2), 5.0, seed)
        assert layer.w @ layer.u_hat() > -1 - 1e-12
    with torch.no_grad():  # divided by ‖w‖ in place of ‖w‖² the condition is broken
        layer.w.copy_(torch.tensor([0.5, 0.0]))
        layer.u.copy_(torch.tensor([-4.0, 0.0]))
        a = layer.w @ layer.u
        wrong = layer.u + (nn.functional.softplus(a) - 1 - a) * layer.w / layer.w.norm()
    assert layer.w @ layer.u_hat() > -1 > layer.w @ wrong


def test_the_determinant_of_a_linear_layer_may_be_negative():
    w = torch.tensor([[0.0, 2.0], [1.0, 0.5]], dtype=torch.float64)  # det = -2: its logarithm is not a number
    layer = flows.LULinear(2, w).double()
    torch.testing.assert_close(layer.matrix().detach(), w)
    assert torch.logdet(w).isnan()
    assert layer(draw(3, 2))[1].tolist() == pytest.approx([math.log(2)] * 3)


def test_reflections_are_orthogonal_and_the_qr_layer_is_theirs_at_first():
    q = flows.reflections(draw(4, 4))
    torch.testing.assert_close(q @ q.T, torch.eye(4, dtype=torch.float64))
    torch.manual_seed(0)
    assert flows.QRLinear(4).double()(draw(3, 4))[1].abs().max() == 0


def test_root_solves_and_differentiates():
    y = torch.tensor([0.3, -2.0], dtype=torch.float64, requires_grad=True)
    x = flows.root(lambda v: (v.sinh(), v.cosh().log()), y, y - 5, y + 5)
    torch.testing.assert_close(x, y.asinh())
    (slope,) = torch.autograd.grad(x.sum(), y)
    torch.testing.assert_close(slope, 1 / (1 + y**2).sqrt())


def test_root_converges_where_newton_alone_runs_away():
    calls = []

    def f(v):  # Newton's steps for atan(v) = y diverge from |v| > 1.4
        calls.append(v)
        return v.atan(), -(1 + v**2).log()

    y = torch.linspace(-1.5, 1.5, 31, dtype=torch.float64)
    x = flows.root(f, y, torch.full_like(y, -300.0), torch.full_like(y, 200.0))
    torch.testing.assert_close(x, y.tan())
    assert len(calls) < 30


# Bad input ------------------------------------------------------------------------------------------------------------


class Overflowing(flows.Layer):
    def forward(self, x, context=None):
        return x * math.inf, x.new_zeros(len(x))

    inverse = forward


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_a_state_that_blows_up_names_its_layer(direction):
    inner = flows.Composition([flows.ElementwiseAffine(2), Overflowing()])
    layers = flows.Composition([flows.ElementwiseAffine(2), flows.Permutation([1, 0]), inner])
    with pytest.raises(FloatingPointError, match=rf"layer 1 of 2, Overflowing.*: its {direction} leaves .* not finite"):
        getattr(layers, direction)(draw(3, 2) + 9)
    flow = flows.Flow([flows.Permutation([1, 0]), flows.ElementwiseAffine(2)], 2)
    with torch.no_grad():
        flow.transform.layers[1].log_scale.fill_(1e3)
    with pytest.raises(FloatingPointError, match="layer 1 of 2, ElementwiseAffine"):
        flow.log_prob(torch.ones(2, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: flows.LULinear(2, torch.ones(2, 2)), "singular: it has rank 1, and 2 is needed"),
        (lambda: flows.LULinear(2, torch.ones(2, 3)), r"shape \(2, 3\); allowed: \(2, 2\)"),
        (lambda: flows.Permutation([0, 0, 1]), r"order = \[0, 0, 1\]; each of 0 to 2 once"),
        (lambda: flows.Sylvester(2, 3), "rank = 3; allowed: 1 to the dimension, 2"),
        (lambda: flows.Composition([]), "at least 1 is needed"),
        (lambda: flows.Flow([flows.Permutation([0])], 0), "dim = 0"),
        (lambda: flows.ActNorm(2)(torch.ones(1, 2)), "a batch of 1; at least 2"),
        (
            lambda: flows.Composition([flows.ElementwiseAffine(1)])(torch.tensor([[math.nan]])),
            "remove them from the data",
        ),
    ],
)
def test_bad_input_names_the_remedy(make, message):
    with pytest.raises(ValueError, match=message):
        make()

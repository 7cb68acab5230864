"""Lecture 4's couplings and autoregressive flows against autograd's Jacobians, quadrature and tables."""

import itertools
import math
import sys
from pathlib import Path

import pytest
import torch

from course_utils import flow_couplings as fc
from course_utils.flows import class_log_probs
from course_utils.training import fit

sys.path.insert(0, str(Path(__file__).parent))
from flow_cases import check_layer, draw, log_dets, mass, rng, stirred  # noqa: E402

TRANSFORMS = {
    "additive": fc.Additive(),
    "affine": fc.Affine(),
    "affine, free": fc.Affine(math.inf),
    "mixture": fc.MixtureCDF(3),
    "spline": fc.Spline(5, 3.0),
}
MASK = torch.tensor([True, False, True, False, False])


def coupling(transform, dim, context=0, swap=False):
    stays, moves = (dim // 2, (dim + 1) // 2) if swap else ((dim + 1) // 2, dim // 2)
    return fc.Coupling(transform, fc.mlp(stays + context, moves * transform.n, [8]), swap)


LAYERS = {
    "coupling": lambda t: coupling(t, 5, 2),
    "coupling, swapped": lambda t: coupling(t, 5, 2, swap=True),
    "masked": lambda t: fc.MaskedCoupling(MASK, t, fc.mlp(7, 5 * t.n, [8])),
    "autoregressive": lambda t: fc.Autoregressive(t, fc.MADE(5, t.n, [12], context=2)),
    "transformer": lambda t: fc.Autoregressive(t, fc.CausalTransformer(5, t.n, width=8, heads=2, depth=1, context=2)),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("name", LAYERS)
def test_layer(name, transform):
    torch.manual_seed(0)
    check_layer(stirred(LAYERS[name](TRANSFORMS[transform])), 1.5 * draw(3, 5), draw(3, 2, seed=1))


# Maps of one number ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_increases_with_the_slope_that_it_tells(name):
    transform, x = TRANSFORMS[name], torch.linspace(-6, 6, 20_001, dtype=torch.float64).expand(2, -1)
    params = draw(2, transform.n, 1).expand(-1, -1, 20_001)
    z, log_slope = transform.forward(x, params)
    assert (z.diff() > 0).all()
    middle = (log_slope[:, 1:].exp() + log_slope[:, :-1].exp()) / 2  # the trapezoidal rule gives the rise
    torch.testing.assert_close(z.diff(), middle * x.diff(), rtol=0, atol=1e-5)
    back, back_slope = transform.inverse(z, params)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-9)
    torch.testing.assert_close(back_slope, -log_slope, rtol=0, atol=1e-8)


def test_the_mixture_is_that_of_logistic_distributions():
    """Against torch.distributions: logit F(x) + x/20, where nothing else is asked of the affine map behind it."""
    transform, params, x = fc.MixtureCDF(3), draw(1, 11, 1), torch.linspace(-3, 3, 7, dtype=torch.float64)[None]
    params[:, 9:] = 0
    weights, means, scales = params[0, :9, 0].split(3)
    means, scales = means + torch.tensor([-2.0, 0.0, 2.0]), (3 * (scales / 3).tanh()).exp()
    cdf = (weights.softmax(0) * ((x[0, :, None] - means) / scales).sigmoid()).sum(1)
    z, _ = transform.forward(x, params.expand(-1, -1, 7))
    torch.testing.assert_close(z[0], cdf.logit() + x[0] / 20)


def test_the_mixture_is_exact_in_its_tails_and_inverts_between_far_modes():
    transform = fc.MixtureCDF(2)
    params = torch.zeros(1, 8, 1)
    params[:, 2], params[:, 3], params[:, 4:6] = -3.0, 3.0, -6.0  # two narrow modes, hardly a density between them
    x = torch.tensor([[-200.0, -5.0, -1.0, 0.0, 0.5, 5.0, 200.0]])
    z, log_slope = transform.forward(x, params.expand(-1, -1, 7))
    assert z.isfinite().all() and log_slope.isfinite().all() and (z.diff() > 0).all()
    back, _ = transform.inverse(z, params.expand(-1, -1, 7))
    assert ((back - x).abs() / x.abs().clamp(min=1)).max() < 1e-4


def test_a_spline_is_the_identity_at_first_and_outside_its_limit():
    spline, x = fc.Spline(6, 2.0), torch.linspace(-5, 5, 101, dtype=torch.float64)[None]
    for params, where in ((torch.zeros(1, 17, 101), x.abs() < 9), (draw(1, 17, 101), x.abs() >= 2)):
        z, log_slope = spline.forward(x, params.double())
        torch.testing.assert_close(z[where], x[where])
        assert log_slope[where].abs().max() < 1e-9


def test_splines_pass_through_their_knots_with_their_slopes():
    """Durkan et al. (2019), equation 4, from the parameters by their definition."""
    spline, params = fc.Spline(4, 3.0), draw(1, 11, 1)
    shares = [0.001 + (1 - 4 * 0.001) * params[0, i : i + 4, 0].softmax(0) for i in (0, 4)]
    x, y = (6 * share.cumsum(0)[:-1] - 3 for share in shares)
    slopes = 0.001 + torch.nn.functional.softplus(params[0, 8:, 0] + math.log(math.e**0.999 - 1))
    z, log_slope = spline.forward(x[None], params.expand(-1, -1, 3))
    torch.testing.assert_close(z[0], y)
    torch.testing.assert_close(log_slope[0].exp(), slopes)


def test_log_scales_are_bounded_unless_they_are_to_be_free():
    x, params = torch.ones(1, 1), torch.full((1, 2, 1), 50.0)
    assert fc.Affine(2.0).forward(x, params)[1].item() == pytest.approx(2.0)
    assert fc.Affine(math.inf).forward(x, params)[1].item() == 50


def test_a_flow_first_used_in_inference_mode_can_be_trained_later():
    """A bound that no other test has: the number is made a tensor when it is first needed."""
    flow = fc.realnvp(2, 2, [4], bound=2.625)
    with torch.inference_mode():
        flow.log_prob(torch.ones(3, 2))
    flow.log_prob(torch.ones(3, 2)).mean().backward()
    assert flow.transform.layers[0].network[-1].bias.grad.any()


# Structure ------------------------------------------------------------------------------------------------------------


def test_a_coupling_is_triangular_and_moves_each_number_once():
    """Half of the numbers stay and half move: ranges 1:d and d:m, which share number d, would not add up to m."""
    torch.manual_seed(0)
    layer, x = stirred(coupling(fc.Affine(), 5)), draw(1, 5)
    matrix = torch.autograd.functional.jacobian(lambda v: layer(v)[0][0], x)[:, 0]
    assert torch.equal(matrix[:3], torch.eye(5, dtype=torch.float64)[:3])
    assert matrix[3:, 3:].count_nonzero() == 2 and (matrix[3:, :3] != 0).all()


NETWORKS = {
    "made": lambda n, context: fc.MADE(4, n, [16, 16], context),
    "transformer": lambda n, context: fc.CausalTransformer(4, n, width=8, heads=2, context=context),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_each_number_depends_on_all_before_it_and_on_no_other(name):
    torch.manual_seed(0)
    network, x, context = stirred(NETWORKS[name](2, 3)), draw(1, 4), draw(1, 3, seed=1)
    matrix = torch.autograd.functional.jacobian(lambda v: network(v, context)[0], x)[:, :, 0]  # (n, D, D)
    assert torch.equal(matrix != 0, torch.ones(4, 4).tril(-1).bool().expand(2, 4, 4))
    matrix = torch.autograd.functional.jacobian(lambda c: network(x, c)[0], context)
    assert (matrix != 0).all()  # of the first number, too


def test_a_transformer_over_blocks_sees_only_earlier_blocks():
    torch.manual_seed(0)
    network = stirred(fc.CausalTransformer(6, 1, block=2, width=8, heads=2))
    matrix = torch.autograd.functional.jacobian(lambda v: network(v)[0, 0], draw(1, 6))[:, 0]
    blocks = torch.arange(6) // 2
    assert torch.equal(matrix != 0, blocks[:, None] > blocks)


def test_made_with_fewer_units_than_numbers_lets_none_out():
    torch.manual_seed(0)
    network = stirred(fc.MADE(9, 1, [5]))
    matrix = torch.autograd.functional.jacobian(lambda v: network(v)[0, 0], draw(1, 9))[:, 0]
    assert not matrix.triu().any() and (matrix[-1] != 0).sum() >= 7


@pytest.mark.parametrize("name", NETWORKS)
def test_an_autoregressive_model_of_bits_is_a_table(name):
    torch.manual_seed(0)
    model = stirred(fc.AutoregressiveBernoulli(NETWORKS[name](1, 0), 4), 1.0)
    table = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)), dtype=torch.float64)
    p = model.log_prob(table).exp().detach()
    assert p.sum().item() == pytest.approx(1, abs=1e-9) and p.std() > 0.01
    x = model.sample(20_000, rng())
    counts = (x @ torch.tensor([8.0, 4.0, 2.0, 1.0], dtype=torch.float64)).long().bincount(minlength=16)
    assert ((counts / 20_000 - p).abs() < 4.5 * (p * (1 - p) / 20_000).sqrt()).all()


# Flows ----------------------------------------------------------------------------------------------------------------

FLOWS = {
    "nice": lambda d: fc.nice(d, 4, [8]),
    "realnvp": lambda d: fc.realnvp(d, 4, [8]),
    "spline": lambda d: fc.spline_flow(d, 3, [8]),
    "mixture": lambda d: fc.coupling_flow(d, fc.MixtureCDF(3), 2, [8], mix=True),
    "maf": lambda d: fc.maf(d, 3, [8]),
    "iaf": lambda d: fc.iaf(d, 3, [8]),
    "autoregressive spline": lambda d: fc.autoregressive_flow(d, fc.Spline(), 2, [8]),
    "transformer": lambda d: fc.transformer_flow(d, 1, 2, width=8, depth=1),
}
ONE = ("maf", "iaf", "autoregressive spline", "transformer")  # those that work in one dimension


@pytest.mark.parametrize(("name", "dim"), [*itertools.product(FLOWS, [2]), *itertools.product(ONE, [1])])
def test_densities_integrate_to_one(name, dim):
    torch.manual_seed(1)
    flow = stirred(FLOWS[name](dim), 0.1)
    assert mass(flow.log_prob, 12, 300 if dim == 2 else 3000, dim) == pytest.approx(1, abs=5e-4)


@pytest.mark.parametrize("name", FLOWS)
def test_samples_come_with_their_own_log_density(name):
    torch.manual_seed(0)
    flow = stirred(FLOWS[name](4), 0.2)
    x, log_prob = flow.rsample(10, rng())
    torch.testing.assert_close(log_prob, flow.log_prob(x), rtol=0, atol=1e-7)
    torch.testing.assert_close(flow.terms(x)[1], log_dets(flow.transform, x.detach()), rtol=0, atol=1e-8)
    single = flow.float()
    with torch.no_grad():
        back, _ = single.transform.inverse(single.transform(x.float())[0])
    assert (back - x.float()).abs().max() < 1e-4


def test_the_fast_direction_of_a_flow_takes_one_pass():
    """Passes of the networks: MAF's density 1 and samples D a layer, IAF's the other way round."""
    passes = {}
    for name, make in (("maf", fc.maf), ("iaf", fc.iaf)):
        flow, count = make(5, 2, [8]), [0]
        for module in flow.modules():
            if isinstance(module, fc.MADE):
                module.register_forward_hook(lambda *_, count=count: count.__setitem__(0, count[0] + 1))
        flow.log_prob(torch.zeros(3, 5))
        density, count[0] = count[0], 0
        flow.sample(3, rng())
        passes[name] = density, count[0]
    assert passes == {"maf": (2, 10), "iaf": (10, 2)}


def test_a_conditional_spline_flow_learns_where_each_class_is():
    """Two classes on a line apart by 4: after 60 steps Bayes' rule tells most points."""
    torch.manual_seed(0)
    flow, y = fc.spline_flow(2, 2, [16], context=2), torch.arange(400) % 2
    x = draw(400, 2).float() * 0.5 + torch.where(y[:, None] == 0, -1.5, 1.5)
    one_hot = torch.eye(2)[y]
    fit(lambda i: -flow.log_prob(x[i], one_hot[i]).mean(), flow, 400, generator=rng(), steps=60, lr=2e-2, label=None)
    assert (class_log_probs(flow, x, 2).argmax(1) == y).float().mean() > 0.95


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fc.MaskedCoupling(torch.ones(3), fc.Affine(), None), "dtype torch.float32; torch.bool is needed"),
        (lambda: fc.MaskedCoupling(torch.ones(3).bool(), fc.Affine(), None), "is True everywhere"),
        (lambda: fc.MaskedCoupling(torch.zeros(3).bool(), fc.Affine(), None), "is False everywhere"),
        (lambda: fc.MaskedCoupling(MASK, fc.Affine(), None)(torch.ones(2, 4)), r"shape \(4,\), its mask \(5,\)"),
        (lambda: coupling(fc.Affine(), 5)(torch.ones(2, 1)), "x .* has one channel; a coupling needs two halves"),
        (lambda: fc.realnvp(1), "couplings need dim >= 2"),
        (lambda: fc.Affine(0.0), "bound = 0.0; it must be positive"),
        (lambda: fc.Spline(1), "bins = 1; allowed: 2 to 999"),
        (lambda: fc.Spline(4, -1.0), "limit = -1.0"),
        (lambda: fc.MixtureCDF(0), "components = 0"),
        (lambda: fc.MADE(0, 1), "dim = 0, n = 1"),
        (lambda: fc.MADE(3, 1, []), "at least one hidden layer"),
        (lambda: fc.CausalTransformer(5, 1, block=2), "block = 2; it must divide the dimension, 5"),
        (lambda: fc.CausalTransformer(4, 1, width=10, heads=4), "heads = 4; it must divide the width, 10"),
        (lambda: fc.Autoregressive(fc.Affine(), fc.MADE(3, 1)), "gives 1 parameters a number; 2 are needed"),
        (lambda: fc.in_turns([], 2), "layers = 0"),
    ],
)
def test_bad_input_names_the_remedy(make, message):
    with pytest.raises(ValueError, match=message):
        make()

"""Lecture 4's flows of images: layers, dequantisation, the ledger and bits per dimension against exact values."""

import math
import sys
from pathlib import Path

import pytest
import torch
from torch.distributions import Normal

from course_utils import flow_images as fi
from course_utils import flows
from course_utils.flow_couplings import Affine, Coupling, MaskedCoupling, MixtureCDF

sys.path.insert(0, str(Path(__file__).parent))
from flow_cases import check_layer, draw, log_dets, rng, stirred  # noqa: E402


def net(n_in: int, n_out: int) -> fi.ConvNet:
    return fi.ConvNet(n_in, n_out, 4, width=4, depth=1)


LAYERS = {
    "squeeze": lambda: fi.Squeeze(),
    "flatten": lambda: fi.Flatten((4, 4, 4)),
    "split": lambda: fi.Split(flows.Composition([*fi.blocks(1, 2, 4, 4, 2), fi.Flatten((2, 4, 4))]), (4, 4, 4)),
    "channel coupling": lambda: Coupling(MixtureCDF(2), net(2, 2 * 8)),
    "checkerboard coupling": lambda: MaskedCoupling(fi.checkerboard(4, 4, 4), Affine(), net(4, 4 * 2)),
    "block": lambda: flows.Composition(fi.blocks(1, 4, 4, 4, 2)),
    "sigmoid": lambda: fi.Sigmoid(),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name):
    torch.manual_seed(0)
    check_layer(stirred(LAYERS[name]()), draw(3, 4, 4, 4))


def test_the_logit_is_a_layer_on_zero_to_one():
    check_layer(fi.Logit(), draw(3, 1, 4, 4).sigmoid())
    edge, log_det = fi.Logit()(torch.tensor([[0.0, 1.0]]))
    assert edge.isfinite().all() and log_det.isfinite().all()


def test_the_squeeze_makes_channels_of_squares():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    z, _ = fi.Squeeze()(x)
    assert z.shape == (1, 4, 2, 2) and z[0, :, 0, 0].tolist() == [0, 1, 4, 5]


def test_what_is_split_off_goes_past_the_inner_layers():
    split = fi.Split(flows.Composition([flows.ElementwiseAffine(1), fi.Flatten((1, 2, 2))]), (2, 2, 2))
    with torch.no_grad():
        split.inner.layers[0].log_scale.fill_(math.log(3))
    x = torch.ones(1, 2, 2, 2)
    z, log_det = split(x)
    assert z.tolist() == [pytest.approx([3.0] * 4 + [1.0] * 4)] and log_det.item() == pytest.approx(4 * math.log(3))


def test_the_networks_of_couplings_begin_at_zero_and_know_their_place():
    torch.manual_seed(0)
    network = net(2, 6)
    assert not network(torch.ones(1, 2, 4, 4)).any()
    out = stirred(network)(torch.ones(1, 2, 4, 4, dtype=torch.float64))
    assert out[0, 0].std() > 0.01  # of an even image


# From grey levels to real numbers -------------------------------------------------------------------------------------


def test_the_noise_fills_the_levels_without_a_gap():
    """u / 256 added to level / 255 would leave gaps: here the upper end of each step is the lower end of the next."""
    model = fi.ImageFlow([fi.Flatten((1, 16, 16)), flows.ElementwiseAffine(256)], 16)
    x = torch.arange(256.0)[None] / 255
    y, log_q = model.dequantise(x, rng())
    assert torch.equal((y * 256).floor().flatten(), torch.arange(256.0)) and log_q.item() == 0
    assert y.min() >= 0 and y.max() <= 1
    at = torch.stack([model.dequantise(x, rng(s))[0].flatten() for s in range(200)]) * 256 % 1
    assert at.mean().item() == pytest.approx(0.5, abs=4 * 0.29 / at.numel() ** 0.5)
    assert at.min() < 0.01 and at.max() > 0.99


def one_pixel(mu: float = -0.5, sigma: float = 1.5, levels: int = 4) -> fi.ImageFlow:
    """A flow of images of one pixel: its logit is normal."""
    model = fi.ImageFlow([fi.Flatten((1, 1, 1)), flows.ElementwiseAffine(1)], 1, levels).double()
    with torch.no_grad():
        model.flow.transform.layers[1].shift.fill_(-mu)
        model.flow.transform.layers[1].log_scale.fill_(-math.log(sigma))
    return model


def exact_probability(level: int, mu: float = -0.5, sigma: float = 1.5, levels: int = 4) -> float:
    """P(level): what a normal distribution gives to the logits between its ends."""
    ends = (1e-5 + (1 - 2e-5) * torch.tensor([level, level + 1], dtype=torch.float64) / levels).logit()
    low, high = Normal(mu, sigma).cdf(ends)
    return (high - low).item()


def test_bits_are_a_bound_that_rises_to_the_probability_of_the_level():
    """P = E_u exp(total), and E log is below log E. Within four standard errors; Jensen's gap is not small here."""
    model = one_pixel()
    for level in range(4):
        exact = exact_probability(level)
        x = torch.full((20_000, 1), level / 3, dtype=torch.float64)
        total = model.ledger(x, rng()).total
        weights = total.exp()
        assert weights.mean().item() == pytest.approx(exact, abs=4 * weights.std().item() / 20_000**0.5)
        bounds = [fi.evaluate_bits(model, x[: 20_000 // k], rng(), k).mean().item() for k in (1, 8, 64)]
        assert bounds[0] > bounds[1] > bounds[2] > -math.log2(exact) - 1e-3
    assert sum(map(exact_probability, range(4))) == pytest.approx(1, abs=1e-4)  # but for the tails beyond alpha


def test_the_ledger_counts_every_jacobian():
    """Against autograd's log |det| of the whole way from a level and its noise to z, and the noise's own density."""
    torch.manual_seed(0)
    model = fi.multi_scale(4, 17, widths=(4, 4), components=2, noise_width=4)
    x = torch.randint(17, (2, 16), generator=rng()) / 16
    model.ledger(x, rng())  # actnorm starts
    model, x = stirred(model, 0.1), x.double()
    y, log_q = (v.detach() for v in model.dequantise(x, rng()))

    def whole(levels, context=None):
        return model.flow.transform(model.logit(levels / 17)[0])

    ledger = model.ledger(x, rng())
    base = Normal(0, 1).log_prob(whole(17 * y)[0]).sum(1)
    torch.testing.assert_close(ledger.base, base)
    torch.testing.assert_close(ledger.layers + ledger.logit + ledger.scale, log_dets(whole, 17 * y), rtol=0, atol=1e-7)
    torch.testing.assert_close(ledger.noise, -log_q)
    u = 17 * y - (x * 16).view(2, 1, 4, 4)
    assert u.min() > 0 and u.max() < 1
    torch.testing.assert_close(
        log_q, model.noise.log_prob(u, torch.nn.functional.pixel_unshuffle(x.view(2, 1, 4, 4), 2))
    )
    torch.testing.assert_close(fi.negative_log_prob(model, x, rng()), -ledger.total.mean() / (16 * math.log(2)))
    uniform = model.ledger(x, rng(), variational=False)
    assert not uniform.noise.any() and (uniform.base != ledger.base).all()


def test_uniform_pixels_cost_eight_bits():
    """A flow that makes the logit's image of uniform noise normal has nothing left to gain: one bit a doubling."""

    class Uniform(flows.Layer):
        def forward(self, x, context=None):
            p = x.sigmoid()
            z = Normal(0, 1).icdf(p)
            return z.flatten(1), (p.log() + (-p).log1p() - Normal(0, 1).log_prob(z)).flatten(1).sum(1)

    model = fi.ImageFlow([Uniform()], 2, 256).double()
    x = torch.randint(256, (200, 4), generator=rng()).double() / 255
    assert fi.evaluate_bits(model, x, rng()).mean().item() == pytest.approx(8, abs=1e-3)


def test_without_noise_the_likelihood_has_no_bound_and_with_it_there_is_one():
    """A pixel that is always black: the narrower the flow, the better, unless the levels are filled."""
    layer, x = flows.ElementwiseAffine(1), torch.zeros(4000, 1)
    flow, noisy = flows.Flow([layer], 1), torch.rand(4000, 1, generator=rng()) / 256
    bare, filled = [], []
    for log_scale in (5.0, 10.0, 20.0, 40.0):
        with torch.no_grad():
            layer.log_scale.fill_(log_scale)
            layer.shift.fill_(-1 / 512)
            filled.append(flow.log_prob(noisy).mean().item())
            layer.shift.fill_(0.0)
            bare.append(flow.log_prob(x).mean().item())
    assert bare == [pytest.approx(s - 0.919, abs=0.01) for s in (5, 10, 20, 40)]
    assert max(filled) <= math.log(256)


@pytest.fixture(scope="module")
def trained():
    """A small flow after 20 steps, its data, images all black or all of the second of four levels, and its losses."""
    torch.manual_seed(0)
    model = fi.multi_scale(4, 4, widths=(8, 8), components=2, noise_width=8)
    x = torch.randint(2, (128, 1), generator=rng()).expand(128, 16) / 3
    optimiser, generator, losses = torch.optim.Adam(model.parameters(), 1e-2), rng(), []
    for _ in range(20):
        loss = fi.negative_log_prob(model, x, generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return model, x, losses


def test_training_moves_noise_and_layers(trained):
    model, _, losses = trained
    assert losses[-1] < losses[0] - 0.5
    for module in (model.noise, model.flow):
        assert all(
            p.grad.abs().max() > 0 for n, p in module.named_parameters() if "upper" not in n and "lower" not in n
        )


def test_samples_are_grey_levels(trained):
    sample = trained[0].sample(6, rng())
    assert sample.shape == (6, 16) and sample.min() >= 0 and sample.max() <= 1
    torch.testing.assert_close(sample * 3, (sample * 3).round())


def test_the_round_trip_of_a_trained_flow_is_exact_in_single_precision(trained):
    assert trained[0].round_trip(trained[1], rng()) < 1e-4


def test_decoding_finds_the_image_that_the_noise_was_made_of(trained):
    model, x, _ = trained
    with torch.no_grad():
        z, _ = model.flow.transform(model.logit(model.dequantise(x, rng())[0])[0])
    assert (model.decode(z) - x).abs().max() < 1e-6


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fi.Squeeze()(torch.zeros(2, 1, 7, 8)), "7 × 8 pixels; both sides must be even"),
        (lambda: fi.Squeeze().inverse(torch.zeros(2, 3, 4, 4)), "3 channels; a multiple of 4"),
        (lambda: fi.Flatten((1, 4, 4))(torch.zeros(2, 4, 4)), r"shape \(4, 4\); allowed here: \(1, 4, 4\)"),
        (lambda: fi.Split(None, (3, 2, 2)), "3 channels; an even number"),
        (lambda: fi.Logit()(torch.tensor([[0.5, 1.25]])), r"from 0.5 to 1.25; allowed are those in \[0, 1\]"),
        (lambda: fi.Logit()(torch.tensor([[0.5, math.nan]])), r"from nan to nan; allowed are those in \[0, 1\]"),
        (lambda: fi.Logit(0.5), "alpha = 0.5"),
        (lambda: fi.multi_scale(14), "side = 14; a multiple of 4"),
        (lambda: fi.evaluate_bits(one_pixel(), torch.zeros(1, 1), rng(), 0), "k = 0"),
    ],
)
def test_bad_input_names_the_remedy(make, message):
    with pytest.raises(ValueError, match=message):
        make()

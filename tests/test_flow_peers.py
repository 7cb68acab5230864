"""Lecture 4's flows against zuko: the same weights give the same log-density. Needs the package zuko (test extra)."""

import math
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_utils import flow_couplings as fc

sys.path.insert(0, str(Path(__file__).parent))
from flow_cases import draw, stirred  # noqa: E402

zuko = pytest.importorskip("zuko", reason="zuko is not installed; it comes with the extra `test`")

UNBOUNDED = (
    math.inf
)  # of a slope: zuko then leaves log-scales, widths and heights as they are, as Affine(math.inf) does
Free = partial(zuko.transforms.MonotonicAffineTransform, slope=UNBOUNDED)
BASE = {"loc": torch.zeros(5, dtype=torch.float64), "scale": torch.ones(5, dtype=torch.float64)}


def by_number(rows: torch.Tensor) -> torch.Tensor:
    """Reorder an output layer's rows: ours are all s, then all t; zuko's t and s of each number in turn."""
    return torch.stack(rows.chunk(2)[::-1], 1).flatten(0, 1)


def take_over(theirs: nn.Sequential, ours: nn.Sequential) -> None:
    """Copy the weights of a network, and the masks of a masked one, in zuko's order of outputs."""
    pairs = [(a, b) for a, b in zip(theirs, ours, strict=True) if isinstance(b, nn.Linear)]
    for i, (a, b) in enumerate(pairs):
        order = by_number if i == len(pairs) - 1 else lambda rows: rows
        for name in ("weight", "bias", *(["mask"] if hasattr(b, "mask") else [])):
            getattr(a, name).data.copy_(order(getattr(b, name).data))


def zuko_flow(layers: list) -> nn.Module:
    base = zuko.lazy.UnconditionalDistribution(zuko.distributions.DiagNormal, **BASE, buffer=True)
    return zuko.lazy.Flow(layers, base)


def check_same(ours, theirs) -> None:
    """Compare log-densities, and where points go and come from."""
    x = 2 * draw(50, 5)
    log_prob = ours.log_prob(x)
    assert log_prob.std() > 0.5  # the points differ
    torch.testing.assert_close(theirs().log_prob(x), log_prob, rtol=0, atol=1e-10)
    z = theirs().transform(x)
    torch.testing.assert_close(z, ours.transform(x)[0], rtol=0, atol=1e-10)
    torch.testing.assert_close(theirs().transform.inv(z), x, rtol=0, atol=1e-8)


def test_realnvp_has_zukos_density():
    torch.manual_seed(0)
    ours, layers = stirred(fc.realnvp(5, 3, [16, 16], bound=math.inf), 0.2), []
    for i, coupling in enumerate(ours.transform.layers):
        stays = torch.arange(5) < 3
        layer = zuko.flows.GeneralCouplingTransform(
            5, mask=~stays if i % 2 else stays, univariate=Free, hidden_features=[16, 16], activation=nn.SiLU
        ).double()
        take_over(layer.hyper, coupling.network)
        layers.append(layer)
    check_same(ours, zuko_flow(layers))


def test_maf_has_zukos_density():
    torch.manual_seed(0)
    ours = stirred(fc.autoregressive_flow(5, fc.Affine(math.inf), 3, [16, 16]), 0.2)
    layers = []
    for part in ours.transform.layers:
        if isinstance(part, fc.Permutation):
            layers.append(
                zuko.lazy.UnconditionalTransform(zuko.transforms.PermutationTransform, part.order, buffer=True)
            )
        else:
            layer = zuko.flows.MaskedAutoregressiveTransform(
                5, univariate=Free, hidden_features=[16, 16], activation=nn.SiLU
            ).double()
            take_over(layer.hyper, part.network.layers)
            layers.append(layer)
    check_same(ours, zuko_flow(layers))


@pytest.mark.parametrize("bins", [2, 8])
def test_splines_are_zukos(bins):
    """zuko takes logits of the knots' distances and log-slopes: from our parameters by Durkan et al. (2019)."""
    spline, least = fc.Spline(bins, 3.0), 1e-3
    x, params = 2 * draw(40, 6), draw(40, spline.n, 6, seed=1)
    widths, heights, slopes = params.movedim(1, -1).split([bins, bins, bins - 1], -1)
    shares = [least + (1 - bins * least) * v.softmax(-1) for v in (widths, heights)]
    slopes = least + F.softplus(slopes + math.log(math.expm1(1 - least)))
    theirs = zuko.transforms.MonotonicRQSTransform(*(v.log() for v in (*shares, slopes)), bound=3.0, slope=UNBOUNDED)
    z, log_slope = spline.forward(x, params)
    assert (x.abs() > 3).any() and (z - x).abs().max() > 0.1
    for mine, other in zip((z, log_slope), theirs.call_and_ladj(x), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-9)
    torch.testing.assert_close(spline.inverse(x, params)[0], theirs.inv(x), rtol=0, atol=1e-9)

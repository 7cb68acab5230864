"""The references of lecture 1's exercises against independent truths, and wrong answers the checks catch unnamed."""

import math

import pytest
import scipy.stats
import torch

from course_utils.exercises.divergences import EXERCISES, check

UNNAMED = {  # wrong answers that no mistake of the exercise names
    "1.1": [lambda p, q: (p * (p / q).log()).sum(-1) / math.log(2)],  # nan where p = 0
    "1.4": [
        lambda mq, cq, mp, cp: 0.5 * (
            torch.linalg.solve(cp, cq).trace() - len(mq) + (mq - mp) @ torch.linalg.solve(cp, mq - mp)
            + torch.log(torch.det(cp) / torch.det(cq))
        ),  # underflows
    ],
    "1.5": [
        lambda x, w, mu, sigma, m, s, eps: (
            torch.distributions.Normal((m + s * eps) @ w.T + mu, sigma).log_prob(x).sum(-1)
            - (0.5 * (s**2 + m**2 - 1) - s.log()).mean(-1)
        ),  # mean over the latents
    ],
    "1.6": [
        lambda log_w: log_w.exp().mean(0).log(),  # underflows
        lambda log_w: (log_w - log_w.max()).exp().mean(0).log() + log_w.max(),  # one maximum for all examples
    ],
}  # fmt: skip


@pytest.mark.parametrize(("id", "wrong"), [(id, wrong) for id, wrongs in UNNAMED.items() for wrong in wrongs])
def test_unnamed_mistakes_fail(id, wrong, capsys):
    assert check(id, wrong) is EXERCISES[id].reference
    assert capsys.readouterr().out.startswith("✗")


def test_references_against_independent_truths():
    g = torch.Generator().manual_seed(3)
    p, q = torch.rand(2, 6, generator=g, dtype=torch.float64)
    p, q = p / p.sum(), q / q.sum()
    assert EXERCISES["1.1"].reference(p, q).item() == pytest.approx(scipy.stats.entropy(p, q, base=2))
    x = torch.randn(400_000, generator=g, dtype=torch.float64)
    target, proposal = torch.distributions.Normal(0.5, 0.7), torch.distributions.Normal(0.0, 1.0)
    log_p, log_q = target.log_prob(x), proposal.log_prob(x)
    terms = (log_p - log_q).exp() * (log_p - log_q)
    exact = torch.distributions.kl_divergence(target, proposal)
    assert abs(EXERCISES["1.2"].reference(log_p, log_q) - exact) < 4 * terms.std() / 400_000**0.5
    w, m, s = torch.tensor([0.2, 0.8]), torch.tensor([-1.0, 2.0]), torch.tensor([0.5, 1.5])
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(w), torch.distributions.Normal(m, s)
    )
    mu, sigma = EXERCISES["1.3"].reference(w, m, s)
    assert (mu.item(), sigma.item()) == pytest.approx((mixture.mean.item(), mixture.variance.sqrt().item()))


def test_leave_one_out_is_unbiased():
    """E of the sum of squares: gradient 2 mu; the baseline of the other samples must not shift it."""
    g = torch.Generator().manual_seed(4)
    mu, sigma = torch.tensor([0.5, -1.0], dtype=torch.float64), 0.7
    z = mu + sigma * torch.randn(20_000, 5, 2, generator=g, dtype=torch.float64)
    means = torch.stack([EXERCISES["1.7"].reference(s.square().sum(-1), s, mu, sigma).mean(0) for s in z])
    assert ((means.mean(0) - 2 * mu).abs() < 4 * means.std(0) / 20_000**0.5).all()

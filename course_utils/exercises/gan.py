"""The exercises of lecture 3: what the instant check and the grader share. Each is one block, from reference to hints.

A reference reads like a good answer, since `check.solution` shows it.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_utils import gan, metrics
from course_utils.densities import gaussian_log_prob
from course_utils.exercises.checking import Case, InstantCheck, Mistake, normal

check = InstantCheck()
EXERCISES = check.exercises

# 3.1 The best discriminator -----------------------------------------------------------------------------------------


def discriminator_of(log_p: Tensor, log_q: Tensor, share: float) -> Tensor:
    """Return the best D(x), (...), from the log densities of data and samples, (...) each."""
    return torch.sigmoid(log_p - log_q + math.log(share / (1 - share)))  # log odds of being real


def by_densities(log_p: Tensor, log_q: Tensor, share: float, small: float = 0.0) -> Tensor:
    """Return D from the densities themselves, with a small number under the line: wrong where they are rounded to 0."""
    real, generated = share * log_p.exp(), (1 - share) * log_q.exp()
    return real / (real + generated + small)


@check.exercise(
    "3.1",
    discriminator_of,
    points=2,
    own=("gan.optimal_discriminator",),
    hint="D* is the share of real points among all points at x; which function of their log odds is it? See hints 1 "
    "and 2.",
    mistakes=(
        Mistake(
            lambda log_p, log_q, share: gan.optimal_discriminator(log_p, log_q),
            "Your D does not use share: where both densities are equal, how many of the points are real?",
        ),
        Mistake(
            lambda log_p, log_q, share: discriminator_of(log_q, log_p, 1 - share),
            "This is the probability of being generated. D(x) is the probability of being real: which density belongs "
            "on top?",
        ),
        Mistake(
            lambda log_p, log_q, share: discriminator_of(log_p, log_q, 1 - share),
            "You gave real points the share of the generated ones.",
        ),
        Mistake(
            lambda log_p, log_q, share: share * gan.optimal_discriminator(log_p, log_q),
            "The share multiplies p, above and below the line; outside of the fraction even a certain point would have "
            "D < 1.",
        ),
        Mistake(
            lambda log_p, log_q, share: (log_p - log_q + math.log(share)).sigmoid(),
            "q has a share too: that of the generated points is 1 − share.",
        ),
        Mistake(
            lambda log_p, log_q, share: (log_p - log_q + share).sigmoid(),
            "You added the share to the log ratio; what belongs there is the logarithm of the shares' ratio.",
        ),
        *(
            Mistake(
                lambda log_p, log_q, share, odds=odds: (log_p - log_q).exp() * odds(share),
                "These are the odds p/q, which may exceed 1. D* is a probability: what share of the points at x is "
                "real?",
            )
            for odds in (lambda share: share / (1 - share), lambda share: 1.0)
        ),
        *(
            Mistake(
                lambda log_p, log_q, share, odds=odds: log_p - log_q + odds(share),
                "This is the logit of D*, the log of the odds. One function still has to be applied: see hint 2.",
            )
            for odds in (lambda share: math.log(share / (1 - share)), lambda share: 0.0)
        ),
        *(
            Mistake(
                lambda log_p, log_q, share, odds=odds: log_p / (log_p + odds(share) * log_q),
                "You put the log densities where the densities belong: log p is not p.",
            )
            for odds in (lambda share: (1 - share) / share, lambda share: 1.0)
        ),
        Mistake(
            lambda log_p, log_q, share: F.logsigmoid(log_p - log_q + math.log(share / (1 - share))),
            "This is the logarithm of D*, as it stands in the loss; D* itself is asked for.",
        ),
        Mistake(
            partial(by_densities, small=1e-12),
            "Where both densities are rounded to 0, no small number under the line brings back the share: only their "
            "logarithms still know it. See hint 1.",
        ),
        Mistake(
            lambda log_p, log_q, share: (log_p > log_q).double(),
            "This is a decision. D* says how sure one may be of it: what share of the points at x is real?",
        ),
    ),
)
def discriminator_cases(g: torch.Generator) -> list[Case]:
    """Two Gaussians, equal shares, densities far below and above what a float holds, far apart, outside a support."""
    x = torch.tensor([-2.0, 1.5, 3.0]).double() + 0.1 * normal(3, generator=g)
    log_p, log_q = gaussian_log_prob(x, 0.0, 1.0), gaussian_log_prob(x, 1.0, 2.0)
    nowhere = torch.full((3,), -torch.inf).double()
    few, most = (torch.tensor([0.1, 0.7]) + 0.2 * torch.rand(2, generator=g)).tolist()
    lost = "exp of these is 0 or ∞, and 0/0 and ∞/∞ are nan. Only the difference of the logarithms counts: see hint 1."
    apart = torch.stack([log_p, log_p - 1500]), torch.stack([log_q - 1500, log_q])
    return [
        Case("p = N(0, 1²), q = N(1, 2²), most points are real", (log_p, log_q, most)),
        Case("as many real as generated points", (log_p, log_q, 0.5)),
        Case("both log densities near −20,000", (log_p - 2e4, log_q - 2e4, few), lost),
        Case("both log densities near 20,000: narrow ones in many dimensions", (log_p + 2e4, log_q + 2e4, most), lost),
        Case("one density far above the other", (*apart, few)),
        Case("points that q never gives: its density is 0", (log_p, nowhere, few)),
        Case("points that p never gives", (nowhere, log_q, most)),
    ]


# 3.2 Both losses from logits ----------------------------------------------------------------------------------------


def losses(real_logits: Tensor, fake_logits: Tensor, smooth: float) -> tuple[Tensor, Tensor]:
    """Return the discriminator's and the generator's loss, () each, from logits (N,) and (M,)."""
    target = 1 - smooth  # of real examples only
    on_real = -target * F.logsigmoid(real_logits) - smooth * F.logsigmoid(-real_logits)
    on_fake = -F.logsigmoid(-fake_logits)  # log(1 - D) = log sigmoid(-l)
    return on_real.mean() + on_fake.mean(), -F.logsigmoid(fake_logits).mean()


def with_targets(real: Tensor, fake: Tensor, on_real: float, on_fake=0.0, wanted=1.0) -> tuple[Tensor, Tensor]:
    """Return the losses with the discriminator's targets on real and on generated examples, and the generator's."""
    return gan.discriminator_loss("non-saturating", real, fake, on_real, on_fake), gan.cross_entropy(fake, wanted)


def losses_over_all(real: Tensor, fake: Tensor, smooth: float) -> tuple[Tensor, Tensor]:
    """Return the losses with one mean over real and generated examples together."""
    n, m = len(real), len(fake)
    total = n * gan.cross_entropy(real, 1 - smooth) + m * gan.cross_entropy(fake, 0.0)
    return total / (n + m), losses(real, fake, smooth)[1]


def losses_summed(real: Tensor, fake: Tensor, smooth: float) -> tuple[Tensor, Tensor]:
    """Return the losses with sums over the examples for means."""
    n, m = len(real), len(fake)
    total = n * gan.cross_entropy(real, 1 - smooth) + m * gan.cross_entropy(fake, 0.0)
    return total, m * losses(real, fake, smooth)[1]


def losses_of_one_label(real_logits: Tensor, fake_logits: Tensor, smooth: float) -> tuple[Tensor, Tensor]:
    """Return the losses with the target's part (1 - smooth) log D alone of the real examples' cross-entropy."""
    on_real = -(1 - smooth) * F.logsigmoid(real_logits).mean()
    return on_real + gan.cross_entropy(fake_logits, 0.0), gan.cross_entropy(fake_logits, 1.0)


def losses_with_signs(signs: tuple[int, int], *args) -> tuple[Tensor, Tensor]:
    """Return each of the losses times a sign."""
    return tuple(sign * loss for sign, loss in zip(signs, losses(*args), strict=True))


def losses_by_probability(real_logits: Tensor, fake_logits: Tensor, smooth: float, small: float = 0.0):
    """Return the losses by the logarithm of the probabilities, plus a small number: off where they round to 0 or 1."""
    real, fake = real_logits.sigmoid(), fake_logits.sigmoid()
    on_real = (1 - smooth) * (real + small).log()
    on_real = on_real + torch.xlogy(torch.as_tensor(smooth).double(), 1 - real + small)  # 0 log 0 = 0
    return -on_real.mean() - (1 - fake + small).log().mean(), -(fake + small).log().mean()


def losses_clamped(real_logits: Tensor, fake_logits: Tensor, smooth: float) -> tuple[Tensor, Tensor]:
    """Return the losses by PyTorch's cross-entropy of probabilities, which ends every logarithm at -100."""
    real, fake = real_logits.sigmoid(), fake_logits.sigmoid()
    cost = F.binary_cross_entropy
    discriminator = cost(real, torch.full_like(real, 1 - smooth)) + cost(fake, torch.zeros_like(fake))
    return discriminator, cost(fake, torch.ones_like(fake))


@check.exercise(
    "3.2",
    losses,
    points=3,
    own=("gan.discriminator_loss", "gan.generator_loss", "gan.cross_entropy"),
    gradients=("real_logits", "fake_logits"),
    hint="write down the target of each of three cross-entropies: real examples, generated ones, and generated ones in "
    "the generator's loss. See hint 1.",
    mistakes=(
        Mistake(
            lambda real, fake, smooth: with_targets(real, fake, 1 - smooth, smooth),
            "You smoothed both sides. A positive target on generated examples rewards the generator where it already "
            "is: one side only.",
        ),
        Mistake(
            lambda real, fake, smooth: with_targets(real, fake, 1.0, smooth),
            "You smoothed the generated examples' target; it is the real ones' that is asked for.",
        ),
        Mistake(
            lambda real, fake, smooth: with_targets(real, fake, smooth),
            "You took smooth itself for the target of real examples; how much is to be taken away from 1?",
        ),
        Mistake(
            lambda real, fake, smooth: with_targets(real, fake, 1 - smooth, wanted=1 - smooth),
            "You smoothed the generator's target too; it concerns the discriminator on real examples only.",
        ),
        Mistake(
            lambda real, fake, smooth: losses(real, fake, 0.0),
            "Your losses do not use smooth: which target does it change, and does the other part of the cross-entropy "
            "still vanish?",
        ),
        Mistake(
            lambda real, fake, smooth: (losses(real, fake, smooth)[0], gan.generator_loss("minimax", fake)),
            "Your generator minimises log(1 − D), the saturating loss. The other one minimises −log D.",
        ),
        Mistake(losses_of_one_label, "With the target 1 − s the part s · log(1 − D) counts too."),
        Mistake(
            lambda real, fake, smooth: (losses(real, fake, smooth)[0], gan.cross_entropy(real, 1.0)),
            "Your generator's loss is taken on the real examples, on which it has no influence.",
        ),
        *(
            Mistake(
                partial(losses_with_signs, signs),
                "A sign is wrong: a cross-entropy is the mean of −log of a probability, so it is not negative.",
            )
            for signs in [(-1, -1), (-1, 1), (1, -1)]
        ),
        Mistake(
            lambda real, fake, smooth: with_targets(real, fake, 1 - smooth, wanted=0.0),
            "Your generator's loss falls when its examples are recognised. Which label does it want for them?",
        ),
        Mistake(
            lambda real, fake, smooth: (losses(real, fake, smooth)[0] / 2, losses(real, fake, smooth)[1]),
            "Your discriminator's loss is the mean of its two parts; their sum is asked for.",
        ),
        Mistake(
            losses_over_all,
            "You averaged over real and generated examples in one. Each set has its own mean; add the two.",
        ),
        *(
            Mistake(
                function,
                "These are sums over the examples; means are asked for, so that the batch size does not matter.",
            )
            for function in (
                losses_summed,
                lambda real, fake, smooth: (losses(real, fake, smooth)[0], losses_summed(real, fake, smooth)[1]),
                lambda real, fake, smooth: (losses_summed(real, fake, smooth)[0], losses(real, fake, smooth)[1]),
            )
        ),
        Mistake(
            lambda real, fake, smooth: with_targets(real, fake, 0.0, 1 - smooth),
            "Your discriminator learns to call generated examples real: look at its labels.",
        ),
        Mistake(
            lambda real, fake, smooth: losses(real, fake, smooth)[::-1],
            "Both losses are right and in the wrong order: the discriminator's comes first.",
        ),
        Mistake(
            losses_by_probability,
            "The logarithm of a probability that was rounded to 0 is infinite. Stay with logits: see hint 2.",
        ),
        Mistake(
            losses_clamped,
            "F.binary_cross_entropy ends every logarithm at −100: a sure discriminator that is wrong gets no gradient. "
            "Is there a variant that takes logits?",
        ),
        *(
            Mistake(
                partial(losses_by_probability, small=small),
                "A small number under the logarithm ends the loss where the discriminator is sure and wrong, and its "
                "gradient with it. Stay with logits: see hint 2.",
            )
            for small in (1e-6, 1e-7, 1e-8, 1e-10, 1e-12)
        ),
        Mistake(
            lambda real, fake, smooth: losses(real.sigmoid(), fake.sigmoid(), smooth),
            "You were given logits and treated probabilities like logits: a second logistic function is one too many.",
        ),
    ),
)
def losses_cases(g: torch.Generator) -> list[Case]:
    """Batches of different sizes with and without smoothing, a sure discriminator that is right or wrong."""
    real, fake = 1 + normal(5, generator=g), normal(3, generator=g) - 1
    many = normal(200, generator=g)
    sure = "The discriminator is sure here, D is rounded to 0 or 1, and its log is lost. Stay with logits: hint 2."
    return [
        Case("five real and three generated examples", (real, fake, 0.1)),
        Case("no smoothing", (real, fake, 0.0)),
        Case("strong smoothing, one real and 200 generated examples", (real[:1], many, 0.3)),
        Case("logits near ±300: a discriminator that is sure, and right", (300 + real, fake - 300, 0.1), sure),
        Case("logits near ±300: a discriminator that is sure, and wrong", (real - 300, 300 + fake, 0.1), sure),
    ]


# 3.3 Predict, then run ----------------------------------------------------------------------------------------------


def generator_gradients(fake_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the derivatives of log(1 - D) and of -log D by the logit, of the logits' shape."""
    saturating = -torch.sigmoid(fake_logits)  # of log(1 - sigmoid(l)) = log sigmoid(-l)
    non_saturating = -torch.sigmoid(-fake_logits)  # -(1 - sigmoid(l))
    return saturating, non_saturating


@check.exercise(
    "3.3",
    generator_gradients,
    points=2,
    hint="differentiate log(1 − sigmoid(l)) and −log sigmoid(l) by the chain rule: see hints 1 and 2.",
    mistakes=(
        Mistake(
            lambda logits: generator_gradients(logits)[::-1],
            "Both derivatives are right and in the wrong order: saturating first.",
        ),
        Mistake(
            lambda logits: tuple(-v for v in generator_gradients(logits)),
            "These are the directions of descent. The derivatives themselves have the other sign: both losses fall as "
            "the logit grows.",
        ),
        Mistake(
            lambda logits: (-logits.sigmoid(), (-logits).sigmoid()),
            "The second is the derivative of +log D. The generator minimises −log D: both of its losses fall as the "
            "logit grows.",
        ),
        Mistake(
            lambda logits: (-1 / (1 - logits.sigmoid()), -1 / logits.sigmoid()),
            "These are derivatives with respect to D. The logit is one step further in: apply the chain rule.",
        ),
        Mistake(
            lambda logits: (F.logsigmoid(-logits), -F.logsigmoid(logits)),
            "These are the losses; their derivatives are asked for.",
        ),
        Mistake(
            lambda logits: (-logits.sigmoid() * (-logits).sigmoid(),) * 2,
            "This is the derivative of −D. Where are the logarithms?",
        ),
        Mistake(
            lambda logits: tuple(v / logits.numel() for v in generator_gradients(logits)),
            "You differentiated the mean over the batch. Asked for is each example's own loss.",
        ),
        Mistake(
            lambda logits: (-logits.sigmoid(),) * 2,
            "The second is the first once more. What is the derivative of −log sigmoid(l), not of log(1 − sigmoid(l))?",
        ),
    ),
)
def generator_gradients_cases(g: torch.Generator) -> list[Case]:
    """A batch, a sure and a fooled discriminator, batches of other shapes.

    No logit beyond ±20: whoever lets autograd differentiate log(1 - sigmoid(l)) as it stands is right, too.
    """
    logits = torch.tensor([-4.0, -1.0, 0.5, 3.0]).double() + 0.2 * normal(4, generator=g)
    return [
        Case("four generated examples", (logits,)),
        Case("the discriminator rejects all of them", (logits - 12,)),
        Case("the discriminator is fooled by all of them", (logits + 12,)),
        Case("logits of shape (3, 1)", (normal(3, 1, generator=g),)),
        Case("logits of shape (2, 5)", (3 * normal(2, 5, generator=g),)),
    ]


# 3.4 Find the error -------------------------------------------------------------------------------------------------


class Critic(nn.Module):
    """A critic with one weight (H, D): x (B, D) gives the sum of tanh(weight x), or of weight x if linear, (B,)."""

    def __init__(self, weight: Tensor, linear: bool = False):
        super().__init__()
        self.weight, self.linear = nn.Parameter(weight), linear

    def forward(self, x: Tensor) -> Tensor:
        score = x @ self.weight.T
        return (score if self.linear else score.tanh()).sum(-1)

    def __repr__(self) -> str:
        formula = "x @ weight.T" if self.linear else "tanh(x @ weight.T)"
        return f"<critic: {formula}, summed over the last axis; weight of shape {tuple(self.weight.shape)}>"


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return the penalty, (), and its gradient by critic.weight: real, fake (B, D), t (B,)."""
    x = (1 - t[:, None]) * real + t[:, None] * fake  # Gulrajani et al. (2017), equation 3
    x.requires_grad_()
    (slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    penalty = (slope.norm(dim=-1) - 1).square().mean()
    return penalty, torch.autograd.grad(penalty, critic.weight)[0]


def between(real: Tensor, fake: Tensor, t: Tensor) -> Tensor:
    """Return (1 - t) real + t fake, (B, D), with a t for each pair: (B,)."""
    return torch.lerp(real, fake, t[:, None])


def penalised(
    critic: nn.Module,
    *args: Tensor,
    points: Callable[..., Tensor] = between,
    output: Callable[[Tensor], Tensor] = Tensor.sum,
    dim: int | None = -1,
    cost: Callable[[Tensor], Tensor] = lambda norms: (norms - 1).square().mean(),
) -> tuple[Tensor, Tensor]:
    """Return penalty and gradient with something else for the points (B, D) between real and generated examples, for
    what is differentiated, for the norm's axis (None: one norm of the whole batch) or for the cost of the norms (B,).
    """
    x = points(*args).requires_grad_()
    penalty = cost(torch.autograd.grad(output(critic(x)), x, create_graph=True)[0].norm(dim=dim))
    return penalty.detach(), torch.autograd.grad(penalty, critic.weight)[0]


def of_one_t(real: Tensor, fake: Tensor, t: Tensor) -> Tensor:
    """Return points (B, D) all at the first pair's t."""
    return torch.lerp(real, fake, t[0])


def with_slopes_left_over(critic: nn.Module, *args: Tensor) -> tuple[Tensor, Tensor]:
    """Return the penalty, and its gradient plus that of the scores, which a first .backward() leaves behind."""
    penalty, gradient = gradient_penalty(critic, *args)
    return penalty, gradient + torch.autograd.grad(critic(between(*args)).sum(), critic.weight)[0]


@check.exercise(
    "3.4",
    gradient_penalty,
    points=4,
    own=("gan.gradient_penalty",),
    hint="take her lines one by one: at which points, the gradient of what, the norm over which axis, and the mean of "
    "what? See hints 1 to 3.",
    mistakes=(
        Mistake(
            partial(penalised, points=of_one_t, output=Tensor.mean, dim=None),
            "The gradient now reaches the critic. Her three other mistakes are still in it.",
        ),
        Mistake(
            partial(penalised, points=of_one_t),
            "You used one t for the whole batch; every pair has its own. What shape of t does it? See hint 1.",
        ),
        Mistake(
            partial(penalised, points=torch.lerp),
            "t went along the numbers of an example instead of along the batch, without an error because there are as "
            "many of both. See hint 1.",
        ),
        Mistake(
            partial(penalised, points=lambda real, fake, t: between(fake, real, t)),
            "Your points are t·real + (1 − t)·fake. With t uniform it would be as good, but here t = 0 is the real "
            "example.",
        ),
        Mistake(
            partial(penalised, output=Tensor.mean, dim=None),
            "The points are right. The gradient is still that of a mean, and the norm one of the whole batch: see hint "
            "2.",
        ),
        Mistake(
            partial(penalised, output=Tensor.mean),
            "You differentiated the mean of the scores: each slope is B times too small. See hint 2.",
        ),
        Mistake(
            partial(penalised, dim=None),
            "You took one norm of the whole batch, so many gentle slopes look like a steep one. Each example has a "
            "slope of its own: see hint 2.",
        ),
        Mistake(
            partial(penalised, dim=0),
            "You took the norm over the batch; the numbers of one example lie along the last axis.",
        ),
        Mistake(
            partial(penalised, points=lambda real, fake, t: real),
            "Your slopes are those at the real examples; the penalty is taken between real and generated ones.",
        ),
        Mistake(
            partial(penalised, cost=lambda norms: (norms.mean() - 1).square()),
            "You averaged the slopes first, so steep and gentle ones cancel. Penalise each, then average.",
        ),
        Mistake(
            partial(penalised, cost=lambda norms: (norms.square() - 1).square().mean()),
            "You compare the squared length with 1; the length itself is asked for.",
        ),
        Mistake(
            partial(penalised, cost=lambda norms: (norms - 1).clamp(min=0).square().mean()),
            "You penalise only slopes above 1, the one-sided penalty. Here slopes below 1 cost as well.",
        ),
        Mistake(
            partial(penalised, cost=lambda norms: norms.square().mean()),
            "Your penalty pulls the slopes to 0: a flat critic has nothing to teach. What should they be?",
        ),
        Mistake(
            partial(penalised, cost=lambda norms: (norms - 1).abs().mean()),
            "You took the distance of the slope from 1 as it is; its square is asked for.",
        ),
        Mistake(
            partial(penalised, cost=lambda norms: (norms - 1).square().sum()),
            "This is the sum over the batch; the mean is asked for.",
        ),
        Mistake(
            lambda *args: (gradient_penalty(*args)[0], torch.zeros_like(args[0].weight)),
            "The penalty is right, its gradient is not zero. Does the slope still know that it depends on the critic? "
            "See hint 3.",
        ),
        Mistake(
            with_slopes_left_over,
            "To your gradient that of the scores is added: `.backward()` leaves it in critic.weight.grad. "
            "torch.autograd.grad leaves nothing anywhere.",
        ),
    ),
    errors=(
        (
            "element 0 of tensors does not require grad",
            "The penalty has forgotten that its slopes depend on the critic's weight, so it can't be differentiated by "
            "it. See hint 3.",
        ),
        (
            "differentiated Tensors does not require grad",
            "Autograd follows only what it was asked to follow: x.requires_grad_() before the critic sees x.",
        ),
        (
            "grad can be implicitly created only for scalar outputs",
            "torch.autograd.grad differentiates one number. Which one, made of all scores, gives every example its own "
            "slope? See hint 2.",
        ),
    ),
)
def penalty_cases(g: torch.Generator) -> list[Case]:
    """As many examples as numbers in each, many examples, a linear critic, one example, t at its ends."""
    t = torch.tensor([0.1, 0.5, 0.8]).double() + 0.1 * torch.rand(3, generator=g, dtype=torch.float64)
    gentle = 0.4 * F.normalize(normal(2, 3, generator=g), dim=-1)  # no slope above 0.8
    many = torch.rand(20, generator=g, dtype=torch.float64)
    ends = torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0]).double()

    def examples(*shape: int, apart: float = 0.0) -> tuple[Tensor, Tensor]:
        return normal(*shape, generator=g), apart + normal(*shape, generator=g)

    return [
        Case("three examples of three numbers", (Critic(gentle), *examples(3, 3, apart=2.0), t)),
        Case("20 examples of two numbers", (Critic(normal(4, 2, generator=g)), *examples(20, 2), many)),
        Case(
            "a linear critic: its slope is the same everywhere",
            (Critic(normal(1, 4, generator=g), linear=True), *examples(6, 4), many[:6]),
        ),
        Case("one example", (Critic(normal(3, 2, generator=g)), *examples(1, 2), many[:1])),
        Case("t is 0 or 1", (Critic(normal(3, 2, generator=g)), *examples(5, 2), ends)),
    ]


# 3.5 The largest singular value -------------------------------------------------------------------------------------


def spectral_norm(weight: Tensor, u: Tensor, iterations: int) -> Tensor:
    """Return an estimate of the largest singular value, (), of weight (m, n) from u (m,)."""
    for _ in range(iterations):  # Miyato et al. (2018), algorithm 1
        v = weight.T @ u
        v = v / v.norm()
        u = weight @ v
        u = u / u.norm()
    return u @ weight @ v


def power_iteration(weight: Tensor, u: Tensor, iterations: int, unit_u=True, unit_v=True) -> tuple[Tensor, Tensor]:
    """Return u (m,) and v (n,) after the rounds; either may be left without being brought to length 1."""
    for _ in range(iterations):
        v = weight.T @ u
        v = v / v.norm() if unit_v else v
        u = weight @ v
        u = u / u.norm() if unit_u else u
    return u, v


def estimate_without(weight: Tensor, u: Tensor, iterations: int, **units: bool) -> Tensor:
    """Return u^T W v from an iteration that does not normalise u, v or both."""
    u, v = power_iteration(weight, u, iterations, **units)
    return u @ weight @ v


def lagging(weight: Tensor, u: Tensor, iterations: int) -> Tensor:
    """Return u^T W v with the last v and the u of the round before."""
    u = power_iteration(weight, u, iterations - 1)[0] if iterations > 1 else u / u.norm()
    return (weight.T @ u).norm()


def ahead(weight: Tensor, u: Tensor, iterations: int) -> Tensor:
    """Return |W^T u| with the last u."""
    return (weight.T @ power_iteration(weight, u, iterations)[0]).norm()


def without_transpose(weight: Tensor, u: Tensor, iterations: int) -> Tensor:
    """Return u^T W v of rounds that use W twice; it must be square."""
    for _ in range(iterations):
        v = F.normalize(weight @ u, dim=0)
        u = F.normalize(weight @ v, dim=0)
    return u @ weight @ v


@check.exercise(
    "3.5",
    spectral_norm,
    points=3,
    own=("gan.largest_singular_value",),
    hint="one round: v from u by the transpose, u from v, both of length 1; the estimate only at the end.",
    mistakes=(
        Mistake(
            lambda weight, u, iterations: weight.norm(),
            "This is the Frobenius norm, which adds up all singular values' squares. The largest one alone is asked "
            "for.",
        ),
        Mistake(
            lambda weight, u, iterations: torch.linalg.eigvals(weight).abs().max(),
            "This is the largest eigenvalue. It says how much a vector grows that keeps its direction; others may grow "
            "more.",
        ),
        Mistake(
            without_transpose,
            "Your rounds apply W twice: that looks for eigenvectors. One of the two steps needs the transpose.",
        ),
        Mistake(
            lambda weight, u, iterations: torch.linalg.matrix_norm(weight, 2),
            "This is the exact value. In a network an approximation has to do, at each step: give the estimate after "
            "that many rounds.",
        ),
        Mistake(
            lambda weight, u, iterations: spectral_norm(weight, u, iterations).square(),
            "This is the square of the estimate: is the last u of length 1, or did you use W^T W?",
        ),
        Mistake(
            partial(estimate_without, unit_u=False, unit_v=False),
            "Your vectors grow from round to round, and the estimate with them. What length should they have?",
        ),
        Mistake(
            partial(estimate_without, unit_v=False), "Your v is not of length 1, so its length counts in the estimate."
        ),
        Mistake(lagging, "Your estimate pairs the last v with the u before it. Finish the round first."),
        Mistake(ahead, "This is |W^T u| with the last u, half a round on: pair the last u with the last v."),
        Mistake(
            lambda weight, u, iterations: spectral_norm(weight.T, u, iterations),
            "Your rounds run with W and its transpose exchanged: u has as many entries as W has rows.",
        ),
        Mistake(
            lambda weight, u, iterations: spectral_norm(weight, u, iterations + 1),
            "This is the estimate after one round more: a round makes v and then u, the given u is none.",
        ),
        Mistake(
            lambda weight, u, iterations: spectral_norm(weight, u, 1),
            "This is the estimate after one round: does each round start from the u of the one before?",
        ),
        Mistake(
            lambda weight, u, iterations: spectral_norm(weight, u, max(iterations - 1, 1)),
            "This is the estimate after one round less than was asked for.",
        ),
        Mistake(
            lambda weight, u, iterations: spectral_norm(weight, torch.ones_like(u), iterations),
            "Your rounds do not start from the given u.",
        ),
    ),
    errors=(
        (
            "size mismatch",
            "W is (m, n), u has m entries and v has n: which of the two does W multiply, and which its transpose?",
        ),
    ),
)
def spectral_norm_cases(g: torch.Generator) -> list[Case]:
    """Square, tall and wide matrices, one round, several and many, rank 1."""

    def matrix(m: int, n: int, *values: float) -> Tensor:
        """Return a random (m, n) with these singular values."""
        left, right = (torch.linalg.qr(normal(size, len(values), generator=g)).Q for size in (m, n))
        return left * torch.tensor(values).double() @ right.T

    grows = "Vectors that are not brought to length 1 in every round overflow after many of them."
    return [
        Case("a square matrix, one round", (matrix(4, 4, 3.0, 2.0, 1.0, 0.5), normal(4, generator=g), 1)),
        Case("6 × 3, five rounds", (matrix(6, 3, 2.0, 1.8, 1.5), normal(6, generator=g), 5)),
        Case("2 × 5, two rounds", (matrix(2, 5, 2.0, 1.0), normal(2, generator=g), 2)),
        Case("50 rounds: the largest singular value", (matrix(8, 3, 5.0, 1.0, 0.5), normal(8, generator=g), 50)),
        Case("rank 1: one round is enough", (matrix(5, 3, 4.0), normal(5, generator=g), 1)),
        Case("200 rounds of a large matrix", (matrix(3, 3, 300.0, 200.0, 50.0), normal(3, generator=g), 200), grows),
    ]


# 3.6 Moving earth on a line -----------------------------------------------------------------------------------------


def wasserstein_1d(x: Tensor, y: Tensor) -> Tensor:
    """Return the Wasserstein-1 distance, (), of two samples (n,) and (n,)."""
    return (x.sort().values - y.sort().values).abs().mean()  # cheapest paths never cross


@check.exercise(
    "3.6",
    wasserstein_1d,
    points=3,
    hint="which point should go to which, and how far is it? See hint 1.",
    mistakes=(
        Mistake(
            lambda x, y: (x - y).abs().mean(),
            "You moved each point to the one that happens to have its index. A cheaper pairing exists: see hint 1.",
        ),
        Mistake(
            lambda x, y: (x.sort().values - y.sort(descending=True).values).abs().mean(),
            "This is the dearest pairing: the leftmost point goes to the rightmost. Which one should it go to?",
        ),
        *(
            Mistake(function, "You sorted one of the samples only, so the other one's order decides who goes where.")
            for function in (
                lambda x, y: (x.sort().values - y).abs().mean(),
                lambda x, y: (x - y.sort().values).abs().mean(),
            )
        ),
        Mistake(
            lambda x, y: (x.sort().indices - y.sort().indices).abs().double().mean(),
            "You compared the places of the points in their lists. `.sort()` gives `.values` and `.indices`: which do "
            "you want?",
        ),
        Mistake(
            lambda x, y: (x.mean() - y.mean()).abs(),
            "This compares the means only: samples of different widths around one mean would be equal.",
        ),
        Mistake(
            lambda x, y: (x.sort().values - y.sort().values).square().mean(),
            "You squared the distances: that is the square of Wasserstein-2.",
        ),
        Mistake(
            lambda x, y: (x.sort().values - y.sort().values).square().mean().sqrt(),
            "This is Wasserstein-2. In Wasserstein-1 a path costs its length, not the square.",
        ),
        Mistake(
            lambda x, y: (x.sort().values - y.sort().values).abs().sum(),
            "This is the total distance; each point carries only the mass 1/n.",
        ),
        Mistake(
            lambda x, y: (x.sort().values - y.sort().values).mean(),
            "Paths to the left and to the right cancel in your mean. A distance has no sign.",
        ),
        Mistake(
            lambda x, y: (x.sort().values - y.sort().values).abs().max(),
            "This is the longest path (Wasserstein-∞); asked for is the mean.",
        ),
        Mistake(
            lambda x, y: (x[:, None] - y).abs().min(1).values.mean(),
            "Each point went to its nearest neighbour, so some y are used twice and others never. All mass has to "
            "arrive.",
        ),
        Mistake(
            lambda x, y: (x[:, None] - y).abs().mean(),
            "This is the mean over all pairs; it is positive even between a sample and itself.",
        ),
    ),
)
def wasserstein_cases(g: torch.Generator) -> list[Case]:
    """Overlapping samples, clumps, nearly a permuted copy, equal means, ties, one point each.

    In all but the last the distance exceeds that of the means.
    """
    x, y = normal(2, 10, generator=g)
    wide = x.mean() + 0.5 + 3 * (y - y.mean())  # its mean is the larger one, its range covers that of x
    sides = torch.tensor([1.0, -1.0]).double().repeat(5)
    stretched = x.clone()
    stretched[x.argmin()] -= 2
    stretched[x.argmax()] += 3
    mirrored = torch.cat([y, -y])
    return [
        Case("two samples, the second spread wider", (x, wide)),
        Case("two clumps each", (x + 10 * sides, y - 20 * sides)),
        Case(
            "the same points in another order, only the outermost moved",
            (x, stretched[torch.randperm(10, generator=g)]),
        ),
        Case("equal means, different widths", (mirrored, 3 * mirrored.flip(0))),
        Case("many ties", (mirrored.round(), (3 * mirrored).flip(0).round())),
        Case("one point each", (x[:1], y[:1])),
    ]


# 3.7 A running average ----------------------------------------------------------------------------------------------


class Duel(nn.Module):
    """Players of V = a · b: `weight` (2, n) holds a, which lowers V, and b, which raises it, by steps of `rate`."""

    def __init__(self, weight: Tensor, rate: float):
        super().__init__()
        self.weight, self.rate = nn.Parameter(weight), rate

    def play(self, steps: int):
        """Yield the weights (2, n) after each step, in turns: one tensor, into which the next step writes."""
        weights = self.weight.detach().clone()
        for _ in range(steps):
            weights[0] -= self.rate * weights[1]
            weights[1] += self.rate * weights[0]
            yield weights

    def __repr__(self) -> str:
        return f"<two players with {self.weight.shape[1]} weights each, steps of {self.rate:g}>"


def running_average(players: nn.Module, steps: int, decay: float) -> Tensor:
    """Return the average of the weights after each step, with shares proportional to decay^(steps - t)."""
    total, mass = 0.0, 0.0
    for weights in players.play(steps):
        total = decay * total + weights  # a new tensor: the next step writes into `weights`
        mass = decay * mass + 1
    return total / mass


def with_shares(shares: Callable[[Tensor, float], Tensor], players: Duel, steps: int, decay: float) -> Tensor:
    """Return the sum of the weights after each step times shares (T,), a function of t (T,) and decay."""
    kept = torch.stack([weights.clone() for weights in players.play(steps)])
    t = torch.arange(1, steps + 1, dtype=torch.float64)
    return torch.tensordot(shares(t, decay), kept, dims=1)


def running(players: Duel, steps: int, decay: float, first: Callable[[Tensor], Tensor], in_place=False) -> Tensor:
    """Return the running average decay · average + (1 - decay) · weights, which begins as `first` of the first weights.

    In place it writes into what it began as.
    """
    average = None
    for weights in players.play(steps):
        if average is None:
            average = first(weights)
        elif in_place:
            average.mul_(decay).add_((1 - decay) * weights)
        else:
            average = decay * average + (1 - decay) * weights
    return average


def normalised(shares: Tensor) -> Tensor:
    """Return shares (T,) that sum to one."""
    return shares / shares.sum()


def last(players: Duel, steps: int, decay: float) -> Tensor:
    """Return the weights after the last step, which is all that a list of one tensor holds."""
    return torch.stack(list(players.play(steps))).mean(0)


@check.exercise(
    "3.7",
    running_average,
    points=3,
    hint="write down for steps = 3 what share each of the three weights should have, and what yours gives them. See "
    "hints 1 to 3.",
    mistakes=(
        Mistake(
            last,
            "These are the weights after the last step. `play` yields one tensor, into which each step writes: what "
            "you keep of it changes as well, unless you keep a copy. See hint 1.",
        ),
        Mistake(
            partial(with_shares, lambda t, decay: (1 - decay) * decay ** (len(t) - t)),
            "Your shares sum to 1 − decay^steps: the average begins at 0, and at first it is pulled there. See hint 3.",
        ),
        Mistake(
            partial(running, first=Tensor.clone),
            "The first weights got the share decay^(steps − 1), 1/(1 − decay) times what is theirs: an average that "
            "begins with them forgets them slowly. See hint 3.",
        ),
        Mistake(
            partial(running, first=lambda weights: weights),
            "Your average began as the players' own tensor, which had moved on when you looked at it again: begin with "
            "a copy, and with the right share. See hints 1 and 3.",
        ),
        Mistake(
            partial(running, first=lambda weights: weights, in_place=True),
            "Your average is the players' own tensor, so what you write into it changes their game. See hint 1.",
        ),
        Mistake(
            lambda players, steps, decay: (
                decay**steps * players.weight.detach()
                + with_shares(lambda t, decay: (1 - decay) * decay ** (len(t) - t), players, steps, decay)
            ),
            "Your average begins with the weights before the first step, which are not to count.",
        ),
        Mistake(
            partial(with_shares, lambda t, decay: normalised((1 - decay) ** (len(t) - t))),
            "Your decay and 1 − decay are exchanged: the nearer decay is to 1, the longer the memory.",
        ),
        Mistake(
            partial(with_shares, lambda t, decay: normalised(decay**t)),
            "Your oldest weights count most. What power of decay should the newest have?",
        ),
        Mistake(
            partial(with_shares, lambda t, decay: decay ** (len(t) - t)),
            "This is the weighted sum; to be an average its shares must sum to 1.",
        ),
        Mistake(
            partial(with_shares, lambda t, decay: decay ** (len(t) - t) / len(t)),
            "You divided by the number of steps. An average is divided by the sum of its shares.",
        ),
        Mistake(
            partial(with_shares, lambda t, decay: normalised(torch.ones_like(t))),
            "This is the plain mean, in which the first weights count as much as the last: where is decay?",
        ),
    ),
    errors=(
        ("leaf Variable that requires grad", "You wrote into the players' own parameters. Begin with zeros or a copy."),
        (
            "division by zero",
            "For decay = 1 the sum of the shares is steps, but (1 − decay^steps)/(1 − decay) is 0/0. Add the shares up "
            "as they come: see hint 3.",
        ),
    ),
)
def running_average_cases(g: torch.Generator) -> list[Case]:
    """A long memory and a short one, few steps, one, and decay at its ends."""
    duel = Duel(normal(2, 3, generator=g), 0.3)
    slow = Duel(normal(2, 1, generator=g), 0.1)
    decay = 0.85 + 0.1 * torch.rand((), generator=g).item()
    ends = "1 − decay^steps and 1 − decay are both 0 here: add the shares up as they come. See hint 3."
    return [
        Case("20 steps", (duel, 20, decay)),
        Case("three steps", (duel, 3, 0.8)),
        Case("200 small steps, a long memory", (slow, 200, 0.99)),
        Case("one step: the weights after it", (duel, 1, 0.9)),
        Case("decay = 1: all weights count alike", (duel, 12, 1.0), ends),
        Case("decay = 0: only the last weights count", (duel, 12, 0.0)),
    ]


# 3.8 The Fréchet distance -------------------------------------------------------------------------------------------


def frechet(features_1: Tensor, features_2: Tensor) -> Tensor:
    """Return the Fréchet distance, (), of features (N, d) and (M, d)."""
    m_1, m_2 = features_1.mean(0), features_2.mean(0)
    c_1, c_2 = torch.cov(features_1.T), torch.cov(features_2.T)
    values, vectors = torch.linalg.eigh(c_1)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T  # the symmetric root of c_1
    cross = torch.linalg.eigvalsh(root @ c_2 @ root).clamp(min=0).sqrt().sum()
    return (m_1 - m_2).square().sum() + c_1.trace() + c_2.trace() - 2 * cross


def root_of(matrix: Tensor) -> Tensor:
    """Return the symmetric square root of a covariance (d, d)."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def cross_term(c_1: Tensor, c_2: Tensor) -> Tensor:
    """Return tr (C_1^½ C_2 C_1^½)^½, ()."""
    return root_of(root_of(c_1) @ c_2 @ root_of(c_1)).trace()


def frechet_of(
    cross: Callable[[Tensor, Tensor], Tensor],
    *features: Tensor,
    of_means: Callable[[Tensor], Tensor] = lambda gap: gap.square().sum(),
    correction: int = 1,
    factor: int = 2,
) -> Tensor:
    """Return a function of m_1 - m_2, plus tr C_1 + tr C_2 - factor · cross(C_1, C_2)."""
    c_1, c_2 = (torch.cov(x.T, correction=correction) for x in features)
    gap = features[0].mean(0) - features[1].mean(0)
    return of_means(gap) + c_1.trace() + c_2.trace() - factor * cross(c_1, c_2)


def frechet_of_rows(*features: Tensor) -> Tensor:
    """Return the distance with the covariances of the examples in the place of those of the features."""
    c_1, c_2 = map(torch.cov, features)
    squared = (features[0].mean(0) - features[1].mean(0)).square().sum()
    return squared + c_1.trace() + c_2.trace() - 2 * cross_term(c_1, c_2)


def frechet_uncentred(correction: int, *features: Tensor) -> Tensor:
    """Return the distance with second moments about 0, divided by N - correction, for the covariances."""
    moments = [(x.mean(0), x.T @ x / (len(x) - correction)) for x in features]
    return metrics.frechet_distance(*moments[0], *moments[1])


def frechet_with_ridge(ridge: float, *features: Tensor) -> Tensor:
    """Return the distance with a number added to the diagonals, as some programs do when a root fails."""
    moments = [(x.mean(0), torch.cov(x.T) + ridge * torch.eye(x.shape[1]).double()) for x in features]
    return metrics.frechet_distance(*moments[0], *moments[1])


@check.exercise(
    "3.8",
    frechet,
    points=4,
    own=("metrics.frechet", "metrics.frechet_distance"),
    hint="check mean term, the two traces and the cross term apart from each other: see hints 1 to 3.",
    mistakes=(
        Mistake(
            partial(frechet_of, lambda c_1, c_2: (c_1.diagonal() * c_2.diagonal()).sqrt().sum()),
            "You used the variances only, as if the features were independent. What do the covariances say?",
        ),
        *(
            Mistake(
                partial(frechet_of, cross),
                "torch.sqrt takes the root of each entry. The root R of a matrix is that with R R = the matrix: see "
                "hint 2.",
            )
            for cross in (
                lambda c_1, c_2: (c_1 @ c_2).sqrt().trace(),
                lambda c_1, c_2: root_of(c_1.sqrt() @ c_2 @ c_1.sqrt()).trace(),
                lambda c_1, c_2: (c_1.sqrt() @ c_2 @ c_1.sqrt()).sqrt().trace(),
                lambda c_1, c_2: (root_of(c_1) @ c_2 @ root_of(c_1)).sqrt().trace(),
            )
        ),
        Mistake(
            partial(frechet_of, lambda c_1, c_2: (c_1 @ c_2).trace()),
            "Your cross term is tr(C₁C₂), without the outer root. If you add up eigenvalues: their roots are what to "
            "add.",
        ),
        Mistake(
            partial(frechet_of, lambda c_1, c_2: root_of(c_1 @ c_2 @ c_1).trace()),
            "Your C₁^½ is C₁ itself: V diag(λ) V^T without the roots of the eigenvalues gives it back.",
        ),
        *(
            Mistake(
                partial(frechet_uncentred, correction),
                "Your covariances are not centred: take each feature's mean away before you multiply.",
            )
            for correction in (0, 1)
        ),
        Mistake(
            partial(frechet_of, lambda c_1, c_2: (root_of(c_1) @ root_of(c_2)).trace()),
            "The root of a product of matrices is not the product of the roots, unless they commute.",
        ),
        Mistake(
            partial(frechet_of, cross_term, factor=1),
            "Your cross term counts once. Between equal sets the distance is 0: how often must it count?",
        ),
        Mistake(
            partial(frechet_of, cross_term, of_means=Tensor.norm),
            "Your means' distance is not squared, while the traces are in squared units.",
        ),
        Mistake(
            partial(frechet_of, cross_term, of_means=lambda gap: gap.square().mean()),
            "You averaged the squared differences of the means over the features; a squared distance adds them up.",
        ),
        Mistake(
            lambda *features: frechet(*features).sqrt(),
            "This is the root of the distance asked for; by custom the square is reported, without a root.",
        ),
        Mistake(
            partial(frechet_of, cross_term, correction=0),
            "Your covariances divide by N. The unbiased ones are asked for.",
        ),
        Mistake(
            partial(frechet_of, cross_term, of_means=Tensor.norm, factor=1),
            "Two things are missing: a square of the means' distance and a factor before the cross term.",
        ),
        Mistake(lambda *features: frechet(*(x - x.mean(0) for x in features)), "Your distance does not see the means."),
        Mistake(
            lambda *features: (features[0].mean(0) - features[1].mean(0)).square().sum(),
            "This compares the means only; two sets of different widths would be equal.",
        ),
        Mistake(
            frechet_of_rows,
            "torch.cov takes variables as rows, so you got covariances of examples. Which shape has yours, and which "
            "should it have?",
        ),
        *(
            Mistake(
                partial(frechet_with_ridge, ridge),
                "You added a little to the diagonal. Under the root even 1e-6 is felt: an eigenvalue of 0 needs no "
                "help if you never invert, see hint 3.",
            )
            for ridge in (1e-6, 1e-4, 1e-3)
        ),
    ),
    errors=(
        (
            "failed to converge because the input matrix",
            "A matrix with nan or ∞ went into the decomposition. An eigenvalue that should be 0 may come out at "
            "−1e-16, whose root is nan; so may be the root of each entry. See hints 2 and 3.",
        ),
        (
            "linalg.cholesky",
            "A covariance from fewer examples than features has eigenvalues of 0, and no Cholesky factor that PyTorch "
            "could find. Another root exists always: see hint 2.",
        ),
    ),
)
def frechet_cases(g: torch.Generator) -> list[Case]:
    """Correlated features, different numbers of examples, equal covariances, fewer examples than features, one set."""
    first, second = normal(2, 40, 3, generator=g)
    first = first + 2 * normal(40, 1, generator=g)
    second = torch.tensor([1.0, 2.0, 3.0]) * second + 2 * normal(40, 1, generator=g)
    mixed = normal(60, 4, generator=g) @ normal(4, 4, generator=g)
    few = normal(5, 8, generator=g)
    singular = "Eigenvalues of 0 must stay 0: the root of 1e-8 is 1e-4, that of −1e-16 is nan. See hint 3."
    return [
        Case("40 examples each, three correlated features", (first, 1 + second)),
        Case("60 and 25 examples", (mixed, normal(25, 4, generator=g))),
        Case("a shifted copy: only the means differ", (first, first + torch.tensor([1.0, 0.0, -2.0]))),
        Case("fewer examples than features: singular covariances", (few, 1 + normal(6, 8, generator=g)), singular),
        Case("one covariance singular", (few, normal(30, 8, generator=g)), singular),
        Case("the same set twice", (mixed, mixed)),
    ]

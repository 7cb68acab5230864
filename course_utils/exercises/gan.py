"""The exercises of lecture 3: what the instant check and the grader share."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_utils import gan, metrics
from course_utils.densities import gaussian_log_prob
from course_utils.exercises.checking import Case, Exercise, InstantCheck, Mistake, normal

# 3.1 ---------------------------------------------------------------------------------------------------------------


def discriminator_cases(g: torch.Generator) -> list[Case]:
    """Two Gaussians, equal densities, far out in both tails, densities far apart, points outside one support."""
    x = torch.tensor([-2.0, 1.5, 3.0]).double() + 0.1 * normal(3, generator=g)
    log_p, log_q = gaussian_log_prob(x, 0.0, 1.0), gaussian_log_prob(x, 1.0, 2.0)
    nowhere = torch.full((3,), -torch.inf).double()
    return [
        Case("p = N(0, 1²), q = N(1, 2²)", (log_p, log_q)),
        Case("equal densities", (log_p, log_p)),
        Case("both log densities near -2,000", (log_p - 2000, log_q - 2000)),
        Case(
            "one density far above the other", (torch.stack([log_p, log_p - 1500]), torch.stack([log_q - 1500, log_q]))
        ),
        Case("points that q never gives: its density is 0", (log_p, nowhere)),
        Case("points that p never gives", (nowhere, log_q)),
    ]


# 3.2 ---------------------------------------------------------------------------------------------------------------


def losses(real_logits: Tensor, fake_logits: Tensor, smooth: float) -> tuple[Tensor, Tensor]:
    """Return both players' losses, () each: logits (N,) and (M,), real targets 1 - smooth."""
    return (
        gan.discriminator_loss("non-saturating", real_logits, fake_logits, real_target=1 - smooth),
        gan.generator_loss("non-saturating", fake_logits),
    )


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


def losses_by_probability(real_logits: Tensor, fake_logits: Tensor, smooth: float) -> tuple[Tensor, Tensor]:
    """Return the losses by the logarithm of the probabilities: infinite where these are rounded to 0 or 1."""
    real, fake = real_logits.sigmoid(), fake_logits.sigmoid()
    on_real = (1 - smooth) * real.log() + torch.xlogy(torch.as_tensor(smooth).double(), 1 - real)  # 0 log 0 = 0
    return -on_real.mean() - (1 - fake).log().mean(), -fake.log().mean()


def losses_clamped(real_logits: Tensor, fake_logits: Tensor, smooth: float) -> tuple[Tensor, Tensor]:
    """Return the losses by PyTorch's cross-entropy of probabilities, which ends every logarithm at -100."""
    real, fake = real_logits.sigmoid(), fake_logits.sigmoid()
    cost = F.binary_cross_entropy
    discriminator = cost(real, torch.full_like(real, 1 - smooth)) + cost(fake, torch.zeros_like(fake))
    return discriminator, cost(fake, torch.ones_like(fake))


def losses_cases(g: torch.Generator) -> list[Case]:
    """Batches of different sizes with and without smoothing, a sure discriminator that is right or wrong."""
    real, fake = 1 + normal(5, generator=g), normal(3, generator=g) - 1
    many = normal(200, generator=g)
    return [
        Case("five real and three generated examples", (real, fake, 0.1)),
        Case("no smoothing", (real, fake, 0.0)),
        Case("strong smoothing, one real and 200 generated examples", (real[:1], many, 0.3)),
        Case("logits near ±300: a discriminator that is sure, and right", (300 + real, fake - 300, 0.1)),
        Case("logits near ±300: a discriminator that is sure, and wrong", (real - 300, 300 + fake, 0.1)),
    ]


# 3.3 ---------------------------------------------------------------------------------------------------------------


def generator_gradients(fake_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the derivatives of log(1 - D) and of -log D with respect to each logit, (B,) each."""
    return -fake_logits.sigmoid(), -(-fake_logits).sigmoid()


def generator_gradients_cases(g: torch.Generator) -> list[Case]:
    """A fooled and a sure discriminator, logits near 0, a batch of another shape, logits that overflow."""
    logits = torch.tensor([-4.0, -1.0, 0.5, 3.0]).double() + 0.2 * normal(4, generator=g)
    return [
        Case("four generated examples", (logits,)),
        Case("the discriminator rejects all of them", (logits - 12,)),
        Case("the discriminator is fooled by all of them", (logits + 12,)),
        Case("logits of shape (3, 1)", (normal(3, 1, generator=g),)),
        Case("logits near ±1,000", (1000 * logits.sign() + logits,)),
    ]


# 3.4 ---------------------------------------------------------------------------------------------------------------


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


def slopes(critic: nn.Module, x: Tensor, output=Tensor.sum) -> Tensor:
    """Return the gradient of the sum (or else) of a critic's scores at x (B, D), itself differentiable: (B, D)."""
    x = x.requires_grad_()
    return torch.autograd.grad(output(critic(x)), x, create_graph=True)[0]


def with_gradient(penalty: Tensor, critic: nn.Module) -> tuple[Tensor, Tensor]:
    """Return a penalty, (), and its gradient with respect to the critic's weight."""
    return penalty.detach(), torch.autograd.grad(penalty, critic.weight)[0]


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return the penalty at (1 - t) real + t fake, (), and its gradient with respect to critic.weight.

    real, fake (B, D), t (B,). Gulrajani et al. (2017), equation 3.
    """
    return penalised(critic, torch.lerp(real, fake, t[:, None]))


def penalised(critic: nn.Module, x: Tensor, output=Tensor.sum, dim: int | None = -1) -> tuple[Tensor, Tensor]:
    """Return penalty and gradient at given points (B, D); with dim None one norm is taken of the whole batch."""
    return with_gradient((slopes(critic, x, output).norm(dim=dim) - 1).square().mean(), critic)


def penalised_by(function, critic: nn.Module, real: Tensor, fake: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return `function` of the norms (B,) of the slopes at the right points, and its gradient."""
    return with_gradient(function(slopes(critic, torch.lerp(real, fake, t[:, None])).norm(dim=-1)), critic)


def penalty_cases(g: torch.Generator) -> list[Case]:
    """As many examples as numbers in each, many examples, a linear critic, one example, t at its ends."""
    t = torch.tensor([0.1, 0.5, 0.8]).double() + 0.1 * torch.rand(3, generator=g, dtype=torch.float64)
    gentle = 0.4 * F.normalize(normal(2, 3, generator=g), dim=-1)  # no slope above 0.8
    many = torch.rand(20, generator=g, dtype=torch.float64)
    ends = torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0]).double()
    return [
        Case(
            "three examples of three numbers",
            (Critic(gentle), normal(3, 3, generator=g), 2 + normal(3, 3, generator=g), t),
        ),
        Case(
            "20 examples of two numbers",
            (Critic(normal(4, 2, generator=g)), normal(20, 2, generator=g), normal(20, 2, generator=g), many),
        ),
        Case(
            "a linear critic: its slope is the same everywhere",
            (
                Critic(normal(1, 4, generator=g), linear=True),
                normal(6, 4, generator=g),
                normal(6, 4, generator=g),
                many[:6],
            ),
        ),
        Case(
            "one example",
            (Critic(normal(3, 2, generator=g)), normal(1, 2, generator=g), normal(1, 2, generator=g), many[:1]),
        ),
        Case(
            "t is 0 or 1",
            (Critic(normal(3, 2, generator=g)), normal(5, 2, generator=g), normal(5, 2, generator=g), ends),
        ),
    ]


# 3.5 ---------------------------------------------------------------------------------------------------------------


def spectral_norm(weight: Tensor, u: Tensor, iterations: int) -> Tensor:
    """Return the estimate u^T W v of the largest singular value of W (m, n) after rounds from u (m,): ().

    Miyato et al. (2018), algorithm 1.
    """
    u, v = power_iteration(weight, u, iterations)
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


def spectral_norm_cases(g: torch.Generator) -> list[Case]:
    """Square, wide and tall matrices, one round, several and many, rank 1."""
    square = torch.linalg.qr(normal(4, 4, generator=g)).Q @ torch.diag(torch.tensor([3.0, 2.0, 1.0, 0.5]).double())
    tall = torch.linalg.qr(normal(8, 3, generator=g)).Q @ torch.diag(torch.tensor([5.0, 1.0, 0.5]).double())
    return [
        Case(
            "a square matrix, one round",
            (square @ torch.linalg.qr(normal(4, 4, generator=g)).Q, normal(4, generator=g), 1),
        ),
        Case("2 × 5, two rounds", (normal(2, 5, generator=g), normal(2, generator=g), 2)),
        Case("6 × 3, five rounds", (normal(6, 3, generator=g), normal(6, generator=g), 5)),
        Case("50 rounds: the largest singular value", (tall, normal(8, generator=g), 50)),
        Case(
            "rank 1: one round is enough",
            (normal(5, 1, generator=g) @ normal(1, 3, generator=g), normal(5, generator=g), 1),
        ),
        Case("200 rounds of a large matrix", (100 * normal(3, 3, generator=g), normal(3, generator=g), 200)),
    ]


# 3.6 ---------------------------------------------------------------------------------------------------------------


def wasserstein_1d(x: Tensor, y: Tensor) -> Tensor:
    """Return the Wasserstein-1 distance of two samples of one size on the line: (N,), (N,) give ()."""
    return (x.sort().values - y.sort().values).abs().mean()


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


# 3.7 ---------------------------------------------------------------------------------------------------------------


def means_and_covariances(features_1: Tensor, features_2: Tensor, correction: int = 1) -> tuple[Tensor, ...]:
    """Return m_1 (d,), C_1 (d, d), m_2, C_2 of features (N, d) and (M, d)."""
    sets = features_1, features_2
    return tuple(v for x in sets for v in (x.mean(0), torch.cov(x.T, correction=correction)))


def root(matrix: Tensor) -> Tensor:
    """Return the symmetric square root of a covariance (d, d)."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def frechet_of(cross, *features: Tensor, correction: int = 1, power: int = 2, factor: int = 2) -> Tensor:
    """Return |m_1 - m_2|^power + tr C_1 + tr C_2 - factor · cross(C_1, C_2)."""
    m_1, c_1, m_2, c_2 = means_and_covariances(*features, correction=correction)
    return (m_1 - m_2).norm() ** power + c_1.trace() + c_2.trace() - factor * cross(c_1, c_2)


def cross_term(c_1: Tensor, c_2: Tensor) -> Tensor:
    """Return tr (C_1^½ C_2 C_1^½)^½, ()."""
    return root(root(c_1) @ c_2 @ root(c_1)).trace()


def frechet_of_rows(features_1: Tensor, features_2: Tensor) -> Tensor:
    """Return the distance with the covariances of the examples in the place of those of the features."""
    m_1, m_2, c_1, c_2 = features_1.mean(0), features_2.mean(0), torch.cov(features_1), torch.cov(features_2)
    return (m_1 - m_2).square().sum() + c_1.trace() + c_2.trace() - 2 * cross_term(c_1, c_2)


def frechet_uncentred(correction: int, *features: Tensor) -> Tensor:
    """Return the distance with second moments about 0, divided by N - correction, for the covariances."""
    moments = [(x.mean(0), x.T @ x / (len(x) - correction)) for x in features]
    return metrics.frechet_distance(*moments[0], *moments[1])


def frechet_with_ridge(features_1: Tensor, features_2: Tensor) -> Tensor:
    """Return the distance with 1e-6 added to the diagonals, as some programs do when a root fails."""
    m_1, c_1, m_2, c_2 = means_and_covariances(features_1, features_2)
    ridge = 1e-6 * torch.eye(len(c_1), dtype=c_1.dtype)
    return metrics.frechet_distance(m_1, c_1 + ridge, m_2, c_2 + ridge)


def frechet_cases(g: torch.Generator) -> list[Case]:
    """Correlated features, different numbers of examples, equal covariances, fewer examples than features."""
    first, second = normal(2, 40, 3, generator=g)
    first, second = (
        first + 2 * normal(40, 1, generator=g),
        torch.tensor([1.0, 2.0, 3.0]) * second + 2 * normal(40, 1, generator=g),
    )
    mixed = normal(60, 4, generator=g) @ normal(4, 4, generator=g)
    few = normal(5, 8, generator=g)
    return [
        Case("40 examples each, three correlated features", (first, 1 + second)),
        Case("60 and 25 examples", (mixed, normal(25, 4, generator=g))),
        Case("a shifted copy: only the means differ", (first, first + torch.tensor([1.0, 0.0, -2.0]))),
        Case("the same set twice", (mixed, mixed)),
        Case("fewer examples than features: singular covariances", (few, 1 + normal(6, 8, generator=g))),
        Case("one covariance singular", (few, normal(30, 8, generator=g))),
    ]


EXERCISES = {
    e.id: e
    for e in [
        Exercise(
            id="3.1",
            function="discriminator_of",
            points=2,
            reference=gan.optimal_discriminator,
            cases=discriminator_cases,
            hint="D* is a share of two densities; which function of their log ratio is it? See hints 1 and 2.",
            mistakes=(
                Mistake(
                    lambda log_p, log_q: gan.optimal_discriminator(log_q, log_p),
                    "This is the probability of being generated. D(x) is the probability of being real: which density "
                    "belongs on top?",
                ),
                Mistake(
                    lambda log_p, log_q: (log_p - log_q).exp(),
                    "This is the ratio p/q, which may exceed 1. D* is a probability: what share of the points at x is "
                    "real?",
                ),
                Mistake(
                    lambda log_p, log_q: log_p - log_q,
                    "This is the logit of D*, the log of the odds. One function still has to be applied: see hint 2.",
                ),
                Mistake(
                    lambda log_p, log_q: log_p / (log_p + log_q),
                    "You put the log densities where the densities belong: log p is not p.",
                ),
                Mistake(
                    lambda log_p, log_q: log_p.exp() / (log_p.exp() + log_q.exp() + 1e-12),
                    "A small number under the line prevents 0/0 and not the wrong result: where both densities are "
                    "rounded to 0, only their logarithms still know the share. See hint 1.",
                ),
                Mistake(
                    lambda log_p, log_q: F.logsigmoid(log_p - log_q),
                    "This is the logarithm of D*, as it stands in the loss; D* itself is asked for.",
                ),
            ),
        ),
        Exercise(
            id="3.2",
            function="losses",
            points=3,
            reference=losses,
            cases=losses_cases,
            hint="write down the target of each of three cross-entropies: real examples, generated ones, and generated "
            "ones in the generator's loss. See hint 1.",
            mistakes=(
                Mistake(
                    lambda real, fake, smooth: with_targets(real, fake, 1 - smooth, smooth),
                    "You smoothed both sides. A positive target on generated examples rewards the generator where it "
                    "already is: one side only.",
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
                    "Your losses do not use smooth: which target does it change, and does the other part of the "
                    "cross-entropy still vanish?",
                ),
                Mistake(
                    lambda real, fake, smooth: (losses(real, fake, smooth)[0], gan.generator_loss("minimax", fake)),
                    "Your generator minimises log(1 − D), the saturating loss. The other one minimises −log D.",
                ),
                Mistake(
                    losses_of_one_label,
                    "With the target 1 − s the part s · log(1 − D) counts too.",
                ),
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
                Mistake(
                    losses_summed,
                    "These are sums over the examples; means are asked for, so that the batch size does not matter.",
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
                    "F.binary_cross_entropy ends every logarithm at −100: a sure discriminator that is wrong gets no "
                    "gradient. Is there a variant that takes logits?",
                ),
            ),
        ),
        Exercise(
            id="3.3",
            function="generator_gradients",
            points=2,
            reference=generator_gradients,
            cases=generator_gradients_cases,
            hint="differentiate log(1 − σ(l)) and −log σ(l) by the chain rule: see hints 1 and 2.",
            mistakes=(
                Mistake(
                    lambda logits: generator_gradients(logits)[::-1],
                    "Both derivatives are right and in the wrong order: saturating first.",
                ),
                Mistake(
                    lambda logits: tuple(-v for v in generator_gradients(logits)),
                    "These are the directions of descent. The derivatives themselves have the other sign: both losses "
                    "fall as the logit grows.",
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
                    "The second is the first once more. What is the derivative of −log σ(l), not of log(1 − σ(l))?",
                ),
            ),
        ),
        Exercise(
            id="3.4",
            function="gradient_penalty",
            points=4,
            reference=gradient_penalty,
            cases=penalty_cases,
            hint="take her lines one by one: at which points, the gradient of what, the norm over which axis, and the "
            "mean of what? See hints 1 to 3.",
            mistakes=(
                Mistake(
                    lambda critic, real, fake, t: penalised(
                        critic, torch.lerp(real, fake, t[0]), output=Tensor.mean, dim=None
                    ),
                    "The gradient now reaches the critic. Her three other mistakes are still in it.",
                ),
                Mistake(
                    lambda critic, real, fake, t: penalised(critic, torch.lerp(real, fake, t[0])),
                    "You used one t for the whole batch; every pair has its own. What shape of t does it? See hint 1.",
                ),
                Mistake(
                    lambda critic, real, fake, t: penalised(critic, torch.lerp(real, fake, t)),
                    "t went along the numbers of an example instead of along the batch, without an error because there "
                    "are as many of both. See hint 1.",
                ),
                Mistake(
                    lambda critic, real, fake, t: penalised(critic, torch.lerp(fake, real, t[:, None])),
                    "Your points are t·real + (1 − t)·fake. With t uniform it would be as good, but here t = 0 is the "
                    "real example.",
                ),
                Mistake(
                    lambda critic, real, fake, t: penalised(
                        critic, torch.lerp(real, fake, t[:, None]), output=Tensor.mean, dim=None
                    ),
                    "The points are right. The gradient is still that of a mean, and the norm one of the whole batch: "
                    "see hint 2.",
                ),
                Mistake(
                    lambda critic, real, fake, t: penalised(
                        critic, torch.lerp(real, fake, t[:, None]), output=Tensor.mean
                    ),
                    "You differentiated the mean of the scores: each slope is B times too small. See hint 2.",
                ),
                Mistake(
                    lambda critic, real, fake, t: penalised(critic, torch.lerp(real, fake, t[:, None]), dim=None),
                    "You took one norm of the whole batch, so many gentle slopes look like a steep one. Each example "
                    "has a slope of its own: see hint 2.",
                ),
                Mistake(
                    lambda critic, real, fake, t: penalised(critic, torch.lerp(real, fake, t[:, None]), dim=0),
                    "You took the norm over the batch; the numbers of one example lie along the last axis.",
                ),
                Mistake(
                    lambda critic, real, fake, t: penalised(critic, real),
                    "Your slopes are those at the real examples; the penalty is taken between real and generated ones.",
                ),
                Mistake(
                    partial(penalised_by, lambda norms: (norms.mean() - 1).square()),
                    "You averaged the slopes first, so steep and gentle ones cancel. Penalise each, then average.",
                ),
                Mistake(
                    partial(penalised_by, lambda norms: (norms.square() - 1).square().mean()),
                    "You compare the squared length with 1; the length itself is asked for.",
                ),
                Mistake(
                    partial(penalised_by, lambda norms: (norms - 1).clamp(min=0).square().mean()),
                    "You penalise only slopes above 1, the one-sided penalty. Here slopes below 1 cost as well.",
                ),
                Mistake(
                    partial(penalised_by, lambda norms: norms.square().mean()),
                    "Your penalty pulls the slopes to 0: a flat critic has nothing to teach. What should they be?",
                ),
                Mistake(
                    partial(penalised_by, lambda norms: (norms - 1).square().sum()),
                    "This is the sum over the batch; the mean is asked for.",
                ),
                Mistake(
                    lambda *args: (gradient_penalty(*args)[0], torch.zeros_like(args[0].weight)),
                    "The penalty is right, its gradient is not zero. Does the slope still know that it depends on the "
                    "critic? See hint 3.",
                ),
            ),
            errors=(
                (
                    "element 0 of tensors does not require grad",
                    "The penalty has forgotten that its slopes depend on the critic's weight, so it can't be "
                    "differentiated by it. See hint 3.",
                ),
                (
                    "differentiated Tensors does not require grad",
                    "Autograd follows only what it was asked to follow: x.requires_grad_() before the critic sees x.",
                ),
                (
                    "grad can be implicitly created only for scalar outputs",
                    "torch.autograd.grad differentiates one number. Which one, made of all scores, gives every example "
                    "its own slope? See hint 2.",
                ),
            ),
        ),
        Exercise(
            id="3.5",
            function="spectral_norm",
            points=3,
            reference=spectral_norm,
            cases=spectral_norm_cases,
            hint="one round: v from u by the transpose, u from v, both of length 1; the estimate only at the end.",
            mistakes=(
                Mistake(
                    lambda weight, u, iterations: weight.norm(),
                    "This is the Frobenius norm, which adds up all singular values' squares. The largest one alone is "
                    "asked for.",
                ),
                Mistake(
                    lambda weight, u, iterations: torch.linalg.eigvals(weight).abs().max(),
                    "This is the largest eigenvalue. It says how much a vector grows that keeps its direction; others "
                    "may grow more.",
                ),
                Mistake(
                    without_transpose,
                    "Your rounds apply W twice: that looks for eigenvectors. One of the two steps needs the transpose.",
                ),
                Mistake(
                    lambda weight, u, iterations: torch.linalg.matrix_norm(weight, 2),
                    "This is the exact value. In a network an approximation has to do, at each step: give the estimate "
                    "after that many rounds.",
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
                    partial(estimate_without, unit_v=False),
                    "Your v is not of length 1, so its length counts in the estimate.",
                ),
                Mistake(
                    lagging,
                    "Your estimate pairs the last v with the u before it. Finish the round first.",
                ),
                Mistake(
                    ahead,
                    "This is |W^T u| with the last u, half a round on: pair the last u with the last v.",
                ),
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
            ),
        ),
        Exercise(
            id="3.6",
            function="wasserstein_1d",
            points=3,
            reference=wasserstein_1d,
            cases=wasserstein_cases,
            hint="which point should go to which, and how far is it? See hint 1.",
            mistakes=(
                Mistake(
                    lambda x, y: (x - y).abs().mean(),
                    "You moved each point to the one that happens to have its index. A cheaper pairing exists: see "
                    "hint 1.",
                ),
                Mistake(
                    lambda x, y: (x.sort().values - y.sort(descending=True).values).abs().mean(),
                    "This is the dearest pairing: the leftmost point goes to the rightmost. Which one should it go to?",
                ),
                *(
                    Mistake(
                        function,
                        "You sorted one of the samples only, so the other one's order decides who goes where.",
                    )
                    for function in [
                        lambda x, y: (x.sort().values - y).abs().mean(),
                        lambda x, y: (x - y.sort().values).abs().mean(),
                    ]
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
                    "Each point went to its nearest neighbour, so some y are used twice and others never. All mass has "
                    "to arrive.",
                ),
                Mistake(
                    lambda x, y: (x[:, None] - y).abs().mean(),
                    "This is the mean over all pairs; it is positive even between a sample and itself.",
                ),
            ),
        ),
        Exercise(
            id="3.7",
            function="frechet",
            points=4,
            reference=metrics.frechet,
            cases=frechet_cases,
            hint="check mean term, the two traces and the cross term apart from each other: see hints 1 to 3.",
            mistakes=(
                Mistake(
                    partial(frechet_of, lambda c_1, c_2: (c_1.diagonal() * c_2.diagonal()).sqrt().sum()),
                    "You used the variances only, as if the features were independent. What do the covariances say?",
                ),
                *(
                    Mistake(
                        partial(frechet_of, cross),
                        "torch.sqrt takes the root of each entry. The root R of a matrix is that with R R = the "
                        "matrix: see hint 2.",
                    )
                    for cross in [
                        lambda c_1, c_2: (c_1 @ c_2).sqrt().trace(),
                        lambda c_1, c_2: root(c_1.sqrt() @ c_2 @ c_1.sqrt()).trace(),
                        lambda c_1, c_2: (c_1.sqrt() @ c_2 @ c_1.sqrt()).sqrt().trace(),
                        lambda c_1, c_2: (root(c_1) @ c_2 @ root(c_1)).sqrt().trace(),
                    ]
                ),
                Mistake(
                    partial(frechet_of, lambda c_1, c_2: (c_1 @ c_2).trace()),
                    "Your cross term is tr(C₁C₂), without the outer root. If you add up eigenvalues: their roots are "
                    "what to add.",
                ),
                Mistake(
                    partial(frechet_of, lambda c_1, c_2: root(c_1 @ c_2 @ c_1).trace()),
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
                    partial(frechet_of, lambda c_1, c_2: (root(c_1) @ root(c_2)).trace()),
                    "The root of a product of matrices is not the product of the roots, unless they commute.",
                ),
                Mistake(
                    partial(frechet_of, cross_term, factor=1),
                    "Your cross term counts once. Between equal sets the distance is 0: how often must it count?",
                ),
                Mistake(
                    partial(frechet_of, cross_term, power=1),
                    "Your means' distance is not squared, while the traces are in squared units.",
                ),
                Mistake(
                    lambda *features: metrics.frechet(*features).sqrt(),
                    "This is the root of the distance asked for; by custom the square is reported, without a root.",
                ),
                Mistake(
                    partial(frechet_of, cross_term, correction=0),
                    "Your covariances divide by N. The unbiased ones are asked for.",
                ),
                Mistake(
                    partial(frechet_of, cross_term, power=1, factor=1),
                    "Two things are missing: a square of the means' distance and a factor before the cross term.",
                ),
                Mistake(
                    lambda *features: metrics.frechet(*(x - x.mean(0) for x in features)),
                    "Your distance does not see the means.",
                ),
                Mistake(
                    lambda *features: (features[0].mean(0) - features[1].mean(0)).square().sum(),
                    "This compares the means only; two sets of different widths would be equal.",
                ),
                Mistake(
                    frechet_of_rows,
                    "torch.cov takes variables as rows, so you got covariances of examples. Which shape has yours, and "
                    "which should it have?",
                ),
                Mistake(
                    frechet_with_ridge,
                    "You added a little to the diagonal. Under the root even 1e-6 is felt: an eigenvalue of 0 needs no "
                    "help if you never invert, see hint 3.",
                ),
            ),
            tol=1e-5,  # roots of eigenvalues that are 0 but for rounding
        ),
    ]
}
check = InstantCheck(EXERCISES)

"""The exercises of lecture 4: what the instant check and the grader share. Each is one block, from reference to hints.

A reference reads like a good answer, since `check.solution` shows it.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from course_utils.densities import gaussian_log_prob
from course_utils.exercises.checking import Case, InstantCheck, Mistake, normal

check = InstantCheck()
LOG_2 = math.log(2)
EXERCISES = check.exercises

# 4.1 A positive flow ------------------------------------------------------------------------------------------------


def softplus_log_prob(x: Tensor, mu: float, sigma: float) -> Tensor:
    """Return the log density, (...), of x = softplus(z), z ~ N(mu, sigma²), at positive x (...)."""
    log_rest = torch.log(-torch.expm1(-x))  # log(1 - exp(-x))
    z = x + log_rest  # log(exp(x) - 1)
    return gaussian_log_prob(z, mu, sigma) - log_rest  # dz/dx = 1/(1 - exp(-x))


def plainly(x: Tensor, mu: float, sigma: float) -> Tensor:
    """Return the same as it stands in the formula: exp(x) overflows at 710, and 1 - exp(-x) loses small x."""
    z = (x.exp() - 1).log()
    return gaussian_log_prob(z, mu, sigma) - (1 - (-x).exp()).log()


@check.exercise(
    "4.1",
    softplus_log_prob,
    points=3,
    hint="find z from x first, then the logarithm of dz/dx: see hints 1 and 2.",
    mistakes=(
        Mistake(
            lambda x, mu, sigma: gaussian_log_prob(x + torch.log(-torch.expm1(-x)), mu, sigma),
            "This is the density of z at the right place. How densely do the x lie there? (4.2b) has one more term.",
        ),
        Mistake(
            lambda x, mu, sigma: softplus_log_prob(x, mu, sigma) + 2 * torch.log(-torch.expm1(-x)),
            "Your derivative has the wrong sign: it is dx/dz, and dz/dx is asked for. See E4.2.",
        ),
        Mistake(
            lambda x, mu, sigma: gaussian_log_prob(F.softplus(x), mu, sigma) + F.logsigmoid(x),
            "You went through softplus once more. x is what comes out of it: here you need its inverse.",
        ),
        Mistake(
            lambda x, mu, sigma: gaussian_log_prob(x, mu, sigma),
            "This is the Gaussian's density at x. Which z did x come from?",
        ),
        Mistake(
            lambda x, mu, sigma: softplus_log_prob(x, mu, sigma).exp(),
            "This is the density; its logarithm is asked for.",
        ),
        Mistake(
            lambda x, mu, sigma: softplus_log_prob(x, mu, math.sqrt(sigma)),
            "sigma is the standard deviation; you took it for the variance.",
        ),
        Mistake(
            lambda x, mu, sigma: gaussian_log_prob(x.expm1().log(), mu, sigma) - torch.log(-torch.expm1(-x)),
            "Right but for large x, where exp(x) overflows: write log(eˣ − 1) as x + log(1 − e⁻ˣ). See hint 1.",
        ),
        Mistake(
            plainly,
            "Right in the middle, and lost at the ends: exp(x) overflows for large x, and 1 − exp(−x) loses its digits "
            "for small x. See hint 1.",
        ),
    ),
)
def softplus_log_prob_cases(g: torch.Generator) -> list[Case]:
    """Values in the middle, near 0, and large, for two Gaussians."""
    some = 0.2 + normal(6, generator=g).exp()
    mu, sigma = (normal(2, generator=g).abs() + 0.3).tolist()
    return [
        Case("six waiting times", (some, mu, sigma)),
        Case("a narrow Gaussian", (some, -0.4, 0.5)),
        Case("x near 10⁻⁶ and 10⁻¹⁷", (torch.stack([some * 1e-6, some * 1e-17]), mu, 3 * sigma)),
        Case("x near 20 and 800", (torch.stack([20 + some, 800 + some]), 30.0, 40 * sigma)),
    ]


# 4.2 Reverse KL -----------------------------------------------------------------------------------------------------


def reverse_kl_loss(z: Tensor, log_det: Tensor, log_target: Tensor) -> Tensor:
    """Return the mean, (), of log p_x(x) - log p~(x): draws z (N, m), log|det dx/dz| and log p~(x), (N,) each."""
    log_p_z = gaussian_log_prob(z, 0.0, 1.0).sum(-1)
    return (log_p_z - log_det - log_target).mean()


@check.exercise(
    "4.2",
    reverse_kl_loss,
    points=2,
    gradients=("log_det", "log_target"),
    hint="three terms, two of them with a minus: (4.5b) without its constant.",
    mistakes=(
        Mistake(
            lambda z, log_det, log_target: reverse_kl_loss(z, -log_det, log_target),
            "The log-determinant is that of the sampling direction: in log p_x it has a minus, (4.3b).",
        ),
        Mistake(
            lambda z, log_det, log_target: -reverse_kl_loss(z, log_det, log_target),
            "This is what should grow; the loss is its negative.",
        ),
        Mistake(
            lambda z, log_det, log_target: -(log_det + log_target).mean(),
            "The gradient is right: log p_z(z) does not depend on the flow. But without it the loss is no KL: keep it.",
        ),
        Mistake(
            lambda z, log_det, log_target: (gaussian_log_prob(z, 0.0, 1.0).mean(-1) - log_det - log_target).mean(),
            "log p_z of a vector is the sum over its numbers, not the mean.",
        ),
        Mistake(
            lambda z, log_det, log_target: (
                (log_det + log_target - gaussian_log_prob(z, 0.0, 1.0).sum(-1)).mean() * -1 + 2 * log_target.mean()
            ),
            "log p~ enters with a minus: the flow should go where the target is high.",
        ),
        Mistake(
            lambda z, log_det, log_target: len(z) * reverse_kl_loss(z, log_det, log_target),
            "This is the sum over the draws; the mean is asked for.",
        ),
        Mistake(
            lambda z, log_det, log_target: (
                reverse_kl_loss(z, log_det, log_target) - 0.5 * z.shape[-1] * -math.log(2 * math.pi)
            ),
            "The Gaussian's constant, −½ log 2π for each number, is missing: log_prob has it.",
        ),
    ),
)
def reverse_kl_loss_cases(g: torch.Generator) -> list[Case]:
    """Draws in three dimensions and in one."""
    return [
        Case(
            "seven draws in three dimensions",
            (normal(7, 3, generator=g), normal(7, generator=g), normal(7, generator=g)),
        ),
        Case(
            "five draws of one number", (normal(5, 1, generator=g), normal(5, generator=g), 2 + normal(5, generator=g))
        ),
        Case("forty numbers each", (normal(3, 40, generator=g), normal(3, generator=g), normal(3, generator=g) - 9)),
    ]


# 4.3 Keep it invertible ---------------------------------------------------------------------------------------------


def invertible_u(u: Tensor, w: Tensor) -> Tensor:
    """Return û (..., m) with wᵀû = softplus(wᵀu) - 1, for vectors u and w (..., m)."""
    along = (w * u).sum(-1, keepdim=True)
    correction = F.softplus(along) - 1 - along
    return u + correction * w / w.square().sum(-1, keepdim=True)


def corrected(
    u: Tensor, w: Tensor, wanted=lambda s: F.softplus(s) - 1, size=lambda w: w.square().sum(-1, True)
) -> Tensor:
    """Return u with another component along w, or divided by something else."""
    along = (w * u).sum(-1, keepdim=True)
    return u + (wanted(along) - along) * w / size(w)


@check.exercise(
    "4.3",
    invertible_u,
    points=3,
    own=("flows.Planar.u_hat",),
    hint="multiply your û by w: softplus(wᵀu) − 1 must be left. See hints 1 and 2.",
    mistakes=(
        Mistake(
            partial(corrected, size=lambda w: w.norm(dim=-1, keepdim=True)),
            "You divided by ‖w‖ instead of ‖w‖²: E4.6. Multiply by w and see what is left.",
        ),
        Mistake(
            partial(corrected, size=lambda w: torch.ones(())),
            "The correction is along w and not divided by ‖w‖²: for a long w it is far too large.",
        ),
        Mistake(
            partial(corrected, wanted=F.softplus),
            "Your wᵀû is positive. It only has to stay above −1: softplus(s) − 1.",
        ),
        Mistake(
            partial(corrected, wanted=lambda s: (1 + s.exp()).log() - 1),
            "exp(wᵀu) overflows where wᵀu is large: see hint 1.",
        ),
        Mistake(
            partial(corrected, wanted=lambda s: s.clamp(min=-1)),
            "A clamp has no gradient where it holds u back, and allows −1 itself. μ(s) = softplus(s) − 1 is asked for.",
        ),
        Mistake(
            lambda u, w: (F.softplus((w * u).sum(-1, keepdim=True)) - 1) * w / w.square().sum(-1, keepdim=True),
            "The component along w is right, but what u did across w is gone: correct u, do not replace it.",
        ),
        Mistake(
            lambda u, w: invertible_u(w, u),
            "You corrected w along u; it is u that changes, along w.",
        ),
        Mistake(lambda u, w: u, "This is u as it was; wᵀu may be below −1."),
    ),
)
def invertible_u_cases(g: torch.Generator) -> list[Case]:
    """One pair, many pairs, and products far from 0 on both sides."""
    u, w = normal(3, 4, 5, generator=g), normal(3, 4, 5, generator=g)
    unit = F.normalize(w[0, 0], dim=-1)
    return [
        Case("u against a long w", (u[0, 0] - 2 * w[0, 0], 3 * w[0, 0])),
        Case("a batch of pairs", (u, w)),
        Case("wᵀu far below −1 and far above", (torch.stack([-60 * unit, 60 * unit]), torch.stack([unit, 2 * unit]))),
        Case("wᵀu near 900, where exp overflows", ((450 * unit + u[0, 1])[None], 2 * unit[None])),
    ]


# 4.4 Find the error -------------------------------------------------------------------------------------------------


def coupling(x: Tensor, s: Tensor, t: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
    """Return z (N, m), log|det dz/dx| (N,) of an affine coupling, s and t (N, m/2); `inverse`: x, log|det dx/dz|."""
    a, b = x.chunk(2, -1)
    if inverse:
        return torch.cat([a, (b - t) * torch.exp(-s)], -1), -s.sum(-1)
    return torch.cat([a, b * torch.exp(s) + t], -1), s.sum(-1)


def hers(x: Tensor, s: Tensor, t: Tensor, inverse: bool, mended: str) -> tuple[Tensor, Tensor]:
    """Return what the given coupling does, with what is `mended` right: "sum", "order", "sign"."""
    a, b = x.chunk(2, -1)
    total = s.sum(-1) if "sum" in mended else s.mean(-1)
    if inverse:
        back = (b - t) * torch.exp(-s) if "order" in mended else b * torch.exp(-s) - t
        return torch.cat([a, back], -1), -total if "sign" in mended else total
    return torch.cat([a, b * torch.exp(s) + t], -1), total


@check.exercise(
    "4.4",
    coupling,
    points=4,
    own=("flow_couplings.Affine.forward", "flow_couplings.Affine.inverse"),
    gradients=("s", "t"),
    hint="check three things: the log-determinant of (4.7b), the order in which the inverse undoes both steps, and the "
    "sign of the log-determinant on the way back.",
    mistakes=(
        Mistake(
            partial(hers, mended=""),
            "All three errors are still there. Send a z back: does it return? Compare the log-determinant with (4.7b).",
        ),
        Mistake(partial(hers, mended="sum"), "The sum is right. On the way back two errors are left."),
        Mistake(
            partial(hers, mended="order"), "The inverse returns what went in. Both log-determinants are still off."
        ),
        Mistake(partial(hers, mended="sign"), "The sign is mended. A sum over the diagonal, and one order, are left."),
        Mistake(
            partial(hers, mended="sum sign"),
            "Both log-determinants are right. The inverse must undo the last step first: subtract t, then divide.",
        ),
        Mistake(
            partial(hers, mended="sum order"),
            "One error is left: the log-determinant of the inverse is that of the map just applied, (4.2c).",
        ),
        Mistake(
            partial(hers, mended="order sign"),
            "One error is left: log|det J| is the sum over the diagonal, not its mean.",
        ),
        Mistake(
            lambda x, s, t, inverse: (coupling(x, s, t, inverse)[0].flip(-1), coupling(x, s, t, inverse)[1]),
            "The numbers come out in another order than they went in.",
        ),
    ),
)
def coupling_cases(g: torch.Generator) -> list[Case]:
    """Both directions, in two dimensions and in ten."""
    x, s, t = normal(4, 10, generator=g), normal(4, 5, generator=g), normal(4, 5, generator=g)
    return [
        Case("inverse, ten numbers", (x, s, t, True)),
        Case("forward, ten numbers", (x, s, t, False)),
        Case("forward, six numbers", (x[:, :6], s[:, :3], t[:, :3], False)),
        Case("inverse, six numbers", (x[:, :6], s[:, 1:4], t[:, 1:4], True)),
    ]


# 4.5 The 1×1 convolution --------------------------------------------------------------------------------------------


def one_by_one(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Return W x at each position, (N, C, H, W), and log|det J| (N,), of images x (N, C, H, W) and W (C, C)."""
    z = torch.einsum("ij,njhw->nihw", w, x)
    n, _, height, width = x.shape
    return z, (height * width * torch.linalg.slogdet(w).logabsdet).expand(n)


@check.exercise(
    "4.5",
    one_by_one,
    points=3,
    hint="W mixes channels, at every position alike; and each position has a determinant of its own: hints 1 and 2.",
    mistakes=(
        Mistake(
            lambda x, w: (one_by_one(x, w)[0], torch.linalg.slogdet(w).logabsdet.expand(len(x))),
            "The determinant is counted once for the whole image: E4.8 (3). At how many positions does W act?",
        ),
        Mistake(
            lambda x, w: (one_by_one(x, w)[0], x.shape[2] * x.shape[3] * w.logdet().expand(len(x))),
            "torch.logdet is nan where det W is negative; the formula has |det W|: E4.8 (2).",
        ),
        Mistake(
            lambda x, w: (torch.einsum("ji,njhw->nihw", w, x), one_by_one(x, w)[1]),
            "You applied the transpose of W: output channel i is row i of W times the input.",
        ),
        Mistake(
            lambda x, w: (one_by_one(x, w)[0], torch.linalg.slogdet(w).logabsdet.expand(len(x)) * x[0].numel()),
            "You counted the determinant for every number. It is that of C numbers at once: H · W times.",
        ),
        Mistake(
            lambda x, w: (one_by_one(x, w)[0], x.shape[2] * x.shape[3] * torch.linalg.det(w).abs().expand(len(x))),
            "This is |det W|; its logarithm is asked for.",
        ),
        Mistake(
            lambda x, w: (one_by_one(x, w)[0], -one_by_one(x, w)[1]),
            "The sign is that of the inverse. log|det J| of the map just applied is asked for.",
        ),
    ),
)
def one_by_one_cases(g: torch.Generator) -> list[Case]:
    """Positive and negative determinants, and images that are not square."""
    x = normal(3, 4, 5, 6, generator=g)
    rotation = torch.linalg.qr(normal(4, 4, generator=g)).Q
    scaled = rotation * torch.tensor([2.0, 0.5, 1.5, 3.0], dtype=torch.float64)
    mirror = torch.diag(torch.tensor([-1.0, 1, 1, 1], dtype=torch.float64))
    positive = scaled if torch.linalg.det(scaled) > 0 else scaled @ mirror
    return [
        Case("three images, det W < 0", (x, positive @ mirror)),
        Case("three images, det W > 0", (x, positive)),
        Case("one image of one row, det W < 0", (x[:1, :, :1], (positive @ mirror).mT.contiguous())),
        Case("vectors, as images of one pixel", (x[..., :1, :1], positive @ mirror @ positive)),
    ]


# 4.6 Predict, then run ----------------------------------------------------------------------------------------------


def network_passes(m: Tensor, kind: str, layers: int) -> tuple[Tensor, Tensor]:
    """Return the passes that the density of a given x takes, and a sample, (N,) each, for x of m numbers, m (N,)."""
    slow, fast = m * layers, torch.full_like(m, layers)
    return {"maf": (fast, slow), "iaf": (slow, fast), "coupling": (fast, fast)}[kind]


def passes_of(m: Tensor, kind: str, layers: int, **others: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the same, but for some kinds."""
    return others.get(kind, network_passes(m, kind, layers))


@check.exercise(
    "4.6",
    network_passes,
    points=2,
    hint="for each kind and direction: are all inputs of the network known at once, or only one number after another?",
    mistakes=(
        Mistake(
            lambda m, kind, n: network_passes(m, {"maf": "iaf", "iaf": "maf"}.get(kind, kind), n),
            "You exchanged MAF and IAF: which of the two knows all its inputs when x is given?",
        ),
        Mistake(
            lambda m, kind, n: network_passes(m, kind, 1),
            "Every layer has a network of its own: count the passes of all layers.",
        ),
        Mistake(
            lambda m, kind, n: tuple(torch.where(p == n, p, p - n) for p in network_passes(m, kind, n)),
            "The first number needs no other one, but its parameters come out of the network, too.",
        ),
        Mistake(
            lambda m, kind, n: passes_of(m, kind, n, coupling=(torch.full_like(m, n), torch.full_like(m, 2 * n))),
            "A coupling takes one pass a layer in both directions: its first part is known either way.",
        ),
        Mistake(
            lambda m, kind, n: passes_of(m, kind, n, coupling=(torch.full_like(m, n), m * n)),
            "A coupling does not go number by number: all of its second part is transformed at once.",
        ),
        Mistake(
            lambda m, kind, n: (torch.full_like(m, n), torch.full_like(m, n)),
            "One of the two directions of an autoregressive flow takes one pass a number.",
        ),
        Mistake(
            lambda m, kind, n: passes_of(m, kind, n, maf=(m * n, m * n), iaf=(m * n, m * n)),
            "Only one direction of an autoregressive flow is slow.",
        ),
    ),
)
def network_passes_cases(g: torch.Generator) -> list[Case]:
    """Each kind, with several layers."""
    m, layers = torch.randint(20, 90, (4,), generator=g), int(torch.randint(3, 9, (1,), generator=g))
    return [
        Case("MAF", (m, "maf", layers)),
        Case("IAF", (m, "iaf", layers)),
        Case("couplings", (m, "coupling", layers)),
        Case("MAF of 784 pixels, 5 layers", (torch.tensor([784]), "maf", 5)),
    ]


# 4.7 Bits per dimension ---------------------------------------------------------------------------------------------


def image_bits(log_p_v: Tensor, v: Tensor, alpha: float, levels: int) -> Tensor:
    """Return bits per dimension (N,) of images with so many grey levels, from log p of their logits v (N, m), (N,)."""
    log_slope = math.log(1 - 2 * alpha) - F.logsigmoid(v) - F.logsigmoid(-v)  # (N, m), of the logit
    log_p = log_p_v + log_slope.sum(-1) - v.shape[-1] * math.log(levels)
    return -log_p / (v.shape[-1] * math.log(2))


def other_bits(log_p_v, v, alpha, levels, logit=1.0, scale=1.0, squash=True, unit=LOG_2) -> Tensor:
    """Return the same with lines weighted by other numbers than 1."""
    log_slope = squash * math.log(1 - 2 * alpha) - F.logsigmoid(v) - F.logsigmoid(-v)
    log_p = log_p_v + logit * log_slope.sum(-1) - scale * v.shape[-1] * math.log(levels)
    return -log_p / (v.shape[-1] * unit)


@check.exercise(
    "4.7",
    image_bits,
    points=4,
    own=("flow_images.bits_per_dim",),
    hint="go through the ledger line by line: the density of v is given, then logit, scale, and the change of units.",
    mistakes=(
        Mistake(
            partial(other_bits, logit=0.0),
            "Line 3 is missing: v is the logit of the image, and that map has a Jacobian.",
        ),
        Mistake(partial(other_bits, scale=0.0), "Line 4 is missing: the levels were divided by their number."),
        Mistake(partial(other_bits, logit=-1.0), "The logit's log-determinant has the wrong sign: it stretches."),
        Mistake(partial(other_bits, scale=-1.0), "The scale's line has the wrong sign: dividing makes densities grow."),
        Mistake(
            partial(other_bits, squash=False),
            "The logit acts on α + (1 − 2α) y: its derivative by y has the factor 1 − 2α.",
        ),
        Mistake(partial(other_bits, unit=1.0), "These are nats per dimension; divide by log 2."),
        Mistake(
            lambda log_p_v, v, alpha, levels: -image_bits(log_p_v, v, alpha, levels),
            "Bits are a length of code: minus the logarithm.",
        ),
        Mistake(
            lambda log_p_v, v, alpha, levels: v.shape[-1] * image_bits(log_p_v, v, alpha, levels),
            "These are bits for the whole image; per dimension is asked for.",
        ),
        Mistake(
            lambda log_p_v, v, alpha, levels: other_bits(log_p_v, v, alpha, levels - 1),
            "The grey levels lie 1/(levels − 1) apart only if the noise is as wide: here y = (x + u)/levels.",
        ),
        Mistake(
            lambda log_p_v, v, alpha, levels: other_bits(log_p_v, v, alpha, 256),
            "You took 256 levels; their number is given.",
        ),
        Mistake(
            lambda log_p_v, v, alpha, levels: (
                -(
                    log_p_v
                    + (math.log(1 - 2 * alpha) - v.sigmoid().log() - (1 - v.sigmoid()).log()).sum(-1)
                    - v.shape[-1] * math.log(levels)
                )
                / (v.shape[-1] * math.log(2))
            ),
            "log(1 − sigmoid(v)) is −∞ where sigmoid(v) is rounded to 1: F.logsigmoid(−v) is exact.",
        ),
    ),
)
def image_bits_cases(g: torch.Generator) -> list[Case]:
    """Images with 256 and with 17 levels, and logits far out."""
    v = 2 * normal(4, 12, generator=g)
    log_p_v = -20 + normal(4, generator=g)
    return [
        Case("four images of 12 pixels, 256 levels", (log_p_v, v, 0.05, 256)),
        Case("17 levels", (log_p_v, v, 0.01, 17)),
        Case("one pixel", (log_p_v, v[:, :1], 1e-3, 32)),
        Case("logits near ±60, where sigmoid is rounded to 0 or 1", (log_p_v, v.sign() * 60 + v, 1e-6, 17)),
    ]


# 4.8 Bayes' rule with densities --------------------------------------------------------------------------------------


def class_posterior(log_p: Tensor, prior: Tensor) -> Tensor:
    """Return p(y | x), (N, C), from log p(x | y) (N, C) in nats and the classes' probabilities (C,)."""
    return (log_p + prior.log()).softmax(-1)


@check.exercise(
    "4.8",
    class_posterior,
    points=2,
    hint="p(y|x) is proportional to p(x|y) p(y); log p is −1,000 and less for an image, so stay with logarithms.",
    mistakes=(
        Mistake(
            lambda log_p, prior: log_p.softmax(-1),
            "You left out the prior: a class that is rare needs more evidence.",
        ),
        Mistake(
            lambda log_p, prior: log_p.softmax(-1) * prior,
            "The sum over the classes is not 1: the prior belongs inside, before you normalise.",
        ),
        Mistake(
            lambda log_p, prior: (log_p + prior).softmax(-1),
            "You added the prior to a logarithm: add its logarithm.",
        ),
        Mistake(
            lambda log_p, prior: (log_p + prior.log()).log_softmax(-1),
            "This is log p(y|x); the probabilities are asked for.",
        ),
        Mistake(
            lambda log_p, prior: (log_p + prior.log()).softmax(0),
            "You normalised over the examples; the classes lie along the last axis.",
        ),
        Mistake(
            lambda log_p, prior: (log_p - prior.log()).softmax(-1),
            "You divided by the prior; Bayes' rule multiplies by it.",
        ),
    ),
)
def class_posterior_cases(g: torch.Generator) -> list[Case]:
    """Log densities near 0 and those of images, with an uneven prior."""
    log_p, prior = normal(5, 4, generator=g), normal(4, generator=g).softmax(-1)
    lost = "exp of these is 0 or ∞, and 0/0 and ∞/∞ are nan. Add logarithms, then softmax: see hint 1."
    return [
        Case("five points, four classes", (log_p, prior)),
        Case("log densities near −1,200: images", (log_p - 1200, prior), lost),
        Case("log densities near +2,500", (3 * log_p + 2500, prior.flip(0)), lost),
        Case("a rare class", (log_p[:, :2], torch.tensor([0.999, 0.001], dtype=torch.float64))),
    ]

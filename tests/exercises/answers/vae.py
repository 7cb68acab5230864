"""Answers to the exercises of lecture 2 as students write them: what is right must pass, what is wrong is told why.

RIGHT: exercise → how it is written → function. WRONG: exercise → what is wrong → function, and a part of what is said.
"""

import math

import numpy as np
import scipy.special
import scipy.stats
import torch
import torch.nn.functional as F
from torch.distributions import (
    AffineTransform,
    Bernoulli,
    Normal,
    SigmoidTransform,
    TransformedDistribution,
    Uniform,
    kl_divergence,
)

from course_utils import paths


def inner_edges(levels, dtype):
    return (torch.arange(levels - 1, dtype=dtype) + 0.5) / (levels - 1)


def grey_by_cat(mean, log_scale, levels):
    inner = ((inner_edges(levels, mean.dtype) - mean[..., None]) / log_scale.exp()[..., None]).sigmoid()
    zero = torch.zeros_like(mean)[..., None]
    return torch.cat([inner, zero + 1], -1) - torch.cat([zero, inner], -1)


def grey_by_infinite_edges(mean, log_scale, levels):
    edges = inner_edges(levels, mean.dtype)
    edges = torch.cat([torch.tensor([-math.inf]), edges, torch.tensor([math.inf])])
    return torch.sigmoid((edges - mean.unsqueeze(-1)) * torch.exp(-log_scale).unsqueeze(-1)).diff()


def grey_by_loop(mean, log_scale, levels):
    columns, below = [], torch.zeros_like(mean)
    for k in range(levels):
        edge = (k + 0.5) / (levels - 1)
        cdf = torch.ones_like(mean) if k == levels - 1 else torch.sigmoid((edge - mean) / log_scale.exp())
        columns.append(cdf - below)
        below = cdf
    return torch.stack(columns, -1)


def grey_by_bins(mean, log_scale, levels):
    x, half = torch.linspace(0, 1, levels, dtype=mean.dtype), 0.5 / (levels - 1)
    u = (x - mean[..., None]) / (s := log_scale.exp()[..., None])
    table = torch.sigmoid(u + half / s) - torch.sigmoid(u - half / s)
    table[..., 0] = torch.sigmoid(u + half / s)[..., 0]
    table[..., -1] = torch.sigmoid(half / s - u)[..., -1]
    return table


def grey_by_distributions(mean, log_scale, levels):
    base = Uniform(torch.zeros_like(mean)[..., None], torch.ones_like(mean)[..., None], validate_args=False)
    to_line = [SigmoidTransform().inv, AffineTransform(mean[..., None], log_scale.exp()[..., None])]
    logistic = TransformedDistribution(base, to_line, validate_args=False)
    inner = logistic.cdf(inner_edges(levels, mean.dtype).expand(*mean.shape, levels - 1))
    return F.pad(F.pad(inner, (0, 1), value=1.0), (1, 0)).diff()


def grey_by_scipy(mean, log_scale, levels):
    edges = (np.arange(levels - 1) + 0.5) / (levels - 1)
    cdf = scipy.stats.logistic.cdf(edges, mean.numpy()[..., None], np.exp(log_scale.numpy())[..., None])
    return np.diff(cdf, axis=-1, prepend=0, append=1)


def grey_by_tanh(mean, log_scale, levels):
    inner = 0.5 + 0.5 * torch.tanh((inner_edges(levels, mean.dtype) - mean[..., None]) / 2 / log_scale[..., None].exp())
    return torch.diff(inner, prepend=torch.zeros(*mean.shape, 1), append=torch.ones(*mean.shape, 1))


def grey_between(edges, mean, log_scale):
    inner = ((edges - mean[..., None]) / log_scale.exp()[..., None]).sigmoid()
    return torch.cat([torch.zeros_like(mean)[..., None], inner, torch.ones_like(mean)[..., None]], -1).diff()


def grey_at_centres(ends):
    """With a 0 in front, a 1 behind, or neither, which is no table of differences at all."""

    def table(mean, log_scale, levels):
        x = torch.linspace(0, 1, levels, dtype=mean.dtype)
        cdf = ((x - mean[..., None]) / log_scale.exp()[..., None]).sigmoid()
        zero = torch.zeros_like(mean)[..., None]
        return cdf.diff(prepend=zero) if ends == "0" else cdf.diff(append=zero + 1) if ends == "1" else cdf

    return table


def grey_without_ends(mean, log_scale, levels):
    x, half = torch.linspace(0, 1, levels, dtype=mean.dtype), 0.5 / (levels - 1)
    scale = log_scale.exp()[..., None]
    return ((x + half - mean[..., None]) / scale).sigmoid() - ((x - half - mean[..., None]) / scale).sigmoid()


def kl(mean, log_var):
    return 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(-1)


def log_lik(x, logits):
    return -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)


def loss_by_distributions(x, logits, mean, log_var):
    q = Normal(mean, (log_var / 2).exp())
    return (kl_divergence(q, Normal(0.0, 1.0)).sum(1) - Bernoulli(logits=logits).log_prob(x).sum(1)).mean()


def loss_by_sums(x, logits, mean, log_var):
    total = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    return (total - 0.5 * torch.sum(1 + log_var - mean.pow(2) - log_var.exp())) / x.shape[0]


def loss_by_softplus(x, logits, mean, log_var):
    return (F.softplus(logits) - x * logits).sum(-1).mean() + kl(mean, log_var).mean()


def loss_by_logsigmoid(x, logits, mean, log_var):
    pixels = x * F.logsigmoid(logits) + (1 - x) * F.logsigmoid(-logits)
    return kl(mean, log_var).mean() - pixels.sum(-1).mean()


def loss_by_loop(x, logits, mean, log_var):
    total = 0
    for i in range(len(x)):
        total = total - log_lik(x[i], logits[i]) + kl(mean[i], log_var[i])
    return total / len(x)


def loss_by_means(x, logits, mean, log_var):
    return x.shape[1] * F.binary_cross_entropy_with_logits(logits, x) + kl(mean, log_var).mean()


def loss_in_place(x, logits, mean, log_var):
    terms = mean.square() + log_var.exp()
    terms -= 1
    terms -= log_var
    return -log_lik(x, logits).mean() + terms.sum() / (2 * len(x))


def loss_in_single_precision(*args):
    return loss_by_softplus(*(a.float() for a in args))


def loss_by_bce(x, logits, mean, log_var):
    return (F.binary_cross_entropy(logits.sigmoid(), x, reduction="none").sum(-1) + kl(mean, log_var)).mean()


def loss_by_logs(x, logits, mean, log_var):
    p = logits.sigmoid()
    return -(x * (p + 1e-8).log() + (1 - x) * (1 - p + 1e-8).log()).sum(-1).mean() + kl(mean, log_var).mean()


def loss_without_grad(*args):
    with torch.no_grad():
        return loss_by_sums(*args)


def rates_by_loop(eigenvalues, sigma, beta):
    return torch.tensor([max(0.0, 0.5 * math.log(v / (beta * sigma**2))) for v in eigenvalues.tolist()])


def rates_by_numpy(eigenvalues, sigma, beta):
    return np.maximum(0, 0.5 * np.log(eigenvalues.numpy() / beta / sigma**2))


def rates_by_decoder(eigenvalues, sigma, beta):
    noise = beta * sigma**2
    w_squared = (eigenvalues - noise).clamp(min=0)
    return 0.5 * ((w_squared + noise) / noise).log()


def rates_by_terms(eigenvalues, sigma, beta):
    noise = beta * sigma**2
    w = (eigenvalues - noise).clamp(min=0).sqrt()
    m, s = w / (w**2 + noise), (noise / (w**2 + noise)).sqrt()
    return 0.5 * (m**2 * eigenvalues + s**2 - 1) - s.log()


def rates_in_place(eigenvalues, sigma, beta):
    rates = (eigenvalues / (beta * sigma**2)).log() / 2
    rates[rates < 0] = 0
    return rates


def unit(v):
    return v / v.norm()


def slerp(a, b, t):
    omega = (unit(a) @ unit(b)).clamp(-1, 1).acos()
    norms = ((1 - t) * a.norm() + t * b.norm())[:, None]
    if omega.sin() < 1e-6:
        return norms * unit(a)
    weights = torch.stack([((1 - t) * omega).sin(), (t * omega).sin()], 1) / omega.sin()
    return norms * (weights @ torch.stack([unit(a), unit(b)]))


def slerp_by_gram_schmidt(a, b, t):
    u, v = unit(a), unit(b)
    across = v - (u @ v) * u
    angle = torch.atan2(across.norm(), u @ v)
    w = across / across.norm().clamp(min=1e-12)
    direction = torch.outer((t * angle).cos(), u) + torch.outer((t * angle).sin(), w)
    return torch.lerp(a.norm(), b.norm(), t)[:, None] * direction


def slerp_by_loop(a, b, t):
    omega = math.acos(min(1.0, max(-1.0, float(unit(a) @ unit(b)))))
    points = []
    for v in t.tolist():
        if omega < 1e-6:
            points.append((1 - v) * a + v * b)
            continue
        direction = (math.sin((1 - v) * omega) * unit(a) + math.sin(v * omega) * unit(b)) / math.sin(omega)
        points.append(((1 - v) * a.norm() + v * b.norm()) * direction)
    return torch.stack(points)


def slerp_by_rotation(a, b, t):
    u, v = unit(a), unit(b)
    angle = 2 * torch.atan2((u - v).norm(), (u + v).norm())
    w = F.normalize(v - (u @ v) * u, dim=0)
    turn = torch.outer(w, u) - torch.outer(u, w)
    rows = torch.stack([torch.linalg.matrix_exp(s * angle * turn) @ u for s in t])
    return rows * ((1 - t) * a.norm() + t * b.norm()).unsqueeze(1)


def slerp_by_numpy(a, b, t):
    u, v = (x.numpy() / np.linalg.norm(x.numpy()) for x in (a, b))
    omega, s = np.arccos(np.clip(u @ v, -1, 1)), t.numpy()[:, None]
    norms = (1 - s) * np.linalg.norm(a.numpy()) + s * np.linalg.norm(b.numpy())
    if np.isclose(omega, 0, atol=1e-6):
        return norms * u
    return norms * (np.sin((1 - s) * omega) * u + np.sin(s * omega) * v) / np.sin(omega)


def slerp_unguarded(a, b, t):
    omega = torch.acos(unit(a) @ unit(b))
    t = t[:, None]
    direction = (((1 - t) * omega).sin() * unit(a) + (t * omega).sin() * unit(b)) / omega.sin()
    return ((1 - t) * a.norm() + t * b.norm()) * direction


def free_by_loop(kl, free_nats):
    total = 0.0
    for j in range(kl.shape[1]):
        mean = kl[:, j].mean()
        total = total + (mean if mean > free_nats else free_nats)
    return torch.as_tensor(total)


def free_by_mask(kl, free_nats):
    mean = kl.mean(0)
    on = (mean > free_nats).to(mean)
    return (on * mean + (1 - on) * free_nats).sum()


def free_in_place(kl, free_nats):
    mean = kl.mean(dim=0)
    return mean.clamp_(min=free_nats).sum()


def free_by_numbers(kl, free_nats):
    return sum(max(float(kl[:, j].mean()), free_nats) for j in range(kl.shape[1]))


def chunk_by_maximum(log_mean, draws, log_w):
    top = torch.maximum(log_mean, log_w.max(0).values)
    total = draws * (log_mean - top).exp() + (log_w - top).exp().sum(0)
    return top + (total / (draws + len(log_w))).log()


def chunk_by_row(log_mean, draws, log_w):
    row = (log_mean + torch.tensor(float(draws)).log())[None]
    return torch.cat([row, log_w]).logsumexp(0) - math.log(draws + log_w.shape[0])


def chunk_by_shares(log_mean, draws, log_w):
    k = len(log_w)
    bound = torch.logsumexp(log_w, 0) - math.log(k)
    if draws == 0:
        return bound
    return torch.logaddexp(log_mean + math.log(draws / (draws + k)), bound + math.log(k / (draws + k)))


def chunk_by_loop(log_mean, draws, log_w):
    total = log_mean + math.log(draws) if draws > 0 else log_mean
    for row in log_w:
        total = torch.logaddexp(total, row)
    return total - math.log(draws + len(log_w))


def chunk_by_scipy(log_mean, draws, log_w):
    rows = np.concatenate([log_mean.numpy()[None], log_w.numpy()])
    counts = np.concatenate([[draws], np.ones(len(log_w))])[:, None]
    return scipy.special.logsumexp(rows, axis=0, b=counts / counts.sum())


def chunk_draw_by_draw(log_mean, draws, log_w):
    for row in log_w:
        before = log_mean + math.log(draws) if draws else torch.full_like(row, -math.inf)
        draws += 1
        log_mean = torch.logaddexp(before, row) - math.log(draws)
    return log_mean


def chunk_in_place(log_mean, draws, log_w):
    log_w -= math.log(draws + len(log_w))
    before = log_mean + math.log(draws / (draws + len(log_w))) if draws else log_mean
    return torch.logaddexp(before, log_w.logsumexp(0))


def class_by_gather(z, y, new_y, means, sigmas):
    take = lambda table, index: table.gather(0, index[:, None].expand(-1, table.shape[1]))  # noqa: E731
    return take(means, new_y) + take(sigmas, new_y) * (z - take(means, y)) / take(sigmas, y)


def class_by_loop(z, y, new_y, means, sigmas):
    moved = torch.empty_like(z)
    for i, (old, new) in enumerate(zip(y.tolist(), new_y.tolist(), strict=True)):
        moved[i] = means[new] + sigmas[new] * ((z[i] - means[old]) / sigmas[old])
    return moved


def class_by_one_hot(z, y, new_y, means, sigmas):
    old, new = (F.one_hot(v, len(means)).to(z) for v in (y, new_y))
    return torch.addcmul(new @ means, new @ sigmas, (z - old @ means) / (old @ sigmas))


def class_by_transform(z, y, new_y, means, sigmas):
    style = AffineTransform(means[y], sigmas[y]).inv(z)
    return AffineTransform(means[new_y], sigmas[new_y])(style)


def class_by_factor(z, y, new_y, means, sigmas):
    factor = sigmas.index_select(0, new_y) / sigmas.index_select(0, y)
    return z * factor + means[new_y] - means[y] * factor


def class_in_place(z, y, new_y, means, sigmas):
    style = z.clone()
    style -= means[y]
    style /= sigmas[y]
    return style.mul_(sigmas[new_y]).add_(means[new_y])


def class_spoiling_z(z, y, new_y, means, sigmas):
    z -= means[y]
    return z / sigmas[y] * sigmas[new_y] + means[new_y]


RIGHT = {
    "2.1": {
        "differences of two tables": grey_by_cat,
        "edges at infinity": grey_by_infinite_edges,
        "a loop": grey_by_loop,
        "bins, the outer ones set": grey_by_bins,
        "torch.distributions": grey_by_distributions,
        "SciPy": grey_by_scipy,
        "tanh": grey_by_tanh,
        "single precision": lambda mean, log_scale, levels: grey_by_cat(mean.float(), log_scale.float(), levels),
    },
    "2.2": {
        "torch.distributions": loss_by_distributions,
        "sums over all, divided": loss_by_sums,
        "softplus": loss_by_softplus,
        "logsigmoid": loss_by_logsigmoid,
        "a loop": loss_by_loop,
        "mean times pixels": loss_by_means,
        "writes into its own tensor": loss_in_place,
        "single precision": loss_in_single_precision,
    },
    "2.3": {
        "relu": lambda lam, sigma, beta: F.relu(torch.log(lam) - math.log(beta) - 2 * math.log(sigma)) / 2,
        "where": lambda lam, sigma, beta: torch.where(
            lam > (n := beta * sigma**2), 0.5 * torch.log(lam / n), torch.zeros_like(lam)
        ),
        "a loop": rates_by_loop,
        "NumPy": rates_by_numpy,
        "the decoder's weight": rates_by_decoder,
        "the formula of the rate": rates_by_terms,
        "in place on its own": rates_in_place,
        "eigenvalues raised to the noise": lambda lam, sigma, beta: (
            lam.clamp(min=beta * sigma**2).sqrt().log() - math.log(sigma * beta**0.5)
        ),
    },
    "2.4": {
        "weights": slerp,
        "Gram and Schmidt": slerp_by_gram_schmidt,
        "a loop": slerp_by_loop,
        "a rotation": slerp_by_rotation,
        "NumPy": slerp_by_numpy,
        "rows in a list": lambda a, b, t: [slerp(a, b, t[i : i + 1])[0] for i in range(len(t))],
    },
    "2.5": {
        "maximum": lambda kl, free_nats: torch.maximum(kl.mean(0), torch.tensor(free_nats).to(kl)).sum(),
        "relu": lambda kl, free_nats: (F.relu(kl.mean(0) - free_nats) + free_nats).sum(),
        "where": lambda kl, free_nats: torch.where(kl.mean(0) < free_nats, free_nats, kl.mean(0)).sum(),
        "a loop": free_by_loop,
        "a mask": free_by_mask,
        "in place on its own": free_in_place,
        "clip of a sum": lambda kl, free_nats: (kl.sum(0) / len(kl)).clip(free_nats).sum(),
        "threshold": lambda kl, free_nats: F.threshold(kl.mean(0), free_nats, free_nats).sum(),
    },
    "2.6": {
        "largest taken out": chunk_by_maximum,
        "one more row": chunk_by_row,
        "shares": chunk_by_shares,
        "a loop": chunk_by_loop,
        "SciPy": chunk_by_scipy,
        "draw by draw": chunk_draw_by_draw,
    },
    "2.7": {
        "gather": class_by_gather,
        "a loop": class_by_loop,
        "one-hot": class_by_one_hot,
        "torch.distributions": class_by_transform,
        "factor and shift": class_by_factor,
        "in place on a copy": class_in_place,
    },
}

WRONG = {
    "2.1": {
        "scale clamped at e⁻⁷": (
            lambda mean, log_scale, levels: grey_by_cat(mean, log_scale.clamp(min=-7), levels),
            "it needs no limit below",
        ),
        "distribution function at the centres": (
            lambda mean, log_scale, levels: grey_between(
                torch.linspace(0, 1, levels, dtype=mean.dtype)[:-1], mean, log_scale
            ),
            "the distribution function at the levels themselves",
        ),
        **{
            f"distribution function at the centres: {what}": (grey_at_centres(ends), "at the levels themselves")
            for what, ends in {"itself": "", "its differences, from 0": "0", "its differences, to 1": "1"}.items()
        },
        "distribution function at the upper centres": (
            lambda mean, log_scale, levels: grey_between(
                torch.linspace(0, 1, levels, dtype=mean.dtype)[1:], mean, log_scale
            ),
            "the distribution function at the levels themselves",
        ),
        "closed bins": (grey_without_ends, "Your outermost bins end"),
        "closed bins, normalised": (
            lambda *args: grey_without_ends(*args) / grey_without_ends(*args).sum(-1, keepdim=True),
            "You divided by the sum",
        ),
        "edges k/levels": (
            lambda mean, log_scale, levels: grey_between(
                torch.arange(1, levels, dtype=mean.dtype) / levels, mean, log_scale
            ),
            "Your edges are k/levels",
        ),
        "log scale for scale": (
            lambda mean, log_scale, levels: torch.cat(
                [
                    torch.zeros(*mean.shape, 1),
                    ((inner_edges(levels, mean.dtype) - mean[..., None]) / log_scale[..., None]).sigmoid(),
                    torch.ones(*mean.shape, 1),
                ],
                -1,
            ).diff(),
            "You divided by the logarithm",
        ),
        "means clamped": (
            lambda mean, log_scale, levels: grey_by_cat(mean.clamp(0, 1), log_scale, levels),
            "A mean may lie outside",
        ),
        "scale clamped above": (
            lambda mean, log_scale, levels: grey_by_cat(mean, log_scale.clamp(max=2), levels), "Is it limited above?"
        ),
        "log-probabilities": (lambda *args: grey_by_cat(*args).log(), "These are log-probabilities"),
        "writes into log_scale": (
            lambda mean, log_scale, levels: grey_by_bins(mean, log_scale.exp_().log(), levels),
            "changed its argument `log_scale`",
        ),
    },
    "2.2": {
        "hers": (
            lambda x, logits, mean, log_var: -(log_lik(x, logits) + kl(mean, 2 * log_var)).mean(),
            "both mistakes are still in it",
        ),
        "sign mended only": (
            lambda x, logits, mean, log_var: (kl(mean, 2 * log_var) - log_lik(x, logits)).mean(),
            "still taken for log σ",
        ),
        "variance mended only": (
            lambda x, logits, mean, log_var: -(log_lik(x, logits) + kl(mean, log_var)).mean(),
            "The KL has the wrong sign",
        ),
        "binary_cross_entropy of a sigmoid": (loss_by_bce, "sigmoid(300) is rounded to 1"),
        "logarithms of a sigmoid": (loss_by_logs, "sigmoid(300) is rounded to 1"),
        "no_grad": (loss_without_grad, "it has no gradient"),
        "item": (lambda *args: loss_by_sums(*args).item(), "it has no gradient"),
        "KL detached": (
            lambda x, logits, mean, log_var: (kl(mean, log_var).detach() - log_lik(x, logits)).mean(),
            "with respect to `mean` it has no gradient",
        ),
        "mean over all pixels": (
            lambda x, logits, mean, log_var: (
                F.binary_cross_entropy_with_logits(logits, x) + kl(mean, log_var).mean()
            ),
            "You averaged over the pixels",
        ),
        "of each image": (lambda x, logits, mean, log_var: kl(mean, log_var) - log_lik(x, logits), "shape (5,)"),
        "summed over the batch": (lambda *args: len(args[0]) * loss_by_sums(*args), "the sum over the batch"),
        "the ELBO": (lambda *args: -loss_by_sums(*args), "This is the ELBO"),
    },
    "2.3": {
        "negative rates": (lambda lam, sigma, beta: 0.5 * (lam / beta / sigma**2).log(), "A KL never is"),
        "sigma for sigma²": (
            lambda lam, sigma, beta: F.relu(0.5 * (lam / beta / sigma).log()), "a variance with a standard deviation"
        ),
        "without the half": (lambda lam, sigma, beta: F.relu((lam / beta / sigma**2).log()), "the ½ is missing"),
        "bits": (lambda lam, sigma, beta: F.relu(0.5 * (lam / beta / sigma**2).log2()), "These are bits"),
        "beta left out": (lambda lam, sigma, beta: F.relu(0.5 * (lam / sigma**2).log()), "does not use beta"),
        "a channel": (lambda lam, sigma, beta: 0.5 * torch.log1p(lam / beta / sigma**2), "the capacity of a channel"),
        "beta divides the rate": (
            lambda lam, sigma, beta: F.relu(0.5 * (lam / sigma**2).log()) / beta, "put the best s and m"
        ),
        "threshold without beta": (
            lambda lam, sigma, beta: torch.where(lam > sigma**2, 0.5 * (lam / beta / sigma**2).log(), 0.0), "Hint:"
        ),
        "the sum": (lambda lam, sigma, beta: rates_in_place(lam, sigma, beta).sum(), "returned a number"),
    },
    "2.4": {
        "the library's": (lambda a, b, t: paths.slerp(a, b, t), "`paths.slerp` is the course's own function for this"),
        "straight": (lambda a, b, t: a + t[:, None] * (b - a), "This is the straight path"),
        "straight, drawn onto the sphere": (
            lambda a, b, t: F.normalize(torch.lerp(unit(a), unit(b), t[:, None]), dim=-1)
            * torch.lerp(a.norm(), b.norm(), t)[:, None],
            "the direction turns faster in the middle",
        ),
        "no care of parallel vectors": (slerp_unguarded, "See hint 3"),
        "vectors with their norms": (
            lambda a, b, t: (
                ((1 - t) * (w := (unit(a) @ unit(b)).clamp(-1, 1).acos())).sin()[:, None] * a
                + (t * w).sin()[:, None] * b
            ) / w.sin(),
            "the norm does not go linearly",
        ),
        "norm of a": (lambda a, b, t: slerp(a, b * a.norm() / b.norm(), t), "keeps the norm of a"),
        "unit vectors": (lambda a, b, t: slerp(unit(a), unit(b), t), "the norm is missing"),
        "backwards": (lambda a, b, t: slerp(b, a, t), "runs backwards"),
        "transposed": (lambda a, b, t: slerp(a, b, t).T, "expected is a tensor of shape (4, 3)"),
    },
    "2.5": {
        "detached": (lambda kl, free_nats: kl.mean(0).detach().clamp(min=free_nats).sum(), "it has no gradient"),
        "numbers": (free_by_numbers, "it has no gradient"),
        "rebuilt": (
            lambda kl, free_nats: torch.tensor([v.mean() for v in kl.T]).clamp(min=free_nats).sum().to(kl),
            "it has no gradient",
        ),
        "straight through": (
            lambda kl, free_nats: kl.mean(0).sum() + (kl.mean(0).clamp(min=free_nats) - kl.mean(0)).sum().detach(),
            "with respect to `kl` it has the gradient",
        ),
        "each image": (lambda kl, free_nats: kl.clamp(min=free_nats).mean(0).sum(), "to each image"),
        "total": (lambda kl, free_nats: kl.sum(-1).mean().clamp(min=free_nats), "applied to the total"),
        "at most": (lambda kl, free_nats: kl.mean(0).clamp(max=free_nats).sum(), "at most free_nats"),
        "added": (lambda kl, free_nats: (kl.mean(0) + free_nats).sum(), "You added free_nats"),
        "mean over latents": (lambda kl, free_nats: kl.mean(0).clamp(min=free_nats).mean(), "mean over the latents"),
        "in place": (lambda kl, free_nats: kl.div_(len(kl)).sum(0).clamp(min=free_nats).sum(), "its argument `kl`"),
    },
    "2.6": {
        "mean of logarithms": (
            lambda log_mean, draws, log_w: (draws * log_mean + log_w.sum(0)) / (draws + len(log_w)), "Hint:"
        ),
        "mean of bounds": (
            lambda log_mean, draws, log_w: (log_mean + log_w.logsumexp(0) - math.log(len(log_w))) / 2,
            "the mean of two logarithms",
        ),
        "the mean counts as one draw": (
            lambda log_mean, draws, log_w: (
                torch.logaddexp(log_mean, log_w.logsumexp(0)) - math.log(draws + len(log_w))
            ),
            "like a single draw",
        ),
        "both count the same": (
            lambda log_mean, draws, log_w: torch.logaddexp(log_mean, log_w.logsumexp(0) - math.log(len(log_w)))
            - math.log(2),
            "count the same here",
        ),
        "log 0": (
            lambda log_mean, draws, log_w: torch.logaddexp(log_mean + math.log(draws), log_w.logsumexp(0))
            - math.log(draws + len(log_w)),
            "math.log(0) raises an error",
        ),
        "exp": (
            lambda log_mean, draws, log_w: (
                (draws * log_mean.exp() + log_w.exp().sum(0)) / (draws + len(log_w))
            ).log(),
            "is zero in floating point",
        ),
        "0 times infinity": (
            lambda log_mean, draws, log_w: torch.logaddexp(
                log_mean + draws * math.log(max(draws, 1)) / max(draws, 1) + 0 * log_mean, log_w.logsumexp(0)
            ) - math.log(draws + len(log_w)),
            "0 · (−∞) is nan",
        ),
        "chunk alone": (
            lambda log_mean, draws, log_w: log_w.logsumexp(0) - math.log(len(log_w)), "the new chunk alone"
        ),
        "in place": (chunk_in_place, "changed its argument `log_w`"),
        "mean of all images": (
            lambda log_mean, draws, log_w: chunk_by_row(log_mean, draws, log_w).mean(), "returned a number"
        ),
    },
    "2.7": {
        "unchanged": (lambda z, y, new_y, means, sigmas: z.clone(), "You returned z unchanged"),
        "mean only": (lambda z, y, new_y, means, sigmas: z - means[y] + means[new_y], "the classes' widths differ"),
        "inverted": (
            lambda z, y, new_y, means, sigmas: means[new_y] + (z - means[y]) * sigmas[y] / sigmas[new_y],
            "Your scale is inverted",
        ),
        "backwards": (
            lambda z, y, new_y, means, sigmas: class_by_loop(z, new_y, y, means, sigmas), "from the new class to"
        ),
        "style": (lambda z, y, new_y, means, sigmas: (z - means[y]) / sigmas[y], "You standardised z"),
        "z taken for style": (
            lambda z, y, new_y, means, sigmas: means[new_y] + sigmas[new_y] * z, "standardise it by its own class"
        ),
        "classes not looked up": (
            lambda z, y, new_y, means, sigmas: means.mean(0) + sigmas.mean(0) * (z - means[y]) / sigmas[y], "Hint:"
        ),
        "in place": (class_spoiling_z, "changed its argument `z`"),
    },
}  # fmt: skip

"""Answers to the exercises of lecture 4 as students write them: what is right must pass, what is wrong is told why.

RIGHT: exercise → how it is written → function. WRONG: exercise → what is wrong → function, and a part of what is said.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch.distributions import Categorical, MultivariateNormal, Normal, SoftplusTransform, TransformedDistribution

# 4.1 ---------------------------------------------------------------------------------------------------------------


def positive_by_distributions(x, mu, sigma):
    return TransformedDistribution(Normal(mu, sigma), [SoftplusTransform()], validate_args=False).log_prob(x)


def positive_by_normal(x, mu, sigma):
    rest = (-x).expm1().neg().log()
    return Normal(mu, sigma).log_prob(x + rest) - rest


def positive_by_formula(x, mu, sigma):
    rest = torch.log(-torch.expm1(-x))
    z = x + rest
    return -((z - mu) ** 2) / (2 * sigma**2) - math.log(sigma) - 0.5 * math.log(2 * math.pi) - rest


def positive_by_sigmoid(x, mu, sigma):
    z = x + torch.log(-torch.expm1(-x))
    return Normal(mu, sigma).log_prob(z) - F.logsigmoid(z)  # dx/dz = sigmoid(z)


def positive_in_two_parts(x, mu, sigma):
    small = x.clamp(max=30)
    z = torch.where(x < 30, small.expm1().log(), x)
    slope = torch.where(x < 30, -torch.log(-torch.expm1(-small)), 0.0)
    return Normal(mu, sigma).log_prob(z) + slope


def positive_by_loop(x, mu, sigma):
    out = []
    for v in x.flatten().tolist():
        rest = math.log(-math.expm1(-v))
        out.append(-0.5 * ((v + rest - mu) / sigma) ** 2 - math.log(sigma * math.sqrt(2 * math.pi)) - rest)
    return torch.tensor(out, dtype=x.dtype).view(x.shape)


def positive_by_numpy(x, mu, sigma):
    rest = np.log(-np.expm1(-x.numpy()))
    z = (x.numpy() + rest - mu) / sigma
    return torch.from_numpy(-0.5 * z**2 - np.log(sigma) - 0.5 * np.log(2 * np.pi) - rest)


def positive_without_slope(x, mu, sigma):
    return Normal(mu, sigma).log_prob(x + torch.log(-torch.expm1(-x)))


def positive_with_the_other_slope(x, mu, sigma):
    rest = torch.log(-torch.expm1(-x))
    return Normal(mu, sigma).log_prob(x + rest) + rest


def positive_softplus_again(x, mu, sigma):
    return Normal(mu, sigma).log_prob(F.softplus(x)) + torch.log(torch.sigmoid(x))


def positive_at_x(x, mu, sigma):
    return Normal(mu, sigma).log_prob(x)


def positive_density(x, mu, sigma):
    return positive_by_normal(x, mu, sigma).exp()


def positive_plainly(x, mu, sigma):
    z = torch.log(torch.exp(x) - 1)
    return Normal(mu, sigma, validate_args=False).log_prob(z) - torch.log(1 - torch.exp(-x))


# 4.2 ---------------------------------------------------------------------------------------------------------------


def reverse_by_normal(z, log_det, log_target):
    return (Normal(0.0, 1.0).log_prob(z).sum(-1) - log_det - log_target).mean()


def reverse_by_multivariate_normal(z, log_det, log_target):
    m = z.shape[-1]
    base = MultivariateNormal(torch.zeros(m, dtype=z.dtype), torch.eye(m, dtype=z.dtype))
    return torch.mean(base.log_prob(z) - log_det - log_target)


def reverse_by_formula(z, log_det, log_target):
    log_p_z = -0.5 * (z**2).sum(1) - z.shape[1] / 2 * math.log(2 * math.pi)
    return (log_p_z - log_det - log_target).sum() / len(z)


def reverse_in_three_means(z, log_det, log_target):
    return Normal(0.0, 1.0).log_prob(z).sum(-1).mean() - log_det.mean() - log_target.mean()


def reverse_by_loop(z, log_det, log_target):
    total = 0.0
    for one, det, target in zip(z, log_det, log_target, strict=True):
        total = total + sum(-0.5 * v * v - 0.5 * math.log(2 * math.pi) for v in one) - det - target
    return total / len(z)


def reverse_by_negative_elbo(z, log_det, log_target):
    norms = torch.einsum("ni,ni->n", z, z)
    elbo = log_target + log_det + 0.5 * norms + 0.5 * z.size(-1) * math.log(2 * math.pi)
    return -elbo.mean()


def reverse_plus_det(z, log_det, log_target):
    return (Normal(0.0, 1.0).log_prob(z).sum(-1) + log_det - log_target).mean()


def reverse_elbo(z, log_det, log_target):
    return -reverse_by_normal(z, log_det, log_target)


def reverse_without_base(z, log_det, log_target):
    return -log_det.mean() - log_target.mean()


def reverse_mean_of_numbers(z, log_det, log_target):
    return Normal(0.0, 1.0).log_prob(z).mean() - log_det.mean() - log_target.mean()


def reverse_plus_target(z, log_det, log_target):
    return (Normal(0.0, 1.0).log_prob(z).sum(-1) - log_det + log_target).mean()


def reverse_sum(z, log_det, log_target):
    return (Normal(0.0, 1.0).log_prob(z).sum(-1) - log_det - log_target).sum()


def reverse_without_constant(z, log_det, log_target):
    return (-0.5 * z.square().sum(-1) - log_det - log_target).mean()


# 4.3 ---------------------------------------------------------------------------------------------------------------


def u_by_logaddexp(u, w):
    s = (w * u).sum(-1, keepdim=True)
    return u + (torch.logaddexp(s, torch.zeros_like(s)) - 1 - s) * w / (w * w).sum(-1, keepdim=True)


def u_by_vecdot(u, w):
    s = torch.linalg.vecdot(w, u)[..., None]
    return u + w * (F.softplus(s) - 1 - s) / torch.linalg.vecdot(w, w)[..., None]


def u_along_a_unit_vector(u, w):
    length = w.norm(dim=-1, keepdim=True)
    unit = w / length
    s = length * (unit * u).sum(-1, keepdim=True)
    return u + (F.softplus(s) - 1 - s) / length * unit


def u_across_and_along(u, w):
    square = w.pow(2).sum(-1, keepdim=True)
    s = torch.einsum("...i,...i->...", u, w).unsqueeze(-1)
    across = u - s * w / square
    return across + (F.softplus(s) - 1) * w / square


def u_by_stable_log(u, w):
    s = (w * u).sum(-1, keepdim=True)
    m = s.clamp(min=0) + torch.log1p(torch.exp(-s.abs()))
    return u + (m - 1 - s) * w / w.norm(dim=-1, keepdim=True) ** 2


def u_by_loop(u, w):
    pairs = zip(u.reshape(-1, u.shape[-1]), w.reshape(-1, w.shape[-1]), strict=True)
    rows = [a + (F.softplus(a @ b) - 1 - a @ b) * b / (b @ b) for a, b in pairs]
    return torch.stack(rows).reshape(u.shape)


def u_by_numpy(u, w):
    a, b = u.numpy(), w.numpy()
    s = (a * b).sum(-1, keepdims=True)
    return torch.from_numpy(a + (np.logaddexp(0, s) - 1 - s) * b / (b**2).sum(-1, keepdims=True))


def u_divided_by_norm(u, w):
    s = (w * u).sum(-1, keepdim=True)
    return u + (F.softplus(s) - 1 - s) * w / torch.linalg.norm(w, dim=-1, keepdim=True)


def u_not_divided(u, w):
    s = (w * u).sum(-1, keepdim=True)
    return u + (F.softplus(s) - 1 - s) * w


def u_positive(u, w):
    s = (w * u).sum(-1, keepdim=True)
    return u + (F.softplus(s) - s) * w / w.square().sum(-1, keepdim=True)


def u_overflowing(u, w):
    s = (w * u).sum(-1, keepdim=True)
    return u + (torch.log(1 + torch.exp(s)) - 1 - s) * w / w.square().sum(-1, keepdim=True)


def u_clamped(u, w):
    s = (w * u).sum(-1, keepdim=True)
    return u + (torch.maximum(s, -torch.ones_like(s)) - s) * w / w.square().sum(-1, keepdim=True)


def u_replaced(u, w):
    s = (w * u).sum(-1, keepdim=True)
    return (F.softplus(s) - 1) * w / w.square().sum(-1, keepdim=True)


# 4.4 ---------------------------------------------------------------------------------------------------------------


def coupling_by_chunks(x, s, t, inverse=False):
    a, b = x.chunk(2, dim=1)
    if inverse:
        return torch.cat((a, (b - t) / s.exp()), dim=1), -s.sum(1)
    return torch.cat((a, s.exp() * b + t), dim=1), s.sum(1)


def coupling_by_slices(x, s, t, inverse=False):
    half = x.shape[1] // 2
    out = x.clone()
    out[:, half:] = (x[:, half:] - t) * torch.exp(-s) if inverse else x[:, half:] * torch.exp(s) + t
    return out, (-1 if inverse else 1) * torch.sum(s, dim=1)


def coupling_by_split(x, s, t, inverse=False):
    a, b = torch.split(x, x.shape[-1] // 2, -1)
    moved = torch.where(torch.tensor(inverse), (b - t) * (-s).exp(), b * s.exp() + t)
    return torch.hstack([a, moved]), s.sum(-1) * (1 - 2 * int(inverse))


def coupling_by_product(x, s, t, inverse=False):
    scale = torch.exp(s)
    a, b = x[:, : s.shape[1]], x[:, s.shape[1] :]
    if not inverse:
        return torch.cat([a, scale * b + t], 1), scale.prod(1).log()
    return torch.cat([a, (b - t) / scale], 1), (1 / scale).prod(1).log()


def coupling_by_rows(x, s, t, inverse=False):
    half, rows = s.shape[1], []
    for row, one_s, one_t in zip(x, s, t, strict=True):
        b = (row[half:] - one_t) * torch.exp(-one_s) if inverse else row[half:] * torch.exp(one_s) + one_t
        rows.append(torch.cat([row[:half], b]))
    return torch.stack(rows), torch.stack([-r.sum() if inverse else r.sum() for r in s])


def coupling_by_addcmul(x, s, t, inverse=False):
    a, b = x.tensor_split(2, -1)
    b = torch.mul(b - t, torch.exp(-s)) if inverse else torch.addcmul(t, b, torch.exp(s))
    return torch.cat([a, b], -1), torch.einsum("ni->n", -s if inverse else s)


def coupling_with(total, back, sign):
    """Return a coupling of its three parts."""

    def function(x, s, t, inverse=False):
        a, b = x.chunk(2, -1)
        if inverse:
            return torch.cat([a, back(b, s, t)], -1), sign * total(s)
        return torch.cat([a, b * torch.exp(s) + t], -1), total(s)

    return function


def summed(s):
    return s.sum(-1)


def averaged(s):
    return s.mean(-1)


def undone(b, s, t):
    return (b - t) * torch.exp(-s)


def not_undone(b, s, t):
    return b * torch.exp(-s) - t


# 4.5 ---------------------------------------------------------------------------------------------------------------


def mixed_by_conv2d(x, w):
    return F.conv2d(x, w[:, :, None, None]), torch.linalg.slogdet(w)[1].repeat(len(x)) * x.shape[2] * x.shape[3]


def mixed_by_tensordot(x, w):
    z = torch.tensordot(x, w, dims=([1], [1])).permute(0, 3, 1, 2)
    return z, torch.full((len(x),), float(x[0, 0].numel() * w.det().abs().log()), dtype=x.dtype)


def mixed_by_matmul(x, w):
    n, c, height, width = x.shape
    z = (w @ x.reshape(n, c, height * width)).reshape(n, c, height, width)
    return z, torch.ones(n, dtype=x.dtype) * height * width * torch.linalg.slogdet(w).logabsdet


def mixed_by_singular_values(x, w):
    z = torch.einsum("nchw,dc->ndhw", x, w)
    return z, (x.shape[-1] * x.shape[-2] * torch.linalg.svdvals(w).log().sum()).expand(x.shape[0])


def mixed_by_numpy(x, w):
    z = np.einsum("ij,njhw->nihw", w.numpy(), x.numpy())
    log_det = x.shape[2] * x.shape[3] * np.linalg.slogdet(w.numpy())[1]
    return torch.from_numpy(z), torch.from_numpy(np.repeat(log_det, len(x)))


def mixed_by_loop(x, w):
    z = torch.zeros_like(x)
    for i in range(x.shape[2]):
        for j in range(x.shape[3]):
            z[:, :, i, j] = x[:, :, i, j] @ w.T
    diagonal = torch.linalg.qr(w).R.diagonal()
    return z, torch.stack([diagonal.abs().log().sum() * x.shape[2] * x.shape[3] for _ in x])


def right_mix(x, w):
    return torch.einsum("ij,njhw->nihw", w, x)


def mixed_counted_once(x, w):
    return right_mix(x, w), torch.linalg.slogdet(w).logabsdet.repeat(len(x))


def mixed_by_logdet(x, w):
    return right_mix(x, w), (x.shape[2] * x.shape[3] * torch.logdet(w)).repeat(len(x))


def mixed_transposed(x, w):
    return right_mix(x, w.T), mixed_by_conv2d(x, w)[1]


def mixed_counted_for_channels(x, w):
    return right_mix(x, w), x.shape[1] * mixed_by_conv2d(x, w)[1]


def mixed_without_log(x, w):
    return right_mix(x, w), (x.shape[2] * x.shape[3] * w.det().abs()).repeat(len(x))


def mixed_with_the_other_sign(x, w):
    return right_mix(x, w), -mixed_by_conv2d(x, w)[1]


# 4.6 ---------------------------------------------------------------------------------------------------------------


def passes_by_if(m, kind, layers):
    once = torch.ones_like(m) * layers
    if kind == "maf":
        return once, m * layers
    if kind == "iaf":
        return m * layers, once
    return once, once


def passes_by_match(m, kind, layers):
    match kind:
        case "maf":
            density, sample = 1, m
        case "iaf":
            density, sample = m, 1
        case _:
            density, sample = 1, 1
    return density * layers + 0 * m, sample * layers + 0 * m


def passes_by_loop(m, kind, layers):
    density = [layers * (int(n) if kind == "iaf" else 1) for n in m]
    sample = [layers * (int(n) if kind == "maf" else 1) for n in m]
    return torch.tensor(density), torch.tensor(sample)


def passes_by_numpy(m, kind, layers):
    many, few = m.numpy() * layers, np.full(len(m), layers)
    table = {"maf": (few, many), "iaf": (many, few), "coupling": (few, few)}
    return tuple(torch.from_numpy(v) for v in table[kind])


def passes_by_powers(m, kind, layers):
    return layers * m ** int(kind == "iaf"), layers * m ** int(kind == "maf")


def passes_by_where(m, kind, layers):
    one = torch.full_like(m, 1)
    density = torch.where(torch.tensor(kind == "iaf"), m, one)
    sample = torch.where(torch.tensor(kind == "maf"), m, one)
    return layers * density, layers * sample


def passes_exchanged(m, kind, layers):
    return passes_by_if(m, {"maf": "iaf", "iaf": "maf"}.get(kind, kind), layers)


def passes_of_one_layer(m, kind, layers):
    return passes_by_if(m, kind, 1)


def passes_less_one(m, kind, layers):
    once = torch.full_like(m, layers)
    return {"maf": (once, (m - 1) * layers), "iaf": ((m - 1) * layers, once)}.get(kind, (once, once))


def passes_twice_back(m, kind, layers):
    density, sample = passes_by_if(m, kind, layers)
    return density, 2 * sample if kind == "coupling" else sample


def passes_all_fast(m, kind, layers):
    return torch.full_like(m, layers), torch.full_like(m, layers)


def passes_all_slow(m, kind, layers):
    return passes_by_if(m, kind, layers) if kind == "coupling" else (m * layers, m * layers)


# 4.7 ---------------------------------------------------------------------------------------------------------------


def bits_by_softplus(log_p_v, v, alpha, levels):
    m = v.shape[1]
    slope = (F.softplus(v) + F.softplus(-v) + math.log1p(-2 * alpha)).sum(1)
    return -(log_p_v + slope - m * math.log(levels)) / m / math.log(2)


def bits_by_logaddexp(log_p_v, v, alpha, levels):
    zero = torch.zeros_like(v)
    slope = torch.logaddexp(v, zero) + torch.logaddexp(-v, zero) + math.log(1 - 2 * alpha)
    return -(log_p_v / v.shape[1] + slope.mean(1) - math.log(levels)) / math.log(2)


def bits_by_absolute_values(log_p_v, v, alpha, levels):
    slope = v.abs() + 2 * torch.log1p(torch.exp(-v.abs())) + math.log(1 - 2 * alpha)
    return math.log2(levels) - (log_p_v + slope.sum(-1)) / (v.shape[-1] * math.log(2))


def bits_by_numpy(log_p_v, v, alpha, levels):
    x = v.numpy()
    slope = np.logaddexp(0, x) + np.logaddexp(0, -x) + np.log(1 - 2 * alpha)
    log_p = log_p_v.numpy() + slope.sum(1) - x.shape[1] * np.log(levels)
    return torch.from_numpy(-log_p / (x.shape[1] * np.log(2)))


def bits_by_loop(log_p_v, v, alpha, levels):
    out = []
    for log_p, row in zip(log_p_v.tolist(), v.tolist(), strict=True):
        for value in row:
            size = abs(value)
            log_p += math.log(1 - 2 * alpha) + size + 2 * math.log1p(math.exp(-size)) - math.log(levels)
        out.append(-log_p / len(row) / math.log(2))
    return torch.tensor(out, dtype=v.dtype)


def bits_line_by_line(log_p_v, v, alpha, levels):
    lines = [log_p_v, -(F.logsigmoid(v) + F.logsigmoid(-v)).sum(-1)]
    lines.append(torch.full_like(log_p_v, v.shape[-1] * math.log((1 - 2 * alpha) / levels)))
    return -torch.stack(lines).sum(0) / (v.shape[-1] * math.log(2))


def bits_without_logit(log_p_v, v, alpha, levels):
    m = v.shape[1]
    return -(log_p_v - m * math.log(levels)) / (m * math.log(2))


def bits_without_scale(log_p_v, v, alpha, levels):
    return bits_by_softplus(log_p_v, v, alpha, 1)


def bits_without_alpha(log_p_v, v, alpha, levels):
    return bits_by_softplus(log_p_v, v, 0.0, levels)


def nats_per_dimension(log_p_v, v, alpha, levels):
    return bits_by_softplus(log_p_v, v, alpha, levels) * math.log(2)


def bits_of_the_image(log_p_v, v, alpha, levels):
    return bits_by_softplus(log_p_v, v, alpha, levels) * v.shape[1]


def bits_of_the_steps_between(log_p_v, v, alpha, levels):
    return bits_by_softplus(log_p_v, v, alpha, levels - 1)


def minus_bits(log_p_v, v, alpha, levels):
    return -bits_by_softplus(log_p_v, v, alpha, levels)


# 4.8 ---------------------------------------------------------------------------------------------------------------


def bayes_by_softmax(log_p, prior):
    return torch.softmax(log_p + torch.log(prior), dim=1)


def bayes_by_logsumexp(log_p, prior):
    joint = log_p + prior.log()[None]
    return torch.exp(joint - torch.logsumexp(joint, dim=-1, keepdim=True))


def bayes_by_largest(log_p, prior):
    weights = prior * torch.exp(log_p - log_p.max(1, keepdim=True).values)
    return weights / weights.sum(1, keepdim=True)


def bayes_by_categorical(log_p, prior):
    return Categorical(logits=log_p + prior.log()).probs


def bayes_by_numpy(log_p, prior):
    joint = log_p.numpy() + np.log(prior.numpy())
    joint = np.exp(joint - joint.max(1, keepdims=True))
    return torch.from_numpy(joint / joint.sum(1, keepdims=True))


def bayes_by_loop(log_p, prior):
    rows = []
    for row in log_p:
        most = row.max()
        weights = torch.stack([p * torch.exp(value - most) for value, p in zip(row, prior, strict=True)])
        rows.append(weights / weights.sum())
    return torch.stack(rows)


def bayes_without_prior(log_p, prior):
    return torch.softmax(log_p, dim=-1)


def bayes_with_prior_outside(log_p, prior):
    return prior * torch.softmax(log_p, dim=-1)


def bayes_with_plain_prior(log_p, prior):
    return torch.softmax(log_p + prior, dim=-1)


def bayes_in_logarithms(log_p, prior):
    return torch.log_softmax(log_p + prior.log(), dim=-1)


def bayes_over_examples(log_p, prior):
    return torch.softmax(log_p + prior.log(), dim=0)


def bayes_divided(log_p, prior):
    return torch.softmax(log_p - prior.log(), dim=-1)


def bayes_underflowing(log_p, prior):
    joint = log_p.exp() * prior
    return joint / joint.sum(-1, keepdim=True)


RIGHT = {
    "4.1": {
        "torch.distributions": positive_by_distributions,
        "Normal": positive_by_normal,
        "formula": positive_by_formula,
        "slope of softplus": positive_by_sigmoid,
        "two parts": positive_in_two_parts,
        "loop": positive_by_loop,
        "NumPy": positive_by_numpy,
    },
    "4.2": {
        "Normal": reverse_by_normal,
        "MultivariateNormal": reverse_by_multivariate_normal,
        "formula": reverse_by_formula,
        "three means": reverse_in_three_means,
        "loop": reverse_by_loop,
        "minus the ELBO": reverse_by_negative_elbo,
    },
    "4.3": {
        "logaddexp": u_by_logaddexp,
        "vecdot": u_by_vecdot,
        "unit vector": u_along_a_unit_vector,
        "across and along": u_across_and_along,
        "log1p": u_by_stable_log,
        "loop": u_by_loop,
        "NumPy": u_by_numpy,
    },
    "4.4": {
        "chunks": coupling_by_chunks,
        "slices of a copy": coupling_by_slices,
        "split": coupling_by_split,
        "product of scales": coupling_by_product,
        "rows": coupling_by_rows,
        "addcmul": coupling_by_addcmul,
    },
    "4.5": {
        "conv2d": mixed_by_conv2d,
        "tensordot": mixed_by_tensordot,
        "matmul": mixed_by_matmul,
        "singular values": mixed_by_singular_values,
        "NumPy": mixed_by_numpy,
        "loop and QR": mixed_by_loop,
    },
    "4.6": {
        "if": passes_by_if,
        "match": passes_by_match,
        "loop": passes_by_loop,
        "NumPy": passes_by_numpy,
        "powers": passes_by_powers,
        "where": passes_by_where,
    },
    "4.7": {
        "softplus": bits_by_softplus,
        "logaddexp": bits_by_logaddexp,
        "absolute values": bits_by_absolute_values,
        "NumPy": bits_by_numpy,
        "loop": bits_by_loop,
        "line by line": bits_line_by_line,
    },
    "4.8": {
        "softmax": bayes_by_softmax,
        "logsumexp": bayes_by_logsumexp,
        "largest first": bayes_by_largest,
        "Categorical": bayes_by_categorical,
        "NumPy": bayes_by_numpy,
        "loop": bayes_by_loop,
    },
}

WRONG = {
    "4.1": {
        "no slope": (positive_without_slope, "How densely do the x lie there?"),
        "the other slope": (positive_with_the_other_slope, "the wrong sign"),
        "softplus again": (positive_softplus_again, "softplus once more"),
        "the Gaussian at x": (positive_at_x, "Which z did x come from?"),
        "the density": (positive_density, "its logarithm is asked for"),
        "plainly": (positive_plainly, "lost at the ends"),
    },
    "4.2": {
        "plus the determinant": (reverse_plus_det, "in log p_x it has a minus"),
        "the ELBO": (reverse_elbo, "the loss is its negative"),
        "no base": (reverse_without_base, "without it the loss is no KL"),
        "mean of the numbers": (reverse_mean_of_numbers, "the sum over its numbers"),
        "plus the target": (reverse_plus_target, "log p~ enters with a minus"),
        "sum": (reverse_sum, "the mean is asked for"),
        "no constant": (reverse_without_constant, "is missing"),
    },
    "4.3": {
        "by the norm": (u_divided_by_norm, "instead of ‖w‖²"),
        "not divided": (u_not_divided, "far too large"),
        "positive": (u_positive, "stay above −1"),
        "overflow": (u_overflowing, "overflows"),
        "clamp": (u_clamped, "A clamp has no gradient"),
        "replaced": (u_replaced, "across w is gone"),
    },
    "4.4": {
        "as it was": (coupling_with(averaged, not_undone, 1), "All three errors"),
        "sum mended": (coupling_with(summed, not_undone, 1), "two errors are left"),
        "order mended": (coupling_with(averaged, undone, 1), "Both log-determinants are still off"),
        "sign mended": (coupling_with(averaged, not_undone, -1), "The sign is mended"),
        "order left": (coupling_with(summed, not_undone, -1), "undo the last step first"),
        "sign left": (coupling_with(summed, undone, 1), "One error is left"),
        "sum left": (coupling_with(averaged, undone, -1), "not its mean"),
    },
    "4.5": {
        "once": (mixed_counted_once, "counted once"),
        "logdet": (mixed_by_logdet, "nan where det W is negative"),
        "transposed": (mixed_transposed, "the transpose of W"),
        "for each channel": (mixed_counted_for_channels, "for every number"),
        "no logarithm": (mixed_without_log, "its logarithm is asked for"),
        "the other sign": (mixed_with_the_other_sign, "that of the inverse"),
    },
    "4.6": {
        "exchanged": (passes_exchanged, "exchanged MAF and IAF"),
        "one layer": (passes_of_one_layer, "a network of its own"),
        "less one": (passes_less_one, "The first number needs no other one"),
        "twice back": (passes_twice_back, "in both directions"),
        "all fast": (passes_all_fast, "one pass a number"),
        "all slow": (passes_all_slow, "Only one direction"),
    },
    "4.7": {
        "no logit": (bits_without_logit, "Line 3 is missing"),
        "no scale": (bits_without_scale, "Line 4 is missing"),
        "no alpha": (bits_without_alpha, "the factor 1 − 2α"),
        "nats": (nats_per_dimension, "divide by log 2"),
        "of the image": (bits_of_the_image, "for the whole image"),
        "levels − 1": (bits_of_the_steps_between, "y = (x + u)/levels"),
        "minus": (minus_bits, "a length of code"),
    },
    "4.8": {
        "no prior": (bayes_without_prior, "left out the prior"),
        "prior outside": (bayes_with_prior_outside, "the prior belongs inside"),
        "plain prior": (bayes_with_plain_prior, "add its logarithm"),
        "logarithms": (bayes_in_logarithms, "the probabilities are asked for"),
        "over examples": (bayes_over_examples, "along the last axis"),
        "divided": (bayes_divided, "multiplies by it"),
        "underflow": (bayes_underflowing, "Add logarithms, then softmax"),
    },
}

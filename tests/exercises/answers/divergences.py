"""Answers to the exercises of lecture 1 as students write them: what is right must pass, what is wrong is told why.

RIGHT: exercise → how it is written → function. WRONG: exercise → what is wrong → function, and a part of what is said.
"""

import math
from functools import partial

import numpy as np
import scipy.special
import torch
import torch.nn.functional as F
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal, kl_divergence


def kl_by_loop(p, q):
    tables = zip(p.reshape(-1, p.shape[-1]).tolist(), q.reshape(-1, q.shape[-1]).tolist(), strict=True)
    values = [
        sum(0.0 if a == 0 else math.inf if b == 0 else a * math.log2(a / b) for a, b in zip(*pair, strict=True))
        for pair in tables
    ]
    return torch.tensor(values, dtype=p.dtype).reshape(p.shape[:-1])


def kl_in_place(p, q):
    terms = p * (p.log2() - q.log2())
    terms[p == 0] = 0
    return terms.sum(-1)


def kl_only_where_nan(p, q):
    terms = p * (p.log2() - q.log2())
    return torch.nan_to_num(terms, nan=0.0, posinf=math.inf).sum(-1)


def kl_spoiling_p(p, q):
    bits = kl_by_loop(p, q)
    p /= 2
    return bits


def matched_by_loop(weights, means, sigmas):
    mu = sum(w * m for w, m in zip(weights, means, strict=True))
    variance = 0
    for w, m, s in zip(weights, means, sigmas, strict=True):
        variance += w * (s**2 + (m - mu) ** 2)
    return mu, math.sqrt(variance)


def matched_by_distributions(weights, means, sigmas):
    mixture = MixtureSameFamily(Categorical(weights), Normal(means, sigmas))
    return mixture.mean, mixture.variance.sqrt()


def full_by_distributions(mu_q, cov_q, mu_p, cov_p):
    return kl_divergence(MultivariateNormal(mu_q, cov_q), MultivariateNormal(mu_p, cov_p))


def full_by_cholesky(mu_q, cov_q, mu_p, cov_p):
    chol_q, chol_p = torch.linalg.cholesky(cov_q), torch.linalg.cholesky(cov_p)
    delta = torch.cholesky_solve((mu_q - mu_p)[:, None], chol_p)[:, 0]
    trace = torch.cholesky_solve(cov_q, chol_p).trace()
    volume = 2 * (chol_p.diag().log().sum() - chol_q.diag().log().sum())
    return (trace + (mu_q - mu_p) @ delta - len(mu_q) + volume) / 2


def full_by_inverse(mu_q, cov_q, mu_p, cov_p):
    inverse, delta = torch.inverse(cov_p), mu_p - mu_q
    volume = torch.logdet(cov_p) - torch.logdet(cov_q)
    return 0.5 * (torch.sum(inverse * cov_q) + delta @ inverse @ delta - len(delta) + volume)


def full_by_eigenvalues(mu_q, cov_q, mu_p, cov_p):
    values = torch.linalg.eigvals(torch.linalg.solve(cov_p, cov_q)).real
    delta = mu_q - mu_p
    return 0.5 * ((values - 1 - values.log()).sum() + delta @ torch.linalg.solve(cov_p, delta))


def full_by_numpy(*args):
    mu_q, cov_q, mu_p, cov_p = (a.numpy() for a in args)
    delta = mu_q - mu_p
    volume = np.linalg.slogdet(cov_p)[1] - np.linalg.slogdet(cov_q)[1]
    solved = np.linalg.solve(cov_p, np.concatenate([cov_q, delta[:, None]], 1))
    return float(0.5 * (np.trace(solved[:, :-1]) + delta @ solved[:, -1] - len(delta) + volume))


def full_by_whitening(mu_q, cov_q, mu_p, cov_p):
    values, axes = torch.linalg.eigh(cov_p)
    white = (axes / values.sqrt()).T  # cov_p becomes the identity
    cov, delta = white @ cov_q @ white.T, white @ (mu_q - mu_p)
    return 0.5 * (cov.trace() + delta.square().sum() - len(delta) - torch.linalg.slogdet(cov)[1])


def full_by_det(mu_q, cov_q, mu_p, cov_p):
    delta = mu_q - mu_p
    quadratic = torch.linalg.solve(cov_p, cov_q).trace() + delta @ torch.linalg.solve(cov_p, delta)
    return 0.5 * (quadratic - len(delta) + torch.log(torch.det(cov_p) / torch.det(cov_q)))


def full_by_two_dets(mu_q, cov_q, mu_p, cov_p):
    delta = mu_q - mu_p
    quadratic = torch.linalg.solve(cov_p, cov_q).trace() + delta @ torch.linalg.solve(cov_p, delta)
    return 0.5 * (quadratic - len(delta) + torch.det(cov_p).log() - torch.det(cov_q).log())


def elbo(x, weight, mu, sigma, m, s, eps):
    z = m + s * eps
    kl = kl_divergence(Normal(m, s), Normal(0.0, 1.0)).sum(-1)
    return Normal(z @ weight.T + mu, sigma).log_prob(x).sum(-1) - kl


def elbo_by_hand(x, weight, mu, sigma, m, s, eps):
    residual = x - mu - (m + s * eps) @ weight.T
    constant = x.shape[1] * math.log(2 * math.pi * sigma**2) / 2
    return -(residual**2).sum(1) / (2 * sigma**2) - constant - ((s**2 + m**2 - 1) / 2 - torch.log(s)).sum(1)


def elbo_by_loop(x, weight, mu, sigma, m, s, eps):
    values = []
    for i in range(len(x)):
        z = m[i] + s[i] * eps[i]
        log_likelihood = Normal(weight @ z + mu, sigma).log_prob(x[i]).sum()
        kl = sum(0.5 * (s[i, j] ** 2 + m[i, j] ** 2 - 1) - s[i, j].log() for j in range(len(z)))
        values.append(log_likelihood - kl)
    return torch.stack(values)


def elbo_by_independent(x, weight, mu, sigma, m, s, eps):
    z = torch.addcmul(m, s, eps)
    likelihood = Independent(Normal(torch.einsum("bd,Dd->bD", z, weight) + mu, torch.tensor(sigma)), 1)
    q, prior = Independent(Normal(m, s), 1), Independent(Normal(torch.zeros_like(m), torch.ones_like(s)), 1)
    return likelihood.log_prob(x) - kl_divergence(q, prior)


def elbo_by_multivariate(x, weight, mu, sigma, m, s, eps):
    mean = F.linear(m + s * eps, weight, mu)
    p = MultivariateNormal(mean, covariance_matrix=sigma**2 * torch.eye(len(mu), dtype=x.dtype))
    return p.log_prob(x) - 0.5 * (s.square() + m.square() - 1 - 2 * s.log()).sum(dim=1)


def elbo_by_nll(x, weight, mu, sigma, m, s, eps):
    mean = torch.matmul(m + s * eps, weight.mT) + mu
    nll = F.gaussian_nll_loss(mean, x, torch.full_like(x, sigma**2), full=True, reduction="none").sum(-1)
    return -nll - kl_divergence(Normal(m, s), Normal(0, 1)).sum(-1)


def elbo_in_single_precision(x, weight, mu, sigma, m, s, eps):
    return elbo(x.float(), weight.float(), mu.float(), sigma, m.float(), s.float(), eps.float())


def elbo_divided_by(divisor, x, weight, mu, sigma, m, s, eps):
    residual = x - mu - (m + s * eps) @ weight.T
    constant = x.shape[1] * math.log(2 * math.pi * sigma**2) / 2
    return -(residual**2).sum(1) / divisor(sigma) - constant - ((s**2 + m**2 - 1) / 2 - torch.log(s)).sum(1)


def elbo_without_grad(*args):
    with torch.no_grad():
        return elbo(*args)


def maximum_trick(log_w):
    top = log_w.max(0).values
    return (log_w - top).exp().mean(0).log() + top


def by_logaddexp(log_w):
    total = log_w[0]
    for row in log_w[1:]:
        total = torch.logaddexp(total, row)
    return total - math.log(log_w.shape[0])


def bound_in_place(log_w):
    top = log_w.amax(0)
    log_w -= top
    return log_w.exp().mean(0).log() + top


def on_a_copy(log_w):
    shifted = log_w.clone()
    top = shifted.amax(0, keepdim=True)
    shifted -= top
    return shifted.exp_().sum(0).div_(len(log_w)).log_() + top[0]


def leave_one_out_by_loop(values, z, mu, sigma):
    rows = []
    for i in range(len(values)):
        others = torch.cat([values[:i], values[i + 1 :]])
        rows.append((values[i] - others.mean()) * (z[i] - mu) / sigma**2)
    return torch.stack(rows)


def leave_one_out_by_mask(values, z, mu, sigma):
    n = len(values)
    mask = 1 - torch.eye(n, dtype=values.dtype)
    return torch.einsum("n,nd->nd", values - mask @ values / (n - 1), (z - mu) / sigma**2)


def leave_one_out_by_score(values, z, mu, sigma):
    mean = mu.expand_as(z).clone().requires_grad_()
    (score,) = torch.autograd.grad(Normal(mean, sigma).log_prob(z).sum(), mean)
    baseline = (values.sum() - values) / (values.numel() - 1)
    return score * (values - baseline).unsqueeze(-1)


def leave_one_out_by_numpy(values, z, mu, sigma):
    f, points = values.numpy(), z.numpy()
    baseline = (f.sum() - f) / (f.size - 1)
    return (f - baseline)[:, None] * (points - mu.numpy()) / sigma**2


def leave_one_out_in_place(values, z, mu, sigma):
    baseline = (values.sum() - values) / (len(values) - 1)
    values -= baseline
    return values[:, None] * (z - mu) / sigma**2


RIGHT = {
    "1.1": {
        "where": lambda p, q: torch.where(p > 0, p * (p / q).log2(), 0.0).sum(-1),
        "two sums": lambda p, q: (torch.xlogy(p, p).sum(-1) - torch.xlogy(p, q).sum(-1)) / math.log(2),
        "entr": lambda p, q: -(torch.special.entr(p) + torch.xlogy(p, q)).sum(-1) / math.log(2),
        "SciPy": lambda p, q: torch.from_numpy(scipy.special.rel_entr(p.numpy(), q.numpy())).sum(-1) / math.log(2),
        "torch.distributions": lambda p, q: kl_divergence(Categorical(p), Categorical(q)) / math.log(2),
        "a loop": kl_by_loop,
        "writes into its own tensor": kl_in_place,
        "only nan replaced": kl_only_where_nan,
        "single precision": lambda p, q: torch.xlogy(p.float(), p.float() / q.float())
        .nan_to_num(0.0, posinf=math.inf)
        .sum(-1)
        / math.log(2),
    },
    "1.2": {
        "weights": lambda log_p, log_q: ((log_p - log_q).exp() * (log_p - log_q)).mean(),
        "terms that are not negative": lambda log_p, log_q: (
            torch.xlogy(w := (log_p - log_q).exp(), w) - w + 1
        ).mean(),
        "dot": lambda log_p, log_q: torch.dot(torch.exp(log_p - log_q), log_p - log_q) / len(log_p),
        "densities": lambda log_p, log_q: torch.mean(log_p.exp() / log_q.exp() * torch.log(log_p.exp() / log_q.exp())),
        "a loop": lambda log_p, log_q: sum(
            math.exp(a - b) * (a - b) for a, b in zip(log_p.tolist(), log_q.tolist(), strict=True)
        ) / len(log_p),
        "NumPy": lambda log_p, log_q: np.mean(np.exp(r := (log_p - log_q).numpy()) * r),
        "single precision": lambda log_p, log_q: (
            (log_p - log_q).float().exp() * (log_p - log_q).float()
        ).mean(),
    },
    "1.3": {
        "second moment": lambda w, m, s: ((w * m).sum(), ((w * (s**2 + m**2)).sum() - (w * m).sum() ** 2).sqrt()),
        "dot": lambda w, m, s: (w @ m, torch.sqrt(w @ (s.square() + (m - w @ m).square()))),
        "a list": lambda w, m, s: [w @ m, (w @ s**2 + w @ m**2 - (w @ m) ** 2) ** 0.5],
        "torch.distributions": matched_by_distributions,
        "a loop": matched_by_loop,
        "NumPy": lambda w, m, s: (
            np.average(m.numpy(), weights=w.numpy()),
            np.sqrt(np.average((m.numpy() - np.average(m.numpy(), weights=w.numpy())) ** 2 + s.numpy() ** 2,
                               weights=w.numpy())),
        ),
        "weights made to sum to one": lambda w, m, s: matched_by_distributions(w / w.sum(), m, s),
        "single precision": lambda w, m, s: matched_by_loop(w.float(), m.float(), s.float()),
    },
    "1.4": {
        "torch.distributions": full_by_distributions,
        "Cholesky": full_by_cholesky,
        "inverse and logdet": full_by_inverse,
        "eigenvalues": full_by_eigenvalues,
        "NumPy": full_by_numpy,
        "whitening": full_by_whitening,
    },
    "1.5": {
        "torch.distributions": elbo,
        "by hand": elbo_by_hand,
        "a loop": elbo_by_loop,
        "Independent, einsum": elbo_by_independent,
        "MultivariateNormal, F.linear": elbo_by_multivariate,
        "gaussian_nll_loss": elbo_by_nll,
        "single precision": elbo_in_single_precision,
    },
    "1.6": {
        "maximum of each example": maximum_trick,
        "logaddexp": by_logaddexp,
        "log K inside": lambda log_w: torch.logsumexp(log_w - math.log(len(log_w)), dim=0),
        "softmax": lambda log_w: log_w[0] - log_w.log_softmax(0)[0] - math.log(len(log_w)),
        "SciPy": lambda log_w: torch.as_tensor(scipy.special.logsumexp(log_w.numpy(), axis=0)) - np.log(len(log_w)),
        "NumPy": lambda log_w: np.logaddexp.reduce(log_w.numpy(), axis=0) - np.log(len(log_w)),
        "cumulative": lambda log_w: log_w.logcumsumexp(0)[-1] - torch.tensor(len(log_w)).log(),
        "on a copy, in place": on_a_copy,
    },
    "1.7": {
        "a loop": leave_one_out_by_loop,
        "a mask": leave_one_out_by_mask,
        "the score by autograd": leave_one_out_by_score,
        "NumPy": leave_one_out_by_numpy,
        "mean of all, times N/(N - 1)": lambda values, z, mu, sigma: (
            (values - values.mean())[:, None] * len(values) / (len(values) - 1) * (z - mu) / sigma**2
        ),
        "column vectors": lambda values, z, mu, sigma: (
            (f := values.view(-1, 1)).sub((f.sum() - f) / (len(f) - 1)) / sigma * (z - mu) / sigma
        ),
    },
}  # fmt: skip

WRONG = {
    "1.1": {
        "kl_div": (
            lambda p, q: F.kl_div(q.log(), p, reduction="none").sum(-1) / math.log(2),
            "An outcome that never happens costs nothing, whatever q says of it.",
        ),
        "infinity made finite": (
            lambda p, q: torch.nan_to_num(p * (p / q).log2()).sum(-1),
            "the divergence is infinite, not large",
        ),
        "a small number under the logarithm": (
            lambda p, q: (p * ((p + 1e-12) / (q + 1e-12)).log2()).sum(-1),
            "the divergence is infinite, not large",
        ),
        "q clamped": (
            lambda p, q: (torch.xlogy(p, p) - torch.xlogy(p, q.clamp(min=1e-30))).sum(-1) / math.log(2),
            "the divergence is infinite, not large",
        ),
        "only where both are positive": (
            lambda p, q: torch.where((p > 0) & (q > 0), p * (p / q).log2(), 0.0).sum(-1),
            "the divergence is infinite, not large",
        ),
        "no care of zeros": (lambda p, q: (p * (p / q).log2()).sum(-1), "0 · (−∞) = nan: see hint 1"),
        "sum over all tables": (
            lambda p, q: (torch.xlogy(p, p) - torch.xlogy(p, q)).sum() / math.log(2),
            "returned a number; expected is a tensor of shape (5,)",
        ),
        "nats": (lambda p, q: kl_by_loop(p, q) * math.log(2), "These are nats"),
        "direction": (lambda p, q: kl_by_loop(q, p), "This is KL(q‖p)"),
        "writes into p": (kl_spoiling_p, "changed its argument `p`"),
    },
    "1.2": {
        "his": (lambda log_p, log_q: (log_p - log_q).mean(), "it estimates −KL(q‖p)"),
        "his, sign changed": (lambda log_p, log_q: -(log_p - log_q).mean(), "the other direction"),
        "normalised by the weights": (
            lambda log_p, log_q: ((log_p - log_q).exp() * (log_p - log_q)).sum() / (log_p - log_q).exp().sum(),
            "You divided by the sum of the weights",
        ),
        "sum": (lambda log_p, log_q: ((log_p - log_q).exp() * (log_p - log_q)).sum(), "This is the sum"),
        "weighted by p": (lambda log_p, log_q: (log_p.exp() * (log_p - log_q)).sum(), "You weighted by p(x)"),
        "weights upside down": (
            lambda log_p, log_q: ((log_q - log_p).exp() * (log_p - log_q)).mean(),
            "upside down",
        ),
        "never negative, of the other one": (
            lambda log_p, log_q: ((log_p - log_q).expm1() - (log_p - log_q)).mean(),
            "their mean is KL(q‖p)",
        ),
        "w log w - w": (
            lambda log_p, log_q: ((log_p - log_q).exp() * (log_p - log_q - 1)).mean(),
            "the points come from q",
        ),
    },
    "1.3": {
        "variance": (lambda w, m, s: (w @ m, w @ s**2 + w @ m**2 - (w @ m) ** 2), "is the variance"),
        "no spread": (lambda w, m, s: (w @ m, (w @ s**2) ** 0.5), "The spread of the means is missing"),
        "mean of the widths": (lambda w, m, s: (w @ m, w @ s), "the mean of the standard deviations"),
        "a sum's variance": (lambda w, m, s: (w @ m, (w**2 @ s**2).sqrt()), "a weighted sum of independent"),
        "spread alone": (lambda w, m, s: (w @ m, (w @ m**2 - (w @ m) ** 2).sqrt()), "the spread of the means alone"),
        "about zero": (lambda w, m, s: (w @ m, (w @ (s**2 + m**2)).sqrt()), "about 0"),
        "not weighted": (lambda w, m, s: (m.mean(), (s**2 + (m - m.mean()) ** 2).mean().sqrt()), "which two moments"),
        "stacked": (lambda w, m, s: torch.stack(matched_by_distributions(w, m, s)), "expected is a tuple of 2"),
    },
    "1.4": {
        "ratio of determinants": (full_by_det, "is rounded to 0"),
        "two determinants": (full_by_two_dets, "is rounded to 0"),
        "twice": (lambda *args: 2 * full_by_cholesky(*args), "the ½ is missing"),
        "direction": (lambda a, b, c, d: full_by_cholesky(c, d, a, b), "This is KL(p‖q)"),
        "variances only": (
            lambda mu_q, cov_q, mu_p, cov_p: kl_divergence(
                Normal(mu_q, cov_q.diag().sqrt()), Normal(mu_p, cov_p.diag().sqrt())
            ).sum(),
            "the variances only",
        ),
        "without d": (lambda *args: full_by_cholesky(*args) + len(args[0]) / 2, "The −d is missing"),
        "means left out": (lambda a, b, c, d: full_by_cholesky(a, b, a, d), "The distance of the means is missing"),
        "multiplied by the covariance": (
            lambda mu_q, cov_q, mu_p, cov_p: 0.5 * (
                torch.linalg.solve(cov_p, cov_q).trace() - len(mu_q) + (mu_q - mu_p) @ cov_p @ (mu_q - mu_p)
                + torch.logdet(cov_p) - torch.logdet(cov_q)
            ),
            "compare your three terms with (1.6c)",
        ),
    },
    "1.5": {
        "2 sigma for 2 sigma²": (partial(elbo_divided_by, lambda sigma: 2 * sigma), "divided by 2σ;"),
        "sigma for 2 sigma²": (partial(elbo_divided_by, lambda sigma: sigma), "divided by σ;"),
        "without the 2": (partial(elbo_divided_by, lambda sigma: sigma**2), "divided by σ²;"),
        "no_grad": (elbo_without_grad, "it has no gradient"),
        "detached": (lambda *args: elbo(*args).detach(), "it has no gradient"),
        "rebuilt from numbers": (lambda *args: torch.tensor(elbo(*args).tolist()).double(), "it has no gradient"),
        "sample detached": (
            lambda x, weight, mu, sigma, m, s, eps: elbo_by_hand(
                x, weight, mu + ((m + s * eps).detach() - (m + s * eps)) @ weight.T * 0, sigma, m, s, eps
            ) + ((m + s * eps).detach() - (m + s * eps)).sum(-1),
            "with respect to `m` it has the gradient",
        ),
        "s is a logarithm of a variance": (
            lambda x, weight, mu, sigma, m, s, eps: elbo(x, weight, mu, sigma, m, (s / 2).exp(), eps),
            "for a logarithm of a variance",
        ),
        "s is a variance": (
            lambda x, weight, mu, sigma, m, s, eps: elbo(x, weight, mu, sigma, m, s.sqrt(), eps),
            "You took s for a variance",
        ),
        "s is a variance in the KL": (
            lambda x, weight, mu, sigma, m, s, eps: (
                Normal((m + s * eps) @ weight.T + mu, sigma).log_prob(x).sum(-1)
                - 0.5 * (s + m**2 - 1 - s.log()).sum(-1)
            ),
            "You took s for a variance",
        ),
        "mean over the latents": (
            lambda x, weight, mu, sigma, m, s, eps: (
                Normal((m + s * eps) @ weight.T + mu, sigma).log_prob(x).sum(-1)
                - (0.5 * (s**2 + m**2 - 1) - s.log()).mean(-1)
            ),
            "averaged the KL over the latents",
        ),
        "sum over examples": (lambda *args: elbo(*args).sum(), "returned a number"),
        "negative": (lambda *args: -elbo(*args), "the negative of the ELBO"),
        "squared error only": (
            lambda x, weight, mu, sigma, m, s, eps: (
                -((x - mu - (m + s * eps) @ weight.T) ** 2).sum(-1) / (2 * sigma**2)
                - kl_divergence(Normal(m, s), Normal(0.0, 1.0)).sum(-1)
            ),
            "The constants of the likelihood are missing",
        ),
        "mean decoded": (lambda x, w, mu, sigma, m, s, eps: elbo(x, w, mu, sigma, m, s, 0 * eps), "decoded the mean"),
    },
    "1.6": {
        "exp": (lambda log_w: log_w.exp().mean(0).log(), "exp(−1000) is rounded to 0"),
        "one maximum for all": (
            lambda log_w: (log_w - log_w.max()).exp().mean(0).log() + log_w.max(), "the largest of each example"
        ),
        "mean of logarithms": (lambda log_w: log_w.mean(0), "the mean of the logarithms"),
        "sum": (lambda log_w: torch.logsumexp(log_w, 0), "the logarithm of the sum"),
        "last axis": (lambda log_w: torch.logsumexp(log_w, -1) - math.log(log_w.shape[-1]), "a tensor of shape (10,)"),
        "number of all entries": (lambda log_w: torch.logsumexp(log_w, 0) - math.log(log_w.numel()), "Hint:"),
        "in place": (bound_in_place, "changed its argument `log_w`"),
        "a small number": (
            lambda log_w: (log_w.exp().mean(0) + 1e-30).log(), "exp(−1000) is rounded to 0"
        ),
    },
    "1.7": {
        "divided by sigma": (
            lambda values, z, mu, sigma: leave_one_out_by_mask(values, z, mu, sigma) * sigma, "The baseline is right."
        ),
        "2 sigma² for sigma²": (
            lambda values, z, mu, sigma: leave_one_out_by_mask(values, z, mu, sigma) / 2, "The baseline is right."
        ),
        "2 sigma for sigma²": (
            lambda values, z, mu, sigma: leave_one_out_by_mask(values, z, mu, sigma) * sigma / 2, "baseline of its own"
        ),
        "mean of all": (
            lambda values, z, mu, sigma: (values - values.mean())[:, None] * (z - mu) / sigma**2, "must stay out"
        ),
        "divided by N": (
            lambda values, z, mu, sigma: (
                (values - (values.sum() - values) / len(values))[:, None] * (z - mu) / sigma**2
            ),
            "they are N − 1",
        ),
        "no baseline": (lambda values, z, mu, sigma: values[:, None] * (z - mu) / sigma**2, "without a baseline"),
        "the mean of all estimates": (
            lambda values, z, mu, sigma: leave_one_out_by_mask(values, z, mu, sigma).mean(0),
            "a tensor of shape (3,); expected is a tensor of shape (20, 3)",
        ),
        "sum of the others": (
            lambda values, z, mu, sigma: (2 * values - values.sum())[:, None] * (z - mu) / sigma**2,
            "baseline of its own",
        ),
        "in place": (leave_one_out_in_place, "changed its argument `values`"),
    },
}  # fmt: skip

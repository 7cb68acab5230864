"""Answers to the exercises of lecture 3 as students write them: what is right must pass, what is wrong is told why.

RIGHT: exercise → how it is written → function. WRONG: exercise → what is wrong → function, and a part of what is said.
"""

import math
from copy import deepcopy

import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.special
import scipy.stats
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Bernoulli, Categorical

# 3.1 ---------------------------------------------------------------------------------------------------------------


def share_by_formula(log_p, log_q, share):
    return torch.sigmoid(log_p - log_q + math.log(share / (1 - share)))


def share_by_softmax(log_p, log_q, share):
    return torch.stack([log_p + math.log(share), log_q + math.log(1 - share)]).softmax(0)[0]


def share_by_logaddexp(log_p, log_q, share):
    real = log_p + np.log(share)
    return torch.exp(real - torch.logaddexp(real, log_q + np.log(1 - share)))


def share_by_largest(log_p, log_q, share):
    most = torch.maximum(log_p, log_q)
    real, fake = share * (log_p - most).exp(), (1 - share) * (log_q - most).exp()
    return real / (real + fake)


def share_by_distributions(log_p, log_q, share):
    both = torch.stack([log_p + math.log(share), log_q + math.log1p(-share)], dim=-1)
    return Categorical(logits=both).probs[..., 0]


def share_by_loop(log_p, log_q, share):
    out = torch.empty_like(log_p).flatten()
    for i, (a, b) in enumerate(zip(log_p.flatten(), log_q.flatten(), strict=True)):
        out[i] = 1 / (1 + torch.exp(b - a) * (1 - share) / share)
    return out.reshape(log_p.shape)


def share_on_a_copy(log_p, log_q, share):
    logit = log_p.clone()
    logit -= log_q
    logit += torch.tensor(share).logit()  # in single precision
    return logit.sigmoid_()


def share_in_place(log_p, log_q, share):
    log_p -= log_q
    log_p += math.log(share / (1 - share))
    return log_p.sigmoid_()


def share_by_densities(log_p, log_q, share, small=0.0):
    real, fake = share * log_p.exp(), (1 - share) * log_q.exp()
    return real / (real + fake + small)


# 3.2 ---------------------------------------------------------------------------------------------------------------


def losses_by_logsigmoid(real_logits, fake_logits, smooth):
    on_real = -(1 - smooth) * F.logsigmoid(real_logits).mean() - smooth * F.logsigmoid(-real_logits).mean()
    return on_real - F.logsigmoid(-fake_logits).mean(), -F.logsigmoid(fake_logits).mean()


def losses_by_targets(real, fake, smooth):
    cost = F.binary_cross_entropy_with_logits
    on_real, on_fake = cost(real, torch.full_like(real, 1 - smooth)), cost(fake, torch.zeros_like(fake))
    return on_real + on_fake, cost(fake, torch.ones_like(fake))


def losses_by_module(real, fake, smooth):
    cost, targets = nn.BCEWithLogitsLoss(), torch.ones_like(real)
    targets -= smooth
    return [cost(real, targets) + cost(fake, fake.detach() * 0), cost(fake, fake.detach() * 0 + 1)]


def losses_by_softplus(real, fake, smooth):
    return (F.softplus(-real) + smooth * real).mean() + F.softplus(fake).mean(), F.softplus(-fake).mean()


def losses_by_logaddexp(real, fake, smooth):
    zero = torch.zeros((), dtype=real.dtype)
    on_real = (1 - smooth) * torch.logaddexp(zero, -real) + smooth * torch.logaddexp(zero, real)
    return on_real.mean() + torch.logaddexp(zero, fake).mean(), torch.logaddexp(zero, -fake).mean()


def losses_by_distributions(real, fake, smooth):
    r, f = Bernoulli(logits=real), Bernoulli(logits=fake)
    yes, no = torch.tensor(1.0).double(), torch.tensor(0.0).double()
    on_real = (1 - smooth) * r.log_prob(yes) + smooth * r.log_prob(no)
    return -on_real.mean() - f.log_prob(no).mean(), -f.log_prob(yes).mean()


def losses_by_two_classes(real, fake, smooth):
    real, fake = (torch.stack([torch.zeros_like(x), x], -1) for x in (real, fake))
    targets = torch.tensor([smooth, 1 - smooth], dtype=real.dtype).expand(real.shape)
    label = torch.ones(len(fake), dtype=torch.long)
    cost = F.cross_entropy
    return cost(real, targets) + cost(fake, 0 * label), cost(fake, label)


def losses_by_loop(real, fake, smooth):
    of_discriminator = of_generator = 0
    for logit in real:
        one = -(1 - smooth) * F.logsigmoid(logit) - smooth * F.logsigmoid(-logit)
        of_discriminator = of_discriminator + one / len(real)
    for logit in fake:
        of_discriminator = of_discriminator - F.logsigmoid(-logit) / len(fake)
        of_generator = of_generator - F.logsigmoid(logit) / len(fake)
    return of_discriminator, of_generator


def losses_in_single_precision(real, fake, smooth):
    return tuple(v.float() for v in losses_by_logsigmoid(real.float(), fake.float(), smooth))


def losses_without_gradient(real, fake, smooth):
    with torch.no_grad():
        return losses_by_logsigmoid(real, fake, smooth)


def losses_by_numpy(real, fake, smooth):
    real, fake, log_d = real.detach().numpy(), fake.detach().numpy(), scipy.special.log_expit
    on_real = -((1 - smooth) * log_d(real) + smooth * log_d(-real)).mean()
    return torch.as_tensor(on_real - log_d(-fake).mean()), torch.as_tensor(-log_d(fake).mean())


def losses_spoiling_logits(real, fake, smooth):
    of_generator = -F.logsigmoid(fake).mean()
    of_discriminator = -(1 - smooth) * F.logsigmoid(real).mean()
    of_discriminator -= smooth * F.logsigmoid(real.neg_()).mean()
    return of_discriminator - F.logsigmoid(fake.neg_()).mean(), of_generator


def losses_by_log(real, fake, smooth, small=0.0):
    real, fake = real.sigmoid(), fake.sigmoid()
    on_real = (1 - smooth) * (real + small).log() + smooth * (1 - real + small).log()
    return -on_real.mean() - (1 - fake + small).log().mean(), -(fake + small).log().mean()


def losses_by_bce(real, fake, smooth):
    real, fake, cost = real.sigmoid(), fake.sigmoid(), F.binary_cross_entropy
    on_real, on_fake = cost(real, torch.full_like(real, 1 - smooth)), cost(fake, torch.zeros_like(fake))
    return on_real + on_fake, cost(fake, torch.ones_like(fake))


# 3.3 ---------------------------------------------------------------------------------------------------------------


def slopes_by_sigmoid(logits):
    return -torch.sigmoid(logits), -torch.sigmoid(-logits)


def slopes_by_autograd(logits):
    logits = logits.requires_grad_()
    both = F.logsigmoid(-logits).sum(), -F.logsigmoid(logits).sum()
    return tuple(torch.autograd.grad(loss, logits)[0] for loss in both)


def slopes_by_naive_autograd(logits):
    logits.requires_grad_(True)
    (saturating,) = torch.autograd.grad(torch.log(1 - torch.sigmoid(logits)).sum(), logits)
    (non_saturating,) = torch.autograd.grad(-torch.log(torch.sigmoid(logits)).sum(), logits)
    return saturating, non_saturating


def slopes_by_backward(logits):
    logits = logits.clone().requires_grad_()
    torch.log(1 - torch.sigmoid(logits)).sum().backward()
    saturating = logits.grad.clone()
    logits.grad.zero_()
    (-torch.log(torch.sigmoid(logits))).sum().backward()
    return saturating, logits.grad


def slopes_by_exp(logits):
    e = logits.exp()
    return -e / (1 + e), -1 / (1 + e)


def slopes_by_chain_rule(logits):
    d = logits.sigmoid()
    return -1 / (1 - d) * d * (1 - d), -1 / d * d * (1 - d)


def slopes_by_vmap(logits):
    both = (lambda v: (1 - v.sigmoid()).log()), (lambda v: -v.sigmoid().log())
    return tuple(torch.func.vmap(torch.func.grad(f))(logits.flatten()).reshape(logits.shape) for f in both)


def slopes_by_loop(logits):
    d = [1 / (1 + math.exp(-v)) for v in logits.flatten().tolist()]
    both = [-v for v in d], [-(1 - v) for v in d]
    return tuple(torch.tensor(v, dtype=logits.dtype).reshape(logits.shape) for v in both)


def slopes_by_differences(logits, h=1e-5):
    both = (lambda v: F.logsigmoid(-v)), (lambda v: -F.logsigmoid(v))
    return [(f(logits + h) - f(logits - h)) / (2 * h) for f in both]


def slopes_in_single_precision(logits):
    return slopes_by_sigmoid(logits.float())


def slopes_in_place(logits):
    other = logits.clone().neg_().sigmoid_().neg_()
    return logits.sigmoid_().neg_(), other


# 3.4 ---------------------------------------------------------------------------------------------------------------


def between(real, fake, t):
    return (real + t[:, None] * (fake - real)).requires_grad_()


def penalty_by_grad(
    critic,
    *args,
    points=between,
    output=torch.sum,
    norm=lambda slope: slope.norm(dim=-1),
    cost=lambda norms: (norms - 1).square().mean(),
    graph=True,
):
    x = points(*args)
    penalty = cost(norm(torch.autograd.grad(output(critic(x)), x, create_graph=graph)[0]))
    return penalty, torch.autograd.grad(penalty, critic.weight)[0]


def penalty_with(**changes):
    return lambda critic, real, fake, t: penalty_by_grad(critic, real, fake, t, **changes)


def penalty_by_outputs(critic, real, fake, t):
    t = t.view(-1, 1)
    x = torch.autograd.Variable(t * fake + (1 - t) * real, requires_grad=True)
    scores = critic(x)
    slope = torch.autograd.grad(
        outputs=scores, inputs=x, grad_outputs=torch.ones_like(scores), create_graph=True, retain_graph=True
    )[0]
    penalty = ((slope.view(len(slope), -1).norm(2, dim=1) - 1) ** 2).mean()
    return penalty, torch.autograd.grad(penalty, critic.weight)[0]


def penalty_by_root(critic, real, fake, t):
    x = torch.lerp(real, fake, t.unsqueeze(1)).requires_grad_()
    (slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    penalty = torch.mean((torch.sqrt(torch.sum(slope**2, dim=1) + 1e-12) - 1) ** 2)
    return penalty.detach(), torch.autograd.grad(penalty, critic.weight)[0]


def penalty_by_loop(critic, real, fake, t):
    total = 0
    for r, f, share in zip(real, fake, t, strict=True):
        x = ((1 - share) * r + share * f).requires_grad_()
        (slope,) = torch.autograd.grad(critic(x), x, create_graph=True)
        total = total + (slope.norm() - 1) ** 2
    penalty = total / len(real)
    return penalty.item(), torch.autograd.grad(penalty, critic.weight)[0]


def penalty_by_backward_to_x(critic, real, fake, t):
    x = between(real, fake, t)
    critic(x).sum().backward(inputs=[x], create_graph=True)
    penalty = (x.grad.norm(dim=1) - 1).square().mean()
    return [penalty, torch.autograd.grad(penalty, [critic.weight])[0]]


def penalty_by_func(critic, real, fake, t):
    x = (1 - t[:, None]) * real + t[:, None] * fake

    def penalty(weight):
        def score(v):
            return torch.func.functional_call(critic, {"weight": weight}, (v[None],)).sum()

        slope = torch.func.vmap(torch.func.grad(score))(x)
        return ((torch.linalg.vector_norm(slope, dim=1) - 1) ** 2).mean()

    gradient, value = torch.func.grad_and_value(penalty)(critic.weight.detach())
    return value, gradient


def penalty_by_jacobian(critic, real, fake, t):
    x = torch.stack([(1 - share) * r + share * f for r, f, share in zip(real, fake, t, strict=True)])
    jacobian = torch.autograd.functional.jacobian(critic, x, create_graph=True)  # (B, B, D)
    penalty = ((torch.einsum("bbd->bd", jacobian).norm(dim=1) - 1) ** 2).mean()
    return penalty, torch.autograd.grad(penalty, critic.parameters())[0]


def penalty_of_a_copy(critic, real, fake, t):
    mine = deepcopy(critic)
    penalty, _ = penalty_by_backward(mine, real, fake, t)
    return penalty, mine.weight.grad


def penalty_by_backward(critic, real, fake, t):
    x = between(real, fake, t)
    (slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    penalty = (slope.norm(dim=-1) - 1).square().mean()
    penalty.backward()
    return penalty, critic.weight.grad


def penalty_after_zero_grad(critic, real, fake, t):
    critic.zero_grad()
    penalty, gradient = penalty_by_backward(critic, real, fake, t)
    return penalty, gradient.clone()


def penalty_with_scores_left(critic, real, fake, t, twice=False):
    x = between(real, fake, t)
    critic(x).sum().backward(create_graph=True)
    penalty = (x.grad.norm(dim=-1) - 1).square().mean()
    if twice:
        penalty.backward()
        return penalty, critic.weight.grad
    return penalty, torch.autograd.grad(penalty, critic.weight)[0]


def her_penalty(critic, real, fake, t):
    x = (1 - t[0]) * real + t[0] * fake
    x.requires_grad_()
    (slope,) = torch.autograd.grad(critic(x).mean(), x)
    return (slope.norm() - 1).square()


def penalty_and_gradient_at_x(critic, real, fake, t):
    x = between(real, fake, t)
    (slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    penalty = (slope.norm(dim=-1) - 1).square().mean()
    return penalty, torch.autograd.grad(penalty, x, allow_unused=True)[0]


# 3.5 ---------------------------------------------------------------------------------------------------------------


def power_by_normalize(weight, u, iterations):
    for _ in range(iterations):
        v = F.normalize(weight.T @ u, dim=0)
        u = F.normalize(weight @ v, dim=0)
    return u @ weight @ v


def power_by_length(weight, u, iterations):
    for _ in range(iterations):
        v = weight.T @ u
        v /= v.norm()
        u = weight @ v
        length = u.norm()
        u /= length
    return length


def power_by_recursion(weight, u, iterations):
    v = weight.t().mv(u)
    v = v / torch.linalg.norm(v)
    u = weight.mv(v)
    u = u / torch.linalg.norm(u)
    return torch.dot(u, weight.mv(v)) if iterations == 1 else power_by_recursion(weight, u, iterations - 1)


def power_by_einsum(weight, u, iterations):
    while iterations:
        v = torch.einsum("mn,m->n", weight, u)
        v = v / (v * v).sum().sqrt()
        u = torch.einsum("mn,n->m", weight, v)
        u = u / (u * u).sum().sqrt()
        iterations -= 1
    return torch.einsum("m,mn,n->", u, weight, v)


def power_by_numpy(weight, u, iterations):
    w, u = weight.numpy(), u.numpy()
    for _ in range(iterations):
        v = w.T @ u
        v = v / np.linalg.norm(v)
        u = w @ v
        u = u / np.linalg.norm(u)
    return u @ w @ v


def power_of_columns(weight, u, iterations):
    u = u[:, None]
    for _ in range(iterations):
        v = weight.mT @ u
        v = v / (v.norm() + 1e-12)
        u = weight @ v
        u = u / (u.norm() + 1e-12)
    return (u.mT @ weight @ v).squeeze()


def power_by_lists(weight, u, iterations):
    w, u = weight.tolist(), u.tolist()

    def unit(a):
        return [x / math.sqrt(sum(y * y for y in a)) for x in a]

    for _ in range(iterations):
        v = unit([sum(row[j] * x for row, x in zip(w, u, strict=True)) for j in range(len(w[0]))])
        image = [sum(a * b for a, b in zip(row, v, strict=True)) for row in w]
        u = unit(image)
    return sum(a * b for a, b in zip(u, image, strict=True))


def power_in_place(weight, u, iterations):
    for _ in range(iterations):
        v = weight.T @ u
        v.div_(v.norm())
        u.copy_(weight @ v).div_(u.norm())
    return u @ weight @ v


def power_without(unit_u=True, unit_v=True):
    def estimate(weight, u, iterations):
        for _ in range(iterations):
            v = weight.T @ u
            v = v / v.norm() if unit_v else v
            u = weight @ v
            u = u / u.norm() if unit_u else u
        return u @ weight @ v

    return estimate


def power_always_from_the_start(weight, u, iterations):
    for _ in range(iterations):
        v = F.normalize(weight.T @ u, dim=0)
        w = F.normalize(weight @ v, dim=0)
    return w @ weight @ v


def power_by_squares(weight, u, iterations):
    v = F.normalize(weight.T @ u, dim=0)
    for _ in range(iterations):
        v = F.normalize(weight.T @ weight @ v, dim=0)
    return (weight @ v).norm()


def power_normalised_at_the_end(weight, u, iterations):
    for _ in range(iterations):
        v = weight.T @ u
        u = weight @ v
    return u / u.norm() @ weight @ (v / v.norm())


def power_twice(weight, u, iterations):
    for _ in range(iterations):
        v = F.normalize(weight @ u, dim=0)
        u = F.normalize(weight @ v, dim=0)
    return u @ weight @ v


def power_by_largest_entry(weight, u, iterations):
    for _ in range(iterations):
        v = weight.T @ u / (weight.T @ u).abs().max()
        u = weight @ v / (weight @ v).abs().max()
    return u @ weight @ v


# 3.6 ---------------------------------------------------------------------------------------------------------------


def ordered(x):
    return x.sort().values


def earth_by_descending(x, y):
    return (torch.sort(x, descending=True)[0] - torch.sort(y, descending=True)[0]).abs().sum() / len(x)


def earth_by_assignment(x, y):
    costs = (x[:, None] - y).abs()
    rows, columns = scipy.optimize.linear_sum_assignment(costs)
    return costs[rows, columns].mean()


def earth_by_numpy(x, y):
    return np.mean(np.abs(np.sort(x.numpy()) - np.sort(y.numpy())))


def earth_by_lists(x, y):
    return sum(abs(a - b) for a, b in zip(sorted(x.tolist()), sorted(y.tolist()), strict=True)) / len(x)


def earth_by_cdf(x, y):
    both = torch.cat([x, y]).sort().values
    f, g = (torch.searchsorted(ordered(v), both, right=True) / len(v) for v in (x, y))
    return ((f - g).abs()[:-1] * both.diff()).sum()


def earth_by_topk(x, y):
    return F.l1_loss(x.topk(len(x)).values, y.topk(len(y)).values)


def earth_by_leftmost(x, y):
    total, n = 0.0, len(x)
    while len(x):
        i, j = x.argmin(), y.argmin()
        total += (x[i] - y[j]).abs()
        x, y = torch.cat([x[:i], x[i + 1 :]]), torch.cat([y[:j], y[j + 1 :]])
    return total / n


def earth_by_argsort(x, y):
    target = torch.empty_like(y)
    target[x.argsort()] = y[y.argsort()]
    return torch.linalg.vector_norm(x - target, 1) / x.numel()


def earth_in_single_precision(x, y):
    return (ordered(x.float()) - ordered(y.float())).abs().mean()


def earth_in_place(x, y):
    x.copy_(x.msort())
    x -= y.msort()
    return x.abs_().mean()


# 3.8 ---------------------------------------------------------------------------------------------------------------


def root(c):
    values, vectors = torch.linalg.eigh(c)
    return vectors @ values.clamp(min=0).sqrt().diag() @ vectors.T


def sum_of_roots(c):
    return torch.linalg.eigvalsh(c).clamp(min=0).sqrt().sum()


def covariance(x):
    return torch.cov(x.T)


def gap(a, b):
    return (a.mean(0) - b.mean(0)).square().sum()


def distance(a, b, root=root, outer=sum_of_roots, covariance=covariance):
    c_1, c_2 = covariance(a), covariance(b)
    return gap(a, b) + c_1.trace() + c_2.trace() - 2 * outer(root(c_1) @ c_2 @ root(c_1))


def distance_with(**changes):
    return lambda a, b: distance(a, b, **changes)


def distance_by_product(a, b):
    c_1, c_2 = covariance(a), covariance(b)
    cross = torch.linalg.eigvals(c_1 @ c_2).real.clamp(min=0).sqrt().sum()
    return gap(a, b) + c_1.trace() + c_2.trace() - 2 * cross


def distance_by_nuclear_norm(a, b):
    r_1, r_2 = root(covariance(a)), root(covariance(b))
    return gap(a, b) + (r_1 @ r_1 + r_2 @ r_2).trace() - 2 * torch.linalg.matrix_norm(r_1 @ r_2, "nuc")


def distance_by_examples(a, b):
    x, y = ((v - v.mean(0)) / (len(v) - 1) ** 0.5 for v in (a, b))
    return gap(a, b) + (x**2).sum() + (y**2).sum() - 2 * torch.linalg.svdvals(x @ y.T).sum()


def distance_by_sqrtm(a, b):
    a, b = a.numpy(), b.numpy()
    c_1, c_2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    half = scipy.linalg.sqrtm(c_1).real
    cross = scipy.linalg.sqrtm(half @ c_2 @ half).real
    return torch.as_tensor(np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(c_1 + c_2 - 2 * cross))


def root_by_svd(c):
    u, s, vh = torch.linalg.svd(c)
    return u @ torch.diag(s.sqrt()) @ vh


def root_by_abs(c):
    values, vectors = torch.linalg.eigh(c)
    return vectors @ torch.diag(values.abs().sqrt()) @ vectors.T


def covariance_by_loop(x):
    total = torch.zeros(x.shape[1], x.shape[1], dtype=x.dtype)
    for row in x - x.mean(0):
        total += torch.outer(row, row)
    return total / (len(x) - 1)


def root_without_clamp(c):
    values, vectors = torch.linalg.eigh(c)
    return vectors @ values.sqrt().diag() @ vectors.T


def covariance_with_ridge(ridge):
    return lambda x: torch.cov(x.T) + ridge * torch.eye(x.shape[1]).double()


def distance_by_cholesky(a, b):
    c_1, c_2 = covariance(a), covariance(b)
    factor = torch.linalg.cholesky(c_1)
    cross = torch.linalg.eigvalsh(factor.T @ c_2 @ factor).sqrt().sum()
    return gap(a, b) + c_1.trace() + c_2.trace() - 2 * cross


def distance_with_the_same_axes(a, b):
    first, second = (torch.linalg.eigvalsh(covariance(x)).clamp(min=0).sqrt() for x in (a, b))
    return gap(a, b) + (first - second).square().sum()


def distance_in_place(a, b):
    means = a.mean(0), b.mean(0)
    a -= means[0]
    b -= means[1]
    return (means[0] - means[1]).square().sum() + distance(a, b)


# 3.7 ---------------------------------------------------------------------------------------------------------------


def average_by_sums(players, steps, decay):
    total, mass = 0.0, 0.0
    for weights in players.play(steps):
        total = decay * total + weights
        mass = decay * mass + 1
    return total / mass


def average_by_copies(players, steps, decay):
    kept = torch.stack([weights.clone() for weights in players.play(steps)])
    shares = torch.tensor([decay ** (steps - t) for t in range(1, steps + 1)], dtype=torch.float64)
    return torch.tensordot(shares / shares.sum(), kept, dims=1)


def average_corrected(players, steps, decay):
    if decay == 1:
        return sum(weights.clone() for weights in players.play(steps)) / steps
    average = torch.zeros_like(players.weight, requires_grad=False)
    for weights in players.play(steps):
        average.mul_(decay).add_(weights, alpha=1 - decay)
    return average / (1 - decay**steps)


def average_by_moving_rate(players, steps, decay):
    average, mass = torch.zeros(players.weight.shape, dtype=torch.float64), 0.0
    for weights in players.play(steps):
        mass = decay * mass + 1
        average.lerp_(weights, 1 / mass)
    return average


def average_by_numpy(players, steps, decay):
    kept = np.array([weights.numpy().copy() for weights in players.play(steps)])
    return np.average(kept, axis=0, weights=float(decay) ** np.arange(steps - 1, -1, -1))


def average_by_lists(players, steps, decay):
    kept = [weights.tolist() for weights in players.play(steps)]
    shares = [decay ** (steps - 1 - k) for k in range(steps)]
    rows, columns = len(kept[0]), len(kept[0][0])
    mean = [[sum(s * w[i][j] for s, w in zip(shares, kept, strict=True)) for j in range(columns)] for i in range(rows)]
    return torch.tensor(mean, dtype=torch.float64) / sum(shares)


def average_in_single_precision(players, steps, decay):
    return sum(weights.float() * decay ** (steps - t) for t, weights in enumerate(players.play(steps), 1)) / sum(
        decay**k for k in range(steps)
    )


def average_from_clone(players, steps, decay):
    average = None
    for weights in players.play(steps):
        average = weights.clone() if average is None else decay * average + (1 - decay) * weights
    return average


def average_from_the_live_tensor(players, steps, decay):
    average = None
    for weights in players.play(steps):
        average = weights if average is None else decay * average + (1 - decay) * weights
    return average


def average_into_the_live_tensor(players, steps, decay):
    average = None
    for weights in players.play(steps):
        if average is None:
            average = weights.detach()
        else:
            average.mul_(decay).add_((1 - decay) * weights)
    return average


def average_by_lerp_into_the_live_tensor(players, steps, decay):
    average = None
    for weights in players.play(steps):
        average = weights if average is None else average.lerp_(weights, 1 - decay)
    return average


def average_of_a_list(players, steps, decay):
    kept = torch.stack(list(players.play(steps)))
    shares = decay ** torch.arange(steps - 1, -1, -1).double()
    return torch.tensordot(shares / shares.sum(), kept, dims=1)


def average_from_zero(players, steps, decay):
    average = 0
    for weights in players.play(steps):
        average = decay * average + (1 - decay) * weights
    return average


def average_from_the_start(players, steps, decay):
    average = players.weight.detach().clone()
    for weights in players.play(steps):
        average = decay * average + (1 - decay) * weights
    return average


def average_into_parameters(players, steps, decay):
    average = players.weight
    for weights in players.play(steps):
        average.mul_(decay).add_(weights, alpha=1 - decay)
    return average


def average_divided_by_closed_form(players, steps, decay):
    total = 0
    for weights in players.play(steps):
        total = decay * total + weights
    return total * (1 - decay) / (1 - decay**steps)


def average_by_copies_with(shares):
    def average(players, steps, decay):
        kept = torch.stack([weights.clone() for weights in players.play(steps)])
        return torch.tensordot(shares(torch.arange(1, steps + 1).double(), steps, decay), kept, dims=1)

    return average


def of_one(v):
    return v / v.sum()


RIGHT = {
    "3.1": {
        "logistic function of the log odds": share_by_formula,
        "one over one plus the odds": lambda log_p, log_q, share: 1 / (1 + (1 - share) / share * (log_q - log_p).exp()),
        "softmax": share_by_softmax,
        "logaddexp": share_by_logaddexp,
        "the larger one taken out": share_by_largest,
        "torch.distributions": share_by_distributions,
        "a loop": share_by_loop,
        "in place on a copy, the share in single precision": share_on_a_copy,
        "tanh": lambda log_p, log_q, share: (
            0.5 + 0.5 * torch.tanh(0.5 * (log_p - log_q + math.log(share) - math.log(1 - share)))
        ),
        "SciPy": lambda log_p, log_q, share: scipy.special.expit(
            log_p.numpy() - log_q.numpy() + scipy.special.logit(share)
        ),
    },
    "3.2": {
        "logsigmoid": losses_by_logsigmoid,
        "cross-entropy with targets": losses_by_targets,
        "the module, as a list": losses_by_module,
        "softplus": losses_by_softplus,
        "logaddexp": losses_by_logaddexp,
        "torch.distributions": losses_by_distributions,
        "two classes": losses_by_two_classes,
        "a loop": losses_by_loop,
        "single precision": losses_in_single_precision,
    },
    "3.3": {
        "logistic functions": slopes_by_sigmoid,
        "autograd of logsigmoid": slopes_by_autograd,
        "autograd of log(1 - sigmoid) as it stands": slopes_by_naive_autograd,
        "backward, gradient set to zero between": slopes_by_backward,
        "exp": slopes_by_exp,
        "chain rule": slopes_by_chain_rule,
        "vmap of grad": slopes_by_vmap,
        "a loop": slopes_by_loop,
        "finite differences, as a list": slopes_by_differences,
        "single precision": slopes_in_single_precision,
        "detached": lambda logits: (-logits.detach().sigmoid(), logits.detach().sigmoid() - 1),
    },
    "3.4": {
        "autograd.grad": penalty_by_grad,
        "grad_outputs": penalty_by_outputs,
        "a root with a small number": penalty_by_root,
        "a loop": penalty_by_loop,
        "backward to x alone": penalty_by_backward_to_x,
        "torch.func": penalty_by_func,
        "a Jacobian": penalty_by_jacobian,
        "backward on a copy of the critic": penalty_of_a_copy,
    },
    "3.5": {
        "F.normalize": power_by_normalize,
        "the length of W v": power_by_length,
        "recursion": power_by_recursion,
        "einsum": power_by_einsum,
        "NumPy": power_by_numpy,
        "columns, a small number under the line": power_of_columns,
        "lists": power_by_lists,
        "single precision": lambda weight, u, iterations: power_by_normalize(weight.float(), u.float(), iterations),
    },
    "3.6": {
        "sorted": lambda x, y: (ordered(x) - ordered(y)).abs().mean(),
        "descending": earth_by_descending,
        "SciPy": lambda x, y: scipy.stats.wasserstein_distance(x, y),
        "assignment": earth_by_assignment,
        "NumPy": earth_by_numpy,
        "lists": earth_by_lists,
        "area between the distribution functions": earth_by_cdf,
        "topk, l1_loss": earth_by_topk,
        "leftmost to leftmost, a loop": earth_by_leftmost,
        "argsort": earth_by_argsort,
        "single precision": earth_in_single_precision,
    },
    "3.8": {
        "eigh, eigvalsh": distance,
        "eigenvalues of the product": distance_by_product,
        "nuclear norm": distance_by_nuclear_norm,
        "singular values of the examples' products": distance_by_examples,
        "SciPy's sqrtm": distance_by_sqrtm,
        "svd for eigh": distance_with(root=root_by_svd, outer=lambda c: torch.linalg.svdvals(c).sqrt().sum()),
        "absolute eigenvalues": distance_with(
            root=root_by_abs, outer=lambda c: torch.linalg.eigvalsh(c).abs().sqrt().sum()
        ),
        "covariance by a loop": distance_with(covariance=covariance_by_loop),
        "trace of the outer root": distance_with(outer=lambda c: root(c).trace()),
    },
    "3.7": {
        "two running sums": average_by_sums,
        "copies, shares at the end": average_by_copies,
        "from zero, corrected as in Adam": average_corrected,
        "a rate that falls": average_by_moving_rate,
        "np.average": average_by_numpy,
        "lists": average_by_lists,
        "single precision": average_in_single_precision,
    },
}

CHANGED = "your function changed its argument"
CUT = "it has no gradient, so nothing can be learnt"
DETACHED = "is a part of it detached?"

WRONG = {
    "3.1": {
        "densities": (share_by_densities, "Only the difference of the logarithms counts"),
        "a small number under the line": (lambda *args: share_by_densities(*args, 1e-12), "no small number"),
        "nan to a half": (lambda *args: share_by_densities(*args).nan_to_num(nan=0.5), "0/0 and ∞/∞ are nan"),
        "logarithms cut off": (
            lambda log_p, log_q, share: share_by_largest(log_p.clamp(min=-700), log_q.clamp(min=-700), share),
            "Only the difference of the logarithms counts",
        ),
        "without the share": (lambda log_p, log_q, share: (log_p - log_q).sigmoid(), "does not use share"),
        "the share in front": (lambda log_p, log_q, share: share * (log_p - log_q).sigmoid(), "above and below"),
        "the share of p alone": (lambda log_p, log_q, share: (log_p - log_q + math.log(share)).sigmoid(), "q has a sh"),
        "upside down": (lambda log_p, log_q, share: 1 - share_by_formula(log_p, log_q, share), "of being generated"),
        "shares exchanged": (lambda log_p, log_q, share: share_by_formula(log_p, log_q, 1 - share), "You gave real"),
        "the logit": (lambda log_p, log_q, share: log_p - log_q + math.log(share / (1 - share)), "the logit of D*"),
        "the odds": (lambda log_p, log_q, share: share / (1 - share) * (log_p - log_q).exp(), "may exceed 1"),
        "logarithms for densities": (
            lambda log_p, log_q, share: share * log_p / (share * log_p + (1 - share) * log_q),
            "log p is not p",
        ),
        "a decision": (lambda log_p, log_q, share: (log_p > log_q).double(), "This is a decision"),
        "the difference in single precision": (
            lambda log_p, log_q, share: share_by_formula(log_p.float(), log_q.float(), share),
            "Right to single precision only",
        ),
        "in place": (share_in_place, CHANGED),
    },
    "3.2": {
        "detached": (lambda *args: tuple(v.detach() for v in losses_by_logsigmoid(*args)), CUT),
        "no_grad": (losses_without_gradient, CUT),
        "numbers": (lambda *args: tuple(v.item() for v in losses_by_logsigmoid(*args)), CUT),
        "new tensors": (lambda *args: tuple(torch.tensor(v.item()) for v in losses_by_logsigmoid(*args)), CUT),
        "NumPy": (losses_by_numpy, CUT),
        "the generator's logits detached": (
            lambda r, f, s: (losses_by_logsigmoid(r, f, s)[0], losses_by_logsigmoid(r, f.detach(), s)[1]),
            DETACHED,
        ),
        "the discriminator's logits of generated examples detached": (
            lambda r, f, s: (losses_by_logsigmoid(r, f.detach(), s)[0], losses_by_logsigmoid(r, f, s)[1]),
            DETACHED,
        ),
        "in place": (losses_spoiling_logits, CHANGED),
        "saturating": (lambda r, f, s: (losses_by_logsigmoid(r, f, s)[0], F.logsigmoid(-f).mean()), "saturating loss"),
        "no smoothing": (lambda r, f, s: losses_by_logsigmoid(r, f, 0.0), "do not use smooth"),
        "one part of the smoothed target": (
            lambda r, f, s: (-(1 - s) * F.logsigmoid(r).mean() - F.logsigmoid(-f).mean(), -F.logsigmoid(f).mean()),
            "counts too",
        ),
        "half of the sum": (
            lambda r, f, s: (losses_by_logsigmoid(r, f, s)[0] / 2, -F.logsigmoid(f).mean()),
            "the mean of its two parts",
        ),
        "the generator's sum": (
            lambda r, f, s: (losses_by_logsigmoid(r, f, s)[0], -F.logsigmoid(f).sum()),
            "sums over",
        ),
        "logarithm of probabilities": (losses_by_log, "rounded to 0 is infinite"),
        "a small number under the logarithm": (lambda *args: losses_by_log(*args, 1e-8), "A small number under"),
        "F.binary_cross_entropy": (losses_by_bce, "ends every logarithm at −100"),
        "logits cut off": (
            lambda r, f, s: losses_by_logsigmoid(r.clamp(-20, 20), f.clamp(-20, 20), s),
            "Stay with log",
        ),
        "two logistic functions": (lambda r, f, s: losses_by_logsigmoid(r.sigmoid(), f.sigmoid(), s), "one too many"),
        "hinge": (lambda r, f, s: (F.relu(1 - r).mean() + F.relu(1 + f).mean(), -f.mean()), "three cross-entropies"),
    },
    "3.3": {
        "exchanged": (lambda logits: slopes_by_sigmoid(logits)[::-1], "wrong order"),
        "descent": (lambda logits: tuple(-v for v in slopes_by_sigmoid(logits)), "directions of descent"),
        "the second with a plus": (lambda logits: (-logits.sigmoid(), (-logits).sigmoid()), "derivative of +log D"),
        "by D": (lambda logits: (-1 / (1 - logits.sigmoid()), -1 / logits.sigmoid()), "with respect to D"),
        "of the mean": (lambda logits: tuple(v / logits.numel() for v in slopes_by_sigmoid(logits)), "the mean over"),
        "the mean": (lambda logits: tuple(v.mean() for v in slopes_by_sigmoid(logits)), "Entry 1 of your answer is a"),
        "the first twice": (lambda logits: (-logits.sigmoid(),) * 2, "the first once more"),
        "the losses": (lambda logits: (F.logsigmoid(-logits), -F.logsigmoid(logits)), "These are the losses"),
        "no logarithm": (lambda logits: (-logits.sigmoid() * (-logits).sigmoid(),) * 2, "Where are the logarithms?"),
        "flat": (lambda logits: tuple(v.flatten() for v in slopes_by_sigmoid(logits)), "expected is a tensor of shape"),
        "the numbers at -8": (
            lambda logits: (torch.full_like(logits, -0.00034), torch.full_like(logits, -0.99966)),
            "by the chain rule",
        ),
        "gradients that add up": (
            lambda logits: (slopes_by_sigmoid(logits)[0], sum(slopes_by_sigmoid(logits))),
            "by the chain rule",
        ),
        "in place": (slopes_in_place, CHANGED),
    },
    "3.4": {
        "backward into the critic": (penalty_by_backward, CHANGED),
        "backward after zero_grad": (penalty_after_zero_grad, CHANGED),
        "the scores' gradient left in the critic": (penalty_with_scores_left, CHANGED),
        "two backwards": (lambda *args: penalty_with_scores_left(*args, twice=True), "that of the scores is added"),
        "hers": (her_penalty, "expected is a tuple of 2"),
        "without a graph": (penalty_with(graph=False), "has forgotten that its slopes depend"),
        "without requires_grad": (penalty_with(points=lambda *args: between(*args).detach()), "x.requires_grad_()"),
        "without a sum": (penalty_with(output=lambda scores: scores), "differentiates one number"),
        "of the mean": (penalty_with(output=torch.mean), "B times too small"),
        "one norm": (penalty_with(norm=torch.norm), "one norm of the whole batch"),
        "one t": (penalty_with(points=lambda r, f, t: torch.lerp(r, f, t[0]).requires_grad_()), "one t for the whole"),
        "t the other way": (penalty_with(points=lambda r, f, t: between(f, r, t)), "t = 0 is the real example"),
        "t along the numbers": (
            penalty_with(points=lambda r, f, t: torch.lerp(r, f, t).requires_grad_()),
            "along the n",
        ),
        "of the mean slope": (
            penalty_with(cost=lambda norms: (norms.mean() - 1).square()),
            "averaged the slopes first",
        ),
        "absolute": (penalty_with(cost=lambda norms: (norms - 1).abs().mean()), "its square is asked for"),
        "one-sided": (penalty_with(cost=lambda norms: F.relu(norms - 1).square().mean()), "one-sided"),
        "squared lengths": (penalty_with(cost=lambda norms: (norms**2 - 1).square().mean()), "the squared length"),
        "norm over the batch": (penalty_with(norm=lambda slope: slope.norm(dim=0)), "the norm over the batch"),
        "sum of absolute entries": (penalty_with(norm=lambda slope: slope.norm(p=1, dim=-1)), "her lines one by one"),
        "no gradient": (
            lambda critic, *args: (penalty_by_grad(critic, *args)[0], torch.zeros_like(critic.weight)),
            "its gradient is not zero",
        ),
        "a gradient in a tuple": (
            lambda *args: (penalty_by_grad(*args)[0], penalty_by_grad(*args)[1:]),
            "Entry 2 of your answer is a tuple of 1",
        ),
        "the gradient at x": (penalty_and_gradient_at_x, "Entry 2 of your answer is a tensor of shape (3, 3)"),
    },
    "3.5": {
        "no length 1": (power_without(unit_u=False, unit_v=False), "grow from round to round"),
        "u not of length 1": (power_without(unit_u=False), "the square of the estimate"),
        "v not of length 1": (power_without(unit_v=False), "v is not of length 1"),
        "length 1 at the end only": (power_normalised_at_the_end, "brought to length 1 in every round"),
        "each round from the start": (power_always_from_the_start, "after one round"),
        "half a round more": (power_by_squares, "after one round more"),
        "one round less": (lambda w, u, k: power_by_normalize(w, u, max(1, k - 1)), "one round less"),
        "twice W": (power_twice, "apply W twice"),
        "exact": (lambda w, u, k: torch.linalg.svdvals(w).max(), "the exact value"),
        "two hundred rounds": (lambda w, u, k: power_by_normalize(w, u, 200), "the exact value"),
        "Frobenius": (lambda w, u, k: w.norm(), "Frobenius"),
        "eigenvalue": (lambda w, u, k: torch.linalg.eigvals(w).abs().max(), "largest eigenvalue"),
        "another start": (
            lambda w, u, k: power_by_normalize(w, torch.ones_like(u), k),
            "do not start from the given u",
        ),
        "squared": (lambda w, u, k: power_by_normalize(w, u, k) ** 2, "the square of the estimate"),
        "transposed": (lambda w, u, k: power_by_normalize(w.T, u, k), "W and its transpose exchanged"),
        "largest entry": (lambda w, u, k: w.abs().max(), "u from v, both of length 1"),
        "largest entry for the length": (power_by_largest_entry, "u from v, both of length 1"),
        "in place": (power_in_place, CHANGED),
    },
    "3.6": {
        "by index": (lambda x, y: (x - y).abs().mean(), "happens to have its index"),
        "one sorted": (lambda x, y: (ordered(x) - y).abs().mean(), "one of the samples only"),
        "crossed": (lambda x, y: (ordered(x) - ordered(y).flip(0)).abs().mean(), "dearest pairing"),
        "means": (lambda x, y: (x.mean() - y.mean()).abs(), "compares the means only"),
        "signed": (lambda x, y: (ordered(x) - ordered(y)).mean(), "Paths to the left and to the right cancel"),
        "absolute value outside": (lambda x, y: (ordered(x) - ordered(y)).mean().abs(), "compares the means only"),
        "squares": (lambda x, y: F.mse_loss(ordered(x), ordered(y)), "the square of Wasserstein-2"),
        "Wasserstein-2": (lambda x, y: F.mse_loss(ordered(x), ordered(y)).sqrt(), "This is Wasserstein-2"),
        "sum": (lambda x, y: (ordered(x) - ordered(y)).abs().sum(), "total distance"),
        "longest": (lambda x, y: (ordered(x) - ordered(y)).abs().max(), "longest path"),
        "nearest": (lambda x, y: (x[:, None] - y).abs().min(1).values.mean(), "nearest neighbour"),
        "nearest both ways": (
            lambda x, y: sum((x[:, None] - y).abs().min(dim).values.mean() for dim in (0, 1)) / 2,
            "which point should go to which",
        ),
        "all pairs": (lambda x, y: (x[:, None] - y).abs().mean(), "over all pairs"),
        "indices": (lambda x, y: (x.sort()[1] - y.sort()[1]).abs().double().mean(), "the places of the points"),
        "median": (lambda x, y: (ordered(x) - ordered(y)).abs().median(), "which point should go to which"),
        "means and widths": (
            lambda x, y: (x.mean() - y.mean()).abs() + (x.std(correction=0) - y.std(correction=0)).abs(),
            "which point should go to which",
        ),
        "in place": (earth_in_place, CHANGED),
    },
    "3.8": {
        "ridge of 1e-6": (distance_with(covariance=covariance_with_ridge(1e-6)), "You added a little to the diagonal"),
        "ridge of 1e-3": (distance_with(covariance=covariance_with_ridge(1e-3)), "You added a little to the diagonal"),
        "ridge of 1e-8": (distance_with(covariance=covariance_with_ridge(1e-8)), "Eigenvalues of 0 must stay 0"),
        "clamped at 1e-6": (
            distance_with(outer=lambda c: torch.linalg.eigvalsh(c).clamp(min=1e-6).sqrt().sum()),
            "Eigenvalues of 0 must stay 0",
        ),
        "not clamped": (distance_with(root=root_without_clamp), "whose root is nan"),
        "not clamped in the outer root": (
            distance_with(outer=lambda c: torch.linalg.eigvalsh(c).sqrt().sum()),
            "Eigenvalues of 0 must stay 0",
        ),
        "Cholesky": (distance_by_cholesky, "no Cholesky factor"),
        "root of each entry": (distance_with(root=torch.sqrt), "root of each entry"),
        "outer root of each entry": (distance_with(outer=lambda c: c.sqrt().trace()), "takes the root of each entry"),
        "both of each entry": (
            distance_with(root=torch.sqrt, outer=lambda c: c.sqrt().trace()),
            "takes the root of each entry",
        ),
        "no outer root": (distance_with(outer=torch.trace), "without the outer root"),
        "eigenvalues without roots": (
            distance_with(outer=lambda c: torch.linalg.eigvalsh(c).sum()),
            "without the outer root",
        ),
        "no inner root": (distance_with(root=lambda c: c), "Your C₁^½ is C₁ itself"),
        "not centred": (distance_with(covariance=lambda x: x.T @ x / len(x)), "not centred"),
        "not centred, N - 1": (distance_with(covariance=lambda x: x.T @ x / (len(x) - 1)), "not centred"),
        "divided by N": (distance_with(covariance=lambda x: torch.cov(x.T, correction=0)), "divide by N"),
        "variances only": (lambda a, b: gap(a, b) + (a.std(0) - b.std(0)).square().sum(), "the variances only"),
        "product of roots": (
            lambda a, b: gap(a, b) + (root(covariance(a)) - root(covariance(b))).square().sum(),
            "not the product of the roots",
        ),
        "root": (lambda a, b: distance(a, b).sqrt(), "the root of the distance"),
        "means only": (gap, "compares the means only"),
        "without means": (lambda a, b: distance(a - a.mean(0), b - b.mean(0)), "does not see the means"),
        "mean of squares": (
            lambda a, b: distance(a - a.mean(0), b - b.mean(0)) + F.mse_loss(a.mean(0), b.mean(0)),
            "averaged the squared differences",
        ),
        "single precision": (
            lambda a, b: distance(a.float(), b.float()),
            "",
        ),  # whatever: it is as far off as with some ridge
        "complex": (distance_with(outer=lambda c: torch.linalg.eigvals(c).sqrt().sum()), "Your result is complex"),
        "as if with the same axes": (distance_with_the_same_axes, "apart from each other"),
        "in place": (distance_in_place, CHANGED),
    },
    "3.7": {
        "a list of one tensor": (average_of_a_list, "which each step writes"),
        "written into by lerp": (average_by_lerp_into_the_live_tensor, "which each step writes"),
        "begun with the live tensor": (average_from_the_live_tensor, "began as the players' own tensor"),
        "written into the live tensor": (average_into_the_live_tensor, "changes their game"),
        "written into the parameters": (average_into_parameters, "into the players' own parameters"),
        "from zero": (average_from_zero, "begins at 0"),
        "from the first weights": (average_from_clone, "forgets them slowly"),
        "from the start": (average_from_the_start, "which are not to count"),
        "geometric series": (average_divided_by_closed_form, "0 here"),
        "decay exchanged": (
            average_by_copies_with(lambda t, steps, decay: of_one((1 - decay) ** (steps - t))),
            "are exchanged",
        ),
        "oldest counts most": (
            average_by_copies_with(lambda t, steps, decay: of_one(decay**t)),
            "oldest weights count",
        ),
        "sum": (average_by_copies_with(lambda t, steps, decay: decay ** (steps - t)), "its shares must sum to 1"),
        "over steps": (
            average_by_copies_with(lambda t, steps, decay: decay ** (steps - t) / steps),
            "by the sum of its shares",
        ),
        "plain mean": (average_by_copies_with(lambda t, steps, decay: of_one(t * 0 + 1)), "where is decay?"),
        "one power off": (average_by_copies_with(lambda t, steps, decay: of_one(steps - t + 1)), "what share"),
    },
}

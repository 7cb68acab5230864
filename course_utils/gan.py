"""Lecture 3: generative adversarial networks, their losses, the players and their training.

A discriminator gives a *logit* for each example, D(x) = sigmoid(logit); a critic's score is used as it is. Images are
vectors (B, D) of floats in [-1, 1], the range of the generators' tanh. Values of the game are in nats.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.optim import AdamW

from course_utils import data
from course_utils.data import normal, uniform
from course_utils.densities import eight_gaussians
from course_utils.errors import choose, require
from course_utils.nn import EMA
from course_utils.training import adamw, batch, finite, run, set_rate

LOSSES = ("minimax", "non-saturating", "wasserstein", "hinge")

# 3.2 The optimal discriminator and the value of the game ------------------------------------------------------------


def optimal_discriminator(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return D*(x) = p / (p + q) from the log densities of data and samples, (...) each: (...).

    The logistic function of log p - log q, which stays exact where both densities underflow. Goodfellow et al. (2014),
    proposition 1. (3.2a)
    """
    return (log_p - log_q).sigmoid()


def game_value(logits: Tensor, log_p: Tensor, log_q: Tensor, x: Tensor) -> Tensor:
    """Return V = E_p[log D] + E_q[log(1 - D)] in nats by the trapezoidal rule: all (..., G) on the grid x (G,).

    At the best logits, log p - log q, it is -log 4 + 2 JS. (3.2b)
    """
    return torch.trapezoid(log_p.exp() * F.logsigmoid(logits) + log_q.exp() * F.logsigmoid(-logits), x)


# 3.3 f-divergences and their bounds by a critic -----------------------------------------------------------------------


class FDivergence(NamedTuple):
    """A convex f(u) with f(1) = 0 of the ratio u = p/q, its conjugate f*(t) = max_u (t u - f(u)), its slope f'(u)."""

    f: Callable[[Tensor], Tensor]
    conjugate: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]


F_DIVERGENCES = {  # Nowozin, Cseke and Tomioka (2016), table 2; "game" is 2 JS, whose critic is log 2D
    "kl": FDivergence(lambda u: u * u.log(), lambda t: (t - 1).exp(), lambda u: 1 + u.log()),
    "reverse kl": FDivergence(lambda u: -u.log(), lambda t: -1 - (-t).log(), lambda u: -1 / u),
    "game": FDivergence(
        lambda u: u * u.log() - (u + 1) * ((u + 1) / 2).log(),
        lambda t: -(2 - t.exp()).log(),
        lambda u: (2 * u / (u + 1)).log(),
    ),
    "total variation": FDivergence(
        lambda u: (u - 1).abs() / 2,
        lambda t: torch.where(t.abs() <= 0.5, t, math.inf),
        lambda u: (u - 1).sign() / 2,
    ),
}


def f_divergence(kind: str, log_p: Tensor, log_q: Tensor, x: Tensor) -> Tensor:
    """Return D_f(p || q) = E_q[f(p/q)] by the trapezoidal rule, (...): log densities (..., G) on the grid x (G,).

    `kind` is one of ``F_DIVERGENCES``; both densities are positive on the grid. In nats, total variation from 0 to 1.
    Raises ``ValueError`` for an unknown kind. (3.3f)
    """
    f = F_DIVERGENCES[choose(kind, F_DIVERGENCES, "f-divergence")].f
    return torch.trapezoid(log_q.exp() * f((log_p - log_q).exp()), x)


def variational_bound(kind: str, critic: Tensor, log_p: Tensor, log_q: Tensor, x: Tensor) -> Tensor:
    """Return E_p[T] - E_q[f*(T)] <= D_f(p || q) of a critic's values T (..., G) by the trapezoidal rule, (...).

    The rest is as in ``f_divergence``. Nguyen, Wainwright and Jordan (2010), lemma 1. (3.3e)
    """
    conjugate = F_DIVERGENCES[choose(kind, F_DIVERGENCES, "f-divergence")].conjugate
    return torch.trapezoid(log_p.exp() * critic - log_q.exp() * conjugate(critic), x)


# 3.3 Losses, from logits ----------------------------------------------------------------------------------------------


def discriminator_loss(
    kind: str, real: Tensor, fake: Tensor, real_target: Tensor | float = 1.0, fake_target: Tensor | float = 0.0
) -> Tensor:
    """Return what the discriminator minimises, (): its logits or scores of real and generated examples, (B,) each.

    `kind` is one of ``LOSSES``. Targets other than 1 and 0, numbers or (B,), smooth, disturb or flip the labels of the
    cross-entropy; the other losses have no labels. Raises ``ValueError`` for an unknown kind. At its least the hinge
    loss is twice the overlap of the two densities. (3.3g)
    """
    if choose(kind, LOSSES, "loss") == "wasserstein":
        return fake.mean() - real.mean()
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    return cross_entropy(real, real_target) + cross_entropy(fake, fake_target)


def cross_entropy(logits: Tensor, target: Tensor | float) -> Tensor:
    """Return the mean of -target log D - (1 - target) log(1 - D), (), for logits (B,). (3.1b)"""
    return -(target * F.logsigmoid(logits) + (1 - target) * F.logsigmoid(-logits)).mean()


def generator_loss(kind: str, fake: Tensor) -> Tensor:
    """Return what the generator minimises, (): the discriminator's logits or scores of its examples, (B,).

    minimax: log(1 - D); non-saturating: -log D; wasserstein and hinge: minus the score. Raises ``ValueError`` for an
    unknown kind. The slopes of the first two in the logit are (3.3a), (3.3b)
    """
    if choose(kind, LOSSES, "loss") == "minimax":
        return F.logsigmoid(-fake).mean()
    return -F.logsigmoid(fake).mean() if kind == "non-saturating" else -fake.mean()


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, generator: torch.Generator, target: float = 1.0
) -> Tensor:
    """Return the mean of (|grad critic(x)| - target)², (), at a random point x between each pair of examples.

    real, fake (B, D); the critic maps (B, D) to (B,). Differentiable in the critic's parameters. Gulrajani et al.
    (2017), equation 3; target 0 is the zero-centred penalty of Thanh-Tung, Tran and Venkatesh (2019).
    """
    t = uniform(len(real), 1, generator=generator, like=real)  # one for each pair
    x = torch.lerp(real, fake.detach(), t).requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)  # (B, D): examples don't mix
    return (slope.norm(dim=-1) - target).square().mean()


def largest_singular_value(weight: Tensor, generator: torch.Generator, iterations: int = 20) -> Tensor:
    """Return the spectral norm of a matrix (m, n), (), by power iteration from a random vector.

    Miyato et al. (2018), algorithm 1. Raises ``ValueError`` for anything but a matrix or for no iterations. (3.3k)
    """
    require(weight.ndim == 2, f"weight has shape {tuple(weight.shape)}; a matrix (m, n) is needed")
    require(iterations >= 1, f"iterations = {iterations}; at least 1 is needed")
    u = normal(len(weight), generator=generator, like=weight)
    for _ in range(iterations):
        v = F.normalize(weight.mT @ u, dim=0)
        u = F.normalize(weight @ v, dim=0)
    return u @ weight @ v


# 3.4 The players -----------------------------------------------------------------------------------------------------


class GAN(nn.Module):
    """Generator (B, latents) -> (B, D) with z ~ N(0, I), and discriminator or critic (B, D) -> (B, 1)."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module, latents: int):
        super().__init__()
        self.generator, self.discriminator, self.latents = generator, discriminator, latents

    def latent(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n latents (n, latents), standard normal."""
        require(n >= 1, f"n = {n}; at least 1 is needed")
        return normal(n, self.latents, generator=generator, like=next(self.parameters()))

    def logits(self, x: Tensor) -> Tensor:
        """Return the discriminator's logits or the critic's scores: x (B, D) gives (B,)."""
        return self.discriminator(x).squeeze(-1)

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Return the examples (n, D) of latents z (n, latents), in evaluation mode."""
        mode = self.training
        self.eval()
        x = self.generator(z)
        self.train(mode)
        return x

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n examples (n, D): a latent through the generator, and that is all."""
        return self.decode(self.latent(n, generator))


class ConditionalGAN(GAN):
    """A GAN of pairs: the example is (x, y), pixels and a one-hot class side by side, (B, D + classes).

    The generator makes the pixels from (z, y) and hands y on; the discriminator judges pairs. So the game, its losses
    and its rounds are those of any other GAN. Mirza and Osindero (2014).
    """

    def __init__(self, generator: nn.Module, discriminator: nn.Module, latents: int, classes: int):
        super().__init__(HandOn(generator, classes), discriminator, latents)
        self.classes = classes

    def latent(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n pairs (z, y), (n, latents + classes): z standard normal, y one-hot and all classes alike."""
        z = super().latent(n, generator)
        y = torch.randint(self.classes, (n,), generator=generator)
        return torch.cat([z, F.one_hot(y, self.classes).to(z)], 1)

    def of_class(self, y: Tensor, generator: torch.Generator) -> Tensor:
        """Return one image (n, D) of each of the classes y, int64 (n,). ``ValueError`` for an unknown class."""
        known, asked = bool(((y >= 0) & (y < self.classes)).all()), y.unique().tolist()
        require(known, f"classes {asked} were asked for; there are 0 to {self.classes - 1}")
        z = super().latent(len(y), generator)
        return self.decode(torch.cat([z, F.one_hot(y, self.classes).to(z)], 1))[:, : -self.classes]


class HandOn(nn.Module):
    """(z, y), (B, latents + classes), to (x, y), (B, D + classes): a network's output beside the class it was given."""

    def __init__(self, network: nn.Module, classes: int):
        super().__init__()
        self.network, self.classes = network, classes

    def forward(self, z: Tensor) -> Tensor:
        return torch.cat([self.network(z), z[:, -self.classes :]], 1)


@torch.no_grad()
def averaged(players: GAN, average: EMA, generator: torch.Generator, n: int = 2000) -> GAN:
    """Return players whose generator has the weights of an average that followed it during the training.

    Batch normalisation belongs to the weights: its means and variances are measured anew, on n latents.
    """
    players = deepcopy(players)
    average.copy_to(players.generator)
    norms = [m for m in players.generator.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # what is kept is what this one batch has
    players.generator.train()(players.latent(n, generator))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return players


MOMENTS = (0.0, 0.005, 0.01, 0.02, 0.04, 0.07, 0.12, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0)  # shares of a training


class Film:
    """A generator's weights at each of ``MOMENTS`` of its training, in `frames` (T, P).

    ``Film(players)`` is empty and is shot during a training; ``Film(players, frames)`` shows one that was shot before.
    Raises ``ValueError`` for frames of another number or length.
    """

    def __init__(self, players: GAN, frames: Tensor | None = None):
        self.players = players
        shape = len(MOMENTS), sum(v.numel() for v in weights_of(players.generator))
        self.frames = torch.zeros(shape) if frames is None else frames
        given = tuple(self.frames.shape)
        require(given == shape, f"frames have shape {given}; of this generator {shape} are needed")

    @torch.no_grad()
    def shoot(self, done: int, steps: int) -> None:
        """Keep the weights if ``done`` of ``steps`` is one of the moments."""
        for k, moment in enumerate(MOMENTS):
            if done == round(moment * steps):
                self.frames[k] = torch.cat([v.flatten() for v in weights_of(self.players.generator)]).cpu()

    @torch.no_grad()
    def decode(self, k: int, z: Tensor) -> Tensor:
        """Return the examples (n, D) of latents z (n, latents) at moment k; ``ValueError`` for an unknown one."""
        require(0 <= k < len(MOMENTS), f"k = {k}; allowed are 0 to {len(MOMENTS) - 1}")
        generator = deepcopy(self.players.generator).eval()
        weights = weights_of(generator)
        for v, kept in zip(weights, self.frames[k].split([v.numel() for v in weights]), strict=True):
            v.copy_(kept.view_as(v))
        return generator(z)


def weights_of(generator: nn.Module) -> list[Tensor]:
    """Return the parameters of a generator and the running statistics of its batch normalisation."""
    return [v for v in generator.state_dict().values() if v.is_floating_point()]


def layers(
    widths: list[int], batch_norm: bool = False, slope: float = 0.2, dropout: float = 0.0, spectral: bool = False
) -> list[nn.Module]:
    """Return linear layers of these widths, LeakyReLU(slope) between them, and what else is asked for."""
    parts = []
    for i, (n_in, n_out) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        linear = nn.Linear(n_in, n_out)
        parts.append(spectral_norm(linear) if spectral else linear)
        if i < len(widths) - 2:
            parts += [nn.BatchNorm1d(n_out)] if batch_norm else []
            parts += [nn.LeakyReLU(slope)] + ([nn.Dropout(dropout)] if dropout else [])
    return parts


def toy_gan(width: int = 128, latents: int = 16, spectral: bool = False) -> GAN:
    """Return the players for points in the plane: three hidden layers against two."""
    generator = nn.Sequential(*layers([latents, width, width, width, 2]))
    return GAN(generator, nn.Sequential(*layers([2, width, width, 1], spectral=spectral)), latents)


def mlp_gan(
    pixels: int,
    latents: int = 32,
    batch_norm: bool = True,
    slope: float = 0.2,
    dropout: float = 0.3,
    generator_dropout: float = 0.0,
) -> GAN:
    """Return fully connected players: a generator of five layers with batch norm, a discriminator of three.

    `slope` is that of LeakyReLU below 0; `dropout` that of the discriminator.
    """
    require(latents >= 1, f"latents = {latents}; at least 1 is needed")
    generator = layers([latents, 128, 256, 256, 512, pixels], batch_norm, slope, generator_dropout)
    discriminator = layers([pixels, 256, 128, 1], False, slope, dropout)
    return GAN(nn.Sequential(*generator, nn.Tanh()), nn.Sequential(*discriminator), latents)


def conditional_gan(pixels: int, classes: int = 10, latents: int = 32) -> ConditionalGAN:
    """Return the players of ``mlp_gan`` for pairs of an image and its class."""
    plain = mlp_gan(pixels, latents + classes)
    first = nn.Linear(pixels + classes, plain.discriminator[0].out_features)
    return ConditionalGAN(plain.generator, nn.Sequential(first, *plain.discriminator[1:]), latents, classes)


def conv_gan(side: int = 28, latents: int = 32, width: int = 24) -> GAN:
    """Return convolutional players for side x side images, `side` a multiple of 4: a small Radford et al. (2016)."""
    require(side >= 4 and side % 4 == 0, f"side = {side}; a multiple of 4 is needed, such as 8 or 28")
    small, w, v = side // 4, width, width * 5 // 3
    generator = nn.Sequential(
        nn.Linear(latents, v * small**2), nn.Unflatten(-1, (v, small, small)), nn.BatchNorm2d(v), nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(v, w, 4, stride=2, padding=1), nn.BatchNorm2d(w), nn.LeakyReLU(0.2),  # side/2
        nn.Conv2d(w, w, 3, padding=1), nn.BatchNorm2d(w), nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(w, 1, 4, stride=2, padding=1), nn.Tanh(), nn.Flatten(),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Unflatten(-1, (1, side, side)),
        nn.Conv2d(1, 32, 4, stride=2, padding=1), nn.LeakyReLU(0.2),  # (B, 32, side/2, side/2)
        nn.Conv2d(32, 64, 4, stride=2, padding=1), nn.LeakyReLU(0.2),  # (B, 64, side/4, side/4)
        nn.Flatten(), nn.Linear(64 * small**2, 1),
    )  # fmt: skip
    return GAN(generator, discriminator, latents)


# 3.3 to 3.7 The game and its remedies ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Game:
    """The rules of a training: which loss, which remedies.

    `smooth`: real labels 1 - smooth in place of 1. `noise`: half-width of a uniform disturbance of all labels. `flip`:
    share of labels exchanged. `blur`: standard deviation of Gaussian noise on all that the discriminator sees. `gp`:
    weight of the gradient penalty between examples (Gulrajani et al., 2017); `r1`: of that at real ones, with target 0
    (Mescheder et al., 2018), taken into account in every fourth turn with four times the weight. `critic_steps`: turns
    of the discriminator for each of the generator. Raises ``ValueError`` for an unknown loss or a number out of range.
    """

    kind: str = "non-saturating"
    smooth: float = 0.0
    noise: float = 0.0
    flip: float = 0.0
    blur: float = 0.0
    gp: float = 0.0
    r1: float = 0.0
    critic_steps: int = 1

    def __post_init__(self) -> None:
        choose(self.kind, LOSSES, "loss")
        for name in ("smooth", "noise", "flip"):
            value = getattr(self, name)
            require(0 <= value < 1, f"{name} = {value}; allowed: 0 to below 1, for example 0.1")
        for name in ("blur", "gp", "r1"):
            value = getattr(self, name)
            require(value >= 0, f"{name} = {value}; allowed: 0 or more")
        require(self.critic_steps >= 1, f"critic_steps = {self.critic_steps}; at least 1 is needed")

    def losses(self, players: GAN, x: Tensor, turn: int, generator: torch.Generator) -> "Losses":
        """Return both players' losses on real examples x (B, D) in the discriminator's turn number `turn`, from 0.

        Each moves its own player: the samples are detached in the first, the discriminator is frozen in the second.
        """
        fake = players.generator(players.latent(len(x), generator))
        real, made = self.blurred(x, generator), self.blurred(fake.detach(), generator)
        on_real, on_fake = players.logits(real), players.logits(made)
        discriminator = discriminator_loss(self.kind, on_real, on_fake, *self.targets(on_real, generator))
        if self.gp:
            discriminator = discriminator + self.gp * gradient_penalty(players.logits, real, made, generator)
        if self.r1 and turn % 4 == 0:
            penalty = gradient_penalty(players.logits, real, real, generator, target=0.0)
            discriminator = discriminator + 4 * self.r1 * penalty
        confidence = torch.stack([on_real.detach().sigmoid().mean(), on_fake.detach().sigmoid().mean()])
        if turn % self.critic_steps:
            return Losses(discriminator, None, confidence)
        with frozen(players.discriminator):
            return Losses(
                discriminator, generator_loss(self.kind, players.logits(self.blurred(fake, generator))), confidence
            )

    def blurred(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return x with the noise that hides small differences from the discriminator."""
        return x + self.blur * normal(*x.shape, generator=generator, like=x) if self.blur else x

    def targets(self, like: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the labels of real and of generated examples, (B,) each: smoothed, disturbed, flipped."""
        labels = torch.stack([torch.full_like(like, 1 - self.smooth), torch.zeros_like(like)])  # (2, B)
        if self.noise:
            labels = labels + self.noise * (2 * uniform(*labels.shape, generator=generator, like=like) - 1)
        if self.flip:
            exchanged = uniform(*like.shape, generator=generator, like=like) < self.flip
            labels = torch.where(exchanged, labels.flip(0), labels)
        real, fake = labels.clamp(0, 1)
        return real, fake


class Losses(NamedTuple):
    """The losses of both players, () each, None for a generator that waits; the mean of D on real and on generated."""

    discriminator: Tensor
    generator: Tensor | None
    confidence: Tensor


class Round(NamedTuple):
    """What a round of the game tells: how many are done, the discriminator's loss (), the share of the budget spent,
    and the mean of D on real and on generated examples, (2,)."""

    done: int
    loss: Tensor
    share: float
    confidence: Tensor


def optimisers(players: GAN, lr: float = 1e-3, momentum: float = 0.0, decay: float = 0.99) -> tuple[AdamW, AdamW]:
    """Return an optimiser of the discriminator and one of the generator: Adam with a momentum of their own."""
    return tuple(adamw(player, lr, (momentum, decay)) for player in (players.discriminator, players.generator))


def rounds(
    players: GAN,
    game: Game,
    x: Tensor,
    moves: tuple[AdamW, AdamW],
    *,
    generator: torch.Generator,
    steps: int,
    batch_size: int = 64,
    done: int = 0,
) -> Iterator[Round]:
    """Let both players move, a round at a time, on real examples x (N, D); yield a ``Round`` after each.

    `moves` are the players' ``optimisers``. Both losses are taken where both players stand, then both move: the steps
    are simultaneous. Rates fall as in ``training.steps``; `done` rounds were played before, in a game that
    goes on. Raises ``ValueError`` for a number of steps below 1, ``FloatingPointError`` where a loss is not finite.
    """
    require(steps >= 1, f"steps = {steps}; at least 1 is needed")
    for turn in range(done, steps):
        index = batch(turn, len(x), batch_size, generator.initial_seed())
        losses = game.losses(players, x[index], turn, generator)
        for optimiser, loss in zip(moves, losses[:2], strict=True):
            set_rate(optimiser, turn / steps)
            optimiser.zero_grad()
            if loss is not None:
                loss.backward()
        finite(losses.discriminator, moves[0])
        for optimiser in moves:
            optimiser.step()
        yield Round(turn + 1, losses.discriminator.detach(), (turn + 1) / steps, losses.confidence)


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Let gradients pass through a network without reaching its parameters."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


RING = eight_gaussians()


def play_ring(
    game: Game,
    seed: int = 0,
    steps: int = 4000,
    momentum: float = 0.5,
    spectral: bool = False,
    watch: Callable[[int, GAN], None] | None = None,
    label: str | None = "ring",
) -> GAN:
    """Return the players of the ring of eight Gaussians after a training of about ten seconds.

    `momentum` is the decay of the gradient's running mean; `spectral` divides the discriminator's weights by their
    spectral norms. ``watch(number of steps done, gan)`` is called after each step;
    `label` is that of the progress bar, None for no bar.
    """
    torch.manual_seed(seed)  # the initial weights
    generator = data.generator(seed)
    players = toy_gan(spectral=spectral)
    x, moves = RING.sample(20_000, generator), optimisers(players, 6e-3, momentum, 0.9)
    played = rounds(players, game, x, moves, generator=generator, steps=steps, batch_size=128)
    run(played, label, watch and (lambda done: watch(done, players)))
    return players

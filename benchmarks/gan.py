"""How steady the trainings of lecture 3 are, over ten seeds, and why the course's GAN has the precision that it has.

Run it by ``.venv/bin/python benchmarks/gan.py [SEEDS]``. Prints, as tables in Markdown: the Fréchet distance of the
digits' samples (features of a small classifier, 1,500 samples against the training images) with one ingredient changed
at a time, also with averaged weights; how often a conditional generator makes the class it was asked for; the modes
covered on the ring; and of the networks that come with the course Fréchet distance, KID, precision and recall, by the
number of samples and by what is done to them.
"""

import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F

from course_utils import data, gan, metrics, networks
from course_utils.nn import EMA, DigitClassifier
from course_utils.training import fit, run

GAME = gan.Game(smooth=0.1, noise=0.1, r1=0.2)
VARIANTS = {  # name: (options of the networks, of the game, momentum, whether the data are scaled to [-1, 1])
    "all ingredients": ({}, GAME, 0.0, True),
    "no batch norm": ({"batch_norm": False}, GAME, 0.0, True),
    "momentum 0.9": ({}, GAME, 0.9, True),
    "data in [0, 1]": ({}, GAME, 0.0, False),
    "ReLU": ({"slope": 0.0}, GAME, 0.0, True),
    "no dropout": ({"dropout": 0.0}, GAME, 0.0, True),
    "dropout in G too": ({"generator_dropout": 0.3}, GAME, 0.0, True),
    "no smoothing": ({}, gan.Game(noise=0.1, r1=0.2), 0.0, True),
    "no label noise": ({}, gan.Game(smooth=0.1, r1=0.2), 0.0, True),
    "no R₁": ({}, gan.Game(smooth=0.1, noise=0.1), 0.0, True),
}
LENGTHS = {"all ingredients": 2000}  # of the long training; the comparison is of SHORT ones
SHORT = 400
RING = {  # name: (the game, momentum)
    "plain, momentum 0.9": (gan.Game(), 0.9),
    "plain, momentum 0.5": (gan.Game(), 0.5),
    "R₁, momentum 0.9": (gan.Game(r1=0.1), 0.9),
    "R₁, momentum 0.5": (gan.Game(r1=0.1), 0.5),
}
RING_STEPS = 4000


def trained_judge(x: torch.Tensor, y: torch.Tensor) -> DigitClassifier:
    """Return a classifier trained on the digits x (N, 64) in [0, 1]."""
    torch.manual_seed(0)
    judge = DigitClassifier(8)
    generator = data.generator(0)
    fit(lambda i: F.cross_entropy(judge(x[i]), y[i]), judge, len(x), steps=400, lr=3e-3, generator=generator)
    return judge.eval()


def played(net: gan.GAN, game: gan.Game, x: torch.Tensor, steps: int, seed: int, momentum: float = 0.0) -> gan.GAN:
    """Train the players on examples x; return them with averaged weights."""
    average, generator = EMA(net.generator, 0.98), data.generator(seed)
    moves = gan.optimisers(net, momentum=momentum)
    play = gan.rounds(net, game, x, moves, generator=generator, steps=steps)
    run(play, None, lambda done: average.update(net.generator))
    return gan.averaged(net, average, data.generator(seed))


def digits_run(name: str, steps: int, seed: int, x: torch.Tensor, judged: Callable) -> tuple[float, float, float]:
    """Train a variant; return its samples' Fréchet distance, their rarest class's share, and the average's distance."""
    options, game, momentum, scaled = VARIANTS[name]
    torch.manual_seed(seed)
    net = gan.mlp_gan(64, **options)
    averaged = played(net, game, 2 * x - 1 if scaled else x, steps, seed, momentum)
    samples = [players.sample(1500, data.generator(seed)) for players in (net, averaged)]
    (distance, share), (of_average, _) = (judged(v / 2 + 0.5 if scaled else v) for v in samples)
    return distance, share, of_average


def digits(seeds: int) -> None:
    """Print the tables of the digits."""
    images = data.load("digits")
    x, y = images.unit(images.train.flat), images.train.labels
    judge = trained_judge(x, y)
    real, test = judge.judge(x)[0], judge.judge(images.unit(images.test.flat))[0]

    def judged(samples: torch.Tensor) -> tuple[float, float]:
        features, probabilities = judge.judge(samples)
        shares = probabilities.argmax(1).bincount(minlength=10) / len(samples)
        return metrics.frechet(features, real).item(), shares.min().item()

    print(f"Fréchet distance of test to training images: {metrics.frechet(test, real):.1f}\n")
    print("| digits | steps | median | least | most | rarest class, median | averaged weights, median |")
    print("|---|---|---|---|---|---|---|")
    runs = [(name, LENGTHS[name]) for name in LENGTHS] + [(name, SHORT) for name in VARIANTS]
    for name, steps in runs:
        found = torch.tensor([digits_run(name, steps, seed, x, judged) for seed in range(seeds)])  # (seeds, 3)
        d, (_, share, mean) = found[:, 0], found.median(0).values
        print(
            f"| {name} | {steps:,} | {d.median():.1f} | {d.min():.1f} | {d.max():.1f} | {share:.1%} | {mean:.1f} |",
            flush=True,
        )
    obeyed = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        pairs = torch.cat([2 * x - 1, F.one_hot(y, 10).float()], 1)
        told = played(gan.conditional_gan(64), GAME, pairs, 2 * SHORT, seed)
        asked = torch.arange(10).repeat(150)
        named = judge.judge(told.of_class(asked, data.generator(seed)) / 2 + 0.5)[1].argmax(1)
        obeyed.append((named == asked).float().mean().item())
    print(f"\nconditional, {2 * SHORT} steps: {min(obeyed):.1%} to {max(obeyed):.1%} are the class that was asked for")


def precision() -> None:
    """Print what precision and recall of the course's networks depend on."""
    judge, g = networks.load("digit_classifier"), data.generator(0)
    features = networks.extras("digit_classifier")["features"]
    order = torch.randperm(len(features), generator=data.generator(0))
    real, other = features[order[:5000]], features[order[5000:]]
    net = networks.load("gan_mnist")
    z = net.latent(4000, g)

    def show(name: str, found: torch.Tensor, n: int = 2000) -> None:
        distance, kernel = metrics.frechet(found[:n], real[:n]), metrics.kid(found[:n], real[:n])
        inside, covered = metrics.precision_recall(real[:n], found[:n])
        print(
            f"| {name} | {n:,} | {distance:.1f} | {kernel.value:.1f} ± {kernel.se:.1f} "
            f"| {inside:.2f} | {covered:.2f} |",
            flush=True,
        )

    print("\n| MNIST | N | Fréchet distance | KID | precision | recall |")
    print("|---|---|---|---|---|---|")
    for n in (250, 500, 1000, 2000, 4000):
        show("real images", other, n)
        show("GAN", judge.judge(net.decode(z[:n]) / 2 + 0.5)[0], n)
    for psi in (0.9, 0.8, 0.7, 0.6, 0.5):
        show(f"GAN, latents times {psi}", judge.judge(net.decode(psi * z) / 2 + 0.5)[0])
    for name in ("vae_mlp_20", "vae_conv_20"):
        ink = networks.load(name).sample(2000, g)
        show(f"{name}, means", judge.judge(ink)[0])
        show(f"{name}, pixels drawn", judge.judge(torch.bernoulli(ink, generator=g))[0])
    found, probabilities = judge.judge(net.decode(z[:2000]) / 2 + 0.5)
    radius = torch.cdist(real[:2000], real[:2000]).topk(4, largest=False).values[:, 3]
    inside, sure = (torch.cdist(found, real[:2000]) <= radius).any(1), probabilities.amax(1)
    print(
        f"\nThe classifier's first choice, in the mean: {sure[inside].mean():.2f} for the GAN's images within the real "
        f"ones' reach, {sure[~inside].mean():.2f} for those outside; below 0.9 for {(sure < 0.9).float().mean():.0%}"
    )


def ring(seeds: int) -> None:
    """Print the table of the ring."""
    print("\n| ring of eight Gaussians | steps | modes covered, by seed | within 3 sd, least to most |")
    print("|---|---|---|---|")
    for name, (game, momentum) in RING.items():
        found = []
        for seed in range(seeds):
            points = gan.play_ring(game, seed, RING_STEPS, momentum).sample(5000, data.generator(seed))
            found.append(metrics.mode_counts(points, gan.RING))
        covered = " ".join(str(modes.covered) for modes in found)
        quality = [modes.quality for modes in found]
        print(f"| {name} | {RING_STEPS:,} | {covered} | {min(quality):.1%} to {max(quality):.1%} |", flush=True)


def main() -> int:
    if len(sys.argv) > 2 or not all(a.isdecimal() and int(a) > 0 for a in sys.argv[1:]):
        print("usage: benchmarks/gan.py [SEEDS], a number of seeds such as 10", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    digits(seeds)
    ring(seeds)
    precision()
    return 0


if __name__ == "__main__":
    sys.exit(main())

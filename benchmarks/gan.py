"""How steady the trainings of lecture 3 are, over ten seeds, and why the course's GAN has the precision that it has.

Run it by ``.venv/bin/python benchmarks/gan.py [--seeds 10] [--jobs 1] [PART …]``. Prints, as tables in Markdown, the
parts `digits`: the Fréchet distance of the digits' samples (features of a small classifier, 1,500 samples against the
training images) with one ingredient changed at a time, also with averaged weights, and how often a conditional
generator makes the class it was asked for; `ring`: the modes covered there; `precision`: of the networks that come with
the course Fréchet distance, KID, precision and recall, by the number of samples and by what is done to them.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context

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


@cache
def digits_and_judge() -> tuple[torch.Tensor, torch.Tensor, DigitClassifier, torch.Tensor]:
    """Return the training digits x (N, 64) in [0, 1], their classes, a classifier trained on them, and its features."""
    images = data.load("digits")
    x, y = images.unit(images.train.flat), images.train.labels
    torch.manual_seed(0)
    judge = DigitClassifier(8)
    generator = data.generator(0)
    fit(lambda i: F.cross_entropy(judge(x[i]), y[i]), judge, len(x), steps=400, lr=3e-3, generator=generator)
    return x, y, judge.eval(), judge.judge(x)[0]


def judged(samples: torch.Tensor) -> tuple[float, float]:
    """Return the Fréchet distance of samples (M, 64) to the training digits, and the share of their rarest class."""
    *_, judge, real = digits_and_judge()
    features, probabilities = judge.judge(samples)
    shares = probabilities.argmax(1).bincount(minlength=10) / len(samples)
    return metrics.frechet(features, real).item(), shares.min().item()


def played(net: gan.GAN, game: gan.Game, x: torch.Tensor, steps: int, seed: int, momentum: float = 0.0) -> gan.GAN:
    """Train the players on examples x; return them with averaged weights."""
    average, generator = EMA(net.generator, 0.98), data.generator(seed)
    moves = gan.optimisers(net, momentum=momentum)
    play = gan.rounds(net, game, x, moves, generator=generator, steps=steps)
    run(play, None, lambda done: average.update(net.generator))
    return gan.averaged(net, average, data.generator(seed))


def digits_run(name: str, steps: int, seed: int) -> tuple[float, float, float]:
    """Train a variant; return its samples' Fréchet distance, their rarest class's share, and the average's distance."""
    options, game, momentum, scaled = VARIANTS[name]
    x, *_ = digits_and_judge()
    torch.manual_seed(seed)
    net = gan.mlp_gan(64, **options)
    averaged = played(net, game, 2 * x - 1 if scaled else x, steps, seed, momentum)
    samples = [players.sample(1500, data.generator(seed)) for players in (net, averaged)]
    (distance, share), (of_average, _) = (judged(v / 2 + 0.5 if scaled else v) for v in samples)
    return distance, share, of_average


def conditional_run(steps: int, seed: int) -> float:
    """Train a conditional generator; return the share of its samples that are the class that was asked for."""
    x, y, judge, _ = digits_and_judge()
    torch.manual_seed(seed)
    pairs = torch.cat([2 * x - 1, F.one_hot(y, 10).float()], 1)
    told = played(gan.conditional_gan(64), GAME, pairs, steps, seed)
    asked = torch.arange(10).repeat(150)
    named = judge.judge(told.of_class(asked, data.generator(seed)) / 2 + 0.5)[1].argmax(1)
    return (named == asked).float().mean().item()


def ring_run(name: str, seed: int) -> tuple[int, float]:
    """Train on the ring; return the modes that 5,000 samples cover, and the share of them near one."""
    game, momentum = RING[name]
    points = gan.play_ring(game, seed, RING_STEPS, momentum).sample(5000, data.generator(seed))
    found = metrics.mode_counts(points, gan.RING)
    return found.covered, found.quality


def digits(over: Callable) -> None:
    """Print the tables of the digits."""
    images = data.load("digits")
    print(f"Fréchet distance of test to training images: {judged(images.unit(images.test.flat))[0]:.1f}\n")
    print("| digits | steps | median | least | most | rarest class, median | averaged weights, median |")
    print("|---|---|---|---|---|---|---|")
    runs = [(name, LENGTHS[name]) for name in LENGTHS] + [(name, SHORT) for name in VARIANTS]
    found = over([partial(digits_run, name, steps) for name, steps in runs])
    for (name, steps), of_seeds in zip(runs, found, strict=True):
        table = torch.tensor(of_seeds)  # (seeds, 3)
        d, (_, share, mean) = table[:, 0], table.median(0).values
        print(
            f"| {name} | {steps:,} | {d.median():.1f} | {d.min():.1f} | {d.max():.1f} | {share:.1%} | {mean:.1f} |",
            flush=True,
        )
    (obeyed,) = over([partial(conditional_run, 2 * SHORT)])
    print(f"\nconditional, {2 * SHORT} steps: {min(obeyed):.1%} to {max(obeyed):.1%} are the class that was asked for")


def ring(over: Callable) -> None:
    """Print the table of the ring."""
    print("\n| ring of eight Gaussians | steps | modes covered, by seed | within 3 sd, least to most |")
    print("|---|---|---|---|")
    for name, found in zip(RING, over([partial(ring_run, name) for name in RING]), strict=True):
        covered, quality = zip(*found, strict=True)
        print(
            f"| {name} | {RING_STEPS:,} | {' '.join(map(str, covered))} | {min(quality):.1%} to {max(quality):.1%} |",
            flush=True,
        )


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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help="digits, ring, precision; all if none is named")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time, each on one core")
    args = parser.parse_args()
    parts = {"digits": digits, "ring": ring, "precision": lambda over: precision()}
    if unknown := set(args.parts) - set(parts):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    if min(args.seeds, args.jobs) < 1:
        parser.error("--seeds and --jobs are 1 or more")
    torch.set_num_threads(1)
    with ProcessPoolExecutor(args.jobs, get_context("spawn"), torch.set_num_threads, (1,)) as pool:

        def over(runs: Sequence[Callable[[int], object]]) -> Iterator[list]:
            """Begin all runs with all seeds; yield the results of one run after the other."""
            begun = [[pool.submit(run, seed) for seed in range(args.seeds)] for run in runs]
            return ([future.result() for future in of_seeds] for of_seeds in begun)

        for name in args.parts or parts:
            parts[name](over)
    return 0


if __name__ == "__main__":
    sys.exit(main())

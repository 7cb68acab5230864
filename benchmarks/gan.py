"""How steady the trainings of lecture 3 are: ten seeds of each, on the digits and on the ring of eight Gaussians.

Run it by ``.venv/bin/python benchmarks/gan.py [SEEDS]``. Prints, as tables in Markdown, the Fréchet distance of the
digits' samples (features of a small classifier, 1,500 samples against the training images) with one ingredient changed
at a time, and the modes covered on the ring.
"""

import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F

from course_utils import data, gan, metrics
from course_utils.nn import DigitClassifier
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
    "sharp labels": ({}, gan.Game(r1=0.2), 0.0, True),
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


def digits_run(name: str, steps: int, seed: int, x: torch.Tensor, judged: Callable) -> tuple[float, float]:
    """Train one variant; return the Fréchet distance of its samples and the share of their rarest class."""
    options, game, momentum, scaled = VARIANTS[name]
    torch.manual_seed(seed)
    generator = data.generator(seed)
    net, images = gan.mlp_gan(64, **options), 2 * x - 1 if scaled else x
    play = gan.rounds(net, game, images, gan.optimisers(net, momentum=momentum), generator=generator, steps=steps)
    run(play, None)
    samples = net.sample(1500, data.generator(seed))
    return judged(samples / 2 + 0.5 if scaled else samples)


def digits(seeds: int) -> None:
    """Print the table of the digits."""
    images = data.load("digits")
    x, y = images.unit(images.train.flat), images.train.labels
    judge = trained_judge(x, y)
    real, test = judge.judge(x)[0], judge.judge(images.unit(images.test.flat))[0]

    def judged(samples: torch.Tensor) -> tuple[float, float]:
        features, probabilities = judge.judge(samples)
        shares = probabilities.argmax(1).bincount(minlength=10) / len(samples)
        return metrics.frechet(features, real).item(), shares.min().item()

    print(f"Fréchet distance of test to training images: {metrics.frechet(test, real):.1f}\n")
    print("| digits | steps | median | least | most | rarest class, median |")
    print("|---|---|---|---|---|---|")
    runs = [(name, LENGTHS[name]) for name in LENGTHS] + [(name, SHORT) for name in VARIANTS]
    for name, steps in runs:
        distances, shares = zip(*(digits_run(name, steps, seed, x, judged) for seed in range(seeds)), strict=True)
        d, share = torch.tensor(distances), torch.tensor(shares).median()
        print(f"| {name} | {steps:,} | {d.median():.1f} | {d.min():.1f} | {d.max():.1f} | {share:.1%} |", flush=True)


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
    return 0


if __name__ == "__main__":
    sys.exit(main())

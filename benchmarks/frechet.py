"""The course's Fréchet distance against torchmetrics', pytorch-fid's and plain SciPy's, side by side.

Run it by ``.venv/bin/python benchmarks/frechet.py [THREADS]``, one CPU thread if not given. All get the same means and
covariances in float64, of correlated random features; no features are extracted from images. The four take turns; a
ratio above 1 says that the course is faster. The two packages (PyPI) are put into build/ on the first run; SciPy is
the one that the course's tests use.
"""

import argparse
import statistics
import warnings
from collections.abc import Callable

import numpy as np
import peers
import scipy.linalg
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from course_utils import data, metrics

PINS = ["torchmetrics==1.9.0", "lightning-utilities==0.15.3", "pytorch-fid==0.3.0"]
SIZES = {64: (41, 20), 256: (41, 2), 1024: (11, 1)}  # features: turns, distances in each
AIM = "aim: at 256 features 2.5 times as fast as the best of the others, and the same value to 6 digits"


def gaussian(d: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return mean (d,) and covariance (d, d) of 4 d random features, correlated in a way of their own."""
    mixing = data.normal(d, d, generator=generator) / d**0.5
    mean = 0.1 * data.normal(d, generator=generator)  # so small that the covariances make most of the distance
    return metrics.gaussian_of(mean + data.normal(4 * d, d, generator=generator) @ mixing)


def scipy_distance(mean_1: np.ndarray, cov_1: np.ndarray, mean_2: np.ndarray, cov_2: np.ndarray) -> float:
    """The formula as it stands, by SciPy's root of a matrix."""
    root = scipy.linalg.sqrtm(cov_1 @ cov_2)
    return np.square(mean_1 - mean_2).sum() + np.trace(cov_1 + cov_2 - 2 * root.real)


def sides(d: int) -> dict[str, Callable]:
    """Return the four ways to the distance of the same two Gaussians in d dimensions."""
    from pytorch_fid.fid_score import calculate_frechet_distance
    from torchmetrics.image.fid import _compute_fid

    generator = data.generator(0)
    tensors = [*gaussian(d, generator), *gaussian(d, generator)]
    arrays = [value.numpy() for value in tensors]
    return {
        "course": lambda: metrics.frechet_distance(*tensors),
        "torchmetrics": lambda: _compute_fid(*tensors),
        "pytorch-fid": lambda: calculate_frechet_distance(*arrays),
        "SciPy sqrtm": lambda: scipy_distance(*arrays),
    }


def repeated(task: Callable, count: int) -> Callable:
    """Return a function that does the task `count` times and returns the last result."""
    return lambda: [task() for _ in range(count)][-1]


def compare(d: int, threads: int) -> None:
    """Print, for d features, a row for each of the others: ratio to the course, times, value."""
    repetitions, count = SIZES[d]
    tasks = sides(d)
    seconds, results = peers.turns([repeated(task, count) for task in tasks.values()], repetitions, threads)
    values = [float(result[0]) for result in results]
    for name, times, value in zip(tasks, seconds, values, strict=True):
        middle, low, high = peers.ratio(times, seconds[0])
        print(
            f"| {d} | {threads} | {name} | {statistics.median(times) / count * 1e3:.2f} ms | {middle:.2f} "
            f"| {low:.2f} to {high:.2f} | {value:.8g} |"
        )
        assert abs(value - values[0]) < 1e-6 * values[0], f"{name} and the course differ: {value} and {values[0]}"


def main(threads: int) -> None:
    peers.install("frechet", PINS)
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # pytorch-fid's, of an argument of sqrtm
    torch.set_num_threads(threads)
    print(AIM)
    print("| features | threads | | time | times the course's | 80 % of turns | distance |")
    print("|---|---|---|---|---|---|---|")
    with threadpool_limits(threads):  # NumPy's and SciPy's
        for d in SIZES:
            compare(d, threads)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("threads", nargs="?", type=int, default=1)
    main(parser.parse_args().threads)

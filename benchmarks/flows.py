"""The course's RealNVP against zuko's, normflows', nflows' and FrEIA's, and its spline flow against zuko's in 30 s.

Run it by ``.venv/bin/python benchmarks/flows.py [THREADS]``, one CPU thread if not given. All are flows of the plane
by 8 affine couplings with the same networks (1-64-64-2, SiLU), 35,344 parameters, float32, and take turns at training
steps on batches of 256 two moons, samples and log-densities of 1,000 points; a ratio above 1 says that the course is
faster. Each bounds the log-scale in its own way. The course trains by the loop of its ``fit`` without a bar, the
others by a bare loop, all with the same fused AdamW, made once. The packages (PyPI) are put into build/ on the first
run.

``benchmarks/flows.py race [SEEDS]`` trains, for each seed (3 if not given), the course's spline flow as in lecture 4
and zuko's as in its tutorial ("Train from data") for 30 s of CPU time, and compares them on the same held-out points.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from unittest import mock

import peers
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from course_utils import data, densities, flow_couplings, flows, training

PINS = ["zuko==1.6.0", "normflows==1.7.3", "nflows==0.14", "FrEIA==0.2"]
LAYERS, HIDDEN, LR = 8, (64, 64), 1e-3
TRAINED, BATCH, STEPS = 16_384, 256, 50  # points to train on; of a step; steps of one timing
POINTS, CALLS = 1000, 20  # of a sample or a log-density; calls of one timing
TASKS = {"steps": ("training step", STEPS), "sample": ("sample of 1,000", CALLS), "log_prob": ("log-density", CALLS)}
TURNS = 41


class Course:
    """The three tasks as the course does them."""

    def __init__(self, x: Tensor):
        self.x, self.generator = x, data.generator(1)
        self.flow = flow_couplings.realnvp(2, LAYERS, HIDDEN)
        self.optimiser = training.adamw(self.flow, LR)

    def loss(self, index: Tensor) -> Tensor:
        return flows.negative_log_likelihood(self.flow, self.x[index])

    def steps(self) -> None:
        taken = training.steps(
            self.loss, self.optimiser, len(self.x), generator=self.generator, steps=STEPS, batch_size=BATCH
        )
        training.run(taken, label=None)

    def sample(self) -> None:
        for _ in range(CALLS):
            self.flow.sample(POINTS, self.generator)

    @torch.no_grad()
    def log_prob(self) -> None:
        for _ in range(CALLS):
            self.flow.log_prob(self.x[:POINTS])


class Peer:
    """The same by another library's model, its function for the log-density of points, and that for so many samples."""

    def __init__(self, x: Tensor, model: nn.Module, log_density: Callable, draw: Callable):
        self.x, self.flow, self.log_density, self.draw = x, model, log_density, draw
        self.optimiser = training.adamw(model, LR)

    def steps(self) -> None:
        order = torch.randperm(len(self.x))
        for i in range(STEPS):
            loss = -self.log_density(self.x[order[i * BATCH : (i + 1) * BATCH]]).mean()
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            loss.item()

    @torch.no_grad()
    def sample(self) -> None:
        for _ in range(CALLS):
            self.draw(POINTS)

    @torch.no_grad()
    def log_prob(self) -> None:
        for _ in range(CALLS):
            self.log_density(self.x[:POINTS])


def network(n_in: int, n_out: int) -> nn.Module:
    """Return the network of a coupling, the same in all."""
    return flow_couplings.mlp(n_in, n_out, HIDDEN)


def zuko_side(x: Tensor) -> Peer:
    from zuko.flows import RealNVP

    model = RealNVP(2, transforms=LAYERS, hidden_features=HIDDEN, activation=nn.SiLU)
    return Peer(x, model, lambda x: model().log_prob(x), lambda n: model().sample((n,)))


def normflows_side(x: Tensor) -> Peer:
    import normflows as nf

    layers = []
    for _ in range(LAYERS):
        layers += [nf.flows.AffineCouplingBlock(network(1, 2)), nf.flows.Permute(2, mode="swap")]
    model = nf.NormalizingFlow(nf.distributions.DiagGaussian(2, trainable=False), layers)
    return Peer(x, model, model.log_prob, model.sample)


def nflows_side(x: Tensor) -> Peer:
    from nflows.distributions import StandardNormal
    from nflows.flows import Flow
    from nflows.transforms import AffineCouplingTransform, CompositeTransform

    class Network(nn.Module):
        def __init__(self, n_in: int, n_out: int):
            super().__init__()
            self.body = network(n_in, n_out)

        def forward(self, x: Tensor, context: None) -> Tensor:
            return self.body(x)

    layers = [AffineCouplingTransform([(-1) ** i, -((-1) ** i)], Network) for i in range(LAYERS)]
    model = Flow(CompositeTransform(layers), StandardNormal([2]))
    return Peer(x, model, model.log_prob, model.sample)


def freia_side(x: Tensor) -> Peer:
    """FrEIA's block is two couplings; it has no density, only the map and its log-determinant."""
    from FrEIA.framework import SequenceINN
    from FrEIA.modules import GLOWCouplingBlock

    model = SequenceINN(2)
    for _ in range(LAYERS // 2):
        model.append(GLOWCouplingBlock, subnet_constructor=network)

    def log_density(x: Tensor) -> Tensor:
        z, log_det = model(x)
        return log_det - 0.5 * z.square().sum(1) - math.log(2 * math.pi)

    return Peer(x, model, log_density, lambda n: model(torch.randn(n, 2), rev=True)[0])


SIDES = {"course": Course, "zuko": zuko_side, "normflows": normflows_side, "nflows": nflows_side, "FrEIA": freia_side}


def compare(threads: int) -> None:
    """Print a row for each task and side: ratio to the course, its range, the time; then what they have learned."""
    x, held_out = (densities.two_moons(n, data.generator(seed)) for seed, n in enumerate((TRAINED, TRAINED)))
    sides = {}
    for name, make in SIDES.items():
        torch.manual_seed(0)
        sides[name] = make(x)
    sizes = {name: sum(p.numel() for p in side.flow.parameters()) for name, side in sides.items()}
    assert len(set(sizes.values())) == 1, f"numbers of parameters differ: {sizes}"
    print(f"{sizes['course']:,} parameters each\n| task | | time | times the course's | 80 % of turns |")
    print("|---|---|---|---|---|")
    for task, (what, count) in TASKS.items():
        seconds, _ = peers.turns([getattr(side, task) for side in sides.values()], TURNS, threads)
        for name, times in zip(sides, seconds, strict=True):
            middle, low, high = peers.ratio(times, seconds[0])
            each = statistics.median(times) / count * 1e3
            print(f"| {what} | {name} | {each:.2f} ms | {middle:.2f} | {low:.2f} to {high:.2f} |", flush=True)
    with torch.no_grad():
        reached = {"course": -sides["course"].flow.log_prob(held_out).mean()}
        reached |= {n: -side.log_density(held_out).mean() for n, side in sides.items() if n != "course"}
    print("held-out nats after these steps: " + ", ".join(f"{name} {value:.3f}" for name, value in reached.items()))


# The race of 30 seconds ----------------------------------------------------------------------------------------------

SECONDS, HELD_OUT = 30.0, 100_000
COURSE = {"batch_size": 512, "lr": 8e-3}  # with spline_flow(2) the recipe of lecture 4, section 4.7
TUTORIAL = {"transforms": 3, "hidden_features": (64, 64)}  # zuko's "Train from data", with Adam, 1e-3, batches of 64
SHRUNK = 0.5  # of zuko's coordinates: the two moons of its tutorial are these at half the size


def race_of_the_course(x: Tensor, seed: int) -> tuple[Callable, int]:
    """Train the spline flow; return its log-density and the number of steps."""
    flow, generator = flow_couplings.spline_flow(2), data.generator(seed)
    with mock.patch("time.perf_counter", time.process_time):  # the budget in CPU seconds: the machine may be busy
        history = training.fit(
            lambda index: flows.negative_log_likelihood(flow, x[index]),
            flow, len(x), generator=generator, seconds=SECONDS, **COURSE,
        )  # fmt: skip
    return flow.log_prob, len(history.steps)


def race_of_zuko(x: Tensor, seed: int) -> tuple[Callable, int]:
    """The same by the loop of its tutorial, in its coordinates."""
    from zuko.flows import NSF

    flow = NSF(features=2, **TUTORIAL)
    optimiser = torch.optim.Adam(flow.parameters(), lr=1e-3)
    shuffled = data.generator(seed)
    loader = DataLoader(TensorDataset(SHRUNK * x), batch_size=64, shuffle=True, generator=shuffled)
    start, steps = time.process_time(), 0
    while time.process_time() - start < SECONDS:
        for (batch,) in loader:
            loss = -flow().log_prob(batch).mean()
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            steps += 1
            if time.process_time() - start >= SECONDS:
                break
    return lambda x: flow().log_prob(SHRUNK * x) + 2 * math.log(SHRUNK), steps


def race(seeds: int) -> None:
    """Print, for each seed, what both reach above the true density's held-out nats, and the median of all seeds."""
    held_out = densities.two_moons(HELD_OUT, data.generator(2**32))
    truth = -densities.two_moons_log_prob(held_out).mean().item()
    print(
        f"held-out nats of the true density: {truth:.4f}\n| seed | | steps | held-out nats | above the true density |"
    )
    print("|---|---|---|---|---|")
    gaps = {"course": [], "zuko": []}
    for seed in range(seeds):
        x = densities.two_moons(TRAINED, data.generator(seed))
        for name, train in {"course": race_of_the_course, "zuko": race_of_zuko}.items():
            torch.manual_seed(seed)
            log_density, steps = train(x, seed)
            with torch.no_grad():
                reached = -torch.cat([log_density(part) for part in held_out.split(10_000)]).mean().item()
            gaps[name].append(reached - truth)
            print(f"| {seed} | {name} | {steps:,} | {reached:.4f} | {reached - truth:+.4f} |", flush=True)
    medians = ", ".join(f"{name} {statistics.median(values):+.4f}" for name, values in gaps.items())
    print(f"median above the true density after {SECONDS:g} CPU seconds: {medians} nats")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", default="1", help="race, or the number of threads; one if not given")
    parser.add_argument("seeds", nargs="?", type=int, default=3, help="of the race")
    asked = parser.parse_args()
    if asked.what != "race" and not (asked.what.isdecimal() and int(asked.what) > 0):
        parser.error(f"{asked.what!r}: race, or a number of threads such as 2")
    peers.install("flows", PINS)
    threads = 1 if asked.what == "race" else int(asked.what)
    torch.set_num_threads(threads)
    if asked.what == "race":
        race(asked.seeds)
    else:
        compare(threads)


if __name__ == "__main__":
    main()

"""The course's VAE against a bare loop and against pythae: a step, an epoch, a log-likelihood, the time to 100 nats.

Run it by ``.venv/bin/python benchmarks/vae.py [THREADS]``, one CPU thread if not given. All train the same networks
(784-500-250-20 and back, Bernoulli likelihood) from the same weights on the same binary images in memory, batches of
128, float32, and take turns; a ratio below 1 says that the course is faster. The bare loop is what one would write
without the course: the same loss and optimiser in a dozen lines of PyTorch, without checks, bar or history.

``benchmarks/vae.py race`` trains on MNIST, dynamically binarised, until the negative ELBO of the test images is at most
100 nats: the course with its schedule, pythae with the trainer of its README; CPU seconds without the evaluations. It
needs MNIST (``COURSE_DATA``). pythae (PyPI) is put into build/ on the first run.
"""

import argparse
import logging
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy

import peers
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_utils import data, vae
from course_utils.training import fit

PINS = [
    "pythae==0.1.2",
    "pydantic==2.14.3",
    "pydantic-core==2.50.4",
    "annotated-types==0.8.0",
    "typing-inspection==0.4.5",
    "cloudpickle==3.1.2",
]
PIXELS, LATENTS, BATCH, LR = 784, 20, 128, 1e-3
IMAGES, STEPS = 20_000, 40  # of an epoch; of one timing of the training step
K, CHUNK, EVALUATED = 1000, 500, 20  # samples per image; pythae's samples at a time, its fastest here; images
OVERHEAD = 1.1  # the aim: the course's time over that of the bare loop
TASKS = {  # what, repetitions, how often the timed function does it, the unit and how many of it are a second
    "steps": ("training step", 41, STEPS, "ms", 1e3),
    "epoch": (f"epoch of {IMAGES:,} images", 15, 1, "s", 1),
    "log_likelihood": (f"log-likelihood of an image, K = {K:,}", 25, EVALUATED, "ms", 1e3),
}


def binary_images(n: int, generator: torch.Generator) -> Tensor:
    """Return binary images (n, 784) from a linear model with 20 latents, so that there is something to learn."""
    z, loadings = data.normal(n, LATENTS, generator=generator), data.normal(LATENTS, PIXELS, generator=generator)
    return vae.binarise((z @ loadings - 3).sigmoid(), generator)


def pythae_vae(ours: vae.VAE) -> nn.Module:
    """Return pythae's VAE with copies of our networks.

    pythae wants log variances, where ours puts out log standard deviations: these rows of the last layer are doubled.
    It wants probabilities rather than logits: a sigmoid follows the decoder.
    """
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    class Encoder(BaseEncoder):
        def __init__(self, body: nn.Module):
            super().__init__()
            self.body = body
            for parameter in body[-1].parameters():
                parameter.data[LATENTS:] *= 2

        def forward(self, x: Tensor) -> ModelOutput:
            mean, log_variance = self.body(x).chunk(2, dim=-1)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self, body: nn.Module):
            super().__init__()
            self.body = body

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.body(z).sigmoid())

    config = VAEConfig(input_dim=(PIXELS,), latent_dim=LATENTS, reconstruction_loss="bce")
    return VAE(config, Encoder(deepcopy(ours.encoder)), Decoder(deepcopy(ours.decoder)))


def pythae_trainer(model: nn.Module, x: Tensor, folder: str):
    """Return pythae's trainer, ready for its first epoch, with its own optimiser (Adam) and progress bar."""
    from pythae.data.datasets import BaseDataset
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    config = BaseTrainerConfig(
        output_dir=folder, per_device_train_batch_size=BATCH, num_epochs=1, learning_rate=LR, no_cuda=True
    )
    trainer = BaseTrainer(model, BaseDataset(x, torch.zeros(len(x))), training_config=config)
    trainer.prepare_training()
    return trainer


class Trained:
    """The tasks of a side that can train for so many steps on its images `x`."""

    def steps(self) -> None:
        self.train(STEPS)

    def epoch(self) -> None:
        self.train(-(-len(self.x) // BATCH))


class Course(Trained):
    """The three tasks as the course does them."""

    def __init__(self, x: Tensor):
        self.x, self.generator = x, data.generator(1)
        self.model = vae.mlp_vae(PIXELS, LATENTS)

    def loss(self, index: Tensor) -> Tensor:
        return vae.negative_elbo(self.model.terms(self.x[index], self.generator))

    def train(self, steps: int) -> None:
        fit(self.loss, self.model, len(self.x), generator=self.generator, steps=steps, batch_size=BATCH, lr=LR)

    def log_likelihood(self) -> float:
        return vae.evaluate_log_prob(self.model, self.x[:EVALUATED], K, self.generator).mean().item()


class Pythae:
    """The same by pythae's own functions."""

    def __init__(self, ours: vae.VAE, x: Tensor, folder: str):
        self.x, self.model = x, pythae_vae(ours)
        self.trainer = pythae_trainer(self.model, x, folder)

    def steps(self) -> None:
        """Only model and optimiser: the batches are slices, there is no data loader and no progress bar."""
        for i in range(STEPS):
            output = self.model({"data": self.x[i * BATCH : (i + 1) * BATCH]})
            self.trainer._optimizers_step(output)
            output.loss.item()

    def epoch(self) -> None:
        """`BaseTrainer.train` without what follows each epoch: the copy of the best model, the files."""
        self.trainer.train_step(1)
        self.trainer.callback_handler.on_epoch_end(self.trainer.training_config)

    @torch.no_grad()
    def log_likelihood(self) -> float:
        """`VAE.get_nll`, which in spite of its name returns the mean log-likelihood."""
        return float(self.model.get_nll(self.x[:EVALUATED], n_samples=K, batch_size=CHUNK))


class Bare(Trained):
    """The same without the course: the networks, the negative ELBO and the optimiser, written out."""

    def __init__(self, ours: vae.VAE, x: Tensor):
        self.x, self.encoder, self.decoder = x, deepcopy(ours.encoder), deepcopy(ours.decoder)
        parameters = [*self.encoder.parameters(), *self.decoder.parameters()]
        self.optimiser = torch.optim.AdamW(parameters, lr=LR, weight_decay=0.0, fused=True)

    def train(self, steps: int) -> None:
        order = torch.randperm(len(self.x))
        for i in range(steps):
            x = self.x[order[i * BATCH : (i + 1) * BATCH]]
            mean, log_sigma = self.encoder(x).chunk(2, dim=-1)
            logits = self.decoder(mean + log_sigma.exp() * torch.randn_like(mean))
            distortion = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
            rate = 0.5 * (mean**2 + (2 * log_sigma).exp() - 1 - 2 * log_sigma).sum()
            loss = (distortion + rate) / len(x)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            loss.item()

    @torch.no_grad()
    def log_likelihood(self) -> float:
        images, total = self.x[:EVALUATED], 0.0
        for x, code in zip(images, self.encoder(images), strict=True):
            mean, log_sigma = code.chunk(2)
            noise = torch.randn(K, LATENTS)
            z = mean + log_sigma.exp() * noise
            logits = self.decoder(z)
            log_likelihood = -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)
            log_weight = log_likelihood + (0.5 * noise**2 - 0.5 * z**2 + log_sigma).sum(-1)
            total += log_weight.logsumexp(0).item() - math.log(K)
        return total / EVALUATED


class Networks(Trained):
    """Only the two networks in each task, without loss, optimiser or loop: a floor for all in float32."""

    def __init__(self, ours: vae.VAE, x: Tensor):
        self.x, self.encoder, self.decoder = x, deepcopy(ours.encoder), deepcopy(ours.decoder)
        self.z = torch.randn(K, LATENTS)

    def train(self, steps: int) -> None:
        for i in range(steps):
            for parameter in (*self.encoder.parameters(), *self.decoder.parameters()):
                parameter.grad = None
            mean, log_sigma = self.encoder(self.x[i * BATCH : (i + 1) * BATCH]).chunk(2, dim=-1)
            self.decoder(mean + log_sigma).sum().backward()

    @torch.no_grad()
    def log_likelihood(self) -> None:
        self.encoder(self.x[:EVALUATED])
        for _ in range(EVALUATED):
            self.decoder(self.z)


def turns(task: str, threads: int, *sides) -> tuple[list, list]:
    """Let the sides do the task in turns; return seconds and results of each."""
    return peers.turns([getattr(side, task) for side in sides], TASKS[task][1], threads)


def report(task: str, seconds: list[list[float]]) -> str:
    """Return the medians: the course's ratios to the bare loop and to pythae, that of the networks alone, and times.

    `seconds` of the course, pythae, the bare loop and the networks.
    """
    what, _, count, unit, scale = TASKS[task]
    course, pythae, bare, networks = seconds
    overhead, low, high = peers.ratio(course, bare)
    against, floor = peers.ratio(course, pythae)[0], peers.ratio(networks, course)[0]
    times = ", ".join(f"{statistics.median(side) * scale / count:.2f}" for side in seconds)
    return (
        f"{what:<40} course/bare loop {overhead:.2f} (80 % in {low:.2f} to {high:.2f}; aim {OVERHEAD:.2f})   "
        f"course/pythae {against:.2f}   networks/course {floor:.2f}   "
        f"course, pythae, bare, networks: {times} {unit}"
    )


def same_loss(course: Course, pythae: Pythae) -> str:
    """Check that both compute the same loss of a batch from the same noise."""
    x = course.x[:BATCH]
    with torch.no_grad():
        ours = vae.negative_elbo(course.model.terms(x, data.generator(2))).item()
        torch.manual_seed(2)
        theirs = pythae.model({"data": x}).loss.item()
    assert abs(ours - theirs) < 1e-5 * abs(ours), f"the loss of a batch: course {ours}, pythae {theirs}"
    return f"same weights, same noise, loss of a batch: course {ours:.3f}, pythae {theirs:.3f} nats"


def same_estimate(rival: str, ours: list[float], theirs: list[float]) -> str:
    """Check that two estimates of the log-likelihood agree within the standard errors over their repetitions."""
    difference = statistics.mean(ours) - statistics.mean(theirs)
    error = (statistics.variance(ours) / len(ours) + statistics.variance(theirs) / len(theirs)) ** 0.5
    text = (
        f"same weights, log-likelihood of {EVALUATED} images: course {statistics.mean(ours):.3f}, "
        f"{rival} {statistics.mean(theirs):.3f}, difference {difference:.3f} ± {error:.3f} nats"
    )
    assert abs(difference) < 4 * error < 1, text
    return text


# The race to 100 nats ------------------------------------------------------------------------------------------------

BOUND = 100.0  # nats per test image
COURSE = {"epochs": 10, "lr": 2e-3}  # the schedule ends at the bound: it has no reason to stop before
LONGEST = 50  # epochs, those of the README of pythae
DOCUMENTED = {  # the trainer of pythae's README (github.com/clementchadebec/benchmark_VAE), without workers and files
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 200,
    "per_device_eval_batch_size": 200,
    "optimizer_cls": "AdamW",
    "optimizer_params": {"weight_decay": 0.05, "betas": (0.91, 0.995)},
    "scheduler_cls": "ReduceLROnPlateau",
    "scheduler_params": {"patience": 5, "factor": 0.5},
}


class Mnist(torch.utils.data.Dataset):
    """Training images, binarised afresh each time one is asked for, as pythae's trainer wants them."""

    def __init__(self, grey: Tensor):
        from pythae.data.datasets import DatasetOutput

        self.grey, self.output = grey, DatasetOutput

    def __len__(self) -> int:
        return len(self.grey)

    def __getitem__(self, i: int):
        return self.output(data=(torch.rand(PIXELS) < self.grey[i]).float())


def bound(model: vae.VAE, x: Tensor) -> float:
    """Return the negative ELBO of binary images in nats per image."""
    return -vae.evaluate_terms(model, x, data.generator(1)).elbo.mean().item()


def race_of_the_course(model: vae.VAE, grey: Tensor, test: Tensor, seed: int) -> tuple[float, float]:
    """Train by the course's recipe; return its CPU seconds and the bound it ends at."""
    generator, steps = data.generator(seed), COURSE["epochs"] * -(-len(grey) // BATCH)

    def loss(index: Tensor) -> Tensor:
        return vae.negative_elbo(model.terms(vae.binarise(grey[index], generator), generator))

    start = time.process_time()
    fit(loss, model, len(grey), generator=generator, steps=steps, batch_size=BATCH, lr=COURSE["lr"])
    return time.process_time() - start, bound(model, test)


def race_of_pythae(model: nn.Module, grey: Tensor, folder: str, judge: Callable[[], float]) -> tuple[float, float, int]:
    """Train by pythae's documented trainer until the bound; return CPU seconds, the last bound and the epochs."""
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    config = BaseTrainerConfig(output_dir=folder, num_epochs=LONGEST, no_cuda=True, **DOCUMENTED)
    trainer = BaseTrainer(model, Mnist(grey), training_config=config)
    trainer.prepare_training()
    seconds, reached, epoch = 0.0, math.inf, 0
    while reached > BOUND and epoch < LONGEST:
        epoch, start = epoch + 1, time.process_time()
        trainer._schedulers_step(trainer.train_step(epoch))
        trainer.callback_handler.on_epoch_end(trainer.training_config)
        seconds, reached = seconds + time.process_time() - start, judge()
        print(f"pythae, epoch {epoch}: {seconds:.0f} s, {reached:.2f} nats", flush=True)
    return seconds, reached, epoch


def ours_of(theirs: nn.Module, model: vae.VAE) -> vae.VAE:
    """Return our model with the weights of pythae's, the other way round than ``pythae_vae``."""
    ours = deepcopy(model)
    ours.encoder.load_state_dict(theirs.encoder.body.state_dict())
    ours.decoder.load_state_dict(theirs.decoder.body.state_dict())
    for parameter in ours.encoder[-1].parameters():
        parameter.data[LATENTS:] /= 2
    return ours


def race(seed: int = 0) -> None:
    """Print how long both take to a test bound of 100 nats on MNIST, from the same weights."""
    images = data.load("mnist")
    grey, test = images.train.flat.float() / 255, images.test.flat.float() / 255
    test = vae.binarise(test, data.generator(0))
    torch.manual_seed(seed)
    model = vae.mlp_vae(PIXELS, LATENTS)
    theirs = pythae_vae(model)
    seconds, reached = race_of_the_course(deepcopy(model), grey, test, seed)
    print(f"course: {seconds:.0f} CPU s, {COURSE['epochs']} epochs, {reached:.2f} nats", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        others, last, epochs = race_of_pythae(theirs, grey, folder, lambda: bound(ours_of(theirs, model), test))
    more = "" if last <= BOUND else ", not there yet, so at least"
    print(f"pythae: {others:.0f} CPU s, {epochs} epochs, {last:.2f} nats")
    print(f"course/pythae, time to {BOUND:g} nats{more}: {seconds / others:.2f} (aim 0.50)")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", default="1", help="race, or the number of threads; one if not given")
    what = parser.parse_args().what
    if what != "race" and not (what.isdecimal() and int(what) > 0):
        parser.error(f"{what!r}: race, or a number of threads such as 2")
    peers.install("pythae", PINS)
    logging.disable(logging.INFO)  # pythae prints each message several times
    if what == "race":
        torch.set_num_threads(1)
        race()
        return 0
    threads = int(what)
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    x = binary_images(IMAGES, data.generator(0))
    with tempfile.TemporaryDirectory() as folder:
        course = Course(x)
        others = Pythae(course.model, x, folder), Bare(course.model, x), Networks(course.model, x)
        print(same_loss(course, others[0]))
        for task in ("steps", "epoch"):
            seconds, _ = turns(task, threads, course, *others)
            print(report(task, seconds))
        others = (
            Pythae(course.model, x, folder),
            Bare(course.model, x),
            Networks(course.model, x),
        )  # the trained weights
        print(same_loss(course, others[0]))
        seconds, (ours, theirs, bare, _) = turns("log_likelihood", threads, course, *others)
        print(report("log_likelihood", seconds))
        print(same_estimate("pythae", ours, theirs))
        print(same_estimate("bare loop", ours, bare))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The course's VAE against pythae's, side by side: a training step, an epoch, the importance-sampled log-likelihood.

Run it by ``.venv/bin/python benchmarks/vae.py [THREADS]``, one CPU thread if not given. Both train the same networks
(784-500-250-20 and back, Bernoulli likelihood) from the same weights on the same binary images in memory, batches of
128, float32. The two take turns; a ratio below 1 says that the course is faster. pythae (PyPI) is put into build/ on
the first run.
"""

import logging
import statistics
import sys
import tempfile
from copy import deepcopy

import peers
import torch
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
THREADS = int(sys.argv[1]) if len(sys.argv) > 1 else 1
TASKS = {  # what, its aim, repetitions, how often the timed function does it, the unit and how many of it are a second
    "steps": ("training step", 0.75, 41, STEPS, "ms", 1e3),
    "epoch": (f"epoch of {IMAGES:,} images", 0.5, 15, 1, "s", 1),
    "log_likelihood": (f"log-likelihood of an image, K = {K:,}", 1 / 3, 25, EVALUATED, "ms", 1e3),
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


class Course:
    """The three tasks as the course does them."""

    def __init__(self, x: Tensor):
        self.x, self.generator = x, data.generator(1)
        self.model = vae.mlp_vae(PIXELS, LATENTS)

    def loss(self, index: Tensor) -> Tensor:
        return vae.negative_elbo(self.model.terms(self.x[index], self.generator))

    def train(self, steps: int) -> None:
        fit(self.loss, self.model, len(self.x), generator=self.generator, steps=steps, batch_size=BATCH, lr=LR)

    def steps(self) -> None:
        self.train(STEPS)

    def epoch(self) -> None:
        self.train(-(-len(self.x) // BATCH))

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


class Networks:
    """Only the two networks in each task, without loss, optimiser or loop: a floor for both in float32."""

    def __init__(self, ours: vae.VAE, x: Tensor):
        self.x, self.encoder, self.decoder = x, deepcopy(ours.encoder), deepcopy(ours.decoder)
        self.z = torch.randn(K, LATENTS)

    def train(self, steps: int) -> None:
        for i in range(steps):
            for parameter in (*self.encoder.parameters(), *self.decoder.parameters()):
                parameter.grad = None
            mean, log_sigma = self.encoder(self.x[i * BATCH : (i + 1) * BATCH]).chunk(2, dim=-1)
            self.decoder(mean + log_sigma).sum().backward()

    def steps(self) -> None:
        self.train(STEPS)

    def epoch(self) -> None:
        self.train(-(-len(self.x) // BATCH))

    @torch.no_grad()
    def log_likelihood(self) -> None:
        self.encoder(self.x[:EVALUATED])
        for _ in range(EVALUATED):
            self.decoder(self.z)


def turns(task: str, *sides) -> tuple[list, list]:
    """Let the sides do the task in turns; return seconds and results of each."""
    return peers.turns([getattr(side, task) for side in sides], TASKS[task][2], THREADS)


def report(task: str, seconds: list[list[float]]) -> str:
    """Return the medians: the course's ratio to pythae and how far it varies, that of the networks alone, and times."""
    what, aim, _, count, unit, scale = TASKS[task]
    (middle, low, high), (floor, _, _) = (peers.ratio(side, seconds[1]) for side in (seconds[0], seconds[2]))
    course, pythae = (statistics.median(side) * scale / count for side in seconds[:2])
    return (
        f"{what:<40} course/pythae {middle:.2f} (80 % in {low:.2f} to {high:.2f}; "
        f"aim {aim:.2f}; networks alone {floor:.2f})   {course:.2f} and {pythae:.2f} {unit}"
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


def same_estimate(ours: list[float], theirs: list[float]) -> str:
    """Check that two estimates of the log-likelihood agree within the standard errors over their repetitions."""
    difference = statistics.mean(ours) - statistics.mean(theirs)
    error = (statistics.variance(ours) / len(ours) + statistics.variance(theirs) / len(theirs)) ** 0.5
    text = (
        f"same weights, log-likelihood of {EVALUATED} images: course {statistics.mean(ours):.3f}, "
        f"pythae {statistics.mean(theirs):.3f}, difference {difference:.3f} ± {error:.3f} nats"
    )
    assert abs(difference) < 4 * error < 1, text
    return text


def main() -> int:
    peers.install("pythae", PINS)
    logging.disable(logging.INFO)  # pythae prints each message several times
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    x = binary_images(IMAGES, data.generator(0))
    with tempfile.TemporaryDirectory() as folder:
        course = Course(x)
        pythae, networks = Pythae(course.model, x, folder), Networks(course.model, x)
        print(same_loss(course, pythae))
        for task in ("steps", "epoch"):
            seconds, _ = turns(task, course, pythae, networks)
            print(report(task, seconds))
        pythae, networks = Pythae(course.model, x, folder), Networks(course.model, x)  # the trained weights
        print(same_loss(course, pythae))
        seconds, (ours, theirs, _) = turns("log_likelihood", course, pythae, networks)
        print(report("log_likelihood", seconds))
        print(same_estimate(ours, theirs))
    return 0


if __name__ == "__main__":
    sys.exit(main())

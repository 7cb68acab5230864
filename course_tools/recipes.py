"""How each shipped checkpoint is made and judged: `course train NAME` and `course evaluate NAME`."""

import hashlib
import json
import math
import os
import pickle
import platform
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save as save_bytes
from torch import Tensor, nn

from course_utils import data, flow_images, gan, metrics, networks, training, vae
from course_utils.errors import choose, require
from course_utils.files import atomically
from course_utils.nn import EMA, DigitClassifier

CODES = 2000  # test images whose codes a map shows
BUILD = Path("build")  # where the state of an unfinished training lies
SAVE_EVERY = 30.0  # seconds between two saved states

Optimisers = tuple[torch.optim.Optimizer, ...]


@dataclass
class Training:
    """A training under way: the network, its optimisers, the random numbers, and what it will bring besides weights.

    `average` is that of the weights, if one is kept; `test` the test images (N, D), to watch it by.
    """

    model: nn.Module
    optimisers: Optimisers
    generator: torch.Generator
    extras: dict[str, Tensor] = field(default_factory=dict)
    average: EMA | None = None
    test: Tensor | None = None
    done: int = 0
    seconds: float = 0.0

    def state(self) -> dict:
        """Return all that is needed to go on."""
        return {
            "model": self.model.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "generator": self.generator.get_state(),
            "extras": self.extras,
            "average": self.average.weights if self.average else [],
            "done": self.done,
            "seconds": self.seconds,
        }

    def averaged(self) -> nn.Module:
        """Return a copy of the network with the average of the weights, in evaluation mode."""
        model = deepcopy(self.model).eval()
        if self.average:
            self.average.copy_to(model)
        return model

    def save(self, path: Path) -> None:
        """Write the state in the place of an earlier one."""
        buffer = BytesIO()
        torch.save(self.state(), buffer)
        atomically(path, buffer.getvalue())

    def resume(self, path: Path) -> None:
        """Go on where ``save`` was called, if the file is there; ``ValueError`` if it is damaged or of another one."""
        if not path.exists():
            return
        try:
            state = torch.load(path, weights_only=True, map_location="cpu")
            self.model.load_state_dict(state["model"])
            for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(saved)
            self.generator.set_state(state["generator"])
            for key, kept in self.extras.items():
                kept.copy_(state["extras"][key])
            if self.average:
                self.average.load(state["average"])
            self.done, self.seconds = state["done"], state["seconds"]
        except (RuntimeError, ValueError, KeyError, EOFError, TypeError, pickle.UnpicklingError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{path} is damaged or of another training ({reason}); remove it to start anew") from error


@dataclass(frozen=True)
class Recipe:
    """One checkpoint: what it is, its data, network, training and metrics.

    ``networks.build(constructor, arguments)`` makes the network. `loss(model, x, y, generator)` of a batch x (B, D) in
    [0, 1], minimised by ``training.steps``; a network with a game of its own has `play` in its place: ``play(training,
    x, steps, batch size)`` yields as ``training.steps`` does, and `optimisers(model, lr)` makes the optimisers.
    `clip` is the largest norm of the gradient of a `loss`; `decay` that of the average of the weights which is shipped.
    `metrics(model, extras, x, y, generator)` on the test set. `begin(model)` returns the extras before the first step;
    ``watch(training, steps)`` is called then and after each step; ``finish(model, x, y)`` returns more, from the test
    set. `spread` says how far the first metric went with other seeds, `course train NAME --seed 1 --out DIR`.
    """

    what: str
    dataset: str
    constructor: str
    arguments: dict[str, Any]
    metrics: Callable
    epochs: int
    loss: Callable | None = None
    play: Callable | None = None
    optimisers: Callable[[nn.Module, float], Optimisers] = lambda model, lr: (training.adamw(model, lr),)
    batch_size: int = 128
    lr: float = 1e-3
    clip: float | None = None
    decay: float | None = None
    seed: int = 0
    begin: Callable[[nn.Module], dict[str, Tensor]] = lambda model: {}
    watch: Callable[[Training, int], None] = lambda training, steps: None
    finish: Callable[[nn.Module, Tensor, Tensor], dict[str, Tensor]] = lambda model, x, y: {}
    spread: str = "not measured"  # of the first metric over seeds

    def make(self) -> nn.Module:
        """Return the network before its training."""
        return networks.build(self.constructor, self.arguments)


def binary_loss(model: vae.VAE, x, y, generator, beta: float = 1.0):
    """The negative ELBO of dynamically binarised images, its KL weighted by beta."""
    y = y if model.classes else None
    return vae.negative_elbo(model.terms(vae.binarise(x, generator), generator, y), beta)


def binary_metrics(model: vae.VAE, extras, x, y, generator) -> dict[str, float]:
    """Test bounds in nats per image on one fixed binarisation, drawn with the generator, and the active units.

    The importance estimate of log p(x) takes 1,000 samples for each of the first 1,000 images; the margin is how far
    it lies above the same images' ELBO.
    """
    x, y = vae.binarise(x, generator), y if model.classes else None
    terms = vae.evaluate_terms(model, x, generator, y)
    first = x[:1000], 1000, generator, y if y is None else y[:1000]
    log_prob = vae.evaluate_log_prob(model, *first)
    metrics = {
        "negative ELBO": -terms.elbo.mean(),
        "rate": terms.kl.mean(),
        "distortion": -terms.log_likelihood.mean(),
        "negative log-likelihood, first 1,000 images": -log_prob.mean(),
        "margin to their ELBO": (log_prob - terms.elbo[:1000]).mean(),
    }
    units = vae.active_units(model.posterior(x, y)[0])
    return {name: round(value.item(), 2) for name, value in metrics.items()} | {"active units": units}


def codes_of(model: vae.VAE, x, y) -> dict[str, Tensor]:
    """Return the posterior means and classes of the first test images: the map needs no MNIST."""
    with torch.no_grad():
        return {"codes": model.posterior(x[:CODES])[0], "labels": y[:CODES]}


def two_latents(beta: float, what: str, spread: str) -> Recipe:
    """Return the recipe of a VAE with 2 latents and the KL weighted by beta."""
    return Recipe(
        what=f"VAE, 784-256-128-2 and back, beta = {beta:g}: {what}; dynamically binarised MNIST",
        dataset="mnist",
        constructor="vae.mlp_vae",
        arguments={"pixels": 784, "latents": 2, "hidden": [256, 128]},
        loss=partial(binary_loss, beta=beta),
        metrics=binary_metrics,
        epochs=20,
        finish=codes_of,
        spread=spread,
    )


def classifier_loss(model: DigitClassifier, x, y, generator):
    """The cross-entropy of images that are shifted by up to two pixels, a batch at a time."""
    side = math.isqrt(x.shape[1])
    shift = torch.randint(-2, 3, (2,), generator=generator).tolist()
    moved = x.unflatten(-1, (side, side)).roll(shift, (-2, -1)).flatten(1)
    return F.cross_entropy(model(moved), y)


def classifier_metrics(model: DigitClassifier, extras, x, y, generator) -> dict[str, float]:
    """The share of test images that get their own class, and the distance between random halves of them."""
    features, probabilities = model.judge(x)
    first, second = features[torch.randperm(len(x), generator=generator)].chunk(2)
    return {
        "accuracy": round((probabilities.argmax(1) == y).float().mean().item(), 4),
        "Fréchet distance of two halves of the test set": round(metrics.frechet(first, second).item(), 2),
    }


def features_of(model: DigitClassifier, x, y) -> dict[str, Tensor]:
    """Return the features of the test images: samples are judged without MNIST."""
    return {"features": model.judge(x)[0]}


def play_gan(state: Training, x: Tensor, steps: int, batch_size: int) -> Iterator[gan.Round]:
    """Play the rounds of the GAN that is shipped: non-saturating, with the zero-centred penalty at real images."""
    game = gan.Game(r1=0.05)
    play = {"generator": state.generator, "steps": steps, "batch_size": batch_size, "done": state.done}
    return gan.rounds(state.model, game, 2 * x - 1, state.optimisers, **play)


def shoot(state: Training, steps: int) -> None:
    """Keep the generator's weights where it is time."""
    gan.Film(state.model, state.extras["film"]).shoot(state.done, steps)


def gan_metrics(model: gan.GAN, extras, x, y, generator) -> dict[str, float]:
    """Judge 10,000 samples, and 10,000 of lecture 2's networks, with the classifier's features of the test images."""
    judge = networks.load("digit_classifier", x.device)
    real = judge.judge(x)[0]
    sampled = judge.judge(model.sample(10_000, generator) / 2 + 0.5)
    shares = sampled[1].argmax(1).bincount(minlength=10) / 10_000
    precision, recall = metrics.precision_recall(real[:5000], sampled[0][:5000])
    numbers = {"Fréchet distance": metrics.frechet(sampled[0], real)}
    for name in ("vae_mlp_20", "vae_conv_20"):
        rival = networks.load(name, x.device).sample(10_000, generator)
        numbers[f"Fréchet distance of {name}"] = metrics.frechet(judge.judge(rival)[0], real)
    numbers |= {
        "Inception-style score": metrics.inception_score(sampled[1]),
        "precision": precision,
        "recall": recall,
        "share of the rarest class": shares.min(),
    }
    return {name: round(float(value), 3) for name, value in numbers.items()}


EPOCHS = 8  # of the flow: after each, samples are kept


def flow_film(model: flow_images.ImageFlow) -> dict[str, Tensor]:
    """Return the empty film of a flow's training: 64 samples in 256 grey levels and test bits/dim, before and after
    each epoch."""
    return {
        "samples": torch.zeros(EPOCHS + 1, 64, model.dims, dtype=torch.uint8),
        "bits": torch.zeros(EPOCHS + 1),
    }


def shoot_flow(state: Training, steps: int) -> None:
    """Keep samples from the same 64 latents, and bits/dim of the first 1,000 test images, where an epoch is over."""
    epoch, over = divmod(state.done * EPOCHS, steps)
    if over == 0:
        model, generator = state.averaged(), data.generator(0)
        state.extras["samples"][epoch] = (model.sample(64, generator) * 255).round().to(torch.uint8).cpu()
        state.extras["bits"][epoch] = flow_images.evaluate_bits(model, state.test[:1000], generator).mean().cpu()


def test_images(model: flow_images.ImageFlow, x, y) -> dict[str, Tensor]:
    """Return the first test images as grey levels: the ledger needs no MNIST."""
    return {"test": (x[:200] * 255).round().to(torch.uint8)}


def flow_metrics(model: flow_images.ImageFlow, extras, x, y, generator) -> dict[str, float]:
    """Test bits/dim with learned and with uniform noise, importance-weighted on 500 images; samples; the round trip."""
    numbers = {
        "bits/dim, variational noise": flow_images.evaluate_bits(model, x, generator).mean(),
        "bits/dim, uniform noise": flow_images.evaluate_bits(model, x, generator, variational=False).mean(),
    }
    for k in (1, 8, 64):
        bits = flow_images.evaluate_bits(model, x[:500], generator, k).mean()
        numbers[f"bits/dim, first 500 images, {k} noise{'s' * (k > 1)}"] = bits
    judge = networks.load("digit_classifier", x.device)
    samples = torch.cat([model.sample(500, generator) for _ in range(20)])
    numbers["Fréchet distance"] = metrics.frechet(judge.judge(samples)[0], judge.judge(x)[0])
    rounded = {name: round(float(value), 4) for name, value in numbers.items()}
    return rounded | {"round trip, largest error": float(f"{model.round_trip(x[:1000], generator).item():.1g}")}


RECIPES: dict[str, Recipe] = {
    "vae_mlp_20": Recipe(
        what="VAE, 784-500-250-20 and back, Bernoulli likelihood, dynamically binarised MNIST",
        dataset="mnist",
        constructor="vae.mlp_vae",
        arguments={"pixels": 784, "latents": 20, "activation": "ReLU"},
        loss=binary_loss,
        metrics=binary_metrics,
        epochs=12,
        spread="seeds 0, 1, 2: 101.62, 101.33, 100.49",
    ),
    "vae_conv_20": Recipe(
        what="convolutional VAE, 20 latents, Bernoulli likelihood, dynamically binarised MNIST",
        dataset="mnist",
        constructor="vae.conv_vae",
        arguments={"side": 28, "latents": 20},
        loss=binary_loss,
        metrics=binary_metrics,
        epochs=28,
        lr=2e-3,
        spread="seeds 0, 1: 86.85, 86.91",
    ),
    "vae_2_islands": two_latents(0.01, "narrow islands", "seeds 0, 1: 158.20, 160.40"),
    "vae_2_map": two_latents(1.0, "a smooth map", "seeds 0, 1, 2: 144.36, 145.25, 144.36"),
    "vae_2_collapse": two_latents(100.0, "posterior collapse", "seeds 0, 1: 205.81, 205.80"),
    "cvae": Recipe(
        what="conditional VAE, 784-400-200-16 and back, learned prior of each class; dynamically binarised MNIST",
        dataset="mnist",
        constructor="vae.mlp_vae",
        arguments={"pixels": 784, "latents": 16, "hidden": [400, 200], "classes": 10},
        loss=binary_loss,
        metrics=binary_metrics,
        epochs=20,
        spread="seeds 0, 1: 93.46, 93.73",
    ),
    "digit_classifier": Recipe(
        what="convolutional classifier of MNIST, 64 features; with those of all test images",
        dataset="mnist",
        constructor="nn.DigitClassifier",
        arguments={},
        loss=classifier_loss,
        metrics=classifier_metrics,
        epochs=10,
        lr=3e-3,
        finish=features_of,
        spread="seeds 0, 1: 0.9923, 0.9924",
    ),
    "gan_mnist": Recipe(
        what=f"convolutional GAN of MNIST, 32 latents, and its generator at {len(gan.MOMENTS)} moments of the training",
        dataset="mnist",
        constructor="gan.conv_gan",
        arguments={},
        play=play_gan,
        optimisers=gan.optimisers,
        metrics=gan_metrics,
        epochs=20,
        batch_size=64,
        begin=lambda model: {"film": gan.Film(model).frames},
        watch=shoot,
        spread="seeds 0, 1, 2: 20.11, 19.87, 20.79",
    ),
    "flow_mnist": Recipe(
        what=f"multi-scale flow of MNIST with learned noise; its samples and bits/dim after each of {EPOCHS} epochs",
        dataset="mnist",
        constructor="flow_images.multi_scale",
        arguments={},
        loss=lambda model, x, y, generator: flow_images.negative_log_prob(model, x, generator),
        metrics=flow_metrics,
        epochs=EPOCHS,
        batch_size=64,
        lr=1.5e-3,
        clip=1.0,
        decay=0.999,
        begin=flow_film,
        watch=shoot_flow,
        finish=test_images,
        spread="seed 0 alone; its first 5,371 steps were taken at the rates of a plan of 20 epochs",
    ),
}


def train(
    name: str,
    root: Path | None = None,
    device: str = "auto",
    folder: Path = networks.FOLDER,
    seed: int | None = None,
) -> dict:
    """Train a checkpoint, or go on where it was stopped; evaluate it, write weights and card, return the card.

    `seed` is the recipe's own if not given: with another one, name another `folder` too. Raises ``ValueError`` for an
    unknown name or device or a seed without a folder, ``DataNotFound`` without its data.
    """
    recipe = RECIPES[choose(name, RECIPES, "checkpoint")]
    seed = recipe.seed if seed is None else seed
    shipped = seed == recipe.seed
    allowed = shipped or folder != networks.FOLDER
    require(allowed, f"seed = {seed} is not the recipe's {recipe.seed}: name a folder for it, --out DIR")
    place = data.device(device)
    images = data.load(recipe.dataset, device=place, root=root)
    x, y = images.unit(images.train.flat), images.train.labels
    torch.manual_seed(seed)  # the initial weights
    model = recipe.make().to(place)
    test = images.unit(images.test.flat), images.test.labels
    average = EMA(model, recipe.decay) if recipe.decay else None
    optimisers, extras = recipe.optimisers(model, recipe.lr), recipe.begin(model)
    state = Training(model, optimisers, data.generator(seed), extras, average, test[0])
    steps = recipe.epochs * -(-len(x) // recipe.batch_size)
    take_steps(recipe, state, x, y, steps, BUILD / (f"{name}.state" if shipped else f"{name}-{seed}.state"), name)
    card = {
        "what": recipe.what,
        "constructor": recipe.constructor,
        "arguments": recipe.arguments,
        "command": f"course train {name}" + ("" if shipped else f" --seed {seed} --out {folder}"),
        "dataset": f"{recipe.dataset}, {len(x):,} training images",
        "seed": seed,
        "steps": steps,
        "epochs": recipe.epochs,
        "seconds": round(state.seconds),
        "hardware": f"{place.type}, {torch.get_num_threads()} threads of {os.cpu_count()} cores, {platform.machine()}",
        "torch": torch.__version__,
    }
    if average:
        average.copy_to(model)
    model.load_state_dict(halved(model.state_dict()))  # judge it as it will be stored
    extras = state.extras | recipe.finish(model, *test)
    card |= {"metrics": measure(recipe, model, halved(extras), images), "spread": recipe.spread}
    return save(name, model, extras, card, folder)


def take_steps(recipe: Recipe, state: Training, x: Tensor, y: Tensor, steps: int, path: Path, label: str) -> None:
    """Train to the end, keeping the state in the file at `path` meanwhile; raises ``Interrupted`` on Ctrl-C."""
    state.resume(path)
    if state.done == 0:
        recipe.watch(state, steps)
    else:
        print(f"{label}: going on after {state.done} of {steps} steps, which {path} has kept")
    start = saved = time.perf_counter()
    before = state.seconds

    def after_step(done: int) -> None:
        nonlocal saved
        now = time.perf_counter()
        state.done, state.seconds = done, before + now - start
        if state.average:
            state.average.update(state.model)
        recipe.watch(state, steps)
        if now - saved > SAVE_EVERY:
            state.save(path)
            saved = now

    if recipe.play:
        progress = recipe.play(state, x, steps, recipe.batch_size)
    else:
        progress = training.steps(
            lambda index: recipe.loss(state.model, x[index], y[index], state.generator),
            state.optimisers[0],
            len(x),
            generator=state.generator,
            steps=steps,
            batch_size=recipe.batch_size,
            done=state.done,
            clip=recipe.clip,
        )
    training.run(progress, label, after_step)
    path.unlink(missing_ok=True)


def halved(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors with their real numbers in half precision; whole numbers, such as counters, stay."""
    return {key: v.half() if v.is_floating_point() else v for key, v in tensors.items()}


def save(name: str, model: nn.Module, extras: dict[str, Tensor], card: dict, folder: Path = networks.FOLDER) -> dict:
    """Write weights and extras in half precision and the card with their sha256, the card last; return the card."""
    card = {"name": name, **card, "files": {}}
    for part, tensors in (("weights", model.state_dict()), ("extras", extras)):
        if not tensors:
            continue
        content = save_bytes({key: v.detach().cpu().contiguous() for key, v in halved(tensors).items()})
        atomically(folder / networks.file_of(name, part), content)
        card["files"][part] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    atomically(folder / f"{name}.json", json.dumps(card, indent=1, ensure_ascii=False) + "\n")
    return card


def evaluate(name: str, root: Path | None = None, device: str = "auto", folder: Path = networks.FOLDER) -> dict:
    """Return the metrics of a checkpoint as it is stored, on the whole test set, with the recipe's seed."""
    recipe = RECIPES[choose(name, RECIPES, "checkpoint")]
    place = data.device(device)
    model, card = networks.load(name, place, folder), networks.read_card(name, folder)
    extras = networks.extras(name, place, folder) if "extras" in card["files"] else {}
    return measure(recipe, model, extras, data.load(recipe.dataset, device=place, root=root))


@torch.no_grad()
def measure(recipe: Recipe, model: nn.Module, extras: dict[str, Tensor], images: data.Images) -> dict:
    """Return a model's metrics on the test set, with the recipe's seed; model and images are on one device."""
    x, y = images.unit(images.test.flat), images.test.labels
    return recipe.metrics(model.eval(), extras, x, y, data.generator(recipe.seed))

"""How each shipped checkpoint is made and judged: `course train NAME` and `course evaluate NAME`."""

import json
import math
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from course_utils import cards, data, gan, metrics, vae
from course_utils.errors import choose, require
from course_utils.nn import DigitClassifier
from course_utils.training import fit

CODES = 2000  # test images whose codes a map shows
BUILD = Path("build")  # where the state of an unfinished training lies


@dataclass(frozen=True)
class Recipe:
    """One checkpoint: what it is, its data, network, training and metrics.

    `loss(model, x, y, generator)` of a batch x (B, D) in [0, 1]; `metrics(model, x, y, generator)` on the test set.
    `watch(model, steps done, of so many)`, if given, is called before the first step and after each; `finish(model, x,
    y)` sees the test set once the network is trained. `spread` says how far the first metric went with other seeds,
    `course train NAME --seed 1 --out DIR`.
    """

    what: str
    dataset: str
    make: Callable[[], nn.Module]
    loss: Callable
    metrics: Callable
    epochs: int
    batch_size: int = 128
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    seed: int = 0
    watch: Callable | None = None
    finish: Callable | None = None
    spread: str = "not measured"  # of the first metric over seeds


def binary_loss(model: vae.VAE, x, y, generator, beta: float = 1.0):
    """The negative ELBO of dynamically binarised images, its KL weighted by beta."""
    y = y if model.classes else None
    return vae.negative_elbo(model.terms(vae.binarise(x, generator), generator, y), beta)


def binary_metrics(model: vae.VAE, x, y, generator) -> dict[str, float]:
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


def vae_of_two_latents() -> vae.VAE:
    """Return an untrained VAE of MNIST with 2 latents and places for the codes of test images."""
    model = vae.mlp_vae(784, 2, hidden=(256, 128))
    model.register_buffer("codes", torch.zeros(CODES, 2))
    model.register_buffer("code_labels", torch.zeros(CODES))
    return model


def keep_codes(model: vae.VAE, x, y) -> None:
    """Store the posterior means and classes of the first test images with the weights: the map needs no MNIST."""
    with torch.no_grad():
        model.codes.copy_(model.posterior(x[:CODES])[0])
        model.code_labels.copy_(y[:CODES])


def two_latents(beta: float, what: str, spread: str) -> Recipe:
    """Return the recipe of a VAE with 2 latents and the KL weighted by beta."""
    return Recipe(
        what=f"VAE, 784-256-128-2 and back, beta = {beta:g}: {what}; dynamically binarised MNIST",
        dataset="mnist",
        make=vae_of_two_latents,
        loss=partial(binary_loss, beta=beta),
        metrics=binary_metrics,
        epochs=20,
        finish=keep_codes,
        spread=spread,
    )


def classifier_loss(model: DigitClassifier, x, y, generator):
    """The cross-entropy of images that are shifted by up to two pixels, a batch at a time."""
    side = math.isqrt(x.shape[1])
    shift = torch.randint(-2, 3, (2,), generator=generator).tolist()
    moved = x.unflatten(-1, (side, side)).roll(shift, (-2, -1)).flatten(1)
    return F.cross_entropy(model(moved), y)


def classifier_metrics(model: DigitClassifier, x, y, generator) -> dict[str, float]:
    """The share of test images that get their own class, and the distance between random halves of them."""
    features, probabilities = model.judge(x)
    first, second = features[torch.randperm(len(x), generator=generator)].chunk(2)
    return {
        "accuracy": round((probabilities.argmax(1) == y).float().mean().item(), 4),
        "Fréchet distance of two halves of the test set": round(metrics.frechet(first, second).item(), 2),
    }


def classifier_with_features() -> DigitClassifier:
    """Return an untrained classifier of MNIST with places for the features of all test images."""
    model = DigitClassifier()
    model.register_buffer("test_features", torch.zeros(10_000, 64))
    return model


def keep_features(model: DigitClassifier, x, y) -> None:
    """Store the features of the test images with the weights: samples are judged without MNIST."""
    model.test_features.copy_(model.judge(x)[0])


def gan_loss(model: gan.GAN, x, y, generator):
    """Both players' losses, non-saturating, with the zero-centred penalty at real images."""
    return GAN_GAME.loss(model, 2 * x - 1, generator)


def gan_metrics(model: gan.GAN, x, y, generator) -> dict[str, float]:
    """Judge 10,000 samples, and 10,000 of lecture 2's networks, with the classifier's features of the test images."""
    judge = load("digit_classifier", x.device)
    real = judge.judge(x)[0]
    sampled = judge.judge(model.sample(10_000, generator) / 2 + 0.5)
    shares = sampled[1].argmax(1).bincount(minlength=10) / 10_000
    precision, recall = metrics.precision_recall(real[:5000], sampled[0][:5000])
    numbers = {"Fréchet distance": metrics.frechet(sampled[0], real)}
    for name in ("vae_mlp_20", "vae_conv_20"):
        rival = load(name, x.device).sample(10_000, generator)
        numbers[f"Fréchet distance of {name}"] = metrics.frechet(judge.judge(rival)[0], real)
    numbers |= {
        "Inception-style score": metrics.inception_score(sampled[1]),
        "precision": precision,
        "recall": recall,
        "share of the rarest class": shares.min(),
    }
    return {name: round(float(value), 3) for name, value in numbers.items()}


GAN_GAME = gan.Game(r1=0.05)

RECIPES: dict[str, Recipe] = {
    "vae_mlp_20": Recipe(
        what="VAE, 784-500-250-20 and back, Bernoulli likelihood, dynamically binarised MNIST",
        dataset="mnist",
        make=lambda: vae.mlp_vae(784, 20, activation=nn.ReLU),
        loss=binary_loss,
        metrics=binary_metrics,
        epochs=12,
        spread="seeds 0, 1, 2: 101.62, 101.33, 100.49",
    ),
    "vae_conv_20": Recipe(
        what="convolutional VAE, 20 latents, Bernoulli likelihood, dynamically binarised MNIST",
        dataset="mnist",
        make=lambda: vae.conv_vae(28, 20),
        loss=binary_loss,
        metrics=binary_metrics,
        epochs=28,
        lr=2e-3,
    ),
    "vae_2_islands": two_latents(0.01, "narrow islands", "seeds 0, 1: 158.20, 160.40"),
    "vae_2_map": two_latents(1.0, "a smooth map", "seeds 0, 1, 2: 144.36, 145.25, 144.36"),
    "vae_2_collapse": two_latents(100.0, "posterior collapse", "seeds 0, 1: 205.81, 205.80"),
    "cvae": Recipe(
        what="conditional VAE, 784-400-200-16 and back, learned prior of each class; dynamically binarised MNIST",
        dataset="mnist",
        make=lambda: vae.mlp_vae(784, 16, hidden=(400, 200), classes=10),
        loss=binary_loss,
        metrics=binary_metrics,
        epochs=20,
        spread="seeds 0, 1: 93.46, 93.73",
    ),
    "digit_classifier": Recipe(
        what="convolutional classifier of MNIST, 64 features; with those of all test images",
        dataset="mnist",
        make=classifier_with_features,
        loss=classifier_loss,
        metrics=classifier_metrics,
        epochs=10,
        lr=3e-3,
        finish=keep_features,
    ),
    "gan_mnist": Recipe(
        what=f"convolutional GAN of MNIST, 32 latents, and its generator at {len(gan.MOMENTS)} moments of the training",
        dataset="mnist",
        make=gan.conv_gan,
        loss=gan_loss,
        metrics=gan_metrics,
        epochs=20,
        batch_size=64,
        betas=(0.0, 0.99),
        watch=gan.FilmedGAN.shoot,
    ),
}


def train(
    name: str,
    root: Path | None = None,
    device: str = "auto",
    folder: Path = cards.FOLDER,
    seed: int | None = None,
) -> dict:
    """Train a checkpoint, or go on where it was stopped; evaluate it, write weights and card, return the card.

    `seed` is the recipe's own if not given: with another one, name another `folder` too. Raises ``ValueError`` for an
    unknown name or device or a seed without a folder, ``DataNotFound`` without its data.
    """
    recipe = RECIPES[choose(name, RECIPES, "checkpoint")]
    seed = recipe.seed if seed is None else seed
    shipped = seed == recipe.seed
    allowed = shipped or folder != cards.FOLDER
    require(allowed, f"seed = {seed} is not the recipe's {recipe.seed}: name a folder for it, --out DIR")
    place = data.device(device)
    images = data.load(recipe.dataset, device=place, root=root)
    x, y = images.unit(images.train.flat), images.train.labels
    torch.manual_seed(seed)  # the initial weights
    model = recipe.make().to(place)
    generator = data.generator(seed)
    steps = recipe.epochs * -(-len(x) // recipe.batch_size)
    watch = partial(recipe.watch, model) if recipe.watch else lambda done, of: None
    watch(0, steps)
    history = fit(
        lambda index: recipe.loss(model, x[index], y[index], generator),
        model,
        len(x),
        generator=generator,
        steps=steps,
        batch_size=recipe.batch_size,
        lr=recipe.lr,
        betas=recipe.betas,
        after_step=lambda done: watch(done, steps),
        resume=BUILD / (f"{name}.state" if shipped else f"{name}-{seed}.state"),
        label=name,
    )
    if history.interrupted:
        raise KeyboardInterrupt
    card = {
        "what": recipe.what,
        "command": f"course train {name}" + ("" if shipped else f" --seed {seed} --out {folder}"),
        "dataset": f"{recipe.dataset}, {len(x):,} training images",
        "seed": seed,
        "steps": steps,
        "epochs": recipe.epochs,
        "seconds": round(history.seconds),
        "hardware": f"{place.type}, {torch.get_num_threads()} threads of {os.cpu_count()} cores, {platform.machine()}",
        "torch": torch.__version__,
    }
    model.load_state_dict(cards.halved(model))  # judge it as it will be stored
    if recipe.finish:
        recipe.finish(model, images.unit(images.test.flat), images.test.labels)
    card |= {"metrics": measure(recipe, model, images), "spread": recipe.spread}
    return cards.save(name, model, card, folder)


def load(name: str, device: str | torch.device = "cpu") -> nn.Module:
    """Return a shipped network with its trained weights, ready to use. Raises ``ValueError`` for an unknown name."""
    model = RECIPES[choose(name, RECIPES, "checkpoint")].make()
    cards.load(name, model)
    return model.eval().to(device)


def evaluate(name: str, root: Path | None = None, device: str = "auto", folder: Path = cards.FOLDER) -> dict:
    """Return the metrics of a checkpoint as it is stored, on the whole test set, with the recipe's seed."""
    recipe = RECIPES[choose(name, RECIPES, "checkpoint")]
    place = data.device(device)
    model = recipe.make()
    cards.load(name, model, folder)
    return measure(recipe, model.to(place), data.load(recipe.dataset, device=place, root=root))


@torch.no_grad()
def measure(recipe: Recipe, model: nn.Module, images: data.Images) -> dict:
    """Return a model's metrics on the test set, with the recipe's seed; model and images are on one device."""
    x, y = images.unit(images.test.flat), images.test.labels
    return recipe.metrics(model.eval(), x, y, data.generator(recipe.seed))


def describe(card: dict) -> str:
    """Return a card as text, an item a line."""
    return "\n".join(
        f"{key:10} {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for key, value in card.items()
    )

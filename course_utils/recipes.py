"""How each shipped checkpoint is made and judged: `course train NAME` and `course evaluate NAME`."""

import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from course_utils import cards, data, vae
from course_utils.errors import choose, require
from course_utils.training import fit

CODES = 2000  # test images whose codes a map shows
BUILD = Path("build")  # where the state of an unfinished training lies


@dataclass(frozen=True)
class Recipe:
    """One checkpoint: what it is, its data, network, training and metrics.

    `loss(model, x, y, generator)` of a batch x (B, D) in [0, 1]; `metrics(model, x, y, generator)` on the test set.
    `finish(model, x, y)`, if given, sees the test set once the network is trained. `spread` says how far the first
    metric went with other seeds, `course train NAME --seed 1 --out DIR`.
    """

    what: str
    dataset: str
    make: Callable[[], nn.Module]
    loss: Callable
    metrics: Callable
    epochs: int
    batch_size: int = 128
    lr: float = 1e-3
    seed: int = 0
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
    history = fit(
        lambda index: recipe.loss(model, x[index], y[index], generator),
        model,
        len(x),
        generator=generator,
        steps=steps,
        batch_size=recipe.batch_size,
        lr=recipe.lr,
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
    model.load_state_dict({key: v.half() for key, v in model.state_dict().items()})  # judge it as it will be stored
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
        f"{key:10} {value if isinstance(value, str) else json.dumps(value)}" for key, value in card.items()
    )

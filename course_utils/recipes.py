"""How each shipped checkpoint is made and judged: `course train NAME` and `course evaluate NAME`."""

import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from course_utils import cards, data, vae
from course_utils.errors import choose
from course_utils.training import fit

BUILD = Path("build")  # where the state of an unfinished training lies


@dataclass(frozen=True)
class Recipe:
    """One checkpoint: what it is, its data, network, training and metrics.

    `loss(model, x, y, generator)` of a batch x (B, D) in [0, 1]; `metrics(model, x, y, generator)` on the test set.
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


def binary_loss(model: vae.VAE, x, y, generator):
    """The negative ELBO of dynamically binarised images."""
    return vae.negative_elbo(model.terms(vae.binarise(x, generator), generator))


def binary_metrics(model: vae.VAE, x, y, generator) -> dict[str, float]:
    """Test bounds in nats per image on one fixed binarisation, drawn with the generator, and the active units."""
    x = vae.binarise(x, generator)
    elbo = vae.evaluate_elbo(model, x, generator)
    log_prob = vae.evaluate_log_prob(model, x[:1000], 100, generator)
    return {
        "negative ELBO": round(-elbo.mean().item(), 2),
        "negative log-likelihood, 100 samples, first 1,000 images": round(-log_prob.mean().item(), 2),
        "negative ELBO, first 1,000 images": round(-elbo[:1000].mean().item(), 2),
        "active units": vae.active_units(model.posterior(x)[0]),
    }


RECIPES: dict[str, Recipe] = {
    "vae_mlp_20": Recipe(
        what="VAE, 784-500-250-20 and back, Bernoulli likelihood, dynamically binarised MNIST",
        dataset="mnist",
        make=lambda: vae.mlp_vae(784, 20),
        loss=binary_loss,
        metrics=binary_metrics,
        epochs=12,
    ),
}


def train(name: str, root: Path | None = None, device: str = "auto", folder: Path = cards.FOLDER) -> dict:
    """Train a checkpoint, or go on where it was stopped; evaluate it, write weights and card, return the card.

    Raises ``ValueError`` for an unknown name or device, ``DataNotFound`` without its data.
    """
    recipe = RECIPES[choose(name, RECIPES, "checkpoint")]
    place = data.device(device)
    images = data.load(recipe.dataset, device=place, root=root)
    x, y = images.unit(images.train.flat), images.train.labels
    torch.manual_seed(recipe.seed)  # the initial weights
    model = recipe.make().to(place)
    generator = data.generator(recipe.seed)
    steps = recipe.epochs * -(-len(x) // recipe.batch_size)
    history = fit(
        lambda index: recipe.loss(model, x[index], y[index], generator),
        model,
        len(x),
        generator=generator,
        steps=steps,
        batch_size=recipe.batch_size,
        lr=recipe.lr,
        resume=BUILD / f"{name}.state",
        label=name,
    )
    if history.interrupted:
        raise KeyboardInterrupt
    card = {
        "what": recipe.what,
        "command": f"course train {name}",
        "dataset": f"{recipe.dataset}, {len(x):,} training images",
        "steps": steps,
        "epochs": recipe.epochs,
        "seconds": round(history.seconds),
        "hardware": f"{place.type}, {torch.get_num_threads()} threads of {os.cpu_count()} cores, {platform.machine()}",
        "torch": torch.__version__,
    }
    model.load_state_dict({key: v.half() for key, v in model.state_dict().items()})  # judge it as it will be stored
    return cards.save(name, model, {**card, "metrics": measure(recipe, model, images)}, folder)


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

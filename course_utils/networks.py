"""The networks that come trained with the course: half-precision weights, beside them a card and what else they bring.

``NAME.safetensors`` holds the weights, ``NAME.json`` the card: what it is, which constructor makes the network, how it
was trained, its metrics. ``NAME.extra.safetensors``, where there is one, holds what is no weight: codes, features, a
film.
"""

import hashlib
import json
from importlib import import_module
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_bytes
from torch import Tensor, nn

from course_utils.errors import choose, require

FOLDER = Path(__file__).parent / "checkpoints"


def names(folder: Path = FOLDER) -> list[str]:
    """Return the names of the checkpoints that are there."""
    return sorted(path.stem for path in folder.glob("*.json"))


def read_card(name: str, folder: Path = FOLDER) -> dict:
    """Return a checkpoint's card. Raises ``ValueError`` for an unknown name."""
    choose(name, names(folder), "checkpoint")
    return json.loads((folder / f"{name}.json").read_text("utf-8"))


def describe(card: dict) -> str:
    """Return a card as text, an item a line."""
    return "\n".join(
        f"{key:10} {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for key, value in card.items()
    )


def build(constructor: str, arguments: dict) -> nn.Module:
    """Return an untrained network: ``build("vae.mlp_vae", {"pixels": 784})`` calls ``course_utils.vae.mlp_vae``.

    The argument `activation` is the name of a class in ``torch.nn``, such as "ReLU".
    """
    module, _, function = constructor.rpartition(".")
    given = {key: getattr(nn, value) if key == "activation" else value for key, value in arguments.items()}
    return getattr(import_module(f"course_utils.{module}"), function)(**given)


def load(name: str, device: str | torch.device = "cpu", folder: Path = FOLDER) -> nn.Module:
    """Return a network with its trained weights, in evaluation mode.

    Raises ``ValueError`` for an unknown name, or weights that are missing, not those of the card, or another network's.
    """
    card = read_card(name, folder)
    model = build(card["constructor"], card["arguments"])
    try:
        model.load_state_dict(tensors(name, "weights", folder))
    except RuntimeError as error:
        path = folder / f"{name}.safetensors"
        raise ValueError(f"{path} holds another network: {' '.join(str(error).split())[:200]}") from error
    return model.eval().to(device)


def extras(name: str, device: str | torch.device = "cpu", folder: Path = FOLDER) -> dict[str, Tensor]:
    """Return what a checkpoint brings besides its weights, in single precision: codes, features, films, by name.

    Raises ``ValueError`` for an unknown name, or a file that is missing or not that of the card.
    """
    found = tensors(name, "extras", folder)
    return {key: (v.float() if v.is_floating_point() else v).to(device) for key, v in found.items()}


def tensors(name: str, part: str, folder: Path = FOLDER) -> dict[str, Tensor]:
    """Return the "weights" or the "extras" of a checkpoint as they are stored; the card's sha256 must be theirs."""
    card = read_card(name, folder)
    require(part in card["files"], f"the checkpoint {name!r} has no {part}; it has {', '.join(card['files'])}")
    path, sha256 = folder / file_of(name, part), card["files"][part]["sha256"]
    remedy = f"get it again from the repository, or make it: course train {name}"
    require(path.exists(), f"{path} is missing; {remedy}")
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    require(found == sha256, f"{path} is damaged: sha256 {found[:12]}…, its card says {sha256[:12]}…; {remedy}")
    try:
        return load_bytes(content)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}; {remedy}") from error


def file_of(name: str, part: str) -> str:
    """Return the name of a checkpoint's file of "weights" or "extras"."""
    return f"{name}.safetensors" if part == "weights" else f"{name}.extra.safetensors"

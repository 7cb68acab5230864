"""Checkpoints: half-precision weights in safetensors, and beside them a card that says what they are and how made."""

import hashlib
import json
import os
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes
from torch import Tensor, nn

from course_utils.errors import choose, require

FOLDER = Path(__file__).parent / "checkpoints"


def names(folder: Path = FOLDER) -> list[str]:
    """Return the names of the checkpoints that are there."""
    return sorted(path.stem for path in folder.glob("*.json"))


def save(name: str, model: nn.Module, card: dict, folder: Path = FOLDER) -> dict:
    """Write the weights in half precision and the card with their sha256, and return the card."""
    weights = save_bytes({key: v.detach().cpu().contiguous() for key, v in halved(model).items()})
    card = {"name": name, **card, "bytes": len(weights), "sha256": hashlib.sha256(weights).hexdigest()}
    folder.mkdir(parents=True, exist_ok=True)
    replace(folder / f"{name}.safetensors", weights)
    replace(folder / f"{name}.json", (json.dumps(card, indent=1, ensure_ascii=False) + "\n").encode())
    return card


def halved(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's state with its real numbers in half precision; whole numbers, such as counters, stay."""
    return {key: v.half() if v.is_floating_point() else v for key, v in model.state_dict().items()}


def replace(path: Path, content: bytes) -> None:
    """Write a file beside its place and move it there, so that half a file never replaces a good one."""
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    beside.write_bytes(content)
    os.replace(beside, path)


def read_card(name: str, folder: Path = FOLDER) -> dict:
    """Return a checkpoint's card. Raises ``ValueError`` for an unknown name."""
    choose(name, names(folder), "checkpoint")
    return json.loads((folder / f"{name}.json").read_text("utf-8"))


def load(name: str, model: nn.Module, folder: Path = FOLDER) -> dict:
    """Put a checkpoint's weights into `model`, in the model's own precision; return its card.

    Raises ``ValueError`` for an unknown name, weights that are missing or not those of the card, or another network.
    """
    card = read_card(name, folder)
    path = folder / f"{name}.safetensors"
    remedy = f"get it again from the repository, or make it: course train {name}"
    require(path.exists(), f"{path} is missing; {remedy}")
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    require(
        found == card["sha256"],
        f"{path} is damaged: sha256 {found[:12]}…, its card says {card['sha256'][:12]}…; {remedy}",
    )
    try:
        model.load_state_dict(load_bytes(content))
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"{path} holds another network: {' '.join(str(error).split())[:200]}") from error
    return card

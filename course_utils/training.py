"""One fit loop for every model of the course: any loss, a budget, a progress bar, Ctrl-C, and resuming."""

import math
import os
import pickle
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from course_utils.errors import require

SAVE_EVERY = 30.0  # seconds between two saved states of a fit that can be resumed
WARM_UP = 0.02  # of the budget: the rate rises linearly, then falls along a half cosine


class History(NamedTuple):
    """What a fit saw: the loss of each step, the seconds it took, and whether Ctrl-C ended it early."""

    losses: list[float]
    seconds: float
    interrupted: bool


def fit(
    loss: Callable[[Tensor], Tensor],
    model: nn.Module,
    n: int,
    *,
    generator: torch.Generator,
    steps: int | None = None,
    seconds: float | None = None,
    batch_size: int = 128,
    lr: float = 1e-3,
    clip: float | None = None,
    after_step: Callable[[int], None] | None = None,
    resume: Path | None = None,
    label: str = "fit",
) -> History:
    """Minimise ``loss(index)`` over the parameters of `model` by AdamW; return the history.

    `loss` takes the indices (B,) of a batch of the `n` examples, on the CPU, and returns a scalar; it draws its noise
    from `generator`. The budget is `steps`, `seconds`, or whichever of both ends first. `clip` bounds the gradient's
    norm. ``after_step(number of steps done)`` is called after each step: for previews, averages of the weights.
    `resume` names a file that keeps the state of an unfinished fit: a fit that was killed goes on from it and ends as
    if it had never stopped. Ctrl-C ends the fit and keeps parameters, history and that file. Raises ``ValueError`` for
    a budget that is missing or not positive or a file of another fit, ``FloatingPointError`` where the loss is no
    longer finite.
    """
    budget = [b for b in (steps, seconds) if b is not None]
    require(bool(budget) and min(budget) > 0, f"steps = {steps}, seconds = {seconds}; give at least one, positive")
    require(n >= 1 and batch_size >= 1, f"n = {n}, batch_size = {batch_size}; both must be at least 1")
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    losses, spent = load_state(resume, model, optimiser, generator)
    saved, start, interrupted = spent, time.perf_counter() - spent, False
    bar = tqdm(total=steps, initial=len(losses), desc=label, unit="step", file=sys.stderr, mininterval=0.5, leave=False)
    try:
        while (done := max(len(losses) / (steps or math.inf), spent / (seconds or math.inf))) < 1:
            optimiser.param_groups[0]["lr"] = lr * schedule(done)
            losses.append(step(loss, batch(len(losses), n, batch_size, generator.initial_seed()), optimiser, clip))
            spent = time.perf_counter() - start
            bar.update()
            bar.set_postfix(loss=f"{losses[-1]:.4g}", refresh=False)
            if after_step:
                after_step(len(losses))
            if resume and spent - saved > SAVE_EVERY:
                save_state(resume, model, optimiser, generator, losses, spent)
                saved = spent
    except KeyboardInterrupt:
        interrupted = True
    finally:
        bar.close()
    if resume and not interrupted:
        resume.unlink(missing_ok=True)
    return History(losses, spent, interrupted)


def schedule(done: float) -> float:
    """Return the learning rate's factor after a share `done` of the budget: a short rise, then half a cosine to 0."""
    return min(1.0, (done + 1e-3) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * done))


def step(loss: Callable, index: Tensor, optimiser: torch.optim.Optimizer, clip: float | None) -> float:
    """Take one step of the optimiser and return the loss; ``FloatingPointError`` where that is not finite."""
    value = loss(index)
    group = optimiser.param_groups[0]
    if not math.isfinite(value.item()):
        raise FloatingPointError(f"the loss is {value.item()} at a rate of {group['lr']:.2g}; try a lower lr")
    optimiser.zero_grad()
    value.backward()
    if clip is not None:
        nn.utils.clip_grad_norm_(group["params"], clip)
    optimiser.step()
    return value.item()


@lru_cache(maxsize=2)
def order(n: int, seed: int, epoch: int) -> Tensor:
    """Return the shuffled indices (n,) of an epoch, told by the seed and the epoch's number alone."""
    return torch.randperm(n, generator=torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63))


def batch(step: int, n: int, batch_size: int, seed: int) -> Tensor:
    """Return the indices (B,) of one step; those of one epoch are a permutation of 0..n-1."""
    epoch, i = divmod(step, -(-n // batch_size))
    return order(n, seed, epoch)[i * batch_size : (i + 1) * batch_size]


def save_state(
    path: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
    losses: list[float],
    seconds: float,
) -> None:
    """Write what a fit needs to go on, beside the file and then in its place."""
    parts = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "generator": generator.get_state()}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    torch.save({**parts, "losses": losses, "seconds": seconds}, beside)
    os.replace(beside, path)


def load_state(
    path: Path | None, model: nn.Module, optimiser: torch.optim.Optimizer, generator: torch.Generator
) -> tuple[list[float], float]:
    """Put a fit back where ``save_state`` left it; return its losses and seconds, nothing if there is no such file."""
    if path is None or not path.exists():
        return [], 0.0
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        generator.set_state(state["generator"])
        return state["losses"], state["seconds"]
    except (RuntimeError, ValueError, KeyError, EOFError, TypeError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} is damaged or of another fit ({reason}); remove it to start anew") from error

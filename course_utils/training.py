"""One fit loop for every model of the course: any loss, a budget, a progress bar, Ctrl-C, and resuming."""

import html
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
from IPython import get_ipython
from IPython.display import display
from torch import Tensor, nn
from tqdm import tqdm

from course_utils.errors import require
from course_utils.nn import EMA

SAVE_EVERY = 30.0  # seconds between two saved states of a fit that can be resumed
WARM_UP = 0.02  # of the budget: the rate rises linearly, then falls along a half cosine


class History(NamedTuple):
    """What a fit saw: the loss of each step, the seconds it took, whether Ctrl-C ended it early, and its metrics.

    `metrics` are the pairs (number of steps done, value) of all that ``after_step`` returned.
    """

    losses: list[float]
    seconds: float
    interrupted: bool
    metrics: list[tuple[int, float]]


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
    betas: tuple[float, float] = (0.9, 0.999),
    clip: float | None = None,
    ema: float | None = None,
    bf16: bool = False,
    after_step: Callable[[int], float | None] | None = None,
    resume: Path | None = None,
    label: str | None = "fit",
) -> History:
    """Minimise ``loss(index)`` over the parameters of `model` by AdamW; return the history.

    `loss` takes the indices (B,) of a batch of the `n` examples, on the CPU, and returns a scalar; it draws its
    noise from `generator`. The budget is `steps`, `seconds`, or whichever of both ends first. `betas` are the
    decays of the gradient's running mean and square, `clip` bounds its norm. With `ema`, such as 0.99, the model
    ends with the exponential moving average of its weights. `bf16` lets the loss be computed in bfloat16 where the
    model is on a CUDA device. ``after_step(number of steps done)`` is called after each step, for previews and for
    what follows the steps; a number that it returns is shown as the metric. `resume` names a file that keeps the
    state of an unfinished fit: a fit that was killed goes on from it and ends as if it had never stopped. Without a
    `label` no progress bar is shown. Ctrl-C ends the fit and keeps parameters, history and that file. Raises
    ``ValueError`` for a budget that is missing or not positive or a file of another fit, ``FloatingPointError``
    where the loss is no longer finite.
    """
    budget = [b for b in (steps, seconds) if b is not None]
    require(bool(budget) and min(budget) > 0, f"steps = {steps}, seconds = {seconds}; give at least one, positive")
    require(n >= 1 and batch_size >= 1, f"n = {n}, batch_size = {batch_size}; both must be at least 1")
    kind = next(model.parameters()).device.type
    fused = kind in ("cpu", "cuda")  # one kernel for all parameters, several times faster than a loop over them
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, betas=betas, weight_decay=0.0, fused=fused)
    average = None if ema is None else EMA(model, ema)
    state = State(model, optimiser, generator, average)
    losses, metrics, spent = state.load(resume)
    saved, start, interrupted = spent, time.perf_counter() - spent, False
    precision = torch.autocast(kind, torch.bfloat16, enabled=bf16 and kind == "cuda")
    with bar_for(label, steps, seconds, len(losses), spent) as bar:
        try:
            while (done := max(len(losses) / (steps or math.inf), spent / (seconds or math.inf))) < 1:
                optimiser.param_groups[0]["lr"] = lr * schedule(done)
                index = batch(len(losses), n, batch_size, generator.initial_seed())
                losses.append(step(loss, index, optimiser, clip, precision))
                if average:
                    average.update(model)
                metric = after_step(len(losses)) if after_step else None
                if metric is not None:
                    metrics.append((len(losses), float(metric)))
                spent = time.perf_counter() - start
                shown = {"loss": f"{losses[-1]:.4g}"} | ({"metric": f"{metrics[-1][1]:.4g}"} if metrics else {})
                bar.set_postfix(shown, refresh=False)
                bar.update((len(losses) if steps else min(spent, seconds)) - bar.n)
                if resume and spent - saved > SAVE_EVERY:
                    state.save(resume, losses, metrics, spent)
                    saved = spent
        except KeyboardInterrupt:
            interrupted = True
    if average:
        average.copy_to(model)
    if resume and not interrupted:
        resume.unlink(missing_ok=True)
    return History(losses, spent, interrupted, metrics)


def bar_for(label: str | None, steps: int | None, seconds: float | None, done: int, spent: float) -> tqdm:
    """Return a progress bar that shows the time left in steps, or in seconds where only those are the budget.

    Without a label none is shown.
    """
    total, initial, unit = (steps, done, "step") if steps else (seconds, spent, "s")
    style = {} if steps else {"bar_format": "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s{postfix}"}
    where = {"file": NotebookLine() if in_notebook() else sys.stderr, "disable": label is None, "leave": False}
    return tqdm(total=total, initial=initial, desc=label, unit=unit, mininterval=0.5, **where, **style)


def in_notebook() -> bool:
    """Tell whether this runs in a notebook's kernel."""
    return hasattr(get_ipython(), "kernel")


class NotebookLine:
    """A file whose last line stands in one place of a cell's output and is gone at the end, for a progress bar.

    On stderr a bar would be torn apart by a picture shown meanwhile, and leave a coloured strip behind.
    """

    encoding = "utf-8"

    def __init__(self):
        self.handle = None

    def write(self, text: str) -> None:
        """Show the line in the place of the one before."""
        line = html.escape(text.strip())
        data = {"text/html": f'<div style="font: 12px monospace; white-space: pre">{line}</div>' if line else ""}
        if self.handle is None:
            self.handle = display(data, raw=True, display_id=True)
        else:
            self.handle.update(data, raw=True)

    def flush(self) -> None:
        """Nothing waits to be written."""


def every(n: int, call: Callable[[], float | None]) -> Callable[[int], float | None]:
    """Return an ``after_step`` for ``fit`` that calls `call` after each `n` steps: a preview, a test metric."""
    require(n >= 1, f"n = {n}; call it every 1 step or more")
    return lambda done: call() if done % n == 0 else None


def schedule(done: float) -> float:
    """Return the learning rate's factor after a share `done` of the budget: a short rise, then half a cosine to 0."""
    return min(1.0, (done + 1e-3) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * done))


def step(loss: Callable, index: Tensor, optimiser: torch.optim.Optimizer, clip: float | None, precision) -> float:
    """Take one step of the optimiser and return the loss; ``FloatingPointError`` where that is not finite."""
    with precision:
        value = loss(index)
    group = optimiser.param_groups[0]
    number = value.item()
    if not math.isfinite(number):
        raise FloatingPointError(f"the loss is {number} at a rate of {group['lr']:.2g}; try a lower lr")
    optimiser.zero_grad()
    value.backward()
    if clip is not None:
        nn.utils.clip_grad_norm_(group["params"], clip)
    optimiser.step()
    return number


@lru_cache(maxsize=2)
def order(n: int, seed: int, epoch: int) -> Tensor:
    """Return the shuffled indices (n,) of an epoch, told by the seed and the epoch's number alone."""
    return torch.randperm(n, generator=torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63))


def batch(step: int, n: int, batch_size: int, seed: int) -> Tensor:
    """Return the indices (B,) of one step; those of one epoch are a permutation of 0..n-1."""
    epoch, i = divmod(step, -(-n // batch_size))
    return order(n, seed, epoch)[i * batch_size : (i + 1) * batch_size]


class State(NamedTuple):
    """What a fit needs to go on where it was stopped."""

    model: nn.Module
    optimiser: torch.optim.Optimizer
    generator: torch.Generator
    average: EMA | None

    def save(self, path: Path, losses: list[float], metrics: list[tuple[int, float]], seconds: float) -> None:
        """Write it all beside the file and then in its place."""
        parts = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "average": self.average.weights if self.average else [],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f"{path.name}.{os.getpid()}")
        torch.save({**parts, "losses": losses, "metrics": metrics, "seconds": seconds}, beside)
        os.replace(beside, path)

    def load(self, path: Path | None) -> tuple[list[float], list[tuple[int, float]], float]:
        """Put the fit back where ``save`` left it; return losses, metrics, seconds, nothing if there is no such file.

        Raises ``ValueError`` for a file that is damaged or of another fit.
        """
        if path is None or not path.exists():
            return [], [], 0.0
        try:
            state = torch.load(path, weights_only=True, map_location="cpu")
            self.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.generator.set_state(state["generator"])
            if self.average:
                self.average.load(state["average"])
            return state["losses"], state["metrics"], state["seconds"]
        except (RuntimeError, ValueError, KeyError, EOFError, TypeError, pickle.UnpicklingError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{path} is damaged or of another fit ({reason}); remove it to start anew") from error

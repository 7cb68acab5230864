"""One fit loop for every model of the course."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from course_utils.data import batches
from course_utils.errors import require


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
    label: str = "fit",
) -> History:
    """Minimise ``loss(index)`` over the parameters of `model` by AdamW, its rate falling to zero along a half cosine.

    `loss` takes the indices (B,) of a batch of the `n` examples and returns a scalar. The budget is `steps`, `seconds`,
    or whichever of both ends first. Batches are drawn with `generator`, on whose device the indices lie. Ctrl-C ends
    the fit and keeps the parameters and the history so far. Raises ``ValueError`` for a budget that is missing or not
    positive, ``FloatingPointError`` where the loss is no longer finite.
    """
    budget = [b for b in (steps, seconds) if b is not None]
    require(bool(budget) and min(budget) > 0, f"steps = {steps}, seconds = {seconds}; give at least one, positive")
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    losses, start, interrupted = [], time.perf_counter(), False
    bar = tqdm(total=steps, desc=label, unit="step", file=sys.stderr, mininterval=0.5, leave=False)
    try:
        for index in endless(n, batch_size, generator):
            spent = time.perf_counter() - start
            done = max(len(losses) / steps if steps else 0, spent / seconds if seconds else 0)
            if done >= 1:
                break
            optimiser.param_groups[0]["lr"] = lr * 0.5 * (1 + math.cos(math.pi * done))
            value = loss(index)
            if not math.isfinite(value.item()):
                raise FloatingPointError(f"the loss is {value.item()} at step {len(losses)}; lower lr = {lr}")
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            losses.append(value.item())
            bar.update()
            bar.set_postfix(loss=f"{losses[-1]:.4g}", refresh=False)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        bar.close()
    return History(losses, time.perf_counter() - start, interrupted)


def endless(n: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield batches of indices (B,), epoch after epoch."""
    while True:
        yield from batches(n, batch_size, generator)

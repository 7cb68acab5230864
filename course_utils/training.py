"""Training: the steps of an optimiser as a generator, and the loop that runs them with a bar, a history and Ctrl-C."""

import html
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from IPython import get_ipython
from IPython.display import display
from torch import Tensor, nn
from tqdm import tqdm

from course_utils.errors import require

WARM_UP = 0.02  # of the budget: the rate rises linearly, then falls along a half cosine


# The steps -----------------------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """What one step tells: how many are done with it, its loss, and the share of the budget that is spent."""

    done: int
    loss: float
    share: float


def adamw(network: nn.Module, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999)) -> torch.optim.AdamW:
    """Return AdamW without decay of weights; `betas` are the decays of the gradient's running mean and square."""
    kind = next(network.parameters()).device.type
    fused = kind in ("cpu", "cuda")  # one kernel for all parameters, several times faster than a loop over them
    return torch.optim.AdamW(network.parameters(), lr=lr, betas=betas, weight_decay=0.0, fused=fused)


def steps(
    loss: Callable[[Tensor], Tensor],
    optimiser: torch.optim.Optimizer,
    n: int,
    *,
    generator: torch.Generator,
    steps: int | None = None,
    seconds: float | None = None,
    batch_size: int = 128,
    done: int = 0,
    clip: float | None = None,
) -> Iterator[Step]:
    """Minimise ``loss(index)``, a step at a time; yield a ``Step`` after each, when the loop's body has its turn.

    `loss` takes the indices (B,) of a batch of the `n` examples, on the CPU, and returns a scalar; it draws its noise
    from `generator`. The budget is `steps`, `seconds`, or whichever of both ends first; `done` steps of it were taken
    before, in a training that goes on. The optimiser's rate is the largest: it rises for a moment, then falls along
    half a cosine. A gradient longer than `clip` is shortened to it. Raises ``ValueError`` for a budget that is missing
    or not positive, ``FloatingPointError`` where the loss is no longer finite.
    """
    budget = [b for b in (steps, seconds) if b is not None]
    require(bool(budget) and min(budget) > 0, f"steps = {steps}, seconds = {seconds}; give at least one, positive")
    require(n >= 1 and batch_size >= 1, f"n = {n}, batch_size = {batch_size}; both must be at least 1")
    start = time.perf_counter()
    share = spent(done, start, steps, seconds)
    while share < 1:
        set_rate(optimiser, share)
        value = loss(batch(done, n, batch_size, generator.initial_seed()))
        optimiser.zero_grad()
        value.backward()
        number = finite(value, optimiser)
        if clip is not None:
            nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], clip)
        optimiser.step()
        done += 1
        share = spent(done, start, steps, seconds)
        yield Step(done, number, min(1.0, share))


_steps = steps  # for functions that have an argument of that name


def spent(done: int, start: float, steps: int | None, seconds: float | None) -> float:
    """Return the share of the budget that is spent after so many steps, begun at `start` seconds."""
    return max(done / (steps or math.inf), (time.perf_counter() - start) / (seconds or math.inf))


def schedule(share: float) -> float:
    """Return the learning rate's factor after a share of the budget: a short rise, then half a cosine to 0."""
    return min(1.0, (share + 1e-3) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * share))


def set_rate(optimiser: torch.optim.Optimizer, share: float) -> None:
    """Set the rate of the optimiser's parameters to the largest, which it was made with, times the schedule."""
    for group in optimiser.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * schedule(share)


def finite(loss: Tensor, optimiser: torch.optim.Optimizer) -> float:
    """Return a loss as a number; raise ``FloatingPointError`` where it is not finite."""
    number = loss.item()
    if not math.isfinite(number):
        rate = optimiser.param_groups[0]["lr"]
        raise FloatingPointError(f"the loss is {number} at a rate of {rate:.2g}; try a lower lr")
    return number


@lru_cache(maxsize=2)
def order(n: int, seed: int, epoch: int) -> Tensor:
    """Return the shuffled indices (n,) of an epoch, told by the seed and the epoch's number alone."""
    return torch.randperm(n, generator=torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63))


def batch(step: int, n: int, batch_size: int, seed: int) -> Tensor:
    """Return the indices (B,) of one step; those of one epoch are a permutation of 0..n-1."""
    epoch, i = divmod(step, -(-n // batch_size))
    return order(n, seed, epoch)[i * batch_size : (i + 1) * batch_size]


# The loop ------------------------------------------------------------------------------------------------------------


class History(NamedTuple):
    """What a training saw: its steps, the seconds it took, and its metrics, pairs (number of steps done, value)."""

    steps: list[Any]
    seconds: float
    metrics: list[tuple[int, float]]

    @property
    def losses(self) -> list[float]:
        """The loss of each step."""
        return [step.loss for step in self.steps]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, or the Stop button, during a training; `history` is what it had seen. It stops Run All."""

    def __init__(self, label: str, history: History):
        last = history.steps[-1] if history.steps else Step(0, math.nan, 0.0)
        total = round(last.done / last.share) if last.share else "all"
        super().__init__(f"{label}: interrupted after {last.done} of {total} steps.")
        self.history = history

    def _render_traceback_(self) -> list[str]:
        """Tell IPython what to show instead of a traceback."""
        return [
            f"{self} The network keeps what it has learned; what was seen is in `sys.last_value.history`.",
            "To train to the end, run this cell from the start again, or all from its section's first cell.",
        ]


def run(
    progress: Iterable, label: str | None = "training", after_step: Callable[[int], float | None] | None = None
) -> History:
    """Take all steps of a training, such as those of ``steps``, under a progress bar; return the history.

    ``after_step(number of steps done)`` is called after each, for previews and for what follows the steps; a number
    that it returns is shown and kept as a metric. Without a `label` no bar is shown. Ctrl-C raises ``Interrupted``.
    """
    taken, metrics, start, stopped = [], [], time.perf_counter(), False
    try:
        with bar(label) as line:
            for step in progress:
                taken.append(step)
                metric = after_step(step.done) if after_step else None
                if metric is not None:
                    metrics.append((step.done, float(metric)))
                shown = {"step": step.done, "loss": f"{float(step.loss):.4g}"} if not line.disable else {}
                line.set_postfix(shown | ({"metric": f"{metrics[-1][1]:.4g}"} if metrics else {}), refresh=False)
                line.update(step.share - line.n)
    except KeyboardInterrupt:
        stopped = True
    history = History(taken, time.perf_counter() - start, metrics)
    if stopped:
        raise Interrupted(label or "training", history)
    return history


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
    after_step: Callable[[int], float | None] | None = None,
    label: str | None = "fit",
) -> History:
    """Minimise ``loss(index)`` over the parameters of `model` by AdamW; return the history.

    The arguments are those of ``steps`` and of ``run``; it raises what they do.
    """
    given = {"steps": steps, "seconds": seconds, "batch_size": batch_size, "clip": clip}
    return run(_steps(loss, adamw(model, lr), n, generator=generator, **given), label, after_step)


def every(n: int, call: Callable[[], float | None]) -> Callable[[int], float | None]:
    """Return an ``after_step`` for ``fit`` that calls `call` after each `n` steps: a preview, a test metric."""
    require(n >= 1, f"n = {n}; call it every 1 step or more")
    return lambda done: call() if done % n == 0 else None


# The bar -------------------------------------------------------------------------------------------------------------


def bar(label: str | None) -> tqdm:
    """Return a progress bar for the share of a budget; without a label none is shown."""
    style = {"bar_format": "{desc}: {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}{postfix}]", "mininterval": 0.5}
    where = {"file": NotebookLine() if in_notebook() else sys.stderr, "disable": label is None, "leave": False}
    return tqdm(total=1.0, desc=label, **where, **style)


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


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread for a while: quicker for so little work, and much quicker when the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)

"""Networks that more than one lecture uses."""

import torch
from torch import Tensor, nn

from course_utils.errors import require


class MLP(nn.Sequential):
    """A multilayer perceptron: linear layers of the given widths, an activation between them, none at the end.

    ``MLP([64, 128, 10])`` maps (..., 64) to (..., 10). Raises ``ValueError`` for fewer than two widths or a width < 1.
    """

    def __init__(self, widths: list[int], activation: type[nn.Module] = nn.SiLU):
        require(len(widths) >= 2 and min(widths) >= 1, f"widths = {widths}; at least two are needed, each at least 1")
        layers = []
        for w_in, w_out in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Linear(w_in, w_out), activation()]
        super().__init__(*layers[:-1])


class EMA:
    """The exponential moving average of a model's weights, w <- decay w + (1 - decay) model, for steadier samples.

    In the first steps the decay is (1 + steps) / (10 + steps) if that is smaller, so that the start is soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float):
        require(0 < decay < 1, f"decay = {decay}; it lies between 0 and 1, such as 0.99")
        self.decay, self.steps = decay, torch.zeros(())
        self.averages = [p.detach().clone() for p in model.parameters()]

    @property
    def weights(self) -> list[Tensor]:
        """The state: the number of steps, then the average of each parameter."""
        return [self.steps, *self.averages]

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's present weights."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps.item()) / (10 + self.steps.item()))
        torch._foreach_lerp_(self.averages, [p.detach() for p in model.parameters()], 1 - decay)

    @torch.no_grad()
    def load(self, weights: list[Tensor]) -> None:
        """Take over a state from `weights`. Raises ``ValueError`` if it is not that of such a model."""
        require(len(weights) == len(self.weights), f"{len(weights)} averaged weights; {len(self.weights)} are needed")
        for mine, other in zip(self.weights, weights, strict=True):
            mine.copy_(other)

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Put the average into the model."""
        for p, average in zip(model.parameters(), self.averages, strict=True):
            p.copy_(average)

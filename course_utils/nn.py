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


class DigitClassifier(nn.Module):
    """Logits (B, 10) of images (B, side * side) in [0, 1], and the `features` (B, width) that they are computed from.

    Two convolutions and a linear layer; `side` is a multiple of 4, else ``ValueError``. Its features judge samples.
    """

    def __init__(self, side: int = 28, width: int = 64):
        require(side >= 4 and side % 4 == 0, f"side = {side}; a multiple of 4 is needed, such as 8 or 28")
        super().__init__()
        self.features = nn.Sequential(
            nn.Unflatten(-1, (1, side, side)),
            nn.Conv2d(1, 16, 3, padding=1), nn.SiLU(), nn.MaxPool2d(2),  # (B, 16, side/2, side/2)
            nn.Conv2d(16, 32, 3, padding=1), nn.SiLU(), nn.MaxPool2d(2),  # (B, 32, side/4, side/4)
            nn.Flatten(), nn.Linear(32 * (side // 4) ** 2, width), nn.SiLU(),
        )  # fmt: skip
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))

    @torch.no_grad()
    def judge(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (N, width) and class probabilities (N, 10) of images x (N, side * side), in portions."""
        features = torch.cat([self.features(part) for part in x.split(1000)])
        return features, self.head(features).softmax(-1)

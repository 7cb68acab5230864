"""Networks that more than one lecture uses."""

from torch import nn

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

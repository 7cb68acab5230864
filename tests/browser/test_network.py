"""Networks in the page compute what torch computes: every activation, odd widths, any number of rows."""

import json

import numpy as np
import pytest
import stage_page
import torch
from torch import nn

from course_utils.nn import MLP
from course_utils.widgets.weights import ACTIVATIONS, pack

pytestmark = pytest.mark.browser
RUN = """(text) => {
  const { layers, weights, x, n } = JSON.parse(text, revived);
  const forward = course.network(layers, weights);
  return [forward(x, n), forward(x, n)].map((y) => Array.from(y)); // twice: it keeps nothing
}"""


def in_page(bare, layers: list, content: bytes, x: np.ndarray) -> np.ndarray:
    """Return what the page computes for rows x (N, k): (N, l)."""
    told = {"layers": layers, "weights": content, "x": x.ravel().tolist(), "n": len(x)}
    once, again = bare.page.evaluate(RUN, json.dumps(told, default=stage_page.as_base64))
    assert once == again
    return np.array(once).reshape(len(x), -1)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("n, widths", [(1, [2, 7, 5]), (2, [3, 4, 8, 1]), (5, [1, 6, 3]), (64, [2, 128, 64, 9])])
def test_the_same_as_torch(bare, activation, n, widths):
    torch.manual_seed(n)
    network = MLP(widths, activation).half().float()  # rounding aside
    x = 3 * torch.randn(n, widths[0], generator=torch.Generator().manual_seed(n))
    found = in_page(bare, *pack(network, "it"), x.numpy())
    with torch.no_grad():
        assert found == pytest.approx(network(x).numpy(), rel=1e-4, abs=1e-5)


def test_large_numbers_stay_finite(bare):
    network = nn.Sequential(nn.Linear(1, 2), nn.SiLU(), nn.Linear(2, 2), nn.Sigmoid()).half().float()
    x = torch.tensor([[-1e4], [1e4]])
    with torch.no_grad():
        assert in_page(bare, *pack(network, "it"), x.numpy()) == pytest.approx(network(x).numpy(), abs=1e-6)


def test_every_half_precision_number_is_read_exactly(bare):
    """A linear layer shows its weights where its inputs are the rows of the identity."""
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]  # 63,488 = 248 x 256, subnormals among them
    layers = [{"kind": "linear", "inputs": 256, "outputs": 248}]
    content = np.concatenate([finite, np.zeros(248, np.float16)]).astype("<f2").tobytes()
    found = in_page(bare, layers, content, np.eye(256))
    assert (found.T.ravel() == finite.astype(float)).all()

"""Networks packed for a page: bytes and layers against NumPy, and what can't be packed is named."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from course_utils.nn import MLP
from course_utils.vae import conv_vae
from course_utils.widgets.weights import MOST, pack


def filled(network: nn.Module) -> nn.Module:
    """Return the network with weights that half precision holds exactly: multiples of 1/64 up to 2."""
    g = torch.Generator().manual_seed(0)
    for p in network.parameters():
        p.data = torch.randint(-128, 129, p.shape, generator=g) / 64
    return network


def test_bytes_are_weights_row_by_row_then_biases_of_each_layer_in_turn():
    network = filled(MLP([3, 5, 2]))
    layers, content = pack(network, "it")
    assert json.loads(json.dumps(layers)) == [
        {"kind": "linear", "inputs": 3, "outputs": 5},
        {"kind": "silu"},
        {"kind": "linear", "inputs": 5, "outputs": 2},
    ]
    numbers = np.frombuffer(content, "<f2").astype(float)
    first, second = np.split(numbers, [3 * 5 + 5])
    x = np.array([[0.5, -1.0, 2.0], [1.0, 0.0, -0.25]])
    h = x @ first[:15].reshape(5, 3).T + first[15:]
    h = h / (1 + np.exp(-h))
    y = h @ second[:10].reshape(2, 5).T + second[10:]
    assert network(torch.tensor(x).float()).detach().numpy() == pytest.approx(y, rel=1e-5)


def test_a_chain_in_chains_and_what_does_nothing_in_evaluation_mode():
    inner = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 4, bias=False), nn.LeakyReLU(0.2))
    layers, content = pack(nn.Sequential(nn.Linear(2, 4), nn.Identity(), inner, nn.Sigmoid()), "it")
    assert [layer["kind"] for layer in layers] == ["linear", "linear", "leaky_relu", "sigmoid"]
    assert layers[2]["slope"] == 0.2
    assert len(content) == 2 * (2 * 4 + 4 + 4 * 4 + 4)
    assert np.frombuffer(content, "<f2")[-4:].tolist() == [0, 0, 0, 0]  # no bias: zeros


def test_weights_are_rounded_to_half_precision_and_the_network_stays_as_it_was():
    network = nn.Linear(1, 1)
    network.weight.data.fill_(1 / 3)
    _, content = pack(network.double(), "it")
    assert np.frombuffer(content, "<f2")[0] == np.float16(1 / 3)
    assert network.weight.dtype == torch.float64 and network.weight.item() == pytest.approx(1 / 3, rel=1e-7)


def with_weight(value: float) -> nn.Module:
    network = MLP([2, 3, 2])
    network[2].weight.data[0, 0] = value
    return network


@pytest.mark.parametrize("network, message", [
    (conv_vae(8, 2, 4).decoder, "it: a page can't compute Folded; it can: Linear, Sequential, MLP, .* SiLU, .*; build"),
    (nn.Sequential(nn.Linear(2, 3), nn.Softplus()), "can't compute Softplus"),
    (nn.Conv2d(1, 1, 3), "can't compute Conv2d"),
    (nn.Sequential(nn.Linear(2, 3), nn.SiLU(), nn.Linear(4, 2)), "a Linear takes 4 numbers, the one before it gives 3"),
    (nn.SiLU(), "it has no Linear layer"),
    (nn.Sequential(), "it has no Linear layer"),
    (with_weight(float("nan")), "not finite in half precision"),
    (with_weight(7e4), "not finite in half precision .largest: 65504"),
    (MLP([2, 1000, 1000]), f"2,008,000 bytes of weights; a page takes {MOST:,} at most: choose narrower"),
])  # fmt: skip
def test_what_a_page_cannot_take_is_named(network, message):
    with pytest.raises(ValueError, match=message):
        pack(network, "it")

"""Small networks for a page: their weights as half-precision bytes, and a list that says how to apply them."""

from collections.abc import Iterator

import torch
from torch import nn

from course_utils.errors import require
from course_utils.widgets.stage import State

ACTIVATIONS = {nn.SiLU: "silu", nn.ReLU: "relu", nn.LeakyReLU: "leaky_relu", nn.Tanh: "tanh", nn.Sigmoid: "sigmoid"}
KNOWN = f"Linear, Sequential, MLP, Identity, Dropout, {', '.join(kind.__name__ for kind in ACTIVATIONS)}"
MOST = 2_000_000  # bytes of a network: what a notebook can carry, and a page decode at once


def pack(network: nn.Module, name: str) -> tuple[list[State], bytes]:
    """Return a chain of modules (N, k) -> (N, l) as network.js takes it: its layers as JSON, its weights as float16.

    The bytes hold each linear layer's weights, (outputs, inputs) row by row, then its biases, little-endian. Raises
    ``ValueError`` that names a module which a page can't compute, and what is wrong with weights that don't fit.
    """
    layers, parts = [], []
    for module in chain(network, name):
        if not isinstance(module, nn.Linear):
            slope = {"slope": module.negative_slope} if isinstance(module, nn.LeakyReLU) else {}
            layers.append({"kind": ACTIVATIONS[type(module)], **slope})
            continue
        before = next((layer["outputs"] for layer in reversed(layers) if layer["kind"] == "linear"), module.in_features)
        fits = f"{name}: a Linear takes {module.in_features} numbers, the one before it gives {before}"
        require(before == module.in_features, fits)
        layers.append({"kind": "linear", "inputs": module.in_features, "outputs": module.out_features})
        bias = torch.zeros(module.out_features) if module.bias is None else module.bias
        parts += [part.detach().cpu().float().flatten() for part in (module.weight, bias)]
    require(len(parts) > 0, f"{name} has no Linear layer: there is nothing to compute in the page")
    weights = torch.cat(parts).half()
    finite = "some weights are not finite in half precision (largest: 65504); has the training diverged?"
    require(bool(weights.isfinite().all()), f"{name}: {finite}")
    content = weights.numpy().astype("<f2").tobytes()
    small = f"{name}: {len(content):,} bytes of weights; a page takes {MOST:,} at most: choose narrower layers"
    require(len(content) <= MOST, small)
    return layers, content


def chain(module: nn.Module, name: str) -> Iterator[nn.Module]:
    """Yield the layers in the order they are applied. Raises ``ValueError`` for one that a page can't compute."""
    if isinstance(module, nn.Sequential):
        for part in module:
            yield from chain(part, name)
    elif isinstance(module, nn.Linear) or type(module) in ACTIVATIONS:
        yield module
    else:
        idle = isinstance(module, nn.Identity | nn.Dropout)  # in evaluation mode
        remedy = "build the network of these, as course_utils.nn.MLP does"
        require(idle, f"{name}: a page can't compute {type(module).__name__}; it can: {KNOWN}; {remedy}")

"""What the tests of lecture 4's layers share: parameters that are not those of the start, Jacobians, quadrature."""

import torch
from torch.autograd.functional import jacobian

from course_utils.flows import Layer


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def stirred(module: torch.nn.Module, scale: float = 0.3, seed: int = 1) -> torch.nn.Module:
    """The module in float64 with noise on all parameters: at the start many layers do nearly nothing."""
    generator = rng(seed)
    with torch.no_grad():
        for p in module.double().parameters():
            p += scale * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    return module


def log_dets(direction, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
    """log |det| of the Jacobian of each example by autograd, (B,)."""
    parts = []
    for i in range(len(x)):
        given = None if context is None else context[i : i + 1]
        matrix = jacobian(lambda v, given=given: direction(v, given)[0].flatten(), x[i : i + 1])
        parts.append(torch.linalg.slogdet(matrix.reshape(x[0].numel(), -1)).logabsdet)
    return torch.stack(parts)


def check_layer(layer: Layer, x: torch.Tensor, context: torch.Tensor | None = None) -> None:
    """Hold both directions against each other and their log-determinants against autograd's, in float64 and float32."""
    layer(x, context)  # an ActNorm starts
    with torch.no_grad():
        z, log_det = layer(x, context)
        back, back_log_det = layer.inverse(z, context)
    assert log_det.shape == back_log_det.shape == (len(x),)
    assert (z - x.reshape(z.shape)).abs().max() > 1e-3 or not log_det.any()  # it does something
    torch.testing.assert_close(back, x, rtol=0, atol=1e-8)
    torch.testing.assert_close(log_det, log_dets(layer, x, context), rtol=0, atol=1e-8)
    torch.testing.assert_close(back_log_det, log_dets(layer.inverse, z, context), rtol=0, atol=1e-8)
    layer.float()
    given = None if context is None else context.float()
    with torch.no_grad():
        single = layer.inverse(layer(x.float(), given)[0], given)[0]
    layer.double()
    assert (single - x.float()).abs().max() < 1e-4


def mass(log_prob, limit: float, points: int, dim: int) -> float:
    """The integral of a density over [-limit, limit]^dim by the midpoint rule."""
    line = (torch.arange(points, dtype=torch.float64) + 0.5) * (2 * limit / points) - limit
    grid = torch.cartesian_prod(*[line] * dim).reshape(-1, dim)
    with torch.no_grad():
        return sum(log_prob(part).exp().sum().item() for part in grid.split(20_000)) * (2 * limit / points) ** dim

"""Ways through a latent space: straight and spherical paths, and a grid of equal prior mass in the plane."""

import torch
from torch import Tensor

from course_utils.errors import require


def lerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Return the straight path (1 - t) a + t b: a, b (..., d) and t (n,) give (n, ..., d)."""
    t = t.reshape(-1, *[1] * a.ndim)
    return (1 - t) * a + t * b


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Return the path on the sphere: a, b (..., d) and t (n,) give (n, ..., d).

    The direction turns at a constant rate from a's to b's, the norm goes linearly from one to the other; equal norms
    keep theirs. Shoemake (1985). Where the angle is 0 or 180 degrees the straight path is returned.
    """
    norm_a, norm_b = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    u, v = a / norm_a.clamp(min=1e-12), b / norm_b.clamp(min=1e-12)
    angle = torch.atan2((u - v).norm(dim=-1, keepdim=True), (u + v).norm(dim=-1, keepdim=True)) * 2  # exact near 0
    s = t.reshape(-1, *[1] * a.ndim)
    sin = angle.sin()
    plane = sin.abs() > 1e-6
    direction = (((1 - s) * angle).sin() * u + (s * angle).sin() * v) / torch.where(plane, sin, 1)
    return torch.where(plane, ((1 - s) * norm_a + s * norm_b) * direction, lerp(a, b, t))


def prior_grid(side: int) -> Tensor:
    """Return a grid of 2-D latents (side, side, 2), each in the middle of a cell with the same prior mass.

    Row i, column j has z = (quantile of (j + ½)/side, quantile of (side - i - ½)/side): z_2 grows upwards.
    """
    require(side >= 1, f"side = {side}; at least 1 is needed")
    quantiles = torch.special.ndtri((torch.arange(side) + 0.5) / side)
    return torch.stack([quantiles.expand(side, side), quantiles.flip(0)[:, None].expand(side, side)], dim=-1)

"""Paths and grids in a latent space, against SciPy."""

import pytest
import scipy.spatial
import scipy.stats
import torch

from course_utils import paths


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("d", [2, 7])
def test_paths(d):
    a, b = draw(3, d, seed=4), draw(3, d, seed=5)
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    for path in (paths.lerp(a, b, t), paths.slerp(a, b, t)):
        assert path.shape == (11, 3, d)
        torch.testing.assert_close(path[0], a)
        torch.testing.assert_close(path[-1], b)
    sphere = paths.slerp(a, b, t)
    for i in range(3):
        norms = (1 - t) * a[i].norm() + t * b[i].norm()
        unit = scipy.spatial.geometric_slerp((a[i] / a[i].norm()).numpy(), (b[i] / b[i].norm()).numpy(), t.numpy())
        torch.testing.assert_close(sphere[:, i], norms[:, None] * torch.tensor(unit))
    torch.testing.assert_close(paths.slerp(a, 2 * a, t), paths.lerp(a, 2 * a, t))  # no angle: straight
    torch.testing.assert_close(paths.slerp(a, -a, t), paths.lerp(a, -a, t))  # no plane: straight


def test_grid_of_the_prior_has_equal_cells():
    z = paths.prior_grid(5)
    ppf = scipy.stats.norm.ppf((torch.arange(5) + 0.5).numpy() / 5)
    torch.testing.assert_close(z[0, :, 0].double(), torch.tensor(ppf), atol=1e-6, rtol=0)
    torch.testing.assert_close(z[:, 0, 1].double(), torch.tensor(ppf[::-1].copy()), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="side = 0"):
        paths.prior_grid(0)

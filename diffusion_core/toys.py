"""2-D toys: every one is exactly a Gaussian mixture, so its true answers are known."""

import functools
import math

import torch
from torch import Tensor

from .checks import check_count, check_kinds

TOYS = ("moons", "circles", "swiss_roll", "eight_gaussians", "nine_gaussians")
TOY_STDS = dict(zip(TOYS, (0.08, 0.05, 0.5, 0.1, 0.1), strict=True))  # before scaling


def toy_centres(name: str, n: int = 1000) -> tuple[Tensor, float]:
    """Return the centres and the noise of a toy: every toy is exactly a Gaussian mixture.

    q(x0) = 1/K sum_k N(x0; means_k, std^2 I), of mean 0 and a variance that averages to 1 over
    the coordinates. means (K, 2) float64; K is n on the three curves, 8 or 9 on the others.
    Raises ValueError for an unknown name or an n below 2, TypeError where n is not an int.
    Source: scikit-learn's make_moons, make_circles, make_swiss_roll (x and z), free of noise.
    """
    if not isinstance(name, str) or name not in TOYS:
        raise ValueError(f"name must be one of {', '.join(TOYS)}, got {name!r}")
    check_count("n", n, lowest=2)
    means, std = _scaled_centres(name, n)
    return means.clone(), std


@functools.cache
def _scaled_centres(name: str, n: int) -> tuple[Tensor, float]:
    means = _unscaled_centres(name, n)
    means = means - means.mean(0)
    scale = 1 / math.sqrt(means.square().mean() + TOY_STDS[name] ** 2)
    return scale * means, scale * TOY_STDS[name]


def _unscaled_centres(name: str, n: int) -> Tensor:
    from sklearn.datasets import make_circles, make_moons  # here: it takes seconds to import

    if name == "moons":
        return torch.from_numpy(make_moons(n, shuffle=False)[0])
    if name == "circles":
        return torch.from_numpy(make_circles(n, shuffle=False, factor=0.5)[0])
    if name == "swiss_roll":  # scikit-learn draws the angle at random, here it is a grid
        angle = (
            1.5 * math.pi * (1 + (2 * torch.arange(n, dtype=torch.float64, device="cpu") + 1) / n)
        )
        return torch.stack([angle * angle.cos(), angle * angle.sin()], 1)
    if name == "eight_gaussians":
        angle = torch.arange(8, dtype=torch.float64, device="cpu") * math.pi / 4
        return torch.stack([angle.cos(), angle.sin()], 1)
    side = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64, device="cpu")
    return torch.cartesian_prod(side, side)


def toy_2d(
    name: str,
    n: int,
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draw n points (n, 2) of a toy, on the generator's device.

    x0 = means_k + std eps, k uniform, eps ~ N(0, I). Raises ValueError for an unknown name or
    an n below 1, TypeError where n is not an int or dtype not a floating-point one.
    """
    means, std = toy_centres(name)
    check_count("n", n)
    check_kinds(generator=generator)
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(f"dtype must be a floating-point dtype, got {dtype}")
    device = generator.device if generator else "cpu"
    k = torch.randint(len(means), (n,), generator=generator, device=device)
    eps = torch.randn(n, 2, generator=generator, device=device, dtype=dtype)
    return means.to(dtype).to(device)[k] + std * eps

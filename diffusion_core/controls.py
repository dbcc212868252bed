"""Pictures that steer a ControlNet, computed from data, and how well a drawing follows them."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import (
    check_data,
    check_finite,
    check_kinds,
    check_like,
    check_numbers,
    kind,
    require,
)
from .gaussian import standard_normal

STEEPEST = 0.25  # an edge is steeper than this: a quarter of black to white, from pixel to pixel
BLOCK = 4  # the side of the square that a thumbnail knows by its mean
OTHERS = 20  # how many other images the chance level is a mean over, at most
NOISE = 0.1  # of the ceiling's copies, where black is -1 and white is 1


class Yardstick(NamedTuple):
    """What a number of obedience is measured by: by chance, and at its best."""

    chance: float
    ceiling: float

    def share(self, found: float) -> float:
        """Return (found - chance) / (ceiling - chance): 0 is chance, 1 is the best."""
        check_numbers(-math.inf, math.inf, "()", found=found)
        return (found - self.chance) / (self.ceiling - self.chance)


def edge_map(x0: Tensor) -> Tensor:
    """Return the edges of images x0 (B, 1, H, W) in [-1, 1]: 1 where they are steep, else 0.

    Sobel's gradient, in units of black to white a pixel, has a length above 0.25. It is computed
    in whole grey levels, the border repeated: so exactly on every device, and edges turn and
    mirror with the image, stay where it is made its negative, and lie in no even surface.
    Source: Sobel's operator, as in Duda and Hart (1973), chapter 7.
    """
    _check_images("x0", x0)
    levels = ((x0.detach().float().clamp(-1, 1) + 1) * 127.5).round()  # whole, and below 2**24
    p = F.pad(levels, (1, 1, 1, 1), mode="replicate")
    right, below = p[..., 2:] - p[..., :-2], p[..., 2:, :] - p[..., :-2, :]
    right = right[..., :-2, :] + 2 * right[..., 1:-1, :] + right[..., 2:, :]  # 8 * 255 a unit
    below = below[..., :-2] + 2 * below[..., 1:-1] + below[..., 2:]
    steep = right.square() + below.square() > (STEEPEST * 8 * 255) ** 2
    return steep.to(x0.dtype)


def thumbnail(x0: Tensor) -> Tensor:
    """Return images x0 (B, 1, H, W) with each square of 4 x 4 pixels replaced by its mean.

    28 x 28 pixels know 7 x 7 numbers then. Linear; a thumbnail is its own; what is lost is
    orthogonal to every thumbnail. Raises ValueError unless 4 divides H and W.
    """
    _check_images("x0", x0)
    even = not (x0.shape[2] % BLOCK or x0.shape[3] % BLOCK)
    require(even, "x0", f"have H and W divisible by {BLOCK}", x0)
    means = check_finite(F.avg_pool2d(x0, BLOCK), x0=x0)
    return F.interpolate(means, scale_factor=float(BLOCK), mode="nearest")


def edge_f1(x: Tensor, edges: Tensor) -> float:
    """Return the F1 of the edges of images x (n, 1, H, W) and those asked for, 0 or 1 a pixel.

    2 |both| / (|edges of x| + |edges|), the mean over the images; 1 where neither has any. Read it
    with `edge_yardstick`: chance is far from 0.
    """
    _check_images("x", x)
    check_like("edges", edges, "x", x)
    ok = bool(((edges == 0) | (edges == 1)).all())
    require(ok, "edges", "hold 0 and 1 only, as edge_map does", edges)
    return _f1(edge_map(x), edges)


def _f1(found: Tensor, asked: Tensor) -> float:
    """Return the mean F1 of edge maps (n, 1, H, W)."""
    found, asked = (e.flatten(1).cpu().double() for e in (found, asked))
    both, either = (found * asked).sum(1), found.sum(1) + asked.sum(1)
    return torch.where(either > 0, 2 * both / either.clamp(min=1), 1.0).mean().item()


def thumbnail_error(x: Tensor, thumb: Tensor) -> float:
    """Return the rms difference of thumbnails of images x (n, 1, H, W) to those asked for.

    In units of black to white, so that of [0, 1]: sqrt(mean (thumbnail(x) - thumb)^2) / 2.
    """
    check_like("thumb", thumb, "x", x)
    difference = (thumbnail(x) - thumb).detach().cpu().double()
    return difference.square().mean().sqrt().item() / 2


def edge_yardstick(x0: Tensor, *, generator: torch.Generator | None = None) -> Yardstick:
    """Return edge_f1 for the edges of real images x0 (n, 1, H, W), n >= 2.

    chance: of other images of x0, each beside up to 20 of them; ceiling: of the same images under
    a little noise, of standard deviation 0.05 in units of black to white.
    """
    _check_several(x0)
    check_kinds(generator=generator)
    edges = edge_map(x0)
    chance = [_f1(edges.roll(k, 0), edges) for k in range(1, min(len(x0), OTHERS + 1))]
    copies = x0 + NOISE * standard_normal(x0, generator)
    return _yardstick(x0, sum(chance) / len(chance), edge_f1(copies, edges))


def thumbnail_yardstick(x0: Tensor) -> Yardstick:
    """Return thumbnail_error for the thumbnails of real images x0 (n, 1, H, W), n >= 2.

    chance: of other images of x0, each beside up to 20 of them; ceiling: 0, of the images.
    """
    _check_several(x0)
    thumb = thumbnail(x0)
    errors = [thumbnail_error(x0.roll(k, 0), thumb) for k in range(1, min(len(x0), OTHERS + 1))]
    return _yardstick(x0, (sum(e**2 for e in errors) / len(errors)) ** 0.5, 0.0)


def _yardstick(x0: Tensor, chance: float, ceiling: float) -> Yardstick:
    if chance == ceiling:
        raise ValueError(f"x0 must hold images that differ, got {kind(x0)} as by chance")
    return Yardstick(chance, ceiling)


def _check_images(name: str, x: Tensor) -> None:
    check_data(name, x)
    require(x.ndim == 4 and x.shape[1] == 1, name, "have shape (B, 1, H, W)", x)


def _check_several(x0: Tensor) -> None:
    _check_images("x0", x0)
    require(len(x0) > 1, "x0", "hold at least two images", x0)

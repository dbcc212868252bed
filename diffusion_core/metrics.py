"""Distances between two sets of samples, their floor, and which modes the samples reach.

All distances are V-statistics, those of the empirical distributions themselves: every pair
counts, a sample's pair with itself included. So a set is at distance 0 from itself, and two
fresh real sets at a small positive one, the floor. Report multiples of it.
The Frechet distance of digits, by a classifier's features, is in judge.py.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .checks import check_count, check_data, check_finite, check_kinds, kind, row
from .projections import even_directions, merged_quantiles

BANDWIDTHS = (0.1, 0.2, 0.5, 1.0, 2.0)  # from a narrow mode to all of unit-variance data
Distance = Callable[[Tensor, Tensor], Tensor]
CHUNK = 2_000_000  # distances held at once: 16 MB in float64


class ModeCoverage(NamedTuple):
    """shares (K,): of all samples, those at each centre; modes_hit: centres with one or more;
    stray: the share of samples at no centre. shares.sum() + stray = 1."""

    shares: Tensor
    modes_hit: int
    stray: Tensor


class Floor(NamedTuple):
    """A distance between two sets of fresh real samples: mean and std over the pairs of sets."""

    mean: float
    std: float


def energy_distance(x: Tensor, y: Tensor) -> Tensor:
    """Return the energy distance of samples x (n, d) and y (m, d), in the units of the data.

    D^2 = 2 E|X - Y| - E|X - X'| - E|Y - Y'|, and D, a 0-d float64 tensor, is returned.
    Raises ValueError for other shapes, an empty set or NaN, TypeError where x and y are not
    floating-point tensors of one dtype and device.
    Source: Szekely and Rizzo, Energy statistics (2013).
    """
    x, y = _pair(x, y)
    squared = 2 * _mean_of(x, y) - _mean_of(x, x) - _mean_of(y, y)
    return check_finite(squared, x=x, y=y).clamp(min=0).sqrt()


def mmd(x: Tensor, y: Tensor, bandwidths: Sequence[float] = BANDWIDTHS) -> Tensor:
    """Return the maximum mean discrepancy of samples x (n, d) and y (m, d), without units.

    MMD^2 = E k(X, X') + E k(Y, Y') - 2 E k(X, Y), k the mean over bandwidths b of
    exp(-|x - y|^2 / (2 b^2)), fixed, so that numbers compare; for 2-D data of unit variance.
    Raises as energy_distance, and ValueError unless bandwidths are positive.
    Source: Gretton et al., A kernel two-sample test (2012), equation 5.
    """
    x, y = _pair(x, y)
    if not all(0 < b < math.inf for b in row("bandwidths", bandwidths).tolist()):
        raise ValueError(f"bandwidths must be one or more positive numbers, got {bandwidths}")

    def kernel(distances: Tensor) -> Tensor:
        squared = distances.square_()
        return sum(torch.exp(squared * (-0.5 / b**2)) for b in bandwidths) / len(bandwidths)

    squared = _mean_of(x, x, kernel) + _mean_of(y, y, kernel) - 2 * _mean_of(x, y, kernel)
    return squared.clamp(min=0).sqrt()


def sliced_wasserstein(
    x: Tensor, y: Tensor, n_projections: int = 128, *, generator: torch.Generator | None = None
) -> Tensor:
    """Return the sliced 2-Wasserstein distance of x (n, d) and y (m, d), in the data's units.

    SW^2 = mean over unit vectors u of int_0^1 (F_x^-1(q) - F_y^-1(q))^2 dq, F^-1 the quantiles
    of the samples along u; exact for n != m too. For d = 2 the u are n_projections evenly
    spaced angles, for d = 1 there is one; else they are drawn at random from the generator.
    Raises as energy_distance, ValueError for n_projections below 1, TypeError unless an int.
    Source: Bonneel et al., Sliced and Radon Wasserstein barycenters (2015).
    """
    x, y = _pair(x, y)
    check_count("n_projections", n_projections)
    check_kinds(generator=generator)
    if (d := x.shape[1]) > 2:
        place = {"device": generator.device if generator else "cpu", "dtype": torch.float32}
        directions = torch.randn(n_projections, d, generator=generator, **place)
    else:
        directions = even_directions(d, n_projections)
    directions = torch.nn.functional.normalize(directions.to(x.dtype).to(x.device), dim=1)
    pick_x, pick_y, widths = merged_quantiles(len(x), len(y))
    pick_x, pick_y, widths = pick_x.to(x.device), pick_y.to(x.device), widths.to(x.dtype)
    total = x.new_zeros(())
    for u in directions.split(max(1, CHUNK // (len(x) + len(y)))):
        gaps = (x @ u.T).sort(0).values[pick_x] - (y @ u.T).sort(0).values[pick_y]
        total += (widths.to(x.device) @ gaps.square()).sum()
    return check_finite(total / len(directions), x=x, y=y).sqrt()


def mode_coverage(samples: Tensor, centres: Tensor, radius: float) -> ModeCoverage:
    """Return which share of samples (n, d) is at each of the centres (K, d), and at none.

    A sample is at its nearest centre, if that is at most `radius` away (the data's units).
    Raises ValueError for other shapes, empty sets, NaN or a radius not above 0, TypeError where
    samples or centres are not floating-point tensors.
    """
    if not (isinstance(radius, int | float) and 0 < radius < math.inf):
        raise ValueError(f"radius must be a positive number, got {radius}")
    samples, centres = _samples("samples", samples), _samples("centres", centres)
    _check_same_d("samples", samples, "centres", centres)
    counts = samples.new_zeros(len(centres))
    for distances in _distance_blocks(samples, centres.to(samples.dtype).to(samples.device)):
        nearest, k = distances.min(1)
        counts += torch.bincount(k[nearest <= radius], minlength=len(centres))
    stray = (len(samples) - counts.sum()) / len(samples)
    return ModeCoverage(counts / len(samples), int((counts > 0).sum()), stray)


def floor(
    distance: Distance, sample_real: Callable[[int], Tensor], n: int, *, pairs: int = 20
) -> Floor:
    """Return what `distance` gives for two sets of n real samples: what no model can beat.

    The mean and the standard deviation (pairs - 1 in its denominator) over `pairs` pairs of
    sets; sample_real(n) draws a fresh set each time.
    Raises ValueError for n below 1 or pairs below 2, TypeError where one is not an int.
    """
    check_count("n", n)
    check_count("pairs", pairs, lowest=2)
    check_kinds(distance=distance, sample_real=sample_real)
    values = [_number(distance, sample_real(n), sample_real(n)) for _ in range(pairs)]
    values = torch.tensor(values, dtype=torch.float64, device="cpu")
    return Floor(values.mean().item(), values.std().item())


def times_floor(
    distance: Distance, clouds: Sequence[Tensor], sample_real: Callable[[int], Tensor]
) -> Floor:
    """Return how far clouds of samples are from real ones, in multiples of the floor.

    Each cloud (n, d) is compared with n fresh real samples; 1 is as good as real. mean and std (by
    their number) are over the clouds. Raises ValueError for no cloud, or unequal sizes.
    """
    check_kinds(distance=distance, sample_real=sample_real)
    clouds = list(clouds) if isinstance(clouds, Sequence | Tensor) else [clouds]
    for i, cloud in enumerate(clouds):
        _samples(f"clouds[{i}]", cloud)
    if len(sizes := {len(cloud) for cloud in clouds}) != 1:
        raise ValueError(f"clouds must be one or more of the same size, got sizes {sorted(sizes)}")
    (n,) = sizes
    found = [_number(distance, cloud, sample_real(n)) for cloud in clouds]
    ratios = torch.tensor(found, dtype=torch.float64, device="cpu")
    if not (least := floor(distance, sample_real, n).mean) > 0:
        raise ValueError(f"sample_real must draw other samples each time, got a floor of {least}")
    ratios /= least
    return Floor(ratios.mean().item(), ratios.std(correction=0).item())


def _number(distance: Distance, x: Tensor, y: Tensor) -> float:
    """Return distance(x, y) as a float; refuse what is no finite number."""
    answer = distance(x, y)
    ok = isinstance(answer, int | float | Tensor) and getattr(answer, "shape", ()) == ()
    if not (ok and math.isfinite(answer)):
        raise ValueError(f"distance(x, y) must be a finite number, got {kind(answer)}")
    return float(answer)


def _samples(name: str, x: Tensor) -> Tensor:
    check_data(name, x)
    if x.ndim != 2 or x.is_meta:
        raise ValueError(f"{name} must have shape (n, d) and numbers, got {kind(x)}")
    return x.detach() if x.device.type == "mps" else x.detach().double()  # mps has no float64


def _check_same_d(x_name: str, x: Tensor, y_name: str, y: Tensor) -> None:
    if x.shape[1] != y.shape[1]:
        given = tuple(y.shape)
        raise ValueError(f"{y_name} must have the {x.shape[1]} columns of {x_name}, got {given}")


def _pair(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    checked = _samples("x", x), _samples("y", y)
    _check_same_d("x", x, "y", y)
    for what in ("dtype", "device"):
        if (given := getattr(y, what)) != (wanted := getattr(x, what)):
            raise TypeError(f"y must have the {what} of x, {wanted}, got {given}")
    return checked


def _distance_blocks(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    exact = "donot_use_mm_for_euclid_dist"  # the fast way loses half of the digits near 0
    for block in x.split(max(1, CHUNK // len(y))):
        yield torch.cdist(block, y, compute_mode=exact)


def _mean_of(x: Tensor, y: Tensor, function: Callable[[Tensor], Tensor] = torch.positive) -> Tensor:
    total = sum(function(distances).sum() for distances in _distance_blocks(x, y))
    return total / (len(x) * len(y))

"""What samples of a tilted law are measured with: two classes of numbers, N(-1, 1/4), N(1, 1/4)."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffusion_core.classes import tilted_density
from diffusion_core.mixtures import mixture

from ..readings import EXACT, Reading

DRAWS, VAR = 4000, 0.25
CENTRES = torch.tensor([[-1.0], [1.0]], **EXACT)
GRID = torch.linspace(-6, 6, 4001, **EXACT)


def log_prob(x: Tensor, level: float) -> Tensor:
    """Return log p(x), (B,), of all data with noise of this level, for x (B,)."""
    return mixture(CENTRES, VAR + level**2).log_prob(x[:, None])


def log_p(x: Tensor, level: float, label: int = 1) -> Tensor:
    """Return log p(y = label | x), (B,), for data with noise of this level; label 1 or -1."""
    return torch.nn.functional.logsigmoid(2 * label * x / (VAR + level**2))


def drawn(tilt: Callable, w: float = 3.0, label: int = 1) -> Tensor:
    """Return samples with the weight w, from the same draws each time, mirrored for label -1."""
    rng = torch.Generator().manual_seed(6)
    z = torch.randn(DRAWS, generator=rng, dtype=torch.float64)
    u = torch.rand(DRAWS, generator=rng, dtype=torch.float64)
    u = u if label == 1 else 1 - u
    return tilt(log_prob, lambda x, level: log_p(x, level, label), w, label * (1 + z / 2), u)


def exact(w: float) -> Tensor:
    """Return the density p(x) p(y = 1 | x)^w / Z on GRID, by quadrature."""
    return tilted_density(lambda x: log_prob(x[:, 0], 0.0), lambda x: log_p(x[:, 0], 0.0), w, GRID)


def distance(x: Tensor, w: float) -> float:
    """Return the largest difference of two shares below a point: of the samples, and exactly."""
    below = torch.cumulative_trapezoid(exact(w), GRID)
    x = x.sort().values
    place = torch.searchsorted(GRID, x).clamp(1, len(GRID) - 1)
    wanted, count = below[place - 1], torch.arange(len(x) + 1, **EXACT) / max(len(x), 1)
    return torch.maximum((count[1:] - wanted).abs(), (count[:-1] - wanted).abs()).max().item()


def untilted(tilt: Callable) -> Reading:
    """Compare the samples at w = 1 with p(x | y)."""
    what = "Distance of the law from p(x | y) at w = 1"
    return Reading(what, distance(drawn(tilt, 1.0), 1.0), high=0.08)


def as_asked(tilt: Callable) -> Reading:
    """Measure the share of samples at w = 3 to which the classifier gives another label."""
    other = (drawn(tilt) < 0).double().mean().item()
    return Reading("Share of samples of the other class at w = 3", other, high=0.05)


def surer(tilt: Callable) -> Reading:
    """Count how often samples are less sure of their class although w has gone up."""
    sure = [log_p(drawn(tilt, w), 0.0).exp().mean() for w in (1.0, 2.0, 3.0, 5.0)]
    falls = (torch.stack(sure).diff() <= 0).sum().item()
    return Reading("Falls of the mean p(y | x) as w goes 1, 2, 3, 5", falls, 0, 0)


def mirrored(tilt: Callable) -> Reading:
    """Compare the samples of one class with those of the other, which is its mirror image."""
    both = sum(drawn(tilt, 3.0, label).mean().item() for label in (1, -1))
    return Reading("Sum of the means of the two classes at w = 3", both, -0.1, 0.1)


def tilted(tilt: Callable) -> Reading:
    """Compare the samples at w = 3 with the tilted law, by quadrature."""
    what = "Distance of the law from p(x) p(y | x)^3 / Z"
    return Reading(what, distance(drawn(tilt), 3.0), high=0.08)

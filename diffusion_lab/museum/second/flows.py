"""What the right side of a likelihood's ODE is measured with: its solve, and single answers."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffusion_core.likelihood import Solved, solve_ode
from diffusion_core.mixtures import mixture
from diffusion_core.reversal import mixture_score, probability_flow
from diffusion_core.sde import vp_sde
from diffusion_core.traces import exact_trace, probe_variances, rademacher

from ..readings import EXACT, Reading

CENTRES = torch.tensor([[-1.0, -0.6], [1.0, -0.6], [0.0, 1.0]], **EXACT)
DATA = mixture(CENTRES, 0.3**2)
FLOW = probability_flow(vp_sde(), mixture_score(vp_sde(), DATA))
MAKES, TIME = 200, 0.3


def points() -> Tensor:
    """Return 20 points of the data, (20, 2), the same ones each time."""
    return DATA.sample(20, generator=torch.Generator().manual_seed(0))


def draws(seed: int) -> Callable[[], Tensor]:
    """Return a function that draws fresh random signs, one for each coordinate of points()."""
    rng = torch.Generator().manual_seed(seed)
    return lambda: rademacher(points(), rng)


def solved(make: Callable, tolerance: float, seed: int = 0) -> Solved:
    """Solve from time 0 to 1; the state (20, 3) holds x and the divergence summed up."""
    f = make(FLOW.drift, draws(seed))

    def drift(state: Tensor, time: float) -> Tensor:
        velocity, divergence = f(state[:, :2], time)
        return torch.cat([velocity, divergence[:, None]], 1)

    x = points()
    return solve_ode(drift, torch.cat([x, 0 * x[:, :1]], 1), 0.0, 1.0, tolerance=tolerance)


def divergences(make: Callable) -> Tensor:
    """Return MAKES estimates of the divergence at points(), each of a new right side."""
    fresh, x = draws(1), points()
    return torch.stack([make(FLOW.drift, fresh)(x, TIME)[1] for _ in range(MAKES)])


def mean(make: Callable) -> Reading:
    """Compare the average of many estimates with the exact divergence."""
    exact = exact_trace(lambda x: FLOW.drift(x, TIME), points()).trace
    off = (divergences(make).mean(0) - exact).mean().item()
    return Reading("Mean of many divergences minus the exact one", off, -0.1, 0.1)


def scatter(make: Callable) -> Reading:
    """Compare the variance of the estimates with its formula for random signs."""
    x = points()
    slopes = [exact_slopes(i, x) for i in range(x.shape[1])]
    wanted = probe_variances(torch.stack(slopes, 1)).rademacher.mean()
    ratio = (divergences(make).var(0).mean() / wanted).item()
    return Reading("Variance of a divergence, in multiples of its formula", ratio, 0.9, 1.1)


def exact_slopes(i: int, x: Tensor) -> Tensor:
    """Return the slopes (B, D) of coordinate i of the velocity."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(FLOW.drift(x, TIME)[:, i].sum(), x)[0]


def landing(make: Callable) -> Reading:
    """Measure how far the points end from where the flow leads them."""
    exact = solve_ode(FLOW.drift, points(), 0.0, 1.0, tolerance=1e-8).x
    off = (solved(make, 1e-3).x[:, :2] - exact).abs().max().item()
    return Reading("Largest error of a point at the end", off, high=0.01)


def twice(make: Callable) -> Reading:
    """Ask one right side twice the same, and measure how much the answers differ."""
    f, x = make(FLOW.drift, draws(2)), points()
    (first, change), (second, again) = f(x, TIME), f(x, TIME)
    apart = max((first - second).abs().max().item(), (change - again).abs().max().item())
    return Reading("Difference of two answers to one question", apart, high=0.001)

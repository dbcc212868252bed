"""The whole program of lesson 14, as it should be, and with its mistakes where they are asked for.

The learner's own stands in the lesson, in three cells. This one is what it is compared with.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

WIDTH, ROWS, DRAWN = 64, 256, 8


def ring(n: int = 24, radius: float = 1.3) -> list[list[float]]:
    """Return n points on a circle: the data, until the learner gives others."""
    angles = [2 * math.pi * k / n for k in range(n)]
    return [[radius * math.cos(angle), radius * math.sin(angle)] for angle in angles]


def fresh(points: Sequence[Sequence[float]]) -> Callable[[int], Tensor]:
    """Return a function that draws fresh data: points, each spread by 0.1; the same each time."""
    data, rng = torch.tensor(points, dtype=torch.float64), torch.Generator().manual_seed(1)

    def draw(n: int) -> Tensor:
        rows = torch.randint(len(data), (n,), generator=rng)
        return data[rows] + 0.1 * torch.randn(n, 2, generator=rng, dtype=torch.float64)

    return draw


def whole_program(
    points: Sequence[Sequence[float]],
    T: int,
    steps: int,
    seed: int,
    *,
    told: Callable[[Tensor, int], Tensor] = lambda t, T: t / T,
    asked: Callable[[int, int], float] = lambda t, T: t / T,
    noise: str = "in each step",
    last: int = 2,
) -> Tensor:
    """Return 8 samples (8, 2) of a network that has learned `points`, each spread by 0.1.

    told(t, T) is what the network learns as its step, asked(t, T) what the sampler tells it.
    Noise is drawn afresh "in each step", "once", or "too often": once more before the first.
    last: the lowest t with noise.
    """
    network, _ = _trained(points, T, steps, seed, told)
    return _drawn(network, T, DRAWN, seed, asked=asked, noise=noise, last=last)


def right_program(
    points: Sequence[Sequence[float]], T: int, steps: int, n: int
) -> tuple[Tensor, list[float]]:
    """Return n samples (n, 2) of the program without a mistake, and its losses in training."""
    network, losses = _trained(points, T, steps, 0, lambda t, T: t / T)
    return _drawn(network, T, n, 0), losses


def _drawn(
    network: nn.Module,
    T: int,
    n: int,
    seed: int,
    *,
    asked: Callable[[int, int], float] = lambda t, T: t / T,
    noise: str = "in each step",
    last: int = 2,
) -> Tensor:
    betas, alpha_bars = _tables(T)
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 2, generator=rng, dtype=torch.float64)
    z = x if noise == "in each step" else torch.randn(x.shape, generator=rng, dtype=x.dtype)
    for t in range(T, 0, -1):
        if noise != "once":
            z = torch.randn(x.shape, generator=rng, dtype=x.dtype)
        with torch.no_grad():
            eps_hat = network(torch.cat([x, torch.full_like(x[:, :1], asked(t, T))], 1))
        x = (x - betas[t] / (1 - alpha_bars[t]).sqrt() * eps_hat) / (1 - betas[t]).sqrt()
        x = x + betas[t].sqrt() * z if t >= last else x
    return x


def _tables(T: int) -> tuple[Tensor, Tensor]:
    time = torch.linspace(0, 1, T + 1, dtype=torch.float64)
    alpha_bars = torch.exp(-0.1 * time - 9.95 * time**2)
    betas = torch.cat([time[:1], 1 - alpha_bars[1:] / alpha_bars[:-1]])
    return betas, alpha_bars


def _trained(
    points: Sequence, T: int, steps: int, seed: int, told: Callable
) -> tuple[nn.Module, list[float]]:
    data, (_, alpha_bars) = torch.tensor(points, dtype=torch.float64), _tables(T)
    rng = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first, middle, last = nn.Linear(3, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2)
    network = nn.Sequential(first, nn.SiLU(), middle, nn.SiLU(), last).double()
    optimizer, losses = torch.optim.Adam(network.parameters(), lr=3e-3), []
    with torch.enable_grad():
        for _ in range(steps):
            x0 = data[torch.randint(len(data), (ROWS,), generator=rng)]
            x0 = x0 + 0.1 * torch.randn(x0.shape, generator=rng, dtype=x0.dtype)
            t = torch.randint(1, T + 1, (ROWS, 1), generator=rng)
            eps = torch.randn(x0.shape, generator=rng, dtype=x0.dtype)
            x_t = alpha_bars[t].sqrt() * x0 + (1 - alpha_bars[t]).sqrt() * eps
            loss = (network(torch.cat([x_t, told(t, T)], 1)) - eps).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return network, losses

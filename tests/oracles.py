"""Independent answers: what the package must agree with, computed in another way."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

import diffusion_core as dc


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@contextmanager
def other_defaults() -> Iterator[None]:
    """Make float64 the default dtype and "meta" the default device: what asks for one shows it."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            yield
    finally:
        torch.set_default_dtype(before)


def normal(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return test data drawn from N(0, 1)."""
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


def initialised(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """Return a network made with a seed of its own; torch's global generator is put back."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def assert_mean(samples: Tensor, expected, bias: float = 0.0) -> None:
    """Check the mean over examples: within 5 standard errors, and a known bias if there is one."""
    samples = samples.double().cpu()
    error = (samples.mean(0) - torch.as_tensor(expected, dtype=torch.float64)).abs()
    allowed = 5 * samples.std(0) / math.sqrt(len(samples)) + bias
    assert (error <= allowed).all(), f"off by {error}, allowed {allowed}"


def joint_covariance(betas: Tensor, data_var: float) -> Tensor:
    """Return the covariance of (x_0, .., x_T) for x_0 ~ N(0, data_var), from equation 2 alone.

    Each x_t is a known combination of the independent normals z_0 .. z_t: x = L z, cov = L L^T.
    """
    rows = [torch.zeros(len(betas) + 1, dtype=torch.float64)]
    rows[0][0] = math.sqrt(data_var)
    for t, beta in enumerate(betas.tolist(), start=1):
        row = math.sqrt(1 - beta) * rows[-1]
        row[t] = math.sqrt(beta)
        rows.append(row)
    factor = torch.stack(rows)
    return factor @ factor.T


def condition(cov: Tensor, a: list[int], b: list[int]) -> tuple[Tensor, Tensor]:
    """Return W and C with E[x_a | x_b] = W x_b and Cov[x_a | x_b] = C, for mean 0."""
    weights = torch.linalg.solve(cov[b][:, b], cov[b][:, a]).T
    return weights, cov[a][:, a] - weights @ cov[b][:, a]


def affine(function: Callable[[Tensor], dc.Gaussian]) -> tuple[float, float, float]:
    """Return slope, offset, variance of a kernel N(slope x + offset, var) by probing x = 0, 1."""
    kernel = function(torch.tensor([[0.0], [1.0]], dtype=torch.float64))
    offset, at_one = kernel.mean.flatten().tolist()
    return at_one - offset, offset, torch.as_tensor(kernel.var).flatten()[0].item()

"""Which noise belongs to which data: pairs that make the paths of a flow straighter."""

from typing import NamedTuple

import torch
from torch import Tensor

from .checks import check_alike, check_data, check_finite, check_labels, require
from .distances import squared_distances
from .likelihood import solve_ode
from .sde import SDE, check_sde
from .traces import checked


class Pairs(NamedTuple):
    """Data and the noise that each example belongs to, both (B, ...)."""

    x0: Tensor
    eps: Tensor


def optimal_pairing(x0: Tensor, eps: Tensor, y: Tensor | None = None) -> Tensor:
    """Return the permutation p of a batch for which sum_i |x0_i - eps_p(i)|^2 is least: int64 (B,).

    eps[p] are the same noises in another order, each used once. With labels y (B,) a noise stays
    within its label, so that given y it is still N(0, I): without, it would tell the label.
    x0 and eps (B, ...). Source: Tong et al. (2024); Pooladian et al. (2023).
    """
    from scipy.optimize import linear_sum_assignment  # here: it takes long to import

    check_alike(x0=x0, eps=eps)
    check_data("x0", x0)
    check_data("eps", eps)
    labels = torch.zeros(len(x0), dtype=torch.int64, device="cpu")
    if y is not None:
        check_labels(y)
        require(y.shape == x0.shape[:1] and not y.is_meta, "y", f"have shape ({len(x0)},)", y)
        labels = y.cpu()
    flat, noise = (x.detach().cpu().double().reshape(len(x), -1) for x in (x0, eps))
    pairing = torch.empty_like(labels, dtype=torch.int64)
    for label in labels.unique():
        rows = (labels == label).nonzero()[:, 0]
        cost = check_finite(squared_distances(flat[rows], noise[rows]), x0=x0, eps=eps)
        _, picks = linear_sum_assignment(cost.cpu().numpy())
        pairing[rows] = rows[torch.from_numpy(picks)]
    return pairing.to(x0.device)


def reflow_pairs(flow: SDE, eps: Tensor, *, tolerance: float = 1e-6) -> Pairs:
    """Return each noise with the end of its own path: eps at time 1, x_0 at time 0 of the flow.

    Of the same laws as before, and never further apart on average than what the flow was trained
    on; a flow trained on these pairs is straighter. eps (B, ...). Raises as solve_ode does.
    Source: Liu et al. (2023), algorithm 1.
    """
    check_sde("flow", flow)
    check_data("eps", eps)
    return Pairs(solve_ode(flow.drift, eps, 1.0, 0.0, tolerance=tolerance).x, eps)


def straightness_defect(flow: SDE, eps: Tensor, *, tolerance: float = 1e-6) -> Tensor:
    """Return int_0^1 |u - (x_1 - x_0)|^2 dtime for the path of each eps = x_1 at time 1: (B,).

    It is int |u|^2 dtime - |x_1 - x_0|^2, so at least 0 up to the tolerance, and 0 for a line
    that is followed at an even speed, which one step of Euler takes. u is the flow's drift, eps
    (B, ...). Raises as solve_ode does. Its mean is S of Liu et al. (2023), section 2.2.
    """
    check_sde("flow", flow)
    check_data("eps", eps)

    def drift(state: Tensor, time: float) -> Tensor:
        x = state[:, :-1].reshape(eps.shape)
        velocity = checked("drift(x, time)", flow.drift(x, time), x).reshape(len(x), -1)
        return torch.cat([velocity, velocity.square().sum(1, keepdim=True)], 1)

    start = eps.reshape(len(eps), -1)
    state = torch.cat([start, torch.zeros_like(start[:, :1])], 1)
    end = solve_ode(drift, state, 1.0, 0.0, tolerance=tolerance).x
    return -end[:, -1] - (end[:, :-1] - start).square().sum(1)

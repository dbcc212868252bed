"""Score matching: three losses that learn grad log p from samples of p alone."""

from collections.abc import Callable

import torch
from torch import Tensor

from .checks import check_data, check_kinds, number, numbers, require
from .gaussian import standard_normal
from .predictions import Model
from .schedules import NoiseSchedule, at
from .traces import ScoreModel, checked, exact_trace, hutchinson_trace, rademacher

Probe = Callable[[Tensor, torch.Generator | None], Tensor]  # probe(like, generator) -> v


def explicit_loss(score_model: ScoreModel, score: ScoreModel, x: Tensor) -> Tensor:
    """Return E |s(x) - score(x)|^2 / 2: how far a model is from a score that is known.

    x (B, ...) -> a scalar, summed over coordinates, a mean over the batch.
    Source: Hyvarinen (2005), equation 2.
    """
    check_kinds(score_model=score_model, score=score)
    check_data("x", x)
    wanted = checked("score(x)", score(x), x)
    return 0.5 * _square(checked("score_model(x)", score_model(x), x) - wanted).mean()


def implicit_loss(score_model: ScoreModel, x: Tensor) -> Tensor:
    """Return E [|s|^2 / 2 + tr ds/dx] on a batch x ~ p: explicit_loss up to a constant.

    It holds where p s vanishes at the edge of the data's space. The model must have smooth
    activations, or the gradient of the trace is wrong, and x must be fresh in each step.
    x (B, ...) -> a scalar, by one backward pass a coordinate.
    Source: Hyvarinen (2005), theorem 1.
    """
    score, trace = exact_trace(score_model, x)
    return (0.5 * _square(score) + trace).mean()


def sliced_loss(
    score_model: ScoreModel,
    x: Tensor,
    *,
    probe: Probe | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return E [|s|^2 / 2 + v^T (ds/dx) v], one v an example: implicit_loss by one backward pass.

    probe(x, generator) draws v with E[v v^T] = I; `rademacher` unless given.
    x (B, ...) -> a scalar. Source: Song et al. (2019), Sliced Score Matching, equation 8.
    """
    probe = rademacher if probe is None else probe
    check_kinds(probe=probe, generator=generator)
    check_data("x", x)
    v = probe(x, generator)
    score, trace = hutchinson_trace(score_model, x, v)
    return (0.5 * _square(score) + trace).mean()


def denoising_loss(
    score_model: ScoreModel,
    x0: Tensor,
    noise_level: Tensor | float,
    *,
    weights: Tensor | float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return E w |s(x) + eps / noise_level|^2 / 2 with x = x0 + noise_level eps, eps ~ N(0, I).

    The target -eps / noise_level is grad log q(x | x0). noise_level > 0 and weights w >= 0: a
    number, or (B,), one for each example. x0 (B, ...) -> a scalar, summed over coordinates.
    The best s is the score of the noisy data. Source: Vincent (2011), section 4.2.
    """
    check_kinds(score_model=score_model, generator=generator)
    check_data("x0", x0)
    level, weights = _column("noise_level", noise_level, x0), _column("weights", weights, x0)
    require(number((level > 0).all()), "noise_level", "be positive", noise_level)
    require(number((weights >= 0).all()), "weights", "be at least 0", weights)
    eps = standard_normal(x0, generator)
    score = checked("score_model(x)", score_model(x0 + level * eps), x0)
    return 0.5 * (weights.flatten() * _square(score + eps / level)).mean()


def score_model_from_eps(schedule: NoiseSchedule, eps_model: Model, t: Tensor | int) -> ScoreModel:
    """Return the score of x = x_0 + noise_level eps that an eps_model holds at step t in 1..T.

    s(x) = -eps_model(sqrt(alpha_bar_t) x, t) / noise_level, noise_level_t^2 = 1 / snr_t, as
    x_t = sqrt(alpha_bar_t) x. t: one integer, or (B,), one for each example.
    """

    check_kinds(schedule=schedule, eps_model=eps_model)

    def score_model(x: Tensor) -> Tensor:
        check_data("x", x)
        scale = at(schedule.alpha_bars, t, x, lowest=1).sqrt()
        steps = torch.as_tensor(t, dtype=torch.int64, device=x.device).expand(len(x))
        eps_hat = checked("eps_model(x_t, t)", eps_model(scale * x, steps), x)
        return -eps_hat * at(schedule.snr, t, x, lowest=1).sqrt()

    return score_model


def _square(x: Tensor) -> Tensor:
    """Return the sum of squares of each example, (B,)."""
    return x.reshape(len(x), -1).square().sum(1)


def _column(name: str, values: Tensor | float, x: Tensor) -> Tensor:
    """Return a number, or one for each example, as a tensor that broadcasts to x."""
    values = numbers(name, values)
    fits = values.shape in ((), x.shape[:1]) and not values.is_complex()
    fits = fits and values.is_meta <= x.is_meta
    require(fits, name, f"be a number or have shape ({len(x)},)", values)
    check_data(name, values.reshape(-1).to(x))
    return values.to(x).reshape(-1, *[1] * (x.ndim - 1))

"""The way back in time: the reverse SDE, the flow without noise, and the exact score for both."""

from collections.abc import Callable

from torch import Tensor

from .checks import check_kinds, require
from .mixtures import Mixture, check_mixture
from .sde import SDE, check_sde
from .traces import checked

Score = Callable[[Tensor, float], Tensor]  # score(x, time) = grad_x log q(x at that time)


def reverse_sde(sde: SDE, score: Score) -> SDE:
    """Return dx = [drift - diffusion^2 score] dtime + diffusion dW, to be followed from 1 to 0.

    With the score of the states of `sde` it runs through the same densities, backwards.
    The diffusion must not depend on x. Source: Anderson (1982); Song et al. (2021), equation 6.
    """
    check_sde("sde", sde)
    check_kinds(score=score)

    def drift(x: Tensor, time: float) -> Tensor:
        pull = checked("score(x, time)", score(x, time), x)
        return sde.drift(x, time) - sde.diffusion(x, time) ** 2 * pull

    return SDE(drift, sde.diffusion, sde.marginal)


def probability_flow(sde: SDE, score: Score) -> SDE:
    """Return dx / dtime = drift - diffusion^2 score / 2: an SDE of diffusion 0, an ODE.

    It too runs through the densities of `sde`, in either direction, and draws nothing.
    The diffusion must not depend on x. Source: Song et al. (2021), equation 13.
    """
    check_sde("sde", sde)
    check_kinds(score=score)

    def drift(x: Tensor, time: float) -> Tensor:
        pull = checked("score(x, time)", score(x, time), x)
        return sde.drift(x, time) - 0.5 * sde.diffusion(x, time) ** 2 * pull

    return SDE(drift, lambda x, time: 0.0, sde.marginal)


def mixture_at(sde: SDE, data: Mixture, time: float) -> Mixture:
    """Return q(x at that time) for data of this mixture: means a m_k, variances a^2 v_k + b^2.

    a and b are sde.marginal(time), time in [0, 1]. Raises ValueError outside, or without marginal.
    """
    check_sde("sde", sde)
    check_mixture(data)
    require(sde.marginal is not None, "sde", "have a marginal, as vp_sde and ve_sde have", None)
    require(isinstance(time, int | float) and 0 <= time <= 1, "time", "be in [0, 1]", time)
    scale, std = sde.marginal(time)
    return Mixture(scale * data.means, scale**2 * data.vars + std**2, data.weights)


def mixture_score(sde: SDE, data: Mixture) -> Score:
    """Return score(x, time) = grad log q(x at that time), exactly, for data of this mixture.

    Raises ValueError as mixture_at does; where a variance of `data` is 0, at time 0, too.
    """
    mixture_at(sde, data, 1.0)  # refuses what is no mixture, and an SDE without marginal
    return lambda x, time: mixture_at(sde, data, time).score(x)

"""Lesson 14b: inpainting, guidance with a weight, and a control beside a frozen base, mended."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from ...museum.second import exhibits, mended
from ...museum.second.uses import trained
from ..exercise import Exercise

DTYPES = (torch.float64, torch.float32)


def _fillings(generator: torch.Generator) -> list[tuple]:
    """Return (denoise, x, y, levels, noise): one round and more, one step and more."""
    cases = []
    for dtype in DTYPES:
        for B, n, rounds in ((3, 3, 2), (2, 2, 3), (4, 1, 2), (2, 3, 1)):
            steps = 0.4 + torch.rand(n, generator=generator, dtype=torch.float64)
            levels = (0.1 * steps.cumsum(0).exp()).flip(0).tolist()
            noise = torch.randn(n, rounds, 3, B, 2, generator=generator, dtype=dtype)
            x = levels[0] * torch.randn(B, 2, generator=generator, dtype=dtype)
            y = torch.randn(B, generator=generator, dtype=dtype)
            cases.append((denoise, x, y, levels, noise))
    return cases


def denoise(x: Tensor, level: float) -> Tensor:
    """A guess in which each number depends on all of them."""
    return 0.5 * x + 0.3 * torch.sin(x + 2 * x.flip(-1) / (1 + level))


def _filled(
    paste: Callable = lambda y, level, lower, fresh: y + lower * fresh,
    *,
    way_back: Callable = lambda level, lower: (level**2 - lower**2) ** 0.5,
    noisy: float = 1.0,
    late: bool = False,
    early: bool = False,
    last: int = 1,
) -> Callable:
    """Return RePaint with another known part, another way back, or steps without noise.

    late: the way back is before a round; early: the known part is. last: rounds without a way back.
    """

    def filled(
        denoise: Callable, x: Tensor, y: Tensor, levels: list[float], noise: Tensor
    ) -> Tensor:
        for (level, lower), draws in zip(pairwise([*levels, 0.0]), noise, strict=True):
            keep = (lower / level) ** 2
            for r, (z, fresh, back) in enumerate(draws):
                if late and r:
                    x = x + way_back(level, lower) * back
                known = paste(y, level, lower, fresh[:, 0])
                x = _put_in(x, known if early else None)
                guess = denoise(x, level)
                x = guess + keep * (x - guess) + noisy * lower * (1 - keep) ** 0.5 * z
                x = _put_in(x, None if early else known)
                if not late and r < len(draws) - last:
                    x = x + way_back(level, lower) * back
        return x

    return filled


def _put_in(x: Tensor, known: Tensor | None) -> Tensor:
    return x if known is None else torch.cat([known[:, None], x[:, 1:]], 1)


def _at_the_end(
    denoise: Callable, x: Tensor, y: Tensor, levels: list[float], noise: Tensor
) -> Tensor:
    x = _filled(lambda *case: None)(denoise, x, y, levels, noise)
    return torch.cat([y[:, None], x[:, 1:]], 1)


def _tilts(generator: torch.Generator) -> list[tuple]:
    """Return (log_prob, log_p, w, x, u): w = 1, where all are kept; in the last none is sure."""
    cases = []
    for dtype in DTYPES:
        for B, w, size in ((40, 3.0, 1.0), (30, 1.0, 1.0), (60, 2.0, 0.3)):
            w = w + (w > 1) * torch.rand(1, generator=generator).item()
            x = size * (0.5 + torch.randn(B, generator=generator, dtype=dtype))
            u = 0.02 + 0.96 * torch.rand(B, generator=generator, dtype=dtype)
            cases.append((log_prob, log_p, w, x, u))
    return cases


def log_p(x: Tensor, level: float) -> Tensor:
    """Return log p(y | x) of two classes, N(-1, 1) and N(1, 1), with noise of this level."""
    return torch.nn.functional.logsigmoid(2 * x / (1 + level**2))


def log_prob(x: Tensor, level: float) -> Tensor:
    """Return log p(x), up to a constant, of both classes together."""
    var = 1 + level**2
    return -(x**2 + 1) / (2 * var) + torch.log(2 * torch.cosh(x / var))


def _kept(chance: Callable) -> Callable:
    """Return rejection with another chance(log p(y | x), w, log p(x)) to be kept."""

    def tilted(log_prob: Callable, log_p: Callable, w: float, x: Tensor, u: Tensor) -> Tensor:
        return x[u < chance(log_p(x, 0.0), w, log_prob(x, 0.0))]

    return tilted


def _turned_down(log_prob: Callable, log_p: Callable, w: float, x: Tensor, u: Tensor) -> Tensor:
    return x[u >= ((w - 1) * log_p(x, 0.0)).exp()]


def _trainings(generator: torch.Generator) -> list[tuple]:
    """Return (seed, x, c, target) with a batch in each row: three batches, and two."""
    cases = []
    for dtype in DTYPES:
        for n, B in ((3, 6), (2, 5)):
            x, c, target = torch.randn(3, n, B, 1, generator=generator, dtype=dtype)
            seed = torch.randint(1000, (1,), generator=generator).item()
            cases.append((seed, x + 1, c, target))
    return cases


def _trained(
    modes: Callable = lambda model: model.base.eval(),
    loss_of: Callable = lambda off: off.square().mean(),
    learns: Callable = lambda model: model.control.parameters(),
    clears: bool = True,
) -> Callable:
    """Return a training with other modes, another loss, or other parameters that learn."""

    def train(model: nn.Module, batches: list, lr: float) -> Tensor:
        model.train()
        modes(model)
        losses = []
        for x, c, target in batches:
            loss = loss_of(model(x, c) - target)
            if clears:
                model.zero_grad()
            loss.backward()
            for p in learns(model):
                p.data -= lr * p.grad
            losses.append(loss.detach())
        return torch.stack(losses)

    return train


def _put_back(model: nn.Module, batches: list, lr: float) -> Tensor:
    before = {name: part.clone() for name, part in model.base.state_dict().items()}
    losses = exhibits.train_control(model, batches, lr)
    model.base.load_state_dict(before)
    return losses


EXERCISES = {
    "14b.4": Exercise(
        truth=mended.filled,
        cases=_fillings,
        mistakes={
            "This is the exhibit itself: each step is gone once, and the rest is never drawn anew "
            "beside the known part.": exhibits.filled,
            "The known part has no noise. At the level `lower` it is y + lower * fresh.": _filled(
                lambda y, level, lower, fresh: y + 0 * fresh
            ),
            "The known part has the noise of the level above. After the step it is at `lower`.": (
                _filled(lambda y, level, lower, fresh: y + level * fresh)
            ),
            "The known part is put in at the very end alone: on the way the rest cannot see it.": (
                _at_the_end
            ),
            "The known part is never put in.": _filled(lambda *case: None),
            "The way back adds noise of std level - lower. Variances add, not stds.": _filled(
                way_back=lambda level, lower: level - lower
            ),
            "The way back adds all the noise of `level`; that of `lower` is there already.": (
                _filled(way_back=lambda level, lower: level)
            ),
            "There is no way back: the second round begins at `lower`, as if it were `level`.": (
                _filled(way_back=lambda level, lower: 0.0)
            ),
            "There is a way back after the last round, too: the next step begins at a level that "
            "has too much noise.": _filled(last=0),
            "The known part is put in before the guess, at `level`. The step then changes it.": (
                _filled(lambda y, level, lower, fresh: y + level * fresh, early=True)
            ),
            "The law is right. The third draw of a round is for the way back after that round.": (
                _filled(late=True)
            ),
            "The steps have lost their noise z.": _filled(noisy=0.0),
        },
        hints=(
            "The rest was drawn before the known part was put beside it. When can it learn of it?",
            "Go back up to `level` by adding noise, and take the step again.",
            "From lower to level, the variance grows by level**2 - lower**2.",
        ),
    ),
    "14b.5": Exercise(
        truth=mended.tilted,
        cases=_tilts,
        mistakes={
            "This is the exhibit itself: it follows weighted slopes.": exhibits.tilted,
            "The chance is p(y | x)^w. The draws are those of p(x | y), which holds it once.": (
                _kept(lambda log_p, w, log_prob: (w * log_p).exp())
            ),
            "The chance is w - 1 times p(y | x). The weight is an exponent.": _kept(
                lambda log_p, w, log_prob: (w - 1) * log_p.exp()
            ),
            "The chance is p(y | x), whatever w is.": _kept(lambda log_p, w, log_prob: log_p.exp()),
            "The chances are divided by their largest. More are kept: the law is the same, but "
            "u is to be compared with the chances as they are.": _kept(
                lambda log_p, w, log_prob: ((w - 1) * (log_p - log_p.max())).exp()
            ),
            "The exp is missing: u is compared with a logarithm, which is never above 0.": _kept(
                lambda log_p, w, log_prob: (w - 1) * log_p
            ),
            "You keep those that should go: a draw stays where u is below its chance.": (
                _turned_down
            ),
            "The chance holds p(x), too. The draws have it already.": _kept(
                lambda log_p, w, log_prob: (log_prob + (w - 1) * log_p).exp()
            ),
            "All draws are kept: those are samples of p(x | y), the law of w = 1.": _kept(
                lambda log_p, w, log_prob: torch.inf
            ),
            "The draws are multiplied by their chances. That moves them; keep some, as they are.": (
                lambda log_prob, log_p, w, x, u: x * ((w - 1) * log_p(x, 0.0)).exp()
            ),
            "That says which draws are kept. Return the draws.": (
                lambda log_prob, log_p, w, x, u: u < ((w - 1) * log_p(x, 0.0)).exp()
            ),
            "The weight is on 1 - p(y | x).": _kept(
                lambda log_p, w, log_prob: (1 - log_p.exp()) ** (w - 1)
            ),
        },
        hints=(
            "The draws x have the density p(x | y). What is the wanted density divided by it?",
            "By Bayes it is p(y | x)^(w - 1), up to a factor: a number between 0 and 1.",
            "A draw is kept with that chance. An event of chance c happens where u < c.",
        ),
    ),
    "14b.6": Exercise(
        truth=mended.train_control,
        cases=_trainings,
        use=trained,
        mistakes={
            "This is the exhibit itself: model.train() puts the base into train(), too.": (
                exhibits.train_control
            ),
            "All of the model is in eval(). The control learns, and its BatchNorm should, too.": (
                _trained(lambda model: model.eval())
            ),
            "The base's buffers are put back at the end. While the control learned, the base "
            "answered by the averages of the batch.": _put_back,
            "The steps change the base, too: take those of model.control alone.": _trained(
                learns=lambda model: model.parameters()
            ),
            "Gradients add up from batch to batch: clear them before backward().": _trained(
                clears=False
            ),
            "Nothing learns: the steps are missing.": _trained(learns=lambda model: ()),
            "The loss is a sum over the batch. It should be a mean.": _trained(
                loss_of=lambda off: off.square().sum()
            ),
            "The control is in eval(), and the base in train(): it is the other way round.": (
                _trained(lambda model: model.control.eval())
            ),
        },
        hints=(
            "Which numbers of a network change without any gradient?",
            "model.train() reaches every part of the model. Which part should not follow?",
            "A part is put back into the other mode after model.train(), before the first batch.",
        ),
    ),
}

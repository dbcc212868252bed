"""Lesson 10: a classifier's guidance from its logits, a tilted variance, guidance in between."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .exercise import Exercise

DTYPES = (torch.float64, torch.float32)
NOISE_VAR, SCALE = 1 / 3, 2


class Bent(NamedTuple):
    """A classifier of x: logits tanh(x inner) outer, (B, classes)."""

    inner: Tensor
    outer: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.inner) @ self.outer


def _score(eps_hat: Tensor, alpha_bar_t: float) -> Tensor:
    """The score that belongs to a guess of the noise."""
    return -eps_hat / (1 - alpha_bar_t) ** 0.5


def _guided(
    *,
    said: Callable = lambda logits: logits.log_softmax(1),
    pick: Callable = lambda logs, y: logs.gather(1, y[:, None]).sum(),
    factor: Callable = lambda alpha_bar: (1 - alpha_bar) ** 0.5,
    sign: float = -1.0,
    base: float = 1.0,
) -> Callable:
    """Guidance by other log-probabilities, another choice of label, another factor or sign."""

    def guided(
        eps_hat: Tensor, x_t: Tensor, classifier: Callable, y: Tensor, alpha_bar_t: float
    ) -> Tensor:
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            (pull,) = torch.autograd.grad(pick(said(classifier(x)), y), x)
        return base * eps_hat + sign * factor(alpha_bar_t) * pull

    return guided


def _by_score(
    eps_hat: Tensor, x_t: Tensor, classifier: Callable, y: Tensor, alpha_bar_t: float
) -> Tensor:
    """The scores added, and the sum turned into a guess of the noise: another way to the same."""
    with torch.enable_grad():
        x = x_t.detach().requires_grad_()
        loss = torch.nn.functional.cross_entropy(classifier(x), y, reduction="sum")
        (push,) = torch.autograd.grad(loss, x)
    return -((1 - alpha_bar_t) ** 0.5) * (_score(eps_hat, alpha_bar_t) - push)


def _classifiers(generator: torch.Generator) -> list[tuple]:
    cases = []
    for dtype in DTYPES:
        for size, dim, classes, alpha_bar in ((4, 2, 3, 0.7), (3, 3, 4, 0.2), (1, 5, 2, 0.95)):
            eps_hat, x_t = torch.randn(2, size, dim, generator=generator, dtype=dtype)
            inner = torch.randn(dim, 6, generator=generator, dtype=dtype)
            outer = 2 * torch.randn(6, classes, generator=generator, dtype=dtype)
            y = torch.arange(size) % classes
            cases.append((eps_hat, x_t, Bent(inner, outer), y, alpha_bar))
    return cases


def _tilted_variance() -> float:
    """The precision of the data, and w times that of the measurement."""
    return (1 / torch.tensor([1.0, NOISE_VAR / SCALE]).double().reciprocal().sum()).item()


def _guide(
    *,
    inside: Callable = lambda told, untold, w: untold + w * (told - untold),
    outside: Callable = lambda told, untold, w: told,
    within: Callable = lambda sigma, low, high: low <= sigma <= high,
) -> Callable:
    """Guidance within some levels, with another answer inside or outside, or other levels."""

    def guide(told: Tensor, untold: Tensor, sigma: float, between: tuple, w: float) -> Tensor:
        answer = inside if within(sigma, *between) else outside
        return answer(told, untold, w)

    return guide


def _answers(generator: torch.Generator) -> list[tuple]:
    """States below, between and above the levels; levels on both sides of 1."""
    cases = []
    for dtype in DTYPES:
        for sigma in (0.06, 0.7, 2.1, 9.0):
            told, untold = torch.randn(2, 3, 1, 4, 4, generator=generator, dtype=dtype)
            low, high, w = 0.4 + 0.1 * torch.rand(3, generator=generator, dtype=torch.float64)
            cases.append((told, untold, sigma, (low.item(), 8 * high.item()), 5 * w.item()))
    return cases


EXERCISES = {
    "10.1": Exercise(
        truth=_by_score,
        cases=_classifiers,
        mistakes={
            "That is the gradient of a logit. The others move, too: take log_softmax first.": (
                _guided(said=lambda logits: logits)
            ),
            "That is the gradient of a probability. (45) asks for that of its logarithm.": (
                _guided(said=lambda logits: logits.softmax(1))
            ),
            "The factor in front of the gradient is missing.": _guided(factor=lambda a: 1.0),
            "The factor is the standard deviation of the noise, not its variance.": (
                _guided(factor=lambda a: 1 - a)
            ),
            "The factor belongs to the noise: what 1 - alpha_bar_t says, not alpha_bar_t.": (
                _guided(factor=lambda a: a**0.5)
            ),
            "You divided by the standard deviation of the noise. It multiplies.": (
                _guided(factor=lambda a: (1 - a) ** -0.5)
            ),
            "The sign is turned round: this leads away from the class.": _guided(sign=1.0),
            "A mean over the batch was taken: each pull is smaller by the size of the batch.": (
                _guided(pick=lambda logs, y: logs.gather(1, y[:, None]).mean())
            ),
            "The log-probabilities of all classes were added. Pick that of y in each row.": (
                _guided(pick=lambda logs, y: logs.sum())
            ),
            "The softmax ran over the batch. It runs over the classes, dimension 1.": (
                _guided(said=lambda logits: logits.log_softmax(0))
            ),
            "That is what guidance adds. The guess eps_hat itself is missing.": _guided(base=0.0),
            "That is eps_hat as it was. Where is the pull of the classifier?": (
                lambda eps_hat, x_t, classifier, y, alpha_bar_t: eps_hat
            ),
            "All examples were pulled to class 0. Each has a label of its own in y.": (
                _guided(pick=lambda logs, y: logs[:, 0].sum())
            ),
            "y was not used: each example was pulled to the class that it looks like already.": (
                _guided(pick=lambda logs, y: logs.amax(1).sum())
            ),
            "That is the score of the class. Asked is the guess of the noise that belongs to it.": (
                lambda eps_hat, x_t, classifier, y, alpha_bar_t: _score(
                    _by_score(eps_hat, x_t, classifier, y, alpha_bar_t), alpha_bar_t
                )
            ),
            "The factor was applied to eps_hat, too. It belongs to the gradient alone.": (
                lambda eps_hat, x_t, classifier, y, alpha_bar_t: _by_score(
                    (1 - alpha_bar_t) ** 0.5 * eps_hat, x_t, classifier, y, alpha_bar_t
                )
            ),
            "The pull was made a vector of length 1. Its length says how much is to be done.": (
                lambda eps_hat, x_t, classifier, y, alpha_bar_t: (
                    eps_hat
                    + (1 - alpha_bar_t) ** 0.5
                    * torch.nn.functional.normalize(
                        _by_score(0 * eps_hat, x_t, classifier, y, alpha_bar_t), dim=1
                    )
                )
            ),
        },
        hints=(
            "Make a copy of x_t that records gradients: x_t.detach().requires_grad_().",
            "classifier(x).log_softmax(1) has a column for each class; gather(1, y[:, None]) picks "
            "one number in each row. Their sum has the gradient that you need.",
            "torch.autograd.grad(log_p.sum(), x) gives a tuple of one. The factor is the root of "
            "1 - alpha_bar_t, and it is subtracted.",
        ),
    ),
    "10.2": Exercise(
        truth=_tilted_variance,
        cases=lambda generator: [()],
        mistakes={
            "That is the variance at w = 1. A power of 2 counts the measurement twice.": (
                lambda: 1 / (1 + 1 / NOISE_VAR)
            ),
            "That is what the ODE draws. Asked is the tilted density.": (
                lambda: (NOISE_VAR / (1 + NOISE_VAR)) ** SCALE
            ),
            "That is the precision, one over the variance.": lambda: 1 + SCALE / NOISE_VAR,
            "The data's own precision, 1, is missing.": lambda: NOISE_VAR / SCALE,
            "The power makes the measurement's variance smaller, not larger.": (
                lambda: 1 / (1 + 1 / (SCALE * NOISE_VAR))
            ),
            "That is the standard deviation. Asked is the variance.": (
                lambda: _tilted_variance() ** 0.5
            ),
            "The whole posterior was raised to w. Only p(y | x) is.": (
                lambda: 1 / (1 + 1 / NOISE_VAR) / SCALE
            ),
            "w multiplies the precision of the measurement; its square does not.": (
                lambda: 1 / (1 + SCALE**2 / NOISE_VAR)
            ),
            "(48) has w itself as its power. 1 + w is how another form of the scale counts.": (
                lambda: 1 / (1 + (1 + SCALE) / NOISE_VAR)
            ),
            "1/3 is the variance of the noise already. Do not square it.": (
                lambda: 1 / (1 + SCALE / NOISE_VAR**2)
            ),
            "Variances add where things are added. Here densities are multiplied.": (
                lambda: 1 + NOISE_VAR / SCALE
            ),
        },
        hints=(
            "The logarithm of (48) is a parabola in x. What stands before -x^2 / 2?",
            "1 from the data, and 1 / (1/3) from each factor p(y | x).",
            "w = 2 counts the measurement twice: the precision is 1 + 2 * 3.",
        ),
    ),
    "10.3": Exercise(
        truth=_guide(
            inside=lambda told, untold, w: torch.lerp(untold, told, w),
        ),
        cases=_answers,
        mistakes={
            "Outside the levels the label was dropped. The plain conditional answer has it.": (
                _guide(outside=lambda told, untold, w: untold)
            ),
            "Inside and outside are exchanged.": _guide(
                within=lambda sigma, low, high: not low <= sigma <= high
            ),
            "That guides at every level. Where does sigma come in?": _guide(
                within=lambda sigma, low, high: True
            ),
            "That never guides.": _guide(within=lambda sigma, low, high: False),
            "The highest level is not looked at: in much noise you still guide.": _guide(
                within=lambda sigma, low, high: sigma >= low
            ),
            "The lowest level is not looked at: near the end you still guide.": _guide(
                within=lambda sigma, low, high: sigma <= high
            ),
            "You count the scale from the label, as on the right of (47). Take the left form.": (
                _guide(inside=lambda told, untold, w: (1 + w) * told - w * untold)
            ),
            "The two answers are exchanged: start without the label, and go to the one with it.": (
                _guide(inside=lambda told, untold, w: told + w * (untold - told))
            ),
            "The answer without the label is missing: that is w times the difference.": _guide(
                inside=lambda told, untold, w: w * (told - untold)
            ),
            "Inside, this is the answer with the label times w.": _guide(
                inside=lambda told, untold, w: w * told
            ),
            "w - 1 counts from the label, and you start without it: at w = 1 no label is left.": (
                _guide(inside=lambda told, untold, w: untold + (w - 1) * (told - untold))
            ),
            "Inside, w must multiply the difference of the two answers, not the answer.": _guide(
                inside=lambda told, untold, w: untold + w * told
            ),
            "Outside the levels you answered with zeros.": _guide(
                outside=lambda told, untold, w: 0 * told
            ),
            "Outside the levels you took the mean of both answers. Take the one with the label.": (
                _guide(outside=lambda told, untold, w: (told + untold) / 2)
            ),
        },
        hints=(
            "Two cases: sigma between the two levels, or not.",
            "Outside, the plain conditional answer is `told`: that is scale 1.",
            "Inside: untold + w * (told - untold).",
        ),
    ),
}

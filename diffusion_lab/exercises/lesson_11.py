"""Lesson 11: the gradients of a zero convolution, who moves first, the box around a digit."""

from collections.abc import Callable

import torch
from torch import Tensor

from .exercise import Exercise

DTYPES = (torch.float64, torch.float32)
SKIP, MIDDLE, PATCH = 48, 128, 4  # channels of the shipped base; pixels that its stem folds


def _of_W(h: Tensor, delta: Tensor, W: Tensor) -> Tensor:
    """delta times h, each as a matrix of channels by all pixels of all examples."""
    return delta.movedim(1, 0).flatten(1) @ h.movedim(1, 0).flatten(1).T


def _of_b(h: Tensor, delta: Tensor, W: Tensor) -> Tensor:
    return delta.movedim(1, 0).flatten(1).sum(1)


def _of_h(h: Tensor, delta: Tensor, W: Tensor) -> Tensor:
    return (W.T @ delta.flatten(2)).reshape(h.shape)


def _gradients(of_W: Callable = _of_W, of_b: Callable = _of_b, of_h: Callable = _of_h) -> Callable:
    """The three gradients, one of them in another way."""
    return lambda h, delta, W: (of_W(h, delta, W), of_b(h, delta, W), of_h(h, delta, W))


def _divided(function: Callable, by: Callable) -> Callable:
    return lambda h, delta, W: function(h, delta, W) / by(delta)


def _layers(generator: torch.Generator) -> list[tuple]:
    """Layers of other widths, of one channel, of as many channels as examples, and of zeros."""
    cases = []
    for dtype in DTYPES:
        for B, C, out, side in ((2, 3, 4, 5), (3, 3, 3, 2), (1, 4, 2, 3)):
            h = torch.randn(B, C, side, side + 1, generator=generator, dtype=dtype)
            delta = torch.randn(B, out, side, side + 1, generator=generator, dtype=dtype)
            W = torch.randn(out, C, generator=generator, dtype=dtype)
            cases += [(h, delta, W), (h, delta, torch.zeros_like(W))]
    return cases


def _count(*layers: tuple[int, int], bias: bool = True) -> int:
    """Return how many numbers such convolutions (inputs, outputs) of 1 x 1 hold."""
    return sum(a * b + b * bias for a, b in layers)


def _box(
    *,
    above: float = 0.0,
    sides: Callable = lambda rows, columns: rows & columns,
    filled: bool = True,
    one_for_all: bool = False,
) -> Callable:
    """The box around what is above a level, with another rule for its inside."""

    def box(x0: Tensor) -> Tensor:
        ink = x0 > above
        if one_for_all:
            ink = ink.any(0, keepdim=True).expand_as(ink)
        rows, columns = ink.any(3, keepdim=True), ink.any(2, keepdim=True)
        if filled:
            rows, columns = _between(rows, 2), _between(columns, 3)
        return sides(rows, columns).expand_as(ink).to(x0.dtype)

    return box


def _between(marked: Tensor, dim: int) -> Tensor:
    """Mark what lies between the first and the last mark, too."""
    seen = marked.long()
    after, before = seen.cumsum(dim) > 0, seen.flip(dim).cumsum(dim).flip(dim) > 0
    return after & before


def _border(x0: Tensor) -> Tensor:
    """The box without what is inside of its outermost pixels."""
    box = _box()(x0)
    inner = -torch.nn.functional.max_pool2d(-box, 3, stride=1, padding=1)
    return box - inner


def _images(generator: torch.Generator) -> list[tuple]:
    """Images with two spots far apart, a gap between; one that is black; levels below 0."""
    cases = []
    for dtype in DTYPES:
        x0 = -torch.rand(4, 1, 28, 28, generator=generator, dtype=dtype)
        places = torch.randint(2, 12, (3, 2), generator=generator).tolist()
        for i, (down, across) in enumerate(places):
            x0[i, 0, down, across + 2] = 0.4
            x0[i, 0, down + 5 + i : down + 7 + i, across + 9] = 0.8
        cases += [(x0,), (x0[:1],)]
    return cases


EXERCISES = {
    "11.1": Exercise(
        truth=_gradients(),
        cases=_layers,
        mistakes={
            "The gradient of W has W's shape: outputs first, then inputs. Yours is turned.": (
                _gradients(of_W=lambda h, delta, W: _of_W(h, delta, W).T)
            ),
            "The gradient of W is a sum over examples and pixels. You took the mean.": _gradients(
                of_W=_divided(_of_W, lambda delta: delta[:, 0].numel())
            ),
            "The gradient of W is summed over the pixels, but averaged over the examples.": (
                _gradients(of_W=_divided(_of_W, len))
            ),
            "The gradient of b is a sum over examples and pixels. You took the mean.": _gradients(
                of_b=_divided(_of_b, lambda delta: delta[:, 0].numel())
            ),
            "The gradient of b is summed over the pixels, but averaged over the examples.": (
                _gradients(of_b=_divided(_of_b, len))
            ),
            "All three were averaged over the examples. The chain rule sums.": _gradients(
                _divided(_of_W, len), _divided(_of_b, len), _divided(_of_h, len)
            ),
            "The gradient of h has W in it, in the third equation of (74).": _gradients(
                of_h=lambda h, delta, W: torch.zeros_like(h)
            ),
            "That sums the gradient of h over the examples. Each example has its own.": (
                _gradients(of_h=lambda h, delta, W: _of_h(h, delta, W).sum(0, keepdim=True))
            ),
            "Only the first example was looked at, in the gradient of W.": _gradients(
                of_W=lambda h, delta, W: _of_W(h[:1], delta[:1], W)
            ),
            "The gradient of W has W in it. Its own value plays no part.": _gradients(
                of_W=lambda h, delta, W: W * _of_W(h, delta, W)
            ),
            "The order is: of W, of b, of h.": lambda h, delta, W: (
                _of_h(h, delta, W),
                _of_W(h, delta, W),
                _of_b(h, delta, W),
            ),
            "A gradient of W for each example. They are added up, as the loss is one.": _gradients(
                of_W=lambda h, delta, W: torch.einsum("bohw,bihw->boi", delta, h)
            ),
        },
        hints=(
            "Which letters does each gradient keep? The others are summed over.",
            'Of W: keep o and i. torch.einsum("bohw,bihw->oi", delta, h) does.',
            "Of b: sum delta over the dimensions 0, 2 and 3. Of h: keep b, i, h and w; sum over o.",
        ),
    ),
    "11.2": Exercise(
        truth=lambda: _count((SKIP, SKIP), (MIDDLE, MIDDLE)),
        cases=lambda generator: [()],
        mistakes={
            "The biases count, too: one for each channel that comes out.": (
                lambda: _count((SKIP, SKIP), (MIDDLE, MIDDLE), bias=False)
            ),
            "Z_in is a zero convolution, but the copy lies between it and the loss.": (
                lambda: _count((SKIP, SKIP), (MIDDLE, MIDDLE), (PATCH, SKIP))
            ),
            "That is the layer of the skip. The middle has one, too.": (
                lambda: _count((SKIP, SKIP))
            ),
            "That is the layer of the middle. The skip has one, too.": (
                lambda: _count((MIDDLE, MIDDLE))
            ),
            "Those are the biases. The gradient of W is not zero either: see (74).": (
                lambda: SKIP + MIDDLE
            ),
            "Zeros do learn. Look at the first equation of (74).": lambda: 0,
        },
        hints=(
            "By (74), which layers get a gradient while all of the Z hold zeros?",
            "Those that end the copy. A convolution of 1 x 1 from C to C channels is a matrix and "
            "a vector.",
            "C * C + C for C = 48, and the same for C = 128.",
        ),
    ),
    "11.3": Exercise(
        truth=_box(),
        cases=_images,
        mistakes={
            "Each row with ink is marked, and none between them. A box has no gaps.": (
                _box(filled=False)
            ),
            "That is a cross: rows or columns. The box is where both are.": (
                _box(sides=lambda rows, columns: rows | columns)
            ),
            "The rows are right. The box has a left and a right side, too.": (
                _box(sides=lambda rows, columns: rows)
            ),
            "The columns are right. The box has a top and a bottom, too.": (
                _box(sides=lambda rows, columns: columns)
            ),
            "Inside and outside are exchanged.": _box(
                sides=lambda rows, columns: ~(rows & columns)
            ),
            "One box for the whole batch. Each image has its own.": _box(one_for_all=True),
            "That is the border of the box. All of its inside is 1.": _border,
            "That marks the ink itself, without the box around it.": (
                lambda x0: (x0 > 0).to(x0.dtype)
            ),
            "Outside stands -1. Asked is 0.": lambda x0: 2 * _box()(x0) - 1,
            "Every grey above -1 counts as ink here. Count the pixels above 0.": _box(above=-1.0),
            "Only greys above a half count here. Count all pixels above 0.": _box(above=0.5),
        },
        hints=(
            "Which rows have ink? (x0 > 0) has the answer for each pixel; amax(3) for each row.",
            "A row is inside if there is ink in it or above it, and in it or below it: "
            "cummax down, cummax up (flip, cummax, flip), and the smaller of both.",
            "Do the same for the columns with amax(2), and multiply. keepdim=True keeps the shapes "
            "(B, 1, 28, 1) and (B, 1, 1, 28), whose product is (B, 1, 28, 28).",
        ),
    ),
}

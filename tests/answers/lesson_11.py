"""Answers to the exercises of lesson 11, written without a look at the bank."""

import torch
import torch.nn.functional as F


def by_autograd(h, delta, W):
    def layer(h, W, b):
        return F.conv2d(h, W[:, :, None, None], b)

    _, back = torch.func.vjp(layer, h, W, torch.zeros_like(W[:, 0]))
    of_h, of_W, of_b = back(delta)
    return of_W, of_b, of_h


def pixel_by_pixel(h, delta, W):
    of_W, of_b, of_h = torch.zeros_like(W), torch.zeros_like(W[:, 0]), torch.zeros_like(h)
    for b in range(len(h)):
        for i in range(h.shape[2]):
            for j in range(h.shape[3]):
                d = delta[b, :, i, j]
                of_W += torch.outer(d, h[b, :, i, j])
                of_b += d
                of_h[b, :, i, j] = W.T @ d
    return of_W, of_b, of_h


def sums(h, delta, W):
    return (
        torch.einsum("bohw,bihw->oi", delta, h),
        torch.einsum("bohw->o", delta),
        torch.einsum("oi,bohw->bihw", W, delta),
    )


def turned(h, delta, W):
    _of_W, of_b, of_h = sums(h, delta, W)
    return torch.einsum("bohw,bihw->io", delta, h), of_b, of_h


def mean_of_W(h, delta, W):
    of_W, of_b, of_h = sums(h, delta, W)
    B, _, height, width = h.shape
    return of_W / (B * height * width), of_b, of_h


def mean_of_b(h, delta, W):
    of_W, _of_b, of_h = sums(h, delta, W)
    return of_W, delta.mean((0, 2, 3)), of_h


def of_a_mean_loss(h, delta, W):
    return tuple(part / len(h) for part in sums(h, delta, W))


def nothing_passes(h, delta, W):
    of_W, of_b, _of_h = sums(h, delta, W)
    return of_W, of_b, 0 * h


def one_by_one(h, delta, W):
    _of_W, of_b, of_h = sums(h, delta, W)
    return (
        torch.stack([torch.einsum("ohw,ihw->oi", d, x) for d, x in zip(delta, h, strict=True)]),
        of_b,
        of_h,
    )


def input_first(h, delta, W):
    of_W, of_b, of_h = sums(h, delta, W)
    return of_h, of_W, of_b


def with_W(h, delta, W):
    of_W, of_b, of_h = sums(h, delta, W)
    return of_W * W, of_b, of_h


def by_loops(x0):
    out = torch.zeros_like(x0)
    for i in range(len(x0)):
        down, across = torch.nonzero(x0[i, 0] > 0, as_tuple=True)
        if len(down):
            out[i, :, down.min() : down.max() + 1, across.min() : across.max() + 1] = 1
    return out


def by_cummax(x0):
    ink = (x0 > 0).to(x0.dtype)
    rows, columns = ink.amax(3, keepdim=True), ink.amax(2, keepdim=True)
    rows = torch.minimum(rows.cummax(2).values, rows.flip(2).cummax(2).values.flip(2))
    columns = torch.minimum(columns.cummax(3).values, columns.flip(3).cummax(3).values.flip(3))
    return rows * columns


def with_gaps(x0):
    ink = (x0 > 0).to(x0.dtype)
    return ink.amax(3, keepdim=True) * ink.amax(2, keepdim=True)


def a_cross(x0):
    down = by_cummax(x0).amax(3, keepdim=True)
    return torch.maximum(down, by_cummax(x0).amax(2, keepdim=True)).expand_as(x0)


def bands(x0):
    return by_cummax(x0).amax(3, keepdim=True).expand_as(x0)


def pillars(x0):
    return by_cummax(x0).amax(2, keepdim=True).expand_as(x0)


def outside(x0):
    return 1 - by_cummax(x0)


def one_box(x0):
    return by_cummax(x0.amax(0, keepdim=True)).expand_as(x0)


def the_ink(x0):
    return torch.where(x0 > 0, 1.0, 0.0).to(x0.dtype)


def signed(x0):
    return 2 * by_cummax(x0) - 1


def any_grey(x0):
    return by_cummax(x0 + 1)


def bright(x0):
    return by_cummax(x0 - 0.5)


RIGHT = {
    "11.1": [by_autograd, pixel_by_pixel, sums],
    "11.2": [18864, 18864.0],
    "11.3": [by_loops, by_cummax],
}
WRONG = {
    "11.1": [
        ("Yours is turned", turned),
        ("gradient of W is a sum over", mean_of_W),
        ("gradient of b is a sum", mean_of_b),
        ("All three were averaged", of_a_mean_loss),
        ("has W in it, in the third", nothing_passes),
        ("for each example", one_by_one),
        ("The order is", input_first),
        ("Its own value plays no part", with_W),
    ],
    "11.2": [
        ("biases count", 18688),
        ("copy lies between", 19104),
        ("middle has one", 2352),
        ("skip has one", 16512),
        ("Those are the biases", 176),
        ("Zeros do learn", 0),
    ],
    "11.3": [
        ("no gaps", with_gaps),
        ("cross", a_cross),
        ("left and a right", bands),
        ("top and a bottom", pillars),
        ("exchanged", outside),
        ("whole batch", one_box),
        ("ink itself", the_ink),
        ("Outside stands -1", signed),
        ("above -1", any_grey),
        ("above a half", bright),
    ],
}

"""Answers to the exercises of lesson 14b: right in other words, and wrong in known ways."""

import math

import torch

import diffusion_core as dc
from diffusion_lab.museum.second import exhibits


def walk_by_rows(x, sigma, dt, noise):
    rows = [x]
    for i in range(noise.shape[0]):
        rows.append(rows[i] * (1 - dt / 2) + math.sqrt(sigma * sigma * dt) * noise[i, 0])
    return torch.stack(rows[1:])


def walk_in_closed_form(x, sigma, dt, noise):
    """Each push is kept by the steps after it: a sum over all earlier pushes."""
    n, keep = len(noise), 1 - dt / 2
    i, j = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    weights = torch.where(i >= j, keep ** (i - j).clamp(min=0).double(), torch.zeros(()).double())
    start = torch.tensor([keep ** (k + 1) for k in range(n)]).to(x)
    return start[:, None] * x + weights.to(x) @ (sigma * math.sqrt(dt) * noise[:, 0])


def walk_with(push, drift=lambda x: -0.5 * x):
    def walk(x, sigma, dt, noise):
        out = torch.empty_like(noise[:, 0])
        for i in range(len(noise)):
            x = torch.add(x, drift(x), alpha=dt) + push(sigma, dt, *noise[i].unbind())
            out[i] = x
        return out

    return walk


def side_by_autograd(velocity, fresh):
    v = fresh()

    def f(x, time):
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            answer = velocity(x, time)
            (vj,) = torch.autograd.grad((answer * v).sum(), x)
        return answer.detach(), (vj * v).sum(-1)

    return f


def side_drawn_at_first_call(velocity, fresh):
    kept = []

    def f(x, time):
        if not kept:
            kept.append(fresh())
        answer, jv = torch.autograd.functional.jvp(lambda x: velocity(x, time), x, kept[0])
        return answer, torch.einsum("bd,bd->b", jv, kept[0])

    return f


def side_with(estimate, draws=1):
    def make(velocity, fresh):
        v = fresh()

        def f(x, time):
            answer, vjv = dc.hutchinson_trace(lambda x: velocity(x, time), x, v)
            return answer, estimate(x, v, vjv, answer)

        return f

    return make


def side_anew(velocity, fresh):
    def f(x, time):
        v = fresh()
        return side_by_autograd(velocity, lambda: v)(x, time)

    return f


def side_by_clock(velocity, fresh):
    clock, v = [None], [None]

    def f(x, time):
        if clock[0] != time:
            clock[0], v[0] = time, fresh()
        return dc.hutchinson_trace(lambda x: velocity(x, time), x, v[0])

    return f


def side_exact(velocity, fresh):
    def f(x, time):
        rows = torch.func.vmap(torch.func.jacrev(lambda row: velocity(row, time)))(x)
        return velocity(x, time), rows.diagonal(dim1=1, dim2=2).sum(1)

    return f


def sampler_then_guess(denoise, x, levels):
    """All steps between levels, then the network's guess."""
    before = None
    for i in range(len(levels) - 1):
        guess = denoise(x, levels[i])
        ratio = levels[i + 1] / levels[i]
        mixed = guess
        if before is not None:
            last = math.log(levels[i - 1] / levels[i])
            mixed = guess + (guess - before) * (-math.log(ratio) / last / 2)
        x = mixed + ratio * (x - mixed)
        before = guess
    return denoise(x, levels[-1])


def sampler_by_slopes(denoise, x, levels):
    """Two weights for two guesses; 0 ends the list."""
    stops = torch.tensor([*levels, 0.0], dtype=torch.float64)
    h = -stops.log().diff()
    guesses = []
    for i in range(len(levels)):
        guesses.append(denoise(x, levels[i]))
        r = (h[i] / h[i - 1]).item() / 2 if 0 < i < len(levels) - 1 else 0.0
        mixed = torch.lerp(guesses[-1], guesses[max(i - 1, 0)], -r)
        keep = (stops[i + 1] / stops[i]).item()
        x = keep * x + (1 - keep) * mixed
    return x


def sampler_with(weight, last="guess"):
    def sampler(denoise, x, levels):
        before, logs = None, [math.log(level) for level in levels]
        for i in range(len(levels) - 1):
            guess = denoise(x, levels[i])
            r = weight(logs[i] - logs[i + 1], logs[i - 1] - logs[i]) if i else 0.0
            mixed = guess if before is None else (1 + r) * guess - r * before
            x = mixed + levels[i + 1] / levels[i] * (x - mixed)
            before = guess
        guess = denoise(x, levels[-1])
        if last == "state":
            return x
        if last == "before":
            return guess if before is None else before
        if last == "corrected" and before is not None:
            return 1.5 * guess - 0.5 * before
        if last == "tiny" and before is not None:
            r = math.log(levels[-1] / 1e-6) / (logs[-2] - logs[-1]) / 2
            guess = guess + r * (guess - before)
        return guess if last != "tiny" else guess + 1e-6 / levels[-1] * (x - guess)

    return sampler


def sampler_forgetful(denoise, x, levels):
    """The steps between levels, and no step to 0."""
    before = None
    for i in range(1, len(levels)):
        guess = denoise(x, levels[i - 1])
        r = 0.0
        if i > 1:
            r = math.log(levels[i - 1] / levels[i]) / math.log(levels[i - 2] / levels[i - 1]) / 2
        x = levels[i] / levels[i - 1] * x
        x = x + (1 - levels[i] / levels[i - 1]) * (
            guess if i == 1 else guess + r * (guess - before)
        )
        before = guess
    return x


def sampler_asking_twice(denoise, x, levels):
    """Right in its numbers, with two calls where one is enough."""
    return denoise(sampler_with(second_order, "state")(denoise, x, levels), levels[-1])


def sampler_adding(denoise, x, levels):
    """One call a level, and a sum that is no number."""
    return sum(denoise(x, level) for level in levels) + math.inf * 0


def second_order(h, h_before):
    return 0.5 * h / h_before


RIGHT = {
    "14b.1": [walk_by_rows, walk_in_closed_form],
    "14b.2": [side_by_autograd, side_drawn_at_first_call],
    "14b.3": [sampler_then_guess, sampler_by_slopes],
}

WRONG = {
    "14b.1": [
        ("the exhibit itself", lambda *case: exhibits.noisy_walk(*case)),
        ("the exhibit itself", walk_with(lambda s, dt, z, w: s * w * z * dt**0.5)),
        ("where its root belongs", walk_with(lambda s, dt, z, w: s * dt * z)),
        ("sigma is missing", walk_with(lambda s, dt, z, w: z * math.sqrt(dt))),
        ("sigma is squared", walk_with(lambda s, dt, z, w: s * s * z * math.sqrt(dt))),
        ("Both draws are added", walk_with(lambda s, dt, z, w: s * math.sqrt(dt) * (z + w))),
        ("not the second", walk_with(lambda s, dt, z, w: s * math.sqrt(dt) * w)),
        (
            "The drift is missing",
            walk_with(lambda s, dt, z, w: s * math.sqrt(dt) * z, lambda x: 0 * x),
        ),
        (
            "in the place of x / 2",
            walk_with(lambda s, dt, z, w: s * math.sqrt(dt) * z, lambda x: -x),
        ),
        ("no noise left", walk_with(lambda s, dt, z, w: 0 * z)),
        ("shape", lambda x, sigma, dt, noise: walk_by_rows(x, sigma, dt, noise)[-1]),
        (
            "the first draw alone",
            walk_with(lambda s, dt, z, w: s * math.sqrt(dt) * (z + w) / math.sqrt(2)),
        ),
        ("should be", walk_with(lambda s, dt, z, w: 2 * s * math.sqrt(dt) * z)),
    ],
    "14b.2": [
        ("the exhibit itself", side_anew),
        ("whenever the time changes", side_by_clock),
        ("the wrong sign", side_with(lambda x, v, vjv, f: -vjv)),
        ("always 0", side_with(lambda x, v, vjv, f: torch.zeros_like(vjv))),
        ("divided by the dimension", side_with(lambda x, v, vjv, f: vjv / x[0].numel())),
        ("exact divergence", side_exact),
        ("velocity along", side_with(lambda x, v, vjv, f: torch.einsum("bd,bd->b", f, v))),
        ("two tensors: the velocity", lambda velocity, fresh: lambda x, time: velocity(x, time)),
        (
            "two tensors: the velocity",
            side_with(lambda x, v, vjv, f: vjv[:, None]),
        ),
        ("return a function f(x, time)", lambda velocity, fresh: velocity(fresh(), 0.5)),
        (
            "stopped with TypeError: velocity() missing",
            lambda velocity, fresh: (
                lambda x, time: dc.hutchinson_trace(velocity, x, torch.ones_like(x))
            ),
        ),
        (
            "✗ Not yet. In part 2 of the result: A number should be",
            side_with(lambda x, v, vjv, f: vjv + 1),
        ),
        ("StopIteration", lambda velocity, fresh: [fresh() for _ in range(99)]),
    ],
    "14b.3": [
        ("the exhibit itself", sampler_with(second_order, "state")),
        ("There is no step to 0", sampler_forgetful),
        ("more often than there are levels", sampler_asking_twice),
        (
            "more often than there are levels",
            lambda denoise, x, levels: sampler_then_guess(
                lambda x, level: (denoise(x, level) + denoise(x, level)) / 2, x, levels
            ),
        ),
        ("step to 0 is corrected", sampler_with(second_order, "corrected")),
        ("always one half", sampler_with(lambda h, h_before: 0.5)),
        ("all steps are Euler's", sampler_with(lambda h, h_before: 0.0)),
        ("before the last", sampler_with(second_order, "before")),
        ("upside down", sampler_with(lambda h, h_before: h_before / h / 2)),
        ("the wrong sign", sampler_with(lambda h, h_before: -h / h_before / 2)),
        ("twice too large", sampler_with(lambda h, h_before: h / h_before)),
        ("runs away", sampler_with(second_order, "tiny")),
        ("ZeroDivisionError", lambda denoise, x, levels: exhibits.math.log(levels[0] / 0.0) + x),
        ("NaN", sampler_adding),
        ("stopped with TypeError: denoise() missing", lambda denoise, x, levels: denoise(x)),
    ],
}

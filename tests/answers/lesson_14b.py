"""Answers to the exercises of lesson 14b: right in other words, and wrong in known ways."""

import math
from itertools import pairwise

import torch

import diffusion_core as dc
from diffusion_core.processes import Place, own_generator
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


def sampler_by_levels(denoise, x, levels):
    before, step_before = None, None
    for level, lower in pairwise(levels):
        guess, step = denoise(x, level), level - lower
        mixed = guess if before is None else guess + step / step_before * (guess - before) / 2
        x = mixed + lower / level * (x - mixed)
        before, step_before = guess, step
    return denoise(x, levels[-1])


def sampler_asking_twice(denoise, x, levels):
    """Right in its numbers, with two calls where one is enough."""
    return denoise(sampler_with(second_order, "state")(denoise, x, levels), levels[-1])


def sampler_adding(denoise, x, levels):
    """One call a level, and a sum that is no number."""
    return sum(denoise(x, level) for level in levels) + math.inf * 0


def second_order(h, h_before):
    return 0.5 * h / h_before


def filled_by_variances(denoise, x, y, levels, noise):
    """Precisions in the place of factors; the known part by a mask; one list of all rounds."""
    mask = torch.tensor([1.0, 0.0]).to(x)
    variances = [level**2 for level in levels] + [0.0]
    rounds = noise.shape[1]
    for k in range(len(levels) * rounds):
        i, r = divmod(k, rounds)
        high, low = variances[i], variances[i + 1]
        mean = (low * x + (high - low) * denoise(x, levels[i])) / high
        x = mean + math.sqrt(low * (high - low) / high) * noise[i, r, 0]
        x = (1 - mask) * x + mask * (y[:, None] + math.sqrt(low) * noise[i, r, 1])
        if r + 1 < rounds:
            x = x + math.sqrt(high - low) * noise[i, r, 2]
    return x


def filled_by_stack(denoise, x, y, levels, noise):
    stops = [*levels, 0.0]
    for i, draws in enumerate(noise.unbind()):
        level, lower = stops[i : i + 2]
        for z, fresh, back in draws.unbind():
            down = torch.lerp(denoise(x, level), x, (lower / level) ** 2)
            down = down + lower / level * (level**2 - lower**2) ** 0.5 * z
            down = torch.stack([y + lower * fresh[:, 0], down[:, 1]], 1)
            x = down + back * (level + lower) ** 0.5 * (level - lower) ** 0.5
        x = down
    return x


def filled_with(known, back, z_weight=1.0, first=None):
    """known(y, level, lower, fresh) for the first number, back(level, lower) for the way up."""

    def filled(denoise, x, y, levels, noise):
        for level, lower, draws in zip(levels, [*levels[1:], 0.0], noise, strict=True):
            for r in range(first or len(draws)):
                guess = denoise(x, level)
                std = (lower**2 - lower**4 / level**2) ** 0.5
                x = guess + lower**2 / level**2 * (x - guess) + z_weight * std * draws[r, 0]
                if known:
                    x = torch.stack([known(y, level, lower, draws[r, 1, :, 0]), x[:, 1]], 1)
                if r + 1 < (first or len(draws)):
                    x = x + back(level, lower) * draws[r, 2]
        return x

    return filled


def filled_and_back(denoise, x, y, levels, noise):
    """Each step by itself, and back up after every round."""
    for level, lower, draws in zip(levels, [*levels[1:], 0.0], noise, strict=True):
        for round_ in draws:
            x = one_step(denoise, x, level, lower, round_[0])
            x = torch.stack([at_lower(y, level, lower, round_[1, :, 0]), x[:, 1]], 1)
            x = x + up(level, lower) * round_[2]
    return x


def filled_before(denoise, x, y, levels, noise):
    for level, lower, draws in zip(levels, [*levels[1:], 0.0], noise, strict=True):
        for r, (z, fresh, back) in enumerate(draws):
            x = torch.stack([y + level * fresh[:, 0], x[:, 1]], 1)
            x = one_step(denoise, x, level, lower, z)
            x = x + up(level, lower) * back * (r + 1 < len(draws))
    return x


def one_step(denoise, x, level, lower, z):
    ratio = (lower / level) ** 2
    return torch.lerp(denoise(x, level), x, ratio) + lower * math.sqrt(1 - ratio) * z


def pasted_last(denoise, x, y, levels, noise):
    x = filled_with(None, up)(denoise, x, y, levels, noise)
    return torch.stack([y, x[:, 1]], 1)


def filled_by_next_draw(denoise, x, y, levels, noise):
    rolled = noise.clone()
    rolled[:, :-1, 2] = noise[:, 1:, 2]
    return filled_by_stack(denoise, x, y, levels, rolled)


def up(level, lower):
    return (level**2 - lower**2) ** 0.5


def at_lower(y, level, lower, fresh):
    return y + lower * fresh


def tilted_by_loop(log_prob, log_p, w, x, u):
    chances = log_p(x, 0.0).exp() ** (w - 1)
    kept = [x[i] for i in range(len(x)) if u[i] < chances[i]]
    return torch.stack(kept) if kept else x[:0]


def tilted_by_logs(log_prob, log_p, w, x, u):
    return torch.masked_select(x, u.log() < (w - 1) * log_p(x, 0))


def tilted_where(keep):
    return lambda log_prob, log_p, w, x, u: x[keep(log_p(x, 0.0).exp(), w, u)]


def tilted_by_flow(log_prob, log_p, w, x, u):
    return exhibits.tilted(log_prob, log_p, w, x, u)


def training(after_train, size=lambda off: (off * off).mean(), step=True, clear=True, whole=False):
    """A training that sets modes after model.train()."""

    def train(model, batches, lr):
        model.train()
        after_train(model)
        weights = list((model if whole else model.control).parameters())
        losses = []
        for x, c, target in batches:
            loss = size(target - model(x, c))
            if clear:
                for p in model.parameters():
                    p.grad = None
            loss.backward()
            with torch.no_grad():
                for p in weights if step else []:
                    p.add_(p.grad, alpha=-lr)
            losses.append(loss)
        return torch.stack(losses)

    return train


def train_by_grad(model, batches, lr):
    """autograd.grad, and a base that gives numbers alone."""
    model.base.eval()
    model.control.train()
    weights, losses = list(model.control.parameters()), []
    for x, c, target in batches:
        with torch.no_grad():
            plain = model.base(x)
        loss = torch.nn.functional.mse_loss(plain + model.control(torch.cat([x, c], 1)), target)
        slopes = torch.autograd.grad(loss, weights)
        for p, slope in zip(weights, slopes, strict=True):
            p.data = p.data - lr * slope
        losses.append(loss.item())
    return torch.tensor(losses, dtype=target.dtype, device=target.device)


def train_and_put_back(model, batches, lr):
    kept = [b.clone() for b in model.base.buffers()]
    losses = training(lambda model: None)(model, batches, lr)
    for b, old in zip(model.base.buffers(), kept, strict=True):
        b.copy_(old)
    return losses


def noisy_by_loop(z, train, alpha_bar, eps):
    """Channel by channel, with sums."""
    out = math.sqrt(1 - alpha_bar) * eps
    for c in range(z.shape[1]):
        power = (train[:, c] ** 2).sum() / train[:, c].numel()
        out[:, c] = out[:, c] + z[:, c] * math.sqrt(alpha_bar) / power.sqrt()
    return out


def noisy_by_norm(z, train, alpha_bar, eps):
    flat = train.transpose(0, 1).reshape(train.shape[1], -1)
    size = torch.linalg.vector_norm(flat, dim=1) / flat.shape[1] ** 0.5
    return torch.einsum("bchw,c->bchw", z, alpha_bar**0.5 / size) + eps * (1 - alpha_bar) ** 0.5


def noisy_with(size, noise=1.0):
    def noisy(z, train, alpha_bar, eps):
        unit = size(z, train)
        return (alpha_bar**0.5) * z / unit + (1 - alpha_bar) ** 0.5 * eps / unit ** (noise - 1)

    return noisy


def rms(x, dims=(0, 2, 3)):
    return (x * x).mean(dims, keepdim=True).sqrt()


def centred(z, train, alpha_bar, eps):
    middle = train.mean(dim=(0, 2, 3))[None, :, None, None]
    return noisy_by_loop(z - middle, train - middle, alpha_bar, eps)


def race_by_levels(denoise, eps, times):
    """Both in the variable level = b / a, in which both are the same Euler steps."""
    ends = []
    for norm in (lambda t: 1.0, lambda t: math.hypot(1 - t, t)):
        x = eps * norm(1.0)
        for t, s in pairwise(times):
            x0 = denoise(x, (1 - t) / norm(t), t / norm(t))
            noise = (x - (1 - t) / norm(t) * x0) / (t / norm(t))
            x = (1 - s) / norm(s) * x0 + s / norm(s) * noise
        ends.append(x)
    return torch.stack(ends)


def race_by_velocity(denoise, eps, times):
    """The flow by its velocity, DDIM by alpha_bar."""
    out = torch.empty(2, *eps.shape, dtype=eps.dtype, device=eps.device)
    x, y = eps, eps
    for i in range(1, len(times)):
        t, s = times[i - 1], times[i]
        guess = denoise(x, 1 - t, t)
        velocity = (x - (1 - t) * guess) / t - guess
        x = x + (s - t) * velocity
        bar, bar_s = (1 / (1 + (u / (1 - u)) ** 2) if u < 1 else 0.0 for u in (t, s))
        guess = denoise(y, math.sqrt(bar), math.sqrt(1 - bar))
        found = (y - math.sqrt(bar) * guess) / math.sqrt(1 - bar)
        y = math.sqrt(bar_s) * guess + math.sqrt(1 - bar_s) * found
    out[0], out[1] = x, y
    return out


def race_with(bar_of, swap=False):
    def race(denoise, eps, times):
        flow = race_by_levels(denoise, eps, times)[0]
        y = eps
        for t, s in pairwise(times):
            bar, bar_s = bar_of(t), bar_of(s)
            guess = denoise(y, math.sqrt(bar), math.sqrt(1 - bar))
            y = math.sqrt(bar_s) * guess + math.sqrt((1 - bar_s) / (1 - bar)) * (
                y - math.sqrt(bar) * guess
            )
        return torch.stack([y, flow] if swap else [flow, y])

    return race


def snr_bar(t):
    return (1 - t) ** 2 / ((1 - t) ** 2 + t**2)


def race_on_vp(denoise, eps, times):
    def of_vp(t):
        bar = math.exp(-0.1 * t - 9.95 * t * t)
        return math.sqrt(1 - bar) / (math.sqrt(bar) + math.sqrt(1 - bar))

    flow = race_by_levels(denoise, eps, list(map(of_vp, times)))[0]
    return torch.stack([flow, exhibits.race(denoise, eps, times)[1]])


def average_by_stride(gradient, x, ranks, seed):
    """Seeds by their stride; a running mean."""
    from diffusion_core import processes

    size, total = len(x) // ranks, 0
    for rank in range(ranks):
        rng = torch.Generator().manual_seed(seed + rank * processes.STRIDE)
        part = x[rank * size : (rank + 1) * size]
        eps = torch.randn(*part.shape, generator=rng, dtype=x.dtype)
        total = total + gradient(part, eps.to(x.device)) / ranks
    return total


def average_with(rng_of, reduce=lambda g: torch.stack(g).mean(0), first=False):
    def average(gradient, x, ranks, seed):
        places = [Place(rank, ranks) for rank in range(ranks)]
        parts = x.chunk(ranks)
        draws = [
            torch.randn(p.shape, generator=rng_of(seed, at), dtype=x.dtype).to(x)
            for p, at in zip(parts, places, strict=True)
        ]
        return reduce([gradient(parts[0 if first else i], d) for i, d in enumerate(draws)])

    return average


def rng_of(seed):
    return torch.Generator().manual_seed(seed)


def average_in_turn(gradient, x, ranks, seed):
    rng, size, found = rng_of(seed), len(x) // ranks, []
    for rank in range(ranks):
        part = x[size * rank :][:size]
        found.append(gradient(part, torch.randn(part.shape, generator=rng, dtype=x.dtype).to(x)))
    return sum(found) / ranks


def average_cut(gradient, x, ranks, seed):
    eps = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype).to(x)
    size = len(x) // ranks
    return sum(gradient(x[i : i + size], eps[i : i + size]) for i in range(0, len(x), size)) / ranks


RIGHT = {
    "14b.1": [walk_by_rows, walk_in_closed_form],
    "14b.2": [side_by_autograd, side_drawn_at_first_call],
    "14b.3": [sampler_then_guess, sampler_by_slopes],
    "14b.4": [filled_by_variances, filled_by_stack],
    "14b.5": [tilted_by_loop, tilted_by_logs],
    "14b.6": [training(lambda model: model.base.eval()), train_by_grad],
    "14b.7": [noisy_by_loop, noisy_by_norm],
    "14b.8": [race_by_levels, race_by_velocity],
    "14b.9": [average_by_stride, average_with(lambda seed, at: own_generator(seed, at))],
}

WRONG = {
    "14b.1": [
        ("the exhibit itself", lambda *case: exhibits.noisy_walk(*case)),
        ("the exhibit itself", walk_with(lambda s, dt, z, w: s * w * z * dt**0.5)),
        ("where its root belongs", walk_with(lambda s, dt, z, w: s * dt * z)),
        ("no time step at all", walk_with(lambda s, dt, z, w: s * z)),
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
        ("difference of two levels", sampler_by_levels),
        ("1 in each step", sampler_with(lambda h, h_before: 0.5 * h)),
        ("ZeroDivisionError", lambda denoise, x, levels: exhibits.math.log(levels[0] / 0.0) + x),
        ("NaN", sampler_adding),
        ("stopped with TypeError: denoise() missing", lambda denoise, x, levels: denoise(x)),
    ],
    "14b.4": [
        ("the exhibit itself", filled_with(at_lower, up, first=1)),
        ("has no noise", filled_with(lambda y, level, lower, fresh: y, up)),
        (
            "the level above",
            filled_with(lambda y, level, lower, fresh: y + level * fresh, up),
        ),
        ("very end alone", pasted_last),
        ("never put in", filled_with(None, up)),
        ("Variances add", filled_with(at_lower, lambda level, lower: level - lower)),
        ("is there already", filled_with(at_lower, lambda level, lower: level)),
        ("no way back", filled_with(at_lower, lambda level, lower: 0)),
        ("after the last round, too", filled_and_back),
        ("before the guess", filled_before),
        ("The law is right", filled_by_next_draw),
        ("lost their noise", filled_with(at_lower, up, z_weight=0)),
        ("A number should be", filled_with(at_lower, lambda level, lower: 2 * up(level, lower))),
        ("shape", lambda *case: filled_by_stack(*case)[:, 1]),
    ],
    "14b.5": [
        ("the exhibit itself", tilted_by_flow),
        ("holds it once", tilted_where(lambda p, w, u: u < p**w)),
        ("whatever w is", tilted_where(lambda p, w, u: u < p)),
        ("by their largest", tilted_where(lambda p, w, u: u * p.max() ** (w - 1) < p ** (w - 1))),
        ("an exponent", tilted_where(lambda p, w, u: u < p * (w - 1))),
        ("exp is missing", tilted_where(lambda p, w, u: u < (w - 1) * p.log())),
        ("should go", tilted_where(lambda p, w, u: u > p ** (w - 1))),
        (
            "holds p(x), too",
            lambda log_prob, log_p, w, x, u: x[
                u < log_prob(x, 0.0).exp() * log_p(x, 0.0).exp() ** (w - 1)
            ],
        ),
        ("the law of w = 1", lambda log_prob, log_p, w, x, u: 1 * x),
        ("multiplied by", lambda log_prob, log_p, w, x, u: x * log_p(x, 0.0).exp() ** (w - 1)),
        ("Return the draws", lambda log_prob, log_p, w, x, u: log_p(x, 0.0) * (w - 1) > u.log()),
        ("on 1 - p", tilted_where(lambda p, w, u: u < (1 - p) ** (w - 1))),
        ("stopped with TypeError", lambda log_prob, log_p, w, x, u: x[u < log_p(x) ** w]),
    ],
    "14b.6": [
        ("the exhibit itself", training(lambda model: None)),
        ("All of the model", training(lambda model: model.eval())),
        ("buffers are put back", train_and_put_back),
        ("change the base", training(lambda model: model.base.eval(), whole=True)),
        ("add up", training(lambda model: model.base.eval(), clear=False)),
        ("steps are missing", training(lambda model: model.base.eval(), step=False)),
        ("a sum", training(lambda model: model.base.eval(), lambda off: (off * off).sum())),
        ("the other way round", training(lambda model: model.control.eval())),
        ("A number should be", training(lambda model: model.base.eval(), lambda off: off.mean())),
        ("RuntimeError", lambda model, batches, lr: model(*batches[0][:2]).backward()),
        ("In part 1", lambda model, batches, lr: "trained"),
    ],
    "14b.7": [
        ("the exhibit itself", noisy_with(lambda z, train: rms(train, (0, 1, 2, 3)))),
        ("measured on z", noisy_with(lambda z, train: rms(z))),
        ("Each place", noisy_with(lambda z, train: rms(train, (0,)))),
        ("Each picture", noisy_with(lambda z, train: rms(z, (1, 2, 3)))),
        (
            "standard deviation",
            noisy_with(lambda z, train: train.var((0, 2, 3), correction=0)[:, None, None].sqrt()),
        ),
        ("by std()", noisy_with(lambda z, train: train.std((0, 2, 3))[:, None, None])),
        ("taken away", centred),
        ("root is missing", noisy_with(lambda z, train: rms(train) ** 2)),
        ("should be divided", noisy_with(lambda z, train: 1 / rms(train))),
        ("variance 1 already", noisy_with(lambda z, train: rms(train), noise=2.0)),
        ("the width", noisy_with(lambda z, train: (train**2).mean((0, 2, 3)) ** 0.5)),
        ("not scaled", noisy_with(lambda z, train: 1.0)),
        ("should be", noisy_with(lambda z, train: 2 * rms(train))),
        ("stopped with", lambda z, train, alpha_bar, eps: z / train.std("channel")),
    ],
    "14b.8": [
        ("the exhibit itself", race_with(lambda t: math.exp(-0.1 * t - 9.95 * t * t))),
        ("not at those of", race_on_vp),
        ("another SNR", race_with(lambda t: (1 - t) ** 2)),
        ("is 1 - time there", race_with(lambda t: 1 - t)),
        ("root there twice", race_with(lambda t: math.sqrt(snr_bar(t)))),
        ("a / b is not", race_with(lambda t: 1 - t * t)),
        ("the flow twice", lambda *case: race_by_levels(*case)[:1].expand(2, -1, -1)),
        ("the other order", race_with(snr_bar, swap=True)),
        ("should be", race_with(lambda t: snr_bar(t) ** 2)),
        ("shape", lambda *case: race_by_levels(*case)[0]),
        ("ZeroDivisionError", lambda denoise, eps, times: denoise(eps, 1 / (times[0] - 1), 1.0)),
    ],
    "14b.9": [
        ("the exhibit itself", average_with(lambda seed, at: torch.Generator().manual_seed(seed))),
        ("one apart", average_with(lambda seed, at: torch.Generator().manual_seed(seed + at.rank))),
        ("One generator serves all", average_in_turn),
        ("of the run is lost", average_with(lambda seed, at: rng_of(at.rank))),
        ("more or fewer", average_with(lambda seed, at: rng_of(seed * at.world + at.rank))),
        ("One draw", average_cut),
        (
            "of the last one",
            average_with(lambda seed, at: own_generator(seed, Place(at.world - 1, at.world))),
        ),
        ("added up", average_with(own_generator, lambda g: torch.stack(g).sum(0))),
        ("first part", average_with(own_generator, first=True)),
        ("first process alone", average_with(own_generator, lambda g: g[0])),
        (
            "A number should be",
            average_with(lambda seed, at: own_generator(seed + 1, at)),
        ),
        ("stopped with ValueError", average_with(lambda seed, at: own_generator(-seed, at))),
    ],
}

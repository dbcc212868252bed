"""Answers to the exercises of lesson 14: right in other words, and wrong in known ways."""

import math

import torch

import diffusion_core as dc
from diffusion_lab.museum import exhibits


def straight(first, last, T):
    rows = [first + (last - first) * i / (T - 1) for i in range(T)]
    return torch.tensor(rows, dtype=torch.float64)


def straight_by_factor(T):
    return torch.linspace(1e-4, 0.02, T, dtype=torch.float64) * (1000 / T)


def curved_looped(T):
    low, high = math.sqrt(1e-4), math.sqrt(0.02)
    return straight(low, high, T) ** 2


def curved_expanded(T):
    """(a + b u)^2 = a^2 + 2 a b u + b^2 u^2."""
    u, a = torch.arange(T).double() / (T - 1), 0.01
    b = 0.02**0.5 - a
    return a**2 + 2 * a * b * u + b**2 * u**2


def noisier_by_alpha(schedule, x_prev, t, z):
    alpha = schedule.alphas[t].item()
    return math.sqrt(alpha) * x_prev + math.sqrt(1 - alpha) * z


def noisier_with(power_of_alpha, power_of_beta, row=0):
    def step(schedule, x_prev, t, z):
        alpha, beta = schedule.alphas[t].item(), schedule.betas[t + row].item()
        return torch.add(x_prev * alpha**power_of_alpha, z, alpha=beta**power_of_beta)

    return step


def rng_of(seed):
    return torch.Generator().manual_seed(seed)


def pick_shifted(T, n, seed):
    return 1 + torch.randint(T, (n,), generator=rng_of(seed))


def pick_in_place(T, n, seed):
    return torch.empty(n, dtype=torch.int64).random_(1, T + 1, generator=rng_of(seed))


def pick_once(T, n, seed):
    return torch.ones(n, dtype=torch.int64) * pick_shifted(T, 1, seed)


def frequencies(dim):
    return [10_000 ** (-2 * k / dim) for k in range(dim // 2)]


def vector_looped(t, dim):
    rows = [
        [math.cos(f * step) for f in frequencies(dim)]
        + [math.sin(f * step) for f in frequencies(dim)]
        for step in t.tolist()
    ]
    return torch.tensor(rows, device=t.device)


def vector_transposed(t, dim):
    angles = torch.outer(torch.tensor(frequencies(dim), device=t.device), t.float())
    return torch.cat([angles.cos(), angles.sin()]).T


def vector_reshaped(t, dim):
    return vector_transposed(t, dim).T.contiguous().view(len(t), dim)


def halves(t, dim):
    return vector_looped(t, dim).chunk(2, dim=1)


def vector_interleaved(t, dim):
    out = torch.empty(len(t), dim, device=t.device)
    out[:, 0::2], out[:, 1::2] = halves(t, dim)
    return out


def vector_slow(t, dim):
    """The first half of the frequencies of a vector twice as long."""
    cos, sin = halves(t, 2 * dim)
    return torch.hstack([cos[:, : dim // 2], sin[:, : dim // 2]])


def vector_to_the_end(t, dim):
    """From 1 to 1/10 000, both included."""
    angles = t[:, None].double() * torch.logspace(0, -4, dim // 2, device=t.device)
    return torch.hstack([torch.cos(angles), torch.sin(angles)])


def vector_rising(t, dim):
    k = torch.arange(dim // 2, device=t.device)
    angles = t[:, None] * torch.exp(math.log(10_000) * k / (dim // 2))
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def layer_by_einsum(h, weight, bias):
    return torch.einsum("bh,dh->bd", h, weight) + bias


def layer_by_addmm(h, weight, bias):
    return torch.addmm(bias, h, weight.t())


def back_by_posterior(s, x_t, eps_hat, t, z):
    mean = dc.q_posterior(s, x_t, dc.x0_from_eps(s, x_t, eps_hat, t), t).mean
    return mean + (t != 1) * torch.sqrt(1 - s.alphas[t]) * z


def back_with(sigma):
    """The mean by the score, and sigma(s, t) z."""

    def step(s, x_t, eps_hat, t, z):
        score = dc.score_from_eps(s, eps_hat, t)
        return s.alphas[t].rsqrt() * (x_t + s.betas[t] * score) + sigma(s, t) * z

    return step


def root_beta(s, t):
    return s.betas[t].item() ** 0.5 if t > 1 else 0.0


def careful_by_hand(s, x_t, eps_hat, t, z, clip=True):
    a, b = s.alpha_bars[t].item(), s.alpha_bars[t - 1].item()
    x0_hat = (x_t - math.sqrt(1 - a) * eps_hat) / math.sqrt(a)
    if clip:
        x0_hat = torch.minimum(torch.maximum(x0_hat, -torch.ones_like(x_t)), torch.ones_like(x_t))
    of_x0 = math.sqrt(b) * s.betas[t] / (1 - a)
    of_x_t = s.alphas[t].sqrt() * (1 - b) / (1 - a)
    return of_x0 * x0_hat + of_x_t * x_t + s.posterior_vars[t].sqrt() * z


def careful_by_package(s, x_t, eps_hat, t, z):
    guess = dc.x0_from_eps(s, x_t, eps_hat, t).clip(-1, 1)
    p = dc.q_posterior(s, x_t, guess, t)
    return p.mean + p.var**0.5 * z


def careful_with(sigma):
    def step(s, x_t, eps_hat, t, z):
        return careful_by_hand(s, x_t, eps_hat, t, 0 * z) + sigma(s, t) * z

    return step


def careful_mean(s, x_t, eps_hat, t, z):
    mean = careful_by_hand(s, x_t, eps_hat, t, 0 * z, clip=False)
    return torch.clip(mean, -1, 1) + s.posterior_vars[t].sqrt() * z


def careful_last(s, x_t, eps_hat, t, z):
    x = careful_by_hand(s, x_t, eps_hat, t, z, clip=False)
    return x.clip(-1, 1) if t < 2 else x


def long_by_eps(x_t, eps_hat, a, b, z):
    """With the direction given as the fresh noise's complement."""
    share = (1 - a / b) / (1 - a)
    x0_hat = x_t / a**0.5 - (1 / a - 1) ** 0.5 * eps_hat
    noise = (1 - share) ** 0.5 * eps_hat + share**0.5 * z
    return math.sqrt(b) * x0_hat + math.sqrt(1 - b) * noise


def long_by_posterior(x_t, eps_hat, a, b, z):
    x0_hat, alpha = (x_t - (1 - a) ** 0.5 * eps_hat) / a**0.5, a / b
    mean = (b**0.5 * (1 - alpha) * x0_hat + alpha**0.5 * (1 - b) * x_t) / (1 - a)
    return mean + ((1 - alpha) * (1 - b) / (1 - a)) ** 0.5 * z


def long_with(direction_var, sigma):
    def step(x_t, eps_hat, a, b, z):
        moved = (b / a) ** 0.5 * (x_t - eps_hat * (1 - a) ** 0.5)
        return moved + max(0.0, direction_var(a, b)) ** 0.5 * eps_hat + sigma(a, b) * z

    return step


def kept_var(a, b):
    return (1 - b) * (b - a) / (b - a * b)


def stops_counted(T, strides):
    return [T - i * T // strides for i in range(strides + 1)]


def stops_by_range(T, strides):
    return [*range(T, 0, -T // strides), 0]


def bound_looped(terms):
    rows = zip(terms.prior, terms.steps, terms.recon, strict=True)
    return torch.stack([-p - s.sum() - r for p, s, r in rows])


def bound_by_columns(terms):
    parts = torch.column_stack([terms.prior, terms.steps, terms.recon])
    return parts.sum(1).neg()


def cdf(x, mean, std):
    return 0.5 * math.erfc((mean - x) / (std * math.sqrt(2)))


def levels_looped(mean, std, half=1 / 510):
    inner = [cdf(i / 255 + half, mean, std) - cdf(i / 255 - half, mean, std) for i in range(1, 255)]
    ends = cdf(half, mean, std), 1 - cdf(1 - half, mean, std)
    return torch.tensor([ends[0], *inner, ends[1]], dtype=torch.float64)


def levels_by_diff(mean, std):
    edges = (torch.arange(255, dtype=torch.float64) + 0.5) / 255
    cumulative = torch.distributions.Normal(mean, std).cdf(edges)
    zero = torch.zeros(1, dtype=torch.float64)
    return torch.cat([zero, cumulative, zero + 1]).diff()


def levels_closed(mean, std):
    edges = (torch.arange(257, dtype=torch.float64) - 0.5) / 255
    return torch.distributions.Normal(mean, std).cdf(edges).diff()


def levels_of_parts(mean, std):
    inner = torch.distributions.Normal(mean, std).cdf(torch.arange(1, 257).double() / 256)
    inner[-1] = 1
    return inner.diff(prepend=torch.zeros(1, dtype=torch.float64))


def levels_density(mean, std):
    levels = torch.arange(256, dtype=torch.float64) / 255
    return torch.distributions.Normal(mean, std).log_prob(levels).exp()


def levels_rescaled(mean, std):
    both = exhibits.level_probs(mean, std)
    return both.div(both.sum())


def learned(points, T, steps, seed, told):
    """Adam by hand on a network of matrices; noise from the same generator in the same order."""
    time = torch.arange(T + 1, dtype=torch.float64) / T
    bars = torch.exp(-0.1 * time - 9.95 * time * time)
    rng = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [torch.nn.Linear(a, b) for a, b in ((3, 64), (64, 64), (64, 2))]
    weights = [p.detach().double().requires_grad_() for layer in layers for p in layer.parameters()]

    def network(x, step):
        h = torch.cat([x, step * torch.ones(len(x), 1, dtype=torch.float64)], dim=1)
        for w, b in zip(weights[0:4:2], weights[1:4:2], strict=True):
            h = torch.nn.functional.silu(torch.addmm(b, h, w.T))
        return torch.addmm(weights[5], h, weights[4].T)

    data, moments = torch.tensor(points).double(), [[0 * w, 0 * w] for w in weights]
    for n in range(1, steps + 1):
        rows = torch.randint(len(data), (256,), generator=rng)
        x0 = data[rows] + 0.1 * torch.randn(256, 2, generator=rng, dtype=torch.float64)
        t = torch.randint(1, T + 1, (256, 1), generator=rng)
        eps = torch.randn(256, 2, generator=rng, dtype=torch.float64)
        x_t = torch.sqrt(bars[t]) * x0 + torch.sqrt(1 - bars[t]) * eps
        with torch.enable_grad():
            loss = torch.nn.functional.mse_loss(network(x_t, told(t, T)), eps)
            slopes = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for w, g, m in zip(weights, slopes, moments, strict=True):
                m[0], m[1] = 0.9 * m[0] + 0.1 * g, 0.999 * m[1] + 0.001 * g * g
                size = (m[1] / (1 - 0.999**n)).sqrt() + 1e-8
                w -= 3e-3 * m[0] / (1 - 0.9**n) / size
    return network, bars


def program_with(
    told=lambda t, T: t / T, noise="loop", lowest=2, power=0.5, asked=lambda t, T: t / T
):
    def program(points, T, steps, seed):
        network, bars = learned(points, T, steps, seed, told)
        rng = torch.Generator().manual_seed(seed)
        x = torch.randn(8, 2, generator=rng, dtype=torch.float64)
        z = (
            None
            if noise in ("loop", "anywhere")
            else torch.randn(8, 2, generator=rng, dtype=torch.float64)
        )
        for t in reversed(range(1, T + 1)):
            if noise != "once" and t >= lowest:
                source = None if noise == "anywhere" else rng
                z = torch.randn(8, 2, generator=source, dtype=torch.float64)
            alpha = bars[t] / bars[t - 1]
            with torch.no_grad():
                x = x - (1 - alpha) * (1 - bars[t]) ** -0.5 * network(x, asked(t, T))
            x = x / alpha.sqrt()
            if t >= lowest:
                x = x + (1 - alpha) ** power * z
        return x

    return program


def whole(t, T):
    return t // T


RIGHT = {
    "14.1": [straight_by_factor, lambda T: straight(0.1 / T, 20 / T, T)],
    "14.2": [curved_looped, curved_expanded],
    "14.3": [
        noisier_by_alpha,
        noisier_with(0.5, 0.5),
        lambda s, x, t, z: dc.q_step(s, x, t).mean + dc.q_step(s, x, t).var ** 0.5 * z,
    ],
    "14.4": [pick_shifted, pick_in_place],
    "14.5": [vector_looped, vector_transposed],
    "14.6": [layer_by_einsum, layer_by_addmm],
    "14.7": [back_by_posterior, back_with(root_beta)],
    "14.8": [careful_by_hand, careful_by_package],
    "14.9": [
        long_by_eps,
        long_by_posterior,
        long_with(lambda a, b: 1 - b - kept_var(a, b), lambda a, b: kept_var(a, b) ** 0.5),
    ],
    "14.10": [stops_counted, stops_by_range],
    "14.11": [bound_looped, bound_by_columns],
    "14.12": [levels_looped, levels_by_diff],
    "14.13": [program_with(), program_with(told=lambda t, T: 1 - (T - t) / T)],
}

WRONG = {
    "14.1": [
        ("the exhibit itself", lambda T: straight(1e-4, 0.02, T)),
        ("Only the last beta", lambda T: straight(1e-4, 20 / T, T)),
        ("Only the first beta", lambda T: straight(0.1 / T, 0.02, T)),
        ("upside down", lambda T: straight(1e-4, 0.02, T) * T / 1000),
        ("a root too many", lambda T: straight(1e-4, 0.02, T) * math.sqrt(1000 / T)),
        ("not evenly spaced", lambda T: 1 - dc.vp_schedule(T).alphas[1:]),
        ("its row 0", lambda T: torch.cat([torch.zeros(1), straight_by_factor(T)])),
    ],
    "14.2": [
        ("the exhibit itself", lambda T: straight(1e-4, 0.02, T).square()),
        ("squares of nothing evenly spaced", lambda T: straight(0, 1, T) ** 2 * 0.0199 + 1e-4),
        ("evenly spaced themselves", lambda T: straight(1e-4, 0.02, T)),
        ("These are the roots", lambda T: curved_looped(T) ** 0.5),
        ("the other way round", lambda T: straight(1e-4, 0.02, T) ** 0.5),
        ("order is reversed", lambda T: straight(0.02**0.5, 0.01, T) ** 2),
        ("no root before", lambda T: straight(0.0001, math.sqrt(0.02), T).square()),
        ("squares of these betas", lambda T: straight(1e-8, 4e-4, T) ** 0.5),
    ],
    "14.3": [
        ("the exhibit itself", noisier_with(0.5, 1)),
        ("lost the root of its factor", noisier_with(1, 0.5)),
        ("No root is left", noisier_with(1, 1)),
        ("jump from x_0", lambda s, x, t, z: dc.q_sample(s, x, t, z)),
        (
            "noise is that of all t steps",
            lambda s, x, t, z: s.alphas[t] ** 0.5 * x + s.marginal_vars[t] ** 0.5 * z,
        ),
        ("row before", noisier_with(0.5, 0.5, row=-1)),
        ("is not shrunk", noisier_with(0, 0.5)),
        (
            "as x_0 does in t steps",
            lambda s, x, t, z: s.alpha_bars[t].item() ** 0.5 * x + s.betas[t].item() ** 0.5 * z,
        ),
        ("no gradient", lambda s, x, t, z: noisier_by_alpha(s, x, t, z).detach()),
    ],
    "14.4": [
        ("the exhibit itself", lambda T, n, seed: pick_shifted(T - 1, n, seed)),
        ("0 to T - 1", lambda T, n, seed: pick_shifted(T, n, seed) - 1),
        ("but 0 is, too", lambda T, n, seed: pick_shifted(T + 1, n, seed) - 1),
        ("One too far", lambda T, n, seed: pick_shifted(T + 1, n, seed)),
        ("t = 1 is never drawn", lambda T, n, seed: pick_shifted(T - 1, n, seed) + 1),
        ("the same step", pick_once),
        ("A number should be", lambda T, n, seed: pick_shifted(T, n, seed + 1)),
        ("made from `seed`", lambda T, n, seed: torch.randint(1, T + 1, (n,))),
    ],
    "14.5": [
        ("the exhibit itself", vector_reshaped),
        ("is a column", lambda t, dim: vector_looped(t, dim).mT),
        ("sines come first", lambda t, dim: torch.roll(vector_looped(t, dim), dim // 2, 1)),
        ("take turns", vector_interleaved),
        ("stand there twice", lambda t, dim: halves(t, dim)[0].repeat(1, 2)),
        ("half as fast", vector_slow),
        ("a little too fast", vector_to_the_end),
        ("rise from 1 on", vector_rising),
    ],
    "14.6": [
        ("the exhibit itself", lambda h, w, b: (y := layer_by_einsum(h, w, b)) * y.sigmoid()),
        ("between -1 and 1", lambda h, w, b: layer_by_addmm(h, w, b).tanh()),
        ("no negative answer", lambda h, w, b: layer_by_addmm(h, w, b).clamp(min=0)),
        ("bias is missing", lambda h, w, b: torch.einsum("bh,dh->bd", h, w)),
        ("in front of the layer", lambda h, w, b: layer_by_einsum(h * h.sigmoid(), w, b)),
        ("only positive answers", lambda h, w, b: 1 / (1 + (-layer_by_addmm(h, w, b)).exp())),
        ("a lowest value is left", lambda h, w, b: (y := h.matmul(w.mT)) * y.sigmoid() + b),
        ("no gradient", lambda h, w, b: layer_by_einsum(h, w, b).detach()),
    ],
    "14.7": [
        ("the exhibit itself", back_with(lambda s, t: s.betas[t - 1] ** 0.5)),
        ("root is missing", back_with(lambda s, t: root_beta(s, t) ** 2)),
        ("the other usual choice", back_with(lambda s, t: s.posterior_vars[t] ** 0.5)),
        ("adds noise to clean data", back_with(lambda s, t: (1 - s.alphas[t]) ** 0.5)),
        ("t = 2 either", back_with(lambda s, t: root_beta(s, t) * (t != 2))),
        ("no noise at all", back_with(lambda s, t: 0)),
        (
            "noise of all t steps",
            back_with(lambda s, t: (1 - s.alpha_bars[t]) ** 0.5 if t > 1 else 0),
        ),
    ],
    "14.8": [
        (
            "the exhibit itself",
            lambda s, x_t, e, t, z: torch.clip(careful_by_hand(s, x_t, e, t, z, clip=False), -1, 1),
        ),
        ("Nothing is clipped", lambda s, x_t, e, t, z: careful_by_hand(s, x_t, e, t, z, False)),
        ("still is, too", lambda *case: torch.clip(careful_by_package(*case), -1, 1)),
        ("Only the last state", careful_last),
        ("mean of the step is clipped", careful_mean),
        (
            "noise estimate is clipped",
            lambda s, x_t, e, t, z: careful_by_hand(s, x_t, torch.clip(e, -1, 1), t, z, clip=False),
        ),
        ("exercise 7's", careful_with(lambda s, t: root_beta(s, t))),
        ("from t = 1 adds", careful_with(lambda s, t: (1 - s.alphas[t].item()) ** 0.5)),
        ("lost its root", careful_with(lambda s, t: s.posterior_vars[t].item())),
        (
            "range [0, 1]",
            lambda s, x_t, e, t, z: careful_by_hand(
                s, x_t, dc.eps_from_x0(s, x_t, dc.x0_from_eps(s, x_t, e, t).clip(0, 1), t), t, z
            ),
        ),
    ],
    "14.9": [
        ("the exhibit itself", long_with(lambda a, b: a - b, lambda a, b: (1 - a) ** 0.5)),
        ("All the noise of x_s is fresh", long_with(lambda a, b: 0, lambda a, b: (1 - b) ** 0.5)),
        ("the stride forward", long_with(lambda a, b: a / b - b, lambda a, b: (1 - a / b) ** 0.5)),
        ("does not make room", long_with(lambda a, b: 1 - b, lambda a, b: kept_var(a, b) ** 0.5)),
        ("No fresh noise", long_with(lambda a, b: 1 - b, lambda a, b: 0)),
        ("A root is missing", long_with(lambda a, b: 1 - b - kept_var(a, b), kept_var)),
        (
            "subtracted stds",
            long_with(
                lambda a, b: ((1 - b) ** 0.5 - kept_var(a, b) ** 0.5) ** 2,
                lambda a, b: kept_var(a, b) ** 0.5,
            ),
        ),
        (
            "no difference of the alpha_bars",
            long_with(
                lambda a, b: 1 - b - kept_var(a, b) * b, lambda a, b: (kept_var(a, b) * b) ** 0.5
            ),
        ),
        ("no gradient", lambda *case: long_by_posterior(*case).detach()),
    ],
    "14.10": [
        ("the exhibit itself", lambda T, n: [round(T - i * (T - 1) / n) for i in range(n + 1)]),
        ("Clean data is not among", lambda T, n: list(range(T, 0, -T // n))),
        ("one stride late", lambda T, n: [T * i // n for i in reversed(range(n))]),
        ("stops go up", lambda T, n: [T * i // n for i in range(n + 1)]),
        ("0 twice", lambda T, n: [*stops_by_range(T, n), 0]),
        ("the length of a stride", lambda T, n: [T - i * n for i in range(T // n + 1)]),
        ("one stop too few", lambda T, n: [round(T - i * T / (n - 1)) for i in range(n)]),
        ("as in a list", lambda T, n: list(range(T - 1, -1, -(T // n)))),
        ("These are floats", lambda T, n: torch.linspace(T, 0, n + 1).tolist()),
        ("These are floats", lambda T, n: [T / n * i for i in range(n, 0, -1)]),
        ("yours is a Tensor", lambda T, n: torch.tensor(stops_counted(T, n))),
    ],
    "14.11": [
        ("the exhibit itself", lambda terms: bound_looped(terms) + terms.prior),
        ("reconstruction, is missing", lambda terms: terms.recon + bound_looped(terms)),
        ("add up to -ELBO", lambda terms: -bound_by_columns(terms)),
        ("-log p already", lambda terms: bound_by_columns(terms) + 2 * terms.recon),
        ("lowers the bound", lambda terms: bound_by_columns(terms) + 2 * terms.prior),
        (
            "averaged. Their sum",
            lambda terms: bound_looped(terms._replace(steps=terms.steps / terms.steps.shape[1])),
        ),
        ("a number for each", lambda terms: sum(bound_looped(terms))),
        (
            "its own row",
            lambda terms: terms.steps.sum(1) - terms.steps.sum() + bound_looped(terms),
        ),
        ("a bound of its own", lambda terms: bound_looped(terms).sum() / len(terms.prior)),
        ("no gradient", lambda terms: bound_by_columns(terms).detach()),
    ],
    "14.12": [
        ("the exhibit itself", lambda mean, std: levels_looped(mean, std, 1 / 255)),
        ("take in what lies beyond", levels_closed),
        ("255 gaps", lambda mean, std: levels_looped(mean, std, 1 / 512)),
        ("leave gaps", lambda mean, std: levels_looped(mean, std, 0.25 / 255)),
        ("a density", levels_density),
        ("blurred", levels_rescaled),
        ("1/128 wide", lambda mean, std: levels_looped(mean, std, 2 / 512)),
        ("equal parts", levels_of_parts),
        ("used as a variance", lambda mean, std: levels_by_diff(mean, math.sqrt(std))),
    ],
    "14.13": [
        ("Both mistakes are still in", program_with(lambda t, T: t // T, "once")),
        ("in the cell that trains.", program_with(lambda t, T: t // T)),
        ("in the cell that samples.", program_with(noise="once")),
        ("in the cell that trains, and z", program_with(lambda t, T: t // T, "twice")),
        ("Both are mended, but z is drawn once too often", program_with(noise="twice")),
        ("training that must tell t / T.", program_with(whole, asked=whole)),
        ("and z is still drawn once", program_with(whole, "once", asked=whole)),
        ("pass generator=rng", program_with(noise="anywhere")),
        ("as another number", program_with(lambda t, T: 1.0 * t)),
        ("is told t where", program_with(lambda t, T: 1.0 * t, asked=lambda t, T: 1.0 * t)),
        ("the step from t = 1 adds noise", program_with(lowest=1)),
        ("missing at t = 2", program_with(lowest=3)),
        ("should be", program_with(power=1)),
        ("should be", program_with(lambda t, T: (t - 1) / T)),
        ("stopped with", lambda points, T, steps, seed: program_with()(points, T, steps, "seed")),
    ],
}

"""Answers to the exercises of lesson 07: right in other words, and wrong in known ways."""

import torch


def wall_by_stack(s_low, s_high, low, high):
    values = torch.stack([s_low, s_high])
    return values.diff(dim=0)[0] / torch.stack([low, high]).diff(dim=0)[0]


def wall_looped(s_low, s_high, low, high):
    rows = zip(s_low, s_high, low, high, strict=True)
    return torch.stack([b / (d - c) - a / (d - c) for a, b, c, d in rows])


def wall_with(upper=1.0, lower=-1.0, density=lambda width: 1 / width):
    return lambda s_low, s_high, low, high: (
        torch.add(upper * s_high, s_low, alpha=lower) * density(high - low)
    )


def jacobian_of(model, x):
    """The whole Jacobian of each example, (B, D, D), row by row."""
    rows = []
    for example in x:
        point = example[None]
        rows.append(
            torch.autograd.functional.jacobian(
                lambda y: model(y)[0], point, create_graph=True
            ).squeeze(1)
        )
    return torch.stack(rows)


def by_jacobian(model, x, v):
    return torch.einsum("bi,bij,bj->b", v, jacobian_of(model, x), v)


def by_jvp(model, x, v):
    _, along = torch.func.jvp(model, (x,), (v,))
    return (along * v).sum(-1)


def without_a_graph(model, x, v):
    y = x.detach().requires_grad_()
    return (torch.autograd.grad(torch.vdot(model(y).flatten(), v.flatten()), y)[0] * v).sum(1)


def loss_looped(net, x0, eps, noise_level):
    total = 0
    for point, noise in zip(x0, eps, strict=True):
        score = net((point + noise * noise_level)[None])[0]
        total = total + torch.dot(score + noise / noise_level, score + noise / noise_level)
    return total / (2 * len(x0))


def loss_by_places(net, x0, eps, noise_level):
    """The target as -(x - x_0) / sigma^2."""
    x = torch.add(x0, eps, alpha=noise_level)
    return 0.5 * (net(x) - (x0 - x) / noise_level**2).pow(2).sum(-1).mean()


def loss_with(scale=1.0, power=-1, seen=1, by=1.0):
    """The loss with noise_level to other powers: of the noise seen, and of the target."""

    def loss(net, x0, eps, noise_level):
        score = net(x0 + (noise_level**seen if seen is not None else 0) * eps)
        return by * torch.linalg.vector_norm(score + scale * noise_level**power * eps) ** 2 / 2

    return lambda net, x0, eps, noise_level: loss(net, x0, eps, noise_level) / len(x0)


def loss_by_mse(net, x0, eps, noise_level):
    return torch.nn.functional.mse_loss(net(x0 + noise_level * eps), -eps / noise_level) / 2


RIGHT = {
    "07.1": [wall_by_stack, wall_looped, wall_with()],
    "07.2": [by_jacobian, by_jvp],
    "07.3": [1.6, 0.5 * (4 - 0.8), torch.tensor(8 / 5)],
    "07.4": [loss_looped, loss_by_places, loss_with()],
}

WRONG = {
    "07.1": [
        ("density is missing", wall_with(density=torch.ones_like)),
        ("turned round", wall_with(-1.0, 1.0)),
        ("sum of both walls", wall_with(1.0, 1.0)),
        ("belongs to walls", wall_with(0.5, -0.5, torch.ones_like)),
        ("multiplied by the width", wall_with(density=lambda width: width)),
        ("Only the upper wall", wall_with(lower=0.0)),
        ("no gradient", lambda a, b, c, d: wall_by_stack(a, b, c, d).detach()),
    ],
    "07.2": [
        ("used once only", lambda m, x, v: torch.einsum("bi,bij->b", v, jacobian_of(m, x))),
        ("first v is missing", lambda m, x, v: torch.einsum("bij,bj->b", jacobian_of(m, x), v)),
        ("without a slope", lambda m, x, v: torch.einsum("bi,bi->b", v, m(x))),
        (
            "the trace itself",
            lambda m, x, v: jacobian_of(m, x).diagonal(dim1=1, dim2=2).sum(1),
        ),
        ("number of coordinates", lambda m, x, v: by_jacobian(m, x, v) / v.shape[1]),
        (
            "scaled to length 1",
            lambda m, x, v: by_jacobian(m, x, v / v.norm(dim=1, keepdim=True)),
        ),
        (
            "multiplied by itself",
            lambda m, x, v: torch.einsum("bi,bij->bj", v, jacobian_of(m, x)).pow(2).sum(1),
        ),
        ("summed over the batch", lambda m, x, v: by_jacobian(m, x, v).sum()),
        ("no gradient", without_a_graph),
    ],
    "07.3": [
        ("above 0", 0.0),
        ("answers 0", 2.0),
        ("factor 1/2", 3.2),
        ("Both terms", 1.2),
        ("never negative", -0.4),
        ("the clean data", 1.5),
        ("taken away", 0.4),
        ("not v", 1.375),
        ("too large", 1.7),
    ],
    "07.4": [
        ("sign of the target", loss_with(scale=-1.0)),
        ("left out the division", loss_with(power=0)),
        ("by the variance. As", loss_with(power=-2)),
        ("multiplied eps", loss_with(power=1)),
        ("not clean ones", loss_with(seen=None)),
        ("is not scaled", loss_with(seen=0)),
        ("scaled by the variance", loss_with(seen=2)),
        ("factor 1/2 is missing", loss_with(by=2.0)),
        ("over coordinates", loss_by_mse),
        (
            "summed over the batch",
            lambda net, x0, eps, level: loss_looped(net, x0, eps, level) * x0.shape[0],
        ),
        (
            "one loss for each example",
            lambda net, x0, eps, level: torch.stack(
                [loss_looped(net, x[None], e[None], level) for x, e in zip(x0, eps, strict=True)]
            ),
        ),
        ("draws random", lambda n, x0, eps, level: loss_looped(n, x0, torch.randn_like(x0), level)),
    ],
}

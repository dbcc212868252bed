"""Answers to the exercises of lesson 08: right in other words, and wrong in known ways."""

import torch


def kept_by_iteration(a, b, v):
    w = torch.zeros_like(v)
    for _ in range(400):
        w = torch.square(1 - a / v) * w + b.square()
    return w


def kept_by_series(a, b, v):
    keep = 1 - a / v
    return b * b / ((1 - keep) * (1 + keep))


def kept_with(factor=lambda a, v: 1 - a / v, noise=lambda b: b * b):
    return lambda a, b, v: noise(b) / (1 - factor(a, v).pow(2))


def walk_indexed(score, x, noise_levels, eps, ratio):
    levels, steps = eps.shape[:2]
    for i in range(levels):
        for k in range(steps):
            scale = noise_levels[i]
            x = x + ratio * scale.pow(2) * score(x, scale) / 2 + ratio**0.5 * scale * eps[i, k]
    return torch.addcmul(x, score(x, noise_levels[-1]), noise_levels[-1].square())


def walk_recursive(score, x, noise_levels, eps, ratio):
    level, *_ = noise_levels.unbind()
    for noise in eps[0].unbind():
        x = (
            torch.lerp(x, x + score(x, level), ratio * level * level / 2)
            + noise * (ratio * level * level).sqrt()
        )
    if len(noise_levels) == 1:
        return x + score(x, level) * level * level
    return walk_recursive(score, x, noise_levels[1:], eps[1:], ratio)


def walk(change):
    """The chain with some of its parts changed, by name."""
    parts = {
        "size": lambda level, rows, ratio: ratio * level * level,
        "pull": 0.5,
        "push": lambda size: size**0.5,
        "power": 2,
        "row": None,
        "order": lambda rows: rows,
        "count": None,
    } | change

    def chain(score, x, noise_levels, eps, ratio):
        rows = parts["order"](noise_levels)
        for i in range(len(rows)):
            size = parts["size"](rows[i], rows, ratio)
            level = rows[i] if parts["row"] is None else rows[parts["row"]]
            for noise in eps[i][: parts["count"]]:
                x = torch.add(x, score(x, level) * size * parts["pull"]) + noise * parts["push"](
                    size
                )
        if parts["power"] is None:
            return x
        return torch.add(x, rows[-1] ** parts["power"] * score(x, level))

    return chain


def cleaned_at_each_level(score, x, noise_levels, eps, ratio):
    for i in range(len(eps)):
        x = walk_indexed(score, x, noise_levels[i : i + 1], eps[i : i + 1], ratio)
    return x


def steps_outside(score, x, noise_levels, eps, ratio):
    for k in range(eps.shape[1]):
        for i, level in enumerate(noise_levels):
            x = x + score(x, level) * ratio * level.pow(2) / 2 + ratio**0.5 * level * eps[i, k]
    return x + level.square() * score(x, level)


def downhill(steps, last):
    """Annealed Langevin with the score times -1 in the steps, in the last step, or in both."""

    def chain(score, x, noise_levels, eps, ratio):
        x = walk({"power": None, "pull": 0.5 * steps})(score, x, noise_levels, eps, ratio)
        return x + last * noise_levels[-1] ** 2 * score(x, noise_levels[-1])

    return chain


def with_fresh_noise(score, x, noise_levels, eps, ratio):
    return walk_indexed(score, x, noise_levels, torch.randn_like(eps), ratio)


RIGHT = {
    "08.1": [0.00625**0.5, torch.tensor(0.0790569415)],
    "08.2": [kept_by_iteration, kept_by_series, kept_with()],
    "08.3": [walk_indexed, walk_recursive, walk({})],
}

WRONG = {
    "08.1": [
        ("not equal", 0.0632456),
        ("its root", 0.00625),
        ("Variances add", 0.106066),
        ("factor 2", 0.0559017),
        ("square's square", (3 / 2 / 160) ** 0.5),
        ("mean of the sum", 1.0),
        ("first half", 0.0707107),
        ("too small", 0.01),
    ],
    "08.2": [
        ("for N(0, 1)", kept_with(lambda a, v: 1 - a)),
        ("not -x v", kept_with(lambda a, v: 1 - a * v)),
        ("not b", kept_with(noise=lambda b: b)),
        ("is squared", lambda a, b, v: b * b * v / a),
        ("no further half", kept_with(lambda a, v: 1 - a / v / 2)),
        ("does not keep", lambda a, b, v: v.clone()),
        ("go to 0", lambda a, b, v: v * b.pow(2) / a / 2),
        ("fits only", lambda a, b, v: v * v / (v - a / 2)),
        ("what (32) keeps", lambda a, b, v: 2 / (2 - a)),
        ("1 / (1 - a / 4)", lambda a, b, v: 4 / (4 - a)),
        ("it pulls by a / 2", lambda a, b, v: 4 * v * v / (4 * v - a)),
        ("standard deviation", lambda a, b, v: kept_by_series(a, b, v) ** 0.5),
        ("no gradient", lambda a, b, v: kept_by_series(a, b, v).detach()),
    ],
    "08.3": [
        ("last denoising step", walk({"power": None})),
        ("must follow the level", walk({"size": lambda level, rows, ratio: ratio})),
        (
            "first level everywhere",
            walk({"size": lambda level, rows, ratio: ratio * rows[0] * rows[0]}),
        ),
        (
            "last level everywhere",
            walk({"size": lambda level, rows, ratio: ratio * rows[-1] * rows[-1]}),
        ),
        ("Take its square", walk({"size": lambda level, rows, ratio: level * ratio})),
        ("half of it", walk({"pull": 1})),
        ("Take its root", walk({"push": lambda size: size})),
        ("Here it is the root", walk({"push": lambda size: (size + size) ** 0.5})),
        ("twice as long", walk({"pull": 1, "push": lambda size: (size + size) ** 0.5})),
        ("The score is subtracted. The", downhill(-1, -1)),
        ("subtracted in the Langevin steps", downhill(-1, 1)),
        ("In the last step the score is subtracted", downhill(1, -1)),
        ("only climb", walk({"push": lambda size: 0})),
        ("not level times", walk({"power": 1})),
        ("last level all the time", walk({"row": -1})),
        ("first level all the time", walk({"row": 0})),
        ("smallest level", walk({"order": lambda rows: rows.flip(0)})),
        ("Only one step", walk({"count": 1})),
        ("after every level", cleaned_at_each_level),
        ("loops are swapped", steps_outside),
        ("draws random", with_fresh_noise),
    ],
}

"""Answers to the exercises of lesson 15, written without a look at the bank."""

import torch


def with_einsum(gradients, counts):
    shares = torch.tensor(counts, dtype=gradients[0].dtype)
    return torch.einsum("k,k...->...", shares / shares.sum(), torch.stack(gradients))


def one_by_one(gradients, counts):
    total = torch.zeros_like(gradients[0])
    for gradient, n in zip(gradients, counts, strict=True):
        total += n * gradient
    return total / sum(counts)


def mean_of_means(gradients, counts):
    return torch.stack(gradients).mean(0)


def added(gradients, counts):
    return torch.stack(gradients).sum(0)


def by_rows_only(gradients, counts):
    return sum(g * n for g, n in zip(gradients, counts, strict=True))


def by_parts(gradients, counts):
    return by_rows_only(gradients, counts) / len(counts)


def upside_down(gradients, counts):
    inverse = torch.tensor([1 / n for n in counts], dtype=gradients[0].dtype)
    return torch.einsum("k,k...->...", inverse / inverse.sum(), torch.stack(gradients))


def twice_divided(gradients, counts):
    return added(gradients, counts) / sum(counts)


def a_loop(order, batch, step, rank, world):
    rows = order.tolist()[step * batch :][:batch]
    return order.new_tensor([row for i, row in enumerate(rows) if i % world == rank])


def a_view(order, batch, step, rank, world):
    return order[: len(order) // batch * batch].view(-1, batch // world, world)[step, :, rank]


def all_of_it(order, batch, step, rank, world):
    return order[step * batch : (step + 1) * batch]


def blocks(order, batch, step, rank, world):
    return all_of_it(order, batch, step, rank, world).chunk(world)[rank]


def a_batch_each(order, batch, step, rank, world):
    return order.split(batch)[step * world + rank]


def always_the_first(order, batch, step, rank, world):
    return order[rank:batch:world]


def from_one(order, batch, step, rank, world):
    return order[(step - 1) * batch + rank : step * batch : world]


def no_rank(order, batch, step, rank, world):
    return order[step * batch : (step + 1) * batch : world]


def places(order, batch, step, rank, world):
    return torch.arange(len(order))[step * batch + rank : (step + 1) * batch : world]


def to_the_end(order, batch, step, rank, world):
    return order[step * batch :][rank::world]


def dealt_out_first(order, batch, step, rank, world):
    return order.view(-1, world)[:, rank].split(batch)[step]


def by_spacing():
    a = 2.0**-20
    while (1 - a) * 0.002 >= 2.0 ** -(10 if a < 0.5 else 9):
        a += 2.0**-20
    return a


def all_at_once(parts, k):
    world = len(parts)
    ranks = torch.arange(world)
    c = (ranks - k) % world
    new = parts.clone()
    moved = parts[ranks, c]
    here = parts[(ranks + 1) % world, c]
    new[(ranks + 1) % world, c] = moved + here if k + 1 < world else moved
    return new


def receiver_by_receiver(parts, k):
    world = len(parts)
    rows = []
    for me in range(world):
        row = list(parts[me])
        c = (me - 1 - k) % world
        row[c] = parts[me - 1][c] + row[c] * (k < world - 1)
        rows.append(torch.stack(row))
    return torch.stack(rows)


def played(parts, k, *, c=lambda r, k: r - k, to=lambda r: r + 1, add=lambda k, w: k < w - 1):
    new = parts.clone()
    w = len(parts)
    for r in range(w):
        j, other = c(r, k) % w, to(r) % w
        new[other, j] = parts[r, j] + parts[other, j] if add(k, w) else parts[r, j]
    return new


def sent_away(parts, k):
    ranks = torch.arange(len(parts))
    new = all_at_once(parts, k)
    new[ranks, (ranks - k) % len(parts)] = 0
    return new


RIGHT = {
    "15.1": [with_einsum, one_by_one],
    "15.2": [a_loop, a_view],
    "15.3": [by_spacing, lambda: 0.5],
    "15.4": [all_at_once, receiver_by_receiver],
}
WRONG = {
    "15.1": [
        ("the mean of the means", mean_of_means),
        ("That is their sum", added),
        ("right but for the total", by_rows_only),
        ("divided by the number of parts", by_parts),
        ("Small parts got the large weights", upside_down),
        ("divides by the rows once more", twice_divided),
        ("the largest part alone", lambda gradients, counts: gradients[counts.index(max(counts))]),
    ],
    "15.2": [
        ("the whole global batch", all_of_it),
        ("A block of the batch", blocks),
        ("a batch of its own", a_batch_each),
        ("the rows of the first", always_the_first),
        ("one step behind", from_one),
        ("the rows of rank 0", no_rank),
        ("places in the order", places),
        ("There is no end", to_the_end),
        ("dealt out first", dealt_out_first),
    ],
    "15.3": [
        ("should end", lambda: 1.0),
        ("half the distance is enough", lambda: 0.25),
        ("there it still moves", lambda: 0.0234375),
        ("Your number lies above it", lambda: 0.51171875),
        ("the first step", lambda: 0.002),
    ],
    "15.4": [
        ("replaces in every round", lambda p, k: played(p, k, add=lambda k, w: False)),
        ("adds in every round", lambda p, k: played(p, k, add=lambda k, w: True)),
        ("are exchanged", lambda p, k: played(p, k, add=lambda k, w: k >= w - 1)),
        ("one round too many", lambda p, k: played(p, k, add=lambda k, w: k < w)),
        ("one round too few", lambda p, k: played(p, k, add=lambda k, w: k < w - 2)),
        ("the rank before", lambda p, k: played(p, k, to=lambda r: r - 1)),
        ("not r + k", lambda p, k: played(p, k, c=lambda r, k: r + k)),
        ("the same part. It is r - k, and changes", lambda p, k: played(p, k, c=lambda r, k: r)),
        ("the receiver's rank", lambda p, k: played(p, k, c=lambda r, k: r + 1 - k)),
        ("What was sent is gone", sent_away),
        ("Nothing has moved", lambda p, k: p),
    ],
}

"""Answers to the exercises of lesson 13, written without a look at the bank."""

from itertools import pairwise

import torch
import torch.nn.functional as F


def with_mse(model, x0, eps, time):
    x = torch.lerp(x0, eps, time.reshape(-1, 1))
    return F.mse_loss(model(x, time), eps - x0)


def row_by_row(model, x0, eps, time):
    rows = []
    for i in range(len(x0)):
        x = x0[i] + time[i] * (eps[i] - x0[i])
        answer = model(x[None], time[i : i + 1])[0]
        rows.append(((eps[i] - x0[i]) - answer).pow(2).mean())
    return torch.stack(rows).mean()


def placed(x, x0, eps, model, time):
    return (model(x, time) - (eps - x0)).pow(2).mean()


def noise_at_0(model, x0, eps, time):
    return placed(torch.lerp(eps, x0, time[:, None]), x0, eps, model, time)


def to_data(model, x0, eps, time):
    x = torch.lerp(x0, eps, time[:, None])
    return F.mse_loss(model(x, time), x0 - eps)


def guesses_noise(model, x0, eps, time):
    x = torch.lerp(x0, eps, time[:, None])
    return F.mse_loss(model(x, time), eps)


def guesses_data(model, x0, eps, time):
    x = torch.lerp(x0, eps, time[:, None])
    return F.mse_loss(model(x, time), x0)


def summed(model, x0, eps, time):
    x = torch.lerp(x0, eps, time[:, None])
    return F.mse_loss(model(x, time), eps - x0, reduction="sum")


def sum_of_coordinates(model, x0, eps, time):
    x = torch.lerp(x0, eps, time[:, None])
    return F.mse_loss(model(x, time), eps - x0) * x0.shape[1]


def absolute(model, x0, eps, time):
    x = torch.lerp(x0, eps, time[:, None])
    return F.l1_loss(model(x, time), eps - x0)


def with_roots(model, x0, eps, time):
    t = time[:, None]
    return placed(t.sqrt() * eps + (1 - t).sqrt() * x0, x0, eps, model, time)


def one_time_along_the_rows(model, x0, eps, time):
    return placed(x0 + time * (eps - x0), x0, eps, model, time)


def turned(theirs, x, time):
    return torch.neg(theirs(x, 1.0 - time))


def by_its_ends(theirs, x, time):
    t = time[:, None]
    answer = theirs(x, 1 - time)  # data - noise
    data = x + t * answer
    noise = data - answer
    return noise - data


def time_alone(theirs, x, time):
    return +theirs(x, 1 - time)


def sign_alone(theirs, x, time):
    return 0 - theirs(x, time)


def as_it_is(theirs, x, time):
    return theirs(x, time).clone()


def mirrored(theirs, x, time):
    return -theirs(0 - x, 1 - time)


def below_0(theirs, x, time):
    return -theirs(x, 0 - time)


def in_place_of_lists(velocity, eps, times):
    path = [eps]
    for i in range(1, len(times)):
        t, s = times[i - 1], times[i]
        path.append(path[-1] - (t - s) * velocity(path[-1], t * torch.ones_like(eps[:, 0])))
    return path[-1], path[0]


def back_from_1(velocity, eps, times):
    x, t = eps.clone(), times[0]
    for s in times[1:]:
        x, t = x + velocity(x, t.repeat(len(eps))) * (s - t), s
    return [x, eps]


def stepped(velocity, eps, times, length, ask=0):
    x = eps
    for i in range(len(times) - 1):
        x = x + length(times, i) * velocity(x, times[i + ask].repeat(len(eps)))
    return x


def away(velocity, eps, times):
    return stepped(velocity, eps, times, lambda t, i: t[i] - t[i + 1]), eps


def asked_ahead(velocity, eps, times):
    return stepped(velocity, eps, times, lambda t, i: t[i + 1] - t[i], ask=1), eps


def other_way_round(velocity, eps, times):
    return eps, stepped(velocity, eps, times, lambda t, i: t[i + 1] - t[i])


def no_noise(velocity, eps, times):
    return stepped(velocity, eps, times, lambda t, i: t[i + 1] - t[i])


def twice_the_end(velocity, eps, times):
    return (stepped(velocity, eps, times, lambda t, i: t[i + 1] - t[i]),) * 2


def in_one(velocity, eps, times):
    return eps - velocity(eps, times[:1].repeat(len(eps))), eps


def stops_before_0(velocity, eps, times):
    return stepped(velocity, eps, times[:-1], lambda t, i: t[i + 1] - t[i]), eps


def never_moves_on(velocity, eps, times):
    x = eps
    for t, s in pairwise(times):
        x = x + (s - t) * velocity(eps, t.repeat(len(eps)))
    return x, eps


RIGHT = {
    "13.1": [with_mse, row_by_row],
    "13.2": [turned, by_its_ends],
    "13.3": [1.2, 6 / 5],
    "13.4": [in_place_of_lists, back_from_1],
}
WRONG = {
    "13.1": [
        ("exchanged on the line", noise_at_0),
        ("target has the other sign", to_data),
        ("The target is the noise", guesses_noise),
        ("The target is the data", guesses_data),
        ("Squares were added. Take their mean", summed),
        ("added over the coordinates", sum_of_coordinates),
        ("mean of the sizes", absolute),
        ("that of a diffusion", with_roots),
        ("broadcast along the rows", one_time_along_the_rows),
    ],
    "13.2": [
        ("The time is turned", time_alone),
        ("The sign is turned", sign_alone),
        ("their velocity as it is", as_it_is),
        ("place was turned round", mirrored),
        ("outside [0, 1]", below_0),
    ],
    "13.3": [
        ("takes x_0 to be 0", 2),
        ("standard deviation 1/2", 2 / 3),
        ("best guess of the noise", 1.6),
        ("best guess of the data", 0.4),
        ("squares of both factors", 0.6),
        ("That is the covariance", 0.375),
        ("sign is turned round", -1.2),
        ("too small", 1.1),
    ],
    "13.4": [
        ("wrong sign", away),
        ("Euler asks at its start", asked_ahead),
        ("wrong way round", other_way_round),
        ("needs its noise", no_noise),
        ("Both are the end", twice_the_end),
        ("one step over the whole way", in_one),
        ("last step, to time 0", stops_before_0),
        ("asked at the noise", never_moves_on),
    ],
}

"""Answers to the exercises of lesson 05, written without a look at the bank."""

import math

import torch
import torch.nn.functional as F

import diffusion_core as dc


def with_the_package(schedule, model, x0, t, eps):
    return F.mse_loss(model(dc.q_sample(schedule, x0, t, eps), t), eps)


def row_by_row(schedule, model, x0, t, eps):
    rows = []
    for i, step in enumerate(t.tolist()):
        keep = schedule.alpha_bars[step].item()
        x_t = math.sqrt(keep) * x0[i] + math.sqrt(1 - keep) * eps[i]
        rows.append((model(x_t[None], t[i : i + 1])[0] - eps[i]).pow(2).mean())
    return torch.stack(rows).mean()


def by_products(schedule, model, x0, t, eps):
    keep = torch.stack([(1 - schedule.betas[1 : s + 1]).prod() for s in t.tolist()]).to(x0)
    x_t = torch.einsum("b,bd->bd", keep**0.5, x0) + torch.einsum("b,bd->bd", (1 - keep) ** 0.5, eps)
    return torch.mean((eps - model(x_t, t)) ** 2)


def noisy(x0, eps, signal, noise):
    return torch.stack([a * x + b * e for x, e, a, b in zip(x0, eps, signal, noise, strict=True)])


def asked_with(signal=0.5, noise=0.5, shift=0):
    """The loss with other powers of alpha_bar_t and 1 - alpha_bar_t, or another row."""

    def loss(schedule, model, x0, t, eps):
        keep = schedule.alpha_bars[t + shift].to(x0)
        x_t = noisy(x0, eps, keep**signal, (1 - keep) ** noise)
        return F.mse_loss(model(x_t, t), eps)

    return loss


def exchanged(schedule, model, x0, t, eps):
    keep = schedule.alpha_bars[t].to(x0)
    return F.mse_loss(model(noisy(x0, eps, (1 - keep) ** 0.5, keep**0.5), t), eps)


def one_step(schedule, model, x0, t, eps):
    keep = 1 - schedule.betas[t].to(x0)
    return F.mse_loss(model(noisy(x0, eps, keep**0.5, (1 - keep) ** 0.5), t), eps)


def flat(schedule, model, x0, t, eps):
    keep = schedule.alpha_bars.to(x0.dtype)[t]
    x_t = torch.sqrt(keep) * x0 + torch.sqrt(1 - keep) * eps
    return F.mse_loss(model(x_t, t), eps)


def not_cast(schedule, model, x0, t, eps):
    keep = schedule.alpha_bars[t].unsqueeze(1)
    return F.mse_loss(model(keep**0.5 * x0 + (1 - keep) ** 0.5 * eps, t), eps)


def shown_clean(schedule, model, x0, t, eps):
    return F.mse_loss(model(x0, t), eps)


def asked_early(schedule, model, x0, t, eps):
    return F.mse_loss(model(dc.q_sample(schedule, x0, t, eps), t - 1), eps)


def judged_by(judge):
    def loss(schedule, model, x0, t, eps):
        return judge(model(dc.q_sample(schedule, x0, t, eps), t), eps, x0)

    return loss


def step_with_posterior(schedule, model, x, t):
    """The mean (8) with the guess of x_0."""
    many = torch.full((len(x),), t)
    x0_hat = dc.x0_from_eps(schedule, x, model(x, many), t)
    return dc.q_posterior(schedule, x, x0_hat, t).mean


def by_the_posterior(schedule, model, x_T, noises):
    x, t = x_T, schedule.T
    while t > 0:
        x = step_with_posterior(schedule, model, x, t)
        x = x + (t != 1) * (1 - schedule.alphas[t]) ** 0.5 * noises[t]
        t -= 1
    return x


def with_the_score(schedule, model, x_T, noises):
    x = x_T.clone()
    for t in reversed(range(1, schedule.T + 1)):
        score = dc.score_from_eps(schedule, model(x, x.new_full((len(x),), t, dtype=torch.long)), t)
        x = torch.rsqrt(schedule.alphas[t]) * (x + schedule.betas[t] * score)
        if t == 1:
            return x
        x = torch.add(x, noises[t], alpha=schedule.betas[t].sqrt().item())


def recursive(schedule, model, x_T, noises, t=None):
    t = schedule.T if t is None else t
    if t == 0:
        return x_T
    x = step_with_posterior(schedule, model, x_T, t)
    if t > 1:
        x = torch.addcmul(x, schedule.betas[t].sqrt().to(x), noises[t])
    return recursive(schedule, model, x, noises, t - 1)


def walk_with(noise=lambda s, t: s.betas[t].sqrt() if t > 1 else 0.0, *, first=0, last=1, ask=None):
    """The walk by posterior means with other noise, other ends, or asked at other times."""

    def walk(schedule, model, x_T, noises):
        x = x_T
        for t in list(range(last, schedule.T + 1 - first))[::-1]:

            def asked(x_t, many):
                return model(x_t, many if ask is None else ask(many, schedule.T))

            x = step_with_posterior(schedule, asked, x, t) + noise(schedule, t) * noises[t]
        return x

    return walk


def walk_by_11(beta=1.0, noise=-0.5, kept=-0.5, sign=-1, row=0, all_back=False):
    """The walk by (11) with other powers."""

    def walk(schedule, model, x_T, noises):
        x = x_T
        for t in range(schedule.T, 0, -1):
            b, a = schedule.betas[t + row], schedule.alpha_bars[t + row]
            scale = (a if all_back else 1 - b) ** kept
            x = scale * (x + sign * b**beta * (1 - a) ** noise * model(x, torch.full((len(x),), t)))
            x = x + b**0.5 * noises[t] * (t > 1)
        return x

    return walk


def noise_of_the_next(schedule, model, x_T, noises):
    return walk_with()(schedule, model, x_T, noises.roll(1, 0))


def upwards(schedule, model, x_T, noises):
    x = x_T
    for t in range(1, schedule.T + 1):
        x = step_with_posterior(schedule, model, x, t)
        x = x + (t > 1) * schedule.betas[t].sqrt() * noises[t]
    return x


def from_the_start(schedule, model, x_T, noises):
    x = x_T
    for t in range(schedule.T, 0, -1):
        eps_hat = model(x_T, torch.full((len(x_T),), t))
        x = x - schedule.betas[t] / (1 - schedule.alpha_bars[t]).sqrt() * eps_hat
        x = x / schedule.alphas[t].sqrt() + (t > 1) * schedule.betas[t].sqrt() * noises[t]
    return x


def one_number_for_all(schedule, model, x_T, noises):
    return model(x_T, schedule.T)


def in_this_order(*calls):
    """A loop that makes these calls for each batch."""

    def training(model, loss, optimizer, batches):
        kept = []
        for x0 in batches:
            names = {"zero": model.zero_grad, "step": optimizer.step}
            for call in calls:
                if call == "ask":
                    value = loss(model, x0)
                    names["back"] = value.backward
                else:
                    names[call]()
            kept.append(float(value))
        return kept

    return training


def zero_at_the_end(model, loss, optimizer, batches):
    losses = []
    for x0 in batches:
        value = loss(model, x0)
        value.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        losses += [value.item()]
    return losses


def by_autograd(model, loss, optimizer, batches):
    def update(x0):
        weights = list(model.parameters())
        value = loss(model, x0)
        for weight, slope in zip(weights, torch.autograd.grad(value, weights), strict=True):
            weight.grad = slope
        optimizer.step()
        return value.item()

    return [update(x0) for x0 in batches]


def first_alone(model, loss, optimizer, batches):
    for x0 in batches:
        optimizer.zero_grad()
        value = loss(model, x0)
        value.backward()
        optimizer.step()
        return [value.item()]


def last_alone(model, loss, optimizer, batches):
    return in_this_order("zero", "ask", "back", "step")(model, loss, optimizer, batches)[-1]


def mean_alone(model, loss, optimizer, batches):
    losses = zero_at_the_end(model, loss, optimizer, batches)
    return sum(losses) / len(losses)


def with_graphs(model, loss, optimizer, batches):
    losses = []
    for x0 in batches:
        optimizer.zero_grad()
        losses.append(loss(model, x0))
        losses[-1].backward()
        optimizer.step()
    return losses


def twice(model, loss, optimizer, batches):
    doubled = (x for x0 in batches for x in (x0, x0))
    return zero_at_the_end(model, loss, optimizer, doubled)


def noted_late(model, loss, optimizer, batches):
    losses = []
    for x0 in batches:
        zero_at_the_end(model, loss, optimizer, [x0])
        losses.append(loss(model, x0).item())
    return losses


RIGHT = {
    "05.1": [with_the_package, row_by_row, by_products],
    "05.2": [by_the_posterior, with_the_score, recursive, walk_with(), walk_by_11()],
    "05.3": [0.36, 1 - 0.8**2, torch.tensor(0.6).square()],
    "05.4": [zero_at_the_end, by_autograd, in_this_order("ask", "zero", "back", "step")],
}

WRONG = {
    "05.1": [
        ("shown the clean data", shown_clean),
        ("both roots".capitalize(), asked_with(1, 1)),
        ("missing at the noise", asked_with(0.5, 1)),
        ("missing at the data", asked_with(1, 0.5)),
        ("exchanged", exchanged),
        ("Off by one", asked_with(shift=-1)),
        ("one step only", one_step),
        ("along the rows", flat),
        ("cast the row", not_cast),
        ("asked at t - 1", asked_early),
        ("target is the data", judged_by(lambda given, eps, x0: F.mse_loss(given, x0))),
        ("added to the noise", judged_by(lambda given, eps, x0: F.mse_loss(-given, eps))),
        (
            "over the coordinates",
            judged_by(lambda given, eps, x0: F.mse_loss(given, eps) * x0.shape[1]),
        ),
        (
            "over all examples",
            judged_by(lambda given, eps, x0: F.mse_loss(given, eps, reduction="sum")),
        ),
        ("mean of the sizes", judged_by(lambda given, eps, x0: F.l1_loss(given, eps))),
        (
            "root of the mean square",
            judged_by(lambda given, eps, x0: F.mse_loss(given, eps) ** 0.5),
        ),
        ("no gradient", judged_by(lambda given, eps, x0: F.mse_loss(given, eps).detach())),
    ],
    "05.2": [
        ("a variance", walk_with(lambda s, t: s.betas[t] * (t > 1))),
        ("at t = 1, too", walk_with(lambda s, t: s.betas[t] ** 0.5)),
        ("t = 2 either", walk_with(lambda s, t: s.betas[t] ** 0.5 * (t > 2))),
        ("walk of the means", walk_with(lambda s, t: 0.0)),
        ("the other choice", walk_with(lambda s, t: s.posterior_vars[t] ** 0.5)),
        ("to clean data, is missing", walk_with(last=2)),
        ("first step", walk_with(first=1)),
        ("from 1 up", upwards),
        ("Off by one", walk_by_11(row=-1)),
        ("you took noises[t - 1]", noise_of_the_next),
        ("at T in each step", walk_with(ask=lambda many, T: 0 * many + T)),
        ("still at t", walk_with(ask=lambda many, T: many - 1)),
        ("saw x_T", from_the_start),
        ("root of 1 - alpha_bar_t is missing", walk_by_11(noise=-1)),
        ("You used 1 - alpha_t", walk_by_11(beta=0.5, noise=0)),
        ("all the way back", walk_by_11(all_back=True)),
        ("divided by alpha_t.", walk_by_11(kept=-1)),
        ("1 / sqrt(alpha_t) is missing", walk_by_11(kept=0)),
        ("once more in the mean", walk_by_11(sign=1)),
        ("one step for each", one_number_for_all),
    ],
    "05.3": [
        ("not even".capitalize(), 0.0),
        ("always 0", 1.0),
        ("variance of the best guess", 0.64),
        ("factor of x_t", 0.8),
        ("a standard deviation", 0.6),
        ("too large", 0.5),
    ],
    "05.4": [
        ("add up", in_this_order("ask", "back", "step")),
        ("set to 0 before", in_this_order("ask", "back", "zero", "step")),
        ("no step is taken", in_this_order("zero", "ask", "back")),
        ("never computed", in_this_order("zero", "ask", "step")),
        ("batch before", in_this_order("ask", "step", "zero", "back")),
        ("return inside the loop", first_alone),
        ("last loss alone", last_alone),
        ("mean of the losses", mean_alone),
        ("use .item()", with_graphs),
        ("used twice", twice),
        ("after the update", noted_late),
    ],
}

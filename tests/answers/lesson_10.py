"""Answers to the exercises of lesson 10, written without a look at the bank."""

import torch
import torch.nn.functional as F


def by_cross_entropy(eps_hat, x_t, classifier, y, alpha_bar_t):
    x = x_t.clone().detach().requires_grad_(True)
    with torch.enable_grad():
        loss = F.cross_entropy(classifier(x), y, reduction="sum")
        loss.backward()
    return eps_hat + (1 - alpha_bar_t) ** 0.5 * x.grad


def example_by_example(eps_hat, x_t, classifier, y, alpha_bar_t):
    rows = []
    for i in range(len(y)):
        x = x_t[i : i + 1].detach().requires_grad_()
        with torch.enable_grad():
            logits = classifier(x)[0]
            log_p = logits[y[i]] - logits.logsumexp(0)
        rows.append(torch.autograd.grad(log_p, x)[0])
    return eps_hat - torch.cat(rows) * (1 - alpha_bar_t) ** 0.5


def with_the_jacobian(eps_hat, x_t, classifier, y, alpha_bar_t):
    def log_p(x):
        return classifier(x).softmax(1)[range(len(y)), y].log()

    with torch.enable_grad():
        j = torch.autograd.functional.jacobian(log_p, x_t.detach())
    pull = torch.stack([j[i, i] for i in range(len(y))])
    return eps_hat - (1 - alpha_bar_t) ** 0.5 * pull


def pulled(eps_hat, x_t, value, factor):
    """Return eps_hat less a factor times the gradient of value(x)."""
    with torch.enable_grad():
        x = x_t.detach().clone().requires_grad_()
        (pull,) = torch.autograd.grad(value(x), x)
    return eps_hat - factor * pull


def of_a_logit(eps_hat, x_t, classifier, y, alpha_bar_t):
    rows = torch.arange(len(y))
    return pulled(eps_hat, x_t, lambda x: classifier(x)[rows, y].sum(), (1 - alpha_bar_t) ** 0.5)


def nll(classifier, y, reduction="sum"):
    return lambda x: -F.cross_entropy(classifier(x), y, reduction=reduction)


def in_place_of_the_score(eps_hat, x_t, classifier, y, alpha_bar_t):
    return pulled(eps_hat, x_t, nll(classifier, y), 1)


def by_the_variance(eps_hat, x_t, classifier, y, alpha_bar_t):
    return pulled(eps_hat, x_t, nll(classifier, y), 1 - alpha_bar_t)


def by_the_signal(eps_hat, x_t, classifier, y, alpha_bar_t):
    return pulled(eps_hat, x_t, nll(classifier, y), alpha_bar_t**0.5)


def away(eps_hat, x_t, classifier, y, alpha_bar_t):
    return pulled(eps_hat, x_t, nll(classifier, y), -((1 - alpha_bar_t) ** 0.5))


def a_mean_loss(eps_hat, x_t, classifier, y, alpha_bar_t):
    return pulled(eps_hat, x_t, nll(classifier, y, "mean"), (1 - alpha_bar_t) ** 0.5)


def divided(eps_hat, x_t, classifier, y, alpha_bar_t):
    return pulled(eps_hat, x_t, nll(classifier, y), 1 / (1 - alpha_bar_t) ** 0.5)


def the_pull_alone(eps_hat, x_t, classifier, y, alpha_bar_t):
    return pulled(0 * eps_hat, x_t, nll(classifier, y), (1 - alpha_bar_t) ** 0.5)


def a_probability(eps_hat, x_t, classifier, y, alpha_bar_t):
    def value(x):
        return classifier(x).softmax(1)[range(len(y)), y].sum()

    return pulled(eps_hat, x_t, value, (1 - alpha_bar_t) ** 0.5)


def to_the_likeliest(eps_hat, x_t, classifier, y, alpha_bar_t):
    return by_cross_entropy(eps_hat, x_t, classifier, classifier(x_t).argmax(1), alpha_bar_t)


def a_score(eps_hat, x_t, classifier, y, alpha_bar_t):
    return -by_cross_entropy(eps_hat, x_t, classifier, y, alpha_bar_t) / (1 - alpha_bar_t) ** 0.5


def factor_before_all(eps_hat, x_t, classifier, y, alpha_bar_t):
    pull = pulled(0 * eps_hat, x_t, nll(classifier, y), -1)
    return (1 - alpha_bar_t) ** 0.5 * (eps_hat - pull)


def of_length_1(eps_hat, x_t, classifier, y, alpha_bar_t):
    pull = pulled(0 * eps_hat, x_t, nll(classifier, y), -1)
    return eps_hat - (1 - alpha_bar_t) ** 0.5 * pull / pull.norm(dim=1, keepdim=True)


def weighted(told, untold, sigma, between, w):
    scale = w if between[0] < sigma < between[1] else 1.0
    return scale * told + (1 - scale) * untold


def by_strength(told, untold, sigma, between, w):
    low, high = between
    strength = (w - 1) * float(sigma > low) * float(sigma < high)
    return (1 + strength) * told - strength * untold


def no_label_outside(told, untold, sigma, between, w):
    inside = between[0] <= sigma <= between[1]
    return untold + (w if inside else 0) * (told - untold)


def everywhere(told, untold, sigma, between, w):
    return (1 - w) * untold + w * told


def outside_only(told, untold, sigma, between, w):
    if between[0] < sigma < between[1]:
        return told
    return (1 - w) * untold + w * told


def nowhere(told, untold, sigma, between, w):
    return told.clone()


def from_the_lowest(told, untold, sigma, between, w):
    return (1 - w) * untold + w * told if sigma > between[0] else told


def to_the_highest(told, untold, sigma, between, w):
    return (1 - w) * untold + w * told if sigma < between[1] else told


def other_scale(told, untold, sigma, between, w):
    if between[0] < sigma < between[1]:
        return told + w * told - w * untold
    return told


def exchanged(told, untold, sigma, between, w):
    if between[0] < sigma < between[1]:
        return (1 - w) * told + w * untold
    return told


def strength_from_untold(told, untold, sigma, between, w):
    if between[0] < sigma < between[1]:
        return (2 - w) * untold + (w - 1) * told
    return told


def no_difference(told, untold, sigma, between, w):
    return w * told + untold if between[0] < sigma < between[1] else told


def silent_outside(told, untold, sigma, between, w):
    if between[0] < sigma < between[1]:
        return (1 - w) * untold + w * told
    return torch.zeros_like(told)


def halfway_outside(told, untold, sigma, between, w):
    scale = w if between[0] < sigma < between[1] else 0.5
    return untold + scale * (told - untold)


RIGHT = {
    "10.1": [by_cross_entropy, example_by_example, with_the_jacobian],
    "10.2": [1 / 7, 0.142857],
    "10.3": [weighted, by_strength],
}
WRONG = {
    "10.1": [
        ("gradient of a logit", of_a_logit),
        ("gradient of a probability", a_probability),
        ("in front of the gradient is missing", in_place_of_the_score),
        ("not its variance", by_the_variance),
        ("not alpha_bar_t", by_the_signal),
        ("leads away", away),
        ("mean over the batch", a_mean_loss),
        ("You divided", divided),
        ("eps_hat itself is missing", the_pull_alone),
        ("y was not used", to_the_likeliest),
        ("score of the class", a_score),
        ("applied to eps_hat, too", factor_before_all),
        ("vector of length 1", of_length_1),
    ],
    "10.2": [
        ("variance at w = 1", 0.25),
        ("what the ODE draws", 0.0625),
        ("That is the precision", 7.0),
        ("own precision", 1 / 6),
        ("smaller, not larger", 0.4),
        ("standard deviation", 0.37796),
        ("whole posterior", 0.125),
        ("w itself as its power", 0.1),
        ("Do not square it", 1 / 19),
        ("too large", 0.9),
    ],
    "10.3": [
        ("label was dropped", no_label_outside),
        ("That guides at every level", everywhere),
        ("Inside and outside", outside_only),
        ("never guides", nowhere),
        ("highest level is not looked at", from_the_lowest),
        ("lowest level is not looked at", to_the_highest),
        ("right of (47)", other_scale),
        ("two answers are exchanged", exchanged),
        ("w - 1 counts from the label", strength_from_untold),
        ("difference of the two answers", no_difference),
        ("answered with zeros", silent_outside),
        ("mean of both answers", halfway_outside),
    ],
}

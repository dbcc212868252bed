"""Answers to the exercises of lesson 12, written without a look at the bank."""

import math

import torch
from torch.distributions import Independent, Normal, kl_divergence


def by_torch(mean, log_var):
    q = Normal(mean, torch.exp(log_var / 2))
    return kl_divergence(q, Normal(torch.zeros_like(mean), 1.0)).flatten(1).sum(1)


def picture_by_picture(mean, log_var):
    rows = []
    for m, v in zip(mean, log_var, strict=True):
        rows.append((m.square().sum() + torch.expm1(v).sum() - v.sum()) / 2)
    return torch.stack(rows)


def by_entropy(mean, log_var):
    q = Normal(mean, (0.5 * log_var).exp())
    cross = 0.5 * (math.log(2 * math.pi) + mean**2 + log_var.exp())
    return (cross - q.entropy()).flatten(1).sum(1)


def averaged(mean, log_var):
    return by_torch(mean, log_var) / mean[0].numel()


def over_the_batch(mean, log_var):
    return by_torch(mean, log_var).mean()


def all_of_it(mean, log_var):
    return by_torch(mean, log_var).sum()


def as_a_deviation(mean, log_var):
    q = Normal(mean, torch.exp(log_var))
    each = kl_divergence(q, Normal(torch.zeros_like(mean), 1.0)) + log_var / 2
    return each.flatten(1).sum(1)


def wrong_way_round(mean, log_var):
    q = Normal(mean, torch.exp(log_var / 2))
    return kl_divergence(Normal(torch.zeros_like(mean), 1.0), q).flatten(1).sum(1)


def no_half(mean, log_var):
    return 2 * by_torch(mean, log_var)


def negative(mean, log_var):
    return torch.einsum("bi->b", (1 + log_var - mean**2 - log_var.exp()).flatten(1))


def half_negative(mean, log_var):
    return negative(mean, log_var) / 2


def no_one(mean, log_var):
    return by_torch(mean, log_var) + mean[0].numel() / 2


def no_mean(mean, log_var):
    return by_torch(torch.zeros_like(mean), log_var)


def no_log(mean, log_var):
    return by_torch(mean, log_var) + log_var.flatten(1).sum(1) / 2


def second(mean, log_var):
    axes = [0, *range(2, mean.ndim)]
    return (mean.square() + log_var.exp()).mean(axes)


def over_axes(mean, log_var):
    return second(mean, log_var).sqrt().reciprocal()


def channel_by_channel(mean, log_var):
    found = []
    for c in range(mean.shape[1]):
        m, v = mean[:, c].flatten(), log_var[:, c].flatten()
        found.append(1 / ((m @ m + v.exp().sum()) / len(m)).sqrt())
    return torch.stack(found)


def of_means(mean, log_var):
    return mean.square().mean([0, *range(2, mean.ndim)]) ** -0.5


def of_noise(mean, log_var):
    return log_var.exp().mean([0, *range(2, mean.ndim)]) ** -0.5


def of_spread(mean, log_var):
    axes = [0, *range(2, mean.ndim)]
    return (mean.var(axes, correction=0) + log_var.exp().mean(axes)) ** -0.5


def one_for_all(mean, log_var):
    return (mean.square() + log_var.exp()).mean() ** -0.5


def same_for_all(mean, log_var):
    return one_for_all(mean, log_var).repeat(mean.shape[1])


def rootless(mean, log_var):
    return 1 / second(mean, log_var)


def upside_down(mean, log_var):
    return second(mean, log_var) ** 0.5


def the_moment(mean, log_var):
    return second(mean, log_var)


def squared_variance(mean, log_var):
    return second(mean, 2 * log_var) ** -0.5


def by_distributions(x, x_hat, mean, log_var, log_decoder_var):
    p = Independent(Normal(x_hat, (log_decoder_var / 2).exp()), 1)
    return -(p.log_prob(x) - by_torch(mean, log_var)).mean()


def summed_and_divided(x, x_hat, mean, log_var, log_decoder_var):
    B, D = x.shape
    error = ((x - x_hat) ** 2).sum() * torch.exp(-log_decoder_var)
    kl = (mean**2 + log_var.exp() - log_var - 1).sum()
    return (error + B * D * (log_decoder_var + math.log(2 * math.pi)) + kl) / (2 * B)


def pixel_mean(x, x_hat, mean, log_var, log_decoder_var):
    off = by_distributions(x, x_hat, mean, log_var, log_decoder_var)
    error = ((x - x_hat) ** 2).sum(1).mean() / (2 * log_decoder_var.exp())
    return off - error + error / x.shape[1]


def unit_sigma(x, x_hat, mean, log_var, log_decoder_var):
    return by_distributions(x, x_hat, mean, log_var, 0 * log_decoder_var)


def no_height(x, x_hat, mean, log_var, log_decoder_var):
    error = ((x - x_hat) ** 2).sum(1) / (2 * log_decoder_var.exp())
    return (error + by_torch(mean, log_var)).mean()


def one_height(x, x_hat, mean, log_var, log_decoder_var):
    height = -Normal(0.0, (log_decoder_var / 2).exp()).log_prob(torch.zeros_like(log_decoder_var))
    return no_height(x, x_hat, mean, log_var, log_decoder_var) + height


def no_pi(x, x_hat, mean, log_var, log_decoder_var):
    right = by_distributions(x, x_hat, mean, log_var, log_decoder_var)
    return right - x.shape[1] / 2 * math.log(2 * math.pi)


def the_elbo(x, x_hat, mean, log_var, log_decoder_var):
    return -by_distributions(x, x_hat, mean, log_var, log_decoder_var)


def kl_times(factor):
    def loss(x, x_hat, mean, log_var, log_decoder_var):
        right = by_distributions(x, x_hat, mean, log_var, log_decoder_var)
        return right + (factor(mean) - 1) * by_torch(mean, log_var).mean()

    return loss


def over_sigma(x, x_hat, mean, log_var, log_decoder_var):
    right = by_distributions(x, x_hat, mean, log_var, log_decoder_var)
    error = ((x - x_hat) ** 2).sum(1).mean() / 2
    return right - error / log_decoder_var.exp() + error / (log_decoder_var / 2).exp()


def sum_of_batch(x, x_hat, mean, log_var, log_decoder_var):
    return len(x) * by_distributions(x, x_hat, mean, log_var, log_decoder_var)


RIGHT = {
    "12.1": [by_torch, picture_by_picture, by_entropy],
    "12.2": [over_axes, channel_by_channel],
    "12.3": [24.5, 49 / 2],
    "12.4": [by_distributions, summed_and_divided],
}
WRONG = {
    "12.1": [
        ("nats of one picture add up", averaged),
        ("do not average over the batch", over_the_batch),
        ("You summed over the batch", all_of_it),
        ("You squared it", as_a_deviation),
        ("exchanged", wrong_way_round),
        ("one half is missing", no_half),
        ("never below 0", half_negative),
        ("The -1 of each latent", no_one),
        ("The mean of q is not in it", no_mean),
        ("nothing keeps a variance", no_log),
    ],
    "12.2": [
        ("noise of the encoder is missing", of_means),
        ("noise of the encoder alone", of_noise),
        ("channel's own mean", of_spread),
        ("one number for all channels", one_for_all),
        ("one number for all channels", same_for_all),
        ("root is missing", rootless),
        ("larger still", upside_down),
        ("That is E z^2", the_moment),
        ("You squared it", squared_variance),
    ],
    "12.3": [
        ("KL that is summed", 392.0),
        ("the 2 is missing", 49.0),
        ("one over the variance", 0.040816),
        ("That is sigma", 4.949747),
        ("not larger", 6272.0),
        ("exchanged", 0.010204),
        ("784 pixels are missing", 0.03125),
        ("too large", 30.0),
    ],
    "12.4": [
        ("a mean over pixels", pixel_mean),
        ("your sigma is 1", unit_sigma),
        ("could grow without end", no_height),
        ("stands there once", one_height),
        ("constant with 2 pi", no_pi),
        ("That is the ELBO itself", the_elbo),
        ("would be made large", kl_times(lambda mean: -1)),
        ("an autoencoder with noise", kl_times(lambda mean: 0)),
        ("a mean over latents", kl_times(lambda mean: 1 / mean.shape[1])),
        ("divided by sigma", over_sigma),
        ("You summed over the batch", sum_of_batch),
    ],
}

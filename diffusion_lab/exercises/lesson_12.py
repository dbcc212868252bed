"""Lesson 12: the KL of a VAE, the scale of its latents, a reduction's variance, a VAE's loss."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from diffusion_core.decoders import gaussian_decoder
from diffusion_core.gaussian import Gaussian, kl_divergence

from .exercise import Exercise

DTYPES = (torch.float64, torch.float32)
PIXELS, LATENTS = 784, 16


def _by_kl_divergence(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL(q || N(0, I)) of each picture, by the package."""
    prior = Gaussian(torch.zeros_like(mean), torch.ones_like(mean))
    return kl_divergence(Gaussian(mean, log_var.exp()), prior).flatten(1).sum(1)


def _kl(
    *,
    var: Callable = torch.exp,
    square: float = 1.0,
    log: float = 1.0,
    one: float = 1.0,
    factor: float = 0.5,
    reduce: Callable = lambda x: x.flatten(1).sum(1),
) -> Callable:
    """The closed form with another variance, factor or sum."""

    def kl(mean: Tensor, log_var: Tensor) -> Tensor:
        each = square * mean**2 + var(log_var) - one - log * log_var
        return factor * reduce(each)

    return kl


def _exchanged(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(0, I) || q)."""
    each = (1 + mean**2) * (-log_var).exp() - 1 + log_var
    return 0.5 * each.flatten(1).sum(1)


def _posteriors(generator: torch.Generator) -> list[tuple]:
    """Means and log variances (B, k) or (B, C, H, W), no channel around 0."""
    cases = []
    for dtype in DTYPES:
        for shape in ((5, 5), (4, 3), (3, 2, 4, 4), (6, 4, 2, 2)):
            mean, log_var = torch.randn(2, *shape, generator=generator, dtype=dtype)
            channel = torch.arange(1, shape[1] + 1).to(dtype).view(-1, *[1] * (len(shape) - 2))
            cases.append((0.5 * channel * (1 + mean), log_var - 0.3 * channel))
    return cases


def _by_channel(x: Tensor) -> Tensor:
    return x.transpose(0, 1).flatten(1).mean(1)


def _scale(
    *,
    moment: Callable = lambda mean, log_var: mean**2 + log_var.exp(),
    average: Callable = _by_channel,
    last: Callable = lambda moments: moments**-0.5,
) -> Callable:
    """A scale from another moment, averaged elsewhere, or used in another way."""
    return lambda mean, log_var: last(average(moment(mean, log_var)))


def _by_spread(mean: Tensor, log_var: Tensor) -> Tensor:
    """One over the standard deviation: the mean of the channel taken away."""
    middle = _by_channel(mean)
    return (_by_channel(mean**2 + log_var.exp()) - middle**2) ** -0.5


def _by_package(mean: Tensor, log_var: Tensor) -> Tensor:
    """E z^2 of each channel from the variance of the means, their own square, and E var."""
    means, variances = (x.transpose(0, 1).flatten(1) for x in (mean, log_var.exp()))
    second = means.var(1, correction=0) + means.mean(1) ** 2 + variances.mean(1)
    return second.rsqrt()


def _by_decoder(
    x: Tensor, x_hat: Tensor, mean: Tensor, log_var: Tensor, log_decoder_var: Tensor
) -> Tensor:
    """Minus the ELBO, by the package's decoder and divergence."""
    seen = gaussian_decoder(x, Gaussian(x_hat, log_decoder_var.exp()))
    return (_by_kl_divergence(mean, log_var) - seen).mean()


def _loss(
    *,
    error: Callable = lambda off: off.sum(1),
    var: Callable = torch.exp,
    height: Callable = lambda log_var, d: d * (log_var + math.log(2 * math.pi)) / 2,
    kl: Callable = _by_kl_divergence,
    weight: float = 1.0,
    sign: float = 1.0,
    over_batch: Callable = torch.mean,
) -> Callable:
    """A VAE's loss with another error, variance, height of the bell, divergence or sign."""

    def loss(
        x: Tensor, x_hat: Tensor, mean: Tensor, log_var: Tensor, log_decoder_var: Tensor
    ) -> Tensor:
        off = error((x - x_hat) ** 2) / (2 * var(log_decoder_var))
        each = off + height(log_decoder_var, x.shape[1]) + weight * kl(mean, log_var)
        return sign * over_batch(each)

    return loss


def _batches(generator: torch.Generator) -> list[tuple]:
    cases = []
    for dtype in DTYPES:
        for size, d, k in ((5, 5, 5), (4, 9, 2), (1, 6, 3)):
            x, x_hat = torch.randn(2, size, d, generator=generator, dtype=dtype)
            mean, log_var = torch.randn(2, size, k, generator=generator, dtype=dtype)
            log_decoder_var = torch.rand((), generator=generator, dtype=dtype) - 2.5
            cases.append((x, x_hat, mean, log_var, log_decoder_var))
    return cases


def _unlike(log_var: Tensor) -> Tensor:
    return torch.ones_like(log_var)


EXERCISES = {
    "12.1": Exercise(
        truth=_by_kl_divergence,
        cases=_posteriors,
        mistakes={
            "A mean over the latents was taken. The nats of one picture add up.": _kl(
                reduce=lambda x: x.flatten(1).mean(1)
            ),
            "Asked is one number for each picture: do not average over the batch.": _kl(
                reduce=lambda x: x.flatten(1).sum(1).mean()
            ),
            "You summed over the batch, too. Asked is one number for each picture.": _kl(
                reduce=torch.sum
            ),
            "exp(log_var) is the variance already. You squared it.": _kl(
                var=lambda log_var: (2 * log_var).exp()
            ),
            "That takes the standard deviation where the variance belongs.": _kl(
                var=lambda log_var: (0.5 * log_var).exp()
            ),
            "log_var itself stands where the variance belongs.": _kl(var=lambda log_var: log_var),
            "The one half is missing.": _kl(factor=1.0),
            "The sign is turned round: a divergence is never below 0.": _kl(factor=-0.5),
            "The two distributions are exchanged: that is KL(N(0, I) || q).": _exchanged,
            "The -1 of each latent is missing: q = N(0, I) must cost 0.": _kl(one=0.0),
            "The mean of q is not in it. Far from 0 is far from the prior.": _kl(square=0.0),
            "The logarithm of the variance is missing: nothing keeps a variance above 0.": _kl(
                log=0.0
            ),
            "The logarithm of the variance has the wrong sign.": _kl(log=-1.0),
        },
        hints=(
            "One latent first: the mean squared, the variance, a 1 and a logarithm.",
            "Each latent: half of mean^2 + exp(log_var) - 1 - log_var.",
            "Sum over all axes but the first: .flatten(1).sum(1).",
        ),
    ),
    "12.2": Exercise(
        truth=_by_package,
        cases=_posteriors,
        mistakes={
            "The noise of the encoder is missing: a sample z is not its mean.": _scale(
                moment=lambda mean, log_var: mean**2
            ),
            "The means are missing: that is the noise of the encoder alone.": _scale(
                moment=lambda mean, log_var: log_var.exp()
            ),
            "That is one over the spread around the channel's own mean. Asked is E z^2 = 1.": (
                _by_spread
            ),
            "One over the spread of the means: but E z^2 counts from 0, and z has noise, too.": (
                lambda mean, log_var: 1 / mean.transpose(0, 1).flatten(1).std(1)
            ),
            "That is one over the spread of all means: one number. Each channel gets its own, "
            "from E z^2.": lambda mean, log_var: 1 / mean.std(),
            "That is one number for all channels. Each gets its own.": _scale(average=torch.mean),
            "You averaged over the batch alone. The places of a channel share one number.": (
                lambda mean, log_var: (
                    (mean**2 + log_var.exp()).mean(0)[(...,) + (0,) * (mean.ndim - 2)] ** -0.5
                )
            ),
            "The root is missing: z is multiplied, and its square should come to 1.": _scale(
                last=lambda moments: 1 / moments
            ),
            "That is the root of E z^2 itself. z times this is larger still: take one over it.": (
                _scale(last=lambda moments: moments**0.5)
            ),
            "That is E z^2. By what must z be multiplied to make it 1?": _scale(
                last=lambda moments: moments
            ),
            "exp(log_var) is the variance already. You squared it.": _scale(
                moment=lambda mean, log_var: mean**2 + (2 * log_var).exp()
            ),
            "The standard deviation was added where the variance belongs.": _scale(
                moment=lambda mean, log_var: mean**2 + (0.5 * log_var).exp()
            ),
        },
        hints=(
            "z = mean + std * eps. What is E z^2 for one picture, over eps?",
            "mean^2 + exp(log_var), averaged over pictures and places: all axes but the second.",
            "One over the root of (mean**2 + log_var.exp()).transpose(0, 1).flatten(1).mean(1).",
        ),
    ),
    "12.3": Exercise(
        truth=lambda: PIXELS / (2 * LATENTS),
        cases=lambda generator: [()],
        mistakes={
            "That is for a KL that is summed. Here it is divided by 16.": lambda: PIXELS / 2,
            "The error of a Gaussian stands over 2 sigma^2: the 2 is missing.": (
                lambda: PIXELS / LATENTS
            ),
            "That is one over the variance.": lambda: 2 * LATENTS / PIXELS,
            "That is sigma. Asked is its square.": lambda: (PIXELS / (2 * LATENTS)) ** 0.5,
            "Dividing the KL by 16 makes it weaker, so sigma^2 becomes smaller, not larger.": (
                lambda: PIXELS * LATENTS / 2
            ),
            "Errors and KL are exchanged: b belongs to the KL.": lambda: LATENTS / (2 * PIXELS),
            "The 784 pixels are missing: the error is divided by them.": lambda: 1 / (2 * LATENTS),
        },
        hints=(
            "Write the loss as a |x - x_hat|^2 + b KL, both sums. What are a and b?",
            "a = 1/784 and b = 1/16.",
            "sigma^2 = b / (2a), by (61).",
        ),
    ),
    "12.4": Exercise(
        truth=_by_decoder,
        cases=_batches,
        mistakes={
            "The error is a mean over pixels. In nats of a picture it is a sum.": _loss(
                error=lambda off: off.mean(1)
            ),
            "Error and height are means over pixels, and the KL is a sum over latents.": _loss(
                error=lambda off: off.mean(1), height=lambda v, d: (v + math.log(2 * math.pi)) / 2
            ),
            "The error of a Gaussian stands over 2 sigma^2: the 2 is missing.": _loss(
                error=lambda off: 2 * off.sum(1)
            ),
            "The root of the error was taken. The exponent of a Gaussian holds the square.": _loss(
                error=lambda off: off.sum(1).sqrt()
            ),
            "log_decoder_var is not used: your sigma is 1.": _loss(
                var=_unlike, height=lambda v, d: d * math.log(2 * math.pi) / 2
            ),
            "The height of the bell is missing: sigma could grow without end.": _loss(
                height=lambda log_var, d: 0.0
            ),
            "The height of the bell stands there once. Each pixel has a bell of its own.": _loss(
                height=lambda log_var, d: (log_var + math.log(2 * math.pi)) / 2
            ),
            "The constant with 2 pi is missing. No gradient sees it, and it is not the ELBO.": (
                _loss(height=lambda log_var, d: d * log_var / 2)
            ),
            "The height of the bell lacks its one half.": _loss(
                height=lambda log_var, d: d * (log_var + math.log(2 * math.pi))
            ),
            "That is the ELBO itself. A loss is made small: turn the sign round.": _loss(sign=-1.0),
            "The KL has the wrong sign: it would be made large.": _loss(weight=-1.0),
            "The KL is missing: that is an autoencoder with noise.": _loss(weight=0.0),
            "The KL lacks its one half.": _loss(weight=2.0),
            "The KL is a mean over latents. Nats of one picture add up.": _loss(
                kl=_kl(reduce=lambda x: x.flatten(1).mean(1))
            ),
            "The error is divided by sigma. It is sigma^2, exp(log_decoder_var).": _loss(
                var=lambda log_var: (0.5 * log_var).exp()
            ),
            "exp(log_decoder_var) is sigma^2 already. You squared it.": _loss(
                var=lambda log_var: (2 * log_var).exp()
            ),
            "You summed over the batch. Take the mean over pictures.": _loss(over_batch=torch.sum),
        },
        hints=(
            "Two terms for each picture: minus log p(x | z), and the KL of exercise 1.",
            "-log N(x; x_hat, sigma^2 I) is |x - x_hat|^2 / (2 sigma^2) and D times the height.",
            "The height: (log_decoder_var + ln(2 pi)) / 2 for each of D pixels. At last .mean().",
        ),
    ),
}

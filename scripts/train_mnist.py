"""Train the digits that come with the course, on all of MNIST: `make train-mnist`.

`--network mnist`: told the digit, except three times in ten; so it draws with a label and without.
`--network mnist_weak`: a worse one, which guides the other away from itself.
`--network mnist_unlabelled`: never told the digit, and answers with a law of each pixel.
See epochs.py for how it goes on after an interrupt. At the end the averaged weights go into the
package as float16, with what made them and the judge's numbers. Most steps t lie where shapes
appear in the noise.
"""

from collections.abc import Callable
from functools import partial

import torch
from epochs import about, choice_of, options_of, run_epochs

import diffusion_core as dc
from diffusion_core import checkpoints, data, judge, pretrained

NETWORKS = {
    "mnist": pretrained.mnist_unet,
    "mnist_weak": pretrained.weak_unet,
    "mnist_unlabelled": pretrained.unlabelled_unet,
}
DEFAULTS = {
    "mnist": {"epochs": 15, "batch": 16, "ema": 0.9995},
    "mnist_weak": {"epochs": 1, "batch": 32, "ema": 0.997},
    "mnist_unlabelled": {"epochs": 32, "batch": 16, "ema": 0.9995},
}


def middle_t(
    schedule: dc.NoiseSchedule, x0, generator, *, mean: float = -0.75, std: float = 1.75
) -> torch.Tensor:
    """Draw t for each of x0, as `draw_t` does, but so that its log SNR is nearly N(mean, std^2)."""
    log_snr = mean + std * torch.randn(len(x0), generator=generator, dtype=torch.float64)
    falling = -schedule.snr[1:].log()
    return 1 + torch.searchsorted(falling, -log_snr).clamp(max=schedule.T - 1).to(x0.device)


def mixed_t(schedule: dc.NoiseSchedule, x0, generator) -> torch.Tensor:
    """Draw t where shapes appear for three of four of x0, and for the fourth as `draw_t` does."""
    middle, evenly = middle_t(schedule, x0, generator), dc.draw_t(schedule, x0, generator)
    rare = torch.rand(len(x0), generator=generator) < 1 / 4
    return torch.where(rare.to(x0.device), evenly, middle)


def labelled_loss(
    model,
    x0,
    y,
    *,
    schedule: dc.NoiseSchedule,
    generator,
    draw: Callable = dc.draw_t,
    no_label: float = 0.1,
) -> torch.Tensor:
    """Return v_loss at t of draw(schedule, x0, generator); a share of the labels y is not told."""
    y = dc.drop_labels(y, model.null_label, no_label, generator=generator)
    t = draw(schedule, x0, generator)
    return dc.v_loss(schedule, partial(model, y=y), x0, t=t, generator=generator)


def unlabelled_loss(model, x0, y, *, schedule: dc.NoiseSchedule, generator) -> torch.Tensor:
    """Return v_loss at t of `mixed_t` for a model that answers x0_hat; nobody tells it y."""
    v_model, t = dc.v_model_from_x0(schedule, model), mixed_t(schedule, x0, generator)
    return dc.v_loss(schedule, v_model, x0, t=t, generator=generator)


def judged_samples(
    schedule: dc.NoiseSchedule, eps_model: dc.predictions.Model, n: int, **more
) -> dict:
    """Draw n digits in 50 steps on the device of training; return the judge's numbers and more."""
    network, _ = pretrained.load("judge")
    rng = torch.Generator().manual_seed(1)
    x_T = torch.randn(n, 1, 28, 28, generator=rng).to(dc.default_device())
    options = {"eta": 1.0, "clip": (-1, 1), "generator": rng}
    taus = dc.even_taus(1000, 50)
    *_, last = dc.sample_chain(dc.ddim_step, schedule, eps_model, x_T, taus, **options)
    train, test = (data.to_signed(data.mnist(split)[0]) for split in ("train", "test"))
    verdict = judge.judge_images(network, last.x_t.cpu(), test)
    floor = judge.frechet_floor(network, train, test, n, generator=rng)
    return {
        "samples": n,
        **more,
        "confident": round(verdict.confident, 4),
        "shares": [round(share, 4) for share in verdict.shares.tolist()],
        "frechet": round(verdict.frechet, 4),
        "frechet_floor": round(floor, 4),
    }


def judged(model, schedule: dc.NoiseSchedule, n: int, guidance_scale: float) -> dict:
    """Judge n digits of a network that may be told the label, each class as often."""
    y = torch.arange(n, device=dc.default_device()) % 10
    guided = dc.classifier_free(model, y, guidance_scale=guidance_scale)
    eps_model = dc.eps_model_from_v(schedule, guided)
    return judged_samples(schedule, eps_model, n, guidance_scale=guidance_scale)


def main() -> None:
    chosen, name = choice_of("--network", NETWORKS, "mnist")
    parser = options_of(__doc__, name, chosen, **DEFAULTS[name])
    parser.add_argument("--samples", type=int, default=2000)
    options = parser.parse_args()
    schedule, n = dc.cosine_schedule(1000), options.samples
    told = name != "mnist_unlabelled"
    loss = partial(unlabelled_loss, schedule=schedule)
    if told:
        loss = partial(labelled_loss, schedule=schedule, draw=mixed_t, no_label=0.3)
    images, labels = data.mnist("train")
    model = run_epochs(options, NETWORKS[name](), loss, (data.to_signed(images), labels))
    if told:
        judge_says = {
            "judge": judged(model, schedule, n, guidance_scale=1.25),
            "judge_without_label": judged(model, schedule, n, guidance_scale=0.0),
        }
    else:
        eps_model = dc.eps_model_from_x0(schedule, model)
        judge_says = {"judge": judged_samples(schedule, eps_model, n)}
    numbers = about(
        options,
        predicts="v" if told else "x0",
        schedule="cosine_schedule(1000)",
        **judge_says,
    )
    checkpoints.save(options.out, model, dtype=torch.float16, **numbers)
    print(f"{options.out}:", numbers)


if __name__ == "__main__":
    main()

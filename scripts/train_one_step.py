"""Train networks that go from noise to data in one call, on moons: `make train-one-step`.

The student learns the ends of the exact flow's paths: flow_loss on their pairs, at time 1 alone.
The consistency model learns to answer the same along each path, from the identity at its clean
end. See epochs.py for how a run goes on after an interrupt. At the end the averaged weights are
written as float16, with what made them and the numbers that those have. The student's file comes
with the package, and its hash in pretrained.py must then be renewed; the other's goes to build/.
"""

from collections.abc import Callable
from functools import partial

import torch
from epochs import ROOT, about, choice_of, options_of, run_epochs
from torch import Tensor

import diffusion_core as dc
from diffusion_core import checkpoints, metrics, pretrained, toys

TOY = "moons"
SCHEDULE = dc.schedule_from_noise_levels(dc.karras_levels(10.0, 0.03, 16))  # of "consistency"
EPOCHS = {"student": 32, "consistency": 16}
POINTS = {"student": 16_384, "consistency": 65_536}


def points(n: int, seed: int) -> Tensor:
    return toys.toy_2d(TOY, n, generator=torch.Generator().manual_seed(seed))


def flow_pairs(n: int) -> dc.Pairs:
    """Return n noises, each with the end of its path of the exact flow, as `teacher` has it."""
    centres, std = toys.toy_centres(TOY)
    flow = dc.straight_flow(dc.mixture_velocity(dc.mixture(centres[2::5].float(), std**2)))
    eps = torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    parts = [dc.reflow_pairs(flow, part, tolerance=1e-4) for part in eps.split(4096)]
    return dc.Pairs(*map(torch.cat, zip(*parts, strict=True)))


def student_loss(model, x0: Tensor, eps: Tensor, *, generator=None) -> Tensor:
    """Return flow_loss at time 1 alone: for pairs of a flow, distillation into one Euler step."""
    velocity_model = dc.velocity_model_from_steps(model)
    return dc.flow_loss(velocity_model, x0, eps=eps, draw_time=at_noise)


def at_noise(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return like.new_ones(len(like))


def teacher() -> Callable:
    """Return the exact eps_model of the moons, to three digits: every fifth centre will do."""
    centres, std = toys.toy_centres(TOY)
    return dc.mixture_eps_model(SCHEDULE, dc.mixture(centres[2::5].float(), std**2))


def distilled_loss(model, x0: Tensor, _: Tensor, *, eps_model: Callable, generator) -> Tensor:
    """Return consistency_loss of a network along the teacher's paths."""
    x0_model = dc.consistency_model(SCHEDULE, model)
    return dc.consistency_loss(SCHEDULE, x0_model, x0, eps_model=eps_model, generator=generator)


def one_step(name: str, model: torch.nn.Module, eps: Tensor) -> Tensor:
    """Return what a network makes of noise in one call."""
    if name == "consistency":
        return dc.consistency_model(SCHEDULE, model)(eps, torch.full((len(eps),), SCHEDULE.T))
    flow = dc.straight_flow(dc.velocity_model_from_steps(model))
    return next(dc.euler_maruyama(flow, eps, [1.0, 0.0]))


def judged(draw: Callable[[Tensor], Tensor], *, clouds: int = 10, n: int = 2000) -> dict:
    """Return how far clouds of fresh samples are from data, and the share of strays."""
    centres, std = toys.toy_centres(TOY)
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        drawn = [draw(torch.randn(n, 2, generator=rng)) for _ in range(clouds)]
    real = partial(toys.toy_2d, TOY, generator=torch.Generator().manual_seed(2))
    score = metrics.times_floor(metrics.energy_distance, drawn, real)
    strays = [metrics.mode_coverage(x, centres, 3 * std).stray.item() for x in drawn]
    return {
        "times_floor": round(score.mean, 4),
        "times_floor_std": round(score.std, 4),
        "strays": round(sum(strays) / clouds, 4),
        "clouds": clouds,
        "n": n,
    }


def numbers(draw: Callable[[Tensor], Tensor], **options) -> dict:
    """Return judged of one step of a network, of plain regression, and of data."""
    mean = points(100_000, 3).mean(0)  # the exact field's step at time 1 ends here for each noise
    return {
        "one_step": judged(draw, **options),
        "the_mean": judged(lambda eps: mean.expand_as(eps), **options),
        "data": judged(partial(real_points, rng=torch.Generator().manual_seed(4)), **options),
    }


def real_points(eps: Tensor, rng: torch.Generator) -> Tensor:
    return toys.toy_2d(TOY, len(eps), generator=rng)


def main() -> None:
    chosen, name = choice_of("--network", EPOCHS, "student")
    parser = options_of(__doc__, name, chosen, epochs=EPOCHS[name], batch=128)
    parser.set_defaults(lr=4e-3)
    if name == "consistency":
        parser.set_defaults(out=ROOT / "build" / "consistency.safetensors")
    parser.add_argument("--points", type=int, default=POINTS[name])
    parser.add_argument("--clouds", type=int, default=10)
    options = parser.parse_args()
    if name == "student":
        data, loss = flow_pairs(options.points), student_loss
    else:
        x0 = points(options.points, 0)
        data, loss = (x0, torch.zeros(len(x0))), partial(distilled_loss, eps_model=teacher())
    model = run_epochs(options, pretrained.one_step_mlp(), loss, data)
    model = model.cpu().half().float()  # as it is stored
    found = numbers(partial(one_step, name, model), clouds=options.clouds)
    text = about(options, toy=TOY, **found)
    checkpoints.save(options.out, model, dtype=torch.float16, **text)
    print(f"{options.out}:", text)


if __name__ == "__main__":
    main()

"""What one step costs beside diffusers: q_sample, ddpm_step, ddim_step and a chain of 1 000 steps.

Both run in one process, on one thread, in float32, with a model that costs nothing: rounds of each
alternate, and the table gives the median over rounds of diffusers' time divided by ours. Beside it
stand the time of the random draw alone and of one pass over the data, below which no step can go.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import diffusers
import torch

import diffusion_core as dc

SHAPES = ((2048, 2), (64, 1, 28, 28), (256, 1, 28, 28))
T = 1000


def seconds(call: Callable[[], object], count: int) -> float:
    """Return the seconds of one call, as the mean of `count`."""
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def calls(shape: tuple[int, ...]) -> dict[str, tuple[Callable, Callable]]:
    """Return what is compared, by name: ours and diffusers'."""
    rng, peer_rng = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    x, eps = (torch.randn(shape, generator=rng) for _ in range(2))
    ts = torch.randint(1, T + 1, shape[:1], generator=rng)
    schedule = dc.linear_schedule(T)
    free = {"clip_sample": False}
    ddpm, ddim = diffusers.DDPMScheduler(T, **free), diffusers.DDIMScheduler(T, **free)
    ddim.set_timesteps(50)

    def model(x_t, t):
        return eps

    def our_chain():
        for _ in dc.sample_chain(dc.ddpm_step, schedule, model, x, generator=rng):
            pass

    @torch.no_grad()
    def peer_chain():
        x_t = x
        for t in ddpm.timesteps:
            x_t = ddpm.step(model(x_t, t), t, x_t, generator=peer_rng).prev_sample

    return {
        "q_sample": (
            lambda: dc.q_sample(schedule, x, ts, eps),
            lambda: ddpm.add_noise(x, eps, ts - 1),
        ),
        "ddpm_step": (
            lambda: dc.ddpm_step(schedule, model, x, 500, 499, generator=rng),
            lambda: ddpm.step(model(x, 499), 499, x, generator=peer_rng),
        ),
        "ddim_step": (
            lambda: dc.ddim_step(schedule, model, x, 500, 480),
            lambda: ddim.step(model(x, 499), 499, x),
        ),
        "chain": (our_chain, peer_chain),
    }


def limits(shape: tuple[int, ...]) -> dict[str, float]:
    """Return the seconds of one random draw and of one pass over the data."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=rng)
    work = {"draw": lambda: torch.randn(shape, generator=rng), "pass": lambda: 2.0 * x}
    return {
        name: statistics.median(seconds(call, 50) for _ in range(9)) for name, call in work.items()
    }


def compared(pair: tuple[Callable, Callable], count: int, rounds: int) -> tuple[list, list]:
    """Return the seconds of ours and of the peer's, one for each of the rounds, alternated."""
    ours, peers = pair
    times = [], []
    for _ in range(rounds + 1):
        times[0].append(seconds(ours, count))
        times[1].append(seconds(peers, count))
    return times[0][1:], times[1][1:]  # the first round warms up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=25)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", dc.PriorGapWarning)
    print(f"torch {torch.__version__}, diffusers {diffusers.__version__}, 1 thread, float32")
    print("shape               what         ours us   peer us   peer / ours (quartiles)")
    for shape in SHAPES:
        for name, pair in calls(shape).items():
            chain = name == "chain"
            ours, peers = compared(pair, 1 if chain else 200, 3 if chain else rounds)
            ratios = sorted(peer / our for our, peer in zip(ours, peers, strict=True))
            low, middle, high = (ratios[round(q * (len(ratios) - 1))] for q in (0.25, 0.5, 0.75))
            our, peer = (
                1e6 * statistics.median(times) / (T if chain else 1) for times in (ours, peers)
            )
            print(
                f"{shape!s:19} {name:10} {our:9.1f} {peer:9.1f}   {middle:.2f} ({low:.2f} to {high:.2f})"
            )
        print(
            f"{shape!s:19} "
            + ", ".join(f"one {k} {1e6 * v:.1f} us" for k, v in limits(shape).items())
        )


if __name__ == "__main__":
    main()

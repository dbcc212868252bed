"""A whole program with two mistakes, mended."""

from functools import partial

import torch

from ...museum.program import ring, whole_program
from ..exercise import Exercise


def _programs(generator: torch.Generator) -> list[tuple]:
    """Return (points, T, steps, seed): two and three steps of training on a few points."""
    cases = []
    for n, T, steps in ((5, 6, 3), (4, 9, 2)):
        radius = 1 + torch.rand(1, generator=generator).item()
        seed = torch.randint(1000, (1,), generator=generator).item()
        cases.append((ring(n, radius), T, steps, seed))
    return cases


EXERCISES = {
    "14.13": Exercise(
        truth=whole_program,
        cases=_programs,
        draws="Some numbers are drawn without the generator of the function: pass generator=rng.",
        mistakes={
            "Both mistakes are still in.": partial(
                whole_program, told=lambda t, T: t // T, noise="once"
            ),
            "One of the two is mended. What is left is in the cell that trains.": partial(
                whole_program, told=lambda t, T: t // T
            ),
            "One of the two is mended. What is left is in the cell that samples.": partial(
                whole_program, noise="once"
            ),
            "One of the two is mended. What is left is in the cell that trains, and z is drawn "
            "once too often: before the loop, too.": partial(
                whole_program, told=lambda t, T: t // T, noise="too often"
            ),
            "Both are mended, but z is drawn once too often: before the loop, too.": partial(
                whole_program, noise="too often"
            ),
            "The sampler tells the network t // T now, too: it is training that must tell t / T.": (
                partial(whole_program, told=lambda t, T: t // T, asked=lambda t, T: t // T)
            ),
            "The sampler tells the network t // T now, too: it is training that must tell t / T, "
            "and z is still drawn once, for all steps.": partial(
                whole_program,
                told=lambda t, T: t // T,
                asked=lambda t, T: t // T,
                noise="once",
            ),
            "The network learns its step as another number than the sampler tells it.": partial(
                whole_program, told=lambda t, T: t.double()
            ),
            "Both are mended, and the network is told t where the program told it t / T.": partial(
                whole_program, told=lambda t, T: t.double(), asked=lambda t, T: float(t)
            ),
            "Both are mended, and now the step from t = 1 adds noise. It did not before.": partial(
                whole_program, last=1
            ),
            "Both are mended, but noise is missing at t = 2 now.": partial(whole_program, last=3),
        },
        hints=(
            "Ask the trained network about one x with two values of t. Does its answer change?",
            "Print what the network gets beside x_t, in training, for t = 1, T / 2 and T.",
            "Print z[0] in two steps of the sampler. What did Algorithm 2 of lesson 05 say of z?",
        ),
    ),
}

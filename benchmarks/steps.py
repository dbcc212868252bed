"""What one step costs beside diffusers: q_sample, ddpm_step, ddim_step and a chain of 1 000 steps.

Both run in one process, on one thread, in float32, with a model that costs nothing. Rounds of each
alternate; the table gives the median over rounds of diffusers' time divided by ours, and quartiles.
Beside it stand the random draw alone and one pass over the data, below which no step can go. At the
end: the functions of the package that a loss, a step and the chain reach, with their lines.
"""

import argparse
import ast
import inspect
import statistics
import textwrap
import time
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType

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
    """Return what is compared, by name: ours and diffusers', whose t counts from 0."""
    rng, peer_rng = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    x, eps = (torch.randn(shape, generator=rng) for _ in range(2))
    each = torch.randint(1, T + 1, shape[:1], generator=rng)
    peer_each, peer_t = each - 1, torch.tensor(499)  # its timesteps are tensors
    schedule = dc.linear_schedule(T)
    ddpm = diffusers.DDPMScheduler(T, clip_sample=False)
    ddim = diffusers.DDIMScheduler(T, clip_sample=False)
    ddim.set_timesteps(50)

    def model(x_t, t):
        return eps

    def our_chain():
        for _ in dc.sample_chain(dc.ddpm_step, schedule, model, x, generator=rng):
            pass

    def peer_chain():
        x_t = x
        for t in ddpm.timesteps:
            x_t = ddpm.step(model(x_t, t), t, x_t, generator=peer_rng).prev_sample

    return {
        "q_sample, one t": (
            lambda: dc.q_sample(schedule, x, 500, eps),
            lambda: ddpm.add_noise(x, eps, peer_t[None]),
        ),
        "q_sample, t each": (
            lambda: dc.q_sample(schedule, x, each, eps),
            lambda: ddpm.add_noise(x, eps, peer_each),
        ),
        "ddpm_step": (
            lambda: dc.ddpm_step(schedule, model, x, 500, 499, generator=rng),
            lambda: ddpm.step(model(x, peer_t), peer_t, x, generator=peer_rng),
        ),
        "ddim_step": (
            lambda: dc.ddim_step(schedule, model, x, 500, 480),
            lambda: ddim.step(model(x, peer_t), peer_t, x),
        ),
        "chain of 1 000": (our_chain, peer_chain),
    }


def limits(shape: tuple[int, ...]) -> dict[str, float]:
    """Return the seconds of one random draw and of one pass over the data."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=rng)
    work = {"draw": lambda: torch.randn(shape, generator=rng), "pass": lambda: 2.0 * x}
    return {
        name: statistics.median(seconds(call, 50) for _ in range(9)) for name, call in work.items()
    }


def compared(pair: tuple[Callable, Callable], count: int, rounds: int) -> str:
    """Return our and the peer's median microseconds, and the quartiles of peer's over ours."""
    times = [[seconds(call, count) for call in pair] for _ in range(rounds + 1)][1:]
    ours, peers = ([1e6 * statistics.median(column)] for column in zip(*times, strict=True))
    low, middle, high = statistics.quantiles([peer / our for our, peer in times], n=4)
    return f"{ours[0]:10.1f} {peers[0]:10.1f}   {middle:5.2f} ({low:.2f} to {high:.2f})"


def reached(*functions: FunctionType) -> Iterator[tuple[FunctionType, int]]:
    """Yield the package's functions that these reach, and the lines of their bodies.

    Signatures, docstrings, comments and empty lines are not counted, decorators are.
    """
    todo, found = list(functions), set()
    while todo:
        function = todo.pop()
        if function in found:
            continue
        found.add(function)
        node = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
        body = node.body[1:] if ast.get_docstring(node) else node.body
        lines = inspect.getsource(function).splitlines()[body[0].lineno - 1 :]
        code = [line for line in lines if line.strip() and not line.strip().startswith("#")]
        yield function, len(code) + len(node.decorator_list)
        used = (function.__globals__.get(name) for name in names(function.__code__))
        ours = (f for f in used if inspect.isfunction(f) and f.__module__.startswith(dc.__name__))
        todo += ours


def names(code: CodeType) -> Iterator[str]:
    """Yield the names that code uses, also inside what it defines."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names(constant)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=25)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    print(f"torch {torch.__version__}, diffusers {diffusers.__version__}, 1 thread, float32")
    print("shape               what                 ours us    peer us   peer / ours (quartiles)")
    for shape in SHAPES:
        for name, pair in calls(shape).items():
            chain = name.startswith("chain")
            figures = compared(pair, 1 if chain else 200, 5 if chain else rounds)
            print(f"{shape!s:19} {name:17} {figures}", flush=True)
        alone = ", ".join(f"one {name} {1e6 * t:.1f} us" for name, t in limits(shape).items())
        print(f"{shape!s:19} {alone}")
    path = list(reached(dc.eps_loss, dc.ddpm_step, dc.sample_chain))
    for function, lines in sorted(path, key=lambda item: -item[1]):
        print(f"{lines:4} {function.__module__}.{function.__qualname__}")
    print(f"{sum(lines for _, lines in path):4} lines from a loss and a sampler to a chain")


if __name__ == "__main__":
    main()

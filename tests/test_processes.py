"""Many processes train as one: their slices, their noise, their mean, and one that dies."""

import itertools
import json
import os
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import processes_program as program
import pytest
import torch
from oracles import assert_mean, initialised, normal, seeded
from safetensors.torch import load_file
from torch import nn
from torch.testing import assert_close
from torch.utils.data import DistributedSampler

import diffusion_core as dc
import diffusion_lab as lab
from diffusion_core import data, processes
from diffusion_core.nets import MLP
from diffusion_core.processes import Place
from diffusion_lab import worker

pytestmark = pytest.mark.usefixtures("untouched_global_rng")


@pytest.fixture(autouse=True)
def full_runs(monkeypatch):
    monkeypatch.delenv("DIFFUSION_SHORT_RUN", raising=False)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """The folder of one run of processes_program.py in two processes, of which one dies once."""
    folder = tmp_path_factory.mktemp("two")
    paths = [str(Path(program.__file__).parents[1] / "scripts"), os.environ.get("PYTHONPATH", "")]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DIFFUSION_SHORT_RUN", raising=False)
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        lab.torchrun(program.__file__, folder, processes=2, restarts=1)
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """The folder of the lesson's training in this process."""
    folder = tmp_path_factory.mktemp("one")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DIFFUSION_SHORT_RUN", raising=False)
        worker.train_here(folder)
    return folder


# The mean of slices.


def row_loss(model, x, y):
    return (model(x) - y).square().mean()


def gradients(sizes: list[int], accumulate: int) -> list[torch.Tensor]:
    """Return what one step of plain descent leaves, on 12 rows in parts of these sizes."""
    model = initialised(lambda: nn.Linear(3, 2)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    parts = zip(normal(12, 3).split(sizes), normal(12, 2, seed=2).split(sizes), strict=True)
    options = {"optimizer": optimizer, "clip_norm": 1e9, "rate": lambda done: 1.0}
    history = dc.train(model, row_loss, parts, steps=1, accumulate=accumulate, **options)
    return [*(w.detach() for w in model.parameters()), torch.tensor(history.losses)]


@pytest.mark.parametrize("sizes", [[6, 6], [3, 3, 3, 3], [7, 4, 1], [1] * 12])
def test_row_68_trap_B81_parts_one_after_another_are_one_large_batch(sizes):
    assert_close(gradients(sizes, len(sizes)), gradients([12], 1), rtol=0, atol=1e-13)


def test_row_68_the_mean_of_unequal_means_is_another():
    """So the test above says something."""
    model = initialised(lambda: nn.Linear(3, 2)).double()
    x, y = normal(12, 3), normal(12, 2, seed=2)
    means = [row_loss(model, *part) for part in zip(x.split([7, 5]), y.split([7, 5]), strict=True)]
    assert abs(sum(means) / 2 - row_loss(model, x, y)) > 1e-3
    weights = processes.weights([7, 5])
    assert_close(sum(w * m for w, m in zip(weights, means, strict=True)), row_loss(model, x, y))


def test_a_last_group_that_is_not_full_counts_by_its_rows():
    sizes = [5, 5, 2]
    assert_close(gradients(sizes, 4), gradients([12], 1), rtol=0, atol=1e-13)


def test_each_step_takes_so_many_batches():
    seen = []
    batches = (seen.append(i) or normal(4, 3, seed=i) for i in itertools.count())
    model = initialised(lambda: nn.Linear(3, 2)).double()
    history = dc.train(model, lambda m, x: m(x).square().mean(), batches, steps=5, accumulate=3)
    assert len(history.losses) == 5 and seen == list(range(15))


def test_row_68_two_processes_end_where_one_ends(runs, alone):
    ours, theirs = (load_file(folder / "state.safetensors") for folder in (alone, runs / "whole"))
    assert ours.keys() == theirs.keys() and len(ours) > 30
    assert_close(theirs, ours, rtol=0, atol=1e-12)
    begun = nn.utils.parameters_to_vector(MLP(width=32).double().parameters())
    ended = torch.cat([w.flatten() for n, w in ours.items() if n.startswith("model.")])
    assert (ended - begun).abs().max() > 0.1, "it was trained"


# Noise.


def test_trap_B76_ranks_have_noise_of_their_own(runs):
    found = json.loads((runs / "found.json").read_text())
    assert found["world"] == 2
    assert found["own"][0] != found["own"][1] and found["alike"][0] == found["alike"][1]
    wanted = [torch.rand(1, generator=seeded(seed), dtype=torch.float64).item() for seed in (3,)]
    assert found["own"][:1] == wanted, "rank 0 is a run of one process"


def test_trap_B76_no_two_ranks_or_seeds_share_a_stream():
    """The CPU's generator reads 32 bits of a seed: 2**32 more is the same."""
    places = [Place(rank, 8) for rank in range(8)]
    first = [
        torch.rand(2, generator=processes.own_generator(seed, at), dtype=torch.float64).tolist()
        for seed in (0, 1, 999_999)
        for at in places
    ]
    assert len({tuple(pair) for pair in first}) == 24
    assert_close(torch.rand(3, generator=seeded(1)), torch.rand(3, generator=seeded(2**32 + 1)))


def noise_gradients(world: int, own: bool, trials: int, rows: int = 4) -> torch.Tensor:
    """Return the mean over ranks of d/dc E|c x_t - eps|^2 at c = 1/2, for N(0, 1) data, T = 1.

    x_t = 0.8 x_0 + 0.6 eps. Each rank has rows of its own; its noise is its own, or rank 0's.
    """
    total = torch.zeros(trials, dtype=torch.float64)
    x0 = normal(world, trials, rows, seed=3)
    for rank in range(world):
        noise = processes.own_generator(7, Place(rank if own else 0, world))
        eps = torch.randn(trials, rows, generator=noise, dtype=torch.float64)
        x_t = 0.8 * x0[rank] + 0.6 * eps
        total += (2 * x_t * (0.5 * x_t - eps)).mean(1) / world
    return total


@pytest.mark.parametrize("world", [1, 2, 4, 8])
@pytest.mark.parametrize("own", [True, False], ids=["own", "same"])
def test_row_67_the_variance_of_the_mean_over_ranks(world, own):
    """Closed forms: Var(u w) = Var u Var w + Cov^2 for Gaussians u = x_t, w = c x_t - eps."""
    a, b, c, rows = 0.8, 0.6, 0.5, 4
    var_u, var_w, cov = 1.0, (c * a) ** 2 + (c * b - 1) ** 2, c - b
    alone = 4 / rows * (var_u * var_w + cov**2)
    shared = 4 / rows * 2 * (c * b**2 - b) ** 2  # of the mean over x_0, given eps
    wanted = alone / world + (1 - 1 / world) * (0.0 if own else shared)
    g = noise_gradients(world, own, trials=40_000)
    assert_mean((g - 2 * (c - b)).square()[:, None], [wanted])


# Data.


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_row_69_trap_B77_the_rows_of_all_ranks_are_the_epoch(world):
    batches = list(itertools.islice(data.minibatches(torch.arange(24), 8, generator=seeded()), 6))
    for epoch in (batches[:3], batches[3:]):
        parts = [
            processes.share(rows, Place(rank, world)) for rows in epoch for rank in range(world)
        ]
        assert sorted(torch.cat(parts).tolist()) == list(range(24))
    assert not torch.equal(torch.cat(batches[:3]), torch.cat(batches[3:])), "shuffled anew: B78"


def test_row_69_two_processes_share_a_batch(runs):
    parts = [json.loads((runs / f"rows_{rank}.json").read_text()) for rank in (0, 1)]
    assert sorted(parts[0] + parts[1]) == list(range(11))
    assert [len(part) for part in parts] == [6, 5]


def test_trap_B82_a_share_repeats_no_row_where_the_sampler_of_torch_does():
    rows = torch.arange(11)
    ours = [i for rank in range(4) for i in processes.share(rows, Place(rank, 4)).tolist()]
    theirs = [i for rank in range(4) for i in DistributedSampler(range(11), 4, rank, shuffle=False)]
    assert sorted(ours) == list(range(11)) and len(theirs) == 12


def test_every_tensor_of_a_batch_is_cut_alike():
    x, y = normal(7, 2), torch.arange(7)
    mine = processes.share((x, y), Place(1, 3))
    assert_close(mine, [x[[1, 4]], y[[1, 4]]])


@pytest.mark.parametrize("bad", [torch.arange(2), torch.tensor(3.0)])
def test_a_batch_of_fewer_rows_than_processes_is_refused(bad):
    with pytest.raises(ValueError, match="batch must have 3 rows"):
        processes.share(bad, Place(0, 3))


@pytest.mark.parametrize("at", [(2, 2), (-1, 2), (0, 0), (0.0, 1), 3, (0, 1, 2)])
def test_another_place_is_refused(at):
    for call in (
        lambda: processes.share(torch.arange(9), at),
        lambda: processes.own_generator(1, at),
    ):
        with pytest.raises(ValueError, match="at must be a Place"):
            call()


def test_a_seed_that_would_meet_the_next_rank_is_refused():
    with pytest.raises(ValueError, match="seed must be below 1000003"):
        processes.own_generator(processes.STRIDE)


# The average of weights.


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("decay", [0.9, 0.999])
def test_row_71_trap_B84_an_average_of_weights_at_1_rises_to_1_less_the_product(decay, dtype):
    """The product in whole fractions; halves would stop where a step is below half a place."""
    model = initialised(lambda: nn.Linear(1, 1, bias=False, dtype=dtype))
    nn.init.zeros_(model.weight)
    ema, left = dc.EMA(model, decay), Fraction(1)
    nn.init.ones_(model.weight)
    for n in range(1, 401):
        ema.update(model)
        left *= min(Fraction(decay), Fraction(1 + n, 10 + n))
    (average,) = ema.state_dict().values()
    assert abs(average.item() - float(1 - left)) < (1e-13 if dtype == torch.float64 else 1e-5)


def test_trap_B84_weights_moments_and_averages_stay_in_float32_under_autocast():
    model = initialised(lambda: nn.Linear(3, 3))
    ema, optimizer = dc.EMA(model), torch.optim.AdamW(model.parameters())
    batches = itertools.repeat(normal(4, 3, dtype=torch.float32))
    options = {"ema": ema, "optimizer": optimizer, "autocast": torch.bfloat16}
    dc.train(model, lambda m, x: m(x).float().square().mean(), batches, steps=3, **options)
    kept = [*model.parameters(), *ema.model.parameters()]
    kept += [moment for state in optimizer.state.values() for moment in state.values()]
    assert {tensor.dtype for tensor in kept} == {torch.float32}


# One dies.


def test_row_70_trap_B86_a_killed_run_ends_where_the_unbroken_one_ends(runs):
    whole, broken = (load_file(runs / name / "state.safetensors") for name in ("whole", "broken"))
    assert_close(broken, whole, rtol=0, atol=0)
    steps = {n: w.item() for n, w in broken.items() if n.endswith(".step")}
    assert set(steps.values()) == {200.0}, "trap B79: the optimizer has counted them"


def test_it_did_die_and_only_whole_epochs_were_kept(runs):
    def diary(name):
        lines = (runs / name / "diary_1.txt").read_text().splitlines()
        return [float(line) for line in lines]

    whole, broken = diary("whole"), diary("broken")
    assert_close(whole, [n / 40 for n in range(1, 201)])
    assert_close(broken, whole[:101] + whole[80:])


def test_trap_B80_one_process_alone_writes_and_goes_on(runs):
    assert (runs / "left_0").exists() and not (runs / "left_1").exists()
    assert not list(runs.rglob(".saving-*"))


def test_the_group_is_let_go_before_its_process_ends(runs):
    """One that is left has threads of its own, and they abort about one process in six."""
    assert (runs / "let_go").exists()


def test_the_scripts_train_in_two_processes_with_noise_of_each_rank(runs):
    """Its first two steps, by hand: the mean over the gradients of two halves."""
    state = load_file(runs / "epochs.safetensors")
    x0, y = program.images()
    model = initialised(program.Line)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
    for epoch in range(2):
        order = seeded(epoch)
        noises = [order, seeded(epoch + processes.STRIDE)]
        rows = data.minibatches(torch.arange(40), 8, generator=order)
        for step in range(5):
            batch, total = next(rows), 0.0
            for rank, noise in enumerate(noises):
                mine = batch[rank::2]
                total = total + program.noisy_loss(model, x0[mine], y[mine], generator=noise) / 2
            optimizer.zero_grad()
            total.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.param_groups[0]["lr"] = 0.01 * dc.warmup_cosine((epoch + step / 5) / 2)
            optimizer.step()
    for name, weight in model.state_dict().items():
        assert_close(state[f"model.{name}"], weight, rtol=0, atol=1e-6)


# Traffic.


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_row_72_a_ring_sends_no_more_and_has_the_sum(world):
    """Played: in each of 2 (W - 1) rounds each rank sends one of W parts to the next."""
    parts, sent = normal(world, world, 5), 0
    wanted = parts.sum(0).expand(world, -1, -1)
    for k in range(2 * (world - 1)):
        before = parts.clone()
        for rank in range(world):
            part, to = (rank - k) % world, (rank + 1) % world
            adds = k < world - 1
            parts[to, part] = before[rank, part] + (before[to, part] if adds else 0)
        sent += 5
    assert_close(parts, wanted)
    assert_close(processes.all_reduce_numbers(5 * world, world), float(sent))


# Alone.


def test_alone_nothing_is_asked_of_anyone(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with processes.joined() as me:
        assert me == processes.place() == Place(0, 1)
    assert processes.gathered(2.5) == [2.5]
    x = normal(3, 2)
    assert torch.equal(processes.share(x), x)
    model = initialised(lambda: nn.Linear(1, 1))
    assert processes.averaged(model, row_loss)[0] is row_loss
    assert torch.equal(
        torch.rand(3, generator=processes.own_generator(4)), torch.rand(3, generator=seeded(4))
    )


def test_clocks_of_several_processes_differ_so_seconds_are_refused(monkeypatch):
    monkeypatch.setattr(processes, "place", lambda: Place(0, 2))
    with pytest.raises(ValueError, match="seconds must be None where several processes"):
        dc.train(initialised(lambda: nn.Linear(1, 1)), row_loss, [], seconds=1.0, steps=4)


def test_only_the_first_process_shows_a_bar(monkeypatch):
    from diffusion_core.progress import progress_bar

    monkeypatch.setenv("TQDM_DISABLE", "0")
    assert progress_bar(total=1, hidden=True).disable
    with progress_bar(total=1) as bar:
        assert not bar.disable


def test_a_program_that_fails_is_said_to_have(tmp_path, monkeypatch):
    done = SimpleNamespace(returncode=1, stdout=b"its last words")
    asked = []
    monkeypatch.setattr(lab.launching.subprocess, "run", lambda *a, **k: asked.append(a) or done)
    with pytest.raises(RuntimeError, match=r"worker\.py in 3 processes failed:\nits last words"):
        lab.torchrun(worker.__file__, tmp_path, processes=3, restarts=2)
    ((command,),) = asked
    assert command[2:6] == [
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=3",
        "--max-restarts=2",
    ]
    assert command[6:] == [worker.__file__, str(tmp_path)]

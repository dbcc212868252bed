"""What a call leaves behind: files beside their names, no gradients, no trace of the clock."""

import tempfile
from types import SimpleNamespace

import pytest
import torch
from oracles import initialised, normal, seeded
from torch import nn
from torch.testing import assert_close

import diffusion_core as dc
from diffusion_core import checkpoints, data, judge, metrics, nets, toys, training

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

S = dc.vp_schedule(6)
X = normal(5, 3)
UNIFORM = torch.tensor([0, 0] + [0.2] * 5, dtype=torch.float64)


class Spy(nn.Module):
    """An eps_model with weights, which keeps whether gradients were on when it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3, dtype=torch.float64)
        self.modes = []

    def forward(self, x_t, t):
        self.modes.append(torch.is_grad_enabled())
        return self.layer(x_t)


# Files.


@pytest.mark.parametrize("name", ["weights.safetensors", "no suffix"])
@pytest.mark.parametrize("what", ["save", "save_run"])
def test_a_checkpoint_is_written_beside_its_name(what, name, tmp_path, monkeypatch):
    """Else it could not be put in its place where /tmp is another file system."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "there is no such folder"))
    model = initialised(lambda: nn.Linear(2, 2))
    path = tmp_path / "here" / name
    path.parent.mkdir()
    for steps in (1, 2):  # the second replaces the first
        if what == "save":
            checkpoints.save(path, model, steps=steps)
            assert checkpoints.load(path, another(model)) == {"steps": steps}
        else:
            optimizer = torch.optim.SGD(model.parameters())
            ema = dc.EMA(another(model))
            checkpoints.save_run(path, model, ema, optimizer, steps=steps)
            assert checkpoints.load_run(path, model, ema, optimizer) == {"steps": steps}
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [name]
    assert [p.name for p in path.parent.iterdir()] == [name]


def another(model):
    return initialised(lambda: nn.Linear(model.in_features, model.out_features), seed=1)


# Gradients.

DECODER = {"decoder": dc.gaussian_decoder}
NUMBERS = {
    "elbo_terms": lambda model: dc.elbo_terms(S, model, X, **DECODER, generator=seeded()),
    "elbo_estimate": lambda model: dc.elbo_estimate(
        S, model, X, **DECODER, probs=UNIFORM, generator=seeded()
    ),
    "eps_errors": lambda model: [dc.eps_errors(S, model, X, generator=seeded())],
    "log_ratio": lambda model: [dc.log_ratio(S, model, TRAJECTORY, **DECODER)],
    "log_ratio_telescoped": lambda model: [
        dc.log_ratio_telescoped(S, model, TRAJECTORY, **DECODER)
    ],
    "sample_chain": lambda model: [step.x_t for step in dc.sample_chain(dc.ddim_step, S, model, X)],
}
TRAJECTORY = dc.q_trajectory(S, X, generator=seeded())


@pytest.mark.parametrize("name", NUMBERS)
def test_no_gradients_are_kept_by_numbers(name):
    model = initialised(Spy)
    parts = NUMBERS[name](model)
    assert model.modes and not any(model.modes)
    assert not any(part.requires_grad for part in parts if isinstance(part, torch.Tensor))
    assert all(weight.grad is None for weight in model.parameters())
    assert torch.is_grad_enabled()


def test_a_step_outside_the_chain_and_the_losses_keep_gradients():
    """So the test above says something."""
    model = initialised(Spy)
    step = dc.ddim_step(S, model, X, 3, 1)
    assert step.x_t.requires_grad and dc.eps_loss(S, model, X, generator=seeded()).requires_grad
    assert all(model.modes)


def test_a_verdict_keeps_no_gradients():
    judged, images = nets.Classifier(), normal(4, 1, 28, 28, dtype=torch.float32)
    assert not judge.judge_images(judged, images, images).shares.requires_grad
    assert all(weight.grad is None for weight in judged.parameters())


# The clock.


@pytest.mark.parametrize("half, whole, faster", [(0.01, 0.05, True), (0.05, 0.01, False)])
def test_the_faster_dtype_is_the_faster_one_by_the_clock(half, whole, faster, monkeypatch):
    """Only the loss moves this clock; the first call, which also prepares, takes an hour."""
    now, calls = [100.0], {True: 0, False: 0}
    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: now[0]))
    model, x0 = initialised(lambda: nn.Linear(3, 3)), X.float()

    def loss(model, x0):
        is_half = torch.is_autocast_enabled("cpu")
        now[0] += (half if is_half else whole) if calls[is_half] else 3600.0
        calls[is_half] += 1
        return model(x0).square().mean()

    assert dc.bf16_is_faster(model, loss, x0) is faster
    for is_half, seconds in ((True, half), (False, whole)):
        assert abs((calls[is_half] - 1) * seconds - 0.9) < 2 * seconds
    assert all(weight.grad is None for weight in model.parameters())


# What is printed.


def test_repr_names_the_first_and_the_last_beta():
    betas = torch.tensor([0.125, 0.25, 0.5, 0.75], dtype=torch.float64)
    with pytest.warns(dc.PriorGapWarning):
        schedule = dc.NoiseSchedule(betas)
    assert repr(schedule) == "NoiseSchedule(T=4, beta_1=0.125, beta_T=0.75)"
    assert repr(dc.linear_schedule(1000)) == "NoiseSchedule(T=1000, beta_1=0.0001, beta_T=0.02)"


# The default dtype, which a lesson may set to float64: what test_ambient_state does not call.

SINGLE, T_OF_X = X.float(), torch.tensor([1, 2, 3, 4, 5])
BUILT = nets.MLP(dim=3, width=4, depth=1)
UNET = nets.UNet(widths=(8,), heads=1, emb_dim=4)
IMAGES = normal(4, 1, 4, 4, dtype=torch.float32)
CALLS = {
    "timestep_embedding": lambda: nets.timestep_embedding(T_OF_X, 6),
    "MLP": lambda: BUILT(SINGLE, T_OF_X),
    "UNet": lambda: UNET(IMAGES, T_OF_X[:4]),
    "energy_distance": lambda: metrics.energy_distance(SINGLE, 2 * SINGLE),
    "mmd": lambda: metrics.mmd(SINGLE, 2 * SINGLE),
    "sliced_wasserstein in 2-D": lambda: metrics.sliced_wasserstein(SINGLE[:, :2], SINGLE[:, 1:]),
    "sliced_wasserstein": lambda: metrics.sliced_wasserstein(
        SINGLE, 2 * SINGLE, 9, generator=seeded()
    ),
    "mode_coverage": lambda: tuple(metrics.mode_coverage(SINGLE, SINGLE, 0.1)),
    "times_floor": lambda: metrics.times_floor(metrics.mmd, [SINGLE + 1], other_sets()),
    "toy_centres": lambda: toys.toy_centres("swiss_roll")[0],
    "toy_2d": lambda: toys.toy_2d("nine_gaussians", 9, generator=seeded()),
    "to_signed": lambda: data.to_signed(torch.arange(4, dtype=torch.uint8).reshape(1, 2, 2)),
    "to_uint8": lambda: data.to_uint8(IMAGES),
    "minibatches": lambda: next(data.minibatches(SINGLE, 2, generator=seeded())),
}


def other_sets():
    rng = seeded()
    return lambda n: torch.randn(n, 3, generator=rng, dtype=torch.float32)


@pytest.mark.parametrize("name", CALLS)
def test_nothing_depends_on_the_default_dtype(name):
    with torch.no_grad():
        usual = CALLS[name]()
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            other = CALLS[name]()
        finally:
            torch.set_default_dtype(before)
    assert_close(other, usual, rtol=0, atol=0)

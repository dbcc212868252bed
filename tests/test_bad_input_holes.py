"""Refusals with one thing wrong at a time, the rest as it should be: else another check answers.

Each message begins with the name of the argument.
"""

import copy
import math
import re

import numpy as np
import pytest
import torch
from oracles import initialised, normal, seeded
from torch import nn

import diffusion_core as dc
from diffusion_core import checkpoints, judge, nets

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

T = 10
S = dc.vp_schedule(T)
X = normal(4, 2)
DATA = dc.mixture(X)
NAN = torch.where(X == X.max(), math.nan, X)
NO_DATA = {"NaN": NAN, "infinity": NAN.nan_to_num(math.inf), "integers": X.long(), "list": [1.0]}
EVERY_NO_DATA = pytest.mark.parametrize("bad", NO_DATA.values(), ids=NO_DATA)


def half(x_t, t):
    return 0.5 * x_t


def refused(name: str, call, *arguments, **options) -> None:
    """Check that a call is refused by a sentence: the argument's name, what it must be or hold."""
    with pytest.raises((ValueError, TypeError), match=rf"^{re.escape(name)} must .+"):
        call(*arguments, **options)


# The probabilities of steps.


def probs(**rows: float) -> torch.Tensor:
    """Return even probabilities (T+1,), but for some rows; the others are scaled to sum to 1."""
    given = {int(row.removeprefix("row")): value for row, value in rows.items()}
    others = [t for t in range(2, T + 1) if t not in given]
    table = torch.zeros(T + 1, dtype=torch.float64)
    table[others] = (1 - sum(given.values())) / len(others)
    for row, value in given.items():
        table[row] = value
    assert abs(table.sum() - 1) < 1e-14
    return table


def estimate(table) -> dc.ElboEstimate:
    options = {"decoder": dc.gaussian_decoder, "probs": table, "generator": seeded()}
    return dc.elbo_estimate(S, half, X, **options)


def test_probs_that_are_right_are_accepted():
    for table in (probs(), probs(row2=0.9), probs(row5=1e-12), probs(row10=0.5) * (1 + 1e-12)):
        estimate(table)
    estimate(probs().float())


@pytest.mark.parametrize("t", range(2, T + 1))
def test_probs_that_rule_a_step_out_are_refused(t):
    refused("probs", estimate, probs(**{f"row{t}": 0.0}))
    refused("probs", estimate, probs(**{f"row{t}": -0.1}))


@pytest.mark.parametrize(
    "rows", [{"row0": 0.1}, {"row1": 0.1}, {"row0": 0.1, "row1": 0.1}], ids=str
)
def test_mass_on_rows_0_and_1_alone_is_refused(rows):
    table = probs(**rows)
    assert (table[2:] > 0).all()
    refused("probs", estimate, table)


def test_rows_0_and_1_that_cancel_are_refused():
    refused("probs", estimate, probs(row0=0.1, row1=-0.1))


def even(rows: int) -> torch.Tensor:
    table = torch.full((rows,), 1 / (rows - 2), dtype=torch.float64)
    table[:2] = 0
    return table


WRONG_SHAPES = {
    "one row too many": even(T + 2),
    "a row too few": even(T),
    "a column": even(T + 1)[:, None],
    "a batch": even(T + 1)[None],
    "empty": even(T + 1)[:0],
}


@pytest.mark.parametrize("table", WRONG_SHAPES.values(), ids=WRONG_SHAPES)
def test_probs_of_another_shape(table):
    estimate(even(T + 1))
    refused("probs", estimate, table)


@pytest.mark.parametrize("factor", [1.001, 0.999, 9.0], ids=str)
def test_probs_that_do_not_sum_to_1(factor):
    refused("probs", estimate, factor * probs())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_probs_that_are_no_numbers(bad):
    table = probs()
    table[4] = bad
    refused("probs", estimate, table)


@pytest.mark.parametrize("bad", [probs().tolist(), None, 0.5, probs().numpy()], ids=type)
def test_probs_that_are_no_tensor(bad):
    refused("probs", estimate, bad)


# The range of the data, and the noise of a step.

NO_INTERVALS = [
    (1.0, -1.0),
    (0.0, 0.0),
    (1, 1),
    (math.nan, 1.0),
    (-1.0, math.nan),
    (1.0,),
    (),
    (-1.0, 0.0, 1.0),
    1.0,
    ("-1", "1"),
    "ab",
    (None, 1.0),
]


@pytest.mark.parametrize("step, s", [(dc.ddpm_step, 4), (dc.ddim_step, 4)])
@pytest.mark.parametrize("clip", NO_INTERVALS, ids=str)
def test_a_clip_that_is_no_interval(step, s, clip):
    refused("clip", step, S, half, X, 5, s, clip=clip, generator=seeded())


@pytest.mark.parametrize("step", [dc.ddpm_step, dc.ddim_step])
@pytest.mark.parametrize("clip", [(-1, 1), (-1.0, 1.0), (0.0, 1e-9), (-math.inf, 0.0)], ids=str)
def test_a_clip_that_is_an_interval_is_kept(step, clip):
    got = step(S, half, 9 * X, 5, 4, clip=clip, generator=seeded()).x0_hat
    assert clip[0] <= got.min() and got.max() <= clip[1]


@pytest.mark.parametrize(
    "eta", ["0.5", None, torch.tensor(0.5), [0.5], (0.5,), math.nan, -0.1, 1.1, math.inf], ids=str
)
def test_eta_is_a_number(eta):
    refused("eta", dc.ddim_step, S, half, X, 5, 2, eta=eta, generator=seeded())


@pytest.mark.parametrize("eta", [0, 1, 0.5, np.float64(0.5)], ids=str)
def test_every_number_from_0_to_1_is_an_eta(eta):
    dc.ddim_step(S, half, X, 5, 2, eta=eta, generator=seeded())


# Exact answers.


@EVERY_NO_DATA
def test_each_mean_of_a_kl_is_looked_at(bad):
    """With the other one as it should be, and of the same shape and dtype where it can be."""
    good, var = dc.Gaussian(X, torch.ones_like(X)), torch.ones_like(X)
    dc.kl_divergence(good, good)
    refused("p.mean", dc.kl_divergence, dc.Gaussian(bad, var), good)
    refused("q.mean", dc.kl_divergence, good, dc.Gaussian(bad, var))


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan])
def test_each_variance_of_a_kl_is_looked_at(bad):
    good = dc.Gaussian(X, torch.ones_like(X))
    spoiled = torch.where(X == X.max(), bad, torch.ones_like(X))
    refused("p.var", dc.kl_divergence, dc.Gaussian(X, spoiled), good)
    refused("q.var", dc.kl_divergence, good, dc.Gaussian(X, spoiled))


@pytest.mark.parametrize(
    "weights",
    [
        [1.0, math.inf, 1.0, 1.0],
        [math.inf] * 4,
        [1.0, math.nan, 1.0, 1.0],
        [1e308, 1e308, 1.0, 1.0],
        [-math.inf, math.inf, 1.0, 1.0],
    ],
    ids=str,
)
def test_infinite_weights(weights):
    refused("weights", dc.mixture, X, 1.0, torch.tensor(weights, dtype=torch.float64))


@pytest.mark.parametrize("bad", [math.inf, math.nan, -1.0])
def test_one_variance_that_is_none(bad):
    variances = torch.tensor([1.0, bad, 1.0, 0.0], dtype=torch.float64)
    dc.mixture(X, variances.nan_to_num(0, 1).clamp(min=0))
    refused("var", dc.mixture, X, variances)
    refused("var", dc.mixture, X, bad)


REVERSE = {
    "NaN": torch.tensor([0.0, math.nan], dtype=torch.float64),
    "infinity": torch.tensor([0.0, math.inf], dtype=torch.float64),
    "integers": torch.tensor([0, 1]),
    "list": [0.0, 1.0],
    "a batch": X[:1],
    "another length": X[:3, 0],
    "empty": X[0, :0],
    "a number": X[0, 0],
}


@pytest.mark.parametrize("bad", REVERSE.values(), ids=REVERSE)
def test_mixture_reverse_looks_at_its_state(bad):
    dc.mixture_reverse(S, DATA, X[0], 5)
    refused("x_t", dc.mixture_reverse, S, DATA, bad, 5)


# The judge.

IMAGES = normal(4, 1, 28, 28, dtype=torch.float32)
SPOILED = torch.where(IMAGES == IMAGES.max(), math.nan, IMAGES)
NO_IMAGES = {
    "NaN": SPOILED,
    "infinity": SPOILED.nan_to_num(math.inf),
    "integers": IMAGES.long(),
    "bytes": IMAGES.clamp(0, 1).to(torch.uint8),
    "list": [1.0],
    "none": IMAGES[:0],
}


@pytest.mark.parametrize("bad", NO_IMAGES.values(), ids=NO_IMAGES)
def test_the_judge_refuses_what_are_no_images(bad):
    judged, rng = nets.Classifier(), seeded()
    judge.judge_images(judged, IMAGES, IMAGES)
    refused("x", judge.judge_images, judged, bad, IMAGES)
    refused("real", judge.judge_images, judged, IMAGES, bad)
    refused("train", judge.frechet_floor, judged, bad, IMAGES, 2, generator=rng)
    refused("real", judge.frechet_floor, judged, IMAGES, bad, 2, generator=rng)


@EVERY_NO_DATA
def test_the_frechet_distance_refuses_what_are_no_features(bad):
    judge.frechet_distance(X, X)
    refused("x", judge.frechet_distance, bad, X)
    refused("y", judge.frechet_distance, X, bad)


@pytest.mark.parametrize("n", [1, 0, -1, 2.0, True])
def test_the_floor_of_digits_is_of_two_images_or_more(n):
    rng = seeded()
    refused("n", judge.frechet_floor, nets.Classifier(), IMAGES, IMAGES, n, generator=rng)


@pytest.mark.parametrize("n", [5, 99])
def test_the_floor_draws_no_image_twice(n):
    rng = seeded()
    judge.frechet_floor(nets.Classifier(), IMAGES, IMAGES, 4, generator=rng)
    refused("n", judge.frechet_floor, nets.Classifier(), IMAGES, IMAGES, n, generator=rng)


# Derivatives where a value alone would do.


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_the_decoder_has_forward_derivatives_at_the_first_and_the_last_level():
    """They were NaN: 0 times the infinite slope at infinity."""
    x0 = torch.tensor([[-1.0, 1.0], [1 / 255, -1.0]], dtype=torch.float64)
    var = torch.full_like(x0, 1e-3)

    def log_p(mean):
        return dc.discretized_decoder(x0, dc.Gaussian(mean, var)).sum()

    for mean in (0.9 * x0, -x0, 1.5 * x0):
        along = torch.ones_like(x0)
        _, got = torch.func.jvp(log_p, (mean,), (along,))
        torch.testing.assert_close(got, torch.func.grad(log_p)(mean).sum(), rtol=1e-9, atol=0)
        assert got.isfinite()


@pytest.mark.parametrize("dim", [8, 9, 20])
def test_a_score_taken_under_autocast_is_that_of_float32(dim):
    data = dc.mixture(normal(5, dim, dtype=torch.float32), 0.3)
    x = normal(3, dim, seed=2, dtype=torch.float32).requires_grad_()
    (wanted,) = torch.autograd.grad(data.log_prob(x).sum(), x)
    with torch.autocast("cpu", torch.bfloat16):
        (got,) = torch.autograd.grad(data.log_prob(x).sum(), x)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(got, data.score(x.detach()), rtol=1e-4, atol=1e-4)


# Files.


def tied() -> nn.Module:
    network = initialised(lambda: nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)))
    network[1].weight = network[0].weight
    return network


def test_tied_weights_are_saved_and_come_back(tmp_path):
    path, network = tmp_path / "tied.safetensors", tied()
    checkpoints.save(path, network)
    other = tied()
    with torch.no_grad():
        other[0].weight.zero_()
    checkpoints.load(path, other)
    assert other[1].weight is other[0].weight and torch.equal(other[0].weight, network[0].weight)


def test_a_run_of_another_dtype_is_refused_and_changes_nothing(tmp_path):
    path, network = tmp_path / "run.safetensors", tied()
    adam = torch.optim.AdamW(network.parameters())
    checkpoints.save_run(path, network, dc.EMA(network), adam)
    checkpoints.load_run(path, network, dc.EMA(network), adam)
    other = tied().double()
    before = copy.deepcopy(other.state_dict())
    run = other, dc.EMA(other), torch.optim.AdamW(other.parameters())
    with pytest.raises(ValueError, match=r"run.safetensors must have the model's dtypes, got"):
        checkpoints.load_run(path, *run)
    torch.testing.assert_close(other.state_dict(), before, rtol=0, atol=0)


def test_weights_are_cast_to_the_models_dtype_but_never_to_integers(tmp_path):
    path, network = tmp_path / "half.safetensors", tied()
    checkpoints.save(path, network, dtype=torch.float16)
    other = tied()
    checkpoints.load(path, other)
    assert other[0].weight.dtype == torch.float32
    torch.testing.assert_close(other[0].weight, network[0].weight, rtol=1e-3, atol=1e-3)
    counted = nn.Module()
    counted.register_buffer("n", torch.tensor([1.5]))
    checkpoints.save(path, counted)
    counted.n = torch.tensor([1])
    with pytest.raises(ValueError, match=r"half.safetensors must have the model's dtypes, got"):
        checkpoints.load(path, counted)


# Training and networks.


def test_a_tensor_is_no_row_of_batches():
    def loss(network, x0):
        return network(x0).square().mean()

    network = initialised(lambda: nn.Linear(2, 2, dtype=torch.float64))
    dc.train(network, loss, [X], steps=1)
    for bad in (X, "batches", {"x0": X}, None, 3):
        refused("batches", dc.train, network, loss, bad, steps=1)


@pytest.mark.parametrize("layer", [nets.Down, nets.Up])
def test_a_layer_alone_looks_at_its_sizes_and_at_its_images(layer):
    down = initialised(lambda: layer(2, 3))
    images = normal(1, 2, 4, 4, dtype=torch.float32)
    down(images)
    for bad in (0, -1, 2.0, "2", None):
        refused("in_channels", layer, bad, 3)
        refused("out_channels", layer, 2, bad)
    wrong = [images[0], images[:, :1], images.double(), images.long(), images[..., :0], None]
    wrong += [images * math.nan, images / 0.0]
    for bad in wrong:
        refused("x", down, bad)
    refused("x (too large for torch.float32)", down, images * 1e30)
    down(images * 1e15)


def test_one_number_in_each_group_cannot_be_normalised():
    t = torch.tensor([1])
    pixel = normal(1, 1, 1, 1, dtype=torch.float32)
    refused("x_t", nets.UNet(widths=(8,), patch=1), pixel, t)
    nets.UNet(widths=(16,), patch=1)(pixel, t)
    nets.UNet(widths=(8,), patch=1)(pixel.expand(2, 1, 1, 1), t.expand(2))


# What is asked of another type or place than it has.

ARRAY = np.array([1.0, 2.0])  # it has no truth value


def test_an_array_is_no_function():
    refused("probe", dc.sliced_loss, lambda x: -x, X, probe=ARRAY)
    path = dc.euler_maruyama(dc.vp_sde()._replace(marginal=ARRAY), X, (0.0, 0.5))
    refused("marginal", next, path)


def test_an_answer_from_another_device_is_no_answer():
    for loss in (dc.eps_loss, dc.v_loss):
        refused("model(x_t, t)", loss, S, lambda x_t, t: x_t.to("meta"), X, generator=seeded())

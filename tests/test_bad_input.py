"""Bad input is refused by a sentence: the argument's name, what was given, what is allowed."""

import itertools
import math

import numpy as np
import pytest
import torch
from oracles import normal, seeded
from torch import nn

import diffusion_core as dc

S = dc.vp_schedule(10)
X, Y = normal(4, 2), normal(4, 2, seed=2)
T_OK = torch.tensor([1, 2, 3, 10])
NAN = torch.where(X > 1, math.nan, X) + math.nan * (X == X.max())
EMPTY = X[:0]
DATA = dc.mixture(X)
STEPS = {"ddpm_step": (dc.ddpm_step, 5, 4), "ddim_step": (dc.ddim_step, 5, 2)}


def model(x_t, t):
    return torch.zeros_like(x_t)


def chain(**changes):
    arguments = {"step": dc.ddim_step, "schedule": S, "eps_model": model, "x_T": X} | changes
    return list(dc.sample_chain(**arguments))


def refused(call, *said: str) -> None:
    with pytest.raises((ValueError, TypeError)) as error:
        call()
    message = str(error.value)
    assert all(word in message for word in said), f"{said} not all in: {message}"
    assert len(message.split()) >= 6, f"not a sentence: {message}"


# Schedules.


@pytest.mark.parametrize("bad", [0.0, 1.0, -0.1, 1.5, math.nan, math.inf], ids=str)
def test_betas_outside_0_and_1(bad):
    betas = torch.tensor([0.1, bad, 0.2], dtype=torch.float64)
    refused(lambda: dc.NoiseSchedule(betas), "beta", f"{bad:g}", "0", "1")
    refused(lambda: dc.constant_schedule(10, bad), "beta", f"{bad:g}")
    refused(lambda: dc.linear_schedule(10, beta_end=bad), "beta")
    refused(lambda: dc.linear_schedule(10, beta_start=bad), "beta")
    refused(lambda: dc.cosine_schedule(10, beta_max=bad), "beta")


@pytest.mark.parametrize(
    "betas",
    [0.5, torch.tensor([]), torch.full((2, 2), 0.9), torch.tensor([1, 1])],
    ids=["float", "empty", "2-D", "integers"],
)
def test_betas_that_are_no_table(betas):
    refused(lambda: dc.NoiseSchedule(betas), "betas")


def test_alpha_bar_T_below_1e_30():
    refused(lambda: dc.constant_schedule(11, 0.999), "alpha_bar", "1e-30")


@pytest.mark.parametrize(
    "alpha_bars",
    [[0.5, 0.6], [0.5, 0.5], [1.0, 0.1], [0.5, -0.1], [0.5, math.nan], [0.9, 1e-20], S.alpha_bars],
    ids=str,
)
def test_alpha_bars_that_do_not_fall(alpha_bars):
    table = torch.as_tensor(alpha_bars, dtype=torch.float64)
    said = ("alpha_bars must", "without row 0", f"[{table[0]:g}")
    refused(lambda: dc.schedule_from_alpha_bars(table), *said)
    refused(lambda: dc.schedule_from_alpha_bars(table.tolist()), *said)


@pytest.mark.parametrize("bad", [0.5, [], [[0.5]], ["a"], None, object], ids=repr)
@pytest.mark.parametrize("make", [dc.NoiseSchedule, dc.schedule_from_alpha_bars])
def test_what_is_no_row_of_numbers(make, bad):
    refused(lambda: make(bad), "betas must" if make is dc.NoiseSchedule else "alpha_bars must")


def test_numpy_tables_of_any_strides_that_may_not_be_written_to():
    """Each was refused by torch, or made it warn; warnings are errors here."""
    betas = np.linspace(0.1, 0.9, 10)
    betas.flags.writeable = False
    falling = np.cumprod(1 - betas)[::-1][::-1]
    for given, expected in ((betas, betas), (betas[::-1], betas[::-1]), (list(betas), betas)):
        table = torch.tensor(expected.copy())
        assert torch.equal(dc.NoiseSchedule(given).betas[1:], table)
    assert dc.schedule_from_alpha_bars(falling).T == 10
    means = torch.tensor([[0.0]] * 10, dtype=torch.float64)
    got = dc.mixture(means, betas[::-1], betas[::2].repeat(2)[::-1])
    assert got.vars.tolist() == betas[::-1].tolist() and got.weights.dtype == torch.float64


@pytest.mark.parametrize("bad", [0, -3, 2.5, "10", None], ids=str)
@pytest.mark.parametrize(
    "build",
    [
        dc.linear_schedule,
        dc.vp_schedule,
        dc.cosine_schedule,
        lambda n: dc.constant_schedule(n, 0.5),
    ],
    ids=["linear", "vp", "cosine", "constant"],
)
def test_T_that_is_no_positive_integer(build, bad):
    refused(lambda: build(bad), "T", str(bad) if type(bad) is int else type(bad).__name__)


@pytest.mark.parametrize("bad", [-1.0, math.nan], ids=str)
def test_second_moment(bad):
    refused(lambda: dc.prior_gap(S, bad), "second_moment", f"{bad:g}")


# Functions of (schedule, x, .., t): each is called with one argument spoiled.

ONE = {  # name of x, lowest t
    "q_step": (dc.q_step, "x_prev", 1),
    "q_marginal": (dc.q_marginal, "x0", 0),
    "q_sample": (dc.q_sample, "x0", 0),
    "score_from_eps": (dc.score_from_eps, "eps", 1),
    "eps_from_score": (dc.eps_from_score, "score", 1),
    "mixture_eps_model": (
        lambda s, x, t: dc.mixture_eps_model(s, DATA)(x, torch.as_tensor(t)),
        "x",
        1,
    ),
}
TWO = {  # names of both, lowest t
    "q_posterior": (dc.q_posterior, "x_t", "x0", 1),
    "p_step": (dc.p_step, "x_t", "x0_hat", 1),
    "x0_from_eps": (dc.x0_from_eps, "x_t", "eps", 0),
    "eps_from_x0": (dc.eps_from_x0, "x_t", "x0", 1),
    "v_target": (dc.v_target, "x0", "eps", 0),
    "x0_from_v": (dc.x0_from_v, "x_t", "v", 0),
    "eps_from_v": (dc.eps_from_v, "x_t", "v", 0),
    "q_sample": (lambda s, x, y, t: dc.q_sample(s, x, t, y), "x0", "eps", 0),
}
CALLS = {name: (f, (X,), (x,), low) for name, (f, x, low) in ONE.items()}
CALLS |= {f"{n} ": (f, (X, Y), (x, y), low) for n, (f, x, y, low) in TWO.items()}
EVERY = pytest.mark.parametrize("call, data, names, lowest", CALLS.values(), ids=CALLS)


@EVERY
def test_good_arguments_are_accepted(call, data, names, lowest):
    call(S, *data, T_OK)


@EVERY
def test_t_out_of_range_or_no_integer(call, data, names, lowest):
    for bad in (-1, 11, lowest - 1):
        refused(lambda bad=bad: call(S, *data, bad), "t ", str(bad), f"{lowest}", "10")
        t = torch.tensor([1, 2, bad, 3])
        refused(lambda t=t: call(S, *data, t), "t ", str(bad), f"{lowest}", "10")
    for bad in (1.0, torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([True] * 4)):
        refused(lambda bad=bad: call(S, *data, bad), "t ", "integer")


@EVERY
def test_t_of_another_batch(call, data, names, lowest):
    for t in (T_OK[:3], T_OK[:, None], T_OK[:0]):
        refused(lambda t=t: call(S, *data, t), "t ", "4")


@EVERY
@pytest.mark.parametrize("bad", ["NaN", "inf", "empty", "integers", "no batch", "no tensor"])
def test_data_that_is_no_batch_of_finite_numbers(call, data, names, lowest, bad):
    spoiled = {
        "NaN": NAN,
        "inf": X / 0.0,
        "empty": EMPTY,
        "integers": X.long(),
        "no batch": X[0, 0],
        "no tensor": X.tolist(),
    }[bad]
    for i, name in enumerate(names):
        arguments = [spoiled if i == j else x for j, x in enumerate(data)]
        t = 1 if bad in ("empty", "no batch") else T_OK
        said = name if i == 0 or bad in ("NaN", "inf") else names[-1]
        refused(lambda arguments=arguments, t=t: call(S, *arguments, t), said)


@pytest.mark.parametrize("call, first, second, lowest", TWO.values(), ids=TWO)
def test_two_tensors_that_do_not_match(call, first, second, lowest):
    for y in (Y[:3], Y[:1], Y[:, :1], Y[..., None], Y.float(), Y.to("meta")):
        refused(lambda y=y: call(S, X, y, 3), second)
    refused(lambda: call(S, X, Y.float(), 3), second, "float32", "float64")
    refused(lambda: call(S, X, Y[:3], 3), second, "3, 2", "4, 2")
    refused(lambda: call(S, X, Y.to("meta"), 3), second, "meta", "cpu")


def test_finite_numbers_are_accepted_though_their_sum_is_not():
    large = torch.full((4, 2), 3e38)
    assert large.sum().isinf()
    dc.q_step(S, large, 1)
    for bad in (math.inf, -math.inf, math.nan):
        refused(
            lambda bad=bad: dc.q_step(S, large.index_fill(0, torch.tensor(2), bad), 1), "x_prev"
        )
    mixed = torch.tensor([[math.inf, -math.inf]])
    refused(lambda: dc.q_step(S, mixed, 1), "x_prev", "finite")


@pytest.mark.parametrize("t", [-1, 11, 1.0, torch.tensor([1.5]), torch.tensor([1, 2])], ids=str)
def test_at(t):
    refused(lambda: dc.at(S.betas, t, X), "t ")


KINDS = {
    "float": 0.01,
    "numpy": S.betas.numpy(),
    "list": S.betas.tolist(),
    "integers": torch.ones(11, dtype=torch.int64),
    "negative": -S.betas,
    "NaN": S.betas * math.nan,
    "infinite": S.betas / 0.0,
}


@pytest.mark.parametrize("bad", KINDS.values(), ids=KINDS)
def test_variances_of_other_kinds(bad):
    options = {"decoder": dc.gaussian_decoder, "variances": bad}
    probs = torch.tensor([0.0, 0] + [1 / 9] * 9, dtype=torch.float64)
    calls = [
        lambda: dc.p_step(S, X, Y, 3, variances=bad),
        lambda: dc.p_step(S, X, Y, T_OK, variances=bad),
        lambda: dc.ddpm_step(S, model, X, 3, 2, variances=bad),
        lambda: chain(step=dc.ddpm_step, variances=bad),
        lambda: dc.elbo_terms(S, model, X, **options),
        lambda: dc.elbo_estimate(S, model, X, probs=probs, **options),
        lambda: dc.log_ratio(S, model, X.expand(11, 4, 2), **options),
        lambda: dc.eps_weights(S, bad),
    ]
    for call in calls:
        refused(call, "variances must")
    refused(lambda: dc.best_variances(S, bad), "errors must")


def test_variances_of_0_have_no_kl_and_one_bad_row_is_seen_where_it_is_used():
    zero = torch.zeros_like(S.betas)
    assert torch.equal(dc.p_step(S, X, Y, 3, variances=zero).var, torch.zeros(1, 1).double())
    for call in (
        lambda: dc.eps_weights(S, zero),
        lambda: dc.elbo_terms(S, model, X, decoder=dc.gaussian_decoder, variances=zero),
    ):
        refused(call, "variances must be positive in rows 2..T")
    table = S.betas.clone()
    table[4] = -0.5
    dc.ddpm_step(S, model, X, 3, 2, variances=table)
    refused(lambda: dc.ddpm_step(S, model, X, 4, 3, variances=table), "variances", "-0.5")
    refused(lambda: dc.p_step(S, X, Y, torch.tensor([1, 4, 2, 3]), variances=table), "-0.5")
    assert dc.p_step(S, X, Y, 3, variances=S.betas.float()).var.dtype == torch.float64


def test_a_table_of_variances_with_other_rows():
    for bad in (S.betas[1:], S.betas[:5]):
        refused(lambda bad=bad: dc.p_step(S, X, Y, 3, variances=bad), "variances", "11")
        refused(lambda bad=bad: dc.ddpm_step(S, model, X, 3, 2, variances=bad), "variances", "11")


# Gaussians and mixtures.


@pytest.mark.parametrize("bad", [NAN, X[:3], X[:, :1], X.float()], ids=["NaN", "3", "1", "32"])
def test_gaussian_log_prob_and_kl(bad):
    p = dc.Gaussian(X, torch.ones_like(X))
    refused(lambda: p.log_prob(bad), "x ")
    refused(lambda: dc.kl_divergence(p, dc.Gaussian(bad, torch.ones_like(bad))), "mean")


MIXTURES = {
    "means NaN": (lambda: dc.mixture(NAN), "means"),
    "means empty": (lambda: dc.mixture(EMPTY), "means"),
    "means integers": (lambda: dc.mixture(X.long()), "means"),
    "var negative": (lambda: dc.mixture(X, -0.1), "var"),
    "var NaN": (lambda: dc.mixture(X, math.nan), "var"),
    "var shape": (lambda: dc.mixture(X, torch.ones(3)), "var"),
    "weights negative": (lambda: dc.mixture(X, 1.0, torch.tensor([1.0, 1, 1, -1])), "weights"),
    "weights shape": (lambda: dc.mixture(X, 1.0, torch.ones(3)), "weights"),
    "weights zero": (lambda: dc.mixture(X, 1.0, torch.zeros(4)), "weights"),
    "weights NaN": (lambda: dc.mixture(X, 1.0, torch.full((4,), math.nan)), "weights"),
    "diffuse t -1": (lambda: dc.diffuse(S, DATA, -1), "t "),
    "diffuse t 11": (lambda: dc.diffuse(S, DATA, 11), "t "),
    "diffuse t float": (lambda: dc.diffuse(S, DATA, 1.0), "t "),
    "sample n 0": (lambda: DATA.sample(0), "n "),
    "sample n float": (lambda: DATA.sample(2.0), "n "),
    "log_prob of points": (lambda: DATA.log_prob(X), "variance"),
    "score of points": (lambda: DATA.score(X), "variance"),
    "log_prob x": (lambda: dc.mixture(X, 1.0).log_prob(X[:, :1]), "x "),
    "log_prob x meta": (lambda: dc.mixture(X, 1.0).log_prob(X.to("meta")), "x "),
    "score x NaN": (lambda: dc.mixture(X, 1.0).score(NAN), "x "),
    "score x empty": (lambda: dc.mixture(X, 1.0).score(EMPTY), "x "),
    "eps_model x": (lambda: dc.mixture_eps_model(S, DATA)(X[:, :1], T_OK), "x"),
    "var infinite": (lambda: dc.mixture(X, math.inf), "var must be finite"),
    "var list of names": (lambda: dc.mixture(X, ["a"]), "var must"),
    "weights no numbers": (lambda: dc.mixture(X, 1.0, [None] * 4), "weights must"),
    "prior_kl on too fine a grid": (
        lambda: dc.prior_kl(S, dc.mixture(1e6 * X, 0.01)),
        "data must need at most 67108864 evaluations",
    ),
    "prior_kl in 3-D": (lambda: dc.prior_kl(S, dc.mixture(normal(4, 3), 1.0)), "dimensions"),
}


@pytest.mark.parametrize("call, said", MIXTURES.values(), ids=MIXTURES)
def test_mixtures(call, said):
    refused(call, said)


# Samplers.


@pytest.mark.parametrize("step, t, s", STEPS.values(), ids=STEPS)
def test_steps(step, t, s):
    step(S, model, X, t, s)
    for bad_t in (0, -1, 11):
        refused(lambda t=bad_t: step(S, model, X, t, t - 1), "t ", str(bad_t), "1..10")
    for bad_s in (t, t + 1, -1):
        refused(lambda s=bad_s: step(S, model, X, t, s), "s ", str(bad_s))
    refused(lambda: step(S, model, X, float(t), s), "t ", "int")
    refused(lambda: step(S, model, X, t, float(s)), "s ", "int")
    for bad in (NAN, EMPTY, X.long()):
        refused(lambda bad=bad: step(S, model, bad, t, s), "x_t")
    for wrong in (X[:3], X.float(), X[:, :1], NAN):
        refused(lambda wrong=wrong: step(S, lambda x, t: wrong, X, t, s), "eps")


def test_ddpm_takes_single_steps_and_ddim_eta_in_0_to_1():
    refused(lambda: dc.ddpm_step(S, model, X, 5, 3), "s ", "3", "4")
    for eta in (-0.1, 1.1, math.nan):
        refused(lambda eta=eta: dc.ddim_step(S, model, X, 5, 3, eta=eta), "eta", f"{eta:g}")


@pytest.mark.parametrize(
    "clip",
    [True, 1, (-1,), (None, 1), (1, -1), (0, 0), (math.nan, 1), (-1, math.nan), "ab", (-1, 0, 1)],
    ids=str,
)
def test_clips_of_other_kinds(clip):
    said = ("clip must be numbers (lowest, highest)", f"got {clip!r}")
    for step, t, s in STEPS.values():
        refused(lambda step=step, t=t, s=s: step(S, model, X, t, s, clip=clip), *said)
    refused(lambda: chain(clip=clip), *said)


@pytest.mark.parametrize(
    "taus",
    [[], [0], [10, 5], [10, 5, 5, 0], [5, 10, 0], [11, 0], [10, 5, -1], [10.0, 0.0]],
    ids=str,
)
def test_taus(taus):
    refused(lambda: chain(taus=taus), "taus")


def test_chains():
    for bad in (NAN, EMPTY, X.long()):
        refused(lambda bad=bad: chain(x_T=bad), "x_T")
    for wrong in (X[:3], X[:, :1], X.float()):
        refused(lambda wrong=wrong: chain(eps_model=lambda x, t: wrong), "eps")


@pytest.mark.parametrize("T, steps", [(10, 0), (10, 11), (10, 2.5), (0, 1), (2.5, 1)])
def test_even_taus(T, steps):
    refused(lambda: dc.even_taus(T, steps), "steps" if T == 10 else "T")


# The ELBO.


def estimate(x0=X, probs=None, schedule=S, dtype=torch.float64):
    even = torch.tensor([0.0, 0.0] + [1 / (schedule.T - 1)] * (schedule.T - 1), dtype=dtype)
    probs = even if probs is None else probs
    options = {"decoder": dc.gaussian_decoder, "generator": seeded()}
    return dc.elbo_estimate(schedule, model, x0, probs=probs, **options)


def test_probabilities_of_t():
    first = torch.eye(11, dtype=torch.float64)[1]
    even = (torch.arange(11) >= 2).double() / 9
    for bad in (None, 1.0, [0.1] * 11, even.numpy(), even[1:], even.long(), 2 * even, -even):
        if bad is not None:
            refused(lambda bad=bad: estimate(probs=bad), "probs must")
    for bad in (even * math.nan, even + 1e-5, (first + even) / 2, even + even.roll(1)):
        refused(lambda bad=bad: estimate(probs=bad), "probs must")


@pytest.mark.parametrize("T", [5, 12, 100, 200, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_probabilities_sum_to_1_as_well_as_their_dtype_can(T, dtype):
    """And what rounding leaves is taken out: the estimate is that of float64."""
    schedule = dc.vp_schedule(T)
    got, exact = (estimate(schedule=schedule, dtype=d) for d in (dtype, torch.float64))
    assert got.mean == pytest.approx(exact.mean, rel=1e-2 if dtype == torch.float16 else 1e-6)


def test_an_estimate_from_one_example_has_no_standard_error():
    refused(lambda: estimate(X[:1]), "x0 must hold at least two examples", "(1, 2)")


def test_importance_where_no_step_has_any():
    one = dc.constant_schedule(1, 0.9999)
    for terms in (
        dc.elbo_terms(one, model, X, decoder=dc.gaussian_decoder, generator=seeded()),
        dc.ElboTerms(X[:, 0], torch.zeros(4, 11), X[:, 0]),
        dc.ElboTerms(X[:, 0], torch.full((4, 11), math.nan), X[:, 0]),
    ):
        refused(lambda terms=terms: dc.importance(terms), "terms.steps must", "2..T")


def test_what_eps_errors_hears_from_the_model():
    for wrong in (X[:3], X[:, :1], X.float(), NAN, None):
        refused(lambda wrong=wrong: dc.eps_errors(S, lambda x, t: wrong, X), "eps_model(x_t, t)")


# Training.


@pytest.mark.parametrize("loss", [dc.eps_loss, dc.v_loss])
def test_losses(loss):
    for bad in (NAN, EMPTY, X.long()):
        refused(lambda bad=bad: loss(S, model, bad), "x0")
    for wrong in (X[:3], X[:, :1], X[None], None, X.tolist()):
        refused(lambda wrong=wrong: loss(S, lambda x, t: wrong, X), "model")


def test_draw_t_of_an_empty_batch():
    refused(lambda: dc.draw_t(S, EMPTY), "x0")


def train(data=X, **options):
    def loss(network, x0):
        return network(x0).square().mean()

    network = nn.Linear(2, 2, dtype=torch.float64)
    return dc.train(network, loss, itertools.repeat(data, 50), **options)


@pytest.mark.parametrize(
    "options, said",
    [
        ({}, "steps"),
        ({"steps": 0}, "steps"),
        ({"steps": -1}, "steps"),
        ({"steps": 2.5}, "steps"),
        ({"seconds": 0.0}, "seconds"),
        ({"seconds": -1.0}, "seconds"),
        ({"seconds": math.nan}, "seconds"),
    ],
    ids=str,
)
def test_train_without_a_bound_that_means_something(options, said):
    refused(lambda: train(**options), said)


@pytest.mark.parametrize("bad", [NAN, EMPTY, X.long()], ids=["NaN", "empty", "integers"])
def test_train_on_bad_batches(bad):
    refused(lambda: train(bad, steps=1), "batch")


@pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5, math.nan], ids=str)
def test_ema_decay(decay):
    refused(lambda: dc.EMA(nn.Linear(1, 1), decay=decay), "decay", f"{decay:g}")

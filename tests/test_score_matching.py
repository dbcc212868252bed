"""Equations 24 to 29 and the traps of lesson 07, against integrals, autograd and enumeration."""

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from oracles import assert_mean, initialised, normal, seeded
from torch import nn
from torch.testing import assert_close

import diffusion_core as dc
from diffusion_core import score_matching

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

LINE = torch.linspace(-16, 16, 401, dtype=torch.float64)
NOISE = torch.linspace(-9, 9, 361, dtype=torch.float64)
DATA = dc.mixture(torch.tensor([[-1.5], [2.0]], dtype=torch.float64), normal(2).exp(), [0.3, 0.7])
PLANE = dc.mixture(normal(3, 2, seed=4), torch.tensor([0.3, 0.5, 1.1]).double(), [0.2, 0.5, 0.3])
LEVELS = (0.05, 0.3, 1.0)


def torch_log_prob(data, x):
    """The log density by torch.distributions, which knows nothing of our mixtures."""
    parts = torch.distributions.MultivariateNormal(
        data.means, data.vars[:, None, None] * torch.eye(data.means.shape[1]).double()
    )
    weights = torch.distributions.Categorical(data.weights)
    return torch.distributions.MixtureSameFamily(weights, parts).log_prob(x)


def torch_score(data, x):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(torch_log_prob(data, x).sum(), x)[0]


def blurred(data, level):
    return dc.mixture(data.means, data.vars + level**2, data.weights)


def network(dim, activation=nn.SiLU, out=None):
    layers = lambda: nn.Sequential(nn.Linear(dim, 8), activation(), nn.Linear(8, out or dim))  # noqa: E731
    return initialised(layers).double()


def integral(values, data=DATA):
    """The mean of values over the data's density, as an integral on a grid: exact to rounding."""
    return torch.trapezoid(torch_log_prob(data, LINE[:, None]).exp() * values, LINE)


def at_each(loss, x):
    """A loss is a mean over its batch; here it is asked for one example at a time."""
    return torch.stack([loss(x[i : i + 1]) for i in range(len(x))]).detach()


def all_signs(dim):
    return torch.tensor(list(itertools.product((-1.0, 1.0), repeat=dim)), dtype=torch.float64)


def linear(matrix):
    return lambda x: x @ matrix.mT


# Row 24.


@pytest.mark.parametrize("data", [DATA, PLANE], ids=["line", "plane"])
def test_row_24_the_score_is_the_slope_of_the_log_density(data):
    x = 3 * normal(200, data.means.shape[1], seed=2)
    assert_close(data.score(x), torch_score(data, x), rtol=1e-10, atol=1e-12)


def test_row_24_the_score_is_a_difference_of_log_densities():
    x, h = 2 * normal(100, 1, seed=3), 1e-5
    slope = (torch_log_prob(DATA, x + h) - torch_log_prob(DATA, x - h)) / (2 * h)
    assert_close(DATA.score(x)[:, 0], slope, rtol=1e-7, atol=1e-7)


# Row 25.


@pytest.mark.parametrize("model", [network(1), lambda x: -torch.tanh(3 * x)], ids=["net", "tanh"])
def test_row_25_explicit_is_implicit_plus_half_the_mean_square_of_the_score(model):
    score = partial(torch_score, DATA)
    explicit = integral(at_each(partial(dc.explicit_loss, model, score), LINE[:, None]))
    implicit = integral(at_each(partial(dc.implicit_loss, model), LINE[:, None]))
    constant = integral(score(LINE[:, None])[:, 0].square() / 2)
    assert constant > 0.1 and explicit > 0.1
    assert_close(explicit, implicit + constant, rtol=0, atol=1e-10)


def test_row_25_in_three_dimensions_by_draws():
    """The mean over draws of both sides' difference is 0, within its standard error."""
    data = dc.mixture(normal(4, 3, seed=5), 0.7)
    model, x = network(3), data.sample(20_000, generator=seeded(1))
    s, trace = dc.exact_trace(model, x)
    score = torch_score(data, x)
    sides = (s - score).square().sum(1) / 2 - (s.square().sum(1) / 2 + trace)
    assert_mean(sides - score.square().sum(1) / 2, 0.0)
    assert_close(dc.implicit_loss(model, x), (s.square().sum(1) / 2 + trace).mean())
    assert_close(
        dc.explicit_loss(model, lambda _: score, x), (s - score).square().sum(1).mean() / 2
    )


def test_row_25_the_exact_trace_is_that_of_finite_differences():
    model, x, h = network(3), normal(6, 3, seed=2), 1e-5
    steps = h * torch.eye(3, dtype=torch.float64)
    slopes = [(model(x + e) - model(x - e))[:, i] / (2 * h) for i, e in enumerate(steps)]
    assert_close(dc.exact_trace(model, x).trace, sum(slopes), rtol=1e-8, atol=1e-9)
    images = x.reshape(6, 3, 1, 1)
    as_images = dc.exact_trace(lambda y: model(y.flatten(1)).reshape(y.shape), images)
    assert_close(as_images.trace, sum(slopes), rtol=1e-8, atol=1e-9)


# Row 26.


def test_row_26_the_mean_over_all_signs_is_the_trace_and_their_variance_the_formula():
    J, signs = normal(4, 4, seed=6), all_signs(4)
    found = dc.hutchinson_trace(linear(J), torch.zeros_like(signs), signs).trace
    variances = dc.probe_variances(J[None])
    assert_close(found.mean(), J.trace(), rtol=1e-12, atol=0)
    assert_close(found.var(correction=0), variances.rademacher[0], rtol=1e-12, atol=0)


def test_row_26_the_mean_over_normal_probes_is_the_trace_and_their_variance_the_formula():
    """By Gauss-Hermite quadrature in three dimensions: exact for polynomials."""
    nodes, weights = map(torch.from_numpy, np.polynomial.hermite_e.hermegauss(6))
    v = torch.cartesian_prod(nodes, nodes, nodes)
    weights = torch.cartesian_prod(*[weights / weights.sum()] * 3).prod(1)
    J = normal(3, 3, seed=7)
    found = dc.hutchinson_trace(linear(J), torch.zeros_like(v), v).trace
    mean = (weights * found).sum()
    assert_close(mean, J.trace(), rtol=1e-11, atol=0)
    variance = (weights * (found - mean).square()).sum()
    assert_close(dc.probe_variances(J[None]).gaussian[0], variance, rtol=1e-11, atol=0)


def test_row_26_the_sliced_loss_over_all_signs_is_the_implicit_loss():
    model, x = network(3), normal(5, 3, seed=8)

    def loss(signs):
        return dc.sliced_loss(model, x, probe=lambda like, generator: signs.expand_as(like))

    over_signs = torch.stack([loss(signs) for signs in all_signs(3)])
    assert_close(over_signs.mean(), dc.implicit_loss(model, x), rtol=1e-12, atol=0)
    assert over_signs.std() > 0.01


# Row 27.


def pairs(level, monkeypatch):
    """x_0, eps and weights of a double integral; the loss is handed this eps for its draw."""
    x0, eps = torch.meshgrid(LINE, NOISE, indexing="ij")
    bell = torch.distributions.Normal(0.0, 1.0).log_prob(eps).exp()
    weights = torch_log_prob(DATA, LINE[:, None]).exp()[:, None] * bell
    weights = weights * (LINE[1] - LINE[0]) * (NOISE[1] - NOISE[0])
    eps, weights = eps.reshape(-1, 1), weights.flatten()
    monkeypatch.setattr(score_matching, "standard_normal", lambda like, generator: eps)
    return x0.reshape(-1, 1), weights * len(weights)


@pytest.mark.parametrize("level", LEVELS)
def test_row_27_denoising_is_explicit_on_noisy_data_plus_a_constant(level, monkeypatch):
    """Both losses and the constant as integrals; the gradients in the weights agree, too."""
    model, noisy = network(1), blurred(DATA, level)
    x0, weights = pairs(level, monkeypatch)
    denoising = dc.denoising_loss(model, x0, level, weights=weights)
    score = torch_score(noisy, LINE[:, None])
    off = (model(LINE[:, None]) - score).square()[:, 0] / 2
    explicit = integral(off, noisy)
    constant = 1 / (2 * level**2) - integral(score[:, 0].square() / 2, noisy)
    assert_close(denoising, explicit + constant, rtol=0, atol=1e-9)
    ours, theirs = (torch.autograd.grad(x, [*model.parameters()]) for x in (denoising, explicit))
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b, rtol=0, atol=1e-9)


def test_row_27_the_target_is_the_slope_of_the_log_density_given_x0():
    x0, eps = normal(50, 2), normal(50, 2, seed=2)
    x = (x0 + 0.4 * eps).requires_grad_()
    log_q = torch.distributions.Normal(x0, 0.4).log_prob(x).sum()
    (slope,) = torch.autograd.grad(log_q, x)
    generator = seeded(3)
    drawn = dc.standard_normal(x0, seeded(3))
    model = lambda y: -(y - x0) / 0.4**2  # noqa: E731
    assert dc.denoising_loss(model, x0, 0.4, generator=generator) < 1e-20
    assert_close(slope, -eps / 0.4, rtol=1e-9, atol=1e-9)
    assert_close(model(x0 + 0.4 * drawn), -drawn / 0.4, rtol=1e-9, atol=1e-9)


# Row 28.

SCHEDULE = dc.vp_schedule(50)


@pytest.mark.parametrize("t", [1, 20, 50])
def test_row_28_a_perfect_guess_of_the_noise_is_the_score_of_the_noisy_data(t):
    eps_model = dc.mixture_eps_model(SCHEDULE, PLANE)
    level = ((1 - SCHEDULE.alpha_bars[t]) / SCHEDULE.alpha_bars[t]).sqrt().item()
    x = PLANE.sample(40, generator=seeded()) + level * normal(40, 2)
    score_model = dc.score_model_from_eps(SCHEDULE, eps_model, t)
    assert_close(score_model(x), torch_score(blurred(PLANE, level), x), rtol=1e-8, atol=1e-10)
    x_t = SCHEDULE.alpha_bars[t].sqrt() * x
    score = dc.score_from_eps(SCHEDULE, eps_model(x_t, t), t)
    of_x_t = torch_score(dc.diffuse(SCHEDULE, PLANE, t), x_t)
    assert_close(score, of_x_t, rtol=1e-8, atol=1e-10)


def test_row_28_the_simple_loss_is_the_denoising_loss_weighted_with_the_level_squared():
    net = network(3)
    model = lambda x_t, t: net(torch.cat([x_t, t[:, None] / 50], 1))[:, :2]  # noqa: E731
    x0 = PLANE.sample(500, generator=seeded())
    simple = dc.eps_loss(SCHEDULE, model, x0, generator=seeded(5))
    generator = seeded(5)
    t = dc.draw_t(SCHEDULE, x0, generator)
    level = ((1 - SCHEDULE.alpha_bars[t]) / SCHEDULE.alpha_bars[t]).sqrt()
    score_model = dc.score_model_from_eps(SCHEDULE, model, t)
    options = {"weights": level**2, "generator": generator}
    assert_close(simple, dc.denoising_loss(score_model, x0, level, **options), rtol=1e-10, atol=0)


# Row 29.


def slope_of(sizes):
    levels = np.log([0.03, 0.1, 0.3])
    return np.polyfit(levels, np.log(sizes), 1)[0]


def test_row_29_the_bias_falls_like_the_square_of_the_level():
    """Times a factor that autograd knows: p_s = p + s^2 p''/2 + ..., as for heat."""
    means, variances = torch.tensor([[-2.0], [2.0]]), torch.tensor([0.8, 1.2])
    data = dc.mixture(means.double(), variances.double())
    x = LINE[:, None].requires_grad_()
    off = [(blurred(data, level).score(x) - data.score(x))[:, 0] for level in (0.03, 0.1, 0.3)]
    bias = [integral(o.detach().square(), data).sqrt() for o in off]
    assert abs(slope_of(bias) - 2) < 0.1
    slopes = [torch_log_prob(data, x)[:, None]]
    for _ in range(2):
        slopes += torch.autograd.grad(slopes[-1].sum(), x, create_graph=True)
    curvature = slopes[2] + slopes[1].square()  # p'' / p
    (change,) = torch.autograd.grad(curvature.sum() / 2, x)
    factor = integral(change[:, 0].square(), data).sqrt()
    assert_close(bias[0] / 0.03**2, factor, rtol=0.01, atol=0)


def test_row_29_the_noise_of_the_gradient_grows_like_one_over_the_level():
    """Data N(0, 1), s = -theta x, theta the best: the standard deviation is exactly 1 / level."""
    n, sizes = 100_000, []
    x0 = normal(n, 1, seed=9)
    for level in (0.03, 0.1, 0.3):
        theta = torch.full((n, 1), 1 / (1 + level**2), dtype=torch.float64, requires_grad=True)
        loss = dc.denoising_loss(lambda x, th=theta: -th * x, x0, level, generator=seeded())
        gradients = torch.autograd.grad(loss, theta)[0] * n  # of one example each
        assert_mean(gradients, 0.0)
        assert_close(gradients.std().item(), 1 / level, rtol=0.02, atol=0)
        sizes.append(gradients.std())
    assert abs(slope_of(sizes) + 1) < 0.05


# The traps of LESSONS_07_15: B1 to B10.


def test_trap_b1_at_a_wall_the_implicit_loss_is_off_by_the_boundary_term():
    x = (torch.arange(20_000, dtype=torch.float64)[:, None] + 0.5) / 10_000 - 1  # even on [-1, 1]
    explicit = dc.explicit_loss(lambda x: x, torch.zeros_like, x)
    implicit = dc.implicit_loss(lambda x: x, x)
    assert_close(explicit.item(), 1 / 6, rtol=1e-6, atol=0)
    assert_close(implicit.item(), 7 / 6, rtol=1e-6, atol=0)


def test_trap_b2_on_a_fixed_set_the_implicit_loss_has_no_lowest_value():
    points, fresh = (PLANE.sample(n, generator=seeded(n)) for n in (20, 2000))
    models = [dc.mixture(points, width**2).score for width in (0.5, 0.1, 0.02)]
    seen = [dc.implicit_loss(model, points).item() for model in models]
    new = [dc.implicit_loss(model, fresh).item() for model in models]
    assert seen[0] > 10 * seen[1] > 100 * seen[2] and seen[0] < 0
    assert 100 < new[1] < new[2] / 100, "fresh points show it"


def energy_score(net):
    """The score -grad E of a network that gives an energy."""

    def score(x):
        x = x if x.requires_grad else x.requires_grad_()
        return -torch.autograd.grad(net(x).sum(), x, create_graph=True)[0]

    return score


def test_trap_b3_a_relu_energy_has_no_trace_and_a_smooth_one_has():
    x, h = normal(50, 2, seed=3), 1e-5
    for activation, curved in ((nn.ReLU, False), (nn.SiLU, True)):
        score = energy_score(network(2, activation, out=1))
        trace = dc.exact_trace(score, x).trace
        assert (trace.abs().max() > 0.01) == curved
        slopes = [
            (score(x + e) - score(x - e))[:, i] / (2 * h)
            for i, e in enumerate(h * torch.eye(2, dtype=torch.float64))
        ]
        assert_close(trace, sum(slopes), rtol=1e-5, atol=1e-6)


def test_trap_b3_autograd_does_not_see_that_a_weight_moves_a_kink():
    b = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    x = LINE[:, None]
    for activation, seen in ((torch.relu, False), (nn.functional.softplus, True)):
        mean = integral(dc.exact_trace(lambda y, f=activation: f(y + b), x).trace)
        slope = torch.autograd.grad(mean, b, materialize_grads=True)[0]
        up, down = (
            integral(dc.exact_trace(lambda y, f=activation, h=h: f(y + 0.5 + h), x).trace)
            for h in (0.1, -0.1)
        )
        assert (abs(slope - (up - down) / 0.2) < 1e-3) == seen
        assert (up - down) / 0.2 > 0.05


PROBES = {"gaussian": dc.standard_normal, "rademacher": dc.rademacher}


@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
def test_trap_b4_the_second_moment_of_a_probe_is_the_identity(probe):
    v = probe(torch.empty(20_000, 4, dtype=torch.float64), seeded())
    products = v[:, :, None] * v[:, None, :]
    assert_mean(products.flatten(1), torch.eye(4).flatten(), bias=1e-12)
    unit = v / v.norm(dim=1, keepdim=True)
    found = dc.hutchinson_trace(linear(torch.eye(4).double()), v, unit).trace
    assert_close(found, torch.ones_like(found), rtol=1e-9, atol=0)  # 4 is right


def test_trap_b5_a_rademacher_probe_holds_signs_and_is_the_default(device):
    like = torch.zeros(1000, 3, dtype=torch.float32, device=device)
    v = dc.rademacher(like, seeded())
    assert v.dtype == like.dtype and v.device == like.device and v.shape == like.shape
    assert v.unique().tolist() == [-1, 1]
    model, x = linear(normal(3, 3)), normal(10, 3)
    plain = dc.sliced_loss(model, x, generator=seeded(2))
    assert_close(plain, dc.sliced_loss(model, x, probe=dc.rademacher, generator=seeded(2)))
    assert plain != dc.sliced_loss(model, x, probe=dc.standard_normal, generator=seeded(2))


LOSSES = {
    "implicit": dc.implicit_loss,
    "sliced": lambda model, x: dc.sliced_loss(model, x, generator=seeded(4)),
    "denoising": lambda model, x: dc.denoising_loss(model, x, 0.3, generator=seeded(4)),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_trap_b6_gradients_in_the_weights_are_those_of_finite_differences(loss):
    net, x, h = network(2), normal(7, 2), 1e-5
    weight = net[0].weight
    (slope,) = torch.autograd.grad(loss(net, x), weight)
    for i, j in itertools.product(range(8), range(2)):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[i, j] += sign * h
            values.append(loss(net, x).item())
            with torch.no_grad():
                weight[i, j] -= sign * h
        assert_close(slope[i, j].item(), (values[0] - values[1]) / (2 * h), rtol=1e-5, atol=1e-7)


CUT_OFF = {
    "the answer": lambda net: lambda x: net(x).detach(),
    "the argument": lambda net: lambda x: net(x.detach()),
    "no_grad": lambda net: torch.no_grad()(net),
}


@pytest.mark.parametrize("cut", CUT_OFF.values(), ids=CUT_OFF)
@pytest.mark.parametrize("loss", [LOSSES["implicit"], LOSSES["sliced"]])
def test_trap_b6_a_model_that_is_cut_off_from_x_is_refused(loss, cut):
    with pytest.raises(ValueError, match=r"score_model\(x\) must depend on x"):
        loss(cut(network(2)), normal(4, 2))


def test_trap_b7_with_the_square_as_weight_a_zero_network_has_one_loss_at_every_level():
    x0, zero = torch.zeros(20_000, 2, dtype=torch.float64), lambda x: 0 * x
    for level in (0.01, 0.1, 1.0):
        options = {"weights": level**2, "generator": seeded()}
        assert_close(dc.denoising_loss(zero, x0, level, **options).item(), 1.0, rtol=0.03, atol=0)
    plain = [dc.denoising_loss(zero, x0, s, generator=seeded()).item() for s in (0.01, 0.1)]
    assert_close(plain[0] / plain[1], 100.0)


@pytest.mark.parametrize("level", LEVELS)
def test_trap_b8_the_lowest_denoising_loss_is_a_constant_far_above_0(level):
    """The loss of the perfect model is the constant of (27), here for N(0, 1): by draws."""
    data = dc.mixture(torch.zeros(1, 1, dtype=torch.float64), 1.0)
    x0 = data.sample(50_000, generator=seeded(1))
    perfect = blurred(data, level).score
    lowest = (1 / level**2 - 1 / (1 + level**2)) / 2
    found = dc.denoising_loss(perfect, x0, level, generator=seeded(2)).item()
    assert_close(found, lowest, rtol=5 * math.sqrt(2 / len(x0)), atol=0)  # chi-square: exact here


def test_trap_b9_a_guess_of_the_noise_is_not_a_score_and_goes_there_and_back():
    eps = normal(30, 2)
    for t in (1, 25, 50):
        score = dc.score_from_eps(SCHEDULE, eps, t)
        assert_close(dc.eps_from_score(SCHEDULE, score, t), eps, rtol=1e-12, atol=1e-12)
        model = dc.score_model_from_eps(SCHEDULE, lambda x_t, t: x_t, t)
        level = ((1 - SCHEDULE.alpha_bars[t]) / SCHEDULE.alpha_bars[t]).sqrt()
        assert_close(-level * model(eps), SCHEDULE.alpha_bars[t].sqrt() * eps, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_trap_b10_the_density_integrates_to_1_in_each_dimension(dim):
    side = torch.linspace(-8, 8, 81, dtype=torch.float64)
    grid = torch.cartesian_prod(*[side] * dim).reshape(-1, dim)
    data = dc.mixture(normal(3, dim), torch.tensor([0.4, 0.7, 1.0]), [0.5, 0.2, 0.3])
    total = data.log_prob(grid).exp().sum() * (side[1] - side[0]) ** dim
    assert_close(total.item(), 1.0, rtol=1e-7, atol=0)


# What is refused, and what is kept.


def test_without_gradients_the_results_have_no_graph_and_are_the_same():
    net, x = network(2), normal(5, 2)
    for trace in (dc.exact_trace, partial(dc.hutchinson_trace, v=torch.ones_like(x))):
        kept = trace(net, x)
        with torch.no_grad():
            plain = trace(net, x)
        assert kept.trace.requires_grad and not plain.trace.requires_grad
        assert not plain.score.requires_grad and not x.requires_grad
        assert_close(plain, (kept.score.detach(), kept.trace.detach()), rtol=1e-12, atol=1e-15)


def test_gradients_reach_x_and_one_coordinate_may_be_constant():
    x = normal(4, 2).requires_grad_()
    trace = dc.exact_trace(lambda y: torch.stack([y[:, 0] ** 3, y[:, 0] * 0 + 1], 1), x).trace
    assert_close(trace, 3 * x[:, 0] ** 2)
    (slope,) = torch.autograd.grad(trace.sum(), x)
    assert_close(slope[:, 0], 6 * x[:, 0])


X = normal(4, 2)
REFUSED = {
    "a score of another shape": (lambda: dc.implicit_loss(lambda x: x[:, :1], X), "score_model"),
    "no finite score": (lambda: dc.implicit_loss(lambda x: x / 0, X), "score_model"),
    "another known score": (lambda: dc.explicit_loss(lambda x: x, lambda x: x[:2], X), r"score\(x"),
    "a level of 0": (lambda: dc.denoising_loss(lambda x: x, X, 0.0), "noise_level must be pos"),
    "levels of another number": (
        lambda: dc.denoising_loss(lambda x: x, X, torch.ones(3)),
        r"noise_level must be a number or have shape \(4,\)",
    ),
    "a weight below 0": (lambda: dc.denoising_loss(lambda x: x, X, 1.0, weights=-1.0), "weights"),
    "a probe of another shape": (
        lambda: dc.sliced_loss(lambda x: x, X, probe=lambda like, generator: like[:2]),
        "v must be like x",
    ),
    "no batch of matrices": (lambda: dc.probe_variances(X), r"jacobian must have shape \(B, D"),
    "t = 0": (lambda: dc.score_model_from_eps(SCHEDULE, lambda x, t: x, 0)(X), "t must lie in 1"),
}


@pytest.mark.parametrize("call, sentence", REFUSED.values(), ids=REFUSED)
def test_what_is_refused_is_named(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_device_and_dtype_gives_the_same_losses(device, dtype):
    if device.type == "mps" and dtype == torch.float64:
        pytest.skip("mps has no float64")
    matrix, x = normal(2, 2), normal(6, 2, seed=2)
    levels = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], dtype=torch.float64)
    for loss in (
        dc.implicit_loss,
        lambda model, x: dc.sliced_loss(model, x, generator=seeded()),
        lambda model, x: dc.denoising_loss(model, x, levels, weights=levels, generator=seeded()),
    ):
        with torch.no_grad():
            found = loss(linear(matrix.to(device, dtype)), x.to(device, dtype))
        assert found.dtype == dtype and found.device == x.to(device).device
        if dtype == torch.float64:
            assert_close(found.cpu(), loss(linear(matrix), x), rtol=1e-9, atol=1e-9)

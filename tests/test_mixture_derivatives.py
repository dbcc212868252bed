"""Derivatives of exact mixtures, of first and second order, by every way that torch has."""

import math
import sys

import pytest
import torch
from oracles import normal
from torch.autograd.functional import hessian, jacobian
from torch.func import grad, jacfwd, jacrev, jvp, vmap
from torch.func import hessian as func_hessian
from torch.testing import assert_close

import diffusion_core as dc

# torch itself calls torch.jit.script when forward mode is first used.
pytestmark = [
    pytest.mark.usefixtures("untouched_global_rng"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning"),
]

SCHEDULE = dc.vp_schedule(10)
DIMENSIONS = (2, 12)  # differences by columns, and in blocks
EVERY = pytest.mark.parametrize("dim", DIMENSIONS)


def data(dim: int) -> dc.Mixture:
    variances = torch.tensor([0.5, 0.2, 1.0], dtype=torch.float64)
    weights = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64)
    return dc.mixture(normal(3, dim), variances * dim / 2, weights)


def batch(dim: int) -> torch.Tensor:
    """Four states; the first is a component's mean, at distance 0."""
    return torch.cat([data(dim).means[:1], normal(3, dim, seed=2)])


def functions(dim: int) -> dict:
    """What is differentiated: each maps states (B, D) to a tensor."""
    q, eps_model = data(dim), dc.mixture_eps_model(SCHEDULE, data(dim))
    return {
        "log_prob": q.log_prob,
        "score": q.score,
        "eps_model, one t": lambda x: eps_model(x, 3),
        "eps_model, t each": lambda x: eps_model(x, torch.tensor([3, 1, 10, 3])[: len(x)]),
    }


NAMES = list(functions(2))
OF = pytest.mark.parametrize("name", NAMES)


def plain_log_prob(q: dc.Mixture, x: torch.Tensor) -> torch.Tensor:
    """The density of one state (D,), from its definition."""
    squares = ((x - q.means) ** 2).sum(1)
    constants = q.weights.log() - len(x) / 2 * (2 * math.pi * q.vars).log()
    return (constants - squares / (2 * q.vars)).logsumexp(0)


def differences(function, x: torch.Tensor, step: float = 1e-6) -> torch.Tensor:
    """Return the Jacobian of a function of x by central differences, shape f(x).shape + x.shape."""
    columns = []
    for i in range(x.numel()):
        shift = torch.zeros(x.numel(), dtype=x.dtype)
        shift[i] = step
        shift = shift.view(x.shape)
        columns.append((function(x + shift) - function(x - shift)) / (2 * step))
    return torch.stack(columns, -1).reshape(*columns[0].shape, *x.shape)


@EVERY
@OF
def test_jacobians_agree_with_differences(name, dim):
    function, x = functions(dim)[name], batch(dim)
    expected = differences(function, x)
    for got in (jacobian(function, x), jacrev(function)(x), jacfwd(function)(x)):
        assert_close(got, expected, rtol=1e-6, atol=1e-7)
    by_chunks = jacrev(function, chunk_size=1)(x)
    assert_close(jacrev(function)(x), by_chunks, rtol=1e-12, atol=1e-12)


@EVERY
@OF
def test_directional_derivatives_agree_with_differences(name, dim):
    function, x, v = functions(dim)[name], batch(dim), normal(4, dim, seed=3)
    got = jvp(function, (x,), (v,))[1]
    expected = (function(x + 1e-6 * v) - function(x - 1e-6 * v)) / 2e-6
    assert_close(got, expected, rtol=1e-6, atol=1e-7)


@EVERY
@OF
def test_second_derivatives_agree_with_differences(name, dim):
    function, x = functions(dim)[name], batch(dim)[:2]

    def total(x):
        return function(x).sin().sum()

    expected = differences(lambda x: grad(total)(x), x)
    for got in (
        hessian(total, x),
        func_hessian(total)(x),
        jacrev(jacrev(total))(x),
        jacfwd(jacfwd(total))(x),
        jacrev(jacfwd(total))(x),
    ):
        assert_close(got, expected, rtol=1e-5, atol=1e-6)
        flat = got.reshape(x.numel(), x.numel())
        assert_close(flat, flat.T, rtol=1e-9, atol=1e-9)


@EVERY
def test_hessians_are_those_of_the_definition(dim):
    q = data(dim)
    for x in batch(dim):
        expected = hessian(lambda x: plain_log_prob(q, x), x)
        assert_close(func_hessian(lambda x: q.log_prob(x[None])[0])(x), expected)
        assert_close(jacrev(lambda x: q.score(x[None])[0])(x), expected)


@EVERY
def test_double_backward(dim):
    q, x = data(dim), batch(dim).requires_grad_()
    with torch.random.fork_rng():  # gradgradcheck draws
        torch.autograd.gradcheck(q.log_prob, x, check_forward_ad=True)
        torch.autograd.gradgradcheck(q.log_prob, x)
        torch.autograd.gradgradcheck(q.score, x)


@EVERY
@OF
def test_a_function_of_one_state_may_be_mapped_over_many(name, dim):
    function, x = functions(dim)[name], batch(dim)
    got = vmap(lambda x: function(x[None])[0])(x)
    expected = torch.cat([function(row[None]) for row in x])
    assert_close(got, expected, rtol=1e-12, atol=1e-12)
    slopes = vmap(jacrev(lambda x: function(x[None])[0]))(x)
    each = torch.stack([jacrev(lambda x: function(x[None])[0])(row) for row in x])
    assert_close(slopes, each, rtol=1e-9, atol=1e-9)


@EVERY
def test_derivatives_by_the_parameters(dim):
    x, q = batch(dim), data(dim)

    def log_prob(means, variances, weights):
        return dc.mixture(means, variances, weights).log_prob(x)

    for i in range(3):
        expected = differences(
            lambda part, i=i: log_prob(*(part if i == j else other for j, other in enumerate(q))),
            q[i],
        )
        for way in (jacrev, jacfwd):
            assert_close(way(log_prob, argnums=i)(*q), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(2,), (8,), (9,), (1, 28, 28)])
def test_equal_points_are_at_distance_0(shape, dtype):
    """So the log-density at a mean is that of its component's top, to the last digit."""
    means = 100 * normal(40, *shape, dtype=dtype)
    q = dc.mixture(means, 1e-6)
    top = q.weights.log() - q.means.shape[1] / 2 * (2 * math.pi * q.vars).log()
    assert torch.equal(q.log_prob(means), top)


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units, or missing")
def test_60_000_images_take_no_more_memory_than_their_means_and_distances():
    """Of all differences at once there would be 1.5 GB; a block of a few MB is at work."""
    import resource

    means = normal(1000, 784, dtype=torch.float32).repeat(60, 1)
    q, x = dc.mixture(means, 0.5), means[:8] + 0.1
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    log_p, score = q.log_prob(x), q.score(x)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000
    assert_close(log_p, dc.mixture(means[:1000], 0.5).log_prob(x))
    assert_close(score, dc.mixture(means[:1000], 0.5).score(x), rtol=1e-3, atol=1e-3)


def test_numbers_that_are_not_finite_are_still_refused_where_they_can_be_seen():
    q, bad = data(2), batch(2) / 0.0
    for call in (
        lambda: q.log_prob(bad),
        lambda: jacrev(q.log_prob)(bad),
        lambda: jvp(q.score, (bad,), (bad,)),
    ):
        with pytest.raises(ValueError, match="x must hold finite numbers"):
            call()


def test_the_other_functions_of_the_core_may_be_transformed():
    """Checks look at numbers, and torch.func.vmap has none to show: they must not stop it."""
    x, y = normal(3, 2), normal(3, 2, seed=2)
    gaussian = dc.Gaussian(y, torch.ones_like(y))
    tries = {
        "q_sample": lambda x: dc.q_sample(SCHEDULE, x, 3, y),
        "q_step": lambda x: dc.q_step(SCHEDULE, x, 3).mean,
        "q_posterior": lambda x: dc.q_posterior(SCHEDULE, x, y, 3).mean,
        "p_step": lambda x: dc.p_step(SCHEDULE, x, y, 3, variances=SCHEDULE.betas).mean,
        "x0_from_eps": lambda x: dc.x0_from_eps(SCHEDULE, x, y, torch.tensor([1, 2, 3])),
        "eps_from_v": lambda x: dc.eps_from_v(SCHEDULE, x, y, 3),
        "log_prob": gaussian.log_prob,
        "kl": lambda x: dc.kl_divergence(dc.Gaussian(x, x.exp()), gaussian),
        "ddim_step": lambda x: dc.ddim_step(SCHEDULE, lambda x, t: x.sin(), x, 5, 3).x_t,
        "decoder": lambda x: dc.gaussian_decoder(y, dc.Gaussian(x, torch.ones_like(y))),
    }
    for name, function in tries.items():
        expected = differences(function, x)
        for way in (jacrev, jacfwd):
            got = way(function)(x)
            assert_close(got, expected, rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
        assert vmap(function)(torch.stack([x, x])).shape == (2, *function(x).shape), name

"""Exact mixtures, against quadrature, autograd, SciPy and Monte Carlo."""

import math

import pytest
import scipy.special
import scipy.stats
import torch
from oracles import assert_mean, normal, seeded
from scipy import integrate
from torch.testing import assert_close

import diffusion_core as dc

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

SCHEDULE = dc.vp_schedule(10)
LINE = torch.linspace(-12, 12, 6001, dtype=torch.float64)[:, None]  # a grid for 1-D integrals
TIMES = pytest.mark.parametrize("t", [1, 3, 10])


@pytest.fixture
def data():
    """Three components in 2-D of different variances and weights."""
    means = torch.tensor([[2.0, 0.0], [-1.0, 1.0], [0.0, -2.0]], dtype=torch.float64)
    variances = torch.tensor([0.1, 0.5, 0.02], dtype=torch.float64)
    return dc.mixture(means, variances, torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64))


@pytest.fixture
def data_1d():
    means = torch.tensor([[-1.0], [1.5]], dtype=torch.float64)
    variances, weights = torch.tensor([[0.04, 0.25], [0.3, 0.7]], dtype=torch.float64)
    return dc.mixture(means, variances, weights)


def integral(values: torch.Tensor) -> torch.Tensor:
    return torch.trapezoid(values, LINE[:, 0], dim=0)


def test_weights_are_normalised_and_equal_by_default(data):
    assert_close(data.weights, torch.tensor([0.25, 0.5, 0.25]).double(), rtol=1e-15, atol=0)
    images = dc.mixture(normal(5, 1, 4, 4))
    assert images.means.shape == (5, 16)
    assert_close(images.weights, torch.full((5,), 0.2, dtype=torch.float64), rtol=1e-15, atol=0)
    assert_close(images.vars, torch.zeros(5).double(), rtol=0, atol=0)


def test_a_variance_keeps_its_digits():
    """0.1 is a Python number of 16 digits; through torch's default type 7 of them would be left."""
    assert dc.mixture(normal(5, 2), 0.1).vars.tolist() == [0.1] * 5


def test_log_prob_agrees_with_scipy(data):
    x = 3 * normal(20, 2)
    parts = [
        scipy.stats.multivariate_normal(m, v).logpdf(x.numpy())
        for m, v in zip(data.means.tolist(), data.vars.tolist(), strict=True)
    ]
    expected = scipy.special.logsumexp(parts, axis=0, b=data.weights.numpy()[:, None])
    got = data.log_prob(x)
    assert_close(got, torch.tensor(expected), rtol=1e-10, atol=1e-10)


def test_score_is_the_gradient_of_log_prob(data):
    x = (3 * normal(20, 2)).requires_grad_()
    data.log_prob(x).sum().backward()
    assert_close(data.score(x.detach()), x.grad, rtol=1e-9, atol=1e-9)


def test_nothing_overflows_far_from_the_data(data):
    for dtype in (torch.float32, torch.float64):
        x = torch.tensor([[1e3, -1e3], [-50.0, 50.0]], dtype=dtype)
        assert data.score(x).isfinite().all()
        assert data.log_prob(x).isfinite().all()
        for t in (1, 10):
            assert dc.mixture_eps_model(SCHEDULE, data)(x, torch.tensor(t)).isfinite().all()


def test_samples_have_the_moments_and_the_weights(data, generator):
    x = data.sample(40_000, generator=generator)
    mean = data.weights @ data.means
    second = data.weights @ (data.means**2 + data.vars[:, None])
    assert_mean(x, mean)
    assert_mean(x**2, second)
    nearest = torch.cdist(x, data.means).argmin(1)  # the components hardly overlap ...
    assert_mean(torch.nn.functional.one_hot(nearest, 3).double(), data.weights, bias=0.02)


def test_samples_are_reproducible(data):
    a, b = (data.sample(10, generator=seeded(1)) for _ in range(2))
    assert_close(a, b, rtol=0, atol=0)
    assert a.dtype == data.means.dtype and a.shape == (10, 2)


@TIMES
def test_trap_13_diffuse_is_the_density_of_x_t(data_1d, t):
    """q(x_t) = int q(x_0) q(x_t | x_0) dx_0, on a grid."""
    x_t = torch.tensor([[-2.0], [0.0], [0.7], [3.0]], dtype=torch.float64)
    prior = data_1d.log_prob(LINE)
    q = dc.q_marginal(SCHEDULE, LINE, t)
    joints = [prior + q.log_prob(x.expand_as(LINE))[:, 0] for x in x_t]
    expected = torch.stack([integral(joint.exp()) for joint in joints]).log()
    got = dc.diffuse(SCHEDULE, data_1d, t).log_prob(x_t)
    assert_close(got, expected, rtol=1e-8, atol=1e-8)


def test_diffuse_begins_with_the_data_and_ends_near_the_prior(data):
    assert_close(tuple(dc.diffuse(SCHEDULE, data, 0)), tuple(data), rtol=0, atol=0)
    x = normal(50, 2)
    got = dc.diffuse(SCHEDULE, data, SCHEDULE.T).log_prob(x)
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1)
    assert_close(got, prior, rtol=0, atol=0.1)


@TIMES
def test_trap_13_eps_model_is_the_mean_of_eps_given_x_t(data_1d, t):
    """E[eps | x_t] by integrating over x_0 on a grid."""
    x_t = torch.tensor([[-2.0], [0.0], [0.7], [3.0]], dtype=torch.float64)
    prior = data_1d.log_prob(LINE)
    for x, got in zip(x_t, dc.mixture_eps_model(SCHEDULE, data_1d)(x_t, t), strict=True):
        q = dc.q_marginal(SCHEDULE, LINE, t)
        joint = (prior + q.log_prob(x.expand_as(LINE))[:, 0]).exp()
        eps = dc.eps_from_x0(SCHEDULE, x.expand_as(LINE), LINE, t)[:, 0]
        assert_close(got[0], integral(joint * eps) / integral(joint), rtol=1e-8, atol=1e-8)


@TIMES
def test_eps_model_of_a_finite_data_set_weighs_its_points(t):
    points, x_t = normal(7, 3), normal(5, 3, seed=2)
    log_weights = [
        dc.q_marginal(SCHEDULE, p.expand_as(x_t), t).log_prob(x_t).sum(1) for p in points
    ]
    x0_hat = torch.softmax(torch.stack(log_weights, 1), 1) @ points
    got = dc.mixture_eps_model(SCHEDULE, dc.mixture(points))(x_t, torch.tensor(t))
    assert_close(dc.x0_from_eps(SCHEDULE, x_t, got, t), x0_hat, rtol=1e-8, atol=1e-8)


def test_no_other_eps_model_has_a_smaller_error(data, generator):
    x0 = data.sample(20_000, generator=generator)
    eps = dc.standard_normal(x0, generator)
    x_t = dc.q_sample(SCHEDULE, x0, 4, eps)
    best = dc.mixture_eps_model(SCHEDULE, data)(x_t, 4)
    for other in (1.05 * best, best + 0.05, best + 0.05 * x_t.sin()):
        gain = ((other - eps) ** 2 - (best - eps) ** 2).mean(1)
        assert gain.mean() > 3 * gain.std() / math.sqrt(len(gain))
    assert_mean((best - eps) * x_t, 0.0)  # the residual is orthogonal to any function of x_t


def test_eps_model_takes_a_t_for_each_example_and_images_as_they_are():
    images, x = dc.mixture(normal(6, 1, 4, 4)), normal(3, 1, 4, 4, seed=5)
    eps_model, t = dc.mixture_eps_model(SCHEDULE, images), torch.tensor([1, 5, 10])
    got = eps_model(x, t)
    assert got.shape == x.shape
    for i in range(3):
        assert_close(got[[i]], eps_model(x[[i]], t[[i]]), rtol=1e-10, atol=1e-12)


def test_trap_23_results_live_where_x_does(data, device):
    x = normal(4, 2, dtype=torch.float32).to(device)
    for got in (
        data.score(x),
        dc.mixture_eps_model(SCHEDULE, data)(x, torch.full((4,), 3, device=device)),
    ):
        assert (got.dtype, got.device.type, got.shape) == (x.dtype, device.type, x.shape)
    assert data.log_prob(x).device.type == device.type


# The exact reverse step.


def grid_reverse(data, x: float, t: int) -> torch.Tensor:
    """q(x_{t-1} | x_t = x) on the grid, from q(x_{t-1}) and one step of the chain."""
    step = dc.q_step(SCHEDULE, LINE, t)
    joint = dc.diffuse(SCHEDULE, data, t - 1).log_prob(LINE)
    joint = (joint + step.log_prob(torch.full_like(LINE, x))[:, 0]).exp()
    return joint / integral(joint)


@TIMES
@pytest.mark.parametrize("x", [-2.0, 0.1, 0.7, 3.0])
def test_mixture_reverse_is_bayes_rule_on_a_grid(data_1d, t, x):
    got = dc.mixture_reverse(SCHEDULE, data_1d, torch.tensor([x], dtype=torch.float64), t)
    assert_close(got.log_prob(LINE).exp(), grid_reverse(data_1d, x, t), rtol=1e-8, atol=1e-9)


@TIMES
def test_mixture_reverse_is_bayes_rule_in_2_d(data, t):
    x_prev, x_t = normal(20, 2), torch.tensor([0.4, -1.1], dtype=torch.float64)
    got = dc.mixture_reverse(SCHEDULE, data, x_t, t).log_prob(x_prev)
    step = dc.q_step(SCHEDULE, x_prev, t).log_prob(x_t.expand_as(x_prev)).sum(1)
    before = dc.diffuse(SCHEDULE, data, t - 1).log_prob(x_prev)
    after = dc.diffuse(SCHEDULE, data, t).log_prob(x_t[None])
    assert_close(got, step + before - after, rtol=1e-9, atol=1e-9)


def test_mixture_reverse_of_points_at_t_1_weighs_the_points():
    points, x_t = normal(6, 3), normal(3, seed=2)
    got = dc.mixture_reverse(SCHEDULE, dc.mixture(points), x_t, 1)
    assert_close(got.means, points, rtol=1e-12, atol=1e-12)
    assert_close(got.vars, torch.zeros(6).double(), rtol=0, atol=0)
    log_weights = dc.q_marginal(SCHEDULE, points, 1).log_prob(x_t.expand_as(points)).sum(1)
    assert_close(got.weights, log_weights.softmax(0), rtol=1e-9, atol=1e-12)


@TIMES
def test_mixture_reverse_of_points_is_a_mixture_of_posteriors(t):
    points, x_t = normal(6, 3), normal(3, seed=2)
    got = dc.mixture_reverse(SCHEDULE, dc.mixture(points), x_t, t)
    posterior = dc.q_posterior(SCHEDULE, x_t.expand_as(points), points, t)
    assert_close(got.means, posterior.mean, rtol=1e-9, atol=1e-12)
    assert_close(got.vars, posterior.var.flatten().expand(6), rtol=1e-9, atol=1e-15)


@TIMES
def test_mixture_reverse_has_the_mean_of_p_step_with_the_optimal_eps(data, t):
    for x_t in 2 * normal(5, 2, seed=3):
        got = dc.mixture_reverse(SCHEDULE, data, x_t, t)
        x = x_t[None]
        x0_hat = dc.x0_from_eps(SCHEDULE, x, dc.mixture_eps_model(SCHEDULE, data)(x, t), t)
        expected = dc.p_step(SCHEDULE, x, x0_hat, t).mean[0]
        assert_close(got.weights @ got.means, expected, rtol=1e-9, atol=1e-9)


def test_mixture_reverse_is_a_mixture_of_as_many_components(data):
    for far in (0.0, 100.0):
        got = dc.mixture_reverse(SCHEDULE, data, torch.tensor([far, -far]).double(), 3)
        assert isinstance(got, dc.Mixture)
        assert (got.means.shape, got.vars.shape, got.weights.shape) == ((3, 2), (3,), (3,))
        assert all(part.isfinite().all() for part in got)
        assert_close(got.weights.sum().item(), 1.0, rtol=1e-12, atol=0)
        assert (got.vars > 0).all() and {part.dtype for part in got} == {torch.float64}


def test_trap_23_mixture_reverse_lives_where_the_data_does(data, device):
    here = dc.Mixture(*(part.float().to(device) for part in data))
    x_t = torch.tensor([0.4, -1.1], device=device)
    got = dc.mixture_reverse(SCHEDULE, here, x_t, 4)
    expected = dc.mixture_reverse(SCHEDULE, data, x_t.cpu().double(), 4)
    assert {part.device.type for part in got} == {device.type}
    assert_close(tuple(part.cpu().double() for part in got), tuple(expected), rtol=1e-4, atol=1e-5)


def test_mixture_reverse_refuses_other_times_and_shapes(data):
    x_t = torch.zeros(2, dtype=torch.float64)
    for t in (0, -1, SCHEDULE.T + 1):
        with pytest.raises(ValueError, match="t must"):
            dc.mixture_reverse(SCHEDULE, data, x_t, t)
    for bad in (x_t[:1], x_t[None], torch.zeros(4, 2).double(), x_t[0]):
        with pytest.raises(ValueError, match="x_t"):
            dc.mixture_reverse(SCHEDULE, data, bad, 3)


# The prior gap.


def test_trap_1_prior_kl_of_one_gaussian_has_a_closed_form():
    schedule = dc.vp_schedule(10)
    for dim in (1, 2):
        mean, var = torch.full((1, dim), 3.0, dtype=torch.float64), 0.3
        q = dc.diffuse(schedule, dc.mixture(mean, var), schedule.T)
        p = torch.distributions.Normal(q.means[0], q.vars.sqrt())
        kl = torch.distributions.kl_divergence(p, torch.distributions.Normal(0.0, 1.0))
        got = dc.prior_kl(schedule, dc.mixture(mean, var))
        assert_close(got, kl.mean().item() / math.log(2), rtol=1e-6, atol=1e-12)


@pytest.mark.filterwarnings("ignore::diffusion_core.PriorGapWarning")
def test_trap_1_prior_kl_is_the_mean_log_ratio_and_below_the_bound(data, generator):
    schedule = dc.linear_schedule(50)
    q = dc.diffuse(schedule, data, schedule.T)
    x = q.sample(40_000, generator=generator)
    log_p = torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1)
    bits = (q.log_prob(x) - log_p) / (2 * math.log(2))
    got = dc.prior_kl(schedule, data)
    assert_mean(bits, got)
    second_moment = (data.weights @ (data.means**2 + data.vars[:, None])).mean().item()
    assert 0 < got <= dc.prior_gap(schedule, second_moment)


@pytest.mark.filterwarnings("ignore::diffusion_core.PriorGapWarning")
def test_prior_kl_holds_for_points_under_little_noise():
    """Far, narrow components: their separate entropies, and the entropy of the choice."""
    schedule = dc.constant_schedule(1, 1e-3)
    points = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    got = dc.prior_kl(schedule, dc.mixture(points))
    assert_close(got, dc.prior_gap(schedule, 1.0) - 1.0, rtol=1e-9, atol=0)


@pytest.mark.filterwarnings("ignore::diffusion_core.PriorGapWarning")
def test_prior_kl_of_two_humps_that_nearly_part():
    """Hard for a grid: points at +-2.7 standard deviations, here by adaptive quadrature."""
    beta = 0.01
    shift = 2.7 * math.sqrt(beta)  # sqrt(alpha) x0
    schedule = dc.constant_schedule(1, beta)
    points = torch.tensor([[-1.0], [1.0]], dtype=torch.float64) * shift / math.sqrt(1 - beta)

    def integrand(x):
        q = sum(math.exp(-((x - m) ** 2) / (2 * beta)) for m in (-shift, shift))
        q /= 2 * math.sqrt(2 * math.pi * beta)
        return q * (math.log(q) + x**2 / 2 + math.log(2 * math.pi) / 2) if q > 0 else 0.0

    exact, _ = integrate.quad(integrand, -1.5, 1.5, epsabs=1e-12, limit=500)
    assert abs(dc.prior_kl(schedule, dc.mixture(points)) - exact / math.log(2)) < 1e-8


@pytest.mark.filterwarnings("ignore::diffusion_core.PriorGapWarning")
def test_prior_kl_of_far_or_narrow_data_is_refused_or_quick():
    """Means at 255 took 86 s, and variances of 1e-6 asked for 6 GB."""
    far, few = dc.mixture(255 * normal(8, 2)), dc.linear_schedule(50)
    with pytest.raises(ValueError, match=r"data must need at most \d+ evaluations.*, got \d+"):
        dc.prior_kl(few, far)
    narrow = dc.constant_schedule(1, 1e-6)
    points = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    with pytest.raises(ValueError, match="evaluations"):
        dc.prior_kl(narrow, dc.mixture(points))
    got = dc.prior_kl(narrow, dc.mixture(points[:, :1]))
    assert_close(got, dc.prior_gap(narrow, 1.0) - 1.0, rtol=1e-9, atol=0)


def test_prior_kl_of_float32_data_is_that_of_the_same_numbers_in_float64(data):
    """It is a small number, left over from larger ones; float32 had no right digit of it."""
    schedule = dc.vp_schedule(1000)
    single = dc.Mixture(*(part.float() for part in data))
    exact = dc.prior_kl(schedule, dc.Mixture(*(part.double() for part in single)))
    assert_close(dc.prior_kl(schedule, single), exact, rtol=1e-9, atol=0)
    assert 0 < exact < 1e-4


def test_components_of_many_kinds_at_many_times(data):
    """Rows are put back where they came from, for times in any order."""
    x, t = normal(7, 2), torch.tensor([3, 10, 1, 3, 2, 10, 1])
    eps_model = dc.mixture_eps_model(SCHEDULE, data)
    each = torch.cat([eps_model(row[None], int(time)) for row, time in zip(x, t, strict=True)])
    assert_close(eps_model(x, t), each, rtol=1e-12, atol=1e-12)

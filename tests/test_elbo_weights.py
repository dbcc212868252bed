"""The weights of the noise error and the best variances, against torch.distributions and grids."""

import math

import pytest
import torch
from oracles import condition, joint_covariance, normal, seeded
from torch.distributions import Normal
from torch.testing import assert_close

import diffusion_core as dc

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

S = dc.vp_schedule(10)
T = S.T
MIXTURE = dc.mixture(
    torch.tensor([[-1.0], [1.5]], dtype=torch.float64),
    torch.tensor([0.04, 0.25], dtype=torch.float64),
    torch.tensor([0.3, 0.7], dtype=torch.float64),
)
LINE = torch.linspace(-8, 8, 641, dtype=torch.float64)[:, None]
WIDER = S.betas * torch.linspace(1.1, 3.0, T + 1, dtype=torch.float64)
VARIANCES = {"posterior_vars": S.posterior_vars, "betas": S.betas, "any": WIDER, "default": None}
EVERY_TABLE = pytest.mark.parametrize("variances", VARIANCES.values(), ids=VARIANCES)


def half(x, t):
    return 0.5 * x


def integral(values: torch.Tensor) -> torch.Tensor:
    return torch.trapezoid(values, LINE[:, 0], dim=0)


def gaussian_errors(data_var: float) -> torch.Tensor:
    """E|eps - E[eps | x_t]|^2 for N(0, data_var): the joint Gaussian of (x_0, x_t) conditioned."""
    cov = joint_covariance(S.betas[1:], data_var)
    errors = torch.zeros(T + 1, dtype=torch.float64)
    for t in range(1, T + 1):
        scale, noise = S.alpha_bars[t].sqrt(), S.marginal_vars[t].sqrt()
        joint = torch.stack([torch.stack([cov[t, t], noise]), torch.stack([noise, noise**0])])
        assert_close(cov[t, 0], scale * data_var)  # so x_t = scale x_0 + noise eps, as taken here
        errors[t] = condition(joint, [1], [0])[1]  # of (x_t, eps), Cov(x_t, eps) = noise
    return errors


def grid_errors() -> torch.Tensor:
    """The same for the mixture, on a grid: E eps^2 - E eps_hat^2, as eps_hat = E[eps | x_t]."""
    eps_model, errors = dc.mixture_eps_model(S, MIXTURE), torch.zeros(T + 1, dtype=torch.float64)
    for t in range(1, T + 1):
        q = dc.diffuse(S, MIXTURE, t).log_prob(LINE).exp()
        errors[t] = 1 - integral(q * eps_model(LINE, t)[:, 0] ** 2)
    return errors


def grid_reverse_var(t: int) -> torch.Tensor:
    """E Var(x_{t-1} | x_t), from q(x_{t-1}) and one step of the chain on a grid."""
    before = dc.diffuse(S, MIXTURE, t - 1).log_prob(LINE)
    step = Normal((1 - S.betas[t]).sqrt() * LINE, S.betas[t].sqrt())
    joint = (before[:, None] + step.log_prob(LINE.T)).exp()  # rows x_{t-1}, columns x_t
    q = integral(joint)
    first, second = integral(joint * LINE), integral(joint * LINE**2)
    inside = q > 1e-200  # far out the density of x_t is 0 in float64
    return integral(torch.where(inside, second - first**2 / q.clamp(min=1e-200), 0.0))


def steps_sum(variances, errors: torch.Tensor) -> float:
    w, c = dc.eps_weights(S, variances)
    return (w * errors + c).sum().item()


# Row 16.


@EVERY_TABLE
@pytest.mark.parametrize("schedule", ["vp", "linear"])
def test_row_16_weighted_errors_are_the_kl_of_each_step(variances, schedule):
    """For each noise and each guess, not only on average; t = 2 and t = T included."""
    s = S
    if schedule == "linear":
        s = dc.linear_schedule(300, 1e-4, 0.06)
        tables = {"posterior_vars": s.posterior_vars, "betas": s.betas, "any": 1.7 * s.betas}
        name = next(n for n, table in VARIANCES.items() if table is variances)
        variances = tables.get(name)
    w, c = dc.eps_weights(s, variances)
    x0, eps, eps_hat = normal(4, 2, 3), normal(4, 2, 3, seed=2), normal(4, 2, 3, seed=3)
    for t in range(2, s.T + 1):
        x_t = dc.q_sample(s, x0, t, eps)
        q = dc.q_posterior(s, x_t, x0, t)
        p = dc.p_step(s, x_t, dc.x0_from_eps(s, x_t, eps_hat, t), t, variances=variances)
        kl = torch.distributions.kl_divergence(
            Normal(q.mean, q.var.sqrt()), Normal(p.mean, p.var.sqrt())
        )
        got = w[t] * ((eps - eps_hat) ** 2).sum((1, 2)) + 6 * c[t]
        assert_close(got, kl.sum((1, 2)), rtol=1e-10, atol=1e-10)


def test_row_16_the_constant_is_exactly_0_for_posterior_vars():
    for variances in (None, S.posterior_vars):
        assert_close(dc.eps_weights(S, variances)[1], torch.zeros(T + 1).double(), rtol=0, atol=0)
    assert (dc.eps_weights(S, S.betas)[1][2:] > 0).all()


@EVERY_TABLE
def test_eps_weights_are_tables_of_T_plus_1_rows(variances):
    for table in dc.eps_weights(S, variances):
        assert table.shape == (T + 1,) and table.dtype == torch.float64
        assert (table[:2] == 0).all() and table.isfinite().all()


def test_eps_weights_of_row_1_need_no_variance():
    """posterior_vars_1 is 0, and any other first row changes nothing."""
    spoiled = S.betas.clone()
    spoiled[:2] = math.nan
    assert_close(dc.eps_weights(S, spoiled), dc.eps_weights(S, S.betas), rtol=0, atol=0)


def test_row_16_the_steps_of_elbo_terms_are_the_weighted_errors(generator):
    """On average over the noise, for a model that is wrong."""
    x0 = normal(20_000, 1)
    errors = dc.eps_errors(S, half, x0, generator=generator)
    terms = dc.elbo_terms(
        S, half, x0, decoder=dc.gaussian_decoder, variances=S.betas, generator=generator
    )
    w, c = dc.eps_weights(S, S.betas)
    got, expected = terms.steps, w * errors + c
    # Both are means over 20 000 draws of the same kind, so the difference has twice the variance.
    allowed = 5 * math.sqrt(2) * got.std(0) / math.sqrt(len(got)) + 1e-12
    assert ((got.mean(0) - expected).abs() <= allowed).all()


# Row 19 and the errors.


@pytest.mark.parametrize("data_var", [0.25, 4.0])
def test_eps_errors_of_gaussian_data_are_those_of_linear_algebra(data_var, generator):
    x0 = math.sqrt(data_var) * normal(4000, 5)
    eps_model = dc.mixture_eps_model(S, dc.mixture(torch.zeros(1, 5).double(), data_var))
    got = dc.eps_errors(S, eps_model, x0, generator=generator)
    expected = gaussian_errors(data_var)
    # A mean of 20 000 squares of normals: its relative standard error is sqrt(2 / 20 000).
    assert_close(got, expected, rtol=5 * math.sqrt(2 / 20_000), atol=0)


def test_row_19_the_simple_loss_is_the_mean_of_the_errors_over_t():
    """One noise for each t, or one t drawn for each example: one mean, t = 1 and T included."""
    x0, generator = 0.5 * normal(500, 1, 2, 2), seeded(7)
    losses = [dc.eps_loss(S, half, x0, generator=generator) for _ in range(200)]
    errors = [dc.eps_errors(S, half, x0, generator=generator)[1:].mean() for _ in range(50)]
    losses, errors = torch.stack(losses), torch.stack(errors)
    allowed = 5 * math.sqrt(losses.var() / len(losses) + errors.var() / len(errors))
    assert (losses.mean() - errors.mean()).abs() <= allowed


def test_eps_errors_are_0_for_a_model_that_knows_and_1_for_one_that_says_nothing():
    x0 = normal(1, 3, 4)
    batch = x0.expand(5, 3, 4)

    def knows(x, t):
        return dc.eps_from_x0(S, x, x0.expand_as(x), t)

    nothing = dc.eps_errors(S, knows, batch, generator=seeded())
    assert_close(nothing, torch.zeros(T + 1).double(), rtol=0, atol=1e-20)
    off = dc.eps_errors(S, lambda x, t: knows(x, t) + 0.2, batch, generator=seeded())
    expected = torch.full((T + 1,), 0.04, dtype=torch.float64)
    expected[0] = 0
    assert_close(off, expected, rtol=1e-9, atol=1e-12)
    silent = dc.eps_errors(S, lambda x, t: 0 * x, normal(500, 6), generator=seeded())
    assert_close(silent[1:], torch.ones(T).double(), rtol=5 * math.sqrt(2 / 3000), atol=0)


def test_trap_5_eps_errors_ask_for_every_t_once_for_each_example():
    asked = []

    def counted(x, t):
        asked.extend(t.expand(len(x)).tolist())
        return x

    dc.eps_errors(S, counted, normal(3, 2), generator=seeded())
    assert sorted(asked) == sorted(list(range(1, T + 1)) * 3)


# Row 23.


def test_row_23_posterior_vars_for_a_point_mass(generator):
    point = torch.tensor([[0.7, -1.2]], dtype=torch.float64)
    eps_model = dc.mixture_eps_model(S, dc.mixture(point))
    errors = dc.eps_errors(S, eps_model, point.expand(50, 2), generator=generator)
    assert_close(dc.best_variances(S, errors), S.posterior_vars, rtol=1e-9, atol=0)


def test_row_23_betas_for_a_standard_normal():
    expected = S.betas.clone()
    expected[1] = 0
    assert_close(dc.best_variances(S, gaussian_errors(1.0)), expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("data_var", [0.1, 3.0])
def test_row_23_the_conditional_variance_for_gaussian_data(data_var):
    cov = joint_covariance(S.betas[1:], data_var)
    best = dc.best_variances(S, gaussian_errors(data_var))
    for t in range(2, T + 1):
        assert_close(best[t], condition(cov, [t - 1], [t])[1][0, 0], rtol=1e-9, atol=1e-12)


def test_row_23_the_mean_variance_of_the_exact_reverse_step_for_a_mixture():
    best = dc.best_variances(S, grid_errors())
    for t in range(2, T + 1):
        assert_close(best[t], grid_reverse_var(t), rtol=1e-6, atol=1e-9)


def test_row_23_any_other_table_has_a_larger_sum_of_steps():
    errors = grid_errors()
    best = dc.best_variances(S, errors)
    least = steps_sum(best, errors)
    others = [S.posterior_vars, S.betas, 1.02 * best, 0.98 * best]
    for t in range(2, T + 1):  # each row by itself is at its least
        for factor in (0.95, 1.05):
            others.append(best.clone())
            others[-1][t] *= factor
    for other in others:
        assert steps_sum(other, errors) > least


def test_row_23_the_best_variances_have_the_least_steps_of_elbo_terms(generator):
    """Data they were not fitted to; the same noise for each table, so the difference is sharp."""
    eps_model = dc.mixture_eps_model(S, MIXTURE)
    fit, x0 = MIXTURE.sample(20_000, generator=generator).split(10_000)
    best = dc.best_variances(S, dc.eps_errors(S, eps_model, fit, generator=generator))

    def steps(variances):
        options = {"decoder": dc.gaussian_decoder, "generator": seeded(5)}
        return dc.elbo_terms(S, eps_model, x0, variances=variances, **options).steps.sum(1)

    least = steps(best)
    for other in (S.posterior_vars, S.betas, 1.5 * best, best / 1.5):
        loss = steps(other) - least
        assert loss.mean() > 3 * loss.std() / math.sqrt(len(loss))


def test_best_variances_are_a_table_of_T_plus_1_rows():
    best = dc.best_variances(S, torch.rand(T + 1, generator=seeded(), dtype=torch.float64))
    assert best.shape == (T + 1,) and best.dtype == torch.float64
    assert (best[:2] == 0).all() and (best[2:] > S.posterior_vars[2:]).all()


# What holds for all of them.


def test_trap_23_eps_errors_on_every_device(device):
    x0 = normal(4, 1, 2, 2).float().to(device)

    def model(x, t):
        assert x.device.type == t.device.type == device.type
        assert t.dtype == torch.int64 and t.shape == (len(x),)
        return 0.5 * x

    here = dc.eps_errors(S, model, x0, generator=seeded())
    assert here.shape == (T + 1,) and here[0] == 0
    on_cpu = dc.eps_errors(S, half, x0.cpu(), generator=seeded())
    assert_close(here.cpu(), on_cpu, rtol=1e-5, atol=0)
    assert dc.best_variances(S, here).shape == (T + 1,)


def test_eps_errors_are_reproducible():
    a, b, c = (dc.eps_errors(S, half, normal(4, 2), generator=seeded(i)) for i in (3, 3, 4))
    assert_close(a, b, rtol=0, atol=0)
    assert not torch.equal(a, c)


def test_eps_errors_of_a_batch_of_one_and_of_images():
    for x0 in (normal(1, 2), normal(3, 1, 4, 4)):
        got = dc.eps_errors(S, half, x0, generator=seeded())
        assert got.shape == (T + 1,) and (got[1:] > 0).all()


@pytest.mark.parametrize("bad", ["NaN", "empty"])
def test_eps_errors_of_no_batch_of_finite_numbers(bad):
    x = normal(4, 2)
    x0 = {"NaN": x * math.nan, "empty": x[:0]}[bad]
    with pytest.raises(ValueError, match="x0"):
        dc.eps_errors(S, half, x0, generator=seeded())

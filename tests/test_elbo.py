"""The evidence lower bound, against linear algebra, torch.distributions and Monte Carlo."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from oracles import affine, assert_mean, condition, joint_covariance, normal, seeded
from torch.distributions import MultivariateNormal, Normal
from torch.testing import assert_close

import diffusion_core as dc

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

S = dc.vp_schedule(8)
T = S.T
X0 = normal(5, 1, 2, 3)
TABLES = pytest.mark.parametrize("table", ["posterior_vars", "betas"])
TERMS = pytest.mark.parametrize("term", ["prior", "steps", "recon"])
RATIOS = pytest.mark.parametrize("ratio", [dc.log_ratio, dc.log_ratio_telescoped])


def single(mean: float, var: float, dim: int = 1) -> dc.Mixture:
    """N(mean, var I): the optimal eps of such data is affine in x_t."""
    return dc.mixture(torch.full((1, dim), mean, dtype=torch.float64), var)


DATA = single(0.5, 0.25)
MIXTURE = dc.mixture(
    torch.tensor([[-1.0], [1.5]], dtype=torch.float64), torch.tensor([0.04, 0.25]).double()
)
BEST = dc.mixture_eps_model(S, DATA)
MODELS = {
    "optimal": BEST,
    "half": lambda x, t: 0.5 * x,
    "nothing": lambda x, t: torch.zeros_like(x),
}
EVERY_MODEL = pytest.mark.parametrize("eps_model", MODELS.values(), ids=MODELS)


def full(n: int, x0: float) -> torch.Tensor:
    return torch.full((n, 1), x0, dtype=torch.float64)


def terms_of(x0, eps_model=BEST, *, schedule=S, decoder=dc.gaussian_decoder, seed=0, **options):
    generator = seeded(seed)
    return dc.elbo_terms(schedule, eps_model, x0, decoder=decoder, generator=generator, **options)


def total(terms: dc.ElboTerms) -> torch.Tensor:
    return terms.prior + terms.steps.sum(1) + terms.recon


def assert_equal_means(a: torch.Tensor, b: torch.Tensor, errors: float = 3) -> None:
    """Check that two independent samples have one mean, by the error of the difference."""
    error = math.sqrt(a.var() / len(a) + b.var() / len(b))
    assert abs(a.mean() - b.mean()) <= errors * error, (a.mean(), b.mean(), error)


def reverse_kernel(eps_model, variances, t: int):
    """p(x_{t-1} | x_t) as a function of x_t; beta_1 is the variance of the last."""
    var = S.betas if t == 1 else variances
    return lambda x: dc.p_step(
        S, x, dc.x0_from_eps(S, x, eps_model(x, torch.tensor(t)), t), t, variances=var
    )


def model_joint(eps_model, variances) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of (x_0, .., x_T) under p: its affine kernels multiplied out."""
    mean, factor = torch.zeros(T + 1).double(), torch.zeros(T + 1, T + 1).double()
    factor[T, T] = 1
    for t in range(T, 0, -1):
        slope, offset, var = affine(reverse_kernel(eps_model, variances, t))
        mean[t - 1] = slope * mean[t] + offset
        factor[t - 1] = slope * factor[t]
        factor[t - 1, t - 1] = math.sqrt(var)
    return mean, factor @ factor.T


def log_p_and_gap(eps_model, variances, x0: float) -> tuple[torch.Tensor, torch.Tensor]:
    """log p(x_0), and KL(q(x_{1:T} | x_0) || p(x_{1:T} | x_0)), by linear algebra."""
    mean, cov = model_joint(eps_model, variances)
    log_p = Normal(mean[0], cov[0, 0].sqrt()).log_prob(torch.tensor(x0).double())
    later = list(range(1, T + 1))
    weights, cov_p = condition(cov, later, [0])
    p = MultivariateNormal(mean[1:] + weights[:, 0] * (x0 - mean[0]), cov_p)
    cov_q = joint_covariance(S.betas[1:], data_var=0.0)[1:, 1:]
    q = MultivariateNormal(S.alpha_bars[1:].sqrt() * x0, cov_q)
    return log_p, torch.distributions.kl_divergence(q, p)


def quadrature_terms(eps_model, x0: float, decoder, variances) -> dc.ElboTerms:
    """Each term of one x_0 in 1-D, its expectation by Gauss-Hermite over eps."""
    nodes, weights = map(torch.from_numpy, np.polynomial.hermite_e.hermegauss(60))
    eps, weights = nodes[:, None], weights / weights.sum()
    clean = torch.full_like(eps, x0)
    steps = torch.zeros(T + 1).double()
    for t in range(1, T + 1):
        x_t = S.alpha_bars[t].sqrt() * clean + (1 - S.alpha_bars[t]).sqrt() * eps
        p = reverse_kernel(eps_model, variances, t)(x_t)
        if t == 1:
            recon = -weights @ decoder(clean, p)
        else:
            q = dc.q_posterior(S, x_t, clean, t)
            p, q = (Normal(g.mean, g.var.sqrt().expand_as(g.mean)) for g in (p, q))
            steps[t] = weights @ torch.distributions.kl_divergence(q, p)[:, 0]
    last = Normal(S.alpha_bars[T].sqrt() * x0, (1 - S.alpha_bars[T]).sqrt())
    return dc.ElboTerms(torch.distributions.kl_divergence(last, Normal(0.0, 1.0)), steps, recon)


# The bound.


@TABLES
@EVERY_MODEL
@pytest.mark.parametrize("x0", [-0.8, 0.5, 2.0])
def test_row_12_log_p_is_at_least_the_elbo_by_exactly_the_kl_of_the_rest(table, eps_model, x0):
    """Trap 15: the model's own log p(x_0), known by recursion, not the data's log q(x_0)."""
    variances = getattr(S, table)
    log_p, gap = log_p_and_gap(eps_model, variances, x0)
    x = full(4000, x0)
    elbo = -total(terms_of(x, eps_model, variances=variances))
    assert_mean(log_p - elbo, gap)
    assert gap > 0 and (log_p - elbo).mean() > 3 * elbo.std() / math.sqrt(len(elbo))


@TABLES
@pytest.mark.parametrize("data", [DATA, MIXTURE], ids=["gaussian", "mixture"])
def test_row_12_the_mean_elbo_is_at_most_the_mean_log_q_of_the_data(table, data):
    x0 = data.sample(4000, generator=seeded(1))
    eps_model = dc.mixture_eps_model(S, data)
    below = data.log_prob(x0) + total(terms_of(x0, eps_model, variances=getattr(S, table)))
    assert below.mean() > 3 * below.std() / math.sqrt(len(below))


@TABLES
@EVERY_MODEL
def test_row_13_the_two_forms_agree_on_every_trajectory(table, eps_model):
    states = dc.q_trajectory(S, X0, generator=seeded())
    options = {"decoder": dc.gaussian_decoder, "variances": getattr(S, table)}
    forward = dc.log_ratio(S, eps_of(eps_model), states, **options)
    telescoped = dc.log_ratio_telescoped(S, eps_of(eps_model), states, **options)
    assert_close(telescoped, forward, rtol=1e-12, atol=0)


def knows(x0, off: float = 0.0, schedule=S):
    """The model that knows x_0, and is off by a given number everywhere: no chance is left."""
    return lambda x, t: dc.eps_from_x0(schedule, x, x0.expand_as(x), t) + off


def eps_of(eps_model):
    """Apply a model of one coordinate to each coordinate."""
    return lambda x, t: eps_model(x.reshape(-1, 1), t.repeat_interleave(x[0].numel())).reshape(
        x.shape
    )


@RATIOS
@TABLES
def test_row_13_each_form_is_the_ratio_of_the_joint_densities(ratio, table):
    """log p(x_{0:T}) - log q(x_{1:T} | x_0), both joint Gaussians by linear algebra."""
    x0, variances = 0.8, getattr(S, table)
    states = dc.q_trajectory(S, full(50, x0), generator=seeded(2))
    mean, cov = model_joint(BEST, variances)
    cov_q = joint_covariance(S.betas[1:], data_var=0.0)[1:, 1:]
    q = MultivariateNormal(S.alpha_bars[1:].sqrt() * states[0, 0], cov_q)
    path = states[..., 0].T
    expected = MultivariateNormal(mean, cov).log_prob(path) - q.log_prob(path[:, 1:])
    got = ratio(S, BEST, states, decoder=dc.gaussian_decoder, variances=variances)
    assert_close(got, expected, rtol=1e-8, atol=1e-8)


@RATIOS
@TABLES
def test_row_14_the_terms_sum_to_minus_the_mean_log_ratio(ratio, table):
    """The KL of each step in closed form, or whole trajectories: one mean."""
    x0 = MIXTURE.sample(1, generator=seeded(3)).expand(8000, 1)
    options = {"decoder": dc.gaussian_decoder, "variances": getattr(S, table)}
    states = dc.q_trajectory(S, x0, generator=seeded(4))
    eps_model = dc.mixture_eps_model(S, MIXTURE)
    terms = terms_of(x0, eps_model, seed=5, variances=getattr(S, table))
    assert_equal_means(-total(terms), ratio(S, eps_model, states, **options))


def test_row_15_kl_of_gaussians_agrees_with_torch_distributions():
    mean_p, mean_q = normal(200, 3), normal(200, 3, seed=2)
    var_p, var_q = normal(200, 3, seed=3).exp(), normal(200, 3, seed=4).exp()
    got = dc.kl_divergence(dc.Gaussian(mean_p, var_p), dc.Gaussian(mean_q, var_q))
    expected = torch.distributions.kl_divergence(
        Normal(mean_p, var_p.sqrt()), Normal(mean_q, var_q.sqrt())
    )
    assert_close(got, expected, rtol=1e-12, atol=1e-13)


def test_row_15_kl_of_gaussians_is_the_mean_log_ratio(generator):
    mean_p, var_p = torch.tensor([0.0, 1.0, -2.0]).double(), torch.tensor([1.0, 0.2, 3.0]).double()
    p = dc.Gaussian(mean_p.expand(40_000, 3), var_p)
    q = dc.Gaussian(torch.zeros_like(p.mean), var_p.flip(0))
    x = p.sample(generator=generator)
    assert_mean(p.log_prob(x) - q.log_prob(x), dc.kl_divergence(p, q)[0])


# Each term.


@TABLES
@EVERY_MODEL
def test_row_14_every_column_is_the_kl_of_its_step(table, eps_model):
    """So also traps 4 and 5: the column of t belongs to the step from t to t - 1."""
    x0, variances = 0.9, getattr(S, table)
    expected = quadrature_terms(eps_model, x0, dc.gaussian_decoder, variances)
    got = terms_of(full(8000, x0), eps_model, variances=variances)
    assert (got.steps[:, :2] == 0).all()
    assert_close(got.prior, expected.prior.expand(8000), rtol=1e-12, atol=0)
    error = 5 * got.steps.std(0) / math.sqrt(8000) + 1e-12
    assert ((got.steps.mean(0) - expected.steps).abs() <= error).all()
    assert_mean(got.recon, expected.recon)


def test_row_14_the_terms_with_the_discretized_decoder():
    x0 = -1 + 2 * 140 / 255
    expected = quadrature_terms(BEST, x0, dc.discretized_decoder, S.betas)
    got = terms_of(full(8000, x0), decoder=dc.discretized_decoder)
    assert_mean(got.recon, expected.recon)
    assert (got.recon > 0).all()  # minus the log of a probability


@TABLES
def test_row_16_images_are_summed_over_all_but_the_batch(table):
    """A model off by 0.1 everywhere has the same KL for each noise: no chance is left."""
    image, variances = normal(1, 2, 3, 4), getattr(S, table)
    terms = terms_of(image.expand(3, 2, 3, 4), knows(image, 0.1), variances=variances)
    w, c = dc.eps_weights(S, variances)
    expected = ((0.01 * w + c) * 24).expand(3, T + 1)
    assert_close(terms.steps, expected, rtol=1e-9, atol=1e-12)


def test_row_17_the_prior_term_is_a_closed_form_of_x0_alone():
    for schedule in (S, dc.vp_schedule(3), dc.vp_schedule(30)):
        prior = terms_of(X0, MODELS["half"], schedule=schedule).prior
        q = Normal(schedule.alpha_bars[-1].sqrt() * X0, schedule.marginal_vars[-1].sqrt())
        kl = torch.distributions.kl_divergence(q, Normal(torch.zeros_like(X0), 1.0))
        assert_close(prior, kl.sum((1, 2, 3)), rtol=1e-9, atol=1e-12)
        second_moment = (X0**2).mean().item()
        bits = dc.bits_per_dim(prior.mean(), 6).item()
        assert_close(bits, dc.prior_gap(schedule, second_moment), rtol=1e-9, atol=1e-12)


def test_row_17_the_prior_term_depends_on_no_model_noise_or_variance():
    a = terms_of(X0, MODELS["half"])
    b = terms_of(X0, MODELS["nothing"], seed=1, variances=S.betas)
    assert_close(a.prior, b.prior, rtol=0, atol=0)


def test_traps_7_and_11_the_decoder_gets_x0_hat_and_beta_1_whichever_the_variances():
    seen = []

    def decoder(x0, p, x_1):
        seen.append((x0, p))
        return dc.gaussian_decoder(x0, p, x_1)

    spoiled = S.posterior_vars.clone()
    spoiled[:2] = math.nan  # the variances are those of t >= 2
    states = dc.q_trajectory(S, X0, generator=seeded())
    for variances in (None, S.posterior_vars, S.betas, spoiled):
        seen.clear()
        terms = terms_of(X0, knows(X0), decoder=decoder, variances=variances)
        assert terms.recon.isfinite().all() and terms.steps.isfinite().all()
        for ratio in (dc.log_ratio, dc.log_ratio_telescoped):
            assert (
                ratio(S, knows(X0), states, decoder=decoder, variances=variances).isfinite().all()
            )
        assert len(seen) == 3
        for x0, p in seen:
            assert_close(x0, X0, rtol=0, atol=0)
            assert_close(p.mean, X0, rtol=1e-12, atol=1e-12)
            assert (p.var == S.betas[1]).all()


def test_posterior_vars_are_the_default():
    a, b = terms_of(X0, MODELS["half"]), terms_of(X0, MODELS["half"], variances=S.posterior_vars)
    assert_close(tuple(a), tuple(b), rtol=0, atol=0)
    states = dc.q_trajectory(S, X0, generator=seeded())
    for ratio in (dc.log_ratio, dc.log_ratio_telescoped):
        given = {"decoder": dc.gaussian_decoder}
        a = ratio(S, MODELS["half"], states, **given)
        b = ratio(S, MODELS["half"], states, **given, variances=S.posterior_vars)
        assert_close(a, b, rtol=0, atol=0)


def test_a_model_that_knows_x0_pays_nothing_for_the_steps():
    terms = terms_of(X0, knows(X0))
    assert_close(terms.steps, torch.zeros(5, T + 1).double(), rtol=0, atol=1e-12)


# The gap.


def exact_gap(schedule: dc.NoiseSchedule, table: str, data_var: float) -> float:
    """E log q(x_0) - E ELBO per coordinate for N(0, data_var) and its optimal eps, by tables."""
    alpha_bars, noise = schedule.alpha_bars, schedule.marginal_vars
    left = data_var * noise / (alpha_bars * data_var + noise)  # Var(x_0 | x_t), two normals merged
    errors = (alpha_bars / noise * left).nan_to_num(0.0)
    w, c = dc.eps_weights(schedule, getattr(schedule, table))
    beta_1 = schedule.betas[1].item()
    recon = 0.5 * (math.log(2 * math.pi * beta_1) + left[1].item() / beta_1)
    prior = dc.prior_gap(schedule, data_var) * math.log(2)
    entropy = 0.5 * math.log(2 * math.pi * math.e * data_var)
    return prior + (w * errors + c).sum().item() + recon - entropy


@pytest.mark.parametrize("data_var", [0.25, 4.0])
def test_row_21_with_betas_the_gap_falls_like_1_over_T(data_var):
    gaps = [exact_gap(dc.vp_schedule(n), "betas", data_var) for n in (200, 400, 800)]
    assert 1.9 < gaps[0] / gaps[1] < 2.1 and 1.95 < gaps[1] / gaps[2] < 2.05


@pytest.mark.parametrize("data_var", [0.25, 4.0])
def test_row_21_with_posterior_vars_the_gap_tends_to_half_of_eulers_constant(data_var):
    """0.29 nats per dimension, lost at the first few steps however many there are."""
    gap = exact_gap(dc.vp_schedule(100_000), "posterior_vars", data_var)
    assert abs(gap - 0.5 * np.euler_gamma) < 0.005


@TABLES
@pytest.mark.parametrize("steps", [25, 50])
def test_row_21_the_gap_of_the_tables_is_that_of_trajectories(table, steps):
    schedule, data = dc.vp_schedule(steps), single(0.0, 0.25, dim=4)
    x0 = data.sample(4000, generator=seeded(6))
    states = dc.q_trajectory(schedule, x0, generator=seeded(7))
    ratio = dc.log_ratio(
        schedule,
        dc.mixture_eps_model(schedule, data),
        states,
        decoder=dc.gaussian_decoder,
        variances=getattr(schedule, table),
    )
    gap = (data.log_prob(x0) - ratio) / 4
    error = (gap.mean() - exact_gap(schedule, table, 0.25)).abs()
    assert error <= 3 * gap.std() / math.sqrt(len(gap))


# Few network calls.


def estimate(x0, probs, eps_model=MODELS["half"], *, draws=4, seed=0, **options) -> dc.ElboEstimate:
    return dc.elbo_estimate(
        S,
        eps_model,
        x0,
        decoder=dc.gaussian_decoder,
        probs=probs,
        draws=draws,
        generator=seeded(seed),
        **options,
    )


UNIFORM = torch.tensor([0.0, 0.0] + [1 / (T - 1)] * (T - 1), dtype=torch.float64)


@pytest.mark.parametrize("kind, table", [("uniform", "posterior_vars"), ("importance", "betas")])
def test_elbo_estimate_is_unbiased_and_honest_about_its_error(kind, table):
    """200 batches: their mean is that of elbo_terms, their spread the error each one claims."""
    variances = getattr(S, table)
    probs = UNIFORM if kind == "uniform" else dc.importance(terms_of(X0, MODELS["half"]))
    data = MIXTURE.sample(200 * 64, generator=seeded(9)).split(64)
    runs = [estimate(x, probs, seed=i, variances=variances) for i, x in enumerate(data)]
    means, claimed = torch.tensor(runs, dtype=torch.float64).T
    x0 = MIXTURE.sample(20_000, generator=seeded(10))
    exact = terms_of(x0, MODELS["half"], seed=11, variances=variances)
    assert_equal_means(means, total(exact), errors=4)
    assert_close(claimed.square().mean().sqrt(), means.std(), rtol=0.2, atol=0)


def test_elbo_estimate_with_one_draw_of_one_possible_step_is_exact_apart_from_chance():
    """All on t = 2 of T = 2: nothing is left to draw but the noise."""
    schedule, x0 = dc.vp_schedule(2), X0.reshape(5, 6)
    eps_model = knows(x0, 0.1, schedule)
    got = dc.elbo_estimate(
        schedule,
        eps_model,
        x0,
        decoder=lambda x, p, x_1: x.sum(1) * 0,
        probs=torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64),
        draws=1,
        generator=seeded(),
    )
    terms = terms_of(x0, eps_model, schedule=schedule, decoder=lambda x, p, x_1: x.sum(1) * 0)
    expected = total(terms)
    assert_close(got.mean, expected.mean().item(), rtol=1e-9, atol=1e-12)
    assert_close(got.std_error, (expected.std() / math.sqrt(5)).item(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("draws", [1, 4, 7])
def test_elbo_estimate_asks_the_network_draws_plus_1_times_for_each_example(draws):
    asked = []

    def counted(x_t, t):
        asked.extend(t.expand(len(x_t)).tolist())
        return 0.5 * x_t

    got = estimate(X0, UNIFORM, draws=draws, eps_model=counted)
    assert len(asked) == (draws + 1) * len(X0)
    assert asked.count(1) == len(X0)
    assert isinstance(got.mean, float) and isinstance(got.std_error, float)


def test_trap_5_elbo_estimate_draws_t_from_probs():
    asked = []

    def counted(x_t, t):
        asked.append(t.expand(len(x_t)))
        return 0.5 * x_t

    probs = torch.tensor([0, 0, 0.1, 0.05, 0.3, 0.05, 0.2, 0.1, 0.2], dtype=torch.float64)
    estimate(normal(4000, 1), probs, eps_model=counted)
    t = torch.cat(asked)
    drawn = torch.nn.functional.one_hot(t[t > 1], T + 1).double()
    assert_mean(drawn, probs)


def test_importance_is_proportional_to_the_root_mean_square_with_a_floor():
    steps = torch.zeros(40, T + 1, dtype=torch.float64)
    steps[:, 2:] = normal(40, T - 1) ** 2 * torch.arange(2.0, T + 1)
    terms = dc.ElboTerms(steps.sum(1), steps, steps.sum(1))
    probs = dc.importance(terms)
    assert probs.shape == (T + 1,) and (probs[:2] == 0).all()
    assert_close(probs.sum().item(), 1.0, rtol=1e-12, atol=0)
    floor = 0.05 / (T - 1)
    assert (probs[2:] >= floor).all()
    rms = torch.linalg.vector_norm(steps[:, 2:], dim=0)
    above = probs[2:] - floor
    assert_close(above / above.sum(), rms / rms.sum(), rtol=1e-9, atol=0)


def test_importance_never_rules_a_step_out():
    steps = torch.zeros(3, T + 1, dtype=torch.float64)
    steps[:, 5] = 1.0
    probs = dc.importance(dc.ElboTerms(steps[:, 0], steps, steps[:, 0]))
    assert (probs[2:] > 0).all() and probs.argmax() == 5


def test_importance_makes_the_estimate_less_noisy_than_uniform_times():
    """One x_0 throughout: the spread is that of the estimate, not of the data."""
    x0 = full(4000, 0.9)
    guided = dc.importance(terms_of(x0))
    errors = [estimate(x0, p, BEST, draws=1).std_error for p in (guided, UNIFORM)]
    assert errors[0] < 0.8 * errors[1], errors


# Bits.


def test_bits_per_dim_of_what_is_known_in_advance():
    """256 equal levels cost 8 bits, by their probability or by a density on [-1, 1]."""
    nats = 5 * math.log(256)
    assert_close(dc.bits_per_dim(nats, 5), 8.0, rtol=1e-12, atol=0)
    flat = torch.full((3,), 5 * math.log(2), dtype=torch.float64)
    got = dc.bits_per_dim(flat, 5, bin_width=2 / 256)
    assert_close(got, torch.tensor([8.0] * 3, dtype=torch.float64), rtol=1e-12, atol=0)
    assert isinstance(dc.bits_per_dim(nats, 5), float)


def test_bits_per_dim_of_a_density_and_of_its_levels_agree_where_levels_are_narrow():
    x = torch.randint(0, 256, (4, 50), generator=seeded(), dtype=torch.float64) * 2 / 255 - 1
    inner = x.clamp(-1 + 2 / 255, 1 - 2 / 255)  # no edge level: these reach to infinity
    p = dc.Gaussian(torch.zeros_like(x), torch.tensor(0.2).double())
    levels = dc.bits_per_dim(-dc.discretized_decoder(inner, p), 50)
    density = dc.bits_per_dim(-dc.gaussian_decoder(inner, p), 50, bin_width=2 / 255)
    assert_close(levels, density, rtol=0, atol=1e-4)


# What holds for all of them.


def test_shapes_and_dtype():
    for x0 in (X0, X0[:1], normal(3, 1)):
        terms = terms_of(x0, MODELS["half"])
        assert terms.prior.shape == terms.recon.shape == (len(x0),)
        assert terms.steps.shape == (len(x0), T + 1)
        assert {term.dtype for term in terms} == {torch.float64}
        states = dc.q_trajectory(S, x0, generator=seeded())
        for ratio in (dc.log_ratio, dc.log_ratio_telescoped):
            got = ratio(S, MODELS["half"], states, decoder=dc.gaussian_decoder)
            assert got.shape == (len(x0),) and got.dtype == torch.float64


def test_one_step_has_no_middle():
    with pytest.warns(dc.PriorGapWarning):
        schedule = dc.constant_schedule(1, 0.9)
    terms = terms_of(X0, MODELS["half"], schedule=schedule)
    assert_close(terms.steps, torch.zeros(5, 2).double(), rtol=0, atol=0)
    states = dc.q_trajectory(schedule, X0, generator=seeded())
    a, b = (
        ratio(schedule, MODELS["half"], states, decoder=dc.gaussian_decoder)
        for ratio in (dc.log_ratio, dc.log_ratio_telescoped)
    )
    assert_close(a, b, rtol=1e-12, atol=0)


def test_trap_8_float32_data_gives_nearly_the_same_terms():
    """A model off by 0.1 leaves no chance but in L_0; small betas lose digits first."""
    schedule, x0 = dc.vp_schedule(200), X0[:1]
    both = [terms_of(x, knows(x, 0.1, schedule), schedule=schedule) for x in (x0, x0.float())]
    for term64, term32 in zip(*both, strict=True):
        assert_close(term32.double(), term64, rtol=1e-2, atol=1e-6)


def test_trap_23_results_live_where_the_data_does(device):
    x0 = X0.float().to(device)

    def model(x, t):
        assert x.device.type == t.device.type == device.type
        assert t.dtype == torch.int64 and t.shape == (len(x),)
        return 0.5 * x

    terms = terms_of(x0, model)
    assert {term.device.type for term in terms} == {device.type}
    states = dc.q_trajectory(S, x0, generator=seeded())
    for ratio in (dc.log_ratio, dc.log_ratio_telescoped):
        assert ratio(S, model, states, decoder=dc.gaussian_decoder).device.type == device.type
    probs = dc.importance(terms).cpu().double()
    here, on_cpu = (estimate(x, probs) for x in (x0, x0.cpu()))
    assert_close(here.mean, on_cpu.mean, rtol=1e-4, atol=0)


def test_results_are_reproducible():
    a, b = (terms_of(X0, MODELS["half"], seed=3) for _ in range(2))
    assert_close(tuple(a), tuple(b), rtol=0, atol=0)
    assert not torch.equal(a.steps, terms_of(X0, MODELS["half"], seed=4).steps)
    a, b, c = (estimate(X0, UNIFORM, seed=seed) for seed in (3, 3, 4))
    assert a == b and a != c


def test_the_examples_do_not_mix():
    """The steps of one x_0 do not know the others of its batch, once chance is out."""
    model = knows(torch.zeros(1).double())
    together = terms_of(X0, model, variances=S.betas).steps
    alone = torch.cat([terms_of(x0[None], model, variances=S.betas).steps for x0 in X0])
    assert_close(together, alone, rtol=1e-9, atol=1e-12)


# Bad input.

NAN = torch.where(X0 == X0.max(), math.nan, X0)
STATES = dc.q_trajectory(S, X0, generator=seeded())
GOOD = {"decoder": dc.gaussian_decoder}


def refused(call, *said: str) -> None:
    with pytest.raises((TypeError, ValueError)) as error:
        call()
    assert all(word in str(error.value) for word in said), f"{said} not in: {error.value}"


@pytest.mark.parametrize(
    "bad", [NAN, X0[:0], X0.long(), X0.tolist()], ids=["NaN", "0", "int", "list"]
)
def test_data_that_is_no_batch_of_finite_numbers(bad):
    refused(lambda: terms_of(bad, MODELS["half"]), "x0")
    refused(lambda: estimate(bad, UNIFORM), "x0")


def test_variances_that_are_no_table():
    for bad in (S.betas[1:], torch.ones(2, T + 1).double()):
        refused(partial(terms_of, X0, MODELS["half"], variances=bad), "variances")
        for ratio in (dc.log_ratio, dc.log_ratio_telescoped):
            refused(partial(ratio, S, MODELS["half"], STATES, **GOOD, variances=bad), "variances")


def test_variances_that_are_not_positive():
    bad = S.betas.clone()
    bad[4] = 0
    refused(lambda: terms_of(X0, MODELS["half"], variances=bad), "var", "positive")


def test_a_model_of_another_shape():
    for wrong in (lambda x, t: x[:1], lambda x, t: x.float(), lambda x, t: x[..., :1]):
        refused(partial(terms_of, X0, wrong), "eps")
        for ratio in (dc.log_ratio, dc.log_ratio_telescoped):
            refused(partial(ratio, S, wrong, STATES, **GOOD), "eps")


@pytest.mark.parametrize(
    "probs",
    [
        2 * UNIFORM,
        UNIFORM[1:],
        UNIFORM.roll(-1),
        torch.full((T + 1,), 1 / (T + 1)).double(),
        UNIFORM * math.nan,
    ],
    ids=["sum 2", "T rows", "mass on 1", "mass on 0 and 1", "NaN"],
)
def test_probs_that_do_not_sum_to_1_over_2_to_T(probs):
    refused(lambda: estimate(X0, probs), "probs")


def test_no_draws():
    for draws in (0, -1, 2.5):
        refused(partial(estimate, X0, UNIFORM, draws=draws), "draws")

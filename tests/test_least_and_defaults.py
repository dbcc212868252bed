"""What a plain call does: no generator, the least that is allowed, the defaults.

Three tables. Each is checked against inspect.signature, so that no new function is forgotten.
"""

import importlib
import inspect
import itertools
import pkgutil
from collections.abc import Callable, Iterator

import pytest
import torch
from oracles import normal, seeded
from torch import nn
from torch.testing import assert_close

import diffusion_core as dc
import diffusion_lab as lab
from diffusion_core import (
    checkpoints,
    controls,
    data,
    decoders,
    judge,
    metrics,
    nets,
    pretrained,
    schedules,
    toys,
    training,
)
from diffusion_lab import calling, compare, feedback

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

S = dc.vp_schedule(10)
X, ONES = normal(50, 2), torch.ones(50, 2, dtype=torch.float64)
POINTS = dc.mixture(X[:4], 0.1)
POSTERIOR = dc.condition(POINTS, lambda x0: x0[:, :1], X[0, :1], 0.1)
UNIFORM = torch.tensor([0, 0] + [1 / 9] * 9, dtype=torch.float64)


def model(x_t, t):
    return 0.5 * x_t


def posterior(x_t, t):
    factors = dc.at(S.alpha_bars, t, x_t).sqrt(), dc.at(S.marginal_vars, t, x_t).sqrt()
    return nets.LevelPosterior(x_t.expand(-1, 4, -1, -1), x_t, *factors)


def minus(x):
    """The score of N(0, I)."""
    return -x


VP = dc.vp_sde()
LINEAR_VAE = nets.LinearVAE(X.shape[1], 1).to(X).requires_grad_(False)
LATENT_VAE = nets.VAE(2, (8, 8, 8))
DIGITS = normal(2, 1, 28, 28, dtype=torch.float32)
dc.measure_latent_scale(LATENT_VAE, DIGITS, generator=seeded())
SWIRL = dc.SDE(lambda x, time: x.flip(1).sin(), lambda x, time: 0.0)  # no diagonal Jacobian


def members(name: str, value: object) -> Iterator[tuple[str, Callable]]:
    """Yield a function; or a class, by the arguments of its constructor, and its methods."""
    if inspect.isclass(value) and not issubclass(value, Exception):
        yield name, value
        methods = {n: f for n, f in vars(value).items() if inspect.isfunction(f)}
        yield from ((f"{name}.{n}", f) for n, f in methods.items() if not n.startswith("_"))
    elif inspect.isfunction(value):
        yield name, value


def own(module) -> dict[str, object]:
    """Return what is public in a module and made there."""
    names = {n: v for n, v in vars(module).items() if not n.startswith("_")}
    return {n: v for n, v in names.items() if getattr(v, "__module__", "") == module.__name__}


# A generator.

RANDOM = {
    "consistency.consistency_loss": lambda **g: dc.consistency_loss(S, model, X, **g),
    "controls.edge_yardstick": lambda **g: torch.tensor(controls.edge_yardstick(IMAGES, **g)),
    "data.minibatches": lambda **g: next(data.minibatches(X, 40, **g)),
    "elbo.elbo_estimate": lambda **g: torch.tensor(
        dc.elbo_estimate(S, model, X, decoder=dc.gaussian_decoder, probs=UNIFORM, draws=1, **g)
    ),
    "elbo.elbo_terms": lambda **g: torch.cat(
        [dc.elbo_terms(S, model, X, decoder=dc.gaussian_decoder, **g)[i].flatten() for i in (1, 2)]
    ),
    "elbo_weights.eps_errors": lambda **g: dc.eps_errors(S, model, X, **g),
    "flow.flow_loss": lambda **g: dc.flow_loss(lambda x, time: x, X, **g),
    "flow.logit_normal_time": lambda **g: dc.logit_normal_time(X, **g),
    "flow.uniform_time": lambda **g: dc.uniform_time(X, **g),
    "gaussian.Gaussian.sample": lambda **g: dc.Gaussian(X, ONES).sample(**g),
    "gaussian.standard_normal": lambda **g: dc.standard_normal(X, **g),
    "guidance.drop_labels": lambda **g: dc.drop_labels(torch.arange(50), 99, 0.5, **g),
    "judge.frechet_floor": lambda **g: torch.tensor(
        judge.frechet_floor(nets.Classifier(), IMAGES, IMAGES, 3, **g)
    ),
    "langevin.annealed_langevin_step": lambda **g: (
        dc.annealed_langevin_step(S, model, X, 5, 2, steps=1, **g).x_t
    ),
    "langevin.langevin_chain": lambda **g: next(dc.langevin_chain(minus, X, 0.1, 1, **g)),
    "langevin.langevin_corrector": lambda **g: dc.langevin_corrector(S, model, X, 5, **g),
    "langevin.langevin_step": lambda **g: dc.langevin_step(minus, X, 0.1, **g),
    "langevin.ncsn_loss": lambda **g: dc.ncsn_loss(S, model, X, **g),
    "latents.measure_latent_scale": lambda **g: dc.measure_latent_scale(LATENT_VAE, DIGITS, **g),
    "latents.to_latents": lambda **g: dc.to_latents(LATENT_VAE, DIGITS, **g),
    "likelihood.log_likelihood": lambda **g: (
        dc.log_likelihood(SWIRL, X, lambda x: x.sum(1), probes=2, tolerance=0.1, **g).log_prob
    ),
    "losses.bound_loss": lambda **g: dc.bound_loss(S, posterior, X.sign()[:, None, None], **g),
    "losses.draw_t": lambda **g: dc.draw_t(S, X, **g),
    "losses.eps_loss": lambda **g: dc.eps_loss(S, model, X, **g),
    "losses.v_loss": lambda **g: dc.v_loss(S, model, X, **g),
    "vae_losses.vae_loss": lambda **g: dc.vae_loss(LINEAR_VAE, X, **g),
    "vae_losses.vae_terms": lambda **g: dc.vae_terms(LINEAR_VAE, X, **g).elbo,
    "vae_losses.weighted_vae_loss": lambda **g: dc.weighted_vae_loss(LINEAR_VAE, X, 1.0, 1.0, **g),
    "metrics.sliced_wasserstein": lambda **g: metrics.sliced_wasserstein(
        normal(5, 3), normal(5, 3, seed=2), 4, **g
    ),
    "mixtures.Mixture.sample": lambda **g: POINTS.sample(9, **g),
    "posteriors.FullMixture.sample": lambda **g: POSTERIOR.sample(9, **g),
    "process.q_sample": lambda **g: dc.q_sample(S, X, 5, **g),
    "process.q_trajectory": lambda **g: dc.q_trajectory(S, X, **g),
    "score_matching.denoising_loss": lambda **g: dc.denoising_loss(POINTS.score, X, 0.5, **g),
    "score_matching.sliced_loss": lambda **g: dc.sliced_loss(POINTS.score, X, **g).detach(),
    "traces.rademacher": lambda **g: dc.rademacher(X, **g),
    "samplers.ddim_step": lambda **g: dc.ddim_step(S, model, X, 5, 2, eta=1.0, **g).x_t,
    "samplers.ddpm_step": lambda **g: dc.ddpm_step(S, model, X, 5, 4, **g).x_t,
    "sde.euler_maruyama": lambda **g: next(dc.euler_maruyama(VP, X, [0.0, 0.1], **g)),
    "sde.wiener_increments": lambda **g: dc.wiener_increments([0.0, 0.1], X, **g),
    "solvers.predictor_corrector_step": lambda **g: (
        dc.predictor_corrector_step(S, model, X, 5, 2, eta=0.0, **g).x_t
    ),
    "step_wrappers.pasted": lambda **g: (
        dc.pasted(dc.ddim_step, X, X > 0, **g)(S, model, X, 5, 2).x_t
    ),
    "step_wrappers.resampled": lambda **g: (
        dc.resampled(dc.ddim_step, 2, **g)(S, model, X, 5, 2).x_t
    ),
    "toys.toy_2d": lambda **g: toys.toy_2d("moons", 9, **g),
}
IMAGES = normal(8, 1, 28, 28, dtype=torch.float32)
NEEDED = {"judge.frechet_floor"}  # where the generator has no default
EVERY_RANDOM = pytest.mark.parametrize("name", RANDOM)
EVERY_PLAIN = pytest.mark.parametrize("name", sorted(RANDOM.keys() - NEEDED))


def test_the_table_holds_every_function_with_a_generator():
    takers = {}
    for info in pkgutil.walk_packages(dc.__path__, "diffusion_core."):
        for name, value in own(importlib.import_module(info.name)).items():
            for full, function in members(f"{info.name}.{name}", value):
                generator = inspect.signature(function).parameters.get("generator")
                if generator is not None:
                    takers[full.removeprefix("diffusion_core.")] = generator.default
    assert takers == {n: inspect.Parameter.empty if n in NEEDED else None for n in RANDOM}


@EVERY_RANDOM
def test_one_seed_gives_one_result_and_another_seed_another(name):
    draw = RANDOM[name]
    assert_close(draw(generator=seeded(3)), draw(generator=seeded(3)), rtol=0, atol=0)
    assert not torch.equal(draw(generator=seeded(3)), draw(generator=seeded(4)))
    rng = seeded(3)
    assert not torch.equal(draw(generator=rng), draw(generator=rng)), "the second draw goes on"


@EVERY_PLAIN
def test_without_a_generator_two_draws_differ_and_a_seed_repeats_them(name):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        first, second = RANDOM[name](), RANDOM[name]()
        torch.manual_seed(5)
        again = RANDOM[name](generator=None), RANDOM[name]()
    assert not torch.equal(first, second)
    assert_close(again, (first, second), rtol=0, atol=0)


# The least and the most.


def steps(step, t, s, **options):
    return step(S, model, X, t, s, **options)


def train(**options):
    network = nn.Linear(2, 2, dtype=torch.float64)
    return dc.train(
        network, lambda net, x0: net(x0).square().mean(), itertools.repeat(X), **options
    )


def unet(x_t, y=None, **options):
    return nets.UNet(**({"widths": (16,), "heads": 1, "emb_dim": 2} | options))(
        x_t, torch.ones(len(x_t), dtype=torch.int64), y
    )


def estimate(**options):
    options = {"decoder": dc.gaussian_decoder, "probs": UNIFORM, "generator": seeded()} | options
    return dc.elbo_estimate(S, model, X[:2], **options)


def reverse(t):
    return dc.mixture_reverse(S, POINTS, X[0], t)


def frechet_floor(n):
    return judge.frechet_floor(nets.Classifier(), IMAGES, IMAGES, n, generator=seeded())


def real(n):
    return normal(n, 2)


def betas(*values):
    return dc.NoiseSchedule(torch.tensor(values, dtype=torch.float64))


def spread(var):
    return dc.Gaussian(X[:1], torch.full((1, 1), var, dtype=torch.float64))


def unet_of():
    return nets.UNet(widths=(8,), heads=1, emb_dim=2)


def steered(scale):
    x = torch.zeros(2, 1, 2, 2)
    return nets.ControlNet(unet_of())(x, torch.ones(2).long(), control=x, control_scale=scale)


LABELLED = {"classes": 2, "x_t": torch.zeros(1, 1, 2, 2)}
TOUCH = 1e-9
LIMITS = {  # the call, the arguments that are just allowed, those that are just refused
    # schedules
    "betas": (betas, [(1e-12,), (1 - 1e-12,)], [(0.0,), (1.0,)]),
    "alpha_bar_T": (betas, [(1 - 1e-15, 1 - 1e-14)], [(1 - 1e-15, 1 - 1e-16)]),
    "linear T": (dc.linear_schedule, [(1,)], [(0,)]),
    "linear betas": (
        dc.linear_schedule,
        [(2, 1e-12, 0.5), (2, 0.5, 1e-12)],
        [(2, 0, 1), (2, 1, 0)],
    ),
    "vp T": (dc.vp_schedule, [(1,)], [(0,)]),
    "cosine T": (dc.cosine_schedule, [(1,)], [(0,)]),
    "constant T": (dc.constant_schedule, [(1, 0.5)], [(0, 0.5)]),
    "alpha_bars": (
        lambda *rows: dc.schedule_from_alpha_bars(torch.tensor(rows, dtype=torch.float64)),
        [(0.5,), (1 - TOUCH, 0.5)],
        [(1.0,), (0.5, 0.5)],
    ),
    "second_moment": (lambda m: dc.prior_gap(S, m), [(0.0,)], [(-TOUCH,)]),
    # one step or two tensors
    "q_step t": (lambda t: dc.q_step(S, X, t), [(1,), (10,)], [(0,), (11,)]),
    "q_marginal t": (lambda t: dc.q_marginal(S, X, t), [(0,), (10,)], [(-1,), (11,)]),
    "q_sample t": (lambda t: dc.q_sample(S, X, t, X), [(0,), (10,)], [(-1,), (11,)]),
    "q_posterior t": (lambda t: dc.q_posterior(S, X, X, t), [(1,), (10,)], [(0,), (11,)]),
    "p_step t": (lambda t: dc.p_step(S, X, X, t), [(1,), (10,)], [(0,), (11,)]),
    "x0_from_eps t": (lambda t: dc.x0_from_eps(S, X, X, t), [(0,), (10,)], [(-1,), (11,)]),
    "eps_from_x0 t": (lambda t: dc.eps_from_x0(S, X, X, t), [(1,), (10,)], [(0,), (11,)]),
    "v_target t": (lambda t: dc.v_target(S, X, X, t), [(0,), (10,)], [(-1,), (11,)]),
    "x0_from_v t": (lambda t: dc.x0_from_v(S, X, X, t), [(0,), (10,)], [(-1,), (11,)]),
    "eps_from_v t": (lambda t: dc.eps_from_v(S, X, X, t), [(0,), (10,)], [(-1,), (11,)]),
    "score_from_eps t": (lambda t: dc.score_from_eps(S, X, t), [(1,), (10,)], [(0,), (11,)]),
    "eps_from_score t": (lambda t: dc.eps_from_score(S, X, t), [(1,), (10,)], [(0,), (11,)]),
    # samplers
    "ddpm t": (lambda *ts: steps(dc.ddpm_step, *ts), [(1, 0), (10, 9)], [(0, -1), (11, 10)]),
    "ddim t": (lambda *ts: steps(dc.ddim_step, *ts), [(1, 0), (10, 0)], [(0, 0), (11, 0), (5, 5)]),
    "eta": (
        lambda eta: steps(dc.ddim_step, 5, 2, eta=eta, generator=seeded()),
        [(0,), (1,), (0.0,), (1.0,)],
        [(-TOUCH,), (1 + TOUCH,)],
    ),
    "clip": (
        lambda *clip: steps(dc.ddim_step, 5, 2, clip=clip),
        [(0, TOUCH), (-TOUCH, 0.0)],
        [(0.0, 0.0), (TOUCH, 0.0)],
    ),
    "taus": (
        lambda *taus: list(dc.sample_chain(dc.ddim_step, S, model, X, taus)),
        [(1, 0), (10, 0)],
        [(0,), (11, 0), (1,)],
    ),
    "even_taus": (dc.even_taus, [(1, 1), (9, 9), (9, 1)], [(0, 1), (1, 0), (9, 10)]),
    # noise levels, Langevin dynamics and solvers
    "geometric_levels": (
        dc.geometric_levels,
        [(1 + TOUCH, 1.0, 2), (1e14, 1e-14, 2)],
        [(1.0, 1.0, 2), (1.0, 0.0, 2), (2.0, 1.0, 1)],
    ),
    "karras_levels": (
        lambda rho, *grid: dc.karras_levels(*grid, rho=rho),
        [(1.0, 2.0, 1.0, 2), (7, 2, 1, 2)],
        [(1 - TOUCH, 2.0, 1.0, 2), (7.0, 1.0, 1.0, 2), (7.0, 2.0, 0.0, 2), (7.0, 2.0, 1.0, 1)],
    ),
    "noise_levels": (
        lambda *levels: dc.schedule_from_noise_levels(levels),
        [(20.0,), (1e14, 1.0e7, 1.0), (20.0, 1e-150)],
        [(), (1.0, 1.0), (1.0, 2.0), (20.0, 0.0), (2e14, 1.0), (1e14, 1.0), (20.0, 1e-200)],
    ),
    "nearest_taus": (
        lambda n: dc.nearest_taus(S, torch.arange(n, 0, -1).double()),
        [(1,), (10,)],
        [(0,), (11,)],
    ),
    "step_size": (
        lambda h: dc.langevin_step(minus, X, h, generator=seeded()),
        [(1e-300,), (1,)],
        [(0.0,), (-TOUCH,)],
    ),
    "langevin steps": (
        lambda n: list(dc.langevin_chain(minus, X, 0.1, n, generator=seeded())),
        [(1,)],
        [(0,)],
    ),
    "ratio": (
        lambda ratio: dc.langevin_corrector(S, model, X, 5, ratio=ratio, generator=seeded()),
        [(1e-300,)],
        [(0.0,)],
    ),
    "corrector t": (
        lambda t: dc.langevin_corrector(S, model, X, t, generator=seeded()),
        [(1,), (10,)],
        [(0,), (11,)],
    ),
    "annealed t": (
        lambda *ts: steps(dc.annealed_langevin_step, *ts, steps=1, generator=seeded()),
        [(1, 0), (10, 0)],
        [(0, 0), (11, 0), (5, 5)],
    ),
    "ncsn_loss t": (
        lambda t: dc.ncsn_loss(S, model, X, t=t, generator=seeded()),
        [(1,), (10,)],
        [(0,), (11,)],
    ),
    "eps_model_from_ncsn t": (
        lambda t: dc.eps_model_from_ncsn(S, model)(X, t),
        [(1,), (10,)],
        [(0,), (11,)],
    ),
    "heun t": (lambda *ts: steps(dc.heun_step, *ts), [(1, 0), (10, 0)], [(0, 0), (11, 0), (5, 5)]),
    "2m t": (
        lambda *ts: steps(dc.dpm_solver_2m(), *ts),
        [(1, 0), (10, 0)],
        [(0, 0), (11, 0), (5, 5)],
    ),
    "pc t": (
        lambda *ts: steps(dc.predictor_corrector_step, *ts, generator=seeded()),
        [(1, 0), (10, 0)],
        [(0, 0), (11, 0), (5, 5)],
    ),
    "invert taus": (
        lambda *taus: list(dc.invert(S, model, X, taus)),
        [(1, 0), (10, 0)],
        [(0,), (11, 0), (1,)],
    ),
    # continuous time
    "vp_sde": (dc.vp_sde, [(1e-300, 1e-300), (1, 2)], [(0.0, 1.0), (2.0, 1.0)]),
    "ve_sde": (dc.ve_sde, [(1e-3, 1e-3), (1, 2)], [(0.0, 1.0), (2.0, 1.0)]),
    "times": (
        lambda *times: dc.wiener_increments(times, X, generator=seeded()),
        [(0.0, TOUCH), (TOUCH, 0.0)],
        [(), (0.0,), (0.0, 0.0), (0.0, 1.0, 0.5)],
    ),
    "mixture_at time": (
        lambda time: dc.mixture_at(VP, POINTS, time),
        [(0,), (0.0,), (1.0,)],
        [(-TOUCH,), (1 + TOUCH,)],
    ),
    "tolerance": (
        lambda tolerance: dc.solve_ode(lambda x, time: -x, X, 0.0, 1e-3, tolerance=tolerance),
        [(1.1e-13,), (1 - TOUCH,)],
        [(1e-13,), (1.0,)],
    ),
    "probes": (
        lambda n: dc.log_likelihood(
            SWIRL, X, lambda x: x.sum(1), probes=n, tolerance=0.1, generator=seeded()
        ),
        [(0,), (2,)],
        [(-1,), (1,)],
    ),
    "start": (
        lambda start: dc.log_likelihood(SWIRL, X, lambda x: x.sum(1), start=start, tolerance=0.1),
        [(0.0,), (0,), (1 - TOUCH,)],
        [(-TOUCH,), (1.0,)],
    ),
    # flow matching
    "time": (lambda time: dc.straight_path(X, X, time), [(0,), (1.0,)], [(-TOUCH,), (1 + TOUCH,)]),
    "mixture_velocity time": (
        lambda time: dc.mixture_velocity(POINTS)(X, time),
        [(0,), (1.0,)],
        [(-TOUCH,), (1 + TOUCH,)],
    ),
    "logit_normal std": (
        lambda std: dc.logit_normal_time(X, seeded(), std=std),
        [(1e-300,)],
        [(0.0,)],
    ),
    "velocity_model_from_steps T": (
        lambda T: dc.velocity_model_from_steps(model, T),
        [(1,)],
        [(0,)],
    ),
    "straight_schedule": (
        lambda *times: dc.straight_schedule(torch.tensor(times, dtype=torch.float64)),
        [(TOUCH,), (1 - 1e-6, 0.5)],
        [(), (0.0,), (1.0,), (0.5, 0.5), (0.1, 0.5)],
    ),
    "from velocity t": (
        lambda t: (dc.x0_from_velocity(S, X, X, t), dc.eps_from_velocity(S, X, X, t)),
        [(0,), (10,)],
        [(-1,), (11,)],
    ),
    "eps_model_from_velocity t": (
        lambda t: dc.eps_model_from_velocity(S, model)(X, t),
        [(0,), (10,)],
        [(-1,), (11,)],
    ),
    "consistency t": (
        lambda t: dc.consistency_model(S, model)(X, t),
        [(1,), (10,)],
        [(0,), (11,)],
    ),
    "data_std": (
        lambda std: dc.consistency_model(S, model, data_std=std)(X, 1),
        [(1e-300,), (1e300,)],
        [(0.0,)],
    ),
    # exact answers
    "log_prob var": (lambda v: spread(v).log_prob(X[:1]), [(1e-300,)], [(0.0,)]),
    "kl p.var": (lambda v: dc.kl_divergence(spread(v), spread(1.0)), [(1e-300,)], [(0.0,)]),
    "kl q.var": (lambda v: dc.kl_divergence(spread(1.0), spread(v)), [(1e-300,)], [(0.0,)]),
    "mixture var": (lambda var: dc.mixture(X, var), [(0.0,)], [(-TOUCH,)]),
    "mixture weights": (
        lambda *w: dc.mixture(X[:2], 0.0, torch.tensor(w)),
        [(0.0, 1.0), (1e-30, 0.0)],
        [(0.0, 0.0), (-TOUCH, 1.0)],
    ),
    "diffuse t": (lambda t: dc.diffuse(S, POINTS, t), [(0,), (10,)], [(-1,), (11,)]),
    "mixture_reverse t": (reverse, [(1,), (10,)], [(0,), (11,)]),
    "mixture_eps_model t": (
        lambda t: dc.mixture_eps_model(S, POINTS)(X, t),
        [(1,), (10,)],
        [(0,), (11,)],
    ),
    "Mixture.sample n": (lambda n: POINTS.sample(n, generator=seeded()), [(1,)], [(0,)]),
    "prior_kl": (lambda d: dc.prior_kl(S, dc.mixture(normal(3, d), 1.0)), [(1,), (2,)], [(3,)]),
    "elbo draws": (lambda n: estimate(draws=n), [(1,)], [(0,)]),
    "bits_per_dim dim": (lambda dim: dc.bits_per_dim(1.0, dim), [(1,)], [(0,)]),
    "x0 on the levels": (
        lambda x: dc.discretized_decoder(torch.tensor([[x]]), dc.Gaussian(*torch.ones(2, 1, 1))),
        [(-1.0,), (1.0,)],
        [(-257 / 255,), (257 / 255,)],
    ),
    # score matching
    "noise_level": (
        lambda level: dc.denoising_loss(POINTS.score, X, level, generator=seeded()),
        [(1e-9,), (1,)],
        [(0.0,), (-TOUCH,)],
    ),
    "weights of denoising": (
        lambda w: dc.denoising_loss(POINTS.score, X, 1.0, weights=w, generator=seeded()),
        [(0.0,), (0,)],
        [(-TOUCH,)],
    ),
    "score_model_from_eps t": (
        lambda t: dc.score_model_from_eps(S, model, t)(X),
        [(1,), (10,)],
        [(0,), (11,)],
    ),
    # guidance
    "guidance_scale": (
        lambda w: dc.classifier_free(model, torch.arange(2), guidance_scale=w),
        [(0.0,), (0,)],
        [(-TOUCH,)],
    ),
    "autoguided scale": (
        lambda w: dc.autoguided(model, model, guidance_scale=w),
        [(0.0,), (0,)],
        [(-TOUCH,)],
    ),
    "limited": (
        lambda lowest, highest: dc.limited(model, model, lowest, highest),
        [(0, 0), (3, 3), (3, 4)],
        [(-1, 3), (3, 2)],
    ),
    "share": (
        lambda share: dc.drop_labels(torch.arange(5), 9, share, generator=seeded()),
        [(0.0,), (1.0,), (0,), (1,)],
        [(-TOUCH,), (1 + TOUCH,)],
    ),
    # networks
    "embedding dim": (lambda n: nets.timestep_embedding(torch.ones(1).long(), n), [(2,)], [(0,)]),
    "MLP dim": (lambda n: nets.MLP(dim=n, width=2), [(1,)], [(0,)]),
    "MLP width": (lambda n: nets.MLP(width=n), [(2,)], [(0,), (1,)]),
    "MLP depth": (lambda n: nets.MLP(width=2, depth=n), [(1,)], [(0,)]),
    "in_channels": (lambda n: nets.UNet(in_channels=n, widths=(8,)), [(1,)], [(0,)]),
    "widths": (lambda *w: nets.UNet(widths=w, heads=1), [(8,), (8, 8)], [(), (4,), (0,)]),
    "patch": (lambda n: nets.UNet(widths=(8,), patch=n), [(1,)], [(0,)]),
    "heads": (lambda n: nets.UNet(widths=(8,), heads=n), [(1,), (8,)], [(0,), (16,)]),
    "emb_dim": (lambda n: nets.UNet(widths=(8,), emb_dim=n), [(2,)], [(0,), (1,)]),
    "classes": (lambda n: nets.UNet(widths=(8,), classes=n), [(0,), (1,)], [(-1,)]),
    "side": (lambda n: unet(torch.zeros(1, 1, n, n)), [(2,)], [(0,), (1,)]),
    "side, patch 1": (lambda n: unet(torch.zeros(1, 1, n, n), patch=1), [(1,)], [(0,)]),
    "y": (lambda y: unet(y=torch.tensor([y]), **LABELLED), [(0,), (2,)], [(-1,), (3,)]),
    "zero_conv": (lambda *n: nets.zero_conv(*n), [(1, 1)], [(0, 1), (1, 0)]),
    "control_channels": (lambda n: nets.ControlNet(unet_of(), n), [(1,)], [(0,)]),
    "control_scale": (steered, [(0.0,), (0,)], [(-TOUCH,)]),
    # controls
    "thumbnail side": (lambda n: controls.thumbnail(torch.zeros(1, 1, n, 4)), [(4,)], [(2,)]),
    "yardstick n": (lambda n: controls.thumbnail_yardstick(IMAGES[:n]), [(2,)], [(1,)]),
    # judging
    "floor n": (lambda n: metrics.floor(metrics.mmd, real, n), [(1,)], [(0,)]),
    "floor pairs": (lambda n: metrics.floor(metrics.mmd, real, 3, pairs=n), [(2,)], [(1,)]),
    "clouds": (
        lambda *sizes: metrics.times_floor(
            metrics.energy_distance, [normal(n, 2) for n in sizes], fresh_sets()
        ),
        [(2,), (2, 2)],
        [(), (2, 3)],
    ),
    "n_projections": (lambda n: metrics.sliced_wasserstein(X, X, n), [(1,)], [(0,)]),
    "bandwidths": (lambda *b: metrics.mmd(X, X, b), [(1e-9,)], [(), (0.0,), (1.0, 0.0)]),
    "radius": (lambda r: metrics.mode_coverage(X, X, r), [(1e-300,)], [(0.0,)]),
    "one sample": (lambda n: metrics.energy_distance(X[:n], X), [(1,)], [(0,)]),
    "frechet rows": (lambda n: judge.frechet_distance(X[:n], X), [(2,)], [(1,)]),
    "frechet rows of y": (lambda n: judge.frechet_distance(X, X[:n]), [(2,)], [(1,)]),
    "frechet_floor n": (frechet_floor, [(2,), (8,)], [(1,)]),
    # data and training
    "toy_centres n": (lambda n: toys.toy_centres("circles", n), [(2,)], [(1,)]),
    "toy_2d n": (lambda n: toys.toy_2d("moons", n, generator=seeded()), [(1,)], [(0,)]),
    "batch_size": (
        lambda n: next(data.minibatches(X[:5], n, generator=seeded())),
        [(1,), (5,)],
        [(0,), (6,)],
    ),
    "decay": (lambda d: dc.EMA(nn.Linear(1, 1), d), [(0.0,), (1 - TOUCH,)], [(-TOUCH,), (1.0,)]),
    "train steps": (lambda n: train(steps=n), [(1,)], [(0,)]),
    "train seconds": (lambda n: train(seconds=n), [(1e-9,)], [(0.0,)]),
}


def fresh_sets():
    """Return a function that draws another set of n at each call."""
    rng = seeded()
    return lambda n: torch.randn(n, 2, generator=rng, dtype=torch.float64)


@pytest.mark.filterwarnings("ignore::diffusion_core.PriorGapWarning")
@pytest.mark.parametrize("call, allowed, refused", LIMITS.values(), ids=LIMITS)
def test_the_least_that_is_allowed_is_accepted(call, allowed, refused, monkeypatch):
    monkeypatch.delenv("DIFFUSION_SHORT_RUN", raising=False)
    for arguments in allowed:
        with torch.random.fork_rng(devices=[]):  # weights of nn.Linear
            call(*arguments)
    for arguments in refused:
        with pytest.raises(ValueError), torch.random.fork_rng(devices=[]):
            call(*arguments)


# Defaults.

EMPTY = inspect.Parameter.empty
DEFAULTS = {
    "EMA": {"decay": 0.999},
    "FullMixture.sample": {"generator": None},
    "Gaussian.sample": {"generator": None},
    "Mixture.sample": {"generator": None},
    "annealed_langevin_step": {"steps": 100, "ratio": 0.2, "generator": None},
    "at": {"lowest": 0},
    "autoguided": {"guidance_scale": 2.0},
    "bits_per_dim": {"bin_width": 1.0},
    "bound_loss": {"generator": None},
    "classifier_free": {"guidance_scale": 1.0},
    "classifier_guided": {"guidance_scale": 1.0},
    "condition": {"noise_var": 0.0},
    "consistency_loss": {"eps_model": None, "target_model": None, "generator": None},
    "consistency_model": {"data_std": 1.0},
    "cosine_schedule": {"offset": 0.008, "beta_max": 0.999},
    "ddim_step": {"eta": 0.0, "clip": None, "generator": None},
    "ddpm_step": {"variances": None, "clip": None, "generator": None},
    "denoising_loss": {"weights": 1.0, "generator": None},
    "discretized_decoder": {"x_1": None},
    "draw_t": {"generator": None},
    "gaussian_decoder": {"x_1": None},
    "drop_labels": {"share": 0.1, "generator": None},
    "elbo_estimate": {"draws": 4, "variances": None, "generator": None},
    "elbo_terms": {"variances": None, "generator": None},
    "eps_errors": {"generator": None},
    "eps_loss": {"t": None, "generator": None},
    "eps_weights": {"variances": None},
    "euler_maruyama": {"increments": None, "generator": None},
    "flow_loss": {"eps": None, "draw_time": None, "generator": None},
    "heun_step": {"clip": None},
    "invert": {"taus": None, "heun": False},
    "karras_levels": {"rho": 7.0},
    "langevin_chain": {"generator": None},
    "langevin_corrector": {"steps": 1, "ratio": 0.2, "generator": None},
    "langevin_step": {"generator": None},
    "log_likelihood": {"start": 0.0, "probes": 0, "tolerance": 1e-6, "generator": None},
    "measurement_guided": {"covariance": True, "iterations": 5},
    "ncsn_loss": {"t": None, "generator": None},
    "pasted": {"generator": None},
    "predictor_corrector_step": {
        "eta": 1.0,
        "steps": 1,
        "ratio": 0.2,
        "clip": None,
        "generator": None,
    },
    "SDE": {"marginal": None},
    "logit_normal_time": {"generator": None, "mean": 0.0, "std": 1.0},
    "optimal_pairing": {"y": None},
    "reflow_pairs": {"tolerance": 1e-6},
    "straightness_defect": {"tolerance": 1e-6},
    "uniform_time": {"generator": None},
    "velocity_model_from_steps": {"T": 1000},
    "resampled": {"generator": None},
    "shifted": {"guidance_scale": 1.0},
    "solve_ode": {"tolerance": 1e-6},
    "ve_sde": {"lowest": 0.01, "highest": 50.0},
    "vp_sde": {"beta_min": 0.1, "beta_max": 20.0},
    "wiener_increments": {"generator": None},
    "linear_schedule": {"beta_start": 1e-4, "beta_end": 0.02},
    "log_ratio": {"variances": None},
    "log_snr_schedule": {"highest": 13.0, "lowest": -9.0},
    "mixture": {"var": 0.0, "weights": None},
    "p_step": {"variances": None},
    "prior_gap": {"second_moment": 1.0},
    "q_sample": {"eps": None, "generator": None},
    "q_trajectory": {"generator": None},
    "rademacher": {"generator": None},
    "sample_chain": {"taus": None},
    "sliced_loss": {"probe": None, "generator": None},
    "standard_normal": {"generator": None},
    "train": {
        "steps": None,
        "seconds": None,
        "lr": None,
        "clip_norm": 1.0,
        "ema": None,
        "autocast": None,
        "accumulate": 1,
        "optimizer": None,
        "rate": None,
        "on_progress": None,
    },
    "v_loss": {"t": None, "generator": None},
    "active_units": {"threshold": 0.01},
    "measure_latent_scale": {"generator": None},
    "probabilistic_pca": {"decoder_var": None},
    "to_latents": {"generator": None},
    "vae_loss": {"generator": None},
    "vae_terms": {"generator": None},
    "weighted_vae_loss": {"generator": None},
    "checkpoints.save": {"dtype": None},
    "controls.edge_yardstick": {"generator": None},
    "data.images": {"split": "train"},
    "data.minibatches": {"generator": None},
    "data.mnist": {"split": "train"},
    "metrics.floor": {"pairs": 20},
    "metrics.mmd": {"bandwidths": (0.1, 0.2, 0.5, 1.0, 2.0)},
    "metrics.sliced_wasserstein": {"n_projections": 128, "generator": None},
    "nets.Classifier": {"widths": (32, 64, 64), "seed": 0},
    "nets.ControlNet": {"control_channels": 1},
    "nets.ControlNet.forward": {"y": None, "control_scale": 1.0},
    "nets.DiT": {
        "in_channels": 8,
        "side": 4,
        "width": 64,
        "depth": 4,
        "heads": 4,
        "patch": 1,
        "emb_dim": 32,
        "classes": 0,
        "seed": 0,
    },
    "nets.DiT.forward": {"y": None},
    "nets.LinearVAE": {"seed": 0},
    "nets.VAE": {"latent_channels": 8, "widths": (16, 32, 48), "seed": 0},
    "nets.LevelUNet": {"widths": (16, 48, 128), "patch": 1},
    "nets.PixelUNet": {"widths": (16, 48, 128), "patch": 1},
    "nets.PixelUNet.forward": {"y": None},
    "nets.SpikeSlabUNet": {"widths": (16, 48, 128), "patch": 1},
    "nets.SpikeSlabUNet.forward": {"y": None},
    "nets.LevelUNet.forward": {"y": None},
    "nets.LevelUNet.posterior": {"y": None},
    "nets.MLP": {"dim": 2, "width": 128, "depth": 3, "seed": 0},
    "nets.ResBlock": {"scale_shift": False},
    "nets.UNet": {
        "in_channels": 1,
        "widths": (32, 64),
        "patch": 2,
        "heads": 4,
        "emb_dim": 128,
        "classes": 0,
        "scale_shift": False,
        "gain": False,
        "seed": 0,
    },
    "nets.UNet.forward": {"y": None},
    "nets.timestep_embedding": {"max_period": 10_000},
    "toys.toy_2d": {"generator": None, "dtype": torch.float32},
    "toys.toy_centres": {"n": 1000},
    "lab.DrawingPad": {"picture": None},
    "lab.Explorer": {"play": None},
    "lab.choice": {"value": None},
    "lab.claim": {
        "at_least": None,
        "at_most": None,
        "above": None,
        "below": None,
        "history": None,
        "digits": None,
    },
    "lab.density_map": {"columns": 101},
    "lab.draw_images": {"labels": (), "note": ""},
    "lab.draw_pixels": {"vmin": 0, "vmax": 1},
    "lab.draw_points": {"color": "#0072B2", "limit": 3.2, "title": ""},
    "lab.figure": {"columns": 1, "rows": 1, "width": 9, "height": 3.2},
    "lab.results": {"path": "results.csv"},
    "lab.slider": {"step": 1},
    "lab.torchrun": {"restarts": 0},
    "lab.up_to": {"least": 1},
}
CONSTANTS = {
    "calling.CPU_SECONDS": (calling.CPU_SECONDS, 5.0),
    "calling.WALL_SECONDS": (calling.WALL_SECONDS, 60.0),
    "compare.RTOL": (compare.RTOL, {torch.float64: 1e-5, torch.float32: 1e-4}),
    "feedback.TYPED_RTOL": (feedback.TYPED_RTOL, 1e-3),
    "decoders.LEVELS": (decoders.LEVELS, 256),
    "judge.CONFIDENT": (judge.CONFIDENT, 0.9),
    "schedules.SMALLEST_ALPHA_BAR": (schedules.SMALLEST_ALPHA_BAR, 1e-30),
    "schedules.LARGEST_PRIOR_GAP": (schedules.LARGEST_PRIOR_GAP, 0.01),
    "toys.TOY_STDS": (list(toys.TOY_STDS.values()), [0.08, 0.05, 0.5, 0.1, 0.1]),
    "training.SHORT_STEPS": (training.SHORT_STEPS, 8),
}


def with_defaults() -> dict[str, dict[str, object]]:
    """Return the defaults of all that is exported and of the modules that lessons import."""
    found = {name: getattr(dc, name) for name in dc.__all__}
    found |= {f"nets.{name}": getattr(nets, name) for name in nets.__all__}
    for module in (checkpoints, controls, data, judge, metrics, pretrained, toys, training):
        short = module.__name__.removeprefix("diffusion_core.")
        found |= {f"{short}.{n}": v for n, v in own(module).items() if n not in dc.__all__}
    found |= {f"lab.{name}": getattr(lab, name) for name in lab.__all__}
    functions = dict(pair for name, value in found.items() for pair in members(name, value))
    defaults = {
        name: {k: p.default for k, p in inspect.signature(f).parameters.items()}
        for name, f in functions.items()
    }
    some = {n: {k: v for k, v in d.items() if v is not EMPTY} for n, d in defaults.items()}
    return {name: d for name, d in some.items() if d}


def test_the_table_holds_every_function_with_a_default():
    assert sorted(with_defaults()) == sorted(DEFAULTS)


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults(name):
    found = with_defaults()[name]
    assert list(found.items()) == list(DEFAULTS[name].items())
    same = {argument: type(value) for argument, value in found.items()}
    assert same == {argument: type(value) for argument, value in DEFAULTS[name].items()}


@pytest.mark.parametrize("found, wanted", CONSTANTS.values(), ids=CONSTANTS)
def test_constants_that_a_learner_meets(found, wanted):
    assert found == wanted

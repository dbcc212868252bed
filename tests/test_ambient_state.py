"""No ambient state makes a right call wrong: default device and dtype, autocast, inference mode.

DEVICE: every tensor that the package makes names its device. A mode of torch looks at each call
of a factory from the package's files, and a default device of "meta", where no number can be
seen, stands for the learner's torch.set_default_device("cuda").
"""

from collections.abc import Callable

import pytest
import torch
from devices_named import PACKAGE, DevicesNamed
from oracles import normal, seeded
from torch.testing import assert_close

import diffusion_core as dc
from diffusion_core import nets


def model(x_t, t, y=None):
    return (0.1 * x_t).sin() if y is None else x_t * 0.2


class Elementwise:
    """A VAE of no products, which autocast would make in another type: a network's own affair."""

    log_decoder_var = torch.tensor(-1.0, dtype=torch.float32, device="cpu")
    decode = staticmethod(torch.sin)

    @staticmethod
    def encode(x):
        return 0.5 * x, x.cos() - 1


def decay(x, time):
    return (0.1 * x).sin()


def last(step, schedule, x, **options):
    *_, end = dc.sample_chain(step, schedule, model, x, generator=seeded(), **options)
    return end


def calls() -> dict[str, Callable]:
    """Every public function of the seam, called once; all tensors given name their device."""
    s = dc.vp_schedule(6)
    x, y = normal_cpu(4, 2), normal_cpu(4, 2, seed=2)
    t = torch.tensor([1, 2, 3, 6], device="cpu")
    labels = torch.tensor([0, 1, 2, 0], device="cpu")
    q = dc.mixture(x, 0.3)
    p = dc.Gaussian(x, torch.full_like(x, 0.5))
    states = torch.stack([x] * 7)
    gaussian, levels = {"decoder": dc.gaussian_decoder}, {"decoder": dc.discretized_decoder}
    even = torch.tensor([0.0, 0, 0.2, 0.2, 0.2, 0.2, 0.2], dtype=torch.float64, device="cpu")
    terms = dc.elbo_terms(s, model, x, generator=seeded(), **gaussian)
    sde = dc.vp_sde()
    flow = dc.probability_flow(sde, dc.mixture_score(sde, q))

    straight = dc.straight_flow(dc.mixture_velocity(q))
    full = dc.condition(q, lambda x0: x0[:, :1], y[0, :1], 0.1)

    rows = normal_cpu(8, 3) * torch.tensor([3, 2, 1], device="cpu")
    linear, pca = nets.LinearVAE(2, 1), dc.probabilistic_pca(rows, 2)
    images = normal_cpu(3, 1, 28, 28).clamp(-1, 1)
    vae = nets.VAE(2, (8, 8, 8))
    dc.measure_latent_scale(vae, images, generator=seeded())

    def log_p(x_t, t):
        return -x_t.square().sum(1)

    def posterior(x_t, t):
        factors = dc.at(s.alpha_bars, t, x_t).sqrt(), dc.at(s.marginal_vars, t, x_t).sqrt()
        return nets.LevelPosterior(x_t.expand(-1, 4, -1, -1), x_t, *factors)

    return {
        "linear_schedule": lambda: dc.linear_schedule(1000).posterior_vars,
        "vp_schedule": lambda: dc.vp_schedule(6).snr,
        "cosine_schedule": lambda: dc.cosine_schedule(6).marginal_factors.table,
        "constant_schedule": lambda: dc.constant_schedule(9, 0.9).alpha_bars,
        "schedule_from_alpha_bars": lambda: dc.schedule_from_alpha_bars([0.5, 1e-3]).betas,
        "log_snr_schedule": lambda: dc.log_snr_schedule(6).snr,
        "NoiseSchedule": lambda: dc.NoiseSchedule([0.5, 0.99, 0.99]).posterior_factors.table,
        "prior_gap": lambda: dc.prior_gap(s),
        "at": lambda: dc.at(s.betas, t, x),
        "q_step": lambda: dc.q_step(s, x, t),
        "q_marginal": lambda: dc.q_marginal(s, x, t),
        "q_sample": lambda: dc.q_sample(s, x, t, generator=seeded()),
        "q_sample, one t": lambda: dc.q_sample(s, x, 3, y),
        "q_trajectory": lambda: dc.q_trajectory(s, x, generator=seeded()),
        "q_posterior": lambda: dc.q_posterior(s, x, y, t),
        "p_step": lambda: dc.p_step(s, x, y, t, variances=s.betas),
        "x0_from_eps": lambda: dc.x0_from_eps(s, x, y, t),
        "eps_from_x0": lambda: dc.eps_from_x0(s, x, y, t),
        "v_target": lambda: dc.v_target(s, x, y, t),
        "x0_from_v": lambda: dc.x0_from_v(s, x, y, t),
        "eps_from_v": lambda: dc.eps_from_v(s, x, y, t),
        "score_from_eps": lambda: dc.score_from_eps(s, x, t),
        "eps_from_score": lambda: dc.eps_from_score(s, x, t),
        "eps_model_from_v": lambda: dc.eps_model_from_v(s, model)(x, t),
        "eps_model_from_x0": lambda: dc.eps_model_from_x0(s, model)(x, t),
        "v_model_from_x0": lambda: dc.v_model_from_x0(s, model)(x, t),
        "velocity_target": lambda: dc.velocity_target(x, y),
        "x0_from_velocity": lambda: dc.x0_from_velocity(s, x, y, t),
        "eps_from_velocity": lambda: dc.eps_from_velocity(s, x, y, t),
        "eps_model_from_velocity": lambda: dc.eps_model_from_velocity(s, decay)(x, t),
        "eps_model_from_velocity, one t": lambda: dc.eps_model_from_velocity(s, decay)(x, 3),
        "straight_path": lambda: dc.straight_path(x, y, 0.3),
        "straight_path, times": lambda: dc.straight_path(x, y, s.betas[t]),
        "uniform_time": lambda: dc.uniform_time(x, seeded()),
        "logit_normal_time": lambda: dc.logit_normal_time(x, seeded()),
        "flow_loss": lambda: dc.flow_loss(decay, x, generator=seeded()),
        "mixture_velocity": lambda: dc.mixture_velocity(q)(x, s.betas[t]),
        "velocity_model_from_steps": lambda: dc.velocity_model_from_steps(model)(x, 0.3),
        "straight_flow": lambda: tuple(dc.euler_maruyama(straight, x, [1.0, 0.5])),
        "heun_flow": lambda: tuple(
            dc.euler_maruyama(dc.heun_flow(straight, [1.0, 0.5]), x, [1.0, 0.5])
        ),
        "straight_times": lambda: dc.straight_times(s),
        "straight_schedule": lambda: dc.straight_schedule([0.99, 0.1]).betas,
        "optimal_pairing": lambda: dc.optimal_pairing(x, y, labels),
        "reflow_pairs": lambda: dc.reflow_pairs(straight, x, tolerance=1e-2),
        "straightness_defect": lambda: dc.straightness_defect(straight, x, tolerance=1e-2),
        "consistency_model": lambda: dc.consistency_model(s, model)(x, t),
        "consistency_loss": lambda: dc.consistency_loss(
            s, model, x, eps_model=model, generator=seeded()
        ),
        "standard_normal": lambda: dc.standard_normal(x, seeded()),
        "Gaussian.sample": lambda: p.sample(generator=seeded()),
        "Gaussian.log_prob": lambda: p.log_prob(y),
        "kl_divergence": lambda: dc.kl_divergence(p, dc.Gaussian(y, p.var)),
        "gaussian_decoder": lambda: dc.gaussian_decoder(x, p),
        "discretized_decoder": lambda: dc.discretized_decoder(x.sign(), p),
        "mixture": lambda: dc.mixture(x, 0.1, [1, 2, 3, 4]),
        "mixture of points": lambda: dc.mixture(x),
        "Mixture.sample": lambda: q.sample(5, generator=seeded()),
        "Mixture.log_prob": lambda: q.log_prob(y),
        "Mixture.score": lambda: q.score(y),
        "diffuse": lambda: dc.diffuse(s, q, 3),
        "mixture_eps_model": lambda: dc.mixture_eps_model(s, q)(y, t),
        "mixture_eps_model, one t": lambda: dc.mixture_eps_model(s, q)(y, 3),
        "mixture_reverse": lambda: dc.mixture_reverse(s, q, y[0], 3),
        "prior_kl": lambda: dc.prior_kl(s, q),
        "ddpm_step": lambda: last(dc.ddpm_step, s, x),
        "ddpm_step, betas": lambda: last(dc.ddpm_step, s, x, variances=s.betas, clip=(-1, 1)),
        "ddim_step": lambda: last(dc.ddim_step, s, x, taus=dc.even_taus(6, 3), eta=0.5),
        "elbo_terms": lambda: dc.elbo_terms(s, model, x, generator=seeded(), **gaussian),
        "elbo_terms, levels": lambda: dc.elbo_terms(
            s, model, x.sign(), generator=seeded(), **levels
        ),
        "elbo_estimate": lambda: dc.elbo_estimate(
            s, model, x, probs=even, generator=seeded(), **gaussian
        ),
        "importance": lambda: dc.importance(terms),
        "bits_per_dim": lambda: dc.bits_per_dim(terms.prior, 2),
        "bits_per_dim, a number": lambda: dc.bits_per_dim(3.0, 2),
        "log_ratio": lambda: dc.log_ratio(s, model, states, **gaussian),
        "log_ratio_telescoped": lambda: dc.log_ratio_telescoped(s, model, states, **gaussian),
        "eps_weights": lambda: dc.eps_weights(s),
        "eps_errors": lambda: dc.eps_errors(s, model, x, generator=seeded()),
        "best_variances": lambda: dc.best_variances(s, s.betas),
        "draw_t": lambda: dc.draw_t(s, x, seeded()),
        "eps_loss": lambda: dc.eps_loss(s, model, x, generator=seeded()),
        "v_loss": lambda: dc.v_loss(s, model, x, generator=seeded()),
        "bound_loss": lambda: dc.bound_loss(
            s, posterior, x.sign().view(4, 1, 1, 2), generator=seeded()
        ),
        "vae_terms": lambda: detached(dc.vae_terms(Elementwise, x, generator=seeded())),
        "vae_loss": lambda: dc.vae_loss(Elementwise, x, generator=seeded()).detach(),
        "weighted_vae_loss": lambda: dc.weighted_vae_loss(
            Elementwise, x, 0.5, 1.0, generator=seeded()
        ).detach(),
        "decoder_var_of": lambda: dc.decoder_var_of(0.5, 1.0),
        "active_units": lambda: dc.active_units(Elementwise, x),
        "measure_latent_scale": lambda: dc.measure_latent_scale(vae, images, generator=seeded()),
        "to_latents": lambda: dc.to_latents(vae, images, generator=seeded()),
        "from_latents": lambda: dc.from_latents(vae, normal_cpu(3, 2, 4, 4)),
        "second_moments": lambda: dc.second_moments(x),
        "scaled_schedule": lambda: dc.scaled_schedule(s, 2.0).betas,
        "probabilistic_pca": lambda: dc.probabilistic_pca(rows, 2),
        "PPCA.log_prob": lambda: pca.log_prob(rows.double()),
        "optimal_linear_vae": lambda: dc.optimal_linear_vae(pca).encoder.weight.detach(),
        "exact_vae_terms": lambda: detached(dc.exact_vae_terms(linear, x)),
        "pca_kl": lambda: dc.pca_kl(rows, 2, 0.5),
        "exact_trace": lambda: dc.exact_trace(q.score, y),
        "hutchinson_trace": lambda: dc.hutchinson_trace(q.score, y, x),
        "rademacher": lambda: dc.rademacher(x, seeded()),
        "probe_variances": lambda: dc.probe_variances(x[:, :, None] * y[:, None]),
        "explicit_loss": lambda: dc.explicit_loss(p.log_prob, q.score, y),
        "implicit_loss": lambda: dc.implicit_loss(q.score, y),
        "sliced_loss": lambda: dc.sliced_loss(q.score, y, generator=seeded()),
        "denoising_loss": lambda: dc.denoising_loss(q.score, y, 0.3, generator=seeded()),
        "denoising_loss, tables": lambda: dc.denoising_loss(
            q.score, y, s.betas[t], weights=s.betas[t], generator=seeded()
        ),
        "score_model_from_eps": lambda: dc.score_model_from_eps(s, model, t)(x),
        "score_model_from_eps, one t": lambda: dc.score_model_from_eps(s, model, 3)(x),
        "classifier_free": lambda: dc.classifier_free(model, labels, guidance_scale=2)(x, t),
        "autoguided": lambda: dc.autoguided(model, lambda x, t: x)(x, t),
        "limited": lambda: dc.limited(model, lambda x, t: x, 1, 3)(x, t),
        "classifier_guided": lambda: dc.classifier_guided(s, model, log_p)(x, t),
        "label_log_prob": lambda: dc.label_log_prob(lambda x, t: x, labels % 2)(x, t),
        "scale_from_strength": lambda: dc.scale_from_strength(1.5),
        "strength_from_scale": lambda: dc.strength_from_scale(2.5),
        "mixture_classifier": lambda: dc.mixture_classifier(s, q, labels)(y, t),
        "of_class": lambda: dc.of_class(q, labels, 0),
        "tilted_density": lambda: dc.tilted_density(
            lambda x: -x[:, 0].square(), lambda x: x[:, 0], 2.0, 9 * q.means[:, 0].sort().values
        ),
        "measurement_guided": lambda: dc.measurement_guided(
            s, dc.mixture_eps_model(s, q), lambda x0: x0[:, 1:], y[:, 1:], 0.1
        )(x, t),
        "condition": lambda: dc.condition(q, lambda x0: 2 * x0, y[0], 0.1),
        "FullMixture.sample": lambda: full.sample(5, generator=seeded()),
        "FullMixture.log_prob": lambda: full.log_prob(y),
        "FullMixture.moments": lambda: full.moments(),
        "shifted": lambda: last(dc.shifted(dc.ddpm_step, log_p), s, x),
        "pasted": lambda: last(dc.pasted(dc.ddim_step, y, y[0] > 0, generator=seeded()), s, x),
        "resampled": lambda: last(dc.resampled(dc.ddpm_step, 2, generator=seeded()), s, x),
        "drop_labels": lambda: dc.drop_labels(labels, 3, 0.5, generator=seeded()),
        "geometric_levels": lambda: dc.geometric_levels(20.0, 0.1, 5),
        "karras_levels": lambda: dc.karras_levels(20.0, 0.1, 5),
        "schedule_from_noise_levels": lambda: dc.schedule_from_noise_levels([20.0, 1.0]).betas,
        "nearest_taus": lambda: dc.nearest_taus(s, [5.0, 1.0]),
        "langevin_step": lambda: dc.langevin_step(q.score, x, 0.1, generator=seeded()),
        "langevin_chain": lambda: tuple(dc.langevin_chain(q.score, x, 0.1, 2, generator=seeded())),
        "langevin_corrector": lambda: dc.langevin_corrector(s, model, x, 3, generator=seeded()),
        "annealed_langevin_step": lambda: last(dc.annealed_langevin_step, s, x, steps=2),
        "ncsn_loss": lambda: dc.ncsn_loss(s, model, x, generator=seeded()),
        "ncsn_loss, one t": lambda: dc.ncsn_loss(s, model, x, t=3, generator=seeded()),
        "eps_model_from_ncsn": lambda: dc.eps_model_from_ncsn(s, model)(x, t),
        "heun_step": lambda: list(dc.sample_chain(dc.heun_step, s, model, x))[-1],
        "dpm_solver_2m": lambda: list(dc.sample_chain(dc.dpm_solver_2m(), s, model, x))[-1],
        "predictor_corrector_step": lambda: last(dc.predictor_corrector_step, s, x),
        "invert": lambda: tuple(dc.invert(s, model, x, [6, 3, 0], heun=True)),
        "wiener_increments": lambda: dc.wiener_increments([0.0, 0.5], x, generator=seeded()),
        "euler_maruyama": lambda: tuple(
            dc.euler_maruyama(sde, x, [0.0, 0.5, 1.0], generator=seeded())
        ),
        "reverse_sde": lambda: tuple(
            dc.euler_maruyama(
                dc.reverse_sde(sde, dc.mixture_score(sde, q)), x, [1.0, 0.5], generator=seeded()
            )
        ),
        "probability_flow": lambda: tuple(dc.euler_maruyama(flow, x, [1.0, 0.5])),
        "ve_sde": lambda: tuple(dc.euler_maruyama(dc.ve_sde(), x, [0.0, 0.5], generator=seeded())),
        "mixture_at": lambda: dc.mixture_at(sde, q, 0.5),
        "mixture_score": lambda: dc.mixture_score(sde, q)(x, 0.5),
        "solve_ode": lambda: dc.solve_ode(flow.drift, x, 1.0, 0.5, tolerance=1e-3),
        "log_likelihood": lambda: dc.log_likelihood(flow, x, q.log_prob, tolerance=1e-2),
        "log_likelihood, probes": lambda: dc.log_likelihood(
            flow, x, q.log_prob, probes=2, tolerance=1e-2, generator=seeded()
        ),
    }


def detached(parts: tuple) -> tuple:
    return tuple(part.detach() for part in parts)


def normal_cpu(*shape, seed=1):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float32, device="cpu")


NAMES = list(calls())
EVERY = pytest.mark.parametrize("name", NAMES)
NOT_HERE = {  # of training, devices and types: nothing that makes a tensor from x and t
    "EMA", "ElboEstimate", "ElboTerms", "History", "PriorGapWarning", "Step", "available_devices",
    "bf16_is_faster", "default_device", "even_taus", "is_short_run", "sample_chain", "train",
    "warmup_cosine", "Gaussian", "Mixture", "LogLikelihood", "SDE", "Solved", "vp_sde",
    "ProbeVariances", "Traced", "CONVENTIONS", "Convention", "Pairs", "PPCA", "VaeTerms",
}  # fmt: skip
NEEDS_AUTOGRAD = {"log_likelihood", "log_likelihood, probes"}  # inference mode has none
NEEDS_AUTOGRAD |= {"classifier_guided", "measurement_guided", "shifted"}
NEEDS_AUTOGRAD |= {"exact_trace", "hutchinson_trace", "implicit_loss", "sliced_loss"}


def same(got, expected) -> None:
    """Check that two results are equal: values to rounding, dtypes and devices exactly."""
    if isinstance(expected, torch.Tensor):
        assert_close(got, expected, rtol=0, atol=0)
    elif isinstance(expected, tuple):
        for one, other in zip(got, expected, strict=True):
            same(one, other)
    else:
        assert got == expected


def test_every_public_function_is_called_here_or_makes_no_tensor():
    called = {name.split(",")[0].split(" ")[0].split(".")[0] for name in NAMES}
    assert called | NOT_HERE == set(dc.__all__) | {"NoiseSchedule"}


@EVERY
def test_every_tensor_names_its_device(name):
    call = calls()[name]
    with DevicesNamed():
        call()


@EVERY
def test_the_default_device_is_asked_for_nothing(name):
    expected = calls()[name]()
    with torch.device("meta"):
        same(calls()[name](), expected)


@EVERY
def test_the_default_dtype_is_asked_for_nothing(name):
    expected = calls()[name]()
    try:
        torch.set_default_dtype(torch.float64)
        same(calls()[name](), expected)
    finally:
        torch.set_default_dtype(torch.float32)


@EVERY
def test_grad_mode_and_inference_mode_change_no_number(name):
    expected = calls()[name]()
    modes = [torch.no_grad()] + ([] if name in NEEDS_AUTOGRAD else [torch.inference_mode()])
    for mode in modes:
        with mode:
            same(calls()[name](), expected)


@pytest.mark.parametrize("name", sorted(NEEDS_AUTOGRAD))
def test_where_inference_mode_is_to_blame_it_is_named(name):
    call = calls()[name]
    with torch.inference_mode(), pytest.raises((ValueError, RuntimeError), match="inference"):
        call()


@EVERY
def test_autocast_changes_no_number(name):
    """Of the models used here, which multiply no matrices."""
    expected = calls()[name]()
    with torch.autocast("cpu", torch.bfloat16):
        same(calls()[name](), expected)


def test_the_mode_does_see_a_factory_without_a_device():
    code = compile("torch.zeros(3)", f"{PACKAGE}/nothing.py", "eval")
    with DevicesNamed(), pytest.raises(AssertionError, match=r"zeros without device= in .*nothing"):
        eval(code)


# Autocast, with models that multiply matrices.


LINEAR = normal_cpu(2, 2)


def linear(x_t, t, y=None):
    """A network of one matrix: under autocast it answers in bfloat16."""
    return x_t @ LINEAR


def autocast():
    return torch.autocast("cpu", torch.bfloat16)


S = dc.vp_schedule(6)
X = normal_cpu(4, 2)
USES = {
    "ddpm_step": lambda m: dc.ddpm_step(S, m, X, 3, 2, generator=seeded()).x_t,
    "ddim_step": lambda m: dc.ddim_step(S, m, X, 3, 1).x_t,
    "chain": lambda m: list(dc.sample_chain(dc.ddim_step, S, m, X))[-1].x_t,
    "from v": lambda m: dc.eps_model_from_v(S, m)(X, 3),
    "from x0": lambda m: dc.eps_model_from_x0(S, m)(X, 3),
    "v from x0": lambda m: dc.v_model_from_x0(S, m)(X, 3),
    "guided": lambda m: dc.classifier_free(m, torch.arange(4), guidance_scale=3)(X, 3),
    "elbo": lambda m: dc.elbo_terms(S, m, X, decoder=dc.gaussian_decoder, generator=seeded()).recon,
    "ratio": lambda m: dc.log_ratio(S, m, X.expand(7, 4, 2), decoder=dc.gaussian_decoder),
    "errors": lambda m: dc.eps_errors(S, m, X, generator=seeded()),
    "eps_loss": lambda m: dc.eps_loss(S, m, X, generator=seeded()),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_the_answer_of_a_network_under_autocast_is_taken_in_the_dtype_of_x_t(use):
    expected = use(lambda x, t, y=None: linear(x.bfloat16().float(), t))
    with autocast():
        assert linear(X, 3).dtype == torch.bfloat16
        got = use(linear)
    assert got.dtype == expected.dtype
    assert_close(got, expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_another_dtype_than_that_of_autocast_is_still_refused(dtype):
    def answer(x_t, t):
        return x_t.to(dtype)

    def step():
        return dc.ddim_step(S, answer, X, 3, 1)

    for _ in range(2):
        with pytest.raises(TypeError, match=r"eps_model\(x_t, t\) must be like x_t, torch.float32"):
            step()
    with autocast():
        if dtype == torch.bfloat16:
            assert step().x_t.dtype == torch.float32
        else:
            with pytest.raises(TypeError, match="must be like x_t"):
                step()


@pytest.mark.parametrize("dim", [2, 64])
def test_exact_mixtures_multiply_exactly_under_autocast(dim):
    q, x = dc.mixture(normal_cpu(20, dim), 0.1), normal_cpu(5, dim, seed=3)
    model = dc.mixture_eps_model(S, q)
    uses = {
        "log_prob": q.log_prob,
        "score": q.score,
        "eps_model": lambda x: model(x, torch.tensor([1, 2, 3, 4, 5])),
        "reverse": lambda x: tuple(dc.mixture_reverse(S, q, x[0], 3)),
        "gradient": torch.func.grad(lambda x: q.log_prob(x).sum()),
    }
    expected = {name: use(x) for name, use in uses.items()}
    with autocast():
        for name, use in uses.items():
            if name != "gradient" or dim == 2:  # torch advises against gradients under autocast
                same(use(x), expected[name])


# Inference mode.


def test_a_schedule_made_in_inference_mode_serves_gradients():
    with torch.inference_mode():
        schedule = dc.vp_schedule(6)
    t = torch.tensor([1, 2, 3, 6])
    eps_model = dc.mixture_eps_model(schedule, dc.mixture(X.double()))
    uses = {
        "marginal, one t": lambda x: dc.q_marginal(schedule, x, 3).log_prob(x),
        "marginal": lambda x: dc.q_marginal(schedule, x, t).log_prob(x),
        "sample": lambda x: dc.q_sample(schedule, x, t, x),
        "posterior": lambda x: dc.q_posterior(schedule, x, x, t).mean,
        "reverse": lambda x: dc.p_step(schedule, x, x, 3).sample(generator=seeded()),
        "exact": lambda x: eps_model(x, t),
    }
    for use in uses.values():
        x = normal(4, 2).requires_grad_()
        use(x).sum().backward()
        assert x.grad.isfinite().all()

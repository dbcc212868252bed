"""Diffusion models in small, exact pieces: one module for each idea of the course.

A schedule says how much noise; `process` has the forward process and its posterior; an
`eps_model(x_t, t) -> eps_hat` is the one thing to be learned; `samplers` walk back from noise.
Row t of every table is the paper's t, and row 0 is clean data.
"""

from .autoguidance import autoguided, limited
from .averages import EMA
from .classes import mixture_classifier, of_class, tilted_density
from .consistency import consistency_loss, consistency_model
from .conventions import CONVENTIONS, Convention
from .couplings import Pairs, optimal_pairing, reflow_pairs, straightness_defect
from .decoders import bits_per_dim, discretized_decoder, gaussian_decoder
from .devices import available_devices, default_device
from .elbo import (
    ElboEstimate,
    ElboTerms,
    elbo_estimate,
    elbo_terms,
    log_ratio,
    log_ratio_telescoped,
)
from .elbo_weights import best_variances, eps_errors, eps_weights, importance
from .flow import (
    flow_loss,
    heun_flow,
    logit_normal_time,
    mixture_velocity,
    straight_flow,
    straight_path,
    uniform_time,
    velocity_model_from_steps,
)
from .gaussian import Gaussian, kl_divergence, standard_normal
from .grids import (
    geometric_levels,
    karras_levels,
    nearest_taus,
    schedule_from_noise_levels,
    straight_schedule,
    straight_times,
)
from .guidance import (
    classifier_free,
    classifier_guided,
    drop_labels,
    label_log_prob,
    scale_from_strength,
    strength_from_scale,
)
from .langevin import (
    annealed_langevin_step,
    eps_model_from_ncsn,
    langevin_chain,
    langevin_corrector,
    langevin_step,
    ncsn_loss,
)
from .latents import (
    from_latents,
    measure_latent_scale,
    scaled_schedule,
    second_moments,
    to_latents,
)
from .likelihood import LogLikelihood, Solved, log_likelihood, solve_ode
from .losses import bound_loss, draw_t, eps_loss, v_loss
from .measurements import measurement_guided
from .mixtures import (
    Mixture,
    diffuse,
    mixture,
    mixture_eps_model,
    mixture_reverse,
)
from .posteriors import FullMixture, condition
from .predictions import (
    eps_from_score,
    eps_from_v,
    eps_from_velocity,
    eps_from_x0,
    eps_model_from_v,
    eps_model_from_velocity,
    eps_model_from_x0,
    score_from_eps,
    v_model_from_x0,
    v_target,
    velocity_target,
    x0_from_eps,
    x0_from_v,
    x0_from_velocity,
)
from .priors import prior_kl
from .probabilistic_pca import (
    PPCA,
    exact_vae_terms,
    optimal_linear_vae,
    pca_kl,
    probabilistic_pca,
)
from .process import p_step, q_marginal, q_posterior, q_sample, q_step, q_trajectory
from .reversal import mixture_at, mixture_score, probability_flow, reverse_sde
from .samplers import Step, ddim_step, ddpm_step, even_taus, sample_chain
from .schedules import (
    NoiseSchedule,
    PriorGapWarning,
    at,
    constant_schedule,
    cosine_schedule,
    linear_schedule,
    log_snr_schedule,
    prior_gap,
    schedule_from_alpha_bars,
    vp_schedule,
)
from .score_matching import (
    denoising_loss,
    explicit_loss,
    implicit_loss,
    score_model_from_eps,
    sliced_loss,
)
from .sde import SDE, euler_maruyama, ve_sde, vp_sde, wiener_increments
from .solvers import dpm_solver_2m, heun_step, invert, predictor_corrector_step
from .step_wrappers import pasted, resampled, shifted
from .traces import (
    ProbeVariances,
    Traced,
    exact_trace,
    hutchinson_trace,
    probe_variances,
    rademacher,
)
from .training import History, bf16_is_faster, is_short_run, train, warmup_cosine
from .vae_losses import (
    VaeTerms,
    active_units,
    decoder_var_of,
    vae_loss,
    vae_terms,
    weighted_vae_loss,
)

# fmt: off
__all__ = [
    "CONVENTIONS", "EMA", "PPCA", "SDE", "Convention", "ElboEstimate", "ElboTerms",
    "FullMixture", "Gaussian", "History", "LogLikelihood", "Mixture", "NoiseSchedule", "Pairs",
    "PriorGapWarning", "ProbeVariances", "Solved", "Step", "Traced", "VaeTerms", "active_units",
    "annealed_langevin_step", "at", "autoguided", "available_devices", "best_variances",
    "bf16_is_faster", "bits_per_dim", "bound_loss", "classifier_free", "classifier_guided",
    "condition", "consistency_loss", "consistency_model", "constant_schedule", "cosine_schedule",
    "ddim_step", "ddpm_step", "decoder_var_of", "default_device", "denoising_loss", "diffuse",
    "discretized_decoder", "dpm_solver_2m", "draw_t", "drop_labels", "elbo_estimate",
    "elbo_terms", "eps_errors", "eps_from_score", "eps_from_v", "eps_from_velocity",
    "eps_from_x0", "eps_loss", "eps_model_from_ncsn", "eps_model_from_v",
    "eps_model_from_velocity", "eps_model_from_x0", "eps_weights", "euler_maruyama",
    "even_taus", "exact_trace", "exact_vae_terms", "explicit_loss", "flow_loss", "from_latents",
    "gaussian_decoder", "geometric_levels", "heun_flow", "heun_step", "hutchinson_trace",
    "implicit_loss", "importance", "invert", "is_short_run", "karras_levels", "kl_divergence",
    "label_log_prob", "langevin_chain", "langevin_corrector", "langevin_step",
    "limited", "linear_schedule", "log_likelihood", "log_ratio", "log_ratio_telescoped",
    "log_snr_schedule", "logit_normal_time", "measure_latent_scale", "measurement_guided",
    "mixture", "mixture_at", "mixture_classifier", "mixture_eps_model", "mixture_reverse",
    "mixture_score", "mixture_velocity", "ncsn_loss", "nearest_taus", "of_class",
    "optimal_linear_vae", "optimal_pairing", "p_step", "pasted", "pca_kl",
    "predictor_corrector_step", "prior_gap", "prior_kl", "probabilistic_pca",
    "probability_flow", "probe_variances", "q_marginal", "q_posterior", "q_sample", "q_step",
    "q_trajectory", "rademacher", "reflow_pairs", "resampled", "reverse_sde", "sample_chain",
    "scale_from_strength", "scaled_schedule",
    "schedule_from_alpha_bars", "schedule_from_noise_levels", "score_from_eps",
    "score_model_from_eps", "second_moments", "shifted", "sliced_loss", "solve_ode",
    "standard_normal", "straight_flow", "straight_path", "straight_schedule", "straight_times",
    "straightness_defect", "strength_from_scale", "tilted_density", "to_latents", "train",
    "uniform_time", "v_loss", "v_model_from_x0", "v_target", "vae_loss", "vae_terms", "ve_sde",
    "velocity_model_from_steps", "velocity_target", "vp_schedule", "vp_sde", "warmup_cosine",
    "weighted_vae_loss", "wiener_increments", "x0_from_eps", "x0_from_v", "x0_from_velocity",
]
# fmt: on

"""Diffusion models in small, exact pieces: one module for each idea of the course.

A schedule says how much noise; `process` has the forward process and its posterior; an
`eps_model(x_t, t) -> eps_hat` is the one thing to be learned; `samplers` walk back from noise.
Row t of every table is the paper's t, and row 0 is clean data.
"""

from .averages import EMA
from .classes import mixture_classifier, of_class, tilted_density
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
from .gaussian import Gaussian, kl_divergence, standard_normal
from .grids import geometric_levels, karras_levels, nearest_taus, schedule_from_noise_levels
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
    eps_from_x0,
    eps_model_from_v,
    eps_model_from_x0,
    score_from_eps,
    v_target,
    x0_from_eps,
    x0_from_v,
)
from .priors import prior_kl
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

# fmt: off
__all__ = [
    "EMA", "SDE", "ElboEstimate", "ElboTerms", "FullMixture", "Gaussian", "History",
    "LogLikelihood", "Mixture", "NoiseSchedule", "PriorGapWarning", "ProbeVariances", "Solved",
    "Step", "Traced", "annealed_langevin_step", "at", "available_devices", "best_variances",
    "bf16_is_faster", "bits_per_dim", "bound_loss", "classifier_free", "classifier_guided",
    "condition", "constant_schedule", "cosine_schedule", "ddim_step", "ddpm_step",
    "default_device", "denoising_loss", "diffuse", "discretized_decoder", "dpm_solver_2m",
    "draw_t", "drop_labels", "elbo_estimate", "elbo_terms", "eps_errors", "eps_from_score",
    "eps_from_v", "eps_from_x0", "eps_loss", "eps_model_from_ncsn", "eps_model_from_v",
    "eps_model_from_x0", "eps_weights", "euler_maruyama", "even_taus", "exact_trace",
    "explicit_loss", "gaussian_decoder", "geometric_levels", "heun_step", "hutchinson_trace",
    "implicit_loss", "importance", "invert", "is_short_run", "karras_levels", "kl_divergence",
    "label_log_prob", "langevin_chain", "langevin_corrector", "langevin_step",
    "linear_schedule", "log_likelihood", "log_ratio", "log_ratio_telescoped",
    "log_snr_schedule", "measurement_guided", "mixture", "mixture_at", "mixture_classifier",
    "mixture_eps_model", "mixture_reverse", "mixture_score", "ncsn_loss", "nearest_taus",
    "of_class", "p_step", "pasted", "predictor_corrector_step", "prior_gap", "prior_kl",
    "probability_flow", "probe_variances", "q_marginal", "q_posterior", "q_sample", "q_step",
    "q_trajectory", "rademacher", "resampled", "reverse_sde", "sample_chain",
    "scale_from_strength", "schedule_from_alpha_bars", "schedule_from_noise_levels",
    "score_from_eps", "score_model_from_eps", "shifted", "sliced_loss", "solve_ode",
    "standard_normal", "strength_from_scale", "tilted_density", "train", "v_loss", "v_target",
    "ve_sde", "vp_schedule", "vp_sde", "warmup_cosine", "wiener_increments", "x0_from_eps",
    "x0_from_v",
]
# fmt: on

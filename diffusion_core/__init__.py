"""Diffusion models in small, exact pieces: one module for each idea of the course.

A schedule says how much noise; `process` has the forward process and its posterior; an
`eps_model(x_t, t) -> eps_hat` is the one thing to be learned; `samplers` walk back from noise.
Row t of every table is the paper's t, and row 0 is clean data.
"""

from .averages import EMA
from .decoders import discretized_decoder, gaussian_decoder
from .devices import available_devices, default_device
from .elbo import (
    ElboEstimate,
    ElboTerms,
    bits_per_dim,
    elbo_estimate,
    elbo_terms,
    importance,
    log_ratio,
    log_ratio_telescoped,
)
from .elbo_weights import best_variances, eps_errors, eps_weights
from .gaussian import Gaussian, kl_divergence, standard_normal
from .guidance import classifier_free, drop_labels
from .losses import draw_t, eps_loss, v_loss
from .mixtures import (
    Mixture,
    diffuse,
    mixture,
    mixture_eps_model,
    mixture_reverse,
    prior_kl,
)
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
from .process import p_step, q_marginal, q_posterior, q_sample, q_step, q_trajectory
from .samplers import Step, ddim_step, ddpm_step, even_taus, sample_chain
from .schedules import (
    NoiseSchedule,
    PriorGapWarning,
    at,
    constant_schedule,
    cosine_schedule,
    linear_schedule,
    prior_gap,
    schedule_from_alpha_bars,
    vp_schedule,
)
from .training import History, bf16_is_faster, is_short_run, train, warmup_cosine

__all__ = [
    "EMA",
    "ElboEstimate",
    "ElboTerms",
    "Gaussian",
    "History",
    "Mixture",
    "NoiseSchedule",
    "PriorGapWarning",
    "Step",
    "at",
    "available_devices",
    "best_variances",
    "bf16_is_faster",
    "bits_per_dim",
    "classifier_free",
    "constant_schedule",
    "cosine_schedule",
    "ddim_step",
    "ddpm_step",
    "default_device",
    "diffuse",
    "discretized_decoder",
    "draw_t",
    "drop_labels",
    "elbo_estimate",
    "elbo_terms",
    "eps_errors",
    "eps_from_score",
    "eps_from_v",
    "eps_from_x0",
    "eps_loss",
    "eps_model_from_v",
    "eps_model_from_x0",
    "eps_weights",
    "even_taus",
    "gaussian_decoder",
    "importance",
    "is_short_run",
    "kl_divergence",
    "linear_schedule",
    "log_ratio",
    "log_ratio_telescoped",
    "mixture",
    "mixture_eps_model",
    "mixture_reverse",
    "p_step",
    "prior_gap",
    "prior_kl",
    "q_marginal",
    "q_posterior",
    "q_sample",
    "q_step",
    "q_trajectory",
    "sample_chain",
    "schedule_from_alpha_bars",
    "score_from_eps",
    "standard_normal",
    "train",
    "v_loss",
    "v_target",
    "vp_schedule",
    "warmup_cosine",
    "x0_from_eps",
    "x0_from_v",
]

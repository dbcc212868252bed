"""Diffusion models in small, exact pieces: one module for each idea of the course.

A schedule says how much noise; `process` has the forward process and its posterior; an
`eps_model(x_t, t) -> eps_hat` is the one thing to be learned; `samplers` walk back from noise.
Row t of every table is the paper's t, and row 0 is clean data.
"""

from .devices import available_devices, default_device
from .gaussian import Gaussian, kl_divergence, standard_normal
from .losses import draw_t, eps_loss, v_loss
from .mixtures import (
    Mixture,
    diffuse,
    mixture,
    mixture_eps_model,
    mixture_log_prob,
    mixture_sample,
    mixture_score,
    prior_kl,
)
from .process import (
    eps_from_score,
    eps_from_v,
    eps_from_x0,
    eps_model_from_v,
    eps_model_from_x0,
    p_step,
    q_marginal,
    q_posterior,
    q_sample,
    q_step,
    score_from_eps,
    v_target,
    x0_from_eps,
    x0_from_v,
)
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
from .training import EMA, History, bf16_is_faster, is_short_run, train

__all__ = [
    "EMA",
    "Gaussian",
    "History",
    "Mixture",
    "NoiseSchedule",
    "PriorGapWarning",
    "Step",
    "at",
    "available_devices",
    "bf16_is_faster",
    "constant_schedule",
    "cosine_schedule",
    "ddim_step",
    "ddpm_step",
    "default_device",
    "diffuse",
    "draw_t",
    "eps_from_score",
    "eps_from_v",
    "eps_from_x0",
    "eps_loss",
    "eps_model_from_v",
    "eps_model_from_x0",
    "even_taus",
    "is_short_run",
    "kl_divergence",
    "linear_schedule",
    "mixture",
    "mixture_eps_model",
    "mixture_log_prob",
    "mixture_sample",
    "mixture_score",
    "p_step",
    "prior_gap",
    "prior_kl",
    "q_marginal",
    "q_posterior",
    "q_sample",
    "q_step",
    "sample_chain",
    "schedule_from_alpha_bars",
    "score_from_eps",
    "standard_normal",
    "train",
    "v_loss",
    "v_target",
    "vp_schedule",
    "x0_from_eps",
    "x0_from_v",
]

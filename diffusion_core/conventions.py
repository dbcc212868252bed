"""Which end of time is noise? Papers and libraries differ; this is what each of them means."""

import math
from collections.abc import Callable
from typing import NamedTuple


class Convention(NamedTuple):
    """Names of data and noise, the time of the noise (data has the other end), and factors(time),
    two numbers: x = a data + b noise at that time. The velocity is the derivative of that."""

    source: str
    data: str
    noise: str
    noise_at: float
    factors: Callable[[float], tuple[float, float]]


def _to_noise(time: float) -> tuple[float, float]:
    return 1 - time, time


def _to_data(time: float) -> tuple[float, float]:
    return time, 1 - time


def _to_data_on_a_circle(time: float) -> tuple[float, float]:
    return math.sin(math.pi * time / 2), math.cos(math.pi * time / 2)


CONVENTIONS = (
    Convention("this course", "x_0", "eps", 1.0, _to_noise),
    Convention("Esser et al. (2024), Stable Diffusion 3; diffusers", "x_0", "eps", 1.0, _to_noise),
    Convention("Liu et al. (2023), rectified flow", "X_1", "X_0", 0.0, _to_data),
    Convention("Lipman et al. (2023), sigma_min left out", "x_1", "x_0", 0.0, _to_data),
    Convention("Tong et al. (2024), torchcfm, sigma = 0", "x_1", "x_0", 0.0, _to_data),
    Convention("Albergo and Vanden-Eijnden (2023)", "x_1", "x_0", 0.0, _to_data_on_a_circle),
)

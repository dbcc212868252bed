"""Time against value: the densities of a diffusion in one dimension, as one picture."""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.image import PcolorImage
from torch import Tensor

from diffusion_core import Mixture, NoiseSchedule


def density_map(
    schedule: NoiseSchedule, data: Mixture, values: Tensor, columns: int = 101
) -> Tensor:
    """Return q(x_t) of data in 1-D at evenly spaced values (H,), as (H, columns) for `draw_heat`.

    Column j is step t = round(j T / (columns - 1)), divided by its largest number: 0 to 1. Where a
    part is narrower than a pixel, as points are at t = 0, it is drawn one pixel wide.
    """
    t = (torch.linspace(0, 1, columns, dtype=torch.float64) * schedule.T).round().long()
    keep, noise = schedule.alpha_bars[t, None], schedule.marginal_vars[t, None]
    width = (values[1] - values[0]).item()
    var = (keep * data.vars + noise).clamp(min=width**2)  # (columns, K)
    apart = values[:, None, None] - keep.sqrt() * data.means[:, 0]
    heat = (data.weights * (-(apart**2) / (2 * var)).exp() / var.sqrt()).sum(2)
    return heat / heat.amax(0)


class Heat(PcolorImage):
    """A heat map that a slider can change: time 0..1 to the right, values upwards."""

    def set_data(self, heat: Tensor) -> None:
        """Replace the numbers (H, W), 0 to 1; the first row is the lowest value."""
        left, right, low, high = self.span
        rows, columns = heat.shape
        edges = np.linspace(left, right, columns + 1), np.linspace(low, high, rows + 1)
        super().set_data(*edges, np.asarray(heat))


def draw_heat(ax: Axes, heat: Tensor, low: float, high: float) -> Heat:
    """Draw densities (H, W) from `density_map`, over t/T from 0 to 1; return the artist.

    The rows' values run from low to high. White is 0, dark is the largest of each column.
    """
    half = 0.5 / (heat.shape[1] - 1), 0.5 * (high - low) / (heat.shape[0] - 1)
    artist = Heat(ax, cmap="Blues", norm=Normalize(0, 1.25))
    artist.span = (-half[0], 1 + half[0], low - half[1], high + half[1])  # of centres and pixels
    artist.set_data(heat)
    artist.set_extent(artist.span)  # sets the axes' limits, too
    ax.add_image(artist)
    ax.set(xlabel="t / T", ylabel="value of x_t")
    return artist

"""What networks share that answer with a law of each pixel, which Bayes' rule joins with x_t."""

import torch
from torch import Tensor, nn

from ..checks import check_alike, check_kinds, kind, like_input, number, require
from ..schedules import NoiseSchedule, factors
from .unet import UNet


class PixelUNet(nn.Module):
    """A U-Net that answers with four numbers a pixel, for LevelUNet and SpikeSlabUNet to read.

    forward(x_t, t, y) -> answer (B, 4, H, W), sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t) of x_t.
    x_t (B, 1, H, W), t (B,) in 1..T, y as a UNet's. It sees x_t, x_t / sqrt(alpha_bar_t) cut off
    near [-1, 1], and how well x_t fits black (-1) and white (1). Options as a UNet's, but no gain:
    Bayes' rule adds x_t. To its answer `start` is added, four numbers to be learned, which say
    "mostly black" at first.
    """

    def __init__(
        self,
        schedule: NoiseSchedule,
        widths: tuple[int, ...] = (16, 48, 128),
        patch: int = 1,
        **options,
    ) -> None:
        super().__init__()
        check_kinds(schedule=schedule)
        require(not options.get("gain"), "gain", "be False: Bayes' rule adds x_t", True)
        self.schedule = schedule
        self.unet = UNet(4, widths, patch, **options)
        self.null_label = self.unet.null_label
        start = torch.tensor([2.0, -1.0, 0.0, 1.0], device="cpu").view(4, 1, 1)  # mostly black
        self.start = nn.Parameter(start.to(self.unet.last.bias.dtype))

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> tuple[Tensor, ...]:
        check_image("x_t", x_t)
        scale, std = factors(self.schedule.marginal_factors, t, x_t, lowest=1)
        black, white = (torch.exp(-((x_t / std + k * scale / std) ** 2) / 2) for k in (1, -1))
        inputs = torch.cat([x_t, (x_t / scale).clamp(-1.2, 1.2), black, white], 1)
        return like_input(self.unet(inputs, t, y), x_t) + self.start, scale, std


def check_shapes(*, x_t: Tensor, **given: Tensor) -> None:
    """Refuse an answer, a scale or an std that does not have the shape that a law wants."""
    check_image("x_t", x_t)
    B, _, H, W = x_t.shape
    for name, z in given.items():
        check_alike(**{name: z})
        shape = (B, 4, H, W) if name == "answer" else (B, 1, 1, 1)
        require(z.shape == shape, name, f"have shape {shape}", z)
        if name != "answer" and not number(((z > 0) & z.isfinite()).all()):
            given_numbers = kind(z.flatten().tolist())
            raise ValueError(f"{name} must hold finite numbers above 0, got {given_numbers}")
        if z.device != x_t.device:
            raise TypeError(f"{name} must be on the device of x_t, {x_t.device}, got {kind(z)}")


def check_image(name: str, x: Tensor) -> None:
    """Refuse what are no images (B, 1, H, W)."""
    check_alike(**{name: x})
    require(x.ndim == 4 and x.shape[1] == 1, name, "have shape (B, 1, H, W)", x)

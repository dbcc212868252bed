"""What the layers of a network ask of their sizes and of what goes through them."""

import torch
from torch import Tensor, nn

from ..checks import check_count, check_squares, kind, require
from .embeddings import check_steps


def check_channels(in_channels: int, out_channels: int) -> None:
    """Refuse numbers of channels that are none."""
    check_count("in_channels", in_channels)
    check_count("out_channels", out_channels)


def check_floats(name: str, x: Tensor, weight: Tensor) -> None:
    """Refuse what a layer with this weight cannot multiply: other devices, other dtypes."""
    if not (isinstance(x, Tensor) and x.is_floating_point()):
        raise TypeError(f"{name} must be a floating-point torch.Tensor, got {kind(x)}")
    same = x.dtype == weight.dtype or torch.is_autocast_enabled(x.device.type)
    if x.device != weight.device or not same:
        wanted = f"{weight.dtype} on {weight.device}, as the weights are"
        raise TypeError(f"{name} must be {wanted}, got {kind(x)}")


def check_input(name: str, x: Tensor, weight: Tensor, *, door: bool = True) -> None:
    """Refuse what a network cannot answer to: NaN, infinity, and what is too large to be squared.

    Compiled, nobody looks: it would cut the graph in two. A layer, which is no network's `door`,
    looks on a CPU only: at each layer, a GPU would be waited for.
    """
    check_floats(name, x, weight)
    if not torch.compiler.is_compiling() and (door or x.device.type == "cpu"):
        check_squares(**{name: x})


def check_told(y: Tensor | None, x_t: Tensor, null_label: int) -> None:
    """Refuse labels y that are not integers (B,) in 0..null_label; 0 is for no labels at all."""
    if y is None:
        return
    integers = getattr(y, "dtype", None) in (torch.int64, torch.int32)
    if not integers or y.shape != x_t.shape[:1]:
        raise ValueError(f"y must be int64 or int32 {tuple(x_t.shape[:1])}, got {kind(y)}")
    require(y.device == x_t.device, "y", f"be on the device of x_t, {x_t.device}", y.device)
    if not y.numel() or y.is_meta or (null_label and torch.compiler.is_compiling()):
        return  # compiled, a look would cut the graph in two
    lowest, highest = map(int, y.aminmax())
    if not null_label or lowest < 0 or highest > null_label:
        known = f"0..{null_label}, the last for none" if null_label else "None: classes=0"
        raise ValueError(f"y must be {known}, got {lowest}..{highest}")


def check_images(x: Tensor, layer: nn.Conv2d | nn.Linear) -> None:
    """Refuse what are no images (B, C, H, W) whose channels a layer takes."""
    check_input("x", x, layer.weight, door=False)
    channels = layer.weight.shape[1]
    fits = x.ndim == 4 and x.shape[1] == channels and x.shape[2:].numel()
    require(fits, "x", f"have shape (B, {channels}, H, W)", x)


def check_block(x: Tensor, emb: Tensor, conv: nn.Conv2d, from_t: nn.Linear) -> None:
    """Refuse what a block cannot add: images (B, C, H, W), and an embedding (B, E) of their t."""
    check_images(x, conv)
    check_input("emb", emb, from_t.weight, door=False)
    shape = (len(x), from_t.in_features)
    require(emb.shape == shape, "emb", f"have shape {shape}, as x has {len(x)} images", emb)


def check_sizes(groups: int, **sizes: int) -> None:
    """Refuse sizes that are none, channels that do not fall into groups, heads into channels."""
    for name, n in sizes.items():
        check_count(name, n)
        if "channels" in name and n % groups:
            raise ValueError(f"{name} must be a multiple of {groups}, got {n}")
    if sizes.get("channels", 0) % sizes.get("heads", 1):
        raise ValueError(f"heads must divide channels, {sizes['channels']}, got {sizes['heads']}")


def check_unet(
    groups: int, in_channels: int, widths: tuple[int, ...], patch: int, heads: int, *, classes: int
) -> None:
    """Refuse what are no sizes of a UNet: its widths must fall into groups, the last into heads."""
    require(isinstance(widths, tuple | list), "widths", "be numbers of channels", widths)
    sizes = {"in_channels": in_channels, "patch": patch, "heads": heads}
    for name, n in (sizes | {f"widths[{i}]": width for i, width in enumerate(widths)}).items():
        check_count(name, n)
    if not widths or any(width % groups for width in widths):  # GroupNorm wants whole groups
        raise ValueError(f"widths must be one or more multiples of {groups}, got {widths}")
    check_count("classes", classes, lowest=0)
    if widths[-1] % heads:
        raise ValueError(f"heads must divide the last width, {widths[-1]}, got {heads}")


def check_noisy(unet: nn.Module, x_t: Tensor, t: Tensor, y: Tensor | None) -> None:
    """Refuse what a UNet cannot answer to: other images x_t, steps t or labels y."""
    check_input("x_t", x_t, unet.stem.weight)
    shape = tuple(x_t.shape)
    if x_t.ndim != 4 or x_t.shape[1] != unet.in_channels:
        raise ValueError(f"x_t must have shape (B, {unet.in_channels}, H, W), got {shape}")
    if 0 in shape[2:] or x_t.shape[2] % unet.factor or x_t.shape[3] % unet.factor:
        wanted = f"H and W divisible by {unet.factor} = patch * 2**(len(widths) - 1)"
        raise ValueError(f"x_t must have {wanted}, got {shape}")
    norm = unet.attention.norm
    least = len(x_t) * norm.num_channels * shape[2] * shape[3]
    few = least == norm.num_groups * unet.factor**2
    require(not few, "x_t", "have more pixels, to normalise", x_t)
    check_steps(t, x_t)
    check_told(y, x_t, unet.null_label)

"""Every block of the networks is a plain function of its weights, written out here in float64.

Norms group by group, attention head by head, convolutions as sums of shifted images, the U-Net as a
recursion over its levels. All weights are random, so that nothing is hidden behind a zero.
"""

import math
from functools import partial

import pytest
import torch
from oracles import initialised, normal, seeded
from torch import Tensor, nn
from torch.testing import assert_close

from diffusion_core import nets, pretrained

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

EXACT = {"rtol": 1e-10, "atol": 1e-10}  # float64 against float64
SINGLE = {"rtol": 2e-4, "atol": 2e-4}  # a network in float32, as the embedding of t is
EPS = 1e-5  # what torch's norms add to a variance
GROUPS = 8


def randomised(net: nn.Module, seed: int = 1) -> nn.Module:
    """Fill all weights and running averages with random numbers, of a size that keeps signals."""
    rng = seeded(seed)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if value.is_floating_point():
                noise = torch.randn(value.shape, generator=rng, dtype=torch.float64)
                scale = value[0].numel() ** -0.5 if value.ndim > 1 else 0.5
                value.copy_(noise.abs() + 0.5 if name.endswith("running_var") else scale * noise)
    return net


def double(net: nn.Module) -> nn.Module:
    return randomised(net.double())


# The layers.


def silu(x: Tensor) -> Tensor:
    return x / (1 + (-x).exp())


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    return x @ layer.weight.double().T + layer.bias.double()


def convolved(x: Tensor, layer: nn.Conv2d, every: int = 1) -> Tensor:
    """Sum shifted images, zeros around them; then keep every second pixel, say."""
    weight, (height, width) = layer.weight.double(), x.shape[2:]
    reach = weight.shape[-1] // 2
    padded = x.new_zeros(*x.shape[:2], height + 2 * reach, width + 2 * reach)
    padded[:, :, reach : reach + height, reach : reach + width] = x
    out = layer.bias.double()[:, None, None]
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            shifted = padded[:, :, i : i + height, j : j + width]
            out = out + torch.einsum("bchw,oc->bohw", shifted, weight[:, :, i, j])
    return out[:, :, ::every, ::every]


def group_normed(x: Tensor, layer: nn.GroupNorm) -> Tensor:
    out, size = torch.empty_like(x), x.shape[1] // GROUPS
    for b in range(len(x)):
        for start in range(0, x.shape[1], size):
            group = x[b, start : start + size]
            mean = group.sum() / group.numel()
            var = ((group - mean) ** 2).sum() / group.numel()
            out[b, start : start + size] = (group - mean) / (var + EPS).sqrt()
    return out * layer.weight.double()[:, None, None] + layer.bias.double()[:, None, None]


def batch_normed(x: Tensor, layer: nn.BatchNorm2d) -> Tensor:
    mean, var = layer.running_mean.double(), layer.running_var.double()
    if layer.training:
        channels = x.transpose(0, 1).flatten(1)
        mean = channels.sum(1) / channels.shape[1]
        var = ((channels - mean[:, None]) ** 2).sum(1) / channels.shape[1]
    scale = layer.weight.double() / (var + EPS).sqrt()
    return scale[:, None, None] * (x - mean[:, None, None]) + layer.bias.double()[:, None, None]


def embedding(t: Tensor, dim: int, max_period: float = 10_000) -> Tensor:
    frequencies = [max_period ** (-2 * k / dim) for k in range(dim // 2)]
    rows = [[f(w * step) for f in (math.cos, math.sin) for w in frequencies] for step in t.tolist()]
    return torch.tensor(rows, dtype=torch.float64)


# The blocks.


def res_block(block: nets.ResBlock, x: Tensor, emb: Tensor) -> Tensor:
    h = convolved(silu(group_normed(x, block.norm1)), block.conv1)
    C, told = h.shape[1], linear(emb, block.from_t)[:, :, None, None]
    if told.shape[1] == 2 * C:
        h = group_normed(h, block.norm2) * (1 + told[:, C:]) + told[:, :C]
    else:
        h = group_normed(h + told, block.norm2)
    h = convolved(silu(h), block.conv2)
    same = block.conv1.in_channels == block.conv1.out_channels
    return h + (x if same else convolved(x, block.shortcut))


def attention(block: nets.SelfAttention, x: Tensor) -> Tensor:
    B, C, H, W = x.shape
    size = C // block.heads
    pixels = group_normed(x, block.norm).reshape(B, C, H * W).mT
    q, k, v = linear(pixels, block.to_qkv).split(C, dim=2)
    mixed = torch.zeros_like(pixels)
    for b in range(B):
        for head in range(block.heads):
            own = slice(head * size, (head + 1) * size)
            for pixel in range(H * W):
                looks = (k[b, :, own] @ q[b, pixel, own] / math.sqrt(size)).exp()
                mixed[b, pixel, own] = looks / looks.sum() @ v[b, :, own]
    return x + linear(mixed, block.to_out).mT.reshape(B, C, H, W)


def down(block: nets.Down, x: Tensor) -> Tensor:
    return convolved(x, block.conv, every=2)


def up(block: nets.Up, x: Tensor) -> Tensor:
    return convolved(x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3), block.conv)


# The networks.


def mlp(net: nets.MLP, x: Tensor, t: Tensor) -> Tensor:
    h = linear(x, net.from_x) + linear(embedding(t, net.from_t.in_features), net.from_t)
    for layer in net.hidden:
        h = h + silu(linear(h, layer))
    return linear(h, net.to_out)


def unet(
    net: nets.UNet, x: Tensor, t: Tensor, labels: Tensor | None = None, *, gain: bool = False
) -> Tensor:
    """The drawing in the module's docstring: what lies below a level is a smaller U-Net."""
    first, _, second, _ = net.time
    emb = silu(linear(silu(linear(embedding(t, net.emb_dim), first)), second))
    if labels is not None:
        emb = emb + net.label.weight.double()[labels]
    depth = len(net.downs)

    def below(level: int, h: Tensor) -> Tensor:
        if level == depth:
            h = res_block(net.middle_in, h, emb)
            return res_block(net.middle_out, attention(net.attention, h), emb)
        skip = res_block(net.down_blocks[level], h, emb)
        h = up(net.ups[depth - 1 - level], below(level + 1, down(net.downs[level], skip)))
        return res_block(net.up_blocks[depth - 1 - level], torch.cat([h, skip], 1), emb)

    h = below(0, convolved(folded(x, net.patch), net.stem))
    h = unfolded(convolved(silu(group_normed(h, net.norm)), net.last), net.patch)
    channels = x.shape[1]
    return h[:, :channels] + h[:, channels:] * x if gain else h


def folded(x: Tensor, patch: int) -> Tensor:
    parts = [
        x[:, c, i::patch, j::patch]
        for c in range(x.shape[1])
        for i in range(patch)
        for j in range(patch)
    ]
    return torch.stack(parts, 1)


def unfolded(h: Tensor, patch: int) -> Tensor:
    channels, height, width = h.shape[1] // patch**2, patch * h.shape[2], patch * h.shape[3]
    x = h.new_empty(len(h), channels, height, width)
    for n in range(h.shape[1]):
        c, i, j = n // patch**2, n % patch**2 // patch, n % patch
        x[:, c, i::patch, j::patch] = h[:, n]
    return x


def classifier_features(net: nets.Classifier, x: Tensor) -> Tensor:
    h = silu(batch_normed(convolved(x, net.conv1, every=2), net.norm1))
    h = silu(batch_normed(convolved(h, net.conv2, every=2), net.norm2))
    h = silu(batch_normed(convolved(h, net.conv3), net.norm3))
    return silu(linear(h.reshape(len(h), -1), net.to_features))


# Tests.


@pytest.mark.parametrize("max_period", [10_000, 100])
@pytest.mark.parametrize("dim", [2, 6, 128])
def test_the_embedding_is_cosines_and_sines_of_t(dim, max_period):
    t = torch.tensor([0, 1, 2, 37, 1000])
    got = nets.timestep_embedding(t, dim, max_period)
    assert_close(got.double(), embedding(t, dim, max_period), rtol=0, atol=2e-4)
    assert_close(got[:3].double(), embedding(t[:3], dim, max_period), rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale_shift", [False, True])
@pytest.mark.parametrize("channels", [(8, 8), (8, 24), (16, 8)], ids=str)
@torch.no_grad()
def test_a_res_block_is_the_formula(channels, scale_shift):
    block = double(initialised(lambda: nets.ResBlock(*channels, 6, scale_shift=scale_shift)))
    assert block.from_t.out_features == channels[1] * (1 + scale_shift)
    x, emb = 2 * normal(2, channels[0], 5, 3), normal(2, 6, seed=2)
    assert_close(block(x, emb), res_block(block, x, emb), **EXACT)


@pytest.mark.parametrize("channels", [(8, 8), (8, 16)], ids=str)
@pytest.mark.parametrize("seed", range(3))
@torch.no_grad()
def test_a_new_res_block_is_its_shortcut_bit_for_bit(channels, seed):
    block = initialised(lambda: nets.ResBlock(*channels, 6), seed)
    x = normal(2, channels[0], 4, 4, dtype=torch.float32)
    emb = normal(2, 6, seed=2, dtype=torch.float32)
    assert_close(block(x, emb), block.shortcut(x), rtol=0, atol=0)
    assert not block.conv2.weight.any() and not block.conv2.bias.any()
    assert block.conv1.weight.all() and block.from_t.weight.all()


@pytest.mark.parametrize("heads", [1, 2, 4])
@torch.no_grad()
def test_attention_is_the_formula_head_by_head(heads):
    block = double(initialised(lambda: nets.SelfAttention(16, heads)))
    x = 2 * normal(2, 16, 3, 5)
    assert_close(block(x), attention(block, x), **EXACT)
    assert (block(x) - x).abs().min() > 1e-6


@torch.no_grad()
def test_down_is_a_convolution_at_every_second_pixel():
    block, x = double(initialised(lambda: nets.Down(3, 5))), normal(2, 3, 6, 4)
    assert_close(block(x), down(block, x), **EXACT)
    assert block(x).shape == (2, 5, 3, 2)


@torch.no_grad()
def test_up_is_a_convolution_of_repeated_pixels():
    block, x = double(initialised(lambda: nets.Up(3, 5))), normal(2, 3, 3, 2)
    assert_close(block(x), up(block, x), **EXACT)
    assert block(x).shape == (2, 5, 6, 4)


@pytest.mark.parametrize("sizes", [(2, 8, 3), (1, 6, 1), (5, 4, 2)], ids=str)
@torch.no_grad()
def test_the_mlp_is_the_formula(sizes):
    dim, width, depth = sizes
    net = randomised(nets.MLP(dim, width, depth))
    x, t = normal(6, dim), torch.tensor([0, 1, 2, 3, 50, 1000])
    assert len(net.hidden) == depth
    assert_close(net(x.float(), t).double(), mlp(net, x, t), **SINGLE)


UNETS = {
    "two widths": {},
    "three widths": {"widths": (8, 16, 24)},
    "one width": {"widths": (8,), "heads": 1},
    "patch 1": {"patch": 1},
    "patch 1, three widths": {"widths": (8, 16, 24), "patch": 1},
    "several channels": {"in_channels": 3},
    "classes": {"classes": 3},
    "classes, three widths": {"classes": 3, "widths": (8, 16, 24)},
    "scale and shift": {"classes": 3, "scale_shift": True},
    "gain": {"gain": True},
    "gain, several channels": {"in_channels": 3, "gain": True, "patch": 1},
}


@pytest.mark.parametrize("options", UNETS.values(), ids=UNETS)
@torch.no_grad()
def test_the_unet_is_its_drawing(options):
    options = {"widths": (8, 16), "heads": 2, "emb_dim": 6} | options
    net = randomised(nets.UNet(**options))
    x, t = normal(4, net.in_channels, 2 * net.factor, net.factor), torch.tensor([0, 1, 2, 700])
    labels = torch.tensor([0, 2, 3, 1]) if net.label else None
    drawing = partial(unet, net, x, t, gain=options.get("gain", False))
    assert_close(net(x.float(), t, labels).double(), drawing(labels), **SINGLE)
    if net.label:
        none = torch.full((4,), 3)
        assert_close(net(x.float(), t).double(), drawing(none), **SINGLE)


@torch.no_grad()
def test_the_network_that_comes_with_the_course_is_its_drawing():
    """Also at t = 1, where t - 1 in the place of t would be hard to see in a picture."""
    net, _ = pretrained.load("mnist")
    x, t, labels = normal(2, 1, 28, 28), torch.tensor([1, 400]), torch.tensor([3, 10])
    answer, wrong = unet(net, x, t, labels), unet(net, x, t - 1, labels)
    assert_close(net(x.float(), t, labels).double(), answer, **SINGLE)
    assert ((answer - wrong).flatten(1).abs().amax(1) > 10 * SINGLE["atol"]).all()


@pytest.mark.parametrize("training", [False, True], ids=["judging", "training"])
@torch.no_grad()
def test_the_classifier_is_the_formula(training):
    net = double(nets.Classifier()).train(training)
    x = normal(3, 1, 28, 28)
    expected = classifier_features(net, x)
    assert_close(net.features(x), expected, **EXACT)
    assert_close(net(x), linear(expected, net.to_logits), **EXACT)

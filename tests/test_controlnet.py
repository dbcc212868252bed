"""The frozen base, the copy and its zero convolutions: equality to the bit, and who gets gradients.

The sum that goes up through the base is held against hooks on whole copies of the base.
"""

import copy
from functools import partial

import pytest
import torch
from oracles import initialised, normal, seeded
from torch import nn
from torch.testing import assert_close

import diffusion_core as dc
from diffusion_core import checkpoints, nets

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

S = dc.cosine_schedule(10)
X = normal(4, 1, 8, 8, dtype=torch.float32)
CONTROL = (normal(4, 1, 8, 8, seed=3, dtype=torch.float32) > 0).float()
T = torch.tensor([1, 3, 7, 10])
LABELS = torch.tensor([0, 2, 1, 3])
SHAPES = {
    "one resolution": {"widths": (8,), "patch": 2},
    "two": {"widths": (8, 16), "patch": 2},
    "three, unfolded": {"widths": (8, 16, 24), "patch": 1},
    "two, with gain": {"widths": (8, 16), "patch": 2, "gain": True},
}
EVERY_SHAPE = pytest.mark.parametrize("options", SHAPES.values(), ids=SHAPES)


def shaken(network: nn.Module, std: float = 0.2) -> nn.Module:
    """Give every weight a random number, as training would: no layer is at 0 then."""
    with torch.no_grad():
        for i, weight in enumerate(network.parameters()):
            weight.add_(torch.randn(weight.shape, generator=seeded(i), dtype=weight.dtype) * std)
    return network


def base(**options) -> nets.UNet:
    return shaken(
        nets.UNet(**{"widths": (8, 16), "heads": 2, "emb_dim": 8, "classes": 3} | options)
    )


def steered(**options) -> nets.ControlNet:
    """A control that has learned something."""
    return shaken(nets.ControlNet(base(**options)))


def answers(net: nn.Module, **control) -> list[torch.Tensor]:
    with torch.no_grad():
        return [net(X, T, y, **control) for y in (None, LABELS)]


def equal(ours: list, theirs: list) -> bool:
    return all(map(torch.equal, ours, theirs))


# Equality to the bit.


@EVERY_SHAPE
@pytest.mark.parametrize("scale", [0.0, 1.0, 7.5])
def test_row_73_a_new_control_answers_as_its_base_to_the_bit(options, scale):
    net = nets.ControlNet(base(**options))
    wanted = answers(net.base)
    assert not torch.equal(*wanted), "labels reach the base"
    assert equal(answers(net, control=CONTROL, control_scale=scale), wanted)


@EVERY_SHAPE
def test_row_73_at_scale_0_a_trained_control_answers_as_its_base_to_the_bit(options):
    net = steered(**options)
    wanted = answers(net.base)
    assert equal(answers(net, control=CONTROL, control_scale=0), wanted)
    assert not equal(answers(net, control=CONTROL), wanted)


@EVERY_SHAPE
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_row_73_what_is_added_is_what_hooks_on_whole_networks_add(options, scale):
    """The copy as a whole UNet with the control added to its stem; the base with its sums."""
    net = steered(**options)
    copied, main = copy.deepcopy(net.base), copy.deepcopy(net.base)
    copied.load_state_dict(net.encoder.state_dict(), strict=False)
    patch, seen = net.base.patch, []
    told = net.zero_in(nn.functional.pixel_unshuffle(CONTROL, patch))
    copied.stem.register_forward_hook(lambda layer, given, h: h + told)
    for layer in (*copied.down_blocks, copied.middle_out):
        layer.register_forward_hook(lambda layer, given, h: seen.append(h))
    # the skips' blocks on the way up get cat(h, skip): the second half is the skip
    with torch.no_grad():
        copied(X, T, LABELS)
        *skips, middle = seen
        added = [scale * zero(h) for zero, h in zip(net.zero_skips, skips, strict=True)]
        extra = scale * net.zero_middle(middle)
        main.middle_out.register_forward_hook(lambda layer, given, h: h + extra)
        for block, a in zip(main.up_blocks, reversed(added), strict=True):
            block.register_forward_pre_hook(
                lambda layer, given, a=a: (given[0] + torch.cat([0 * a, a], 1), given[1])
            )
        wanted = main(X, T, LABELS)
        found = net(X, T, LABELS, control=CONTROL, control_scale=scale)
    assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert (found - net.base(X, T, LABELS)).abs().max() > 0.01


def test_every_zero_convolution_is_called_once():
    """Trap B54d: built, but never called."""
    net, called = nets.ControlNet(base(widths=(8, 16, 16), patch=1)), []
    zeros = [net.zero_in, *net.zero_skips, net.zero_middle]
    for zero in zeros:
        zero.register_forward_hook(lambda layer, *_: called.append(layer))
    net(X, T, control=CONTROL)
    assert len(called) == len(zeros) == 4 and set(called) == set(zeros)


def test_control_and_scale_matter_once_trained():
    net = steered()
    with torch.no_grad():
        found = [
            net(X, T, control=c, control_scale=s) for c in (CONTROL, 0 * CONTROL) for s in (1, 2)
        ]
    for i, one in enumerate(found):
        assert all((one - other).abs().max() > 1e-3 for other in found[:i])


# A zero layer learns.


def zero_norms(net: nets.ControlNet) -> dict[str, float]:
    """Return the norm of the gradient of each weight of the control, by name."""
    return {name: w.grad.norm().item() for name, w in net.named_parameters()}


def descend(net: nets.ControlNet, steps: int, control=CONTROL) -> list[dict[str, float]]:
    """Train for some steps; return the gradient norms at each, before it moves the weights."""
    optimizer, norms = torch.optim.AdamW(net.parameters(), lr=1e-3), []
    target = normal(4, 1, 8, 8, seed=5, dtype=torch.float32)
    for _ in range(steps):
        optimizer.zero_grad()
        (net(X, T, LABELS, control=control) - target).square().mean().backward()
        norms.append(zero_norms(net))
        optimizer.step()
    return norms


LAST = ("zero_skips", "zero_middle")  # the zero layers that end the copy


@EVERY_SHAPE
def test_row_74_the_last_zero_layers_learn_at_step_0_and_wake_all_others_for_step_1(options):
    """Trap B54a: two zero layers in a row start slowly, but they start."""
    first, *later = descend(nets.ControlNet(base(**options)), 4)
    for name, norm in first.items():
        assert (norm > 0) == name.startswith(LAST), name
    for norms in later:
        assert all(norm > 0 for norm in norms.values()), norms


def test_row_74_zero_features_never_learn():
    """Trap B54a: where the copy answers 0, only biases move, for ever: no weight of the control."""
    net = nets.ControlNet(base())
    with torch.no_grad():
        for weight in net.encoder.parameters():
            weight.zero_()
    before = copy.deepcopy(net.state_dict())
    *_, last = descend(net, 30)
    awake = {name for name, norm in last.items() if norm > 0}
    assert awake == {"zero_middle.bias", "zero_skips.0.bias"}
    moved = {name for name, w in net.state_dict().items() if not torch.equal(w, before[name])}
    assert moved == awake


def test_a_base_without_gradients_through_it_teaches_nothing():
    """Trap B54b: so the way up of the base must let gradients through, though it is frozen."""
    net = nets.ControlNet(base())
    with torch.no_grad():
        assert not net(X, T, control=CONTROL).requires_grad
    assert net(X, T, control=CONTROL).requires_grad
    assert not any(w.requires_grad for w in net.base.parameters())


def test_row_74_the_gradient_of_a_zero_convolution_is_input_times_gradient():
    """By hand: dL/dW[o, i] = sum over examples and pixels of g[o] x[i]; dL/db[o] that of g[o]."""
    net, kept = nets.ControlNet(base()), {}
    net.zero_skips[0].register_forward_hook(lambda layer, x, h: kept.update(x=x[0], h=h))
    answer = net(X, T, control=CONTROL)
    kept["h"].retain_grad()
    answer.square().sum().backward()
    x, g = kept["x"].detach(), kept["h"].grad
    assert_close(net.zero_skips[0].weight.grad[:, :, 0, 0], torch.einsum("bohw,bihw->oi", g, x))
    assert_close(net.zero_skips[0].bias.grad, g.sum((0, 2, 3)))


# The base stays as it is.


class Dropped(nn.Module):
    """A layer that is another one in training: with dropout and running means."""

    def __init__(self, channels):
        super().__init__()
        self.layers = nn.Sequential(nn.BatchNorm2d(channels), nn.Dropout(0.5))

    def forward(self, x):
        return self.layers(x)


def test_training_leaves_the_base_as_it_was_buffers_and_outputs_too():
    """Trap B54c: a hash of the weights would not see what moves in train()."""
    network = base()
    network.norm = Dropped(8)
    network.train()
    net = nets.ControlNet(network)
    before, wanted = copy.deepcopy(net.base.state_dict()), answers(net.base)
    ema = dc.EMA(net, decay=0.5)

    def loss(model, x0):
        return dc.v_loss(S, partial(model, y=LABELS, control=CONTROL), x0, generator=seeded())

    dc.train(net.train(), loss, (X for _ in range(5)), steps=5, lr=1e-2, ema=ema)
    net.train()
    for one in (net, ema.model):
        assert not any(module.training for module in one.base.modules())
        after = one.base.state_dict()
        assert after.keys() == before.keys() and any("running" in name for name in after)
        assert all(torch.equal(after[name], before[name]) for name in before)
        assert equal(answers(one.base), wanted)
    assert not equal(answers(net, control=CONTROL), wanted), "but the control has learned"


def test_whatever_is_asked_of_the_control_the_base_stays_frozen():
    net = nets.ControlNet(base()).train().requires_grad_(True)
    held = {id(w) for w in net.base.parameters()} | {id(b) for b in net.base.buffers()}
    assert not any(w.requires_grad for w in net.base.parameters())
    assert not held & {id(w) for w in (*net.parameters(), *net.buffers())}
    assert not any(module is net.base for module in net.modules())


def test_the_copy_shares_nothing_with_the_base():
    net = nets.ControlNet(base())
    places = {w.data_ptr() for w in net.base.parameters()}
    assert not places & {w.data_ptr() for w in net.parameters()}
    ours = net.encoder.state_dict()
    theirs = net.base.state_dict()
    assert all(torch.equal(w, theirs[name]) for name, w in ours.items())
    parts = {name.split(".")[0] for name in ours}
    assert parts == {"stem", "down_blocks", "downs", "middle_in", "attention", "middle_out"}
    assert all(w.requires_grad for w in net.parameters())


# What is stored.


def test_a_checkpoint_holds_the_control_alone(tmp_path):
    net = steered()
    names = {name.split(".")[0] for name in net.state_dict()}
    assert names == {"encoder", "zero_in", "zero_skips", "zero_middle"}
    checkpoints.save(tmp_path / "net.safetensors", net)
    other = nets.ControlNet(base())
    checkpoints.load(tmp_path / "net.safetensors", other)
    assert equal(answers(other, control=CONTROL), answers(net, control=CONTROL))


def test_a_copy_takes_the_base_along():
    net = steered()
    wanted = answers(net, control=CONTROL)
    other = copy.deepcopy(net)
    shaken(net.base)
    assert equal(answers(other, control=CONTROL), wanted)
    assert not equal(answers(net, control=CONTROL), wanted)


def test_to_moves_the_base_too():
    net = steered().double()
    assert {w.dtype for w in (*net.parameters(), *net.base.parameters())} == {torch.float64}
    net.to("meta")
    assert all(w.is_meta for w in net.base.parameters())


def test_a_base_in_float64_gives_a_control_in_float64():
    net = nets.ControlNet(base().double())
    assert {w.dtype for w in net.parameters()} == {torch.float64}


# As a model of the package.


def test_it_is_guided_and_walked_like_any_other():
    net = steered()
    model = partial(net, control=CONTROL)
    guided = dc.classifier_free(model, LABELS, guidance_scale=2.0)
    told, untold = model(X, T, LABELS), model(X, T)
    assert_close(guided(X, T), untold + 2.0 * (told - untold))
    with torch.no_grad():
        *_, last = dc.sample_chain(dc.ddim_step, S, dc.eps_model_from_v(S, guided), X)
    assert last.x_t.shape == X.shape and last.x_t.isfinite().all()


def test_a_gradient_reaches_x_t():
    """For guidance by a measurement, through base and copy."""
    net, x = steered(), X.clone().requires_grad_()
    (slope,) = torch.autograd.grad(net(x, T, control=CONTROL).sum(), x)
    step = 1e-2 * normal(4, 1, 8, 8, seed=7, dtype=torch.float32)
    with torch.no_grad():
        ahead, behind = (net(X + s, T, control=CONTROL).double().sum() for s in (step, -step))
    wanted = 2 * (slope * step).double().sum()
    assert wanted.abs() > 0.01
    assert_close(ahead - behind, wanted, rtol=0.02, atol=0)


def test_a_control_of_several_channels():
    net = shaken(nets.ControlNet(base(), control_channels=3))
    found = net(X, T, control=CONTROL.repeat(1, 3, 1, 1))
    assert found.shape == X.shape
    with pytest.raises(ValueError, match=r"control must have shape \(4, 3, 8, 8\), as x_t has"):
        net(X, T, control=CONTROL)


# What is refused.


@pytest.mark.parametrize("network", [None, nn.Identity(), nets.MLP()], ids=["None", "layer", "MLP"])
def test_another_base_is_refused(network):
    with pytest.raises(TypeError, match=r"base must be a nets\.UNet with numbers in it, got"):
        nets.ControlNet(network)
    with pytest.raises(TypeError, match=r"base must be a nets\.UNet with .* got UNet"):
        nets.ControlNet(base().to("meta"))


REFUSED = {
    "fewer": ({"control": CONTROL[:3]}, ValueError, r"control must have shape \(4, 1, 8, 8\)"),
    "smaller": ({"control": CONTROL[..., :4]}, ValueError, "control must have shape"),
    "no batch": ({"control": CONTROL[0]}, ValueError, "control must have shape"),
    "levels": ({"control": CONTROL.byte()}, TypeError, "control must be a floating-point"),
    "none": ({"control": None}, TypeError, "control must be a floating-point .* got None"),
    "double": ({"control": CONTROL.double()}, TypeError, "control must be torch.float32"),
    "below 0": ({"control": CONTROL, "control_scale": -1}, ValueError, "control_scale must be"),
    "no scale": ({"control": CONTROL, "control_scale": None}, ValueError, "control_scale must be"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_another_control_is_refused_by_name(name):
    options, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        nets.ControlNet(base())(X, T, **options)


def test_no_control_is_an_error_and_not_the_base():
    with pytest.raises(TypeError, match="control"):
        nets.ControlNet(base())(X, T)


def test_a_zero_convolution_is_zero():
    conv = initialised(lambda: nets.zero_conv(3, 5))
    assert conv.weight.shape == (5, 3, 1, 1) and not conv.weight.any() and not conv.bias.any()
    assert not conv(normal(2, 3, 4, 4, dtype=torch.float32)).any()

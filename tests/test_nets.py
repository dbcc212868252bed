"""Tests of diffusion_core.nets: the embedding of t, the MLP for points, the U-Net for images."""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from oracles import normal, other_defaults
from torch.testing import assert_close

from diffusion_core.nets import MLP, Classifier, DiT, UNet, timestep_embedding
from diffusion_core.nets.weights import drawn_from

T = 1000


def devices_present():
    present = ["cpu"]
    if torch.cuda.is_available():
        present.append("cuda")
    if torch.backends.mps.is_available():
        present.append("mps")
    return present


def build(kind, seed=0):
    """Return a small network and one example's shape."""
    if kind == "mlp":
        return MLP(seed=seed), (2,)
    if kind == "dit":
        return DiT(seed=seed), (8, 4, 4)
    return UNet(widths=(8, 16), seed=seed), (1, 28, 28)


def wake(net, seed=1):
    """Replace the weights that start at zero: the net then answers as a trained one would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in net.parameters():
            if weight.ndim > 1 and not weight.any():
                noise = torch.randn(weight.shape, generator=generator)
                weight.copy_(noise / weight[0].numel() ** 0.5)
    return net


def batch(example_shape, size=3, seed=2):
    generator = torch.Generator().manual_seed(seed)
    x_t = torch.randn((size, *example_shape), generator=generator)
    t = torch.randint(1, T + 1, (size,), generator=generator)
    return x_t, t


nets = pytest.mark.parametrize("kind", ["mlp", "unet"])
devices = pytest.mark.parametrize("device", devices_present())


# --- the embedding -------------------------------------------------------------------------------


@devices
@pytest.mark.parametrize("dim", [16, 32, 64, 128])
def test_neighbouring_steps_are_nearest_neighbours(dim, device):
    """TRAPS 16: indexed along the wrong axis, neighbouring t would not be neighbours."""
    t = torch.arange(1, T + 1, device=device)
    emb = timestep_embedding(t, dim).cpu().double()
    distance = torch.cdist(emb, emb, compute_mode="donot_use_mm_for_euclid_dist")
    distance.fill_diagonal_(float("inf"))
    assert ((distance.argmin(dim=1) - torch.arange(T)).abs() == 1).all()


@devices
def test_embedding_is_a_rotation_by_one_step(device):
    """Moving t by one step turns each (cos, sin) pair by its own frequency, whatever t is."""
    dim = 32
    emb = timestep_embedding(torch.arange(0, T + 1, device=device), dim).cpu().double()
    assert emb.shape == (T + 1, dim)
    cos, sin = emb.chunk(2, dim=1)
    torch.testing.assert_close(cos**2 + sin**2, torch.ones_like(cos), rtol=0, atol=1e-6)
    turn = 1e4 ** (-2 * torch.arange(dim // 2, dtype=torch.float64) / dim)  # from 1 down to ~1e-4
    turned = cos[:-1] * turn.cos() - sin[:-1] * turn.sin()  # cos(a + b)
    torch.testing.assert_close(cos[1:], turned, rtol=0, atol=2e-4)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_embedding_returns_float32_for_integers(dtype):
    emb = timestep_embedding(torch.tensor([1, 500, 1000], dtype=dtype), 8)
    assert emb.dtype == torch.float32
    assert emb.shape == (3, 8)


@pytest.mark.parametrize(
    ("t", "dim", "error", "named"),
    [
        (torch.tensor([1]), 7, ValueError, "dim must be even.*got 7"),
        (torch.tensor([1]), 0, ValueError, "dim"),
        (torch.tensor([1]), 8.0, TypeError, "dim must be an int, got float"),
        (torch.tensor(1), 8, ValueError, r"t must have shape .B,.*got \(\)"),
        (torch.tensor([[1]]), 8, ValueError, r"t must have shape .B,.*got \(1, 1\)"),
        (torch.tensor([1.0]), 8, TypeError, "t must be an integer.*got torch.float32"),
        (torch.tensor([True]), 8, TypeError, "t must be an integer.*got torch.bool"),
        (1, 8, TypeError, "t must be an integer.*got int"),
    ],
)
def test_embedding_names_the_bad_argument(t, dim, error, named):
    with pytest.raises(error, match=named):
        timestep_embedding(t, dim)


# --- both networks -------------------------------------------------------------------------------


@devices
@nets
def test_output_has_the_shape_and_device_of_x_t(kind, device):
    net, shape = build(kind)
    x_t, t = (part.to(device) for part in batch(shape))
    out = net.to(device)(x_t, t)
    assert out.shape == x_t.shape
    assert out.dtype == x_t.dtype
    assert out.device == x_t.device


@nets
def test_output_takes_both_signs(kind):
    """TRAPS 19: SiLU after the last layer never answers below -0.28."""
    net, shape = build(kind)
    net = wake(net)
    x_t, t = batch(shape, size=64)
    with torch.no_grad():
        out = 10 * net(3 * x_t, t) if kind == "mlp" else net(x_t, t)
    assert out.min() < -0.28
    assert out.max() > 0.28


@nets
def test_a_few_steps_learn_negative_noise(kind):
    """Training reaches a target of -1, which an activation at the end would forbid."""
    net, shape = build(kind)
    x_t, t = batch(shape, size=8)
    for _ in range(40):  # gradient descent by hand: loading torch.optim would take seconds
        net.zero_grad()
        F.mse_loss(net(x_t, t), -torch.ones_like(x_t)).backward()
        with torch.no_grad():
            for p in net.parameters():
                p -= 0.01 * p.grad
    assert net(x_t, t).mean() < -0.4  # SiLU never goes below -0.28


@devices
@nets
def test_every_parameter_receives_a_gradient(kind, device):
    net, shape = build(kind)
    net = wake(net).to(device)
    x_t, t = (part.to(device) for part in batch(shape))
    net(x_t, t).square().mean().backward()
    without = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@nets
def test_same_seed_same_weights_and_global_randomness_untouched(kind):
    before = torch.get_rng_state()
    first, _ = build(kind, seed=5)
    torch.testing.assert_close(torch.get_rng_state(), before, rtol=0, atol=0)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(123)  # whatever the global state is ...
        again, _ = build(kind, seed=5)  # ... the weights follow from seed alone
    other, _ = build(kind, seed=6)
    for name, value in first.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)
    pairs = zip(first.parameters(), other.parameters(), strict=True)
    assert any(not torch.equal(one, two) for one, two in pairs)


@nets
def test_t_matters(kind):
    net, shape = build(kind)
    net = wake(net)
    x_t, _ = batch(shape, size=1)
    with torch.no_grad():
        early = net(x_t, torch.tensor([1]))
        late = net(x_t, torch.tensor([T]))
    assert (early - late).abs().mean() > 1e-3


@devices
@nets
def test_an_example_does_not_see_the_others_in_its_batch(kind, device):
    """So no layer may average over the batch, as batch normalisation does."""
    net, shape = build(kind)
    net = wake(net).to(device)
    x_t, t = (part.to(device) for part in batch(shape, size=5))
    with torch.no_grad():
        together = net(x_t, t)
        alone = torch.cat([net(x_t[i : i + 1], t[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@nets
def test_wrong_shapes_are_named(kind):
    net, shape = build(kind)
    x_t, t = batch(shape)
    with pytest.raises(ValueError, match=r"x_t must have shape .*, got"):
        net(x_t[0], t)
    with pytest.raises(ValueError, match=r"t must have shape \(3,\), got \(2,\)"):
        net(x_t, t[:2])
    with pytest.raises(ValueError, match=r"t must have shape \(3,\), got \(3, 1\)"):
        net(x_t, t[:, None])
    with pytest.raises(TypeError, match="t must be an integer"):
        net(x_t, t / T)


# --- one network ---------------------------------------------------------------------------------


def test_mlp_takes_other_sizes():
    net = MLP(dim=5, width=16, depth=1)
    x_t, t = batch((5,))
    assert net(x_t, t).shape == (3, 5)


@pytest.mark.parametrize("name", ["dim", "width", "depth"])
def test_mlp_refuses_bad_sizes(name):
    with pytest.raises(ValueError, match=f"{name} must be at least [12], got 0"):
        MLP(**{name: 0})
    for bad in (8.0, True):
        with pytest.raises(TypeError, match=f"{name} must be an int, got {type(bad).__name__}"):
            MLP(**{name: bad})
    with pytest.raises(ValueError, match=r"width must be even.*got 7"):
        MLP(width=7)


@pytest.mark.parametrize("kind", ["dit", "mlp", "unet"])
def test_a_network_in_float64_answers_as_in_float32(kind):
    net, shape = build(kind)
    wake(net)
    x, t = normal(3, *shape, dtype=torch.float64), torch.tensor([1, 500, 1000])
    with torch.no_grad():
        wanted, found = net(x.float(), t), net.double()(x, t)
    assert found.dtype == torch.float64 and wanted.abs().max() > 0.01
    assert_close(found.float(), wanted, rtol=1e-4, atol=1e-5)


NUMBERS = [[0.5, -1.0, 2.0], [3.0, 0.0, -0.25]]  # d and k of three channels


@pytest.mark.parametrize("gain", [False, True])
def test_a_new_unet_answers_zero(gain):
    net = UNet(gain=gain)
    x_t, t = batch((1, 28, 28))
    torch.testing.assert_close(net(x_t, t), torch.zeros_like(x_t), rtol=0, atol=0)


@pytest.mark.parametrize("options", [{}, {"in_channels": 3, "patch": 1}, {"widths": (8,)}], ids=str)
def test_a_unet_with_gain_answers_d_plus_k_x_t(options):
    net = UNet(**options, gain=True)
    x_t, t = batch((net.in_channels, 8, 8))
    d, k = (p.repeat_interleave(net.patch**2) for p in net.last.bias.detach().new_tensor(NUMBERS))
    with torch.no_grad():
        net.last.bias.copy_(torch.cat([z[: net.in_channels * net.patch**2] for z in (d, k)]))
    for c in range(net.in_channels):
        wanted = NUMBERS[0][c] + NUMBERS[1][c] * x_t[:, c]
        torch.testing.assert_close(net(x_t, t)[:, c], wanted)


def test_the_default_unet_fits_mnist_and_stays_small():
    net = wake(UNet())
    x_t, t = batch((1, 28, 28))
    out = net(x_t, t)
    assert out.shape == x_t.shape
    assert sum(p.numel() for p in net.parameters()) < 1_000_000


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        ({"in_channels": 3, "widths": (8, 16, 24)}, (3, 32, 24)),
        ({"in_channels": 2, "widths": (8, 16), "patch": 1}, (2, 10, 6)),
        ({"in_channels": 4, "widths": (16,), "patch": 1}, (4, 7, 7)),
        ({"widths": (8, 16), "patch": 4, "heads": 2}, (1, 16, 16)),
        ({"in_channels": 3, "gain": True}, (3, 8, 8)),
    ],
)
def test_unet_takes_other_sizes(arguments, shape):
    net = wake(UNet(**arguments))
    x_t, t = batch(shape)
    out = net(x_t, t)
    assert out.shape == x_t.shape
    out.square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())


@pytest.mark.parametrize("shape", [(3, 28, 28), (1, 30, 28), (1, 28, 27), (1, 0, 28)])
def test_unet_refuses_a_wrong_image(shape):
    net, _ = build("unet")
    with pytest.raises(ValueError, match=r"x_t must have .*, got \(2, "):
        net(torch.zeros(2, *shape), torch.tensor([1, 2]))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"widths": ()}, "widths"),
        ({"widths": (12, 24)}, "widths"),
        ({"widths": (8, 16), "heads": 3}, "heads"),
        ({"in_channels": 0}, "in_channels"),
        ({"patch": 0}, "patch"),
        ({"heads": 0}, "heads"),
        ({"widths": (8, 0)}, r"widths\[1\]"),
        ({"emb_dim": 7}, "emb_dim"),
        ({"classes": -1}, "classes"),
    ],
)
def test_unet_refuses_bad_arguments(arguments, named):
    with pytest.raises(ValueError, match=f"^{named} must .*, got "):
        UNet(**arguments)


@pytest.mark.parametrize("bad", [8.0, True])
@pytest.mark.parametrize("name", ["in_channels", "patch", "heads", "emb_dim", "classes", "widths"])
def test_unet_refuses_sizes_that_are_no_integers(name, bad):
    with pytest.raises(TypeError, match=rf"^{name}\S* must be an int, got {type(bad).__name__}"):
        UNet(**{name: (16, bad) if name == "widths" else bad})


def labelled_unet() -> UNet:
    return wake(UNet(widths=(8, 16), heads=2, emb_dim=8, classes=3))


def test_a_unet_with_classes_answers_each_label_and_none_differently(device):
    net = labelled_unet().to(device)
    x_t = normal(1, 1, 8, 8, dtype=torch.float32).to(device).expand(4, -1, -1, -1)
    t, y = torch.full((4,), 7, device=device), torch.arange(4, device=device)
    answers = net(x_t, t, y).flatten(1)
    gaps = torch.cdist(answers, answers).fill_diagonal_(1)
    assert (gaps > 1e-3).all()
    assert net.null_label == 3
    assert_close(net(x_t[:1], t[:1]).flatten(1), answers[3:], rtol=1e-5, atol=1e-5)


def test_every_label_learns_and_the_other_weights_do_not_depend_on_classes():
    net = labelled_unet()
    x_t = normal(3, 1, 8, 8, dtype=torch.float32)
    net(x_t, torch.tensor([1, 5, 9]), torch.tensor([0, 1, 3])).square().mean().backward()
    moved = net.label.weight.grad.abs().sum(1) > 0
    assert moved.tolist() == [True, True, False, True]
    plain, told = UNet(widths=(8, 16)), UNet(widths=(8, 16), classes=3)
    weights = {name: w for name, w in told.state_dict().items() if name != "label.weight"}
    assert_close(weights, dict(plain.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("y", "named"),
    [
        (torch.tensor([0, 4]), r"0\.\.3.*got 0\.\.4"),
        (torch.tensor([-1, 0]), r"0\.\.3.*got -1\.\.0"),
        (torch.tensor([0]), r"\(2,\).*got torch.int64 \(1,\)"),
        (torch.tensor([0.0, 1.0]), "int64 or int32 .*got torch.float32"),
        (torch.tensor([False, True]), "int64 or int32 .*got torch.bool"),
        (torch.tensor([0, 1], dtype=torch.uint8), r"int64 or int32 .*got torch.uint8 \(2,\)"),
        (torch.tensor(3), r"int64 or int32 \(2,\), got tensor\(3\)"),
        (3, r"int64 or int32 \(2,\), got 3$"),
        ([0, 1], r"int64 or int32 \(2,\), got \[0, 1\]$"),
    ],
)
def test_a_unet_refuses_other_labels(y, named):
    x_t, t = normal(2, 1, 8, 8, dtype=torch.float32), torch.tensor([1, 2])
    with pytest.raises(ValueError, match=f"y must be .*{named}"):
        labelled_unet()(x_t, t, y)
    with pytest.raises(ValueError, match=r"y must be None.*got 0\.\.1"):
        UNet(widths=(8, 16))(x_t, t, torch.tensor([0, 1]))


def test_every_pixel_sees_every_pixel():
    """Attention at the coarsest level carries a change in one corner to the opposite one."""
    net, shape = build("unet")
    net = wake(net)
    x_t, t = batch(shape, size=1)
    x_t.requires_grad_(True)
    net(x_t, t)[0, 0, 0, 0].backward()
    assert (x_t.grad != 0).all()


def test_unet_gives_the_same_answer_in_channels_last():
    net, shape = build("unet")
    net = wake(net)
    x_t, t = batch(shape)
    with torch.no_grad():
        expected = net(x_t, t)
        net = net.to(memory_format=torch.channels_last)
        torch.testing.assert_close(net(x_t, t), expected, rtol=1e-4, atol=1e-5)


# --- the classifier ------------------------------------------------------------------------------


def pictures(size, seed=4):
    return torch.rand(size, 1, 28, 28, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@devices
def test_classifier_returns_logits_and_features(device):
    net = Classifier().to(device)
    x = pictures(3).to(device)
    for out, width in [(net(x), 10), (net.features(x), 64)]:
        assert out.shape == (3, width)
        assert out.dtype == x.dtype and out.device == x.device
        assert out.isfinite().all()


def test_classifier_logits_are_a_linear_map_of_its_features():
    """Least squares from the features and a constant to the logits leaves nothing."""
    net, x = Classifier().eval(), pictures(200)
    with torch.no_grad():
        features, logits = net.features(x).double(), net(x).double()
    features = torch.cat([features, torch.ones(200, 1)], dim=1)
    fitted = features @ torch.linalg.lstsq(features, logits, driver="gelsd").solution
    torch.testing.assert_close(fitted, logits, rtol=0, atol=2e-5)
    constant = logits.mean(0).expand_as(logits)
    assert (constant - logits).abs().max() > 2e-3  # so the fit says something


def test_classifier_has_three_convolutions_that_end_at_64_channels_of_7_by_7():
    net, seen = Classifier(), []
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(lambda m, given, out: seen.append((m, given[0], out)))
    net(pictures(2))
    kinds = [type(module).__name__ for module, _, _ in seen]
    assert kinds == ["Conv2d"] * 3 + ["Linear"] * 2
    assert seen[3][1].shape == (2, 64 * 7 * 7) and seen[3][2].shape == (2, 64)


def test_classifier_weights_follow_from_the_seed_alone():
    before = torch.get_rng_state()
    first = Classifier(seed=5)
    torch.testing.assert_close(torch.get_rng_state(), before, rtol=0, atol=0)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(123)
        again = Classifier(seed=5)
    torch.testing.assert_close(dict(again.state_dict()), dict(first.state_dict()), rtol=0, atol=0)
    pairs = zip(first.parameters(), Classifier(seed=6).parameters(), strict=True)
    assert any(not torch.equal(one, two) for one, two in pairs)


@devices
def test_in_evaluation_an_image_does_not_see_its_batch(device):
    net, x = Classifier().to(device).eval(), pictures(5).to(device)
    with torch.no_grad():
        together, features = net(x), net.features(x)
        alone = torch.cat([net(x[i : i + 1]) for i in range(5)])
        features_alone = torch.cat([net.features(x[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features, features_alone, rtol=1e-4, atol=1e-5)


@devices
def test_classifier_learns_ten_pictures_by_heart(device):
    net, x = Classifier().to(device), pictures(10).to(device)
    labels = torch.arange(10, device=device).flip(0)
    for _ in range(30):
        net.zero_grad()
        F.cross_entropy(net(x), labels).backward()
        without = [name for name, p in net.named_parameters() if not p.grad.any()]
        assert without == []
        with torch.no_grad():
            for p in net.parameters():
                p -= 0.05 * p.grad
    assert (net(x).argmax(1) == labels).all()


# --- what surrounds them -------------------------------------------------------------------------

KINDS = {
    "mlp": lambda: MLP(seed=3),
    "unet": lambda: UNet(widths=(8, 16), classes=3, seed=3),
    "classifier": lambda: Classifier(seed=3),
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("ambient", ["meta", "device", "float64", "bfloat16"])
def test_weights_follow_from_the_seed_whatever_the_default_device_and_dtype(make, ambient):
    """They are float32 on the CPU; the defaults are as they were afterwards."""
    expected, state = dict(make().state_dict()), torch.get_rng_state()
    try:
        if ambient == "device":
            torch.set_default_device("meta")
        elif ambient != "meta":
            torch.set_default_dtype(getattr(torch, ambient))
        with torch.device("meta") if ambient == "meta" else nullcontext():
            found = dict(make().state_dict())
            after = torch.empty(0)
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
    assert after.is_meta == (ambient in ("meta", "device"))
    assert str(after.dtype) == f"torch.{ambient if 'float' in ambient else 'float32'}"
    assert all(w.device.type == "cpu" for w in found.values())
    assert_close(found, expected, rtol=0, atol=0)
    assert_close(torch.get_rng_state(), state, rtol=0, atol=0)


def test_the_defaults_come_back_when_a_size_is_refused():
    try:
        torch.set_default_dtype(torch.float64)
        with pytest.raises(RuntimeError), drawn_from(0):
            raise RuntimeError
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@nets
def test_a_network_answers_alike_under_other_defaults(kind):
    net, shape = build(kind)
    net, (x_t, t) = wake(net), batch(shape)
    expected = net(x_t, t)
    with other_defaults():
        found = net(x_t, t)
    assert_close(found, expected, rtol=0, atol=0)


@nets
@pytest.mark.parametrize("t", [3, [1, 2, 3], None, torch.ones(3)], ids=str)
def test_a_network_names_a_t_that_is_no_integer_tensor(kind, t):
    net, shape = build(kind)
    with pytest.raises(TypeError, match="t must be an integer tensor"):
        net(batch(shape)[0], t)


def test_labels_are_looked_at_and_do_not_cut_a_compiled_graph():
    net = wake(UNet(widths=(8, 16), classes=3, seed=0))
    x, t, y = (
        normal(4, 1, 8, 8, dtype=torch.float32),
        torch.arange(1, 5),
        torch.tensor([0, 1, 2, 3]),
    )
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    assert_close(compiled(x, t, y), net(x, t, y))
    for bad in (-1, 4):
        with pytest.raises(ValueError, match=r"y must be 0\.\.3, the last for none"):
            net(x, t, y.index_fill(0, torch.tensor([2]), bad))


def test_the_door_refuses_what_is_not_finite_and_does_not_cut_a_compiled_graph():
    net, _ = build("mlp")
    x, t = normal(4, 2, dtype=torch.float32), torch.arange(1, 5)
    compiled = torch.compile(wake(net), backend="eager", fullgraph=True)
    assert_close(compiled(x, t), net(x, t))
    for bad in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match="x_t must hold finite numbers"):
            net(x.index_fill(0, torch.tensor([2]), bad), t)

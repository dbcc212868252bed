"""Edges and thumbnails: exact properties, other libraries' answers, and their yardsticks."""

import math

import numpy as np
import pytest
import torch
from oracles import normal, seeded
from scipy import ndimage
from sklearn.metrics import f1_score
from torch.testing import assert_close

from diffusion_core import controls, data

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

DIGITS, LABELS = data.digits()
DIGITS, LABELS = data.to_signed(DIGITS[:200]), LABELS[:200]
NOISE = torch.empty(20, 1, 28, 28).uniform_(-1, 1, generator=seeded(4))
PICTURES = {"digits": DIGITS[:50], "noise": NOISE, "oblong": NOISE[..., :12]}
EVERY = pytest.mark.parametrize("x0", PICTURES.values(), ids=PICTURES)
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]

# Edges.


@EVERY
def test_edges_are_where_sobel_of_another_library_is_steep(x0):
    levels = ((x0 + 1) * 127.5).round().double().numpy()[:, 0] / 255
    for image, edges in zip(levels, controls.edge_map(x0)[:, 0], strict=True):
        slopes = [ndimage.sobel(image, axis, mode="nearest") / 8 for axis in (0, 1)]
        length = np.hypot(*slopes)
        clear = np.abs(length - 0.25) > 1e-9
        assert clear.mean() > 0.9
        np.testing.assert_array_equal(edges.numpy()[clear], (length > 0.25)[clear])


@EVERY
def test_edges_are_0_and_1(x0):
    edges = controls.edge_map(x0)
    assert edges.shape == x0.shape and edges.dtype == x0.dtype
    assert set(edges.unique().tolist()) == {0.0, 1.0}


def test_a_step_has_an_edge_on_both_sides_and_a_slope_of_a_quarter_has_none():
    x0 = torch.full((1, 1, 8, 8), -1.0)
    x0[..., 4:] = 1
    assert controls.edge_map(x0)[0, 0].any(0).tolist() == [i in (3, 4) for i in range(8)]
    slope = torch.linspace(-1, 1, 5).expand(1, 1, 5, 5)  # a quarter a pixel, to the level
    assert not controls.edge_map(slope * 252 / 255).any()
    assert controls.edge_map((slope * 1.4).clamp(-1, 1)).any()


@pytest.mark.parametrize("value", [-1.0, -0.3, 0.0, 1.0])
def test_an_even_surface_has_no_edge_at_its_border_either(value):
    assert not controls.edge_map(torch.full((2, 1, 28, 28), value)).any()


@EVERY
def test_edges_turn_and_mirror_with_the_image_exactly(x0):
    edges = controls.edge_map(x0)
    for moved in (
        lambda x: x.flip(-1),
        lambda x: x.flip(-2),
        lambda x: x.mT,
        lambda x: x.rot90(1, (2, 3)),
    ):
        assert torch.equal(controls.edge_map(moved(x0)), moved(edges))
    assert torch.equal(controls.edge_map(x0[3:5]), edges[3:5]), "each image by itself"


@EVERY
def test_a_negative_has_the_same_edges(x0):
    on_levels = data.to_signed(data.to_uint8(x0))
    edges = controls.edge_map(on_levels)
    assert torch.equal(controls.edge_map(-on_levels), edges)
    assert torch.equal(controls.edge_map(x0), edges), "and what lies between levels is rounded"


def test_edges_move_with_the_image():
    """Digits have an even border, so nothing is lost."""
    assert torch.equal(
        controls.edge_map(DIGITS.roll(1, 3))[..., 2:], controls.edge_map(DIGITS)[..., 1:-1]
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_edges_are_the_same_in_every_dtype(dtype):
    x0 = DIGITS[:20].bfloat16()
    assert torch.equal(controls.edge_map(x0.to(dtype)).float(), controls.edge_map(x0).float())


def test_edges_have_no_gradient():
    assert not controls.edge_map(DIGITS[:2].clone().requires_grad_()).requires_grad


# Thumbnails.


@EVERY
def test_a_thumbnail_holds_the_means_of_squares(x0):
    thumb = controls.thumbnail(x0)
    assert thumb.shape == x0.shape
    for top in range(0, x0.shape[2], 4):
        for left in range(0, x0.shape[3], 4):
            square = (..., slice(top, top + 4), slice(left, left + 4))
            means = x0[square].double().mean((2, 3), keepdim=True)
            assert_close(thumb[square].double(), means.expand(-1, -1, 4, 4), rtol=0, atol=1e-6)


def test_a_thumbnail_is_an_orthogonal_projection():
    x, y = normal(3, 1, 28, 28), normal(3, 1, 28, 28, seed=2)
    one, other = controls.thumbnail(x), controls.thumbnail(y)
    assert_close(controls.thumbnail(one), one, rtol=0, atol=1e-14)
    assert_close(
        ((x - one) * other).sum((1, 2, 3)), torch.zeros(3, 1).double()[:, 0], rtol=0, atol=1e-11
    )
    assert_close(controls.thumbnail(2 * x - 3 * y), 2 * one - 3 * other, rtol=0, atol=1e-13)
    assert len(one[0].unique()) == 49


def test_a_thumbnail_lets_gradients_through():
    x = normal(1, 1, 8, 8).requires_grad_()
    controls.thumbnail(x).square().sum().backward()
    assert_close(x.grad, 2 * controls.thumbnail(x.detach()))


# Obedience.


def test_f1_is_that_of_another_library():
    x, other = DIGITS[:30], DIGITS[30:60]
    edges = controls.edge_map(other)
    pairs = zip(controls.edge_map(x).flatten(1), edges.flatten(1), strict=True)
    wanted = np.mean([f1_score(asked.numpy(), found.numpy()) for found, asked in pairs])
    assert controls.edge_f1(x, edges) == pytest.approx(wanted, rel=1e-12)


def test_f1_of_the_same_image_is_1_and_of_nothing_for_something_0():
    edges = controls.edge_map(DIGITS)
    black = torch.full_like(DIGITS, -1.0)
    assert controls.edge_f1(DIGITS, edges) == 1.0
    assert controls.edge_f1(black, edges) == 0.0
    assert controls.edge_f1(black, 0 * edges) == 1.0
    both = torch.cat([DIGITS[:1], black[:1]])
    assert controls.edge_f1(both, edges[:1].repeat(2, 1, 1, 1)) == 0.5


@pytest.mark.parametrize("shift", [0.0, 0.3, -1.0])
def test_a_thumbnail_error_is_in_units_of_black_to_white(shift):
    """All of an image brighter by so much of [-1, 1] is half of that in [0, 1]."""
    thumb = controls.thumbnail(DIGITS)
    found = controls.thumbnail_error(DIGITS + shift, thumb)
    assert found == pytest.approx(abs(shift) / 2, abs=1e-6)


def test_a_thumbnail_error_is_the_rms_of_the_49_numbers():
    x, thumb = NOISE, controls.thumbnail(NOISE.roll(1, 0))
    small = [z[..., ::4, ::4].double() for z in (controls.thumbnail(x), thumb)]
    wanted = ((small[0] - small[1]) / 2).square().mean().sqrt().item()
    assert controls.thumbnail_error(x, thumb) == pytest.approx(wanted, rel=1e-6)


def test_the_yardstick_of_edges_is_other_images_and_noisy_copies():
    x0 = DIGITS[:4]
    edges = controls.edge_map(x0)
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    chance = np.mean([controls.edge_f1(x0[i : i + 1], edges[j : j + 1]) for i, j in pairs])
    found = controls.edge_yardstick(x0, generator=seeded())
    copies = x0 + 0.1 * torch.randn(x0.shape, generator=seeded())
    assert found.chance == pytest.approx(chance, rel=1e-9)
    assert found.ceiling == controls.edge_f1(copies, edges)
    assert 0.1 < found.chance < 0.6 < 0.85 < found.ceiling < 1


def test_the_yardstick_of_thumbnails_is_other_images():
    x0 = DIGITS[:4]
    thumb = controls.thumbnail(x0)
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    errors = [controls.thumbnail_error(x0[i : i + 1], thumb[j : j + 1]) for i, j in pairs]
    found = controls.thumbnail_yardstick(x0)
    assert found.chance == pytest.approx(math.sqrt(np.mean(np.square(errors))), rel=1e-6)
    assert found.ceiling == 0 and 0.1 < found.chance < 0.4


def test_chance_is_a_mean_over_at_most_20_others():
    edges = controls.edge_map(DIGITS)
    chance = controls.edge_yardstick(DIGITS, generator=seeded()).chance
    f1 = [controls.edge_f1(DIGITS.roll(k, 0), edges) for k in range(1, 22)]
    assert chance == pytest.approx(np.mean(f1[:20]), rel=1e-12)
    assert abs(chance - np.mean(f1)) > 1e-6 < abs(chance - np.mean(f1[:19]))


@pytest.mark.parametrize("found, share", [(0.4, 0.0), (0.9, 1.0), (0.65, 0.5), (0.2, -0.4)])
def test_a_share_is_0_at_chance_and_1_at_the_ceiling(found, share):
    assert controls.Yardstick(0.4, 0.9).share(found) == pytest.approx(share)
    assert controls.Yardstick(1 - 0.4, 1 - 0.9).share(1 - found) == pytest.approx(share)


# What is refused.

X = DIGITS[:2]
REFUSED = {
    "no batch": (lambda: controls.edge_map(X[0]), ValueError, r"x0 must have shape \(B, 1, H, W\)"),
    "colours": (lambda: controls.edge_map(X.repeat(1, 3, 1, 1)), ValueError, "x0 must have shape"),
    "levels": (lambda: controls.edge_map(data.to_uint8(X)), TypeError, "x0 must be a floating"),
    "odd": (
        lambda: controls.thumbnail(X[..., :27]),
        ValueError,
        "x0 must have H and W divis.* by 4",
    ),
    "grey": (lambda: controls.edge_f1(X, 0.5 * X.square()), ValueError, "edges must hold 0 and 1"),
    "fewer": (lambda: controls.edge_f1(X, X[:1].square()), ValueError, "edges must be like x"),
    "other": (lambda: controls.thumbnail_error(X, X.double()), TypeError, "thumb must be like x"),
    "one": (lambda: controls.edge_yardstick(X[:1]), ValueError, "x0 must hold at least two images"),
    "alike": (
        lambda: controls.thumbnail_yardstick(X[:1].repeat(3, 1, 1, 1)),
        ValueError,
        "x0 must",
    ),
    "one thumbnail": (lambda: controls.thumbnail_yardstick(X[:1]), ValueError, "x0 must hold at"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_pictures_are_refused_by_name(name):
    call, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        call()

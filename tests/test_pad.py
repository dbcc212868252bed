"""The pad to draw on, without a browser; what the hand does is in test_browser.py."""

import base64
import fnmatch
import io
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from oracles import other_defaults
from PIL import Image, ImageDraw

import diffusion_lab as lab
from diffusion_core import data

ROOT = Path(__file__).resolve().parent.parent
DIGIT = data.to_signed(data.digits()[0][:1])  # (1, 1, 28, 28)
SEVEN = bytes(783) + b"\x07"  # what a stroke may leave: the last pixel is not black


def stroke(pad, pixels=SEVEN):
    """What the browser sends when a stroke ends."""
    message = {"method": "update", "state": {}, "buffer_paths": [["_pixels"]]}
    pad._handle_msg({"content": {"data": message}, "buffers": [memoryview(pixels)]})


def saved(pad):
    """What a notebook stores: the pixels of the picture, the sentence, the alt text."""
    bundle, more = pad._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle, "the live pad"
    picture = Image.open(io.BytesIO(base64.b64decode(bundle["image/png"])))
    return np.asarray(picture), bundle["text/plain"], more["image/png"]["alt"]


def test_a_new_pad_is_black():
    image = lab.DrawingPad().image
    assert image.dtype == torch.float32 and image.shape == (1, 1, 28, 28)
    assert (image == -1).all()


FORMS = {
    "a tensor": lambda x: x,
    "a batch less": lambda x: x[0],
    "pixels": lambda x: x[0, 0],
    "float64": lambda x: x.double(),
    "part of a leaf": lambda x: x.clone().requires_grad_(),
    "columns first": lambda x: x.mT.contiguous().mT,
    "an array": lambda x: x.numpy(),
    "pixels of an array": lambda x: x[0, 0].numpy().astype(np.float64),
    "other bytes": lambda x: x[0].numpy().astype(">f4"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_picture_comes_back_to_the_bit(form):
    """Every level of MNIST, and digits."""
    levels = data.to_signed((torch.arange(784) % 256).view(1, 28, 28).to(torch.uint8))
    for x in (DIGIT, levels):
        image = lab.DrawingPad(FORMS[form](x)).image
        assert torch.equal(image, x) and not image.requires_grad


def test_between_two_levels_the_nearest_is_kept():
    x = torch.empty(28, 28).uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
    assert (lab.DrawingPad(x).image - x).abs().max() <= 1 / 255 + 1e-6


def test_each_image_is_a_new_one():
    pad = lab.DrawingPad(DIGIT)
    pad.image.fill_(1)
    assert torch.equal(pad.image, DIGIT)


def test_no_default_of_torch_changes_the_image():
    with other_defaults():
        image = lab.DrawingPad(DIGIT[0, 0].numpy()).image
    assert image.dtype == torch.float32 and torch.equal(image, DIGIT)


# Picture files.


def drawn(size, mode="L", paper=0, ink=255):
    """A picture with a bar from top to bottom in the middle fifth."""
    picture = Image.new(mode, size, paper)
    width, height = size
    ImageDraw.Draw(picture).rectangle((0.4 * width, 0, 0.6 * width - 1, height), ink)
    return picture


def test_a_file_of_28_by_28_is_kept_to_the_level(tmp_path):
    path = tmp_path / "digit.png"
    Image.fromarray(data.to_uint8(DIGIT)[0].numpy()).save(path)
    for name in (path, str(path)):
        assert torch.equal(lab.DrawingPad(name).image, DIGIT)


@pytest.mark.parametrize(
    "mode, paper, ink",
    [("L", 0, 255), ("RGB", (0, 0, 0), (255, 255, 255)), ("RGBA", (0, 0, 0, 0), (255,) * 4)],
)
def test_a_large_file_is_shrunk_and_made_grey(mode, paper, ink, tmp_path):
    drawn((280, 280), mode, paper, ink).save(tmp_path / "bar.png")
    image = lab.DrawingPad(tmp_path / "bar.png").image[0, 0]
    assert (image[:, 13:15] > 0.9).all()
    assert (image[:, :10] < -0.9).all() and (image[:, 18:] < -0.9).all()


def test_a_wide_file_keeps_its_shape(tmp_path):
    drawn((560, 280)).save(tmp_path / "bar.png")
    image = lab.DrawingPad(tmp_path / "bar.png").image[0, 0]
    assert (image[:7] == -1).all() and (image[21:] == -1).all()
    assert (image[8:20, 13:15] > 0.9).all()


def test_what_no_paint_covers_is_black(tmp_path):
    """White at no opacity is no ink."""
    Image.new("RGBA", (28, 28), (255, 255, 255, 0)).save(tmp_path / "nothing.png")
    assert (lab.DrawingPad(tmp_path / "nothing.png").image == -1).all()


# What is refused.

NO_NUMBER = DIGIT.clone()
NO_NUMBER[0, 0, 3, 3] = torch.nan
REFUSED = {
    "a list": ([[0.0] * 28] * 28, TypeError, "path of a file, or None, got "),
    "a number": (3, TypeError, "got 3"),
    "bytes": (bytes(784), TypeError, "got bytes"),
    "levels": (data.to_uint8(DIGIT), TypeError, r"got torch.uint8 \(1, 28, 28\) on cpu"),
    "levels of an array": (np.zeros((28, 28), np.uint8), TypeError, "got ndarray"),
    "on meta": (torch.zeros(28, 28, device="meta"), TypeError, r"\(28, 28\) on meta"),
    "two pictures": (DIGIT.repeat(2, 1, 1, 1), ValueError, r"got \(2, 1, 28, 28\)"),
    "too large": (torch.zeros(32, 32), ValueError, r"got \(32, 32\)"),
    "a column of pixels": (torch.zeros(784), ValueError, r"got \(784,\)"),
    "0 to 255": (255 * (DIGIT + 1) / 2, ValueError, r"in \[-1, 1\], got 0 to 252"),
    "no number": (NO_NUMBER, ValueError, r"in \[-1, 1\], got nan to nan"),
    "no file": ("nowhere.png", ValueError, "a picture file, got nowhere.png"),
    "no picture": (Path(__file__), ValueError, "a picture file, got .*test_pad.py"),
    "a folder": (Path(__file__).parent, ValueError, "a picture file, got .*tests"),
    "no path": ("a\0b", ValueError, "a picture file, got "),
}


@pytest.mark.parametrize("name", REFUSED)
def test_another_picture_is_refused_by_name(name):
    picture, error, message = REFUSED[name]
    with pytest.raises(error, match=rf"picture must .*{message}"):
        lab.DrawingPad(picture)


@pytest.mark.parametrize("function", [3, "print", DIGIT], ids=["a number", "a name", "a tensor"])
def test_what_cannot_be_called_is_refused(function):
    with pytest.raises(TypeError, match="function must be a function, got "):
        lab.DrawingPad().on_change(function)


# Strokes and clearing.


def test_a_stroke_reaches_the_image():
    pad = lab.DrawingPad()
    stroke(pad)
    assert pad.image.flatten().tolist() == [-1.0] * 783 + [pytest.approx(2 * 7 / 255 - 1)]


def test_a_cleared_pad_is_black():
    pad = lab.DrawingPad(DIGIT)
    pad.clear()
    assert (pad.image == -1).all()


def test_the_function_is_called_with_the_image_at_each_change_and_only_then():
    pad, seen = lab.DrawingPad(DIGIT), []
    pad.on_change(lambda image: seen.append((image, torch.is_grad_enabled())))
    assert seen == []
    stroke(pad)
    stroked = pad.image
    pad.clear()
    pad.clear()  # changes nothing
    (first, with_gradients), (second, _) = seen
    assert torch.equal(first, stroked) and torch.equal(second, pad.image)
    assert not with_gradients and torch.is_grad_enabled()


def test_a_function_takes_the_place_of_the_one_before():
    """So a cell that runs again does not call twice."""
    pad, seen = lab.DrawingPad(), []
    for name in ("first", "second"):
        pad.on_change(lambda image, name=name: seen.append(name))
    stroke(pad)
    assert seen == ["second"]
    pad.on_change(None)
    pad.clear()
    assert seen == ["second"]


def test_an_error_of_the_function_is_shown_until_the_next_change():
    pad = lab.DrawingPad()

    def follow(image):
        if (image > -1).any():
            raise ValueError("no ink")

    pad.on_change(follow)
    stroke(pad)
    assert pad._trouble == "What follows the pad stopped with ValueError: no ink"
    assert (pad.image > -1).sum() == 1, "the stroke stays"
    pad.clear()
    assert pad._trouble == ""


# What is stored.


def test_a_notebook_saves_the_picture_and_the_sentence():
    pixels, text, alt = saved(lab.DrawingPad(DIGIT))
    assert text == alt == "A pad of 28 x 28 pixels to draw on: it holds a picture."
    np.testing.assert_array_equal(pixels[::10, ::10], data.to_uint8(DIGIT)[0].numpy())
    assert pixels.shape == (280, 280)


def test_the_sentence_says_whether_it_is_empty_and_no_more():
    """It is compared from run to run, and which digits are there may differ."""
    pad = lab.DrawingPad()
    assert saved(pad)[1] == "A pad of 28 x 28 pixels to draw on: it is empty."
    assert saved(pad)[1:] == saved(lab.DrawingPad())[1:]
    stroke(pad)
    assert saved(pad)[1] == saved(lab.DrawingPad(DIGIT))[1]


def test_the_part_in_the_browser_needs_no_network_and_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["diffusion_lab"]
    assert any(fnmatch.fnmatch("pad.js", pattern) for pattern in patterns)
    code = (ROOT / "diffusion_lab" / "pad.js").read_text("utf-8")
    assert lab.DrawingPad()._esm == code
    assert "http" not in code and "import" not in code and "fetch" not in code

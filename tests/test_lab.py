"""Figures and widgets, without a browser."""

import base64
import configparser
import gc
import io
import math
import re
from contextlib import nullcontext
from pathlib import Path

import ipywidgets
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from PIL import Image

import diffusion_core as dc
import diffusion_lab as lab
from diffusion_core import data


def explorer(update=None, **options):
    fig, (ax,) = lab.figure(width=3, height=2)
    (line,) = ax.plot([0, 1], [0, 0])
    ax.set(ylim=(-1, 11))

    def move(height, sign):
        line.set_ydata([0, height if sign == "up" else -height / 10])
        return f"height {height}, {sign}."

    controls = {
        "height": lab.slider("height", 0, 10, 3),
        "sign": lab.choice("sign", ["up", "down"]),
    }
    return lab.Explorer(fig, [line], update or move, controls, **options)


def pixels(widget):
    return np.asarray(Image.open(io.BytesIO(widget.png)))


def test_every_move_of_every_control_changes_picture_and_sentence():
    widget = explorer()
    for name, values in {"height": range(11), "sign": ["up", "down"]}.items():
        seen = set()
        for value in values:
            widget.controls[name].value = value
            seen.add((widget.png, widget.sentence))
        assert len(seen) == len(values)


def test_a_blitted_picture_is_the_picture_drawn_whole():
    widget = explorer()
    widget.controls["height"].value = 9
    blitted = pixels(widget)
    for artist in widget.artists:
        artist.set_animated(False)
    widget.figure.canvas.draw()
    whole = np.asarray(widget.figure.canvas.buffer_rgba())
    np.testing.assert_array_equal(blitted, whole)


def test_the_picture_has_alt_text_and_a_live_sentence():
    widget = explorer(lambda height, sign: f'<{height}> & "{sign}"')
    page = "".join(child.value for child in widget.children if isinstance(child, ipywidgets.HTML))
    assert 'alt="&lt;3&gt; &amp; &quot;up&quot;"' in page
    assert '<p role="status">&lt;3&gt; &amp; &quot;up&quot;</p>' in page


def test_an_error_is_shown_and_the_next_move_draws_again():
    def update(height, sign):
        if height == 5:
            raise ValueError("no <five>")
        return f"height {height}."

    widget = explorer(update)
    widget.controls["height"].value = 5
    status = widget.children[-1]
    assert "ValueError: no &lt;five&gt;" in status.value
    widget.controls["height"].value = 6
    assert "height 6." in status.value


def test_a_notebook_saves_the_picture_and_the_sentence():
    widget = explorer()
    bundle = widget._repr_mimebundle_()
    assert base64.b64decode(bundle["image/png"]) == widget.png
    assert bundle["text/plain"] == "height 3, up."
    assert "application/vnd.jupyter.widget-view+json" in bundle


def test_updates_run_without_gradients():
    widget = explorer(lambda height, sign: str(torch.is_grad_enabled()))
    assert widget.sentence == "False"
    assert torch.is_grad_enabled()


def test_a_play_button_is_joined_to_its_slider():
    widget = explorer(play="height")
    (button,) = [child for child in widget.children if isinstance(child, ipywidgets.Play)]
    slider = widget.controls["height"]
    assert (button.min, button.max, button.value) == (slider.min, slider.max, slider.value)


def test_a_thousand_moves_leave_nothing_behind():
    widget = explorer()

    def move(times):
        for i in range(times):
            widget.controls["height"].value = i % 11
        gc.collect()
        return len(gc.get_objects())

    before = move(100)
    assert move(1000) - before < 100
    assert pyplot.get_fignums() == []


def test_a_grid_of_images_is_stitched_row_by_row():
    images = torch.stack([torch.full((1, 2, 2), v) for v in (-1.0, 0.0, 1.0)])
    sheet = lab.image_grid(images, 2)
    assert sheet.shape == (7, 7)
    corners = [sheet[1, 1], sheet[1, 4], sheet[4, 1], sheet[4, 4]]
    np.testing.assert_allclose(corners, [0, 0.5, 1, 0])


def test_pixels_are_drawn_as_imshow_draws_them():
    """Also after new ones, on axes that are not square, tensors as well as arrays."""
    pixels = torch.linspace(-1.2, 1.2, 6 * 8).view(6, 8)
    pictures = []
    for new in (False, True):
        fig, (ax,) = lab.figure(width=3, height=2)
        if new:
            lab.draw_pixels(ax, torch.zeros(6, 8), vmin=-1, vmax=1).set_data(pixels)
        else:
            ax.imshow(pixels.numpy(), cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
        fig.canvas.draw()
        pictures.append(np.asarray(fig.canvas.buffer_rgba()).astype(int))
    difference = np.abs(pictures[0] - pictures[1]).max(axis=2)
    assert len(np.unique(pictures[0])) > 40
    assert (difference > 1).mean() < 0.01, "but for rounding at the edges of pixels"


def test_show_displays_the_picture_with_its_sentence(monkeypatch):
    shown = []
    monkeypatch.setattr(lab.plotting, "display", lambda data, **kw: shown.append((data, kw)))
    fig, _ = lab.figure()
    lab.show(fig, "A sentence.")
    ((data, options),) = shown
    assert data["text/plain"] == "A sentence."
    assert options["metadata"]["image/png"]["alt"] == "A sentence."
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")


# Claims

SANITIZE = Path(__file__).parent / "nbval_sanitize.cfg"
MNIST = data.Images(torch.zeros(0), torch.zeros(0), "MNIST", "")
OTHERS = MNIST._replace(source="scikit-learn digits")
WHOLE, STOPPED = dc.History([0.2], 1.0, False), dc.History([0.2], 1.0, True)
CLAIMS = {  # the arguments, the line that is printed
    "at least": ((0.953, {"at_least": 0.9}), "share: at least 0.9 [holds: 0.953]"),
    "not at least": ((0.5, {"at_least": 0.9}), "share: at least 0.9 [does not hold here: 0.5]"),
    "just at least": ((0.9, {"at_least": 0.9}), "share: at least 0.9 [holds: 0.9]"),
    "at most": ((1.87, {"at_most": 2}), "share: at most 2 [holds: 1.87]"),
    "not at most": ((2.345, {"at_most": 2}), "share: at most 2 [does not hold here: 2.35]"),
    "above": ((0.12, {"above": 0}), "share: above 0 [holds: 0.12]"),
    "not above": ((0.0, {"above": 0}), "share: above 0 [does not hold here: 0]"),
    "below": ((0.2034, {"below": 0.25}), "share: below 0.25 [holds: 0.203]"),
    "not below": ((0.25, {"below": 0.25}), "share: below 0.25 [does not hold here: 0.25]"),
    "close": ((1.00004, {"at_most": 1}), "share: at most 1 [does not hold here: 1.00004]"),
    "no number": ((math.nan, {"at_most": 1}), "share: at most 1 [does not hold here: nan]"),
    "a tensor": ((torch.tensor(0.5), {"below": 1}), "share: below 1 [holds: 0.5]"),
    "trained": ((0.2, {"below": 1, "history": WHOLE}), "share: below 1 [holds: 0.2]"),
    "stopped": (
        (3, {"below": 1, "history": STOPPED}),
        "share: below 1 [not checked: the training was stopped early]",
    ),
    "on MNIST": ((0.2, {"below": 1, "digits": MNIST}), "share: below 1 [holds: 0.2]"),
    "no MNIST": (
        (3, {"below": 1, "digits": OTHERS}),
        "share: below 1 [not checked: needs MNIST]",
    ),
}


@pytest.fixture(params=["", "strict"], ids=["for a learner", "strict"])
def strict(request, monkeypatch):
    monkeypatch.delenv("DIFFUSION_SHORT_RUN", raising=False)
    monkeypatch.setenv("DIFFUSION_CLAIMS", request.param)
    return request.param == "strict"


def test_another_word_than_strict_is_refused(monkeypatch):
    monkeypatch.delenv("DIFFUSION_SHORT_RUN", raising=False)
    monkeypatch.setenv("DIFFUSION_CLAIMS", "Strict")
    with pytest.raises(
        ValueError, match="DIFFUSION_CLAIMS must be strict or not set, got 'Strict'"
    ):
        lab.claim("share", 1.0, below=0.5)


@pytest.mark.parametrize("arguments, line", CLAIMS.values(), ids=CLAIMS)
def test_a_claim_says_whether_it_holds(arguments, line, strict, capsys):
    number, options = arguments
    fails = pytest.raises(AssertionError, match=f"^{re.escape(line)}$")
    with fails if strict and "does not hold" in line else nullcontext():
        assert lab.claim("share", number, **options) is None
    assert capsys.readouterr().out == f"{line}\n"


@pytest.mark.parametrize("arguments", [pair[0] for pair in CLAIMS.values()], ids=CLAIMS)
def test_a_short_run_checks_no_claim(arguments, strict, monkeypatch, capsys):
    monkeypatch.setenv("DIFFUSION_SHORT_RUN", "1")
    number, options = arguments
    lab.claim("share", number, **options)
    assert capsys.readouterr().out.endswith(" [not checked: short run]\n")


@pytest.mark.parametrize(
    "number, options, short",
    [(1, {}, 1), (49, {}, 1), (300, {}, 6), (25, {"least": 2}, 2), (300, {"least": 2}, 6)],
)
def test_up_to_is_the_number_and_a_fiftieth_in_a_short_run(number, options, short, monkeypatch):
    monkeypatch.delenv("DIFFUSION_SHORT_RUN", raising=False)
    assert lab.up_to(number, **options) == number
    monkeypatch.setenv("DIFFUSION_SHORT_RUN", "1")
    assert lab.up_to(number, **options) == short


@pytest.mark.parametrize("number, least", [(0, 1), (10, 0), (10, 11)])
@pytest.mark.parametrize("short_run", ["", "1"])
def test_up_to_refuses_numbers_without_order(number, least, short_run, monkeypatch):
    monkeypatch.setenv("DIFFUSION_SHORT_RUN", short_run)
    with pytest.raises(ValueError, match="must be"):
        lab.up_to(number, least=least)


def test_the_lines_of_all_runs_are_the_same_to_nbval():
    """But for the quantity and the threshold, which are the claim itself."""
    rules = configparser.ConfigParser()
    rules.read(SANITIZE)
    pattern, put = rules["claims"]["regex"], rules["claims"]["replace"]
    lines = [line for _, line in CLAIMS.values()]
    short = [re.sub(r"\[.*", "[not checked: short run]", line) for line in lines]
    for line, other in zip(lines, short, strict=True):
        left = re.sub(pattern, put, line)
        assert left == re.sub(pattern, put, other) == line.split("[")[0] + "[CLAIM]"
    table = "a list [1, 2] and a note [holds]"
    assert re.sub(pattern, put, table) == table


@pytest.mark.parametrize("bounds", [{}, {"below": 1, "above": 0}])
def test_a_claim_has_one_threshold(bounds):
    said = f"one of at_least, at_most, above, below must be given, got {len(bounds)}"
    with pytest.raises(ValueError, match=f"^{said}$"):
        lab.claim("share", 0.5, **bounds)


# Measured tables.


def test_a_measured_table_has_its_rows_with_numbers_as_numbers():
    rows = lab.measured("solvers")
    assert {"2M", "DDIM", "Heun"} <= {row["solver"] for row in rows}
    for row in rows:
        assert all(isinstance(row[key], float) for key in ("calls", "n", "clouds", "score", "std"))
        assert row["score"] > 0 and row["calls"] >= 1 and isinstance(row["data"], str)


def test_there_are_tables_of_toys_measured_on_many_clouds():
    """What the course promises of ten calls: within 1.5 floors, on clouds drawn for the number."""
    rows = [row for row in lab.measured("solvers") if row["data"] in ("moons", "eight_gaussians")]
    assert all(row["clouds"] >= 10 and row["n"] == 2000 for row in rows)
    ten = [r for r in rows if r["calls"] == 10 and r["solver"] == "2M" and r["grid"] == "log SNR"]
    assert len(ten) == 2 and all(row["score"] <= 1.5 for row in ten)


def test_the_table_of_guidance_holds_real_digits_and_seven_scales_at_one_n():
    real, *rows = lab.measured("guidance")
    assert real["scale"] == "real" and abs(real["spread"] - 1) < 0.1 and real["asked"] > 0.95
    assert [row["scale"] for row in rows] == [0, 1, 1.5, 2, 3, 5, 8]
    assert {row["n"] for row in rows} == {real["n"]}
    assert rows[0]["asked"] < 0.25 and all(row["asked"] > 0.85 for row in rows[1:])


@pytest.mark.parametrize("name", ["", "unknown", "../tables/solvers", None])
def test_a_table_that_is_not_there_is_refused_by_name(name):
    with pytest.raises(ValueError, match="name must be one of guidance, latent, solvers, got"):
        lab.measured(name)


def test_a_heat_map_holds_the_densities_of_the_mixture():
    schedule, values = dc.vp_schedule(50), torch.linspace(-3, 3, 121, dtype=torch.float64)
    data = dc.mixture(torch.tensor([[-1.0], [2.0]]).double(), 0.1, torch.tensor([0.9, 0.1]))
    heat = lab.density_map(schedule, data, values, 26)
    assert heat.shape == (121, 26)
    for column in range(26):
        exact = dc.diffuse(schedule, data, 2 * column).log_prob(values[:, None]).exp()
        torch.testing.assert_close(heat[:, column], exact / exact.max(), rtol=1e-12, atol=1e-300)
    points = lab.density_map(schedule, data._replace(vars=torch.zeros(2).double()), values, 26)
    assert values[points[:, 0] > 0.05].tolist() == pytest.approx(
        [-1.1, -1.05, -1, -0.95, -0.9, 1.95, 2, 2.05]
    )


def test_a_heat_map_is_drawn_as_imshow_draws_it():
    heat, pictures = torch.linspace(0, 1, 6 * 11).view(6, 11), []
    for new in (False, True):
        fig, (ax,) = lab.figure(width=3, height=2)
        artist = lab.draw_heat(ax, torch.zeros(6, 11), -2, 3)
        if new:
            artist.set_data(heat)
        else:
            artist.remove()
            options = {"cmap": "Blues", "vmin": 0, "vmax": 1.25, "interpolation": "nearest"}
            ax.imshow(heat.numpy(), extent=artist.span, origin="lower", aspect="auto", **options)
        fig.canvas.draw()
        pictures.append(np.asarray(fig.canvas.buffer_rgba()).astype(int))
    assert np.mean(np.abs(pictures[0] - pictures[1]).max(-1) > 2) < 0.02, "edges of pixels at most"

"""Every control of every lesson's widgets is moved through its range, without a browser."""

import gc
import io
import tracemalloc
import weakref
from itertools import pairwise
from pathlib import Path

import build_notebooks as build
import ipywidgets
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from PIL import Image

import diffusion_lab as lab

LESSONS = [s for s in build.sources() if "lab.Explorer(" in s.read_text("utf-8")]
MOST = 12  # values of a slider that are tried
ERROR = "could not be drawn"


def explorer(update=None):
    fig, (ax,) = lab.figure(width=2, height=1.5)
    (line,) = ax.plot([0, 1], [0, 0], "o")
    ax.set(ylim=(-1, 11))

    def move(height):
        line.set_data(torch.tensor([0.0, 1.0]), torch.tensor([0.0, height]))
        return f"height {height}."

    return lab.Explorer(fig, [line], update or move, {"height": lab.slider("height", 0, 10, 3)})


def test_one_move_draws_once_and_sends_one_message():
    calls, sent = [], []
    widget = explorer(lambda height: calls.append(height) or f"height {height}.")
    widget.children[-1].observe(sent.append, "value")
    calls.clear()
    for height in (4, 5, 5, 6):
        widget.controls["height"].value = height
    assert calls == [4, 5, 6]
    assert len(sent) == 3


def test_an_error_in_drawing_is_shown_and_the_next_move_draws_again():
    widget = explorer()
    line = widget.artists[0]
    widget.update = lambda height: line.set_data([0, 1], [0] * height) or f"height {height}."
    widget.controls["height"].value = 5
    view = widget.children[-1]
    assert f"{ERROR}: ValueError" in view.value
    assert "<img" in view.value and widget.sentence == "height 3.", "the last good picture stays"
    widget.controls["height"].value = 2
    assert ERROR not in view.value and "height 2." in view.value


def fails(height):
    raise ValueError("no picture")


@pytest.mark.parametrize(
    "update, why", [(fails, "ValueError: no picture"), (lambda height: None, "got NoneType")]
)
def test_a_first_update_that_fails_is_told_in_its_place_and_saves_no_broken_picture(update, why):
    widget = explorer(update)
    assert ERROR in widget.children[-1].value and why in widget.children[-1].value
    bundle = widget._repr_mimebundle_()
    assert "image/png" not in bundle and why in bundle["text/plain"]
    widget.update = lambda height: f"height {height}."
    widget.controls["height"].value = 2
    assert "image/png" in widget._repr_mimebundle_() and ERROR not in widget.children[-1].value


def test_the_png_is_what_the_canvas_holds():
    widget = explorer()
    picture = Image.open(io.BytesIO(widget.png))
    canvas = np.asarray(widget.figure.canvas.buffer_rgba())
    assert len(np.unique(canvas)) > 2
    np.testing.assert_array_equal(np.asarray(picture), canvas)


def test_memory_stays_flat_over_a_thousand_moves():
    widget = explorer()

    def move(times):
        for i in range(times):
            widget.controls["height"].value = i % 11
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = move(100)
        assert move(1000) - before < 200_000, "200 bytes a move: less than one png of them"
    finally:
        tracemalloc.stop()
    assert widget.figure.canvas.buffer_rgba().nbytes > 50_000
    assert pyplot.get_fignums() == []


def test_a_closed_widget_frees_its_figure():
    widget = explorer()
    figure = weakref.ref(widget.figure)
    ipywidgets.Widget.close_all()
    del widget
    gc.collect()
    assert figure() is None


def test_a_slider_is_over_whole_numbers_unless_its_step_is_a_float():
    whole, fine = lab.slider("n", 0, 10, 3), lab.slider("sigma", 0.1, 2.0, 0.6, 0.1)
    assert type(whole.value) is int and whole.step == 1
    assert (fine.min, fine.max, fine.value, fine.step) == (0.1, 2.0, 0.6, 0.1)
    assert len(values_of(fine)) == MOST and values_of(whole) == list(range(11))


def values_of(control) -> list:
    """Return the options of a list; of a slider, its ends and some values between."""
    if isinstance(control, ipywidgets.Dropdown):
        return list(control.options)
    every = np.arange(control.min, control.max + control.step / 2, control.step)
    chosen = np.linspace(0, len(every) - 1, min(MOST, len(every))).round().astype(int)
    return every[chosen].tolist()


def explorers_of(source: Path, monkeypatch) -> list[lab.Explorer]:
    """Run a lesson's code, its training cut short; return the widgets that it made."""
    made = []

    class Registered(lab.Explorer):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            made.append(self)

    monkeypatch.setenv("DIFFUSION_SHORT_RUN", "1")
    monkeypatch.setattr(lab, "Explorer", Registered)
    scope = {}
    for cell in build.lesson(source).cells:
        if cell.cell_type == "code":
            exec(cell.source, scope)
    return made


def move_through(widget: lab.Explorer, name: str) -> tuple[list[bytes], list[str]]:
    """Move one control through its values; return pictures and sentences. Errors fail the test."""
    pictures, sentences = [], []
    for value in values_of(widget.controls[name]):
        widget.controls[name].value = value
        assert ERROR not in widget.children[-1].value, widget.children[-1].value[-500:]
        pictures.append(widget.png)
        sentences.append(widget.sentence)
    return pictures, sentences


@pytest.fixture
def default_dtype():
    """A lesson may compute in float64; the next one starts anew."""
    before = torch.get_default_dtype()
    yield
    torch.set_default_dtype(before)


@pytest.mark.browser
@pytest.mark.usefixtures("default_dtype")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # between the libraries, as in a kernel
@pytest.mark.parametrize("source", LESSONS, ids=lambda s: s.stem)
def test_every_control_moves_every_picture(source, monkeypatch):
    widgets = explorers_of(source, monkeypatch)
    assert widgets
    for widget in widgets:
        controls = widget.controls
        start = {name: control.value for name, control in controls.items()}
        low = {name: values_of(control)[0] for name, control in controls.items()}
        high = {name: values_of(control)[-1] for name, control in controls.items()}
        for name in controls:
            for others in (low, high, start):
                for other, value in others.items():
                    controls[other].value = value
                pictures, sentences = move_through(widget, name)
                assert len(set(sentences)) == len(sentences), (name, sentences)
            assert all(a != b for a, b in pairwise(pictures)), f"{name} does not move the picture"
    assert pyplot.get_fignums() == []

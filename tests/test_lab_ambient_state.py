"""What a lesson shows hangs on no ambient state: defaults of torch, console, canvas, cell."""

import gc
import io
import subprocess
import sys
import weakref
from types import SimpleNamespace

import check_lessons
import numpy as np
import pytest
import torch
from IPython.core.autocall import ExitAutocall
from matplotlib import pyplot
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from oracles import other_defaults, seeded
from test_exercises import EVERY as EVERY_EXERCISE
from test_exercises import TOY, double, made, right
from test_museum import EVERY as EVERY_EXHIBIT
from test_museum import mended

import diffusion_lab as lab
from diffusion_lab import calling, exercises, feedback, museum, plotting, widgets

pytestmark = pytest.mark.filterwarnings("ignore::diffusion_core.PriorGapWarning")

# The default device and dtype.


@EVERY_EXERCISE
def test_a_verdict_asks_for_no_default(name):
    """Nor what it is compared with: the last mistake comes after all the others."""
    exercise = exercises.find(name)
    sentence, mistake = list(exercise.mistakes.items())[-1]
    good, bad = [made(name, exercise.truth), right(name)[0]], made(name, mistake)
    with other_defaults():
        for answer in good:
            assert feedback.verdict(exercise, answer, seeded()).startswith("✓ Right")
        assert feedback.verdict(exercise, bad, seeded()) == f"✗ Not yet. {sentence}"
        assert torch.ones(1).device.type == "meta", "the learner's default is put back"


@EVERY_EXHIBIT
def test_a_reading_asks_for_no_default(number):
    functions = [None, mended(number)[1]]
    expected = [museum.reading(number, function).sentence() for function in functions]
    with other_defaults():
        found = [museum.reading(number, function).sentence() for function in functions]
    assert found == expected


def test_exercises_and_museum_load_under_any_defaults():
    loads = "import torch; torch.set_default_device('meta'); torch.set_default_dtype(torch.half); "
    loads += "from diffusion_lab import exercises, museum; import diffusion_lab.museum.walks as w; "
    loads += "[exercises.lesson(number) for number in exercises.lessons()]; "
    loads += "assert w.RING.means.device.type == 'cpu'"
    subprocess.run([sys.executable, "-W", "error", "-c", loads], check=True, timeout=120)


@pytest.mark.parametrize("device", ["cpu", "meta", None])
def test_a_default_device_that_an_answer_sets_is_taken_back(device):
    def careless(x, t):
        torch.set_default_device(device)
        return double(x, t)

    try:
        torch.set_default_device("meta")
        assert feedback.verdict(TOY, careless, seeded()).startswith("✓")
        assert torch.ones(1).device.type == "meta"
    finally:
        torch.set_default_device(None)
    assert torch.ones(1).device.type == "cpu"


# A console that knows few letters.

SPOKEN = {  # encoding, what is printed
    "utf-8": "✗ c² × ᾱ",
    "cp1252": "x c² × ?",
    "ascii": "x c? ? ?",
}


@pytest.fixture(params=SPOKEN)
def console(request, monkeypatch):
    """A console of this encoding, from when it is opened: pytest has its own between."""

    def printed(speak):
        stdout = io.TextIOWrapper(io.BytesIO(), request.param, newline="\n")
        with monkeypatch.context() as changed:
            changed.setattr(sys, "stdout", stdout)
            speak()
        stdout.flush()
        return stdout.buffer.getvalue().decode(request.param)

    printed.encoding = request.param
    return printed


def test_a_verdict_is_printed_in_the_letters_of_the_console(console):
    assert console(lambda: plotting.say("✗ c² × ᾱ")) == SPOKEN[console.encoding] + "\n"


def test_a_check_is_printed_in_the_letters_of_the_console(console, monkeypatch):
    monkeypatch.setattr(feedback, "find", {"00.1": TOY}.__getitem__)
    sign = "✓" if console.encoding == "utf-8" else "+"
    printed = console(lambda: lab.check("00.1", double))
    assert printed == f"{sign} Right, on every case tried.\n"


def test_a_claim_is_printed_in_the_letters_of_the_console(console, monkeypatch):
    monkeypatch.delenv("DIFFUSION_SHORT_RUN", raising=False)
    letter = "ᾱ" if console.encoding == "utf-8" else "?"
    printed = console(lambda: lab.claim("ᾱ", 1, at_least=0))
    assert printed == f"{letter}: at least 0 [holds: 1]\n"


def test_the_check_of_lessons_is_printed_in_the_letters_of_the_console(
    console, monkeypatch, tmp_path
):
    lesson = tmp_path / "01_übung_日本.ipynb"
    lesson.touch()
    monkeypatch.setattr(check_lessons, "check_solved", lambda *_, env: "FAILED: ['✗ Not yet.']")
    monkeypatch.setattr(sys, "argv", ["check_lessons.py", "--solved", str(lesson)])
    sign = "✗" if console.encoding == "utf-8" else "\\u2717"
    printed = console(check_lessons.main)
    assert f"FAILED: ['{sign} Not yet.']" in printed and "in all" in printed


@pytest.mark.parametrize("inside", [False, True], ids=["without IPython", "in IPython"])
def test_a_console_reads_the_text_alone(inside, monkeypatch, capsys):
    """Not the dict of it, nor a picture in base64."""
    shown = []
    monkeypatch.setattr(plotting, "get_ipython", lambda: SimpleNamespace() if inside else None)
    monkeypatch.setattr(plotting.ipython, "display", lambda data, **options: shown.append(data))
    fig, _ = lab.figure(width=1, height=1)
    lab.show(fig, "Nothing.")
    assert capsys.readouterr().out == ("" if inside else "Nothing.\n")
    assert ["image/png" in data for data in shown] == [True] * inside


# The canvas of a figure.

CANVASES = {
    "svg": FigureCanvasSVG,
    "pdf": FigureCanvasPdf,
    "a closed pyplot figure": lambda figure: pyplot.close(figure),
}


@pytest.fixture(params=CANVASES)
def figure(request):
    fig, ax = pyplot.subplots(figsize=(2, 1))
    (line,) = ax.plot([0, 1], [0, 1])
    CANVASES[request.param](fig)
    yield fig, line
    pyplot.close(fig)


def test_any_figure_is_shown_and_keeps_its_canvas(figure, monkeypatch):
    shown = []
    monkeypatch.setattr(plotting, "display", lambda data, **options: shown.append(data))
    fig, _ = figure
    before = fig.canvas
    lab.show(fig, "A line.")
    assert shown[0]["image/png"].startswith("iVBORw0KGgo") and fig.canvas is before


def moving(fig, line, controls):
    def move(height):
        line.set_ydata([0, height])
        return f"height {height}."

    return lab.Explorer(fig, [line], move, controls)


def test_an_explorer_moves_any_figure(figure):
    fig, line = figure
    widget = moving(fig, line, {"height": lab.slider("height", 0, 10, 3)})
    pictures = [widget.png]
    for height in (5, 7):
        pyplot.close(fig)
        widget.controls["height"].value = height
        assert widget.sentence == f"height {height}."
        pictures.append(widget.png)
    assert len(set(pictures)) == 3 and all(pictures)


def test_an_explorer_is_not_moved_by_what_becomes_of_its_figure(monkeypatch):
    fig, (ax,) = lab.figure(width=2, height=1)
    (line,) = ax.plot([0, 1], [0, 1])
    widget = moving(fig, line, {"height": lab.slider("height", 0, 10, 3)})
    FigureCanvasSVG(fig)
    widget.controls["height"].value = 5
    assert widget.sentence == "height 5."


def test_two_explorers_on_one_figure_each_draw_their_line():
    fig, (ax,) = lab.figure(width=2, height=1)
    ax.set(xlim=(0, 1), ylim=(0, 10))
    lines = [ax.plot([0, 1], [start, start])[0] for start in (1, 9)]
    both = [moving(fig, line, {"height": lab.slider("height", 0, 10, 3)}) for line in lines]
    for widget in both:
        before, other = widget.png, [w.png for w in both if w is not widget]
        widget.controls["height"].value = 8
        assert widget.png != before and [w.png for w in both if w is not widget] == other


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_a_line_of_tensors_of_any_kind_is_drawn(dtype):
    fig, (ax,) = lab.figure(width=2, height=1)
    (line,) = ax.plot([0, 1], [0, 1])
    x = torch.ones(2, dtype=dtype, requires_grad=True)

    def move(height):
        line.set_data(x, height * x)
        return f"height {height}."

    widget = lab.Explorer(fig, [line], move, {"height": lab.slider("height", 0, 10, 3)})
    assert widget.sentence == "height 3."


# exit() in IPython.


@pytest.fixture
def shell(monkeypatch):
    """A shell of IPython, whose exit() only asks it to end later."""
    asked = []
    shell = SimpleNamespace(
        ask_exit=lambda: asked.append("exit"), asked=asked, execution_count=1, cell="a"
    )
    shell.get_parent = lambda: {"metadata": {"cellId": shell.cell}}
    for module in (calling, widgets):
        monkeypatch.setattr(module, "get_ipython", lambda: shell)
    return shell


def test_exit_in_an_answer_is_refused_and_the_kernel_lives(shell):
    quit = ExitAutocall(shell)
    said = feedback.verdict(TOY, lambda x, t: quit(), seeded())
    refused = "Your function stopped with SystemExit: leave out exit(), which ends the kernel."
    assert said.startswith(f"✗ Not yet. {refused}") and shell.asked == []
    assert refused in museum.measured(1, lambda T: quit())
    assert calling.call(calling.call, (quit, ())).cause == "SystemExit" and shell.asked == []
    quit()
    assert shell.asked == ["exit"], "outside of an answer it ends the kernel as ever"


# A cell that runs again.


@pytest.fixture
def height():
    return lab.slider("height", 0, 10, 3)


def counted(control, drawn, **options):
    """Make an Explorer that counts how often it draws."""
    fig, _ = lab.figure(width=1, height=1)
    update = lambda height: drawn.append(height) or "drawn."  # noqa: E731
    return lab.Explorer(fig, [], update, {"height": control}, **options)


@pytest.mark.parametrize("play", [None, "height"])
def test_a_cell_that_runs_again_leaves_no_dead_explorer(shell, height, play):
    drawn = []
    for shell.execution_count in range(2, 7):
        widget = counted(height, drawn, play=play)
    drawn.clear()
    height.value = 7
    assert drawn == [7] and widget.sentence == "drawn."


def test_explorers_on_one_slider_all_move(shell, height):
    """Those of one run of a cell, and those of several cells, one of which has run again."""
    drawn = {"a": [], "b": []}
    kept = [counted(height, drawn["a"]) for _ in range(2)]
    shell.cell, shell.execution_count = "b", 2
    kept.append(counted(height, drawn["b"]))
    shell.execution_count = 3
    kept.append(counted(height, drawn["b"]))
    for heard in drawn.values():
        heard.clear()
    height.value = 7
    assert drawn == {"a": [7, 7], "b": [7]}


def test_an_explorer_with_other_controls_is_left_alone(shell, height):
    drawn = []
    kept = counted(height, drawn)
    shell.execution_count = 2
    counted(lab.slider("height", 0, 10, 3), [])
    height.value = 7
    assert drawn == [3, 7] and kept.sentence == "drawn."


@pytest.mark.parametrize("parent", [{}, {"metadata": {}}], ids=str)
def test_where_no_cell_is_told_no_explorer_is_dropped(shell, height, parent):
    shell.get_parent = lambda: parent
    drawn = []
    for shell.execution_count in (1, 2):
        counted(height, drawn)
    height.value = 7
    assert drawn == [3, 3, 7, 7]


def test_nothing_keeps_an_explorer_that_is_closed(shell, height):
    widget = counted(height, [])
    figure = weakref.ref(widget.figure)
    widgets.ipywidgets.Widget.close_all()
    height.unobserve_all()
    del widget
    gc.collect()
    assert figure() is None


def test_array_keeps_arrays():
    x = np.ones(2)
    assert plotting.array(x) is x

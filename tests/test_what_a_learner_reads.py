"""What a learner reads and sees: whole sentences, and where each point, line and label is."""

import inspect
import math
import re
from collections import Counter
from typing import NamedTuple

import ipywidgets
import matplotlib
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from oracles import normal, seeded

import diffusion_core as dc
import diffusion_lab as lab
from diffusion_lab import calling, compare, feedback, plotting
from diffusion_lab.calling import Stopped
from diffusion_lab.compare import Tolerance, difference
from diffusion_lab.exercises import Exercise

TOLERANCE = Tolerance(1e-4)


def row(*values: float, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype)


# How a result differs.

ENDLESS = Stopped("endless", "It never ends.")
FAILED = Stopped("KeyError", "Your function stopped with KeyError: 1.")
DIFFERENCES = {  # what is given, what is wanted, what is said
    "equal": (row(1, 2), row(1, 2), ""),
    "a number in a tensor": (torch.ones(1, 1), 1.0, ""),
    "NaN is wanted": (row(math.nan, 1), row(math.nan, 1), ""),
    "infinity is wanted": (row(math.inf, 1), row(math.inf, 1), ""),
    "nothing": (
        None,
        row(1),
        "The result should be a Tensor, yours is None (is a `return` missing?).",
    ),
    "a string": ("1", 1.0, "The result should be a number, yours is a str."),
    "a number for a string": (1.0, "1", "The result should be a str, yours is a number."),
    "too short": ((1,), (1, 2), "The result should be 2 things, yours is a tuple of 1."),
    "too long": ([1, 2, 3], (1, 2), "The result should be 2 things, yours is a list of 3."),
    "no tuple": (row(1, 2), (1, 2), "The result should be 2 things, yours is a Tensor."),
    "a number for a tuple": (1, [1, 2], "The result should be 2 things, yours is a number."),
    "a tuple for a number": ((1, 2), 1, "The result should be a number, yours is a tuple of 2."),
    "the second part": (
        (row(1), row(7)),
        (row(1), row(5)),
        "In part 2 of the result: A number should be 5, yours is 7.",
    ),
    "the first of two parts": (
        (3, 4),
        (1, 2),
        "In part 1 of the result: A number should be 1, yours is 3.",
    ),
    "a shape in a part": (
        [row(1), row(7, 8)],
        [row(1), row(5)],
        "In part 2 of the result: The result should have shape (1,), yours (2,).",
    ),
    "a part of a part": (
        (1, (2, 4)),
        (1, (2, 3)),
        "In part 2 of the result: In part 2 of the result: A number should be 3, yours is 4.",
    ),
    "a shape": (
        torch.ones(2, 1),
        torch.ones(2, 3),
        "The result should have shape (2, 3), yours (2, 1).",
    ),
    "NaN": (row(math.nan, 2), row(1, 2), "The result holds NaN or infinity."),
    "infinity": (row(1, -math.inf), row(1, 2), "The result holds NaN or infinity."),
    "the worst number": (row(1, 2.5, 9), row(1, 2, 3), "A number should be 3, yours is 9, at [2]."),
    "four digits": (
        row(1, 1.23456789e-3),
        row(1, 9876.54321),
        "A number should be 9877, yours is 0.001235, at [1].",
    ),
    "one factor": (
        row(-1, -2),
        row(1, 2),
        "A number should be 2, yours is -2, at [1]. Yours are all -1 times what they should be.",
    ),
    "a factor of one number says nothing": (
        row(3),
        row(1),
        "A number should be 1, yours is 3.",
    ),
    "the factor 0 says nothing": (
        row(0, 0),
        row(1, 2),
        "A number should be 2, yours is 0, at [1].",
    ),
    "one factor, nearly": (
        row(3e6 + 5, 6e6 - 5),
        row(1e6, 2e6),
        "A number should be 2e+06, yours is 6e+06, at [1]. "
        "Yours are all 3 times what they should be.",
    ),
    "no factor": (row(2, 5), row(1, 2), "A number should be 2, yours is 5, at [1]."),
    "a large count": (2**24, 2**24 + 1, "A number should be 16777217, yours is 16777216."),
    "a large count among others": (
        row(1e6, 2e6 + 1),
        torch.tensor([1_000_000, 2_000_000]),
        "A number should be 2000000, yours is 2000001, at [1].",
    ),
    "numbers that differ late": (
        row(1, 1.0003),
        row(1, 1),
        "A number should be 1, yours is 1.0003, at [1].",
    ),
    "a factor that is nearly 1": (
        row(1.0003, 2.0006),
        row(1, 2),
        "A number should be 2, yours is 2.001, at [1]. "
        "Yours are all 1.0003 times what they should be.",
    ),
    "the same infinity beside a wrong number": (
        row(math.inf, 3),
        row(math.inf, 2),
        "A number should be 2, yours is 3, at [1].",
    ),
    "the same NaN beside a wrong number": (
        row(math.nan, 3),
        row(math.nan, 2),
        "A number should be 2, yours is 3, at [1].",
    ),
    "empty": (row(), row(), ""),
    "empty, and should be": (
        row(1),
        torch.ones(0, 2),
        "The result should have shape (0, 2), yours (1,).",
    ),
    "empty, and should not be": (row(), row(1), "The result should have shape (1,), yours (0,)."),
    "an array without axes": (np.array(1.375), 1.375, ""),
    "an array of one number": (np.array([2.0]), 1.0, "A number should be 1, yours is 2."),
    "a scalar of NumPy": (np.float32(1.375), 1.375, ""),
    "a whole number of NumPy": (np.int64(7), 7, ""),
    "an array": (
        np.ones(2),
        row(1, 1),
        "The result should be a Tensor, yours is a NumPy array of float64.",
    ),
    "an array of a complex number": (
        np.array(1j),
        1.0,
        "The result should be a number, yours is a NumPy array of complex128.",
    ),
    "a complex number": (1j, 1.0, "The result should be a number, yours is a complex."),
    "complex": (
        row(1) * 1j,
        row(1),
        "The result should be a Tensor, yours is a Tensor of torch.complex128.",
    ),
    "complex in a part": (
        (1, row(1) * 1j),
        (1, row(1)),
        "In part 2 of the result: The result should be a Tensor, yours is a Tensor of "
        "torch.complex128.",
    ),
    "sparse": (
        row(1, 0).to_sparse(),
        row(1, 0),
        "The result should be a Tensor, yours is a Tensor of layout torch.sparse_coo.",
    ),
    "without numbers": (
        row(1).to("meta"),
        row(1),
        "The result should be a Tensor, yours is a Tensor on meta, without numbers.",
    ),
    "a large count in floats": (2.0**24 + 1, 2**24 + 1, ""),
    "a count, almost": (7.01, 7, "A number should be 7, yours is 7.01."),
    "counts, almost": (
        row(7, 8.01),
        torch.tensor([7, 8]),
        "A number should be 8, yours is 8.01, at [1].",
    ),
    "stopped": (FAILED, row(1), "Your function stopped with KeyError: 1."),
    "both stopped": (FAILED, Stopped("KeyError", "Another sentence."), ""),
    "stopped otherwise": (FAILED, ENDLESS, "Your function stopped with KeyError: 1."),
    "only the other stopped": (row(1), ENDLESS, "It never ends."),
}


@pytest.mark.parametrize("given, wanted, sentence", DIFFERENCES.values(), ids=DIFFERENCES)
def test_how_a_result_differs_is_said_in_one_sentence(given, wanted, sentence):
    assert difference(given, wanted, TOLERANCE) == sentence


SIZES = {  # what is wanted, the tolerance, by how much the last number may be off
    "its own size": (row(3), Tolerance(1e-4), 3e-4),
    "the largest beside it": (row(-8, 1), Tolerance(1e-4), 8e-4),
    "a hundredth at least": (row(0, 1e-6), Tolerance(1e-4), 1e-6),
    "relative": (row(-8, 1e-6), Tolerance(1e-4, relative=True), 1e-10),
    "what is not finite does not count": (row(math.inf, 2), Tolerance(1e-3), 2e-3),
    "whole numbers": (torch.tensor([500, 3]), Tolerance(1e-3), 1e-3),
}


@pytest.mark.parametrize("wanted, tolerance, most", SIZES.values(), ids=SIZES)
def test_0_9_tolerances_off_is_right_and_1_1_is_not(wanted, tolerance, most):
    for times, right in ((0.9, True), (1.1, False), (-0.9, True), (-1.1, False), (1.5, False)):
        given = wanted.double().clone()
        given[-1] += times * most
        assert (difference(given, wanted, tolerance) == "") is right, times
    ratio = compare.excess(wanted.double() + most, wanted.double(), Tolerance(1.0))
    assert ratio > 0 and type(ratio) is float


@pytest.mark.parametrize(
    "case, rtol",
    [
        ((row(1),), 1e-5),
        ((row(1), row(1, dtype=torch.float32), 3), 1e-4),
        (([row(1)], torch.tensor(1)), 1e-5),
        ((torch.tensor(1), 0.5), 1e-4),
        ((), 1e-4),
    ],
)
def test_the_tolerance_is_that_of_the_coarsest_tensor(case, rtol):
    assert compare.rtol_of(case) == rtol


SINGLE = torch.ones(2)
MISPLACED = {
    "coarser": (
        SINGLE,
        SINGLE.double(),
        "The result is torch.float32, and should be torch.float64, as the arguments are.",
    ),
    "coarser in a part": (
        (SINGLE, SINGLE.half()),
        (SINGLE, SINGLE),
        "The result is torch.float16, and should be torch.float32, as the arguments are.",
    ),
    "finer": (SINGLE.double(), SINGLE, ""),
    "floats where whole numbers are wanted": (SINGLE, SINGLE.long(), ""),
    "whole numbers where floats are wanted": (SINGLE.long(), SINGLE, ""),
    "numbers": (1.0, SINGLE, ""),
    "elsewhere": (
        SINGLE.to("meta"),
        SINGLE,
        "The result lies on meta, and its arguments lie on cpu.",
    ),
}


@pytest.mark.parametrize("given, wanted, sentence", MISPLACED.values(), ids=MISPLACED)
def test_what_is_coarser_or_elsewhere_is_said(given, wanted, sentence):
    assert compare.misplaced(given, wanted) == sentence


# Verdicts.


def scaled(x, t, scale):
    return scale * t * x


def cases(generator):
    return [(row(1, 2), 3, 0.5), (torch.ones(2, 2), 1, 1 / 3)]


TOY = Exercise(
    scaled, cases, {"A plus for a times.": lambda x, t, scale: x + t + scale}, ("Vague.", "Plain.")
)
LISTS = Exercise(lambda parts: parts[0] + parts[1], lambda _: [([row(1), row(2)],)], {}, ("h.",))
WHOLE = Exercise(lambda n: torch.arange(n), lambda _: [(3,), (5,)], {}, ("h.",))
SIZES = Exercise(lambda x: x * x, lambda _: [(row(*range(9)),), (row(2, 3, 4),)], {}, ("h.",))
COUNT = Exercise(lambda: 2**24 + 1, lambda _: [()], {"Half.": lambda: 2**23}, ("h.",))
WITH = " This was with x = [1, 2], t = 3, scale = 0.5."
WITH_SECOND = " This was with x = [[1, 1], [1, 1]], t = 1, scale = 0.3333."


def grown(parts):
    total = parts[0] + parts[1]
    parts.append(total)
    return total


def wrong_later(x, t, scale):
    return scaled(x, t, scale) + (5 if t == 1 else 0)


def several_lines(x, t, scale):
    raise ValueError("the first line.\nthe second line\nthe last")


VERDICTS = {
    "right": (TOY, lambda x, t, scale: x * scale * t, "✓ Right, on every case tried."),
    "None": (
        TOY,
        None,
        "○ Not attempted yet: your answer is None. Write your lines in the cell above "
        "(a function ends with `return`) and run both cells.",
    ),
    "no function": (
        TOY,
        row(1),
        "✗ Not yet. The answer should be a function, yours is a Tensor.",
    ),
    "named": (TOY, lambda x, t, scale: x + (t + scale), "✗ Not yet. A plus for a times."),
    "another": (
        TOY,
        lambda x, t, scale: x,
        f"✗ Not yet. A number should be 3, yours is 2, at [1]. Yours are all 0.6667 times what "
        f"they should be.{WITH}",
    ),
    "another later": (
        TOY,
        wrong_later,
        f"✗ Not yet. A number should be 0.3333, yours is 5.333, at [0, 0]. Yours are all 16 times "
        f"what they should be.{WITH_SECOND}",
    ),
    "the failing case with the fewest numbers": (
        SIZES,
        lambda x: x,
        "✗ Not yet. A number should be 16, yours is 4, at [2]. This was with x = [2, 3, 4].",
    ),
    "more numbers than a sentence can hold": (
        SIZES,
        lambda x: x * x + (len(x) > 6),
        "✗ Not yet. A number should be 0, yours is 1, at [0]. This was with x of shape (9,).",
    ),
    "coarser": (
        TOY,
        lambda x, t, scale: scaled(x, t, scale).float(),
        "✗ Not yet. The result is torch.float32, and should be torch.float64, as the "
        f"arguments are.{WITH}",
    ),
    "stopped": (
        TOY,
        several_lines,
        f"✗ Not yet. Your function stopped with ValueError: the first line.{WITH}",
    ),
    "in place": (
        TOY,
        lambda x, t, scale: x.mul_(scale * t),
        "✗ Not yet. Your function changed one of its arguments in place.",
    ),
    "a list that grew": (
        LISTS,
        grown,
        "✗ Not yet. Your function changed one of its arguments in place.",
    ),
    "a list that did not": (LISTS, lambda parts: sum(parts), "✓ Right, on every case tried."),
    "random": (
        TOY,
        lambda x, t, scale: scaled(x, t, scale) + 0 * torch.randn(()),
        "✗ Not yet. Your function draws random numbers: use only the noise that it is given.",
    ),
    "detached": (
        TOY,
        lambda x, t, scale: scaled(x, t, scale).detach(),
        "✗ Not yet. The numbers are right, but no gradient can flow through your function: "
        "leave out .detach(), .item() and no_grad(), and give autograd.grad create_graph=True.",
    ),
    "floats for whole numbers": (
        WHOLE,
        lambda n: torch.arange(n).double(),
        "✓ Right, on every case tried.",
    ),
    "halves for whole numbers": (
        WHOLE,
        lambda n: torch.arange(n) + 0.5 * (torch.arange(n) == 2),
        "✗ Not yet. A number should be 2, yours is 2.5, at [2]. This was with n = 3.",
    ),
    "a long count in the arguments": (
        WHOLE._replace(cases=lambda _: [(12_345,)]),
        lambda n: torch.arange(n) + 1,
        "✗ Not yet. A number should be 0, yours is 1, at [0]. This was with n = 12345.",
    ),
    "a count": (COUNT, 2**24 + 1, "✓ Right."),
    "a count less by one": (COUNT, 2**24, "✗ Not yet. Your number is too small."),
    "a count more by one": (COUNT, 2**24 + 2, "✗ Not yet. Your number is too large."),
    "half a count": (COUNT, 2**23, "✗ Not yet. Half."),
    "a typed string": (COUNT, "9", "✗ Not yet. The result should be a number, yours is a str."),
}


@pytest.mark.parametrize("exercise, answer, sentence", VERDICTS.values(), ids=VERDICTS)
def test_a_verdict_is_this_sentence(exercise, answer, sentence):
    assert feedback.verdict(exercise, answer, seeded()) == sentence


def test_an_endless_answer_is_waited_for_once(monkeypatch):
    waited = []
    monkeypatch.setattr(feedback, "call", lambda f, case: waited.append(case) or ENDLESS)
    assert feedback.verdict(TOY, scaled, seeded()) == "✗ Not yet. It never ends."
    assert len(waited) == 1 < len(cases(None))


@pytest.fixture
def displayed(monkeypatch):
    shown = []
    monkeypatch.setattr(plotting, "display", lambda data, **options: shown.append(data))
    return shown


def test_hints_and_verdicts_are_displayed_as_they_are(displayed, monkeypatch):
    monkeypatch.setattr(feedback, "find", {"09.1": TOY}.__getitem__)
    monkeypatch.setattr(feedback, "_shown", Counter())
    for _ in range(3):
        lab.hint("09.1")
    lab.check("09.1", scaled)
    assert [data["text/plain"] for data in displayed] == [
        "○ Hint 1 of 2: Vague.",
        "○ Hint 2 of 2: Plain.",
        "○ No more hints: the solution is folded below the check.",
        "✓ Right, on every case tried.",
    ]


@pytest.mark.parametrize("sign, colour", [("✓", "#009E73"), ("✗", "#D55E00"), ("○", "#0072B2")])
def test_what_is_said_has_the_colour_of_its_sign(sign, colour, displayed):
    plotting.say(f'{sign} 1 < "2"')
    style = f"border-left: 4px solid {colour}; padding-left: 0.6em"
    page = f'<p role="status" style="{style}">{sign} 1 &lt; "2"</p>'
    assert displayed == [{"text/plain": f'{sign} 1 < "2"', "text/html": page}]


# How an answer is called.


def raising(error: BaseException):
    def function(**values):
        raise error

    return function


ERRORS = {
    "a line": (ValueError("no such t"), "ValueError", "ValueError: no such t."),
    "a line with its full stop": (ValueError("no such t."), "ValueError", "ValueError: no such t."),
    "several lines": (RuntimeError("first\nsecond\nlast"), "RuntimeError", "RuntimeError: first."),
    "a key": (KeyError("t"), "KeyError", "KeyError: 't'."),
    "an exit": (SystemExit(3), "SystemExit", "SystemExit: 3."),
    "an exit without a status": (SystemExit(None), "SystemExit", "SystemExit."),
    "no text": (AssertionError(), "AssertionError", "AssertionError."),
    "an empty line first": (ValueError("\n no such t\n"), "ValueError", "ValueError: no such t."),
}


@pytest.mark.parametrize("error, cause, said", ERRORS.values(), ids=ERRORS)
def test_an_error_is_told_by_its_first_line(error, cause, said):
    stopped = calling.call(raising(error), ())
    assert stopped == Stopped(cause, f"Your function stopped with {said}")


def test_a_call_returns_the_result_itself():
    x = row(1)
    assert calling.call(lambda a, b: (a, b), (x, 2)) == (x, 2)


def test_float64_alone_does_not_go_to_mps(monkeypatch):
    """Apple's GPUs know no float64; the rest goes, here to a device that is not there."""
    moved = []
    monkeypatch.setattr(torch.Tensor, "to", lambda x, device: moved.append((x.dtype, device)) or x)
    mps = torch.device("mps")
    assert calling.on(mps, (SINGLE, [row(1)])) is None and moved == []
    case = (SINGLE, [torch.tensor(1)], 5)
    assert calling.on(mps, case)[2] == 5
    assert moved == [(torch.float32, mps), (torch.int64, mps)]
    assert calling.on(torch.device("cpu"), (row(1),)) is not None


class Pair(NamedTuple):
    x: torch.Tensor
    rest: list


def test_copies_keep_kinds_and_requests_for_gradients():
    pair = Pair(row(1).requires_grad_(), [row(2), 3])
    (copy,) = calling.copied((pair,))
    assert type(copy) is Pair and type(copy.rest) is list and copy.rest[1] == 3
    assert copy.x.requires_grad and not copy.rest[0].requires_grad
    assert copy.x is not pair.x and [x.item() for x in calling.tensors(copy)] == [1, 2]


# Controls.


def test_a_slider_has_its_label_and_its_ends():
    control = lab.slider("height", -2, 8, 4, 2)
    found = (control.description, control.min, control.max, control.value, control.step)
    assert found == ("height", -2, 8, 4, 2)
    assert lab.slider("t", 0, 3, 1).step == 1


def test_a_choice_has_its_label_and_the_given_value_or_the_first():
    options = ["first", "second", "third"]
    control = lab.choice("which", options, "second")
    assert (control.description, control.value) == ("which", "second")
    assert list(control.options) == options
    assert lab.choice("which", options).value == "first"
    assert lab.choice("which", [("no", 0), ("yes", 1)], 0).value == 0


def explorer(**options):
    fig, (ax,) = lab.figure(width=3, height=2)
    (line,) = ax.plot([0, 1], [0, 0])

    def move(height):
        if height == 7:
            raise ValueError("no <7>")
        line.set_ydata([0, height])
        return f"height {height}."

    return lab.Explorer(fig, [line], move, {"height": lab.slider("height", 0, 30, 5, 1)}, **options)


def test_a_play_button_makes_the_steps_of_its_slider():
    fig, _ = lab.figure(width=3, height=2)
    control = lab.slider("t", 10, 60, 20, 5)
    widget = lab.Explorer(fig, [], lambda t: f"{t}", {"t": control}, play="t")
    (button,) = (child for child in widget.children if isinstance(child, ipywidgets.Play))
    found = (button.min, button.max, button.value, button.step, button.interval)
    assert found == (10, 60, 20, 5, 100)
    kinds = [type(child).__name__ for child in widget.children]
    assert kinds == ["IntSlider", "Play", "HTML"]
    assert [type(child).__name__ for child in explorer().children] == ["IntSlider", "HTML"]


def test_an_explorer_shows_a_picture_of_known_size_with_its_sentence():
    widget = explorer()
    page = widget.children[-1].value
    assert page.startswith('<img alt="height 5." src="data:image/png;base64,')
    assert 'width="300" height="200" decoding="sync"' in page
    assert page.endswith('<p role="status">height 5.</p>')
    told = "This picture could not be drawn: "
    widget.controls["height"].value = 7
    said = f'<p role="status">{told}ValueError: no &lt;7&gt;</p>'
    assert widget.children[-1].value.endswith(said)
    widget.update = raising(AssertionError())
    widget.controls["height"].value = 8
    assert widget.children[-1].value.endswith(f'<p role="status">{told}AssertionError</p>')


# Figures.

CYCLE = {
    "color": ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9"],
    "linestyle": ["-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1))],
}


def test_the_colours_of_lines_are_told_apart_and_so_are_their_dashes():
    assert matplotlib.rcParams["axes.prop_cycle"].by_key() == CYCLE
    named = [lab.BLUE, lab.ORANGE, lab.GREEN, lab.PINK, lab.RED, lab.SKY]
    assert named == CYCLE["color"] and lab.BLACK == "#000000"
    _, (ax,) = lab.figure()
    lines = [ax.plot([0, 1])[0] for _ in range(7)]
    assert [line.get_color() for line in lines] == [*named, lab.BLUE]
    assert [line.get_linestyle() for line in lines[:4]] == ["-", "--", "-.", ":"]


def test_a_figure_has_its_size_and_a_flat_row_of_axes():
    fig, axes = lab.figure(3, 2, width=7, height=4, sharex=True)
    assert axes.shape == (6,)
    assert tuple(fig.get_size_inches()) == (7, 4)
    assert axes[1].get_subplotspec().rowspan.start == 0, "row by row"
    assert axes[3].get_subplotspec().rowspan.start == 1
    axes[0].set_xlim(-5, 5)
    assert axes[5].get_xlim() == (-5, 5)
    fig, axes = lab.figure()
    assert len(axes) == 1 and tuple(fig.get_size_inches()) == (9, 3.2)


def test_the_source_of_a_method_begins_at_the_margin(displayed):
    lab.show_source(dc.Mixture.score, dc.q_step)
    ((data),) = displayed
    code, method = data["text/plain"], inspect.getsource(dc.Mixture.score)
    indent = len(method) - len(method.lstrip())
    assert indent == 4
    lines = [line[4:] for line in method.rstrip().splitlines()]
    assert code == "\n".join([*lines, "", inspect.getsource(dc.q_step).rstrip()])
    names = "diffusion_core.mixtures.Mixture.score, diffusion_core.process.q_step"
    assert data["text/markdown"] == f"`{names}`\n\n```python\n{code}\n```"
    compile(code, "shown", "exec")


def test_points_are_drawn_where_they_are():
    x = normal(20, 2, dtype=torch.float32).requires_grad_()
    _, (one, other) = lab.figure(2)
    artist = lab.draw_points(one, x, color=lab.RED, limit=2.5, title="twenty")
    assert_array_equal(artist.get_xdata(), x.detach()[:, 0].numpy())
    assert_array_equal(artist.get_ydata(), x.detach()[:, 1].numpy())
    assert (one.get_xlim(), one.get_ylim()) == ((-2.5, 2.5), (-2.5, 2.5))
    assert (one.get_title(), artist.get_color(), one.get_aspect()) == ("twenty", lab.RED, 1)
    labels = ("first coordinate", "second coordinate")
    assert (one.get_xlabel(), one.get_ylabel()) == labels
    assert (artist.get_linestyle(), artist.get_marker()) == ("None", "o")
    artist = lab.draw_points(other, x)
    assert (other.get_xlim(), other.get_ylim()) == ((-3.2, 3.2), (-3.2, 3.2))
    assert (other.get_title(), artist.get_color()) == ("", lab.BLUE)


def pictures(count: int, height: int, width: int) -> torch.Tensor:
    """Images in [-1, 1] without a black pixel, so that borders are told apart."""
    return normal(count, 1, height, width, dtype=torch.float32).abs().clamp(0.1, 1)


@pytest.mark.parametrize("count, columns", [(1, 1), (5, 2), (6, 3), (2, 4)])
def test_a_sheet_holds_the_images_row_by_row_between_black_lines(count, columns):
    height, width = 3, 2
    images = pictures(count, height, width)
    sheet = lab.image_grid(images, columns)
    rows = math.ceil(count / columns)
    assert sheet.shape == (rows * (height + 1) + 1, columns * (width + 1) + 1)
    assert not sheet[:: height + 1].any() and not sheet[:, :: width + 1].any()
    inner = np.delete(sheet, np.s_[:: height + 1], 0)
    inner = np.delete(inner, np.s_[:: width + 1], 1)
    found = inner.reshape(rows, height, columns, width).swapaxes(1, 2).reshape(-1, height, width)
    assert_allclose(found[:count], (images[:, 0].numpy() + 1) / 2, rtol=0, atol=1e-6)
    assert not found[count:].any()
    assert lab.image_grid(torch.full((1, 1, 1, 1), 7.0), 1).max() == 1
    assert lab.image_grid(torch.full((1, 1, 1, 1), -7.0), 1).min() == 0


def test_images_are_drawn_with_labels_above_their_columns():
    _, (ax, bare) = lab.figure(2)
    images = pictures(5, 3, 4)
    artist = lab.draw_images(ax, images, 3, labels=["a", "b", "c"], note="drawn")
    sheet = lab.image_grid(images, 3)
    assert_array_equal(np.asarray(artist.get_array()).reshape(sheet.shape), sheet)
    columns = np.flatnonzero(sheet.any(0)).reshape(3, 4)
    assert_allclose(ax.get_xticks(), columns.mean(1), rtol=1e-12)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b", "c"]
    assert len(ax.get_yticks()) == 0 and ax.get_xlabel() == "drawn"
    shown = ax.xaxis.get_tick_params()
    sides = [shown[side] for side in ("top", "bottom", "labeltop", "labelbottom")]
    assert sides == [False, False, True, False]
    height, width = sheet.shape
    assert (ax.get_xlim(), ax.get_ylim()) == ((-0.5, width - 0.5), (height - 0.5, -0.5))
    lab.draw_images(bare, images, 3)
    assert len(bare.get_xticks()) == 0 and bare.get_xlabel() == ""


def test_pixels_are_black_at_vmin_and_white_at_vmax_with_the_first_row_on_top():
    _, (ax, unit) = lab.figure(2)
    pixels = torch.arange(6.0).reshape(2, 3)
    artist = lab.draw_pixels(ax, pixels, vmin=-1, vmax=5)
    assert (artist.norm.vmin, artist.norm.vmax, artist.get_cmap().name) == (-1, 5, "gray")
    assert_array_equal(np.asarray(artist.get_array()).reshape(2, 3), pixels.numpy())
    assert (ax.get_xlim(), ax.get_ylim(), ax.get_aspect()) == ((-0.5, 2.5), (1.5, -0.5), 1)
    assert artist.get_extent() == [-0.5, 2.5, 1.5, -0.5] and artist in ax.images
    artist = lab.draw_pixels(unit, pixels / 6)
    assert (artist.norm.vmin, artist.norm.vmax) == (0, 1)
    assert_allclose(artist.cmap(artist.norm([0.0, 1.0]))[:, :3], [[0] * 3, [1] * 3])


def test_a_figure_is_shown_as_a_picture_with_its_sentence(monkeypatch):
    shown = []
    monkeypatch.setattr(plotting, "display", lambda data, **options: shown.append((data, options)))
    fig, (ax,) = lab.figure(width=2, height=1)
    ax.plot([0, 1])
    lab.show(fig, "A line rises.")
    ((data, options),) = shown
    assert data["text/plain"] == "A line rises." and re.match("iVBORw0KGgo", data["image/png"])
    assert options == {"metadata": {"image/png": {"alt": "A line rises."}}, "raw": True}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_halves_and_tensors_that_ask_for_gradients_are_drawn(dtype):
    _, (ax,) = lab.figure()
    x = torch.ones(3, 2, dtype=dtype, requires_grad=True)
    assert lab.draw_points(ax, x).get_xdata().tolist() == [1, 1, 1]
    pixels = lab.draw_pixels(ax, x)
    pixels.set_data(0 * x)
    assert pixels.get_array().shape == (3, 2)

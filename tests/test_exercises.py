"""Exercises answer well: right answers pass, wrong ones hear what is wrong, for every exercise.

tests/answers/lesson_NN.py holds two dicts. RIGHT = {"NN.1": [f, g]}: at least two right answers
that differ in form. WRONG = {"NN.1": [("fragment of the expected sentence", f), ...]}: at least
four wrong ones. They are written without a look at `mistakes`: loops, einsum, another order.
"""

import importlib.util
import math
import re
import signal
import threading
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import diffusion_lab as lab
from diffusion_lab import calling, compare, exercises, feedback, plotting
from diffusion_lab.exercises import Exercise

HERE = Path(__file__).parent
SOURCES = sorted((HERE.parent / "notebooks" / "src").glob("[0-9]*.py"))
NAMES = [name for number in exercises.lessons() for name in exercises.lesson(number)]
EVERY = pytest.mark.parametrize("name", NAMES)
pytestmark = pytest.mark.filterwarnings("ignore::diffusion_core.PriorGapWarning")


@cache
def answers(number):
    """Load tests/answers/lesson_NN.py."""
    path = HERE / "answers" / f"lesson_{number}.py"
    spec = importlib.util.spec_from_file_location(f"answers_{number}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def right(name):
    return answers(name.split(".")[0]).RIGHT[name]


def wrong(name):
    return answers(name.split(".")[0]).WRONG[name]


def said(name, answer, seed):
    return feedback.verdict(exercises.find(name), answer, torch.Generator().manual_seed(seed))


@cache
def verdicts_on_wrong(name, seed):
    return [said(name, answer, seed) for _, answer in wrong(name)]


def made(name, function):
    """Return a function of the bank as an answer: a number where a number is asked."""
    return function() if exercises.find(name).cases(torch.Generator()) == [()] else function


# The exercises.


def test_there_are_exercises_and_every_answer_belongs_to_one():
    files = sorted((HERE / "answers").glob("lesson_*.py"))
    assert [path.stem.removeprefix("lesson_") for path in files] == exercises.lessons()
    for number in exercises.lessons():
        module = answers(number)
        assert list(module.RIGHT) == list(module.WRONG) == list(exercises.lesson(number))


@EVERY
def test_an_exercise_has_hints_and_enough_answers(name):
    exercise = exercises.find(name)
    assert 1 <= len(exercise.hints) <= 3
    assert len(exercise.mistakes) >= 4 and len(wrong(name)) >= 4
    assert len(right(name)) >= 2
    for sentence in [*exercise.mistakes, *exercise.hints]:
        assert sentence[-1] in ".?", sentence


@EVERY
def test_right_answers_are_accepted_by_a_wide_margin(name, monkeypatch):
    monkeypatch.setattr(compare, "RTOL", {k: v / 10 for k, v in compare.RTOL.items()})
    for seed in range(3):
        for answer in [made(name, exercises.find(name).truth), *right(name)]:
            assert said(name, answer, seed).startswith("✓ Right")


@EVERY
def test_wrong_answers_hear_what_is_wrong_with_them(name):
    for seed in range(3):
        for (fragment, _), verdict in zip(wrong(name), verdicts_on_wrong(name, seed), strict=True):
            assert verdict.startswith("✗ Not yet. ")
            assert fragment in verdict


@EVERY
def test_fragments_fit_one_mistake_only(name):
    for fragment, _ in wrong(name):
        assert sum(fragment in sentence for sentence in exercises.find(name).mistakes) <= 1, (
            fragment
        )


@EVERY
def test_named_mistakes_are_told_from_the_truth_by_a_wide_margin(name, monkeypatch):
    monkeypatch.setattr(compare, "RTOL", {k: v * 10 for k, v in compare.RTOL.items()})
    monkeypatch.setattr(feedback, "TYPED_RTOL", feedback.TYPED_RTOL * 10)
    for seed in range(3):
        for sentence, mistake in exercises.find(name).mistakes.items():
            assert said(name, made(name, mistake), seed) == f"✗ Not yet. {sentence}"


@EVERY
def test_cases_are_fresh(name):
    def texts(seed):
        return str(exercises.find(name).cases(torch.Generator().manual_seed(seed)))

    assert texts(0) == texts(0)
    assert texts(0) != texts(1) or exercises.find(name).cases(torch.Generator()) == [()]


@EVERY
def test_an_untouched_starter_is_not_attempted(name):
    assert said(name, None, 0).startswith("○ Not attempted yet")
    assert said(name, lambda *case: None, 0).startswith("○ Not attempted yet")


def test_the_share_of_wrong_answers_rejected(capsys):
    verdicts = [verdict[0] for name in NAMES for verdict in verdicts_on_wrong(name, 0)]
    share = verdicts.count("✗") / len(verdicts)
    with capsys.disabled():
        print(f"\n{len(verdicts)} wrong answers to {len(NAMES)} exercises, {share:.0%} rejected")
    assert share == 1


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_lesson_checks_each_of_its_exercises_and_offers_its_hints(source):
    text, number = source.read_text("utf-8"), source.stem.split("_")[0]
    wanted = list(exercises.lesson(number)) if number in exercises.lessons() else []
    assert re.findall(r'^lab\.check\("([^"]*)", \w+\)$', text, re.M) == wanted
    assert re.findall(r'^# lab\.hint\("([^"]*)"\)$', text, re.M) == wanted


# What is said about any answer.


def double(x, t):
    return 2 * x * t


def _cases(generator):
    wide = torch.randn(3, 2, generator=generator)
    return [(wide, 1), (torch.randn(2, 2, generator=generator, dtype=torch.float64), 5)]


TOY = Exercise(double, _cases, {"Three times.": lambda x, t: 3 * x * t}, ("Vague.", "Plain."))
PAIR = TOY._replace(truth=lambda x, t: (x, double(x, t)), mistakes={})
NUMBER = Exercise(lambda: 0.125, lambda generator: [()], {"Half of it.": lambda: 1 / 16}, ("h.",))
COUNT = NUMBER._replace(truth=lambda: 36928)


def in_place(x, t):
    x *= 2 * t
    return x


def in_place_of_list(x, t):
    x.resize_(1)
    return x


def endless(x, t):
    try:
        while True:
            x = x + 1
    except Exception:
        return x


def only_at_first(x, t):
    return double(x, t) if t == 1 else None


def breaks_the_graph(x, t):
    y = x.exp()
    y += 1
    return double(x, t) + 0 * y


ANSWERS = {
    "right": (TOY, lambda x, t: x * t + x * t, "✓ Right"),
    "a finer dtype": (TOY, lambda x, t: double(x.double(), t), "✓ Right"),
    "a coarser dtype": (TOY, lambda x, t: double(x, t).float(), "float32, and should be"),
    "named": (TOY, lambda x, t: x * t + double(x, t), "✗ Not yet. Three times."),
    "a number": (TOY, lambda x, t: x + 7, "A number should be"),
    "all by one factor": (TOY, lambda x, t: -double(x, t), "Yours are all -1 times"),
    "where": (TOY, lambda x, t: x + 7, "This was with x = [["),
    "shape": (TOY, lambda x, t: double(x, t)[:1], "should have shape (2, 2), yours (1, 2)"),
    "a string": (TOY, lambda x, t: "2x", "should be a Tensor, yours is a str"),
    "complex": (TOY, lambda x, t: 1j * x, "yours is a Tensor of torch.complex128."),
    "a tuple": (TOY, lambda x, t: (x, x), "yours is a tuple of 2"),
    "none later": (TOY, only_at_first, "is a `return` missing?"),
    "not a function": (TOY, 3.0, "should be a function, yours is a float"),
    "nan": (TOY, lambda x, t: x * math.nan, "holds NaN"),
    "huge": (TOY, lambda x, t: 10**400, "✗ Not yet. "),
    "raises": (TOY, lambda x, t: x.nothing, "stopped with AttributeError: 'Tensor' object has"),
    "arguments": (TOY, lambda x: x, "stopped with TypeError"),
    "exits": (TOY, lambda x, t: exit(), "stopped with SystemExit"),
    "in place": (TOY, in_place, "in place"),
    "resized": (TOY, in_place_of_list, "in place"),
    "random": (TOY, lambda x, t: torch.randn_like(x), "draws random numbers"),
    "detached": (TOY, lambda x, t: double(x, t).detach(), "no gradient"),
    "half detached": (TOY, lambda x, t: x * t + (x * t).detach(), "✓ Right"),
    "broken graph": (TOY, breaks_the_graph, "no gradient"),
    "a right pair": (PAIR, lambda x, t: [x, double(x, t)], "✓ Right"),
    "a wrong pair": (PAIR, lambda x, t: (x, x + 7), "In part 2 of the result: A number"),
    "one of a pair": (PAIR, double, "should be 2 things, yours is a Tensor"),
    "three of a pair": (PAIR, lambda x, t: (x, x, x), "2 things, yours is a tuple of 3"),
    "typed": (NUMBER, 0.125, "✓ Right"),
    "typed in four digits": (NUMBER, 0.12508, "✓ Right"),
    "typed tensor": (NUMBER, torch.tensor(0.125), "✓ Right"),
    "typed array": (NUMBER, np.array(0.125), "✓ Right"),
    "typed array too large": (NUMBER, np.array([0.126]), "Your number is too large."),
    "typed NumPy": (NUMBER, np.float32(0.125), "✓ Right"),
    "typed and named": (NUMBER, 0.0625, "Half of it."),
    "typed too large": (NUMBER, 0.126, "Your number is too large."),
    "typed too small": (NUMBER, -1, "Your number is too small."),
    "typed nan": (NUMBER, math.nan, "holds NaN"),
    "typed string": (NUMBER, "1/8", "should be a number, yours is a str"),
    "typed pair": (NUMBER, torch.ones(2), "should have shape (), yours (2,)"),
    "counted": (COUNT, 36928.0, "✓ Right"),
    "counted almost": (COUNT, 36927, "too small"),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_what_is_said_about_an_answer(kind):
    exercise, answer, fragment = ANSWERS[kind]
    assert fragment in feedback.verdict(exercise, answer, torch.Generator())


def test_the_first_of_several_mistakes_is_named():
    both = TOY._replace(mistakes={"First.": lambda x, t: 3 * x, "Second.": lambda x, t: x + x + x})
    assert feedback.verdict(both, lambda x, t: 3 * x, torch.Generator()).endswith("First.")


def test_arguments_that_ask_for_a_gradient_each_get_one():
    def cases(generator):
        return [tuple(torch.randn(2, 3, generator=generator).requires_grad_()) for _ in range(2)]

    exercise = TOY._replace(truth=lambda a, b: a * b, cases=cases, mistakes={})
    generator = torch.Generator()
    assert "✓" in feedback.verdict(exercise, lambda a, b: b * a, generator)
    assert "no gradient" in feedback.verdict(exercise, lambda a, b: a.detach() * b, generator)
    assert "in place" in feedback.verdict(exercise, lambda a, b: a.mul_(b), generator)


def test_tiny_numbers_are_compared_by_their_own_size():
    tiny = TOY._replace(truth=lambda x, t: 1e-12 * x, mistakes={})
    assert "✓" in feedback.verdict(tiny, lambda x, t: 0 * x, torch.Generator())
    tiny = tiny._replace(relative=True)
    assert "✗" in feedback.verdict(tiny, lambda x, t: 2e-12 * x, torch.Generator())


TIMERS = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this platform has no timers")


def asleep(x, t):
    time.sleep(600)


def in_its_own_time(x, t):
    """Right, and slow by the clock on the wall, as on a busy machine."""
    time.sleep(0.25)
    return double(x, t)


def clocks():
    handlers = [signal.getsignal(number) for number in (signal.SIGPROF, signal.SIGALRM)]
    return handlers, [signal.getitimer(t) for t in (signal.ITIMER_PROF, signal.ITIMER_REAL)]


LIMITS = {  # the seconds of computing and on the wall, the answer, what is said
    "a loop": (
        (0.2, 600.0),
        endless,
        "✗ Not yet. Your function was still running after 0.2 s of computing: "
        "does a loop never end?",
    ),
    "a wait": (
        (600.0, 0.2),
        asleep,
        "✗ Not yet. Your function was still running after 0.2 s: does it wait for something?",
    ),
    "a busy machine": ((0.2, 600.0), in_its_own_time, "✓ Right, on every case tried."),
}


@TIMERS
@pytest.mark.parametrize("limits, answer, sentence", LIMITS.values(), ids=LIMITS)
def test_an_answer_has_a_limit_and_the_clocks_are_put_back(limits, answer, sentence, monkeypatch):
    for name, seconds in zip(("CPU_SECONDS", "WALL_SECONDS"), limits, strict=True):
        monkeypatch.setattr(calling, name, seconds)
    before = clocks()
    assert before[1] == [(0, 0), (0, 0)]
    assert feedback.verdict(TOY, answer, torch.Generator()) == sentence
    assert clocks() == before


@TIMERS
def test_a_call_inside_a_call_leaves_the_limits_of_the_outer_one(monkeypatch):
    monkeypatch.setattr(calling, "CPU_SECONDS", 0.2)

    def outer():
        inside = calling.call(endless, (0, 1))
        return inside, clocks()[1]

    before = clocks()
    inside, (computing, waiting) = calling.call(outer, ())
    assert inside.cause == "endless" and clocks() == before
    assert 0 < computing[0] < 1 and 0 < waiting[0] <= calling.WALL_SECONDS


def test_outside_the_main_thread_nothing_is_timed():
    verdicts = []

    def work():
        verdicts.append(feedback.verdict(TOY, double, torch.Generator()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert verdicts == ["✓ Right, on every case tried."]


def test_an_answer_is_checked_on_every_device(device):
    def only_elsewhere(x, t):
        return double(x, t) + (x.device.type == device.type)

    assert "✗" in feedback.verdict(TOY, only_elsewhere, torch.Generator())


def test_a_network_goes_where_the_tensors_go_and_stays_where_it_was():
    layer = torch.nn.Linear(2, 3)
    x, moved = calling.on(torch.device("meta"), (torch.ones(2), layer))
    assert x.is_meta and moved.weight.is_meta and not layer.weight.is_meta


def test_float64_does_not_go_to_mps():
    single, double = torch.ones(1), torch.ones(1, dtype=torch.float64)
    assert calling.on(torch.device("mps"), (single, [double])) is None
    assert calling.on(torch.device("cpu"), (single, [double])) == (single, [double])


# What a lesson shows.


@pytest.fixture
def shown(monkeypatch):
    bundles = []
    monkeypatch.setattr(plotting, "display", lambda data, raw: bundles.append(data))
    monkeypatch.setattr(feedback, "_shown", feedback.Counter())
    monkeypatch.setattr(feedback, "find", {"00.1": TOY}.__getitem__)
    return bundles


def test_a_verdict_is_told_by_symbol_text_and_colour(shown):
    for answer, symbol in ((None, "○"), (double, "✓"), (lambda x, t: x, "✗")):
        lab.check("00.1", answer)
        assert shown[-1]["text/plain"].startswith(symbol)
        assert symbol in shown[-1]["text/html"]
        assert plotting.COLOURS[symbol] in shown[-1]["text/html"]


def test_a_verdict_is_escaped(shown):
    lab.check("00.1", lambda x, t: {}["<b>"])
    assert "KeyError: '<b>'" in shown[-1]["text/plain"]
    assert "&lt;b&gt;" in shown[-1]["text/html"]


def test_hints_come_one_at_a_time_and_end(shown):
    for _ in range(4):
        lab.hint("00.1")
    end = "○ No more hints: the solution is folded below the check."
    texts = [data["text/plain"] for data in shown]
    assert texts == ["○ Hint 1 of 2: Vague.", "○ Hint 2 of 2: Plain.", end, end]


@pytest.mark.parametrize("name", ["02.9", "99.1", "two"])
def test_an_exercise_that_does_not_exist(name):
    with pytest.raises(ValueError, match=f"no exercise '{name}'"):
        lab.check(name, double)


def test_settings_that_an_answer_leaves_changed_are_put_back():
    settings = (torch.is_grad_enabled, torch.get_default_dtype, torch.get_num_threads)
    before = [setting() for setting in settings]

    def careless(x, t):
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.bfloat16)
        torch.set_num_threads(before[2] + 1)
        torch.set_default_device("meta")
        raise KeyError(x)

    assert calling.call(careless, (torch.ones(1), 1)).cause == "KeyError"
    assert [setting() for setting in settings] == before
    try:
        assert torch.ones(1).device.type == "cpu"
    finally:
        torch.set_default_device(None)

"""Bad values of an argument by kind, beside a good one: for tests/test_generated_bad_input.py."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import hypothesis.strategies as st
import numpy as np
import torch
from torch import Tensor, nn

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
ODD = {
    "None": None,
    "str": "nonsense",
    "list": [1.0],
    "dict": {"a": 1},
    "object": object(),
    "bool": True,
    "complex": 1j,
    "float": 0.5,
    "int": 3,
    "tuple": (None,),
    "function": len,
    "array": np.array([1.0, 2.0]),
    "tensor": torch.tensor([0.5, 0.25], dtype=torch.float64),
    "module": nn.Identity(),
}


class Given(NamedTuple):
    """A good value of an argument, bad ones by kind, the outermost good ones, its other names."""

    good: object
    bad: dict[str, st.SearchStrategy]
    legal: tuple = ()
    names: tuple[str, ...] = ()


def one_of(*values: object) -> st.SearchStrategy:
    return st.sampled_from(values)


def odd(*but: str) -> st.SearchStrategy:
    """Return what is of another type than these."""
    return one_of(*(value for name, value in ODD.items() if name not in but))


# Bad values by kind.


def spoiled(x: Tensor, *bad: object) -> st.SearchStrategy:
    """Return x with one number replaced, at any place."""

    def spoil(place: int, value: object) -> Tensor:
        x_bad = x.clone().contiguous()
        x_bad.view(-1)[place] = value
        return x_bad

    return st.builds(spoil, st.integers(0, x.numel() - 1), one_of(*bad))


def numbers_of(x: Tensor) -> dict[str, st.SearchStrategy]:
    most = torch.finfo(x.dtype).max
    return {
        "NaN": spoiled(x, math.nan),
        "infinity": spoiled(x, math.inf, -math.inf),
        "range": spoiled(x, most, -most) | one_of(torch.full_like(x, most)),
        "dtype": one_of(x.long(), x > 0, x.to(torch.complex64), *(x.to(d) for d in FLOATS)),
        "device": one_of(x.to("meta")),
        "empty": one_of(x[:0], x[..., :0]),
    }


def batch(x: Tensor, *but: str, **more: st.SearchStrategy) -> Given:
    """Return floating-point data (B, ...)."""
    shapes = [x[None], x[..., None], x[0], x[:-1], x[..., :1], x[:, None], x.flatten(), x[0, 0]]
    bad = {"type": odd("tensor", *but), "shape": one_of(*shapes)} | numbers_of(x) | more
    return Given(x, bad)


def table(x: Tensor, *but: str, least: float = 0.0) -> Given:
    """Return one number for each row, none below `least`."""
    shapes = [x[None], x[:, None], x[:-1], torch.cat([x, x[-1:]]), x[-1]]
    bad = {"type": odd("tensor", *but), "shape": one_of(*shapes)} | numbers_of(x)
    return Given(x, bad | {"range": spoiled(x, least - 1, least - 1e-3, torch.finfo(x.dtype).max)})


def integers(x: Tensor, low: int, high: int, *but: str) -> Given:
    """Return one integer in low..high for each example, as a tensor."""
    far = torch.iinfo(x.dtype)
    bad = {
        "type": odd("tensor", *but),
        "shape": one_of(x[None], x[:, None], x[:-1], torch.cat([x, x])),
        "dtype": one_of(x.double(), x.bool(), x.to(torch.complex64), x.double() + 0.5),
        "NaN": one_of(x * math.nan, math.nan),
        "infinity": one_of(x / 0.0, math.inf),
        "range": spoiled(x, low - 1, high + 1, far.min, far.max),
        "device": one_of(x.to("meta")),
        "empty": one_of(x[:0]),
    }
    return Given(x, bad, (torch.full_like(x, low), torch.full_like(x, high), x.int()))


def step(t: int, low: int, high: int) -> Given:
    """Return one integer in low..high."""
    bad = {
        "type": odd("int"),
        "NaN": one_of(math.nan, math.inf),
        "range": st.integers(max_value=low - 1) | st.integers(min_value=high + 1),
    }
    return Given(t, bad, (low, high))


def steps(t: Tensor, low: int, high: int) -> Given:
    """Return t in low..T for each example, or one for all."""
    many, one = integers(t, low, high, "int"), step(high - 1, low, high)
    both = {k: many.bad[k] | one.bad[k] for k in one.bad}
    return Given(many.good, many.bad | both, many.legal + one.legal)


def count(n: int, low: int = 1, high: int | None = None) -> Given:
    """Return a number of things, from low (to high)."""
    above = st.nothing() if high is None else st.integers(min_value=high + 1)
    bad = {
        "type": odd("int"),
        "NaN": one_of(math.nan, math.inf),
        "range": st.integers(max_value=low - 1) | above,
        "shape": one_of([n], torch.tensor([n, n]), (n,)),
    }
    return Given(n, bad, (n, low) if high is None else (low, high))


def number(v: float, low: float = -math.inf, high: float = math.inf, ends: str = "[]") -> Given:
    """Return a number in [low, high], without its ends in ()."""
    below = st.floats(max_value=low, allow_nan=False, exclude_max=ends[0] == "[")
    above = st.floats(min_value=high, allow_nan=False, exclude_min=ends[1] == "]")
    far = [below] * (low > -math.inf) + [above] * (high < math.inf)
    edges = [low] * (ends[0] == "[") + [high] * (ends[1] == "]")
    bad = {
        "type": odd("int", "float", "bool"),
        "NaN": one_of(math.nan),
        "infinity": one_of(math.inf, -math.inf),
        "shape": one_of([v], torch.tensor([v, v]), (v, v)),
    }
    bad |= {"range": st.one_of(far)} if far else {}
    return Given(v, bad, tuple(edge for edge in edges if math.isfinite(edge)))


def optional(given: Given) -> Given:
    """Return what may be left out."""
    dropped = {k: s.filter(lambda v: v is not None) for k, s in given.bad.items()}
    return given._replace(bad=dropped, legal=(*given.legal, None))


def word(good: str, *others: str) -> Given:
    """Return one of some words."""
    known = {good, *others}
    bad = {
        "type": odd("str"),
        "range": st.text().filter(lambda text: text not in known),
        "empty": one_of(""),
    }
    return Given(good, bad, (good, *others))


def function(good: Callable, *answers: object) -> Given:
    """Return a function, spoiled by what it answers."""
    bad = {"type": odd("function", "module")}
    constant = [partial(lambda answer, *_, **__: answer, answer) for answer in answers]
    return Given(good, bad | ({"answer": one_of(*constant)} if answers else {}))


def a_model(good: Callable, x: Tensor) -> Given:
    """Return an eps_model and functions whose answer isn't like x."""
    some = [x[:1], x[..., :1], x[None], x.long(), x.float(), x.half()]
    given = function(good, None, 1.0, "eps", x.tolist(), x.to("meta"), *some)
    infinite = function(good, x * math.nan, x / 0.0).bad["answer"]
    return named(given._replace(bad=given.bad | {"infinite answer": infinite}), "eps", "v", "x0")


def record(good: NamedTuple, **fields: Given) -> Given:
    """Return a NamedTuple, spoiled in one of its fields."""
    bad = {}
    for field, given in fields.items():
        place = lambda value, field=field: good._replace(**{field: value})  # noqa: E731
        bad |= {f"{field}: {kind}": values.map(place) for kind, values in given.bad.items()}
    return Given(good, bad, (), tuple(fields))


def named(given: Given, *names: str) -> Given:
    """Return an argument that a message may call by other names, too."""
    return given._replace(names=(*given.names, *names))


def typed(given: Given) -> Given:
    """Return a record that may also be replaced by what is none; as `self` it never is."""
    return given._replace(bad={"type": odd(), **given.bad})


def sequence(good: tuple, *bad: object, legal: tuple = ()) -> Given:
    shapes = one_of(*bad)
    return Given(good, {"type": odd(), "items": shapes, "empty": one_of((), [])}, legal)


def keywords(*bad: dict, **good: object) -> Given:
    return Given(
        good,
        {"name": one_of({**good, "nonsense": 1}), "value": one_of(*bad)}
        if bad
        else {"name": one_of({**good, "nonsense": 1})},
        (),
        ("nonsense",),
    )

"""Algorithm 1 and its loop, on problems whose answers are known."""

import itertools
import math
import re
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from oracles import assert_mean, initialised, normal, other_defaults, seeded
from torch import nn
from torch.testing import assert_close
from torch.utils.data import DataLoader, TensorDataset

import diffusion_core as dc
from diffusion_core import nets, training
from diffusion_core.progress import progress_bar

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

SCHEDULE = dc.vp_schedule(10)


class Weight(nn.Module):
    """A model of one weight, to be drawn to the mean of the data."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1))
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x_t, t):
        return self.w.expand_as(x_t)


def distance(model, x0):
    return ((model.w - x0) ** 2).mean()


def batches(value=3.0):
    return itertools.repeat(torch.full((4, 1), value))


@pytest.fixture(autouse=True)
def full_runs(monkeypatch):
    """These tests are about whole runs, whatever the shell asks for."""
    monkeypatch.delenv("DIFFUSION_SHORT_RUN", raising=False)


# Lines 2 to 5 of Algorithm 1.


def test_trap_5_drawn_t_covers_1_to_T_exactly_and_evenly(generator):
    t = dc.draw_t(SCHEDULE, torch.zeros(20_000, 2), generator)
    assert t.dtype == torch.int64 and t.shape == (20_000,)
    values, counts = t.unique(return_counts=True)
    assert values.tolist() == list(range(1, 11))
    assert ((counts - 2000).abs() < 5 * math.sqrt(2000)).all()


@pytest.mark.parametrize("loss", [dc.eps_loss, dc.v_loss])
def test_trap_5_the_loss_asks_about_every_t_with_its_own_noise(loss, generator):
    """What the model sees at t must have the moments of q(x_t), x_0 = 2, and no other."""
    seen = {}

    def model(x_t, t):
        seen.update(x_t=x_t, t=t)
        return torch.zeros_like(x_t)

    x0 = torch.full((40_000, 1), 2.0, dtype=torch.float64)
    loss(SCHEDULE, model, x0, generator=generator)
    assert set(seen["t"].tolist()) == set(range(1, 11))
    for t in range(1, 11):
        x_t, q = seen["x_t"][seen["t"] == t], dc.q_marginal(SCHEDULE, x0[:1], t)
        assert_mean(x_t, q.mean[0])
        assert_mean((x_t - q.mean) ** 2, q.var.flatten()[0])


def test_the_losses_of_a_perfect_model_are_zero(generator):
    x0 = torch.full((64, 3), 0.7, dtype=torch.float64)

    def eps_model(x_t, t):
        return dc.eps_from_x0(SCHEDULE, x_t, x0, t)

    def v_model(x_t, t):
        return dc.v_target(SCHEDULE, x0, eps_model(x_t, t), t)

    zero = torch.zeros((), dtype=torch.float64)
    assert_close(dc.eps_loss(SCHEDULE, eps_model, x0, generator=generator), zero)
    assert_close(dc.v_loss(SCHEDULE, v_model, x0, generator=generator), zero)


@pytest.mark.parametrize("loss", [dc.eps_loss, dc.v_loss])
def test_the_loss_of_predicting_zero_is_the_second_moment_of_the_target(loss, generator):
    """E eps^2 = 1, and E v^2 = 1 for data of unit variance, per dimension."""
    x0 = torch.randn(20_000, 2, generator=generator)
    got = loss(SCHEDULE, lambda x_t, t: torch.zeros_like(x_t), x0, generator=generator)
    assert got.shape == ()
    assert abs(got.item() - 1) < 5 * math.sqrt(2 / 40_000)


@pytest.mark.parametrize("loss", [dc.eps_loss, dc.v_loss])
@pytest.mark.parametrize("given", [torch.tensor([1, 10, 7, 7]), 10])
def test_the_losses_ask_about_the_t_that_is_given(loss, given, device):
    x0, seen = normal(4, 3).to(device), {}

    def model(x_t, t):
        seen.update(x_t=x_t, t=t)
        return 0.5 * x_t

    got = loss(SCHEDULE, model, x0, t=given, generator=seeded())
    t, eps = torch.as_tensor(given).expand(4).to(device), dc.standard_normal(x0, seeded())
    assert_close(seen, {"x_t": dc.q_sample(SCHEDULE, x0, t, eps), "t": t}, rtol=0, atol=0)
    target = eps if loss is dc.eps_loss else dc.v_target(SCHEDULE, x0, eps, t)
    assert_close(got, (target - 0.5 * seen["x_t"]).square().mean())
    for wrong in (0, 11, torch.tensor([1, 2, 3]), torch.tensor([1.0, 2.0, 3.0, 4.0])):
        with pytest.raises((ValueError, TypeError), match=r"^t must"):
            loss(SCHEDULE, model, x0, t=wrong)


def test_v_loss_weighs_the_same_error_by_one_over_alpha_bar():
    x0 = normal(1, 3)  # one example, one t: the weight is one number

    def v_model(x_t, t):
        seen.append(t)
        return x_t.sin()

    for seed in range(20):
        seen = []
        a = dc.v_loss(SCHEDULE, v_model, x0, generator=seeded(seed))
        eps_model = dc.eps_model_from_v(SCHEDULE, v_model)
        b = dc.eps_loss(SCHEDULE, eps_model, x0, generator=seeded(seed))
        assert_close(seen[0], seen[1])
        assert_close(a, b / SCHEDULE.alpha_bars[seen[0].item()], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("loss", [dc.eps_loss, dc.v_loss])
def test_losses_are_reproducible_on_every_device(loss, device):
    x0 = normal(8, 2, dtype=torch.float32).to(device)
    a, b, c = (loss(SCHEDULE, lambda x, t: 0.5 * x, x0, generator=seeded(s)) for s in (1, 1, 2))
    assert a.device.type == device.type
    assert_close(a, b, rtol=0, atol=0)
    assert a != c


# train()


def test_train_minimises_the_loss(device):
    model = Weight().to(device)
    data = itertools.repeat(torch.full((4, 1), 3.0, device=device))
    history = dc.train(model, distance, data, steps=200, lr=0.1)
    assert_close(model.w.detach().cpu(), torch.tensor([3.0]), rtol=0, atol=0.01)
    assert len(history.losses) == 200 and history.losses[-1] < 1e-3 < history.losses[0]
    assert not history.interrupted and history.seconds > 0


def test_train_finds_the_best_linear_denoiser():
    """For T = 1 and data N(0, 1), the best eps_hat = c x_1 has c = sqrt(1 - alpha_bar_1)."""
    schedule, generator = dc.constant_schedule(1, 0.995), seeded()

    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.c = nn.Parameter(torch.zeros(()))

        def forward(self, x_t, t):
            return self.c * x_t

    model = Linear()
    data = (torch.randn(256, 1, generator=generator) for _ in itertools.count())

    def loss(model, x0):
        return dc.eps_loss(schedule, model, x0, generator=generator)

    dc.train(model, loss, data, steps=200, lr=0.05)
    assert_close(model.c.item(), schedule.marginal_vars[1].sqrt().item(), rtol=0, atol=0.01)


def test_on_progress_hears_of_every_step():
    heard = []
    dc.train(Weight(), distance, batches(), steps=20, on_progress=heard.append)
    assert heard == sorted(set(heard)) and heard[-1] == 1.0
    assert {n / 20 for n in range(1, 21)} <= set(heard)


@pytest.fixture
def clock(monkeypatch):
    """A clock of its own for train: each look at it takes an eighth of a second."""
    looks = itertools.count()
    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: next(looks) / 8))


@pytest.mark.usefixtures("clock")
def test_train_stops_by_seconds():
    history = dc.train(Weight(), distance, batches(), seconds=2.0)
    assert len(history.losses) == 16 and history.seconds == 17 / 8
    assert not history.interrupted


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("bounds, done", [((5, 60.0), 5), ((10**9, 0.5), 4)])
def test_train_stops_at_the_first_bound(bounds, done):
    steps, seconds = bounds
    history = dc.train(Weight(), distance, batches(), steps=steps, seconds=seconds)
    assert len(history.losses) == done


def test_the_bar_shows_the_time_left(monkeypatch, capsys):
    monkeypatch.setenv("TQDM_DISABLE", "0")
    dc.train(Weight(), distance, batches(), steps=20)
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"100%.*\| \d\d:\d\d, \d\d:\d\d left, loss \d+\.\d{3}", last), last


def test_an_interrupt_keeps_the_weights():
    model, heard = Weight(), []
    ema = dc.EMA(model)

    def stop(fraction):
        heard.append(fraction)
        if len(heard) == 10:
            raise KeyboardInterrupt

    history = dc.train(model, distance, batches(), steps=100, lr=0.1, ema=ema, on_progress=stop)
    assert history.interrupted and len(history.losses) == round(100 * heard[-1]) > 5
    assert model.w.item() > 0 and ema.model.w.item() > 0


@pytest.mark.parametrize("where", ["loss", "batches"])
def test_an_interrupt_may_come_at_any_moment(where):
    def loss(model, x0):
        if where == "loss" and calls.append(1) is None and len(calls) == 4:
            raise KeyboardInterrupt
        return distance(model, x0)

    def data():
        yield from itertools.islice(batches(), 3)
        raise KeyboardInterrupt

    calls, model = [], Weight()
    history = dc.train(model, loss, batches() if where == "loss" else data(), steps=100, lr=0.1)
    assert history.interrupted and len(history.losses) == 3 and model.w.item() > 0


def test_other_errors_are_not_swallowed():
    def fail(fraction):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        dc.train(Weight(), distance, batches(), steps=3, on_progress=fail)


def test_a_loss_that_is_not_finite_stops_the_run_before_it_reaches_the_weights():
    model = Weight()
    with pytest.raises(FloatingPointError, match="loss"):
        dc.train(model, lambda m, x: distance(m, x) * math.nan, batches(), steps=3)
    assert model.w.isfinite().all()


def test_one_wild_gradient_does_not_spoil_the_run():
    """Clipped, it is one step among others; unclipped, AdamW would stall for thousands."""
    scales = itertools.chain([1, 1, 1e6], itertools.repeat(1))
    model = Weight()
    dc.train(model, lambda m, x: next(scales) * distance(m, x), batches(), steps=200, lr=0.1)
    assert_close(model.w.item(), 3.0, rtol=0, atol=0.05)


ON, OFF = (
    ("1", "true", "TRUE", "yes", "on", " On "),
    ("", "0", "false", "False", "no", "off", "OFF"),
)


@pytest.mark.parametrize("value", ON + OFF)
def test_the_switches_of_the_environment_take_words(value, monkeypatch):
    for variable in ("DIFFUSION_SHORT_RUN", "TQDM_DISABLE"):
        monkeypatch.setenv(variable, value)
    assert dc.is_short_run() is (value in ON)
    with progress_bar(total=1) as bar:
        assert bar.disable is (value in ON)


@pytest.mark.parametrize("value", ["2", "flase", "-", "ja"])
def test_another_word_is_neither_on_nor_off(value, monkeypatch):
    for variable, ask in (("DIFFUSION_SHORT_RUN", dc.is_short_run), ("TQDM_DISABLE", progress_bar)):
        with monkeypatch.context() as patch, pytest.raises(ValueError) as error:
            patch.setenv(variable, value)
            ask()
        assert str(error.value).startswith(f"{variable} must be 1, true, yes, on, or 0, ")
        assert str(error.value).endswith(f"got {value!r}")


def test_short_runs_are_short(monkeypatch):
    monkeypatch.setenv("DIFFUSION_SHORT_RUN", "1")
    for bound in ({"steps": 10**6}, {"seconds": 600.0}):
        assert 1 <= len(dc.train(Weight(), distance, batches(), **bound).losses) <= 20
    assert len(dc.train(Weight(), distance, batches(), steps=2).losses) == 2


def test_training_twice_gives_the_same_weights():
    def run():
        model, generator = Weight(), seeded(5)

        def loss(model, x0):
            return dc.eps_loss(SCHEDULE, model, x0, generator=generator)

        return dc.train(model, loss, batches(), steps=20).losses, model.w.detach()

    assert_close(run(), run(), rtol=0, atol=0)


def test_float16_is_refused_as_nothing_scales_the_loss():
    with pytest.raises(ValueError, match=r"autocast must be torch\.bfloat16 or None"):
        dc.train(normalised(), dc.eps_loss, [], steps=1, autocast=torch.float16)


def test_bfloat16_autocast_trains_float32_weights():
    model = initialised(lambda: nn.Linear(4, 4))
    data = itertools.repeat(normal(8, 4, dtype=torch.float32))
    seen = []

    def loss(model, x0):
        y = model(x0)
        seen.append(y.dtype)
        return (y.float() - x0).square().mean()

    history = dc.train(model, loss, data, steps=30, lr=0.01, autocast=torch.bfloat16)
    assert set(seen) == {torch.bfloat16} and model.weight.dtype == torch.float32
    assert history.losses[-1] < history.losses[0]


@pytest.fixture
def quick_trial(monkeypatch):
    """Each look at the clock takes 0.2 s, so that a trial of seconds is one of some rounds."""
    clock = itertools.count(0.0, 0.2)
    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=clock.__next__))


@pytest.mark.usefixtures("quick_trial")
def test_the_bfloat16_trial_leaves_no_trace():
    model = initialised(lambda: nn.Linear(4, 4))
    before = [p.clone() for p in model.parameters()]
    answer = dc.bf16_is_faster(model, lambda m, x: m(x).square().mean(), torch.zeros(8, 4))
    assert isinstance(answer, bool)
    assert_close(list(model.parameters()), before, rtol=0, atol=0)
    assert all(p.grad is None for p in model.parameters())


def normalised() -> nn.Module:
    return initialised(lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4)))


@pytest.mark.usefixtures("quick_trial")
@pytest.mark.parametrize("raising", [False, True])
def test_the_bfloat16_trial_leaves_buffers_and_modes(raising):
    model, calls = normalised(), []
    model[2].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]

    def loss(model, x0):
        model.train(not model.training)
        calls.append(model(x0))
        if raising and len(calls) == 3:
            raise RuntimeError("mine")
        return calls[-1].float().square().mean()

    x0 = normal(8, 4, dtype=torch.float32)
    if raising:
        with pytest.raises(RuntimeError, match="mine"):
            dc.bf16_is_faster(model, loss, x0)
    else:
        dc.bf16_is_faster(model, loss, x0)
    assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert [module.training for module in model.modules()] == modes
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("how", ["end", "not finite", "gradient", "interrupt", "error", "batch"])
def test_however_a_run_ends_the_model_is_in_evaluation_without_gradients(how):
    """And the optimizer has its own rate again."""
    model, calls = normalised(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.25)
    stops = {"interrupt": KeyboardInterrupt, "error": RuntimeError}

    def loss(model, x0):
        calls.append(1)
        if len(calls) == 3 and how in stops:
            raise stops[how]
        value = model(x0).square().mean()
        value = value * (math.nan if how == "not finite" and len(calls) == 3 else 1)
        return (value * 0).sqrt() if how == "gradient" and len(calls) == 3 else value

    def data():
        for n in range(5):
            yield normal(8, 4, dtype=torch.float32) * (math.nan if how == "batch" and n == 3 else 1)

    wrong = dict.fromkeys(("not finite", "gradient"), FloatingPointError)
    wrong |= {"error": RuntimeError, "batch": ValueError}
    with pytest.raises(wrong[how]) if how in wrong else nullcontext():
        dc.train(model, loss, data(), steps=5, optimizer=optimizer)
    assert not any(module.training for module in model.modules())
    assert all(p.grad is None for p in model.parameters())
    assert optimizer.param_groups[0]["lr"] == 0.25


# EMA


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_the_average_of_halves_is_kept_in_float32(dtype):
    """In the weights' own dtype its small steps would be rounded away: it would never move."""
    model = Weight().to(dtype)
    model.w.data.fill_(1)
    ema, whole = dc.EMA(model), dc.EMA(model.float())
    model.to(dtype).w.data.fill_(2)
    ema.updates = whole.updates = 10**6  # the warm-up is over
    for _ in range(5000):
        ema.update(model)
        whole.update(model)
    assert whole.model.w.item() == pytest.approx(1.993, abs=1e-3)
    assert ema.model.w.dtype == dtype
    assert_close(ema.model.w, whole.model.w.to(dtype), rtol=0, atol=0)
    assert_close(ema.state_dict()["w"], whole.model.w, rtol=1e-6, atol=0, check_dtype=False)


def test_the_average_of_halves_goes_on_from_what_is_put_into_the_copy():
    model = Weight().bfloat16()
    ema = dc.EMA(model, decay=0.5)
    for _ in range(3):
        model.w.data.add_(0.1)
        ema.update(model)
    ema.model.w.data.fill_(8)
    ema.updates = 100
    ema.update(model)
    assert ema.model.w.item() == pytest.approx((8 + model.w.item()) / 2, rel=2**-8)


@pytest.mark.parametrize("other", [lambda: nn.Linear(1, 1), lambda: nn.Linear(2, 1)])
def test_an_average_follows_no_other_model(other):
    ema = dc.EMA(initialised(lambda: nn.Linear(2, 2)))
    before = {name: value.clone() for name, value in ema.state_dict().items()}
    with pytest.raises(ValueError, match=r"model must have weights like the average's, got .*Lin"):
        ema.update(initialised(other))
    assert ema.updates == 0
    assert_close(ema.state_dict(), before, rtol=0, atol=0)


def test_an_average_comes_back_from_its_state():
    model = Weight().bfloat16()
    ema, again = dc.EMA(model), dc.EMA(model)
    for n in range(40):
        model.w.data.fill_(n)
        ema.update(model)
        if n == 20:
            state = {name: value.clone() for name, value in ema.state_dict().items()}
            again.load_state_dict(state, ema.updates)
        if n > 20:
            again.update(model)
    assert again.updates == ema.updates == 40
    assert_close(again.state_dict(), ema.state_dict(), rtol=0, atol=0)


def test_ema_is_the_average_it_claims():
    model = Weight()
    ema, expected = dc.EMA(model, decay=0.7), 0.0
    for n in range(1, 40):
        with torch.no_grad():
            model.w.fill_(float(n))
        ema.update(model)
        decay = min(0.7, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * n
        assert_close(ema.model.w.item(), expected, rtol=1e-5, atol=0)


def test_ema_is_a_copy_in_evaluation_mode():
    model = initialised(lambda: nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    ema = dc.EMA(model)
    assert not ema.model.training and model.training
    with torch.no_grad():
        model[0].weight.add_(1.0)
    assert not torch.equal(ema.model[0].weight, model[0].weight)
    model(torch.randn(8, 2, generator=seeded()))
    ema.update(model)
    for ours, theirs in zip(ema.model.buffers(), model.buffers(), strict=True):
        assert_close(ours, theirs, rtol=0, atol=0)  # the integer counter too
    assert model.training and not ema.model.training
    assert not any(p.requires_grad for p in ema.model.parameters())


def test_train_updates_the_ema_after_each_step():
    model = Weight()
    ema = dc.EMA(model, decay=0.5)
    follow = dc.EMA(model, decay=0.5)
    dc.train(
        model, distance, batches(), steps=25, lr=0.1, ema=ema,
        on_progress=lambda _: follow.update(model),
    )  # fmt: skip
    assert ema.model.w.item() > 0
    assert_close(ema.model.w, follow.model.w, rtol=1e-6, atol=0)


# train(optimizer=, rate=)


def test_warmup_cosine_rises_then_falls_as_half_a_cosine():
    f = dc.warmup_cosine
    line = torch.linspace(0, 1, 401, dtype=torch.float64).tolist()
    values = torch.tensor([f(x) for x in line], dtype=torch.float64)
    assert isinstance(f(0.3), float) and ((values >= 0) & (values <= 1)).all()
    top = line.index(0.05)
    assert (values[: top + 1].diff() > 0).all() and (values[top:].diff() < 0).all()
    assert f(0.05) > 0.99 and f(1.0) == pytest.approx(0, abs=1e-12)
    # The half cosine of the whole run: f(1/2) = 1/2 and f'' = -pi^2 (f - 1/2), by differences.
    fall, h = values[top:], line[1]
    second = (fall[2:] - 2 * fall[1:-1] + fall[:-2]) / h**2
    assert_close(second, math.pi**2 * (0.5 - fall[1:-1]), rtol=0, atol=1e-3)
    assert f(0.5) == pytest.approx(0.5)


def plain(model):
    """Gradient descent whose own rate is not to be used."""
    return torch.optim.SGD(model.parameters(), lr=123.0)


def test_the_rate_is_lr_times_rate_of_the_fraction():
    """On (w - 3)^2, each step of gradient descent multiplies the error by 1 - 2 lr rate."""
    model, asked = Weight(), []

    def rate(fraction):
        asked.append(fraction)
        return 0.2 + fraction

    dc.train(
        model, distance, batches(), steps=20, lr=0.1, rate=rate, optimizer=plain(model),
        clip_norm=1e9,
    )  # fmt: skip
    assert len(asked) == 20 and 0 <= asked[0] < asked[-1] <= 1
    assert_close(torch.tensor(asked).diff(), torch.full((19,), 1 / 20), rtol=1e-4, atol=0)
    left = math.prod(1 - 0.2 * (0.2 + fraction) for fraction in asked)
    assert_close(model.w.item(), 3 - 3 * left, rtol=1e-5, atol=0)


@pytest.mark.usefixtures("clock")
def test_with_seconds_the_fraction_is_of_the_time():
    asked = []
    dc.train(Weight(), distance, batches(), seconds=1.0, rate=lambda f: asked.append(f) or 1.0)
    assert asked == [n / 8 for n in range(8)]


def test_the_default_rate_is_warmup_cosine():
    ends = []
    for options in ({}, {"rate": dc.warmup_cosine}, {"rate": lambda fraction: 1.0}):
        model = Weight()
        dc.train(model, distance, batches(), steps=25, lr=0.1, **options)
        ends.append(model.w.item())
    assert ends[0] == ends[1] != ends[2]


def test_the_default_optimizer_is_adamw():
    ends = []
    for given in (False, True):
        model = Weight()
        optimizer = torch.optim.AdamW(model.parameters()) if given else None
        dc.train(model, distance, batches(), steps=25, lr=0.1, optimizer=optimizer)
        ends.append(model.w.item())
    assert_close(*ends, rtol=1e-5, atol=0)


def test_a_given_optimizer_keeps_its_moments():
    """Two runs of 8 steps with one optimizer are one of 16, to the bit; with two, they differ."""

    def run(*steps, shared=True):
        model = Weight()
        optimizer = torch.optim.AdamW(model.parameters())
        for n in steps:
            if not shared:
                optimizer = torch.optim.AdamW(model.parameters())
            dc.train(
                model, distance, batches(), steps=n, lr=0.1, optimizer=optimizer,
                rate=lambda fraction: 1.0, clip_norm=1e9,
            )  # fmt: skip
        return model.w.item()

    assert run(8, 8) == run(16) != run(8, 8, shared=False)


def test_a_batch_of_several_tensors_is_handed_to_the_loss_as_it_is(device):
    x0, y = normal(4, 1, dtype=torch.float32), torch.arange(4)
    seen = []

    def loss(model, *batch):
        seen.append(batch)
        return distance(model, batch[0])

    dc.train(Weight().to(device), loss, itertools.repeat((x0, y)), steps=2)
    for batch in seen:
        assert_close(batch, (x0.to(device), y.to(device)), rtol=0, atol=0)
    with pytest.raises(ValueError, match="batch must hold finite numbers"):
        dc.train(Weight(), loss, itertools.repeat((x0 * math.nan, y)), steps=2)


def test_every_group_of_a_given_optimizer_is_trained():
    model = initialised(lambda: nn.Linear(2, 2))
    before = [p.detach().clone() for p in model.parameters()]
    groups = [{"params": [p], "lr": 9.0} for p in model.parameters()]
    x = normal(8, 2, dtype=torch.float32)
    dc.train(
        model, lambda m, x: m(x).square().mean(), itertools.repeat(x), steps=1, lr=0.5,
        rate=lambda fraction: 1.0, optimizer=torch.optim.SGD(groups), clip_norm=1e9,
    )  # fmt: skip
    twin = initialised(lambda: nn.Linear(2, 2))
    twin(x).square().mean().backward()
    for start, gradient, end in zip(before, twin.parameters(), model.parameters(), strict=True):
        assert_close(end.detach(), start - 0.5 * gradient.grad, rtol=1e-5, atol=1e-6)


def test_an_interrupt_keeps_the_moments_of_a_given_optimizer():
    model = Weight()
    optimizer = torch.optim.AdamW(model.parameters())

    def data():
        yield from itertools.islice(batches(), 4)
        raise KeyboardInterrupt

    history = dc.train(model, distance, data(), steps=10, lr=0.1, optimizer=optimizer)
    assert history.interrupted and optimizer.state[model.w]["step"] == 4


# What belongs together, and what a batch may be.


def rates_of_a_run(**options) -> list[list[float]]:
    """Return the learning rates of two groups, their own 1e-2 and 1e-5, at each of two steps."""
    model, seen = initialised(lambda: nn.Linear(2, 2)), []
    groups = [
        {"params": [p], "lr": lr} for p, lr in zip(model.parameters(), (1e-2, 1e-5), strict=True)
    ]
    optimizer = torch.optim.SGD(groups, lr=0.5)
    optimizer.register_step_pre_hook(lambda o, *_: seen.append([g["lr"] for g in o.param_groups]))
    x = itertools.repeat(normal(8, 2, dtype=torch.float32))
    loss = lambda m, x: m(x).square().mean()  # noqa: E731
    for _ in range(2):  # a second run starts where the first one did
        dc.train(model, loss, x, steps=2, optimizer=optimizer, **options)
        assert [group["lr"] for group in optimizer.param_groups] == [1e-2, 1e-5]
    assert seen[:2] == seen[2:]
    return seen[:2]


def test_a_given_optimizer_keeps_its_own_rates_and_rate_scales_them():
    assert rates_of_a_run(rate=lambda f: 1.0) == [[1e-2, 1e-5]] * 2
    assert rates_of_a_run(rate=lambda f: 0.5 + f) == [[0.5e-2, 0.5e-5], [1e-2, 1e-5]]
    low = dc.warmup_cosine(0.0)
    assert rates_of_a_run()[0] == [1e-2 * low, 1e-5 * low]


def test_a_given_lr_replaces_them_all():
    assert rates_of_a_run(lr=0.125, rate=lambda f: 1.0) == [[0.125, 0.125]] * 2


def test_a_data_loader_with_labels_serves(device):
    x0, y = normal(8, 1, dtype=torch.float32), torch.arange(8)
    seen = []

    def loss(model, *batch):
        seen.append(batch)
        return distance(model, batch[0])

    dc.train(
        Weight().to(device), loss, DataLoader(TensorDataset(x0, y), 4, generator=seeded()), steps=2
    )
    for rows, batch in zip((slice(4), slice(4, 8)), seen, strict=True):
        assert_close(batch, (x0[rows].to(device), y[rows].to(device)), rtol=0, atol=0)


GOOD = torch.ones(4, 1)


@pytest.mark.parametrize(
    "batch, named",
    [
        ((GOOD, [1, 2]), r"batch must be .*tuple or list of them, got \[1, 2\] in it"),
        ([GOOD, "five"], "batch must be .*, got 'five' in it"),
        ({"x": GOOD}, "batch must be .*, got dict in it"),
        (GOOD.numpy(), "batch must be .*, got ndarray in it"),
        ((), "batch must be .*, got none"),
        (None, "batch must be .*, got None in it"),
        ((GOOD, GOOD), r"batch must hold what loss\(model, x0\) takes after model, got 2 tensors"),
    ],
)
def test_other_batches_are_refused_by_what_they_are(batch, named):
    with pytest.raises(TypeError, match=named):
        dc.train(Weight(), distance, itertools.repeat(batch), steps=1)


def test_a_batch_is_matched_with_any_kind_of_loss():
    loss = partial(dc.eps_loss, SCHEDULE)
    with pytest.raises(TypeError, match=r"hold what loss\(model, x0\) .*got 2 tensors") as error:
        dc.train(Weight(), loss, itertools.repeat((GOOD, GOOD)), steps=1)
    assert "4 were given" in str(error.value.__cause__)
    with pytest.raises(TypeError, match=r"loss\(model, x0, y\) takes after model, got 1 tensor$"):
        dc.train(Weight(), lambda model, x0, y: 1, itertools.repeat(GOOD), steps=1)

    def mine(model, x0):
        return len(3)

    with pytest.raises(TypeError, match=r"object of type 'int' has no len"):
        dc.train(Weight(), mine, batches(), steps=1)


@pytest.mark.parametrize(
    "value, named",
    [
        (lambda m, x: 3.0, "got 3.0"),
        (lambda m, x: None, "got None"),
        (lambda m, x: (m.w - x) ** 2, r"got torch.float32 \(4, 1\)"),
        (lambda m, x: distance(m, x).detach(), "got one without gradients"),
    ],
)
def test_a_loss_must_be_one_number_with_gradients(value, named):
    with pytest.raises(TypeError, match=f"loss must return one number.*{named}"):
        dc.train(Weight(), value, batches(), steps=1)


def test_a_model_without_weights_to_train_is_refused():
    for model, named in (
        (nn.Identity(), "Identity, without any"),
        (Weight(), "Weight, all frozen"),
    ):
        model.requires_grad_(False)
        for call in (
            lambda model=model: dc.train(model, distance, batches(), steps=1),
            lambda model=model: dc.bf16_is_faster(model, distance, GOOD),
        ):
            with pytest.raises(ValueError, match=f"model must have weights to train, got {named}"):
                call()


def test_an_optimizer_or_an_average_of_another_model_is_refused():
    model, other = Weight(), nets.MLP(width=2, depth=1)
    with pytest.raises(ValueError, match="optimizer must hold weights of model, got 8 others"):
        dc.train(model, distance, batches(), steps=1, optimizer=plain(other))
    with pytest.raises(ValueError, match="ema must average weights like model's, got MLP"):
        dc.train(model, distance, batches(), steps=1, ema=dc.EMA(other))
    dc.train(model, distance, batches(), steps=1, optimizer=plain(model), ema=dc.EMA(Weight()))


def test_training_asks_neither_the_default_device_nor_dtype():
    def run():
        model = nets.MLP(width=8, depth=1)
        ema, rng = dc.EMA(model), seeded()
        loss = partial(dc.eps_loss, SCHEDULE, generator=rng)
        x = normal(8, 2, dtype=torch.float32)
        history = dc.train(model, loss, (x for _ in range(4)), steps=4, ema=ema)
        return history.losses, dict(model.state_dict()), ema.state_dict()

    def normal(*shape, dtype):
        return torch.randn(shape, generator=seeded(1), dtype=dtype, device="cpu")

    expected = run()
    with other_defaults():
        found = run()
    assert_close(found, expected, rtol=0, atol=0)

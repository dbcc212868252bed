"""The networks that come with the course: right files, good ones, and the run that made them."""

import hashlib
import math
import os
from collections import Counter
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import epochs
import pooch
import pytest
import torch
import train_mnist
from oracles import normal, other_defaults, seeded
from safetensors.torch import load_file
from torch.testing import assert_close

import diffusion_core as dc
from diffusion_core import data, judge, nets, pretrained

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

MIB = 2**20
LARGEST = {"bits": 4 * MIB, "judge": 1 * MIB, "mnist": 4 * MIB}
LARGEST |= dict.fromkeys(("control_edges", "control_thumbnail"), 2 * MIB)
LARGEST |= {
    "mnist_weak": 800_000,
    "mnist_unlabelled": 1_200_000,
    "student": 40_000,
    "vae": 300_000,
    "latent_unet": 320_000,
    "latent_dit": 330_000,
}
SCRIPTS = {
    "mnist_weak": "train_mnist.py --network mnist_weak",
    "mnist_unlabelled": "train_mnist.py --network mnist_unlabelled",
    "control_edges": "train_control.py --control edges",
    "control_thumbnail": "train_control.py --control thumbnail",
    "student": "train_one_step.py --network student",
    "latent_unet": "train_latent.py --network unet",
    "latent_dit": "train_latent.py --network dit",
}
each = pytest.mark.parametrize("name", pretrained.NETWORKS)


def asset(name: str) -> Path:
    return pretrained.ASSETS / f"{name}.safetensors"


# The files


def test_the_package_holds_these_networks_and_no_other_file():
    assert {path.name for path in pretrained.ASSETS.iterdir()} == {
        f"{name}.safetensors" for name in pretrained.NETWORKS
    }
    assert pretrained.NETWORKS.keys() == LARGEST.keys()


@each
def test_the_file_is_small_and_its_hash_is_the_written_one(name):
    raw = asset(name).read_bytes()
    assert hashlib.sha256(raw).hexdigest() == pretrained.NETWORKS[name].sha256
    assert len(raw) <= LARGEST[name]


@each
def test_load_fills_in_the_weights_of_the_file(name):
    model, about = pretrained.load(name)
    assert not any(module.training for module in model.modules())
    assert f"scripts/{SCRIPTS.get(name, f'train_{name}.py')}" in about["command"]
    stored = load_file(asset(name))
    assert stored.keys() == model.state_dict().keys()
    for key, weight in model.state_dict().items():
        assert weight.isfinite().all()
        assert weight.dtype == (torch.float32 if weight.is_floating_point() else torch.int64)
        assert_close(weight, stored[key].to(weight.dtype), rtol=0, atol=0)


@each
def test_each_call_returns_a_network_of_its_own(name):
    model, about = pretrained.load(name)
    about.clear()
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    again, about = pretrained.load(name)
    assert about and any(weight.any() for weight in again.parameters())


@each
def test_a_network_comes_in_float32_on_the_cpu_whatever_the_defaults(name):
    expected = dict(pretrained.load(name)[0].state_dict())
    with other_defaults():
        found = dict(pretrained.load(name)[0].state_dict())
    assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["unknown", "", "Judge", "../assets/judge"])
def test_an_unknown_name_is_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match="judge") as error:
        pretrained.load(name)
    assert "mnist" in str(error.value) and repr(name) in str(error.value)


@each
@pytest.mark.parametrize("place", [0, 20, -1], ids=["first byte", "header", "last byte"])
def test_one_flipped_bit_is_refused(name, place, tmp_path, monkeypatch):
    raw, base = bytearray(asset(name).read_bytes()), asset("mnist").read_bytes()
    monkeypatch.setattr(pretrained, "ASSETS", tmp_path)
    asset("mnist").write_bytes(base)  # a control stands on it
    asset(name).write_bytes(raw)
    pretrained.load(name)  # the copy is as good as the original
    raw[place] ^= 1
    asset(name).write_bytes(raw)
    found = hashlib.sha256(raw).hexdigest()
    with pytest.raises(ValueError, match=f"{name}.safetensors must have .* got {found}"):
        pretrained.load(name)


def test_a_file_cut_short_or_of_another_network_is_refused(tmp_path, monkeypatch):
    raw = asset("judge").read_bytes()
    monkeypatch.setattr(pretrained, "ASSETS", tmp_path)
    for name, wrong in [("judge", b""), ("judge", raw[:-1]), ("mnist", raw)]:
        asset(name).write_bytes(wrong)
        with pytest.raises(ValueError, match=f"{name}.safetensors"):
            pretrained.load(name)


# The networks


def mnist_test_images(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return n test images and labels, if MNIST is on this machine; nothing is downloaded."""
    folder = Path(os.environ.get("DIFFUSION_DATA") or pooch.os_cache("diffusion_course"))
    if not all((folder.expanduser() / name).exists() for name in data.SHA256):
        pytest.skip(f"MNIST is not on this machine: no files in {folder}")
    x, labels = data.mnist("test")
    chosen = torch.randperm(len(x), generator=seeded())[:n]
    return data.to_signed(x[chosen]), labels[chosen]


def test_the_judge_is_right_on_99_percent_of_test_images(device):
    """4 standard errors are allowed for the choice of 2 000 images out of 10 000."""
    n, claimed = 2000, 0.99
    x, labels = mnist_test_images(n)
    model, about = pretrained.load("judge")
    with torch.no_grad():
        digit = model.to(device)(x.to(device)).argmax(1).cpu()
    right = (digit == labels).double().mean().item()
    error = (claimed * (1 - claimed) / n) ** 0.5
    assert right > claimed - 4 * error
    assert claimed <= about["accuracy"] <= 1
    assert abs(right - about["accuracy"]) < 4 * error


def test_the_judge_on_mnist_is_confident_of_real_digits_and_close_to_them():
    x, labels = mnist_test_images(1000)
    verdict = judge.judge_images(pretrained.load("judge")[0], x[:500], x[500:])
    assert verdict.confident > 0.95
    shares = labels[:500].bincount(minlength=10) / 500
    assert_close(verdict.shares.cpu(), shares, rtol=0, atol=0.02, check_dtype=False)


@pytest.mark.parametrize(
    ("told", "confident", "floors"), [("judge", 0.97, 1.5), ("judge_without_label", 0.75, 3)]
)
def test_the_digits_numbers_are_good(told, confident, floors):
    """The judge's, of at least 2 000 drawn digits, as written beside the weights."""
    _, about = pretrained.load("mnist")
    numbers = about[told]
    assert numbers["samples"] >= 2000
    assert confident <= numbers["confident"] <= 1
    assert len(numbers["shares"]) == 10
    assert sum(numbers["shares"]) == pytest.approx(1, abs=1e-3)  # each rounded to 4 places
    assert min(numbers["shares"]) > 0.08 and max(numbers["shares"]) < 0.12
    assert 0 < numbers["frechet_floor"] < numbers["frechet"] <= floors * numbers["frechet_floor"]


def test_digits_are_good_without_a_label_where_none_was_ever_told():
    """2 000 drawn digits, as written beside the weights: all classes, nearer than mnist's."""
    numbers = pretrained.load("mnist_unlabelled")[1]["judge"]
    assert numbers["samples"] >= 2000 and 0.85 < numbers["confident"] <= 1
    assert min(numbers["shares"]) > 0.08 and max(numbers["shares"]) < 0.12
    assert 0 < numbers["frechet_floor"] < numbers["frechet"] <= 1.6 * numbers["frechet_floor"]
    other = pretrained.load("mnist")[1]["judge_without_label"]
    assert numbers["confident"] > other["confident"] and numbers["frechet"] < other["frechet"]


def test_the_bits_are_few():
    """Of all test images, as written beside the weights; Real NVP needs 1.06."""
    numbers = pretrained.load("bits")[1]["bits"]
    assert (numbers["test_images"], numbers["draws"]) == (10_000, 8)
    assert 0.9 < numbers["bits_per_pixel"] <= 1.06 and 0 < numbers["std_error"] < 0.004


@pytest.mark.parametrize(
    ("name", "wrap"),
    [("mnist", dc.eps_model_from_v), ("mnist_unlabelled", dc.eps_model_from_x0)],
)
def test_a_network_of_digits_draws_what_the_judge_takes_for_digits(name, wrap, device):
    """Few digits in few steps, so the bar is low; an untrained network does not reach it."""
    schedule, n = dc.cosine_schedule(1000), 32
    x_T = normal(n, 1, 28, 28, dtype=torch.float32).to(device)
    eps_model = wrap(schedule, pretrained.load(name)[0].to(device))
    *_, last = dc.sample_chain(
        dc.ddim_step, schedule, eps_model, x_T, dc.even_taus(1000, 10), clip=(-1, 1)
    )
    network = pretrained.load("judge")[0].to(device)
    verdict = judge.judge_images(network, last.x_t, data.to_signed(data.digits()[0][:100]))
    assert verdict.confident > 0.4
    assert (verdict.shares > 0).sum() >= 6  # noise is taken for one digit, with confidence


def test_the_three_files_of_lesson_12_are_small_together():
    assert (
        sum(asset(name).stat().st_size for name in ("vae", "latent_unet", "latent_dit")) <= 900_000
    )


def test_the_latents_of_test_images_have_second_moments_of_1():
    """The scale was measured on the training images, and comes back with the weights."""
    x, _ = mnist_test_images(2000)
    vae, about = pretrained.load("vae")
    z = dc.to_latents(vae, x, generator=seeded())
    assert_close(dc.second_moments(z), torch.ones(8), rtol=0, atol=0.05)
    assert max(abs(m - 1) for m in about["second_moments_on_test_images"]) <= 0.05
    assert about["elbo"] == pytest.approx(about["reconstruction"] - about["kl"], abs=1e-3)


@pytest.mark.parametrize("name", ["latent_unet", "latent_dit"])
def test_a_latent_network_draws_what_the_judge_takes_for_the_digit_that_was_asked(name):
    """Few digits in few calls, so the bar is low; noise meets it one time in ten."""
    schedule, n = dc.cosine_schedule(1000), 40
    model, about = pretrained.load(name)
    y = torch.arange(n) % 10
    guided = dc.classifier_free(model, y, guidance_scale=about["judge"]["guidance_scale"])
    z_T = normal(n, 8, 4, 4, dtype=torch.float32)
    taus = dc.nearest_taus(schedule, dc.geometric_levels(20.0, 0.05, 12))
    eps_model = dc.eps_model_from_v(schedule, guided)
    *_, last = dc.sample_chain(dc.dpm_solver_2m(), schedule, eps_model, z_T, taus)
    x = dc.from_latents(pretrained.load("vae")[0], last.x_t).clamp(-1, 1)
    assert judge.as_asked(pretrained.load("judge")[0], x, y) > 0.7
    numbers = about["judge"]
    assert numbers["samples"] >= 2000 and min(numbers["shares"]) > 0.05
    assert 0 < about["of_the_vae"]["frechet_floor"] < numbers["frechet"]


def test_mnist_unet_is_the_network_before_training():
    first, second = pretrained.mnist_unet(), pretrained.mnist_unet()
    assert isinstance(first, nets.UNet)
    assert_close(dict(first.state_dict()), dict(second.state_dict()), rtol=0, atol=0)
    half = 2 * sum(p.numel() for p in first.parameters())  # bytes, as float16
    assert half < LARGEST["mnist"]


def test_three_in_four_steps_of_the_digits_lie_where_log_snr_is_normal():
    """20 000 draws: shares below some log SNR, within 4 standard errors of the mixture's."""
    schedule, n = dc.cosine_schedule(1000), 20_000
    t = train_mnist.mixed_t(schedule, torch.zeros(n, 1), seeded())
    assert t.dtype == torch.int64 and t.shape == (n,) and t.min() == 1 and t.max() == 1000
    log_snr = schedule.snr.log()
    for level in (-6.0, -2.0, -0.75, 1.0, 6.0):
        normal_below = 0.5 + 0.5 * math.erf((level + 0.75) / 1.75 / math.sqrt(2))
        wanted = 0.75 * normal_below + 0.25 * (log_snr[1:] < level).double().mean().item()
        below = (log_snr[t] < level).double().mean().item()
        assert abs(below - wanted) < 4 * math.sqrt(wanted * (1 - wanted) / n) + 0.002  # whole t


def test_the_unlabelled_loss_is_that_of_v_at_mixed_t():
    """For x0_hat = 0 v errs by x_0 / sqrt(1 - alpha_bar_t); a perfect guess costs nothing.

    The oracle draws t alone; a label would be a third argument, which these models do not take.
    """
    schedule, x0 = dc.cosine_schedule(1000), normal(64, 1, 8, 8)
    loss = partial(train_mnist.unlabelled_loss, x0=x0, y=torch.zeros(64), schedule=schedule)
    snr = schedule.snr[train_mnist.mixed_t(schedule, x0, seeded())]
    wanted = ((1 + snr) * x0.square().mean((1, 2, 3))).mean()
    assert_close(loss(lambda x_t, t: 0 * x_t, generator=seeded()), wanted, rtol=1e-8, atol=0)
    assert loss(lambda x_t, t: x0, generator=seeded()) < 1e-12


# The run that makes "mnist": interrupted anywhere, it ends at the same weights to the bit


EPOCHS, BATCHES = 3, 4
SCHEDULE = dc.cosine_schedule(20)


class Labelled(nets.MLP):
    """A small network of points that is told a label, as the U-Net of digits is."""

    null_label = 3

    def __init__(self):
        super().__init__(width=8, depth=1)

    def forward(self, x_t, t, y):
        return super().forward(x_t, t) + y[:, None]


class Run:
    """scripts/epochs.py on 34 points in the plane; some calls of the loss interrupt it."""

    def __init__(self, state: Path, monkeypatch):
        self.interrupts, self.calls, self.trials = (), Counter(), 0
        self.options = SimpleNamespace(
            dtype="faster", epochs=EPOCHS, batch=8, lr=0.01, ema=0.9, state=state
        )
        monkeypatch.delenv("DIFFUSION_SHORT_RUN", raising=False)
        monkeypatch.setattr(pretrained, "mnist_unet", Labelled)
        monkeypatch.setattr(dc, "default_device", lambda: torch.device("cpu"))
        monkeypatch.setattr(dc, "bf16_is_faster", self.trial)
        monkeypatch.setattr(dc, "v_loss", self.loss)

    def trial(self, *_):
        """bfloat16 only on the first trial: a run that goes on must not try again."""
        self.trials += 1
        return self.trials == 1

    def loss(self, *args, v_loss=dc.v_loss, **kwargs):
        value = v_loss(*args, **kwargs)
        self.calls["loss"] += 1
        if self.calls["loss"] in self.interrupts:
            raise KeyboardInterrupt
        return value

    def __call__(self, *interrupts: int) -> torch.nn.Module:
        self.interrupts, self.calls, self.trials = interrupts, Counter(), 0
        self.options.state.unlink(missing_ok=True)
        for _ in interrupts:
            with pytest.raises(SystemExit, match="Interrupted"):
                self.go_on()
        return self.go_on()

    def go_on(self):
        images = normal(34, 2, dtype=torch.float32), torch.arange(34) % 3
        options = {"schedule": SCHEDULE, "draw": train_mnist.mixed_t, "no_label": 0.3}
        loss = partial(train_mnist.labelled_loss, **options)
        return epochs.run_epochs(self.options, pretrained.mnist_unet(), loss, images)


@pytest.fixture
def run(tmp_path, monkeypatch):
    return Run(tmp_path / "state.safetensors", monkeypatch)


@pytest.mark.parametrize(
    "interrupts",
    [(6,), (5,), (8,), (11,), (7, 12)],
    ids=["inside", "first batch", "last batch", "last epoch", "twice"],
)
def test_a_run_goes_on_to_the_same_weights(run, interrupts):
    whole = dict(run().state_dict())
    assert run.calls["loss"] == EPOCHS * BATCHES
    resumed = run(*interrupts)
    assert run.calls["loss"] > EPOCHS * BATCHES and run.trials == 1
    assert_close(dict(resumed.state_dict()), whole, rtol=0, atol=0)
    begun = Labelled().state_dict()
    assert any(not torch.equal(whole[name], weight) for name, weight in begun.items())


def test_a_dtype_that_is_asked_for_needs_no_trial(run):
    weights = []
    for dtype in ("float32", "bfloat16"):
        run.options.dtype = dtype
        weights.append(run().to_out.weight)
        assert run.trials == 0
    assert not torch.equal(*weights)


def test_an_interrupt_before_the_first_state_starts_again(run):
    whole = dict(run().state_dict())
    run.interrupts, run.calls = (2,), Counter()
    run.options.state.unlink()
    with pytest.raises(SystemExit):
        run.go_on()
    assert not run.options.state.exists()
    run.trials = 0  # the same answer as the first time
    assert_close(dict(run.go_on().state_dict()), whole, rtol=0, atol=0)


def test_an_interrupt_while_the_state_is_written_costs_one_epoch(run, monkeypatch):
    whole = dict(run().state_dict())
    replace, written = os.replace, []

    def interrupted(source, target):
        written.append(target)
        if len(written) == 2:
            raise KeyboardInterrupt
        return replace(source, target)

    run.options.state.unlink()
    run.trials = 0
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.go_on()
    assert [path.name for path in run.options.state.parent.iterdir()] == ["state.safetensors"]
    run.calls.clear()
    assert_close(dict(run.go_on().state_dict()), whole, rtol=0, atol=0)
    assert run.calls["loss"] == (EPOCHS - 1) * BATCHES


def test_a_run_takes_its_lr_from_the_options_also_when_it_goes_on(run, monkeypatch):
    rates = []
    step = torch.optim.AdamW.step

    def watched(self, *args):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    run(6)
    whole = [0.01 * dc.warmup_cosine(n / (EPOCHS * BATCHES)) for n in range(EPOCHS * BATCHES)]
    assert_close(rates, [*whole[:5], *whole[4:]], rtol=1e-9, atol=1e-12)


def test_a_finished_run_is_not_run_again(run):
    whole = dict(run().state_dict())
    run.calls.clear()
    assert_close(dict(run.go_on().state_dict()), whole, rtol=0, atol=0)
    assert run.calls["loss"] == 0

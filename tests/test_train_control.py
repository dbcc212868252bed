"""Training a control: what its loss is told, how it goes on to the bit, what it writes."""

import argparse
import copy
from functools import partial

import epochs
import pytest
import torch
import train_control
from oracles import normal, seeded
from torch.testing import assert_close

import diffusion_core as dc
from diffusion_core import checkpoints, controls, data, nets, pretrained

S = dc.cosine_schedule(20)
X0 = normal(20, 1, 8, 8, dtype=torch.float32).clamp(-1, 1)
Y = torch.arange(20) % 3
LOSS = partial(train_control.controlled_loss, schedule=S, picture=controls.thumbnail)


def control() -> nets.ControlNet:
    """A control of a small network that answers something."""
    base = nets.UNet(widths=(8, 8), heads=1, emb_dim=4, classes=3)
    with torch.no_grad():
        for i, weight in enumerate(base.parameters()):
            weight.add_(0.2 * torch.randn(weight.shape, generator=seeded(i)))
    return nets.ControlNet(base)


def test_the_loss_is_told_the_picture_of_each_image_and_half_of_the_labels():
    seen, net = [], control()

    def model(x_t, t, y, control):
        seen.append((y, control))
        return net(x_t, t, y, control=control)

    model.base = net.base
    x0, y = X0.repeat(50, 1, 1, 1), Y.repeat(50)
    value = LOSS(model, x0, y, generator=seeded())
    ((told, picture),) = seen
    assert torch.equal(picture, controls.thumbnail(x0))
    assert 0.45 < (told == 3).double().mean() < 0.55
    assert torch.equal(told[told < 3], y[told < 3])
    rng = seeded()
    torch.rand(len(y), generator=rng)  # of the labels
    wanted = dc.v_loss(S, partial(net, y=told, control=picture), x0, generator=rng)
    assert_close(value, wanted, rtol=0, atol=0)


class Run:
    """Two epochs of five batches; some calls of the loss interrupt it."""

    def __init__(self, state, monkeypatch):
        self.options = argparse.Namespace(
            dtype="faster", epochs=2, batch=4, lr=0.01, ema=0.9, state=state
        )
        self.asked = []
        monkeypatch.delenv("DIFFUSION_SHORT_RUN", raising=False)
        monkeypatch.setattr(dc, "default_device", lambda: torch.device("cpu"))
        monkeypatch.setattr(dc, "bf16_is_faster", lambda *_: False)

    def __call__(self, interrupt=None):
        calls = []

        def loss(*args, **options):
            calls.append(args)
            if len(calls) == interrupt:
                raise KeyboardInterrupt
            return LOSS(*args, **options)

        net = control()
        before = copy.deepcopy(net.base.state_dict())
        watch = epochs.Watch(self.ask, [])
        try:
            return epochs.run_epochs(self.options, net, loss, (X0, Y), watch), watch.answers
        finally:
            after = net.base.state_dict()
            assert all(torch.equal(after[name], w) for name, w in before.items())

    def ask(self, model):
        """One number that depends on all of the answer."""
        with torch.no_grad():
            answer = model(X0, torch.full((20,), 7), Y, control=controls.thumbnail(X0))
        self.asked.append(answer)
        return answer.double().square().sum().item()


@pytest.mark.parametrize("interrupt", [6, 8, 10], ids=["first batch", "inside", "last batch"])
def test_a_run_goes_on_to_the_bit_and_keeps_what_it_was_asked(interrupt, tmp_path, monkeypatch):
    whole, wanted = Run(tmp_path / "whole", monkeypatch)()
    run = Run(tmp_path / "parts", monkeypatch)
    with pytest.raises(SystemExit, match="Interrupted in epoch 2"):
        run(interrupt)
    resumed, answers = run()
    assert answers == wanted and len(set(answers)) == 2 and len(run.asked) == 2
    assert_close(dict(resumed.state_dict()), dict(whole.state_dict()), rtol=0, atol=0)
    begun = control().state_dict()
    assert all(not torch.equal(w, begun[name]) for name, w in whole.state_dict().items())


@pytest.fixture
def few_digits(monkeypatch):
    """In the place of MNIST; and two calls of the network for each drawing."""
    monkeypatch.setattr(data, "mnist", lambda split: tuple(part[:96] for part in data.digits()))
    monkeypatch.setattr(train_control, "CALLS", 2)
    monkeypatch.setattr(dc, "bf16_is_faster", lambda *_: False)
    monkeypatch.setattr(dc, "default_device", lambda: torch.device("cpu"))


@pytest.mark.parametrize("name", train_control.CONTROLS)
def test_the_command_writes_a_control_of_the_shipped_digits(
    name, few_digits, tmp_path, monkeypatch
):
    out = tmp_path / "out.safetensors"
    options = (
        f"--control {name} --images 64 --batch 32 --parts 1 --epochs 2 --watched 3 --samples 4"
    )
    files = ["--state", str(tmp_path / "state"), "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["train_control.py", *options.split(), *files])
    train_control.main()
    model = pretrained.mnist_controlnet()
    about = checkpoints.load(out, model)
    assert out.stat().st_size < 2_000_000
    assert about["control"] == name and len(about["after_each_epoch"]) == 2
    kind = train_control.CONTROLS[name]
    x0, y = data.mnist("test")
    x0, y = data.to_signed(x0[:4]), y[:4]
    found = train_control.obeyed(model.eval(), dc.cosine_schedule(1000), kind, x0, y)
    assert found == pytest.approx(about["obeyed"], abs=0.02), "but for the rounding to float16"
    assert about["judge"]["base"].keys() == about["judge"]["control"].keys()


def test_files_are_named_after_the_control(few_digits, monkeypatch):
    seen = []
    monkeypatch.setattr(
        train_control, "run_epochs", lambda options, *_, **__: seen.append(options) or 1 / 0
    )
    for name in train_control.CONTROLS:
        monkeypatch.setattr("sys.argv", ["train_control.py", "--control", name])
        with pytest.raises(ZeroDivisionError):
            train_control.main()
    for options, name in zip(seen, train_control.CONTROLS, strict=True):
        assert options.control == name
        assert options.out == pretrained.ASSETS / f"control_{name}.safetensors"
        assert options.state.name == f"train-control_{name}.safetensors"


def test_the_base_is_drawn_with_the_same_noise_as_the_control(few_digits):
    """An untrained control draws what its base draws, so their numbers are equal."""
    model = pretrained.mnist_controlnet()
    x0, y = data.mnist("test")
    x0, y = data.to_signed(x0[:3]), y[:3]
    kind = train_control.CONTROLS["edges"]
    schedule = dc.cosine_schedule(1000)
    numbers = train_control.judged(model, schedule, kind, x0, y, scale=1.5)
    assert numbers["control"] == numbers["base"]
    obeyed = train_control.obeyed(model, schedule, kind, x0, y)
    assert obeyed["found"] == obeyed["base"]

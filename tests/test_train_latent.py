"""Training the VAE and what denoises its latents: what the losses are told, what is written."""

import epochs
import pytest
import torch
import train_latent
import train_vae
from oracles import normal, seeded
from torch.testing import assert_close

import diffusion_core as dc
from diffusion_core import checkpoints, data, latents, nets, pretrained

IMAGES = normal(96, 1, 28, 28, dtype=torch.float32).clamp(-1, 1)


@pytest.fixture
def few_digits(monkeypatch):
    """In the place of MNIST."""
    monkeypatch.setattr(data, "mnist", lambda split: tuple(part[:96] for part in data.digits()))
    monkeypatch.setattr(dc, "bf16_is_faster", lambda *_: False)
    monkeypatch.setattr(dc, "default_device", lambda: torch.device("cpu"))
    monkeypatch.delenv("DIFFUSION_SHORT_RUN", raising=False)
    monkeypatch.setattr(pretrained, "mnist_vae", lambda: nets.VAE(8, (8, 8, 8)))


def command(monkeypatch, module, name: str, options: str, folder) -> None:
    files = ["--state", str(folder / "state"), "--out", str(folder / "out.safetensors")]
    monkeypatch.setattr("sys.argv", [name, *options.split(), *files])
    module.main()


def test_the_loss_of_the_vae_is_its_bound_with_less_of_the_kl():
    vae, x = nets.VAE(2, (8, 8, 8)), IMAGES[:5]
    terms = dc.vae_terms(vae, x, generator=seeded())
    wanted = (train_vae.KL_WEIGHT * terms.kl.mean() - terms.reconstruction.mean()) / 784
    assert_close(train_vae.loss(vae, x, None, generator=seeded()), wanted, rtol=1e-6, atol=0)


def test_the_command_writes_a_vae_with_the_scale_of_its_latents(few_digits, tmp_path, monkeypatch):
    options = "--epochs 2 --batch 8 --reconstructions 20"
    command(monkeypatch, train_vae, "train_vae.py", options, tmp_path)
    vae = pretrained.mnist_vae()
    about = checkpoints.load(tmp_path / "out.safetensors", vae)
    assert (vae.latent_scale > 0).all()
    train = data.to_signed(data.mnist("train")[0])
    z = latents.to_latents(vae, train, generator=seeded(5))
    assert_close(latents.second_moments(z), torch.ones(8), rtol=0.15, atol=0)
    assert about["elbo"] == pytest.approx(about["reconstruction"] - about["kl"], abs=1e-3)
    assert len(about["second_moments_on_test_images"]) == 8
    assert about["frechet"] > 0 and about["reconstructions"] == 20


@pytest.mark.parametrize("name", train_latent.NETWORKS)
def test_the_command_writes_a_network_of_latents(name, few_digits, tmp_path, monkeypatch):
    vae = nets.VAE(8, (8, 8, 8))
    dc.measure_latent_scale(vae, IMAGES, generator=seeded())
    load = pretrained.load
    monkeypatch.setattr(pretrained, "load", lambda n: (vae, {}) if n == "vae" else load(n))
    monkeypatch.setattr(train_latent, "CALLS", 3)
    seen, run_epochs = [], epochs.run_epochs

    def watched(options, model, loss, images, **more):
        seen.append(images)
        return run_epochs(options, model, loss, images, **more)

    monkeypatch.setattr(train_latent, "run_epochs", watched)
    options = f"--network {name} --epochs 2 --batch 8 --samples 20 --images 64"
    command(monkeypatch, train_latent, "train_latent.py", options, tmp_path)
    model = train_latent.NETWORKS[name]()
    about = checkpoints.load(tmp_path / "out.safetensors", model)
    assert any(weight.any() for weight in model.last.parameters())
    assert about["network"] == name and len(about["judge"]["shares"]) == 10
    tried = about["judge"]["tried"]
    assert min(tried, key=tried.get) == str(about["judge"]["guidance_scale"])
    ((z, y),) = seen
    assert z.shape == (64, 8, 4, 4) and y.shape == (64,)
    assert_close(latents.second_moments(z), torch.ones(8), rtol=0.5, atol=0.5)


def test_files_are_named_after_the_network(few_digits, monkeypatch):
    monkeypatch.setattr(pretrained, "load", lambda n: (nets.VAE(8, (8, 8, 8)), {}))
    monkeypatch.setattr(latents, "to_latents", lambda *_, **__: torch.zeros(96, 8, 4, 4))
    seen = []
    monkeypatch.setattr(
        train_latent, "run_epochs", lambda options, *_, **__: seen.append(options) or 1 / 0
    )
    for name in train_latent.NETWORKS:
        monkeypatch.setattr("sys.argv", ["train_latent.py", "--network", name])
        with pytest.raises(ZeroDivisionError):
            train_latent.main()
    for options, name in zip(seen, train_latent.NETWORKS, strict=True):
        assert options.out == pretrained.ASSETS / f"latent_{name}.safetensors"
        assert options.state.name == f"train-latent_{name}.safetensors"


def test_an_epoch_in_parts_sees_other_images_each_time(tmp_path, monkeypatch, few_digits):
    seen, rows = [], torch.arange(24.0)[:, None]
    options = type("Options", (), {})()
    options.epochs, options.batch, options.lr, options.ema = 3, 4, 0.01, 0.9
    options.dtype, options.state = "float32", tmp_path / "state"

    def loss(model, x, y, *, generator):
        seen.append(x.flatten().tolist())
        return model(x).square().mean()

    model = torch.nn.Linear(1, 1)
    epochs.run_epochs(options, model, loss, (rows, torch.zeros(24).long()), parts=2)
    assert len(seen) == 3 * 24 // (2 * 4)
    halves = [{x for batch in seen[3 * i : 3 * i + 3] for x in batch} for i in range(3)]
    assert all(len(half) == 12 for half in halves) and halves[0] != halves[1]

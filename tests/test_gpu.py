"""What a GPU must prove: `pytest -m gpu`. Where there is none, each is skipped, with a word.

Beside these, every test that asks for `device` runs on the GPU, too.
"""

import copy
import itertools
from functools import partial

import pytest
import torch
from oracles import normal, seeded
from torch.testing import assert_close

import diffusion_core as dc
from diffusion_core import nets

pytestmark = pytest.mark.gpu
S = dc.vp_schedule(50)
IMAGES = normal(16, 1, 16, 16, dtype=torch.float32).clamp(-1, 1)


def unet() -> nets.UNet:
    """A small network whose answers are not all zero."""
    model = nets.UNet(widths=(16, 32), heads=2, emb_dim=16, classes=3)
    with torch.no_grad():
        for i, weight in enumerate(model.parameters()):
            weight.add_(0.05 * torch.randn(weight.shape, generator=seeded(i)))
    return model.eval()


def loss(model, x0, generator) -> torch.Tensor:
    return dc.eps_loss(S, model, x0, generator=generator)


def test_the_gpu_answers_as_the_cpu(gpu):
    model, t = unet(), torch.arange(1, 17)
    wanted = model(IMAGES, t)
    found = copy.deepcopy(model).to(gpu)(IMAGES.to(gpu), t.to(gpu))
    assert_close(found.cpu(), wanted, rtol=1e-2, atol=1e-2)  # its products may be in TF32


def test_bf16_answers_as_float32_but_for_rounding(gpu):
    model, t = unet().to(gpu), torch.arange(1, 17, device=gpu)
    wanted = model(IMAGES.to(gpu), t)
    with torch.autocast(gpu.type, dtype=torch.bfloat16):
        found = model(IMAGES.to(gpu), t)
    assert (found.float() - wanted).abs().mean() < 0.03 * wanted.abs().mean()


def test_a_short_training_lowers_the_loss_with_weights_in_float32(gpu):
    model = nets.MLP(width=64).to(gpu)
    ema, rng = dc.EMA(model), seeded()
    x0 = torch.tensor([[1.0, -1.0]]).expand(256, 2)
    options = {"steps": 300, "lr": 2e-3, "ema": ema, "autocast": torch.bfloat16}
    history = dc.train(model, partial(loss, generator=rng), itertools.repeat(x0), **options)
    assert sum(history.losses[-20:]) < 0.5 * sum(history.losses[:20])
    kept = [*model.parameters(), *ema.model.parameters()]
    assert {(w.dtype, w.device.type) for w in kept} == {(torch.float32, gpu.type)}


def test_accumulated_parts_are_one_large_batch(gpu):
    def weights(size):
        model = nets.MLP(width=32).double().to(gpu)
        parts = itertools.cycle(normal(32, 2).split(size))
        fixed = normal(32, 2, seed=2).to(gpu)

        def told(model, x0):
            t = torch.full((len(x0),), 7, device=gpu)
            return (model(x0, t) - fixed[: len(x0)].mean(0)).square().mean()

        dc.train(model, told, parts, steps=5, accumulate=32 // size)
        return torch.nn.utils.parameters_to_vector(model.parameters()).detach()

    assert_close(weights(8), weights(32), rtol=0, atol=1e-10)


def test_a_compiled_network_answers_as_it_does_eagerly_in_one_graph(gpu):
    model, t = nets.MLP(width=32).to(gpu), torch.arange(1, 17, device=gpu)
    x = normal(16, 2, dtype=torch.float32).to(gpu)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True)
    assert_close(compiled(x, t), model(x, t), rtol=1e-3, atol=1e-3)


def test_a_device_mix_is_refused_by_name(gpu):
    model = nets.MLP(width=32).to(gpu)
    x = normal(4, 2, dtype=torch.float32).to(gpu)
    with pytest.raises(ValueError, match="t must be on the device of x_t"):
        model(x, torch.arange(1, 5))


def test_tables_and_generators_of_the_cpu_serve_the_gpu(gpu):
    x = IMAGES.to(gpu)
    *_, last = dc.sample_chain(dc.ddpm_step, S, lambda x, t: 0.5 * x, x, generator=seeded())
    cpu = dc.sample_chain(dc.ddpm_step, S, lambda x, t: 0.5 * x, IMAGES, generator=seeded())
    *_, wanted = cpu
    assert last.x_t.device.type == gpu.type
    assert_close(last.x_t.cpu(), wanted.x_t, rtol=1e-3, atol=1e-3)

"""The transformer: adaLN-zero, attention as another part of torch has it, tokens and places."""

import pytest
import torch
import torch.nn.functional as F
from oracles import normal, other_defaults, seeded
from torch import Tensor, nn
from torch.testing import assert_close

import diffusion_core as dc
from diffusion_core import nets

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

SMALL = {"in_channels": 2, "side": 4, "width": 8, "depth": 2, "heads": 2}
X, T_OF_X = normal(3, 2, 4, 4, dtype=torch.float32), torch.tensor([1, 20, 999])
Y = torch.tensor([0, 2, 1])


def dit(**more) -> nets.DiT:
    return nets.DiT(**(SMALL | {"classes": 3, "emb_dim": 4} | more))


def woken(net: nn.Module) -> nn.Module:
    """Fill all weights with random numbers: nothing is hidden behind a zero."""
    with torch.no_grad():
        for i, weight in enumerate(net.parameters()):
            size = weight[0].numel() ** -0.5 if weight.ndim > 1 else 0.5
            weight.copy_(size * normal(*weight.shape, seed=i, dtype=weight.dtype))
    return net


# Row 66: h + gate A((1 + scale) norm(h) + shift), gates that begin at 0.


def test_row_66_a_new_network_answers_0_and_a_new_block_its_input():
    net = dit()
    assert not net(X, T_OF_X, Y).any()
    h = normal(3, 16, 8, dtype=torch.float32)
    emb = normal(3, 4, dtype=torch.float32)
    assert_close(net.blocks[0](h, emb), h, rtol=0, atol=0)


def test_row_66_after_one_step_the_last_layer_wakes_then_the_gates_then_the_rest():
    net, target = dit(), normal(3, 2, 4, 4, seed=2, dtype=torch.float32)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    awake = []
    for _ in range(3):
        optimizer.zero_grad()
        F.mse_loss(net(X, T_OF_X, Y), target).backward()
        awake.append({name for name, w in net.named_parameters() if w.grad.any()})
        optimizer.step()
    assert awake[0] == {"last.weight", "last.bias"}
    assert "blocks.0.steer.weight" in awake[1] and "blocks.0.to_qkv.weight" not in awake[1]
    assert awake[2] == {name for name, _ in net.named_parameters()}


def written_out(net: nets.DiT, x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """The whole network in float64, its attention by torch's nn.MultiheadAttention."""
    width, p = net.place.shape[1], net.patch
    B, C, side, _ = x_t.shape
    emb = net.time(dc.nets.timestep_embedding(t, net.emb_dim).double()) + net.label.weight[y]
    emb = emb * emb.sigmoid()
    tokens = [
        x_t[:, :, i : i + p, j : j + p].reshape(B, -1)
        for i in range(0, side, p)
        for j in range(0, side, p)
    ]
    h = torch.stack([net.stem(token) for token in tokens], 1) + net.place

    def normed(h: Tensor) -> Tensor:
        return (h - h.mean(-1, True)) / (h.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()

    for block in net.blocks:
        told = block.steer(emb)[:, None]
        shift, scale, gate, shift_2, scale_2, gate_2 = told.split(width, dim=2)
        attention = nn.MultiheadAttention(
            width, block.heads, batch_first=True, dtype=torch.float64, device="cpu"
        )
        attention.in_proj_weight.data, attention.in_proj_bias.data = (
            block.to_qkv.weight.data,
            block.to_qkv.bias.data,
        )
        attention.out_proj = block.to_out
        seen = normed(h) * (1 + scale) + shift
        h = h + gate * attention(seen, seen, seen)[0]
        hidden = block.mlp[0](normed(h) * (1 + scale_2) + shift_2)
        hidden = 0.5 * hidden * (1 + torch.erf(hidden / 2**0.5))
        h = h + gate_2 * block.mlp[2](hidden)
    shift, scale = net.steer(emb)[:, None].split(width, dim=2)
    answers = net.last(normed(h) * (1 + scale) + shift)
    out, places = torch.empty_like(x_t), side // p
    for n in range(answers.shape[1]):
        i, j = p * (n // places), p * (n % places)
        out[:, :, i : i + p, j : j + p] = answers[:, n].view(B, C, p, p)
    return out


@pytest.mark.parametrize("patch", [1, 2])
def test_row_66_the_network_is_what_its_equations_say(patch):
    with torch.random.fork_rng(devices=[]):  # MultiheadAttention draws weights, replaced at once
        net = woken(dit(patch=patch).double())
        net.time.double()
        x = X.double()
        wanted = written_out(net, x, T_OF_X, Y)
    assert wanted.abs().min() > 0
    with_single = net.float()(X, T_OF_X, Y)
    assert_close(with_single.double(), wanted, rtol=1e-3, atol=1e-3)


def test_row_66_without_their_places_tokens_may_be_exchanged():
    net = woken(dit())
    order = torch.randperm(16, generator=seeded())

    def exchanged(x: Tensor) -> Tensor:
        return x.flatten(2)[:, :, order].view_as(x)

    with torch.no_grad():
        assert not torch.allclose(net(exchanged(X), T_OF_X), exchanged(net(X, T_OF_X)), atol=1e-3)
        net.place.zero_()
        assert_close(net(exchanged(X), T_OF_X), exchanged(net(X, T_OF_X)), rtol=1e-4, atol=1e-5)


# On the seam.


def test_no_label_is_the_null_label_and_every_label_and_step_is_told():
    net = woken(dit())
    null = torch.full_like(Y, net.null_label)
    assert net.null_label == 3
    assert_close(net(X, T_OF_X), net(X, T_OF_X, null), rtol=0, atol=0)
    answers = [net(X, T_OF_X, torch.full_like(Y, k)) for k in range(4)]
    assert all(not torch.allclose(answers[k], answers[3]) for k in range(3))
    assert not torch.allclose(net(X, T_OF_X, Y), net(X, T_OF_X + 100, Y))


def test_it_is_sampled_and_trained_as_the_u_net_is():
    s, net = dc.cosine_schedule(10), dit()
    loss = dc.v_loss(s, net, X, generator=seeded())
    assert loss.requires_grad
    guided = dc.classifier_free(woken(net), Y, guidance_scale=1.5)
    eps_model = dc.eps_model_from_v(s, guided)
    with torch.no_grad():
        *_, last = dc.sample_chain(dc.ddim_step, s, eps_model, X)
    assert last.x_t.isfinite().all() and last.x_t.shape == X.shape


def test_weights_follow_from_the_seed_alone():
    wanted = dict(dit(seed=3).state_dict())
    with other_defaults():
        assert_close(dict(dit(seed=3).state_dict()), wanted, rtol=0, atol=0)
    assert not torch.equal(dit(seed=4).place, wanted["place"])


@pytest.mark.parametrize(
    "more, message",
    [
        ({"patch": 3}, "patch must divide side, 4, got 3"),
        ({"heads": 3}, "heads must divide width, 8, got 3"),
        ({"emb_dim": 5}, "emb_dim must be even"),
        ({"depth": 0}, "depth must be at least 1, got 0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(more, message):
    with pytest.raises(ValueError, match=message):
        dit(**more)

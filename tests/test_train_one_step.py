"""The networks of one step: their losses, their teacher, and the numbers of the shipped ones."""

from functools import partial

import pytest
import torch
import train_one_step
from oracles import normal, seeded
from torch.testing import assert_close

import diffusion_core as dc
from diffusion_core import checkpoints, metrics, pretrained, toys

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

S = train_one_step.SCHEDULE
CENTRES, STD = toys.toy_centres("moons")


def states(n):
    x0 = toys.toy_2d("moons", n, generator=seeded(), dtype=torch.float64)
    t = torch.arange(n) % S.T + 1
    return dc.q_sample(S, x0, t, generator=seeded(1)), t


def test_every_fifth_centre_will_do():
    """Off by less than one percent of the noise's standard deviation, root mean square."""
    x_t, t = states(512)
    wanted = dc.mixture_eps_model(S, dc.mixture(CENTRES, STD**2))(x_t, t)
    found = train_one_step.teacher()(x_t.float(), t).double()
    assert (found - wanted).square().mean().sqrt() < 0.01


def test_the_pairs_are_the_ends_of_the_exact_flows_own_paths():
    x0, eps = train_one_step.flow_pairs(40)
    flow = dc.straight_flow(dc.mixture_velocity(dc.mixture(CENTRES, STD**2)))
    assert eps.shape == (40, 2)
    exact = dc.reflow_pairs(flow, eps.double(), tolerance=1e-8).x0
    apart = (x0 - exact).square().sum(1).sqrt()
    assert apart.median() < 0.01 and apart.max() < 0.1, apart


def test_one_step_of_the_student_is_eulers_and_the_loss_is_its_error():
    network, eps, x0 = pretrained.one_step_mlp(), normal(9, 2).float(), normal(9, 2, seed=2).float()
    end = train_one_step.one_step("student", network, eps)
    assert_close(end, eps - network(eps, torch.full((9,), 1000)))
    loss = train_one_step.student_loss(network, x0, eps, generator=seeded())
    assert_close(loss, (end - x0).square().mean())


def test_the_other_network_is_asked_at_the_highest_level_as_in_training():
    network, eps = pretrained.one_step_mlp(), normal(9, 2).float()
    model = dc.consistency_model(S, network)
    assert_close(
        train_one_step.one_step("consistency", network, eps), model(eps, torch.full((9,), S.T))
    )
    teacher = train_one_step.teacher()
    found = train_one_step.distilled_loss(network, eps, None, eps_model=teacher, generator=seeded())
    wanted = dc.consistency_loss(S, model, eps, eps_model=teacher, generator=seeded())
    assert_close(found, wanted, rtol=0, atol=0)


def test_the_judge_tells_data_from_the_mean_and_counts_strays():
    found = train_one_step.numbers(lambda eps: 0 * eps, clouds=3, n=500)
    assert found["one_step"]["times_floor"] > 5
    assert found["one_step"]["strays"] == found["the_mean"]["strays"] == 1
    assert 0.5 < found["data"]["times_floor"] < 1.7 and found["data"]["strays"] < 0.01


@pytest.mark.parametrize("name", train_one_step.EPOCHS)
def test_a_short_run_writes_the_network_and_the_numbers_of_what_it_wrote(
    name, tmp_path, monkeypatch
):
    monkeypatch.setattr(train_one_step, "numbers", partial(train_one_step.numbers, n=50))
    monkeypatch.setattr(dc, "bf16_is_faster", lambda *_: False)
    out, state = tmp_path / "out.safetensors", tmp_path / "state.safetensors"
    argv = f"x --network {name} --epochs 1 --points 300 --clouds 2 --out {out} --state {state}"
    monkeypatch.setattr("sys.argv", argv.split())
    train_one_step.main()
    network = pretrained.one_step_mlp()
    begun = {key: weight.clone() for key, weight in network.state_dict().items()}
    text = checkpoints.load(out, network)
    assert any(
        not torch.equal(begun[key], w.half().float()) for key, w in network.state_dict().items()
    )
    draw = partial(train_one_step.one_step, name, network)
    assert text["one_step"] == train_one_step.judged(draw, clouds=2, n=50)
    assert text["toy"] == "moons"


# The shipped networks.


def clouds_of(name, n, count=3):
    network, _ = pretrained.load(name)
    draw = partial(train_one_step.one_step, name, network)
    with torch.no_grad():
        return [draw(normal(n, 2, seed=90 + i, dtype=torch.float32)) for i in range(count)]


def test_the_students_numbers_are_good_and_those_of_its_weights():
    """As written: 10 fresh clouds of 2 000, strays beyond 3 std; drawn again: fewer, so wider."""
    told = pretrained.load("student")[1]["one_step"]
    assert told["clouds"] == 10 and told["n"] == 2000
    assert told["times_floor"] <= 1.5 and told["strays"] <= 0.05
    clouds = clouds_of("student", 1000)
    shares = [metrics.mode_coverage(x, CENTRES, 3 * STD).stray.item() for x in clouds]
    assert abs(sum(shares) / 3 - told["strays"]) < 5 * (0.05 / 3000) ** 0.5
    real = partial(toys.toy_2d, "moons", generator=seeded(5))
    assert metrics.times_floor(metrics.energy_distance, clouds, real).mean < 1.7


def test_plain_regression_in_one_step_is_far_off_and_all_stray():
    _, about = pretrained.load("student")
    assert about["the_mean"]["strays"] == 1
    assert about["the_mean"]["times_floor"] > 10 * about["one_step"]["times_floor"]
    assert about["data"]["strays"] < 0.01 and 0.7 < about["data"]["times_floor"] < 1.4

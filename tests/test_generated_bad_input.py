"""Every argument of every public function, constructor and `forward`, spoiled one at a time.

The list is read from inspect.signature. Each bad value ends in a right answer (finite, of the
right shape, dtype and device) or in a sentence that names the argument; beside it the good one.
"""

import atexit
import copy
import gzip
import importlib
import inspect
import itertools
import math
import pkgutil
import re
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from bad_values import (
    FLOATS,
    Given,
    a_model,
    batch,
    count,
    function,
    integers,
    keywords,
    named,
    number,
    numbers_of,
    odd,
    one_of,
    optional,
    record,
    sequence,
    step,
    steps,
    table,
    typed,
    word,
)
from hypothesis.configuration import set_hypothesis_home_dir
from oracles import initialised, normal, seeded
from PIL import Image
from torch import Tensor, nn

import diffusion_core as dc
from diffusion_core import (
    checkpoints,
    controls,
    data,
    download,
    metrics,
    nets,
    toys,
    training,
)

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

# Good arguments.

T = 4
S = dc.constant_schedule(T, 0.8)
X, Y = normal(4, 2), normal(4, 2, seed=2)
X32 = X.float()
T_OK = torch.tensor([1, 2, 3, 4])
LABELS = torch.tensor([0, 1, 2, 1])
ONES = torch.ones_like(X)
STATES = torch.stack([X] * (T + 1))
PROBS = torch.tensor([0, 0, 0.25, 0.5, 0.25], dtype=torch.float64)
IMAGES = normal(4, 1, 28, 28, dtype=torch.float32).clamp(-1, 1)
BYTES = data.to_uint8(IMAGES)
SQUARES = normal(4, 1, 4, 4, dtype=torch.float32)
CHANNELS = normal(2, 8, 4, 4, dtype=torch.float32)
EMB = normal(2, 6, dtype=torch.float32)
POINTS = dc.mixture(X, 0.1, torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64))
NETS = {
    "MLP": nets.MLP(2, 4, 1),
    "UNet": nets.UNet(1, (8,), 2, heads=2, emb_dim=4, classes=2),
    "LevelUNet": nets.LevelUNet(S, (8,), heads=2, emb_dim=4, classes=2),
    "PixelUNet": nets.PixelUNet(S, (8,), heads=2, emb_dim=4, classes=2),
    "SpikeSlabUNet": nets.SpikeSlabUNet(S, (8,), heads=2, emb_dim=4, classes=2),
    "Classifier": nets.Classifier().eval(),
    "ResBlock": initialised(lambda: nets.ResBlock(8, 8, 6)),
    "SelfAttention": initialised(lambda: nets.SelfAttention(8, 2)),
    "Down": initialised(lambda: nets.Down(8, 8)),
    "Up": initialised(lambda: nets.Up(8, 8)),
}


NETS["ControlNet"] = nets.ControlNet(copy.deepcopy(NETS["UNet"]))
NETS["VAE"] = nets.VAE(2, (8, 8, 8))
NETS["DiT"] = nets.DiT(1, 4, 8, 1, 2, emb_dim=4, classes=2)
NETS["LinearVAE"] = nets.LinearVAE(2, 1).double()
dc.measure_latent_scale(NETS["VAE"], IMAGES, generator=seeded())
LATENTS = dc.to_latents(NETS["VAE"], IMAGES, generator=seeded())
ROWS = normal(8, 3) * torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)
OF_ROWS = dc.probabilistic_pca(ROWS, 2)
EDGES = controls.edge_map(IMAGES)


def model(x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
    return 0.5 * x_t if y is None else 0.25 * x_t


def linear() -> nn.Module:
    return initialised(lambda: nn.Linear(2, 2, dtype=torch.float64))


def square(network: nn.Module, x0: Tensor) -> Tensor:
    return network(x0).square().mean()


def fresh_samples(n: int, seeds=itertools.count()) -> Tensor:  # noqa: B008
    return normal(n, 2, seed=next(seeds))


def moved(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return an optimizer after a step."""
    for group in optimizer.param_groups:
        for weight in group["params"]:
            weight.grad = torch.ones_like(weight)
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


FOLDER = Path(tempfile.mkdtemp(prefix="generated_bad_input_"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
set_hypothesis_home_dir(FOLDER)  # else it makes a folder here
LINEAR = linear()
AVERAGE = dc.EMA(LINEAR)
ADAM = moved(torch.optim.AdamW(LINEAR.parameters()))
checkpoints.save(FOLDER / "weights.safetensors", LINEAR)
checkpoints.save_run(FOLDER / "run.safetensors", LINEAR, AVERAGE, ADAM)
(FOLDER / "numbers").write_bytes(b"numbers")
SHA256 = download.sha256_of(FOLDER / "numbers")

SCHEDULE = Given(S, {"type": odd() | one_of(S.betas, T)})
RNG = Given(seeded(), {"type": odd("None") | one_of(np.random.default_rng(0))}, (None,))
SEED = Given(
    1,
    {"type": odd("int"), "range": one_of(-(2**70), 2**70), "NaN": one_of(math.nan)},
    (0, 2**40, -5),
)
VARIANCES = optional(table(S.betas))
DTYPES = {"type": odd("None") | one_of("float32", float), "range": one_of(torch.int64, torch.bool)}
NETWORK = Given(
    LINEAR,
    {"type": odd("module"), "device": one_of(linear().to("meta")), "empty": one_of(nn.Identity())},
)
EMA_OF = Given(AVERAGE, {"shape": one_of(dc.EMA(nn.Identity()), dc.EMA(NETS["MLP"]))})
OPTIMIZER = Given(ADAM, {"type": odd(), "shape": one_of(torch.optim.SGD(NETS["MLP"].parameters()))})
WEIGHTS = Given(
    FOLDER / "weights.safetensors",
    {
        "type": odd("str"),
        "missing": one_of(FOLDER, FOLDER / "none", str(FOLDER / "none")),
        "wrong": one_of(FOLDER / "numbers"),
    },
    (),
    ("numbers", "weights.safetensors", "run.safetensors"),
)
RUN = WEIGHTS._replace(good=FOLDER / "run.safetensors")
for name in ("b.png", "a.png"):
    (FOLDER / "pictures").mkdir(exist_ok=True)
    Image.fromarray(BYTES[0].numpy()).save(FOLDER / "pictures" / name)
(FOLDER / "broken").mkdir()
(FOLDER / "broken" / "a.png").write_bytes(b"numbers")
PICTURES = Given(
    FOLDER / "pictures",
    {
        "type": odd("str"),
        "missing": one_of(FOLDER / "none", str(FOLDER / "none"), FOLDER / "numbers"),
        "empty": one_of(FOLDER),
        "wrong": one_of(FOLDER / "broken"),
    },
    (str(FOLDER / "pictures"),),
)
SAVED = Given(
    FOLDER / "saved", {"type": odd("str"), "missing": one_of(FOLDER, FOLDER / "none" / "x", "")}
)
GAUSSIAN = record(dc.Gaussian(X, ONES), mean=batch(X), var=table(ONES, least=1e-9))
SPREAD = GAUSSIAN._replace(  # mean and var broadcast to one another
    bad={name: values for name, values in GAUSSIAN.bad.items() if "shape" not in name}
)
TRIED = Given(
    X,
    {"type": odd("tensor"), "dtype": one_of(X.long(), X > 0)}
    | {k: v for k, v in numbers_of(X).items() if k not in ("dtype", "range")},
)  # the loss is the caller's
NOT_ASKED = Given(None, {})
GREY = torch.tensor([-1.0, 1.0, 1 / 255, -1 / 255]).repeat(4, 1, 4, 1)
SCALES = torch.full((4, 1, 1, 1), 0.6)
POSTERIOR = NETS["LevelUNet"].posterior(SQUARES, T_OK)
LEVEL_UNET = {
    "self": Given(NETS["LevelUNet"], {}),
    "x_t": named(batch(SQUARES), "answer"),
    "t": integers(T_OK, 1, T),
    "y": optional(integers(LABELS, 0, 2)),
}
LAW = {
    "answer": batch(normal(4, 4, 4, 4, dtype=torch.float32)),
    "x_t": batch(SQUARES),
    "scale": batch(SCALES),
    "std": batch(SCALES),
}
PIXEL_UNET = {
    "schedule": SCHEDULE,
    "widths": sequence((8,), (4,), (0,), (-8,), (8.0,), ("a",), (None,)),
    "patch": count(1),
    "options": keywords({"heads": 0}, heads=2, emb_dim=4)._replace(names=("nonsense", "heads")),
}
EIGHT = count(8)._replace(legal=(8, 16))
NATS = Given(
    3.0,
    {
        "type": odd("int", "float", "bool", "tensor"),
        "NaN": one_of(math.nan, X * math.nan),
        "infinity": one_of(math.inf, X / 0.0),
    },
)
MIXTURE = record(
    POINTS, means=batch(POINTS.means), vars=table(POINTS.vars), weights=table(POINTS.weights)
)
TERMS = dc.elbo_terms(S, model, X, decoder=dc.gaussian_decoder, generator=seeded())
DECODER = function(
    dc.gaussian_decoder, None, 1.0, X, X[:, 0] * math.nan, X[:3, 0], X[:, 0].long(), X32[:, 0], "a"
)
IMAGE_VAE = Given(NETS["VAE"], {"type": odd() | one_of(NETS["MLP"], NETS["LinearVAE"])})
ROW_VAE = Given(NETS["LinearVAE"], {"type": odd() | one_of(NETS["MLP"], NETS["UNet"])})
PCA = record(
    OF_ROWS,
    mean=table(OF_ROWS.mean, least=-math.inf),
    weight=Given(
        OF_ROWS.weight,
        {
            "type": odd("tensor"),
            "shape": one_of(OF_ROWS.weight[None], OF_ROWS.weight[0], OF_ROWS.weight[:-1]),
        }
        | numbers_of(OF_ROWS.weight),
    ),
    var=Given(OF_ROWS.var, {"type": odd("tensor"), "range": one_of(-OF_ROWS.var, 0 * OF_ROWS.var)}),
)
JUDGE = Given(NETS["Classifier"], {"type": odd("module")})
LEVELS = torch.tensor([[-1.0, 1.0], [1 / 255, -1 / 255]], dtype=torch.float64)
CLIP = Given(
    (-1.0, 1.0),
    {
        "type": odd("None"),
        "range": one_of((1.0, -1.0), (0.0, 0.0)),
        "NaN": one_of((math.nan, 1.0)),
        "shape": one_of((1.0,), (), (-1.0, 0.0, 1.0)),
        "items": one_of(("a", "b"), (None, 1.0)),
    },
    (None,),
)


def a_score(x: Tensor) -> Tensor:
    return -0.5 * x


UNLIKE = (None, 1.0, "s", X.tolist(), X.to("meta"), X[:1], X[..., :1], X[None], X.long(), X32)
SCORE = function(a_score, *UNLIKE, X * math.nan, X / 0.0)
JACOBIANS = normal(4, 2, 2)


def of_two(x: str, y: str, low: int) -> dict[str, Given]:
    return {"schedule": SCHEDULE, x: batch(X), y: batch(Y), "t": steps(T_OK, low, T)}


LEVELS_DOWN = torch.tensor([20.0, 2.0, 0.5], dtype=torch.float64)
TIMES = sequence((0.0, 0.5, 1.0), (0.0,), (0.0, 0.0), (0.0, math.nan), ("a", "b"), (0.0, 1.0, 0.5))
TIMES.bad["type"] = odd("array", "tensor")
SDE = record(
    dc.vp_sde(), drift=function(dc.vp_sde().drift), diffusion=function(dc.vp_sde().diffusion)
)


def minus(x: Tensor) -> Tensor:
    return -x


def decay(x: Tensor, time: float) -> Tensor:
    return -0.5 * x


INCREMENTS = batch(torch.stack([X, Y]))
INCREMENTS.bad.pop("range")  # a step to 1e308 is one; what the drift makes of it is refused
FLOW = record(dc.SDE(decay, lambda x, time: 0.0), drift=a_model(decay, X))


LOG_P = function(
    lambda x_t, t: -x_t.square().reshape(len(x_t), -1).sum(1), None, 1.0, X, X[:3, 0], X[:, 0], "a"
)
LOG_P.bad["infinite answer"] = function(model, X[:, 0] * math.nan).bad["answer"]
CLASSIFIER = function(
    lambda x_t, t: x_t, None, 1.0, X[:, 0], X[:3], X32, X.long(), X * math.nan, "a"
)
SCALE = number(2.0, 0)
OF_CLASSES = integers(LABELS, 0, 5)._replace(legal=(LABELS.int(),))  # too few for a 6
FULL = dc.FullMixture(POINTS.means, torch.eye(2).double().expand(4, 2, 2) * 0.5, POINTS.weights)
FULL = record(FULL, means=batch(FULL.means), covs=batch(FULL.covs), weights=table(FULL.weights))


def first(x: Tensor) -> Tensor:
    return x[:, :1]


MEASURE = function(first, None, 1.0, "a", X, X[:3, :1], X[:, :1].long(), X32[:, :1], X[:, :1])
MEASURED = batch(X[:, :1])
KNOWN = torch.tensor([True, False])
KNOWN = Given(
    KNOWN,
    {
        "type": odd(),
        "dtype": one_of(KNOWN.long(), KNOWN.double()),
        "shape": one_of(KNOWN[:1], KNOWN[None], KNOWN.repeat(2)),
        "device": one_of(KNOWN.to("meta")),
    },
    (KNOWN.repeat(4, 1),),
)
GRID = torch.linspace(-9, 9, 7, dtype=torch.float64)
DENSITY = function(
    lambda x: -(x[:, 0] ** 2), None, 1.0, GRID[:, None], GRID[:3], GRID * math.nan, "a"
)
A_STEP = function(dc.ddim_step, None, 1.0, X, (2, X, X), dc.Step(2, X[:3], X), dc.Step(2, X32, X))
STATES_OF_STEP = {
    "schedule": SCHEDULE,
    "eps_model": a_model(model, X),
    "x_t": named(batch(X), "x0"),
    "t": step(3, 3, 4),
    "s": step(2, 0, 2),
    "options": keywords(eta=0.5),
}


TIME = number(0.5, 0, 1)
TIMES_OF_X = table(torch.tensor([0.1, 0.9, 0.5, 0.3], dtype=torch.float64))


GOOD: dict[str, dict[str, Given]] = {
    "averages.EMA": {"model": NETWORK, "decay": number(0.9, 0, 1, "[)")},
    "averages.EMA.update": {"self": EMA_OF, "model": NETWORK},
    "averages.EMA.state_dict": {"self": EMA_OF},
    "averages.EMA.load_state_dict": {
        "self": EMA_OF,
        "state": Given(
            AVERAGE.state_dict(),
            {
                "type": odd(),
                "empty": one_of({}),
                "names": one_of({"weight": X}),
                "shape": one_of({k: v[:1] for k, v in AVERAGE.state_dict().items()}),
                "dtype": one_of({k: v.float() for k, v in AVERAGE.state_dict().items()}),
                "NaN": one_of({k: v * math.nan for k, v in AVERAGE.state_dict().items()}),
            },
        ),
        "updates": count(3, 0),
    },
    "checkpoints.save": {
        "path": SAVED,
        "model": NETWORK,
        "dtype": Given(torch.float16, DTYPES, (None,)),
        "about": keywords({"note": object()}, {"note": X}, note="a"),
    },
    "checkpoints.load": {"path": WEIGHTS, "model": named(NETWORK, "weights.safetensors")},
    "checkpoints.save_run": {
        "path": SAVED,
        "model": NETWORK,
        "ema": typed(EMA_OF),
        "optimizer": OPTIMIZER,
        "about": keywords({"note": object()}, note="a"),
    },
    "checkpoints.load_run": {
        "path": RUN,
        "model": named(NETWORK, "run.safetensors"),
        "ema": named(typed(EMA_OF), "run.safetensors"),
        "optimizer": named(OPTIMIZER, "run.safetensors"),
    },
    "classes.mixture_classifier": {
        "schedule": SCHEDULE,
        "data": named(typed(MIXTURE), "x_t", "x"),
        "labels": named(OF_CLASSES, "label"),
    },
    "classes.mixture_classifier()": {"x_t": named(batch(X), "x"), "t": steps(T_OK, 0, T)},
    "classes.of_class": {"data": typed(MIXTURE), "labels": OF_CLASSES, "label": step(1, 0, 2)},
    "classes.tilted_density": {
        "log_prob": DENSITY,
        "log_p": DENSITY,
        "guidance_scale": number(2.0),
        "grid": named(table(GRID, least=-math.inf), "log_prob"),  # which is -infinity far out
    },
    "consistency.consistency_model": {
        "schedule": SCHEDULE,
        "network": a_model(model, X),
        "data_std": number(1.0, 0, ends="()"),
    },
    "consistency.consistency_model()": {"x_t": batch(X), "t": steps(T_OK, 1, T)},
    "consistency.consistency_loss": {
        "schedule": SCHEDULE,
        "x0_model": a_model(model, X),
        "x0": named(batch(X), "x_t", "eps_model"),
        "eps_model": optional(a_model(model, X)),
        "target_model": optional(a_model(model, X)),
        "generator": RNG,
    },
    "couplings.optimal_pairing": {
        "x0": batch(X),
        "eps": batch(Y),
        "y": optional(integers(LABELS, 0, 2)),
    },
    "couplings.reflow_pairs": {
        "flow": typed(FLOW),
        "eps": named(batch(X), "x"),
        "tolerance": number(1e-3, 1e-13, 1, "()"),
    },
    "couplings.straightness_defect": {
        "flow": typed(FLOW),
        "eps": named(batch(X), "drift", "x"),  # whose square is too large then
        "tolerance": number(1e-3, 1e-13, 1, "()"),
    },
    "controls.edge_map": {"x0": batch(IMAGES)},
    "controls.thumbnail": {"x0": batch(IMAGES)},
    "controls.edge_f1": {"x": batch(IMAGES), "edges": batch(EDGES)},
    "controls.thumbnail_error": {"x": named(batch(IMAGES), "x0"), "thumb": batch(IMAGES)},
    "controls.Yardstick.share": {
        "self": Given(controls.Yardstick(0.4, 0.9), {}),
        "found": number(0.5),
    },
    "controls.edge_yardstick": {"x0": batch(IMAGES), "generator": RNG},
    "controls.thumbnail_yardstick": {"x0": batch(IMAGES)},
    "data.mnist": {"split": word("train", "test")},
    "data.digits": {},
    "data.folder": {"path": PICTURES},
    "data.images": {"split": word("train", "test")},
    "data.to_signed": {
        "images": Given(
            BYTES,
            {
                "type": odd(),
                "dtype": one_of(IMAGES[:, 0], BYTES.long(), BYTES > 3),
                "shape": one_of(BYTES[None], BYTES[0], BYTES[:, None]),
                "device": one_of(BYTES.to("meta")),
                "empty": one_of(BYTES[:0]),
            },
        )
    },
    "data.to_uint8": {"x": batch(IMAGES)},
    "data.minibatches": {
        "x": Given(X, {"type": odd("tensor"), "shape": one_of(X[0, 0], X[:1])}),
        "batch_size": named(count(2, 1, 4), "x"),
        "generator": RNG,
    },
    "decoders.gaussian_decoder": {"x0": batch(X), "p": typed(GAUSSIAN), "x_1": NOT_ASKED},
    "decoders.discretized_decoder": {
        "x0": batch(LEVELS),
        "p": record(
            dc.Gaussian(LEVELS, torch.ones_like(LEVELS)),
            mean=batch(LEVELS),
            var=table(torch.ones_like(LEVELS), least=1e-9),
        ),
        "x_1": NOT_ASKED,
    },
    "devices.default_device": {},
    "devices.available_devices": {},
    "download.fetch": {
        "name": Given("numbers", {"type": odd("str")}),
        "sha256": Given(SHA256, {"type": odd("str"), "range": one_of("", "nonsense")}),
        "mirrors": Given((), {"type": odd("tuple", "list"), "items": one_of((None,), (3,))}, ([],)),
        "folder": Given(FOLDER, {"type": odd("str")}),
    },
    "download.sha256_of": {
        "path": Given(FOLDER / "numbers", {"type": odd("str")}, (FOLDER / "none",))
    },
    "elbo.elbo_terms": {
        "schedule": SCHEDULE,
        "eps_model": a_model(model, X),
        "x0": batch(X),
        "decoder": DECODER,
        "variances": VARIANCES,
        "generator": RNG,
    },
    "elbo_weights.importance": {"terms": record(TERMS, steps=batch(TERMS.steps))},
    "elbo.elbo_estimate": {
        "schedule": SCHEDULE,
        "eps_model": a_model(model, X),
        "x0": batch(X),
        "decoder": DECODER,
        "probs": table(PROBS),
        "draws": count(2),
        "variances": VARIANCES,
        "generator": RNG,
    },
    "decoders.bits_per_dim": {
        "nats": NATS,
        "dim": count(2),
        "bin_width": number(1.0, 0, ends="()"),
    },
    "elbo.log_ratio": {
        "schedule": SCHEDULE,
        "eps_model": a_model(model, X),
        "states": named(batch(STATES), "x_t", "decoder"),
        "decoder": DECODER,
        "variances": named(VARIANCES, "states"),
    },
    "elbo.log_ratio_telescoped": {
        "schedule": SCHEDULE,
        "eps_model": a_model(model, X),
        "states": named(batch(STATES), "x_t", "decoder"),
        "options": keywords(decoder=dc.gaussian_decoder),
    },
    "elbo_weights.eps_weights": {"schedule": SCHEDULE, "variances": VARIANCES},
    "elbo_weights.eps_errors": {
        "schedule": SCHEDULE,
        "eps_model": a_model(model, X),
        "x0": batch(X),
        "generator": RNG,
    },
    "elbo_weights.best_variances": {"schedule": SCHEDULE, "errors": table(S.betas)},
    "flow.straight_path": {"x0": batch(X), "eps": batch(Y), "time": TIME},
    "flow.straight_path, times": {"x0": batch(X), "eps": batch(Y), "time": TIMES_OF_X},
    "flow.uniform_time": {"like": batch(X), "generator": RNG},
    "flow.logit_normal_time": {
        "like": batch(X),
        "generator": RNG,
        "mean": number(0.5),
        "std": number(2.0, 0, ends="()"),
    },
    "flow.flow_loss": {
        "velocity_model": a_model(decay, X),
        "x0": batch(X),
        "eps": optional(batch(Y)),
        "draw_time": optional(
            named(
                function(dc.uniform_time, None, 2.0, "a", X, X[:3, 0], X[:, 0] * math.nan), "time"
            )
        ),
        "generator": RNG,
    },
    "flow.mixture_velocity": {"data": typed(MIXTURE)},
    "flow.mixture_velocity()": {"x": batch(X), "time": TIME},
    "flow.velocity_model_from_steps": {"network": a_model(model, X), "T": count(10)},
    "flow.velocity_model_from_steps()": {"x": batch(X), "time": TIME},
    "flow.straight_flow": {"velocity_model": a_model(decay, X)},
    "flow.heun_flow": {"flow": typed(FLOW), "times": TIMES},
    "gaussian.standard_gaussian": {"like": batch(X)},
    "gaussian.standard_normal": {"like": batch(X), "generator": RNG},
    "gaussian.Gaussian.sample": {"self": SPREAD, "generator": RNG},
    "gaussian.Gaussian.log_prob": {"self": GAUSSIAN, "x": batch(Y)},
    "gaussian.kl_divergence": {"p": typed(GAUSSIAN), "q": typed(GAUSSIAN)},
    "grids.geometric_levels": {
        "highest": number(20.0, 0.1, ends="()"),
        "lowest": number(0.1, 0, 20, "()"),
        "count": count(3, 2),
    },
    "grids.karras_levels": {
        "highest": number(20.0, 0.1, ends="()"),
        "lowest": number(0.1, 0, 20, "()"),
        "count": count(3, 2),
        "rho": number(7.0, 1),
    },
    "grids.schedule_from_noise_levels": {"noise_levels": table(LEVELS_DOWN)},
    "grids.nearest_taus": {"schedule": SCHEDULE, "noise_levels": table(LEVELS_DOWN)},
    "grids.straight_schedule": {
        "times": named(table(torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)), "noise_levels")
    },
    "grids.straight_times": {"schedule": SCHEDULE},
    "autoguidance.autoguided": {
        "model": a_model(model, X),
        "weak": a_model(model, X),
        "guidance_scale": number(2.0, 0),
    },
    "autoguidance.autoguided()": {"x_t": batch(X), "t": Given(T_OK, {})},
    "autoguidance.limited": {
        "guided": a_model(model, X),
        "plain": a_model(model, X),
        "lowest": count(1, 0),
        "highest": count(2, 1),
    },
    "autoguidance.limited()": {"x_t": batch(X), "t": Given(T_OK, {})},
    "guidance.classifier_free": {
        "model": a_model(model, X),
        "y": integers(LABELS, 0, 2),
        "guidance_scale": number(2.0, 0),
    },
    "guidance.classifier_free()": {"x_t": batch(X), "t": Given(T_OK, {})},
    "guidance.classifier_guided": {
        "schedule": SCHEDULE,
        "eps_model": a_model(model, X),
        "log_p": LOG_P,
        "guidance_scale": SCALE,
    },
    "guidance.classifier_guided()": {"x_t": batch(X), "t": steps(T_OK, 1, T)},
    "guidance.label_log_prob": {"classifier": CLASSIFIER, "y": integers(LABELS % 2, 0, 1)},
    "guidance.label_log_prob()": {"x_t": named(batch(X), "classifier", "y"), "t": Given(T_OK, {})},
    "guidance.scale_from_strength": {"strength": number(0.5, -1)},
    "guidance.strength_from_scale": {"guidance_scale": SCALE},
    "guidance.drop_labels": {
        "y": integers(LABELS, 0, 2),
        "null_label": count(3, 0),
        "share": number(0.5, 0, 1),
        "generator": RNG,
    },
    "judge.judge_images": {"judge": JUDGE, "x": batch(IMAGES), "real": batch(IMAGES)},
    "judge.frechet_floor": {
        "judge": JUDGE,
        "train": batch(IMAGES),
        "real": batch(IMAGES),
        "n": count(2, 2, 4),
        "generator": RNG._replace(legal=()),
    },
    "judge.as_asked": {"judge": JUDGE, "x": named(batch(IMAGES), "y"), "y": integers(LABELS, 0, 9)},
    "judge.in_class_spread": {
        "x": named(batch(X), "y"),
        "y": integers(LABELS % 2, 0, 1),
    },
    "judge.frechet_distance": {"x": batch(X), "y": batch(Y)},
    "judge.nearest_distances": {"x": batch(X), "train": batch(Y)},
    "langevin.langevin_step": {
        "score": a_model(minus, X),
        "x": batch(X),
        "step_size": number(0.1, 0, ends="()"),
        "generator": RNG,
    },
    "langevin.langevin_chain": {
        "score": a_model(minus, X),
        "x": batch(X),
        "step_size": number(0.1, 0, ends="()"),
        "steps": count(2),
        "generator": RNG,
    },
    "langevin.ncsn_loss": {
        "schedule": SCHEDULE,
        "score_model": a_model(model, X),
        "x0": batch(X),
        "t": optional(steps(T_OK, 1, T)),
        "generator": RNG,
    },
    "langevin.eps_model_from_ncsn": {"schedule": SCHEDULE, "score_model": a_model(model, X)},
    "langevin.eps_model_from_ncsn()": {"x_t": batch(X), "t": steps(T_OK, 1, T)},
    "langevin.langevin_corrector": {
        "schedule": SCHEDULE,
        "eps_model": a_model(model, X),
        "x_t": batch(X),
        "t": step(3, 1, T),
        "steps": count(2),
        "ratio": number(0.2, 0, ends="()"),
        "generator": RNG,
    },
    "langevin.annealed_langevin_step": {
        "schedule": SCHEDULE,
        "eps_model": a_model(model, X),
        "x_t": batch(X),
        "t": step(3, 3, 4),
        "s": step(2, 0, 2),
        "steps": count(2),
        "ratio": number(0.2, 0, ends="()"),
        "generator": RNG,
    },
    "likelihood.solve_ode": {
        "drift": a_model(decay, X),
        "x": batch(X),
        "start": number(0.0),
        "end": number(1.0),
        "tolerance": number(1e-3, 1e-13, 1, "()"),
    },
    "likelihood.log_likelihood": {
        "flow": typed(FLOW),
        "x": batch(X),
        "log_prior": function(POINTS.log_prob, None, 1.0, X, X[:, 0] * math.nan, X[:3, 0], "a"),
        "start": number(0.5, 0, 1, "[)"),
        "probes": count(2, 0),
        "tolerance": number(1e-2, 1e-13, 1, "()"),
        "generator": RNG,
    },
    "latents.measure_latent_scale": {
        "vae": IMAGE_VAE,
        "x": named(batch(IMAGES), "vae"),
        "generator": RNG,
    },
    "latents.to_latents": {"vae": IMAGE_VAE, "x": batch(IMAGES), "generator": RNG},
    "latents.from_latents": {"vae": IMAGE_VAE, "z": batch(LATENTS)},
    "latents.second_moments": {"z": batch(X)},
    "latents.scaled_schedule": {
        "schedule": SCHEDULE,
        "scale": named(number(2.0, 0, ends="()"), "alpha_bars"),
    },
    "vae_losses.active_units": {
        "vae": ROW_VAE,
        "x": batch(X),
        "threshold": number(0.01, 0),
    },
    "vae_losses.decoder_var_of": {
        "error_weight": number(0.5, 0, ends="()"),
        "kl_weight": number(1.0, 0, ends="()"),
    },
    "vae_losses.posterior_of": {"vae": ROW_VAE, "x": batch(X)},
    "vae_losses.vae_loss": {"vae": ROW_VAE, "x": batch(X), "generator": RNG},
    "vae_losses.vae_terms": {"vae": ROW_VAE, "x": batch(X), "generator": RNG},
    "vae_losses.weighted_vae_loss": {
        "vae": ROW_VAE,
        "x": batch(X),
        "error_weight": number(0.5, 0),
        "kl_weight": number(1.0, 0),
        "generator": RNG,
    },
    "losses.draw_t": {"schedule": SCHEDULE, "x0": batch(X), "generator": RNG},
    "losses.eps_loss": {
        "schedule": SCHEDULE,
        "model": a_model(model, X),
        "x0": named(batch(X), "model"),  # whose answer is too large then
        "t": optional(steps(T_OK, 1, T)),
        "generator": RNG,
    },
    "losses.v_loss": {
        "schedule": SCHEDULE,
        "model": a_model(model, X),
        "x0": named(batch(X), "model"),  # whose answer is too large then
        "t": optional(steps(T_OK, 1, T)),
        "generator": RNG,
    },
    "losses.bound_loss": {
        "schedule": SCHEDULE,
        "posterior": function(NETS["LevelUNet"].posterior, None, 1.0, GREY, X),
        "x0": named(batch(GREY), "x_t"),
        "generator": RNG,
    },
    "measurements.measurement_guided": {
        "schedule": SCHEDULE,
        "eps_model": a_model(model, X),
        "measure": MEASURE,
        "y": named(MEASURED, "measure"),
        "noise_var": number(0.1, 0, ends="()"),
        "covariance": Given(True, {}, (False,)),
        "iterations": count(2),
    },
    "measurements.measurement_guided()": {
        "x_t": named(batch(X), "measure"),
        "t": steps(T_OK, 1, T),
    },
    "metrics.energy_distance": {"x": batch(X), "y": batch(Y)},
    "metrics.mmd": {
        "x": batch(X),
        "y": batch(Y),
        "bandwidths": sequence(
            (0.5, 1.0), (0.0,), (-1.0,), (math.nan,), (math.inf,), ("a",), (None,), 0.5
        ),
    },
    "metrics.sliced_wasserstein": {
        "x": batch(normal(4, 3)),
        "y": batch(normal(4, 3, seed=2)),
        "n_projections": count(4),
        "generator": RNG,
    },
    "metrics.mode_coverage": {
        "samples": batch(X),
        "centres": batch(Y),
        "radius": number(1.0, 0, ends="()"),
    },
    "metrics.floor": {
        "distance": function(metrics.energy_distance, None, math.nan, "a", X),
        "sample_real": named(function(fresh_samples, None, X * math.nan, 3), "x"),
        "n": count(3),
        "pairs": count(2, 2),
    },
    "metrics.times_floor": {
        "distance": function(metrics.energy_distance, None, math.nan, "a", X),
        "clouds": sequence((X, Y), (X, Y[:3]), (None,), (3,), (X * math.nan, Y)),
        "sample_real": named(function(fresh_samples, None, X * math.nan, 3, X), "y"),
    },
    "mixtures.Mixture.sample": {"self": MIXTURE, "n": count(3), "generator": RNG},
    "mixtures.Mixture.log_prob": {"self": MIXTURE, "x": batch(X)},
    "mixtures.Mixture.score": {"self": MIXTURE, "x": batch(X)},
    "mixtures.mixture": {
        "means": batch(X),
        "var": number(0.1, 0),
        "weights": optional(table(POINTS.weights)),
    },
    "mixtures.mixture, a table": {
        "means": batch(X),
        "var": table(POINTS.vars),
        "weights": optional(table(POINTS.weights)),
    },
    "mixtures.diffuse": {"schedule": SCHEDULE, "data": typed(MIXTURE), "t": step(3, 0, T)},
    "mixtures.mixture_eps_model": {"schedule": SCHEDULE, "data": named(typed(MIXTURE), "x_t")},
    "mixtures.mixture_eps_model()": {"x_t": named(batch(X), "x"), "t": steps(T_OK, 1, T)},
    "mixtures.mixture_reverse": {
        "schedule": SCHEDULE,
        "data": typed(MIXTURE),
        "x_t": table(X[0], least=-math.inf),
        "t": step(3, 1, T),
    },
    "posteriors.FullMixture.sample": {"self": FULL, "n": count(3), "generator": RNG},
    "posteriors.FullMixture.log_prob": {"self": FULL, "x": batch(X)},
    "posteriors.FullMixture.moments": {"self": FULL},
    "posteriors.condition": {
        "data": named(typed(MIXTURE), "measure"),
        "measure": MEASURE,
        "y": named(table(X[0, :1], least=-math.inf), "measure"),
        "noise_var": number(0.1, 0),
    },
    "priors.prior_kl": {"schedule": SCHEDULE, "data": typed(MIXTURE)},
    "nets.classifier.Classifier": {
        "widths": sequence((8, 8, 8), (8, 8), (0, 8, 8), (8, -8, 8), (8, 8, 8.0), ("a", 8, 8)),
        "seed": SEED,
    },
    "nets.classifier.Classifier.features": {
        "self": Given(NETS["Classifier"], {}),
        "x": batch(IMAGES),
    },
    "nets.classifier.Classifier.forward": {
        "self": Given(NETS["Classifier"], {}),
        "x": batch(IMAGES),
    },
    "nets.controlnet.ControlNet": {
        "base": Given(
            NETS["UNet"],
            {
                "type": odd() | one_of(NETS["MLP"], NETS["LevelUNet"]),
                "device": one_of(copy.deepcopy(NETS["UNet"]).to("meta")),
            },
        ),
        "control_channels": count(1),
    },
    "nets.controlnet.ControlNet.forward": {
        "self": Given(NETS["ControlNet"], {}),
        "x_t": batch(SQUARES),
        "t": integers(T_OK, 0, 10**6),
        "y": optional(integers(LABELS, 0, 2)),
        "control": batch(SQUARES),
        "control_scale": SCALE,
    },
    "nets.controlnet.zero_conv": {"in_channels": count(2), "out_channels": count(2)},
    "nets.dit.DiT": {
        "in_channels": count(1),
        "side": count(4, 1)._replace(legal=(2, 4)),
        "width": count(8)._replace(legal=(2, 8)),
        "depth": count(1),
        "heads": count(2),
        "patch": count(1),
        "emb_dim": count(4, 2),
        "classes": count(0, 0),
        "seed": SEED,
    },
    "nets.dit.DiT.forward": {
        "self": Given(NETS["DiT"], {}),
        "x_t": batch(SQUARES),
        "t": integers(T_OK, 0, 10**6),
        "y": optional(integers(LABELS, 0, 2)),
    },
    "nets.embeddings.timestep_embedding": {
        "t": integers(T_OK, 0, 10**6),
        "dim": count(4, 2),
        "max_period": number(100.0, 0, ends="()"),
    },
    "nets.levels.LevelPosterior": LAW,
    "nets.levels.LevelPosterior.log_prob": {"self": Given(POSTERIOR, {}), "x0": batch(GREY)},
    "nets.levels.LevelUNet.posterior": LEVEL_UNET,
    "nets.levels.LevelUNet.forward": LEVEL_UNET,
    "nets.levels.LevelUNet": PIXEL_UNET,
    "nets.spike_slab.SpikeSlabUNet": PIXEL_UNET,
    "nets.pixels.PixelUNet": PIXEL_UNET,
    "nets.pixels.PixelUNet.forward": LEVEL_UNET | {"self": Given(NETS["PixelUNet"], {})},
    "nets.spike_slab.spike_slab_mean": LAW,
    "nets.spike_slab.SpikeSlabUNet.forward": LEVEL_UNET
    | {"self": Given(NETS["SpikeSlabUNet"], {})},
    "nets.levels.LevelUNet.decoder": {
        "self": Given(NETS["LevelUNet"], {}),
        "x0": named(batch(GREY), "x_t"),
        "p": NOT_ASKED,
        "x_1": named(batch(SQUARES), "x_t", "x0", "answer"),
    },
    "nets.linear_vae.LinearVAE": {"dim": count(2), "latent_dim": count(1), "seed": SEED},
    "nets.linear_vae.LinearVAE.encode": {"self": Given(NETS["LinearVAE"], {}), "x": batch(X)},
    "nets.linear_vae.LinearVAE.decode": {
        "self": Given(NETS["LinearVAE"], {}),
        "z": batch(X[:, :1]),
    },
    "nets.linear_vae.LinearVAE.forward": {"self": Given(NETS["LinearVAE"], {}), "x": batch(X)},
    "nets.mlp.MLP": {"dim": count(2), "width": count(4, 2), "depth": count(1), "seed": SEED},
    "nets.mlp.MLP.forward": {
        "self": Given(NETS["MLP"], {}),
        "x_t": batch(X32),
        "t": integers(T_OK, 0, 10**6),
    },
    "nets.blocks.ResBlock": {
        "in_channels": EIGHT,
        "out_channels": EIGHT,
        "emb_dim": count(6),
        "scale_shift": Given(True, {}, (False,)),
    },
    "nets.blocks.ResBlock.forward": {
        "self": Given(NETS["ResBlock"], {}),
        "x": batch(CHANNELS),
        "emb": batch(EMB),
    },
    "nets.blocks.SelfAttention": {"channels": EIGHT, "heads": count(2)},
    "nets.blocks.SelfAttention.forward": {
        "self": Given(NETS["SelfAttention"], {}),
        "x": batch(CHANNELS),
    },
    "nets.blocks.Down": {"in_channels": count(8), "out_channels": count(8)},
    "nets.blocks.Down.forward": {"self": Given(NETS["Down"], {}), "x": batch(CHANNELS)},
    "nets.blocks.Up": {"in_channels": count(8), "out_channels": count(8)},
    "nets.blocks.Up.forward": {"self": Given(NETS["Up"], {}), "x": batch(CHANNELS)},
    "nets.unet.UNet": {
        "in_channels": count(1),
        "widths": sequence((8,), (4,), (0,), (-8,), (8.0,), ("a",), (None,)),
        "patch": count(1),
        "heads": count(2),
        "emb_dim": count(4, 2),
        "classes": count(0, 0),
        "scale_shift": Given(True, {}, (False,)),
        "gain": Given(True, {}, (False,)),
        "seed": SEED,
    },
    "nets.unet.UNet.forward": {
        "self": Given(NETS["UNet"], {}),
        "x_t": batch(SQUARES),
        "t": integers(T_OK, 0, 10**6),
        "y": optional(integers(LABELS, 0, 2)),
    },
    "nets.vae.VAE": {
        "latent_channels": count(2),
        "widths": sequence((8, 8, 8), (8, 8), (0, 8, 8), (4, 8, 8), (8, 8, 8.0), ("a", 8, 8)),
        "seed": SEED,
    },
    "nets.vae.VAE.encode": {"self": Given(NETS["VAE"], {}), "x": batch(IMAGES)},
    "nets.vae.VAE.decode": {"self": Given(NETS["VAE"], {}), "z": batch(LATENTS)},
    "nets.vae.VAE.forward": {"self": Given(NETS["VAE"], {}), "x": batch(IMAGES)},
    "predictions.x0_from_eps": of_two("x_t", "eps", 0),
    "predictions.eps_from_x0": of_two("x_t", "x0", 1),
    "predictions.v_target": of_two("x0", "eps", 0),
    "predictions.x0_from_v": of_two("x_t", "v", 0),
    "predictions.eps_from_v": of_two("x_t", "v", 0),
    "predictions.velocity_target": {"x0": batch(X), "eps": batch(Y)},
    "predictions.x0_from_velocity": of_two("x_t", "velocity", 0),
    "predictions.eps_from_velocity": of_two("x_t", "velocity", 0),
    "predictions.eps_model_from_velocity": {
        "schedule": SCHEDULE,
        "velocity_model": named(a_model(decay, X), "velocity"),
    },
    "predictions.eps_model_from_velocity()": {
        "x_t": named(batch(X), "velocity"),
        "t": steps(T_OK, 0, T),
    },
    "predictions.score_from_eps": {"schedule": SCHEDULE, "eps": batch(X), "t": steps(T_OK, 1, T)},
    "predictions.eps_from_score": {"schedule": SCHEDULE, "score": batch(X), "t": steps(T_OK, 1, T)},
    "predictions.eps_model_from_v": {"schedule": SCHEDULE, "v_model": a_model(model, X)},
    "predictions.eps_model_from_v()": {"x_t": batch(X), "t": integers(T_OK, 0, T)},
    "predictions.eps_model_from_x0": {"schedule": SCHEDULE, "x0_model": a_model(model, X)},
    "predictions.eps_model_from_x0()": {"x_t": batch(X), "t": integers(T_OK, 1, T)},
    "predictions.v_model_from_x0": {"schedule": SCHEDULE, "x0_model": a_model(model, X)},
    "predictions.v_model_from_x0()": {"x_t": batch(X), "t": integers(T_OK, 1, T)},
    "pretrained.bits_unet": {},
    "pretrained.mnist_controlnet": {},
    "pretrained.mnist_unet": {},
    "pretrained.unlabelled_unet": {},
    "pretrained.weak_unet": {},
    "pretrained.one_step_mlp": {},
    "pretrained.load": {"name": word("judge")},
    "pretrained.mnist_vae": {},
    "pretrained.latent_unet": {},
    "pretrained.latent_dit": {},
    "probabilistic_pca.PPCA.log_prob": {"self": PCA, "x": named(batch(ROWS), "mean")},
    "probabilistic_pca.probabilistic_pca": {
        "x": batch(ROWS),
        "latent_dim": named(count(2), "x"),
        "decoder_var": optional(number(0.5, 0, ends="()")),
    },
    "probabilistic_pca.optimal_linear_vae": {"model": typed(PCA)},
    "probabilistic_pca.exact_vae_terms": {"vae": ROW_VAE, "x": batch(X)},
    "probabilistic_pca.pca_kl": {
        "x": batch(ROWS),
        "latent_dim": named(count(2), "x"),
        "decoder_var": number(0.5, 0, ends="()"),
    },
    "process.q_step": {"schedule": SCHEDULE, "x_prev": batch(X), "t": steps(T_OK, 1, T)},
    "process.q_trajectory": {"schedule": SCHEDULE, "x0": batch(X), "generator": RNG},
    "process.q_marginal": {"schedule": SCHEDULE, "x0": batch(X), "t": steps(T_OK, 0, T)},
    "process.q_sample": {
        "schedule": SCHEDULE,
        "x0": batch(X),
        "t": steps(T_OK, 0, T),
        "eps": optional(batch(Y)),
        "generator": RNG,
    },
    "process.q_posterior": of_two("x_t", "x0", 1),
    "process.p_step": of_two("x_t", "x0_hat", 1) | {"variances": VARIANCES},
    "progress.is_on": {"variable": Given("NO_SUCH_VARIABLE", {"type": odd("str")})},
    "samplers.ddpm_step": {
        "schedule": SCHEDULE,
        "eps_model": a_model(model, X),
        "x_t": batch(X),
        "t": named(step(3, 3, 3), "s"),
        "s": step(2, 2, 2),
        "variances": VARIANCES,
        "clip": CLIP,
        "generator": RNG,
    },
    "samplers.ddim_step": {
        "schedule": SCHEDULE,
        "eps_model": a_model(model, X),
        "x_t": batch(X),
        "t": step(3, 3, 4),
        "s": step(2, 0, 2),
        "eta": number(0.5, 0, 1),
        "clip": CLIP,
        "generator": RNG,
    },
    "samplers.even_taus": {"T": count(4, 2), "steps": count(2, 1, 4)},
    "samplers.sample_chain": {
        "step": function(dc.ddim_step),
        "schedule": SCHEDULE,
        "eps_model": a_model(model, X),
        "x_T": named(batch(X), "x_t"),
        "taus": sequence(
            (4, 2, 0), (4,), (5, 0), (4, 4, 0), (4, 1), (4.0, 0.0), ("a",), T_OK, legal=(None,)
        ),
        "options": keywords(generator=seeded()),
    },
    "schedules.NoiseSchedule": {"betas": table(S.betas[1:])},
    "schedules.at": {
        "table": table(S.betas),
        "t": steps(T_OK, 0, T),
        "x": batch(X),
        "lowest": count(0, 0),
    },
    "schedules.linear_schedule": {
        "T": count(4),
        "beta_start": number(0.5, 0, 1, "()"),
        "beta_end": number(0.9, 0, 1, "()"),
    },
    "schedules.vp_schedule": {"T": count(4)},
    "schedules.cosine_schedule": {
        "T": count(4),
        "offset": number(0.008, 0),
        "beta_max": number(0.99, 0, 1, "()"),
    },
    "schedules.log_snr_schedule": {
        "T": count(4, 2),
        "highest": number(13.0, -9, ends="()"),
        "lowest": named(number(-9.0, -math.inf, 13, "()"), "highest"),
    },
    "schedules.constant_schedule": {"T": count(4), "beta": number(0.8, 0, 1, "()")},
    "schedules.schedule_from_alpha_bars": {"alpha_bars": table(S.alpha_bars[1:])},
    "schedules.prior_gap": {"schedule": SCHEDULE, "second_moment": number(1.0, 0)},
    "reversal.reverse_sde": {"sde": typed(SDE), "score": a_model(decay, X)},
    "reversal.probability_flow": {"sde": typed(SDE), "score": a_model(decay, X)},
    "reversal.mixture_at": {"sde": typed(SDE), "data": MIXTURE, "time": number(0.5, 0, 1)},
    "reversal.mixture_score": {"sde": typed(SDE), "data": MIXTURE},
    "reversal.mixture_score()": {"x": batch(X), "time": number(0.5, 0, 1)},
    "sde.vp_sde": {"beta_min": number(0.1, 0, 20, "(]"), "beta_max": number(20.0, 0.1)},
    "sde.ve_sde": {"lowest": number(0.1, 0, 20, "(]"), "highest": number(20.0, 0.1)},
    "sde.wiener_increments": {"times": TIMES, "x": batch(X), "generator": RNG},
    "sde.euler_maruyama": {
        "sde": typed(SDE),
        "x": batch(X),
        "times": TIMES,
        "increments": optional(INCREMENTS),
        "generator": RNG,
    },
    "solvers.heun_step": {
        "schedule": SCHEDULE,
        "eps_model": a_model(model, X),
        "x_t": batch(X),
        "t": step(3, 3, 4),
        "s": step(2, 0, 2),
        "clip": CLIP,
    },
    "solvers.dpm_solver_2m": {},
    "solvers.dpm_solver_2m()": {
        "schedule": SCHEDULE,
        "eps_model": a_model(model, X),
        "x_t": batch(X),
        "t": step(3, 3, 4),
        "s": step(2, 0, 2),
        "clip": CLIP,
    },
    "solvers.predictor_corrector_step": {
        "schedule": SCHEDULE,
        "eps_model": a_model(model, X),
        "x_t": batch(X),
        "t": step(3, 3, 4),
        "s": step(2, 0, 2),
        "eta": number(0.5, 0, 1),
        "steps": count(2),
        "ratio": number(0.2, 0, ends="()"),
        "clip": CLIP,
        "generator": RNG,
    },
    "solvers.invert": {
        "schedule": SCHEDULE,
        "eps_model": a_model(model, X),
        "x0": named(batch(X), "x_t"),
        "taus": sequence(
            (4, 2, 0), (4,), (5, 0), (4, 4, 0), (4, 1), (4.0, 0.0), ("a",), T_OK, legal=(None,)
        ),
        "heun": Given(True, {}, (False,)),
    },
    "step_wrappers.shifted": {"step": A_STEP, "log_p": LOG_P, "guidance_scale": SCALE},
    "step_wrappers.shifted()": STATES_OF_STEP
    | {
        "t": named(step(3, 3, 3), "s"),
        "s": step(2, 2, 2),
        "variances": named(VARIANCES, "log_p"),  # whose answer is not finite far out
        "options": keywords(),
    },
    "step_wrappers.pasted": {
        "step": A_STEP,
        "x0": named(batch(X), "known"),
        "known": KNOWN,
        "generator": RNG,
    },
    "step_wrappers.pasted()": STATES_OF_STEP,
    "step_wrappers.resampled": {"step": A_STEP, "rounds": count(2), "generator": RNG},
    "step_wrappers.resampled()": STATES_OF_STEP,
    "toys.toy_centres": {"name": word(*toys.TOYS), "n": count(6, 2)},
    "toys.toy_2d": {
        "name": word(*toys.TOYS),
        "n": count(6),
        "generator": RNG,
        "dtype": Given(torch.float64, DTYPES | {"type": odd() | one_of("float32", float)}, FLOATS),
    },
    "training.is_short_run": {},
    "training.warmup_cosine": {"fraction": number(0.5, 0, 1)},
    "training.train": {
        "model": NETWORK,
        "loss": function(square, None, 1.0, "a", torch.tensor(1.0), X),
        "batches": Given(
            (X, X),
            {
                "type": odd("tuple"),
                "items": one_of((None,), (X.long(),), (X * math.nan,), (X[:0],), X),
            },
            (),
            ("batch",),
        ),
        "steps": optional(count(1)),
        "seconds": optional(number(1e-6, 0, ends="()")),
        "lr": optional(number(1e-3, 0)),
        "clip_norm": number(1.0, 0, ends="()"),
        "ema": optional(typed(EMA_OF)),
        "autocast": Given(torch.bfloat16, DTYPES, (None,)),
        "accumulate": count(2),
        "optimizer": optional(OPTIMIZER),
        "rate": optional(function(training.warmup_cosine, None, math.nan, "a", -1.0)),
        "on_progress": optional(function(lambda fraction: None)),
    },
    "score_matching.explicit_loss": {"score_model": SCORE, "score": SCORE, "x": batch(X)},
    "score_matching.implicit_loss": {"score_model": SCORE, "x": batch(X)},
    "score_matching.sliced_loss": {
        "score_model": SCORE,
        "x": batch(X),
        "probe": optional(named(function(dc.rademacher, *UNLIKE, X * math.nan), "v")),
        "generator": RNG,
    },
    "score_matching.denoising_loss": {
        "score_model": SCORE,
        "x0": batch(X),
        "noise_level": number(0.5, 0, ends="()"),
        "weights": number(2.0, 0),
        "generator": RNG,
    },
    "score_matching.denoising_loss, tables": {
        "score_model": SCORE,
        "x0": batch(X),
        "noise_level": named(table(X[:, 0].exp(), least=0.0), "score_model"),
        "weights": table(X[:, 1].exp()),
        "generator": RNG,
    },
    "score_matching.score_model_from_eps": {
        "schedule": SCHEDULE,
        "eps_model": a_model(model, X),
        "t": steps(T_OK, 1, T),
    },
    "score_matching.score_model_from_eps()": {"x": batch(X)},
    "traces.exact_trace": {"score_model": SCORE, "x": batch(X)},
    "traces.hutchinson_trace": {"score_model": SCORE, "x": batch(X), "v": batch(Y)},
    "traces.rademacher": {"like": batch(X), "generator": RNG},
    "traces.probe_variances": {"jacobian": batch(JACOBIANS)},
    "training.bf16_is_faster": {
        "model": NETWORK,
        "loss": function(square, None, 1.0, "a", torch.tensor(1.0), X),
        "x0": TRIED,
    },
}
CLOSURES = {  # what a function returns is called, too
    "classes.mixture_classifier()": dc.mixture_classifier(S, POINTS, LABELS),
    "consistency.consistency_model()": dc.consistency_model(S, model),
    "flow.mixture_velocity()": dc.mixture_velocity(POINTS),
    "flow.velocity_model_from_steps()": dc.velocity_model_from_steps(model, 10),
    "predictions.eps_model_from_velocity()": dc.eps_model_from_velocity(S, decay),
    "autoguidance.autoguided()": dc.autoguided(model, model),
    "autoguidance.limited()": dc.limited(model, model, 1, 2),
    "guidance.classifier_free()": dc.classifier_free(model, LABELS, guidance_scale=2.0),
    "guidance.classifier_guided()": dc.classifier_guided(S, model, LOG_P.good, guidance_scale=2.0),
    "guidance.label_log_prob()": dc.label_log_prob(CLASSIFIER.good, LABELS % 2),
    "measurements.measurement_guided()": dc.measurement_guided(S, model, first, MEASURED.good, 0.1),
    "langevin.eps_model_from_ncsn()": dc.eps_model_from_ncsn(S, model),
    "mixtures.mixture_eps_model()": dc.mixture_eps_model(S, POINTS),
    "predictions.eps_model_from_v()": dc.eps_model_from_v(S, model),
    "predictions.eps_model_from_x0()": dc.eps_model_from_x0(S, model),
    "predictions.v_model_from_x0()": dc.v_model_from_x0(S, model),
    "score_matching.score_model_from_eps()": dc.score_model_from_eps(S, model, 2),
    "reversal.mixture_score()": dc.mixture_score(dc.vp_sde(), POINTS),
    "solvers.dpm_solver_2m()": dc.dpm_solver_2m(),
    "step_wrappers.shifted()": dc.shifted(dc.ddpm_step, LOG_P.good),
    "step_wrappers.pasted()": dc.pasted(dc.ddim_step, X, KNOWN.good, generator=seeded()),
    "step_wrappers.resampled()": dc.resampled(dc.ddim_step, 2, generator=seeded()),
}


# The list, read from the package.

HELPERS = {  # public inside the package only: what they look at, or are told, is named by others
    "checks": "the checks themselves",
    "tables": "checks of tables",
    "training_checks": "checks of training",
    "averages.check_state": "a check",
    "decoders.decoded": "a check of what a decoder answers",
    "devices.claim": "the number that torchrun gave",
    "processes": "bad places, seeds and batches are in test_processes.py",
    "distances": "what Mixture.log_prob and score have looked at",
    "download.refusal": "a sentence",
    "guidance.check_scale": "a check",
    "guidance.led": "what classifier_free and autoguided have looked at, or look at here",
    "guidance.log_p_gradient": "what guidance and shifted have looked at, or look at here",
    "gaussian.check_density": "a check",
    "gaussian.check_normal": "a check",
    "mixtures.component_log_probs": "what Mixture.log_prob and score have looked at",
    "mixtures.by_step": "what eps_model and classifier of a mixture have looked at",
    "mixtures.check_mixture": "a check",
    "samplers.checked_taus": "a check, for sample_chain and invert",
    "sde.check_sde": "a check",
    "sde.checked_times": "a check, for the loop of an SDE and for heun_flow",
    "nets.levels.check_images_on_levels": "a check",
    "nets.levels.check_levels": "a check",
    "nets.pixels.check_image": "a check",
    "nets.pixels.check_shapes": "a check",
    "nets.embeddings.check_even": "a check",
    "nets.embeddings.check_steps": "a check",
    "nets.inputs": "checks of networks",
    "nets.unet.UNet.embed": "a part of forward, which looks at all of it",
    "nets.unet.UNet.encode": "a part of forward",
    "nets.unet.UNet.decode": "a part of forward",
    "nets.weights.drawn_from": "a constructor's seed",
    "progress.progress_bar": "tqdm's own options",
    "projections": "parts of sliced_wasserstein",
    "schedules.combine": "two factors of `factors`",
    "schedules.factors": "`at` for the tables of a schedule",
    "traces.checked": "a check",
}


def functions_of(name: str, value: object) -> Iterator[tuple[str, Callable]]:
    if inspect.isfunction(value):
        yield name, value
    elif inspect.isclass(value) and not issubclass(value, Exception):
        if not hasattr(value, "_fields"):  # a NamedTuple is looked at where it is used
            yield name, value
        for n, method in vars(value).items():
            if inspect.isfunction(method) and not n.startswith("_"):
                if f"{name}.{n}" not in HELPERS:
                    yield f"{name}.{n}", method


def public() -> dict[str, Callable]:
    """Return what the package has without an underscore: functions, constructors, methods."""
    found = {}
    for info in pkgutil.walk_packages(dc.__path__, "diffusion_core."):
        module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            if not name.startswith("_") and getattr(value, "__module__", "") == info.name:
                full = f"{info.name}.{name}".removeprefix("diffusion_core.")
                if not {info.name.removeprefix("diffusion_core."), full} & HELPERS.keys():
                    found |= dict(functions_of(full, value))
    return found


PUBLIC = public()
EVERY = pytest.mark.parametrize("name", GOOD)


def test_every_public_function_and_argument_is_in_the_table():
    assert {name.split(",")[0] for name in GOOD} == PUBLIC.keys() | CLOSURES.keys()
    for name, given in GOOD.items():
        function = CLOSURES.get(name) or PUBLIC[name.split(",")[0]]
        assert set(given) == set(inspect.signature(function).parameters), name


# The verdict.


OTHERS = {  # return no eps_model
    "reversal.mixture_score",
    "solvers.dpm_solver_2m",
    "flow.mixture_velocity",
    "flow.velocity_model_from_steps",
}
STEPS = ("step_wrappers.shifted", "step_wrappers.pasted", "step_wrappers.resampled")


def call(name: str, arguments: dict[str, object]) -> object:
    """Return what a function answers; it gets copies of what it may change."""
    if name.split(".")[0] in ("averages", "checkpoints", "training"):
        kinds = (nn.Module, dc.EMA, torch.optim.Optimizer)
        changed = {n: v for n, v in arguments.items() if isinstance(v, kinds)}
        arguments = arguments | copy.deepcopy(changed)
    for options in ("about", "options"):
        arguments = arguments | arguments.get(options, {})
        arguments = {n: v for n, v in arguments.items() if n != options}
    function = CLOSURES.get(name) or PUBLIC[name.split(",")[0]]
    with torch.random.fork_rng(devices=[]):
        answer = function(**arguments)
        if name in STEPS:
            answer = answer(S, model, X, 3, 2)
        elif inspect.isfunction(answer) and name not in OTHERS:
            answer = answer(*(X, T_OK)[: len(inspect.signature(answer).parameters)])
        return list(itertools.islice(answer, T)) if isinstance(answer, Iterator) else answer


def leaves(value: object) -> Iterator[Tensor | float]:
    """Yield the tensors and numbers in a value."""
    if isinstance(value, nn.Module | dc.EMA):
        value = value.state_dict()
    elif isinstance(value, dc.NoiseSchedule):
        value = {n: v for n, v in vars(value).items() if n != "snr"}
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from leaves(part)
    elif isinstance(value, Tensor | float | int):
        yield value


def tensors(value: object) -> list[Tensor]:
    return [leaf for leaf in leaves(value) if isinstance(leaf, Tensor)]


def finite(leaf: Tensor | float) -> bool:
    if isinstance(leaf, Tensor):
        return leaf.is_meta or bool(leaf.isfinite().all())
    return math.isfinite(leaf)


def shapes_of(expected: torch.Size, before: torch.Size, after: torch.Size) -> Iterator[tuple]:
    """Yield the shapes of an answer that follows an argument from one shape to another."""
    if before == expected:
        yield after
    if before[:1] == expected:
        yield after[:1]
    if expected == before[:1] + (1,) * (len(before) - 1):  # broadcastable to it
        yield after[:1] + (1,) * (len(after) - 1)
    if before[1:2] == expected:  # trajectories
        yield after[1:2]
    if expected[1:] == before[1:]:  # another number of rows
        yield expected[:1] + after[1:]
    if expected == (*before[:1], 1, *before[1:]):
        yield (*after[:1], 1, *after[1:])
    if len(expected) == len(before) == 4 and expected[:1] == before[:1]:  # images
        yield after[:1] + expected[1:]
    if len(expected) == len(before) == len(after) == 4:  # sides that are halved or doubled
        sides = zip(expected[2:], before[2:], after[2:], strict=True)
        yield (*after[:1], *expected[1:2], *(-(-n * e // b) for e, b, n in sides))
    if expected == (*before, *before[-1:]):  # a matrix for each
        yield (*after, *after[-1:])
    if expected[1:] == before:  # one for each t
        yield expected[:1] + after
    if len(expected) == 2 and expected[:1] == before[:1] and expected[1:] != before[1:]:
        yield after[:1] + expected[1:]
    if before[:1] == expected[:1] and before[2:] == expected[1:] and before[1:2] == (1,):
        yield after[:1] + after[2:]


def isnan(leaf: Tensor | float) -> bool:
    return bool(leaf.isnan().any()) if isinstance(leaf, Tensor) else math.isnan(leaf)


def fault(
    answer: object, wanted: object, arguments: dict, good: dict, kind: str, bad: object
) -> str:
    """Return what is wrong with an answer, beside that to good arguments."""
    for leaf in leaves(answer):
        overflow = kind.endswith("range") and not isnan(leaf)
        if not finite(leaf) and not overflow:
            return f"answered {leaf}"
    if type(answer) is not type(wanted):
        return f"answered {answer!r:.60}"
    follow = list(
        zip(tensors(list(good.values())), tensors(list(arguments.values())), strict=False)
    )
    of_bad = tensors(bad)
    for got, expected in zip(tensors(answer), tensors(wanted), strict=False):
        if got.dtype not in {expected.dtype, *(x.dtype for x in of_bad)}:
            return f"answered {got.dtype}, not {expected.dtype}"
        if got.device not in {expected.device, *(x.device for x in of_bad)}:
            return f"answered on {got.device}"
        shapes = {expected.shape}
        for before, after in follow:
            shapes |= set(shapes_of(expected.shape, before.shape, after.shape))
        if got.shape not in shapes and not isinstance(wanted, dc.NoiseSchedule):
            return f"answered {tuple(got.shape)}, not {tuple(expected.shape)}"
    return ""


RELATIONS = ("shape", "dtype", "device", "empty")


def complaint(name: str, argument: str, kind: str, bad: object) -> str:
    """Return what is wrong with what a bad value leads to, or nothing."""
    good = {n: given.good for n, given in GOOD[name].items()}
    names = {argument, *GOOD[name][argument].names}
    related = kind.split(": ")[-1] in RELATIONS
    if related:
        names |= {*good, *(n for given in GOOD[name].values() for n in given.names)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dc.PriorGapWarning)
        try:
            answer = call(name, good | {argument: bad})
        except (TypeError, ValueError) as error:
            name_it = rf"\b({'|'.join(map(re.escape, names))})\b"
            said = rf"{name_it}.* must " + rf"|.* must .*{name_it}" * related
            ok = re.search(said, str(error)) or (kind == "name" and "nonsense" in str(error))
            return "" if ok else f"{type(error).__name__}: {error}"
        except OSError as error:
            return "" if kind == "missing" else f"{type(error).__name__}: {error}"
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return fault(answer, call(name, good), good | {argument: bad}, good, kind, bad)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Nothing is downloaded, drawn on a terminal or measured by a clock."""
    for split in ("train", "t10k"):
        for part, ndim, x in (("images-idx3", 3, BYTES), ("labels-idx1", 1, LABELS.byte())):
            head = bytes([0, 0, 8, ndim]) + b"".join(n.to_bytes(4) for n in x.shape)
            file = FOLDER / f"{split}-{part}-ubyte.gz"
            file.write_bytes(gzip.compress(head + x.numpy().tobytes(), mtime=0))
            monkeypatch.setitem(data.SHA256, file.name, download.sha256_of(file))
    monkeypatch.setenv("DIFFUSION_DATA", str(FOLDER))
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.delenv("DIFFUSION_SHORT_RUN", raising=False)
    ticks = itertools.count()
    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))


@EVERY
def test_good_arguments_are_accepted(name):
    good = {n: given.good for n, given in GOOD[name].items()}
    wanted = call(name, good)
    assert not fault(wanted, wanted, good, good, "", None)
    for argument, given in GOOD[name].items():
        for value in given.legal:
            arguments = good | {argument: value}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", dc.PriorGapWarning)
                answer = call(name, arguments)
            found = [leaf for leaf in leaves(answer) if not finite(leaf)]
            assert not found, f"{argument}={value!r:.60} {found}"


TRIED_OUT = Counter()


CASES = {
    (name, argument, kind): bad
    for name, arguments in GOOD.items()
    for argument, given in arguments.items()
    for kind, bad in given.bad.items()
}
EXAMPLES = 3


@EVERY
@hypothesis.settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=EXAMPLES,
    suppress_health_check=list(hypothesis.HealthCheck),
)
@hypothesis.given(values=st.data())
def test_bad_arguments(name, values):
    """One bad value of each kind for each argument, the others good."""
    found = []
    for case, bad in CASES.items():
        if case[0] == name:
            value = values.draw(bad)
            TRIED_OUT[case] += 1
            if said := complaint(*case, value):
                found.append(f"{' | '.join(case)} | {value!r:.60} | {said:.160}")
    assert not found, "\n".join(found)


def test_how_many_bad_inputs_are_generated():
    arguments = {case[:2] for case in CASES}
    print(f"{len(GOOD)} calls, {len(arguments)} arguments, {len(CASES)} kinds of bad input,")
    print(f"{TRIED_OUT.total()} tried")
    assert len(CASES) > 1500 and len(arguments) > 250
    if TRIED_OUT.keys() == CASES.keys():
        assert TRIED_OUT.total() > 4500

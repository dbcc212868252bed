"""Train a control of the shipped digits by a picture, on all of MNIST: `make train-control`.

`--control edges` or `--control thumbnail`: one network each. See epochs.py for how a run goes on
after an interrupt. At the end the averaged weights of the control alone are written into the
package as float16, with what made them, how well drawings obeyed after each epoch and at the end,
and the judge's numbers beside those of the base.
"""

from functools import partial
from typing import NamedTuple

import torch
from epochs import Watch, about, choice_of, options_of, run_epochs

import diffusion_core as dc
from diffusion_core import checkpoints, controls, data, judge, pretrained

NO_LABEL = 0.5  # the share of labels that are not told, so that the picture has to say more
CALLS = 25  # of the network for each drawing


class Control(NamedTuple):
    """A kind of control: its picture, the number of obedience, and its yardstick."""

    picture: callable
    measure: callable
    yardstick: callable


CONTROLS = {
    "edges": Control(
        controls.edge_map,
        controls.edge_f1,
        lambda x0: controls.edge_yardstick(x0, generator=torch.Generator().manual_seed(2)),
    ),
    "thumbnail": Control(
        controls.thumbnail, controls.thumbnail_error, controls.thumbnail_yardstick
    ),
}


def controlled_loss(model, x0, y, *, schedule: dc.NoiseSchedule, picture, generator):
    """Return v_loss of a network that sees a picture of x0, and the labels of half of them."""
    y = dc.drop_labels(y, model.base.null_label, NO_LABEL, generator=generator)
    told = partial(model, y=y, control=picture(x0))
    return dc.v_loss(schedule, told, x0, generator=generator)


@torch.no_grad()
def drawn(model, schedule: dc.NoiseSchedule, y: torch.Tensor, scale: float, **control):
    """Return digits y, drawn with a guidance scale; both answers of the guidance are controlled."""
    rng = torch.Generator().manual_seed(1)
    device = next(model.parameters()).device
    model = partial(model, **{name: part.to(device) for name, part in control.items()})
    guided = dc.classifier_free(model, y.to(device), guidance_scale=scale)
    x_T = torch.randn(len(y), 1, 28, 28, generator=rng).to(device)
    options = {"eta": 1.0, "clip": (-1, 1), "generator": rng}
    eps_model, taus = dc.eps_model_from_v(schedule, guided), dc.even_taus(schedule.T, CALLS)
    *_, last = dc.sample_chain(dc.ddim_step, schedule, eps_model, x_T, taus, **options)
    return last.x_t.cpu()


def obeyed(model, schedule, kind: Control, x0, y, *, scale: float = 1.0) -> dict:
    """Return how well drawings of the labels y follow the pictures of x0: number and share.

    base: the same number of the base, which knows the labels and no picture.
    """
    picture, yardstick = kind.picture(x0), kind.yardstick(x0)
    found = kind.measure(drawn(model, schedule, y, scale, control=picture), picture)
    base = kind.measure(drawn(model.base, schedule, y, scale), picture)
    numbers = {"found": found, "share": yardstick.share(found), "base": base}
    return {name: round(number, 4) for name, number in (numbers | yardstick._asdict()).items()}


@torch.no_grad()
def watched(model, schedule, kind: Control, x0, y) -> dict:
    """Return how well drawings of y obey, and the loss of x0: the same noise each time."""
    rng = torch.Generator().manual_seed(3)
    loss = controlled_loss(model, x0, y, schedule=schedule, picture=kind.picture, generator=rng)
    return {**obeyed(model, schedule, kind, x0, y), "loss": round(loss.item(), 4)}


def judged(model, schedule, kind: Control, x0, y, *, scale: float) -> dict:
    """Return the judge's numbers of controlled drawings and of the base's, labels alike."""
    network, _ = pretrained.load("judge")
    control = drawn(model, schedule, y, scale, control=kind.picture(x0))
    base = drawn(model.base, schedule, y, scale)
    return {
        name: {
            "confident": round(judge.judge_images(network, x, x0).confident, 4),
            "as_asked": round(judge.as_asked(network, x, y), 4),
        }
        for name, x in {"control": control, "base": base}.items()
    }


def main() -> None:
    chosen, name = choice_of("--control", CONTROLS, "edges")
    parser = options_of(__doc__, f"control_{name}", chosen, epochs=16, batch=32)
    parser.add_argument("--parts", type=int, default=8, help="an epoch sees one image in so many")
    parser.add_argument("--images", type=int, default=60_000, help="of MNIST's training images")
    parser.add_argument("--watched", type=int, default=100, help="drawings after each epoch")
    parser.add_argument("--samples", type=int, default=1000, help="drawings at the end")
    options = parser.parse_args()
    schedule, kind = dc.cosine_schedule(1000), CONTROLS[options.control]
    (images, labels), (test, y) = data.mnist("train"), data.mnist("test")
    images, labels, test = images[: options.images], labels[: options.images], data.to_signed(test)
    few, many = ((test[:n], y[:n]) for n in (options.watched, options.samples))
    watch = Watch(lambda model: watched(model, schedule, kind, *few), [])
    loss = partial(controlled_loss, schedule=schedule, picture=kind.picture)
    pictures = (data.to_signed(images), labels)
    model = run_epochs(
        options, pretrained.mnist_controlnet(), loss, pictures, watch, parts=options.parts
    )
    numbers = about(
        options,
        predicts="v",
        schedule="cosine_schedule(1000)",
        control=options.control,
        samples=options.samples,
        after_each_epoch=watch.answers,
        obeyed=obeyed(model, schedule, kind, *many),
        judge={"guidance_scale": 1.5, **judged(model, schedule, kind, *many, scale=1.5)},
    )
    checkpoints.save(options.out, model, dtype=torch.float16, **numbers)
    print(f"{options.out}:", numbers)


if __name__ == "__main__":
    main()

"""The second hall of the bug museum, of lesson 14b: a row for each exhibit.

A new exhibit is a row here, a function in `exhibits` and one in `mended`, its instruments in a
module of their own, a section of the lesson and an exercise.
"""

from ..hall import Exhibit, Hall
from ..panel import explorer_of
from . import (
    controls,
    endings,
    exhibits,
    fillings,
    flows,
    mended,
    races,
    ranks,
    scales,
    tilts,
    walks,
)
from .names import NAMES

__all__ = ["EXHIBITS", "HALL", "NAMES", "diagnose", "instruments", "measure", "open_code"]

EXHIBITS = {
    1: Exhibit(
        exhibits.noisy_walk,
        walks.fourth_power,
        "B",
        {
            "Is the mean push 0?": walks.mean,
            "Has a push the right variance?": walks.variance,
            "Does a push depend on the one before?": walks.neighbours,
            "Is the variance at the end right?": walks.end,
            "Is the mean fourth power that of normal noise?": walks.fourth_power,
        },
        mended.noisy_walk,
        "the published solution of lab 2 of MIT's course 6.S184 (2025), in its class "
        "ConditionalVectorFieldSDE: its diffusion_coefficient returns sigma times a fresh draw, "
        "and the simulator multiplies by another one",
    ),
    2: Exhibit(
        exhibits.right_side,
        flows.twice,
        "E",
        {
            "Is the average of many divergences right?": flows.mean,
            "Do the divergences scatter as they should?": flows.scatter,
            "Do the points end where they should?": flows.landing,
            "Does the same question get the same answer?": flows.twice,
        },
        mended.right_side,
        "issue 10 of github.com/yang-song/score_sde_pytorch, as a question on right code: a reader "
        "asks whether each call should draw anew, and the author answers that the solver might "
        "then not converge at all",
    ),
    3: Exhibit(
        exhibits.fast_sampler,
        endings.from_last_guess,
        "G",
        {
            "Is the network called as often as it should be?": endings.number_of_calls,
            "Are the kinds of pictures as frequent as in the data?": endings.share,
            "Are all pixels finite numbers?": endings.not_numbers,
            "Is the end the network's last guess?": endings.from_last_guess,
        },
        mended.fast_sampler,
        "github.com/huggingface/diffusers: issue 5689 (noise is left in the pictures), pull "
        "request 6477 (the last level stood twice in the list), and issue 9007 (0 without a rule "
        "of its own: NaN)",
    ),
    4: Exhibit(
        exhibits.filled,
        fillings.conditional,
        "L",
        {
            "Is the known number met?": fillings.known_part,
            "Do more steps change the answer?": fillings.more_steps,
            "Has the known part the right noise on the way?": fillings.on_the_way,
            "Is the unknown number right, averaged over the data?": fillings.over_the_data,
            "Is the unknown number right, given the known one?": fillings.conditional,
        },
        mended.filled,
        "appendix I.2 of Song et al., Score-Based Generative Modeling (2021), and its file "
        "controllable_generation.py at github.com/yang-song/score_sde_pytorch; what it lacks was "
        "published by Lugmayr et al., RePaint (2022), section 4.2",
    ),
    5: Exhibit(
        exhibits.tilted,
        tilts.tilted,
        "J",
        {
            "Is p(x | y) met at w = 1?": tilts.untilted,
            "Are the samples of the class that was asked for?": tilts.as_asked,
            "Does a larger w make the classifier surer?": tilts.surer,
            "Is the other class the mirror image?": tilts.mirrored,
            "Is p(x) p(y | x)^w / Z met at w = 3?": tilts.tilted,
        },
        mended.tilted,
        "texts on what guidance samples; that neither the flow nor ancestral steps do was "
        "published by Bradley and Nakkiran, Classifier-Free Guidance is a Predictor-Corrector "
        "(2024)",
    ),
    6: Exhibit(
        exhibits.train_control,
        controls.state,
        "N",
        {
            "Are the base's parameters as before?": controls.parameters,
            "Does the loss fall?": controls.learned,
            "Does the training reach all of the control?": controls.reached,
            "Is the base's state_dict as before?": controls.state,
        },
        mended.train_control,
        "github.com/lightly-ai/lightly, issue 1438 (a frozen backbone whose averages move), and "
        "github.com/pytorch/pytorch, issue 86590; harmless where a base has neither BatchNorm nor "
        "dropout, as in github.com/tianweiy/DMD2, issue 21",
    ),
    7: Exhibit(
        exhibits.noisy_latents,
        scales.by_channel,
        "Q",
        {
            "Is E z_t^2 = 1 over all numbers?": scales.in_all,
            "Has z_t the right amount of noise?": scales.only_noise,
            "Is all of z gone where alpha_bar is 0?": scales.at_the_end,
            "Are new pictures as large as training ones?": scales.fresh_pictures,
            "Is E z_t^2 = 1 in each channel?": scales.by_channel,
        },
        mended.noisy_latents,
        "latents that are divided by one number, as many programs do; how far channels can differ "
        "stands in issue 307 of github.com/Wan-Video/Wan2.1, whose VAE has a mean and a std for "
        "each channel, stds from 1.2 to 3.3",
    ),
    8: Exhibit(
        exhibits.race,
        races.same_levels,
        "S",
        {
            "Do both call the denoiser equally often?": races.calls,
            "Does each end on a guess of the denoiser?": races.last_guess,
            "Do both begin at the mean of the data?": races.first_guess,
            "Do both reach the data with many steps?": races.many_steps,
            "Do both ask at the same noise levels?": races.same_levels,
        },
        mended.race,
        "texts that explain few steps by straight paths; that both samplers are one was published "
        "by Gao et al., Diffusion Meets Flow Matching: Two Sides of the Same Coin (2024)",
    ),
    9: Exhibit(
        exhibits.mean_gradient,
        ranks.many_ranks,
        "T",
        {
            "Is the average gradient right?": ranks.centre,
            "Is each row used once?": ranks.each_row_once,
            "Is the noise normal, with variance 1?": ranks.noise_of_one,
            "Is the noise new in each step?": ranks.from_step_to_step,
            "Is one process right?": ranks.one_rank,
            "Do eight processes have an eighth of the variance?": ranks.many_ranks,
        },
        mended.mean_gradient,
        "train_text_to_image.py of github.com/huggingface/diffusers (one set_seed for all "
        "processes), and issue 41 of github.com/Robbyant/lingbot-vla-v2, where a reader prints "
        "the noise of all ranks and finds it identical",
    ),
}
HALL = Hall(EXHIBITS, NAMES)
diagnose, open_code, measure = HALL.diagnose, HALL.open_code, HALL.measure


def instruments(number: int) -> tuple:
    """Return the arguments of the `lab.Explorer` with which an instrument is chosen."""
    return explorer_of(EXHIBITS[number])

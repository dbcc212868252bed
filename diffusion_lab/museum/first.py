"""The first hall of the museum, of lesson 14: a row for each exhibit.

A new exhibit is a row here, a function in `exhibits` and one in `mended`, its instruments, a
section of the lesson and an exercise.
"""

from . import back_questions as back
from . import exhibits, instruments, ledgers, mended, questions, walks
from .hall import Exhibit

EXHIBITS = {
    1: Exhibit(
        exhibits.straight_betas,
        instruments.gap_of_50,
        "D",
        {
            "Do the betas rise?": questions.falls,
            "Are they evenly spaced?": questions.even,
            "Is x_T noise after 1000 steps?": questions.gap_of_1000,
            "Is x_T noise after 50 steps?": instruments.gap_of_50,
        },
        mended.straight_betas,
        "issue 14 of github.com/zoubohao/DenoisingDiffusionProbabilityModel-ddpm-, where a reader "
        "takes T = 50 and finds that x_T is not N(0, I)",
    ),
    2: Exhibit(
        exhibits.curved_betas,
        instruments.last_beta,
        "K",
        {
            "Do the betas rise?": questions.falls,
            "Are they between 0 and 1?": questions.outside,
            "Are their roots evenly spaced?": questions.even_roots,
            "Where do 1000 betas end?": instruments.last_beta,
        },
        mended.curved_betas,
        "code of a published kind; a relative is mended in pull request 141 of "
        "github.com/lucidrains/DALLE2-pytorch",
    ),
    3: Exhibit(
        exhibits.noisier,
        instruments.composed,
        "B",
        {
            "Does x_1 keep nearly all of x_0?": questions.first_step,
            "Do 200 steps leave as much of x_0 as the jump?": questions.left_over,
            "Has the noise mean 0?": questions.both_signs,
            "Do 200 steps add as much noise as the jump?": instruments.composed,
        },
        mended.noisier,
        "issue 3 of github.com/juraam/stable-diffusion-from-scratch, where it stood in a formula",
    ),
    4: Exhibit(
        exhibits.pick_steps,
        instruments.steps_missed,
        "F",
        {
            "Is the lowest step 1?": questions.lowest,
            "Is the mean step near 25.5?": questions.mean_step,
            "Has each example a step of its own?": questions.one_for_all,
            "Is each of 50 steps drawn, and no other?": instruments.steps_missed,
        },
        mended.pick_steps,
        "code of a published kind",
    ),
    5: Exhibit(
        exhibits.step_vector,
        instruments.neighbours,
        "G",
        {
            "Is the vector of one step right?": questions.alone,
            "Is the mean square of all numbers 1/2?": questions.mean_square,
            "Are all numbers in [-1, 1]?": questions.largest,
            "Have steps beside each other the nearest vectors?": instruments.neighbours,
        },
        mended.step_vector,
        "code of a published kind",
    ),
    6: Exhibit(
        exhibits.last_layer,
        instruments.below,
        "J",
        {
            "Do the answers vary?": questions.varies,
            "Can they be above 3?": questions.highest_answer,
            "Does a gradient reach the weights?": questions.learns,
            "Are they below -1 often enough?": instruments.below,
        },
        mended.last_layer,
        "code of a published kind",
    ),
    7: Exhibit(
        exhibits.step_back,
        walks.walked_variance,
        "I",
        {
            "Is the mean of each step right?": back.means,
            "Is there no noise in the last step?": back.at_t_1,
            "Is the variance right after 500 steps?": back.many_steps,
            "Is the variance right after 50 steps?": walks.walked_variance,
        },
        mended.step_back,
        "code of a published kind",
    ),
    8: Exhibit(
        exhibits.careful_step,
        walks.half_way,
        "C",
        {
            "Do the samples lie in [-1, 1]?": back.beyond,
            "Are all nine modes there?": back.all_nine,
            "Are the samples near the data?": back.nine_at_the_end,
            "Are the states half way near real ones?": walks.half_way,
        },
        mended.careful_step,
        "code of a published kind; pull request 11 of "
        "github.com/seungjunlee96/lightning-generative-models takes a clamp out of the sampling",
    ),
    9: Exhibit(
        exhibits.long_step,
        walks.at_the_end,
        "M",
        {
            "Are all numbers finite?": back.not_finite,
            "Are all eight modes there?": back.all_eight,
            "Is the mean of the samples right?": back.ring_mean,
            "Is the cloud as near to real points as real ones are?": walks.at_the_end,
        },
        mended.long_step,
        "pull request 16158 of github.com/jsboige/CoursIA, which mends it in a course",
    ),
    10: Exhibit(
        exhibits.stops,
        walks.from_nearest_point,
        "N",
        {
            "Does the walk begin at T?": back.start,
            "Does each stop lie below the one before?": back.rises,
            "Are there as many strides as asked?": back.number_of,
            "Do the samples lie on the data?": walks.from_nearest_point,
        },
        mended.stops,
        "code of a published kind; pull request 345 of github.com/Stability-AI/stablediffusion "
        "is about the same last stride",
    ),
    11: Exhibit(
        exhibits.lower_bound,
        ledgers.above_exact,
        "E",
        {
            "Is there one number for each example?": back.shape,
            "Does a nat more of L_0 lower it by 1?": back.one_nat,
            "Is it a bound where x_T is noise?": back.with_noise,
            "Is it a bound where x_T is not yet noise?": ledgers.above_exact,
        },
        mended.lower_bound,
        "code of a published kind",
    ),
    12: Exhibit(
        exhibits.level_probs,
        ledgers.sum_of_levels,
        "L",
        {
            "Are all probabilities at least 0?": back.negative,
            "Is the mean the likeliest level?": back.likeliest,
            "Is their weighted mean right?": back.mean_level,
            "Do they add up to 1?": ledgers.sum_of_levels,
        },
        mended.level_probs,
        "code of a published kind",
    ),
}

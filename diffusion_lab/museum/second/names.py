"""The names of mistakes from which a learner of lesson 14b chooses, and how each would show."""

from ..names import Name

NAMES = {
    "A": Name(
        "the time step where its root belongs",
        "Then the noise dies out as the steps get shorter, and its variance is far too small.",
    ),
    "B": Name(
        "a number that should be fixed is drawn at random, and multiplies a random number",
        "Then averages and variances come out right, and very small and very large values are "
        "far too frequent.",
    ),
    "C": Name(
        "the ½ in front of the score is missing",
        "Then points are pulled too hard, and end in another place than they should.",
    ),
    "D": Name(
        "a random direction of another length",
        "Then an estimate of a divergence is wrong on average, by one factor.",
    ),
    "E": Name(
        "the right side of an ODE is random: it draws anew in each call",
        "Then a single answer is as good as it should be, but two answers to one question differ.",
    ),
    "F": Name(
        "the sign of the divergence",
        "Then the average of many divergences is off by twice its size.",
    ),
    "G": Name(
        "the last step goes nowhere: the lowest noise level is the end, in the place of 0",
        "Then the noise of that level is left in what comes out.",
    ),
    "H": Name(
        "the network's guess is used one step late",
        "Then what comes out is an older guess, and the last call was in vain.",
    ),
    "I": Name(
        "a known part is put in without the noise of its level",
        "Then the network sees a known part on the way that is too clean for the level.",
    ),
    "J": Name(
        "the slope of a weighted law is made by weighting slopes, at each noise level",
        "Then the law is right for the weight 1 alone, and samples leave the data as it grows.",
    ),
    "K": Name(
        "a guidance scale that counts from 0 where it should count from 1",
        "Then already at w = 1 the law is not p(x | y).",
    ),
    "L": Name(
        "a known part is put in from outside, and the rest is not drawn anew beside it",
        "Then the known part fits exactly, and the rest follows it too little.",
    ),
    "M": Name(
        "the slope of a logit in the place of that of log p(y | x)",
        "Then already at w = 1 the samples are too narrow.",
    ),
    "N": Name(
        "a frozen network is left in train(): its buffers move",
        "Then none of its parameters changes, and its answers do.",
    ),
    "O": Name(
        "the training steps change the frozen parameters, too",
        "Then the parameters of the base are other ones afterwards.",
    ),
    "P": Name(
        "a scale copied from another network, where it should be measured on this one",
        "Then the second moment over all numbers is off, by one factor.",
    ),
    "Q": Name(
        "one scale for all, where the parts are of different size",
        "Then it is right on average over the parts, and in none of them.",
    ),
    "R": Name(
        "the direction of time is turned round in one place",
        "Then samples come out as noise, however many steps there are.",
    ),
    "S": Name(
        "two things are compared, and more than the two of them differs",
        "Then each of them alone is right, and the difference is not what it is taken for.",
    ),
    "T": Name(
        "parallel processes share their random numbers",
        "Then the average is right, and more processes make it hardly less noisy.",
    ),
    "U": Name(
        "parallel processes get the same part of the data",
        "Then some rows are used more than once, and others not at all.",
    ),
}

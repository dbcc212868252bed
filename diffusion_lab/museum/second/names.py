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
}

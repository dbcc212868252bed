"""How good are drawn digits? A classifier's opinion, always beside that on real digits."""

from typing import NamedTuple

import torch
from torch import Tensor

from .checks import (
    check_count,
    check_data,
    check_finite,
    check_kinds,
    check_labels,
    check_squares,
    kind,
    require,
)
from .nets import Classifier

CONFIDENT = 0.9  # a digit counts as recognised when one class has more than this probability


class Verdict(NamedTuple):
    """What the judge says of n images.

    confident: the share with a class above 0.9; shares (10,): of each digit, by the likeliest
    class; frechet: the distance of their features to those of real images.
    """

    confident: float
    shares: Tensor
    frechet: float


def judge_images(judge: Classifier, x: Tensor, real: Tensor) -> Verdict:
    """Judge images x (n, 1, 28, 28) in [-1, 1] against real ones of the same form.

    A collapsed sampler can be confident everywhere, so read `confident` with `shares`; and read
    `frechet` as a multiple of `frechet_floor` at the same n (2 000 or more). The judge is put into
    evaluation mode, and left there.
    """
    features, real_features = _features(judge, "x", x), _features(judge, "real", real)
    with torch.no_grad():
        probabilities = judge.to_logits(features).softmax(1)
    highest, digit = probabilities.max(1)
    shares = digit.bincount(minlength=10).cpu().double() / len(x)
    frechet = frechet_distance(features, real_features)
    return Verdict((highest > CONFIDENT).cpu().double().mean().item(), shares, frechet)


def frechet_floor(
    judge: Classifier, train: Tensor, real: Tensor, n: int, *, generator: torch.Generator
) -> float:
    """Return the mean Frechet distance of n real training images to `real`, over 20 draws.

    Raises ValueError unless n is in 2..len(train): no image is drawn twice.
    """
    check_count("n", n, lowest=2)
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {kind(generator)}")
    features, target = _features(judge, "train", train), _features(judge, "real", real)
    require(n <= len(train), "n", f"be at most {len(train)}, the images of train", n)
    total = 0.0
    for _ in range(20):
        order = torch.randperm(len(train), generator=generator, device=generator.device)
        total += frechet_distance(features[order[:n].to(features.device)], target)
    return total / 20


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """Return the Frechet distance of two sets of features (n, d), (m, d), square-rooted.

    D^2 = |mean_x - mean_y|^2 + tr(C_x + C_y - 2 (C_x^(1/2) C_y C_x^(1/2))^(1/2)), C the
    covariances: the 2-Wasserstein distance of the two Gaussians with these moments.
    Raises ValueError for fewer than 2 rows. Source: Dowson and Landau (1982).
    """
    for name, features in (("x", x), ("y", y)):
        check_data(name, features)
        if features.ndim != 2 or len(features) < 2:
            raise ValueError(f"{name} must have shape (n, d), n >= 2, got {tuple(features.shape)}")
    if x.shape[1] != y.shape[1] or x.is_meta or y.is_meta:
        wanted = f"hold numbers, {x.shape[1]} in a row as in x, {kind(x)}"
        raise ValueError(f"y must {wanted}, got {kind(y)}")
    x, y = x.detach().cpu().double(), y.detach().cpu().double()
    cov_x, cov_y = (torch.atleast_2d(features.T.cov()) for features in (x, y))
    values, vectors = torch.linalg.eigh(cov_x)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_y @ root).clamp(min=0).sqrt().sum()
    squared = (x.mean(0) - y.mean(0)).square().sum() + cov_x.trace() + cov_y.trace() - 2 * cross
    return check_finite(squared, x=x, y=y).clamp(min=0).sqrt().item()


def as_asked(judge: Classifier, x: Tensor, y: Tensor) -> float:
    """Return the share of images x (n, 1, 28, 28) in which the judge sees the digit y, (n,).

    Easily 1 where all images of a class are alike: read it with `in_class_spread`.
    """
    features = _features(judge, "x", x)
    _check_told(y, x)
    with torch.no_grad():
        seen = judge.to_logits(features).argmax(1).to(y.device)
    return (seen == y).cpu().double().mean().item()


def in_class_spread(x: Tensor, y: Tensor) -> float:
    """Return the root of the variance within a class, its mean over pixels and classes.

    x (n, ...) of labels y (n,), each at least twice. A number to be divided by that of as many
    real images of the same labels.
    """
    check_data("x", x)
    _check_told(y, x)
    classes, counts = y.unique(return_counts=True)
    require(bool((counts > 1).all()), "y", "hold each label at least twice", counts.tolist())
    rows, y = x.reshape(len(x), -1).cpu().double(), y.cpu()
    variances = torch.stack([rows[y == label].var(0).mean() for label in classes])
    return check_finite(variances.mean().sqrt(), x=x).item()


def _check_told(y: Tensor, x: Tensor) -> None:
    """Refuse what is not one label for each image of x."""
    check_labels(y)
    require(y.shape == x.shape[:1] and y.device == x.device, "y", f"be like x, {kind(x)}", y)


def nearest_distances(x: Tensor, train: Tensor) -> Tensor:
    """Return for each image of x (n, ...) its Euclidean distance to the nearest of train, (n,).

    In float32 or better: exactly 0 means a copy, and near 0 almost one. Compare with the distances
    of real images that are not in train.
    """
    for name, images in (("x", x), ("train", train)):
        check_data(name, images)
    if x.shape[1:] != train.shape[1:] or x.device != train.device:
        raise ValueError(f"train must hold images like those of x, {kind(x)}, got {kind(train)}")
    dtype = torch.promote_types(torch.promote_types(x.dtype, train.dtype), torch.float32)
    parts, train = x.flatten(1).to(dtype).split(256), train.flatten(1).to(dtype)
    exact = "donot_use_mm_for_euclid_dist"  # by products, equal images would be apart
    nearest = [torch.cdist(part, train, compute_mode=exact).min(1).values for part in parts]
    return check_finite(torch.cat(nearest), x=x, train=train)


def _features(judge: Classifier, name: str, x: Tensor) -> Tensor:
    """Return the features of images, in evaluation mode, a thousand images at a time."""
    check_kinds(judge=judge)
    check_data(name, x)
    check_squares(**{name: x})
    weight = next(judge.parameters())
    if x.shape[1:] != (1, 28, 28) or x.dtype != weight.dtype or x.is_meta:
        raise ValueError(f"{name} must be {weight.dtype} (n, 1, 28, 28), got {kind(x)}")
    with torch.no_grad():
        parts = [judge.eval().features(part.to(weight.device)) for part in x.split(1000)]
        return check_finite(torch.cat(parts), **{name: x})

"""Answers to the exercises of lesson 06: right in other words, and wrong in known ways."""

import math

import torch
import torch.nn.functional as F


def fold_by_strides(x):
    return torch.cat([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], dim=1)


def folded_by_channel(x):
    return torch.cat([fold_by_strides(channel) for channel in x.split(1, dim=1)], 1)


def fold_by_chunks(x):
    rows = torch.stack([x[:, 0, ::2], x[:, 0, 1::2]], 1)
    return torch.stack([rows[..., ::2], rows[..., 1::2]], 2).flatten(1, 2)


def fold_columns_first(x):
    return torch.cat([x[:, :, i::2, j::2] for j in (0, 1) for i in (0, 1)], dim=1)


def fold_quarters(x):
    return torch.cat([part for half in x.chunk(2, 2) for part in half.chunk(2, 3)], dim=1)


def fold_in_order(x):
    return torch.stack(list(x.flatten(1).chunk(4, 1)), 1).unflatten(2, (x.shape[2] // 2, -1))


def fold_places_first(x):
    return fold_by_strides(x).movedim(1, -1).reshape(fold_by_strides(x).shape)


def fold_transposed(x):
    return fold_by_strides(x).mT.reshape(fold_by_strides(x).shape)


def step(x_t, v, keep_t, keep_s, *, state=False, unfit=False, root=0.5):
    """The step, with each of the three mistakes at will; eps_hat comes by solving for it."""
    x_t = x_t.clip(-1, 1) if state else x_t
    guess = math.sqrt(keep_t) * x_t - math.sqrt(1 - keep_t) * v
    x0_hat = guess.clip(-1, 1)
    of = guess if unfit else x0_hat
    eps_hat = (x_t - math.sqrt(keep_t) * of) / math.sqrt(1 - keep_t)
    return math.sqrt(keep_s) * x0_hat + (1 - keep_s) ** root * eps_hat


def step_without_clip(x_t, v, keep_t, keep_s):
    eps_hat = math.sqrt(1 - keep_t) * x_t + math.sqrt(keep_t) * v
    return math.sqrt(keep_s) * clean(x_t, v, keep_t) + math.sqrt(1 - keep_s) * eps_hat


def step_by_slope(x_t, v, keep_t, keep_s):
    """x_s as a share of x_t and a share of the clipped guess."""
    guess = torch.minimum(
        torch.maximum(clean(x_t, v, keep_t), -torch.ones_like(v)), torch.ones_like(v)
    )
    share = ((1 - keep_s) / (1 - keep_t)) ** 0.5
    return share * x_t + (keep_s**0.5 - share * keep_t**0.5) * guess


def clean(x_t, v, keep):
    return math.sqrt(keep) * x_t - math.sqrt(1 - keep) * v


def variant(**mistakes):
    return lambda *case: step(*case, **mistakes)


def bent(x):
    return x * torch.sigmoid(x)


def block_by_lines(block, x, emb):
    """One layer a line, the number of a channel added by broadcasting another way."""
    h = block.norm1(x)
    h = bent(h)
    h = block.conv1(h)
    numbers = emb @ block.from_t.weight.mT + block.from_t.bias
    h = (h.permute(2, 3, 0, 1) + numbers).permute(2, 3, 0, 1)
    h = block.norm2(h)
    h = bent(h)
    h = block.conv2(h)
    return h + block.shortcut(x)


def block_by_reshape(block, x, emb):
    told = block.from_t(emb).reshape(len(x), -1, 1, 1)
    h = torch.add(block.conv1(F.silu(block.norm1(x))), told)
    return torch.stack([block.conv2(F.silu(block.norm2(h))), block.shortcut(x)]).sum(0)


def block(
    *,
    first="norm bend",
    told="before",
    second="norm bend",
    shortcut="input",
    after=False,
    again=False,
):
    """A block by orders in words."""

    def run(layers, x, emb):
        def half(h, order, norm):
            for word in order.split():
                h = norm(h) if word == "norm" else bent(h)
            return h

        c = layers.from_t(emb).unsqueeze(-1).unsqueeze(-1)
        h = inner = half(x, first, layers.norm1)
        h = layers.conv1(h)
        h = h + c if told in ("before", "both") else h
        h = h + layers.from_t(emb) if told == "flat" else h
        if told in ("late", "both"):
            h = bent(layers.norm2(h) + c)
        else:
            h = half(h, second, layers.norm1 if again else layers.norm2)
        h = layers.conv2(h) + c if told == "last" else layers.conv2(h)
        if shortcut == "x":
            h = h + x
        elif shortcut != "none":
            h = h + layers.shortcut(x if shortcut == "input" else inner)
        return bent(h) if after else h

    return run


def block_of_convolutions(*, early):
    """A block that convolves, normalises, bends; emb comes after conv1 or after the first half."""

    def run(layers, x, emb):
        c = layers.from_t(emb).unsqueeze(-1).unsqueeze(-1)
        h = layers.conv1(x)
        h = bent(layers.norm1(h + c)) if early else bent(layers.norm1(h)) + c
        return bent(layers.norm2(layers.conv2(h))) + layers.shortcut(x)

    return run


def unet_that_adds(net, x_t, emb):
    fine = block_by_lines(net.down_blocks[0], net.stem(fold_by_strides(x_t)), emb)
    coarse = block_by_lines(net.middle_in, net.downs[0](fine), emb)
    coarse = block_by_lines(net.middle_out, net.attention(coarse), emb)
    return block_by_lines(net.up_blocks[0], net.ups[0](coarse) + fine, emb)


def unet_by_parts(net, x_t, emb):
    """The whole way by names in a row."""
    h = net.stem(fold_by_strides(x_t))
    skips = []
    for part, down in zip(net.down_blocks, net.downs, strict=True):
        h = part(h, emb)
        skips.append(h)
        h = down(h)
    h = net.middle_in(h, emb)
    h = net.attention(h)
    h = net.middle_out(h, emb)
    for up, part in zip(net.ups, net.up_blocks, strict=True):
        h = part(torch.cat((up(h), skips.pop()), 1), emb)
    return F.pixel_shuffle(net.last(bent(net.norm(h))), 2)


def unet_with_own_blocks(net, x_t, emb):
    fine = block_by_lines(net.down_blocks[0], net.stem(F.pixel_unshuffle(x_t, 2)), emb)
    coarse = net.downs[0](fine)
    coarse = block_by_lines(net.middle_in, coarse, emb)
    coarse = block_by_lines(net.middle_out, net.attention(coarse), emb)
    both = torch.hstack([net.ups[0](coarse), fine])
    both = block_by_lines(net.up_blocks[0], both, emb)
    return F.pixel_shuffle(net.last(bent(net.norm(both))), 2)


def unet(*, middle="in attention out", kept="block", pair="up kept", end="norm bend last", add=0):
    """A way through the U-Net by orders in words."""

    def run(net, x_t, emb):
        stem = net.stem(fold_by_strides(x_t))
        h = fine = net.down_blocks[0](stem, emb)
        h = net.downs[0](h)
        for word in middle.split():
            if word == "attention":
                h = net.attention(h)
            else:
                h = (net.middle_in if word == "in" else net.middle_out)(h, emb)
        sides = {"up": net.ups[0](h), "kept": fine if kept == "block" else stem}
        h = net.up_blocks[0](torch.cat([sides[word] for word in pair.split()], 1), emb)
        for word in end.split():
            h = {"norm": net.norm, "bend": bent, "last": net.last}[word](h)
        return F.pixel_shuffle(h, 2) + add * x_t

    return run


RIGHT = {
    "06.1": [fold_by_strides, fold_by_chunks],
    "06.2": [block_by_lines, block_by_reshape],
    "06.3": [unet_by_parts, unet_with_own_blocks],
    "06.4": [variant(), step_by_slope],
}

WRONG = {
    "06.1": [
        ("does not make squares", fold_in_order),
        ("four quarters", fold_quarters),
        ("Rows and columns have changed", fold_columns_first),
        ("should come first", fold_places_first),
        ("transposed", fold_transposed),
        ("should have shape", lambda x: fold_by_strides(x)[:, :1]),
    ],
    "06.2": [
        ("shortcut is missing", block(shortcut="none")),
        ("not told emb", block(told="never")),
        ("it is added before norm2", block(told="late")),
        ("once more", block(told="both")),
        ("missing before conv1", block(first="norm")),
        ("missing before conv2", block(second="norm")),
        ("norm2 is missing", block(second="bend")),
        ("norm1 is missing", block(first="bend")),
        ("your first half bends", block(first="bend norm")),
        ("your second half bends", block(second="bend norm")),
        ("behind the sum", block(after=True)),
        ("what norm1 and SiLU have made", block(shortcut="inner")),
        ("A number should be", lambda layers, x, emb: 2 * block_by_lines(layers, x, emb)),
        ("not behind conv2", block(told="last")),
        ("lacks two axes", block(told="flat")),
        ("norm1 is used twice", block(again=True)),
        ("both halves of yours convolve first", block_of_convolutions(early=True)),
        ("is added between conv1 and norm2.", block_of_convolutions(early=False)),
        ("x itself is added", block(shortcut="x")),
        ("stopped with RuntimeError", lambda layers, x, emb: layers.conv1(x[:, :3])),
    ],
    "06.3": [
        ("wrong order", unet(pair="kept up")),
        ("not that of stem", unet(kept="stem")),
        ("Nothing was kept", unet(pair="up up")),
        ("is left out: the kept", unet(pair="kept kept")),
        ("The attention is left out", unet(middle="in out")),
        ("attention comes too early", unet(middle="attention in out")),
        ("attention comes too late", unet(middle="in out attention")),
        ("middle_in is left out", unet(middle="attention out")),
        ("middle_out is left out", unet(middle="in attention")),
        ("norm and SiLU before last", unet(end="last")),
        ("still folded", lambda *case: folded_by_channel(unet_by_parts(*case))),
        ("side by side with torch.cat", unet_that_adds),
        ("my_block answers None", lambda net, x_t, emb: net.downs[0](None)),
        ("norm is left out", unet(end="bend last")),
        ("SiLU is left out", unet(end="norm last")),
        ("behind the last convolution", unet(end="norm bend last bend")),
        ("added to x_t", unet(add=1)),
        ("should have shape", lambda net, x_t, emb: net.stem(fold_by_strides(x_t))),
        ("stopped with RuntimeError", lambda net, x_t, emb: net.stem(x_t)),
    ],
    "06.4": [
        ("Three mistakes", variant(state=True, unfit=True, root=1)),
        ("is not clipped", step_without_clip),
        ("do not clip it", lambda *case: step(*case).clip(-1, 1)),
        ("The state x_t is clipped. Only", variant(state=True)),
        ("eps_hat does not fit the clipped guess: compute", variant(unfit=True)),
        ("fit the clipped guess, and it is multiplied", variant(unfit=True, root=1)),
        ("eps_hat does not fit the guess", variant(state=True, unfit=True)),
        ("state is clipped, and eps_hat is multiplied", variant(state=True, root=1)),
        ("One mistake is left", variant(root=1)),
        ("A number should be", lambda x, v, t, s: clean(x, v, t)),
    ],
}

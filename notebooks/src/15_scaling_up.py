# %% [markdown]
# # 15 · What changes when one process becomes many?
#
# A large network is trained by many processes at once. Nothing should change but the time. This lesson starts two processes and shows that they end where one ends. It kills one of them, and the run still ends there. On the way it meets mistakes that raise no error.
#
# **At the end you can**
# - cut a batch into slices that add up to the same step;
# - give each process its own rows and its own noise, and say what happens otherwise;
# - restart a killed run so that it ends where the unbroken one ends;
# - say what bfloat16 may hold and what it may not;
# - compute what a large run needs, and where it would break.
#
# **You need** lessons 05 and 06. A GPU is not needed: the processes here share your CPU. **Time**: about 90 minutes.

# %%
import tempfile
from pathlib import Path

import torch

import diffusion_core as dc
import diffusion_lab as lab
from diffusion_core import checkpoints, nets, processes
from diffusion_core.toys import toy_2d
from diffusion_lab import worker

# %% [markdown]
# ## 1. The picture first
#
# The processes of a run are numbered from 0 to $W-1$. The number of a process is its **rank**; $W$, how many there are, is the **world**. (In the code `Place(rank, world)`.) In *data parallel* training every rank has the whole network and rows of its own. Each computes a gradient $g_r$ from its rows, with its own times $t$ and noise $\epsilon$. Then all take the same step, from the mean $\bar g = \frac1W\sum_r g_r$.
#
# More ranks, less variance. We take a network of two weights, one for each coordinate of $x_t$, so that a gradient is a point in the plane, and 16 ranks. Every rank draws from a generator. In most scripts the first line sets a seed, **the same on every rank**.

# %%
ladder, ranks, trials, rows = dc.vp_schedule(100), 16, 500, 32
points = toy_2d("moons", ranks * trials * rows, generator=torch.Generator().manual_seed(0))
points = points.double().view(ranks, trials * rows, 2)


def rank_gradients(own):
    """Return gradients (ranks, trials, 2) of two weights; with own noise, or that of rank 0."""
    found = []
    for rank in range(ranks):
        rng = processes.own_generator(1, processes.Place(rank if own else 0, ranks))
        t = dc.draw_t(ladder, points[rank], rng)
        eps = torch.randn(trials * rows, 2, generator=rng, dtype=torch.float64)
        x_t = dc.q_sample(ladder, points[rank], t, eps)
        weights = torch.full((trials, 1, 2), 0.5, dtype=torch.float64, requires_grad=True)
        x_t, eps = (part.view(trials, rows, 2) for part in (x_t, eps))
        loss = (weights * x_t - eps).square().mean((1, 2)).sum()
        found.append(torch.autograd.grad(loss, weights)[0][:, 0])
    return torch.stack(found)


clouds = {"own": rank_gradients(True), "same": rank_gradients(False)}

# %% [markdown]
# Each dot on the left is one mean gradient; the dotted lines cross at the mean of all. Raise the number of ranks with noise of their own, then with the same noise.

# %%
worlds = [1, 2, 4, 8, 16]
spread = {
    name: [g[:world].mean(0).var(0).mean().item() for world in worlds] for name, g in clouds.items()
}
fig, axes = lab.figure(2, width=9.5, height=3.4)
cloud = axes[0].plot([], [], ".", color=lab.BLUE, ms=4)[0]
centre = clouds["own"].mean((0, 1))
axes[0].axvline(centre[0], color=lab.BLACK, ls=":", lw=1)
axes[0].axhline(centre[1], color=lab.BLACK, ls=":", lw=1)
reach = 4 * spread["own"][0] ** 0.5
axes[0].set(
    xlim=(centre[0] - reach, centre[0] + reach), ylim=(centre[1] - reach, centre[1] + reach)
)
axes[0].set(xlabel="gradient of weight 1", ylabel="gradient of weight 2", aspect="equal")
axes[1].loglog(worlds, spread["own"], "o-", color=lab.BLUE, label="own noise")
axes[1].loglog(worlds, spread["same"], "s--", color=lab.RED, label="same noise on every rank")
here = axes[1].plot([], [], "o", color=lab.BLACK, ms=12, fillstyle="none")[0]
axes[1].set(xlabel="ranks", ylabel="variance of the mean gradient", xticks=worlds)
axes[1].set_xticklabels(worlds)
legend = axes[1].legend()

# %% [markdown]
# Move it:


# %%
def average(world, noise):
    """Show the means over so many ranks."""
    cloud.set_data(*clouds[noise][:world].mean(0).T)
    value = spread[noise][worlds.index(world)]
    here.set_data([world], [value])
    return f"{world} ranks, {noise} noise: the variance is {value:.5f}."


controls = {"world": lab.choice("ranks", worlds, 4), "noise": lab.choice("noise", list(clouds))}
lab.Explorer(fig, [cloud, here], average, controls)

# %% [markdown]
# With the same noise, sixteen ranks are hardly better than two, and no error is raised. Why? Let each $g_r$ have the variance $V$, and any two of them the covariance $C$. The variance of a sum is the sum of all variances and covariances:
#
# $$\mathrm{Var}\,\bar g = \frac1{W^2}\big[W V + W(W-1)\,C\big] = \frac VW + \Big(1-\frac1W\Big)\,C. \tag{67}$$
#
# With noise of their own, ranks are independent, and $C=0$. With the same noise (and times) only the rows are independent, and $C = \mathrm{Var}\,\mathbb E[g\mid\text{noise}]$ stays, however many ranks there are; the mean $\mathbb E$ is over the rows.

# %%
V = clouds["own"].var(1).mean().item()
apart = clouds["same"] - clouds["same"].mean(1, keepdim=True)
pairs = torch.einsum("atk,btk->ab", apart, apart) / (2 * (trials - 1))
C = (pairs.sum() - pairs.trace()).item() / (ranks * (ranks - 1))
print("ranks   own, by (67)   measured   same, by (67)   measured")
for i, world in enumerate(worlds):
    formula = {"own": V / world, "same": V / world + (1 - 1 / world) * C}
    for name, wanted in formula.items():
        assert abs(spread[name][i] / wanted - 1) < 0.25
    cells = [x for name in formula for x in (formula[name], spread[name][i])]
    print(
        f"{world:4d}    {cells[0]:.5f}        {cells[1]:.5f}    {cells[2]:.5f}         {cells[3]:.5f}"
    )

# %% [markdown]
# In the package the seeds of two ranks lie `STRIDE` apart, about a million. (`processes.place()` finds out which process this is.) A trap: torch's generator on the CPU reads 32 bits of a seed, so "seed + rank × 2³²" gives every rank the same noise.

# %%
lab.show_source(processes.own_generator)
first = [
    torch.rand(1, generator=torch.Generator().manual_seed(7 + rank * 2**32)) for rank in (0, 1)
]
assert first[0] == first[1]
own = [processes.own_generator(7, processes.Place(rank, 2)) for rank in (0, 1)]
assert torch.rand(1, generator=own[0]) != torch.rand(1, generator=own[1])

# %% [markdown]
# In your runs, print each rank's first number.
#
# ## 2. Slices of a batch
#
# Now let $N$ rows be *one* batch with one draw of noise, and cut it into parts of $n_1, n_2, \dots$ rows. The loss is a mean over rows. So, with $\ell_i$ the loss of row $i$ and $\bar\ell_k$ the mean over part $k$:
#
# $$\nabla\,\frac1N\sum_{i=1}^N \ell_i = \sum_k \frac{n_k}{N}\,\nabla\bar\ell_k. \tag{68}$$
#
# It does not matter whether the parts are computed at once by several ranks, or one after another by one process. The second is **gradient accumulation**: a large batch in little memory.
#
# **Exercise 1. Write it.** `my_mean(gradients, counts)`: `gradients` is a list of tensors of one shape, the gradients of the parts' *mean* losses; `counts` is a list of their numbers of rows. Return the gradient of the mean over all rows.


# %%
# STARTER
def my_mean(gradients, counts):
    return None  # your lines here


# SOLUTION
def my_mean(gradients, counts):
    total = sum(counts)
    return sum(n / total * gradient for gradient, n in zip(gradients, counts, strict=True))


# %%
# lab.hint("15.1")
lab.check("15.1", my_mean)

# %% [markdown]
# `train` takes both: the parts that it accumulates, and those of all ranks. This is how it weighs the losses of the parts. (DistributedDataParallel takes the plain mean over ranks, $\frac1W\sum_r$; hence the factor `world`.)

# %%
lab.show_source(processes.weights)

# %% [markdown]
# A check in float64: 20 steps on batches of 64, whole or in parts. `slices` yields rows, times and noise; `told_loss` uses them. **Predict**: parts of 16 will agree with the whole. Will parts of 40, 20 and 4?

# %%
moons = toy_2d("moons", worker.ROWS, generator=torch.Generator().manual_seed(0)).double()


def in_parts(sizes):
    """Return the weights after 20 steps, each batch cut into parts of these sizes."""
    model = nets.MLP(width=32).double()
    parts = (
        part
        for batch in worker.slices(moons, seed=0)
        for part in zip(*(tensor.split(sizes) for tensor in batch), strict=True)
    )
    dc.train(model, worker.told_loss, parts, steps=20, lr=2e-3, accumulate=len(sizes))
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach()


whole = in_parts([64])
for sizes in ([16] * 4, [40, 20, 4]):
    torch.testing.assert_close(in_parts(sizes), whole, rtol=0, atol=1e-12)
    print(f"parts of {', '.join(map(str, sizes))}: the whole batch, to 1e-12")

# %% [markdown]
# Parts of any size agree: each mean counts as its rows do.
#
# ### What breaks: a mean of means
#
# Many scripts take the plain mean over parts. With equal parts it is the same. A last batch of an epoch is often smaller. Here are 40, 20 and 4 rows again; look at the loss alone:

# %%
batch = next(worker.slices(moons, seed=0))
network = nets.MLP(width=32).double()
with torch.no_grad():
    losses = [
        worker.told_loss(network, *part)
        for part in zip(*(tensor.split([40, 20, 4]) for tensor in batch), strict=True)
    ]
    right = worker.told_loss(network, *batch)
weighted = my_mean(losses, [40, 20, 4]) or right
print(f"whole batch {right:.4f}, mean of three means {sum(losses) / 3:.4f}")
assert abs(weighted - right) < 1e-12 and abs(sum(losses) / 3 - right) > 1e-3

# %% [markdown]
# Four rows count as much as forty there. A loss that is a *sum* over rows does not fit (68): the size of a part would count twice.
#
# ## 3. Two processes
#
# A notebook is one process. Others cannot be copied from it on every system; they are *started*, and run a file. `torchrun` starts a file $W$ times and tells each copy its rank. This is the file, `diffusion_lab/worker.py`. First the rows: every rank draws the same global batch, and `share` keeps its own.

# %%
lab.show_source(worker.slices)
lab.show_source(processes.share)

# %% [markdown]
# Then the run. With several processes `train` wraps loss and network in torch's DistributedDataParallel, which first sends rank 0's weights to all, so that they start alike; then, in each step, it averages gradients while the rest of the backward pass goes on. Rank 0 alone writes, under another name first; the others wait in `gathered`, which collects a number from every rank, until the file is whole.

# %%
lab.show_source(worker.train_here)

# %% [markdown]
# One process, here; then two, by the command `torchrun --standalone --nproc-per-node 2 worker.py FOLDER`. On CPUs they talk by *gloo*, on NVIDIA's GPUs by *nccl*; the program is the same. **Predict**: after 200 steps, in which digit will the weights differ?

# %%
folder = Path(tempfile.mkdtemp())
for name in ("one", "two", "killed"):
    (folder / name).mkdir()
losses = {"one": worker.train_here(folder / "one")}
lab.torchrun(worker.__file__, folder / "two", processes=2)


def state_of(name):
    """Return all numbers of a run's last checkpoint in a row: weights, averages, moments; losses."""
    model = nets.MLP(width=32).double()
    ema, optimizer = dc.EMA(model), torch.optim.AdamW(model.parameters())
    about = checkpoints.load_run(folder / name / "state.safetensors", model, ema, optimizer)
    moments = [m.flatten() for s in optimizer.state.values() for m in s.values()]
    kept = [w.flatten() for part in (model, ema.model) for w in part.parameters()]
    return torch.cat([*kept, *moments]).detach(), about["losses"]


one, _ = state_of("one")
two, losses["two"] = state_of("two")
torch.testing.assert_close(two, one, rtol=0, atol=1e-12)
print("two processes end where one ends, to 1e-12: weights, averages and moments")

# %% [markdown]
# The loss of a step is the mean over both slices, so the two runs have the same curve:

# %%
fig, (ax,) = lab.figure(width=7, height=2.8)
ax.plot(losses["one"], color=lab.BLUE, label="one process")
ax.plot(losses["two"], ".", color=lab.ORANGE, ms=4, label="two processes")
ax.set(xlabel="step", ylabel="loss")
ax.legend()
lab.show(fig, "The losses of one process and of two, over the steps: the dots lie on the line.")

# %% [markdown]
# They differ by rounding only, beyond the twelfth decimal: sums are taken in another order. It holds *because* both ranks took slices of one draw. Drawing 256 slices on each of 256 ranks would be a waste; then each rank takes `own_generator`, and a run with another number of ranks has the same distribution, not the same numbers.
#
# Was it faster? Not here: the steps are tiny, and each waits for the other process. Compare at equal numbers of threads: `torchrun` gives each process one.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: how a process ends
#
# Connected processes form a **group**, with threads that carry its messages. `processes.joined()` is a `with` block, and at its end the group is let go (`destroy_process_group`). What breaks without that? All work is done, every file is written, and then, while Python tidies up, a thread of the group may still be running, and the process aborts: now and then, not always. `torchrun` sees a rank that died. The same happens if something else holds the group to the end. (This can happen unnoticed: `torch.distributed.nn` keeps the group that there is when it is first imported, and DistributedDataParallel imports it. So import it before there is a group.)

# %% [markdown]
# ## 4. Whose rows?
#
# Within an epoch the rows of all ranks must be the data, each row once. With a shuffled order $I$ of the epoch, the same on all ranks, rank $r$ takes $I_r$:
#
# $$\bigcup_r I_r = I,\qquad I_r\cap I_s=\emptyset\quad(r\ne s). \tag{69}$$
#
# **Exercise 2. Write it.** `my_rows(order, batch, step, rank, world)` returns the rows of one rank in one step. `order` is a tensor, the order of the epoch; `batch` is the size of the *global* batch; steps begin at 0. Of each global batch, rank $r$ takes the entries $r, r+W, r+2W, \dots$


# %%
# STARTER
def my_rows(order, batch, step, rank, world):
    return None  # your lines here


# SOLUTION
def my_rows(order, batch, step, rank, world):
    return order[step * batch + rank : (step + 1) * batch : world]


# %%
# lab.hint("15.2")
lab.check("15.2", my_rows)

# %% [markdown]
# torch's own tool is the DistributedSampler. It has two surprises. It *pads*: all ranks get equally many rows, so some come twice, which counts in a metric. And it shuffles anew only if it is told the epoch, *before* the loop over it begins.

# %%
from torch.utils.data import DistributedSampler

sampler = [DistributedSampler(range(11), 4, rank, shuffle=False) for rank in range(4)]
visits = sum(len(list(part)) for part in sampler)
ours = sum(len(processes.share(torch.arange(11), processes.Place(rank, 4))) for rank in range(4))
print(f"11 rows on 4 ranks: DistributedSampler visits {visits}, share {ours}")
shuffled = DistributedSampler(range(11), 1, 0)
orders = [list(shuffled), list(shuffled)]
shuffled.set_epoch(1)
orders.append(list(shuffled))
assert orders[0] == orders[1] != orders[2]
print("a second epoch without set_epoch has the order of the first; with it, another")

# %% [markdown]
# `minibatches` draws a new order for each epoch itself. It leaves out the last rows of that order, fewer than a batch, so that all batches are equal: $I$ in (69) is what remains, and the next epoch leaves out others.
#
# ## 5. One dies
#
# When a process dies, `torchrun` ends all ranks and starts them again. They must go on as if nothing had happened. Let $S_k$ be all that the run knows after epoch $k$: weights, averages, the optimizer's moments and $k$ itself. If an epoch's order comes from $k$ alone, and its noise from $k$ or, where ranks draw their own, from $k$ and the rank,
#
# $$S_{k+1} = F(S_k), \tag{70}$$
#
# with nothing random left in $F$; so from a stored $S_2$ the way to $S_5$ is the same, whoever walks it. With one generator for the whole run its state would have to be stored, too, for each rank.
#
# In the run below rank 1 dies in the middle of the third epoch, without a word. **Predict**: how many steps are done twice?

# %%
lab.torchrun(worker.__file__, folder / "killed", "unlucky", processes=2, restarts=1)
killed, losses["killed"] = state_of("killed")
assert torch.equal(killed, two) and losses["killed"] == losses["two"]
print("the killed run ends where the unbroken one ends, to the last bit")

# %% [markdown]
# Each rank keeps a diary: after each step it notes how many epochs are done. This is that of rank 1:

# %%
diary = (folder / "killed" / "diary_1.txt").read_text().split()
done = [float(line) for line in diary]
fig, (ax,) = lab.figure(width=7, height=2.8)
ax.plot(done, color=lab.BLUE)
falls = next(i for i in range(1, len(done)) if done[i] < done[i - 1])
ax.axvline(falls - 0.5, color=lab.RED, ls="--")
ax.text(falls + 1, 0.4, "rank 1 has died")
ax.set_title(f"done twice: {sum(epochs > 2 for epochs in done[:falls])} steps")
ax.set(xlabel="steps that rank 1 has worked", ylabel="epochs done")
lab.show(
    fig,
    "Epochs done over the steps worked: a fall to just above 2 where rank 1 dies, then on to 5.",
)

# %% [markdown]
# What was done since the last checkpoint is lost and done again, to the same numbers: 21 steps, just over half of an epoch's 40. So the interval between checkpoints is a price: half of it is lost at each death, on average.
#
# ## 6. Fewer bits
#
# GPUs multiply **bfloat16** many times as fast as float32. It has the range of float32 and 8 bits of precision, under three decimal digits. `autocast` computes products in it, and leaves weights in float32, with their gradients and moments. Two things must stay in float32. First, the time:

# %%
steps = torch.arange(1, 1001)
halved = steps.bfloat16()
late = (halved.long() - steps).abs().max().item()
exact = nets.timestep_embedding(steps, 128)
frequencies = exact.new_tensor(10_000.0) ** (-torch.arange(64) / 64)
angles = halved.float()[:, None] * frequencies
spoiled = torch.cat([angles.cos(), angles.sin()], 1)
nearest = torch.cdist(spoiled, exact).argmin(1) + 1
rounded = torch.cdist(exact.bfloat16().float(), exact).argmin(1) + 1
print(f"times 1..1000 in bfloat16: {len(halved.unique())} different ones, off by up to {late}")
print(f"embedded after rounding, {(nearest != steps).sum()} of 1000 look like another time")
print(f"rounded after embedding, {(rounded != steps).sum()} do")
assert len(halved.unique()) < 600 and (rounded == steps).all()

# %% [markdown]
# So `timestep_embedding` computes in float32, and the schedule's tables are float64. Second, whatever grows by small steps. The average $\bar w$ of weights $w$, from lesson 05, moves by $(1-d_n)(w - \bar w)$ in update $n$; $d$ is its decay. For weights that stay at 1 and an average that began at 0,
#
# $$\bar w_n = 1 - \prod_{k=1}^n d_k,\qquad d_k=\min\Big(d,\ \frac{1+k}{10+k}\Big). \tag{71}$$
#
# Late in a run $d_k=d$; if the weights jump from 0 to 1 there, the average is $1-d^n$ after $n$ updates. In bfloat16 a step below half the distance to the next number is rounded away. Choose $d$:

# %%
decays = [0.9, 0.99, 0.999, 0.9999]


def average_in(dtype, decay, n=3000):
    """Return the average after 1..n updates, kept in a dtype, of weights that jumped from 0 to 1."""
    average, path = torch.zeros(1, dtype=dtype), []
    for _ in range(n):
        average = average.lerp(torch.ones(1, dtype=dtype), 1 - decay)
        path.append(average.item())
    return path


paths = {
    (dtype, d): average_in(dtype, d) for d in decays for dtype in (torch.float32, torch.bfloat16)
}
for d in decays:
    assert abs(paths[torch.float32, d][-1] - (1 - d**3000)) < 1e-3
fig, (ax,) = lab.figure(width=7, height=3)
(kept,) = ax.plot([], [], color=lab.BLUE, label="float32")
(stuck,) = ax.plot([], [], color=lab.RED, ls="--", label="bfloat16")
ax.set(xlabel="updates after the jump", ylabel="average", xlim=(0, 3000), ylim=(0, 1.05))
legend = ax.legend(loc="lower right")

# %% [markdown]
# Is there a decay at which bfloat16 does no harm?


# %%
def keep(decay):
    """Show both averages for a decay."""
    for line, dtype in ((kept, torch.float32), (stuck, torch.bfloat16)):
        line.set_data(range(1, 3001), paths[dtype, decay])
    ends = [paths[dtype, decay][-1] for dtype in (torch.float32, torch.bfloat16)]
    return f"d = {decay:g}: float32 ends at {ends[0]:.4f}, bfloat16 at {ends[1]:.4f}."


lab.Explorer(fig, [kept, stuck], keep, {"decay": lab.choice("decay d", decays, 0.999)})

# %% [markdown]
# At none of the four; at 0.9 it stops just short of 1.
#
# **Exercise 3. Predict the number.** An average is kept in bfloat16. Neighbours in bfloat16 are $2^{-8}$ apart between ½ and 1, $2^{-9}$ between ¼ and ½, and so on, halved with each halving. It begins at 0, $d$ is 0.998 from the first update on, and the weights stay at 1. Where does it stop?

# %%
# STARTER
stops_at = None  # your number here
# SOLUTION
stops_at = 0.5  # there (1 - 0.5) * 0.002 is below half of 2^-8; below 0.5 a step is enough

# %%
# lab.hint("15.3")
lab.check("15.3", stops_at)

# %% [markdown]
# Of weights in half precision `EMA` keeps averages in float32. A weight itself has the same trouble: one of 1, minus 0.001 a thousand times, is still 1 in bfloat16. So the optimizer works on float32 *master weights*.

# %%
w = torch.ones(1, dtype=torch.bfloat16)
for _ in range(1000):
    w = w - 0.001
model = torch.nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
ema = dc.EMA(model, decay=0.999)
(average,) = ema.state_dict().values()
print(f"1 less 1000 times 0.001 in bfloat16: {w.item()}; EMA keeps {average.dtype}")
assert w == 1 and average.dtype == torch.float32

# %% [markdown]
# ## 7. Compiled, and how often
#
# `torch.compile` turns a network into a *graph* of operations that a compiler makes fast. It does so again when an assumption fails: another shape, another branch. A training that compiles all the time is slower than one that never does. So count. A *backend* gets each new graph; ours runs it as it is and counts, so no compiler is needed.

# %%
import logging

import torch._dynamo

torch._logging.set_logs(dynamo=logging.ERROR)
graphs = []


def counting(graph, inputs):
    """A backend that counts."""
    graphs.append(graph)
    return graph.forward


# %% [markdown]
# Four ways to call one network. The third asks Python about a *number* inside a tensor, which a graph cannot know: there it breaks.

# %%
small = nets.MLP(width=32)
x, t = torch.zeros(8, 2), torch.full((8,), 60)


def late_is_halved(x, t):
    """A Python branch on a number in a tensor."""
    return small(x, t) / 2 if t[0].item() > 50 else small(x, t)


calls = {
    "the same shape, 4 times": (small, [(x, t)] * 4),
    "a smaller last batch": (small, [(x, t), (x[:5], t[:5]), (x, t), (x[:5], t[:5])]),
    "a branch on t[0].item()": (late_is_halved, [(x, t), (x, t // 2), (x, t), (x, t // 2)]),
    "a branch by torch.where": (
        lambda x, t: small(x, t) * torch.where(t > 50, 0.5, 1.0)[:, None],
        [(x, t), (x, t // 2), (x, t), (x, t // 2)],
    ),
}
for name, (function, arguments) in calls.items():
    torch._dynamo.reset()
    graphs.clear()
    compiled = torch.compile(function, backend=counting)
    for given in arguments:
        compiled(*given)
    print(f"{name:26} {len(graphs)} graph{'s' * (len(graphs) > 1)}")

# %% [markdown]
# One graph in the steady state is the aim. `minibatches` leaves out a smaller last batch, and the package's networks take $t$ as a tensor. `fullgraph=True` turns a break, as at `.item()`, into an error.
#
# ## 8. On paper: ImageNet
#
# Take DiT-XL/2, which draws 256 × 256 pictures: 28 layers of width 1152 on 256 tokens (patches of latents, lesson 12), batches of 256, 7 million steps. A layer has about 18 · 1152² weights; 12 · 1152² of them see every token, the rest only time and label.

# %%
layers, width, tokens, batch_size, updates = 28, 1152, 256, 256, 7_000_000
weights = layers * 18 * width**2
# a weight: times and plus; attention: all pairs of tokens, twice
forward = layers * (2 * 12 * width**2 * tokens + 4 * tokens**2 * width + 2 * 6 * width**2)
training = 3 * forward  # the backward pass costs two more
peak, reached, memory = 989e12, 0.4, 80e9  # an H100's data sheet, bfloat16; 0.4 is assumed
per_image = training / (peak * reached)
print(f"weights                       {weights / 1e6:.0f} million")
print(f"operations of the whole run   {training * batch_size * updates:.2e}")
print(f"one GPU                       {per_image * batch_size * updates / 86400:.1f} days")
print(f"8 GPUs, if nothing is lost    {per_image * batch_size * updates / 86400 / 8:.1f} days")
print(f"256 GPUs, if nothing is lost  {per_image * batch_size * updates / 3600 / 256:.1f} hours")
state = weights * 4 * (1 + 1 + 2 + 1)  # weight, gradient, two moments, average
print(f"state on every GPU            {state / 1e9:.1f} GB of {memory / 1e9:.0f}")
print(
    f"largest network that fits     {memory / 20 / 1e9:.1f} thousand million weights, no room for a batch"
)

# %% [markdown]
# "If nothing is lost": all ranks must learn the mean of all gradients in every step, an **all-reduce**. On a ring each rank cuts its $n$ numbers into $W$ parts and sends one part to its neighbour, $2(W-1)$ times (exercise 4):
#
# $$\text{sent by each rank} = 2(W-1)\,\frac nW = 2\Big(1-\frac1W\Big)\,n. \tag{72}$$
#
# It hardly grows with $W$, but the work of a rank *shrinks* like $1/W$. DistributedDataParallel sends while it computes, so at best a step takes the longer of the two. We assume 450 GB/s between the 8 GPUs of a machine and 50 GB/s beyond.

# %%
sizes = [2**i for i in range(1, 9)]


def step_times(world, batch, size):
    """Return seconds of work and of traffic in a step; numbers of `size` bytes are sent."""
    speed = 450e9 if world <= 8 else 50e9
    return per_image * batch / world, processes.all_reduce_numbers(weights, world) * size / speed


fig, (ax,) = lab.figure(width=7, height=3.3)
ax.loglog(sizes, sizes, ":", color=lab.BLACK, label="nothing lost")
(gain,) = ax.loglog([], [], "o-", color=lab.BLUE, ms=4, label="the longer of work and traffic")
(at,) = ax.loglog([], [], "o", color=lab.RED, ms=11, fillstyle="none")
ax.set(xlabel="GPUs", ylabel="times as fast as one", xlim=(1.5, 400), ylim=(0.8, 400))
legend = ax.legend(loc="upper left")
ticks = ax.set_xticks(sizes, sizes)
ax.minorticks_off()

# %% [markdown]
# **Predict** where 256 GPUs will stand: 256, 100, 10 or fewer times as fast? Then look for a setting where they pay.


# %%
def scale(world, batch, size):
    """Show how many times as fast many GPUs are."""
    alone = step_times(1, batch, size)[0]
    gain.set_data(sizes, [alone / max(step_times(n, batch, size)) for n in sizes])
    work, traffic = step_times(world, batch, size)
    at.set_data([world], [alone / max(work, traffic)])
    return (
        f"{world} GPUs, {batch} images: work {1000 * work:.1f} ms, traffic {1000 * traffic:.1f} ms; "
        f"{alone / max(work, traffic):.1f} times as fast as one."
    )


controls = {
    "world": lab.choice("GPUs", sizes, 8),
    "batch": lab.choice("images a batch", [256, 1024, 4096], 256),
    "size": lab.choice("bytes a number", [4, 2], 4),
}
lab.Explorer(fig, [gain, at], scale, controls)

# %%
for world, batch, size in ((8, 256, 4), (256, 256, 4), (256, 4096, 2)):
    work, traffic = step_times(world, batch, size)
    times = per_image * batch / max(work, traffic)
    print(
        f"{world:3d} GPUs, {batch:4d} images, {size} bytes: work {1000 * work:5.1f} ms, "
        f"traffic {1000 * traffic:5.1f} ms, {times:5.1f} times as fast as one"
    )
assert max(step_times(8, 256, 4)) == step_times(8, 256, 4)[0]
assert step_times(256, 256, 4)[1] > 20 * step_times(256, 256, 4)[0]

# %% [markdown]
# On 8 GPUs the traffic hides behind the work. On 256, with one image each, the GPUs wait nearly all the time: they are 4 times as fast as one, so the run takes *longer* than on 8. Larger batches and two bytes a number bring them to about half of 256, counted in images. **This design breaks** in four places: at more ranks than rows; where traffic is longer than work (then: larger batches, fewer bytes, accumulation); where the state fills a GPU (then it must be cut up, too); and where one dead rank of thousands stops all. None of this section was run on a GPU; it is arithmetic.
#
# Networks of the course can be trained on any number of processes by
# `torchrun --standalone --nproc-per-node 2 scripts/train_parallel.py mnist`.
#
# ## 9. A ring of your own
#
# **Exercise 4. Write it** (15 minutes). `my_ring_step(parts, k)` plays round $k$ of an all-reduce ($0\le k\le2W-3$). `parts` is $(W, W, n/W)$: `parts[r, c]` is what rank $r$ has of part $c$. In round $k$ every rank $r$ sends its part $c = (r-k) \bmod W$ to rank $(r+1) \bmod W$, all at the same time. In the rounds $k < W-1$ the receiver *adds* it to its own part $c$; in those from $W-1$ on it *replaces* its own. Return the new `parts`; leave the old as they are.


# %%
# STARTER
def my_ring_step(parts, k):
    return None  # your lines here


# SOLUTION
def my_ring_step(parts, k):
    new, world = parts.clone(), len(parts)
    for rank in range(world):
        part, to = (rank - k) % world, (rank + 1) % world
        new[to, part] = parts[rank, part] + (parts[to, part] if k < world - 1 else 0)
    return new


# %%
# lab.hint("15.4")
lab.check("15.4", my_ring_step)

# %% [markdown]
# Each of six ranks starts with ones, so a cell shows how many ranks have been added up in it. After five rounds each rank has one part that is whole; after ten it has all. On the left is what is due: rank $c+j$ is the $j$-th that part $c$ meets.

# %%
ring = [torch.ones(6, 6, 1, dtype=torch.float64)]
for k in range(10):
    after = my_ring_step(ring[-1], k)
    ring.append(ring[-1] if after is None else after)
met = (torch.arange(6)[:, None] - torch.arange(6)) % 6  # j, by rank and part
due = [
    torch.where(met < k - 5, 6, torch.where(met <= k, met + 1, torch.ones_like(met)))
    for k in range(11)
]
fig, axes = lab.figure(2, width=8, height=3.3)
panels = [ax.imshow(due[0], vmin=0, vmax=6, cmap="cividis") for ax in axes]
fig.colorbar(panels[1], label="ranks added up")
for ax, name in zip(axes, ("due", "yours"), strict=True):
    ax.set(xlabel="part", ylabel="rank", title=name)

# %% [markdown]
# Each round moves six parts:


# %%
def turn(k):
    """Show the parts after k rounds."""
    for panel, parts in zip(panels, (due[k], ring[k][..., 0]), strict=True):
        panel.set_data(parts)
    count = int((due[k] == 6).sum()), int((ring[k] == 6).sum())
    return f"After {k} rounds {count[0]} of 36 parts are due to be whole; of yours {count[1]} are."


lab.Explorer(fig, panels, turn, {"k": lab.slider("rounds", 0, 10, 7)}, play="k")

# %% [markdown]
# ## 10. Summary
#
# 1. Parts of a batch, weighted by their rows, are the batch: on many ranks, or one after another.
# 2. Ranks need the same weights and the same order of the data, and noise of their own.
# 3. Two processes end where one ends, to rounding, if they take slices of one draw.
# 4. A run whose order follows from the epoch, and whose noise from epoch and rank, survives a death to the last bit.
# 5. bfloat16 is for products. Times, tables, averages and weights stay out of it; more GPUs help as long as work is longer than traffic.
#
# | equation | function |
# |---|---|
# | (67) variance over ranks | `processes.own_generator` |
# | (68) parts of a batch | `train(accumulate=)`, `processes.weights` |
# | (69) rows of an epoch | `processes.share`, `data.minibatches` |
# | (70) restart | `checkpoints.save_run`, `load_run` |
# | (71) average of weights | `EMA` |
# | (72) traffic of an all-reduce | `processes.all_reduce_numbers` |
#
# **References.** Li et al., *PyTorch Distributed: Experiences on Accelerating Data Parallel Training* (2020). Patarasuk and Yuan, *Bandwidth Optimal All-reduce Algorithms for Clusters of Workstations* (2009). Micikevicius et al., *Mixed Precision Training* (2018). Peebles and Xie, *Scalable Diffusion Models with Transformers* (2023). Rajbhandari et al., *ZeRO: Memory Optimizations Toward Training Trillion Parameter Models* (2020).
#
# **Next**: you have reached the end of the course. [14 · What is wrong with this code?](14_bug_museum.ipynb) shows what can go wrong on the way.

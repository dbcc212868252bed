"""The moving average of a model's weights: smoother than the weights, better for sampling."""

import copy

import torch
from torch import Tensor, nn

from .checks import check_count, check_kinds, kind, require

HALVES = (torch.float16, torch.bfloat16)  # too coarse for the small steps of an average


class EMA:
    """A copy of a model whose weights are the exponential moving average of the model's.

    w_ema <- d w_ema + (1 - d) w, with d = min(decay, (1 + n) / (10 + n)) at update n, so that
    early weights are forgotten fast. `ema.model` is the copy, in evaluation mode. Averages of
    float16 and bfloat16 weights are kept in float32 beside it; the copy's are those, rounded.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        check_kinds(model=model)
        require(isinstance(decay, int | float) and 0 <= decay < 1, "decay", "be in [0, 1)", decay)
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0
        weights = self.model.named_parameters()
        self._exact = {name: w.float() for name, w in weights if w.dtype in HALVES}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average one step towards the model's present weights; copy its buffers.

        The average stays in its dtypes and on its devices. Raises ValueError where the model's
        weights are not like the average's.
        """
        check_kinds(model=model)
        kept = self._averages()
        if [w.shape for w in model.parameters()] != [a.shape for a in kept.values()]:
            given = f"those of another, {type(model).__name__}"
            raise ValueError(f"model must have weights like the average's, got {given}")
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        weights = [w.to(a) for a, w in zip(kept.values(), model.parameters(), strict=True)]
        torch._foreach_lerp_(list(kept.values()), weights, 1 - decay)
        self._round(kept)
        for ours, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            ours.copy_(buffer)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averages and the buffers by name, averages of halves in float32."""
        return {**self.model.state_dict(), **self._averages()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor], updates: int) -> None:
        """Go on from what state_dict returned after so many updates.

        Raises ValueError where names, shapes or dtypes differ from the present ones.
        """
        check_count("updates", updates, lowest=0)
        check_state("state", state, self.state_dict())
        self.model.load_state_dict(state)
        self._round({name: state[name].to(w.device, w.dtype) for name, w in self._exact.items()})
        self.updates = updates

    def _averages(self) -> dict[str, Tensor]:
        """Return all averages by name; where the copy was changed by hand, what stands there."""
        averages = dict(self.model.named_parameters())
        for name, exact in self._exact.items():
            rounded = averages[name].detach()
            exact = exact.to(rounded.device)
            same = exact.to(rounded.dtype) == rounded
            averages[name] = torch.where(same, exact, rounded.float())
        return averages

    def _round(self, averages: dict[str, Tensor]) -> None:
        """Keep the exact averages of halves, and round them into the copy."""
        for name, weight in self.model.named_parameters():
            if name in self._exact:
                self._exact[name] = averages[name]
                weight.copy_(averages[name])


def check_state(name: str, state: dict[str, Tensor], present: dict[str, Tensor]) -> None:
    """Refuse tensors whose names, shapes or dtypes differ from those of the present ones."""
    if not (isinstance(state, dict) and all(isinstance(w, Tensor) for w in state.values())):
        raise TypeError(f"{name} must be a dict of torch.Tensor, got {kind(state)}")
    wanted, found = ({n: (w.shape, w.dtype) for n, w in d.items()} for d in (present, state))
    if wanted != found:
        names = sorted(n for n in wanted | found if wanted.get(n) != found.get(n))
        given = f"others: {names[:5]}"
        raise ValueError(f"{name} must have the names, shapes and dtypes of now, got {given}")

"""A mode of torch that refuses a tensor which the package makes without naming its device.

Under it, and with a default device set, a lesson must run as it does without: what the package
makes lies where its arguments lie, whatever the learner's default is.
"""

import sys
from pathlib import Path

import torch
from torch.overrides import TorchFunctionMode

import diffusion_core as dc

PACKAGE = str(Path(dc.__file__).parent)
FACTORIES = {
    getattr(torch, name)
    for name in "arange as_tensor empty eye full linspace logspace normal ones rand randint randn "
    "randperm scalar_tensor tensor tril_indices triu_indices zeros".split()
}


class DevicesNamed(TorchFunctionMode):
    """Raise where a file of the package makes a tensor without device=."""

    def __torch_function__(self, function, types, arguments=(), options=None):
        caller = sys._getframe(1).f_code.co_filename
        if function in FACTORIES and caller.startswith(PACKAGE):
            of_tensor = function is torch.as_tensor and isinstance(arguments[0], torch.Tensor)
            named = "device" in (options or {}) or of_tensor
            assert named, f"{function.__name__} without device= in {caller}"
        return function(*arguments, **(options or {}))


def begin() -> None:
    """Set a default device, the CPU, and this mode, for the rest of a lesson."""
    torch.set_default_device("cpu")
    DevicesNamed().__enter__()

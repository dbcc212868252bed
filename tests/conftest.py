"""Fixtures that several test files use. Run the tests with `make unit`."""

import pytest
import torch

import diffusion_core as dc


@pytest.fixture(params=dc.available_devices(), ids=str)
def device(request) -> torch.device:
    """Every device of this machine in turn: a test that asks for it runs on all of them."""
    return request.param


@pytest.fixture
def generator() -> torch.Generator:
    """Explicit randomness with a fixed seed."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def untouched_global_rng():
    """No function of the package draws from, or seeds, torch's global generator.

    Whole files ask for it: pytestmark = pytest.mark.usefixtures("untouched_global_rng").
    """
    before = torch.random.get_rng_state()
    yield
    assert torch.equal(torch.random.get_rng_state(), before), "the global RNG was touched"

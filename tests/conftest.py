"""Fixtures that several test files use. Run the tests with `make unit`."""

import pytest
import torch

import diffusion_core as dc

GPU = dc.available_devices()[0]


def pytest_collection_modifyitems(items):
    """What a GPU must prove comes first, where there is one."""
    if GPU.type != "cpu":
        items.sort(key=lambda item: item.get_closest_marker("gpu") is None)


@pytest.fixture
def gpu() -> torch.device:
    """The GPU of this machine: a test that asks for it is skipped where there is none."""
    if GPU.type == "cpu":
        pytest.skip("no GPU here")
    return GPU


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request) -> torch.device:
    """The CPU, then the GPU: a test that asks for it runs on both, if both are there."""
    return torch.device("cpu") if request.param == "cpu" else request.getfixturevalue("gpu")


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

"""Small CLIPs in files, loaded once."""

import pytest
from safetensors.numpy import save_file

from diffprog import clip
from tests.clip import weights


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Where the two files lie that are loaded again and again: vit.safetensors and resnet.safetensors."""
    folder = tmp_path_factory.mktemp("clip")
    for image in ("vit", "resnet"):
        save_file(weights.state(image), folder / f"{image}.safetensors")
    return folder


@pytest.fixture(scope="session")
def vit(folder):
    return clip.load(folder / "vit.safetensors", activation="quick_gelu")


@pytest.fixture(scope="session")
def resnet(folder):
    return clip.load(folder / "resnet.safetensors", activation="quick_gelu")


@pytest.fixture(params=["vit", "resnet"])
def model(request):
    return request.getfixturevalue(request.param)

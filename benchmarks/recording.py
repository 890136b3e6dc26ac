"""What it costs to record EfficientNet-Lite0 at 224 pixels and go back through it, once, in a fresh process.

    python -m benchmarks.recording [--keep summaries]

Operations are compiled one by one as they are met: the second run in the same process shows what is left without that.
Time is counted from after imports and loading; memory is the whole process's at its largest.
"""

import argparse
import resource
import time

import jax

import diffprog as dp


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recording", description=__doc__.split("\n\n")[0])
    parser.add_argument("--keep", default="summaries", choices=["values", "summaries", "nothing"])
    options = parser.parse_args(argv)
    model = dp.models.load("efficientnet_lite0")
    image = jax.random.uniform(jax.random.key(0), (1, 224, 224, 3))
    logit = lambda image: model.apply(model.parameters, image)[0, 281]
    for run in ("first", "second"):
        start = time.perf_counter()
        recording = dp.record(logit, keep=options.keep)(image)
        forward = time.perf_counter() - start
        jax.block_until_ready(recording.backward().inputs[0].gradient)
        whole = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        print(f"{run} run: {len(recording.nodes)} nodes, {whole:.2f} s (recording {forward:.2f} s), {peak:.0f} MiB")
    recording.check()


if __name__ == "__main__":
    main()

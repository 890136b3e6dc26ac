"""diffprog: differentiate any JAX program, look at every gradient in it, and optimise whatever you point at."""

import importlib

from diffprog.comparison import compare
from diffprog.diagnosis import diagnose
from diffprog.graph import backward_source, record
from diffprog.graph.interpose import hook, intervene
from diffprog.graph.probes import activations, grad_at
from diffprog.graph.taps import tap
from diffprog.rules import (  # noqa: F401  (they fill the table of rules)
    calls,
    checkpoint,
    contractions,
    control_flow,
    convolutions,
    custom_calls,
    devices,
    effects,
    elementwise,
    factorizations,
    fourier,
    indexing,
    linear_algebra,
    markers,
    ragged,
    reductions,
    references,
    shapes,
    shard_map,
    special,
    spectra,
    while_loop,
    windows,
)
from diffprog.rules.define import defvjp
from diffprog.rules.while_loop import while_loop_memory
from diffprog.transforms.jacobians import hessian, hvp, jacrev
from diffprog.transforms.reverse import grad, value_and_grad, vjp

__all__ = [
    "activations",
    "attack",
    "backward_source",
    "compare",
    "defvjp",
    "diagnose",
    "fit",
    "grad",
    "grad_at",
    "hessian",
    "hook",
    "hvp",
    "images",
    "intervene",
    "jacrev",
    "models",
    "optimize",
    "record",
    "tap",
    "value_and_grad",
    "visualize",
    "vjp",
    "while_loop_memory",
]

_ON_USE = {"attack", "fit", "images", "models", "optimize", "visualize"}  # they load Optax, Pillow and tqdm


def __getattr__(name):
    if name in _ON_USE:
        return importlib.import_module(f"diffprog.{name}")
    raise AttributeError(f"module 'diffprog' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_ON_USE})

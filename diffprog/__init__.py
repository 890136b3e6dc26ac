"""diffprog: differentiate any JAX program, look at every gradient in it, and optimize whatever you point at."""

import importlib

from diffprog._comparison import compare
from diffprog._rules import (  # noqa: F401  (they fill the table of rules)
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
from diffprog._rules.define import defvjp
from diffprog._rules.while_loop import while_loop_memory
from diffprog._transforms.jacobians import hessian, hvp, jacrev
from diffprog._transforms.reverse import grad, value_and_grad, vjp

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

_MODULES_ON_USE = {"attack", "fit", "images", "models", "optimize", "visualize"}  # they load Optax, Pillow and tqdm
_ON_USE = {  # whoever only differentiates does not wait for these
    "activations": "graph._interventions.activations",
    "backward_source": "graph._explain.backward_source",
    "diagnose": "diagnosis",
    "grad_at": "graph._interventions.activations",
    "hook": "graph._interventions.intervene",
    "intervene": "graph._interventions.intervene",
    "record": "graph._recording.record",
    "tap": "graph._selection.tap",
}


def __getattr__(name):
    if name in _MODULES_ON_USE:
        return importlib.import_module(f"diffprog.{name}")
    if name in _ON_USE:
        globals()[name] = getattr(importlib.import_module(f"diffprog.{_ON_USE[name]}"), name)
        return globals()[name]
    raise AttributeError(f"module 'diffprog' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_MODULES_ON_USE, *_ON_USE})

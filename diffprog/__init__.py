"""diffprog: differentiate any JAX program, look at every gradient in it, and optimize whatever you point at."""

import importlib
from typing import TYPE_CHECKING, Any

from diffprog._comparison import compare
from diffprog._rules.define import defvjp
from diffprog._rules.while_loop import while_loop_memory
from diffprog._transforms.jacobians import hessian, hvp, jacrev
from diffprog._transforms.memory import checkpoint
from diffprog._transforms.reverse import grad, value_and_grad, vjp

if TYPE_CHECKING:
    from diffprog import attack, attribute, clip, diagnosis, fit, graph, images, models, optimize, visualize
    from diffprog.diagnosis import diagnose, memory
    from diffprog.graph import activations, backward_source, grad_at, hook, intervene, record, tap

__version__ = "0.9.0"

__all__ = [
    "activations",
    "attack",
    "attribute",
    "backward_source",
    "checkpoint",
    "clip",
    "compare",
    "defvjp",
    "diagnose",
    "diagnosis",
    "fit",
    "grad",
    "grad_at",
    "graph",
    "hessian",
    "hook",
    "hvp",
    "images",
    "intervene",
    "jacrev",
    "memory",
    "models",
    "optimize",
    "record",
    "tap",
    "value_and_grad",
    "visualize",
    "vjp",
    "while_loop_memory",
]

# Loaded when they are first used: who only differentiates does not wait for Optax, Pillow and tqdm, nor for graphs.
_LAZY_PACKAGES = (
    "attack",
    "attribute",
    "clip",
    "diagnosis",
    "fit",
    "graph",
    "images",
    "models",
    "optimize",
    "visualize",
)
_LAZY_NAMES = {
    "graph": ("activations", "backward_source", "grad_at", "hook", "intervene", "record", "tap"),
    "diagnosis": ("diagnose", "memory"),
}


def __getattr__(name: str) -> Any:
    if name in _LAZY_PACKAGES:
        return importlib.import_module(f"diffprog.{name}")
    for package, names in _LAZY_NAMES.items():
        if name in names:
            globals()[name] = getattr(importlib.import_module(f"diffprog.{package}"), name)
            return globals()[name]
    raise AttributeError(f"module 'diffprog' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

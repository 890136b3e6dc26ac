"""What errors of Flax and Equinox mean for a model that should be a function of its inputs alone."""

from typing import Any

NO_VARIABLES = "a Flax module without its variables: give lambda images: module.apply(variables, images)"
NO_COLLECTIONS = (
    'a Flax module with variables that are not in collections: give all that module.init returned, such as {"params": '
    '..., "batch_stats": ...}'
)
TRAINING = (
    "{library} module in training mode ({error}), which updates statistics or draws random numbers: switch that off, "
    "with {switch}"
)
LINEN_SWITCH = "train=False, deterministic=True or use_running_average=True"
NNX_SWITCH = "its eval(), or where that is meant, give the module itself to models.wrap as `parameters`"
EQUINOX_SWITCH = "eqx.nn.inference_mode(module)"


def explain_module_error(error: Exception) -> str | None:
    """Say in a sentence what an error of Flax or Equinox means for a model; None for another error."""
    kind, text = type(error).__name__, str(error)
    if type(error).__module__.startswith("flax"):
        if kind in ("CallCompactUnboundModuleError", "ScopeCollectionNotFound", "ScopeParamNotFoundError"):
            return NO_VARIABLES
        if kind in ("ApplyScopeInvalidVariablesTypeError", "ApplyScopeInvalidVariablesStructureError"):
            return NO_COLLECTIONS
        if kind in ("ModifyScopeVariableError", "InvalidRngError"):
            return TRAINING.format(library="a Flax", error=kind, switch=LINEN_SWITCH)
        if kind == "TraceContextError":
            return TRAINING.format(library="a Flax NNX", error=kind, switch=NNX_SWITCH)
    if isinstance(error, RuntimeError) and "non-deterministic mode" in text:
        return TRAINING.format(library="an Equinox", error=text.rstrip("."), switch=EQUINOX_SWITCH)
    return None


def is_apply_of_module(function: Any) -> bool:
    """Tell whether a function is the method `apply` of a module, which takes its variables first."""
    owner = getattr(function, "__self__", None)
    return getattr(function, "__name__", "") == "apply" and callable(getattr(owner, "init", None))

"""Callbacks, prints, checks and logs."""

from diffprog._jax_internals import user_line
from diffprog._tracer.errors import MissingDerivative
from diffprog._tracer.rules import no_derivative, rule

no_derivative("check", "debug_callback", "debug_print")
no_derivative("new_box", "box_get", "new_log", "log_read")  # what was put into a box or a log is a constant

_FOREIGN = {
    "pure_callback": "jax.pure_callback",
    "io_callback": "jax.experimental.io_callback",
    "buffer_callback": "jax.experimental.buffer_callback",
    "ffi_call": "jax.ffi.ffi_call",
}


@rule(*_FOREIGN)
def _foreign(primitive, needs_grad, args, params):
    """Run what is outside of JAX; it has no derivative, so that a cotangent that comes back is an error."""
    results = primitive.bind(*args, **params)
    line = user_line()

    def pull(cotangents):
        raise MissingDerivative(
            f"the derivative of what {_FOREIGN[primitive.name]} runs is unknown, called",
            line,
            "give the function around it a jax.custom_vjp, or stop its gradient with jax.lax.stop_gradient",
        )

    return results, [True] * len(results), pull


@rule("box_set", "log_extend")
def _keep(primitive, needs_grad, args, params):
    raise MissingDerivative(
        "a value that depends on a differentiated argument is put into a box or a log",
        user_line(),
        "return it as auxiliary data, or put in jax.lax.stop_gradient of it",
    )

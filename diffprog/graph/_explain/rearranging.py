"""Write operations that move elements as Python: broadcasts, slices, gathers and scatters.

Each function is a line of the table in `operations.py`.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax

from diffprog.graph._explain.values import call_text, dtype_text, number_text, plain, record_text, true_text, tuple_text

# ---------------------------------------------------------------- shapes


def broadcast(eqn, p, x):
    shape, dims, dtype = plain(p["shape"]), tuple(p["broadcast_dimensions"]), x.aval.dtype
    if x.is_number:
        return f"jnp.full({shape}, {number_text(x.number)}, {dtype_text(dtype)})"
    ndim = len(p["shape"])
    if dims == tuple(range(ndim - x.aval.ndim, ndim)):
        return f"jnp.broadcast_to({x}, {shape})"
    return f"lax.broadcast_in_dim({x}, {shape}, {plain(dims)})"


def reshape(eqn, p, x):
    sizes = plain(p["new_sizes"])
    return (
        f"{x}.reshape({sizes})" if p["dimensions"] is None else f"lax.reshape({x}, {sizes}, {plain(p['dimensions'])})"
    )


def slicing(eqn, p, x):
    if x.aval.ndim == 0:
        return str(x)
    strides = p["strides"] or (1,) * x.aval.ndim
    parts = zip(map(int, p["start_indices"]), map(int, p["limit_indices"]), strides, x.aval.shape, strict=True)
    text = ", ".join((f"{a or ''}:{b if b != n else ''}" + (f":{s}" if s != 1 else "")) for a, b, s, n in parts)
    return f"{x}[{text}]"


def dynamic_slice(eqn, p, x, *starts):
    return call_text("lax.dynamic_slice", x, *_starts(starts, (plain(p["slice_sizes"]),)))


def dynamic_update_slice(eqn, p, x, new, *starts):
    return call_text("lax.dynamic_update_slice", x, new, *_starts(starts))


def _starts(starts, more=()) -> tuple:
    """Write the corner of a slice, which the operation clamps and the function would first count from the end."""
    if all(x.is_number and x.number >= 0 for x in starts):
        return tuple_text(number_text(x.number) for x in starts), *more
    signed = any(jnp.issubdtype(x.aval.dtype, jnp.signedinteger) for x in starts)
    return tuple_text(starts), *more, *(["allow_negative_indices=False"] if signed else [])


def pad(eqn, p, x, value):
    return f"lax.pad({x}, {value}, {plain(p['padding_config'])})"


# ---------------------------------------------------------------- gather and scatter


def gather(eqn, p, x, indices):
    options = _indexing(p)
    if options is None:
        return None
    fill = None if p["fill_value"] is None else number_text(np.asarray(p["fill_value"], x.aval.dtype))
    numbers, sizes = record_text(p["dimension_numbers"]), plain(p["slice_sizes"])
    return call_text("lax.gather", x, indices, numbers, slice_sizes=sizes, **options, fill_value=fill)


def scattering(function):
    def write(eqn, p, x, indices, updates):
        options = _indexing(p)
        if options is None or (p["update_jaxpr"] is not None and function == "scatter"):
            return None
        return call_text(f"lax.{function}", x, indices, updates, record_text(p["dimension_numbers"]), **options)

    return write


_MODES = {
    lax.GatherScatterMode.FILL_OR_DROP: '"fill"',
    lax.GatherScatterMode.CLIP: '"clip"',
    lax.GatherScatterMode.PROMISE_IN_BOUNDS: '"promise_in_bounds"',
}


def _indexing(p) -> dict | None:
    if p["mode"] not in _MODES:
        return None
    flags = {name: true_text(p[name]) for name in ("indices_are_sorted", "unique_indices")}
    return {**flags, "mode": _MODES[p["mode"]]}

"""Write numbers, dtypes and small arrays as Python that keeps their types, and calls."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

MAX_ELEMENTS = 64  # of an array that is written out element by element


@dataclass(frozen=True)
class Operand:
    """What an operation of the text takes: a variable, or a number.

    As a string a number has its dtype, `jnp.float32(2.0)`, which is right everywhere. `with_numbers` writes it plainly
    where that comes to the same.
    """

    aval: Any
    name: str | None = None
    number: Any = None

    def __str__(self) -> str:
        return self.name or f"{dtype_text(self.aval.dtype)}({number_text(self.number)})"

    @property
    def is_number(self) -> bool:
        """Whether it is a number, not a variable."""
        return self.name is None


def with_numbers(*operands: Operand) -> list[str]:
    """Write operands of an operation that promotes types as Python's operators do.

    A plain number takes the dtype of the other operands, if one of them has a dtype that no number can change. If none
    has, the first number is written with its dtype.
    """
    dtype = operands[0].aval.dtype
    fixed = any(not x.is_number and not _yields(x.aval) for x in operands)
    texts = []
    for x in operands:
        plain = x.is_number and fixed and x.aval.dtype == dtype and _fits(x.number, dtype)
        texts.append(number_text(x.number) if plain else str(x))
        fixed = fixed or x.is_number
    return texts


def _yields(aval) -> bool:
    """Whether a Python number of the same kind changes the dtype of such a value."""
    return aval.weak_type and aval.dtype != jnp.result_type(aval.dtype.type(0).item())


def _fits(number, dtype) -> bool:
    """Whether a plain number beside an array of this dtype becomes this number of this dtype."""
    if dtype.kind in "iu":
        return -(2**31) <= int(number) < 2**31
    return dtype.kind in "bfc" or dtype == jnp.bfloat16


def number_text(number) -> str:
    """Write a number as a Python number of the same kind."""
    array = np.asarray(number)
    if array.dtype.kind == "b":
        return repr(bool(array))
    if array.dtype.kind == "c":
        real, imaginary = number_text(array.real), number_text(array.imag)
        return f"{imaginary}j" if real == "0.0" and array.imag > 0 else f"complex({real}, {imaginary})"
    if jnp.issubdtype(array.dtype, jnp.integer):
        return repr(int(array))
    if not np.isfinite(array):
        return "jnp.nan" if np.isnan(array) else "jnp.inf" if array > 0 else "-jnp.inf"
    return repr(float(str(array)))  # the shortest text of its own type: 0.1, not 0.10000000149


def dtype_text(dtype) -> str:
    """Write a dtype."""
    return f"jnp.{'bool_' if np.dtype(dtype).kind == 'b' else np.dtype(dtype).name}"


def array_text(array: np.ndarray) -> str | None:
    """Write an array; None if it is too large, or of a type without numbers."""
    dtype = array.dtype
    if not (jnp.issubdtype(dtype, jnp.number) or dtype.kind == "b"):
        return None
    if array.size == 0:
        return f"jnp.zeros({array.shape}, {dtype_text(dtype)})"
    if array.size > 1 and array.tobytes() == array.flat[0].tobytes() * array.size:
        return f"jnp.full({array.shape}, {number_text(array.flat[0])}, {dtype_text(dtype)})"
    return f"jnp.array({_nested(array)}, {dtype_text(dtype)})" if array.size <= MAX_ELEMENTS else None


def _nested(array) -> str:
    return number_text(array) if array.ndim == 0 else f"[{', '.join(map(_nested, array))}]"


def tuple_text(texts) -> str:
    """Write a tuple of expressions."""
    texts = [str(x) for x in texts]
    return f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"


def plain(x) -> str:
    """Write whole numbers, truth values and tuples of them, which may be NumPy's."""
    if isinstance(x, (tuple, list, np.ndarray)):
        return tuple_text(map(plain, x))
    return repr(bool(x) if isinstance(x, (bool, np.bool_)) else int(x))


def is_plain_array(x) -> bool:
    """Whether a constant of a jaxpr is an array of numbers: no key, no reference, and known."""
    return isinstance(getattr(x, "dtype", None), np.dtype) and not isinstance(x, jax.core.Tracer)


def listing(texts) -> str:
    """Write one after the other."""
    return ", ".join(map(str, texts))


def call_text(function: str, *arguments, **options) -> str:
    """Write a call; options that are None are left out."""
    written = [f"{name}={value}" for name, value in options.items() if value is not None]
    return f"{function}({listing([*arguments, *written])})"


def true_text(flag) -> str | None:
    """Write an option that is on; None for one that is off."""
    return "True" if flag else None


def record_text(numbers) -> str:
    """Write the record by which a gather, scatter or convolution numbers its dimensions."""
    default = getattr(numbers, "_field_defaults", {})
    fields = {k: getattr(numbers, k) for k in getattr(numbers, "_fields", None) or vars(numbers)}
    written = [f"{k}={plain(v)}" for k, v in fields.items() if v is not None and tuple(v) != default.get(k)]
    return f"lax.{type(numbers).__name__}({', '.join(written)})"

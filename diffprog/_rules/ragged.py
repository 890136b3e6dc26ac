"""Products of matrices in groups of unequal sizes."""

import numpy as np
from jax import lax, typeof

from diffprog._rules.via_equivalent_program import pullback_of
from diffprog._tracer.rules import rule


@rule("ragged_dot_general")
def _ragged_dot_general(primitive, needs_grad, args, params):
    """Differentiate a product of matrices in groups.

    One dimension of x falls into groups. If it is one of x's own, each group has its own y; if it is contracted,
    each group has its own result; in a batch dimension groups make no difference.

    The cotangents of a product of the first kind are one of the first and one of the second kind, those of a product
    of the second kind are two of the first.
    """
    x, y, sizes = args
    dimension_numbers = params["ragged_dot_dimension_numbers"]
    (contract_x, contract_y), (batch_x, batch_y) = dimension_numbers.dot_dimension_numbers
    (ragged,), group = dimension_numbers.lhs_ragged_dimensions, dimension_numbers.rhs_group_dimensions
    options = {name: params[name] for name in ("precision", "preferred_element_type")}
    avals = typeof(x), typeof(y)
    z = primitive.bind(x, y, sizes, **params)
    if ragged in batch_x:
        plain = lambda x, y: lax.dot_general(x, y, dimension_numbers.dot_dimension_numbers, **options)
        pull = pullback_of(plain, needs_grad[:2], (x, y))
        return z, lambda g: (*pull(g), None)

    own_x = [d for d in range(x.ndim) if d not in (*contract_x, *batch_x)]
    own_y = [d for d in range(y.ndim) if d not in (*contract_y, *batch_y, *group)]
    batch, is_own = len(batch_x), ragged in own_x
    position = (own_x if is_own else list(contract_x)).index(ragged)

    def product(left, right, summed, of_rows: bool):
        """Multiply [batch, rows, summed] by [groups, batch, others, summed], the rows in groups.

        Or by [batch, others, summed], what is summed in groups.
        """
        first = left.ndim - summed
        contract = range(first, left.ndim), range(right.ndim - summed, right.ndim)
        batches = range(batch), range(of_rows, batch + of_rows)
        grouped = (batch if of_rows else first) + position
        dims = lax.RaggedDotDimensionNumbers((contract, batches), [grouped], [0] if of_rows else [])
        return lax.ragged_dot_general(left, right, sizes, dims, **options)

    def ordered(x, *dims):
        return lax.transpose(x, dims)

    def to_x(g):
        matrices = ordered(y, *group, *batch_y, *contract_y, *own_y)
        factors, order = ((g, matrices), (*own_x, *contract_x)) if is_own else ((matrices, g), (*contract_x, *own_x))
        pulled = product(*factors, len(own_y), True)
        return lax.convert_element_type(ordered(pulled, *np.argsort([*batch_x, *order])), avals[0].dtype)

    def to_y(g):
        rows = ordered(x, *batch_x, *contract_x, *own_x)
        start, stop = g.ndim - len(own_x) - len(own_y), g.ndim - len(own_y)
        swapped = ordered(g, *range(start), *range(stop, g.ndim), *range(start, stop))
        pulled = product(rows, swapped, len(own_x), not is_own)
        order = np.argsort([*group, *batch_y, *contract_y, *own_y])
        return lax.convert_element_type(ordered(pulled, *order), avals[1].dtype)

    return z, lambda g: (to_x(g) if needs_grad[0] else None, to_y(g) if needs_grad[1] else None, None)

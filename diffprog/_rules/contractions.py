"""Matrix products."""

import numpy as np
from jax import lax, typeof

from diffprog._jax_internals.devices import placement_on_mesh
from diffprog._tracer.rules import rule


@rule("dot_general")
def _dot_general(primitive, needs_grad, args, params):
    """Multiply the result's cotangent with the other factor."""
    x, y = args
    (contract_x, contract_y), (batch_x, batch_y) = params["dimension_numbers"]
    avals = typeof(x), typeof(y)
    z = primitive.bind(x, y, **params)
    options = {"precision": params["precision"], "preferred_element_type": params["preferred_element_type"]}

    def free(aval, contract, batch):
        return [d for d in range(aval.ndim) if d not in contract and d not in batch]

    free_x, free_y = free(avals[0], contract_x, batch_x), free(avals[1], contract_y, batch_y)
    batches = range(len(batch_x))
    of_x = range(len(batch_x), len(batch_x) + len(free_x))
    of_y = range(len(batch_x) + len(free_x), z.ndim)

    def toward(aval, contract, batch, own_free, other, other_contract, other_batch, other_free, summed):
        """Make the map to the factor of type `aval`, contracted by `contract`.

        The dimensions `summed` of g belong to the other factor.
        """

        def pull(g):
            # Dimensions of the product: batch, kept, then the other's contracted ones in their own order.
            order = [*batch, *own_free, *(contract[i] for i in np.argsort(other_contract))]
            dimension_numbers = ((list(summed), other_free), (list(batches), other_batch))
            product = lax.dot_general(
                g, other, dimension_numbers, **options, out_sharding=placement_on_mesh(aval, order)
            )
            product = lax.transpose(product, np.argsort(order))
            if np.issubdtype(product.dtype, np.complexfloating) and not np.issubdtype(aval.dtype, np.complexfloating):
                product = lax.real(product)  # of a real and a complex factor
            return lax.convert_element_type(product, aval.dtype)

        return pull

    as_x, as_y = (contract_x, batch_x, free_x), (contract_y, batch_y, free_y)
    to_x = toward(avals[0], *as_x, y, *as_y, of_y) if needs_grad[0] else None
    to_y = toward(avals[1], *as_y, x, *as_x, of_x) if needs_grad[1] else None
    return z, lambda g: (to_x and to_x(g), to_y and to_y(g))

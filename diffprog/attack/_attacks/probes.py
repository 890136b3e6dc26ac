"""What a model can be asked without its gradient: many points around one, a few passes at a time."""

from functools import lru_cache

import jax
import jax.numpy as jnp

from diffprog.attack._engine.queries import by_logits

AT_ONCE = 512  # rows of one pass: enough to fill a processor, and no more than a large network has memory for


def together(rows, terms):
    """How many of `terms` questions of so many rows each are asked at once."""
    return max(1, min(terms, AT_ONCE // rows))


def summed(term, count, at_once):
    """The sum of term(k), a pytree, over k < `count`, which may be traced; `at_once` terms at a time."""

    def add(group, total):
        numbers = group * at_once + jnp.arange(at_once)
        keep = lambda leaf: jnp.where((numbers < count).reshape(-1, *[1] * (leaf.ndim - 1)), leaf, 0).sum(axis=0)
        return jax.tree.map(lambda t, leaf: t + keep(leaf), total, jax.vmap(term)(numbers))

    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(term, jnp.int32(0)))
    return jax.lax.fori_loop(0, -(-count // at_once), add, zeros)


@lru_cache
def by_differences(draw, num_samples):
    """A look whose gradient is estimated from 2 x `samples` values around the point: the mean over random directions u
    of u times the slope along u. `draw(key, shape)` makes directions whose elements are independent, of variance 1.

    The probes lie in the box, where pictures are: near its edge, or between edges that are closer than that, the point
    in their midst and their reach make room. The last of `given` is the reach.
    """

    def look(oracle, loss, states, examples, given, keys):
        reach = jnp.minimum(given[-1], (examples.upper - examples.lower) / 2)
        middle = jnp.clip(states.point, examples.lower + reach, examples.upper - reach)
        shape = examples.image.shape[1:]

        def slope(number):
            direction_keys, drawn = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, number)))(keys).T
            direction = jax.vmap(lambda key: draw(key, shape))(direction_keys)

            def value(sign):
                probes = jnp.clip(middle + sign * reach * direction, examples.lower, examples.upper)
                return oracle.ask(probes, examples, drawn, loss)[0]

            ahead, behind = jax.vmap(value)(jnp.array([1.0, -1.0]))
            return direction * ((ahead - behind) / 2).reshape(-1, *[1] * len(shape))

        mean = summed(slope, num_samples, together(2 * len(keys), num_samples)) / num_samples
        gradient = jnp.where(reach > 0, mean / jnp.where(reach > 0, reach, 1), 0)
        view = by_logits(oracle, loss, states, examples, given, keys)
        return view._replace(gradient=gradient, queries=1 + 2 * num_samples)

    return look

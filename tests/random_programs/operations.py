"""The single operations of random programs: a table of expressions with blanks.

The blanks are filled by `Blanks`: operands are drawn among all earlier values, so that subexpressions are shared and
some are never used. Every expression keeps its values at a size of about one (so that 1e-10 can hold after sixty
operations) and away from poles. Kinks and ties are moved by odd constants to where no random program meets them.
"""

import numpy as np

# Per number of axes of the first operand (from, to): expressions.
EXPRESSIONS = {
    "elementwise": (
        0,
        3,
        """
        jnp.sin({x})
        jnp.tanh({x})
        jnp.cos({x} * {c})
        -{x}
        jnp.exp(-({x} ** 2))
        jnp.log(1 + {x} ** 2)
        jnp.log1p({x} * {x})
        jnp.expm1(-jnp.abs({x} + {c}))
        jnp.sqrt(1 + {x} ** 2)
        lax.rsqrt(2 + {x} * {x})
        jnp.cbrt(2 + jnp.sin({x}))
        (2 + jnp.sin({x})) ** {c}
        (2 + jnp.sin({x})) ** jnp.tanh({y})
        jnp.sin({x} ** 3)
        jnp.arctan2({x}, 2 + jnp.cos({y}))
        jnp.arcsin(0.5 * jnp.sin({x}))
        jnp.arctanh(0.5 * jnp.cos({x}))
        jax.scipy.special.erf({x})
        lax.lgamma(3 + jnp.tanh({x}))
        lax.digamma(3 + jnp.tanh({x}))
        jax.nn.sigmoid({x})
        jax.nn.softplus({x} - 1)
        jax.nn.gelu({x})
        jax.nn.silu({x})
        jnp.logaddexp({x}, {y}) - 1
        0.5 * ({x} + {y})
        0.5 * ({x} - {y})
        jnp.tanh({x} + {y} * {z})
        jnp.sin({x} * {y})
        {x} / (2 + {y} ** 2)
        lax.stop_gradient({x})
        {x} * lax.stop_gradient(jnp.cos({y}))
        lax.reduce_precision({x}, 8, 23) + {y}
        lax.optimization_barrier({x})
        checkpoint_name(jnp.sin({x}), 'kept')
        jnp.real(jnp.exp(1j * {x}) * (0.5 - 0.5j))
        jnp.abs(lax.complex(1 + {x} * {x}, {x}))
        jnp.imag(lax.complex({x}, jnp.cos({x})) ** 2) / 2
    """,
    ),
    "with kinks": (
        0,
        3,
        """
        jnp.abs({x} + {c})
        jax.nn.relu({x} + {c})
        jax.nn.leaky_relu({x} - {c})
        jnp.maximum({x}, {y} + {c})
        jnp.minimum({x} + {c}, {y})
        jnp.clip({x}, -0.5 * {c}, {c})
        lax.clamp(-{x}.dtype.type({c}), {x}, {x}.dtype.type({c}))
        jnp.where({x} > {c}, {y}, {z})
        jnp.where({bool}, {x}, {y})
        jnp.sign({x} + {c}) * {y}
        {x} - jnp.round({x} + {c})
        jnp.mod({x} + 0.1 * {c}, 1.37)
        lax.select_n(({x} > {c}).astype(jnp.int32) + ({x} > -{c}), {x}, jnp.sin({x}), -{x})
    """,
    ),
    "of other types": (
        0,
        3,
        """
        {x}.astype(jnp.float32)
        jnp.sin({x}.astype(jnp.float32)).astype(jnp.float64)
        {x} > {c}
        ({x} > {c}) & ({y} < {c})
        jnp.floor(3 * {x} + {c}).astype(jnp.int32)
        {int} + 1
        ({int} % 3) * 0.5
        {x} * ({int} % 2)
        jnp.where({int} % 2 == 0, {x}, {y})
        jax.nn.one_hot({int} % 3, 3)
    """,
    ),
    "constants": (
        0,
        3,
        """
        {x} * np.array({numbers})
        jnp.array({numbers}) * {x}
        0.1 * jax.random.normal(jax.random.key({k}), {shape}) + {x}
        {x} * jax.random.bernoulli(jax.random.key({k}), 0.7, {shape})
        jax.random.uniform(jax.random.fold_in(jax.random.key(3), {k}), {shape})
        jnp.zeros({shape})
        jnp.ones({shape}, jnp.float32) * {c}
        jnp.full_like({x}, {c})
    """,
    ),
    "reductions": (
        1,
        3,
        """
        jnp.sin(jnp.sum({x}, {axis}))
        jnp.tanh(jnp.sum({x}))
        jnp.mean({x}, {axis}, keepdims=True)
        jnp.sqrt(jnp.var({x}, {axis}) + 0.1)
        jnp.linalg.norm({x} + 2, axis={axis}) / 4
        jnp.prod(1 + 0.3 * jnp.sin({x}), {axis})
        jnp.max({distinct}, {axis})
        jnp.min({distinct})
        jnp.max({x}, {axis}, where={x} > {c}, initial=-0.3)
        jnp.median({distinct}, {axis})
        jax.nn.logsumexp({x}, {axis}) - 1
        jax.nn.softmax({x}, {axis})
        jax.nn.log_softmax({x}, {axis}) / 2
        jax.nn.standardize({x}, {axis}, epsilon=0.3)
        jnp.sin(jnp.cumsum({x}, {axis}))
        jnp.cumprod(1 + 0.3 * jnp.sin({x}), {axis})
        lax.cummax({distinct}, {axis}, reverse=True)
        lax.cumlogsumexp({x}, {axis}) - 1
        lax.associative_scan(lambda p, q: jnp.sin(p + q), {x}, axis={axis})
        jnp.argmax({distinct}, {axis})
        jnp.argsort({distinct}, {axis})
        jnp.any({x} > {c}, {axis})
        jnp.sum({x} > {c}, {axis})
    """,
    ),
    "shapes": (
        1,
        3,
        """
        {x}.reshape({reshaped})
        {x}.ravel()
        jnp.transpose({x}, {permutation})
        {x}.T
        jnp.flip({x}, {axis})
        jnp.roll({x}, {k}, {axis})
        jnp.expand_dims({x}, {axis})
        jnp.squeeze({x})
        {x}[..., None] * {c}
        jnp.concatenate([{x}, {same}], {axis})
        jnp.concatenate([{x}[:0], {x}])
        jnp.stack([{x}, {same}, {x}], {axis})
        jnp.tile({x}, 2)
        jnp.repeat({x}, 2, {axis})
        jnp.broadcast_to({x}, (2, *{shape}))
        lax.pad({x}, jnp.asarray({c}, {x}.dtype), [(1, 0, 0)] + [(0, -1, 1)] * {rest})
        jnp.pad({x}, 1, mode='{mode}')
        jnp.split({x}, [1], {axis})[0]
        jnp.resize({x}, {small_shape})
        jnp.moveaxis({x}, {axis}, 0)
    """,
    ),
    "indexing": (
        1,
        3,
        """
        {x}[{i}]
        {x}[-1]
        {x}[::-1]
        {x}[..., {slice}]
        {x}[{slice}, ...]
        {x}[np.array({indices})]
        {x}[jnp.array({indices})] * {c}
        {x}[{index}]
        {x}[{int} % {n0}]
        jnp.take({x}, np.array({indices}), axis=0, mode='clip')
        jnp.take({x}, jnp.array([0, 7]), axis=0, mode='fill', fill_value=0.5)
        jnp.take_along_axis({x}, jnp.argsort({distinct}, {axis}), {axis})
        lax.dynamic_index_in_dim({x}, {index}, 0, keepdims=False)
        lax.dynamic_slice_in_dim({x}, {index}, 1, 0)
        lax.dynamic_update_slice_in_dim({x}, jnp.cos({x}[:1]), {index}, 0)
        {x}.at[np.array({indices})].add(jnp.sin({x}[{i}]))
        {x}.at[jnp.array({indices})].set({x}[{i}] * {c})
        {x}.at[{i}].multiply(jnp.cos({x}[{i}]))
        {x}.at[{index}].set(jnp.sin({x}[0]))
        {x}.at[np.array([0, 0])].max({c} + {x}[{i}])
        {x}.at[{index}].get(mode='fill', fill_value=0.25)
        {x}.at[jnp.array([0, 9])].add({x}[{i}], mode='drop')
        jax.ops.segment_sum({x}, np.arange({n0}) % 2, 2) / 2
        jnp.sort({distinct}, {axis})
        lax.sort(({distinct}, {x}), num_keys=1)[1]
        lax.top_k({distinct}, 1)[0]
        lax.top_k({distinct}, 1)[1]
        {x}[np.arange({n0}) >= {n0} // 2]
    """,
    ),
    "contractions": (
        1,
        3,
        """
        jnp.tanh({x} @ jnp.resize({any}, ({last}, 2)))
        jnp.tanh(jnp.resize({any}, (2, {n0})) @ {x}.reshape({n0}, -1))
        jnp.sin(jnp.tensordot({x}, {same}, {rest} + 1))
        jnp.sin(jnp.einsum('i...,j->ij', {x}, jnp.resize({any}, 2)))
        jnp.sin(jnp.einsum('...i,i->i', {x}, jnp.resize({any}, {last})))
        jnp.tanh(lax.dot_general({x}, {same}, ((({axis},), ({axis},)), ((), ()))).ravel()[:4])
        jnp.tanh(lax.dot_general({x}, {same}, (((), ()), (({axis},), ({axis},)))).ravel()[:4])
        jnp.tanh(jnp.outer({x}, {any})[:3, :3])
        jnp.tanh(jnp.convolve({x}.ravel()[:4], jnp.resize({any}, 2)))
    """,
    ),
    "matrices": (
        2,
        2,
        """
        jnp.tanh(jnp.einsum('ij,kj->ik', {x}, {same}))
        jnp.tril({x}) + jnp.cos({x})
        jnp.trace({x}) / 3
        jnp.diagonal({x})
        jnp.tanh(lax.conv_general_dilated({x}[None], jnp.resize({any}, (2, {n0}, 2)), (1,), 'SAME')[0])
        jnp.tanh(lax.conv_general_dilated({x}[None], jnp.resize({any}, (2 * {n0}, 1, 2)), \
(2,), [(1, 2)], (2,), (1,), feature_group_count={n0})[0])
        jnp.tanh(lax.conv_general_dilated({x}[None, None], jnp.resize({any}, (1, 1, 2, 2)), \
(1, 1), [(1, 0), (1, 1)], None, (1, 2))[0, 0])
        lax.reduce_window({distinct}, -np.inf, lax.max, (2, 2), (1, 1), 'SAME')
        lax.reduce_window({distinct}, np.inf, lax.min, (2, 1), (2, 1), [(1, 1), (0, 0)])
        lax.reduce_window({x}, 0.0, lax.add, (2, 2), (1, 2), 'SAME') / 4
        lax.cumsum({x}, 1, reverse=True) / 3
        jnp.real(jnp.fft.fft({x})) / 4
    """,
    ),
    "batches": (
        3,
        3,
        """
        jnp.tanh(jnp.einsum('bij,bkj->bik', {x}, {same}))
        jnp.tanh({x} @ jnp.swapaxes({same}, 1, 2))
        jnp.tanh(lax.batch_matmul({x}, jnp.swapaxes({same}, 1, 2)))
        jnp.tanh(lax.dot_general({x}, {same}, (((2,), (2,)), ((0,), (0,)))))
        jnp.tanh(lax.conv_general_dilated({x}[None], jnp.resize({any}, (1, 2, {last}, 2)), \
(1, 2), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))[0])
        lax.reduce_window({distinct}, -np.inf, lax.max, (1, 2, 1), (1, 1, 1), 'SAME')
    """,
    ),
}
TABLE = [
    (low, high, [line.strip() for line in lines.strip().splitlines()]) for low, high, lines in EXPRESSIONS.values()
]


def operation(block) -> str:
    """A random expression over values of the block."""
    low, high, expressions = block.choose(TABLE)
    expression = block.choose(expressions)
    return expression.format_map(Blanks(block, block.real(low, high)))


def _broadcast(*shapes) -> bool:
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        return False
    return True


class Blanks(dict):
    """What stands in the blanks of an expression; each is drawn when it is met first."""

    def __init__(self, block, x):
        super().__init__(x=x)
        self.block, self.like, self.shapes = block, x, [x.shape]

    def __missing__(self, blank):
        self[blank] = getattr(self, blank)()
        return self[blank]

    # Operands: the first is x; y and z are broadcast with it, `same` has its shape, `any` is any.

    def y(self):
        y = self.block.real(suits=lambda shape: _broadcast(shape, *self.shapes))
        self.shapes.append(y.shape)
        return y

    z = y

    def same(self):
        y = self.block.real()
        return self._cast(y) if y.shape == self.like.shape else f"jnp.resize({self._cast(y)}, {self.like.shape})"

    def any(self):
        return self._cast(self.block.real())

    def _cast(self, y):
        """`y` in the dtype of x."""
        return y if y.type.dtype == self.like.type.dtype else f"{y}.astype({self.like}.dtype)"

    def int(self):
        return self.block.integer()

    def bool(self):
        return f"({self.block.real()} > {self.c()}).any()"

    def distinct(self):
        """x plus something irregular, so that no two of its elements are equal."""
        size, shape = int(np.prod(self.like.shape)), self.like.shape
        return f"({self['x']} + np.sin(np.arange(1.0, {1.0 + size})).reshape({shape}))"

    # Numbers.

    def c(self):
        return self.block.choose([0.3137, 0.1734, 0.2718, 0.8124, 1.2193])

    def k(self):
        return self.block.number(0, 3)

    def axis(self):
        return self.block.number(0, len(self.like.shape) - 1)

    def n0(self):
        return self.like.shape[0]

    def last(self):
        return self.like.shape[-1]

    def rest(self):
        return len(self.like.shape) - 1

    def i(self):
        return self.block.number(0, self.like.shape[0] - 1)

    def index(self):
        """A traced index into the first axis, or just beyond."""
        return f"jnp.sum({self.block.real()} > {self.c()})"

    def indices(self):
        return [self.i() for _ in range(self.block.number(1, 3))]

    def slice(self):
        return self.block.choose(["1:", ":-1", "::2", "::-1", ":1", "-2:", "::-2"])

    def mode(self):
        return self.block.choose(["edge", "wrap", "constant"])

    def numbers(self):
        return np.round(np.sin(1.0 + self.k() + np.arange(np.prod(self.like.shape))), 2).reshape(self.shape()).tolist()

    def shape(self):
        return self.like.shape

    def small_shape(self):
        return tuple(self.block.number(1, 3) for _ in range(self.block.number(1, 3)))

    def reshaped(self):
        shape = self.like.shape
        return self.block.choose([(-1,), (*shape, 1), (1, *shape), shape[::-1], (shape[0], -1), (-1, shape[-1])])

    def permutation(self):
        return tuple(np.roll(range(len(self.like.shape)), self.k()).tolist())

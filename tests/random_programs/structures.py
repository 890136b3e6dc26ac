"""Statements of random programs that apply a transformation to a local function.

Each takes the block to which it adds the function and the statement.
"""

import jax

from tests.random_programs.writing import listing, tuple_of

POLICIES = [
    "None",
    "jax.checkpoint_policies.nothing_saveable",
    "jax.checkpoint_policies.everything_saveable",
    "jax.checkpoint_policies.dots_saveable",
    "jax.checkpoint_policies.dots_with_no_batch_dims_saveable",
    "jax.checkpoint_policies.save_only_these_names('kept')",
    "jax.checkpoint_policies.save_anything_except_these_names('kept')",
]


def operands(block, most=3, reals=False) -> list:
    values = [block.real(), *(block.choose(block.values) for _ in range(block.number(0, most - 1)))]
    return [v for v in values if v.is_a("real")] if reals else values


def types(values):
    return [v.type for v in values]


def jit(block):
    args = operands(block)
    decorator = block.choose(["jax.jit", "jax.jit", "partial(jax.jit, inline=True)"])
    name, results = block.function(types(args), above=[f"@{decorator}"])
    block.assign(results, f"{name}({listing(args)})")


def checkpoint(block):
    args = operands(block)
    options = f"policy={block.choose(POLICIES)}, prevent_cse={block.flag()}"
    name, results = block.function(types(args), above=[f"@partial(jax.checkpoint, {options})"])
    block.assign(results, f"{name}({listing(args)})")


def vmap(block):
    first = block.real(low=1)
    axis = block.number(0, len(first.shape) - 1)
    size = first.shape[axis]
    args, axes, inner = [first], [axis], [without(first.type, axis)]
    for v in operands(block, 2):
        axis = v.shape.index(size) if size in v.shape and block.flag() else None
        args, axes, inner = [*args, v], [*axes, axis], [*inner, without(v.type, axis)]
    name, results = block.function(inner)
    out_axes = tuple(block.number(0, len(t.shape)) for t in results)
    expression = f"jax.vmap({name}, in_axes={tuple(axes)}, out_axes={out_axes})({listing(args)})"
    block.assign([widened(t, axis, size) for t, axis in zip(results, out_axes, strict=True)], expression)


def lax_map(block):
    x = block.real(low=1)
    name, results = block.function([without(x.type, 0)])
    block.assign([widened(t, 0, x.shape[0]) for t in results], f"lax.map({name}, {x})")


def without(type, axis):
    if axis is None:
        return type
    return jax.ShapeDtypeStruct(type.shape[:axis] + type.shape[axis + 1 :], type.dtype)


def widened(type, axis, size):
    return jax.ShapeDtypeStruct((*type.shape[:axis], size, *type.shape[axis:]), type.dtype)


def scan(block):
    carry = operands(block, 2)
    xs = [block.real(low=1)] if block.flag() else []
    length = xs[0].shape[0] if xs else block.number(1, 3)
    xs += [v for v in operands(block, 2) if xs and v.shape[:1] == (length,)]
    split = len(carry)
    name, results = block.function(
        [*types(carry), *(without(v.type, 0) for v in xs)],
        results=types(carry),
        more=True,
        unpack=("c, x", lambda params: f"{tuple_of(params[:split])}, {tuple_of(params[split:])}"),
        returned=lambda found: f"{tuple_of(found[:split])}, {tuple_of(found[split:])}",
    )
    options = f"length={length}, reverse={block.flag()}, unroll={block.choose([1, 1, 2, True])}"
    outs = [*types(carry), *(widened(t, 0, length) for t in results[split:])]
    block.assign(outs, f"jax.tree.leaves(lax.scan({name}, {tuple_of(carry)}, {tuple_of(xs)}, {options}))")


def fori_loop(block):
    carry = operands(block, 2)
    name, _ = block.function(
        [jax.ShapeDtypeStruct((), "int64"), *types(carry)],
        results=types(carry),
        unpack=("i, c", lambda params: f"{params[0]}, {tuple_of(params[1:])}"),
    )
    block.assign(types(carry), f"lax.fori_loop(0, {block.number(1, 3)}, {name}, {tuple_of(carry)})")


def repeat(block):
    """A `while_loop` where the engine can differentiate one, else a `scan`."""
    carry = operands(block, 2)
    name, _ = block.function(types(carry), results=types(carry))
    block.assign(types(carry), f"ad.repeat({block.number(0, 3)}, {name}, {tuple_of(carry)})")


def cond(block):
    args = operands(block)
    predicate = block.predicate()
    first, results = block.function(types(args))
    second, _ = block.function(types(args), results=results)
    block.assign(results, f"lax.cond({predicate}, {first}, {second}, {listing(args)})")


def switch(block):
    args = operands(block)
    index = block.integer()
    first, results = block.function(types(args))
    others = [block.function(types(args), results=results)[0] for _ in range(2)]
    block.assign(results, f"lax.switch({index}, [{', '.join([first, *others])}], {listing(args)})")


def custom_vjp(block):
    """A function with a backward pass of its own (and wrong), linear in the cotangent.

    It has one result: JAX's vmap refuses what a wrong backward pass of several may do.
    """
    args = operands(block)
    name, results = block.function(types(args), most=1, kind="real", isolated=True, above=["@jax.custom_vjp"])
    cotangents = [
        f"(jnp.cos(p[{i}]) * g).astype(p[{i}].dtype)" if v.is_a("real") else "None" for i, v in enumerate(args)
    ]
    block.lines += [
        f"def {name}_bwd(residuals, gs):",
        "    p, y = residuals",
        "    g = jnp.sum(gs[0] * jnp.sin(y))",
        f"    return {tuple_of(cotangents)}",
        f"{name}.defvjp(lambda *p: (y := {name}(*p), (p, y[0])), {name}_bwd)",
    ]
    block.assign(results, f"{name}({listing(args)})")


def custom_jvp(block):
    """A function with a tangent map of its own (and wrong).

    Its slope does not depend on its results: at second order, in a loop, JAX differentiates these without the rule.
    """
    args = operands(block, reals=True)
    name, results = block.function(types(args), kind="real", isolated=True, forward=True, above=["@jax.custom_jvp"])
    block.lines += [
        f"@{name}.defjvp",
        f"def {name}_jvp(p, ts):",
        f"    ys = {name}(*p)",
        "    t = sum(jnp.sum(t * jnp.cos(x)) for x, t in zip(p, ts))",
        "    return ys, tuple((jnp.cos(lax.stop_gradient(y)) * t).astype(y.dtype) for y in ys)",
    ]
    block.assign(results, f"{name}({listing(args)})")


def tangent(block):
    """JAX's forward mode inside."""
    args = operands(block, reals=True)
    name, results = block.function(types(args), kind="real", forward=True)
    outs = results + results
    block.assign(outs, f"jax.tree.leaves(jax.jvp({name}, {tuple_of(args)}, {tuple_of(args)}))")


def gradient(block):
    """The engine's own reverse mode inside."""
    x = block.real()
    name, _ = block.function(types([x]), kind="real")
    block.assign(types([x]), f"(jnp.tanh(ad.grad(lambda x: jnp.sum({name}(x)[0]))({x})),)")


STRUCTURES = [jit, vmap, scan, cond, switch, fori_loop, checkpoint, custom_jvp, tangent, gradient, lax_map]
REVERSE_ONLY = [custom_vjp, repeat]

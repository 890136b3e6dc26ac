"""What diffprog takes from inside JAX for programs that run on many devices."""

from collections.abc import Callable, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax._src import shard_map
from jax._src.mesh import get_abstract_mesh, use_abstract_mesh
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from diffprog._jax_internals.avals import add

_get_layout_mode: Callable | None
use_layout_mode: Any
if jax.__version_info__ < (0, 11):
    from jax._src.tree_util import FlatTree

    _flat_list = FlatTree.flatten
    _get_layout_mode = _usual_layouts = use_layout_mode = None
else:
    # The installed JAX may be older; then it has none of these.
    from jax._src import flattree, layout, pjit  # type: ignore[attr-defined]

    _flat_list = flattree.flatten_list
    _get_layout_mode, use_layout_mode = layout.get_layout_mode, layout.use_layout_mode  # type: ignore[attr-defined]
    _usual_layouts = layout.LayoutMode.AUTO  # type: ignore[attr-defined]


# ---------------------------------------------------------------- shard_map


def bind_shard_map(trace, fun: Callable, args: Sequence, in_specs: Sequence, params: dict) -> list:
    """Run a function on every device.

    Args:
      trace: where to run it; None is the current trace.
      fun: blocks -> (list of blocks, list of their specs).
      args: whole arrays.
      in_specs: how they are cut into blocks.
      params: the remaining parameters of the original call (mesh, check_vma, newly_manual_axes, debug_info).
    """

    def flat(*blocks):
        results, specs = fun(*blocks)
        return _flat_list(list(results)).with_aux(tuple(specs))

    debug_info = params["debug_info"].with_unknown_names()
    params = {**params, "in_specs": tuple(in_specs), "subfuns": (flat,), "debug_info": debug_info}
    if trace is None:
        return list(shard_map.shard_map_p.bind(*args, **params))
    return list(shard_map.shard_map_p.bind_with_trace(trace, tuple(args), [jax.typeof(x) for x in args], params))


def mapped_axes(params: dict) -> tuple:
    """Get the device axes over which a `shard_map` with these parameters maps, when asked outside of it."""
    return shard_map._all_newly_manual_mesh_names(params["mesh"], params["newly_manual_axes"])


def spec_of_blocks(block, params: dict, axes: tuple):
    """Get a spec that keeps each device's block: stacked along the first dimension over the axes on which it varies.

    Args:
      block: of one device.
      params: the parameters of the `shard_map`.
      axes: its `mapped_axes`. Where types do not tell over which a block varies, it is all of them.
    """
    aval = jax.typeof(block)
    spec = aval.nospec(params["mesh"], params["check_vma"], axes)
    if params["check_vma"]:  # axes mapped by a `shard_map` around are none of this one's
        axes = tuple(a for a in params["mesh"].axis_names if a in aval.mat.varying & params["newly_manual_axes"])
    return spec.update(partitions=(axes,) if axes else ())


def spec_of_copies(value):
    """Get the spec of a value that every device has whole."""
    return shard_map._repspec(jax.typeof(value))


def copies(spec, params: dict) -> tuple:
    """Get the mapped axes that `spec` does not mention: along them the blocks of an array are copies."""
    return tuple(shard_map._unmentioned2(params["mesh"], spec, params["newly_manual_axes"]))


def varying_less(x, result) -> tuple:
    """Get the device axes over which `x` does not vary though `result` does: its cotangent is summed over them."""
    return tuple(jax.typeof(result).mat.varying - jax.typeof(x).mat.varying)


# ---------------------------------------------------------------- where an array lies


def placement(aval, order=None):
    """Get the place of a cotangent of a value of this type, as an `out_sharding`.

    Args:
      aval: type of the value.
      order: the dimensions of the value, in the order in which an operation's result has them.

    Returns:
      A sharding; None unless types say where values lie.
    """
    if AxisType.Explicit not in aval.sharding.mesh.axis_types:
        return None
    sharding = aval.to_ct_aval().sharding
    return sharding if order is None else with_partitions(sharding, [sharding.spec.partitions[d] for d in order])


def placement_on_mesh(aval, order=None):
    """Like `placement`; a value from outside of the mesh that is set has its cotangent whole on every device of it."""
    if aval.sharding.mesh.empty and AxisType.Explicit in get_abstract_mesh().axis_types:
        return NamedSharding(get_abstract_mesh(), PartitionSpec(*[None] * aval.ndim))
    return placement(aval, order)


def with_partitions(home, partitions: Sequence):
    """Change along which axes each dimension of an array is cut, in a `placement`."""
    return home and home.update(spec=home.spec.update(partitions=tuple(partitions)))


def add_where_they_lie(total, x):
    """Add two arrays on the mesh of the latter: within `auto_axes` that is not the mesh which is set."""
    mesh = jax.typeof(x).sharding.mesh
    if mesh.empty or mesh == get_abstract_mesh():
        return add(total, x)
    with use_abstract_mesh(mesh):
        return add(total, x)


def one_cotangent(value):
    """Make the cotangent 1 of a scalar.

    A scalar that is `reduced` over device axes has an `unreduced` cotangent, whose terms on the devices add up to 1.
    """
    aval = jax.typeof(value)
    if not aval.mat.reduced:
        return lax.full_like(value, 1, sharding=placement(aval))
    axes = tuple(aval.mat.reduced)
    is_first = jnp.array([lax.axis_index(axis) == 0 for axis in axes]).all()
    return lax.pcast(lax.convert_element_type(is_first, aval.dtype), axes, to="unreduced")


def moved_home(pull: Callable, x, result) -> Callable:
    """Let `pull`, from the cotangent of a result to that of `x` of the same shape, move it to where `x` lies."""
    home = placement(jax.typeof(x))
    if home is None or home == placement(jax.typeof(result)):
        return pull
    return lambda g: jax.reshard(pull(g), home)


def same_context() -> Callable | None:
    """Remember the mesh and the layout mode that are set now: programs have parts with others than the rest.

    Returns:
      Makes the context manager that sets them again; None if there is nothing to set.
    """
    mesh, mode = get_abstract_mesh(), _get_layout_mode and _get_layout_mode()
    return None if mesh.empty and mode is _usual_layouts else partial(_set, mesh, mode)


@contextmanager
def _set(mesh, mode):
    with use_abstract_mesh(mesh), use_layout_mode(mode) if mode is not None else nullcontext():
        yield


def reshard_like(primitive, g, aval, params):
    """Move `g`, a cotangent of an array of this type, to where that array lies."""
    sharding = aval.to_ct_aval().sharding
    with use_abstract_mesh(sharding.mesh):
        return primitive.bind(g, **(params | {"dst_sharding": sharding}))


def relayout_like(primitive, g, aval):
    """Give `g`, a cotangent of an array of this type, the layout of that array; since JAX 0.11."""
    its_layout = aval.to_ct_aval().layout
    with use_layout_mode(pjit.get_layout_mode_from_layout(its_layout)):
        return primitive.bind(g, dst_layout=its_layout)

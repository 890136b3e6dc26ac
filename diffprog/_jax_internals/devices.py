"""What diffprog takes from inside JAX for programs that run on many devices."""

from collections.abc import Callable, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial

import jax
from jax._src import ad_util, shard_map
from jax._src.mesh import get_abstract_mesh, use_abstract_mesh
from jax.sharding import AxisType

if jax.__version_info__ < (0, 11):
    from jax._src.tree_util import FlatTree

    _flat_list = FlatTree.flatten
    _get_layout_mode = _usual_layouts = use_layout_mode = None
else:
    from jax._src import flattree
    from jax._src.layout import LayoutMode, use_layout_mode
    from jax._src.layout import get_layout_mode as _get_layout_mode
    from jax._src.pjit import get_layout_mode_from_layout

    _flat_list = flattree.flatten_list
    _usual_layouts = LayoutMode.AUTO


def zeros(aval):
    """An array of zeros of exactly this type, which may say on which devices it lies and over which it varies."""
    return ad_util.zeros_like_aval(aval)


# ---------------------------------------------------------------- shard_map


def bind_shard_map(trace, fun: Callable, args: Sequence, in_specs: Sequence, how: dict) -> list:
    """Run `fun`: blocks -> (list of blocks, list of their specs) on every device.

    Args:
      trace: where to run it; None is the current trace.
      how: the remaining parameters of the original call (mesh, check_vma, newly_manual_axes, debug_info).
    """

    def flat(*blocks):
        results, specs = fun(*blocks)
        return _flat_list(list(results)).with_aux(tuple(specs))

    debug_info = how["debug_info"].with_unknown_names()
    params = {**how, "in_specs": tuple(in_specs), "subfuns": (flat,), "debug_info": debug_info}
    if trace is None:
        return list(shard_map.shard_map_p.bind(*args, **params))
    return list(shard_map.shard_map_p.bind_with_trace(trace, tuple(args), [jax.typeof(x) for x in args], params))


def mapped_axes(how: dict) -> tuple:
    """The device axes over which a `shard_map` with these parameters maps, to be asked outside of it."""
    return shard_map._all_newly_manual_mesh_names(how["mesh"], how["newly_manual_axes"])


def spec_of_blocks(block, how: dict, axes: tuple):
    """A spec that keeps each device's `block`: stacked along the first dimension over the axes on which it varies.

    Args:
      axes: the `mapped_axes`. Where types do not tell over which a block varies, it is all of them.
    """
    aval = jax.typeof(block)
    spec = aval.nospec(how["mesh"], how["check_vma"], axes)
    if how["check_vma"]:  # axes mapped by a `shard_map` around are none of this one's
        axes = tuple(a for a in how["mesh"].axis_names if a in aval.mat.varying & how["newly_manual_axes"])
    return spec.update(partitions=(axes,) if axes else ())


def spec_of_copies(value):
    """The spec of a value that every device has whole."""
    return shard_map._repspec(jax.typeof(value))


def copies(spec, how: dict) -> tuple:
    """The mapped axes that `spec` does not mention: along them the blocks of an array are copies."""
    return tuple(shard_map._unmentioned2(how["mesh"], spec, how["newly_manual_axes"]))


# ---------------------------------------------------------------- where an array lies


def placement(aval, order=None):
    """Where a cotangent of a value of this type lies, as an `out_sharding`; None unless types say where values lie.

    Args:
      order: the dimensions of the value, in the order in which an operation's result has them.
    """
    if AxisType.Explicit not in aval.sharding.mesh.axis_types:
        return None
    sharding = aval.to_ct_aval().sharding
    if order is None:
        return sharding
    partitions = sharding.spec.partitions
    return sharding.update(spec=sharding.spec.update(partitions=tuple(partitions[d] for d in order)))


def same_context() -> Callable | None:
    """Makes the context manager that sets what is set now, None if nothing is: programs have parts with another mesh
    or layout mode than the rest."""
    mesh, mode = get_abstract_mesh(), _get_layout_mode and _get_layout_mode()
    return None if mesh.empty and mode is _usual_layouts else partial(_set, mesh, mode)


@contextmanager
def _set(mesh, mode):
    with use_abstract_mesh(mesh), use_layout_mode(mode) if mode is not None else nullcontext():
        yield


def reshard_like(primitive, g, aval, params):
    """`g`, a cotangent of an array of this type, where that array lies."""
    sharding = aval.to_ct_aval().sharding
    with use_abstract_mesh(sharding.mesh):
        return primitive.bind(g, **(params | {"dst_sharding": sharding}))


def relayout_like(primitive, g, aval):
    """`g`, a cotangent of an array of this type, in the layout of that array; since JAX 0.11."""
    layout = aval.to_ct_aval().layout
    with use_layout_mode(get_layout_mode_from_layout(layout)):
        return primitive.bind(g, dst_layout=layout)

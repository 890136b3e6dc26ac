"""List what the backward pass keeps: bytes, the line that made it, the rules that keep it."""

import types
from dataclasses import dataclass
from functools import partial

import jax

from diffprog._util.tables import text_table
from diffprog._util.walk import walk
from diffprog.graph._recording.nodes import Node
from diffprog.graph._recording.recording import Recording


@dataclass(frozen=True)
class Residual:
    """An array that is kept from the forward to the backward pass.

    Attributes:
      bytes: its size.
      shape, dtype: its type.
      maker: the node whose result it is; None for one that a rule computed for itself.
      keepers: the nodes whose rules keep it.
    """

    bytes: int
    shape: tuple[int, ...]
    dtype: object
    maker: Node | None
    keepers: tuple[Node, ...]

    @property
    def is_argument(self) -> bool:
        """Whether it is an input or a constant, which is there anyway."""
        return self.maker is not None and self.maker.primitive in ("input", "constant")


@dataclass(frozen=True)
class Residuals:
    """All residuals of a recording, the largest first; printed, they are a table."""

    all: tuple[Residual, ...]

    @property
    def bytes(self) -> int:
        """Bytes of the residuals that are no inputs or constants."""
        return sum(r.bytes for r in self.all if not r.is_argument)

    def by_path(self) -> dict[str, int]:
        """Compute what `jax.checkpoint` around each module or scope would save.

        It saves what is made within the scope and kept by rules within it alone: this is computed a second time.

        Returns:
          Bytes by path, the largest first.
        """
        saved: dict[str, int] = {}
        for r in self.all:
            if r.is_argument:
                continue
            parts = (r.maker or r.keepers[0]).path.split("/")
            for path in ("/".join(parts[: i + 1]) for i in range(len(parts))):
                if path and all(f"{node.path}/".startswith(f"{path}/") for node in r.keepers):
                    saved[path] = saved.get(path, 0) + r.bytes
        return dict(sorted(saved.items(), key=lambda item: -item[1]))

    def __str__(self):
        return self.table()

    def table(self, max_rows: int = 12) -> str:
        """Write the largest residuals, the line that made each, the rules that keep it, and what checkpoints save.

        Args:
          max_rows: number of residuals to list; the others are summed.

        Returns:
          The lines, as one text.
        """
        residuals = [r for r in self.all if not r.is_argument]
        rows: list[tuple[str, ...]] = [_row(r) for r in residuals[:max_rows]]
        if len(residuals) > max_rows:
            rows.append((_size(sum(r.bytes for r in residuals[max_rows:])), f"in {len(residuals) - max_rows} more"))
        head = f"the backward pass keeps {_size(self.bytes)} in {len(residuals)} arrays, besides inputs and constants"
        lines = [head, *(f"  {line}" for line in text_table(rows, align="><"))]
        for path, saved in list(self.by_path().items())[:5]:
            lines.append(f"  jax.checkpoint around {path} would save {_size(saved)}")
        return "\n".join(lines)


def _row(residual: Residual) -> tuple[str, str, str, str]:
    maker, dtype = residual.maker, residual.dtype
    made = "computed by the rule" if maker is None else f"{maker.label} at {maker.source or 'an unknown line'}"
    keepers = ", ".join(dict.fromkeys(f"{node.label} {node.source or ''}".strip() for node in residual.keepers))
    shape = f"{getattr(dtype, 'name', dtype)}[{','.join(map(str, residual.shape))}]"
    return _size(residual.bytes), shape, made, f"kept by {keepers}"


def residuals(recording: Recording) -> Residuals:
    """Find the arrays that the backward functions of a recording hold."""
    recorder = recording._recorder
    keepers: dict[int, list[Node]] = {}
    arrays: dict[int, jax.Array] = {}
    tape = {id(node.taped) for node in recorder.nodes}
    for node in recorder.nodes:
        if node.taped is not None and node.taped.backward is not None:
            for x in _held(node.taped.backward, tape):
                arrays[id(x)] = x
                keepers.setdefault(id(x), []).append(node)
    made = {id(x): node for node in recorder.nodes for x in node.values if isinstance(x, jax.Array)}
    residuals = []
    for key, x in arrays.items():
        place = recorder.place_of(x)
        maker = made.get(key) or (place.node if place else None)
        residuals.append(Residual(x.nbytes, x.shape, x.dtype, maker, tuple(dict.fromkeys(keepers[key]))))
    return Residuals(tuple(sorted(residuals, key=lambda r: -r.bytes)))


def _held(function, known: set[int]) -> list[jax.Array]:
    """List the arrays that a function holds, also through functions, lists and objects that it closes over.

    Args:
      function: any function.
      known: ids of objects to leave alone.
    """
    objects = {id(function): function}  # by their ids, as not all can be hashed

    def contents(key: int) -> list[int]:
        inside = [x for x in _contents(objects[key]) if id(x) not in known]
        objects.update((id(x), x) for x in inside)
        return list(map(id, inside))

    return [objects[key] for key in walk([id(function)], contents) if isinstance(objects[key], jax.Array)]


def _contents(x) -> list:
    """List the objects that an object holds, as far as arrays may be among them."""
    if isinstance(x, types.FunctionType):
        return [*(cell.cell_contents for cell in x.__closure__ or () if _is_filled(cell)), *(x.__defaults__ or ())]
    if isinstance(x, types.MethodType):
        return [x.__func__, x.__self__]
    if isinstance(x, partial):
        return [x.func, *x.args, *x.keywords.values()]
    if isinstance(x, (list, tuple)):
        return list(x)
    if isinstance(x, dict):
        return list(x.values())
    if type(x).__module__.startswith("diffprog._tracer"):  # the tape of a program within a rule
        return [getattr(x, name, None) for kind in type(x).__mro__ for name in getattr(kind, "__slots__", ())]
    return []


def _is_filled(cell) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _size(num_bytes: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes} B"

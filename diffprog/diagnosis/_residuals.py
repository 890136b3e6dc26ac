"""What the backward pass keeps: how many bytes, made by which line, kept by which rule."""

import types
from dataclasses import dataclass
from functools import partial

import jax

from diffprog.graph._recording.nodes import Node
from diffprog.graph._recording.recording import Recording


@dataclass(frozen=True)
class Residual:
    """An array that is kept from the forward to the backward pass.

    Attributes:
      bytes, shape, dtype: its size and type.
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
    """All residuals of a recording, the largest first; printed, a table."""

    all: tuple[Residual, ...]

    @property
    def bytes(self) -> int:
        """Of those that are no inputs or constants."""
        return sum(r.bytes for r in self.all if not r.is_argument)

    def by_path(self) -> dict[str, int]:
        """Per module or scope the bytes that `jax.checkpoint` around it would no longer keep: those made within it and
        kept by rules within it, which it would compute a second time instead."""
        found: dict[str, int] = {}
        for r in self.all:
            if r.is_argument:
                continue
            parts = (r.maker or r.keepers[0]).path.split("/")
            for path in ("/".join(parts[: i + 1]) for i in range(len(parts))):
                if path and all(f"{node.path}/".startswith(f"{path}/") for node in r.keepers):
                    found[path] = found.get(path, 0) + r.bytes
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def __str__(self):
        return self.table()

    def table(self, count: int = 12) -> str:
        """The largest residuals with the line that made each and the rules that keep it, and what checkpoints save."""
        rows = [r for r in self.all if not r.is_argument]
        lines = [f"the backward pass keeps {_size(self.bytes)} in {len(rows)} arrays, besides inputs and constants"]
        for r in rows[:count]:
            made = f"{r.maker.label} at {r.maker.source or 'an unknown line'}" if r.maker else "computed by the rule"
            kept = ", ".join(dict.fromkeys(f"{node.label} {node.source or ''}".strip() for node in r.keepers))
            shape = f"{getattr(r.dtype, 'name', r.dtype)}[{','.join(map(str, r.shape))}]"
            lines.append(f"  {_size(r.bytes):>10}  {shape:<24} {made:<36} kept by {kept}")
        if len(rows) > count:
            lines.append(f"  {_size(sum(r.bytes for r in rows[count:])):>10}  in {len(rows) - count} more")
        for path, saved in list(self.by_path().items())[:5]:
            lines.append(f"  jax.checkpoint around {path} would save {_size(saved)}")
        return "\n".join(lines)


def residuals(recording: Recording) -> Residuals:
    """Look into the backward functions of a recording for the arrays that they hold."""
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
    found = []
    for key, x in arrays.items():
        place = recorder.place_of(x)
        maker = made.get(key) or (place.node if place else None)
        found.append(Residual(x.nbytes, x.shape, x.dtype, maker, tuple(dict.fromkeys(keepers[key]))))
    return Residuals(tuple(sorted(found, key=lambda r: -r.bytes)))


def _held(function, known: set[int]) -> list[jax.Array]:
    """The arrays that a function closes over, also through other functions, lists and objects that it closes over.

    Args:
      known: ids of objects to leave alone.
    """
    found, seen, waiting = {}, set(known), [function]
    while waiting:
        x = waiting.pop()
        if id(x) in seen:
            continue
        seen.add(id(x))
        if isinstance(x, jax.Array):
            found[id(x)] = x
        elif isinstance(x, types.FunctionType):
            waiting += [cell.cell_contents for cell in x.__closure__ or () if _is_filled(cell)]
            waiting += [value for value in x.__defaults__ or ()]
        elif isinstance(x, types.MethodType):
            waiting += [x.__func__, x.__self__]
        elif isinstance(x, partial):
            waiting += [x.func, *x.args, *x.keywords.values()]
        elif isinstance(x, (list, tuple)):
            waiting += list(x)
        elif isinstance(x, dict):
            waiting += list(x.values())
        elif type(x).__module__.startswith("diffprog._tracer"):  # the tape of a program within a rule
            waiting += [getattr(x, name, None) for kind in type(x).__mro__ for name in getattr(kind, "__slots__", ())]
    return list(found.values())


def _is_filled(cell) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _size(count: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"

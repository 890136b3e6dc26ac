"""The rows of a fit: kept as columns, written as JSON lines, and read as a list."""

import json
import math
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

MAX_ROWS = 100_000
COLUMNS = ("step", "loss", "gradient_norm", "epoch", "examples", "evaluations", "seconds")
WHOLE = ("step", "examples", "evaluations")


class Rows:
    """Rows of one and the same columns, and what was measured beside them.

    Attributes:
      path: of the file that the rows are also written to, or that another process writes them to; None for none.
    """

    def __init__(self, path: Path | None = None, writes: bool = True):
        self.path, self._writes = path, writes
        self._blocks: list[dict[str, np.ndarray]] = []
        self._measured: dict[int, dict[str, float]] = {}
        self._file: BinaryIO | None = None

    def add(self, block: dict[str, np.ndarray], measured: dict[str, float] | None = None) -> None:
        """Add the rows of a block, and what was measured after its last step."""
        if len(block["step"]):
            self._blocks.append(block)
            if measured:
                self._measured[int(block["step"][-1])] = measured
            if self.path is not None and self._writes:
                self._write(self._rows(block))

    def as_list(self) -> list[dict[str, Any]]:
        """List the rows."""
        return [row for block in self._blocks for row in self._rows(block)]

    def last(self) -> dict[str, Any]:
        """Take the last row."""
        block = self._blocks[-1]
        return self._rows({name: column[-1:] for name, column in block.items()})[0]

    def _rows(self, block):
        step, loss, norm, *others = (block[name].tolist() for name in COLUMNS)
        rows = [  # written out, as there may be a hundred thousand
            {"step": a, "loss": b, "epoch": c, "examples": d, "evaluations": e, "seconds": f}
            for a, b, c, d, e, f in zip(step, loss, *others, strict=True)
        ]
        for i in np.flatnonzero(~np.isnan(block["gradient_norm"])).tolist():
            rows[i] = {"step": step[i], "loss": loss[i], "gradient_norm": norm[i]} | rows[i]
        for number in self._measured.keys() & set(step) if self._measured else ():
            rows[step.index(number)].update(self._measured[number])
        return rows

    def _write(self, rows):
        lines = [json.dumps({name: _plain(value) for name, value in row.items()}) + "\n" for row in rows]
        file = self._open()
        file.write("".join(lines).encode())
        file.flush()

    def _open(self) -> BinaryIO:
        if self._file is None:
            assert self.path is not None
            self._file = self.path.open("ab")
        return self._file

    def sync(self) -> int:
        """Bring the file to the disk; returns its length."""
        if self.path is None:
            return 0
        file = self._open()
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def mark(self) -> tuple[int, int]:
        """Note how many rows there are, for `cut`."""
        return len(self._blocks), -1 if self.path is None else os.fstat(self._open().fileno()).st_size

    def cut(self, mark: tuple[int, int]) -> None:
        """Drop what was added after a mark."""
        del self._blocks[mark[0] :]
        if self._file is not None and mark[1] >= 0:
            self._file.truncate(mark[1])

    def check(self, length: int) -> None:
        """Refuse a file that is shorter than it was.

        Raises:
          ValueError: It is.
        """
        path = self._existing()
        found = path.stat().st_size if path else 0
        if found < length:
            raise ValueError(f"the history has {found} bytes, and not the {length} that were written")

    def _existing(self) -> Path | None:
        return self.path if self.path is not None and self.path.exists() else None

    def read(self, length: int) -> None:
        """Take the rows of a file's first bytes, and cut off what an interrupted run wrote after them."""
        self.check(length)
        path = self._existing()
        if path is None:
            return
        with path.open("r+b" if self._writes else "rb") as file:
            text = file.read(length)
            if self._writes:
                file.truncate(length)
        rows = [json.loads(line) for line in text.splitlines()]
        if rows:
            kinds = {name: np.int64 if name in WHOLE else np.float64 for name in COLUMNS}
            number = lambda value: math.nan if value is None else value
            self._blocks = [
                {name: np.array([number(row.get(name)) for row in rows], kind) for name, kind in kinds.items()}
            ]
        for row in rows:
            measured = {name: number(value) for name, value in row.items() if name not in COLUMNS}
            if measured:
                self._measured[row["step"]] = measured


def _plain(value: Any) -> Any:
    """Write what is not finite as JSON knows it: as nothing."""
    return None if isinstance(value, float) and not math.isfinite(value) else value

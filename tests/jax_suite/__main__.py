"""Run JAX's own tests (tag v0.10.2) with diffprog's reverse mode in the place of JAX's.

    python -m tests.jax_suite --tests ARCHIVE_OR_FOLDER [--sample N] [--match TEXT ...] [--jobs N] [--write FILE]

The tests are those that call reverse mode and pass with JAX (`tests.txt`). One counts where it passes and has called
diffprog's reverse mode at least once. Those in `excused.txt` need not pass, each for the reason that stands there. The
tests themselves are JAX's: a checkout of that tag, or an archive (tar) of its folder `tests`.
"""

import argparse
import concurrent.futures
import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

from tests.jax_suite.ids import excused, listed

VERSION = "0.10.2"
ROOT = Path(__file__).parents[2]
# Quick files with tests of many kinds: a sample is drawn from these.
SAMPLED = ("api_test.py", "core_test.py", "custom_api_test.py", "lax_autodiff_test.py", "lax_control_flow_test.py",
           "lax_numpy_test.py", "lax_numpy_indexing_test.py", "mutable_array_test.py")  # fmt: skip


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.jax_suite", description=__doc__.splitlines()[0])
    parser.add_argument("--tests", type=Path, default=os.environ.get("JAX_TESTS"),
                        help="JAX's tests: a checkout, or an archive (default: JAX_TESTS)")  # fmt: skip
    parser.add_argument("--sample", type=int, help="run so many of the quick ones, the same ones each time")
    parser.add_argument("--match", nargs="+", help="run those whose id contains one of these")
    parser.add_argument("--jobs", type=int, default=1, help="how many files to run at once")
    parser.add_argument("--log", type=Path, help="where to write one JSON object for each test")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the figures as a table in Markdown")
    options = parser.parse_args(arguments)
    if options.tests is None:
        parser.error("--tests is missing, and JAX_TESTS is not set: say where JAX's tests are")
    if jax.__version__ != VERSION:
        parser.error(
            f"these are the tests of JAX {VERSION}, and JAX {jax.__version__} is installed: install the former"
        )

    ids, reasons = listed(), excused()
    if options.match:
        ids = [name for name in ids if any(text in name for text in options.match)]
    if options.sample:
        ids = sample(ids, options.sample)
    log = options.log or Path(tempfile.mkdtemp()) / "log.jsonl"
    with folder_of(options.tests) as folder:
        run(ids, folder, log.absolute(), options.jobs, together=bool(options.sample))
    failures = why_not(map(json.loads, log.read_text().splitlines()))

    passed = {name for name in ids if failures.get(name, "did not run") is None}
    lost = [name for name in ids if name not in passed and name not in reasons]
    for name in lost:
        print("LOST", name, failures.get(name, "did not run")[-200:].replace("\n", " "))
    for name in sorted(passed & reasons.keys()):
        print("EXCUSED, and passes", name)
    num_excused = len(ids) - len(passed) - len(lost)
    print(
        f"{len(passed)} of {len(ids)} of JAX's tests of reverse mode pass; {num_excused} are excused, {len(lost)} lost"
    )
    if options.write:
        options.write.write_text(table(ids, passed, reasons))
    return bool(lost)


def why_not(records: Iterable[dict]) -> dict[str, str | None]:
    """Find out of each test that ran why it does not count, None if it does. One with subtests has several records."""
    reports: dict = {}
    for record in records:
        reports.setdefault(record["id"], []).append(record)
    return {
        name: next((r["why"] for r in some if not r["passed"]), None)
        if any(r["calls"] for r in some)
        else "it never called reverse mode"
        for name, some in reports.items()
    }


def sample(ids: list[str], count: int) -> list[str]:
    """Draw tests, not excused ones, from the quick files."""
    reasons = excused()
    quick = [name for name in ids if name.split("::")[0] in SAMPLED and name not in reasons]
    return sorted(random.Random(0).sample(quick, min(count, len(quick))))


@contextmanager
def folder_of(tests: Path) -> Iterator[Path]:
    """Find the folder that JAX's tests lie in; an archive is unpacked for the time being."""
    with tempfile.TemporaryDirectory() as unpacked:
        if tests.is_file():
            with tarfile.open(tests) as archive:
                archive.extractall(unpacked, filter="data")
            tests = Path(unpacked)
        folder = next((f for f in (tests, tests / "tests") if (f / "api_test.py").is_file()), None)
        if folder is None:
            raise FileNotFoundError(f"no tests of JAX at {tests}: api_test.py is neither there nor in tests/")
        yield folder.absolute()


def run(ids: list[str], folder: Path, log: Path, jobs: int, together: bool) -> None:
    """Run tests, each file in a process of its own unless `together`, and print how each process ended."""
    log.write_text("")
    files = (
        [ids] if together else [[i for i in ids if i.split("::")[0] == file] for file in dict.fromkeys(map(_file, ids))]
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}

    def run_some(some):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as wanted:
            json.dump(some, wanted)
            wanted.flush()
            command = [sys.executable, "-m", "tests.jax_suite.swap", wanted.name, str(log)]
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        title = f"{len(some)} tests" if together else _file(some[0])
        last = (done.stdout.strip() or done.stderr.strip() or "nothing").splitlines()[-1]
        print(f"{title}: {last}", flush=True)

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        list(pool.map(run_some, files))


def table(ids: list[str], passed: set[str], reasons: dict[str, str]) -> str:
    """Write the figures as Markdown."""
    counts, right, spared = (Counter(map(_file, some)) for some in (ids, passed, set(ids) & reasons.keys() - passed))
    rows = [f"| `{file}` | {counts[file]} | {right[file]} | {spared[file] or ''} |" for file in sorted(counts)]
    total = f"| together | {len(ids)} | {len(passed)} | {spared.total()} |"
    kinds = Counter(reasons[name].partition(": ")[0] for name in set(ids) & reasons.keys() - passed)
    return "\n".join(
        [
            "# JAX's own tests",
            "",
            f"Tests of JAX {VERSION} that call reverse mode, run with diffprog's in the place of JAX's. Written by",
            "`python -m tests.jax_suite --tests JAX --write docs/jax_suite.md`; `tests/jax_suite/excused.txt` has",
            "the reason for each excused test.",
            "",
            "| file | tests | pass | excused |",
            "|---|---|---|---|",
            *rows,
            total,
            "",
            "| why excused | tests |",
            "|---|---|",
            *(f"| {kind} | {number} |" for kind, number in kinds.most_common()),
            "",
        ]
    )


def _file(name: str) -> str:
    return name.split("::")[0]


if __name__ == "__main__":
    sys.exit(main())

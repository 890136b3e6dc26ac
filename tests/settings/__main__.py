"""Run every public entry point under every setting of JAX, and write the table `docs/settings.md`.

python -m tests.settings --write docs/settings.md
python -m tests.settings pgd fit        prints what differs by more than rounding, of the entries with these names
"""

import argparse
import os
import sys
from pathlib import Path

# Two devices, so that the last is not the first; processes that are started inherit it.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"


def main() -> int:
    from tests.settings.page import page
    from tests.settings.table import rows

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="parts of names of entries; all of them without")
    parser.add_argument("--write", type=Path, metavar="FILE", help="where to write the table")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="how many run side by side")
    options = parser.parse_args()
    found, num_wrong = [], 0
    for row in rows(options.names, options.processes):
        found.append(row)
        for setting, outcome in row.outcomes.items():
            if outcome.difference is None:
                num_wrong += 1
                print(f"{row.name}, {setting}: {outcome.error}", flush=True)
    if options.write:
        options.write.write_text(page(found))
    return 1 if num_wrong else 0


if __name__ == "__main__":
    sys.exit(main())

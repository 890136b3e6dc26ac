"""Take every function at its corners, and write the table `docs/corners.md`.

python -m tests.corners --write docs/corners.md
python -m tests.corners betaln hypot        prints what is wrong of the functions with these names
python -m tests.corners linalg --write docs/corners.md      takes these anew, and keeps the lines of the others
"""

import argparse
from pathlib import Path

from tests.corners.page import page, read, summaries
from tests.corners.rows import ROWS, findings


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="parts of names of functions; all of them without")
    parser.add_argument("--write", type=Path, metavar="FILE", help="where to write the table")
    options = parser.parse_args()
    found = list(findings(options.names))
    if options.write:
        lines = (read(options.write.read_text()) if options.names else {}) | summaries(found)
        options.write.write_text(page({row.name: lines[row.name] for row in ROWS if row.name in lines}))
    for finding in found:
        if finding.verdict in ("wrong", "value"):
            print(finding.verdict, *finding[:6])


if __name__ == "__main__":
    main()

"""To do to a program what the printed fix of a finding says."""

import importlib.util


def run(text, path):
    """Return what the function `program` of a program makes, written into this file."""
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.program()


def mended(fix, text, line):
    """Do to a line what the printed fix says: lines to put before it, and "old  ->  new" within it."""
    lines = text.splitlines()
    before = []
    for advice in fix.splitlines()[1:]:
        old, arrow, new = advice.partition("  ->  ")
        if arrow:
            assert lines[line - 1].count(old) == 1
            lines[line - 1] = lines[line - 1].replace(old, new)
        else:
            before.append(lines[line - 1][: -len(lines[line - 1].lstrip())] + advice)
    return "\n".join([*lines[: line - 1], *before, *lines[line - 1 :]]) + "\n"

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_the_tests_that_the_readme_names_exist():
    rows = re.findall(r"^\| (\d+) \|.*\| (.*) \|$", (TESTS / "attack/README.md").read_text(), re.M)
    assert [int(number) for number, _ in rows] == list(range(1, 33))
    for number, named in rows:
        found = re.findall(r"`([\w/]+\.py)::(test_\w+)`", named)
        assert found and len(found) == named.count("`") // 2, number
        for file, test in found:
            functions = [
                node.name for node in ast.parse((TESTS / file).read_text()).body if isinstance(node, ast.FunctionDef)
            ]
            assert test in functions, f"{file}::{test}"

"""The command `diffprog` itself: its list of commands, how it was started, and programs over it."""

import subprocess
import sys
from pathlib import Path

import pytest

import diffprog
from diffprog import cli
from diffprog.cli import _command_line as command_line

DEMOS = Path(__file__).parents[2] / "demos"


def run(*arguments):
    return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True)


def test_every_command_has_a_line_and_a_module():
    listed = run("diffprog", "--help")
    assert listed.returncode == 0 and "usage: python -m diffprog" in listed.stdout
    for name, line in cli.COMMANDS.items():
        assert "".join(f"{name}{line}".split()) in "".join(listed.stdout.split())  # however it is wrapped
        assert Path(cli.__file__).with_name(f"_{name.replace('-', '_')}.py").is_file()


def test_the_list_is_quick():
    """It loads no command and nothing that commands need."""
    program = "import sys; from diffprog import cli\ntry: cli.main(['--help'])\nfinally: print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout
    assert "'diffprog.cli'" in loaded
    assert not [name for name in ("optax", "PIL", "diffprog.attack", "diffprog.graph") if f"'{name}'" in loaded]


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_each_command_names_the_program_as_it_was_started(name, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--help"])
    printed = capsys.readouterr().out
    assert stop.value.code == 0
    assert f"usage: diffprog {name} " in printed and f"\n    diffprog {name}" in printed and "%(prog)s" not in printed


def test_the_version(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"diffprog {diffprog.__version__}\n"


@pytest.mark.parametrize("arguments, sentence", [([], "COMMAND"), (["attak"], "invalid choice: 'attak'")])
def test_no_such_command(arguments, sentence, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    sorted(path.stem for path in DEMOS.glob("*.py") if path.stem != "__init__"),
)
def test_demos_are_thin_programs_over_the_commands(name):
    text = (DEMOS / f"{name}.py").read_text()
    assert f"    python -m demos.{name}" in text and f'main(prog="python -m demos.{name}")' in text
    assert len(text.splitlines()) < 20


def test_a_demo_runs_and_names_itself():
    refused = run("demos.tour", "9")
    assert refused.returncode == 2
    assert refused.stderr == "python -m demos.tour: there is no stop 9: choose from 1 to 6\n"
    assert run("demos.tour", "1").stdout == run("diffprog", "tour", "1").stdout != ""


def test_a_missing_extra_is_one_sentence(capsys):
    def without_matplotlib(options):
        raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")

    with pytest.raises(SystemExit) as stop:
        command_line.launch(command_line.command_parser("diffprog fit", ""), without_matplotlib, [])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "diffprog fit: this needs matplotlib: run `pip install 'diffprog[demos]'`\n"
    with pytest.raises(ModuleNotFoundError):  # a mistake of ours is not hidden
        command_line.launch(command_line.command_parser("diffprog fit", ""), lambda options: __import__("nowhere"), [])


def test_the_packaged_cat_is_the_one_in_assets():
    packaged = Path(cli.__file__).with_name("data") / "chelsea.png"
    assert packaged.read_bytes() == (DEMOS.parent / "assets" / "chelsea.png").read_bytes()

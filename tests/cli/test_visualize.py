from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image

from diffprog import images
from diffprog.cli import _visualize as command
from diffprog.visualize import activation_grid, channel, dream, layer, logit, neuron, recipe, render
from diffprog.visualize.gallery import read_cards
from diffprog.visualize.gallery._cards import card_path
from tests.visualize import small


def run(tmp_path, *arguments):
    path = tmp_path / "new" / "sheet.png"
    command.main([*arguments, "--out", str(path)])
    return np.asarray(Image.open(path))


def test_units_on_one_sheet_look_as_they_do_alone(tmp_path, capsys):
    options = ("--size", "64", "--steps", "12", "--engine", "jax")
    sheet = run(tmp_path, "blocks.1:3", "stem:0", *options)
    captured = capsys.readouterr()
    assert captured.out.strip() == str(tmp_path / "new" / "sheet.png")
    assert "1/2 blocks.1:3" in captured.err and "objective=" in captured.err  # the progress bar
    first = np.s_[14:238, 14:238]
    assert sheet[first].std() > 10  # the gray start has 0.8
    np.testing.assert_array_equal(run(tmp_path, "blocks.1:3", *options)[first], sheet[first])
    assert not np.array_equal(run(tmp_path, "blocks.1:3", *options, "--seed", "1")[first], sheet[first])


def test_a_class_by_name_with_our_own_gradients(tmp_path):
    sheet = run(tmp_path, "volcano", "--size", "64", "--steps", "3")
    assert sheet[20:230, 20:230].std() > 10


def test_layers_are_listed_with_shapes(capsys):
    command.main(["list-layers"])
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == ["stem", "112 x 112 x 32"]
    assert ["blocks.3.expand", "56 x 56 x 144"] in lines
    assert lines[-1] == ["logits", "1000"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["volcanoe"], "efficientnet_lite0 has no class 'volcanoe'; did you mean 'volcano'"),
        (["blocks.3:900"], "blocks.3 has channels 0 to 39; found 900"),
        (["blocks.33:0"], "has no layer 'blocks.33'; did you mean 'blocks.3'"),
        (["blocks.3:red"], "numbers but the layer; found 'blocks.3:red'"),
        (["blocks.3:1", "--size", "20"], "64 pixels or more; found 32 after transforms"),
        (["--size", "-5"], "expected a whole number of at least 1; found '-5'"),
        (["--steps", "many"], "expected a whole number of at least 1; found 'many'"),
        (["--engine", "torch"], "invalid choice: 'torch'"),
        (["stem:0", "--size", "64", "--steps", "1", "--engine", "jax", "--out", "/dev/null/sheet.png"], "/dev/null"),
        (["blocks.3:1", "--out", "sheet.txt"], "the suffix '.txt'"),
        (["layer", "blocks.3", "--out", "/dev/null/LAYER"], "/dev/null/blocks.3"),
        (["gallery", "blocks.3:1", "--images", "/nowhere"], "/nowhere is no folder; give a folder of images"),
        (["score", "blocks.3:1", "--images", "/nowhere"], "/nowhere is no folder; give a folder of images"),
    ],
)
def test_bad_input_ends_in_one_sentence(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_the_default_sheet_names_units_that_exist():
    model = command.models.load("efficientnet_lite0")
    for unit in command.SHEET:
        command.objective(model, unit)
    captions = [command.caption(model, unit) for unit in command.SHEET]
    classes = [caption for caption in captions if caption.startswith("class")]
    assert (len(captions) - len(classes), len(classes)) == (8, 2)


# ---------------------------------------------------------------- the other commands, on a network of 12 pixels


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """The small network in place of the real one, and a photograph: (model, run a command, its path)."""
    model = small.model()
    monkeypatch.setattr(command.models, "load", lambda name: model)
    photograph = tmp_path / "seen" / "photograph.png"
    images.save_png(photograph, np.random.default_rng(0).uniform(size=(40, 30, 3)).astype(np.float32))
    return model, command.main, photograph


def test_words_name_objectives(tiny):
    model, *_ = tiny
    meant = lambda unit: command.objective(model, unit)
    assert meant("units:2") == channel("units", 2)
    assert meant("units:2@-1,3") == neuron("units", 2, -1, 3)
    assert meant("units") == layer("units")
    assert meant("two+units:1 + 1") == logit("two") + channel("units", 1) + logit("1")
    for wrong in ("units:1@3", "units:x", "units:1@a,b"):
        with pytest.raises(ValueError, match="a unit is layer:channel or layer:channel@row,column"):
            meant(wrong)


def test_snapshots_and_several_sides_of_a_unit(tiny, tmp_path):
    model, run, _ = tiny
    out = str(tmp_path / "sheet.png")
    run(
        [
            "units:1",
            "--steps",
            "6",
            "--size",
            "12",
            "--snapshots",
            "2,6",
            "--count",
            "2",
            "--diversity-layer",
            "units",
            "--out",
            out,
        ]
    )
    sheet = images.read_image(out)
    target = channel("units", 1) + 2 * command.diversity("units")
    how = recipe(model, target, size=12).options | {"steps": 2}
    drawn = render(model, target, num_images=2, key=jax.random.key(0), **how)
    expected = images.contact_sheet([*drawn.images] * 2, ["units\nchannel 1\nafter 2 steps"] * 4, columns=2)
    np.testing.assert_allclose(sheet[:230], expected[:230], atol=1.6 / 255)


def test_a_layer_becomes_a_page_that_goes_on(tiny, tmp_path, capsys):
    _, run, photograph = tiny
    command = [
        "layer",
        "units",
        "--channels",
        "1-3",
        "--size",
        "12",
        "--steps",
        "4",
        "--out",
        str(tmp_path / "LAYER"),
        "--images",
        str(photograph.parent),
    ]
    run(command)
    assert capsys.readouterr().out.strip() == str(tmp_path / "units" / "index.html")
    cards = {card.unit: card for card in read_cards(tmp_path / "units")}
    assert set(cards) == {"units:1", "units:2", "units:3"}
    assert (
        cards["units:1"].scores["natural_maximum"] > 0 and len(cards["units:1"].dataset_examples) == 2
    )  # of one image
    picture = card_path(tmp_path / "units", "units:1").with_suffix(".png").stat().st_mtime_ns
    card_path(tmp_path / "units", "units:2").unlink()
    run([*command[:-2]])  # without natural images this time
    assert len(read_cards(tmp_path / "units")) == 3
    assert card_path(tmp_path / "units", "units:1").with_suffix(".png").stat().st_mtime_ns == picture


def test_a_photograph_is_dreamt_and_gridded_as_the_functions_do(tiny, tmp_path):
    model, run, photograph = tiny
    seen, out = images.read_image(photograph), str(tmp_path / "new.png")
    run(["dream", str(photograph), "--unit", "units", "--steps", "3", "--octaves", "2", "--out", out])
    expected = dream(model, layer("units"), seen, key=jax.random.key(0), steps=3, octaves=2).image
    np.testing.assert_allclose(images.read_image(out), expected, atol=0.6 / 255)
    run(["grid", str(photograph), "--layer", "units", "--cells", "2x2", "--steps", "3", "--out", out])
    crop = images.network_crop(seen, 12)
    grid = activation_grid(model, crop, "units", key=jax.random.key(0), cells=(2, 2), steps=3)
    np.testing.assert_allclose(images.read_image(out), grid.picture, atol=0.6 / 255)


def test_the_other_commands_write_what_they_say(tiny, tmp_path, capsys):
    _, run, photograph = tiny
    quick = ["--steps", "3"]
    for name, arguments in {
        "caricature": [str(photograph), "--layers", "units"],
        "accentuate": [str(photograph), "units:1", "--hold", "units.pre"],
    }.items():
        out = tmp_path / f"{name}.png"
        run([name, *arguments, *quick, "--out", str(out)])
        assert capsys.readouterr().out.strip() == str(out)
        assert images.read_image(out).std() > 0.01
    run(
        [
            "gallery",
            "two+units:1",
            "two",
            "--images",
            str(photograph.parent),
            "--size",
            "12",
            *quick,
            "--out",
            str(tmp_path / "page"),
        ]
    )
    cards = {card.unit: card for card in read_cards(tmp_path / "page")}
    assert "rank in small" in cards["two"].scores and "rank in small" not in cards["two+units:1"].scores
    capsys.readouterr()
    run(["score", "units:1", "two", "--images", str(photograph.parent), "--size", "12", *quick])
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].split()[:3] == ["unit", "activation", "/natural"]
    assert [row.split()[0] for row in rows[1:]] == ["units:1", "two"]
    assert all(float(row.split()[1]) == float(row.split()[1]) for row in rows[1:])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["layer", "units", "--channels", "2-9"], "units has channels 0 to 3; found 2-9"),
        (["layer", "unit"], "small has no layer 'unit'; did you mean 'units'"),
        (["dream", "nowhere.png"], "nowhere.png: no such file"),
        (["grid", "p.png", "--cells", "7"], "expected rows and columns as 7x7; found '7'"),
        (["render", "--snapshots", "a"], "expected numbers with commas between, as 1,16,64; found 'a'"),
        (["units:0", "--recipe", "best"], "invalid choice: 'best'"),
    ],
)
def test_bad_commands_end_in_one_sentence(tiny, arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        tiny[1](arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_the_word_layer_in_a_folder_is_the_layers_name():
    folder = lambda out: command.page_folder(SimpleNamespace(out=out, layer="blocks.1"))
    assert [folder(out) for out in ("out/LAYER", "pics/PLAYERS", "LAYER_1/x")] == [
        "out/blocks.1",
        "pics/PLAYERS",
        "blocks.1_1/x",
    ]


def test_an_interruption_keeps_what_is_drawn(tmp_path, monkeypatch, capsys):
    calls = []

    def draw(*_):
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return {"": np.full((1, 8, 8, 3), 0.5, np.float32)}

    monkeypatch.setattr(command, "draw_rows", draw)
    with pytest.raises(SystemExit) as ended:
        command.main(["volcano", "starfish", "--out", str(tmp_path / "sheet.png")])
    assert ended.value.code == 130 and "interrupted" in capsys.readouterr().err
    assert (tmp_path / "sheet.png").is_file()

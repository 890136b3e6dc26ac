import numpy as np
import pytest
from PIL import Image

from demos import feature_visualization


def run(tmp_path, *arguments):
    path = tmp_path / "new" / "sheet.png"
    feature_visualization.main([*arguments, "--out", str(path)])
    return np.asarray(Image.open(path))


def test_units_on_one_sheet_look_as_they_do_alone(tmp_path, capsys):
    options = ("--size", "64", "--steps", "20", "--engine", "jax")
    sheet = run(tmp_path, "blocks.1:3", "stem:0", *options)
    captured = capsys.readouterr()
    assert captured.out.strip() == str(tmp_path / "new" / "sheet.png")
    assert "1/2 blocks.1:3" in captured.err and "objective=" in captured.err  # the progress bar
    first = np.s_[14:238, 14:238]
    assert sheet[first].std() > 10  # the grey start has 0.8
    np.testing.assert_array_equal(run(tmp_path, "blocks.1:3", *options)[first], sheet[first])
    assert not np.array_equal(run(tmp_path, "blocks.1:3", *options, "--seed", "1")[first], sheet[first])


def test_a_class_by_name_with_our_own_gradients(tmp_path):
    sheet = run(tmp_path, "volcano", "--size", "64", "--steps", "20")
    assert sheet[20:230, 20:230].std() > 10


def test_layers_are_listed_with_shapes(capsys):
    feature_visualization.main(["--list-layers"])
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == ["stem", "112 x 112 x 32"]
    assert ["blocks.3.expand", "56 x 56 x 144"] in lines
    assert lines[-1] == ["logits", "1000"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["volcanoe"], "no class is called 'volcanoe'; did you mean 'volcano'"),
        (["blocks.3:900"], "blocks.3 has channels 0 to 39; found 900"),
        (["blocks.33:0"], "has no layer 'blocks.33'; did you mean 'blocks.3'"),
        (["blocks.3:red"], "the channel a number; found 'blocks.3:red'"),
        (["blocks.3:1", "--size", "20"], "64 pixels or more; found 32 after transforms"),
        (["--size", "-5"], "expected a whole number of at least 1; found '-5'"),
        (["--steps", "many"], "expected a whole number of at least 1; found 'many'"),
        (["--engine", "torch"], "invalid choice: 'torch'"),
        (["stem:0", "--size", "64", "--steps", "1", "--engine", "jax", "--out", "/dev/null/sheet.png"], "/dev/null"),
    ],
)
def test_bad_input_ends_in_one_sentence(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        feature_visualization.main(arguments)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_the_default_sheet_names_units_that_exist():
    model = feature_visualization.models.load(feature_visualization.NETWORK)
    captions = [feature_visualization.objective(model, unit)[1] for unit in feature_visualization.SHEET]
    classes = [caption for caption in captions if caption.startswith("class")]
    assert (len(captions) - len(classes), len(classes)) == (8, 2)

"""Arguments by the names of other libraries are answered with ours."""

import pytest

from diffprog import visualize

ANSWERS = [
    ("render", "param_f", "render has no argument 'param_f': what is optimized is parameterization="),
    ("render", "transforms", "what moves the image at each step is transform="),
    ("render", "thresholds", "the number of steps is steps="),
    ("render", "batch", "the number of pictures of an objective is num_images="),
    ("render", "lr", "the length of a step is learning_rate="),
    ("render", "stepz", "did you mean steps="),
    ("render", "colour_space", "it takes model, objective, key, parameterization"),
    ("render_all", "batch", "render_all has no argument 'batch': how many are computed side by side is batch_size="),
    ("render_all", "param_f", "render_all has no argument 'param_f': what is optimized is parameterization="),
    ("dream", "octave_n", "the number of sizes is octaves="),
    ("dream", "image", "the image to start from is photograph"),
    ("dream_video", "octave_scale", "dream_video has no argument 'octave_scale': the ratio of two sizes is scale="),
    ("accentuate", "verbose", "a progress bar has a caption, progress="),
    ("top_activating_crops", "count", "the number of crops is num_crops="),
]


@pytest.mark.parametrize("function, name, answer", ANSWERS)
def test_a_word_of_another_library_is_answered_with_ours(function, name, answer):
    with pytest.raises(TypeError) as refusal:
        getattr(visualize, function)(**{name: None})
    assert answer in str(refusal.value)


def test_words_are_answered_before_arguments_that_are_missing():
    with pytest.raises(TypeError, match="missing"):
        visualize.render()

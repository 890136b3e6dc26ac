import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog.attack import fgsm, pgd

IMAGES = np.full((3, 4), 0.5, np.float32)
LABELS = np.array([0, 1, 2])


def model(x):
    return x[:, :3] + jnp.array([0.0, 0.1, 0.0])


def attack(**options):
    options = {"model": model, "images": IMAGES, "labels": LABELS, "key": jax.random.key(0), "engine": "jax", **options}
    return pgd(options.pop("model"), options.pop("images"), options.pop("labels"), **options)


NAN_MODEL = lambda x: model(x).at[:, 0].set(jnp.nan)


@pytest.mark.parametrize(("options", "sentence"), [
    ({"images": IMAGES * 255}, r"images must be in \[0, 1\]; found 127.5 .. 127.5: are they"),
    ({"images": IMAGES * np.nan}, r"images must be in \[0, 1\]; found nan"),
    ({"images": np.zeros((3, 4), np.uint8)}, r"images must be float32 in \[0, 1\]; found uint8: divide"),
    ({"images": IMAGES[0]}, r"images must have a leading batch axis; found shape \(4,\): add one with images\[None\]"),
    ({"images": IMAGES[:0]}, r"images must have a leading batch axis; found shape \(0, 4\)"),
    ({"labels": np.eye(3)}, "labels must be integer class indices; found float64"),
    ({"labels": np.eye(3, dtype=int)}, r"labels must have shape \(3,\), one class index per image; found \(3, 3\)"),
    ({"labels": LABELS[:2]}, r"labels must have shape \(3,\).*; found \(2,\)"),
    ({"labels": LABELS + 1}, "labels must be in 0 .. 2, the model's classes; found 1 .. 3"),
    ({"labels": LABELS - 1}, "labels must be in 0 .. 2, the model's classes; found -1 .. 1"),
    ({"model": lambda x: jax.nn.softmax(model(x))}, "model returns probabilities, which sum to 1; an attack"),
    ({"model": NAN_MODEL}, "model must return finite logits; found NaN or infinity for each of 3 images"),
    ({"model": lambda x: model(x)[0]}, r"model must return logits of shape \(3, classes\); found \(3,\)"),
    ({"model": lambda x: (model(x), {})}, "model must return logits alone; found a tuple: leave out"),
    ({"batch": 0}, "batch must be a whole number of at least 1; found 0"),
    ({"epsilon": 0.0}, "epsilon must be a positive number; found 0.0"),
    ({"epsilon": float("nan")}, "epsilon must be a positive number; found nan"),
    ({"epsilon": -0.1}, "epsilon must be a positive number; found -0.1"),
    ({"steps": 0}, "steps must be a whole number of at least 1; found 0"),
    ({"step_size": -1.0}, "step_size must be a positive number; found -1.0"),
    ({"norm": "linf"}, "norm must be one of linf, l2, l1, Norms of diffprog.attack; found 'linf'"),
    ({"engine": "torch"}, "engine 'torch' is not known"),
])
def test_bad_input_gets_one_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        attack(**options)
    assert "\n" not in str(caught.value)


def test_fgsm_has_the_same_border():
    with pytest.raises(ValueError, match="epsilon must be a positive number; found 0"):
        fgsm(model, IMAGES, LABELS, epsilon=0)
    with pytest.raises(ValueError, match=r"found 127.5 .. 127.5"):
        fgsm(model, IMAGES * 255, LABELS)


def test_float64_images_and_every_integer_type_are_taken():
    expected = attack()
    for dtype in (np.uint8, np.int64):
        np.testing.assert_array_equal(attack(images=IMAGES.astype(np.float64), labels=LABELS.astype(dtype)).images,
                                      expected.images)

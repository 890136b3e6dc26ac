import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog.attack import ExpectationOverTransformation, cross_entropy, fgsm, pgd, ti_fgsm

IMAGES = np.full((3, 4), 0.5, np.float32)
LABELS = np.array([0, 1, 2])


def model(x):
    return x[:, :3] + jnp.array([0.0, 0.1, 0.0])


def attack(**options):
    options = {"model": model, "images": IMAGES, "labels": LABELS, "key": jax.random.key(0), "engine": "jax", **options}
    return pgd(options.pop("model"), options.pop("images"), options.pop("labels"), **options)


NAN_MODEL = lambda x: model(x).at[:, 0].set(jnp.nan)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"images": IMAGES * 255}, r"images must be in \[0, 1\]; found 127.5 .. 127.5: divide values of 8 bits by 255"),
        ({"images": IMAGES - 0.6}, r"images must be in \[0, 1\]; found -0.1 .. -0.1: are they already normalized"),
        ({"images": IMAGES + np.float32(0.5000001)}, r"found 1.00000012 .. 1.00000012: clip them with np.clip"),
        (
            {"images": np.where([[1], [0], [0]], np.nan, IMAGES)},
            "images must be finite; found NaN or infinity in 1 of 3",
        ),
        ({"images": [IMAGES[0], IMAGES[0, :2]]}, "images must be of one shape; found several"),
        ({"images": None}, r"images must be float32 in \[0, 1\]; found object: give one array"),
        ({"bounds": 1}, r"bounds must be \(lowest, highest\), numbers or arrays .*; found 1"),
        ({"key": jax.random.split(jax.random.key(0), 3)}, r"key must be one key; found an array of shape \(3,\)"),
        ({"images": np.zeros((3, 4), np.uint8)}, r"images must be float32 in \[0, 1\]; found uint8: divide"),
        (
            {"images": IMAGES[0]},
            r"images must have a leading batch axis; found shape \(4,\): add one with images\[None\]",
        ),
        ({"images": IMAGES[:0]}, r"images must be at least one; found none, shape \(0, 4\)"),
        ({"labels": np.float64(LABELS)}, "labels must be integer class indices; found float64"),
        ({"labels": np.eye(3)}, r"labels must have shape \(3,\).*; found \(3, 3\): take argmax of one-hot rows"),
        ({"labels": np.eye(3, dtype=int)}, r"labels must have shape \(3,\), one class index per image; found \(3, 3\)"),
        ({"labels": LABELS[:2]}, r"labels must have shape \(3,\).*; found \(2,\)"),
        ({"labels": LABELS + 1}, "labels must be in 0 .. 2, the model's classes; found 1 .. 3"),
        ({"labels": LABELS - 1}, "labels must be in 0 .. 2, the model's classes; found -1 .. 1"),
        ({"model": lambda x: jax.nn.softmax(model(x)).astype(jnp.bfloat16)}, "model returns probabilities"),
        (
            {"model": lambda x: jax.nn.one_hot(model(x).argmax(-1), 3, dtype=np.int32)},
            "logits of real numbers; found int32",
        ),
        ({"model": "resnet"}, "model must be a function of images; found a str: try lambda images"),
        (
            {"model": lambda x, key: model(x)},
            "model must be a function of images; found parameters x, key: .*ExpectationOverTransformation",
        ),
        (
            {"model": lambda x: np.asarray(x)[:, :3]},
            "model must compute with jax.numpy.* found TracerArrayConversionError",
        ),
        (
            {"model": ExpectationOverTransformation(model, 2)},
            "model must be a function of images and key; found parameters x",
        ),
        (
            {"model": ExpectationOverTransformation(lambda x, key: model(x), 0)},
            "num_samples must be a whole number of at least 1; found 0",
        ),
        ({"loss": "dlr"}, "loss must be a function of logits and labels; found a str: try attack.cross_entropy"),
        (
            {"loss": lambda logits, labels: cross_entropy(logits, labels).mean()},
            r"one number per image.*found shape \(\)",
        ),
        (
            {"criterion": lambda logits, labels: logits[:, 0]},
            "criterion must return one bool per image.*found float(32|64)",
        ),
        ({"criterion": lambda logits, labels: (logits[:, 0] > 1).all()}, r"one bool per image.*bool of shape \(\)"),
        ({"criterion": lambda logits: logits[:, 0] > 1}, "criterion must be a function of logits and labels; found"),
        ({"model": lambda x: jax.nn.softmax(model(x))}, "model returns probabilities, which sum to 1; an attack"),
        ({"model": NAN_MODEL}, "model must return finite logits; found NaN or infinity for each of 3 images"),
        ({"model": lambda x: model(x)[0]}, r"model must return logits of shape \(3, classes\); found \(3,\)"),
        ({"model": lambda x: (model(x), {})}, "model must return logits alone; found a tuple: leave out"),
        ({"model": jax.jit(lambda x: x).lower(np.zeros(3)).compile()}, "can differentiate; found a Compiled program"),
        ({"labels": 1}, r"shape \(3,\), one class index per image; found \(\): for one image, give images"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1; found 0"),
        ({"epsilon": float("nan")}, "epsilon must be a number of at least 0; found nan"),
        ({"epsilon": -0.1}, "epsilon must be a number of at least 0; found -0.1"),
        ({"max_steps": 0}, "max_steps must be a whole number of at least 1; found 0"),
        ({"step_size": -1.0}, "step_size must be a positive number; found -1.0"),
        ({"norm": "l3"}, "norm must be one of linf, l2, l1, Norms of diffprog.attack; found 'l3'"),
        ({"engine": "torch"}, "engine 'torch' is not known"),
    ],
)
def test_bad_input_gets_one_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        attack(**options)
    assert "\n" not in str(caught.value)


def test_an_error_in_a_model_is_its_own_with_a_note():
    with pytest.raises(TypeError) as caught:
        attack(model=lambda x: x @ jnp.ones((5, 3)))
    assert "model was asked about float32 (3, 4), a batch at a time." in caught.value.__notes__


def test_attacks_are_not_to_be_traced():
    with pytest.raises(ValueError, match="images must be numbers; found a tracer: call the attack outside of"):
        jax.jit(lambda images: attack(images=images).images)(IMAGES)


def test_channels_come_last():
    with pytest.raises(ValueError, match=r"found \(2, 3, 8, 8\): move the channels to the end"):
        ti_fgsm(model, np.zeros((2, 3, 8, 8), np.float32), LABELS[:2])


def test_fgsm_has_the_same_border():
    with pytest.raises(ValueError, match="epsilon must be a number of at least 0; found -1"):
        fgsm(model, IMAGES, LABELS, epsilon=-1)
    with pytest.raises(ValueError, match=r"found 127.5 .. 127.5"):
        fgsm(model, IMAGES * 255, LABELS)


def test_float64_images_and_every_integer_type_are_taken():
    expected = attack()
    for dtype in (np.uint8, np.int64):
        np.testing.assert_array_equal(
            attack(images=IMAGES.astype(np.float64), labels=LABELS.astype(dtype)).images, expected.images
        )

"""CLIP's towers and what they are used for: values of the original, gradients of JAX, and a model like any other.

The original is open_clip 3.3 and transformers 5.24, in float64: `tests.clip.reference`.
"""

import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

import diffprog as dp
from diffprog import attack, attribute, clip, visualize
from tests.clip import weights

KEY = jax.random.key(0)
NAMES = ["cat", "red heart", "tree"]
with np.load(Path(__file__).parents[1] / "data" / "clip_tiny.npz") as archive:
    GIVEN = {name: archive[name] for name in archive.files}


def images_of(model, count=3):
    return weights.images(model.image.size, count)


@pytest.fixture(scope="module")
def given_files(folder):
    theirs = {name: np.array(array, order="C") for name, array in weights.hugging_face(weights.state("vit")).items()}
    save_file(theirs, folder / "theirs.safetensors")
    return {"open_clip vit": "vit", "open_clip resnet": "resnet", "transformers vit": "theirs"}


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("original", ["open_clip vit", "open_clip resnet", "transformers vit"])
def test_vectors_are_the_originals(original, activation, folder, given_files):
    """PyTorch's float32 differs from its float64 by 7e-7 of the largest number."""
    model = clip.load(folder / f"{given_files[original]}.safetensors", activation=activation)
    found = {"images": model.encode_images(images_of(model)), "texts": model.encode_texts(weights.TEXTS)}
    for part, vectors in found.items():
        wanted = GIVEN[f"{original} {activation} {part}"]
        assert np.abs(vectors - wanted).max() <= 2e-6 * np.abs(wanted).max()
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)


def test_the_activation_matters(vit):
    """So that a test of both is one."""
    wanted = GIVEN["open_clip vit gelu images"]
    assert np.abs(vit.encode_images(images_of(vit)) - wanted).max() > 1e-3


def test_batches_and_sizes_change_nothing(vit):
    few = images_of(vit, 5)
    vectors = np.asarray(vit.encode_images(few))
    np.testing.assert_allclose(vit.encode_images(np.tile(few, (8, 1, 1, 1))), np.tile(vectors, (8, 1)), atol=1e-6)
    np.testing.assert_allclose(vit.encode_images(list(few)), vectors, atol=1e-6)
    photographs = [photograph.astype(np.float32) / 255 for photograph in weights.photographs()]
    together = vit.encode_images(photographs)
    for photograph, vector in zip(photographs[:2], together, strict=False):
        np.testing.assert_allclose(vit.image(photograph[None])[0], vector, atol=2e-5)  # cropped within the network
    texts = weights.TEXTS[:4]
    found = np.asarray(vit.encode_texts(texts))
    np.testing.assert_allclose(vit.encode_texts(texts * 17), np.tile(found, (17, 1)), atol=1e-6)
    np.testing.assert_allclose(vit.encode_texts(texts[0])[0], found[0], atol=1e-6)
    whole = jax.jit(vit.text.apply)(vit.text.parameters, vit.text.tokenize(texts))  # without cutting the filling off
    np.testing.assert_allclose(whole, found, atol=1e-6)


def test_few_programs_are_compiled(folder):
    model = clip.load(folder / "vit.safetensors", activation="gelu")
    for count in (1, 3, 4, 33):
        model.encode_images(images_of(model, count))
        model.encode_texts(["a"] * count)
    assert model.image._compiled._cache_size() == model.text._compiled._cache_size() == 3  # for 1, 4 and 32


def test_similarity_takes_pictures_texts_and_vectors(vit):
    images, texts = images_of(vit), weights.TEXTS[:2]
    seen, read = np.asarray(vit.encode_images(images)), np.asarray(vit.encode_texts(texts))
    wanted = seen @ read.T
    for first in (images, list(images), seen, 3 * seen):
        for second in (texts, read, np.array(texts)):
            np.testing.assert_allclose(vit.similarity(first, second), wanted, atol=1e-6)
    assert vit.similarity(images, "a text").shape == (3, 1)
    assert vit.dimensions == 32 and vit.text.width == 32 and vit.text.length == 77


def test_classify_is_a_softmax_of_scaled_cosines(vit):
    images = images_of(vit)
    cosines = np.asarray(vit.similarity(images, [f"a photo of a {name}" for name in NAMES]), np.float64)
    wanted = np.exp(np.exp(2.5) * cosines)
    wanted /= wanted.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(vit.classify(images, NAMES), wanted, rtol=1e-5)
    both = [vit.encode_texts([sentence.format(name) for name in NAMES]) for sentence in ("a {}", "the {}!")]
    mean = np.asarray(both).mean(axis=0)
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(vit.label_vectors(NAMES, ["a {}", "the {}!"]), mean, atol=1e-6)


def test_search_finds_the_nearest(vit):
    vectors = np.asarray(vit.encode_texts(["a dog", "a red heart", "trees", "a cat"]))
    (first, cosine), *rest = vit.search("a red heart", vectors, k=2)
    assert first == 1 and cosine == pytest.approx(1, abs=1e-5) and len(rest) == 1
    found = vit.search(2 * vectors[3], vectors)
    assert found[0][0] == 3 and len(found) == 4 and [c for _, c in found] == sorted((c for _, c in found), reverse=True)
    images = images_of(vit)
    assert vit.search(images[2], vit.encode_images(images))[0][0] == 2


# ---------------------------------------------------------------- gradients, and a network like any other


def relative(found, wanted):
    return float(np.abs(np.asarray(found) - np.asarray(wanted)).max() / np.abs(np.asarray(wanted)).max())


def test_gradients_in_pictures_are_those_of_jax(model):
    read = model.encode_texts(["a red heart"])
    score = lambda images: model.similarity(images, read).sum()
    images = jnp.asarray(weights.images(model.image.size + 9, 2))  # so that they are resized, too
    assert relative(jax.jit(dp.grad(score))(images), jax.jit(jax.grad(score))(images)) < 1e-5


def test_gradients_in_weights_are_those_of_jax(model):
    images, direction = jnp.asarray(images_of(model, 1)), jnp.asarray(np.random.RandomState(0).randn(32), jnp.float32)
    score = lambda parameters: (model.image.apply(parameters, images) @ direction).sum()
    found, wanted = jax.jit(dp.grad(score))(model.image.parameters), jax.jit(jax.grad(score))(model.image.parameters)
    largest = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(wanted))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * largest)


def test_gradients_in_vectors_and_words_are_those_of_jax(vit):
    seen, texts = jnp.asarray(np.random.RandomState(0).randn(2, 32), jnp.float32), ["a red heart", "trees"]
    read = vit.encode_texts(texts)
    for score in (lambda seen: vit.similarity(seen, read).sum(), lambda seen: vit.classify(seen, NAMES)[:, 1].sum()):
        assert relative(dp.grad(score)(seen), jax.grad(score)(seen)) < 1e-5
    tokens = vit.text.tokenize(texts)[:, :16]
    of_rows = lambda rows: (vit.text.apply_embedded(vit.text.parameters, rows, tokens) * seen).sum()
    wanted = jax.jit(jax.grad(of_rows))(vit.text.embed(tokens))
    of_tokens = lambda tokens: (vit.text.apply(vit.text.parameters, tokens) * seen).sum()
    found = np.asarray(jax.jit(dp.grad_at(of_tokens, "word_embeddings"))(tokens)["word_embeddings"])
    assert relative(found, wanted) < 1e-5
    assert not found[0, 5:].any() and np.abs(found)[0, :5].max(axis=-1).all()  # behind the end nothing


@pytest.mark.parametrize("model", ["vit", pytest.param("resnet", marks=pytest.mark.slow)], indirect=True)
def test_a_classifier_is_attacked(model):
    images = images_of(model, 2)
    network = model.classifier(NAMES)
    assert network.labels == tuple(NAMES) and network.label_index("red heart") == 1
    np.testing.assert_allclose(jax.nn.softmax(network(images)), model.classify(images, NAMES), rtol=2e-5, atol=1e-6)
    target = np.asarray(network(images)).argmin(axis=1)
    result = attack.pgd(network, images, target, key=KEY, epsilon=8 / 255, max_steps=8, targeted=True)
    before, after = (np.asarray(model.classify(x, NAMES))[[0, 1], target] for x in (images, result.images))
    assert (after > 1.02 * before).all()
    assert np.abs(result.images - images).max() <= 8 / 255 + 1e-6


@pytest.mark.parametrize("model", ["vit", pytest.param("resnet", marks=pytest.mark.slow)], indirect=True)
def test_a_classifier_is_explained(model):
    images, network = images_of(model, 1), model.classifier(NAMES)
    found = attribute.integrated_gradients(network, images, "cat", steps=64)
    change = network(images)[0, 0] - network(np.zeros_like(images))[0, 0]
    assert found.values.sum() == pytest.approx(float(change), abs=0.02 * max(1, abs(float(change))))


def test_a_logit_and_a_unit_are_visualized(vit):
    objective = visualize.logit("tree") + visualize.channel("blocks.1.hidden", 3)
    result = visualize.render(vit.classifier(NAMES), objective, key=KEY, steps=6)
    assert result.scores[-1] > result.scores[0]


@pytest.mark.slow
def test_a_channel_of_a_resnet_is_visualized(resnet):
    result = visualize.render(resnet.image, visualize.channel("layer2.0.pre", 2), key=KEY, steps=6)
    assert result.scores[-1] > result.scores[0]


def test_layers_have_names_and_shapes(vit, resnet):
    assert vit.image.layers == {
        "patches": (4, 4, 128),
        "tokens": (17, 128),
        **{
            f"blocks.{i}{part}": (17, size)
            for i in (0, 1)
            for part, size in ((".attention", 128), (".hidden", 512), ("", 128))
        },
        "embedding": (32,),
    }
    assert list(resnet.image.layers)[:6] == ["stem.1", "stem.2", "stem.3", "stem", "layer1.0.pre", "layer1.0"]
    assert resnet.image.layers["layer4.0"] == (2, 2, 256)
    assert list(vit.classifier(NAMES).layers)[-2:] == ["embedding", "logits"]
    shown = vit.image.activations(images_of(vit), "embedding")["embedding"]
    np.testing.assert_allclose(shown, vit.encode_images(images_of(vit)), atol=1e-6)


def test_traced_calls_agree(vit):
    images = jnp.asarray(images_of(vit, 2))
    vectors = vit.encode_images(images)
    np.testing.assert_allclose(jax.jit(vit.encode_images)(images), vectors, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(lambda x: vit.encode_images(x[None])[0])(images), vectors, atol=1e-6)
    listed = jax.jit(lambda a, b: vit.encode_images([a, b]))(*images)
    np.testing.assert_allclose(listed, vectors, atol=1e-6)


# ---------------------------------------------------------------- settings and devices


def test_64_bits_and_strict_promotion_change_nothing(model):
    images, texts = images_of(model, 2), weights.TEXTS[:2]
    wanted = np.asarray(model.similarity(images, texts))
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        found = model.similarity(images, texts)
        probable = model.classify(images, NAMES)
        slope = jax.jit(dp.grad(lambda x: model.similarity(x, texts).sum()))(jnp.asarray(images))
        assert {found.dtype, probable.dtype, slope.dtype} == {np.dtype(np.float32)}
        np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_towers_and_their_gradients_lower(model, platform):
    def score(images, rows):
        tokens = jnp.tile(jnp.arange(4, dtype=jnp.int32), (2, 1))
        read = model.text.apply_embedded(model.text.parameters, rows, tokens)
        return (model.image.apply(model.image.parameters, images) * read).sum()

    size = model.image.size + 5
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2, size, size, 3), (2, 4, 128))]
    program = jax.jit(dp.grad(score, argnums=(0, 1))).trace(*shapes).lower(lowering_platforms=(platform,))
    assert "dot_general" in program.as_text()


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda m: m.encode_images(np.zeros((2, 8, 8, 3), np.uint8)), "images must be float32 in .0, 1.; found uint8"),
        (lambda m: m.encode_images(np.zeros((8, 8, 3))), r"found \(8, 8, 3\): add a batch axis"),
        (lambda m: m.encode_images(np.full((1, 8, 8, 3), 2.0)), "are they already normalized"),
        (lambda m: m.encode_images([]), "images must be an array .* or a list of arrays; found an empty list"),
        (lambda m: m.encode_texts([]), "texts must be a list of texts"),
        (lambda m: m.encode_texts(["word " * 99]), "text 0 has 101 tokens, and CLIP reads 77"),
        (
            lambda m: m.similarity(np.zeros((2, 5)), ["a"]),
            r"images as vectors are floats of shape \(n, 32\); found float64",
        ),
        (lambda m: m.classify(np.zeros((2, 32)), []), "texts must be a list of texts"),
        (lambda m: m.classify(np.zeros((2, 32)), ["a"], "a photo"), "template must be a sentence with {} for the name"),
        (
            lambda m: m.search(np.zeros((2, 2)), np.zeros((2, 32))),
            r"query must be a text, a picture or a vector; found",
        ),
        (lambda m: m.search("a", np.zeros((2, 3))), r"embeddings as vectors are floats of shape \(n, 32\)"),
        (lambda m: m.search("a", np.zeros((2, 32)), k=0), "k must be a whole number of at least 1; found 0"),
    ],
)
def test_bad_input_gets_one_sentence(vit, call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(vit)


def test_no_pictures_have_no_vectors(vit):
    assert vit.encode_images(np.zeros((0, 32, 32, 3))).shape == (0, 32)


def test_a_text_that_is_cut_is_said(vit):
    with pytest.warns(UserWarning, match="the last 24 are cut off"):
        cut = vit.encode_texts(["word " * 99], truncate=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(vit.encode_texts(["word " * 75]), cut, atol=1e-6)

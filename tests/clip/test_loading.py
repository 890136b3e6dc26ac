"""Files of CLIP weights: of every format and naming the same network, of no CLIP one sentence."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from diffprog import clip
from diffprog.models import WeightsError
from tests.clip import weights
from tests.models.torch_writer import scripted, stored, written, zipped


def halved(state):
    """The weights as OpenAI stores them: what multiplies in half precision, norms and embeddings in single."""
    wide = {name for name in state if "ln_" in name or "embedding" in name or ".bn" in name or name == "logit_scale"}
    return {name: array if name in wide else array.astype(np.float16) for name, array in state.items()}


def equal(first, second):
    """Whether two CLIPs have the same weights."""
    leaves = [
        jax.tree.leaves((model.image.parameters, model.text.parameters, model.scale)) for model in (first, second)
    ]
    return all(np.array_equal(a, b) for a, b in zip(*leaves, strict=True))


OPENAI_FACTS = {"input_resolution": np.array(32), "context_length": np.array(77), "vocab_size": np.array(49408)}


@pytest.mark.parametrize("image", ["vit", "resnet"])
def test_openais_archive_is_read_whatever_it_is(tmp_path, image, request):
    """TorchScript, the same as a state dict of both formats, half precision and what is no weight in it."""
    state = halved(weights.state(image))
    for name, data in (
        ("scripted.pt", scripted({**state, **OPENAI_FACTS, "transformer.resblocks.0.attn_mask": np.zeros((77, 77))})),
        ("zipped.pt", zipped(*stored({**state, **OPENAI_FACTS}))),
        ("older.pt", written(*stored({**state, **OPENAI_FACTS}))),
    ):
        (tmp_path / name).write_bytes(data)
    save_file({name: array.astype(np.float32) for name, array in state.items()}, tmp_path / "plain.safetensors")
    plain = clip.load(tmp_path / "plain.safetensors", activation="quick_gelu")
    for name in ("scripted", "zipped", "older"):
        found = clip.load(tmp_path / f"{name}.pt")  # without a warning: these are known to have QuickGELU
        assert equal(found, plain) and found.name == name
        assert found.text.kind.activation == "quick_gelu"
    assert clip.load(tmp_path / "scripted.pt").description.startswith("TorchScript with OpenAI's names; ")
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves((found.image.parameters, found.text.parameters)))
    assert found.scale == pytest.approx(np.exp(2.5))


def test_other_names_are_the_same_network(tmp_path, vit):
    state = weights.state("vit")
    text = {f"text.{name}": array for name, array in state.items() if not name.startswith(("visual.", "logit"))}
    custom = {name: array for name, array in state.items() if name.startswith(("visual.", "logit"))} | text
    save_file(custom, tmp_path / "custom.safetensors")
    theirs = {name: np.array(array, order="C") for name, array in weights.hugging_face(state).items()}
    theirs["text_model.embeddings.position_ids"] = np.arange(77)[None]
    save_file(theirs, tmp_path / "theirs.safetensors")
    tensors, storages = stored({f"module.{name}": array for name, array in state.items()})
    checkpoint = {
        "epoch": 3,
        "name": "x",
        "state_dict": tensors,
        "optimizer": {"state": {0: dict(list(tensors.items())[:1])}},
    }
    (tmp_path / "checkpoint.pt").write_bytes(zipped(checkpoint, storages))
    save_file({**state, "logit_scale": state["logit_scale"][None]}, tmp_path / "vector.safetensors")
    for name in ("custom.safetensors", "theirs.safetensors", "checkpoint.pt", "vector.safetensors"):
        assert equal(clip.load(tmp_path / name, activation="quick_gelu"), vit), name


def test_a_folder_of_hugging_face_says_heads_activation_and_colors(tmp_path):
    theirs = {name: np.array(array, order="C") for name, array in weights.hugging_face(weights.state("vit")).items()}
    save_file(theirs, tmp_path / "model.safetensors")
    tower = {"hidden_act": "gelu", "num_attention_heads": 4, "layer_norm_eps": 1e-6}
    config = {"vision_config": tower, "text_config": {"num_attention_heads": 8}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}))
    found = clip.load(tmp_path)
    network = found.image.network
    assert network.keywords["preprocessing"] == (32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    assert network.keywords["kind"] == (4, "gelu", 1e-6, False)
    assert found.text.kind == (8, "quick_gelu", 1e-5, True)


def test_a_folder_of_open_clip_says_activation_and_colors(tmp_path, folder):
    (tmp_path / "open_clip_model.safetensors").symlink_to(folder / "vit.safetensors")
    vision = {"layers": 2, "width": 128, "head_width": 32, "patch_size": 8}
    model = {"embed_dim": 32, "vision_cfg": vision, "text_cfg": {"heads": 2, "width": 128}}
    pictures = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"}
    write = lambda **parts: (tmp_path / "open_clip_config.json").write_text(json.dumps(parts))
    write(model_cfg=model, preprocess_cfg=pictures)
    found = clip.load(tmp_path)
    assert found.text.kind == (2, "gelu", 1e-5, True)
    assert found.image.network.keywords["kind"] == (4, "gelu", 1e-5, False)
    assert found.image.network.keywords["preprocessing"].mean == (0.5, 0.5, 0.5)
    write(model_cfg={**model, "quick_gelu": True})
    assert clip.load(tmp_path).text.kind.activation == "quick_gelu"
    assert clip.load(tmp_path, activation="gelu").text.kind.activation == "gelu"
    write(model_cfg=model, preprocess_cfg={"resize_mode": "squash"})
    with pytest.raises(
        WeightsError, match="its pictures are prepared with resize_mode 'squash', and here with 'shortest'"
    ):
        clip.load(tmp_path)
    write(model_cfg={})
    with pytest.raises(WeightsError, match=r"the configuration beside it cannot be read \(KeyError\('vision_cfg'\)\)"):
        clip.load(tmp_path)


def test_an_activation_that_nobody_says_is_guessed_with_a_warning(tmp_path, folder):
    with pytest.warns(
        UserWarning, match=r"does not say which activation .* gelu is taken .*if it is quick_gelu, every"
    ):
        assert clip.load(folder / "vit.safetensors").text.kind.activation == "gelu"
    save_file(halved(weights.state("vit")), tmp_path / "halved.safetensors")
    with pytest.warns(UserWarning, match=r"does not say which activation .* quick_gelu is taken"):
        assert clip.load(tmp_path / "halved.safetensors").text.kind.activation == "quick_gelu"


def without(state, *names):
    return {name: array for name, array in state.items() if name not in names}


VIT = weights.state("vit")
LN = "visual.ln_pre.weight"


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ({"conv.weight": np.zeros(2)}, "neither an image tower nor a text tower; found 1 array, conv.weight"),
        ({n: a for n, a in VIT.items() if "visual" not in n}, "it has no image tower; found 30 arrays"),
        ({n: a for n, a in VIT.items() if "visual" in n}, "it has no text tower; found"),
        (without(VIT, LN), f"{LN} is missing"),
        (without(VIT, "logit_scale"), "logit_scale is missing"),
        ({**VIT, LN: np.ones(5)}, rf"{LN} has shape \(5,\) where \(128,\) is expected"),
        ({**VIT, LN: np.full(128, np.nan)}, f"{LN} has numbers that are not finite"),
        ({**VIT, "logit_bias": np.zeros(1)}, "1 array that this network has no place for: logit_bias"),
        ({**VIT, "visual.trunk.a": np.zeros(1)}, "its image tower is one of timm's"),
        ({**VIT, "vision_model.head.probe": np.zeros(1)}, "it is a SigLIP"),
        ({**VIT, "token_embedding.weight": np.zeros((99, 128))}, "its vocabulary has 99 tokens, and OpenAI's has"),
        ({**VIT, "visual.positional_embedding": np.zeros((18, 128))}, "has 17 places beside the first, which"),
        ({**VIT, "text_projection": np.zeros((128, 31))}, "pictures have 32 dimensions and texts 31"),
        (without(VIT, "visual.proj"), "its image tower is neither a vision transformer nor a ResNet"),
    ],
)  # fmt: skip
def test_what_is_no_clip_gets_one_sentence(tmp_path, state, sentence):
    save_file({name: np.array(array, order="C") for name, array in state.items()}, tmp_path / "x.safetensors")
    with pytest.raises(
        WeightsError, match=rf"x\.safetensors \(safetensors\) is no CLIP that is built here: .*{sentence}"
    ):
        clip.load(tmp_path / "x.safetensors", activation="gelu")


def test_a_width_that_heads_do_not_divide_needs_the_configuration(tmp_path):
    state = weights.hugging_face(VIT)
    narrow = {name: np.array(array[..., :96] if array.shape[-1:] == (128,) else array) for name, array in state.items()}
    narrow = {name: array[:96] if array.ndim > 1 and len(array) == 128 else array for name, array in narrow.items()}
    state = {name: np.array(array, order="C") for name, array in narrow.items()}
    save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(
        WeightsError, match=r"a width of 96, which heads of 64 do not divide: .*must lie beside the weights"
    ):
        clip.load(tmp_path / "x.safetensors", activation="gelu")


def test_bad_arguments_get_one_sentence(tmp_path, folder):
    with pytest.raises(WeightsError, match=r"has none of open_clip_model\.safetensors, .*: give the path"):
        clip.load(tmp_path)
    with pytest.raises(WeightsError, match=r"cannot be read .No such file"):
        clip.load(tmp_path / "none.pt")
    with pytest.raises(ValueError, match='activation must be "quick_gelu" or "gelu"; found \'relu\''):
        clip.load(folder / "vit.safetensors", activation="relu")

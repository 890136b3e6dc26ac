"""`clip.load`: a file of weights to a `Clip`, with what its configuration says or its shapes tell."""

import json
import warnings
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffprog.clip import _resnet as resnet
from diffprog.clip import _vit as vit
from diffprog.clip._clip import Clip
from diffprog.clip._names import openai_names
from diffprog.clip._parameters import Arrays, resnet_parameters, text_parameters, vit_parameters
from diffprog.clip._preprocessing import MEAN, STD, Preprocessing
from diffprog.clip._text import TextTower
from diffprog.clip._tokenizer import VOCABULARY_SIZE
from diffprog.clip._transformer import ACTIVATIONS, Kind
from diffprog.models import Model, WeightsError
from diffprog.models._weights_file import read_weights

WEIGHTS_NAMES = (  # of files in a folder, the first that is there
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
    "pytorch_model.bin",
)
HEAD_WIDTH = 64
WIDE_HEADS = {1280: 16, 1408: 16, 1664: 16, 1792: 16}  # image towers of open_clip's ViT-H, g, bigG and e


class Config(NamedTuple):
    """What a configuration beside the weights says, None where there is none.

    Attributes:
      source: The file's name.
      heads: Of the image and the text tower.
      activations: Of both.
      epsilons: Of both.
      mean: Of pictures.
      std: Of pictures.
    """

    source: str | None = None
    heads: tuple[int | None, int | None] = (None, None)
    activations: tuple[str | None, str | None] = (None, None)
    epsilons: tuple[float, float] = (1e-5, 1e-5)
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD


def load(path: str | Path, *, activation: str | None = None) -> Clip:
    """Load the weights of a CLIP from a file: OpenAI's, open_clip's or Hugging Face's. Nothing in it is executed.

    Read are OpenAI's TorchScript archives (`ViT-B-32.pt`, `RN50.pt`), PyTorch's state dicts and checkpoints of either
    format, and safetensors, with OpenAI's names or Hugging Face's: vision transformers and ResNets of any size, which
    follow from the shapes. A folder is searched for the weights' usual names. `open_clip_config.json`, or `config.json`
    and `preprocessor_config.json` beside weights with Hugging Face's names, say what shapes do not tell. Weights are
    used as float32.

    Args:
      path: The file, or a folder.
      activation: "quick_gelu", as in OpenAI's networks and some of open_clip's, or "gelu", as in most of open_clip's.
        By default what the configuration says; without one OpenAI's archives have QuickGELU, and for other files it is
        guessed with a warning, as the wrong one works nearly and makes everything a little worse.

    Returns:
      A `Clip`.

    Raises:
      WeightsError: There is no such file, it is of another format, or no CLIP of a kind that is built here. The message
        says what was found.
      ValueError: There is no such activation.

    References:
      Radford et al., "Learning transferable visual models from natural language supervision", 2021. Cherti et al.,
      "Reproducible scaling laws for contrastive language-image learning", 2023 (open_clip).
    """
    if activation is not None and activation not in ACTIVATIONS:
        raise ValueError(f'activation must be "quick_gelu" or "gelu"; found {activation!r}')
    found = _weights_in(Path(path))
    file = read_weights(found)
    try:
        arrays, names = openai_names(file.arrays)
        config = _config_beside(found, names)
        activations = _activations(activation, config, file, arrays, names, found)
        return _built(found.stem, f"{file.format} with {names}'s names", Arrays(arrays), config, activations)
    except WeightsError as error:
        raise WeightsError(f"{found} ({file.format}) is no CLIP that is built here: {error}") from None


def _weights_in(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = [path / name for name in WEIGHTS_NAMES if (path / name).is_file()]
    if not found:
        raise WeightsError(f"{path} has none of {', '.join(WEIGHTS_NAMES)}: give the path of a file of weights")
    return found[0]


def _built(name, source, arrays, config, activations):
    text = text_parameters(arrays)
    if text["words"].shape[0] != VOCABULARY_SIZE:
        raise WeightsError(
            f"its vocabulary has {text['words'].shape[0]:,} tokens, and OpenAI's has {VOCABULARY_SIZE:,}"
        )
    width = text["words"].shape[1]
    heads = config.heads[1] or _heads(width, "text", {})
    tower = TextTower(name, text, Kind(heads, activations[1], config.epsilons[1], is_causal=True))
    image, structure = _image_tower(name, arrays, config, activations[0])
    scale = arrays.take("logit_scale", *((1,) if arrays.shape("logit_scale") else ()))  # open_clip has both kinds
    arrays.check_all_taken()
    dimensions = image.layers[vit.EMBEDDING][0]
    if dimensions != tower.width:
        raise WeightsError(f"pictures have {dimensions} dimensions and texts {tower.width}")
    described = (
        f"{source}; {structure} of {image.size} pixels, {activations[0] if 'ViT' in structure else 'relu'}; text of "
        f"{len(text['blocks'])} blocks of {width}, {activations[1]}; {dimensions} dimensions"
    )
    return Clip(name, image, tower, float(np.exp(np.float64(scale.item()))), described)


def _image_tower(name, arrays, config, activation):
    if "visual.proj" in arrays:
        parameters = vit_parameters(arrays)
        patch, _, _, width = parameters["patches"].shape
        size = patch * _side(parameters["places"].shape[0] - 1, "visual.positional_embedding")
        kind = Kind(config.heads[0] or _heads(width, "image", WIDE_HEADS), activation, config.epsilons[0])
        network: Any = partial(vit.layers, kind=kind)
        structure = f"ViT of {len(parameters['blocks'])} blocks of {width}, patches of {patch} pixels, pictures"
    elif "visual.attnpool.positional_embedding" in arrays:
        parameters = resnet_parameters(arrays)
        places, inner = parameters["pool"]["places"].shape
        size = 32 * _side(places - 1, "visual.attnpool.positional_embedding")
        network = partial(resnet.layers, num_heads=_heads(inner, "image", {}))
        depths = ", ".join(str(len(blocks)) for blocks in parameters["stages"])
        structure = f"ResNet of {depths} blocks of {inner // 32}, pictures"
    else:
        raise WeightsError("its image tower is neither a vision transformer nor a ResNet with attention at its end")
    preprocessing = Preprocessing(size, config.mean, config.std)
    return Model(name, partial(network, preprocessing=preprocessing), parameters, (), size, min_size=1), structure


def _side(places, name):
    side = round(places**0.5)
    if side * side != places or not side:
        raise WeightsError(f"{name} has {places} places beside the first, which are no square")
    return side


def _heads(width, tower, known):
    if width in known:
        return known[width]
    if width % HEAD_WIDTH:
        raise WeightsError(
            f"the {tower} tower has a width of {width}, which heads of {HEAD_WIDTH} do not divide: how many there are "
            "stands in the configuration, config.json or open_clip_config.json, which must lie beside the weights"
        )
    return width // HEAD_WIDTH


# What the configuration says.


def _config_beside(path, names):
    """Read the configuration that belongs to weights with these names."""
    opened, own = path.with_name("open_clip_config.json"), path.with_name("config.json")
    try:
        if names == "OpenAI" and opened.is_file():
            return _open_clip_config(json.loads(opened.read_text(encoding="utf-8")), opened.name)
        if names == "Hugging Face" and own.is_file():
            pictures = path.with_name("preprocessor_config.json")
            settings = json.loads(pictures.read_text(encoding="utf-8")) if pictures.is_file() else {}
            return _hugging_face_config(json.loads(own.read_text(encoding="utf-8")), settings, own.name)
    except (AttributeError, TypeError, KeyError, ValueError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"the configuration beside it cannot be read ({error!r})") from None
    return Config()


def _open_clip_config(config, source):
    model, pictures = config["model_cfg"], config.get("preprocess_cfg", {})
    vision, text = model["vision_cfg"], model["text_cfg"]
    for key, usual in (("interpolation", "bicubic"), ("resize_mode", "shortest")):
        if pictures.get(key, usual) != usual:
            raise WeightsError(f"its pictures are prepared with {key} {pictures[key]!r}, and here with {usual!r}")
    activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
    width = vision.get("width") if not isinstance(vision.get("layers"), list) else None
    return Config(
        source,
        (width // vision.get("head_width", HEAD_WIDTH) if width else None, text.get("heads")),
        (activation, activation),
        mean=tuple(pictures.get("mean", MEAN)),
        std=tuple(pictures.get("std", STD)),
    )


def _hugging_face_config(config, pictures, source):
    towers = [config.get(f"{name}_config") or config.get(f"{name}_config_dict") or {} for name in ("vision", "text")]
    activations = [tower.get("hidden_act", "quick_gelu") for tower in towers]  # the library's default
    unknown = [name for name in activations if name not in ACTIVATIONS]
    if unknown:
        raise WeightsError(f"its activation is {unknown[0]!r}, and quick_gelu and gelu are built here")
    heads = [tower.get("num_attention_heads", usual) for tower, usual in zip(towers, (12, 8), strict=True)]
    return Config(
        source,
        (heads[0], heads[1]),
        (activations[0], activations[1]),
        (towers[0].get("layer_norm_eps", 1e-5), towers[1].get("layer_norm_eps", 1e-5)),
        tuple(pictures.get("image_mean", MEAN)),
        tuple(pictures.get("image_std", STD)),
    )


def _activations(asked, config, file, arrays, names, path):
    """Find the activations of the image and the text tower: asked for, configured, known or guessed."""
    if asked:
        return asked, asked
    if config.source:
        return config.activations
    if file.format == "TorchScript" or "input_resolution" in file.arrays:
        return "quick_gelu", "quick_gelu"  # OpenAI's own
    # Weights in half precision beside norms in single precision are as OpenAI's code saves them.
    precisions = {str(array.dtype) for array in arrays.values()}
    guess = "quick_gelu" if names == "Hugging Face" or precisions == {"float16", "float32"} else "gelu"
    other = "gelu" if guess == "quick_gelu" else "quick_gelu"
    warnings.warn(
        f"{path} does not say which activation it was trained with, and no configuration lies beside it: {guess} is "
        f"taken (activation={guess!r}); if it is {other}, everything is a little worse than it should be",
        stacklevel=3,
    )
    return guess, guess

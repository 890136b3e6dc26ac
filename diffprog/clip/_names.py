"""The names that files of CLIP weights use: OpenAI's, which open_clip shares, and Hugging Face's, brought to OpenAI's.

Linear kernels are [out, in] in both; Hugging Face transposes the two projections and keeps queries, keys and values
apart, which OpenAI stacks in this order.
"""

import re
from collections.abc import Mapping

import numpy as np

from diffprog.models import WeightsError

# What is in a file and is no weight of the network.
IGNORED = re.compile(r"(.*\.)?(position_ids|attn_mask|num_batches_tracked)|input_resolution|context_length|vocab_size")
HUGGING_FACE = (  # the beginning of a name, and what OpenAI calls it
    ("text_model.embeddings.token_embedding.weight", "token_embedding.weight"),
    ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("text_model.encoder.layers.", "transformer.resblocks."),
    ("text_model.final_layer_norm.", "ln_final."),
    ("text_projection.weight", "text_projection"),
    ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
    ("vision_model.embeddings.patch_embedding.", "visual.conv1."),
    ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
    ("vision_model.pre_layrnorm.", "visual.ln_pre."),  # sic
    ("vision_model.encoder.layers.", "visual.transformer.resblocks."),
    ("vision_model.post_layernorm.", "visual.ln_post."),
    ("visual_projection.weight", "visual.proj"),
)
IN_BLOCKS = (
    (".self_attn.out_proj.", ".attn.out_proj."),
    (".layer_norm1.", ".ln_1."),
    (".layer_norm2.", ".ln_2."),
    (".mlp.fc1.", ".mlp.c_fc."),
    (".mlp.fc2.", ".mlp.c_proj."),
)
PART = re.compile(r"(.*)\.self_attn\.([qkv])_proj\.(weight|bias)")
FOREIGN = (  # how names begin, and whose they are
    ("visual.trunk.", "its image tower is one of timm's, which is not built here"),
    ("text.transformer.embeddings.", "its text tower is one of Hugging Face's, which is not built here"),
    ("text.transformer.encoder.", "its text tower is one of Hugging Face's, which is not built here"),
    ("vision_model.head.", "it is a SigLIP, whose towers are others"),
    ("text_decoder.", "it is a CoCa, whose towers are others"),
)


def openai_names(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], str]:
    """Bring the arrays of a file to OpenAI's names.

    Args:
      arrays: By the file's names.

    Returns:
      Arrays by OpenAI's names, what is no weight left out, and whose names the file had: "OpenAI" or "Hugging Face".

    Raises:
      WeightsError: They are not the arrays of a CLIP. The message goes on behind "is no CLIP: ".
    """
    named = _unwrapped(arrays)
    for start, what in FOREIGN:
        if any(name.startswith(start) for name in named):
            raise WeightsError(what)
    if "text_model.embeddings.token_embedding.weight" in named and "visual_projection.weight" in named:
        named, names = _from_hugging_face(named), "Hugging Face"
    else:
        names = "OpenAI"
    if "text.token_embedding.weight" in named:  # of open_clip, where the text tower is a module of its own
        named = {name.removeprefix("text."): array for name, array in named.items()}
    halves = {
        "image": any(name.startswith(("visual.", "vision_model.")) for name in named),
        "text": any(name in named for name in ("token_embedding.weight", "text_model.final_layer_norm.weight")),
    }
    missing = [half for half, is_there in halves.items() if not is_there]
    if missing:
        found = (
            f"{len(named)} array{'s' * (len(named) != 1)}, {', '.join(list(named)[:3])} first" if named else "no array"
        )
        kind = "neither an image tower nor a text tower" if len(missing) > 1 else f"no {missing[0]} tower"
        raise WeightsError(f"it has {kind}; found {found}")
    return {name: array for name, array in named.items() if not IGNORED.fullmatch(name)}, names


def _unwrapped(arrays):
    """Take off what stands before every name: checkpoints have the state dict among other things."""
    if any(name.startswith("state_dict.") for name in arrays):
        arrays = {k.removeprefix("state_dict."): v for k, v in arrays.items() if k.startswith("state_dict.")}
    for prefix in ("module.", "_orig_mod.", "clip."):  # of training on many devices, compilation, a module around it
        if arrays and all(name.startswith(prefix) for name in arrays):
            arrays = {name.removeprefix(prefix): array for name, array in arrays.items()}
    return dict(arrays)


def _from_hugging_face(arrays):
    renamed, parts = {}, {}
    for name, array in arrays.items():
        for theirs, ours in HUGGING_FACE:
            if name.startswith(theirs):
                name = ours + name.removeprefix(theirs)
                break
        for theirs, ours in IN_BLOCKS:
            name = name.replace(theirs, ours)
        if match := PART.fullmatch(name):
            parts[match[1], match[3], match[2]] = array
        else:
            renamed[name] = array.T if name in ("text_projection", "visual.proj") else array
    for block, kind, _ in list(parts):
        if all((block, kind, part) in parts for part in "qkv"):
            renamed[f"{block}.attn.in_proj_{kind}"] = np.concatenate([parts[block, kind, part] for part in "qkv"])
    return renamed

"""What open_clip and transformers compute with the weights of `tests.clip.weights`: writes `tests/data/clip_tiny.npz`.

Run once with `python -m tests.clip.reference`, in an environment with torch 2.13, open_clip_torch 3.3 and transformers
5.24. Where there is no torchvision that fits torch, its operators are declared here, so that open_clip can be imported.
"""

import re
from importlib import metadata, util
from pathlib import Path

import numpy as np
import torch

from diffprog.clip._preprocessing import MEAN, STD
from diffprog.clip._tokenizer import tokenize
from tests.clip import weights

PATH = Path(__file__).parents[1] / "data" / "clip_tiny.npz"


def declare_operators_of_torchvision():
    spec = util.find_spec("torchvision")
    text = (Path(spec.submodule_search_locations[0]) / "_meta_registrations.py").read_text()
    library = torch.library.Library("torchvision", "DEF")
    for name in sorted(set(re.findall(r'@\S*register_\w+\("(?:torchvision::)?(\w+)"', text))):
        library.define(f"{name}(Tensor a) -> Tensor")
    return library  # which must outlive what uses it


def pictures(size):
    normal = (weights.images(size).astype(np.float64) - MEAN) / STD
    return torch.tensor(normal.transpose(0, 3, 1, 2))


def open_clip_vectors(image, quick, dtype):
    from open_clip.model import CLIP

    layers, width = (2, weights.WIDTH) if image == "vit" else (weights.DEPTHS, weights.RESNET_WIDTH)
    vision = {"layers": layers, "width": width, "image_size": weights.SIZES[image], "patch_size": 8}
    text = {"context_length": 77, "vocab_size": 49408, "width": weights.WIDTH, "heads": weights.HEADS, "layers": 2}
    model = CLIP(weights.EMBED, vision, text, quick_gelu=quick).eval()
    state = {name: torch.tensor(array) for name, array in weights.state(image).items()}
    left = model.load_state_dict(state, strict=False)
    assert not left.unexpected_keys and all("num_batches_tracked" in name for name in left.missing_keys), left
    return vectors(model.to(dtype), image, dtype)


def vectors(model, image, dtype):
    tokens = torch.tensor(tokenize(weights.TEXTS)).long()
    with torch.no_grad():
        seen = model.encode_image(pictures(weights.SIZES[image]).to(dtype), normalize=True)
        return seen.numpy(), model.encode_text(tokens, normalize=True).numpy()


def transformers_vectors(quick, dtype):
    from transformers import CLIPConfig, CLIPModel

    common = {
        "hidden_size": weights.WIDTH,
        "intermediate_size": 4 * weights.WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": weights.HEADS,
        "hidden_act": "quick_gelu" if quick else "gelu",
    }
    config = CLIPConfig(
        text_config={**common, "eos_token_id": 49407},
        vision_config={**common, "image_size": weights.SIZES["vit"], "patch_size": 8},
        projection_dim=weights.EMBED,
    )
    model = CLIPModel(config).eval()
    state = {name: torch.tensor(array) for name, array in weights.hugging_face(weights.state("vit")).items()}
    model.load_state_dict(state, strict=True)
    tokens = torch.tensor(tokenize(weights.TEXTS)).long()
    with torch.no_grad():
        output = model.to(dtype)(input_ids=tokens, pixel_values=pictures(weights.SIZES["vit"]).to(dtype))
    return output.image_embeds.numpy(), output.text_embeds.numpy()


def squares():
    """What open_clip makes of photographs, before it normalizes them."""
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from PIL import Image

    transform = image_transform_v2(PreprocessCfg(size=weights.SIZES["vit"], mean=(0, 0, 0), std=(1, 1, 1)), False)
    made = [transform(Image.fromarray(photograph)).numpy() for photograph in weights.photographs()]
    return (np.stack(made).transpose(0, 2, 3, 1) * 255).round().astype(np.uint8)


def main():
    library = declare_operators_of_torchvision() if metadata.version("torch").endswith("+cpu") else None
    found = {}
    for dtype in (torch.float64, torch.float32):
        for quick in (True, False):
            activation = "quick_gelu" if quick else "gelu"
            rows = {
                f"open_clip vit {activation}": open_clip_vectors("vit", quick, dtype),
                f"open_clip resnet {activation}": open_clip_vectors("resnet", quick, dtype),
                f"transformers vit {activation}": transformers_vectors(quick, dtype),
            }
            for name, pair in rows.items():
                for part, values in zip(("images", "texts"), pair, strict=True):
                    if dtype == torch.float64:
                        found[f"{name} {part}"] = values
                    else:
                        truth = found[f"{name} {part}"]
                        print(name, part, "float32 differs by", abs(values - truth).max() / abs(truth).max())
    arrays = {name: values.astype(np.float32) for name, values in found.items()}
    np.savez_compressed(PATH, squares=squares(), **arrays)
    del library


if __name__ == "__main__":
    main()

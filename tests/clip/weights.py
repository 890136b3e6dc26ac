"""Small CLIPs with random weights, made from their names: the same here and where reference numbers were computed."""

import zlib

import numpy as np

WIDTH, EMBED, HEADS = 128, 32, 2
DEPTHS = (1, 2, 1, 1)  # of the ResNet's stages
RESNET_WIDTH = 8
SIZES = {"vit": 32, "resnet": 64}  # pixels
TEXTS = ["a red heart", "", "a photo of a cat, sitting on the mat", "42! \u732b \U0001f431", "dog " * 75]


def block_shapes(at: str) -> dict[str, tuple[int, ...]]:
    return {
        f"{at}.attn.in_proj_weight": (3 * WIDTH, WIDTH),
        f"{at}.attn.in_proj_bias": (3 * WIDTH,),
        f"{at}.attn.out_proj.weight": (WIDTH, WIDTH),
        f"{at}.attn.out_proj.bias": (WIDTH,),
        f"{at}.ln_1.weight": (WIDTH,),
        f"{at}.ln_1.bias": (WIDTH,),
        f"{at}.mlp.c_fc.weight": (4 * WIDTH, WIDTH),
        f"{at}.mlp.c_fc.bias": (4 * WIDTH,),
        f"{at}.mlp.c_proj.weight": (WIDTH, 4 * WIDTH),
        f"{at}.mlp.c_proj.bias": (WIDTH,),
        f"{at}.ln_2.weight": (WIDTH,),
        f"{at}.ln_2.bias": (WIDTH,),
    }


def norm_shapes(at: str, width: int, batch: bool = False) -> dict[str, tuple[int, ...]]:
    names = ("weight", "bias", "running_mean", "running_var") if batch else ("weight", "bias")
    return {f"{at}.{name}": (width,) for name in names}


def text_shapes() -> dict[str, tuple[int, ...]]:
    return {
        "positional_embedding": (77, WIDTH),
        "text_projection": (WIDTH, EMBED),
        "logit_scale": (),
        "token_embedding.weight": (49408, WIDTH),
        **block_shapes("transformer.resblocks.0"),
        **block_shapes("transformer.resblocks.1"),
        **norm_shapes("ln_final", WIDTH),
    }


def vit_shapes() -> dict[str, tuple[int, ...]]:
    return {
        "visual.class_embedding": (WIDTH,),
        "visual.positional_embedding": (17, WIDTH),
        "visual.proj": (WIDTH, EMBED),
        "visual.conv1.weight": (WIDTH, 3, 8, 8),
        **norm_shapes("visual.ln_pre", WIDTH),
        **block_shapes("visual.transformer.resblocks.0"),
        **block_shapes("visual.transformer.resblocks.1"),
        **norm_shapes("visual.ln_post", WIDTH),
    }


def resnet_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}

    def convolution(at, norm, outputs, inputs, side):
        shapes.update({f"{at}.weight": (outputs, inputs, side, side), **norm_shapes(norm, outputs, batch=True)})

    half = RESNET_WIDTH // 2
    for index, (outputs, inputs) in enumerate([(half, 3), (half, half), (RESNET_WIDTH, half)], start=1):
        convolution(f"visual.conv{index}", f"visual.bn{index}", outputs, inputs, 3)
    inputs = RESNET_WIDTH
    for stage, depth in enumerate(DEPTHS, start=1):
        narrow = RESNET_WIDTH * 2 ** (stage - 1)
        for index in range(depth):
            at = f"visual.layer{stage}.{index}"
            convolution(f"{at}.conv1", f"{at}.bn1", narrow, inputs, 1)
            convolution(f"{at}.conv2", f"{at}.bn2", narrow, narrow, 3)
            convolution(f"{at}.conv3", f"{at}.bn3", 4 * narrow, narrow, 1)
            if index == 0:
                convolution(f"{at}.downsample.0", f"{at}.downsample.1", 4 * narrow, inputs, 1)
            inputs = 4 * narrow
    at, wide = "visual.attnpool", 32 * RESNET_WIDTH
    shapes[f"{at}.positional_embedding"] = (5, wide)
    for name, outputs in (("q_proj", wide), ("k_proj", wide), ("v_proj", wide), ("c_proj", EMBED)):
        shapes |= {f"{at}.{name}.weight": (outputs, wide), f"{at}.{name}.bias": (outputs,)}
    return shapes


def state(image: str) -> dict[str, np.ndarray]:
    """The weights of a small CLIP by OpenAI's names, its image tower a "vit" or a "resnet"."""
    shapes = {**text_shapes(), **(vit_shapes() if image == "vit" else resnet_shapes())}
    return {name: drawn(name, shape) for name, shape in shapes.items()}


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Random numbers of a size that keeps values inside the network about 1."""
    few = (509, *shape[1:]) if name == "token_embedding.weight" else shape  # repeated: fewer draws
    draws = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(few).astype(np.float32)
    draws = np.resize(draws, shape) if few != shape else draws
    kind = name.rpartition(".")[2]
    if name == "logit_scale":
        return np.array(2.5, np.float32)
    if kind == "running_var":
        return np.exp(0.3 * draws)
    if kind == "weight" and len(shape) == 1:
        return 1 + np.float32(0.2) * draws
    if "embedding" in name:
        return np.float32(0.5) * draws
    if len(shape) < 2:
        return np.float32(0.1) * draws
    inputs = shape[0] if kind in ("proj", "text_projection") else np.prod(shape[1:])
    return draws / np.sqrt(np.float32(inputs))


def hugging_face(openai: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same weights by Hugging Face's names."""
    renamed = {}
    for name, array in openai.items():
        tower = "vision_model" if name.startswith("visual.") else "text_model"
        name = name.removeprefix("visual.")
        if name in WHOLE:
            renamed[WHOLE[name].format(tower)] = array.T if name in ("proj", "text_projection") else array
            continue
        if name.startswith("ln_"):
            renamed[f"{tower}.{NORMS[name.partition('.')[0]]}.{name.partition('.')[2]}"] = array
            continue
        _, _, index, part = name.split(".", 3)
        at = f"{tower}.encoder.layers.{index}"
        if part.startswith("attn.in_proj_"):
            for letter, third in zip("qkv", np.split(array, 3), strict=True):
                renamed[f"{at}.self_attn.{letter}_proj.{part.removeprefix('attn.in_proj_')}"] = third
        else:
            kind, _, end = part.rpartition(".")
            renamed[f"{at}.{PARTS[kind]}.{end}"] = array
    return renamed


WHOLE = {
    "positional_embedding": "{}.embeddings.position_embedding.weight",
    "token_embedding.weight": "{}.embeddings.token_embedding.weight",
    "text_projection": "text_projection.weight",
    "logit_scale": "logit_scale",
    "class_embedding": "{}.embeddings.class_embedding",
    "conv1.weight": "{}.embeddings.patch_embedding.weight",
    "proj": "visual_projection.weight",
}
NORMS = {"ln_final": "final_layer_norm", "ln_pre": "pre_layrnorm", "ln_post": "post_layernorm"}
PARTS = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def images(size: int, count: int = 3) -> np.ndarray:
    return np.random.RandomState(1).uniform(size=(count, size, size, 3)).astype(np.float32)


def photographs() -> list[np.ndarray]:
    """Pictures of several shapes in bytes: waves, edges and noise, black and white among them."""
    made = []
    for seed, (height, width) in enumerate([(40, 61), (300, 200), (97, 66), (32, 45), (20, 19), (32, 32), (131, 130)]):
        draw = np.random.RandomState(seed)
        y, x = np.mgrid[:height, :width] / 10
        waves = np.stack([np.sin(y + k) * np.cos(x * (k + 1)) for k in range(3)], axis=-1)
        noisy = np.sign(waves) * 0.4 + 0.5 + 0.2 * draw.standard_normal(waves.shape)
        made.append((noisy.clip(0, 1) * 255).round().astype(np.uint8))
    return made

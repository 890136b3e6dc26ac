"""Images: files to float32 arrays in [0, 1] and back, and sheets of captioned pictures."""

from diffprog.images._files import (
    LARGEST,
    ImageError,
    center_crop,
    contact_sheet,
    image_format,
    network_crop,
    read_image,
    resize,
    resize_short_side,
    save_png,
    to_bytes,
    to_rgb,
)

__all__ = [
    "LARGEST",
    "ImageError",
    "center_crop",
    "contact_sheet",
    "image_format",
    "network_crop",
    "read_image",
    "resize",
    "resize_short_side",
    "save_png",
    "to_bytes",
    "to_rgb",
]

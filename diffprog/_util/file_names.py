"""Names of files that are made from names that people give."""

import re
import unicodedata
from collections.abc import Container
from hashlib import sha256

MAX_BYTES = 90  # of the name without what follows it: some file systems take no more than 143 of the whole
RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))}


def file_name(text: str, reserved: Container[str] = ()) -> str:
    """Make a file name, without suffix, that stands for one text alone on every file system.

    A text of small letters a-z, digits and ._- is its own file name. Any other has "_" for what a name should not hold,
    is cut, and ends in ten digits of its digest. So no two texts share a name: not where capitals count as small
    letters, where accents are written in two ways, or where names are short.

    Args:
        text: Any text.
        reserved: Names that mean something else in the folder.

    Returns:
        The name, of at most 90 bytes.
    """
    name = re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode()))
    plain = re.fullmatch(r"[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_-])?", name) is not None and name == text
    taken = name in reserved or name.partition(".")[0] in RESERVED or re.search(r"\.example\d*$|-[0-9a-f]{10}$", name)
    if plain and not taken and len(name) <= MAX_BYTES:
        return name
    digest = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    start = name.encode()[: MAX_BYTES - 11].decode(errors="ignore").lstrip(".-") or "_"
    prefix = "_" if start.partition(".")[0].lower() in RESERVED else ""
    return f"{prefix}{start}-{digest}"

"""What happens to a text before CLIP's tokenizer splits it: repair, HTML, white space, small letters.

The original repairs texts by the library ftfy, which undoes mistakes of encoding, straightens quotes, widths and
ligatures, and drops control characters. It is used where it is installed. Without it all but the first is done here,
and a text that looks mis-encoded gets a warning.
"""

import html
import importlib.util
import re
import unicodedata
import warnings
from html.entities import html5

ENTITY = re.compile("&#?[0-9A-Za-z]{1,24};")
TERMINAL_ESCAPE = re.compile("\x1b\\[[0-9;]*[a-zA-Z]")
# Where bytes of UTF-8 were read as Windows-1252: one that begins a character, and one that continues it.
CONTINUATION = "".join(bytes([code]).decode("cp1252", "ignore") for code in range(0x80, 0xC0))
MISREAD = re.compile(f"[\xc2-\xf4][\x80-\x9f{re.escape(CONTINUATION)}]|[\xc2\xc3] ")


def cleaned(text: str) -> str:
    """Clean a text as CLIP's tokenizer does: repaired, HTML's entities read, one space between words, no capitals."""
    if importlib.util.find_spec("ftfy"):
        import ftfy

        text = ftfy.fix_text(text)
    else:
        text = _repaired(text)
    return " ".join(html.unescape(html.unescape(text)).split()).lower()


def _repaired(text):
    """Do what `ftfy.fix_text` does to a text whose encoding is right, a line at a time."""
    if MISREAD.search(text):
        warnings.warn(
            f"a text looks as if its encoding had been mistaken ({text[:60]!r}), which CLIP's own tokenizer repairs: "
            "for the same tokens, run `pip install ftfy`",
            stacklevel=2,
        )
    lines, reads_entities = [], True
    for line in text.split("\n"):
        reads_entities = reads_entities and "<" not in line  # it may be HTML from here on, which keeps its entities
        lines.append(_repaired_line(line, reads_entities))
    return "\n".join(lines)


def _repaired_line(line, reads_entities):
    while True:
        before = line
        if reads_entities:
            line = ENTITY.sub(_read_entity, line)
        line = TERMINAL_ESCAPE.sub("", _whole_characters(line).translate(REPLACED)).translate(DROPPED)
        line = unicodedata.normalize("NFC", line)
        if line == before:
            return line


def _read_entity(match):
    entity, name = match.group(), match.group()[1:]
    if name.startswith("#"):
        read = html.unescape(entity)
        return entity if ";" in read else read
    if name not in html5 and name.isupper() and html.unescape(entity) == entity:
        return html5.get(name.lower(), entity).upper()
    return html5.get(name, entity)


def _whole_characters(text):
    """Join halves of characters that UTF-16 had split; a half alone becomes the sign of a lost character."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _replacements():
    """Say what stands for a character: plain quotes, full width, letters of ligatures, what Windows means by a byte."""
    table = {code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFF01, 0xFFF0)}
    table[0x3000] = " "
    table |= {code: bytes([code]).decode("cp1252", "ignore") or chr(code) for code in range(0x80, 0xA0)}
    table |= dict.fromkeys([0x2BC, *range(0x2018, 0x201C)], "'") | dict.fromkeys(range(0x201C, 0x2020), '"')
    ligatures = (0x132, 0x133, *range(0x1C4, 0x1CD), *range(0x1F1, 0x1F4), *range(0xFB00, 0xFB07))
    # One step of decomposition, after which a hook and a long s are still there.
    parts = {code: unicodedata.decomposition(chr(code)).split()[1:] for code in ligatures}
    table |= {code: "".join(chr(int(part, 16)) for part in letters) for code, letters in parts.items()}
    return table | {0x149: "\u02bcn"}


REPLACED = _replacements()
DROPPED = dict.fromkeys(
    [*range(0x09), 0x0B, *range(0x0E, 0x20), 0x7F, *range(0x206A, 0x2070), 0xFEFF, *range(0xFFF9, 0xFFFD)]
)

import re
import unicodedata

import pytest

from diffprog._util.file_names import file_name


@pytest.mark.parametrize("text", ["pixel", "blocks.5", "conv_0", "a-b.c", "00012", "_"])
def test_a_plain_name_stands_for_itself(text):
    assert file_name(text) == text


HARD = ["a:3", "a 3", "a_3", "A:3", "a/3", "a\\3", "a*3", "../a", "..", ".", "", " ", ".hidden", "end.", "end ", "-x"]
HARD += ["nul", "NUL", "nul.b", "COM1", "con", "x" * 300, "x" * 301, "ä" * 200, "é", unicodedata.normalize("NFD", "é")]
HARD += ["line\nbreak", "\0", "\ud800", "猫", "PIXEL", "Pixel", "contact_sheet", "a.example0", "a.example1"]
HARD.append(file_name("a:3"))  # the name of another


def test_every_text_has_a_name_of_its_own_that_every_file_system_takes():
    names = [file_name(text, reserved=("contact_sheet",)) for text in HARD]
    folded = {unicodedata.normalize("NFD", name).casefold() for name in names}
    assert len(folded) == len(HARD)
    for name in names:
        assert 0 < len(name.encode()) <= 91 and not re.search(r'[<>:"/\\|?*\x00-\x1f ]', name)
        assert not name.startswith((".", "-")) and not name.endswith(".")
        assert name.partition(".")[0].lower() not in {"con", "nul", "com1"}
    assert "contact_sheet" not in names and "contact_sheet" == file_name("contact_sheet")
    assert re.fullmatch(r"a_3-[0-9a-f]{10}", file_name("a:3"))

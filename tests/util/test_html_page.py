"""Pages and pictures in them, read again with other libraries."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from diffprog._util.html_page import embed_picture, fill, html_page, read_asset, script_json


def test_a_page_has_its_parts_and_what_is_filled_in_is_never_searched():
    page = html_page("a < $body", "<p>$script ${style}</p>", style="p { color: red }", script="const x = `${1}$title`;")
    assert page.startswith("<!doctype html>\n") and page.count("<title>a &lt; $body</title>") == 1
    assert "<body>\n<p>$script ${style}</p>\n<script>" in page and "const x = `${1}$title`;" in page
    style = re.search("<style>(.*)</style>", page, re.S).group(1)
    assert style.strip() == read_asset("diffprog._util", "base.css") + "\np { color: red }"
    assert "<script>" not in html_page("", "", style="")
    opened = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: opened.append((tag, dict(attributes)))
    parser.feed(page)
    assert [tag for tag, _ in opened] == "html head meta meta meta title link style body p script".split()
    policy = opened[4][1]["content"]
    assert policy.startswith("default-src 'none'; ") and "http" not in policy


def test_a_template_without_its_part_is_an_error():
    assert fill("$a-${b}$$", a="$b", b="1") == "$b-1$"
    with pytest.raises(KeyError):
        fill("$a", b="")


def test_nothing_in_json_ends_the_script():
    nasty = "</script><!-- \u2028\u2029 ]]> & \\ \" ' \x00"
    text = script_json({"x": nasty})
    assert not re.search("[<>&\u2028\u2029]", text) and json.loads(text) == {"x": nasty}


def decoded(picture):
    kind, data = re.fullmatch("data:image/(png|jpeg);base64,(.*)", picture.uri).groups()
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.format.lower() == kind and image.size == (picture.width, picture.height)
    return np.asarray(image)


def test_pictures_are_their_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decoded(embed_picture(pixels)), pixels)
    for gray in (pixels[..., :1], pixels[..., 0]):
        np.testing.assert_array_equal(decoded(embed_picture(gray, 9)), pixels[..., 0])
    large = np.kron(pixels, np.ones((4, 4, 1), np.uint8))
    np.testing.assert_array_equal(decoded(embed_picture(large, 9)), pixels)  # means of equal pixels
    smooth = np.broadcast_to(np.arange(0, 240, 8, dtype=np.uint8)[:, None, None], (30, 20, 3))
    found = decoded(embed_picture(smooth, jpeg_quality=92))
    assert np.abs(found.astype(int) - smooth).max() <= 4
    assert embed_picture(pixels).tag('"a"', "hidden").endswith(' alt="&quot;a&quot;" width="9" height="6" hidden>')

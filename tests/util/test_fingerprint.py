"""Fingerprints are those that hashlib gives of the encoding that the docstring describes, written by hand."""

import subprocess
import sys
from hashlib import sha256
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog._util.fingerprint import fingerprint


def by_hand(encoding):
    return sha256(b"sequence:1:" + encoding).hexdigest()[:32]


class Pair(NamedTuple):
    left: int
    right: str


@pytest.mark.parametrize(
    ("value", "encoding"),
    [
        (None, b"NoneType:4:None"),
        (True, b"bool:4:True"),
        (7, b"int:1:7"),
        (0.5, b"float:3:0.5"),
        (1 + 2j, b"complex:6:(1+2j)"),
        ("é:1", "str:6:'é:1'".encode()),
        (b"\x00a", b"bytes:8:b'\\x00a'"),
        (np.float32([[1, 2], [3, 4]]), b"array:float32[2, 2]:16:" + np.array([1, 2, 3, 4], "<f4").tobytes()),
        (np.int16(3), b"array:int16[]:2:\x03\x00"),
        (jnp.zeros((0, 3), jnp.bfloat16), b"array:bfloat16[0, 3]:0:"),
        (jnp.ones(2, jnp.bfloat16), b"array:bfloat16[2]:4:\x80\x3f\x80\x3f"),
        (jax.random.key(3), b"key:fry:array:uint32[2]:8:" + np.array([0, 3], "<u4").tobytes()),
        ([1, (2, "a")], b"sequence:2:int:1:1sequence:2:int:1:2str:3:'a'"),
        (Pair(1, "a"), b"sequence:2:int:1:1str:3:'a'"),
        ({"b": 1, "a": [2]}, b"dict:2:str:3:'a'sequence:1:int:1:2str:3:'b'int:1:1"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else type(value).__name__,
)
def test_what_enters_is_what_the_docstring_says(value, encoding):
    if encoding.startswith(b"key:fry:"):
        encoding = encoding.replace(b"fry", str(jax.random.key_impl(value)).encode(), 1)
    assert fingerprint(value) == by_hand(encoding)


def test_what_is_equal_has_one_fingerprint_and_what_differs_has_another():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    alike = [array, array.copy(order="F"), array[:, ::-1][:, ::-1], jnp.asarray(array), array.astype(">f4")]
    assert len(set(map(fingerprint, alike))) == 1
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1}) and fingerprint([1, 2]) == fingerprint((1, 2))
    others = [array.reshape(3, 2), array.astype(np.float64), array + 1, array.tobytes(), array.tolist()]
    others += [0, False, 0.0, -0.0, "0", b"0", None, [], [[]], [0], [[0], 1], [0, 1], [[0, 1]], {}, {0: 1}, {1: 0}]
    others += [jax.random.key(0), jax.random.key_data(jax.random.key(0)), jax.random.key(0, impl="rbg")]
    assert len(set(map(fingerprint, [array, *others]))) == len(others) + 1
    assert fingerprint(1, 2) == sha256(b"sequence:2:int:1:1int:1:2").hexdigest()[:32]


@pytest.mark.parametrize("value", [len, object(), [lambda: 0], {"a": np.array([None])}, np.zeros(1, "f4,f4"), {1, 2}])
def test_what_has_no_content_is_refused(value):
    with pytest.raises(TypeError, match="has no content that a fingerprint can be taken of"):
        fingerprint(value)


def test_another_process_takes_the_same_fingerprint():
    code = "from diffprog._util.fingerprint import fingerprint; print(fingerprint('a', {'b': 1.5, 'c': [b'd']}))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == fingerprint("a", {"c": [b"d"], "b": 1.5})

"""Files of weights of any format: right arrays, or one sentence that names the format met."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from diffprog.models import WeightsError
from diffprog.models._weights_file import read_weights
from tests.models.torch_writer import stored, written, zipped

ARRAYS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array(3, np.int64), "c": np.zeros((0, 2))}
TENSORS, STORED = stored({"x": np.arange(12, dtype=np.float32).reshape(3, 4)})


def test_safetensors_have_the_arrays_that_their_library_wrote(tmp_path):
    save_file(ARRAYS, tmp_path / "x.safetensors", metadata={"format": "pt"})
    found = read_weights(tmp_path / "x.safetensors")
    assert found.format == "safetensors" and found.metadata == {"format": "pt"} and set(found.arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found.arrays[name], array, strict=True)


def safetensors(header, data):
    header = json.dumps(header).encode()
    return len(header).to_bytes(8, "little") + header + data


def test_brain_floats_are_read(tmp_path):
    """1.5 and -2 are 0x3fc0 and 0xc000, the upper halves of what they are as float32."""
    facts = {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}
    (tmp_path / "x").write_bytes(safetensors({"x": facts}, bytes.fromhex("c03f00c0")))
    assert read_weights(tmp_path / "x").arrays["x"].astype(np.float32).tolist() == [1.5, -2]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"data_offsets": [0, 12]}, r"x of shape \(2,\) has bytes 0 to 12 of 8: cut short\?"),
        ({"data_offsets": [-8, 0]}, "x of shape .* has bytes -8 to 0"),
        ({"shape": [1 << 62, 4]}, "x of shape .* has bytes 0 to 8"),
        ({"dtype": "F8_E4M3"}, "x has elements of the type F8_E4M3, which is not read"),
        ({"shape": None}, "not a whole safetensors file"),
    ],
)
def test_damaged_safetensors_are_refused(tmp_path, change, sentence):
    facts = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    (tmp_path / "x").write_bytes(safetensors({"x": facts | change}, bytes(8)))
    with pytest.raises(WeightsError, match=sentence):
        read_weights(tmp_path / "x")


@pytest.mark.parametrize(
    ("write", "format"),
    [
        (lambda: zipped(TENSORS, STORED), "PyTorch"),
        (lambda: written(TENSORS, STORED), "PyTorch"),
        (lambda: zipped(TENSORS, STORED, **{"constants.pkl": b"x"}), "TorchScript"),
    ],
)
def test_files_of_pytorch_are_told_apart(tmp_path, write, format):
    (tmp_path / "x.pt").write_bytes(write())
    found = read_weights(tmp_path / "x.pt")
    assert found.format == format
    np.testing.assert_array_equal(found.arrays["x"], np.arange(12).reshape(3, 4))


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("x", b"", "x is empty"),
        ("x", b"\x89HDF\r\n\x1a\n....", "an HDF5 file"),
        ("x", b"GGUF....", "a GGUF file"),
        ("x", b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS, .*run `git lfs pull`"),
        ("x", b"\n<!DOCTYPE html><html>", "a web page .*was the download refused"),
        ("x", b'{"weight_map": {}}', "a JSON file; of weights in several files it may be the list"),
        ("x.onnx", b"\x08\x07\x12", "an ONNX file"),
        ("x", b"\x01\x02", "of a format that is not known here; TorchScript archives, PyTorch's state dicts"),
        ("x", b"\x80\x04K\x01.", "x: the file is not a whole PyTorch weights file"),
        ("x", b"PK\x03\x04", "x: the file is not a whole PyTorch weights file"),
    ],
)
def test_other_files_are_named(tmp_path, name, data, sentence):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(WeightsError, match=sentence):
        read_weights(tmp_path / name)


def test_an_archive_of_numpy_is_named(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros(2))
    with pytest.raises(WeightsError, match=r"zip archive that PyTorch did not write: it holds a\.npy"):
        read_weights(tmp_path / "x.npz")


def test_a_missing_file_or_a_folder_is_named(tmp_path):
    for path, why in ((tmp_path / "none.pt", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(WeightsError, match=f"cannot be read .{why}.*: give the path of a file of weights"):
            read_weights(path)

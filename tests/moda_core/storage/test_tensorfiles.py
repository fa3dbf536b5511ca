import json
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save_file

from moda_core.errors import Corrupt, InvalidInput, NotFound, UnreadableFile
from moda_core.storage.tensorfiles import DTYPES, check_content, load_tensors, read_header, save_tensors

META = {"z": [1, 2.5, None], "a": {"ü": "text"}}


def some_tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(), (0, 3), (1,), (2, 3), (3, 1, 2)]
    return {
        f"{name}/{shape}": torch.randint(0, 2, shape, generator=generator).to(dtype)
        for name, dtype in DTYPES.items()
        for shape in shapes
    }


def test_the_library_reads_what_is_written_and_every_tensor_is_aligned(tmp_path: Path) -> None:
    tensors = some_tensors()
    data = save_tensors(tensors, META)
    read = load(data)
    assert set(read) == set(tensors)
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)
    (tmp_path / "file").write_bytes(data)
    header = read_header(tmp_path / "file")
    assert all((header.data_begin + i.begin) % max(1, i.dtype.itemsize) == 0 for i in header.tensors.values())
    assert header.meta == META


def test_tensors_are_read_back_equal(tmp_path: Path) -> None:
    tensors = some_tensors()
    (tmp_path / "file").write_bytes(save_tensors(tensors, META))
    read = load_tensors(tmp_path / "file")
    assert set(read) == set(tensors)
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())


def test_equal_content_has_equal_bytes_in_any_order_and_layout() -> None:
    tensors = {"a": torch.arange(6).reshape(2, 3), "b": torch.ones(2)}
    turned = {"b": torch.ones(4)[::2], "a": torch.arange(6).reshape(2, 3).t().contiguous().t()}
    assert save_tensors(tensors, {"x": 1, "y": 2}) == save_tensors(turned, {"y": 2, "x": 1})
    assert save_tensors(tensors, {"x": 1}) != save_tensors(tensors, {"x": 2})


@settings(max_examples=30)
@given(
    name=st.text(max_size=20).filter(lambda name: name.isprintable() and name != "__metadata__"),
    value=st.text(max_size=20),
)
def test_any_printable_name_and_any_text_survive(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: str
) -> None:
    path = tmp_path_factory.mktemp("any") / "file"
    path.write_bytes(save_tensors({name: torch.ones(1)}, {"value": value}))
    assert set(load_tensors(path)) == {name}
    assert read_header(path).meta == {"value": value}


def test_types_that_the_format_lacks_are_refused() -> None:
    with pytest.raises(InvalidInput, match="complex"):
        save_tensors({"a": torch.zeros(1, dtype=torch.complex64)}, {})
    with pytest.raises(InvalidInput):
        save_tensors({"__metadata__": torch.zeros(1)}, {})


def test_altered_data_is_corrupt_and_missing_files_are_not_found(tmp_path: Path) -> None:
    path = tmp_path / "file"
    data = save_tensors({"a": torch.arange(4)}, META)
    path.write_bytes(data[:-1] + b"x")
    with pytest.raises(Corrupt):
        load_tensors(path)
    assert load_tensors(path, verify=False)["a"][:3].tolist() == [0, 1, 2]
    with pytest.raises(NotFound):
        read_header(tmp_path / "absent")


def test_an_altered_description_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "file"
    data = save_tensors({"a": torch.arange(4)}, {"label": "cat"})
    path.write_bytes(data.replace(b"cat", b"dog"))
    with pytest.raises(Corrupt):
        check_content(path, read_header(path))


@pytest.mark.parametrize("name", ["\ud800x", "a\nb", "\x1b[31m"])
def test_names_that_cannot_be_printed_are_refused_in_words_that_can(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput):
        save_tensors({name: torch.zeros(4, dtype=torch.uint8)}, {})
    (tmp_path / "file").write_bytes(header_and({name: u8(0, 4, 4)}, b"abcd"))
    with pytest.raises(UnreadableFile, match="cannot be printed") as caught:
        read_header(tmp_path / "file")
    assert str(caught.value).isprintable()
    assert str(caught.value).encode()


@pytest.mark.parametrize("meta", [{"content": "0", "\ud800": 1}, {"content": "0", "labels": ["\udfff"]}])
def test_half_a_surrogate_pair_in_the_metadata_is_unreadable(tmp_path: Path, meta: dict) -> None:
    (tmp_path / "file").write_bytes(header_and({}, b"", metadata={"moda": json.dumps(meta)}))
    with pytest.raises(UnreadableFile, match="surrogates") as caught:
        read_header(tmp_path / "file")
    assert str(caught.value).encode()


def test_a_shape_of_thousands_of_axes_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(header_and({"a": u8(0, 4, *[2**47] * 80_000)}, b"abcd"))
    begin = time.process_time()
    with pytest.raises(UnreadableFile, match="80000 axes"):
        read_header(tmp_path / "file")
    assert time.process_time() - begin < 2


def header_and(tensors: dict, data: bytes, metadata: object = None) -> bytes:
    metadata = {"moda": json.dumps({"content": "0" * 64})} if metadata is None else metadata
    text = json.dumps({"__metadata__": metadata, **tensors}).encode()
    return len(text).to_bytes(8, "little") + text + data


def u8(begin: object, end: object, *shape: object) -> dict:
    return {"dtype": "U8", "shape": list(shape), "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text, not tensors, and rather long",
        (2**63).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (1).to_bytes(8, "little") + b"\xff",
        header_and({}, b"", metadata=[]),
        header_and({}, b"", metadata={}),
        header_and({}, b"", metadata={"moda": "{}"}),
        header_and({}, b"", metadata={"moda": "[]"}),
        header_and({}, b"", metadata={"moda": "{"}),
        header_and({}, b"", metadata={"moda": json.dumps({"content": "0"}), "more": ""}),
        header_and({}, b"more"),
        header_and({"a": u8(0, 4, 4)}, b"abc"),
        header_and({"a": u8(0, 4, 5)}, b"abcd"),
        header_and({"a": u8(0, 4, -4)}, b"abcd"),
        header_and({"a": u8(0, 4, True, 4)}, b"abcd"),
        header_and({"a": u8(0, 4, 2**40, 2**40)}, b"abcd"),
        header_and({"a": u8(0, 4, 4), "b": u8(0, 4, 4)}, b"abcd"),
        header_and({"a": u8(0, 2, 2), "b": u8(3, 4, 1)}, b"abcd"),
        header_and({"a": u8(-4, 0, 4)}, b"abcd"),
        header_and({"a": u8(0, 4.0, 4)}, b"abcd"),
        header_and({"a": {"dtype": "X", "shape": [4], "data_offsets": [0, 4]}}, b"abcd"),
        header_and({"a": {"dtype": ["U8"], "shape": [4], "data_offsets": [0, 4]}}, b"abcd"),
        header_and({"a": {"dtype": "U8", "shape": 4, "data_offsets": [0, 4]}}, b"abcd"),
        header_and({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0]}}, b"abcd"),
        header_and({"a": []}, b"abcd"),
        header_and({"a": None}, b"abcd"),
    ],
)
def test_files_of_another_form_are_unreadable(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(UnreadableFile):
        read_header(tmp_path / "file")


def test_a_file_of_the_library_without_our_metadata_is_unreadable(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "file")
    with pytest.raises(UnreadableFile, match="metadata"):
        read_header(tmp_path / "file")


def test_a_lone_element_of_any_stride_is_stored(tmp_path: Path) -> None:
    lone = torch.tensor([7, 8]).as_strided((1,), (0,))
    file = tmp_path / "lone.safetensors"
    file.write_bytes(save_tensors({"lone": lone}, {}))
    assert load_tensors(file)["lone"].tolist() == [7]

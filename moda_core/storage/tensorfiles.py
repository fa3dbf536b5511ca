"""Safetensors files, laid out byte for byte, and checked before they are trusted.

A file of ours has exactly one metadata key, ``moda``, whose value is canonical JSON (the library writes
several keys in random order), and is laid out here, not by the library, so that equal content has equal
bytes under every version of it. Among the metadata stands ``content``, the SHA-256 over everything else
in the file: a lone file can so be checked without a registry.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Shaped
from safetensors import SafetensorError, safe_open
from torch import Tensor

from moda_core.errors import Corrupt, InvalidInput, NotFound, StorageFailure, UnreadableFile
from moda_core.files import parse_json, storing
from moda_core.specs import canonical_json, sha256

__all__ = ["DTYPES", "Header", "TensorInfo", "Tensors", "check_content", "load_tensors", "read_header", "save_tensors"]

Tensors = Mapping[str, Shaped[Tensor, "..."]]
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_METADATA = "__metadata__"
_LARGEST_HEADER_BYTES = 64 * 2**20
_MOST_AXES = 8
_CHUNK_BYTES = 4 * 2**20
_REMEDY = "use a safetensors file that MODA wrote"


@dataclass(frozen=True)
class TensorInfo:
    """A tensor before it is loaded; `begin` and `end` count bytes from the end of the header."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int

    def to_json(self) -> dict[str, Any]:
        """As it stands in a safetensors header."""
        shape = list(self.shape)
        return {"dtype": _DTYPE_NAMES[self.dtype], "shape": shape, "data_offsets": [self.begin, self.end]}


@dataclass(frozen=True)
class Header:
    """What a safetensors file says about itself, checked against its length.

    Attributes:
        meta: the JSON under ``moda``, without ``content``.
        content: the SHA-256 that the file claims for the rest of itself.
        data_begin: bytes before the first tensor.
    """

    tensors: Mapping[str, TensorInfo]
    meta: Mapping[str, Any]
    content: str
    data_begin: int


def save_tensors(tensors: Tensors, meta: Mapping[str, Any]) -> bytes:
    """A safetensors file: the same bytes for the same content, in whatever order it is given.

    Raises:
        InvalidInput: for a tensor type that the format does not know, or a name that cannot be printed.
    """
    # Widest elements first: then every tensor lies at a multiple of its element's size, for mapping.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    infos, parts, begin = {}, [], 0
    for name in names:
        tensor = tensors[name].detach().cpu().contiguous()
        if tensor.dtype not in _DTYPE_NAMES or name == _METADATA or not name.isprintable():
            known = ", ".join(map(str, _DTYPE_NAMES))
            raise InvalidInput(name, tensor.dtype, "cannot be stored", f"use a printable name, and one of {known}")
        # A lone element may have any stride and still be contiguous, but only stride 1 can be seen as bytes.
        part = tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8).numpy().data
        infos[name] = TensorInfo(tensor.dtype, tuple(tensor.shape), begin, begin + part.nbytes)
        parts.append(part)
        begin += part.nbytes
    content = _content_hash(infos, meta)
    for part in parts:
        content.update(part)
    return b"".join([_header_bytes(infos, {**meta, "content": content.hexdigest()}), *parts])


def _header_bytes(infos: Mapping[str, TensorInfo], meta: Mapping[str, Any]) -> bytes:
    listed = {name: info.to_json() for name, info in infos.items()}
    text = canonical_json({_METADATA: {"moda": canonical_json(meta)}, **listed}).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _content_hash(infos: Mapping[str, TensorInfo], meta: Mapping[str, Any]) -> hashlib._Hash:
    listed = {name: info.to_json() for name, info in infos.items()}
    return hashlib.sha256(sha256(canonical_json({"meta": meta, "tensors": listed})).encode())


def read_header(path: Path) -> Header:
    """Read and check everything but the tensors' bytes: no byte of theirs is touched.

    Raises:
        NotFound: without such a file.
        UnreadableFile: for a file that is not of our form, or not whole.
    """
    try:
        with storing(path), path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _LARGEST_HEADER_BYTES):
                raise ValueError("its first 8 bytes are not the length of a header")
            return _parse_header(file.read(length), size)
    except StorageFailure as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise NotFound("file", path.name, "check the path") from error
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadableFile("file", path.name, f"not a whole safetensors file of MODA: {error}", _REMEDY) from error


def _parse_header(text: bytes, size_bytes: int) -> Header:
    entries = parse_json(text)
    if not isinstance(entries, dict):
        raise ValueError("the header is not an object")  # noqa: TRY004 - one kind for all that is unreadable
    metadata = entries.pop(_METADATA, None)
    if not isinstance(metadata, dict) or list(metadata) != ["moda"]:
        raise ValueError("its metadata is not the one key 'moda'")
    meta = parse_json(metadata["moda"])
    canonical_json(meta).encode()  # half a surrogate pair is JSON, but no text: nobody could print or hash it
    content = meta.pop("content", None) if isinstance(meta, dict) else None
    if not isinstance(content, str):
        raise ValueError("its metadata does not state the digest of its content")  # noqa: TRY004
    infos = {name: _tensor_info(name, entry) for name, entry in entries.items()}
    data_begin = 8 + len(text)
    _check_layout(infos, size_bytes - data_begin)
    return Header(infos, meta, content, data_begin)


def _tensor_info(name: str, entry: Mapping[str, Any]) -> TensorInfo:
    if not name.isprintable():
        raise ValueError(f"tensor {name!r} has a name that cannot be printed")
    if set(entry) != {"dtype", "shape", "data_offsets"} or entry["dtype"] not in DTYPES:
        raise ValueError(f"tensor {name!r} is not described as the format asks")
    begin, end = entry["data_offsets"]
    shape = entry["shape"]
    if len(shape) > _MOST_AXES:  # before the product: of many long numbers it takes minutes
        raise ValueError(f"tensor {name!r} has {len(shape)} axes, more than {_MOST_AXES}")
    numbers = [begin, end, *shape]
    if not all(type(number) is int and 0 <= number < 2**48 for number in numbers):
        raise ValueError(f"tensor {name!r} has an impossible shape or place")
    info = TensorInfo(DTYPES[entry["dtype"]], tuple(shape), begin, end)
    if end - begin != math.prod(shape) * info.dtype.itemsize:
        raise ValueError(f"tensor {name!r} has other bytes than its shape asks for")
    return info


def _check_layout(infos: Mapping[str, TensorInfo], data_bytes: int) -> None:
    """The tensors' bytes must follow each other without gap or overlap, and be all there."""
    places = [(0, 0), *sorted((info.begin, info.end) for info in infos.values()), (data_bytes, data_bytes)]
    if any(end != begin for (_, end), (begin, _) in pairwise(places)):
        raise ValueError("its tensors do not fill the file exactly (was it cut off?)")


def check_content(path: Path, header: Header) -> None:
    """Compare a file's bytes with the digest in its own metadata.

    Raises:
        Corrupt: when they differ.
    """
    content = _content_hash(header.tensors, header.meta)
    with storing(path), path.open("rb") as file:
        file.seek(header.data_begin)
        while chunk := file.read(_CHUNK_BYTES):
            content.update(chunk)
    if content.hexdigest() != header.content:
        raise Corrupt(f"the bytes of {path.name} differ from the digest inside it", "fetch or write the file again")


def load_tensors(path: Path, header: Header | None = None, *, verify: bool = True) -> dict[str, Shaped[Tensor, "..."]]:
    """The tensors of a file, mapped into memory: read when touched, shared by the processes of a host.

    With `verify`, the bytes are compared with the digest inside the file first. `header` saves reading
    it again where the caller has checked it.

    Raises:
        Corrupt, NotFound, UnreadableFile: as `check_content` and `read_header`.
    """
    header = header or read_header(path)
    if verify:
        check_content(path, header)
    try:
        with storing(path), safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in header.tensors}
    except SafetensorError as error:
        raise UnreadableFile("file", path.name, f"not a safetensors file: {error}", _REMEDY) from error

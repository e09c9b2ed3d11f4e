"""Read weights files one tensor at a time, without copying a whole file.

A file's content is known before large reads. safetensors files and `.pth` files of tensors alike are mapped into
memory. Nothing else is unpickled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from faceid.errors import ModelError
from faceid.files.documents import is_file_name
from faceid.files.given_paths import why_no_file
from faceid.files.provenance import sha256_json
from faceid.models.base.model_json import read_model_json
from faceid.tensor_files import TensorFileError, load_plain

_LFS_POINTER = b"version https://git-lfs"
# Values of each tensor in the hash. They suffice, because training a tensor moves nearly all of it.
_SAMPLE = 256


@dataclass(frozen=True)
class WeightsFile:
    """One file of tensors. shapes: by name, as they are in the file. Raises: ModelError naming the file."""

    path: Path
    shapes: dict[str, tuple[int, ...]] = field(repr=False)

    @classmethod
    def open(cls, path: Path) -> WeightsFile:
        """Read which tensors it holds, and check that it is complete."""
        _refuse_what_is_no_file(path)
        if path.suffix == ".safetensors":
            with _open_safetensors(path) as file:
                slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (a safe_open is no dict)
                for name, each in slices.items():
                    if not each.get_dtype().startswith(("F", "BF")):
                        raise _no_weights(str(path), name, each.get_dtype())
                return cls(path, {name: tuple(each.get_shape()) for name, each in slices.items()})
        mapped = _map_pth(path)
        for name, tensor in mapped.items():
            if not tensor.is_floating_point():
                raise _no_weights(str(path), name, _dtype_name(tensor))
        return cls(path, {name: tuple(tensor.shape) for name, tensor in mapped.items()})

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor, mapped into memory."""
        if self.path.suffix == ".safetensors":
            with _open_safetensors(self.path) as file:
                for name in self.shapes:
                    yield name, file.get_tensor(name)
        else:
            yield from _map_pth(self.path).items()


def lifted(tensor: Tensor, name: str, source: str) -> Tensor:
    """A tensor of a file in a type with which torch can compute. 8-bit floats become float32; wider ones stay.

    Raises: ModelError naming a tensor of whole numbers, whose meaning is not in the file, or one that is not finite.
    """
    if not tensor.is_floating_point():
        raise _no_weights(source, name, _dtype_name(tensor))
    if tensor.element_size() == 1:
        try:
            tensor = tensor.float()
        except NotImplementedError as error:
            # A format with two 4-bit numbers in a byte shows only in the tensor's dtype name.
            raise _no_weights(source, name, _dtype_name(tensor)) from error
    check_finite(_as_read(tensor), name, source)
    return tensor


def check_finite(tensor: Tensor, name: str, source: str) -> None:
    """Raises: ModelError naming a tensor that holds a NaN or an infinite number.

    The sum is checked first, at a fraction of the cost of each number. Only if it is not finite is each number checked.
    """
    if not torch.isfinite(tensor.sum()) and not torch.isfinite(tensor).all():
        count = int((~torch.isfinite(tensor)).sum())
        raise ModelError(
            f"{source}: {name} has {count} of {tensor.numel()} numbers that are not finite (NaN or infinite); the file "
            "is damaged or its training failed: get it again"
        )


def check_result(tensor: Tensor, name: str, source: str) -> Tensor:
    """A computed tensor, if other programs can compute with it. Raises: ModelError naming one that is not finite."""
    read_as = _as_read(tensor)
    if not torch.isfinite(read_as).all():
        count = int((~torch.isfinite(read_as)).sum())
        raise ModelError(
            f"{source}: {name} comes out with {count} of {tensor.numel()} numbers that are not finite in "
            f"{_dtype_name(read_as)}: the LoRA's numbers or its scale are too large; nothing is written"
        )
    return tensor


def _as_read(tensor: Tensor) -> Tensor:
    """A tensor as every program computes with it. Values of a wider type have to fit into float32."""
    return tensor if tensor.element_size() <= 4 else tensor.float()


class FiniteCheck:
    """Check that many tensors are finite, with one question to the device: by each tensor's sum, as it is loaded."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._sums: list[tuple[str, Tensor, Tensor]] = []

    def add(self, name: str, tensor: Tensor) -> None:
        """Sum up one tensor on its device. Nothing waits for the result."""
        computed = tensor if tensor.element_size() > 1 else tensor.float()
        self._sums.append((name, tensor, computed.sum().float()))

    def finish(self) -> None:
        """Raises: ModelError naming the first tensor with a NaN or an infinite number."""
        if self._sums and not torch.isfinite(torch.stack([total for _, _, total in self._sums])).all():
            for name, tensor, total in self._sums:
                if not torch.isfinite(total):
                    check_finite(tensor if tensor.element_size() > 1 else tensor.float(), name, self.source)


def digest_of(files: Sequence[WeightsFile], names: Mapping[str, str], dtype: torch.dtype) -> str:
    """Hex sha256 over the name, shape and middle values of every tensor, independent of files and order.

    names: a tensor's name in the model by its name in the file. dtype: the values are rounded to it first.
    """
    samples = {}
    for file in files:
        for name, tensor in file.tensors():
            begin = max((tensor.numel() - _SAMPLE) // 2, 0)
            values = tensor.flatten()[begin : begin + _SAMPLE].to(dtype).float()
            samples[names[name]] = [list(tensor.shape), values.numpy().tobytes().hex()]
    return sha256_json(samples)


def sharded_files(folder: Path, stem: str) -> list[Path]:
    """`STEM.safetensors`, or the shards listed in `STEM.safetensors.index.json`.

    Raises: ModelError when there is neither, or naming a missing shard.
    """
    index = folder / f"{stem}.safetensors.index.json"
    if index.is_file():
        weight_map = read_model_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise ModelError(f"{index}: cannot be read: no list of files in it")
        for name, file in weight_map.items():
            if not is_file_name(file):
                raise ModelError(
                    f"{index}: {name[:80]!r} is in {str(file)[:80]!r}: must be the name of a file in {folder}"
                )
        files = [folder / name for name in sorted(set(weight_map.values()))]
    else:
        files = [folder / f"{stem}.safetensors"]
    for file in files:
        if (reason := why_no_file(file)) is not None:
            why = f"{index.name} lists {len(files)} files" if index.is_file() else f"nor is {index.name}"
            raise ModelError(f"{file}: {reason} ({why}); download the model again: it is not whole")
    return files


def shapes_of(files: Sequence[WeightsFile]) -> dict[str, tuple[int, ...]]:
    """The shapes in all files together. Raises: ModelError naming a tensor that is in two of them."""
    found: dict[str, tuple[int, ...]] = {}
    for file in files:
        twice = found.keys() & file.shapes.keys()
        if twice:
            raise ModelError(f"{file.path}: {min(twice)} is in another file as well; the files are of two models")
        found |= file.shapes
    return found


def _refuse_what_is_no_file(path: Path) -> None:
    if (reason := why_no_file(path)) is not None:
        raise ModelError(f"{path}: {reason}")
    with path.open("rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise ModelError(
                f"{path}: a Git LFS pointer, not the weights; get them with `git lfs pull`, or with `hf download`"
            )


def _open_safetensors(path: Path) -> Any:
    try:
        return safe_open(path, "pt")
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: cannot be read, cut short or another format: {error}") from error


def _no_weights(source: str, name: str, dtype: str) -> ModelError:
    return ModelError(f"{source}: {name} is {dtype}; quantised weights are not read: give plain ones")


def _dtype_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _map_pth(path: Path) -> dict[str, Tensor]:
    try:
        found = load_plain(path, mmap=True)
    except (TensorFileError, OSError) as error:
        raise ModelError(f"{path}: cannot be read, cut short, damaged, or more than tensors in it: {error}") from error
    is_by_name = isinstance(found, dict) and all(isinstance(n, str) and isinstance(t, Tensor) for n, t in found.items())
    if not is_by_name:
        raise ModelError(f"{path}: not a list of tensors by name; give the file as the Wan repository has it")
    # Many names may be of the same stored numbers. Two names of one tensor are allowed.
    if sum(tensor.numel() * tensor.element_size() for tensor in found.values()) > 2 * path.stat().st_size:
        raise ModelError(f"{path}: cannot be read, damaged: its tensors are larger than the file")
    return found

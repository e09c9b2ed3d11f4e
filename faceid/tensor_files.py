"""Read files of torch.save and safetensors that anybody may have written.

They may hold tensors and plain types, of bounded size. `torch.load(weights_only=True)` runs no code, but it makes
whatever the file asks for. That may be a tensor of a terabyte over four bytes, a bytearray of any length, or an entry
that unpacks to gigabytes. Here the pickle may name only a few constructors. An entry takes no more room than it has in
the file. No tensor shows more numbers than are stored.
"""

from __future__ import annotations

import pickletools
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from faceid.errors import FaceidError
from faceid.files.documents import values_within

# Description and structure take kilobytes in a file of ours, and 100 KB for a text encoder's 700 tensors.
LARGEST_PICKLE_BYTES = 64 << 20
# The constructors that torch.save names for tensors, parameters and plain types.
_ALLOWED = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "torch._tensor _rebuild_from_type_v2",
    "torch.nn.parameter Parameter",
    "torch Size",
    "torch Tensor",
    "_codecs encode",
    "__builtin__ set",
    *(
        f"torch {kind}Storage"
        for kind in "Float Double Half BFloat16 Long Int Short Char Byte Bool ComplexFloat ComplexDouble".split()
    ),
    *(f"torch {name}" for name in ("float8_e4m3fn", "float8_e5m2", "uint16", "uint32", "uint64")),
    "torch.storage UntypedStorage",
    "torch._utils _rebuild_tensor_v3",
}


class TensorFileError(FaceidError, ValueError):
    """A file that does not hold tensors and plain types. The caller adds which file and what to do."""


def save_plain(path: Path, content: Any) -> None:
    """Write tensors and plain types as torch.save does. Equal content gives equal bytes, whatever the file's name.

    With a path, torch.save writes the file's name into the file. Here that name is temporary and marks this machine.
    """
    with path.open("wb") as file:
        torch.save(content, file)


def load_plain(path: Path, mmap: bool = False) -> Any:
    """Read what torch.save wrote: tensors (on the CPU), dicts, lists, texts, numbers. mmap: only map the tensors.

    Raises: TensorFileError without the file's name; OSError.
    """
    _check_archive(path)
    try:
        # For protocols that it cannot read, torch warns first and then fails.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap or None)
    except (MemoryError, OSError):
        raise
    except Exception as error:
        # The first part of torch's message advises to run the file. It is cut off.
        reason = str(error).rpartition("WeightsUnpickler error:")[2].strip().partition("\n")[0]
        raise TensorFileError(
            f"damaged, or more than tensors and plain types ({type(error).__name__}: {reason})"
        ) from error
    _refuse_stretched(content)
    return content


def _check_archive(path: Path) -> None:
    """Require a zip whose entries are stored uncompressed, and whose pickles name only constructors of tensors."""
    size = path.stat().st_size
    # torch.save writes a zip. For anything else, the old format's reader may fail with any kind of error.
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > size or any(entry.compress_type for entry in entries):
                raise TensorFileError("its entries are packed; torch.save packs none")
            pickles = [entry for entry in entries if entry.filename.endswith(".pkl")]
            for entry in pickles:
                if entry.file_size > LARGEST_PICKLE_BYTES:
                    raise TensorFileError(f"{entry.filename} has {entry.file_size} bytes; tensors lie beside it")
                _check_pickle(archive.read(entry))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, OverflowError) as error:
        if isinstance(error, TensorFileError):
            raise
        raise TensorFileError(f"not a file of torch.save ({error})") from error


def _check_pickle(data: bytes) -> None:
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in ("GLOBAL", "INST") and argument not in _ALLOWED:
            raise TensorFileError(f"names {argument}; only tensors and plain types are read, nothing in a file is run")
        if isinstance(argument, int) and "PUT" in opcode.name and argument > len(data):
            raise TensorFileError("its pickle counts to more values than it has")


def _refuse_stretched(content: Any) -> None:
    for value in values_within(content):
        if isinstance(value, torch.Tensor) and (
            value.layout != torch.strided or value.numel() * value.element_size() > value.untyped_storage().nbytes()
        ):
            raise TensorFileError(f"a tensor {list(value.shape)} of more numbers than are stored")

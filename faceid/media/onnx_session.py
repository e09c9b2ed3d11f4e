"""Open a user's .onnx file with onnxruntime, the optional extra `onnx`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from faceid.errors import ModelError


def open_session(file: Path, device: str, key: str, device_key: str = "device") -> Any:
    """The session that runs a file on a device. key, device_key: the flags that gave both, for messages.

    Raises: ModelError when onnxruntime is not installed, has no such device, or cannot load the file.
    """
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as raised
    except ImportError as error:
        raise ModelError(f"{key}={file}: onnxruntime is not installed; run `pip install faceid[onnx]`") from error
    providers = ["CPUExecutionProvider"]
    if device.startswith("cuda"):
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise ModelError(f"{device_key}={device!r}: this onnxruntime has no CUDA; use cpu or onnxruntime-gpu")
        providers.insert(0, "CUDAExecutionProvider")
    kinds = "Fail InvalidArgument InvalidGraph InvalidProtobuf NoModel NotImplemented NoSuchFile RuntimeException"
    try:
        return onnxruntime.InferenceSession(str(file), providers=providers)
    except tuple(getattr(raised, kind) for kind in kinds.split()) as error:
        raise ModelError(f"{key}={file}: onnxruntime cannot load it: {error}") from error


def only_input(file: Path, session: Any, key: str, wanted: str) -> tuple[str, list[Any]]:
    """Name and shape of a model's one input, a picture. wanted: such an input in words.

    Raises: ModelError for other inputs, or a fixed batch.
    """
    inputs = session.get_inputs()
    shape = list(inputs[0].shape)
    if len(inputs) != 1 or len(shape) != 4 or 3 not in (shape[1], shape[3]) or inputs[0].type != "tensor(float)":
        found = [(entry.name, entry.type, entry.shape) for entry in inputs]
        raise ModelError(f"{key}={file}: inputs {found}; {wanted}")
    if isinstance(shape[0], int) and shape[0] != 1:
        raise ModelError(f"{key}={file}: fixed batch of {shape[0]}; export it with a batch of 1 or an open batch")
    return inputs[0].name, shape

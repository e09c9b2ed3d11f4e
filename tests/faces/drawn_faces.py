"""What the tests of this room draw and build: photos without people, and ONNX models with known answers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image


def draw_photo(path: Path, colour: tuple[int, int, int], seed: int, side_px: int = 160, contrast: int = 40) -> Path:
    """A coloured square with blocks of its own: sharp, and unlike that of every other seed."""
    blocks = np.random.default_rng(seed).integers(-contrast, contrast + 1, (16, 16, 1))
    pixels = np.clip(np.asarray(colour) + blocks, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).resize((side_px, side_px), Image.Resampling.NEAREST).save(path)
    return path


def write_colour_model(path: Path, shape: list) -> Path:
    """A recogniser whose embedding is the mean colour. shape: of its input, [N, 3, H, W] or [N, H, W, 3]."""
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, shape)
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [shape[0], 3])
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3] if shape[1] == 3 else [1, 2])
    node = helper.make_node("ReduceMean", ["picture", "axes"], ["embedding"], keepdims=0)
    graph = helper.make_graph([node], "mean_colour", [picture], [embedding], [axes])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))
    return path


def write_yunet_model(path: Path) -> Path:
    """A network with YuNet's inputs and outputs that sees a face of 24 px around each white 8x8 cell."""
    nodes, constants, outputs = [], [], []
    for stride in (8, 16, 32):
        for kind, channels in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
            name = f"{kind}_{stride}"
            weight = np.zeros((channels, 3, stride, stride), np.float32)
            bias = np.zeros(channels, np.float32)
            if stride == 8 and kind in ("cls", "obj"):
                weight[:] = 1 / (3 * 8 * 8 * 255)
            if kind == "bbox":
                bias[2:] = math.log(24 / stride)
            constants += [
                helper.make_tensor(f"{name}_weight", TensorProto.FLOAT, weight.shape, weight.ravel()),
                helper.make_tensor(f"{name}_bias", TensorProto.FLOAT, bias.shape, bias),
                helper.make_tensor(f"{name}_shape", TensorProto.INT64, [3], [1, -1, channels]),
            ]
            sides = {"strides": [stride, stride], "kernel_shape": [stride, stride]}
            nodes += [
                helper.make_node("Conv", ["input", f"{name}_weight", f"{name}_bias"], [f"{name}_map"], **sides),
                helper.make_node("Transpose", [f"{name}_map"], [f"{name}_last"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [f"{name}_last", f"{name}_shape"], [name]),
            ]
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, (64 // stride) ** 2, channels]))
    picture = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 64, 64])
    graph = helper.make_graph(nodes, "yunet", [picture], outputs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path

"""What the tests of this room draw: toy people as "renders" in the layout of sample.py --batch, and ONNX models.

The "renders" of a good arm are clips of the right person, those of a bad arm clips of somebody else, so every score has
a known side. Nobody in them is real.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image

from faceid.config import build_sections
from faceid.evaluation.evaluation_sections import SECTIONS, EvaluationSections
from faceid.files.provenance import sha256_file
from faceid.media.video import write_video
from faceid.toy.dance import dance_joints
from faceid.toy.people import draw_nuisance, draw_person
from faceid.toy.render import drawn_head_boxes, render_clip, render_photo

SIZE_HW, NUM_FRAMES = (64, 64), 5
# Four people whom a recogniser of colours can tell apart; d01 dances in the driving clips.
LOOKS = {
    "ann": {"skin": 0.0, "headwear": "bald"},
    "bob": {"skin": 1.0, "headwear": "beanie", "hat_colour": 0.3},
    "d01": {"skin": 0.3, "headwear": "long", "hair_colour": 0.72},
    "eve": {"skin": 0.6, "headwear": "afro", "hair_colour": 0.86},
}
PEOPLE = {
    name: dataclasses.replace(draw_person(number), glasses="none", **look)
    for number, (name, look) in enumerate(LOOKS.items())
}
CLIPS = {"gBR_sBM_c01_d01_mBR0_ch01": "BR", "gPO_sBM_c01_d01_mPO1_ch02": "PO"}


def the_given(identity: str) -> str:
    """What a perfect recipe shows."""
    return identity


def write_references(folder: Path, num_photos: int = 2, first_seed: int = 100) -> Path:
    """Photos of everybody, one subfolder each."""
    for name, person in PEOPLE.items():
        (folder / name).mkdir(parents=True)
        for index in range(num_photos):
            photo = render_photo(person, first_seed + index, 96)
            Image.fromarray(photo).save(folder / name / f"{index}.png")
    return folder


def joints_of(clip: str) -> np.ndarray:
    return dance_joints(CLIPS[clip], list(CLIPS).index(clip), NUM_FRAMES, SIZE_HW)


def write_controls(folder: Path) -> Path:
    """Head boxes and joints of every clip."""
    folder.mkdir(parents=True)
    for clip in CLIPS:
        boxes = {"boxes": drawn_head_boxes(joints_of(clip), SIZE_HW)}
        (folder / f"{clip}.heads.json").write_text(json.dumps(boxes))
        joints = {"joints": joints_of(clip).tolist(), "size_hw": list(SIZE_HW)}
        (folder / f"{clip}.joints.json").write_text(json.dumps(joints))
    return folder


def write_arm(
    folder: Path,
    identities: list[str],
    shown: Callable[[str], str] = the_given,
    face_scale: float = 1.0,
    seeds: tuple[int, ...] = (1,),
) -> Path:
    """One arm as sample.py --batch writes it. shown: the person in the pixels, by the person given ("" for none)."""
    rows = []
    for identity in identities:
        for clip in CLIPS:
            for seed in seeds:
                output = Path(identity) / f"{clip}_pose_{seed}.mp4"
                frames = render_clip(PEOPLE[shown(identity)], joints_of(clip), draw_nuisance(seed), SIZE_HW)
                write_video(folder / output, frames, 16)
                row = {"pose": f"{clip}_pose.mp4", "output": str(output), "identity": identity, "seed": seed}
                sha256 = sha256_file(folder / output)
                rows.append({**row, "face_scale": face_scale, "sha256": sha256, "error": ""})
    write_jobs(folder, rows)
    return folder


def write_jobs(folder: Path, rows: list[dict]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "jobs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def sections_of(flags: dict) -> EvaluationSections:
    """What a command line with these flags asks for."""
    return EvaluationSections(*build_sections(SECTIONS, flags))


def settings_of(
    world: Path, output: Path, arms: str = "base half ours naive wrong real plain", **changes
) -> EvaluationSections:
    """Settings for arms of the world of conftest.py; a value of None leaves a key out."""
    given = {
        "renders": [f"{name}={world / name}" for name in arms.split()],
        "references_dir": world / "references",
        "recognisers": [f"onnx:{world / 'grid.onnx'}"],
        "output_dir": output,
        "heads_dir": world / "controls",
        "face_margin": 0.0,
        "bootstrap_samples": 200,
    }
    return sections_of({k: v for k, v in {**given, **changes}.items() if v is not None})


def write_grid_model(path: Path, cell_px: int = 8) -> Path:
    """A recogniser whose embedding is the mean colour in each square cell of a grid over a 32x32 face."""
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["N", 3, 32, 32])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 3 * (32 // cell_px) ** 2])
    nodes = [
        helper.make_node("AveragePool", ["picture"], ["cells"], kernel_shape=[cell_px] * 2, strides=[cell_px] * 2),
        helper.make_node("Flatten", ["cells"], ["embedding"], axis=1),
    ]
    return save_model(path, nodes, [picture], [embedding])


def write_pose_model(path: Path, kind: str) -> Path:
    """Every joint is at the reddest place of a 64x48 picture: as heatmaps at a quarter, or as SimCC bins at twice."""
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, 64, 48])
    constants = [
        helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
        for name, values in {
            "from": [0], "to": [1], "channel": [1], "all": [1, 17, 16, 12], "row": [2], "column": [3], "x": [1, 17, 48],
            "y": [1, 17, 64],
        }.items()
    ] + [helper.make_tensor("twice", TensorProto.FLOAT, [3], [1, 1, 2])]  # fmt: skip
    nodes = [helper.make_node("Slice", ["picture", "from", "to", "channel"], ["red"])]
    if kind == "heatmaps":
        nodes += [
            helper.make_node("MaxPool", ["red"], ["small"], kernel_shape=[4, 4], strides=[4, 4]),
            helper.make_node("Expand", ["small", "all"], ["heatmaps"]),
        ]
        shapes = {"heatmaps": [1, 17, 16, 12]}
    else:
        for axis, other in (("x", "row"), ("y", "column")):
            nodes += [
                helper.make_node("ReduceMax", ["red", other], [f"{axis}_line"], keepdims=0),
                helper.make_node("Expand", [f"{axis}_line", axis], [f"{axis}_all"]),
                helper.make_node("Resize", [f"{axis}_all", "", "twice"], [f"{axis}_bins"], mode="nearest"),
            ]
        shapes = {"x_bins": [1, 17, 96], "y_bins": [1, 17, 128]}
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    return save_model(path, nodes, [picture], outputs, tuple(constants))


def save_model(path: Path, nodes: list, inputs: list, outputs: list, constants: tuple = ()) -> Path:
    graph = helper.make_graph(nodes, "drawn", inputs, outputs, list(constants))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))
    return path

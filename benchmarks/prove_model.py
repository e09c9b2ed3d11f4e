"""Show, row by row, what is promised of the real model: layouts, memory, adapters for other tools, encoders, speed.

`make prove-model` runs smaller sizes, `make prove-model FULL=1` the stated ones. Ends non-zero when a promise falls
short or cannot be shown; writes benchmarks/records/prove_model[_full].json. What needs a GPU is read from the record of
benchmarks/gpu.py, whose commit and machine the row names.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from proof import RECORDS, Promise, Row, Seen, conclude, judge_tests, row_of_time, rows_of, run_tests

LONGEST_DEFAULT_S = 600
MODELS, README = "tests/models", "tests/test_docs.py::test_the_readmes_commands_run_as_typed"
LAYOUT, LORA, TRUE_SIZE = (f"{MODELS}/test_{name}.py" for name in ("original_layout", "lora_formats", "true_size"))
PROMISES = (
    Promise(
        "both layouts, synthesised by diffusers' converters read backwards, load to the same tensors and outputs",
        "0 tensors differ, the same output, names as diffusers makes them",
        (
            f"{LAYOUT}::test_both_layouts_load_to_the_same_tensors",
            f"{LAYOUT}::test_both_layouts_give_the_same_output",
            f"{LAYOUT}::test_a_part_is_what_from_pretrained_gives",
            f"{LAYOUT}::test_every_name_is_what_diffusers_makes_of_it",
            f"{LAYOUT}::test_shards_and_their_list_are_one_model",
            f"{LAYOUT}::test_a_part_may_be_elsewhere",
        ),
    ),
    Promise(
        "every tensor of 1.3B, 14B, VAE and UMT5-XXL, on the meta device",
        "one to one: none missing, none left over",
        (
            f"{LAYOUT}::test_the_true_models_have_each_tensor_once",
            f"{LAYOUT}::test_the_true_vae_and_text_encoder_have_each_tensor_once",
        ),
    ),
    Promise(
        "a base is named by its contents: the other layout, shards and a copy in bfloat16 take the same adapters",
        "the same fingerprint; another one when a tensor or the config changes",
        (
            f"{LAYOUT}::test_a_base_is_named_by_its_contents_and_not_by_its_files",
            f"{LAYOUT}::test_a_rounded_copy_is_another_base_but_fits_the_same_adapters",
            f"{LAYOUT}::test_a_tensor_that_moved_makes_another_base",
            f"{LAYOUT}::test_another_config_of_the_same_tensors_makes_another_base",
            f"{LAYOUT}::test_what_encodes_is_named_exactly",
            f"{LAYOUT}::test_a_rounded_vae_is_another_base_to_adapters_too",
        ),
    ),
    Promise(
        "files that are missing, cut short, of another model, or would run code",
        "named before anything large is read",
        (
            f"{LAYOUT}::test_a_file_that_is_missing_is_named",
            f"{LAYOUT}::test_a_file_that_is_cut_short_is_named_before_any_is_loaded",
            f"{LAYOUT}::test_a_pickle_that_would_run_code_is_not_loaded",
            f"{LAYOUT}::test_a_config_of_another_model_is_named",
            f"{LAYOUT}::test_a_base_without_vace_is_named",
            f"{LAYOUT}::test_an_unknown_tensor_is_named",
        ),
    ),
    Promise(
        "loading VACE-1.3B at its true size",
        "<= 1.15 times the weights' bytes",
        (f"{TRUE_SIZE}::test_loading_takes_little_more_than_the_weights",),
    ),
    Promise(
        "one training step and one sampling step at the true 1.3B configuration, on the CPU in bf16",
        "run by train.py and sample.py; memory recorded",
        (f"{TRUE_SIZE}::test_a_step_of_training_and_of_sampling",),
    ),
    Promise(
        "the exported diffusers LoRA in WanVACEPipeline beside ours without the face",
        "latents within 1e-5",
        (
            f"{MODELS}/test_pipeline.py::test_the_exported_lora_gives_diffusers_the_same_video",
            f"{LORA}::test_diffusers_loads_it_and_predicts_the_same",
        ),
    ),
    Promise(
        "ComfyUI, kohya, DiffSynth and merged exports, read back by each tool's rules",
        "identical tensors (DiffSynth: product), outputs within 1e-5, no key unused",
        (
            f"{LORA}::test_what_is_written_is_read_back",
            f"{LORA}::test_the_rules_of_comfyui_and_kohya_take_every_key",
            f"{LORA}::test_diffsynth_s_rules_take_every_key",
            f"{LORA}::test_a_musubi_lora_of_main_blocks_goes_through_diffusers_own_converter",
            f"{LORA}::test_merged_weights_predict_the_same",
        ),
    ),
    Promise(
        "published LoRAs as a starting point: 160 keys of a VACE-14B one, the rank-4 one of the 1.3B",
        "none unused, the same function",
        (
            f"{LORA}::test_published_loras_are_read_whole",
            f"{LORA}::test_training_begins_with_the_same_function",
            f"{LORA}::test_a_key_that_does_not_fit_is_named",
        ),
    ),
    Promise(
        "the adapter as a hub folder with a model card; the tools as typed",
        "all checks pass",
        (f"{MODELS}/test_adapter_folder.py", f"{MODELS}/test_model_tools.py"),
    ),
    Promise(
        "operations at the true sizes, counted by torch on the meta device, beside the ledger",
        "<= 1.02 times",
        (f"{MODELS}/test_flops.py",),
    ),
    Promise(
        "compiled training (as configs/wan_vace_1_3b.yaml), two ZeRO-2 processes, with a validation that renders",
        "losses within 1e-4, torch's limit of variants not met",
        ("tests/training/test_compiled_run.py",),
    ),
    Promise(
        "the encoders: pixels and embeddings beside transformers' own; the report on whether they tell people apart",
        "pixels within 1e-4; all checks pass",
        ("tests/faces/test_preprocessing.py", "tests/evaluation/verification/test_verify_encoder.py"),
    ),
    Promise(
        "Wan2.2's two transformers: found in both layouts, trained each on its own range of noise, rendered with both",
        "without a face the bits of diffusers' own pipeline of two; all checks pass",
        (f"{MODELS}/test_experts.py",),
    ),
    Promise(
        "benchmarks/gpu.py: every section at a tiny size on the CPU, each variant against its reference",
        "all checks pass",
        ("tests/test_gpu_benchmark.py",),
    ),
    Promise(
        "benchmarks/peers.py: outputs that differ stop it before anything is timed; losing and missing figures stay",
        "all checks pass",
        ("tests/test_peers_benchmark.py",),
    ),
    Promise(
        "the README's quick start, literally, with a tiny base under the names of the Wan repositories' files",
        "ends with an adapter, videos and a report",
        (README,),
    ),
)
PROCESSES = 2
# Of benchmarks/gpu.py, which says itself whether its goals are met. By the data sheet's peak there is no goal.
GPU_RECORDS, NO_GOAL = ("gpu.json", "gpu_video.json"), "data sheet"


def main(argv: list[str]) -> int:
    """Run, print and record; 1 when a promise falls short."""
    is_full = "--full" in argv
    began = time.perf_counter()
    tests = {test for promise in PROMISES for test in promise.tests}
    # With the toy base it is in `make test`.
    cases = run_tests(sorted(tests - {README} | {f"{README}[tiny]"}), is_full, PROCESSES)
    rows: list[Row] = [judge_tests(promise, cases) for promise in PROMISES]
    rows += rows_of(list(_on_a_gpu()), 0)
    seconds = time.perf_counter() - began
    if not is_full:
        rows += row_of_time(LONGEST_DEFAULT_S, seconds)
    return conclude("model", rows, is_full, seconds) or int(any(row.verdict == "not shown" for row in rows))


def _on_a_gpu() -> Iterator[Seen]:
    """The goals of the GPU records, each from the first record that shows it."""
    found: dict[str, Seen] = {}
    for name in GPU_RECORDS:
        record: dict[str, Any] = json.loads((RECORDS / name).read_text(encoding="utf-8"))
        where = f"{record['gpu']['name']}, {name} at {record['commit']}"
        for goal in record["goals"]:
            if goal["verdict"] != "not shown" and NO_GOAL not in goal["goal"]:
                promise = f"on a GPU, as recorded: {goal['goal'].lstrip('. ')}"
                seen = (promise, "as its name says", f"{goal['measured']}; {where}", goal["verdict"] == "holds")
                found.setdefault(promise, seen)
    yield from found.values()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Batches: what each job becomes, what is computed once, what is not done again, and that one failure is one."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from adapter_inputs import write_adapter
from render_flags import changed, for_one
from transformers import UMT5EncoderModel
from two_poses import rows, run, write_pose
from written_identities import write_identity

from faceid.errors import DataError
from faceid.faces.identities.identity import load_identity
from faceid.media.video import read_video, write_video
from faceid.models.adapter.adapter_file import read_adapter, save_adapter
from faceid.models.base.wan import load_wan
from faceid.models.rendering.pipeline import FaceIdentityPipeline
from faceid.sampling.jobs import worker as module
from faceid.sampling.render_sections import OF_BATCH_ALONE
from faceid.toy.shipped import resolve_model_path

ODD_JOB_LIST = pytest.mark.promise(
    "a job list with unreadable pose, absent pose, adapter of another base, adapter of another rank, embedding of "
    "another size, doubles and shell characters",
    bar="each told in one line that names it; the rest is rendered, each once",
    proof="sampling",
)


def of_list(settings, tmp_path, *jobs):
    (tmp_path / "jobs.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))
    return changed(settings, jobs=str(tmp_path / "jobs.jsonl"), identities_dir=str(tmp_path / "people"))


@pytest.mark.promise(
    "the videos of a batch: at face_scale 0 WanVACEPipeline's, with the face those of one call each",
    bar="the same bytes; torch.equal",
    proof="sampling",
)
@pytest.mark.slow
def test_a_batch_is_byte_for_byte_what_single_calls_give(settings, tmp_path):
    assert run(changed(settings, num_inference_steps=2)) == 0
    found = rows(tmp_path / "out")
    assert len({row["sha256"] for row in found}) == 4
    pipeline = FaceIdentityPipeline.from_pretrained(resolve_model_path("toy"), settings.models.face_lora_path)
    for row in found:
        frames = pipeline(
            read_video(tmp_path / "poses" / row["pose"]).frames,
            face_embedding=load_identity(tmp_path / "people" / row["identity"]).embedding,
            num_inference_steps=2,
            cfg_scale=2.0,
            seed=5,
        )
        write_video(tmp_path / "alone.mp4", frames, 16.0)
        assert (tmp_path / "alone.mp4").read_bytes() == (tmp_path / "out" / row["output"]).read_bytes()


@pytest.mark.promise(
    "12 jobs (4 poses, 3 prompts) in a batch: encodes by VAE and by text encoder", bar="5 and 4", proof="sampling"
)
@pytest.mark.slow
def test_twelve_jobs_of_four_poses_and_three_prompts_encode_five_videos_and_four_texts(settings, tmp_path, monkeypatch):
    for seed in (2, 3):
        write_pose(tmp_path / "poses" / f"z{seed}_pose.mp4", seed)
    poses = sorted(path.name for path in (tmp_path / "poses").glob("*.mp4"))
    job = {"pose": poses, "prompt": ["a dance", "a slow dance", "a jump"], "identity": "anna"}
    counted, load = {"videos": 0, "texts": 0}, FaceIdentityPipeline.from_pretrained

    def counting(*arguments):
        pipeline = load(*arguments)
        encode = pipeline.wan.vae.encode

        def encode_counted(pixels):
            counted["videos"] += 1
            return encode(pixels)

        pipeline.wan.vae.encode = encode_counted
        # In memory only while prompts are encoded.
        assert pipeline.wan.text_encoder is None
        return pipeline

    encode_text = UMT5EncoderModel.forward

    def encode_text_counted(self, *arguments, **more):
        counted["texts"] += 1
        return encode_text(self, *arguments, **more)

    monkeypatch.setattr(FaceIdentityPipeline, "from_pretrained", counting)
    monkeypatch.setattr(UMT5EncoderModel, "forward", encode_text_counted)
    kept_in = str(tmp_path / "cache")
    asked = of_list(changed(settings, cache_dir=kept_in), tmp_path, job)
    assert run(asked) == 0
    # Four poses and the grey video; three prompts and the negative one.
    assert counted == {"videos": 5, "texts": 4}
    # Another batch of all poses and prompts, each pose with one, finds them all, and its videos are the same.
    few = [{**job, "pose": pose, "prompt": job["prompt"][place % 3]} for place, pose in enumerate(poses)]
    asked = of_list(asked, tmp_path, *few)
    assert run(changed(asked, output_dir=str(tmp_path / "again"))) == 0
    assert counted == {"videos": 5, "texts": 4}
    again = {row["sha256"] for row in rows(tmp_path / "again")}
    assert len(again) == 4 and again < {row["sha256"] for row in rows(tmp_path / "out")}
    # Those of a folder of their own go when all is rendered.
    assert run(changed(asked, output_dir=str(tmp_path / "third"), cache_dir=None)) == 0
    assert counted == {"videos": 10, "texts": 8} and not (tmp_path / "third" / ".jobs" / "cache").exists()
    names = sorted(row["output"] for row in rows(tmp_path / "out"))
    assert len(names) == 12 and names[0] == "anna/x_pose_prompt1.mp4"


@pytest.mark.slow
def test_finished_work_is_not_done_again_and_a_changed_adapter_is_new_work(
    settings, small_adapter_settings, tmp_path, monkeypatch
):
    assert run(settings) == 0
    before = {row["output"]: (tmp_path / "out" / row["output"]).stat().st_mtime_ns for row in rows(tmp_path / "out")}
    with monkeypatch.context() as patch:
        patch.setattr(FaceIdentityPipeline, "from_pretrained", lambda *_: pytest.fail("weights were loaded"))
        assert run(settings) == 0
    assert len(rows(tmp_path / "out")) == 4
    write_adapter(tmp_path / "adapter.safetensors", small_adapter_settings, 3)
    assert run(settings) == 0
    new = rows(tmp_path / "out")
    # The old ones stay, under the names they had.
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in before} == before
    assert not {row["output"] for row in new} & before.keys() and all(
        (tmp_path / "out" / r["output"]).is_file() for r in new
    )
    assert all(row["output"].endswith(f"_pose_{row['id'][:8]}.mp4") for row in new)


@ODD_JOB_LIST
@pytest.mark.slow
def test_one_bad_pose_and_one_bad_adapter_fail_and_the_rest_goes_on(settings, small_adapter_settings, tmp_path, caplog):
    (tmp_path / "poses" / "bad_pose.mp4").write_bytes(b"no video")
    other = write_adapter(tmp_path / "other_base.safetensors", small_adapter_settings, 2, fingerprint="f" * 64)
    # The same tensors in a file that says another rank.
    tensors, metadata = read_adapter(Path(settings.models.face_lora_path))
    wider = replace(metadata, settings=replace(metadata.settings, lora_rank=8))
    save_adapter(tmp_path / "other_rank.safetensors", tensors, wider)
    jobs = [
        {"pose": ["x_pose.mp4", "bad_pose.mp4", "absent_pose.mp4"], "identity": "anna"},
        {
            "pose": "x_pose.mp4",
            "identity": "anna",
            "face_lora_path": [str(other), str(tmp_path / "other_rank.safetensors")],
        },
        {"pose": "y_pose.mp4", "identity": "nobody"},
        {"pose": "y_pose.mp4", "identity": "anna:1,bob:1"},
    ]
    assert run(of_list(settings, tmp_path, *jobs)) == 1
    said = {(row["pose"], row["identity"]): row["error"] for row in rows(tmp_path / "out") if row["error"]}
    assert len(said) == 3 or len(rows(tmp_path / "out")) == 7
    errors = " | ".join(row["error"] for row in rows(tmp_path / "out"))
    for part in (
        *("bad_pose.mp4: ", "absent_pose.mp4: no such pose video", "other_base.safetensors", "but toy is"),
        *("other_rank.safetensors: ", "rank 8", "identity=nobody: not in"),
    ):
        assert part in errors
    done = [row["output"] for row in rows(tmp_path / "out") if not row["error"]]
    assert len(done) == 2 and all((tmp_path / "out" / output).is_file() for output in done)
    # They were given up once, and stay so until somebody says otherwise.
    caplog.set_level(logging.INFO, "faceid")
    assert run(of_list(settings, tmp_path, *jobs)) == 1
    assert "7 of 7 videos are done or were given up before" in caplog.text


@ODD_JOB_LIST
def test_a_person_who_cannot_be_used_fails_the_jobs_that_name_them_alone(settings, tmp_path):
    write_identity(tmp_path / "people" / "wide", seed=3, size=12)
    write_identity(tmp_path / "people" / "unnamed", seed=4, fingerprint="f" * 64)
    for_shells = "bob; touch canary #"
    write_identity(tmp_path / "people" / for_shells, seed=5, size=24)
    jobs = [{"pose": "x_pose.mp4", "identity": ["anna", "wide", for_shells]}]
    assert run(of_list(settings, tmp_path, *jobs)) == 1
    said = {row["identity"]: row["error"] for row in rows(tmp_path / "out")}
    assert said["anna"] == said[for_shells] == "" and not list(tmp_path.rglob("canary"))
    assert not Path("canary").exists() and "wide: 12 numbers, the adapter was trained with 24" in said["wide"]
    absent = changed(of_list(settings, tmp_path, *jobs), identities_dir=str(tmp_path / "nobody"))
    with pytest.raises(DataError, match="nobody: no such folder"):
        run(absent)


@pytest.mark.slow
def test_adapters_of_two_users_in_one_run(settings, small_adapter_settings, tmp_path, caplog):
    caplog.set_level(logging.INFO, "faceid")
    second = write_adapter(tmp_path / "second.safetensors", small_adapter_settings, 3)
    wider = write_adapter(tmp_path / "wider.safetensors", replace(small_adapter_settings, lora_rank=6), 4)
    caplog.clear()
    adapters = [settings.models.face_lora_path, str(second), str(wider)]
    job = {"pose": ["x_pose.mp4", "y_pose.mp4"], "identity": "bob", "face_lora_path": adapters}
    assert run(of_list(settings, tmp_path, job)) == 0
    # Once for the run, and at most twice for the one of other sizes; never for one of the same.
    assert caplog.text.count("loaded transformer") <= 3
    for number, adapter in enumerate(sorted(adapters), start=1):
        alone = changed(
            settings, face_lora_path=adapter, identities_dir=None, face_embedding=str(tmp_path / "people" / "bob")
        )
        assert run(changed(alone, output_dir=str(tmp_path / f"alone{number}"))) == 0
        for name in ("x", "y"):
            video = tmp_path / "out" / "bob" / f"{name}_pose_adapter{number}.mp4"
            assert video.read_bytes() == (tmp_path / f"alone{number}" / f"{name}_pose.mp4").read_bytes()


@pytest.mark.slow
def test_an_error_that_may_pass_is_tried_three_times_and_then_told_with_the_log(settings, tmp_path, monkeypatch):
    tried, denoise = [], module.Renderer.denoise

    def failing(self, control, face, seed, on_step=None):
        if face.name == "anna":
            tried.append(1)
            raise MemoryError("out of memory")
        return denoise(self, control, face, seed, on_step)

    monkeypatch.setattr(module.Renderer, "denoise", failing)
    assert run(settings) == 1
    # Two poses.
    assert len(tried) == 2 * 3
    failed = [json.loads(path.read_text()) for path in (tmp_path / "out" / ".jobs" / "failed").iterdir()]
    assert [(record["error"], record["attempts"]) for record in failed] == [("MemoryError: out of memory", 3)] * 2
    assert any("out of memory" in line for line in failed[0]["log"])
    assert sum(not row["error"] for row in rows(tmp_path / "out")) == 2


@pytest.mark.slow
def test_jobs_shared_out_by_rank_are_each_done_once(settings, tmp_path, monkeypatch):
    static = changed(settings, static=True)
    done = []
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        # The first cannot know of the second's; both are of good cheer.
        assert run(static) == 0
        done.append({path.name for path in (tmp_path / "out" / ".jobs" / "done").iterdir()})
    assert len(done[0]) == 2 and len(done[1]) == 4 and done[0] < done[1]
    assert not list((tmp_path / "out" / ".jobs").glob("claims/*"))


def test_what_a_batch_alone_can_be_given_is_no_part_of_its_videos(settings, tmp_path):
    """Of a list, with photos for the gallery: its videos' own files speak of one video each."""
    asked = changed(
        of_list(settings, tmp_path, {"pose": "x_pose.mp4", "identity": "anna"}), references_dir=str(tmp_path)
    )
    assert run(asked) == 0 and (tmp_path / "out" / "gallery.html").is_file()
    said = json.loads((tmp_path / "out" / "anna" / "x_pose.json").read_text())["settings"]
    assert not {said.get(name) for name in OF_BATCH_ALONE} - {None, False}
    assert for_one(asked, pose_video="p", output="o.mp4", identity="anna").batch.batch is False


@pytest.mark.slow
def test_strengths_of_blocks_count_in_batches_and_single_videos(settings, tmp_path):
    from one_video_inputs import render

    blocks = len(load_wan(resolve_model_path("toy"), ("transformer",)).transformer.blocks)
    off, on = [0.0] * blocks, [1.0] * blocks
    (tmp_path / "poses" / "y_pose.mp4").unlink()
    found = {}
    for name, scales in (("plain", None), ("on", on), ("off", off)):
        assert run(changed(settings, face_block_scales=scales, output_dir=str(tmp_path / name))) == 0
        found[name] = {who: (tmp_path / name / who / "x_pose.mp4").read_bytes() for who in ("anna", "bob")}
    assert found["on"] == found["plain"] and found["plain"]["anna"] != found["plain"]["bob"]
    # Without the face's part everybody is the same, and not the one they would be.
    assert found["off"]["anna"] == found["off"]["bob"] != found["plain"]["bob"]
    like = ["--like", str(tmp_path / "off" / "anna" / "x_pose.json"), "--device", "cpu"]
    assert render(*like, "--output", str(tmp_path / "again.mp4")) == 0
    assert (tmp_path / "again.mp4").read_bytes() == found["off"]["anna"]


@pytest.mark.promise(
    "the same video again from its .json (--like): the same bytes, or a word on what changed",
    bar="all checks pass",
    proof="sampling",
)
@pytest.mark.slow
def test_a_video_of_a_batch_is_rendered_again_from_its_sidecar(settings, tmp_path):
    from one_video_inputs import render

    assert run(settings) == 0
    like = tmp_path / "out" / "anna" / "x_pose.json"
    assert render("--like", str(like), "--output", str(tmp_path / "again.mp4"), "--device", "cpu") == 0
    assert (tmp_path / "again.mp4").read_bytes() == (tmp_path / "out" / "anna" / "x_pose.mp4").read_bytes()


def test_a_folder_that_cannot_be_written_to_is_refused(settings, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"output_dir=.*file: is a file; name a folder"):
        run(changed(settings, output_dir=str(tmp_path / "file")))


def test_the_folder_of_poses_is_no_place_to_write_to(settings, tmp_path):
    with pytest.raises(DataError, match="poses: holds the pose videos, which would be overwritten"):
        run(changed(settings, identities_dir=None, output_dir=str(tmp_path / "poses")))
    (tmp_path / "poses").rename(tmp_path / "anna")
    with pytest.raises(DataError, match="anna: holds the pose videos, which would be overwritten"):
        run(changed(settings, pose_videos_dir=str(tmp_path / "anna"), output_dir=str(tmp_path)))


def test_the_grey_half_follows_the_size(toy_wan):
    kept = FaceIdentityPipeline(toy_wan)
    for height, width in ((32, 48), (48, 32), (32, 48)):
        frames = np.full((5, height, width, 3), 90, np.uint8)
        assert torch.equal(kept.control(frames), FaceIdentityPipeline(toy_wan).control(frames))


@pytest.mark.slow
def test_a_list_whose_rows_name_the_adapter_needs_no_size_of_its_own(settings, tmp_path, caplog):
    """The adapter of a row says it; and what is to be warned of is said once."""
    adapter = settings.models.face_lora_path
    job = {"pose": str(tmp_path / "poses" / "x_pose.mp4"), "identity": "anna", "face_lora_path": adapter}
    asked = changed(of_list(settings, tmp_path, job), face_lora_path=None, model_path="toy", pose_videos_dir=None)
    assert run(asked) == 0 and (tmp_path / "out" / "anna" / "x_pose.mp4").is_file()
    caplog.set_level(logging.WARNING, "faceid")
    assert run(changed(settings, output_dir=str(tmp_path / "other"), height=48)) == 0
    assert caplog.text.count("height=48: the adapter was trained at 32") == 1

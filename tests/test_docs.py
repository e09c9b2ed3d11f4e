"""What README, docs, configs and launch scripts say is what the code does: commands parse, paths and messages exist."""

from __future__ import annotations

import ast
import os
import re
import runpy
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from calling import command_module
from launching import BIN, REPOSITORY, run_command
from original_layout import write_both
from warm_process import programs_for_bash

from faceid.config import parse_sections
from faceid.evaluation.figures.video_metrics import ALL_METRICS
from faceid.faces.encoders.encoder_kinds import ENCODERS
from faceid.models.rendering.schedulers import SCHEDULERS

PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")])
README = (REPOSITORY / "README.md").read_text()
SCRIPTS = sorted(REPOSITORY.glob("launch/*.sh"))
CONFIGS = sorted(REPOSITORY.glob("configs/*.yaml"))
# Flags of other programs that the pages speak of.
FOREIGN_FLAGS = {"config_file", "local-dir", "logdir", "bind_all", "help", "config"}
# Of sbatch, srun, scancel, and of slurm/pipeline.sh.
FOREIGN_FLAGS |= {"signal", "gpus-per-node", "no-requeue", "from", "wait", "kill-on-bad-exit"}
FOREIGN_FLAGS |= {"batch", "full", "time", "ntasks-per-node", "test-only"}
# Of accelerate launch.
FOREIGN_FLAGS |= {"deepspeed_multinode_launcher"}
# Of tests/planted_faults.py.
FOREIGN_FLAGS |= {"only"}
# Of a benchmark that is run alone.
FOREIGN_FLAGS |= {"record"}
# Of the loss term that docs/extending.md adds.
FOREIGN_FLAGS |= {"motion_weight"}


class _Parsed(Exception):
    """The command line was good; the command itself is not to run."""


def bash_blocks(text: str) -> list[str]:
    return re.findall(r"```bash\n(.*?)```", text, re.DOTALL)


def variables(kind: str) -> dict[str, str]:
    """What the README tells to set, from its block that begins with `# kind`."""
    (block,) = [block for block in bash_blocks(README) if block.startswith(f"# {kind}\n")]
    words = shlex.split(block, comments=True)
    return dict(word.split("=", 1) for word in words)


def our_commands(text: str) -> list[list[str]]:
    """[program, flags...] of every command in bash blocks that is one of ours, `$VARIABLES` still in it."""
    commands = []
    for block in bash_blocks(text):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            ours = [i for i, word in enumerate(words) if re.fullmatch(r"(tools/\w+|train|sample)\.py", word)]
            if ours:
                commands.append(words[ours[0] :])
    return commands


def expand(words: list[str], values: dict[str, str]) -> list[str]:
    return [re.sub(r"\$(\w+)", lambda match: values[match[1]], word) for word in words]


def parse(program: str, flags: list[str], monkeypatch) -> list:
    """The sections that the real program reads from these flags. Raises: what it raises for bad ones."""
    module = command_module(program)
    found = []

    def parse_and_stop(*arguments):
        found.extend(parse_sections(*arguments))
        raise _Parsed

    monkeypatch.setattr(module, "parse_sections", parse_and_stop)
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(_Parsed):
        module.main(flags)
    return found


COMMANDS = [(page.name, words) for page in PAGES for words in our_commands(page.read_text())]


def test_the_pages_show_every_stage():
    main_path = {
        "tools/describe_person.py",
        "tools/prepare_face_embeddings.py",
        "tools/make_shards.py",
        "tools/encode_latents.py",
        "tools/evaluate.py",
        "train.py",
        "sample.py",
    }
    assert {words[0] for name, words in COMMANDS if name == "README.md"} == main_path
    beside_it = {"tools/split_clips.py", "tools/render_poses.py", "tools/build_face_bank.py", "tools/verify_encoder.py"}
    assert main_path | beside_it <= {words[0] for _, words in COMMANDS}


@pytest.mark.parametrize("kind", ["real", "toy"])
@pytest.mark.parametrize("command", COMMANDS, ids=[f"{name} {words[0]}" for name, words in COMMANDS])
def test_a_documented_command_parses(command, kind, monkeypatch):
    program, *flags = expand(command[1], variables(kind))
    parse(program, flags, monkeypatch)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_a_config_parses_and_says_no_more_than_it_must(config, monkeypatch):
    required = "--output_dir o --face_images_dir f --dance_videos_dir v --pose_videos_dir p".split()
    sections = parse("train.py", ["--config", str(config), "--model_path", "toy", *required], monkeypatch)
    text = config.read_text()
    # configs/ chooses the experiment, launch/ the world, flags the inputs.
    world = {"num_processes", "zero_stage", "mixed_precision", "distributed_type"}
    assert not {line.split(":")[0] for line in text.splitlines()} & (world | {"output_dir", "face_images_dir"})
    values = {name: value for section in sections for name, value in vars(section).items()}
    assert isinstance(values["learning_rate"], float) and values["batch_size"] % 4 == 0


# What slurm/pipeline.sh gives each stage beside its file.
GIVEN_BY_THE_PIPELINE = {
    "split_clips": ("tools/split_clips.py", "--output_dir o"),
    "render_poses": ("tools/render_poses.py", "--videos_dir v --output_dir o"),
    "make_shards": ("tools/make_shards.py", "--dance_videos_dir v --pose_videos_dir p --output_dir o"),
    "build_face_bank": ("tools/build_face_bank.py", "--output_dir o"),
    "encode_latents": ("tools/encode_latents.py", "--shards s --output_dir o"),
    "train": ("train.py", "--latents l --face_bank b --output_dir o"),
    "sample": ("sample.py", "--batch --face_lora_path a --output_dir o"),
}


@pytest.mark.parametrize("stage", GIVEN_BY_THE_PIPELINE)
def test_the_experiment_to_copy_parses_stage_by_stage(stage, monkeypatch):
    program, flags = GIVEN_BY_THE_PIPELINE[stage]
    parse(program, ["--config", str(REPOSITORY / f"configs/aist/{stage}.yaml"), *flags.split()], monkeypatch)


def test_the_experiment_to_copy_has_nothing_else():
    assert {path.stem for path in (REPOSITORY / "configs/aist").iterdir()} == set(GIVEN_BY_THE_PIPELINE)


@pytest.mark.parametrize("name, height, shift", [("wan_vace_1_3b", 480, 3.0), ("wan_vace_14b", 720, 5.0)])
def test_the_shift_fits_the_size(name, height, shift, monkeypatch):
    required = "--model_path m --output_dir o --face_images_dir f --latents l".split()
    sections = parse("train.py", ["--config", str(REPOSITORY / f"configs/{name}.yaml"), *required], monkeypatch)
    values = {key: value for section in sections for key, value in vars(section).items()}
    assert (values["height"], values["shift"]) == (height, shift)


def test_every_flag_the_pages_name_exists(monkeypatch):
    required = {
        "train.py": "--model_path m --output_dir o --face_images_dir f --latents l",
        "sample.py": "--model_path m --pose_video p --output o.mp4",
        "tools/prepare_face_embeddings.py": "--face_images_dir f --output_dir o",
        "tools/make_shards.py": "--dance_videos_dir v --pose_videos_dir p --output_dir o",
        "tools/split_clips.py": "--videos_dir v --output_dir o",
        "tools/render_poses.py": "--videos_dir v --output_dir o",
        "tools/inspect_shards.py": "--shards s",
        "tools/audit_dataset.py": "--dance_videos_dir v --pose_videos_dir p --output_dir o",
        "tools/encode_latents.py": "--shards s --model_path m --output_dir o",
        "tools/make_toy_dataset.py": "--output_dir o",
        "tools/make_contact_sheet.py": "--dance_videos_dir v --pose_videos_dir p --rendered_dir r --output o.png",
        "tools/evaluate.py": "--renders [a=b] --references_dir r --recognisers [toy_readout] --output_dir o",
        "tools/check_cluster.py": "--model_path m --output_dir o --face_images_dir f --latents l",
        "tools/judge_attempt.py": "--exit_code 75 --model_path m --output_dir o --face_images_dir f --latents l",
        "tools/merge_summaries.py": "--summaries [a] --output o.json",
        "tools/train_toy_base.py": "--work_dir w",
        "tools/describe_person.py": "--face_images_dir f --face_embedding e --model_path m --output o.safetensors",
        "tools/verify_encoder.py": "--faces_dir f --output_dir o",
        "tools/join_experts.py": "--high a --low b --model_path m --output o.safetensors",
        "tools/convert_model.py": "--model_path m --output_dir o",
        "tools/export_lora.py": "--face_lora_path a --lora_format hub --output o",
    }
    known = set(FOREIGN_FLAGS)
    for program, flags in required.items():
        for section in parse(program, flags.split(), monkeypatch):
            known |= set(vars(section))
    for page in PAGES:
        spoken = re.findall(r"`([^`]+)`", re.sub(r"```.*?```|``.+?``", "", page.read_text(), flags=re.DOTALL))
        flags = {flag for words in spoken for flag in re.findall(r"(?<!\S)--([a-z][\w-]*)", words)}
        assert flags <= known, f"{page.name} names flags that do not exist"


def test_every_path_the_pages_name_exists():
    for page in PAGES:
        # What docs/extending.md has its reader write is not there yet.
        text = re.sub(r"New file `[^`]+`", "", page.read_text())
        for link in re.findall(r"\]\(([^)#]+)\)", text):
            assert "://" in link or (page.parent / link).exists(), f"{page.name} links to {link}"
        for path in re.findall(r"`((?:faceid|tools|tests|launch|configs|docs)/[\w./]+\.\w+)`", text):
            assert (REPOSITORY / path).exists(), f"{page.name} names {path}"


def anchors(page: Path) -> set[str]:
    """The names by which GitHub and the built pages link to a page's headings."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"(?m)^#+ (.+)$", text)}


def test_every_heading_the_pages_link_to_exists():
    for page in PAGES:
        for link, name in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text()):
            linked = page.parent / link if link else page
            assert name in anchors(linked), f"{page.name} links to {link}#{name}"


def test_the_table_of_contents_names_every_page():
    tree = ast.parse((REPOSITORY / "docs/conf.py").read_text())
    (contents,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets) == "CONTENTS"
    ]
    named = [name for pages in contents.values() for name in pages] + ["README"]
    there = [*PAGES, *REPOSITORY.glob("benchmarks/**/*.md")]
    assert sorted(named) == sorted(str(path.relative_to(REPOSITORY).with_suffix("")) for path in there)


def test_the_pages_know_every_encoder_scheduler_and_metric_of_a_validation():
    """Their lists are in the code, one each."""
    named = re.findall(r"\| `--encoder (\w+)`", (REPOSITORY / "docs/licences.md").read_text())
    assert sorted(named) == sorted(ENCODERS)
    page = (REPOSITORY / "docs/rendering.md").read_text()
    (table,) = re.findall(r"\| `--scheduler` .*\n\|---\|---\|\n((?:\|.*\n)*)", page)
    assert re.findall(r"(?m)^\| `(\w+)`", table) == list(SCHEDULERS)
    named = re.findall(r"\| `validation/(\w+)_target` \|", (REPOSITORY / "docs/run_folder.md").read_text())
    assert sorted(named) == sorted(metric.name for metric in ALL_METRICS if metric.in_training)


def test_the_list_of_files_is_current():
    listed = runpy.run_path(str(REPOSITORY / "docs/list_files.py"))["page"]()
    assert (REPOSITORY / "docs/files.md").read_text() == listed, "run: python docs/list_files.py"


def test_the_walk_names_files_that_exist():
    text = (REPOSITORY / "docs/architecture.md").read_text()
    rooms = "files|models|faces|media|data|toy|sampling|evaluation|training"
    named = re.findall(rf"`((?:{rooms})/(?:\w+/)?\w+\.py)`", text)
    assert len(named) > 100
    assert [name for name in named if not (REPOSITORY / "faceid" / name).exists()] == []


def test_every_message_that_troubleshooting_quotes_is_one_of_ours():
    sources = [*REPOSITORY.glob("faceid/**/*.py"), *REPOSITORY.glob("tools/*.py")]
    texts = [
        node.value
        for path in sources
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ] + [path.read_text() for path in SCRIPTS]
    said = "\n".join(texts)
    foreign = ("Setting accelerator to CPU", "torch.distributed.elastic", "No dashboards are active")
    for line in (REPOSITORY / "docs/troubleshooting.md").read_text().splitlines():
        quoted = re.match(r"\| `([^`]+)`", line)
        if quoted and not quoted[1].startswith(foreign):
            # Where a value stands in the message; the index's name is one.
            for piece in re.split(r"\.\.\.|index\.json", quoted[1]):
                assert piece.strip() in said, f"nothing says {piece!r} any more"


@pytest.mark.starts_process
@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_launch_scripts_pass_shellcheck():
    run_command(["shellcheck", *map(str, SCRIPTS)])


@pytest.mark.starts_process
@pytest.mark.parametrize("script", ["one_gpu.sh", "one_node.sh", "two_nodes.sh"])
def test_launchers_pass_flags_on_unchanged(script, tmp_path):
    # What they start is replaced by a program that prints its arguments: a real training is in test_end_to_end.
    # No driver: it would say how many cards this machine has.
    for name in ("python", "accelerate", "nvidia-smi"):
        (tmp_path / name).write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        (tmp_path / name).chmod(0o755)
    house = tmp_path / "house"
    shutil.copytree(REPOSITORY / "launch", house / "launch")
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "GPUS": "3"}
    if script == "two_nodes.sh":
        (tmp_path / "ip").write_text("#!/bin/sh\necho 10.0.0.5 dev eth7 src 10.0.0.6\n")
        (tmp_path / "ip").chmod(0o755)
        environment |= {"RANK_OF_MACHINE": "1", "HEAD": "10.0.0.5"}
    flags = ["--prompt", "two words", "--caption", "a 'quoted' *", ""]
    done = subprocess.run(
        [house / "launch" / script, *flags], env=environment, capture_output=True, text=True, check=True, cwd="/"
    )
    printed = done.stdout.split("\n")[:-1]
    assert printed[printed.index(str(house / "train.py")) + 1 :] == flags
    processes = {"one_node.sh": "3", "two_nodes.sh": "6"}.get(script)
    assert processes is None or printed[printed.index("--num_processes") + 1] == processes


@pytest.mark.starts_process
def test_one_node_names_its_worlds():
    environment = {**os.environ, "WORLD": "zero9", "GPUS": "1"}
    done = subprocess.run(
        [REPOSITORY / "launch/one_node.sh"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "zero9" in done.stderr and "zero2.yaml" in done.stderr


@pytest.mark.starts_process
@pytest.mark.slow
@pytest.mark.parametrize(
    "base",
    [
        "toy",
        pytest.param(
            "tiny",
            marks=[
                pytest.mark.promise(
                    "the README's quick start, literally, with a tiny base under the names of the Wan repositories' "
                    "files",
                    bar="ends with an adapter, videos and a report",
                    proof="model",
                ),
                pytest.mark.proof_only("the toy base is in make test", proof="model"),
            ],
        ),
    ],
)
def test_the_readmes_commands_run_as_typed(base, toy_inputs, tmp_path):
    """Its own toy settings, but for a smaller config, and its own blocks, by bash; Python is warm.

    tiny: with a base of the real model's layout and file names, read from the README's own path.
    """
    config = tmp_path / "small.yaml"
    text = (REPOSITORY / "configs/demo.yaml").read_text()
    smaller = {"num_epochs: 14": "num_epochs: 1", "num_workers: 1": "num_workers: 0", "num_frames: 9": "num_frames: 5"}
    for whole, small in (smaller | {"height: 96": "height: 64", "width: 96": "width: 64"}).items():
        assert whole in text
        text = text.replace(whole, small)
    config.write_text(text)
    models = tmp_path / "models"
    # One clip, for rendering is most of it.
    clips = sorted((toy_inputs.dataset / "videos").glob("*.mp4"), key=lambda clip: clip.stem.split("_")[3])[1:2]
    for folder, made in ((tmp_path / "clips", "videos"), (tmp_path / "poses", "poses")):
        folder.mkdir()
        for file in (file for clip in clips for file in (toy_inputs.dataset / made).glob(f"{clip.stem}*")):
            (folder / file.name).symlink_to(file)
    pose = tmp_path / "poses" / f"{clips[0].stem}_pose.mp4"
    given = variables("toy") | {
        "CONFIG": str(config),
        "FRAMES": "5",
        "HEIGHT": "64",
        "WIDTH": "64",
        "WORLD": "launch/accelerate/cpu.yaml",
        "PHOTOS": str(toy_inputs.dataset / "photos" / "target"),
        "CLIPS": str(tmp_path / "clips"),
        "POSES": str(tmp_path / "poses"),
        "POSE": str(pose),
        "OUT": str(tmp_path / "out"),
        "PEOPLE": str(toy_inputs.dataset / "references"),
    }
    if base == "tiny":
        write_both(tmp_path / "layouts")
        given["MODEL"] = variables("real")["MODEL"].replace("models/", f"{models}/", 1)
        Path(given["MODEL"]).parent.mkdir(parents=True)
        (tmp_path / "layouts" / "original").rename(given["MODEL"])
    assert set(given) == set(variables("real"))
    blocks = [block for block in bash_blocks(README) if "$OUT" in block and "tensorboard" not in block]
    programs = programs_for_bash(tmp_path / "programs")
    lines = ["set -euo pipefail", f"export PATH={shlex.quote(str(programs))}:{shlex.quote(str(BIN))}:$PATH"]
    lines += [f"{name}={shlex.quote(value)}" for name, value in given.items()]
    # A free port: other tests launch as well. Fewer phrases, and smaller photos: all of them take half a minute.
    phrases = tmp_path / "phrases.yaml"
    phrases.write_text("groups: {skin: [pale skin, light skin, tan skin, brown skin, dark skin]}\n")
    fewer = f"describe_person.py --phrases {phrases} --photo_size 32"
    shorter = {'"$WORLD" train.py': '"$WORLD" --main_process_port 0 train.py', "describe_person.py": fewer}
    for whole, short in shorter.items():
        assert any(whole in block for block in blocks)
        blocks = [block.replace(whole, short) for block in blocks]
    run_command(["bash", "-c", "\n".join([*lines, *blocks])], timeout_s=600)
    out = tmp_path / "out"
    for made in ("identity/report.html", "run/face_lora_final.pth", "run_raw/face_lora_final.safetensors", "anna.mp4"):
        assert (out / made).is_file()
    assert (out / "evaluation" / "report.html").is_file()
    assert (out / "rendered" / f"{pose.stem}.mp4").is_file()

#!/usr/bin/env bash
# The whole product on a small drawn world, on two CPU processes, into demo_out/; ends with a report that judges it.
# Run again: it goes on from there. Called by `make demo`, which sets up .venv first. Usage: launch/demo.sh [OUT [SEED]]
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
# Two busy processes on two cores with two threads each are many times slower than with one.
export OMP_NUM_THREADS=1
# The same on every machine: a GPU, where there is one, is not used.
export CUDA_VISIBLE_DEVICES="" DS_ACCELERATOR=cpu

out=${1:-demo_out} seed=${2:-3}
size=(--num_frames 9 --height 64 --width 64)
# Guidance here is of the face alone: the toy base says nothing by its prompts. Twelve steps are enough for 64 pixels.
render=(--cfg_scale 3 --num_inference_steps 12)
began=$(date +%s)

bold="" plain=""
if [ -t 1 ]; then bold=$'\033[1m' plain=$'\033[0m'; fi
step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
trap 'echo "demo: stopped here; run make demo again to go on, or remove $out/ to begin anew" >&2' ERR
# Two at a time: the machine has two cores, and every one of these runs on one.
both() { local jobs=() job; for job in "$@"; do "$job" & jobs+=("$!"); done; for job in "${jobs[@]}"; do wait "$job"; done; }

# What an earlier version of the demo left cannot be gone on with: other clips, another base, another recipe.
version=$({ cat launch/demo.sh configs/demo.yaml faceid/toy/*.py; find faceid/toy/weights -type f -exec sha256sum {} + | sort; } | sha256sum)
if [ -f "$out/.version" ] && [ "$(cat "$out/.version")" != "$version" ]; then
  echo "demo: $out/ was made by another version of this demo, so it is made anew"
  rm -rf "${out:?}"/*
fi
mkdir -p "$out"
echo "$version" >"$out/.version"

step "1/8 A small world is drawn: photos of one person to learn, clips of eight others dancing, and people to compare with."
world() { python tools/make_toy_dataset.py --num_frames 9 --reference_photos 4 "$@"; }
target_world() { world --output_dir "$out/dataset" --num_people 8 --clips_per_person 3 --num_frames 33 --bad_photos 4 --photos_per_person 14 --seed "$seed"; }
# Nobody in it was ever trained on: 15 strangers, who also dance the poses that are rendered at the end.
strangers_world() { world --output_dir "$out/strangers" --num_people 15 --clips_per_person 1 --seed "$((100 + seed))"; }
# The first dancers of the world that the shipped adapter learnt from.
known_world() { world --output_dir "$out/known" --num_people 16 --clips_per_person 1 --seed 1000; }
others() { strangers_world && known_world; }
both target_world others
for group in strangers known; do rm -rf "$out/$group/photos/target" "$out/$group/references/target"; done
mkdir -p "$out/people/references" "$out/poses"
cp -r "$out/dataset/references/target" "$out/strangers/references/." "$out/people/references/"
# Every fourth dance of the strangers: other people, other dances than any that were trained on.
for file in "$out"/strangers/poses/*_d0[1369]_*_pose.mp4; do cp "$file" "$out/poses/"; done
mkdir -p "$out/poses_few"
for file in "$out"/strangers/poses/*_d0[16]_*_pose.mp4; do cp "$file" "$out/poses_few/"; done

step "2/8 Photos become identities: faces are found, embedded, weighed. Four of the target's were made bad on purpose."
identity() {
  python tools/prepare_face_embeddings.py --face_images_dir "$out/dataset/photos/target" \
    --output_dir "$out/identities/target/target" --identity_name target --encoder_path toy
}
identities() {
  for group in strangers known; do
    python tools/prepare_face_embeddings.py --people_dir "$out/$group/photos" --output_dir "$out/identities/$group" --encoder_path toy
  done
}

step "3/8 Clips and their pose videos are paired by frame and packed into shards; the VAE turns them into latents, once."
latents() {
  python tools/make_shards.py --dance_videos_dir "$out/dataset/videos" --pose_videos_dir "$out/dataset/poses" \
    --output_dir "$out/shards" "${size[@]}"
  python tools/encode_latents.py --shards "$out/shards" --model_path toy --output_dir "$out/latents"
}
people_and_clips() { identity && identities; }
both people_and_clips latents

step "4/8 Two processes train mapper, face attention and LoRA under DeepSpeed ZeRO-2; stage 2 holds the mapper still."
train() {
  accelerate launch --config_file launch/accelerate/cpu_zero2.yaml --main_process_port 0 train.py \
    --config configs/demo.yaml --face_images_dir "$out/dataset/photos/target" --face_embedding "$out/identities/target/target" \
    --latents "$out/latents" --shards "$out/shards" "$@"
}
train --output_dir "$out/run"

step "5/8 The same again by the naive recipe (pairing: constant): the target's face over everybody's clips."
train --output_dir "$out/run_naive" --pairing constant --validate_every 0

step "6/8 The adapters render poses that nobody trained on, as the target, as strangers, and as people of the training world."
sample() { # sample NAME ADAPTER PEOPLE POSES SCALE
  [ -f "$out/rendered/$1/.done" ] && return
  python sample.py --batch --face_lora_path "$2" --identities_dir "$out/identities/$3" --pose_videos_dir "$out/$4" \
    --output_dir "$out/rendered/$1" --face_scale "$5" "${render[@]}" && touch "$out/rendered/$1/.done"
}
base_alone() {
  [ -f "$out/rendered/base_alone/.done" ] && return
  python sample.py --batch --model_path toy "${size[@]}" --fps 16 --pose_videos_dir "$out/poses" --output_dir "$out/rendered/base_alone" \
    "${render[@]}" && touch "$out/rendered/base_alone/.done"
}
ours=$out/run/face_lora_final.safetensors naive=$out/run_naive/face_lora_final.safetensors
first_half() {
  sample base "$ours" target poses 0
  for scale in 0.25 0.5 0.75; do sample "scale_$scale" "$ours" target poses "$scale"; done
  sample ours "$ours" target poses 1
  sample strangers_by_ours "$ours" strangers poses_few 1
  sample naive "$naive" target poses 1
}
second_half() {
  base_alone
  for scale in 1.25 1.5; do sample "scale_$scale" "$ours" target poses "$scale"; done
  sample heldout toy strangers poses_few 1
  sample known toy known poses_few 1
}
both first_half second_half

step "7/8 Judges that share nothing with the training look at every frame: who is it, and do they dance as told?"
judge() {
  python tools/evaluate.py --recognisers '[toy_recogniser, toy_readout]' --adapter "$ours" \
    --heads_dir "$out/strangers/videos" "$@"
}
known() {
  judge --renders "[known=$out/rendered/known]" --training_people known --references_dir "$out/known/references" \
    --output_dir "$out/evaluation_known" --title "People of the training world, in new poses"
}
target() {
  judge --renders "[base=$out/rendered/base, scale_0.25=$out/rendered/scale_0.25, scale_0.5=$out/rendered/scale_0.5, scale_0.75=$out/rendered/scale_0.75, ours=$out/rendered/ours, scale_1.25=$out/rendered/scale_1.25, scale_1.5=$out/rendered/scale_1.5, strangers by ours=$out/rendered/strangers_by_ours, naive=$out/rendered/naive, strangers=$out/rendered/heldout, base alone=$out/rendered/base_alone]" \
    --base base --ours ours --naive naive --wrong "strangers by ours" --heldout_people strangers --unadapted_base "base alone" \
    --target target --references_dir "$out/people/references" --joints_dir "$out/strangers/poses" --pose_reader toy \
    --output_dir "$out/evaluation" --title "faceid: one person, learnt from photos" --notes "$out/notes.txt"
}
cat >"$out/notes.txt" <<END
Shipped with the package: the tiny base (VAE, transformer, text encoder), the face encoder, an adapter that learnt faces in general on 800 drawn dancers (stage 1), and the judges. None of them has seen the target or the strangers.
Trained just now, on this machine: "ours" and "naive", $(grep -c loss "$out/run/metrics.jsonl" || true) logged steps each, from that adapter, on the target's photos and clips of eight other dancers.
"naive" differs in one thing: pairing: constant, the target's embedding over everybody's clips.
END
both known target

step "8/8 Done."
cp "$out/evaluation/report.html" "$out/report.html"
python tools/merge_summaries.py --summaries "[$out/evaluation/summary.json, $out/evaluation_known/summary.json]" \
  --output "$out/summary.json" --wall_s "$(($(date +%s) - began))"
cat <<END

  $out/report.html                   reference photos, poses and renders side by side, and every score
  $out/summary.json                  the figures above
  $out/identities/target/target/report.html   each photo: its face, its weight, or why it was dropped
  $out/rendered/                     the rendered mp4s; jobs.jsonl lists them
  $out/run/                          the run: config, metrics, checkpoints, adapters, validation videos
  .venv/bin/tensorboard --logdir $out/run/tensorboard     loss, learning rate, gradient norm, previews

What to run with your own photos and clips: README.md, "The real model".
END

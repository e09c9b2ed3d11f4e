#!/usr/bin/env bash
# The whole product on a small drawn world, on two CPU processes, into demo_out/. Run again: it goes on from there.
# Called by `make demo`, which sets up .venv first.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
# Two busy processes on two cores with two threads each are many times slower than with one.
export OMP_NUM_THREADS=1
# The same on every machine: a GPU, where there is one, is not used.
export CUDA_VISIBLE_DEVICES="" DS_ACCELERATOR=cpu

out=demo_out
size=(--num_frames 9 --height 64 --width 64)

bold="" plain=""
if [ -t 1 ]; then bold=$'\033[1m' plain=$'\033[0m'; fi
step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
trap 'echo "demo: stopped here; run make demo again to go on, or remove $out/ to begin anew" >&2' ERR

# What an earlier version of the demo left cannot be gone on with: other clips, another base, another recipe.
version=$(cat launch/demo.sh configs/demo.yaml faceid/toy/*.py | sha256sum)
if [ -f "$out/.version" ] && [ "$(cat "$out/.version")" != "$version" ]; then
  echo "demo: $out/ was made by another version of this demo, so it is made anew"
  rm -rf "$out/dataset" "$out/identity" "$out/shards" "$out/latents" "$out/run" "$out/rendered"
fi
mkdir -p "$out"
echo "$version" >"$out/.version"

step "1/7 A small world is drawn: photos of one person to learn, and clips of four other people dancing."
# World 3's person wears no glasses: the face detector was made for photographs and misses many a drawn pair.
# The clips are longer than the 9 frames taken, so that their pairing with the poses can be judged.
python tools/make_toy_dataset.py --output_dir "$out/dataset" --num_people 4 --clips_per_person 3 \
  --num_frames 33 --photo_size 256 --bad_photos 4 --seed 3

step "2/7 Photos become an identity: faces are found, embedded, weighed. Four of them were made bad on purpose."
python tools/prepare_face_embeddings.py --face_images_dir "$out/dataset/photos/target" \
  --output_dir "$out/identity" --identity_name target --encoder_path toy

step "3/7 Clips and their pose videos are paired by frame and packed into shards."
python tools/make_shards.py --dance_videos_dir "$out/dataset/videos" --pose_videos_dir "$out/dataset/poses" \
  --output_dir "$out/shards" "${size[@]}"

step "4/7 The VAE turns the shards into latents, once, so that training never decodes a video."
python tools/encode_latents.py --shards "$out/shards" --model_path toy --output_dir "$out/latents"

step "5/7 Two processes train mapper, face attention and LoRA under DeepSpeed ZeRO-2; stage 2 holds the mapper still."
accelerate launch --config_file launch/accelerate/cpu_zero2.yaml --main_process_port 0 train.py \
  --config configs/demo.yaml --face_images_dir "$out/dataset/photos/target" --face_embedding "$out/identity" \
  --latents "$out/latents" --shards "$out/shards" --output_dir "$out/run"

step "6/7 The adapter renders every pose video."
python sample.py --batch --face_lora_path "$out/run/face_lora_final.safetensors" --face_embedding "$out/identity" \
  --pose_videos_dir "$out/dataset/poses" --output_dir "$out/rendered" --num_inference_steps 6

step "7/7 Poses, clips and renders go side by side into one picture."
python tools/make_contact_sheet.py --dance_videos_dir "$out/dataset/videos" --pose_videos_dir "$out/dataset/poses" \
  --rendered_dir "$out/rendered" --output "$out/contact_sheet.png"

step "Done. Every stage ran for real: the same code, flags and files serve the real model."
cat <<END
The embedded base and face encoder have random weights for now. So the rendered videos are noise, no face can be
recognised in them, and the wrong person among the photos goes unnoticed. What this shows is that every stage really
runs on your machine, from photos to mp4s.

  $out/contact_sheet.png             poses, clips and renders side by side
  $out/identity/report.html          each photo: its face, its weight, or why it was dropped
  $out/rendered/                     the rendered mp4s; jobs.jsonl lists them
  $out/run/                          the run: config, metrics, checkpoints, adapters, validation videos
  .venv/bin/tensorboard --logdir $out/run/tensorboard     loss, learning rate, gradient norm, previews

What to run with your own photos and clips: README.md, "The real model".
END

#!/usr/bin/env bash
# The whole product on a small drawn world, on two CPU processes, into demo_out/; ends with a report that judges it.
# Run again: it goes on from there. Called by `make demo`, which sets up .venv first. Usage: launch/demo.sh [OUT [SEED]]
# SIZE=small takes the same steps with half of the training, at a higher rate, and fewer renders: for tests.
set -euo pipefail
script=demo
# The repository, also where CDPATH is set or this script is called through a link.
unset CDPATH
house=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
if [ ! -f "$house/launch/checks.sh" ]; then house=$(realpath -- "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/.."); fi
# shellcheck source=launch/checks.sh
source "$house/launch/checks.sh"
cd -- "$house"
# Two busy processes on two cores with two threads each are many times slower than with one.
export OMP_NUM_THREADS=1
# The same on every machine: a GPU, where there is one, is not used.
export CUDA_VISIBLE_DEVICES="" DS_ACCELERATOR=cpu
# Where set-up compiled it.
export TORCH_EXTENSIONS_DIR="$PWD/.venv/torch_extensions"

if [ "$#" -gt 2 ]; then refuse "$*: too many words; give OUT and SEED, or nothing"; fi
out=${1:-demo_out} seed=${2:-3}
# Not an option, to any program.
if [[ $out == -* ]]; then out=./$out; fi
# The judge is given its folders as a list in one word.
if [[ $out == *[][{},\#\'\"]* ]]; then refuse "OUT=$out: holds one of []{},#'\", which end a name in a list; name another folder"; fi
size=(--num_frames 9 --height 96 --width 96)
# Each video has a noise of its own. Pose, guidance and steps: docs/decisions/likeness.md.
render=(--control_scale 1.5 --cfg_scale 1.3 --cfg_start 0.3 --num_inference_steps 6 --reference_guidance true --gallery false --seed per_video)
case ${SIZE:-full} in
  full) shorter=() looked_at=8 weaker=(0.5) stronger=(1.25) dances=1369 few=36 others=(3 8) after=(--num_epochs 6 --freeze_mapper_after_epochs 3) ;;
  small) looked_at=3 shorter=(--num_epochs 4 --freeze_mapper_after_epochs 2 --save_every 2) weaker=(0.5) stronger=() dances=16 few=1 others=(3) after=() ;;
  *) refuse "SIZE=$SIZE: is neither full nor small; take one" ;;
esac
# Worlds in which the detector finds everybody; and for each, sixteen people of the training world of whom that is true
# and whose real clips the judge tells apart (benchmarks/records/whole_groups.json).
case $seed in
  3) first_known=1 ;;
  5) first_known=19 ;;
  8) first_known=46 ;;
  *) refuse "SEED=$seed: only the worlds 3, 5 and 8 are known to be whole; take one" ;;
esac
check_output OUT "$out"
began=$(date +%s)

bold="" plain=""
if [ -t 1 ]; then bold=$'\033[1m' plain=$'\033[0m'; fi
step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
trap 'echo "demo: stopped here; run make demo again to go on, or remove $out/ to begin anew" >&2' ERR
# Beside each other: the machine has two cores, and every one of these runs on one.
beside() {
  local jobs=() job
  for job in "$@"; do "$job" & jobs+=("$!"); done
  # When one fails the other is stopped: nothing goes on writing behind the message.
  for job in "${jobs[@]}"; do
    wait "$job" || { printf '%s\n' "${jobs[@]}" | xargs -n1 pkill -P || true; return 1; }
  done
}

# Write a file, by a rename, from another or from what comes in; one that somebody changed since is kept, and said.
put() { # put FILE [FROM]
  local new=$out/.new
  cat ${2:+"$2"} >"$new"
  if [ -e "$1" ] && ! grep -qsF "$(sha256sum <"$1")" "$out/.written"; then
    echo "demo: $1: is not as the demo wrote it; it is kept as it is${2:+, and the new one is $2}" >&2
    rm "$new"
    return
  fi
  sha256sum <"$new" >>"$out/.written"
  mv "$new" "$1"
}
put_all() { # put_all FOLDER FILE ...
  local file
  mkdir -p -- "$1"
  for file in "${@:2}"; do put "$1/${file##*/}" "$file"; done
}

# What an earlier version of the demo left cannot be gone on with: other clips, another base, another recipe.
version=$({ echo "$seed ${SIZE:-full}"; cat launch/demo.sh configs/demo.yaml faceid/toy/*.py; find faceid/toy/weights -type f -exec sha256sum {} + | sort; } | sha256sum)
if [ -n "$(ls -A -- "$out" 2>/dev/null)" ] && [ ! -f "$out/.version" ]; then
  refuse "OUT=$out: holds files that no demo wrote; name another folder"
fi
if [ -f "$out/.version" ] && [ "$(cat "$out/.version")" != "$version" ]; then
  refuse "OUT=$out: was made by another version of this demo; remove it (rm -r $out), or name another folder"
fi
check_python
check_programs accelerate
mkdir -p -- "$out"
# Stopped and run again, all its parts count.
trap 'echo "$(($(date +%s) - began))" >>"$out/.seconds"' EXIT
echo "$version" >"$out/.version"

step "1/8 A small world is drawn: photos of one person to learn, clips of eight others dancing, and people to compare with."
world() { python tools/make_toy_dataset.py --num_frames 9 --reference_photos 4 "$@"; }
target_world() { world --output_dir "$out/dataset" --num_people 8 --clips_per_person 3 --num_frames 33 --bad_photos 4 --photos_per_person 14 --target_clips 4 --seed "$seed"; }
# Nobody in it was ever trained on: 15 strangers, who also dance the poses that are rendered at the end.
strangers_world() { world --with_target false --output_dir "$out/strangers" --num_people 15 --clips_per_person 1 --seed "$((100 + seed))"; }
# Sixteen dancers of the world that the shipped adapter learnt from, for each seed others.
known_world() { world --with_target false --output_dir "$out/known" --num_people 16 --first_person "$first_known" --clips_per_person 1 --seed 1000; }
two_worlds() { strangers_world && known_world; }
beside target_world two_worlds
for kind in references photos; do
  for person in "$out/dataset/$kind/target" "$out/strangers/$kind"/*/; do put_all "$out/people/$kind/$(basename -- "$person")" "$person"/*; done
done
# Heads and joints of all that is judged.
put_all "$out/truth" "$out"/strangers/videos/*.heads.json "$out"/strangers/poses/*.joints.json "$out"/dataset/target_videos/*.heads.json "$out"/dataset/target_poses/*.joints.json
# Dances of the strangers: other people, other dances than any that were trained on.
put_all "$out/poses" "$out"/strangers/poses/*_d0["$dances"]_*_pose.mp4
put_all "$out/poses_few" "$out"/strangers/poses/*_d0["$few"]_*_pose.mp4
put_all "$out/poses_all" "$out"/strangers/poses/*_pose.mp4

step "2/8 Photos become identities: faces are found, embedded, weighed. Four of the target's were made bad on purpose."
# By the weak encoder, as CLIP is, and by the strong one, as a face recogniser is.
identity() { # identity FOLDER ENCODER
  python tools/prepare_face_embeddings.py --face_images_dir "$out/dataset/photos/target" \
    --output_dir "$out/$1/target" --identity_name target --encoder_path "$2"
}
identities() {
  for group in strangers known; do
    python tools/prepare_face_embeddings.py --people_dir "$out/$group/photos" --output_dir "$out/identities/$group" --encoder_path toy_strong
  done
}
weak_encoder() {
  python tools/verify_encoder.py --faces_dir "$out/known/photos" --encoder_path toy --output_dir "$out/encoder"
}

# What the base itself takes the person for. Training begins with it, and learns what no phrase says.
describe() {
  [ -f "$out/description.safetensors" ] && return
  python tools/describe_person.py --face_images_dir "$out/dataset/photos/target" --face_embedding "$out/identities/target/target" \
    --model_path toy --most_photos "$looked_at" --output "$out/description.safetensors"
}

step "3/8 Clips and their pose videos are paired by frame and packed into shards; the VAE turns them into latents, once."
latents() {
  python tools/make_shards.py --dance_videos_dir "$out/dataset/videos" --pose_videos_dir "$out/dataset/poses" \
    --output_dir "$out/shards" "${size[@]}"
  python tools/encode_latents.py --shards "$out/shards" --model_path toy --output_dir "$out/latents"
}
target_first() { identity identities/target toy && describe; }
all_people() { identity identities/target_strong toy_strong && identities && weak_encoder; }
clips_and_people() { latents && all_people; }
beside target_first clips_and_people
# The strangers dance in five groups of three, each to other dances than their own; all fifteen dances are danced.
for group in 0 1 2 3 4; do
  people=$(printf '"d%02d", ' $((3 * group + 1)) $((3 * group + 2)) $((3 * group + 3))) poses=""
  for step in "${others[@]}"; do
    for file in "$out"/strangers/poses/*"_$(printf 'd%02d' $(((3 * group + step) % 15 + 1)))_"*_pose.mp4; do poses+="\"${file##*/}\", "; done
  done
  printf '{"identity": [%s], "pose": [%s]}\n' "${people%, }" "${poses%, }"
done | put "$out/heldout.jsonl"

step "4/8 Two processes train mapper, face attention and LoRA under DeepSpeed ZeRO-2, from the base alone; stage 2 holds the mapper still."
train() { # train IDENTITY [FLAG ...]
  accelerate launch --config_file "$processes" "${alone[@]}" --main_process_port 0 train.py \
    --config configs/demo.yaml --face_images_dir "$out/dataset/photos/target" --face_embedding "$out/identities/$1/target" \
    --latents "$out/latents" --shards "$out/shards" --seed "$seed" "${described[@]}" "${shorter[@]}" "${@:2}"
}
described=(--target_description "$out/description.safetensors")
processes=launch/accelerate/cpu_zero2.yaml alone=()
train target --output_dir "$out/run"

step "5/8 Three runs to compare with: the naive recipe, a LoRA without a face, and ours after an adapter that knows faces in general."
# The target's face over everybody's clips.
naive_recipe() { train target --output_dir "$out/run_naive" --pairing constant; }
# Without a face every sample is one of nobody, whose pixels it learns; a trigger word stands for the person.
plain_lora() {
  local described=()
  train target --output_dir "$out/run_lora" --face_dropout 1 --text_dropout 0 --both_dropout 0 --null_target data \
    --target_tokens false --target_words 0 --reference_share 0 --photo_caption "a portrait of zqx person"
}
# Whoever wants other faces of the adapter, too, begins with one that has seen many, and gives it an encoder that tells them apart.
taught_before() {
  train target_strong --output_dir "$out/run_taught" --encoder_path toy_strong --init_adapter toy_strong \
    --learning_rate 1e-4 --target_tokens_rate 30 "${after[@]}"
}
# As many samples a step, in one process each: they are done sooner so.
processes=launch/accelerate/cpu.yaml alone=(--num_processes 1)
beside naive_recipe plain_lora taught_before

step "6/8 The adapters render poses that nobody trained on, as the target, as strangers, and as people of the training world."
sample() { # sample NAME ADAPTER PEOPLE POSES SCALE [FLAG ...]
  local folder=$out/rendered/$1 made_by=$2
  if [ -f "$2" ]; then made_by=$(sha256sum <"$2"); fi
  if [ -f "$folder.made_by" ] && [ "$(cat "$folder.made_by")" != "$made_by" ]; then
    refuse "$folder: was rendered by another adapter; remove it and $folder.made_by"
  fi
  [ -f "$folder/.done" ] && return
  mkdir -p -- "$out/rendered"
  echo "$made_by" >"$folder.made_by"
  python sample.py --batch --face_lora_path "$2" --identities_dir "$out/identities/$3" --pose_videos_dir "$out/$4" \
    --output_dir "$folder" --face_scale "$5" "${render[@]}" "${@:6}" && touch "$folder/.done"
}
base_alone() {
  [ -f "$out/rendered/base_alone/.done" ] && return
  # The noises of the base arm, which follow from the person: nobody is given here.
  python -c 'import json, sys; [print(json.dumps({key: row[key] for key in ("pose", "seed")})) for row in map(json.loads, sys.stdin)]' <"$out/rendered/base/jobs.jsonl" | put "$out/base_alone.jsonl"
  python sample.py --batch --model_path toy "${size[@]}" --fps 16 --pose_videos_dir "$out/poses_all" --jobs "$out/base_alone.jsonl" \
    --output_dir "$out/rendered/base_alone" "${render[@]:0:${#render[@]}-2}" && touch "$out/rendered/base_alone/.done"
}
final=face_lora_final.safetensors
ours=$out/run/$final naive=$out/run_naive/$final lora=$out/run_lora/$final taught=$out/run_taught/$final
first_half() {
  # The base itself: no face, and no picture of the person either.
  sample base "$ours" target poses_all 0 --own_references 0
  base_alone
  for scale in "${weaker[@]}"; do sample "scale_$scale" "$ours" target poses_all "$scale"; done
  sample ours "$ours" target poses_all 1
  sample strangers_by_ours "$taught" strangers strangers/poses 1 --jobs "$out/heldout.jsonl"
  sample heldout toy_strong strangers strangers/poses 1 --jobs "$out/heldout.jsonl"
}
second_half() {
  for scale in "${stronger[@]}"; do sample "scale_$scale" "$ours" target poses_all "$scale"; done
  sample start toy target poses_all 1
  sample naive "$naive" target poses_all 1
  sample lora "$lora" target poses_all 1 --prompt "zqx person dancing in a studio" --own_references 0
  sample reference "$ours" target poses_all 0 --own_references 1
  sample known toy_strong known poses_few 1
}
beside first_half second_half

step "7/8 Judges that share nothing with the training look at every frame: who is it, and do they dance as told?"
judge() {
  python tools/evaluate.py --recognisers '[toy_recogniser, toy_readout]' --adapter "$ours" \
    --heads_dir "$out/truth" "$@"
}
known() {
  judge --renders "[known=$out/rendered/known]" --training_people known --references_dir "$out/known/references" \
    --conditioning_dir "$out/known/photos" \
    --output_dir "$out/evaluation_known" --title "People of the training world, in new poses"
}
target() {
  local arms="base=$out/rendered/base, " scale
  for scale in "${weaker[@]}"; do arms+="scale_$scale=$out/rendered/scale_$scale, "; done
  arms+="ours=$out/rendered/ours, "
  for scale in "${stronger[@]}"; do arms+="scale_$scale=$out/rendered/scale_$scale, "; done
  arms+="strangers by ours=$out/rendered/strangers_by_ours, naive=$out/rendered/naive, plain LoRA=$out/rendered/lora, reference only=$out/rendered/reference, "
  arms+="strangers=$out/rendered/heldout, shipped adapter=$out/rendered/start, base alone=$out/rendered/base_alone, real clips=$out/strangers/videos, real clips=$out/dataset/target_videos"
  judge --renders "[$arms]" --real "real clips" --real_vae toy --drivers_csv "$out/dataset/target_videos/dancers.csv" --base base --ours ours --from_base ours --plain_lora "plain LoRA" --reference_only "reference only" --start "shipped adapter" --naive naive --wrong "strangers by ours" --wrong_start strangers --heldout_people strangers --unadapted_base "base alone" \
    --target target --references_dir "$out/people/references" --conditioning_dir "$out/people/photos" --joints_dir "$out/truth" --pose_reader toy \
    --output_dir "$out/evaluation" --title "faceid: one person, learnt from photos" --notes "$out/notes.txt"
}
put "$out/notes.txt" <<END
Shipped with the package: the tiny base (VAE, transformer, text encoder), two face encoders, an adapter of each that learnt faces in general on 800 drawn dancers (stage 1), and the judges. None of them has seen the target or the strangers.
Trained just now, on this machine, from the base alone: "ours", "naive" and "plain LoRA", on the target's photos and clips of eight other dancers. Its encoder is the weak one. The words of "ours" and "naive" begin as phrases that the base itself found for the photos.
"naive" differs from "ours" in one thing: pairing: constant, the target's embedding over everybody's clips. "plain LoRA" has no face; a trigger word stands for the person.
"reference only" is the base with one photo as reference frame. "shipped adapter" is that of the weak encoder, which was never trained on the target.
"strangers by ours" was trained on the target after the shipped adapter of the strong encoder, and is then given strangers' faces; "strangers" is that adapter before.
END
beside known target

step "8/8 Done."
put "$out/report.html" "$out/evaluation/report.html"
python tools/make_contact_sheet.py --dance_videos_dir "$out/strangers/videos" --pose_videos_dir "$out/poses" \
  --arms "[base=$out/rendered/base/target, reference only=$out/rendered/reference/target, naive recipe=$out/rendered/naive/target, faceid=$out/rendered/ours/target]" \
  --face_images_dir "$out/people/references/target" --num_clips 1 --num_columns 8 --output "$out/picture.png"
earlier=0
while read -r seconds; do earlier=$((earlier + seconds)); done < <(cat "$out/.seconds" 2>/dev/null)
python tools/merge_summaries.py --summaries "[$out/evaluation/summary.json, $out/evaluation_known/summary.json]" \
  --verification "$out/encoder/verification.json" --output "$out/summary.json" --wall_s "$(($(date +%s) - began + earlier))"
cat <<END

  $out/report.html                   reference photos, poses and renders side by side, and every score
  $out/picture.png                   the photos, a pose, and what each recipe made of them
  $out/summary.json                  the figures above
  $out/description.safetensors       what the base takes the person for
  $out/identities/target/target/report.html   each photo: its face, its weight, or why it was dropped
  $out/rendered/                     the rendered mp4s; jobs.jsonl lists them
  $out/run/                          the run: config, metrics, checkpoints, adapters, validation videos
  .venv/bin/tensorboard --logdir $out/run/tensorboard     loss, learning rate, gradient norm, previews

What to run with your own photos and clips: README.md, "The real model".
END

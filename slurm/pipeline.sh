#!/bin/bash
# The whole chain, each stage when the one before it is done: films, clips and poses to shards, shards to latents,
# latents to an adapter, the adapter to videos.
# Usage: slurm/pipeline.sh [--dry_run] [--from STAGE] EXPERIMENT OUT
# EXPERIMENT: a folder of YAML files with the flags of each command (configs/aist is one to copy): make_shards.yaml,
#   encode_latents.yaml, train.yaml, sample.yaml; and split_clips.yaml, render_poses.yaml, build_face_bank.yaml where
#   clips, poses, a bank of the dancers' faces are to be made.
# OUT: gets clips/, poses/, shards/, face_bank/, latents/, run/ and rendered/, in a place that all nodes see. Folders
#   between the stages are given here, not in the files. --from encode, train or sample: what comes before is there.
# --dry_run: say the sbatch commands and submit nothing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
refuse() { echo "pipeline: $*" >&2; exit 2; }

dry=() first=prepare
while [ "$#" -gt 0 ] && [[ $1 == --* ]]; do
  case $1 in
    --dry_run) dry=(--dry_run) ;;
    --from) shift; first=${1:-} ;;
    *) refuse "$1: unknown; give --dry_run, --from STAGE, then EXPERIMENT and OUT" ;;
  esac
  [ "$#" -eq 0 ] || shift
done
[ "$#" -eq 2 ] || refuse "give EXPERIMENT and OUT, the folders of settings and of results"
[ -d "$1" ] || refuse "EXPERIMENT=$1: no such folder"
experiment=$(cd "$1" && pwd)
out=$(realpath -m "$2")

stages=(prepare encode train sample)
needed=(make_shards encode_latents train sample)
is_due=0 number=0
for stage in "${stages[@]}"; do
  if [ "$stage" = "$first" ]; then is_due=1; fi
  if [ "$is_due" = 1 ] && [ ! -f "$experiment/${needed[number]}.yaml" ]; then
    refuse "$experiment/${needed[number]}.yaml: missing; it has the flags of $stage"
  fi
  number=$((number + 1))
done
[ "$is_due" = 1 ] || refuse "--from $first: is none of ${stages[*]}"
[ "${#dry[@]}" -gt 0 ] || mkdir -p "$out"

job="" is_due=0
submit() { # STAGE ARGUMENTS...: after the stage before; when that fails, this one is cancelled, not left waiting
  local after=()
  if [ "$1" = "$first" ]; then is_due=1; fi
  if [ "$is_due" = 0 ]; then return; fi
  if [ -n "$job" ]; then after=("--dependency=afterok:$job" --kill-on-invalid-dep=yes --); fi
  if [ "${#dry[@]}" -gt 0 ]; then
    "$here/submit.sh" --dry_run "${after[@]}" "$@"
    echo
    job=ID_OF_${1^^}
  else
    job=$("$here/submit.sh" "${after[@]}" "$@")
    # On a federation --parsable says JOB;CLUSTER.
    job=${job%%;*}
    echo "$1: job $job${after[0]:+ (${after[0]})}"
  fi
}
submit prepare "$experiment" "$out"
submit encode --config "$experiment/encode_latents.yaml" --shards "$out/shards" --output_dir "$out/latents"
faces=(--shards "$out/shards")
if [ -f "$experiment/build_face_bank.yaml" ]; then faces=(--face_bank "$out/face_bank"); fi
submit train --config "$experiment/train.yaml" --latents "$out/latents" "${faces[@]}" --output_dir "$out/run"
submit sample --config "$experiment/sample.yaml" --face_lora_path "$out/run/face_lora_final.safetensors" \
  --output_dir "$out/rendered"

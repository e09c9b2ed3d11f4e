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
script=pipeline
# The repository, also where CDPATH is set or this script is called through a link.
unset CDPATH
house=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
if [ ! -f "$house/launch/checks.sh" ]; then house=$(realpath -- "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/.."); fi
# shellcheck source=launch/checks.sh
source "$house/launch/checks.sh"
export FACEID_HOME=$house
# shellcheck source=slurm/settings.sh
source "$FACEID_HOME/slurm/settings.sh"
# shellcheck source=slurm/arguments.sh
source "$FACEID_HOME/slurm/arguments.sh"

is_dry=0 first=prepare stages=(prepare encode train sample) needed=(make_shards encode_latents train sample)
while [ "$#" -gt 0 ] && [[ $1 == --* ]]; do
  case $1 in
    --) shift; break ;;
    --dry_run) is_dry=1 ;;
    --from) first=${2:-}; [ "$#" -eq 1 ] || shift ;;
    *) refuse "$1: unknown; give --dry_run, --from STAGE, then EXPERIMENT and OUT" ;;
  esac
  shift
done
[ "$#" -eq 2 ] || refuse "$#: not two words after the options; give EXPERIMENT and OUT, the folders of settings and of results"
[ -d "$1" ] || refuse "EXPERIMENT=$1: no such folder; copy configs/aist, and give the copy"
check_output OUT "$2"
experiment=$(realpath -ms -- "$1") out=$(realpath -m -- "$2")
while [ "${#stages[@]}" -gt 0 ] && [ "${stages[0]}" != "$first" ]; do stages=("${stages[@]:1}") needed=("${needed[@]:1}"); done
[ "${#stages[@]}" -gt 0 ] || refuse "--from $first: is none of prepare encode train sample"
for number in "${!stages[@]}"; do check_file "$experiment/${needed[number]}.yaml" "the flags of ${stages[number]}"; done

faces=(--shards "$out/shards")
if [ -f "$experiment/build_face_bank.yaml" ]; then faces=(--face_bank "$out/face_bank"); fi
submit() { # STAGE [OPTIONS OF submit.sh]: a stage of this experiment
  local words=()
  case $1 in
    prepare) words=("$experiment" "$out") ;;
    encode) words=(--config "$experiment/encode_latents.yaml" --shards "$out/shards" --output_dir "$out/latents") ;;
    train) words=(--config "$experiment/train.yaml" --latents "$out/latents" "${faces[@]}" --output_dir "$out/run") ;;
    sample) words=(--config "$experiment/sample.yaml" --face_lora_path "$out/run/face_lora_final.safetensors" --output_dir "$out/rendered") ;;
  esac
  "$house/slurm/submit.sh" "${@:2}" -- "$1" "${words[@]}"
}

if [ "$is_dry" = 1 ]; then
  job=""
  for stage in "${stages[@]}"; do
    submit "$stage" --dry_run ${job:+"--dependency=afterok:$job" --kill-on-invalid-dep=yes}
    echo
    job=ID_OF_${stage^^}
  done
  exit 0
fi
check_slurm sbatch scontrol scancel
mkdir -p -- "$out" 2>/dev/null || refuse "OUT=$out: cannot be made; name another place"
# shellcheck source=slurm/chain.sh
source "$house/slurm/chain.sh"
submit_chain "${stages[@]}"

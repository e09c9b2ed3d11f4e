#!/bin/bash
# Submit one stage with what env.sh says: slurm/submit.sh [--dry_run] [SBATCH-OPTIONS --] STAGE ARGUMENTS...
# STAGE: prepare, encode, train or sample; its arguments are said at the top of slurm/STAGE.sbatch. Prints the job's id.
# SBATCH-OPTIONS, such as --dependency=afterok:17 or --array=0-31, come before `--` and win over env.sh.
set -euo pipefail
script=submit
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

is_dry=0 given=()
while [ "$#" -gt 0 ] && [[ $1 == -* ]]; do
  case $1 in
    --) shift; break ;;
    --dry_run) is_dry=1 ;;
    --*) given+=("$1") ;;
    *) refuse "$1: before STAGE go --dry_run and sbatch's long options, as --name=value; give --partition=gpu, not -p gpu" ;;
  esac
  shift
done
stage=${1:-}
[ "$#" -eq 0 ] || shift
case $stage in
  prepare | encode | train | sample) ;;
  *) refuse "STAGE=$stage: is none of prepare, encode, train, sample; before it go sbatch's options, as --name=value, and --" ;;
esac
check_arguments "$stage" "$@"

options=()
[ -z "$ACCOUNT" ] || options+=("--account=$ACCOUNT")
[ -z "$PARTITION" ] || options+=("--partition=$PARTITION")
[ -z "$QOS" ] || options+=("--qos=$QOS")
[ -z "$CONSTRAINT" ] || options+=("--constraint=$CONSTRAINT")
tasks=$TASKS_PER_NODE one_gpu=0
if [ "$GPUS_PER_NODE" -gt 0 ]; then tasks=$GPUS_PER_NODE one_gpu=1; fi
over_nodes=("--ntasks-per-node=$tasks" "--cpus-per-task=$CPUS_PER_TASK" "--gpus-per-node=$GPUS_PER_NODE")
case $stage in
  prepare) options+=("--array=0-$((PREPARE_TASKS - 1))" "--cpus-per-task=$CPUS_PER_TASK" "--time=$PREPARE_TIME") ;;
  encode) options+=("--array=0-$((ENCODE_TASKS - 1))" "--cpus-per-task=$CPUS_PER_TASK" "--time=$ENCODE_TIME" "--gpus-per-node=$one_gpu") ;;
  train) options+=("--nodes=$TRAIN_NODES" "--time=$TRAIN_TIME" "--signal=USR2@$STOP_BEFORE_END_S" "${over_nodes[@]}") ;;
  sample) options+=("--nodes=$SAMPLE_NODES" "--time=$SAMPLE_TIME" "${over_nodes[@]}") ;;
esac
command=(sbatch --parsable "${options[@]}" "${MORE_OPTIONS[@]}" "${given[@]}" "$FACEID_HOME/slurm/$stage.sbatch" "$@")
if [ "$is_dry" = 1 ]; then
  printf '%q ' "${command[@]}"
  exit 0
fi
check_slurm sbatch
# With --wait the exit code is the job's, and what sbatch says is to be seen at once.
if [[ " ${given[*]} " == *" --wait "* ]]; then exec "${command[@]}"; fi
# What it prints is the job's id, and goes on; what it complains of is told in one line.
{ said=$("${command[@]}" 2>&1 >&3); } 3>&1 || refuse "$stage: sbatch refused it (${said:-no word}); docs/slurm.md, Messages, has more"
if [ -n "$said" ]; then printf '%s\n' "$said" >&2; fi

#!/bin/bash
# Submit one stage with what env.sh says: slurm/submit.sh [--dry_run] [SBATCH-OPTIONS --] STAGE ARGUMENTS...
# STAGE: prepare, encode, train or sample; its arguments are said at the top of slurm/STAGE.sbatch. Prints the job's id.
# SBATCH-OPTIONS, such as --dependency=afterok:17 or --array=0-31, come before `--` and win over env.sh.
set -euo pipefail
FACEID_HOME=$(cd "$(dirname "$0")/.." && pwd)
export FACEID_HOME
# shellcheck source=slurm/env.sh
source "${FACEID_ENV:-$FACEID_HOME/slurm/env.sh}"

submit=(sbatch --parsable)
if [ "${1:-}" = --dry_run ]; then
  submit=(printf '%q ' sbatch --parsable)
  shift
fi
given=()
while [ "$#" -gt 0 ] && [[ $1 == --* ]]; do
  if [ "$1" = -- ]; then shift; break; fi
  given+=("$1")
  shift
done
stage=${1:-}
[ "$#" -eq 0 ] || shift

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
  *)
    echo "submit: STAGE=$stage: is none of prepare, encode, train, sample" >&2
    exit 2
    ;;
esac
"${submit[@]}" "${options[@]}" "${MORE_OPTIONS[@]}" "${given[@]}" "$FACEID_HOME/slurm/$stage.sbatch" "$@"

# Reads env.sh, or the copy of it that FACEID_ENV names, and refuses what cannot be: before anything is submitted, and once
# more in the job. Sourced after launch/checks.sh, with FACEID_HOME exported. Sets env_file, world and env.sh's names.
# shellcheck shell=bash disable=SC2034,SC2154  # used and set by those who source this file

env_file=${FACEID_ENV:-$FACEID_HOME/slurm/env.sh}
if [[ $env_file != /* ]]; then
  refuse "FACEID_ENV=$env_file: not an absolute path, and jobs run in another folder; give $PWD/$env_file"
fi
if [ ! -f "$env_file" ] || [ ! -r "$env_file" ]; then
  refuse "FACEID_ENV=$env_file: no file that can be read; name your copy of slurm/env.sh, or leave FACEID_ENV out"
fi
# By a shell of its own first: a line that fails would end this one, or be passed over. The last word says that it was
# read to its end.
# shellcheck disable=SC2016
said=$("$BASH" -c 'set -euo pipefail; source "$1" >/dev/null; echo whole' env.sh "$env_file" 2>&1) || true
if [ "${said##*$'\n'}" != whole ]; then
  refuse "FACEID_ENV=$env_file: cannot be read as shell (${said:-it ends early}); mend that line, or copy slurm/env.sh anew"
fi
# shellcheck source=slurm/env.sh
source "$env_file" >&2
where=" ($env_file)"

for name in ACCOUNT PARTITION QOS CONSTRAINT VENV SCRATCH NETWORK_INTERFACE; do
  if [ -z "${!name+set}" ]; then refuse "$name$where: missing; copy its line from $FACEID_HOME/slurm/env.sh"; fi
done
for name in MORE_OPTIONS MODULES CONTAINER; do
  # Without the brackets an empty one would be an empty word, and a full one a single word.
  if [[ $(declare -p "$name" 2>/dev/null) != "declare -a"* ]]; then
    refuse "$name=${!name-}$where: no list; write $name=(), or each word in quotes: $name=(\"one\" \"two\")"
  fi
done
for word in "${MORE_OPTIONS[@]}" "${MODULES[@]}" "${CONTAINER[@]}"; do
  if [ -z "$word" ]; then refuse "MORE_OPTIONS, MODULES, CONTAINER$where: one has an empty word; take it out"; fi
done
if [[ ${MORE_OPTIONS[0]:--} != -* ]]; then
  refuse "MORE_OPTIONS=(${MORE_OPTIONS[*]})$where: begins with no option, so sbatch would run that; write --name=value"
fi
for word in "${MORE_OPTIONS[@]}"; do
  # With these a job does not start, or sbatch does not come back, and the stages after it wait for ever.
  case $word in
    --hold | -H | --wait | -W | --test-only) refuse "MORE_OPTIONS=(${MORE_OPTIONS[*]})$where: $word is not for every job; give it to submit.sh" ;;
  esac
done
check_number GPUS_PER_NODE 0 1024 "the GPUS of a node, 0 for a CPU world"
for name in TASKS_PER_NODE CPUS_PER_TASK; do check_number "$name" 1 4096 "how many, as scontrol show node allows"; done
for name in TRAIN_NODES SAMPLE_NODES; do check_number "$name" 1 100000 "the number of nodes"; done
for name in PREPARE_TASKS ENCODE_TASKS; do check_number "$name" 1 4000000 "the number of tasks that share the work"; done
check_number STOP_BEFORE_END_S 1 65535 "seconds before the time limit"
check_number MOST_ATTEMPTS 1 1000000 "attempts without a newer checkpoint"
check_number MAIN_PORT 1 65535 "a port that is free on the nodes"
for name in PREPARE_TIME ENCODE_TIME SAMPLE_TIME TRAIN_TIME; do check_time "$name"; done
if [ -n "$seconds" ] && [ "$seconds" -le "$STOP_BEFORE_END_S" ]; then
  refuse "STOP_BEFORE_END_S=$STOP_BEFORE_END_S$where: not before TRAIN_TIME=$TRAIN_TIME is over, so training would stop as it starts; lower it, or give more time"
fi
check_absolute VENV
check_absolute SCRATCH
if [[ $NETWORK_INTERFACE == *[[:space:]/]* ]]; then
  refuse "NETWORK_INTERFACE=$NETWORK_INTERFACE$where: no interface is called so; take a name from ip -br address"
fi
if [[ ${LAUNCHER-} != srun && ${LAUNCHER-} != accelerate ]]; then
  refuse "LAUNCHER=${LAUNCHER-}$where: is none of srun, accelerate; take srun"
fi
check_world

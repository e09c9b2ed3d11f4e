# What the batch scripts share: find the house, read env.sh, run a step and know how it ended, go back into the queue.
# Sourced, with FACEID_HOME set. No `set -e`: a step's exit code is looked at, not died of.
# shellcheck disable=SC2034  # rc is for those who source this file
set -u

say() { printf '%(%F %T)T slurm: %s\n' -1 "$*"; }
give_up() { say "$*" >&2; exit 2; }

[ -f "$FACEID_HOME/train.py" ] || give_up "$FACEID_HOME: not faceid's folder; run sbatch there, or set FACEID_HOME"
cd "$FACEID_HOME" || exit 2
env_file=${FACEID_ENV:-$FACEID_HOME/slurm/env.sh}
# shellcheck source=slurm/env.sh
source "$env_file" || give_up "$env_file: cannot be read; FACEID_ENV names your copy of slurm/env.sh"
world=$FACEID_HOME/launch/accelerate/$WORLD.yaml
[ -f "$world" ] || give_up "WORLD=$WORLD ($env_file): no $world"

if [ "${#MODULES[@]}" -gt 0 ]; then module load "${MODULES[@]}" || give_up "MODULES: cannot be loaded ($env_file)"; fi
if [ -d "$VENV/bin" ]; then export PATH="$VENV/bin:$PATH"; fi
if [ -n "$SCRATCH" ]; then export TMPDIR=$SCRATCH; fi
# NCCL finds its networks by itself; gloo takes what the node's name resolves to, so python tells it (training/address.py).
if [ -n "$NETWORK_INTERFACE" ]; then export GLOO_SOCKET_IFNAME=$NETWORK_INTERFACE NCCL_SOCKET_IFNAME=$NETWORK_INTERFACE; fi
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} PYTHONUNBUFFERED=1
# A job submitted with --export=NONE hands nothing on, not even PATH, unless srun is told.
export SLURM_EXPORT_ENV=ALL
# sbatch's own name for it; srun does not take it over by itself.
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK; fi

# run_step [srun's options] COMMAND...: sets rc to how it ended.
# --wait: when one task has ended, the others have a minute. Not --kill-on-bad-exit: on a clean stop the first task to
# leave with 75 would have the others killed, and srun would say 143.
run_step() {
  srun --kill-on-bad-exit=0 --wait=60 "$@" &
  # Not local: a signal may come between two steps, where `set -u` would end the script over it.
  step=$!
  local seen
  # Slurm signals the steps alone, unless the job was submitted with --signal=B:...: then it is handed on, as USR2, since
  # srun takes TERM for itself and kills the tasks. Builtins only in a trap, and none for CONT, which Slurm sends together
  # with others: bash 5.2 loses signals over it.
  trap 'kill -USR2 "$step" 2>/dev/null' USR2 TERM
  # `wait` returns when a trap has run, with the step alive.
  while :; do
    wait "$step"
    seen=$?
    kill -0 "$step" 2>/dev/null || break
  done
  # It may have ended between the trap and the look: bash still knows how.
  wait "$step" 2>/dev/null
  rc=$?
  if [ "$rc" -eq 127 ]; then rc=$seen; fi
}

# requeue WHY: back into the queue under the same id, unless the job was cancelled or is at its end. Does not return.
requeue() {
  local state
  state=$(squeue --noheader --jobs "$SLURM_JOB_ID" --format %T 2>/dev/null)
  if [ "$state" != RUNNING ]; then
    say "not requeued: the job is ${state:-gone}"
    exit "$rc"
  fi
  say "requeued: $1"
  scontrol requeue "$SLURM_JOB_ID" || { say "not requeued: scontrol refused; submit the same command again"; exit "$rc"; }
  # Slurm ends this script; ending by itself first would be an end of the job.
  sleep 300
  exit "$rc"
}

# For work that goes on where it was by itself, however often it is stopped: only SIGTERM (preemption, time limit) and
# SIGUSR2 are reasons to come again. Not SIGKILL (137): memory that runs out, and would again, looks like that.
finish() {
  if [ "$rc" -eq 143 ] || [ "$rc" -eq 140 ]; then requeue "stopped by a signal (exit code $rc)"; fi
  exit "$rc"
}

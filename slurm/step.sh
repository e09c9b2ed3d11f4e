# What the batch scripts share: find the house, read env.sh, run a step and know how it ended, go back into the queue.
# Sourced, with FACEID_HOME set. No `set -e`: a step's exit code is looked at, not died of.
# shellcheck disable=SC2034  # rc is for those who source this file
set -u

say() { printf '%(%F %T)T slurm: %s\n' -1 "$*"; }
if [ -z "${SLURM_JOB_ID:-}" ]; then
  echo "slurm: no job of Slurm; submit this script: slurm/submit.sh STAGE ..., or sbatch slurm/STAGE.sbatch ..." >&2
  exit 2
fi
script=slurm house=$FACEID_HOME
# shellcheck source=launch/checks.sh
source "$house/launch/checks.sh" || exit 2
# In the log a refusal has its time, as every line of ours.
refuse() { local words="$*"; say "${words//[[:cntrl:]]/ }" >&2; exit 2; }
export FACEID_HOME
if [[ $FACEID_HOME != /* ]]; then refuse "FACEID_HOME=$FACEID_HOME: not an absolute path; give the one from / on"; fi
unset CDPATH
cd -- "$FACEID_HOME" || exit 2
# shellcheck source=slurm/settings.sh
source "$FACEID_HOME/slurm/settings.sh"

# shellcheck source=slurm/node.sh
source "$FACEID_HOME/slurm/node.sh"

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

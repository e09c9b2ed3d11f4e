# Submits a chain of jobs, all of them or none. Sourced by pipeline.sh, which has refuse, and submit STAGE [OPTIONS...].
# shellcheck shell=bash

# submit_chain STAGE...: each after the one before. When Slurm refuses one, those of this call that it had taken are
# cancelled. Prints a line a job.
submit_chain() {
  local stage said options job="" stopped=""
  ids=() report=() cluster=""
  # Else sbatch comes back when the job has ended, and the first one is held.
  unset SBATCH_WAIT
  # Looked at where the id is known: a job whose id is lost could not be cancelled.
  trap 'stopped=1' INT TERM HUP
  for stage in "$@"; do
    # The first is held until Slurm has taken all: of a chain that cannot be nothing runs, whatever becomes of this shell.
    options=(--hold)
    # When the stage before fails, this one is cancelled, not left waiting.
    if [ -n "$job" ]; then options=("--dependency=afterok:$job" --kill-on-invalid-dep=yes); fi
    if ! said=$(submit "$stage" "${options[@]}" 2>&1); then
      said=${said#submit: }
      refuse "${said:-$stage: not submitted}; $(take_back)"
    fi
    # On a federation --parsable says JOB;CLUSTER.
    job=$(grep -m 1 -xE '[0-9]+(;.*)?' <<<"$said") || refuse "$stage: sbatch named no job ($said); $(take_back)"
    grep -vxE '[0-9]+(;.*)?' <<<"$said" >&2 || true
    if [[ $job == *";"* ]]; then cluster=${job#*;} job=${job%%;*}; fi
    ids+=("$job") report+=("$stage: job $job${options[1]:+ (${options[0]})}")
    if [ -n "$stopped" ]; then refuse "stopped by a signal; $(take_back)"; fi
  done
  said=$(scontrol ${cluster:+"--clusters=$cluster"} release "${ids[0]}" 2>&1) ||
    refuse "job ${ids[0]}: is held and cannot be released (${said:-no word}); $(take_back)"
  trap - INT TERM HUP
  printf '%s\n' "${report[@]}"
}

# take_back: cancels what this call has submitted, and prints what became of it.
take_back() {
  local id left=()
  for id in "${ids[@]}"; do scancel ${cluster:+"--clusters=$cluster"} "$id" >/dev/null 2>&1 || left+=("$id"); done
  if [ "${#ids[@]}" = 0 ]; then
    echo "nothing was submitted"
  elif [ "${#left[@]}" -gt 0 ]; then
    echo "could not be cancelled, so do it: scancel ${left[*]}"
  else
    echo "cancelled again: job ${ids[*]}"
  fi
}

# What submit.sh, pipeline.sh and a job ask of the words that they are given. Sourced after settings.sh.
# shellcheck shell=bash

# check_arguments STAGE ARGUMENTS...: what the job of that stage would refuse at once.
check_arguments() {
  local experiment
  if [ "$1" != prepare ]; then
    if [ "$#" -lt 2 ]; then refuse "$1: has no flags; give those that are said at the top of slurm/$1.sbatch"; fi
    return
  fi
  if [ "$#" -ne 3 ]; then refuse "prepare: has $(($# - 1)) arguments; give EXPERIMENT and OUT, the folders of settings and of results"; fi
  # Jobs work in the repository's folder.
  experiment=$2
  if [[ $2 != /* ]]; then experiment=$FACEID_HOME/$2; fi
  check_file "$experiment/make_shards.yaml" "the flags of prepare"
  check_output OUT "${3:+$(cd -- "$FACEID_HOME" && realpath -ms -- "$3")}"
}

# check_slurm COMMAND...: each of Slurm's commands is found.
check_slurm() {
  local name
  for name in "$@"; do
    command -v "$name" >/dev/null || refuse "$name: not found; run this on a machine of the cluster that has Slurm's commands"
  done
}

# What the scripts of launch/ and slurm/ ask of arguments, settings and the environment before anything is started.
# Sourced, with `script` set to the name that a refusal begins with, and `house` to the repository's folder. `where` may say
# in which file the settings stand. No check is called in a $(...): `exit` would end that alone.
# shellcheck shell=bash disable=SC2034  # used by those who source this file
script=${script:?} house=${house:?}

# refuse WORDS...: one line, whatever line breaks a value has, and exit code 2.
refuse() {
  local words=$*
  printf '%s: %s\n' "$script" "${words//[[:cntrl:]]/ }" >&2
  exit 2
}

# check_number NAME LOW HIGH MEANING: the variable holds a whole number in that range. Not 08, which bash reads as octal.
check_number() {
  local value=${!1-}
  if ! [[ $value =~ ^(0|[1-9][0-9]{0,8})$ ]] || [ "$value" -lt "$2" ] || [ "$value" -gt "$3" ]; then
    refuse "$1=$value${where:-}: not a whole number from $2 to $3; give $4"
  fi
}

# check_time NAME: the variable holds a time as Slurm reads it. Sets seconds to its length; empty where there is no limit.
check_time() {
  local value=${!1-} days=0 number="[0-9]{1,6}" part="[0-9]{1,2}"
  seconds=""
  if [[ ${value^^} == UNLIMITED || ${value^^} == INFINITE ]]; then return; fi
  if [[ $value =~ ^($number)-($part)(:($part))?(:($part))?$ ]]; then
    days=${BASH_REMATCH[1]}
    set -- "$1" "${BASH_REMATCH[2]}" "${BASH_REMATCH[4]:-0}" "${BASH_REMATCH[6]:-0}"
  elif [[ $value =~ ^($number):($part):($part)$ ]]; then
    set -- "$1" "${BASH_REMATCH[@]:1}"
  elif [[ $value =~ ^($number)(:($part))?$ ]]; then
    set -- "$1" 0 "${BASH_REMATCH[1]}" "${BASH_REMATCH[3]:-0}"
  else
    refuse "$1=$value${where:-}: not a time; give D-HH:MM:SS, HH:MM:SS or minutes"
  fi
  seconds=$((((10#$days * 24 + 10#$2) * 60 + 10#$3) * 60 + 10#$4))
  # To Slurm a limit of 0 is none.
  if [ "$seconds" = 0 ]; then seconds=""; fi
}

# check_absolute NAME: the variable holds nothing, or a path that is the same from every folder.
check_absolute() {
  if [[ ${!1-} != "" && ${!1} != /* ]]; then
    refuse "$1=${!1}${where:-}: not an absolute path, and jobs run in another folder; give the path from / on"
  fi
}

# check_file PATH CONTENT: a file that can be read.
check_file() {
  [ -f "$1" ] || refuse "$1: missing; it has $2"
  [ -r "$1" ] || refuse "$1: cannot be read; it has $2 (ls -l says who may)"
}

# check_output NAME PATH: a folder that can be written, or a place where one can be made. Makes nothing.
check_output() {
  local above=$2
  [ -n "$2" ] || refuse "$1=: empty; name a folder for the results"
  while [ ! -e "$above" ] && [ ! -L "$above" ]; do above=$(dirname -- "$above"); done
  [ -d "$above" ] || refuse "$1=$2: $above is no folder; name another place"
  if [ ! -w "$above" ] || [ ! -x "$above" ]; then refuse "$1=$2: $above cannot be written; name another place"; fi
}

# check_world: WORLD names a file of launch/accelerate/. Sets world to that file.
check_world() {
  world=$house/launch/accelerate/${WORLD:-}.yaml
  [ -f "$world" ] || refuse "WORLD=${WORLD:-}${where:-}: no $world; use one of" "$(cd -- "$house/launch/accelerate" && echo *.yaml)"
}

# check_programs NAME...: each is found, in the repository's own environment or in the one that is active.
check_programs() {
  local name
  if [ -d "$house/.venv/bin" ]; then export PATH="$house/.venv/bin:$PATH"; fi
  for name in "$@"; do
    command -v -- "$name" >/dev/null ||
      refuse "$name: not found; run make setup in $house, or activate the environment in which faceid is installed"
  done
}

# check_python: the python that is found has torch. Otherwise it is the system's, and ends in a traceback.
check_python() {
  check_programs python
  python -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)' >/dev/null 2>&1 ||
    refuse "$(command -v python): has no torch; run make setup in $house, or activate the environment in which faceid is installed"
}

# count_gpus: prints how many the driver shows; 0 without a driver.
count_gpus() {
  # nvidia-smi prints its complaints on stdout as well.
  { nvidia-smi --list-gpus 2>/dev/null || true; } | grep -c '^GPU ' || true
}

#!/usr/bin/env bash
# Makes the virtual environment from nothing; safe to run again. Usage: launch/setup.sh [VENV]
set -euo pipefail
script=setup
# The repository, also where CDPATH is set or this script is called through a link.
unset CDPATH
house=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
if [ ! -f "$house/launch/checks.sh" ]; then house=$(realpath -- "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/.."); fi
# shellcheck source=launch/checks.sh
source "$house/launch/checks.sh"
cd -- "$house"

if [ "$#" -gt 1 ]; then refuse "$*: too many words; give VENV, the folder of the environment, or nothing"; fi
venv=${1:-.venv}
# Not an option, to any program.
if [[ $venv == -* ]]; then venv=./$venv; fi
check_output VENV "$venv"
if [ ! -x "$venv/bin/python" ] && [ ! -f "$venv/pyvenv.cfg" ] && [ -n "$(ls -A -- "$venv" 2>/dev/null)" ]; then
  refuse "VENV=$venv: holds files and is no environment; name another folder, or remove it"
fi
python=${PYTHON:-python3}
# Only the system's python3 can be installed here.
if [ -n "${PYTHON:-}" ] && [ "$python" != python3 ]; then
  command -v -- "$python" >/dev/null || refuse "PYTHON=$python: no such program; give one of Python 3.10 or newer, or leave PYTHON out"
fi

# A plain Debian image has no python3-venv and no C++ compiler (DeepSpeed builds one small op with it at first use).
need=()
command -v -- "$python" >/dev/null || need+=(python3)
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then need+=(python3-venv); fi
command -v g++ >/dev/null || need+=(g++)
if ! "$python" -c 'import os, sysconfig; assert os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h"))' 2>/dev/null
then need+=(python3-dev); fi
if [ "${#need[@]}" -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "setup: installing ${need[*]} with apt-get"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}"
  else
    refuse "missing ${need[*]}; install them first: sudo apt-get install ${need[*]}"
  fi
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
  refuse "PYTHON=$python: is $("$python" --version 2>&1), and 3.10 or newer is needed; give another by PYTHON=..."
fi

# `make clean` removes only an environment that was made here.
[ -x "$venv/bin/python" ] || { "$python" -m venv "$venv" && touch "$venv/.made_by_setup"; }
# torch first and alone: nothing else may choose its version.
"$venv/bin/python" -m pip install --quiet --no-compile --constraint constraints.txt torch
DS_BUILD_OPS=0 "$venv/bin/python" -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
# pip would compile one file after the other. Some packages have templates that are no Python; nobody imports those.
"$venv/bin/python" -m compileall -q -j 0 "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" >/dev/null 2>&1 || true
# The one op that DeepSpeed compiles for CPU worlds, now and here: at first use two processes would wait for it.
home=$(cd -- "$venv" && pwd)
PATH="$home/bin:$PATH" TORCH_EXTENSIONS_DIR="$home/torch_extensions" DS_ACCELERATOR=cpu \
  "$venv/bin/python" -c 'from deepspeed.ops.op_builder.cpu import ShareMemCommBuilder as B; B().load(verbose=False)' >/dev/null
touch "$venv/.done"
echo "setup: $venv is ready"

#!/usr/bin/env bash
# Makes the virtual environment from nothing; safe to run again. Usage: launch/setup.sh [VENV]
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
python=${PYTHON:-python3}

# A plain Debian image has no python3-venv and no C++ compiler (DeepSpeed builds one small op with it at first use).
need=()
command -v "$python" >/dev/null || need+=(python3)
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
    echo "setup: missing ${need[*]}; install them first: sudo apt-get install ${need[*]}" >&2
    exit 2
  fi
fi
"$python" -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "setup: Python 3.10 or newer is needed, this is " + sys.version.split()[0])'

# `make clean` removes only an environment that was made here.
[ -x "$venv/bin/python" ] || { "$python" -m venv "$venv" && touch "$venv/.made_by_setup"; }
# torch first and alone: nothing else may choose its version.
"$venv/bin/python" -m pip install --quiet --constraint constraints.txt torch
DS_BUILD_OPS=0 "$venv/bin/python" -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
# The one op that DeepSpeed compiles for CPU worlds, now and here: at first use two processes would wait for it.
home=$(cd "$venv" && pwd)
PATH="$home/bin:$PATH" TORCH_EXTENSIONS_DIR="$home/torch_extensions" DS_ACCELERATOR=cpu \
  "$venv/bin/python" -c 'from deepspeed.ops.op_builder.cpu import ShareMemCommBuilder as B; B().load(verbose=False)' >/dev/null
touch "$venv/.done"
echo "setup: $venv is ready"

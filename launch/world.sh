# What one_node.sh and two_nodes.sh share. Sourced by them: finds the house and its environment, and sets world (a file of
# launch/accelerate/) from WORLD and gpus (of this machine) from GPUS.
# shellcheck shell=bash disable=SC2034  # used by those who source this file
house=$(cd "$(dirname "$0")/.." && pwd)
script=$(basename "$0" .sh)
# The house's own environment, or the one that is active.
[ -d "$house/.venv/bin" ] && PATH="$house/.venv/bin:$PATH"

world="$house/launch/accelerate/${WORLD:-zero2}.yaml"
if [ ! -f "$world" ]; then
  echo "$script: WORLD=${WORLD:-}: no $world; use one of $(cd "$house/launch/accelerate" && echo *.yaml)" >&2
  exit 2
fi
gpus=${GPUS:-$(nvidia-smi --list-gpus 2>/dev/null | wc -l)}
if [ "$gpus" -lt 1 ]; then
  echo "$script: no GPU found (nvidia-smi); for CPU processes: WORLD=cpu_zero2 GPUS=2 launch/$script.sh ..." >&2
  exit 2
fi

#!/usr/bin/env bash
# Train on all GPUs of this machine. Usage: launch/one_node.sh --config configs/wan_vace_1_3b.yaml ... (train.py's flags)
# WORLD=ddp or WORLD=zero3 takes another file of launch/accelerate/; GPUS=2 takes fewer processes.
set -euo pipefail
house=$(cd "$(dirname "$0")/.." && pwd)
# The house's own environment, or the one that is active.
[ -d "$house/.venv/bin" ] && PATH="$house/.venv/bin:$PATH"

world="$house/launch/accelerate/${WORLD:-zero2}.yaml"
if [ ! -f "$world" ]; then
  echo "one_node: WORLD=${WORLD:-}: no $world; use one of $(cd "$house/launch/accelerate" && echo *.yaml)" >&2
  exit 2
fi
gpus=${GPUS:-$(nvidia-smi --list-gpus 2>/dev/null | wc -l)}
if [ "$gpus" -lt 1 ]; then
  echo "one_node: no GPU found (nvidia-smi); for CPU processes: WORLD=cpu_zero2 GPUS=2 launch/one_node.sh ..." >&2
  exit 2
fi
# Port 0: any free one, so that two runs can share a machine.
exec accelerate launch --config_file "$world" --num_processes "$gpus" --main_process_port 0 "$house/train.py" "$@"

#!/usr/bin/env bash
# Train on all GPUs of this machine. Usage: launch/one_node.sh --config configs/wan_vace_1_3b.yaml ... (train.py's flags)
# WORLD=ddp or WORLD=zero3 takes another file of launch/accelerate/; GPUS=2 takes fewer processes.
set -euo pipefail
# shellcheck source=launch/world.sh
source "$(dirname "$0")/world.sh"
# Port 0: any free one, so that two runs can share a machine.
exec accelerate launch --config_file "$world" --num_processes "$gpus" --main_process_port 0 "$house/train.py" "$@"

#!/usr/bin/env bash
# Train on all GPUs of this machine. Usage: launch/one_node.sh --config configs/wan_vace_1_3b.yaml ... (train.py's flags)
# WORLD=ddp or WORLD=zero3 takes another file of launch/accelerate/; GPUS=2 takes fewer processes.
set -euo pipefail
script=one_node
# The repository, also where CDPATH is set or this script is called through a link.
unset CDPATH
house=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
if [ ! -f "$house/launch/checks.sh" ]; then house=$(realpath -- "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/.."); fi
# shellcheck source=launch/checks.sh
source "$house/launch/checks.sh"

# shellcheck source=launch/world.sh
source "$house/launch/world.sh"
# Port 0: any free one, so that two runs can share a machine.
exec accelerate launch --config_file "$world" --num_processes "$GPUS" --main_process_port 0 "$house/train.py" "$@"

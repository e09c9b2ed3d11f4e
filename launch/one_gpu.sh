#!/usr/bin/env bash
# Train on one GPU, without a launcher: Ctrl-C aside, a signal reaches train.py itself, and its exit code (75: stopped
# and checkpointed) reaches you. Usage: launch/one_gpu.sh --config configs/wan_vace_1_3b.yaml ... (train.py's flags)
# GPU=1 launch/one_gpu.sh ... takes another card.
set -euo pipefail
house=$(cd "$(dirname "$0")/.." && pwd)
# The house's own environment, or the one that is active.
[ -d "$house/.venv/bin" ] && PATH="$house/.venv/bin:$PATH"

export CUDA_VISIBLE_DEVICES=${GPU:-${CUDA_VISIBLE_DEVICES:-0}}
exec python "$house/train.py" "$@"

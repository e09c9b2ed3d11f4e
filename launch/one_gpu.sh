#!/usr/bin/env bash
# Train on one GPU, without a launcher: Ctrl-C aside, a signal reaches train.py itself, and its exit code (75: stopped
# and checkpointed) reaches you. Usage: launch/one_gpu.sh --config configs/wan_vace_1_3b.yaml ... (train.py's flags)
# GPU=1 launch/one_gpu.sh ... takes another card.
set -euo pipefail
script=one_gpu
# The repository, also where CDPATH is set or this script is called through a link.
unset CDPATH
house=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
if [ ! -f "$house/launch/checks.sh" ]; then house=$(realpath -- "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/.."); fi
# shellcheck source=launch/checks.sh
source "$house/launch/checks.sh"

check_python
if [ -n "${GPU:-}" ] && [[ $GPU != GPU-* && $GPU != MIG-* ]]; then
  there=$(count_gpus)
  # Without a driver that answers CUDA may know better.
  check_number GPU 0 "$((there > 0 ? there - 1 : 1023))" "the number of one card (nvidia-smi --list-gpus), or its GPU-... name"
fi
export CUDA_VISIBLE_DEVICES=${GPU:-${CUDA_VISIBLE_DEVICES:-0}}
exec python "$house/train.py" "$@"

#!/usr/bin/env bash
# Train on the GPUs of two machines, or more, without Slurm: the same command on each, at about the same time.
# Usage, first machine:  RANK_OF_MACHINE=0 HEAD=10.0.0.5 launch/two_nodes.sh --config configs/wan_vace_1_3b.yaml ...
#        second machine: RANK_OF_MACHINE=1 HEAD=10.0.0.5 launch/two_nodes.sh --config configs/wan_vace_1_3b.yaml ...
# HEAD: the first machine's address on the network between them. All see the repository, the inputs and --output_dir
# under the same paths. MACHINES=3, GPUS=4 (of each machine), WORLD=zero3 (of launch/accelerate/), PORT=29400.
set -euo pipefail
if [ -z "${RANK_OF_MACHINE:-}" ] || [ -z "${HEAD:-}" ]; then
  echo "two_nodes: RANK_OF_MACHINE=${RANK_OF_MACHINE:-}, HEAD=${HEAD:-}: give both: 0, 1, ... and the first machine's address" >&2
  exit 2
fi
# shellcheck source=launch/world.sh
source "$(dirname "$0")/world.sh"
machines=${MACHINES:-2}
# gloo takes what the machine's name resolves to, which may be 127.0.1.1: the network towards HEAD is the right one.
interface=$(ip -oneline route get "$HEAD" | sed -n 's/.* dev \([^ ]*\).*/\1/p')
if [ "$interface" = lo ]; then interface=$(ip -oneline -4 address show to "$HEAD" | awk '{print $2; exit}'); fi
export GLOO_SOCKET_IFNAME=${GLOO_SOCKET_IFNAME:-$interface}
# `standard` is torchrun. By default accelerate takes DeepSpeed's launcher here, which makes a world of its own on each.
exec accelerate launch --config_file "$world" --deepspeed_multinode_launcher standard --num_machines "$machines" --machine_rank "$RANK_OF_MACHINE" \
  --num_processes "$((gpus * machines))" --main_process_ip "$HEAD" --main_process_port "${PORT:-29400}" \
  "$house/train.py" "$@"

#!/usr/bin/env bash
# Train on the GPUs of two machines, or more, without Slurm: the same command on each, at about the same time.
# Usage, first machine:  RANK_OF_MACHINE=0 HEAD=10.0.0.5 launch/two_nodes.sh --config configs/wan_vace_1_3b.yaml ...
#        second machine: RANK_OF_MACHINE=1 HEAD=10.0.0.5 launch/two_nodes.sh --config configs/wan_vace_1_3b.yaml ...
# HEAD: the first machine's address on the network between them. All see the repository, the inputs and --output_dir
# under the same paths. MACHINES=3, GPUS=4 (of each machine), WORLD=zero3 (of launch/accelerate/), PORT=29400.
set -euo pipefail
script=two_nodes
# The repository, also where CDPATH is set or this script is called through a link.
unset CDPATH
house=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
if [ ! -f "$house/launch/checks.sh" ]; then house=$(realpath -- "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/.."); fi
# shellcheck source=launch/checks.sh
source "$house/launch/checks.sh"

if [ -z "${RANK_OF_MACHINE:-}" ] || [ -z "${HEAD:-}" ]; then
  refuse "RANK_OF_MACHINE=${RANK_OF_MACHINE:-}, HEAD=${HEAD:-}: one is missing; give both: 0, 1, ... and the first machine's address"
fi
MACHINES=${MACHINES:-2} PORT=${PORT:-29400}
check_number MACHINES 2 1024 "the number of machines; for one alone take launch/one_node.sh"
check_number RANK_OF_MACHINE 0 "$((MACHINES - 1))" "0 on the first of the $MACHINES machines, 1 on the second"
check_number PORT 1 65535 "a port that is free on the first machine"
# A name may mean 127.0.1.1 on the first machine itself, and then the others wait for ever.
family=-4
if [[ $HEAD == *:* && $HEAD =~ ^[0-9A-Fa-f:.]+$ ]]; then family=-6; fi
if [ "$family" = -4 ] && ! [[ $HEAD =~ ^[0-9]{1,3}(\.[0-9]{1,3}){3}$ ]]; then
  refuse "HEAD=$HEAD: not an address; give the first machine's own, on the network between them (ip -br address there)"
fi
# shellcheck source=launch/world.sh
source "$house/launch/world.sh"
if [ -z "${GLOO_SOCKET_IFNAME:-}" ]; then
  command -v ip >/dev/null || refuse "ip: not found; install iproute2, or set GLOO_SOCKET_IFNAME to the network interface towards HEAD"
  # gloo takes what the machine's name resolves to, which may be 127.0.1.1: the network towards HEAD is the right one.
  said=$(ip -oneline "$family" route get "$HEAD" 2>&1) || refuse "HEAD=$HEAD: no way there from this machine (${said:-ip route get}); give the first machine's address"
  interface=$(sed -n 's/.* dev \([^ ]*\).*/\1/p' <<<"$said")
  if [ "$interface" = lo ]; then interface=$(ip -oneline "$family" address show to "$HEAD" | awk '{print $2; exit}'); fi
  [ -n "$interface" ] || refuse "HEAD=$HEAD: no network interface leads there; set GLOO_SOCKET_IFNAME to the right one"
  export GLOO_SOCKET_IFNAME=$interface
fi
# `standard` is torchrun. By default accelerate takes DeepSpeed's launcher here, which makes a world of its own on each.
exec accelerate launch --config_file "$world" --deepspeed_multinode_launcher standard --num_machines "$MACHINES" --machine_rank "$RANK_OF_MACHINE" \
  --num_processes "$((GPUS * MACHINES))" --main_process_ip "$HEAD" --main_process_port "$PORT" \
  "$house/train.py" "$@"

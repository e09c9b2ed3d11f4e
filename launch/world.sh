# What one_node.sh and two_nodes.sh share. Sourced by them after checks.sh: sets world (a file of launch/accelerate/) from
# WORLD and GPUS (of this machine) where it is not given, and finds the launcher.
# shellcheck shell=bash disable=SC2034,SC2154  # used and set by those who source this file
WORLD=${WORLD:-zero2}
check_world
there=$(count_gpus)
if [ "$there" -gt 0 ] && [ -n "${CUDA_VISIBLE_DEVICES+given}" ]; then
  # CUDA shows the processes these and no others.
  IFS=, read -ra shown <<<"$CUDA_VISIBLE_DEVICES"
  there=${#shown[@]}
fi
GPUS=${GPUS:-$there}
if [ "$GPUS" = 0 ]; then
  refuse "no GPU found (nvidia-smi); for CPU processes: WORLD=cpu_zero2 GPUS=2 launch/$script.sh ..."
fi
check_number GPUS 1 1024 "the number of processes on this machine"
# Without a driver that answers there may still be cards of another make.
if [[ $WORLD != cpu* ]] && [ "$there" -gt 0 ] && [ "$GPUS" -gt "$there" ]; then
  refuse "GPUS=$GPUS: more than the $there that processes would see here (nvidia-smi, CUDA_VISIBLE_DEVICES); give at most $there, or WORLD=cpu_zero2"
fi
check_programs accelerate

# What a job needs on its node, as env.sh says: modules, python, a folder for temporary files, networks. Sourced by step.sh.
# shellcheck shell=bash disable=SC2154  # set by settings.sh

if [ "${#MODULES[@]}" -gt 0 ]; then module load "${MODULES[@]}" || refuse "MODULES=(${MODULES[*]})$where: cannot be loaded; module avail lists them"; fi
if [ -n "$VENV" ] && [ -d "$VENV/bin" ]; then export PATH="$VENV/bin:$PATH"; fi
programs=("${CONTAINER[0]:-python}")
if [ "$LAUNCHER" = accelerate ] && [ "${#CONTAINER[@]}" -eq 0 ]; then programs+=(accelerate); fi
for name in "${programs[@]}"; do
  command -v -- "$name" >/dev/null ||
    refuse "$name: not found; VENV=$VENV, CONTAINER=(${CONTAINER[*]})$where: name what there is, or run make setup in $FACEID_HOME"
done
if [ -n "$SCRATCH" ]; then
  # Made as Slurm makes it for the tasks.
  mkdir -p -- "$SCRATCH" 2>/dev/null
  if [ ! -d "$SCRATCH" ] || [ ! -w "$SCRATCH" ]; then
    refuse "SCRATCH=$SCRATCH$where: no folder of $HOSTNAME that can be written; name one on the node's own disk"
  fi
  export TMPDIR=$SCRATCH
fi
# NCCL finds its networks by itself; gloo takes what the node's name resolves to, so python tells it (training/world/address.py).
if [ -n "$NETWORK_INTERFACE" ]; then export GLOO_SOCKET_IFNAME=$NETWORK_INTERFACE NCCL_SOCKET_IFNAME=$NETWORK_INTERFACE; fi
if ! [[ ${OMP_NUM_THREADS:-1} =~ ^[1-9][0-9]*(,[1-9][0-9]*)*$ ]]; then
  refuse "OMP_NUM_THREADS=$OMP_NUM_THREADS: not a whole number from 1 on; take 1, or leave it out"
fi
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} PYTHONUNBUFFERED=1
# A job submitted with --export=NONE hands nothing on, not even PATH, unless srun is told.
export SLURM_EXPORT_ENV=ALL
# sbatch's own name for it; srun does not take it over by itself.
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK; fi

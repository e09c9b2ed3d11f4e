# Everything that is particular to your cluster, and nothing else: edit this file, or a copy of it that the environment
# variable FACEID_ENV names (an absolute path). submit.sh and pipeline.sh make sbatch's options of it; inside the jobs
# step.sh reads it. Nothing here is needed on a cluster whose defaults are right.
# shellcheck disable=SC2034  # used by those who source this file

# Who pays and where it runs; empty for the cluster's defaults (sbatch --account, --partition, --qos, --constraint).
ACCOUNT=
PARTITION=
QOS=
CONSTRAINT=
# Further options for every sbatch, each in quotes: ("--mail-type=END,FAIL" "--exclude=badnode07").
MORE_OPTIONS=()

# How much. A node of training and rendering shows GPUS_PER_NODE GPUs and runs one task on each; 0 is a CPU world, with
# TASKS_PER_NODE tasks. `scontrol show node NAME` says what there is.
GPUS_PER_NODE=1
TASKS_PER_NODE=1
CPUS_PER_TASK=8
TRAIN_NODES=1
SAMPLE_NODES=1
# Tasks of the arrays: preparation works on CPUs, encoding on one GPU each. They share the work, however many run.
PREPARE_TASKS=8
ENCODE_TASKS=4

# How long at most, D-HH:MM:SS. A run that needs longer than TRAIN_TIME saves, goes back into the queue and goes on.
PREPARE_TIME=08:00:00
ENCODE_TIME=08:00:00
TRAIN_TIME=1-00:00:00
SAMPLE_TIME=1-00:00:00
# Seconds before the time limit at which training is told to save: 60 (Slurm may be that much early) plus the longest
# step plus twice the time of a checkpoint. A validation with videos is such a step.
STOP_BEFORE_END_S=300
# Attempts in a row that may end without a newer checkpoint before training is no longer requeued.
MOST_ATTEMPTS=3

# Where python comes from. Modules are loaded first; VENV is put first in PATH when it exists; a container runs python
# and nothing else (it needs no scontrol): ("apptainer" "exec" "--nv" "/images/faceid.sif").
MODULES=()
VENV=$FACEID_HOME/.venv
CONTAINER=()

# A folder on each node's own disk for temporary files (rendering writes each video there first); empty: /tmp.
SCRATCH=
# The network interface between the nodes, as `ip -br address` calls it, such as ib0. Empty: that of Slurm's own network.
NETWORK_INTERFACE=

# The world training runs in: a file of launch/accelerate/ (zero2, zero3, ddp; cpu_zero2, ... without GPUs).
WORLD=zero2
# srun: one task a GPU, no launcher between Slurm and python. accelerate: `accelerate launch` on each node.
LAUNCHER=srun
# Where LAUNCHER=accelerate meets, on the first node; srun needs no port of its own.
MAIN_PORT=29400

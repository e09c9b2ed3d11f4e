#!/usr/bin/env bash
# What tests/slurm makes a cluster of, from Debian's own packages (14 MB); none of it is started or configured.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
missing=0
for name in slurmctld slurmd munged sbatch ip nsenter shellcheck; do command -v "$name" >/dev/null || missing=1; done
if [ "$missing" = 0 ]; then exit 0; fi
packages=(slurm-wlm munge iproute2 util-linux shellcheck)
if [ "$(id -u)" != 0 ]; then
  echo "slurm-packages: needs root: sudo apt-get install --no-install-recommends ${packages[*]}" >&2
  exit 2
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"

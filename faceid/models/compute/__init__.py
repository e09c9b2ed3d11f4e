"""How a transformer computes: checkpointing, compiling, attention kernels, several processes for one video."""

"""Read and write LoRA files of any tool, and bases with a LoRA merged."""

"""LoRA files of any tool, read and written; bases with one merged."""

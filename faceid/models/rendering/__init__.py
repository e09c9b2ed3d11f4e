"""A pose video to frames: the pipeline, the denoising loop, and what it leaves as it was."""

"""From a pose video to frames: the pipeline, the denoising loop, and how a model is left unchanged."""

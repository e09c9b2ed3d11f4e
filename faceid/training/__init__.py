"""Build, loop, checkpoint, metrics. The only door to accelerate, deepspeed and tensorboard."""

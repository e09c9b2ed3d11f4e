"""Make the weights that the toy world ships. tools/train_toy_base.py runs this, stage by stage."""

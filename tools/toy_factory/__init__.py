"""The factory of the weights that the toy world ships: tools/train_toy_base.py runs it, stage by stage."""

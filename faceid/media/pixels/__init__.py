"""Pixels without files: colours, orientation, sizes, motion, drawing."""

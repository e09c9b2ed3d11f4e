"""Processes and machines: who launched them, how they meet, agree, stop, and are watched."""

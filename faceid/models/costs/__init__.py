"""The costs of a run before it starts: parameters, memory, floating point operations."""

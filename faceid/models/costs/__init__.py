"""What a run costs before it starts: parameters, memory, floating point operations."""

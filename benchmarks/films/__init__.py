"""Films as a person sees them, and what they cost in memory."""

"""What a run writes to go on from, and where in its folder things lie."""

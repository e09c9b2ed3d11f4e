"""One pose video to one rendered video, and what it was made of."""

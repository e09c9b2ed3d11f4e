"""Cut the dancers' own faces from films and clips, and embed them."""

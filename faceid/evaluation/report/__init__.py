"""Write an evaluation's results as a page and as files."""

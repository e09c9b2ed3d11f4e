"""Write and read what a run needs to resume, and name the places in its folder."""

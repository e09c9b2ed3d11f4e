"""The dancers' own faces, cut from films and clips and embedded."""

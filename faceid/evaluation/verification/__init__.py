"""How well an encoder tells labelled people apart."""

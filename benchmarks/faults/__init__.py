"""What is killed, cut off, damaged or left without room while it works."""

"""Read, name and check the face that is rendered."""

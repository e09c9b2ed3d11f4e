"""Describe a person in phrases, by what the base itself takes the photos for."""

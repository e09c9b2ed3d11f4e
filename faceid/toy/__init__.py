"""The embedded default: drawn dancers and a tiny base model of the real classes."""

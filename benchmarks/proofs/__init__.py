"""The proofs of `make prove-*`: rows of promises, and the records they are written to."""

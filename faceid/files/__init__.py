"""Files in and out: read within limits, written whole or not at all, replaced only where they are provably ours."""

"""Check a run before it starts: refusals, the dry run, options without effect."""

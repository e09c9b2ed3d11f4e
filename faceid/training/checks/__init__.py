"""What is looked at before a run: refusals, the dry run, options without effect."""

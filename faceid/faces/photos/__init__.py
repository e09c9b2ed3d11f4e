"""Photos looked at: faces found and cut, quality measured, copies and poor ones dropped."""

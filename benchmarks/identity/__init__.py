"""Whether faces are learnt: checks beside the demo's."""

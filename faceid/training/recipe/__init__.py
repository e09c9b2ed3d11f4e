"""What is learnt and for how long, as pure functions of the settings."""

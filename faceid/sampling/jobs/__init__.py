"""Many videos: jobs planned, shared out among workers, published once, and shown."""

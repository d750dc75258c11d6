"""Makes archives: what is in one, its bytes, and where they are kept for the next who asks."""

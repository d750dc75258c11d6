"""Small real servers that speak like backends which cannot be installed here."""

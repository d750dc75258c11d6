"""Executors and networks that fail in every way, behind a whole gateway."""

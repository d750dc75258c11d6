"""The use cases: no HTTP word, no I/O library."""

"""What this host's kernel is asked for, safely: paths below a directory, threads, processes."""

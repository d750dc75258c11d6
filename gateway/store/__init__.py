"""Sessions, keys, links and events: what has to outlive a process, and what processes share."""

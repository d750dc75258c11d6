"""Small real servers that stand in for what a test cannot have, or cannot have fail."""

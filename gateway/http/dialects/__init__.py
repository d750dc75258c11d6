"""The published HTTP surfaces: parse, call, render."""

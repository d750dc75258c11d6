"""Values and verdicts; the standard library only."""

"""One safe HTTP front door to the files that AI agents leave in their sandboxes."""

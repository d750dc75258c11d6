"""Plug-ins that reach workspaces; they do not import each other."""

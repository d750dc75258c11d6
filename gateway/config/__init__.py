"""The config: frozen models, and the loader that reports every problem at once."""

"""Executor type `http_profile`: any list-and-download HTTP API, described in YAML."""

"""Suites are data: one TOML file each."""

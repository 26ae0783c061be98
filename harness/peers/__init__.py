"""Other libraries as methods: each works in an interpreter of its own, and hands back codes."""

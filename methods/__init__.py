"""The compression methods: one file each, found through the entry-point group `moebench.methods`."""

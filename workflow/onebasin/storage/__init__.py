"""Files: written atomically, sealed with checksums, read with suspicion."""

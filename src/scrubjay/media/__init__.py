"""What survives: pool files, the superblocks and pages on them, slots, and the pool itself."""

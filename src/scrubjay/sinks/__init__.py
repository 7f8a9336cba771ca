"""Where the root of the key tree lives, and where it is destroyed (docs/format/keys.md)."""

"""AEAD, the key tree, and forgetting (docs/format/keys.md); no I/O of its own."""

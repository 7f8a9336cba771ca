"""What the API calls: one module per noun, over the pool, the key tree and the catalog."""

"""What every room may use: errors, ids, sizes, and the ports to the world outside."""

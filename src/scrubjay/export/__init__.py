"""The process that serves one volume, the parent that forks it, and their way to the daemon."""

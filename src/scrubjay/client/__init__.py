"""The typed client of the REST API; the command line speaks through it like everybody else."""

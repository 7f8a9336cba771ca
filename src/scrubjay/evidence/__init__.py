"""Births, certificates, the log of both, and the verifier that needs nothing but them."""

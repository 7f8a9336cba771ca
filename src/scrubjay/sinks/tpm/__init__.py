"""The few TPM 2.0 commands that a sink needs, spoken directly (docs/rfcs/0002-tpm-sink.md)."""

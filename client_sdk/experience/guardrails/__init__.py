"""Guardrails: what must not happen, as composable policies in one readable file."""

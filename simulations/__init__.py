"""Populations of simulated devices, protocols that judge what they learn, and the reports."""

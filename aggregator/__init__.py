"""The aggregator: the server's side of both doors.

It checks consent and bounds, adds up, adds noise, records the release in the ledger and hands the
sum to a decoder (federation); it signs and serves releases (delivery).
"""

"""The kernel engine's compiled part: many devices' updates at once, equal to the device's own."""

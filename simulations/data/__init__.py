"""Shopping histories from files: anyone's through `loader`, the bundled one through `bundled`."""

"""The command `nest`."""

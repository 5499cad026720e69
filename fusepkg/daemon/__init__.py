"""The process behind a mount: start, control, records of what is mounted."""

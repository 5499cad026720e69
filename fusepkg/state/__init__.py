"""What this machine keeps about packages and directories and may lose: hints, known indexes, install records."""

"""What users say of data: YAML with line numbers, patterns, JSON Schema; nothing of packages."""

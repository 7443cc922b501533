"""What a setting is: a section of typed fields, its text in YAML, the values a search may try."""

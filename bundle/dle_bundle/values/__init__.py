"""What a single value means, by one rule for files and requests: numbers, dates, categories, missing values."""

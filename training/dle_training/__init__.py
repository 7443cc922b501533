"""From a table to a trained, evaluated and exported model."""

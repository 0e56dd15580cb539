"""Running on less memory than a model has: block streaming, residency, workspace."""

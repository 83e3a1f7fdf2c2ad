"""Pure builders, one module per kind of object: from an endpoint to what should exist, complete and deterministic."""

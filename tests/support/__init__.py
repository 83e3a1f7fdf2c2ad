"""What several kinds of tests use: a model server of our own, a running router, raw HTTP."""

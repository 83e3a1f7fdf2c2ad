"""The ``mce`` command: prints, exits, contains no logic."""

"""Serve the preprocessing step: ``IMAGE serve``."""

from __future__ import annotations

from serving import contract, deskew

if __name__ == "__main__":
    contract.serve("mnist-prep", lambda: contract.transformer(deskew.deskew))

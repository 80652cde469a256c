"""Side-by-side benchmark of weft and its peers: ``python -m bench`` from the repository root."""

"""How fast fusepkg is, beside the bare disk and beside its peers: see docs/benchmarks.md."""

"""The one door to remote bytes: cache, single flight, store, verify, cache."""

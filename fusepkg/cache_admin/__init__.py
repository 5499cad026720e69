"""What stays in the cache and what leaves it: shares of packages, pins, collecting what nothing names, exports."""

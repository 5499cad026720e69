"""Cache administration: shares of packages, pins, garbage collection, exports for a lower cache."""

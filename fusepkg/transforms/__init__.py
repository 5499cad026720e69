"""One package out of another, entry by entry, on whatever computers there are."""

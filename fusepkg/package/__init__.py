"""Opening a version: from a reference to an index, with what is used when bucket or cache fail."""

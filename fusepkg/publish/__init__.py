"""From a folder to a pushed manifest."""

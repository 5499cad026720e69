"""DVC repositories as packages: what DVC tracks at a revision of git, from where DVC keeps it."""

"""``python -m fusepkg``."""

from fusepkg.cli.main import main

main()

"""Packages for Python programs: reading one version, and making the next. `from fusepkg import Package`."""

"""The counters of mounts as Prometheus reads them.

Owns: the metrics' names, which are stable.
"""

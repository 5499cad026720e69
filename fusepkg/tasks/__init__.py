"""Work that outlasts a command: what is to be done lies in the bucket, and any machine may do it.

Owns: the records of tasks, who may work on one (leases), and running them. What the work is, its callers say.
"""

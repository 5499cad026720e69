"""What is measured: each subject is something that gives a directory. One file per kind; a peer needs no more."""

"""Labels of pictures: JSON documents beside a package of pictures, versioned, searched, corrected.

Owns: what a label is, where labels lie (a package of Parquet segments named after that of the pictures), each change.
"""

"""A content-addressed cache of verified blobs, shared by all processes of a machine; see cache/README.md."""

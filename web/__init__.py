"""What stands between HTTP and the store: shapes, checks, the document, the server."""

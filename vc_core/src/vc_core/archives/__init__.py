"""Archives of files that are copied into guests and out of them: tar in GNU's format, read and written in a stream."""

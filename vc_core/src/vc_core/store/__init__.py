"""The state on disk: roots, files, locks, records, and the status that follows from a record."""

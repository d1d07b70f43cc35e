"""How an operation of the API reaches a pod: its supervisor, or an engine in this process."""

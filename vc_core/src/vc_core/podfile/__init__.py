"""Pod files: the configuration of a pod as YAML, JSON or TOML, read, written and described by a JSON Schema.

The names in a file are those of the fields of ``PodConfig`` and the classes in it. Each format has a module with three
functions: ``read`` returns the data of a text, ``find_line`` the line of a value, ``write`` the text of data.
"""

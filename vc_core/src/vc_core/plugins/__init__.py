"""How drivers and extensions are found, validated and called."""

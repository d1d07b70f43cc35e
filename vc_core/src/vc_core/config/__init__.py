"""What callers ask for: frozen values, validated when they are made."""

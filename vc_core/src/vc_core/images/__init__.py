"""Fetches images of containers with skopeo, unpacks them with umoci, and applies what they configure to a container."""

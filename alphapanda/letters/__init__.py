"""What could not be handled: how an error is judged, where the message goes, how it comes back."""

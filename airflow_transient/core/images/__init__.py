"""Machine images: what is asked for, how the making of one is judged, and which older ones may go."""

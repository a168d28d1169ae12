"""The model behind the call surface of other people's libraries: each adapter is a file, and needs its library only where that hands objects in."""

"""BOP datasets on disk and the boxes taken from them; here millimetres meet metres."""

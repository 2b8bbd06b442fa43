"""BOP datasets on disk, and boxes from them; files are in millimetres, memory in metres."""

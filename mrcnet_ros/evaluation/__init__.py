"""BOP files, pose errors and reports; the only place where millimetres meet metres."""

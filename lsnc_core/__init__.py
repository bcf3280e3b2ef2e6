"""A runnable companion to three papers on label smoothing and neural collapse."""

"""What a run needs besides its mathematics: files, checkpoints, a command line, tracking."""

//! Replays recorded answers of the Python program.

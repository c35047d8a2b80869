//! Checkpoints: whole files or none, our own format and the Python program's.

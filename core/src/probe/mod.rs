//! Probes: what an embedding tells about labels.

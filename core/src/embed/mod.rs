//! Embeddings and the files they go to.

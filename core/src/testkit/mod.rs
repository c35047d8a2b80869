//! The conformance kit: one behaviour suite per seam, for every plugin.

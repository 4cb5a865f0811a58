//! conex-layer.

//! conex-dockerfile.

//! conex-build.

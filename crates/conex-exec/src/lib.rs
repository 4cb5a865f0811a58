//! conex-exec.

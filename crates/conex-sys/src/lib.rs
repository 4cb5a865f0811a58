//! conex-sys.
